//! Does one entry match? The definition of what a query means; every store must give the same answer.

use std::cell::OnceCell;

use tawny_model::{EntryRef, LogEntry, Output, Severity, Stream, Timestamp};

use crate::{
    ast::{Expr, Field, FieldTest, TextTest},
    text::{Message, Row, eq_folded, number},
};

/// What a query can ask about.
pub trait Record {
    /// Raw: colour codes may be in it.
    fn message(&self) -> &str;
    fn timestamp(&self) -> Timestamp;
    fn severity(&self) -> Severity;
    fn output(&self) -> Output;
    fn stream(&self) -> &Stream;
    /// The value of an attribute, the first where a key repeats.
    fn attribute(&self, key: &str) -> Option<&str>;
}

impl Record for LogEntry {
    fn message(&self) -> &str {
        &self.message
    }

    fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    fn severity(&self) -> Severity {
        self.severity
    }

    fn output(&self) -> Output {
        self.output
    }

    fn stream(&self) -> &Stream {
        &self.stream
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        Self::attribute(self, key)
    }
}

impl Record for (EntryRef<'_>, &Stream) {
    fn message(&self) -> &str {
        self.0.message()
    }

    fn timestamp(&self) -> Timestamp {
        self.0.timestamp()
    }

    fn severity(&self) -> Severity {
        self.0.severity()
    }

    fn output(&self) -> Output {
        self.0.output()
    }

    fn stream(&self) -> &Stream {
        self.1
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        self.0.attribute(key)
    }
}

impl Expr {
    /// Whether the entry matches. Allocates nothing unless the message has colour codes or is not ASCII.
    pub fn matches(&self, record: &impl Record) -> bool {
        Matching {
            record,
            message: OnceCell::new(),
        }
        .matches(self)
    }
}

struct Matching<'r, R> {
    record: &'r R,
    /// Made when first asked for.
    message: OnceCell<Message<'r>>,
}

impl<R: Record> Matching<'_, R> {
    fn matches(&self, expr: &Expr) -> bool {
        match expr {
            Expr::All => true,
            Expr::And(parts) => parts.iter().all(|part| self.matches(part)),
            Expr::Or(parts) => parts.iter().any(|part| self.matches(part)),
            Expr::Not(inner) => !self.matches(inner),
            Expr::Message(test) => test.holds(
                self.message
                    .get_or_init(|| Message::new(self.record.message())),
            ),
            Expr::Field(field, test) => self.field_matches(field, test),
        }
    }

    fn field_matches(&self, field: &Field, test: &FieldTest) -> bool {
        match field {
            Field::Severity => test.matches_severity(self.record.severity()),
            Field::Output => test.matches(Some(self.record.output().name())),
            Field::Attribute(key) => test.matches(self.record.attribute(key)),
            _ => test.matches_stream(field, self.record.stream()),
        }
    }
}

impl TextTest {
    /// Whether a raw message matches.
    pub fn matches(&self, message: &str) -> bool {
        self.holds(&Message::new(message))
    }

    fn holds(&self, message: &Message<'_>) -> bool {
        match self {
            Self::Phrase(words) => message.contains_row(words, Row::Whole),
            Self::Prefix(words) => message.contains_row(words, Row::OpenEnd),
            Self::Suffix(words) => message.contains_row(words, Row::OpenStart),
            Self::Substring(part) => message.contains_part(part),
            Self::Regex(regex) => regex.is_match(message.text()),
        }
    }
}

impl FieldTest {
    /// Whether the value of a text field matches, `None` being an absent field. For all but [`Field::Severity`] and
    /// [`Field::Workload`].
    pub fn matches(&self, value: Option<&str>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::Absent);
        };
        match self {
            Self::Equals(folded) => eq_folded(value, folded),
            Self::Glob(glob) => glob.is_match(value),
            Self::Regex(regex) => regex.is_match(value),
            Self::Number(comparison, wanted) => {
                number(value).is_some_and(|found| comparison.holds(found, *wanted))
            }
            Self::Severity(..) | Self::Absent => false,
            Self::Exists => true,
        }
    }

    /// Whether a severity matches; the other tests see its name.
    pub fn matches_severity(&self, severity: Severity) -> bool {
        match self {
            Self::Severity(comparison, wanted) => comparison.holds(severity, *wanted),
            other => other.matches(Some(severity.name())),
        }
    }

    /// Whether a field of the stream matches, for fields that are [`Field::is_of_stream`]; false for others.
    pub fn matches_stream(&self, field: &Field, stream: &Stream) -> bool {
        let value = match field {
            Field::Cluster => &stream.id.cluster,
            Field::Namespace => &stream.namespace,
            Field::Pod => &stream.pod,
            Field::PodUid => &stream.id.pod_uid,
            Field::Container => &stream.id.container,
            Field::Node => &stream.node,
            Field::Image => &stream.image,
            Field::Label(key) => {
                return self.matches(stream.labels.get(key.as_str()).map(|value| &**value));
            }
            Field::Restart => return self.matches(Some(&stream.id.restart.to_string())),
            Field::Workload => {
                let Some(workload) = &stream.workload else {
                    return self.matches(None);
                };
                return if self.names_kind() {
                    self.matches(Some(&workload.to_string()))
                } else {
                    self.matches(Some(&workload.name))
                };
            }
            Field::Output | Field::Severity | Field::Attribute(_) => return false,
        };
        self.matches(Some(&**value).filter(|value| !value.is_empty()))
    }

    /// Whether the test of a workload speaks of `Kind/name`.
    pub fn names_kind(&self) -> bool {
        let text = match self {
            Self::Equals(value) => value,
            Self::Glob(glob) => glob.pattern(),
            Self::Regex(regex) => regex.as_str(),
            _ => return false,
        };
        text.contains('/')
    }
}

#[cfg(test)]
mod tests;
