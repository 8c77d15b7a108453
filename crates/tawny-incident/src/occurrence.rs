//! What detection finds: one occurrence per dead container or stated trouble, and marks for what was planned.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tawny_model::{
    Timestamp, Workload,
    observed::{ContainerKind, Resources},
};

use crate::{Cause, Severity, detect::LogSignature, exit::Exit};

/// Longest message kept of a status or event, the limit of a termination message
/// (`types.MaxPodTerminationMessageLogLength` of the kubelet is 4096 for one container).
pub const MAX_MESSAGE_BYTES: usize = 4096;

/// One time that something went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// The same for the same occurrence however often it is seen; different for any two.
    pub key: String,
    /// When it happened: `finishedAt` of a dead container, else since when the trouble has lasted.
    pub at: Timestamp,
    pub cause: Cause,
    pub subject: Subject,
    /// The run that ended, for the death of a container.
    #[serde(default)]
    pub run: Option<DeadRun>,
    /// What Kubernetes says, at most [`MAX_MESSAGE_BYTES`].
    #[serde(default)]
    pub message: Arc<str>,
    /// What its last lines say; empty until somebody has read them.
    #[serde(default)]
    pub signatures: Vec<LogSignature>,
    /// It was there when watching began, so that nobody needs to be told.
    #[serde(default)]
    pub existing: bool,
}

/// Where something went wrong. What is not known, or does not apply, is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    pub cluster: Arc<str>,
    pub namespace: Arc<str>,
    pub workload: Option<Workload>,
    pub pod: Arc<str>,
    pub pod_uid: Arc<str>,
    pub node: Arc<str>,
    pub container: Arc<str>,
    pub container_kind: Option<ContainerKind>,
}

/// A run of a container that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadRun {
    /// `containerd://…`; empty when the kubelet lost sight of it.
    #[serde(default)]
    pub container_id: Arc<str>,
    /// The `N` of its log file `N.log`, and of its stream.
    pub restart: u32,
    /// The container is, or will be, started again.
    #[serde(default)]
    pub restarting: bool,
    /// `None` when the status does not say how it ended.
    pub exit: Option<Exit>,
    /// `Error`, `OOMKilled`, … as the kubelet names it.
    #[serde(default)]
    pub reason: Arc<str>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    #[serde(default)]
    pub image: Arc<str>,
    #[serde(default)]
    pub image_id: Arc<str>,
    #[serde(default)]
    pub requests: Resources,
    #[serde(default)]
    pub limits: Resources,
    /// How long the kubelet waits before it starts the container again: the state of a crash loop (section 4.2 row 2).
    #[serde(default)]
    pub back_off_secs: Option<u64>,
}

impl Occurrence {
    /// Severity of this one occurrence (section 4.3): exit code 2 may be a wrong option, or a Go panic.
    pub fn severity(&self) -> Severity {
        let restarting = self.run.as_ref().is_some_and(|run| run.restarting);
        let severity = self.cause.severity(restarting);
        let is_panic = matches!(&self.cause, Cause::Crash { exit: Some(exit) } if exit.code == 2)
            && self.signatures.contains(&LogSignature::Panic);
        if is_panic {
            severity.max(Severity::High)
        } else {
            severity
        }
    }

    /// What a death is known by while the runtime's id of the container is not: pod, container and restart.
    pub(crate) fn instance(&self) -> Option<String> {
        let run = self.run.as_ref()?;
        Some(instance_key(
            &self.subject.pod_uid,
            &self.subject.container,
            run.restart,
        ))
    }
}

/// The key of a container's death: its runtime id, else pod, container and restart (section 4.2 row 1).
pub(crate) fn death_key(
    container_id: &str,
    pod_uid: &str,
    container: &str,
    restart: u32,
) -> String {
    if container_id.is_empty() {
        instance_key(pod_uid, container, restart)
    } else {
        format!("death/{container_id}")
    }
}

fn instance_key(pod_uid: &str, container: &str, restart: u32) -> String {
    format!("death/{pod_uid}/{container}/{restart}")
}

/// Something that looks like trouble but was meant: a point on the timeline, never an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The key the occurrence would have had, so that one reported too early is taken back.
    pub key: String,
    pub at: Timestamp,
    pub kind: MarkerKind,
    pub subject: Subject,
    #[serde(default)]
    pub message: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkerKind {
    /// Its pod was being deleted: a rollout, a scale-down, a drain, or by hand.
    Deleted,
    /// Its pod was evicted through the API, as a drain does.
    ApiEviction,
    /// Its pod made room for one of higher priority.
    Preempted,
    /// A taint without toleration drove its pod away.
    TaintEviction,
    /// Its pod's node or owner is gone.
    GarbageCollected,
    /// Its spec changed in place, so the kubelet replaced it.
    Replaced,
    /// A sidecar ended after the containers it served.
    SidecarDone,
    /// Its pod as a whole ended, which is an occurrence of its own.
    PodEnded,
    /// A CronJob left a run out because the one before still ran.
    RunSkipped,
    /// The cluster is about to grow for the pod.
    ScaleUp,
}

/// How a thing does that incidents are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Healthy,
    Unhealthy,
    /// Deleted, or replaced.
    Gone,
}

/// A thing whose health is told, and by which incidents are resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// By UID.
    Pod(Arc<str>),
    Node(Arc<str>),
    Workload {
        namespace: Arc<str>,
        workload: Workload,
    },
    Namespace(Arc<str>),
}

/// What one look at an object tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    pub occurrences: Vec<Occurrence>,
    /// Told again at each look, with the same keys.
    pub markers: Vec<Marker>,
    pub health: Vec<(Scope, Health)>,
    /// When to look again although nothing changed: the end of the earliest grace still running.
    pub recheck_at: Option<Timestamp>,
}

impl Findings {
    pub(crate) fn recheck(&mut self, at: Timestamp) {
        self.recheck_at = Some(self.recheck_at.map_or(at, |before| before.min(at)));
    }
}

impl Subject {
    /// What incidents of this subject resolve with.
    pub fn scope(&self) -> Option<Scope> {
        if !self.pod_uid.is_empty() {
            return Some(Scope::Pod(Arc::clone(&self.pod_uid)));
        }
        self.workload_scope().or_else(|| {
            if !self.node.is_empty() {
                Some(Scope::Node(Arc::clone(&self.node)))
            } else if !self.namespace.is_empty() {
                Some(Scope::Namespace(Arc::clone(&self.namespace)))
            } else {
                None
            }
        })
    }

    pub(crate) fn workload_scope(&self) -> Option<Scope> {
        self.workload.as_ref().map(|workload| Scope::Workload {
            namespace: Arc::clone(&self.namespace),
            workload: workload.clone(),
        })
    }
}

/// At most [`MAX_MESSAGE_BYTES`] of the text, cut between characters.
pub(crate) fn bounded(text: &str) -> Arc<str> {
    let end = text.floor_char_boundary(MAX_MESSAGE_BYTES);
    text.get(..end).unwrap_or_default().into()
}
