//! The checked query: one tree with three users — match one entry, plan over a store, SQL for SQLite.
//!
//! Everything here is already normalised: words are lower-case tokens, globs and regexes are compiled, field aliases
//! are resolved. Time is not part of a query; it is a parameter beside it.

use std::fmt;

use tawny_model::Severity;

/// A checked query. `Display` of the source text is kept beside it in [`crate::Query`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Expr {
    /// Matches every entry: the empty query.
    All,
    /// At least two parts.
    And(Vec<Expr>),
    /// At least two parts.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// Something about the message.
    Message(TextTest),
    /// Something about a named field.
    Field(Field, FieldTest),
}

/// A test of the message text, colour codes removed, without regard to case (regexes keep theirs).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TextTest {
    /// These tokens in a row; one token is a word. Never empty. See [`crate::tokens`].
    Phrase(Vec<String>),
    /// A token that begins so, after the tokens before it in a row: `"connection ref"*`, `conn*`. Never empty.
    Prefix(Vec<String>),
    /// This text anywhere, lower-case: `*fused*`.
    Substring(String),
    Regex(Regex),
}

/// What a field test looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Field {
    Cluster,
    Namespace,
    Pod,
    PodUid,
    Container,
    Node,
    Image,
    /// `Kind/name`; a value without a slash is matched against the name alone.
    Workload,
    /// `stdout` or `stderr`.
    Output,
    Restart,
    Severity,
    /// `label.app`: a label of the pod.
    Label(String),
    /// Any other name: an attribute lifted from the message.
    Attribute(String),
}

/// How a field's value is tested. A field that is absent matches no test but [`FieldTest::Absent`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum FieldTest {
    /// The whole value, without regard to case.
    Equals(String),
    /// The whole value against a pattern with `*` and `?`, without regard to case.
    Glob(Glob),
    /// Any part of the value.
    Regex(Regex),
    /// The value read as a number; a value that is none does not match.
    Number(Comparison, f64),
    /// For [`Field::Severity`] only.
    Severity(Comparison, Severity),
    /// Present with any value: `trace_id:*`.
    Exists,
    /// Not there at all.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Whether `left op right`; anything compared with NaN is false but `!=`.
    pub fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    /// As the query language and SQL write it.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// A `*`/`?` pattern, lower-cased and compiled.
#[derive(Debug, Clone)]
pub struct Glob {
    pub(crate) pattern: String,
    pub(crate) compiled: regex::Regex,
}

impl Glob {
    /// The lower-cased pattern, `*` and `?` being wild and nothing escaped.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole value matches, without regard to case.
    pub fn is_match(&self, value: &str) -> bool {
        self.compiled.is_match(value)
    }
}

/// A regular expression in the syntax of the `regex` crate: linear time, no look-around.
#[derive(Debug, Clone)]
pub struct Regex(pub(crate) regex::Regex);

impl Regex {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Namespace => f.write_str("namespace"),
            Self::Pod => f.write_str("pod"),
            Self::PodUid => f.write_str("pod_uid"),
            Self::Container => f.write_str("container"),
            Self::Node => f.write_str("node"),
            Self::Image => f.write_str("image"),
            Self::Workload => f.write_str("workload"),
            Self::Output => f.write_str("output"),
            Self::Restart => f.write_str("restart"),
            Self::Severity => f.write_str("level"),
            Self::Label(key) => write!(f, "label.{key}"),
            Self::Attribute(key) => f.write_str(key),
        }
    }
}
