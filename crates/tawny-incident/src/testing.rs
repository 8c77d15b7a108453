//! Pods, containers and events as tests write them down, with the values Kubernetes gives where a test names none.

use std::sync::Arc;

use tawny_model::{
    Timestamp, Workload,
    observed::{
        Condition, ConditionStatus, ContainerKind, ContainerState, Deletion, EventKind, KubeEvent,
        ObjectRef, PodPhase, PodState, Resources, Run, Terminated,
    },
};

use crate::{Context, Evidence, Findings, Occurrence, detect};

/// Seconds after 2026-11-21T10:00:00Z.
pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_795_255_200 + secs)
}

pub(crate) const LONG_AGO: i64 = -86_400;

pub(crate) fn context(now: i64) -> Context {
    Context {
        cluster: "prod".into(),
        now: at(now),
        watching_since: at(LONG_AGO),
    }
}

/// A running pod of Deployment shop/api, made at second 0, with one ready container `web`.
pub(crate) fn pod() -> PodState {
    PodState {
        uid: "7b0a3e9c-5f1d-4c2b-9e1f-3d8f5a6b7c8d".into(),
        namespace: "shop".into(),
        name: "api-5d4f8c7b9d-x2x9z".into(),
        node: "n1".into(),
        phase: PodPhase::Running,
        created: Some(at(0)),
        workload: Some(workload("Deployment", "api")),
        conditions: vec![
            condition("PodScheduled", ConditionStatus::True, "", 0),
            condition("Ready", ConditionStatus::True, "", 5),
        ],
        containers: vec![container("web")],
        ..PodState::default()
    }
}

pub(crate) fn workload(kind: &str, name: &str) -> Workload {
    Workload {
        kind: kind.into(),
        name: name.into(),
    }
}

pub(crate) fn container(name: &str) -> ContainerState {
    ContainerState {
        kind: ContainerKind::App,
        name: name.into(),
        image: "registry.test/api:1.4".into(),
        image_id: "registry.test/api@sha256:0f6c".into(),
        container_id: id(name, 0),
        ready: true,
        started: Some(true),
        state: running(2),
        limits: Resources {
            cpu_millis: Some(500),
            memory_bytes: Some(512 << 20),
        },
        ..ContainerState::default()
    }
}

/// The runtime's id of a container's nth run.
pub(crate) fn id(name: &str, restart: u32) -> Arc<str> {
    format!("containerd://{name}-{restart}").into()
}

pub(crate) fn running(since: i64) -> Run {
    Run::Running {
        started_at: Some(at(since)),
    }
}

pub(crate) fn waiting(reason: &str, message: &str) -> Run {
    Run::Waiting {
        reason: reason.into(),
        message: message.into(),
    }
}

/// The end at second `finished` of the nth run of `web`, begun 30 s before.
pub(crate) fn dead(code: i32, reason: &str, finished: i64, restart: u32) -> Terminated {
    Terminated {
        exit_code: code,
        reason: reason.into(),
        started_at: Some(at(finished - 30)),
        finished_at: Some(at(finished)),
        container_id: id("web", restart),
        ..Terminated::default()
    }
}

pub(crate) fn condition(
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    changed: i64,
) -> Condition {
    Condition {
        kind: kind.into(),
        status,
        reason: reason.into(),
        message: "".into(),
        changed: Some(at(changed)),
    }
}

/// A deletion asked for at `requested` with a grace of 30 s.
pub(crate) fn deletion(requested: i64) -> Deletion {
    Deletion {
        due: at(requested + 30),
        grace_secs: Some(30),
    }
}

/// The pod after run `restart` of `web` ended and the next began 2 s later.
pub(crate) fn restarted(terminated: Terminated, restart: u32) -> PodState {
    let mut pod = pod();
    let since = terminated
        .finished_at
        .map_or(0, |end| end.as_secs() - at(0).as_secs() + 2);
    let web = &mut pod.containers[0];
    web.restart_count = restart + 1;
    web.container_id = id("web", restart + 1);
    web.state = running(since);
    web.last = Some(terminated);
    pod
}

/// The pod with `web` over.
pub(crate) fn ended(terminated: Terminated, restart: u32) -> PodState {
    let mut pod = pod();
    let web = &mut pod.containers[0];
    web.restart_count = restart;
    web.container_id = id("web", restart);
    web.ready = false;
    web.state = Run::Terminated(terminated);
    pod
}

pub(crate) fn with_state(state: Run) -> PodState {
    let mut pod = pod();
    pod.phase = PodPhase::Pending;
    pod.containers[0].ready = false;
    pod.containers[0].container_id = "".into();
    pod.containers[0].state = state;
    pod
}

/// An event of the pod [`pod`], about its container `web`.
pub(crate) fn event(reason: &str, message: &str, secs: i64) -> KubeEvent {
    let pod = pod();
    KubeEvent {
        uid: format!("event-{reason}").into(),
        object: ObjectRef {
            kind: "Pod".into(),
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
            container: "web".into(),
        },
        reason: reason.into(),
        message: message.into(),
        kind: EventKind::Warning,
        count: 1,
        at: at(secs),
        component: "kubelet".into(),
        host: "n1".into(),
    }
}

/// An event about any object.
pub(crate) fn event_of(kind: &str, name: &str, reason: &str, message: &str) -> KubeEvent {
    let mut event = event(reason, message, 100);
    event.object = ObjectRef {
        kind: kind.into(),
        namespace: "shop".into(),
        name: name.into(),
        uid: format!("uid-{name}").into(),
        container: "".into(),
    };
    event
}

pub(crate) fn evidence(events: &[KubeEvent]) -> Evidence<'_> {
    Evidence {
        events,
        ..Evidence::default()
    }
}

/// A look at a pod seen running before, at second `now`.
pub(crate) fn look(pod_now: &PodState, events: &[KubeEvent], now: i64) -> Findings {
    detect::pod(Some(&pod()), pod_now, evidence(events), &context(now))
}

/// The one occurrence of a look.
pub(crate) fn only(findings: Findings) -> Occurrence {
    let [occurrence] = <[Occurrence; 1]>::try_from(findings.occurrences)
        .expect("the test expects exactly one occurrence");
    occurrence
}
