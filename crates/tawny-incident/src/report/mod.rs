//! What is written down of an incident: one document with everything, in the three formats of BlackBox (BB-40 to
//! BB-43), whose JSON is a superset of theirs (section 4.5, row "Report").

mod csv;
mod related;
mod text;

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tawny_model::{
    Timestamp, Workload,
    observed::{ContainerKind, KubeEvent, PodState, Resources},
};

pub use related::related_events;

use crate::{Cause, Error, Incident, IncidentId, Severity, sentence::story};

/// An incident with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IncidentReport {
    pub incident: Summary,
    /// Measurements up to the death, the oldest first.
    pub telemetry: Vec<Telemetry>,
    /// Last lines of the instance that died, the oldest first.
    pub logs: Vec<LogLine>,
    /// Related events, the oldest first.
    pub events: Vec<EventLine>,
    /// What was changed of the workload before, the oldest first.
    pub changes: Vec<WorkloadChange>,
    #[serde(serialize_with = "rfc3339")]
    pub generated_at: Timestamp,
}

/// The incident itself. The first eleven fields are BlackBox's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub id: String,
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: Timestamp,
    pub severity: Severity,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub message: String,
    pub pod_name: Arc<str>,
    pub namespace: Arc<str>,
    pub node_name: Arc<str>,
    pub container_id: Arc<str>,
    pub containers: Vec<ContainerSummary>,
    pub metadata: BTreeMap<String, String>,
    /// The incident this is an occurrence of.
    pub group_id: IncidentId,
    pub cause: Cause,
    pub count: u64,
    pub hints: Vec<String>,
    pub container: Arc<str>,
    pub restart: Option<u32>,
    pub exit_code: Option<i32>,
    /// `SIGKILL`, by name.
    pub signal: Option<String>,
    #[serde(serialize_with = "rfc3339_or_null")]
    pub started_at: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339_or_null")]
    pub finished_at: Option<Timestamp>,
    pub workload: Option<Workload>,
    pub image: Arc<str>,
    pub limits: Resources,
}

/// A container of the pod, with what it asked for and may use (BB-13).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerSummary {
    pub name: Arc<str>,
    pub kind: ContainerKind,
    pub image: Arc<str>,
    pub restart_count: u32,
    pub ready: bool,
    pub requests: Resources,
    pub limits: Resources,
}

/// One measurement (BB-33).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    #[serde(serialize_with = "rfc3339", deserialize_with = "from_rfc3339")]
    pub timestamp: Timestamp,
    /// `system`, `sidecar`, …
    pub source: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub name: String,
    /// Whatever the sender measured, mostly a number.
    pub value: serde_json::Value,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// One line the container wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    #[serde(serialize_with = "rfc3339", deserialize_with = "from_rfc3339")]
    pub timestamp: Timestamp,
    pub message: String,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventLine {
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: Timestamp,
    /// `Pod/web-1`.
    pub object: String,
    pub reason: Arc<str>,
    pub message: Arc<str>,
    pub count: u32,
}

/// A rollout, a new image, a changed configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkloadChange {
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: Timestamp,
    pub what: String,
}

/// A way to write a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    #[default]
    Default,
    Json,
    Csv,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Default, Self::Json, Self::Csv];

    /// The name in `BLACKBOX_OUTPUT_FORMATTERS` (BB-39) and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }

    pub fn write(self, report: &IncidentReport) -> String {
        match self {
            Self::Default => text::write(report),
            Self::Json => {
                let mut json = serde_json::to_string_pretty(report)
                    .expect("a report has string keys only and serializes");
                json.push('\n');
                json
            }
            Self::Csv => csv::write(report),
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name.trim())
            .ok_or_else(|| Error::UnknownFormat {
                name: name.to_owned(),
            })
    }
}

impl IncidentReport {
    /// The report of an incident's latest occurrence; `pod` is what is known of its pod. What was measured, written
    /// and changed is the caller's to add.
    pub fn new(incident: &Incident, pod: Option<&PodState>, generated_at: Timestamp) -> Self {
        let occurrence = &incident.latest;
        let subject = &occurrence.subject;
        let run = occurrence.run.as_ref();
        let exit = run.and_then(|run| run.exit);
        let story = story(incident);
        let image = match &occurrence.cause {
            Cause::ImagePull { image, .. } => Arc::clone(image),
            _ => run.map_or_else(|| "".into(), |run| Arc::clone(&run.image)),
        };
        Self {
            incident: Summary {
                id: report_id(incident),
                timestamp: occurrence.at,
                severity: incident.severity,
                kind: occurrence.cause.report_type(),
                message: story.sentence,
                pod_name: Arc::clone(&subject.pod),
                namespace: Arc::clone(&subject.namespace),
                node_name: Arc::clone(&subject.node),
                container_id: run.map_or_else(|| "".into(), |run| Arc::clone(&run.container_id)),
                containers: pod.map(containers).unwrap_or_default(),
                metadata: story.facts.into_iter().collect(),
                group_id: incident.id,
                cause: occurrence.cause.clone(),
                count: incident.count,
                hints: story.hints,
                container: Arc::clone(&subject.container),
                restart: run.map(|run| run.restart),
                exit_code: exit.map(|exit| exit.code),
                signal: exit.and_then(|exit| exit.signal_name()),
                started_at: run.and_then(|run| run.started_at),
                finished_at: run.and_then(|run| run.finished_at),
                workload: subject.workload.clone(),
                image,
                limits: run.map(|run| run.limits).unwrap_or_default(),
            },
            telemetry: Vec::new(),
            logs: Vec::new(),
            events: Vec::new(),
            changes: Vec::new(),
            generated_at,
        }
    }
}

impl From<&KubeEvent> for EventLine {
    fn from(event: &KubeEvent) -> Self {
        Self {
            timestamp: event.at,
            object: format!("{}/{}", event.object.kind, event.object.name),
            reason: Arc::clone(&event.reason),
            message: Arc::clone(&event.message),
            count: event.count,
        }
    }
}

/// `container-restart-<pod>-<container>-<unix>`, `container-failed-…`, `pod-crash-<pod>-<unix>` (BB-43); any other
/// cause by its class and place.
fn report_id(incident: &Incident) -> String {
    let occurrence = &incident.latest;
    let subject = &occurrence.subject;
    let is_restart = occurrence.run.as_ref().is_some_and(|run| run.restarting);
    let kind = match &occurrence.cause {
        Cause::Evicted { .. } | Cause::Rejected { .. } | Cause::Deadline => "pod-crash".to_owned(),
        _ if occurrence.run.is_some() && is_restart => "container-restart".to_owned(),
        _ if occurrence.run.is_some() => "container-failed".to_owned(),
        other => other.class().replace('_', "-"),
    };
    let workload = subject.workload.as_ref().map(|workload| &*workload.name);
    let place = match (&*subject.pod, workload) {
        ("", Some(workload)) => workload,
        ("", None) if !subject.node.is_empty() => &subject.node,
        ("", None) => &subject.namespace,
        (pod, _) => pod,
    };
    let mut id = format!("{kind}-{place}");
    if !subject.container.is_empty() {
        id.push('-');
        id.push_str(&subject.container);
    }
    format!("{id}-{}", occurrence.at.as_secs())
}

fn containers(pod: &PodState) -> Vec<ContainerSummary> {
    pod.containers
        .iter()
        .map(|container| ContainerSummary {
            name: Arc::clone(&container.name),
            kind: container.kind,
            image: Arc::clone(&container.image),
            restart_count: container.restart_count,
            ready: container.ready,
            requests: container.requests,
            limits: container.limits,
        })
        .collect()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

fn from_rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    Timestamp::parse_rfc3339(text.as_bytes())
        .ok_or_else(|| de::Error::custom(format!("`{text}` is no time of RFC 3339")))
}

fn rfc3339_or_null<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

/// A value as Go's `%v` prints it: text without quotes, anything else as JSON.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
