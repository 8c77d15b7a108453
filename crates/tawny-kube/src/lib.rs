//! The Kubernetes side: connecting, pods by UID, container logs, and what the credentials may do.
//!
//! Every failure carries what the user can do about it; nothing here reads the environment.

pub mod access;
pub mod client;
pub mod error;
pub mod facts;
#[cfg(feature = "test-util")]
pub mod fake;
pub mod lease;
pub mod logs;
pub mod metrics;
pub mod observe;
mod patience;
pub mod pods;

pub use access::{Access, Permit, Verdict};
pub use client::{Cluster, Connection, InCluster, Kubeconfig, Proxy};
pub use error::Error;
pub use facts::{ContainerFacts, ContainerKind, ContainerState, Phase, PodFacts, pod_facts};
pub use lease::Lease;
pub use logs::{LogRequest, LogStream};
pub use metrics::KubeMetrics;
pub use patience::patient;
pub use pods::{Changes, PodDirectory, PodScope, PodWatch};
