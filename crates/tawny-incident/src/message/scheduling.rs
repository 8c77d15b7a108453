//! How many nodes refuse a pod, and why (section 4.2 row 13).

use std::collections::BTreeMap;

use super::strip_combined;

/// Nodes by the reason they give, from the scheduler's message
/// `0/5 nodes are available: 3 Insufficient cpu, 2 node(s) had untolerated taint {k: v}. preemption: …`.
///
/// A reason that concerns the pod and no node, such as an unbound claim, counts every node of the message. What is
/// said of preemption repeats the same nodes and is left out. Empty when the message is of another form.
pub fn refusals(message: &str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    let message = strip_combined(message);
    let Some((head, reasons)) = message.split_once(" nodes are available: ") else {
        return counts;
    };
    let total = head
        .rsplit_once('/')
        .and_then(|(_, total)| total.parse().ok())
        .unwrap_or(0);
    let reasons = reasons
        .split_once(" preemption: ")
        .map_or(reasons, |(reasons, _)| reasons)
        .trim_end()
        .trim_end_matches('.');
    // Old schedulers write a comma inside a reason: "had taint {x: }, that the pod didn't tolerate".
    let mut parts: Vec<(u32, String)> = Vec::new();
    for part in reasons.split(", ") {
        let counted = part
            .split_once(' ')
            .and_then(|(count, reason)| Some((count.parse::<u32>().ok()?, reason)));
        match (counted, parts.last_mut()) {
            (Some((count, reason)), _) => parts.push((count, reason.to_owned())),
            (None, Some((_, last))) => {
                last.push_str(", ");
                last.push_str(part);
            }
            (None, None) => parts.push((total, part.to_owned())),
        }
    }
    for (count, reason) in parts {
        let reason = reason
            .strip_prefix("node(s) ")
            .unwrap_or(&reason)
            .trim_end_matches('.')
            .to_owned();
        if reason.is_empty() {
            continue;
        }
        let sum: &mut u32 = counts.entry(reason).or_default();
        *sum = sum.saturating_add(count);
    }
    counts
}
