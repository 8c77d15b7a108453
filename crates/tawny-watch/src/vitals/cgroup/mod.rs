//! Memory, processor time and kernel kills of each container on a node, as its cgroup tells them.
//!
//! The trees of cgroup v1 and v2 and the names that kubelets and runtimes give in them are found by walking. What one
//! walk saw and the next sees more of, a kill for want of memory, is the proof no status gives (section 4.2 row 4).

mod measure;
mod place;
mod telemetry;
mod track;
mod tree;

use std::sync::Arc;

use tawny_incident::OomProof;
use tawny_model::Timestamp;

pub use track::Tracker;

/// Which container a cgroup is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerKey {
    /// As the kubelet knows the pod. Of a static pod this is the hash of its file, not the `metadata.uid` that the API
    /// shows for it, so look up the container id first.
    pub pod_uid: Arc<str>,
    /// The runtime's id, bare. The pod's sandbox is a container too, with an id that no status names.
    pub container_id: Arc<str>,
}

/// What the cgroup of one container says at one moment. What its tree does not tell is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSample {
    pub at: Timestamp,
    pub container: Arc<ContainerKey>,
    pub measures: Measures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measures {
    /// What counts against the limit and cannot be had back at once: usage without inactive files, as the kubelet's
    /// working set is.
    pub memory_bytes: Option<u64>,
    /// `None` without a limit.
    pub memory_limit_bytes: Option<u64>,
    /// Since the container started.
    pub cpu_ns: Option<u64>,
    /// Time its processes would have run but for the limit of their processor time.
    pub throttled_ns: Option<u64>,
    /// Processes in it that the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
}

/// What one walk over all containers found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Walk {
    pub samples: Vec<ContainerSample>,
    /// One for each container whose kills grew.
    pub proofs: Vec<OomProof>,
    /// The last measures of containers that the walk before had seen and this one did not, each once.
    pub gone: Vec<ContainerSample>,
}

#[cfg(test)]
mod tests;
