//! Pods on a node whose containers are not created: volumes, sandbox, network (section 4.2 rows 14 and 15).

use std::time::Duration;

use tawny_model::observed::{ContainerKind, ContainerState, KubeEvent};

use super::Look;
use crate::{
    Cause,
    message::{mount_failure, strip_combined, template, volume_of},
    occurrence::Findings,
};

/// Mounts are tried again for this long before anyone should look.
const VOLUME_GRACE: Duration = Duration::from_secs(2 * 60);
/// A sandbox that failed once mostly succeeds at the next try.
const SANDBOX_GRACE: Duration = Duration::from_secs(60);

pub(super) const VOLUME_REASONS: &[&str] =
    &["FailedMount", "FailedAttachVolume", "FailedMapVolume"];
pub(super) const SANDBOX_REASONS: &[&str] = &[
    "FailedCreatePodSandBox",
    "FailedKillPod",
    "NetworkNotReady",
    "DNSConfigForming",
    "HostPortConflict",
];

pub(super) fn detect(look: &Look<'_>, found: &mut Findings) {
    if look.pod.node.is_empty() || !waits_for_creation(&look.pod.containers) {
        return;
    }
    let Some(since) = look.scheduled_at() else {
        return;
    };
    if let Some(event) = look.event(None, SANDBOX_REASONS) {
        if look.is_over(since, SANDBOX_GRACE, found) {
            let cause = sandbox(event);
            found
                .occurrences
                .push(look.trouble(None, cause, Some(event.at), &event.message));
        }
        return;
    }
    if !look.is_over(since, VOLUME_GRACE, found) {
        return;
    }
    if let Some(event) = look.event(None, VOLUME_REASONS) {
        let cause = volume(event);
        found
            .occurrences
            .push(look.trouble(None, cause, Some(event.at), &event.message));
    } else if !is_pulling(look) {
        found
            .occurrences
            .push(look.trouble(None, Cause::SlowCreation, Some(since), ""));
    }
}

pub(super) fn volume(event: &KubeEvent) -> Cause {
    let message = strip_combined(&event.message);
    Cause::Volume {
        object: volume_of(message).into(),
        failure: mount_failure(&event.reason, message),
    }
}

pub(super) fn sandbox(event: &KubeEvent) -> Cause {
    let names = [&*event.object.name, &*event.object.uid];
    Cause::Sandbox {
        template: format!("{}: {}", event.reason, template(&event.message, &names)).into(),
    }
}

/// Whether something waits to be created for the first time and no init container is what it waits for.
fn waits_for_creation(containers: &[ContainerState]) -> bool {
    let is_init_at_work = containers.iter().any(|container| {
        container.kind == ContainerKind::Init
            && (container.is_running() || container.waiting_reason() == "CrashLoopBackOff")
    });
    !is_init_at_work
        && containers.iter().any(|container| {
            let never_ran = container.last.is_none() && container.container_id.is_empty();
            let waits = matches!(
                container.waiting_reason(),
                "ContainerCreating" | "PodInitializing"
            );
            never_ran && waits
        })
}

/// Whether an image is being pulled: begun, and neither done nor failed.
fn is_pulling(look: &Look<'_>) -> bool {
    look.event(None, &["Pulling", "Pulled", "Failed"])
        .is_some_and(|event| &*event.reason == "Pulling")
}
