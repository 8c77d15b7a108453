//! An incident told to a person: one sentence of what died, where, why and how often, some facts, and what to look at.

use serde::{Deserialize, Serialize};
use tawny_model::{Timestamp, observed::ContainerKind};

use crate::{
    Cause, Incident, Occurrence, Subject,
    cause::{OomEvidence, Probe, Refusal},
    hints::hints,
};

/// An incident in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// One sentence, with its full stop.
    pub sentence: String,
    /// Names and values worth showing beside it, in reading order.
    pub facts: Vec<(String, String)>,
    /// What to look at or do, the likeliest first.
    pub hints: Vec<String>,
}

/// Tells an incident.
pub fn story(incident: &Incident) -> Story {
    let occurrence = &incident.latest;
    let times = if incident.count > 1 {
        format!(
            ", {} times since {}",
            incident.count,
            minute(incident.first_at)
        )
    } else {
        String::new()
    };
    Story {
        sentence: format!("{}{times}.", clause(occurrence)),
        facts: facts(occurrence),
        hints: hints(occurrence),
    }
}

/// Tells one occurrence in one sentence.
pub fn sentence(occurrence: &Occurrence) -> String {
    format!("{}.", clause(occurrence))
}

fn clause(occurrence: &Occurrence) -> String {
    format!(
        "{} {}",
        who(&occurrence.subject),
        what(&occurrence.cause, occurrence)
    )
}

/// `Container web of Deployment shop/api (pod api-5d4f8-x2 on node n1)`.
fn who(subject: &Subject) -> String {
    let namespace = &subject.namespace;
    let mut text = String::new();
    if !subject.container.is_empty() {
        let kind = match subject.container_kind {
            Some(ContainerKind::Init) => "Init container",
            Some(ContainerKind::Sidecar) => "Sidecar",
            Some(ContainerKind::Ephemeral) => "Debug container",
            Some(ContainerKind::App) | None => "Container",
        };
        text = format!("{kind} {} of ", subject.container);
    } else if !subject.pod.is_empty() && subject.workload.is_some() {
        text = "A pod of ".to_owned();
    }
    match (&subject.workload, &*subject.pod) {
        (Some(workload), _) => {
            text.push_str(&format!("{} {namespace}/{}", workload.kind, workload.name));
        }
        (None, "") if !subject.node.is_empty() => return format!("Node {}", subject.node),
        (None, "") => return format!("Namespace {namespace}"),
        (None, pod) => {
            let word = if text.is_empty() { "Pod" } else { "pod" };
            text.push_str(&format!("{word} {namespace}/{pod}"));
        }
    }
    let node = (!subject.node.is_empty()).then(|| format!("on node {}", subject.node));
    let pod = (subject.workload.is_some() && !subject.pod.is_empty())
        .then(|| format!("pod {}", subject.pod));
    let place: Vec<String> = pod.into_iter().chain(node).collect();
    if !place.is_empty() {
        text.push_str(&format!(" ({})", place.join(" ")));
    }
    text
}

fn what(cause: &Cause, occurrence: &Occurrence) -> String {
    match cause {
        Cause::Crash { exit, .. } => exit.map_or_else(
            || "died, and its status does not say how".to_owned(),
            |exit| exit.meaning(),
        ),
        Cause::InitFailure { exit } => {
            let how = exit.map_or_else(|| "failed".to_owned(), |exit| exit.meaning());
            format!("{how}, so its pod cannot start")
        }
        Cause::UnexpectedCompletion => {
            "finished with exit code 0 although it should run for ever".to_owned()
        }
        Cause::OutOfMemory { proof } => {
            let limit = occurrence
                .run
                .as_ref()
                .and_then(|run| run.limits.memory_bytes)
                .map(|bytes| format!(" of {}", memory(bytes)))
                .unwrap_or_default();
            let proof = match proof {
                OomEvidence::Status => "",
                OomEvidence::Cgroup => ", which its cgroup counted",
            };
            format!("was killed by the kernel because it reached its memory limit{limit}{proof}")
        }
        Cause::ChildOutOfMemory => {
            "goes on, but the kernel killed one of its processes for want of memory".to_owned()
        }
        Cause::ProbeKill { probe } => {
            format!("was killed by the kubelet because its {} probe failed", probe.name())
        }
        Cause::GraceOverrun { grace_secs } => {
            let grace = grace_secs.map_or_else(
                || "the grace period".to_owned(),
                |secs| format!("the {secs} s it was given"),
            );
            format!("did not stop within {grace} and was killed")
        }
        Cause::Killed => {
            "was killed by SIGKILL, and nothing shows by whom; it is not known to have run out of memory".to_owned()
        }
        Cause::Terminated => "was asked to stop by SIGTERM, and nothing shows by whom".to_owned(),
        Cause::Lost => "was lost: the kubelet no longer knows how it ended".to_owned(),
        Cause::StartFailed { .. } => said("could not be started", occurrence),
        Cause::ImagePull { image, failure } => {
            format!("waits for image {image}: {}", failure.meaning())
        }
        Cause::Config {
            missing: Some(missing),
            ..
        } => format!("cannot be created: {} is missing", missing.label()),
        Cause::Config { reason, .. } => said(&format!("cannot be created ({reason})"), occurrence),
        Cause::Unready { probe } => {
            let probe = match probe {
                Probe::Startup => "its startup probe has not passed",
                Probe::Readiness | Probe::Liveness => "its readiness probe fails",
            };
            format!("runs, but is kept out of service: {probe}")
        }
        Cause::Evicted { resource } if resource.ends_with("limit") => {
            format!("was evicted because it went over its {resource}")
        }
        Cause::Evicted { resource } if resource.is_empty() => {
            "was evicted by the kubelet".to_owned()
        }
        Cause::Evicted { resource } => {
            format!("was evicted because its node ran low on {resource}")
        }
        Cause::Rejected { reason } => said(&format!("was refused or ended by the kubelet ({reason})"), occurrence),
        Cause::Deadline => "ran longer than its deadline and was ended".to_owned(),
        Cause::Unschedulable { refusals } if refusals.is_empty() => {
            said("finds no node that takes it", occurrence)
        }
        Cause::Unschedulable { refusals } => {
            let why: Vec<String> = refusals
                .iter()
                .map(|(why, count)| format!("{count} × {why}"))
                .collect();
            format!("finds no node that takes it: {}", why.join(", "))
        }
        Cause::Gated => "is held back by its scheduling gates".to_owned(),
        Cause::Volume { object, failure } if object.is_empty() => {
            format!("waits for a volume: {}", failure.meaning())
        }
        Cause::Volume { object, failure } => format!("waits for {object}: {}", failure.meaning()),
        Cause::Sandbox { .. } => said("cannot get its sandbox or network", occurrence),
        Cause::SlowCreation => {
            "has not been created after 2 min, and nothing says why".to_owned()
        }
        Cause::Pending => "has been pending for more than 5 min".to_owned(),
        Cause::Node { condition } => match &**condition {
            "Ready" => said("is not ready", occurrence),
            "MemoryPressure" => "is low on memory".to_owned(),
            "DiskPressure" => "is low on disk".to_owned(),
            "PIDPressure" => "is low on process ids".to_owned(),
            "NetworkUnavailable" => "has no pod network".to_owned(),
            "Rebooted" => "was rebooted".to_owned(),
            "SystemOOM" => said("ran out of memory as a whole", occurrence),
            other => said(&format!("reports {other}"), occurrence),
        },
        Cause::Job { reason } => match &**reason {
            "BackoffLimitExceeded" => "failed: its pods failed more often than it may retry".to_owned(),
            "DeadlineExceeded" => "failed: it ran longer than its deadline".to_owned(),
            other => said(&format!("failed ({other})"), occurrence),
        },
        Cause::CronJob { reason } => match &**reason {
            "MissSchedule" => "has not run when it should have".to_owned(),
            "UnparseableSchedule" => "has a schedule that cannot be read".to_owned(),
            other => said(&format!("does not run ({other})"), occurrence),
        },
        Cause::Rollout { reason, .. } if &**reason == "ProgressDeadlineExceeded" => {
            "does not get its new pods ready in time".to_owned()
        }
        Cause::Rollout { refusal, .. } => {
            let who = match refusal {
                Refusal::Quota => "the namespace's quota is used up",
                Refusal::LimitRange => "they are outside the namespace's limit range",
                Refusal::PodSecurity => "they break the namespace's pod security level",
                Refusal::Webhook => "an admission webhook refuses them or does not answer",
                Refusal::ServiceAccount => "their service account is missing",
                Refusal::Forbidden => "the API server forbids it",
                Refusal::Other => "the API server refuses",
            };
            format!("cannot create its pods: {who}")
        }
        Cause::StuckTerminating { finalizers } if finalizers.is_empty() => {
            "should be gone but is still being deleted".to_owned()
        }
        Cause::StuckTerminating { finalizers } => format!(
            "should be gone but is held by {}",
            finalizers.join(", ")
        ),
        Cause::Autoscaler { reason } => said(&format!("cannot scale ({reason})"), occurrence),
        Cause::Collector { .. } => said("is not fully seen by Tawny", occurrence),
    }
}

/// `text: what Kubernetes says`, on one line and without its full stop.
fn said(text: &str, occurrence: &Occurrence) -> String {
    let message = one_line(&occurrence.message);
    let message = message.trim_end_matches('.');
    if message.is_empty() {
        return text.to_owned();
    }
    let shown: String = message.chars().take(MAX_QUOTED_CHARS).collect();
    let more = if shown.len() < message.len() {
        "…"
    } else {
        ""
    };
    format!("{text}: {shown}{more}")
}

/// Longest quote of a message within a sentence; the whole is among the facts.
const MAX_QUOTED_CHARS: usize = 200;

pub(crate) fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn facts(occurrence: &Occurrence) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push((name.to_owned(), value));
        }
    };
    if let Some(run) = &occurrence.run {
        fact(
            "exit",
            run.exit.map(|exit| exit.label()).unwrap_or_default(),
        );
        fact("reason", run.reason.to_string());
        if let (Some(started), Some(finished)) = (run.started_at, run.finished_at) {
            let secs = finished.saturating_since(started).as_secs();
            fact("ran for", format!("{secs} s"));
        }
        fact("restarts", run.restart.to_string());
        fact(
            "next start in",
            run.back_off_secs
                .map(|secs| format!("at most {secs} s (crash loop)"))
                .unwrap_or_default(),
        );
        fact("image", run.image.to_string());
        fact(
            "memory limit",
            run.limits.memory_bytes.map(memory).unwrap_or_default(),
        );
    }
    fact("message", one_line(&occurrence.message));
    facts
}

/// Bytes as a pod spec would write them: `512 MiB`; whole units only.
fn memory(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024 && value.is_multiple_of(1024) && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    format!("{value} {}", UNITS[unit])
}

/// `2026-11-21 10:02 UTC`.
fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    format!(
        "{} {} UTC",
        text.get(..10).unwrap_or_default(),
        text.get(11..16).unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
