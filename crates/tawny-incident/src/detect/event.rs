//! Events that tell of trouble no status shows, and of what was planned (section 4.2 rows 10 to 19 and 22).

use std::sync::Arc;

use tawny_model::{
    Workload,
    observed::{KubeEvent, PodState},
};

use super::{
    Context,
    job::job_key,
    rollout::{owner_by_name, refusal},
    trouble_key,
    volume::{SANDBOX_REASONS, VOLUME_REASONS, sandbox, volume},
};
use crate::{
    Cause,
    message::{MountFailure, pull_failure, quoted, strip_combined},
    occurrence::{Findings, Marker, MarkerKind, Occurrence, Subject, bounded},
};

/// What is known of the object an event is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventContext<'a> {
    /// The pod, also for some time after it is gone. What its status tells is left to [`super::pod`].
    pub pod: Option<&'a PodState>,
    /// The top controller of a ReplicaSet, Job or other workload, if its owners are known.
    pub workload: Option<&'a Workload>,
    /// Nodes are watched, so that their conditions are not read from events.
    pub watches_nodes: bool,
}

/// Without the pod's status, a kubelet's retries stand for the time it waits: eight mounts take two minutes, four
/// sandboxes one (`volume/util/operationexecutor` backs off from 0.5 s, the pod workers from 10 s).
const MOUNT_TRIES: u32 = 8;
const SANDBOX_TRIES: u32 = 4;
/// Autoscalers look every 15 s; pods that come up have no metrics for the first minute.
const AUTOSCALER_TRIES: u32 = 8;
/// Every kubelet writes this once as it starts.
const DISK_CAPACITY_TRIES: u32 = 3;

/// Reads an event by itself.
pub fn event(event: &KubeEvent, about: EventContext<'_>, context: &Context) -> Findings {
    let mut found = Findings::default();
    let message = strip_combined(&event.message);
    if let Some(kind) = planned(event) {
        found.markers.push(Marker {
            key: event_key(event),
            at: event.at,
            kind,
            subject: subject(event, about, context),
            message: bounded(message),
        });
        return found;
    }
    let cause = match &*event.object.kind {
        "Node" => node_cause(event, about, message),
        "Pod" => pod_cause(event, about, message),
        "CronJob" => cron_job_cause(&event.reason),
        "Job" => job_cause(event, message),
        "HorizontalPodAutoscaler" => autoscaler_cause(event),
        "PersistentVolumeClaim" => claim_cause(event, message),
        _ => failed_create(event, message),
    };
    if let Some(cause) = cause {
        let subject = subject(event, about, context);
        let key = key(event, &cause, &subject);
        found.occurrences.push(Occurrence {
            key,
            at: event.at,
            existing: event.at < context.watching_since,
            cause,
            subject,
            signatures: Vec::new(),
            run: None,
            message: bounded(message),
        });
    }
    found
}

fn planned(event: &KubeEvent) -> Option<MarkerKind> {
    Some(match &*event.reason {
        "Preempted" => MarkerKind::Preempted,
        "TaintManagerEviction" => MarkerKind::TaintEviction,
        "TriggeredScaleUp" => MarkerKind::ScaleUp,
        "JobAlreadyActive" => MarkerKind::RunSkipped,
        _ => return None,
    })
}

fn node_cause(event: &KubeEvent, about: EventContext<'_>, message: &str) -> Option<Cause> {
    let condition = match &*event.reason {
        "Rebooted"
        | "SystemOOM"
        | "FreeDiskSpaceFailed"
        | "ImageGCFailed"
        | "ContainerGCFailed"
        | "KubeletSetupFailed"
        | "TaskHung" => &*event.reason,
        "InvalidDiskCapacity" if event.count >= DISK_CAPACITY_TRIES => "InvalidDiskCapacity",
        // node-problem-detector tells of every kill; those within a container's limit are the container's.
        "OOMKilling" if !message.contains("Memory cgroup out of memory") => "SystemOOM",
        "EvictionThresholdMet" if message.contains("memory") => "MemoryPressure",
        "EvictionThresholdMet" if message.contains("pid") => "PIDPressure",
        "EvictionThresholdMet" => "DiskPressure",
        "NodeNotReady" if !about.watches_nodes => "Ready",
        "NodeHasDiskPressure" if !about.watches_nodes => "DiskPressure",
        "NodeHasInsufficientMemory" if !about.watches_nodes => "MemoryPressure",
        "NodeHasInsufficientPID" if !about.watches_nodes => "PIDPressure",
        _ => return None,
    };
    Some(Cause::Node {
        condition: condition.into(),
    })
}

fn pod_cause(event: &KubeEvent, about: EventContext<'_>, message: &str) -> Option<Cause> {
    let reason = &*event.reason;
    if reason == "FailedPreStopHook" {
        return Some(Cause::Config {
            reason: Arc::clone(&event.reason),
            missing: None,
        });
    }
    if about.pod.is_some() {
        return None;
    }
    if reason == "Failed" && message.starts_with("Failed to pull image") {
        return Some(Cause::ImagePull {
            image: quoted(message, "pull image ").unwrap_or_default().into(),
            failure: pull_failure("", message),
        });
    }
    if VOLUME_REASONS.contains(&reason) && event.count >= MOUNT_TRIES {
        return Some(volume(event));
    }
    (SANDBOX_REASONS.contains(&reason) && event.count >= SANDBOX_TRIES).then(|| sandbox(event))
}

fn cron_job_cause(reason: &Arc<str>) -> Option<Cause> {
    let reason: Arc<str> = match &**reason {
        "FailedNeedsStart" | "TooManyMissedTimes" | "MissSchedule" => Arc::clone(reason),
        "UnparseableSchedule" | "UnParseableCronJobSchedule" | "InvalidSchedule" => {
            "UnparseableSchedule".into()
        }
        _ => return None,
    };
    Some(Cause::CronJob { reason })
}

fn job_cause(event: &KubeEvent, message: &str) -> Option<Cause> {
    match &*event.reason {
        "BackoffLimitExceeded"
        | "DeadlineExceeded"
        | "PodFailurePolicy"
        | "FailedIndexes"
        | "MaxFailedIndexesExceeded" => Some(Cause::Job {
            reason: Arc::clone(&event.reason),
        }),
        _ => failed_create(event, message),
    }
}

fn autoscaler_cause(event: &KubeEvent) -> Option<Cause> {
    let is_about_metrics =
        event.reason.starts_with("FailedGet") || &*event.reason == "FailedComputeMetricsReplicas";
    (is_about_metrics && event.count >= AUTOSCALER_TRIES).then(|| Cause::Autoscaler {
        reason: Arc::clone(&event.reason),
    })
}

fn claim_cause(event: &KubeEvent, message: &str) -> Option<Cause> {
    let failure = match &*event.reason {
        "ProvisioningFailed" | "FailedBinding" => MountFailure::Provisioning,
        "VolumeResizeFailed" | "FileSystemResizeFailed" => MountFailure::Resize,
        _ => return None,
    };
    // Provisioners are asked again and again while their first answer is on its way.
    let is_waiting = message.contains("waiting for a volume to be created");
    (!is_waiting).then(|| Cause::Volume {
        object: format!("persistentvolumeclaim \"{}\"", event.object.name).into(),
        failure,
    })
}

/// A controller's pod was refused, so that there is no pod to look at (row 19).
fn failed_create(event: &KubeEvent, message: &str) -> Option<Cause> {
    let is_leaving = message.contains("because it is being terminated");
    (&*event.reason == "FailedCreate" && !is_leaving).then(|| Cause::Rollout {
        reason: "FailedCreate".into(),
        refusal: refusal(message),
    })
}

fn subject(event: &KubeEvent, about: EventContext<'_>, context: &Context) -> Subject {
    let object = &event.object;
    let mut subject = Subject {
        cluster: Arc::clone(&context.cluster),
        namespace: Arc::clone(&object.namespace),
        ..Subject::default()
    };
    match &*object.kind {
        "Node" => {
            subject.namespace = "".into();
            subject.node = Arc::clone(&object.name);
        }
        "Pod" => {
            subject.pod = Arc::clone(&object.name);
            subject.pod_uid = Arc::clone(&object.uid);
            subject.container = Arc::clone(&object.container);
            subject.node = Arc::clone(&event.host);
            if let Some(pod) = about.pod {
                subject.node = Arc::clone(&pod.node);
                subject.workload.clone_from(&pod.workload);
                subject.container_kind = pod.container(&object.container).map(|it| it.kind);
            }
        }
        kind => {
            subject.workload = Some(
                about
                    .workload
                    .cloned()
                    .unwrap_or_else(|| owner_by_name(kind, &object.name)),
            );
        }
    }
    subject
}

/// One occurrence for each count of an event, except where what it tells of lasts or happens once.
fn key(event: &KubeEvent, cause: &Cause, subject: &Subject) -> String {
    match cause {
        Cause::Job { .. } => job_key(&event.object.uid),
        Cause::Autoscaler { reason } => format!("hpa/{}/event/{reason}", event.object.uid),
        _ if !subject.pod_uid.is_empty() => trouble_key(subject, cause),
        Cause::Volume { .. } => format!("claim/{}/{}", event.object.uid, event.reason),
        _ => event_key(event),
    }
}

fn event_key(event: &KubeEvent) -> String {
    if event.uid.is_empty() {
        let object = &event.object;
        return format!(
            "event/{}/{}/{}/{}/{}",
            object.kind,
            object.namespace,
            object.name,
            event.reason,
            event.at.as_secs()
        );
    }
    format!("event/{}/{}", event.uid, event.count)
}
