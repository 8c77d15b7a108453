//! Many messages at once, told as one (section 4.5, row "Storm").

use std::{collections::BTreeMap, time::Duration};

use tawny_incident::Severity;
use tawny_model::Timestamp;
use tokio::time::Instant;

use crate::{
    Kind, Notice, Outgoing,
    notice::{label, shorten},
};

/// Messages a digest quotes, the most severe first.
const MAX_QUOTED: usize = 10;
const MAX_QUOTE_CHARS: usize = 240;
/// Types and namespaces it names; the rest is counted together.
const MAX_NAMED: usize = 8;
/// Types and namespaces it counts apart, so that made-up names cannot grow it without end.
const MAX_COUNTED: usize = 256;

#[derive(Debug)]
pub(super) struct Gathering {
    since: Instant,
    within: Duration,
    n_messages: u64,
    by_kind: BTreeMap<Kind, u64>,
    by_class: BTreeMap<String, u64>,
    by_namespace: BTreeMap<String, u64>,
    severity: Severity,
    started_at: Timestamp,
    quoted: Vec<(Severity, String)>,
}

impl Gathering {
    pub(super) fn new(since: Instant, within: Duration) -> Self {
        Self {
            since,
            within,
            n_messages: 0,
            by_kind: BTreeMap::new(),
            by_class: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
            severity: Severity::Low,
            started_at: Timestamp::MAX,
            quoted: Vec::new(),
        }
    }

    pub(super) fn ends_at(&self) -> Instant {
        self.since + self.within
    }

    pub(super) fn add(&mut self, message: &Outgoing) {
        self.n_messages += 1;
        *self.by_kind.entry(message.kind).or_default() += 1;
        count(&mut self.by_class, &message.class);
        count(&mut self.by_namespace, message.label(label::NAMESPACE));
        self.severity = self.severity.max(message.severity);
        self.started_at = self.started_at.min(message.started_at);
        let is_worth = self.quoted.len() < MAX_QUOTED
            || self
                .quoted
                .last()
                .is_some_and(|(least, _)| message.severity > *least);
        if is_worth {
            let quote = shorten(&message.sentence, MAX_QUOTE_CHARS);
            let at = (self.quoted).partition_point(|(severity, _)| *severity >= message.severity);
            self.quoted.insert(at, (message.severity, quote));
            self.quoted.truncate(MAX_QUOTED);
        }
    }

    pub(super) fn into_notice(self) -> Outgoing {
        let kinds: Vec<String> = (self.by_kind.iter())
            .map(|(kind, n)| format!("{n} {}", kind.name()))
            .collect();
        let sentence = format!(
            "{} more messages within {}: {}.",
            self.n_messages,
            tawny_runtime::duration::display(self.within),
            kinds.join(", ")
        );
        let mut facts = vec![("types".to_owned(), largest(&self.by_class))];
        let namespaces = largest(&self.by_namespace);
        if !namespaces.is_empty() {
            facts.push(("namespaces".to_owned(), namespaces));
        }
        Outgoing::new(Notice {
            key: "digest".to_owned(),
            kind: Kind::Digest,
            severity: self.severity,
            class: "digest".to_owned(),
            labels: BTreeMap::new(),
            sentence,
            facts,
            hints: vec![
                "Look for what they have in common: a node, a rollout, a service they all need."
                    .to_owned(),
            ],
            last_lines: self.quoted.into_iter().map(|(_, quote)| quote).collect(),
            count: self.n_messages,
            started_at: self.started_at,
            ended_at: None,
            links: Vec::new(),
        })
    }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    if name.is_empty() {
        return;
    }
    let is_named = counts.contains_key(name) || counts.len() < MAX_COUNTED;
    let name = if is_named { name } else { "…" };
    *counts.entry(name.to_owned()).or_default() += 1;
}

/// `crash 20, image_pull 14 and 3 others`.
fn largest(counts: &BTreeMap<String, u64>) -> String {
    let mut counts: Vec<(&String, &u64)> = counts.iter().collect();
    counts.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let named: Vec<String> = (counts.iter().take(MAX_NAMED))
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    let n_others: u64 = counts.iter().skip(MAX_NAMED).map(|(_, n)| **n).sum();
    match n_others {
        0 => named.join(", "),
        _ => format!("{} and {n_others} others", named.join(", ")),
    }
}
