//! Nodes in trouble (section 4.2 row 16).

use std::{sync::Arc, time::Duration};

use tawny_model::observed::{Condition, ConditionStatus, NodeState};

use super::{Context, is_over};
use crate::{
    Cause,
    occurrence::{Findings, Health, Occurrence, Scope, Subject, bounded},
};

/// Conditions that are bad when true: the kubelet's, and those of node-problem-detector.
const BAD_WHEN_TRUE: &[&str] = &[
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "NetworkUnavailable",
    "KernelDeadlock",
    "ReadonlyFilesystem",
];

/// A node that has just joined is not ready until its network is up.
const JOINING_GRACE: Duration = Duration::from_secs(2 * 60);

/// Looks at a node: one occurrence for each time a condition turned bad.
pub fn node(node: &NodeState, context: &Context) -> Findings {
    let mut found = Findings::default();
    let mut is_healthy = true;
    for condition in &node.conditions {
        if !is_bad(condition) {
            continue;
        }
        is_healthy = false;
        let is_joining = &*condition.kind == "Ready"
            && node
                .created
                .is_some_and(|at| !is_over(context.now, at, JOINING_GRACE, &mut found));
        if is_joining {
            continue;
        }
        let began = condition
            .changed
            .map_or_else(|| "-".to_owned(), |at| at.as_secs().to_string());
        found.occurrences.push(Occurrence {
            key: format!("node/{}/{}/{began}", node.name, condition.kind),
            at: condition.changed.unwrap_or(context.now),
            cause: Cause::Node {
                condition: Arc::clone(&condition.kind),
            },
            subject: Subject {
                cluster: Arc::clone(&context.cluster),
                node: Arc::clone(&node.name),
                ..Subject::default()
            },
            signatures: Vec::new(),
            run: None,
            message: bounded(&condition.message),
            existing: condition
                .changed
                .is_none_or(|at| at < context.watching_since),
        });
    }
    let health = if is_healthy {
        Health::Healthy
    } else {
        Health::Unhealthy
    };
    found
        .health
        .push((Scope::Node(Arc::clone(&node.name)), health));
    found
}

fn is_bad(condition: &Condition) -> bool {
    if &*condition.kind == "Ready" {
        return condition.status != ConditionStatus::True;
    }
    BAD_WHEN_TRUE.contains(&&*condition.kind) && condition.status == ConditionStatus::True
}
