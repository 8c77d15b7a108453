//! The Kubernetes world as far as incident detection reads it: small views of objects, without their clients' types.
//!
//! Text that Kubernetes leaves out is empty here, because the API itself writes absent and empty alike; times and
//! numbers that may be missing are `Option`. Every view can be stored and read back, by older and newer versions too.

mod cluster;
mod event;
mod pod;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

pub use cluster::{CronJobState, HpaState, JobState, NamespaceState, NodeState, WorkloadState};
pub use event::{EventCounts, EventKind, EventTimes, KubeEvent, ObjectRef, container_of_field};
pub use pod::{
    ContainerKind, ContainerState, Deletion, PodPhase, PodState, Resources, RestartPolicy, Run,
    Terminated,
};

/// One entry of an object's `status.conditions`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// `Ready`, `PodScheduled`, `DiskPressure`, …
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    pub status: ConditionStatus,
    pub reason: Arc<str>,
    pub message: Arc<str>,
    /// `lastTransitionTime`.
    pub changed: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ConditionStatus {
    True,
    False,
    #[default]
    Unknown,
}

impl ConditionStatus {
    /// Reads the API's text; anything else than `True` and `False` is unknown.
    pub fn from_text(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The condition of that type, if the object has it.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| &*condition.kind == kind)
}
