//! The checked query: one tree with three users — match one entry, plan over a store, SQL for SQLite.
//!
//! Everything here is already normalised: words are lower-case tokens, globs and regexes are compiled, field aliases
//! are resolved. Time is not part of a query; it is a parameter beside it.

use tawny_model::Severity;

use crate::text::{eq_folded, fold, fold_char};

/// A checked query. `Display` is its canonical text, which parses to the same tree.
///
/// Values are folded ([`crate::fold`]); [`Field::Severity`] takes only [`FieldTest::Severity`], and
/// [`Field::Output`] is compared only with `stdout` and `stderr`. The constructors and the parser see to that.
#[derive(Debug, Clone, PartialEq)]
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

/// Builds trees in normal form: no group of one, no group in a group of its kind, no double `Not`.
impl Expr {
    /// All of them; [`Expr::All`] when there is none.
    pub fn all_of(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All => {}
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::All,
            1 => flat.remove(0),
            _ => Self::And(flat),
        }
    }

    /// Any of them; nothing (`Not(All)`) when there is none.
    pub fn any_of(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut flat = Vec::new();
        for part in parts {
            match part {
                Self::All => return Self::All,
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.len() {
            0 => Self::All.negate(),
            1 => flat.remove(0),
            _ => Self::Or(flat),
        }
    }

    #[must_use]
    pub fn negate(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            // Every entry has a severity, so the opposite comparison is the whole negation.
            Self::Field(Field::Severity, FieldTest::Severity(comparison, severity)) => Self::Field(
                Field::Severity,
                FieldTest::Severity(comparison.opposite(), severity),
            ),
            other => Self::Not(Box::new(other)),
        }
    }

    /// The field has this value, without regard to case. Not for [`Field::Severity`]; see [`Expr::at_least`].
    pub fn equals(field: Field, value: &str) -> Self {
        Self::Field(field, FieldTest::Equals(fold(value).into_owned()))
    }

    /// The line is of this severity or worse.
    pub fn at_least(severity: Severity) -> Self {
        Self::Field(
            Field::Severity,
            FieldTest::Severity(Comparison::GreaterOrEqual, severity),
        )
    }
}

/// A test of the message text, colour codes removed, without regard to case (regexes keep theirs).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TextTest {
    /// These tokens in a row; one token is a word. Never empty. See [`crate::tokens`].
    Phrase(Vec<String>),
    /// A token that begins so, after the tokens before it in a row: `"connection ref"*`, `conn*`. Never empty.
    Prefix(Vec<String>),
    /// A token that ends so, before the tokens after it in a row: `*fused`, `*"fused by"`. Never empty.
    Suffix(Vec<String>),
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
    /// `Kind/name`; a value or pattern without a slash is matched against the name alone.
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
///
/// A field of a stream is absent when it is empty. Severity is never absent: a line without one is `unknown`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FieldTest {
    /// The whole value, without regard to case.
    Equals(String),
    /// The whole value against a pattern with `*` and `?`, without regard to case.
    Glob(Glob),
    /// Any part of the value.
    Regex(Regex),
    /// The value read as a number ([`crate::number`]); a value that is none does not match. The number is finite.
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

    /// True of ordered values where this is false.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterOrEqual,
            Self::LessOrEqual => Self::Greater,
            Self::Greater => Self::LessOrEqual,
            Self::GreaterOrEqual => Self::Less,
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

/// A `*`/`?` pattern, folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    pub fn new(pattern: &str) -> Self {
        Self(fold(pattern).into_owned())
    }

    /// The folded pattern: `*` is any text, `?` any one character, nothing is escaped.
    pub fn pattern(&self) -> &str {
        &self.0
    }

    /// Whether the whole value matches, without regard to case.
    pub fn is_match(&self, value: &str) -> bool {
        if !self.0.contains(['*', '?']) {
            return eq_folded(value, &self.0);
        }
        let mut pattern = self.0.chars();
        let mut value = value.chars();
        // Where to go on when a guess of how much the last `*` takes was too short.
        let mut retry = None;
        loop {
            let value_before = value.clone();
            let matched = match (pattern.next(), value.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    retry = Some((pattern.clone(), value_before.clone()));
                    value = value_before;
                    true
                }
                (Some('?'), Some(_)) => true,
                (Some(wanted), Some(found)) => wanted == fold_char(found),
                _ => false,
            };
            if !matched {
                let Some((after_star, taken)) = &mut retry else {
                    return false;
                };
                if taken.next().is_none() {
                    return false;
                }
                (pattern, value) = (after_star.clone(), taken.clone());
            }
        }
    }
}

/// A regular expression in the syntax of the `regex` crate: linear time, no look-around.
#[derive(Debug, Clone)]
pub struct Regex(regex::Regex);

impl Regex {
    /// Compiles within a memory bound, so that a query cannot exhaust its server.
    ///
    /// # Errors
    /// One line that says what is wrong with the pattern.
    pub fn new(pattern: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(pattern)
            .size_limit(MAX_REGEX_BYTES)
            .dfa_size_limit(MAX_REGEX_BYTES)
            .build()
            .map(Self)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
                // The full text draws the pattern over several lines; its last line is the reason.
                other => {
                    let text = other.to_string();
                    let reason = text.lines().last().unwrap_or_default();
                    reason.trim_start_matches("error: ").to_owned()
                }
            })
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Holds `\w{100}`, which Unicode makes large, and lets 32 of them be no danger.
const MAX_REGEX_BYTES: usize = 4 << 20;
