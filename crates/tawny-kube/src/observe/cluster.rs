//! Nodes, namespaces and the objects that make pods.

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        core::v1::{Namespace, Node},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use tawny_model::{
    Timestamp, Workload,
    observed::{
        Condition, CronJobState, HpaState, JobState, NamespaceState, NodeState, WorkloadState,
    },
};

use super::{conditions, count, deletion, moment, text, uid_and_name};

/// Extracts what detection reads of a node.
pub fn node_state(node: &Node) -> Option<NodeState> {
    let (_, name) = uid_and_name(&node.metadata)?;
    let status = node.status.as_ref();
    Some(NodeState {
        name,
        created: moment(node.metadata.creation_timestamp.as_ref()),
        conditions: conditions!(status.and_then(|status| status.conditions.as_ref())),
    })
}

/// Extracts what detection reads of a namespace.
pub fn namespace_state(namespace: &Namespace) -> Option<NamespaceState> {
    let (uid, name) = uid_and_name(&namespace.metadata)?;
    let status = namespace.status.as_ref();
    Some(NamespaceState {
        uid,
        name,
        deletion: deletion(&namespace.metadata),
        conditions: conditions!(status.and_then(|status| status.conditions.as_ref())),
    })
}

/// Extracts what detection reads of a Job.
pub fn job_state(job: &Job) -> Option<JobState> {
    let meta = &job.metadata;
    let (uid, name) = uid_and_name(meta)?;
    let status = job.status.as_ref();
    let cron_job = meta
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true) && owner.kind == "CronJob")
        .map(|owner| owner.name.as_str().into());
    Some(JobState {
        uid,
        namespace: text(meta.namespace.as_ref()),
        name,
        cron_job,
        failed: count(status.and_then(|status| status.failed)),
        conditions: conditions!(status.and_then(|status| status.conditions.as_ref())),
    })
}

/// Extracts what detection reads of a CronJob, with its time zone's distance from UTC at `now`.
///
/// A time zone nobody knows counts as UTC: the API server has checked it against its own list.
pub fn cron_job_state(cron: &CronJob, now: Timestamp) -> Option<CronJobState> {
    let meta = &cron.metadata;
    let (uid, name) = uid_and_name(meta)?;
    let spec = cron.spec.as_ref();
    let zone = spec.and_then(|spec| spec.time_zone.as_deref());
    Some(CronJobState {
        uid,
        namespace: text(meta.namespace.as_ref()),
        name,
        schedule: text(spec.map(|spec| &spec.schedule)),
        utc_offset_secs: zone.and_then(|zone| offset(zone, now)).unwrap_or(0),
        suspended: spec.and_then(|spec| spec.suspend).unwrap_or(false),
        created: moment(meta.creation_timestamp.as_ref()),
        last_schedule: moment(
            cron.status
                .as_ref()
                .and_then(|status| status.last_schedule_time.as_ref()),
        ),
    })
}

fn offset(zone: &str, now: Timestamp) -> Option<i32> {
    let zone = jiff::tz::TimeZone::get(zone).ok()?;
    let now = jiff::Timestamp::from_second(now.as_secs()).ok()?;
    Some(zone.to_offset(now).seconds())
}

/// Extracts what detection reads of a Deployment.
pub fn deployment_state(deployment: &Deployment) -> Option<WorkloadState> {
    let status = deployment.status.as_ref();
    let spec = deployment.spec.as_ref();
    workload_state(
        "Deployment",
        &deployment.metadata,
        wanted(spec.map(|spec| spec.replicas)),
        Progress {
            observed: status.and_then(|status| status.observed_generation),
            ready: status.and_then(|status| status.ready_replicas),
            all: status.and_then(|status| status.replicas),
            newest: status.and_then(|status| status.updated_replicas),
        },
        conditions!(status.and_then(|status| status.conditions.as_ref())),
    )
}

/// Extracts what detection reads of a ReplicaSet that stands for itself; one of a Deployment is `None`, because an old
/// one without pods would pass for the Deployment's health.
pub fn replica_set_state(set: &ReplicaSet) -> Option<WorkloadState> {
    let mut owners = set.metadata.owner_references.iter().flatten();
    if owners.any(|owner| owner.controller == Some(true)) {
        return None;
    }
    let status = set.status.as_ref();
    let spec = set.spec.as_ref();
    workload_state(
        "ReplicaSet",
        &set.metadata,
        wanted(spec.map(|spec| spec.replicas)),
        Progress {
            observed: status.and_then(|status| status.observed_generation),
            ready: status.and_then(|status| status.ready_replicas),
            all: status.map(|status| status.replicas),
            newest: status.map(|status| status.replicas),
        },
        conditions!(status.and_then(|status| status.conditions.as_ref())),
    )
}

/// Extracts what detection reads of a StatefulSet.
pub fn stateful_set_state(set: &StatefulSet) -> Option<WorkloadState> {
    let status = set.status.as_ref();
    let spec = set.spec.as_ref();
    workload_state(
        "StatefulSet",
        &set.metadata,
        wanted(spec.map(|spec| spec.replicas)),
        Progress {
            observed: status.and_then(|status| status.observed_generation),
            ready: status.and_then(|status| status.ready_replicas),
            all: status.map(|status| status.replicas),
            newest: status.and_then(|status| status.updated_replicas),
        },
        conditions!(status.and_then(|status| status.conditions.as_ref())),
    )
}

/// Extracts what detection reads of a DaemonSet.
pub fn daemon_set_state(set: &DaemonSet) -> Option<WorkloadState> {
    let status = set.status.as_ref();
    workload_state(
        "DaemonSet",
        &set.metadata,
        count(status.map(|status| status.desired_number_scheduled)),
        Progress {
            observed: status.and_then(|status| status.observed_generation),
            ready: status.map(|status| status.number_ready),
            all: status.map(|status| status.current_number_scheduled),
            newest: status.and_then(|status| status.updated_number_scheduled),
        },
        conditions!(status.and_then(|status| status.conditions.as_ref())),
    )
}

/// Extracts what detection reads of a HorizontalPodAutoscaler.
pub fn autoscaler_state(hpa: &HorizontalPodAutoscaler) -> Option<HpaState> {
    let (uid, name) = uid_and_name(&hpa.metadata)?;
    let status = hpa.status.as_ref();
    Some(HpaState {
        uid,
        namespace: text(hpa.metadata.namespace.as_ref()),
        name,
        conditions: conditions!(status.and_then(|status| status.conditions.as_ref())),
    })
}

/// Pods a specification asks for: `replicas` is 1 unless it is given.
fn wanted(replicas: Option<Option<i32>>) -> u32 {
    replicas.map_or(0, |replicas| count(Some(replicas.unwrap_or(1))))
}

/// How far a rollout is, by the counts of a status.
struct Progress {
    observed: Option<i64>,
    ready: Option<i32>,
    all: Option<i32>,
    newest: Option<i32>,
}

impl Progress {
    /// Pods of the newest revision that are surely ready: all others are taken to be the ready ones, since old pods
    /// that serve hide new ones that do not. None while the status is of an older specification.
    fn ready(&self, generation: Option<i64>) -> u32 {
        if self.observed < generation {
            return 0;
        }
        let others = count(self.all).saturating_sub(count(self.newest));
        count(self.ready).saturating_sub(others)
    }
}

fn workload_state(
    kind: &str,
    meta: &ObjectMeta,
    desired: u32,
    progress: Progress,
    conditions: Vec<Condition>,
) -> Option<WorkloadState> {
    let (uid, name) = uid_and_name(meta)?;
    Some(WorkloadState {
        uid,
        namespace: text(meta.namespace.as_ref()),
        workload: Workload {
            kind: kind.into(),
            name,
        },
        desired,
        ready: progress.ready(meta.generation),
        conditions,
    })
}
