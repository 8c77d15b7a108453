//! Containers that died, and who killed them: crashes, proven want of memory, probes, grace periods, plain signals
//! (section 4.2 rows 1 to 6).

use std::{sync::Arc, time::Duration};

use tawny_model::observed::{ContainerKind, ContainerState, RestartPolicy, Run, Terminated};

use super::{
    Look, disruption,
    killing::{Killing, killing},
    oom,
};
use crate::{
    Cause,
    cause::OomEvidence,
    exit::{Exit, SIGKILL, SIGTERM},
    message::go_duration_secs,
    occurrence::{DeadRun, Findings, Marker, MarkerKind, Occurrence, bounded, death_key},
};

const CRASH_LOOP: &str = "CrashLoopBackOff";

/// A death that a status tells of.
struct Death<'a> {
    container: &'a ContainerState,
    restart: u32,
    /// No other run came after it.
    is_latest: bool,
    /// `None` when only the restart count tells.
    terminated: Option<&'a Terminated>,
    /// The status never told of it, and went on to a later death, which is the one in `terminated`.
    is_skipped: bool,
}

/// Runs a status may have skipped at once; a count that jumps further was made up anew by the kubelet.
const MAX_SKIPPED: u32 = 8;

enum Verdict {
    Nothing,
    Planned(MarkerKind),
    Because(Cause),
}

pub(super) fn detect(look: &Look<'_>, found: &mut Findings) {
    for container in &look.pod.containers {
        let deaths = deaths(look, container);
        for death in &deaths {
            report(look, death, found);
        }
        let ended: Vec<&Terminated> = deaths
            .iter()
            .filter(|death| !death.is_skipped)
            .filter_map(|death| death.terminated)
            .collect();
        oom::child_kills(look, container, &ended, found);
    }
}

/// The deaths of a container its status tells of: the run before the latest, and the latest if it ended.
fn deaths<'a>(look: &Look<'_>, container: &'a ContainerState) -> Vec<Death<'a>> {
    let mut deaths = Vec::new();
    let count = container.restart_count;
    // A run the kubelet lost sight of is counted as restarted at once, unless its pod ends.
    let counts_lost = look.pod.deletion.is_none() && !look.pod.is_over();
    let is_ahead = |terminated: &Terminated| counts_lost && &*terminated.reason == STATUS_UNKNOWN;
    if let Some(last) = &container.last {
        // While the kubelet waits before it starts a container again, it shows the latest run as the last one.
        let is_latest = matches!(container.state, Run::Waiting { .. });
        deaths.push(Death {
            container,
            restart: if is_latest && !is_ahead(last) {
                count
            } else {
                count.saturating_sub(1)
            },
            is_latest,
            terminated: Some(last),
            is_skipped: false,
        });
    } else if container.waiting_reason() == CRASH_LOOP {
        deaths.push(Death {
            container,
            restart: count,
            is_latest: true,
            terminated: None,
            is_skipped: false,
        });
    } else if counted_up(look, container)
        && !matches!(&container.state, Run::Terminated(terminated) if is_ahead(terminated))
    {
        // BB-8: the count grew, but the kubelet has cleaned the dead container away already.
        deaths.push(Death {
            container,
            restart: count.saturating_sub(1),
            is_latest: false,
            terminated: None,
            is_skipped: false,
        });
    }
    if let Run::Terminated(terminated) = &container.state {
        deaths.push(Death {
            container,
            restart: if is_ahead(terminated) {
                count.saturating_sub(1)
            } else {
                count
            },
            is_latest: true,
            terminated: Some(terminated),
            is_skipped: false,
        });
    }
    deaths.extend(skipped(look, container, &deaths));
    deaths
}

/// Runs between what was seen at the look before and the first death of now: each began and ended in between, as the
/// first of a crash loop do, between which the kubelet does not wait.
fn skipped<'a>(
    look: &Look<'_>,
    container: &'a ContainerState,
    deaths: &[Death<'a>],
) -> Vec<Death<'a>> {
    let first = deaths.iter().min_by_key(|death| death.restart);
    let before = look
        .before
        .and_then(|before| before.container(&container.name));
    let (Some(first), Some(before)) = (first, before) else {
        return Vec::new();
    };
    // Without ids nothing says that the dead run is another than the one seen before.
    let is_another =
        |it: &&Terminated| !it.container_id.is_empty() && it.container_id != before.container_id;
    let Some(terminated) = first.terminated.filter(is_another) else {
        return Vec::new();
    };
    // The latest run of then had not ended, unless its end was told.
    let was_told = match &before.state {
        Run::Running { .. } => false,
        Run::Waiting { .. } => before.last.is_some(),
        Run::Terminated(_) => true,
    };
    let from = before.restart_count + u32::from(was_told);
    if first.restart.saturating_sub(from) > MAX_SKIPPED {
        return Vec::new();
    }
    let runs = from..first.restart;
    runs.map(|restart| Death {
        container,
        restart,
        is_latest: false,
        terminated: Some(terminated),
        is_skipped: true,
    })
    .collect()
}

/// What the kubelet writes for a container it can no longer ask the runtime about.
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

fn counted_up(look: &Look<'_>, container: &ContainerState) -> bool {
    look.before
        .and_then(|before| before.container(&container.name))
        .is_some_and(|before| before.restart_count < container.restart_count)
}

fn report(look: &Look<'_>, death: &Death<'_>, found: &mut Findings) {
    let container = death.container;
    // Of a run that was skipped nothing is known but that it ended before the next, and most likely as that did.
    let terminated = death.terminated.filter(|_| !death.is_skipped);
    let container_id = terminated.map_or("", |it| &*it.container_id);
    let key = death_key(container_id, &look.pod.uid, &container.name, death.restart);
    let finished_at = terminated.and_then(|it| it.finished_at);
    let next = death.terminated.filter(|_| death.is_skipped);
    let at = finished_at
        .or_else(|| next.and_then(|next| next.started_at))
        .unwrap_or(look.context.now);
    let message = terminated.map_or("", |it| &*it.message);
    match verdict(look, death) {
        Verdict::Nothing => {}
        Verdict::Planned(kind) => found.markers.push(Marker {
            key,
            at,
            kind,
            subject: look.subject(Some(container)),
            message: bounded(message),
        }),
        Verdict::Because(cause) => found.occurrences.push(Occurrence {
            key,
            at,
            cause,
            subject: look.subject(Some(container)),
            signatures: Vec::new(),
            run: Some(DeadRun {
                container_id: container_id.into(),
                restart: death.restart,
                restarting: restarts(look, death),
                exit: terminated.map(Exit::of),
                reason: terminated.map_or_else(|| "".into(), |it| Arc::clone(&it.reason)),
                started_at: terminated.and_then(|it| it.started_at),
                finished_at,
                image: Arc::clone(&container.image),
                image_id: Arc::clone(&container.image_id),
                requests: container.requests,
                limits: container.limits,
                back_off_secs: back_off(container),
            }),
            message: bounded(message),
            existing: look.context.is_existing(look.before.is_some(), finished_at),
        }),
    }
}

/// Whether another run follows the one that ended, or has followed already.
fn restarts(look: &Look<'_>, death: &Death<'_>) -> bool {
    if !death.is_latest {
        return true;
    }
    let by_policy = match death.container.kind {
        ContainerKind::Ephemeral => false,
        ContainerKind::Sidecar => true,
        ContainerKind::App | ContainerKind::Init => look.pod.restart_policy != RestartPolicy::Never,
    };
    by_policy && !look.pod.is_over() && look.pod.deletion.is_none()
}

/// Who or what ended the run. The order is that of certainty: proofs, then what others say they did, then the code.
fn verdict(look: &Look<'_>, death: &Death<'_>) -> Verdict {
    let container = death.container;
    let Some(terminated) = death.terminated else {
        return Verdict::Because(match container.kind {
            ContainerKind::Init => Cause::InitFailure { exit: None },
            _ => Cause::Crash { exit: None },
        });
    };
    let exit = Exit::of(terminated);
    if &*terminated.reason == "OOMKilled" {
        return Verdict::Because(Cause::OutOfMemory {
            proof: OomEvidence::Status,
        });
    }
    if exit.is_success() {
        return completion(look, death, terminated);
    }
    if exit.signal() == Some(SIGKILL)
        && look
            .ooms
            .iter()
            .any(|proof| oom::proves(proof, &container.name, terminated))
    {
        return Verdict::Because(Cause::OutOfMemory {
            proof: OomEvidence::Cgroup,
        });
    }
    // Somebody at a shell in a debug container ended it; it serves nobody.
    if container.kind == ContainerKind::Ephemeral && exit.signal().is_some_and(|_| exit.is_stop()) {
        return Verdict::Nothing;
    }
    if death.is_latest && disruption::ended(look.pod, terminated) {
        return Verdict::Planned(MarkerKind::PodEnded);
    }
    match killing(look, container, terminated) {
        Some(Killing::Probe(probe)) => return Verdict::Because(Cause::ProbeKill { probe }),
        Some(Killing::Replaced) => return Verdict::Planned(MarkerKind::Replaced),
        Some(Killing::Hook) => return Verdict::Because(failed_hook()),
        Some(Killing::Stopping) | None => {}
    }
    if died_in_deletion(look, container, terminated) {
        return deletion(look, exit, terminated);
    }
    if matches!(
        &*terminated.reason,
        "StartError" | "ContainerCannotRun" | "RunContainerError"
    ) {
        return Verdict::Because(Cause::StartFailed {
            reason: Arc::clone(&terminated.reason),
        });
    }
    if &*terminated.reason == STATUS_UNKNOWN
        || (exit.code == 255 && &*terminated.reason == "Unknown")
    {
        return Verdict::Because(Cause::Lost);
    }
    if container.kind == ContainerKind::Sidecar && outlived_its_pod(look, terminated) {
        return Verdict::Planned(MarkerKind::SidecarDone);
    }
    Verdict::Because(match exit.signal() {
        Some(SIGKILL) => Cause::Killed,
        Some(SIGTERM) => Cause::Terminated,
        _ if container.kind == ContainerKind::Init => Cause::InitFailure { exit: Some(exit) },
        _ => Cause::Crash { exit: Some(exit) },
    })
}

fn failed_hook() -> Cause {
    Cause::Config {
        reason: "PostStartHookError".into(),
        missing: None,
    }
}

/// Exit 0: what init containers and Jobs are for, and what a service should not do.
fn completion(look: &Look<'_>, death: &Death<'_>, terminated: &Terminated) -> Verdict {
    let runs_for_ever = match death.container.kind {
        ContainerKind::App => look.pod.restart_policy == RestartPolicy::Always,
        ContainerKind::Sidecar => !outlived_its_pod(look, terminated),
        ContainerKind::Init | ContainerKind::Ephemeral => false,
    };
    if !runs_for_ever || look.pod.is_over() {
        return Verdict::Nothing;
    }
    if died_in_deletion(look, death.container, terminated) {
        return Verdict::Planned(MarkerKind::Deleted);
    }
    match killing(look, death.container, terminated) {
        Some(Killing::Probe(probe)) => Verdict::Because(Cause::ProbeKill { probe }),
        Some(Killing::Replaced) => Verdict::Planned(MarkerKind::Replaced),
        Some(Killing::Hook) => Verdict::Because(failed_hook()),
        Some(Killing::Stopping) | None => Verdict::Because(Cause::UnexpectedCompletion),
    }
}

/// What a death during the pod's deletion means: planned, unless it took the kubelet's SIGKILL after the grace.
fn deletion(look: &Look<'_>, exit: Exit, terminated: &Terminated) -> Verdict {
    let Some(deletion) = &look.pod.deletion else {
        return Verdict::Planned(MarkerKind::Deleted);
    };
    let is_due = terminated.finished_at.is_some_and(|at| {
        // `finishedAt` and the deletion's time are both cut to whole seconds.
        at.saturating_add(Duration::from_secs(1)) >= deletion.due
    });
    // With a grace of 0 the SIGKILL is what was asked for.
    if exit.signal() == Some(SIGKILL) && is_due && deletion.grace_secs != Some(0) {
        return Verdict::Because(Cause::GraceOverrun {
            grace_secs: deletion.grace_secs,
        });
    }
    Verdict::Planned(disruption::kind(look.pod).unwrap_or(MarkerKind::Deleted))
}

/// Whether the run ended after its pod's deletion was asked for.
///
/// The node and the API server may have different clocks, so that what was seen in order counts more than times: a
/// container that still ran when the pod was being deleted already, or that the kubelet says it stopped.
fn died_in_deletion(look: &Look<'_>, container: &ContainerState, terminated: &Terminated) -> bool {
    let Some(deletion) = &look.pod.deletion else {
        return false;
    };
    let ran_in_deletion = look.before.is_some_and(|before| {
        before.deletion.is_some()
            && before.container(&container.name).is_some_and(|before| {
                before.is_running() && before.container_id == terminated.container_id
            })
    });
    let was_stopped = matches!(
        killing(look, container, terminated),
        Some(Killing::Stopping)
    );
    ran_in_deletion
        || was_stopped
        || terminated
            .finished_at
            .is_none_or(|at| at >= deletion.requested())
}

/// Whether every container the sidecar served has ended before it.
fn outlived_its_pod(look: &Look<'_>, terminated: &Terminated) -> bool {
    let mut apps = look
        .pod
        .containers
        .iter()
        .filter(|container| container.kind == ContainerKind::App)
        .peekable();
    apps.peek().is_some()
        && apps.all(|app| match &app.state {
            Run::Terminated(app) => app.finished_at <= terminated.finished_at,
            Run::Waiting { .. } | Run::Running { .. } => false,
        })
}

/// The delay in `back-off 5m0s restarting failed container=…`.
fn back_off(container: &ContainerState) -> Option<u64> {
    if container.waiting_reason() != CRASH_LOOP {
        return None;
    }
    let (_, rest) = container.waiting_message().split_once("back-off ")?;
    go_duration_secs(rest.split_ascii_whitespace().next()?)
}

/// Whether the runtime could not start the container's command, which is a death with a key of its own.
pub(super) fn has_died_starting(container: &ContainerState) -> bool {
    let failed_to_start = |terminated: &Terminated| {
        matches!(
            &*terminated.reason,
            "StartError" | "ContainerCannotRun" | "RunContainerError"
        )
    };
    container.last.as_ref().is_some_and(failed_to_start)
        || matches!(&container.state, Run::Terminated(terminated) if failed_to_start(terminated))
}
