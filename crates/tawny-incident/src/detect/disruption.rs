//! Pods the kubelet or the control plane took away: evictions, rejections, deadlines, and what was planned
//! (section 4.2 rows 10 to 12).

use std::sync::Arc;

use tawny_model::{
    Timestamp,
    observed::{Condition, ConditionStatus, PodPhase, PodState, Terminated, condition},
};

use super::Look;
use crate::{
    Cause,
    exit::Exit,
    message::quoted,
    occurrence::{Findings, Marker, MarkerKind, bounded},
};

pub(super) fn detect(look: &Look<'_>, found: &mut Findings) {
    let pod = look.pod;
    if let Some(cause) = pod_cause(pod) {
        let since = ended_at(pod).or_else(|| {
            look.event(None, &["Evicted", "Preempting"])
                .map(|event| event.at)
        });
        found
            .occurrences
            .push(look.trouble(None, cause, since, &pod.message));
    }
    if let (Some(kind), Some(target)) = (kind(pod), target(pod)) {
        found.markers.push(Marker {
            key: format!("pod/{}/disruption", pod.uid),
            at: target.changed.unwrap_or(look.context.now),
            kind,
            subject: look.subject(None),
            message: bounded(&target.message),
        });
    }
}

/// The planned disruption the pod's status names (row 11).
pub(super) fn kind(pod: &PodState) -> Option<MarkerKind> {
    Some(match &*target(pod)?.reason {
        "PreemptionByScheduler" => MarkerKind::Preempted,
        "DeletionByTaintManager" => MarkerKind::TaintEviction,
        "EvictionByEvictionAPI" => MarkerKind::ApiEviction,
        "DeletionByPodGC" => MarkerKind::GarbageCollected,
        _ => return None,
    })
}

/// Whether the end of the pod as a whole explains that this latest run ended.
pub(super) fn ended(pod: &PodState, terminated: &Terminated) -> bool {
    if pod_cause(pod).is_none() {
        return false;
    }
    // What failed before the kubelet's decision failed by itself. Where that time is not told, only how a container
    // ends that was stopped counts.
    match (
        target(pod).and_then(|it| it.changed),
        terminated.finished_at,
    ) {
        (Some(decided), Some(finished)) => finished >= decided,
        _ => Exit::of(terminated).is_stop(),
    }
}

fn target(pod: &PodState) -> Option<&Condition> {
    condition(&pod.conditions, "DisruptionTarget")
        .filter(|condition| condition.status == ConditionStatus::True)
}

/// The end of the pod as a whole, if the kubelet ended it.
fn pod_cause(pod: &PodState) -> Option<Cause> {
    if pod.phase != PodPhase::Failed {
        return None;
    }
    match &*pod.reason {
        "" | "Error" | "Completed" => None,
        "Evicted" => Some(Cause::Evicted {
            resource: resource(&pod.message).into(),
        }),
        "DeadlineExceeded" => Some(Cause::Deadline),
        _ => Some(Cause::Rejected {
            reason: Arc::clone(&pod.reason),
        }),
    }
}

/// What ran out, from the messages of `pkg/kubelet/eviction/helpers.go`.
fn resource(message: &str) -> String {
    if let Some((_, rest)) = message.split_once("low on resource: ") {
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap_or(rest.len());
        return rest.get(..end).unwrap_or_default().to_owned();
    }
    if let Some((_, rest)) = message.split_once("The node had condition: [") {
        return rest
            .split_once(']')
            .map_or(rest, |(condition, _)| condition)
            .to_owned();
    }
    if let Some(volume) = quoted(message, "EmptyDir volume ") {
        return format!("emptyDir \"{volume}\" limit");
    }
    if message.contains("ephemeral") {
        return "ephemeral-storage limit".to_owned();
    }
    String::new()
}

fn ended_at(pod: &PodState) -> Option<Timestamp> {
    target(pod).and_then(|it| it.changed).or_else(|| {
        ["Ready", "ContainersReady", "PodScheduled"]
            .into_iter()
            .find_map(|kind| condition(&pod.conditions, kind)?.changed)
    })
}
