//! What the index can say about a query. Pure: an expression and the streams in, a full-text expression out.
//!
//! The index never decides what it cannot decide exactly: it narrows down, and [`tawny_query`] looks at each row left.

use std::fmt::Write as _;

use rustc_hash::FxHashMap;
use tawny_model::{Severity, Stream};
use tawny_query::{Expr, Field, FieldTest, TextTest, tokens};

use super::row::{StreamMap, StreamRow, attribute_term, severity_term, stream_term};

/// The entries the index finds for an expression hold all that match it; where `is_exact`, no others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reach {
    pub(super) set: Set,
    pub(super) is_exact: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Set {
    All,
    Nothing,
    /// What this full-text expression finds.
    Found(String),
    /// All but what this full-text expression finds, which the index cannot list by itself.
    AllBut(String),
}

/// Most streams named one by one in a full-text expression; each costs a cursor.
const MAX_STREAM_TERMS: usize = 64;

/// FTS5 cuts a term at 32 KiB; a longer word is looked at row by row.
const MAX_WORD_BYTES: usize = 1_000;

/// The shortest prefix looked up in the index: shorter ones have too many words to gather before the first row.
const MIN_PREFIX_BYTES: usize = 3;

const INEXACT: Reach = Reach {
    set: Set::All,
    is_exact: false,
};

impl Reach {
    /// What the index says about `expr`, given every stream there is.
    pub(super) fn of(expr: &Expr, streams: &StreamMap) -> Self {
        if is_of_streams(expr) && *expr != Expr::All {
            return Self::of_streams(expr, streams);
        }
        match expr {
            Expr::All => exact(Set::All),
            Expr::And(parts) => Self::all_of(grouped(parts, streams, Expr::all_of)),
            Expr::Or(parts) => Self::any_of(grouped(parts, streams, Expr::any_of)),
            Expr::Not(inner) => Self::of(inner, streams).negate(),
            Expr::Message(test) => Self::of_message(test),
            Expr::Field(Field::Severity, test) => Self::of_severity(test),
            Expr::Field(Field::Attribute(_), FieldTest::Equals(value)) => Self::of_value(value),
            _ => INEXACT,
        }
    }

    fn of_message(test: &TextTest) -> Self {
        match test {
            TextTest::Phrase(words) => Self::of_words(words, words.len() == 1),
            TextTest::Prefix(words) => {
                let Some((prefix, whole)) = words.split_last() else {
                    return INEXACT;
                };
                let whole_words = Self::of_words(whole, true);
                if prefix.len() < MIN_PREFIX_BYTES || prefix.len() > MAX_WORD_BYTES {
                    return Self::all_of([whole_words, INEXACT]);
                }
                let begins = Self {
                    set: Set::Found(format!("{} *", quoted(prefix))),
                    is_exact: whole.is_empty(),
                };
                Self::all_of([whole_words, begins])
            }
            // The first word is open at its start, where the index cannot look.
            TextTest::Suffix(words) => {
                let whole = words.get(1..).unwrap_or_default();
                Self::all_of([Self::of_words(whole, true), INEXACT])
            }
            _ => INEXACT,
        }
    }

    /// All these words, anywhere.
    fn of_words(words: &[String], is_exact: bool) -> Self {
        let parts = words.iter().map(|word| {
            if word.len() > MAX_WORD_BYTES {
                INEXACT
            } else {
                Self {
                    set: Set::Found(quoted(word)),
                    is_exact,
                }
            }
        });
        Self::all_of(parts.collect::<Vec<_>>())
    }

    /// An attribute with this whole value: its words are in the message or beside it.
    fn of_value(value: &str) -> Self {
        let parts = tokens(value)
            .filter(|word| word.len() <= MAX_WORD_BYTES)
            .map(|word| Self {
                set: Set::Found(format!(
                    "({} OR {})",
                    quoted(word),
                    quoted(&attribute_term(word))
                )),
                is_exact: false,
            });
        Self::all_of(parts.chain([INEXACT]).collect::<Vec<_>>())
    }

    fn of_severity(test: &FieldTest) -> Self {
        let wanted = |severity: &Severity| test.matches_severity(*severity);
        let with_term = Severity::ALL
            .into_iter()
            .filter(|s| severity_term(*s).is_some());
        let n_without_term = Severity::ALL
            .iter()
            .filter(|s| severity_term(**s).is_none())
            .count();
        let n_wanted_without_term = Severity::ALL
            .iter()
            .filter(|s| severity_term(**s).is_none() && wanted(s))
            .count();
        let terms = |keep: bool| {
            let terms = with_term
                .clone()
                .filter(|severity| wanted(severity) == keep)
                .filter_map(severity_term);
            any_term(terms.map(str::to_owned))
        };
        if n_wanted_without_term == 0 {
            exact(terms(true).map_or(Set::Nothing, Set::Found))
        } else if n_wanted_without_term == n_without_term {
            exact(terms(false).map_or(Set::All, Set::AllBut))
        } else {
            INEXACT
        }
    }

    fn of_streams(expr: &Expr, streams: &StreamMap) -> Self {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for (row, stream) in streams {
            if stream_matches(expr, stream) {
                inside.push(*row);
            } else {
                outside.push(*row);
            }
        }
        let terms = |mut rows: Vec<StreamRow>| {
            rows.sort_unstable();
            any_term(rows.into_iter().map(stream_term))
        };
        if inside.is_empty() {
            exact(Set::Nothing)
        } else if outside.is_empty() {
            exact(Set::All)
        } else if inside.len() <= MAX_STREAM_TERMS {
            exact(terms(inside).map_or(Set::Nothing, Set::Found))
        } else if outside.len() <= MAX_STREAM_TERMS {
            exact(terms(outside).map_or(Set::All, Set::AllBut))
        } else {
            INEXACT
        }
    }

    fn negate(self) -> Self {
        if !self.is_exact {
            return INEXACT;
        }
        exact(match self.set {
            Set::All => Set::Nothing,
            Set::Nothing => Set::All,
            Set::Found(fts) => Set::AllBut(fts),
            Set::AllBut(fts) => Set::Found(fts),
        })
    }

    fn all_of(parts: impl IntoIterator<Item = Self>) -> Self {
        let (mut found, mut but) = (Vec::new(), Vec::new());
        let mut is_exact = true;
        for part in parts {
            is_exact &= part.is_exact;
            match part.set {
                Set::All => {}
                Set::Nothing => return exact(Set::Nothing),
                Set::Found(fts) => found.push(fts),
                Set::AllBut(fts) => but.push(fts),
            }
        }
        let set = match (joined(found, " AND "), joined(but, " OR ")) {
            (None, None) => Set::All,
            (Some(found), None) => Set::Found(found),
            (None, Some(but)) => Set::AllBut(but),
            (Some(found), Some(but)) => Set::Found(format!("({found} NOT {but})")),
        };
        Self { set, is_exact }
    }

    fn any_of(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut found = Vec::new();
        let (mut is_exact, mut reaches_all) = (true, false);
        for part in parts {
            match part.set {
                Set::All if part.is_exact => return exact(Set::All),
                Set::All | Set::AllBut(_) => reaches_all = true,
                Set::Nothing => {}
                Set::Found(fts) => found.push(fts),
            }
            is_exact &= part.is_exact;
        }
        if reaches_all {
            return INEXACT;
        }
        Self {
            set: joined(found, " OR ").map_or(Set::Nothing, Set::Found),
            is_exact,
        }
    }
}

fn exact(set: Set) -> Reach {
    Reach {
        set,
        is_exact: true,
    }
}

/// The reach of each part, those about streams alone taken together as one set of streams.
fn grouped(parts: &[Expr], streams: &StreamMap, group: fn(Vec<Expr>) -> Expr) -> Vec<Reach> {
    let (of_streams, others): (Vec<&Expr>, Vec<&Expr>) =
        parts.iter().partition(|part| is_of_streams(part));
    let mut reaches: Vec<Reach> = others
        .into_iter()
        .map(|part| Reach::of(part, streams))
        .collect();
    if !of_streams.is_empty() {
        let together = group(of_streams.into_iter().cloned().collect());
        reaches.push(Reach::of(&together, streams));
    }
    reaches
}

fn joined(mut parts: Vec<String>, operator: &str) -> Option<String> {
    match parts.len() {
        0 | 1 => parts.pop(),
        _ => Some(format!("({})", parts.join(operator))),
    }
}

fn any_term(terms: impl Iterator<Item = String>) -> Option<String> {
    joined(terms.map(|term| quoted(&term)).collect(), " OR ")
}

/// The word as an FTS5 string: nothing in it is syntax.
fn quoted(word: &str) -> String {
    let mut text = String::with_capacity(word.len() + 2);
    write!(text, "\"{}\"", word.replace('"', "\"\"")).expect("a String takes everything");
    text
}

/// Whether all entries of a stream answer alike.
fn is_of_streams(expr: &Expr) -> bool {
    match expr {
        Expr::All => true,
        Expr::And(parts) | Expr::Or(parts) => parts.iter().all(is_of_streams),
        Expr::Not(inner) => is_of_streams(inner),
        Expr::Field(field, _) => field.is_of_stream(),
        _ => false,
    }
}

fn stream_matches(expr: &Expr, stream: &Stream) -> bool {
    decide(expr, stream, Severity::Unknown) == Some(true)
}

/// Whether stream and severity alone decide the expression for every entry.
pub(super) fn is_decided_by_stream_and_severity(expr: &Expr) -> bool {
    match expr {
        Expr::All => true,
        Expr::And(parts) | Expr::Or(parts) => parts.iter().all(is_decided_by_stream_and_severity),
        Expr::Not(inner) => is_decided_by_stream_and_severity(inner),
        Expr::Field(field, _) => field.is_of_stream() || *field == Field::Severity,
        _ => false,
    }
}

/// Whether an entry of this stream and severity matches, if these two decide it.
fn decide(expr: &Expr, stream: &Stream, severity: Severity) -> Option<bool> {
    match expr {
        Expr::All => Some(true),
        Expr::And(parts) => {
            let mut answer = Some(true);
            for part in parts {
                match decide(part, stream, severity) {
                    Some(false) => return Some(false),
                    Some(true) => {}
                    None => answer = None,
                }
            }
            answer
        }
        Expr::Or(parts) => {
            let mut answer = Some(false);
            for part in parts {
                match decide(part, stream, severity) {
                    Some(true) => return Some(true),
                    Some(false) => {}
                    None => answer = None,
                }
            }
            answer
        }
        Expr::Not(inner) => decide(inner, stream, severity).map(|answer| !answer),
        Expr::Field(Field::Severity, test) => Some(test.matches_severity(severity)),
        Expr::Field(field, test) if field.is_of_stream() => {
            Some(test.matches_stream(field, stream))
        }
        _ => None,
    }
}

/// Remembers, per stream and severity, what they decide: most rows are dropped or taken without a look at their text.
#[derive(Debug)]
pub(super) struct Decisions<'q> {
    expr: &'q Expr,
    known: FxHashMap<(StreamRow, Severity), Option<bool>>,
}

impl<'q> Decisions<'q> {
    pub(super) fn new(expr: &'q Expr) -> Self {
        Self {
            expr,
            known: FxHashMap::default(),
        }
    }

    pub(super) fn of(
        &mut self,
        row: StreamRow,
        stream: &Stream,
        severity: Severity,
    ) -> Option<bool> {
        *self
            .known
            .entry((row, severity))
            .or_insert_with(|| decide(self.expr, stream, severity))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tawny_model::StreamId;
    use tawny_query::Query;

    use super::*;

    /// Streams 1 to `n`: pods `pod-1` …, alternating namespaces `odd` and `even`.
    fn streams(n: StreamRow) -> StreamMap {
        let stream = |row: StreamRow| {
            let pod = format!("pod-{row}");
            let id = StreamId {
                cluster: "".into(),
                pod_uid: pod.as_str().into(),
                container: "main".into(),
                restart: 0,
            };
            let namespace = if row % 2 == 0 { "even" } else { "odd" };
            Arc::new(Stream::new(id, namespace, pod))
        };
        (1..=n).map(|row| (row, stream(row))).collect()
    }

    fn reach(query: &str, n_streams: StreamRow) -> Reach {
        let query = Query::parse(query).unwrap();
        Reach::of(query.expr(), &streams(n_streams))
    }

    fn found(fts: &str) -> Set {
        Set::Found(fts.to_owned())
    }

    #[test]
    fn queries_become_what_the_index_can_say_exactly() {
        for (query, set) in [
            ("", Set::All),
            ("error", found("\"error\"")),
            ("Error timeout", found("(\"error\" AND \"timeout\")")),
            ("error OR timeout", found("(\"error\" OR \"timeout\")")),
            ("conn*", found("\"conn\" *")),
            ("-error", Set::AllBut("\"error\"".to_owned())),
            ("a -b -c", found("(\"a\" NOT (\"b\" OR \"c\"))")),
            ("-(a b)", Set::AllBut("(\"a\" AND \"b\")".to_owned())),
            ("level>=error", found("(\"\u{80}e\" OR \"\u{80}f\")")),
            (
                "level<error",
                Set::AllBut("(\"\u{80}e\" OR \"\u{80}f\")".to_owned()),
            ),
            ("level>=unknown", Set::All),
            ("level<unknown", Set::Nothing),
            ("a level<unknown", Set::Nothing),
            ("a OR level<unknown", found("\"a\"")),
            ("namespace:even", found("(\"\u{80}s2\" OR \"\u{80}s4\")")),
            ("namespace:even pod:pod-4", found("\"\u{80}s4\"")),
            (
                "namespace:even -pod:pod-4 a",
                found("(\"a\" AND \"\u{80}s2\")"),
            ),
            ("namespace:none", Set::Nothing),
            ("-namespace:none a", found("\"a\"")),
            ("pod:pod-*", Set::All),
        ] {
            assert_eq!(reach(query, 5), exact(set), "{query}");
        }
    }

    #[test]
    fn what_the_index_cannot_say_is_left_to_the_matcher() {
        for (query, set) in [
            ("\"a b\"", found("(\"a\" AND \"b\")")),
            ("\"abc def\"*", found("(\"abc\" AND \"def\" *)")),
            ("co*", Set::All),
            ("*fused", Set::All),
            ("*fused*", Set::All),
            ("/a/ b", found("\"b\"")),
            ("/a/ OR b", Set::All),
            ("-\"a b\"", Set::All),
            ("output:stderr a", found("\"a\"")),
            ("level:info a", found("\"a\"")),
            (
                "trace_id:4bf9-x",
                found("((\"4bf9\" OR \"\u{81}4bf9\") AND (\"x\" OR \"\u{81}x\"))"),
            ),
            ("-trace_id:4bf9", Set::All),
            ("trace_id:\"--\"", Set::All),
            ("status>=500 a", found("\"a\"")),
            ("-a OR b", Set::All),
        ] {
            let reach = reach(query, 5);
            assert_eq!((reach.set, reach.is_exact), (set, false), "{query}");
        }
    }

    #[test]
    fn many_streams_are_named_by_those_left_out_or_not_at_all() {
        let all_but = reach("-pod:pod-7", 1_000);
        assert_eq!(all_but, exact(Set::AllBut("\"\u{80}s7\"".to_owned())));
        assert_eq!(
            reach("a -pod:pod-7", 1_000),
            exact(found("(\"a\" NOT \"\u{80}s7\")"))
        );
        assert_eq!(reach("namespace:odd", 1_000), INEXACT);
        let with_word = reach("a namespace:odd", 1_000);
        assert_eq!((with_word.set, with_word.is_exact), (found("\"a\""), false));
    }

    #[test]
    fn words_too_long_for_the_index_are_left_to_the_matcher() {
        let long = "x".repeat(MAX_WORD_BYTES + 1);
        let reach = reach(&format!("{long} short"), 1);
        assert_eq!((reach.set, reach.is_exact), (found("\"short\""), false));
    }

    #[test]
    fn stream_and_severity_decide_what_they_can() {
        let streams = streams(2);
        let decide = |query: &str, row: StreamRow, severity| {
            let query = Query::parse(query).unwrap();
            Decisions::new(query.expr()).of(row, &streams[&row], severity)
        };
        for (query, of_odd_error, of_even_info) in [
            ("namespace:odd", Some(true), Some(false)),
            ("namespace:odd level>=error", Some(true), Some(false)),
            ("namespace:odd word", None, Some(false)),
            ("namespace:odd OR word", Some(true), None),
            ("-(namespace:odd OR word)", Some(false), None),
            ("word", None, None),
            ("output:stdout level:error", None, Some(false)),
            ("", Some(true), Some(true)),
        ] {
            let found = (
                decide(query, 1, Severity::Error),
                decide(query, 2, Severity::Info),
            );
            assert_eq!(found, (of_odd_error, of_even_info), "{query}");
        }
    }
}
