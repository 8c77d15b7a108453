//! What the telemetry API answers: superset of what BlackBox's code and its documents say (section 7 row 5).

use std::collections::BTreeMap;

use serde::Serialize;
use tawny_model::Timestamp;

use super::{ManualIncident, Post, incident::rfc3339};
use crate::vitals::Error;

/// Answer 201 to `POST /api/v1/telemetry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TelemetryAccepted {
    status: &'static str,
    pub entry_id: String,
    pub entries_added: usize,
    #[serde(serialize_with = "rfc3339")]
    timestamp: Timestamp,
}

/// Answer 201 to `POST /api/v1/incident`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncidentAccepted {
    status: &'static str,
    pub incident_id: String,
    #[serde(serialize_with = "rfc3339")]
    timestamp: Timestamp,
}

/// Answer to `GET /api/v1/health`, 200 or 503 (BB-36).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    status: &'static str,
    #[serde(serialize_with = "rfc3339")]
    timestamp: Timestamp,
    service: &'static str,
    version: &'static str,
}

/// Answer to what is refused (BB-37).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorAnswer {
    error: &'static str,
    pub message: String,
    details: BTreeMap<&'static str, String>,
    #[serde(serialize_with = "rfc3339")]
    timestamp: Timestamp,
    request_id: String,
}

impl TelemetryAccepted {
    /// `sequence` tells posts of one second apart.
    pub fn new(post: &Post, sequence: u64, now: Timestamp) -> Self {
        Self {
            status: "accepted",
            entry_id: format!("entry_{}_{sequence:03}", now.as_secs()),
            entries_added: post.values.len(),
            timestamp: now,
        }
    }
}

impl IncidentAccepted {
    pub fn new(incident: &ManualIncident, now: Timestamp) -> Self {
        Self {
            status: "accepted",
            incident_id: incident.id.clone(),
            timestamp: now,
        }
    }
}

impl Health {
    /// Service and version are BlackBox's, which its clients may compare.
    pub fn new(is_healthy: bool, now: Timestamp) -> Self {
        Self {
            status: if is_healthy { "healthy" } else { "unhealthy" },
            timestamp: now,
            service: "blackbox-daemon",
            version: "1.0.0",
        }
    }
}

impl ErrorAnswer {
    pub fn new(error: &Error, request_id: String, now: Timestamp) -> Self {
        let details = match error {
            Error::InvalidJson { reason } => BTreeMap::from([("reason", reason.clone())]),
            Error::TooLong { field, .. } => BTreeMap::from([("field", field.clone())]),
            Error::TooMany { field, .. } | Error::Unknown { field, .. } => {
                BTreeMap::from([("field", (*field).to_owned())])
            }
            Error::BadTimestamp { .. } | Error::FromFuture { .. } | Error::TooOld { .. } => {
                BTreeMap::from([("field", "timestamp".to_owned())])
            }
            Error::Window { .. } | Error::PodMissing | Error::BodyTooLarge { .. } => {
                BTreeMap::new()
            }
        };
        Self {
            error: error.code(),
            message: error.to_string(),
            details,
            timestamp: now,
            request_id,
        }
    }
}
