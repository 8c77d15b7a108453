//! Pods of Coder workspaces: their life and events as the startup logs that a workspace's user sees.
//!
//! A pod or ReplicaSet with a `CODER_AGENT_TOKEN` belongs to a workspace agent. What happens to it goes to that agent's
//! log, so that someone who waits for a workspace learns why it does not start. Delivery is at most once over restarts:
//! a line is never told twice. Nothing here reads the environment.

mod agent;
mod client;
pub mod error;
#[cfg(test)]
mod fake;
pub mod lines;
pub mod metrics;
pub mod reasons;
pub mod registry;
mod resolve;
pub mod settings;
mod state;
pub mod tokens;
pub mod watch;
pub mod wire;

pub use client::Roots;
pub use error::Error;
pub use metrics::CoderMetrics;
pub use settings::{CoderConfig, Settings};
pub use watch::Logstream;
