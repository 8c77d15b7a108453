//! A pod and its containers, with how each run of a container began and ended.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Condition;
use crate::{Timestamp, Workload};

/// A pod as detection sees it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodState {
    pub uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// Empty until scheduled.
    pub node: Arc<str>,
    pub phase: PodPhase,
    /// `Evicted`, `NodeShutdown`, …; empty for nearly every pod.
    pub reason: Arc<str>,
    pub message: Arc<str>,
    pub created: Option<Timestamp>,
    /// Set while the pod is being deleted.
    pub deletion: Option<Deletion>,
    pub finalizers: Vec<Arc<str>>,
    pub restart_policy: RestartPolicy,
    pub workload: Option<Workload>,
    pub conditions: Vec<Condition>,
    /// Init containers, containers, ephemeral containers.
    pub containers: Vec<ContainerState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    #[default]
    Unknown,
}

/// `spec.restartPolicy`; the API's default is `Always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// A deletion under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// `metadata.deletionTimestamp`: when the object should be gone. The API server has added the grace already
    /// (`rest.BeforeDelete` in k8s.io/apiserver).
    pub due: Timestamp,
    /// `metadata.deletionGracePeriodSeconds`.
    #[serde(default)]
    pub grace_secs: Option<u64>,
}

impl Deletion {
    /// When the deletion was asked for, to the second.
    pub fn requested(&self) -> Timestamp {
        self.due
            .saturating_sub(std::time::Duration::from_secs(self.grace_secs.unwrap_or(0)))
    }
}

/// One container of a pod: its latest run, and the end of the run before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub kind: ContainerKind,
    pub name: Arc<str>,
    /// As the pod spec wrote it.
    pub image: Arc<str>,
    /// Digest the runtime resolved; empty until pulled.
    pub image_id: Arc<str>,
    /// `containerd://…` of the latest run; empty before the first.
    pub container_id: Arc<str>,
    pub restart_count: u32,
    pub ready: bool,
    /// Whether the startup probe has passed; absent before Kubernetes 1.16 and while unknown.
    pub started: Option<bool>,
    pub state: Run,
    /// `lastState.terminated`.
    pub last: Option<Terminated>,
    pub requests: Resources,
    pub limits: Resources,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerKind {
    #[default]
    App,
    /// Runs to completion before the pod's containers start.
    Init,
    /// An init container with `restartPolicy: Always`, which runs along with the pod.
    Sidecar,
    /// Added to a running pod by `kubectl debug`.
    Ephemeral,
}

/// `containerStatuses[].state`; without any of the three, the API's default is waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Run {
    Waiting { reason: Arc<str>, message: Arc<str> },
    Running { started_at: Option<Timestamp> },
    Terminated(Terminated),
}

impl Default for Run {
    fn default() -> Self {
        Self::Waiting {
            reason: "".into(),
            message: "".into(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Terminated {
    pub exit_code: i32,
    /// The signal's number where the runtime tells it; most leave it out and answer 128 + signal as exit code.
    pub signal: Option<i32>,
    /// `Error`, `Completed`, `OOMKilled`, `StartError`, …
    pub reason: Arc<str>,
    /// The termination message, or the runtime's error.
    pub message: Arc<str>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Empty when the kubelet lost sight of the container.
    pub container_id: Arc<str>,
}

/// CPU and memory of a container as the spec asks for or bounds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    pub memory_bytes: Option<u64>,
}

impl PodState {
    pub fn container(&self, name: &str) -> Option<&ContainerState> {
        self.containers
            .iter()
            .find(|container| &*container.name == name)
    }

    /// Whether no container of the pod will run again.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
}

impl ContainerState {
    pub fn is_running(&self) -> bool {
        matches!(self.state, Run::Running { .. })
    }

    /// Why the container waits, empty if it does not.
    pub fn waiting_reason(&self) -> &str {
        match &self.state {
            Run::Waiting { reason, .. } => reason,
            Run::Running { .. } | Run::Terminated(_) => "",
        }
    }

    /// What the kubelet says about the waiting, empty if it does not wait.
    pub fn waiting_message(&self) -> &str {
        match &self.state {
            Run::Waiting { message, .. } => message,
            Run::Running { .. } | Run::Terminated(_) => "",
        }
    }
}
