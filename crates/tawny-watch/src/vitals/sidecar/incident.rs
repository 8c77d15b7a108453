//! An incident that a program or a person reports: the body of `POST /api/v1/incident` (BB-34, BB-35).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use tawny_incident::Severity;
use tawny_model::Timestamp;

use super::{
    MAX_NAME_BYTES, MAX_TAGS, MAX_VALUE_BYTES, bounded, container_id, json, moment, pod, tags,
    values,
};
use crate::vitals::Error;

/// How old a report may be: a program may tell of its death when it runs again.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A reported incident; its JSON is BB-43's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ManualIncident {
    /// The sender's, or `manual-<unix>`, which two reports of one second share.
    pub id: String,
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: Timestamp,
    pub severity: Severity,
    #[serde(rename = "type")]
    pub kind: IncidentType,
    pub message: String,
    pub pod_name: String,
    pub namespace: String,
    pub container_id: Option<String>,
    pub metadata: BTreeMap<String, Value>,
    pub tags: BTreeMap<String, String>,
}

/// Kinds of incidents a sender may report (BB-35).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentType {
    Crash,
    Oom,
    Timeout,
    Error,
    Degraded,
    Security,
    Manual,
}

#[derive(Deserialize)]
struct Body {
    id: Option<String>,
    pod_name: Option<String>,
    namespace: Option<String>,
    container_id: Option<String>,
    severity: Option<String>,
    r#type: Option<String>,
    message: Option<String>,
    timestamp: Option<String>,
    metadata: Option<Map<String, Value>>,
    tags: Option<BTreeMap<String, String>>,
}

impl ManualIncident {
    /// Reads the body of `POST /api/v1/incident`; severity is medium and type manual where they are left out.
    ///
    /// # Errors
    /// `Reject`, with BB-31's texts where it has one.
    pub fn parse(body: &[u8], now: Timestamp) -> Result<Self, Error> {
        let body: Body = json(body)?;
        let (pod_name, namespace) = pod(body.pod_name, body.namespace)?;
        let id = body.id.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| format!("manual-{}", now.as_secs()));
        bounded("id", id.len(), MAX_NAME_BYTES)?;
        let message = body.message.unwrap_or_default();
        bounded("message", message.len(), MAX_VALUE_BYTES)?;
        Ok(Self {
            id,
            timestamp: moment(body.timestamp, now, MAX_AGE)?,
            severity: severity(body.severity.as_deref())?,
            kind: IncidentType::named(body.r#type.as_deref())?,
            message,
            pod_name,
            namespace,
            container_id: container_id(body.container_id)?,
            metadata: values("metadata", body.metadata, MAX_TAGS)?.collect(),
            tags: tags(body.tags)?,
        })
    }
}

impl IncidentType {
    pub const ALL: [Self; 7] = [
        Self::Crash,
        Self::Oom,
        Self::Timeout,
        Self::Error,
        Self::Degraded,
        Self::Security,
        Self::Manual,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Oom => "oom",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::Degraded => "degraded",
            Self::Security => "security",
            Self::Manual => "manual",
        }
    }

    fn named(name: Option<&str>) -> Result<Self, Error> {
        let name = name.filter(|name| !name.is_empty());
        let Some(name) = name else {
            return Ok(Self::Manual);
        };
        let is_it = |it: &Self| it.name().eq_ignore_ascii_case(name);
        let expected = "crash, oom, timeout, error, degraded, security or manual";
        let found = Self::ALL.into_iter().find(is_it);
        found.ok_or_else(|| unknown("type", name, expected))
    }
}

fn severity(name: Option<&str>) -> Result<Severity, Error> {
    let name = name.filter(|name| !name.is_empty());
    let Some(name) = name else {
        return Ok(Severity::Medium);
    };
    let all = [
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ];
    let is_it = |it: &Severity| it.name().eq_ignore_ascii_case(name);
    let found = all.into_iter().find(is_it);
    found.ok_or_else(|| unknown("severity", name, "low, medium, high or critical"))
}

fn unknown(field: &'static str, got: &str, expected: &'static str) -> Error {
    Error::Unknown {
        field,
        got: got.chars().take(64).collect(),
        expected,
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
pub(super) fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}
