//! Objects that neither come nor go: stuck in deletion, or pending for long (section 4.2 rows 20 and 21).

use std::{sync::Arc, time::Duration};

use tawny_model::observed::{ConditionStatus, ContainerKind, NamespaceState, PodPhase, condition};

use super::{Context, Look, is_over};
use crate::{
    Cause,
    occurrence::{Findings, Health, Occurrence, Scope, Subject, bounded},
};

/// Behind the time the API server gave for the deletion, in which the grace is contained.
const TERMINATING_GRACE: Duration = Duration::from_secs(60);
/// A pod that no finalizer holds goes with the kubelet's next sync (60 to 90 s), and a busy kubelet tells as late that its
/// containers have ended.
const SYNC_GRACE: Duration = Duration::from_secs(3 * 60);
const PENDING_GRACE: Duration = Duration::from_secs(5 * 60);

pub(super) fn terminating(look: &Look<'_>, found: &mut Findings) {
    let Some(deletion) = &look.pod.deletion else {
        return;
    };
    let grace = if look.pod.finalizers.is_empty() {
        SYNC_GRACE
    } else {
        TERMINATING_GRACE
    };
    if !look.is_over(deletion.due, grace, found) {
        return;
    }
    let event = look.event(None, &["FailedKillPod", "FailedPreStopHook"]);
    let cause = Cause::StuckTerminating {
        finalizers: look.pod.finalizers.clone(),
    };
    let message = event.map_or("", |event| &*event.message);
    found
        .occurrences
        .push(look.trouble(None, cause, Some(deletion.due), message));
}

/// The fallback, when nothing else that was found says why.
pub(super) fn pending(look: &Look<'_>, found: &mut Findings) {
    let is_gated = look
        .condition("PodScheduled")
        .is_some_and(|condition| &*condition.reason == "SchedulingGated");
    if look.pod.phase != PodPhase::Pending || !found.occurrences.is_empty() || is_gated {
        return;
    }
    let Some(created) = look.pod.created else {
        return;
    };
    if !look.is_over(created, PENDING_GRACE, found) {
        return;
    }
    let init = look
        .pod
        .containers
        .iter()
        .find(|container| container.kind == ContainerKind::Init && container.is_running());
    found
        .occurrences
        .push(look.trouble(init, Cause::Pending, Some(created), ""));
}

/// Looks at a namespace, which stays in deletion while something in it does.
pub fn namespace(namespace: &NamespaceState, context: &Context) -> Findings {
    let mut found = Findings::default();
    let scope = Scope::Namespace(Arc::clone(&namespace.name));
    let Some(deletion) = &namespace.deletion else {
        found.health.push((scope, Health::Healthy));
        return found;
    };
    found.health.push((scope, Health::Unhealthy));
    let remaining: Vec<_> = [
        "NamespaceFinalizersRemaining",
        "NamespaceContentRemaining",
        "NamespaceDeletionContentFailure",
        "NamespaceDeletionDiscoveryFailure",
    ]
    .into_iter()
    .filter_map(|kind| condition(&namespace.conditions, kind))
    .filter(|condition| condition.status == ConditionStatus::True)
    .collect();
    if remaining.is_empty() || !is_over(context.now, deletion.due, TERMINATING_GRACE, &mut found) {
        return found;
    }
    let message: Vec<&str> = remaining.iter().map(|it| &*it.message).collect();
    found.occurrences.push(Occurrence {
        key: format!("namespace/{}/terminating", namespace.uid),
        at: deletion.due,
        cause: Cause::StuckTerminating {
            finalizers: remaining.iter().map(|it| Arc::clone(&it.kind)).collect(),
        },
        subject: Subject {
            cluster: Arc::clone(&context.cluster),
            namespace: Arc::clone(&namespace.name),
            ..Subject::default()
        },
        signatures: Vec::new(),
        run: None,
        message: bounded(&message.join("; ")),
        existing: deletion.due < context.watching_since,
    });
    found
}
