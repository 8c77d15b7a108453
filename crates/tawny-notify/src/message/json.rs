//! The body of a webhook and a line of a file: the notice with readable times.

use std::collections::BTreeMap;

use serde::Serialize;
use tawny_model::Timestamp;

use super::text;
use crate::{Kind, Outgoing, notice::Link};

/// Grows when a field changes its meaning; new fields do not count.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    key: &'a str,
    kind: Kind,
    severity: &'static str,
    #[serde(rename = "type")]
    class: &'a str,
    /// One sentence with what happened before it, for receivers that show only text.
    text: String,
    sentence: &'a str,
    labels: &'a BTreeMap<String, String>,
    facts: Vec<Fact<'a>>,
    hints: &'a [String],
    last_lines: &'a [String],
    count: u64,
    /// When it was sent, as RFC 3339; so are the times below.
    told_at: String,
    started_at: String,
    ended_at: Option<String>,
    links: &'a [Link],
}

#[derive(Serialize)]
struct Fact<'a> {
    name: &'a str,
    value: &'a str,
}

/// One object, without line breaks.
pub fn object(notice: &Outgoing, now: Timestamp) -> String {
    let body = Body {
        version: VERSION,
        key: &notice.key,
        kind: notice.kind,
        severity: notice.severity.name(),
        class: &notice.class,
        text: text::sentence(notice),
        sentence: &notice.sentence,
        labels: &notice.labels,
        facts: (notice.facts.iter())
            .map(|(name, value)| Fact { name, value })
            .collect(),
        hints: &notice.hints,
        last_lines: &notice.last_lines,
        count: notice.count,
        told_at: now.to_string(),
        started_at: notice.started_at.to_string(),
        ended_at: notice.ended_at.map(|at| at.to_string()),
        links: &notice.links,
    };
    serde_json::to_string(&body).expect("a body has string keys only and serializes")
}
