//! A pod and its containers.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{
        ContainerState as ApiState, ContainerStateTerminated, ContainerStatus, Pod,
        ResourceRequirements,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use tawny_model::observed::{
    ContainerKind, ContainerState, PodPhase, PodState, Resources, RestartPolicy, Run, Terminated,
};

use super::{conditions, deletion, moment, quantity::quantity, text, uid_and_name};
use crate::facts::{MIRROR_ANNOTATION, non_empty, workload};

/// Extracts what detection reads of a pod.
///
/// The UID is the one its kubelet knows it by, as in its log directory and its events: of a static pod that is the
/// hash of its manifest and not the mirror's.
pub fn pod_state(pod: &Pod) -> Option<PodState> {
    let meta = &pod.metadata;
    let (object_uid, name) = uid_and_name(meta)?;
    let mirrored = meta
        .annotations
        .as_ref()
        .and_then(|all| all.get(MIRROR_ANNOTATION));
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    Some(PodState {
        uid: non_empty(mirrored.map(String::as_str)).map_or(object_uid, Arc::from),
        namespace: text(meta.namespace.as_ref()),
        name,
        node: text(spec.and_then(|spec| spec.node_name.as_ref())),
        phase: match status.and_then(|status| status.phase.as_deref()) {
            Some("Pending") => PodPhase::Pending,
            Some("Running") => PodPhase::Running,
            Some("Succeeded") => PodPhase::Succeeded,
            Some("Failed") => PodPhase::Failed,
            _ => PodPhase::Unknown,
        },
        reason: text(status.and_then(|status| status.reason.as_ref())),
        message: text(status.and_then(|status| status.message.as_ref())),
        created: moment(meta.creation_timestamp.as_ref()),
        deletion: deletion(meta),
        finalizers: meta
            .finalizers
            .iter()
            .flatten()
            .map(|it| it.as_str().into())
            .collect(),
        restart_policy: match spec.and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        },
        workload: workload(meta),
        conditions: conditions!(status.and_then(|status| status.conditions.as_ref())),
        containers: containers(pod),
    })
}

/// The declared containers, each with its status, in the order of the specification.
fn containers(pod: &Pod) -> Vec<ContainerState> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let status = pod.status.as_ref();
    let init = spec.init_containers.iter().flatten().map(|it| {
        let kind = if it.restart_policy.as_deref() == Some("Always") {
            ContainerKind::Sidecar
        } else {
            ContainerKind::Init
        };
        let statuses = status.and_then(|status| status.init_container_statuses.as_ref());
        (
            kind,
            &it.name,
            it.image.as_ref(),
            it.resources.as_ref(),
            statuses,
        )
    });
    let app = spec.containers.iter().map(|it| {
        let statuses = status.and_then(|status| status.container_statuses.as_ref());
        (
            ContainerKind::App,
            &it.name,
            it.image.as_ref(),
            it.resources.as_ref(),
            statuses,
        )
    });
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|it| {
        let statuses = status.and_then(|status| status.ephemeral_container_statuses.as_ref());
        (
            ContainerKind::Ephemeral,
            &it.name,
            it.image.as_ref(),
            it.resources.as_ref(),
            statuses,
        )
    });
    init.chain(app)
        .chain(ephemeral)
        .map(|(kind, name, image, resources, statuses)| {
            let status = statuses
                .into_iter()
                .flatten()
                .find(|status| status.name == *name);
            container(kind, name, image, resources, status)
        })
        .collect()
}

fn container(
    kind: ContainerKind,
    name: &str,
    image: Option<&String>,
    declared: Option<&ResourceRequirements>,
    status: Option<&ContainerStatus>,
) -> ContainerState {
    // A resize in place shows in the status before, or without, the specification.
    let in_force = status
        .and_then(|status| status.resources.as_ref())
        .or(declared);
    let mut container = ContainerState {
        kind,
        name: name.into(),
        image: text(image),
        requests: resources(in_force.and_then(|it| it.requests.as_ref())),
        limits: resources(in_force.and_then(|it| it.limits.as_ref())),
        ..ContainerState::default()
    };
    if let Some(status) = status {
        container.image_id = status.image_id.as_str().into();
        container.container_id = text(status.container_id.as_ref());
        container.restart_count = u32::try_from(status.restart_count).unwrap_or(0);
        container.ready = status.ready;
        container.started = status.started;
        container.state = run(status.state.as_ref());
        container.last = status
            .last_state
            .as_ref()
            .and_then(|last| last.terminated.as_ref())
            .map(terminated);
    }
    container
}

fn run(state: Option<&ApiState>) -> Run {
    let Some(state) = state else {
        return Run::default();
    };
    if let Some(ended) = &state.terminated {
        return Run::Terminated(terminated(ended));
    }
    if let Some(running) = &state.running {
        return Run::Running {
            started_at: moment(running.started_at.as_ref()),
        };
    }
    match &state.waiting {
        Some(waiting) => Run::Waiting {
            reason: text(waiting.reason.as_ref()),
            message: text(waiting.message.as_ref()),
        },
        None => Run::default(),
    }
}

fn terminated(ended: &ContainerStateTerminated) -> Terminated {
    Terminated {
        exit_code: ended.exit_code,
        signal: ended.signal.filter(|signal| *signal != 0),
        reason: text(ended.reason.as_ref()),
        message: text(ended.message.as_ref()),
        started_at: moment(ended.started_at.as_ref()),
        finished_at: moment(ended.finished_at.as_ref()),
        container_id: text(ended.container_id.as_ref()),
    }
}

fn resources(map: Option<&BTreeMap<String, Quantity>>) -> Resources {
    let get = |name: &str, per_unit| quantity(map?.get(name)?, per_unit);
    Resources {
        cpu_millis: get("cpu", 1_000),
        memory_bytes: get("memory", 1),
    }
}
