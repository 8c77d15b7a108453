//! What programs send about themselves: the bodies of BlackBox's telemetry API, checked and made into entries (BB-31 to
//! BB-35).
//!
//! Pure: the time is an argument, and who may send at all is the listener's to know.
//!
//! | timestamp | becomes |
//! |---|---|
//! | missing, null, empty, Go's year 1 | now |
//! | up to a minute ahead | now |
//! | further ahead | refused |
//! | older than the ring keeps, or, of an incident, than a day | refused |

mod answer;
mod incident;

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};
use tawny_incident::report::Telemetry;
use tawny_model::Timestamp;

use super::{Error, Window, ring::Source};

pub use answer::{ErrorAnswer, Health, IncidentAccepted, TelemetryAccepted};
pub use incident::{IncidentType, ManualIncident};

/// Largest body (BB-39, `_API_MAX_BODY_SIZE`). A listener reads no further.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Most keys of `data`: a second's share of the ring.
pub const MAX_KEYS: usize = 1_000;
/// Most tags, and most keys of an incident's `metadata`.
pub const MAX_TAGS: usize = 64;
/// Longest name of a pod, namespace, key, tag or runtime; a pod's has 253 at most.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest value of a tag.
pub const MAX_TAG_BYTES: usize = 1 << 10;
/// Largest value of a key, and longest message; a long stack trace fits.
pub const MAX_VALUE_BYTES: usize = 16 << 10;

/// How far a sender's clock may be ahead.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// Measures of one program at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    pub at: Timestamp,
    pub pod_name: String,
    pub namespace: String,
    pub container_id: Option<String>,
    pub runtime: Runtime,
    /// What the sender calls its runtime.
    pub runtime_name: String,
    /// The sender's own, and over them `pod_name`, `namespace`, `runtime` and `container_id`.
    pub tags: BTreeMap<String, String>,
    /// By key; nested values stay as they are.
    pub values: Vec<(String, Value)>,
}

/// What a program runs on (BB-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Runtime {
    Jvm,
    Nodejs,
    Python,
    Dotnet,
    Go,
    Ruby,
    /// Any other, and none.
    #[default]
    Custom,
}

#[derive(Deserialize)]
struct Body {
    pod_name: Option<String>,
    namespace: Option<String>,
    container_id: Option<String>,
    runtime: Option<String>,
    timestamp: Option<String>,
    data: Option<Map<String, Value>>,
    tags: Option<BTreeMap<String, String>>,
}

impl Post {
    /// Reads the body of `POST /api/v1/telemetry`. `window` is the ring's: what it would drop at once is refused.
    ///
    /// # Errors
    /// `Reject`, with BB-31's texts where it has one.
    pub fn parse(body: &[u8], now: Timestamp, window: Window) -> Result<Self, Error> {
        let body: Body = json(body)?;
        let (pod_name, namespace) = pod(body.pod_name, body.namespace)?;
        let container_id = container_id(body.container_id)?;
        let runtime_name = body.runtime.filter(|name| !name.is_empty());
        let runtime_name = runtime_name.unwrap_or_else(|| Runtime::Custom.name().to_owned());
        bounded("runtime", runtime_name.len(), MAX_NAME_BYTES)?;
        let mut tags = tags(body.tags)?;
        let runtime = Runtime::named(&runtime_name);
        for (key, value) in [
            ("pod_name", Some(pod_name.as_str())),
            ("namespace", Some(&namespace)),
            ("runtime", Some(runtime.name())),
            ("container_id", container_id.as_deref()),
        ] {
            if let Some(value) = value {
                tags.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(Self {
            at: moment(body.timestamp, now, window.duration())?,
            pod_name,
            namespace,
            container_id,
            runtime,
            runtime_name,
            tags,
            values: values("data", body.data, MAX_KEYS)?.collect(),
        })
    }

    /// One entry for each key.
    pub fn telemetry(&self) -> impl Iterator<Item = Telemetry> {
        self.values.iter().map(|(name, value)| Telemetry {
            timestamp: self.at,
            source: Source::Sidecar.name().to_owned(),
            kind: kind(name).to_owned(),
            name: name.clone(),
            value: value.clone(),
            tags: self.tags.clone(),
            metadata: BTreeMap::from([("sidecar_runtime".to_owned(), self.runtime_name.clone())]),
        })
    }

    /// What it takes in memory, about.
    pub(super) fn bytes(&self) -> usize {
        /// Of a tree's node, for each entry.
        const NODE_BYTES: usize = 64;
        let tags = self.tags.iter();
        let tags: usize = tags
            .map(|(key, tag)| NODE_BYTES + key.len() + tag.len())
            .sum();
        let values = self.values.iter();
        let values: usize = values
            .map(|(name, value)| size_of::<(String, Value)>() + name.len() + value_bytes(value))
            .sum();
        let names = self.pod_name.len() + self.namespace.len() + self.runtime_name.len();
        let id = self.container_id.as_ref().map_or(0, String::len);
        size_of::<Self>() + names + id + tags + values
    }
}

impl Runtime {
    pub const ALL: [Self; 7] = [
        Self::Jvm,
        Self::Nodejs,
        Self::Python,
        Self::Dotnet,
        Self::Go,
        Self::Ruby,
        Self::Custom,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Jvm => "jvm",
            Self::Nodejs => "nodejs",
            Self::Python => "python",
            Self::Dotnet => "dotnet",
            Self::Go => "go",
            Self::Ruby => "ruby",
            Self::Custom => "custom",
        }
    }

    fn named(name: &str) -> Self {
        let is_it = |it: &Self| it.name().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is_it).unwrap_or_default()
    }
}

/// The type of a measure by what its name has in it, in BlackBox's order (BB-33).
fn kind(name: &str) -> &'static str {
    const KINDS: [(&str, &[&str]); 5] = [
        ("memory", &["memory", "heap", "gc"]),
        ("cpu", &["cpu", "thread", "processor"]),
        ("network", &["network", "socket", "connection"]),
        ("runtime", &["runtime", "jvm", "clr", "vm"]),
        ("application", &["exception", "error", "panic"]),
    ];
    let name = name.to_ascii_lowercase();
    let is_of = |words: &[&str]| words.iter().any(|word| name.contains(word));
    KINDS
        .iter()
        .find(|(_, words)| is_of(words))
        .map_or("custom", |(kind, _)| kind)
}

fn json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Error> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Error::BodyTooLarge {
            got_bytes: body.len(),
            limit_bytes: MAX_BODY_BYTES,
        });
    }
    serde_json::from_slice(body).map_err(|error| Error::InvalidJson {
        reason: error.to_string(),
    })
}

fn pod(name: Option<String>, namespace: Option<String>) -> Result<(String, String), Error> {
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let (Some(name), Some(namespace)) = (given(name), given(namespace)) else {
        return Err(Error::PodMissing);
    };
    bounded("pod_name", name.len(), MAX_NAME_BYTES)?;
    bounded("namespace", namespace.len(), MAX_NAME_BYTES)?;
    Ok((name, namespace))
}

fn container_id(id: Option<String>) -> Result<Option<String>, Error> {
    let id = id.filter(|id| !id.is_empty());
    if let Some(id) = &id {
        bounded("container_id", id.len(), MAX_NAME_BYTES)?;
    }
    Ok(id)
}

fn tags(tags: Option<BTreeMap<String, String>>) -> Result<BTreeMap<String, String>, Error> {
    let tags = tags.unwrap_or_default();
    few("tags", tags.len(), MAX_TAGS)?;
    for (key, tag) in &tags {
        name("tags", key)?;
        if tag.len() > MAX_TAG_BYTES {
            bounded(&format!("tags.{key}"), tag.len(), MAX_TAG_BYTES)?;
        }
    }
    Ok(tags)
}

fn values(
    field: &'static str,
    values: Option<Map<String, Value>>,
    limit: usize,
) -> Result<impl Iterator<Item = (String, Value)>, Error> {
    let values = values.unwrap_or_default();
    few(field, values.len(), limit)?;
    for (key, value) in &values {
        name(field, key)?;
        let got_bytes = value_bytes(value);
        if got_bytes > MAX_VALUE_BYTES {
            bounded(&format!("{field}.{key}"), got_bytes, MAX_VALUE_BYTES)?;
        }
    }
    Ok(values.into_iter())
}

fn name(field: &str, key: &str) -> Result<(), Error> {
    bounded(&format!("a key of {field}"), key.len(), MAX_NAME_BYTES)
}

fn bounded(field: &str, got_bytes: usize, limit_bytes: usize) -> Result<(), Error> {
    if got_bytes <= limit_bytes {
        return Ok(());
    }
    Err(Error::TooLong {
        field: field.to_owned(),
        got_bytes,
        limit_bytes,
    })
}

fn few(field: &'static str, got: usize, limit: usize) -> Result<(), Error> {
    if got <= limit {
        return Ok(());
    }
    Err(Error::TooMany { field, got, limit })
}

/// When it was measured, by the table above.
fn moment(text: Option<String>, now: Timestamp, limit: Duration) -> Result<Timestamp, Error> {
    /// What Go writes for a time that was never set; earlier than a `Timestamp` can be.
    const GO_ZERO: &str = "0001-01-01T00:00:00Z";
    let Some(text) = text.filter(|text| !text.is_empty() && text != GO_ZERO) else {
        return Ok(now);
    };
    let at = Timestamp::parse_rfc3339(text.as_bytes()).ok_or_else(|| Error::BadTimestamp {
        got: text.chars().take(64).collect(),
    })?;
    let (ahead, age) = (at.saturating_since(now), now.saturating_since(at));
    if ahead > MAX_AHEAD {
        Err(Error::FromFuture {
            got: at,
            now,
            ahead,
        })
    } else if age > limit {
        Err(Error::TooOld {
            got: at,
            age,
            limit,
        })
    } else {
        Ok(at.min(now))
    }
}

/// What a value takes in memory, about, beside itself.
fn value_bytes(value: &Value) -> usize {
    /// Of a map's node, for each entry.
    const NODE_BYTES: usize = 32;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => {
            let each = |value| size_of::<Value>() + value_bytes(value);
            values.iter().map(each).sum()
        }
        Value::Object(values) => values
            .iter()
            .map(|(key, value)| NODE_BYTES + size_of::<Value>() + key.len() + value_bytes(value))
            .sum(),
    }
}

#[cfg(test)]
mod tests;
