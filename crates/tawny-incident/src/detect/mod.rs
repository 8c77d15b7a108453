//! Detection: from what an object looks like now, what it looked like before, and what was heard about it, to what
//! went wrong (section 4.2).
//!
//! Every look tells all that can be seen, each time with the same keys; the book (`crate::book`) makes it once. So a
//! relist, a skipped state or a restart of the watcher changes nothing. What depends on time takes the time as an
//! argument and says when to look again.

mod collector;
mod config;
mod cron;
mod death;
mod disruption;
mod event;
mod image;
mod job;
mod killing;
mod logs;
mod node;
mod oom;
mod probe;
mod rollout;
mod scheduling;
mod stuck;
mod volume;

use std::{sync::Arc, time::Duration};

use tawny_model::{
    Timestamp,
    observed::{
        Condition, ConditionStatus, ContainerState, KubeEvent, PodPhase, PodState, condition,
    },
};

use crate::{
    Cause,
    message::strip_combined,
    occurrence::{Findings, Health, Occurrence, Scope, Subject, bounded},
};

pub use collector::{CollectorTrouble, collector};
pub use event::{EventContext, event};
pub use job::{cron_job, job};
pub use logs::{ErrorStep, LogSignature, error_step, log_signatures};
pub use node::node;
pub use rollout::{autoscaler, workload};
pub use stuck::namespace;

/// When and where is looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub cluster: Arc<str>,
    /// The watcher's clock.
    pub now: Timestamp,
    /// Since when is watched. What happened before, on an object never seen before, is marked as existing. A watcher
    /// that restored its book passes the time it was saved, so that what happened while it was away is news.
    pub watching_since: Timestamp,
}

/// The kernel killed a process for want of memory in a container's cgroup: `memory.events` `oom_kill` (v2) or
/// `memory.oom_control` `oom_kill` (v1) grew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomProof {
    pub pod_uid: Arc<str>,
    /// With or without the runtime's prefix; empty when only the container's name is known.
    pub container_id: Arc<str>,
    /// Empty when only the id is known.
    pub container: Arc<str>,
    /// When the count was seen to have grown.
    pub at: Timestamp,
    /// The count after it grew: two kills of one container have different ones.
    pub kills: u64,
}

/// What was heard about a pod beside its own status.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// Recent events; those about other objects are left aside.
    pub events: &'a [KubeEvent],
    /// Recent proofs; those about other pods are left aside.
    pub ooms: &'a [OomProof],
    /// No replica of the pod's workload is ready, as far as that is known.
    pub no_replica_ready: bool,
}

/// One look at a pod.
pub(crate) struct Look<'a> {
    before: Option<&'a PodState>,
    pod: &'a PodState,
    events: Vec<&'a KubeEvent>,
    ooms: Vec<&'a OomProof>,
    no_replica_ready: bool,
    context: &'a Context,
}

/// Looks at a pod: all deaths its status still tells of, and every trouble it is in.
///
/// `before` is what the pod looked like at the look before, `None` at the first. Look at the final state of a deleted
/// pod too, and then tell the book that it is [`gone`].
pub fn pod(
    before: Option<&PodState>,
    pod: &PodState,
    evidence: Evidence<'_>,
    context: &Context,
) -> Findings {
    let look = Look {
        before: before.filter(|before| before.uid == pod.uid),
        pod,
        events: evidence
            .events
            .iter()
            .filter(|event| event.object.uid == pod.uid && !pod.uid.is_empty())
            .collect(),
        ooms: evidence
            .ooms
            .iter()
            .filter(|proof| proof.pod_uid == pod.uid)
            .collect(),
        no_replica_ready: evidence.no_replica_ready,
        context,
    };
    let mut found = Findings::default();
    disruption::detect(&look, &mut found);
    death::detect(&look, &mut found);
    stuck::terminating(&look, &mut found);
    if pod.deletion.is_none() && !pod.is_over() {
        image::detect(&look, &mut found);
        config::detect(&look, &mut found);
        probe::detect(&look, &mut found);
        scheduling::detect(&look, &mut found);
        volume::detect(&look, &mut found);
        stuck::pending(&look, &mut found);
    }
    found
        .health
        .push((Scope::Pod(Arc::clone(&pod.uid)), health(pod)));
    found
}

/// What the deletion of an object from the API tells.
pub fn gone(scope: Scope) -> Findings {
    Findings {
        health: vec![(scope, Health::Gone)],
        ..Findings::default()
    }
}

fn health(pod: &PodState) -> Health {
    let serves = |container: &ContainerState| {
        use tawny_model::observed::ContainerKind::{App, Sidecar};
        !matches!(container.kind, App | Sidecar) || (container.is_running() && container.ready)
    };
    let is_healthy = match pod.phase {
        PodPhase::Succeeded => true,
        PodPhase::Running => {
            pod.deletion.is_none()
                && !pod.containers.is_empty()
                && pod.containers.iter().all(serves)
        }
        PodPhase::Pending | PodPhase::Failed | PodPhase::Unknown => false,
    };
    if is_healthy {
        Health::Healthy
    } else {
        Health::Unhealthy
    }
}

impl Context {
    /// Whether something that began at `at` was there before watching began.
    fn is_existing(&self, seen_before: bool, at: Option<Timestamp>) -> bool {
        !seen_before && at.is_none_or(|at| at < self.watching_since)
    }
}

impl<'a> Look<'a> {
    fn subject(&self, container: Option<&ContainerState>) -> Subject {
        let pod = self.pod;
        Subject {
            cluster: Arc::clone(&self.context.cluster),
            namespace: Arc::clone(&pod.namespace),
            workload: pod.workload.clone(),
            pod: Arc::clone(&pod.name),
            pod_uid: Arc::clone(&pod.uid),
            node: Arc::clone(&pod.node),
            container: container.map_or_else(|| "".into(), |it| Arc::clone(&it.name)),
            container_kind: container.map(|it| it.kind),
        }
    }

    /// A trouble the pod is in: one occurrence per pod, container, class and detail.
    fn trouble(
        &self,
        container: Option<&ContainerState>,
        cause: Cause,
        since: Option<Timestamp>,
        message: &str,
    ) -> Occurrence {
        let subject = self.subject(container);
        let mut key = trouble_key(&subject, &cause);
        // What tells one episode of a pod's from the next: the run it keeps from starting, or when it began.
        match (&cause, container, since) {
            (Cause::Unready { .. }, _, Some(since)) => {
                key.push_str(&format!("/{}", since.as_secs()))
            }
            (_, Some(container), _) if container.restart_count > 0 => {
                key.push_str(&format!("/{}", container.restart_count));
            }
            _ => {}
        }
        Occurrence {
            key,
            at: since.unwrap_or(self.context.now),
            existing: self.context.is_existing(self.before.is_some(), since),
            cause,
            subject,
            signatures: Vec::new(),
            run: None,
            message: bounded(strip_combined(message)),
        }
    }

    fn condition(&self, kind: &str) -> Option<&'a Condition> {
        condition(&self.pod.conditions, kind)
    }

    /// The latest event with one of these reasons, about the container if one is given.
    fn event(&self, container: Option<&str>, reasons: &[&str]) -> Option<&'a KubeEvent> {
        self.event_where(container, reasons, |_| true)
    }

    /// The latest of those events that is also `wanted`.
    fn event_where(
        &self,
        container: Option<&str>,
        reasons: &[&str],
        wanted: impl Fn(&KubeEvent) -> bool,
    ) -> Option<&'a KubeEvent> {
        self.events
            .iter()
            .filter(|event| reasons.contains(&&*event.reason))
            .filter(|event| container.is_none_or(|name| *event.object.container == *name))
            .filter(|event| wanted(event))
            .max_by_key(|event| event.at)
            .copied()
    }

    /// Since when a trouble lasts that has no time of its own: its event's time, else now, else, when the pod is seen
    /// for the first time, the pod's.
    fn since(&self, event: Option<&KubeEvent>) -> Option<Timestamp> {
        match (event, self.before) {
            (Some(event), _) => Some(event.at),
            (None, Some(_)) => Some(self.context.now),
            (None, None) => self.scheduled_at(),
        }
    }

    /// When the pod was given to its node, or, if that is not told, made.
    fn scheduled_at(&self) -> Option<Timestamp> {
        self.condition("PodScheduled")
            .filter(|condition| condition.status == ConditionStatus::True)
            .and_then(|condition| condition.changed)
            .or(self.pod.created)
    }

    /// Whether `grace` since `from` is over; if not, asks for another look when it is.
    fn is_over(&self, from: Timestamp, grace: Duration, found: &mut Findings) -> bool {
        is_over(self.context.now, from, grace, found)
    }
}

fn is_over(now: Timestamp, from: Timestamp, grace: Duration, found: &mut Findings) -> bool {
    let end = from.saturating_add(grace);
    if end > now {
        found.recheck(end);
    }
    end <= now
}

/// The key of a trouble: of a pod's, one per pod instance, container, class and detail.
fn trouble_key(subject: &Subject, cause: &Cause) -> String {
    let detail = match cause {
        // The refusing nodes change while the same pod waits, and finalizers are taken off one by one.
        Cause::Unschedulable { .. } | Cause::StuckTerminating { .. } => String::new(),
        // One pod, one trouble of each kind: messages of the same cause vary while it lasts.
        Cause::Sandbox { .. } => String::new(),
        other => other.detail(),
    };
    format!(
        "pod/{}/{}/{}/{detail}",
        subject.pod_uid,
        subject.container,
        cause.class()
    )
}

#[cfg(test)]
mod tests;
