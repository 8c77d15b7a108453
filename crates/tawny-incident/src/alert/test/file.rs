//! The form of a file of tests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tawny_model::{EntryId, LogEntry, Output, Severity, Stream, StreamId, Timestamp, Workload};
use tawny_query::Field;

use super::super::{
    rules::Rules,
    yaml::{Fields, Node, Problem, Reader, nearest},
};
use crate::Error;

const TOP_KEYS: &[&str] = &["rules", "tests"];
const TEST_KEYS: &[&str] = &["name", "rules", "entries", "expect"];
const ENTRY_KEYS: &[&str] = &[
    "at",
    "arrives",
    "message",
    "level",
    "output",
    "namespace",
    "pod",
    "container",
    "node",
    "image",
    "workload",
    "labels",
    "attributes",
    "repeat",
    "every",
];
const EXPECT_KEYS: &[&str] = &["at", "rule", "is", "group", "times"];

/// Longest time a test can last.
const MAX_OFFSET: Duration = Duration::from_hours(24 * 90);
const MAX_REPEAT: u64 = 100_000;

/// One test.
pub(super) struct Case {
    pub name: String,
    pub rules: Rules,
    /// In the order of their arrival.
    pub lines: Vec<Line>,
    /// In the order of their times.
    pub expectations: Vec<Expectation>,
    /// A problem at its place, with no message yet.
    pub place: Problem,
}

pub(super) struct Line {
    /// What the line says of itself, counted from the start.
    at: Duration,
    pub arrives: Duration,
    severity: Severity,
    output: Output,
    message: Arc<str>,
    attributes: Arc<[(String, String)]>,
    stream: Arc<Stream>,
}

impl Line {
    pub(super) fn entry(&self, start: Timestamp) -> LogEntry {
        LogEntry {
            id: EntryId(0),
            timestamp: start.saturating_add(self.at),
            severity: self.severity,
            output: self.output,
            message: self.message.to_string(),
            attributes: self.attributes.to_vec(),
            stream: Arc::clone(&self.stream),
        }
    }
}

pub(super) struct Expectation {
    pub at: Duration,
    pub rule: String,
    pub fires: Option<bool>,
    /// How often it has fired by then.
    pub times: Option<u64>,
    /// Names as alerts have them.
    pub group: Vec<(String, String)>,
    pub place: Problem,
}

/// Reads a file of tests and the rule files it names.
pub(super) fn load<F: FnMut(&str) -> Result<String, String>>(
    file: &str,
    text: &str,
    read: F,
) -> Result<Vec<Case>, Error> {
    let mut loading = Loading {
        reader: Reader::new(file, text),
        read,
        files: BTreeMap::new(),
        problems: Vec::new(),
    };
    let cases = loading.cases();
    let mut problems = loading.reader.problems;
    problems.append(&mut loading.problems);
    if problems.is_empty() {
        Ok(cases)
    } else {
        Err(Error::BadAlerts { problems })
    }
}

struct Loading<'t, F> {
    reader: Reader<'t>,
    read: F,
    /// Rule files that were read; `None` for one that is wrong, which is told once.
    files: BTreeMap<String, Option<Rules>>,
    /// Those of rule files.
    problems: Vec<Problem>,
}

impl<F: FnMut(&str) -> Result<String, String>> Loading<'_, F> {
    fn cases(&mut self) -> Vec<Case> {
        let Some(value) = self.reader.parse() else {
            return Vec::new();
        };
        let root = self.reader.root(&value);
        let Some(fields) = self.reader.fields(&root, TOP_KEYS) else {
            return Vec::new();
        };
        let common = fields.get("rules").map(|node| self.rules(&node));
        let Some(tests) = fields.get("tests") else {
            self.reader
                .tell(&root, "has no tests; add some below `tests:`");
            return Vec::new();
        };
        let tests = self.reader.list(&tests).unwrap_or_default();
        tests
            .into_iter()
            .filter_map(|node| self.case(&node, common.as_ref()))
            .collect()
    }

    /// A list of rules that stands here, or the name of a file. `None` when they are wrong, which is told.
    fn rules(&mut self, node: &Node<'_>) -> Option<Rules> {
        if node.is_list() {
            return Rules::inline(&mut self.reader, node);
        }
        let path = self.reader.text(node)?;
        if let Some(rules) = self.files.get(&path) {
            return rules.clone();
        }
        let rules = match (self.read)(&path) {
            Ok(text) => match Rules::load([(path.as_str(), text.as_str())]) {
                Ok(rules) => Some(rules),
                Err(Error::BadAlerts { mut problems }) => {
                    self.problems.append(&mut problems);
                    None
                }
                Err(other) => {
                    self.reader.tell(node, other.to_string());
                    None
                }
            },
            Err(reason) => {
                self.reader
                    .tell(node, format!("cannot read `{path}`: {reason}"));
                None
            }
        };
        self.files.insert(path, rules.clone());
        rules
    }

    fn case(&mut self, node: &Node<'_>, common: Option<&Option<Rules>>) -> Option<Case> {
        let fields = self.reader.fields(node, TEST_KEYS)?;
        let name = fields.get("name").and_then(|node| self.reader.text(&node));
        if name.is_none() {
            self.reader
                .tell(node, "has no name; add one that says what is tried");
        }
        let own = fields.get("rules").map(|node| self.rules(&node));
        if own.is_none() && common.is_none() {
            self.reader.tell(
                node,
                "has no rules; write `rules:` with a list or the name of a file, here or above `tests`",
            );
        }
        let rules = own.or_else(|| common.cloned()).flatten();
        let mut lines = Vec::new();
        if let Some(entries) = fields.get("entries") {
            for entry in self.reader.list(&entries).unwrap_or_default() {
                lines.extend(self.lines(&entry));
            }
        }
        lines.sort_by_key(|line: &Line| line.arrives);
        let mut expectations = Vec::new();
        match fields.get("expect") {
            Some(list) => {
                for expect in self.reader.list(&list).unwrap_or_default() {
                    expectations.extend(self.expectation(&expect, rules.as_ref()));
                }
            }
            None => self
                .reader
                .tell(node, "expects nothing; add `expect:` with what fires when"),
        }
        expectations.sort_by_key(|expectation: &Expectation| expectation.at);
        Some(Case {
            name: name?,
            rules: rules?,
            lines,
            expectations,
            place: self.reader.place(node),
        })
    }

    fn offset(&mut self, fields: &Fields<'_>, key: &str) -> Option<Duration> {
        let node = fields.get(key)?;
        self.reader.span(&node, Duration::ZERO..=MAX_OFFSET)
    }

    /// The entry as often as it is repeated.
    fn lines(&mut self, node: &Node<'_>) -> Vec<Line> {
        let Some(fields) = self.reader.fields(node, ENTRY_KEYS) else {
            return Vec::new();
        };
        let reader = &mut self.reader;
        let text = |reader: &mut Reader<'_>, key: &str, default: &str| -> Arc<str> {
            let node = fields.get(key);
            node.and_then(|node| reader.text(&node))
                .map_or_else(|| default.into(), Into::into)
        };
        let id = StreamId {
            cluster: "".into(),
            pod_uid: text(reader, "pod", "pod-1"),
            container: text(reader, "container", "app"),
            restart: 0,
        };
        let pod = Arc::clone(&id.pod_uid);
        let mut stream = Stream::new(id, text(reader, "namespace", "default"), pod);
        stream.node = text(reader, "node", "");
        stream.image = text(reader, "image", "");
        stream.workload = fields
            .get("workload")
            .and_then(|node| workload(reader, &node));
        let pairs = |reader: &mut Reader<'_>, key: &str| {
            let node = fields.get(key);
            node.map(|node| reader.pairs(&node)).unwrap_or_default()
        };
        stream.labels = pairs(reader, "labels")
            .into_iter()
            .map(|(name, _, value)| (name.into(), value.into()))
            .collect();
        let attributes: Arc<[(String, String)]> = pairs(reader, "attributes")
            .into_iter()
            .map(|(name, _, value)| (name, value))
            .collect();
        let severity = fields.get("level").and_then(|node| level(reader, &node));
        let output = fields.get("output").and_then(|node| output(reader, &node));
        let message = text(reader, "message", "");
        if fields.get("message").is_none() {
            reader.tell(node, "has no message");
        }
        let repeat = fields
            .get("repeat")
            .and_then(|node| reader.whole(&node, 1..=MAX_REPEAT));
        if fields.get("at").is_none() {
            reader.tell(
                node,
                "has no time; add one from the start of the test, such as `at: 30s`",
            );
        }
        let (at, arrives, every) = (
            self.offset(&fields, "at").unwrap_or_default(),
            self.offset(&fields, "arrives"),
            self.offset(&fields, "every").unwrap_or_default(),
        );
        let stream = Arc::new(stream);
        let line = |n: u64| {
            let later = every.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
            Line {
                at: at.saturating_add(later),
                arrives: arrives.unwrap_or(at).saturating_add(later),
                severity: severity.unwrap_or(Severity::Info),
                output: output.unwrap_or_default(),
                message: Arc::clone(&message),
                attributes: Arc::clone(&attributes),
                stream: Arc::clone(&stream),
            }
        };
        (0..repeat.unwrap_or(1)).map(line).collect()
    }

    fn expectation(&mut self, node: &Node<'_>, rules: Option<&Rules>) -> Option<Expectation> {
        let fields = self.reader.fields(node, EXPECT_KEYS)?;
        let at = self.offset(&fields, "at");
        for key in ["at", "rule"] {
            if fields.get(key).is_none() {
                self.reader.tell(node, format!("has no `{key}`"));
            }
        }
        let fires = fields.get("is").and_then(|node| {
            let text = self.reader.text(&node)?;
            match text.as_str() {
                "firing" => Some(true),
                "quiet" => Some(false),
                _ => {
                    self.reader.tell(
                        &node,
                        format!("`{text}` is no state; write firing or quiet"),
                    );
                    None
                }
            }
        });
        let times = fields
            .get("times")
            .and_then(|node| self.reader.whole(&node, 0..=1_000_000));
        if fields.get("is").is_none() && fields.get("times").is_none() {
            self.reader.tell(
                node,
                "expects nothing; add `is: firing`, `is: quiet` or `times: 1`",
            );
        }
        let rule_node = fields.get("rule")?;
        let rule = self.reader.text(&rule_node)?;
        let rules = rules?;
        let Some(known) = rules.get(&rule) else {
            let names = rules.iter().map(|rule| &*rule.name);
            let near = nearest(&rule, names)
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            self.reader
                .tell(&rule_node, format!("there is no rule `{rule}`{near}"));
            return None;
        };
        let mut group = Vec::new();
        if let Some(node) = fields.get("group") {
            for (name, node, value) in self.reader.pairs(&node) {
                let field = Field::named(&name);
                if known.group_by.contains(&field) {
                    group.push((field.to_string(), value));
                } else {
                    self.reader
                        .tell(&node, format!("`{rule}` does not group by `{name}`"));
                }
            }
        }
        Some(Expectation {
            at: at?,
            rule,
            fires,
            times,
            group,
            place: self.reader.place(node),
        })
    }
}

fn level(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Severity> {
    let text = reader.text(node)?;
    let level = Severity::from_text(&text);
    if level.is_none() {
        reader.tell(
            node,
            format!("`{text}` is no level; write one such as info, warn or error"),
        );
    }
    level
}

fn output(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Output> {
    match reader.text(node)?.as_str() {
        "stdout" => Some(Output::Stdout),
        "stderr" => Some(Output::Stderr),
        _ => {
            reader.tell(node, "must be stdout or stderr");
            None
        }
    }
}

fn workload(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Workload> {
    let text = reader.text(node)?;
    let Some((kind, name)) = text.split_once('/') else {
        reader.tell(node, "must be a kind and a name, such as Deployment/api");
        return None;
    };
    Some(Workload {
        kind: kind.into(),
        name: name.into(),
    })
}
