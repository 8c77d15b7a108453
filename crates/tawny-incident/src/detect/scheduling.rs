//! Pods no node takes (section 4.2 row 13).

use std::time::Duration;

use tawny_model::observed::{ConditionStatus, PodPhase};

use super::Look;
use crate::{Cause, message::refusals, occurrence::Findings};

/// A cluster that grows, or a pod that leaves, often makes room within this time.
const UNSCHEDULABLE_GRACE: Duration = Duration::from_secs(60);
/// Gates hold a pod back on purpose; whoever should lift them may have been forgotten.
const GATED_GRACE: Duration = Duration::from_secs(5 * 60);

pub(super) fn detect(look: &Look<'_>, found: &mut Findings) {
    if look.pod.phase != PodPhase::Pending || !look.pod.node.is_empty() {
        return;
    }
    let event = look.event(None, &["FailedScheduling"]);
    let condition = look
        .condition("PodScheduled")
        .filter(|condition| condition.status == ConditionStatus::False);
    let is_gated = condition.is_some_and(|condition| &*condition.reason == "SchedulingGated");
    let grace = if is_gated {
        GATED_GRACE
    } else {
        UNSCHEDULABLE_GRACE
    };
    if condition.is_none() && event.is_none() {
        return;
    }
    let Some(since) = condition
        .and_then(|condition| condition.changed)
        .or(look.pod.created)
        .or_else(|| event.map(|event| event.at))
    else {
        return;
    };
    if !look.is_over(since, grace, found) {
        return;
    }
    let message = condition
        .map(|condition| &*condition.message)
        .filter(|message| !message.is_empty())
        .or_else(|| event.map(|event| &*event.message))
        .unwrap_or_default();
    let cause = if is_gated {
        Cause::Gated
    } else {
        Cause::Unschedulable {
            refusals: refusals(message),
        }
    };
    found
        .occurrences
        .push(look.trouble(None, cause, Some(since), message));
}
