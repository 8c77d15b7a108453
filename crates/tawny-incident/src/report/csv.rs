//! BlackBox's CSV format (BB-42), with values escaped as RFC 4180 asks.

use std::collections::BTreeMap;

use tawny_model::Timestamp;

use super::{IncidentReport, plain};

const HEADER: &str = "timestamp,source,type,name,value,tags,incident_id\n";

pub(super) fn write(report: &IncidentReport) -> String {
    let mut out = String::from(HEADER);
    for entry in &report.telemetry {
        let fields = [
            moment(entry.timestamp),
            field(&entry.source),
            field(&entry.kind),
            field(&entry.name),
            field(&plain(&entry.value)),
            quoted(&tags(&entry.tags)),
            field(&report.incident.id),
        ];
        out.push_str(&fields.join(","));
        out.push('\n');
    }
    out
}

/// `2006-01-02T15:04:05.000Z`.
fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{}Z", text.get(..23).unwrap_or_default())
}

fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        quoted(text)
    } else {
        text.to_owned()
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// `k=v;k=v`, in the order of keys; a `;` or `\` that belongs to a key or value has a `\` before it.
fn tags(tags: &BTreeMap<String, String>) -> String {
    let escaped = |text: &String| text.replace('\\', "\\\\").replace(';', "\\;");
    tags.iter()
        .map(|(key, value)| format!("{}={}", escaped(key), escaped(value)))
        .collect::<Vec<_>>()
        .join(";")
}
