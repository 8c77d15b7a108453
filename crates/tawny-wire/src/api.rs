//! JSON of `/api/v1`, the same types at both ends: the server writes them, the command line reads them back.
//!
//! Ids are text, because JavaScript reads JSON numbers as doubles and an id needs all 63 bits. Times are RFC 3339 in UTC
//! with nine fraction digits, so that their text order is time order.

pub mod incidents;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tawny_model::{EntryId, LogEntry, Output, Severity, Stream, StreamId, Timestamp, Workload};

/// One log entry. What is empty or unknown is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    #[serde(with = "id_text")]
    pub id: EntryId,
    #[serde(with = "time_text")]
    pub timestamp: Timestamp,
    pub severity: Severity,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub cluster: Cow<'a, str>,
    pub namespace: Cow<'a, str>,
    pub pod: Cow<'a, str>,
    pub container: Cow<'a, str>,
    pub pod_uid: Cow<'a, str>,
    /// How often the container had been restarted.
    pub restart: u32,
    pub output: Output,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub node: Cow<'a, str>,
    /// `Kind/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub image: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "no_labels")]
    pub labels: Cow<'a, BTreeMap<Arc<str>, Arc<str>>>,
    pub message: Cow<'a, str>,
    /// In the order found in the message.
    #[serde(default, skip_serializing_if = "no_attributes", with = "attribute_map")]
    pub attributes: Cow<'a, [(String, String)]>,
}

impl<'a> From<&'a LogEntry> for Entry<'a> {
    fn from(entry: &'a LogEntry) -> Self {
        let stream = &*entry.stream;
        Self {
            id: entry.id,
            timestamp: entry.timestamp,
            severity: entry.severity,
            cluster: Cow::Borrowed(&stream.id.cluster),
            namespace: Cow::Borrowed(&stream.namespace),
            pod: Cow::Borrowed(&stream.pod),
            container: Cow::Borrowed(&stream.id.container),
            pod_uid: Cow::Borrowed(&stream.id.pod_uid),
            restart: stream.id.restart,
            output: entry.output,
            node: Cow::Borrowed(&stream.node),
            workload: stream.workload.as_ref().map(ToString::to_string),
            image: Cow::Borrowed(&stream.image),
            labels: Cow::Borrowed(&stream.labels),
            message: Cow::Borrowed(&entry.message),
            attributes: Cow::Borrowed(&entry.attributes),
        }
    }
}

impl From<Entry<'_>> for LogEntry {
    fn from(entry: Entry<'_>) -> Self {
        let workload = entry.workload.as_deref().and_then(|text| {
            let (kind, name) = text.split_once('/')?;
            Some(Workload {
                kind: kind.into(),
                name: name.into(),
            })
        });
        Self {
            id: entry.id,
            timestamp: entry.timestamp,
            severity: entry.severity,
            output: entry.output,
            message: entry.message.into_owned(),
            attributes: entry.attributes.into_owned(),
            stream: Arc::new(Stream {
                id: StreamId {
                    cluster: entry.cluster.into(),
                    pod_uid: entry.pod_uid.into(),
                    container: entry.container.into(),
                    restart: entry.restart,
                },
                namespace: entry.namespace.into(),
                pod: entry.pod.into(),
                node: entry.node.into(),
                image: entry.image.into(),
                workload,
                labels: entry.labels.into_owned(),
            }),
        }
    }
}

fn no_labels(labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
    labels.is_empty()
}

fn no_attributes(attributes: &[(String, String)]) -> bool {
    attributes.is_empty()
}

/// Answer of `/api/v1/search`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchResponse<'a> {
    pub entries: Vec<Entry<'a>>,
    /// Whether more match beyond the last entry, in the request's order.
    pub has_more: bool,
    /// Give it as `cursor` to read on; there when `has_more`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// Answer of `/api/v1/histogram`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramResponse {
    /// Width of a bucket, as a duration such as `1m`.
    pub bucket: String,
    /// Only buckets with entries, oldest first.
    pub buckets: Vec<Bucket>,
    pub total: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    #[serde(with = "time_text")]
    pub start: Timestamp,
    pub total: u64,
    /// By severity; zero is left out.
    pub counts: BTreeMap<Severity, u64>,
}

/// Answer of `/api/v1/facets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FacetsResponse {
    /// In the order asked for.
    pub facets: Vec<Facet>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facet {
    pub field: String,
    /// Most frequent first.
    pub values: Vec<FacetValue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FacetValue {
    pub value: String,
    pub count: u64,
}

/// One line of `/api/v1/tail`: an entry, or what the server has to say about the tail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TailLine<'a> {
    Notice(TailNotice),
    Entry(Box<Entry<'a>>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TailNotice {
    /// What matched before now has been sent; what follows is live.
    Live {},
    /// The client read too slowly: so many matching entries were left out. A search finds them.
    Skipped { entries: u64 },
    /// The tail fell behind the store by so many commits. What they hold is sent all the same, except perhaps entries
    /// that came late, older than others already sent. A search finds them.
    Overwritten { commits: u64 },
    /// The tail cannot go on; connect again with the last entry's id as `cursor`.
    Ended { error: ErrorBody },
}

/// What `/api/v1/sql` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlRequest {
    pub sql: String,
    /// `json`, `csv` or `arrow`; `json` by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Most rows of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Header or trailer of an answer to SQL: `true` when there are more rows than were asked for.
pub const SQL_TRUNCATED: &str = "x-tawny-truncated";

/// Header of an answer to SQL: the most rows it may have.
pub const SQL_LIMIT: &str = "x-tawny-limit";

/// Trailer of an answer to SQL that failed on the way: an [`ErrorResponse`] as ASCII.
pub const SQL_ERROR: &str = "x-tawny-error";

/// Body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    pub error: ErrorBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// For programs, such as `bad_query`; the list is in docs/api.md.
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// The line of a SQL statement that the error lies in, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Where in the query, or in the line, the error lies, in characters from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What to try instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

mod id_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tawny_model::EntryId;

    pub(super) fn serialize<S: Serializer>(id: &EntryId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<EntryId, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map(EntryId).map_err(D::Error::custom)
    }
}

mod time_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tawny_model::Timestamp;

    pub(super) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Timestamp::parse_rfc3339(text.as_bytes())
            .ok_or_else(|| D::Error::custom(format_args!("`{text}` is no RFC 3339 time")))
    }
}

/// As [`time_text`], and `null` for none.
mod time_text_or_none {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use tawny_model::Timestamp;

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        Timestamp::parse_rfc3339(text.as_bytes())
            .map(Some)
            .ok_or_else(|| D::Error::custom(format_args!("`{text}` is no RFC 3339 time")))
    }
}

/// A JSON object that keeps the order of its keys; of a repeated key the first counts.
pub mod attribute_map {
    use std::borrow::Cow;

    use serde::{Deserializer, Serializer, ser::SerializeMap as _};

    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer, T: AsRef<str>>(
        attributes: &[(T, T)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (idx, (key, value)) in attributes.iter().enumerate() {
            let (key, value) = (key.as_ref(), value.as_ref());
            // Quadratic over at most a few dozen keys, and cheaper than a set.
            if attributes[..idx]
                .iter()
                .all(|(earlier, _)| earlier.as_ref() != key)
            {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }

    /// # Errors
    /// When it is no object of texts.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'static, [(String, String)]>, D::Error> {
        tawny_model::pairs::deserialize(deserializer).map(Cow::Owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> LogEntry {
        let mut stream = Stream::new(
            StreamId {
                cluster: "".into(),
                pod_uid: "u-1".into(),
                container: "app".into(),
                restart: 2,
            },
            "prod",
            "api-1",
        );
        stream.node = "n1".into();
        stream.workload = Some(Workload {
            kind: "Deployment".into(),
            name: "api".into(),
        });
        stream.labels = [("app".into(), "api".into())].into();
        LogEntry {
            id: EntryId(6_044_520_569_526_045_703),
            timestamp: Timestamp::from_nanos(1_475_713_029_669_794_202),
            severity: Severity::Warn,
            output: Output::Stderr,
            message: "a \"quoted\" line".into(),
            attributes: vec![
                ("zebra".into(), "1".into()),
                ("apple".into(), "2".into()),
                ("zebra".into(), "3".into()),
            ],
            stream: Arc::new(stream),
        }
    }

    #[test]
    fn entry_is_written_in_full_and_empty_fields_are_left_out() {
        insta::assert_json_snapshot!(Entry::from(&entry()), @r#"
        {
          "id": "6044520569526045703",
          "timestamp": "2016-10-06T00:17:09.669794202Z",
          "severity": "warn",
          "namespace": "prod",
          "pod": "api-1",
          "container": "app",
          "pod_uid": "u-1",
          "restart": 2,
          "output": "stderr",
          "node": "n1",
          "workload": "Deployment/api",
          "labels": {
            "app": "api"
          },
          "message": "a \"quoted\" line",
          "attributes": {
            "zebra": "1",
            "apple": "2"
          }
        }
        "#);
    }

    #[test]
    fn entry_reads_back_as_the_one_written() {
        let mut entry = entry();
        entry.attributes.truncate(2);
        let json = serde_json::to_string(&Entry::from(&entry)).unwrap();
        let back: Entry<'_> = serde_json::from_str(&json).unwrap();
        assert_eq!(LogEntry::from(back), entry);
    }

    #[test]
    fn tail_lines_tell_entries_from_notices() {
        let json = serde_json::to_string(&Entry::from(&entry())).unwrap();
        assert!(matches!(
            serde_json::from_str(&json).unwrap(),
            TailLine::Entry(_)
        ));
        for (json, notice) in [
            (r#"{"live":{}}"#, TailNotice::Live {}),
            (
                r#"{"skipped":{"entries":3}}"#,
                TailNotice::Skipped { entries: 3 },
            ),
            (
                r#"{"overwritten":{"commits":2}}"#,
                TailNotice::Overwritten { commits: 2 },
            ),
        ] {
            assert_eq!(serde_json::to_string(&notice).unwrap(), json);
            assert_eq!(
                serde_json::from_str::<TailLine<'_>>(json).unwrap(),
                TailLine::Notice(notice)
            );
        }
    }
}
