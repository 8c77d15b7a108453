//! Workloads that do not get their pods, and autoscalers that cannot scale (section 4.2 rows 19 and 22).

use std::{sync::Arc, time::Duration};

use tawny_model::{
    Workload,
    observed::{Condition, ConditionStatus, HpaState, WorkloadState, condition},
};

use super::{Context, is_over};
use crate::{
    Cause,
    cause::Refusal,
    message::{has_any, template},
    occurrence::{Findings, Health, Occurrence, Subject, bounded},
};

/// An autoscaler has no metrics of pods that are not up yet.
const AUTOSCALER_GRACE: Duration = Duration::from_secs(2 * 60);

/// Looks at a Deployment, ReplicaSet, StatefulSet or DaemonSet.
pub fn workload(state: &WorkloadState, context: &Context) -> Findings {
    let mut found = Findings::default();
    let subject = Subject {
        cluster: Arc::clone(&context.cluster),
        namespace: Arc::clone(&state.namespace),
        workload: Some(state.workload.clone()),
        ..Subject::default()
    };
    let stuck = condition(&state.conditions, "Progressing").filter(|condition| {
        condition.status == ConditionStatus::False
            && &*condition.reason == "ProgressDeadlineExceeded"
    });
    let refused = condition(&state.conditions, "ReplicaFailure")
        .filter(|condition| condition.status == ConditionStatus::True);
    for condition in stuck.into_iter().chain(refused) {
        found.occurrences.push(Occurrence {
            key: transition_key("workload", &state.uid, condition),
            at: condition.changed.unwrap_or(context.now),
            cause: Cause::Rollout {
                reason: Arc::clone(&condition.reason),
                refusal: refusal(&condition.message),
            },
            subject: subject.clone(),
            signatures: Vec::new(),
            run: None,
            message: bounded(&condition.message),
            existing: condition
                .changed
                .is_none_or(|at| at < context.watching_since),
        });
    }
    let is_healthy = found.occurrences.is_empty() && state.ready >= state.desired;
    let health = if is_healthy {
        Health::Healthy
    } else {
        Health::Unhealthy
    };
    let scope = subject.workload_scope();
    found.health.extend(scope.map(|scope| (scope, health)));
    found
}

/// Looks at a HorizontalPodAutoscaler.
pub fn autoscaler(hpa: &HpaState, context: &Context) -> Findings {
    let mut found = Findings::default();
    let subject = Subject {
        cluster: Arc::clone(&context.cluster),
        namespace: Arc::clone(&hpa.namespace),
        workload: Some(Workload {
            kind: "HorizontalPodAutoscaler".into(),
            name: Arc::clone(&hpa.name),
        }),
        ..Subject::default()
    };
    let mut is_healthy = true;
    for condition in hpa.conditions.iter().filter(|it| is_bad(it)) {
        is_healthy = false;
        let since = condition.changed.unwrap_or(context.now);
        if !is_over(context.now, since, AUTOSCALER_GRACE, &mut found) {
            continue;
        }
        found.occurrences.push(Occurrence {
            key: transition_key("hpa", &hpa.uid, condition),
            at: since,
            cause: Cause::Autoscaler {
                reason: Arc::clone(&condition.reason),
            },
            subject: subject.clone(),
            signatures: Vec::new(),
            run: None,
            message: bounded(&condition.message),
            existing: since < context.watching_since,
        });
    }
    let health = if is_healthy {
        Health::Healthy
    } else {
        Health::Unhealthy
    };
    let scope = subject.workload_scope();
    found.health.extend(scope.map(|scope| (scope, health)));
    found
}

/// At its minimum an autoscaler is limited too, and scaled to zero it is inactive: both are as they should be.
fn is_bad(condition: &Condition) -> bool {
    match (&*condition.kind, condition.status) {
        ("ScalingActive", ConditionStatus::False) => &*condition.reason != "ScalingDisabled",
        ("AbleToScale", ConditionStatus::False) => true,
        ("ScalingLimited", ConditionStatus::True) => &*condition.reason == "TooManyReplicas",
        _ => false,
    }
}

/// One occurrence for each time the condition turned.
fn transition_key(kind: &str, uid: &str, condition: &Condition) -> String {
    let began = condition
        .changed
        .map_or_else(|| "-".to_owned(), |at| at.as_secs().to_string());
    format!(
        "{kind}/{uid}/{}/{}/{began}",
        condition.kind, condition.reason
    )
}

/// Who refused, from the API server's answer to the controller.
pub(super) fn refusal(message: &str) -> Refusal {
    let says = |needles: &[&str]| has_any(message, needles);
    if says(&["exceeded quota", "failed quota"]) {
        Refusal::Quota
    } else if says(&["violates podsecurity", "podsecuritypolicy"]) {
        Refusal::PodSecurity
    } else if says(&["admission webhook", "failed calling webhook"]) {
        Refusal::Webhook
    } else if says(&[
        "maximum cpu",
        "maximum memory",
        "minimum cpu",
        "minimum memory",
        "limitrange",
    ]) {
        Refusal::LimitRange
    } else if says(&["serviceaccount", "service account"]) {
        Refusal::ServiceAccount
    } else if says(&["forbidden"]) {
        Refusal::Forbidden
    } else {
        Refusal::Other
    }
}

/// The Deployment a ReplicaSet's name tells: `web-5d4f8c7b9d` → `web`.
///
/// The suffix is a hash over the alphabet of `k8s.io/apimachinery/pkg/util/rand`, so `web-canary` is told apart.
pub(super) fn owner_by_name(kind: &str, name: &str) -> Workload {
    let hashless = name
        .rsplit_once('-')
        .filter(|(_, hash)| kind == "ReplicaSet" && hash.len() >= 5 && template(hash, &[]) == "#");
    match hashless {
        Some((deployment, _)) => Workload {
            kind: "Deployment".into(),
            name: deployment.into(),
        },
        None => Workload {
            kind: kind.into(),
            name: name.into(),
        },
    }
}
