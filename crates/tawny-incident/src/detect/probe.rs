//! Containers that run and are kept out of service by a probe (section 4.2 row 9). A kill by a probe is a death.

use std::time::Duration;

use tawny_model::observed::{ConditionStatus, ContainerKind, Run};

use super::Look;
use crate::{Cause, cause::Probe, message::strip_combined, occurrence::Findings};

/// A container out of service this long is an incident by itself …
const UNREADY_GRACE: Duration = Duration::from_secs(5 * 60);
/// … and after this long if no replica is left that serves.
const ALL_UNREADY_GRACE: Duration = Duration::from_secs(60);

pub(super) fn detect(look: &Look<'_>, found: &mut Findings) {
    let grace = if look.no_replica_ready {
        ALL_UNREADY_GRACE
    } else {
        UNREADY_GRACE
    };
    for container in &look.pod.containers {
        let Run::Running { started_at } = &container.state else {
            continue;
        };
        let serves = matches!(container.kind, ContainerKind::App | ContainerKind::Sidecar);
        if !serves || container.ready {
            continue;
        }
        let unready_since = look
            .condition("ContainersReady")
            .or_else(|| look.condition("Ready"))
            .filter(|condition| condition.status != ConditionStatus::True)
            .and_then(|condition| condition.changed);
        // A container that came up after the pod lost its readiness had only since then to get ready.
        let Some(since) = unready_since.max(*started_at) else {
            continue;
        };
        if !look.is_over(since, grace, found) {
            continue;
        }
        let event = look.event(Some(&container.name), &["Unhealthy", "ProbeWarning"]);
        let message = event.map_or("", |event| strip_combined(&event.message));
        let probe = if container.started == Some(false) || message.starts_with("Startup") {
            Probe::Startup
        } else {
            Probe::Readiness
        };
        found.occurrences.push(look.trouble(
            Some(container),
            Cause::Unready { probe },
            Some(since),
            message,
        ));
    }
}
