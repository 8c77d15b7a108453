//! YAML whose every problem is told with its place: files of rules and files of tests are read through it.
//!
//! A file becomes a tree first, so that one mistake does not hide the next. The tree knows no lines; the place of a
//! problem is found by reading the file again up to the node it is about.

use std::{fmt, ops::RangeInclusive, time::Duration};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_yaml_ng::{Mapping, Value};

use super::span::{parse_span, short};

/// Something in a file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as its reader named it.
    pub file: String,
    /// From 1; 1 where the file as a whole is meant.
    pub line: usize,
    /// In characters from 1.
    pub column: usize,
    /// `rules[2].window`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what to write instead.
    pub message: String,
    /// The value with a caret below the place, for queries.
    pub excerpt: Option<String>,
}

/// `alerts.yaml:12:13: rules[2].window: …`, the excerpt indented below.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        for line in self.excerpt.iter().flat_map(|excerpt| excerpt.lines()) {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A value and the way to it.
#[derive(Debug, Clone)]
pub(super) struct Node<'v> {
    value: &'v Value,
    path: Vec<Step>,
}

impl<'v> Node<'v> {
    fn child(&self, step: Step, value: &'v Value) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self { value, path }
    }

    /// Whether it is a list, for keys that take a text or a list.
    pub(super) fn is_list(&self) -> bool {
        self.value.is_sequence()
    }
}

/// The keys of a mapping.
#[derive(Debug)]
pub(super) struct Fields<'v> {
    node: Node<'v>,
    mapping: &'v Mapping,
}

impl<'v> Fields<'v> {
    /// The value of a key; `None` where it is missing or empty.
    pub(super) fn get(&self, key: &str) -> Option<Node<'v>> {
        let value = self.mapping.get(key).filter(|value| !value.is_null())?;
        Some(self.node.child(Step::Key(key.to_owned()), value))
    }

    /// The mapping itself, to say that something is missing in it.
    pub(super) fn node(&self) -> &Node<'v> {
        &self.node
    }
}

/// Reads one file and collects what is wrong with it.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    pub(super) problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        Self {
            file,
            text,
            problems: Vec::new(),
        }
    }

    /// The whole file; `None` when it is no YAML, which is told.
    pub(super) fn parse(&mut self) -> Option<Value> {
        match serde_yaml_ng::from_str(self.text) {
            Ok(value) => Some(value),
            Err(error) => {
                let (line, column) = error
                    .location()
                    .map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
                self.problems.push(Problem {
                    file: self.file.to_owned(),
                    line,
                    column,
                    key: String::new(),
                    message: format!("is no YAML: {error}"),
                    excerpt: None,
                });
                None
            }
        }
    }

    pub(super) fn root<'v>(&self, value: &'v Value) -> Node<'v> {
        Node {
            value,
            path: Vec::new(),
        }
    }

    pub(super) fn file(&self) -> &'t str {
        self.file
    }

    pub(super) fn line_of(&self, node: &Node<'_>) -> usize {
        locate(self.text, &node.path, false).map_or(1, |(line, _)| line)
    }

    /// A problem of this node that says nothing yet.
    pub(super) fn place(&self, node: &Node<'_>) -> Problem {
        let (line, column) = locate(self.text, &node.path, false).unwrap_or((1, 1));
        Problem {
            file: self.file.to_owned(),
            line,
            column,
            key: key_path(&node.path),
            message: String::new(),
            excerpt: None,
        }
    }

    pub(super) fn tell(&mut self, node: &Node<'_>, message: impl Into<String>) {
        self.put(&node.path, false, message.into(), None);
    }

    pub(super) fn tell_with(&mut self, node: &Node<'_>, message: String, excerpt: String) {
        self.put(&node.path, false, message, Some(excerpt));
    }

    fn put(&mut self, path: &[Step], of_key: bool, message: String, excerpt: Option<String>) {
        let (line, column) = locate(self.text, path, of_key).unwrap_or((1, 1));
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line,
            column,
            key: key_path(path),
            message,
            excerpt,
        });
    }

    /// A mapping of which these keys are known; the others are told.
    pub(super) fn fields<'v>(&mut self, node: &Node<'v>, known: &[&str]) -> Option<Fields<'v>> {
        let Value::Mapping(mapping) = node.value else {
            self.tell(
                node,
                format!("must be a mapping with the keys {}", known.join(", ")),
            );
            return None;
        };
        for key in mapping.keys() {
            let name = scalar(key).unwrap_or_else(|| "a list or mapping".to_owned());
            if !(key.is_string() && known.contains(&name.as_str())) {
                let near = nearest(&name, known.iter().copied()).map_or_else(
                    || format!("known are {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                let mut path = node.path.clone();
                path.push(Step::Key(name));
                self.put(&path, true, format!("unknown key; {near}"), None);
            }
        }
        Some(Fields {
            node: node.clone(),
            mapping,
        })
    }

    pub(super) fn list<'v>(&mut self, node: &Node<'v>) -> Option<Vec<Node<'v>>> {
        let Value::Sequence(items) = node.value else {
            self.tell(node, "must be a list");
            return None;
        };
        let child = |(idx, value)| node.child(Step::Index(idx), value);
        Some(items.iter().enumerate().map(child).collect())
    }

    /// A list of texts; one text alone is a list of one.
    pub(super) fn texts<'v>(&mut self, node: &Node<'v>) -> Vec<(Node<'v>, String)> {
        let nodes = if node.is_list() {
            self.list(node).unwrap_or_default()
        } else {
            vec![node.clone()]
        };
        nodes
            .into_iter()
            .filter_map(|node| Some((node.clone(), self.text(&node)?)))
            .collect()
    }

    /// Names and texts, in the file's order.
    pub(super) fn pairs<'v>(&mut self, node: &Node<'v>) -> Vec<(String, Node<'v>, String)> {
        let Value::Mapping(mapping) = node.value else {
            self.tell(node, "must be a mapping of names to texts");
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (key, value) in mapping {
            let Some(name) = scalar(key).filter(|name| !name.is_empty()) else {
                self.tell(node, "every key must be a text");
                continue;
            };
            let child = node.child(Step::Key(name.clone()), value);
            if let Some(text) = self.text(&child) {
                pairs.push((name, child, text));
            }
        }
        pairs
    }

    /// A text; a number and a truth value are taken as they are written.
    pub(super) fn text(&mut self, node: &Node<'_>) -> Option<String> {
        let text = scalar(node.value);
        if text.is_none() {
            self.tell(node, "must be a text");
        }
        text
    }

    pub(super) fn flag(&mut self, node: &Node<'_>) -> Option<bool> {
        let flag = node.value.as_bool();
        if flag.is_none() {
            self.tell(node, "must be true or false");
        }
        flag
    }

    pub(super) fn whole(&mut self, node: &Node<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let number = node.value.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            let message = format!(
                "must be a whole number from {} to {}",
                range.start(),
                range.end()
            );
            self.tell(node, message);
        }
        number
    }

    pub(super) fn span(
        &mut self,
        node: &Node<'_>,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = self.text(node)?;
        let Some(span) = parse_span(&text) else {
            self.tell(
                node,
                format!("`{text}` is no length of time; write one such as 90s, 5m or 1h30m"),
            );
            return None;
        };
        if range.contains(&span) {
            return Some(span);
        }
        let (least, most) = (short(*range.start()), short(*range.end()));
        self.tell(
            node,
            format!("{} is out of range; write {least} to {most}", short(span)),
        );
        None
    }
}

/// The known name that `name` most likely stands for.
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A third of the letters may be wrong: more is another word.
    let most = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, known)| known)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn key_path(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Index(idx) => text.push_str(&format!("[{idx}]")),
        }
    }
    text
}

/// Line and column of the node at the end of `path`, or of its key.
fn locate(text: &str, path: &[Step], of_key: bool) -> Option<(usize, usize)> {
    let seek = Seek { path, of_key };
    let error = seek
        .deserialize(serde_yaml_ng::Deserializer::from_str(text))
        .err()?;
    error.location().map(|at| (at.line(), at.column()))
}

/// Goes down the path and fails at its end: the reader marks an error with the place where it arose.
struct Seek<'p> {
    path: &'p [Step],
    of_key: bool,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// What is not said here is refused by `Visitor` itself, which is what the end of the path needs.
impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the way to a node")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(key), path)) = self.path.split_first() else {
            return Err(A::Error::custom("here"));
        };
        let fails = self.of_key && path.is_empty();
        while let Some(is_it) = map.next_key_seed(SeekKey { key, fails })? {
            if is_it {
                let of_key = self.of_key;
                return map.next_value_seed(Seek { path, of_key });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Step::Index(idx), path)) = self.path.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*idx {
            items.next_element::<IgnoredAny>()?;
        }
        let of_key = self.of_key;
        items.next_element_seed(Seek { path, of_key })?;
        Ok(())
    }
}

/// Whether the next key is this one; fails at it when its own place is asked for.
struct SeekKey<'p> {
    key: &'p str,
    fails: bool,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl SeekKey<'_> {
    fn compare<E: serde::de::Error>(&self, key: &str) -> Result<bool, E> {
        match key == self.key {
            true if self.fails => Err(E::custom("here")),
            is_it => Ok(is_it),
        }
    }
}

impl<'de> Visitor<'de> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        self.compare(key)
    }

    fn visit_bool<E: serde::de::Error>(self, key: bool) -> Result<bool, E> {
        self.compare(&key.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, key: u64) -> Result<bool, E> {
        self.compare(&key.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, key: i64) -> Result<bool, E> {
        self.compare(&key.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, key: f64) -> Result<bool, E> {
        self.compare(&key.to_string())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<bool, E> {
        self.compare("")
    }
}
