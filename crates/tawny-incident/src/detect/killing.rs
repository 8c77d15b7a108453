//! What the kubelet says it did to a container, and why (section 4.2 rows 5, 8 and 9).

use std::time::Duration;

use tawny_model::observed::{ContainerState, KubeEvent, Terminated};

use super::Look;
use crate::{cause::Probe, message::strip_combined};

/// How far a `Killing` event may lie behind the death: events keep whole seconds.
const EVENT_SLACK: Duration = Duration::from_secs(2);

/// What the kubelet says it did.
pub(super) enum Killing {
    Probe(Probe),
    Replaced,
    Hook,
    Stopping,
}

/// The kubelet's `Killing` event for this run, in the wordings of `kuberuntime_manager.go`:
/// `Container X failed liveness probe, will be restarted`, `Container X definition changed, will be restarted`,
/// `Stopping container X`.
pub(super) fn killing(
    look: &Look<'_>,
    container: &ContainerState,
    terminated: &Terminated,
) -> Option<Killing> {
    let in_run = |event: &KubeEvent| {
        let is_after_start = terminated.started_at.is_none_or(|at| event.at >= at);
        let is_before_end = terminated
            .finished_at
            .is_none_or(|at| event.at <= at.saturating_add(EVENT_SLACK));
        is_after_start && is_before_end
    };
    let name = &*container.name;
    let is_about = |event: &KubeEvent| {
        *event.object.container == *name
            || (event.object.container.is_empty()
                && event
                    .message
                    .split_ascii_whitespace()
                    .any(|word| word == name))
    };
    // Of a pod of which nothing is to run any more the kubelet only says that it stops it: the probe said why before.
    let failed_probe = || {
        let unhealthy = look
            .events
            .iter()
            .filter(|event| &*event.reason == "Unhealthy" && is_about(event) && in_run(event));
        unhealthy.max_by_key(|event| event.at).and_then(|event| {
            let message = strip_combined(&event.message);
            if message.starts_with("Liveness probe") {
                Some(Probe::Liveness)
            } else if message.starts_with("Startup probe") {
                Some(Probe::Startup)
            } else {
                None
            }
        })
    };
    look.events
        .iter()
        .filter(|event| matches!(&*event.reason, "Killing" | "FailedPostStartHook"))
        .filter(|event| is_about(event) && in_run(event))
        .filter_map(|event| {
            let message = strip_combined(&event.message);
            if message.contains("failed liveness probe") {
                Some(Killing::Probe(Probe::Liveness))
            } else if message.contains("failed startup probe") {
                Some(Killing::Probe(Probe::Startup))
            } else if message.contains("definition changed") {
                Some(Killing::Replaced)
            } else if &*event.reason == "FailedPostStartHook"
                || message.contains("FailedPostStartHook")
                || message.contains("failed postStart hook")
            {
                Some(Killing::Hook)
            } else if message.starts_with("Stopping container") {
                match failed_probe() {
                    Some(probe) if look.pod.deletion.is_none() => Some(Killing::Probe(probe)),
                    _ => Some(Killing::Stopping),
                }
            } else {
                None
            }
        })
        // What says why comes before what says that: a kill by probe is followed by "Stopping container".
        .min_by_key(|killing| matches!(killing, Killing::Stopping))
}
