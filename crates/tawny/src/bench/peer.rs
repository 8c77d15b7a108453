//! VictoriaLogs, to be measured beside Tawny over the same lines: how it is fed, asked and understood.
//!
//! Source: <https://docs.victoriametrics.com/victorialogs/querying/> and `/data-ingestion/`, as of 1.26.

use std::collections::BTreeMap;

use serde::{Deserialize, Serializer as _, ser::SerializeMap as _};
use tawny_model::Timestamp;

use super::{
    corpus::Line,
    queries::{Answer, Ask, Question},
    system::url,
};

/// Where lines go; its streams are ours.
pub(super) const INSERT: &str = "/insert/jsonline?_stream_fields=namespace,pod,pod_uid,container&_time_field=_time&_msg_field=_msg";

/// Makes it write what it holds in memory.
pub(super) const FLUSH: &str = "/internal/force_flush";

/// Appends one line of JSON: the message, what describes its stream, and the attributes as fields of their own.
pub(super) fn write_json_line(line: &Line<'_>, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let stream = line.stream;
    let mut json = serde_json::Serializer::new(&mut *out);
    let mut map = json.serialize_map(None)?;
    map.serialize_entry("_time", &line.timestamp.to_string())?;
    map.serialize_entry("_msg", line.message)?;
    map.serialize_entry("level", line.severity.name())?;
    map.serialize_entry("output", line.output.name())?;
    map.serialize_entry("namespace", &*stream.namespace)?;
    map.serialize_entry("pod", &*stream.pod)?;
    map.serialize_entry("pod_uid", &*stream.id.pod_uid)?;
    map.serialize_entry("container", stream.container())?;
    map.serialize_entry("node", &*stream.node)?;
    if let Some(workload) = &stream.workload {
        map.serialize_entry("workload", &*workload.name)?;
    }
    for (key, value) in line.attributes {
        map.serialize_entry(key, value)?;
    }
    map.end()?;
    out.push(b'\n');
    Ok(())
}

/// The path and parameters that ask a question.
pub(super) fn target(question: &Question) -> String {
    let filter = &question.logsql;
    let mut query = filter.clone();
    let mut path = "/select/logsql/query";
    let mut parameters = Vec::new();
    match question.ask {
        Ask::Newest(limit) => parameters.push(("limit", limit.to_string())),
        Ask::Count => query = format!("{filter} | stats count() n"),
        Ask::Top { field, limit } => {
            let field = field.name();
            query = format!(
                "{filter} | stats by ({field}) count() n | sort by (n desc) limit {limit} | rename {field} as value"
            );
        }
        Ask::P99 { attribute } => {
            query = format!(
                "{filter} | stats by (namespace) quantile(0.99, {attribute}) p99 | rename namespace as value"
            );
        }
        Ask::PerMinute => {
            path = "/select/logsql/hits";
            parameters.push(("step", "1m".to_owned()));
        }
    }
    parameters.push(("query", query));
    if let Some(range) = &question.range {
        parameters.push(("start", range.start.as_nanos().to_string()));
        // Its `end` is part of the range.
        parameters.push(("end", (range.end.as_nanos() - 1).to_string()));
    }
    url(path, &parameters)
}

#[derive(Debug, Deserialize)]
struct Row {
    #[serde(rename = "_time", default)]
    time: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    value: String,
    /// A number, as text or not.
    #[serde(default)]
    p99: serde_json::Value,
}

impl Row {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds, rounded")]
    fn p99(&self) -> anyhow::Result<i64> {
        let number = match &self.p99 {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_f64(),
        };
        let number: f64 = number.ok_or_else(|| anyhow::anyhow!("{} is no number", self.p99))?;
        Ok(number.round() as i64)
    }
}

#[derive(Debug, Deserialize)]
struct Hits {
    hits: Vec<Series>,
}

#[derive(Debug, Deserialize)]
struct Series {
    timestamps: Vec<String>,
    values: Vec<u64>,
}

fn nanos(time: &str) -> anyhow::Result<i64> {
    Timestamp::parse_rfc3339(time.as_bytes())
        .map(Timestamp::as_nanos)
        .ok_or_else(|| anyhow::anyhow!("`{time}` is no time"))
}

/// Reads an answer.
pub(super) fn read(ask: Ask, body: &[u8]) -> anyhow::Result<Answer> {
    if matches!(ask, Ask::PerMinute) {
        let hits: Hits = serde_json::from_slice(body)?;
        let mut minutes = BTreeMap::new();
        for series in hits.hits {
            for (time, n) in series.timestamps.iter().zip(series.values) {
                if n > 0 {
                    *minutes.entry(nanos(time)?).or_default() += n;
                }
            }
        }
        return Ok(Answer::PerMinute(minutes));
    }
    let rows = serde_json::Deserializer::from_slice(body)
        .into_iter::<Row>()
        .collect::<Result<Vec<_>, _>>()?;
    Ok(match ask {
        Ask::Newest(_) => {
            let mut times = rows
                .iter()
                .map(|row| nanos(&row.time))
                .collect::<Result<Vec<_>, _>>()?;
            // Entries of one answer come in any order.
            times.sort_unstable_by(|a, b| b.cmp(a));
            Answer::Newest(times)
        }
        Ask::Count => Answer::Count(match rows.first() {
            Some(row) => row.n.parse()?,
            None => 0,
        }),
        Ask::P99 { .. } => Answer::P99(
            rows.into_iter()
                .map(|row| {
                    let p99 = row.p99()?;
                    Ok((row.value, vec![p99]))
                })
                .collect::<anyhow::Result<_>>()?,
        ),
        Ask::Top { .. } | Ask::PerMinute => Answer::Top(
            rows.into_iter()
                .map(|row| Ok((row.value, row.n.parse()?)))
                .collect::<anyhow::Result<_>>()?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As VictoriaLogs 1.26 answers.
    #[test]
    fn answers_are_understood() {
        let newest = br#"{"_time":"1970-01-01T00:00:00.000000001Z","_msg":"a","level":"info"}
{"_time":"1970-01-01T00:00:00.000000002Z","_msg":"b","n":"7"}
"#;
        for (ask, body, answer) in [
            (Ask::Newest(9), newest.as_slice(), Answer::Newest(vec![2, 1])),
            (Ask::Newest(9), b"", Answer::Newest(Vec::new())),
            (Ask::Count, b"{\"n\":\"12\"}\n", Answer::Count(12)),
            (
                Ask::Top {
                    field: super::super::queries::Field::Pod,
                    limit: 10,
                },
                b"{\"n\":\"3\",\"value\":\"a-1\"}\n",
                Answer::Top([("a-1".to_owned(), 3)].into()),
            ),
            (
                Ask::PerMinute,
                br#"{"hits":[{"fields":{},"timestamps":["1970-01-01T00:01:00Z","1970-01-01T00:02:00Z"],"values":[4,0],"total":4}]}"#,
                Answer::PerMinute([(60_000_000_000, 4)].into()),
            ),
        ] {
            assert_eq!(read(ask, body).unwrap(), answer, "{ask:?}");
        }
        assert!(read(Ask::Count, b"no JSON").is_err());
    }
}
