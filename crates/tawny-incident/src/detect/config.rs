//! Containers that cannot be created or started from their spec (section 4.2 row 8).

use super::{Look, death};
use crate::{Cause, message::missing, occurrence::Findings};

/// Waiting reasons of `pkg/kubelet/container` and `pkg/kubelet/kuberuntime`.
const REASONS: &[&str] = &[
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
];

pub(super) fn detect(look: &Look<'_>, found: &mut Findings) {
    for container in &look.pod.containers {
        let reason = container.waiting_reason();
        // A command that could not be started left a dead container, which is reported as such.
        let is_death = matches!(reason, "RunContainerError" | "CreateContainerError")
            && death::has_died_starting(container);
        if !REASONS.contains(&reason) || is_death {
            continue;
        }
        let event = look.event(Some(&container.name), &["Failed", "FailedPostStartHook"]);
        let message = match (container.waiting_message(), event) {
            ("", Some(event)) => &*event.message,
            (message, _) => message,
        };
        let cause = Cause::Config {
            reason: reason.into(),
            missing: missing(message),
        };
        let since = look.since(event);
        found
            .occurrences
            .push(look.trouble(Some(container), cause, since, message));
    }
}
