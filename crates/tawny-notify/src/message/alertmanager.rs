//! The body of Alertmanager's `POST /api/v2/alerts`.
//!
//! Source: `api/v2/openapi.yaml` of Alertmanager, `postableAlerts`: labels are the alert's identity, so they hold only
//! what stays the same over its life; everything else is an annotation.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use tawny_model::Timestamp;

use super::text;
use crate::{
    desk::Alert,
    notice::{label, shorten},
};

/// An alert that is not sent again for so many times `resend_after` ends by itself. Source: Prometheus,
/// `sendAlerts` in `cmd/prometheus/main.go` and `ValidUntil` in `rules/alerting.go`.
const VALID_RESENDS: u32 = 4;

/// Alerts in one request. Source: Prometheus, `DefaultMaxBatchSize` in `notifier/manager.go`.
pub const MAX_BATCH: usize = 256;

/// Longest value of an annotation; Alertmanager's own receivers cut shorter.
const MAX_VALUE_CHARS: usize = 2_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert<'a> {
    labels: BTreeMap<&'a str, &'a str>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
}

/// The body for at most [`MAX_BATCH`] alerts, as JSON.
pub fn body(alerts: &[Alert], now: Timestamp, resend_after: Duration) -> String {
    let alerts: Vec<PostableAlert<'_>> = (alerts.iter())
        .map(|alert| postable(alert, now, resend_after))
        .collect();
    serde_json::to_string(&alerts).expect("alerts have string keys only and serialize")
}

fn postable(alert: &Alert, now: Timestamp, resend_after: Duration) -> PostableAlert<'_> {
    let notice = &alert.notice;
    let ends_at = if alert.is_over {
        // An end in the future would leave it firing.
        notice.ended_at.map_or(now, |at| at.min(now))
    } else {
        now.saturating_add(resend_after * VALID_RESENDS)
    };
    // Alertmanager refuses what begins after its end, as a clock that is ahead would have it.
    let starts_at = notice.started_at.min(ends_at).min(now);
    PostableAlert {
        labels: labels(alert),
        annotations: annotations(alert),
        starts_at: starts_at.to_string(),
        ends_at: ends_at.to_string(),
        generator_url: notice.links.first().map_or("", |link| &link.url),
    }
}

/// Pod and node of a workload change from one occurrence to the next, so they are annotations then.
fn labels(alert: &Alert) -> BTreeMap<&str, &str> {
    let notice = &alert.notice;
    let has_workload = !notice.label(label::WORKLOAD).is_empty();
    let mut labels: BTreeMap<&str, &str> = (notice.labels.iter())
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, value)| is_label_name(name) && !value.is_empty())
        .filter(|(name, _)| !(has_workload && [label::POD, label::NODE].contains(name)))
        .collect();
    labels.extend([
        ("alertname", notice.class.as_str()),
        ("key", notice.key.as_str()),
        ("severity", notice.severity.name()),
        ("source", "tawny"),
    ]);
    labels
}

fn annotations(alert: &Alert) -> BTreeMap<&'static str, String> {
    let notice = &alert.notice;
    let mut annotations = BTreeMap::new();
    let mut annotate = |name, value: &str| {
        if !value.is_empty() {
            annotations.insert(name, shorten(value, MAX_VALUE_CHARS));
        }
    };
    annotate("summary", &notice.sentence);
    let facts: Vec<String> = (notice.facts.iter())
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    annotate("description", &facts.join("\n"));
    annotate("hints", &notice.hints.join("\n"));
    annotate("last_lines", &notice.last_lines.join("\n"));
    annotate("count", &notice.count.to_string());
    annotate("state", &text::headline(notice));
    if !notice.label(label::WORKLOAD).is_empty() {
        annotate("pod", notice.label(label::POD));
        annotate("node", notice.label(label::NODE));
    }
    annotations
}

/// A label name as every Alertmanager takes it. Source: Prometheus data model, `[a-zA-Z_][a-zA-Z0-9_]*`.
fn is_label_name(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_start) && name.chars().all(|c| is_start(c) || c.is_ascii_digit())
}
