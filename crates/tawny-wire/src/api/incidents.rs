//! JSON of `/api/v1/incidents`. Times are RFC 3339, ids and names text; what is empty or unknown is left out.

use serde::{Deserialize, Serialize};
use tawny_model::Timestamp;

use super::{time_text, time_text_or_none};

/// One incident as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    pub id: String,
    /// `open`, `recurring`, `resolved` or `regressed`.
    pub state: String,
    /// `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// What kind of trouble: `crash`, `out_of_memory`, `image_pull`, …
    pub class: String,
    /// What died, where, why and how often, in one sentence.
    pub sentence: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// `Kind/name`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod_uid: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// Occurrences over its whole life.
    pub count: u64,
    /// When the first and the last of them happened.
    #[serde(with = "time_text")]
    pub first_at: Timestamp,
    #[serde(with = "time_text")]
    pub last_at: Timestamp,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time_text_or_none"
    )]
    pub resolved_at: Option<Timestamp>,
    /// How often it came back after it was resolved.
    pub regressions: u32,
    /// Why nobody is told of it by itself: `baseline`, `child` or `storm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<String>,
    /// The incident it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time_text_or_none"
    )]
    pub muted_until: Option<Timestamp>,
}

/// Answer of `/api/v1/incidents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentsResponse {
    /// Those that happened last first.
    pub incidents: Vec<Incident>,
}

/// Answer of `/api/v1/incidents/ID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentDetail {
    pub incident: Incident,
    /// Names and values worth showing, in reading order.
    pub facts: Vec<(String, String)>,
    /// What to look at or do, the likeliest first.
    pub hints: Vec<String>,
    /// What is kept of each occurrence, the oldest first; the newest is told below.
    pub occurrences: Vec<OccurrenceName>,
    /// Which of them is told below; none when nothing of it is kept any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// Where the last lines were found: `store`, `api`, `termination_message` or `nowhere`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines_from: Option<String>,
    pub last_lines: Vec<IncidentLine>,
    /// The end of the run before.
    pub previous_lines: Vec<IncidentLine>,
    pub events: Vec<IncidentEvent>,
    /// Conditions of the node that were not as they should be.
    pub node_conditions: Vec<String>,
    /// Memory of the container up to its death.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySeries>,
    /// A query that finds the run's lines in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// One occurrence that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OccurrenceName {
    /// Give it as `occurrence`.
    pub name: String,
    #[serde(with = "time_text")]
    pub at: Timestamp,
}

/// What a container's memory held over time, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemorySeries {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The oldest first, about one a second.
    pub samples: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentLine {
    #[serde(with = "time_text")]
    pub timestamp: Timestamp,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentEvent {
    #[serde(with = "time_text")]
    pub timestamp: Timestamp,
    /// `Kind/name`.
    pub object: String,
    pub reason: String,
    pub message: String,
    pub count: u32,
}

/// A line of `/api/v1/incidents/stream`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentChange {
    /// `opened`, `recurred`, `regressed`, `escalated`, `resolved`, `adopted`, `moved`, `retracted`, `forgotten`,
    /// `storm_began`, `storm_ended` or `missed`: the client was slow, and some changes are not told.
    pub change: String,
    /// Of the incident, also of one that is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// The last line of what died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<String>,
}

/// Body of `POST /api/v1/incidents/ID/mute`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuteRequest {
    /// How long nobody is told: `2h`; `0s` lifts it.
    pub r#for: String,
}
