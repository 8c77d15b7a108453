//! An alert, from the moment it fires to its end, as notifiers and pages get it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tawny_model::{Timestamp, stream::Fnv, strip_ansi};
use tawny_query::{Field, Record};

use super::{
    rules::Rule,
    span::short,
    template::{Template, Word},
    threshold::Threshold,
};
use crate::{Severity, sentence::one_line};

/// Lines an alert shows: the latest that were counted.
pub(super) const MAX_LINES: usize = 3;
/// Longest text of such a line.
pub(super) const MAX_LINE_CHARS: usize = 300;
/// Longest value of a group; values that are longer and begin alike are one group.
pub(super) const MAX_VALUE_BYTES: usize = 128;

/// One of the lines that were counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertLine {
    pub at: Timestamp,
    pub namespace: Arc<str>,
    pub pod: Arc<str>,
    pub container: Arc<str>,
    /// In one line, without colours, cut at 300 characters.
    pub text: String,
}

impl AlertLine {
    pub(super) fn new(record: &impl Record) -> Self {
        let stream = record.stream();
        // A few colour codes leave enough of it; the rest of a huge message is not looked at.
        let start: String = record.message().chars().take(2 * MAX_LINE_CHARS).collect();
        let mut text: String = one_line(&strip_ansi(&start))
            .chars()
            .take(MAX_LINE_CHARS)
            .collect();
        text.shrink_to_fit();
        Self {
            at: record.timestamp(),
            namespace: Arc::clone(&stream.namespace),
            pod: Arc::clone(&stream.pod),
            container: Arc::clone(&stream.id.container),
            text,
        }
    }
}

/// A group of lines that reached its rule's threshold, and has not stopped doing so.
///
/// One alert is one episode: it fires once, is updated when it gets much worse, and ends once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same for every change of one episode and for no other: a hash of rule and group, and when it fired.
    pub id: String,
    /// The same for all episodes of one rule and group: what to group messages by and to mute.
    pub key: String,
    pub rule: Arc<str>,
    pub severity: Severity,
    /// Names and values of the group, in the order of `group_by`; a field the lines have not is empty.
    pub group: Vec<(String, Arc<str>)>,
    /// Lines in the window when this was told; when it is over, the most (the least, where lines are missing) there
    /// were.
    pub count: u64,
    /// The lines they are a share of.
    pub of: Option<u64>,
    pub query: String,
    #[serde(with = "super::span")]
    pub window: Duration,
    pub threshold: Threshold,
    /// When the threshold was reached.
    pub since: Timestamp,
    /// When that had held for as long as the rule demands.
    pub fired_at: Timestamp,
    /// The latest lines, oldest first.
    pub lines: Vec<AlertLine>,
    /// The rule's own words, where it has some.
    pub summary: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// Why an alert is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The threshold was not reached for as long as the rule demands.
    Calm,
    /// Lines were missing for so long that nobody waits for them any more.
    Forgotten,
    /// Its rule had more groups than it may have.
    Crowded,
    /// Its rule is gone or counts something else now.
    RuleChanged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertChangeKind {
    Fired,
    /// Ten times the lines it was last told with.
    Worse,
    Resolved(Ended),
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertChange {
    /// When it happened, which may be before the call that says so.
    pub at: Timestamp,
    pub kind: AlertChangeKind,
    pub alert: Alert,
}

/// What a group has to say of itself.
pub(super) struct Facts<'g> {
    pub values: &'g [Arc<str>],
    pub lines: &'g [AlertLine],
    pub count: u64,
    pub of: u64,
    pub since: Timestamp,
}

impl Alert {
    pub(super) fn fire(rule: &Rule, facts: &Facts<'_>, at: Timestamp) -> Self {
        let key = key(&rule.name, &rule.group_by, facts.values);
        let of = rule.of.is_some().then_some(facts.of);
        let render = |template: &Template| {
            let value = |idx: usize| {
                facts
                    .values
                    .get(idx)
                    .map_or_else(String::new, |v| v.to_string())
            };
            template.render(value, |word| match word {
                Word::Rule => rule.name.to_string(),
                Word::Severity => rule.severity.to_string(),
                Word::Count => facts.count.to_string(),
                Word::Of => facts.of.to_string(),
                Word::Window => short(rule.window),
                Word::Threshold => rule.threshold.to_string(),
                Word::Query => rule.query.text().to_owned(),
                Word::Line => facts
                    .lines
                    .last()
                    .map_or_else(String::new, |line| line.text.clone()),
            })
        };
        let rendered = |templates: &[(String, Template)]| {
            templates
                .iter()
                .map(|(name, template)| (name.clone(), render(template)))
                .collect()
        };
        Self {
            id: format!("{key}-{}", at.as_millis()),
            key,
            rule: Arc::clone(&rule.name),
            severity: rule.severity,
            group: rule
                .group_by
                .iter()
                .map(Field::to_string)
                .zip(facts.values.iter().cloned())
                .collect(),
            count: facts.count,
            of,
            query: rule.query.text().to_owned(),
            window: rule.window,
            threshold: rule.threshold,
            since: facts.since,
            fired_at: at,
            lines: facts.lines.to_vec(),
            summary: rule.summary.as_ref().map(render),
            labels: rendered(&rule.labels),
            annotations: rendered(&rule.annotations),
        }
    }
}

fn key(rule: &str, group_by: &[Field], values: &[Arc<str>]) -> String {
    let mut hash = Fnv::default();
    let names = group_by.iter().map(Field::to_string);
    for part in std::iter::once(rule.to_owned())
        .chain(names)
        .chain(values.iter().map(|value| value.to_string()))
    {
        hash.write(part.as_bytes());
        hash.write(&[0]);
    }
    format!("{:016x}", hash.finish())
}

/// The value a line has in a field its rule groups by; empty where it has none.
pub(super) fn value(field: &Field, record: &impl Record) -> Arc<str> {
    let stream = record.stream();
    let text: &Arc<str> = match field {
        Field::Cluster => &stream.id.cluster,
        Field::Namespace => &stream.namespace,
        Field::Pod => &stream.pod,
        Field::PodUid => &stream.id.pod_uid,
        Field::Container => &stream.id.container,
        Field::Node => &stream.node,
        Field::Image => &stream.image,
        Field::Label(key) => match stream.labels.get(key.as_str()) {
            Some(value) => value,
            None => return "".into(),
        },
        Field::Workload => {
            let workload = stream.workload.as_ref();
            return workload
                .map_or_else(|| "".into(), |workload| cut(&workload.to_string()).into());
        }
        Field::Restart => return stream.id.restart.to_string().into(),
        Field::Output => return record.output().name().into(),
        Field::Severity => return record.severity().name().into(),
        Field::Attribute(key) => return cut(record.attribute(key).unwrap_or_default()).into(),
        _ => return "".into(),
    };
    if text.len() <= MAX_VALUE_BYTES {
        Arc::clone(text)
    } else {
        cut(text).into()
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_VALUE_BYTES))
        .unwrap_or(text)
}
