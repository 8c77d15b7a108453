//! What Tawny keeps of a pod: a pure extract of the API object, small enough to hold for every pod of a cluster.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState as ApiState, ContainerStateTerminated, ContainerStatus, Pod,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use tawny_model::{Stream, StreamId, Timestamp, Workload};

/// A pod as far as collecting its logs is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// The UID in the pod's log directory: of a static pod the hash of its manifest (VK-7), else the object's own.
    pub uid: Arc<str>,
    /// UID of the API object; differs from `uid` for the mirror of a static pod only.
    pub object_uid: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// Empty until scheduled.
    pub node: Arc<str>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Without those longer than [`MAX_ANNOTATION_BYTES`], which nobody selects by.
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    /// Empty unless namespaces are watched too.
    pub namespace_labels: Arc<BTreeMap<Arc<str>, Arc<str>>>,
    pub phase: Phase,
    /// Status of each condition by its type: `Ready` is `True`, `False` or `Unknown`.
    pub conditions: BTreeMap<Arc<str>, Arc<str>>,
    pub created: Option<Timestamp>,
    /// Set while the pod is being deleted.
    pub deleting: Option<Timestamp>,
    /// The object is gone from the API; what is known stays for the lines still to be read (VK-2).
    pub gone: bool,
    pub workload: Option<Workload>,
    /// In the order they are declared: init containers, containers, ephemeral containers.
    pub containers: Vec<ContainerFacts>,
}

/// One declared container and its latest run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    pub name: Arc<str>,
    pub kind: ContainerKind,
    /// As the pod spec wrote it.
    pub image: Arc<str>,
    /// `containerd://…` of the latest run.
    pub id: Option<Arc<str>>,
    /// Restarts before the latest run: the `N` of `N.log`.
    pub restarts: u32,
    pub state: ContainerState,
    /// The run before the latest, if the kubelet still reports it.
    pub previous: Option<Ended>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerKind {
    /// Runs to completion before the pod's containers start.
    Init,
    /// An init container with `restartPolicy: Always`, which runs along with the pod.
    Sidecar,
    Regular,
    /// Added to a running pod by `kubectl debug`.
    Ephemeral,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Never ran, or waits to run again.
    Waiting {
        reason: Arc<str>,
    },
    Running {
        since: Option<Timestamp>,
    },
    Ended(Ended),
}

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub id: Option<Arc<str>>,
    pub exit_code: i32,
    pub reason: Arc<str>,
    pub at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    #[default]
    Unknown,
}

/// Longer annotations are left out: `last-applied-configuration` alone can be 256 KiB.
pub const MAX_ANNOTATION_BYTES: usize = 1024;

pub(crate) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether no container of the pod will run again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

impl PodFacts {
    pub fn container(&self, name: &str) -> Option<&ContainerFacts> {
        self.containers
            .iter()
            .find(|container| &*container.name == name)
    }

    /// Whether nothing more will be written by any container.
    pub fn is_over(&self) -> bool {
        self.gone || self.phase.is_terminal()
    }

    /// The value of a field by the path selectors name it by; `None` for one that is not kept.
    pub fn field(&self, path: &str) -> Option<&str> {
        Some(match path {
            "metadata.name" => &self.name,
            "metadata.namespace" => &self.namespace,
            "spec.nodeName" => &self.node,
            "status.phase" => self.phase.name(),
            _ => return None,
        })
    }

    /// The stream of a container's run, described with all that is known here.
    pub fn stream(&self, cluster: Arc<str>, container: &ContainerFacts, restart: u32) -> Stream {
        Stream {
            id: StreamId {
                cluster,
                pod_uid: Arc::clone(&self.uid),
                container: Arc::clone(&container.name),
                restart,
            },
            namespace: Arc::clone(&self.namespace),
            pod: Arc::clone(&self.name),
            node: Arc::clone(&self.node),
            image: Arc::clone(&container.image),
            workload: self.workload.clone(),
            labels: self.labels.clone(),
        }
    }
}

impl ContainerFacts {
    /// Whether the container has run at least once, so that it has logs.
    pub fn has_run(&self) -> bool {
        self.id.is_some()
            || self.restarts > 0
            || !matches!(self.state, ContainerState::Waiting { .. })
    }
}

/// Extracts what is kept of a pod; `None` for an object without name, namespace or UID, which the API never sends.
pub fn pod_facts(pod: &Pod) -> Option<PodFacts> {
    let meta = &pod.metadata;
    let object_uid: Arc<str> = non_empty(meta.uid.as_deref())?.into();
    let namespace = non_empty(meta.namespace.as_deref())?.into();
    let name = non_empty(meta.name.as_deref())?.into();
    let annotation = |key| meta.annotations.as_ref().and_then(|all| all.get(key));
    let uid = non_empty(annotation(MIRROR_ANNOTATION).map(String::as_str))
        .map_or_else(|| Arc::clone(&object_uid), Arc::from);
    let status = pod.status.as_ref();
    let phase = match status.and_then(|status| status.phase.as_deref()) {
        Some("Pending") => Phase::Pending,
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        _ => Phase::Unknown,
    };
    Some(PodFacts {
        uid,
        object_uid,
        namespace,
        name,
        node: pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default()
            .into(),
        labels: shared(meta.labels.as_ref(), usize::MAX),
        annotations: shared(meta.annotations.as_ref(), MAX_ANNOTATION_BYTES),
        namespace_labels: Arc::default(),
        phase,
        conditions: status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten()
            .map(|condition| {
                (
                    condition.type_.as_str().into(),
                    condition.status.as_str().into(),
                )
            })
            .collect(),
        created: meta.creation_timestamp.as_ref().and_then(instant),
        deleting: meta.deletion_timestamp.as_ref().and_then(instant),
        gone: false,
        workload: workload(meta),
        containers: containers(pod),
    })
}

fn containers(pod: &Pod) -> Vec<ContainerFacts> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let status = pod.status.as_ref();
    let statuses =
        |list: Option<&'_ Vec<ContainerStatus>>, name: &str| -> Option<ContainerStatus> {
            list?.iter().find(|status| status.name == name).cloned()
        };
    let mut all = Vec::new();
    for container in spec.init_containers.iter().flatten() {
        let kind = if container.restart_policy.as_deref() == Some("Always") {
            ContainerKind::Sidecar
        } else {
            ContainerKind::Init
        };
        let status = statuses(
            status.and_then(|s| s.init_container_statuses.as_ref()),
            &container.name,
        );
        all.push(container_facts(
            &container.name,
            image(container),
            kind,
            status,
        ));
    }
    for container in &spec.containers {
        let status = statuses(
            status.and_then(|s| s.container_statuses.as_ref()),
            &container.name,
        );
        all.push(container_facts(
            &container.name,
            image(container),
            ContainerKind::Regular,
            status,
        ));
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        let status = statuses(
            status.and_then(|s| s.ephemeral_container_statuses.as_ref()),
            &container.name,
        );
        let image = container.image.as_deref().unwrap_or_default();
        all.push(container_facts(
            &container.name,
            image,
            ContainerKind::Ephemeral,
            status,
        ));
    }
    all
}

fn image(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

fn container_facts(
    name: &str,
    image: &str,
    kind: ContainerKind,
    status: Option<ContainerStatus>,
) -> ContainerFacts {
    let (state, previous) = match &status {
        Some(status) => (state(status.state.as_ref()), status.last_state.as_ref()),
        None => (state(None), None),
    };
    ContainerFacts {
        name: name.into(),
        kind,
        image: image.into(),
        id: status
            .as_ref()
            .and_then(|status| non_empty(status.container_id.as_deref()))
            .map(Arc::from),
        restarts: status
            .as_ref()
            .map_or(0, |status| u32::try_from(status.restart_count).unwrap_or(0)),
        state,
        previous: previous
            .and_then(|last| last.terminated.as_ref())
            .map(ended),
    }
}

fn state(state: Option<&ApiState>) -> ContainerState {
    match state {
        Some(ApiState {
            terminated: Some(terminated),
            ..
        }) => ContainerState::Ended(ended(terminated)),
        Some(ApiState {
            running: Some(running),
            ..
        }) => ContainerState::Running {
            since: running.started_at.as_ref().and_then(instant),
        },
        Some(ApiState {
            waiting: Some(waiting),
            ..
        }) => ContainerState::Waiting {
            reason: waiting.reason.as_deref().unwrap_or_default().into(),
        },
        _ => ContainerState::Waiting { reason: "".into() },
    }
}

fn ended(terminated: &ContainerStateTerminated) -> Ended {
    Ended {
        id: non_empty(terminated.container_id.as_deref()).map(Arc::from),
        exit_code: terminated.exit_code,
        reason: terminated.reason.as_deref().unwrap_or_default().into(),
        at: terminated.finished_at.as_ref().and_then(instant),
    }
}

/// The controller that owns the pod, resolved by naming rules alone so that no further request is needed.
///
/// | owner | rule | workload |
/// |---|---|---|
/// | ReplicaSet `name-<pod-template-hash>` | the label gives the hash | Deployment `name` |
/// | Job `name-<digits>` | digits are the CronJob controller's schedule time | CronJob `name` |
/// | any other | – | the owner itself |
///
/// A Job someone named `name-123` by hand is told apart by the length: schedule times are minutes since the epoch
/// (8 digits since 1989) or, up to Kubernetes 1.20, seconds (10 digits).
pub(crate) fn workload(meta: &ObjectMeta) -> Option<Workload> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let OwnerReference { kind, name, .. } =
        owners.iter().find(|owner| owner.controller == Some(true))?;
    let resolved = match kind.as_str() {
        "ReplicaSet" => meta
            .labels
            .as_ref()
            .and_then(|labels| labels.get(TEMPLATE_HASH_LABEL))
            .and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'))
            .map(|name| ("Deployment", name)),
        "Job" => name
            .rsplit_once('-')
            .filter(|(_, time)| {
                matches!(time.len(), 8 | 10) && time.bytes().all(|byte| byte.is_ascii_digit())
            })
            .map(|(name, _)| ("CronJob", name)),
        // The mirror of a static pod belongs to its node: it has no workload.
        "Node" => return None,
        _ => None,
    };
    let (kind, name) = resolved.unwrap_or((kind, name));
    Some(Workload {
        kind: kind.into(),
        name: name.into(),
    })
}

pub(crate) fn shared(
    map: Option<&BTreeMap<String, String>>,
    max_bytes: usize,
) -> BTreeMap<Arc<str>, Arc<str>> {
    map.into_iter()
        .flatten()
        .filter(|(_, value)| value.len() <= max_bytes)
        .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
        .collect()
}

pub(crate) fn non_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

pub(crate) fn instant(time: &Time) -> Option<Timestamp> {
    i64::try_from(time.0.as_nanosecond())
        .ok()
        .map(Timestamp::from_nanos)
}

#[cfg(test)]
mod tests;
