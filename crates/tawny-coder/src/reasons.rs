//! Why a container does not run, in words, read from a pod's status.
//!
//! The kubelet makes no event of a container killed for memory, and none names an exit code: only the status has them.
//! A status shows the same death many times over, so each reason has a place and a mark by which it is told once.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{
    api::core::v1::{Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use tawny_model::Timestamp;

use crate::lines::{Level, Line};

/// One thing wrong with a pod, as its status shows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it is about: a container's deaths, its image, its start, or the pod.
    pub place: String,
    /// Tells it from others of its place; the same while the same trouble lasts.
    pub mark: String,
    pub line: Line,
    /// The dead container, when it is one that may have said why.
    pub death: Option<Death>,
}

/// Which log holds a dead container's last words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    pub container: String,
    /// The container runs again, so its log of before is meant.
    pub is_previous: bool,
}

/// What has been told of an object: the marks last seen in each place.
pub type Told = BTreeMap<String, Vec<String>>;

/// Longest part of a message by others that goes into a line.
const MAX_MESSAGE_CHARS: usize = 500;

/// Takes from `reasons` what `told` has, and notes the rest in it.
///
/// A place without a reason keeps its marks: trouble that comes and goes, as image pulls do, is told once.
pub fn take_new(reasons: Vec<Reason>, told: &mut Told) -> Vec<Reason> {
    let mut now = Told::new();
    for reason in &reasons {
        let marks: &mut Vec<String> = now.entry(reason.place.clone()).or_default();
        marks.push(reason.mark.clone());
    }
    let is_new = |reason: &Reason| {
        !(told.get(&reason.place)).is_some_and(|marks| marks.contains(&reason.mark))
    };
    let new = reasons.into_iter().filter(is_new).collect();
    told.extend(now);
    new
}

/// Every reason in the status, oldest death first. `now` stands in for times that the status lacks.
pub fn reasons(pod: &Pod, now: Timestamp) -> Vec<Reason> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let spec = pod.spec.as_ref();
    let is_pod_over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let policy = |name: &str| -> Policy {
        if is_pod_over {
            return Policy::Never;
        }
        let of_pod = spec.and_then(|spec| spec.restart_policy.as_deref());
        let init = spec.and_then(|spec| named(spec.init_containers.as_deref()?, name));
        match init {
            Some(container) if container.restart_policy.as_deref() == Some("Always") => {
                Policy::Always
            }
            Some(_) if of_pod != Some("Never") => Policy::OnFailure,
            Some(_) => Policy::Never,
            None => match of_pod {
                Some("Never") => Policy::Never,
                Some("OnFailure") => Policy::OnFailure,
                _ => Policy::Always,
            },
        }
    };
    let all = [
        (&status.init_container_statuses, Part::Init),
        (&status.container_statuses, Part::Main),
        (&status.ephemeral_container_statuses, Part::Ephemeral),
    ];
    let is_stopping = pod.metadata.deletion_timestamp.is_some();
    let mut reasons = Vec::new();
    for (container, part) in all
        .into_iter()
        .flat_map(|(all, part)| all.iter().flatten().map(move |status| (status, part)))
    {
        let policy = match part {
            Part::Ephemeral => Policy::Never,
            Part::Init | Part::Main => policy(&container.name),
        };
        reasons.extend(deaths(container, part, policy, is_stopping, now));
        reasons.extend(waits(container, now));
    }
    if status.phase.as_deref() == Some("Failed")
        && let Some(reason) = status.reason.as_deref().filter(|reason| !reason.is_empty())
    {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let how = match reason {
            "Evicted" => "was evicted".to_owned(),
            other => format!("failed ({other})"),
        };
        let output = format!("⚠️ Pod {name} {how}{}", Because(status.message.as_deref()));
        reasons.push(Reason {
            place: "pod".to_owned(),
            mark: reason.to_owned(),
            line: Line::new(now, Level::Error, output),
            death: None,
        });
    }
    reasons
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Init,
    Main,
    Ephemeral,
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    OnFailure,
    Never,
}

fn named<'a>(containers: &'a [Container], name: &str) -> Option<&'a Container> {
    containers.iter().find(|container| container.name == name)
}

/// The container's run before and its last one, where they have ended.
fn deaths(
    status: &ContainerStatus,
    part: Part,
    policy: Policy,
    is_stopping: bool,
    now: Timestamp,
) -> Vec<Reason> {
    let before = ended(status.last_state.as_ref()).map(|end| (end, true));
    let last = ended(status.state.as_ref()).map(|end| (end, false));
    (before.into_iter().chain(last))
        .filter(|(end, _)| {
            // An init container has to end, and whoever deletes a pod knows that its containers end.
            let is_expected = end.exit_code == 0 && part != Part::Main;
            !is_expected && (!is_stopping || is_oom(end))
        })
        .map(|(end, is_previous)| {
            let n_restarts = if is_previous {
                Some(status.restart_count)
            } else {
                let restarts = match policy {
                    Policy::Always => true,
                    Policy::OnFailure => end.exit_code != 0,
                    Policy::Never => false,
                };
                restarts.then(|| status.restart_count.saturating_add(1))
            };
            death(status, end, n_restarts, is_previous, now)
        })
        .collect()
}

fn ended(state: Option<&ContainerState>) -> Option<&ContainerStateTerminated> {
    state?.terminated.as_ref()
}

fn is_oom(end: &ContainerStateTerminated) -> bool {
    end.reason.as_deref() == Some("OOMKilled")
}

fn death(
    status: &ContainerStatus,
    end: &ContainerStateTerminated,
    n_restarts: Option<i32>,
    is_previous: bool,
    now: Timestamp,
) -> Reason {
    let (name, code) = (&status.name, end.exit_code);
    let at = end.finished_at.as_ref().and_then(instant).unwrap_or(now);
    let (emoji, level) = match code {
        0 => ("🏁", Level::Info),
        _ => ("💥", Level::Error),
    };
    let restart = fmt::from_fn(|f| match n_restarts {
        Some(n) => write!(f, ", restart {n}"),
        None => Ok(()),
    });
    let output = format!(
        "{emoji} Container {name} {} (exit {code}){restart}{}",
        how(end),
        Because(end.message.as_deref()),
    );
    // Not the run's number: it goes down when the kubelet forgets old runs.
    let mark = match (end.container_id.as_deref(), &end.finished_at) {
        (Some(id), _) if !id.is_empty() => id.to_owned(),
        (_, Some(finished_at)) => finished_at.0.to_string(),
        (_, None) => "unknown".to_owned(),
    };
    Reason {
        place: format!("death of {name}"),
        mark,
        line: Line::new(at, level, output),
        death: (code != 0).then(|| Death {
            container: name.clone(),
            is_previous,
        }),
    }
}

/// How a container ended, in a verb.
fn how(end: &ContainerStateTerminated) -> impl fmt::Display {
    let signal = match (end.signal, end.exit_code) {
        (Some(signal), _) if signal > 0 => Some(signal),
        // A shell's and a runtime's way to say that a signal ended the process.
        (_, code @ 129..=192) => Some(code - 128),
        _ => None,
    };
    fmt::from_fn(move |f| match (end.reason.as_deref(), signal) {
        (Some("OOMKilled"), _) => f.write_str("OOMKilled"),
        (Some("ContainerCannotRun" | "StartError"), _) => f.write_str("could not start"),
        (Some("ContainerStatusUnknown"), _) => f.write_str("was lost sight of"),
        (_, Some(signal)) => match signal_name(signal) {
            Some(name) => write!(f, "killed by {name}"),
            None => write!(f, "killed by signal {signal}"),
        },
        _ if end.exit_code == 0 => f.write_str("exited"),
        _ => f.write_str("failed"),
    })
}

/// Signals that end processes. Source: signal(7), the numbers of x86 and ARM.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// Why a container waits, when it is not just its turn.
fn waits(status: &ContainerStatus, now: Timestamp) -> Option<Reason> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let (name, image) = (&status.name, &status.image);
    let message = waiting.message.as_deref().unwrap_or_default();
    let (place, mark, output) = match waiting.reason.as_deref()? {
        reason @ ("ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed") => {
            let cause = pull_cause(reason, message)?;
            let output = format!("📦 Container {name} cannot pull image {image}: {cause}");
            ("image", cause, output)
        }
        reason @ ("CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PreStartHookError"
        | "PostStartHookError") => {
            let output = format!(
                "💥 Container {name} cannot start ({reason}){}",
                Because(Some(message))
            );
            ("start", reason.to_owned(), output)
        }
        _ => return None,
    };
    Some(Reason {
        place: format!("{place} of {name}"),
        mark,
        line: Line::new(now, Level::Error, output),
        death: None,
    })
}

/// What a runtime's error about an image means; `None` when the message tells no cause.
fn pull_cause(reason: &str, message: &str) -> Option<String> {
    match reason {
        "InvalidImageName" => return Some("the image's name is not valid".to_owned()),
        "ErrImageNeverPull" => {
            return Some("it is not on the node, and imagePullPolicy is Never".to_owned());
        }
        _ => {}
    }
    let message = match message.split_once("ErrImagePull:") {
        Some((_, cause)) => cause.trim(),
        // The bare back-off repeats the image's name only.
        None if reason == "ImagePullBackOff" => return None,
        None => message,
    };
    let lower = message.to_lowercase();
    // The first that fits: a refusal for a rate also says "denied", an unknown host also "not found".
    let known: &[(&[&str], &str)] = &[
        (
            &["toomanyrequests", "too many requests", "rate limit"],
            "the registry limits how often it is asked; log in with imagePullSecrets or wait",
        ),
        (
            &["no such host"],
            "the registry's host name does not resolve",
        ),
        (
            &["x509", "certificate"],
            "the registry's certificate is not trusted",
        ),
        (
            &["no match for platform", "no matching manifest"],
            "there is no such image for this node's platform",
        ),
        (
            &[
                "unauthorized",
                "denied",
                "forbidden",
                "authentication required",
                "authorization failed",
            ],
            "the registry refuses it: it does not exist or needs a login; check the name and imagePullSecrets",
        ),
        (
            &["not found", "manifest unknown", "name unknown"],
            "the registry does not have it; check name and tag",
        ),
        (
            &[
                "timeout",
                "timed out",
                "deadline exceeded",
                "connection refused",
                "connection reset",
                "unreachable",
                "no route to host",
            ],
            "the registry does not answer",
        ),
        (&["no space left"], "the node's disk is full"),
    ];
    let fits = |words: &&(&[&str], &str)| words.0.iter().any(|word| lower.contains(word));
    match known.iter().find(fits) {
        Some((_, cause)) => Some((*cause).to_owned()),
        None if message.is_empty() => None,
        None => Some(cut(message)),
    }
}

/// A message behind a colon, if there is one.
struct Because<'a>(Option<&'a str>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(str::trim).filter(|text| !text.is_empty()) {
            Some(message) => write!(f, ": {}", cut(message)),
            None => Ok(()),
        }
    }
}

/// One line of bounded length.
fn cut(message: &str) -> String {
    let one_line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", one_line.get(..end).unwrap_or_default()),
        None => one_line,
    }
}

pub(crate) fn instant(time: &Time) -> Option<Timestamp> {
    i64::try_from(time.0.as_nanosecond())
        .ok()
        .map(Timestamp::from_nanos)
}

#[cfg(test)]
mod tests;
