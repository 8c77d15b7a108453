//! What is left of a query once stream and severity are known: everything, nothing, or tests of the row itself.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use tawny_model::{EntryRef, Severity, Stream};
use tawny_query::{Expr, Field, FieldTest};

use super::{eval::Test, narrow::probe_of};
use crate::lake::{
    probe::Probe,
    rows::HotRows,
    run::{AttributeColumns, Columns, SeverityCounts},
};

/// What remains to be asked of a row.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Never,
    Always,
    Rest(Arc<Rest>),
}

/// Tests of message, attributes and output; streams and severities with the same rest share it.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) expr: Expr,
    /// The same, for blocks.
    pub(super) test: Test,
    probe: Probe,
}

/// Streams that a query does not tell apart: by severity number, what remains to be asked of their rows.
#[derive(Debug, Clone)]
pub(super) struct Class {
    outcomes: [Outcome; Severity::ALL.len()],
    /// What a block must hold to be worth opening.
    pub(super) probe: Probe,
    /// What must be decoded to decide.
    pub(super) columns: Columns,
}

impl Outcome {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Never, Self::Never) | (Self::Always, Self::Always) => true,
            (Self::Rest(a), Self::Rest(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Class {
    fn new(outcomes: [Outcome; Severity::ALL.len()]) -> Self {
        let probe = Probe::either(outcomes.iter().map(|outcome| match outcome {
            Outcome::Never => Probe::Never,
            Outcome::Always => Probe::Any,
            Outcome::Rest(rest) => rest.probe.clone(),
        }));
        let is_uniform = outcomes.iter().all(|outcome| outcome.is_same(&outcomes[0]));
        let mut columns = Columns {
            severity: !is_uniform,
            ..Columns::default()
        };
        for outcome in &outcomes {
            if let Outcome::Rest(rest) = outcome {
                columns.include(&rest.test.columns());
            }
        }
        Self {
            outcomes,
            probe: dedup(probe),
            columns,
        }
    }

    pub(super) fn outcome(&self, severity: Severity) -> &Outcome {
        &self.outcomes[usize::from(severity.number())]
    }

    /// The outcome of every row, where severity makes no difference.
    pub(super) fn uniform(&self) -> Option<&Outcome> {
        (!self.columns.severity).then_some(&self.outcomes[0])
    }

    pub(super) fn is_never(&self) -> bool {
        matches!(self.uniform(), Some(Outcome::Never))
    }

    /// Whether a row in memory, of such a stream, matches.
    pub(super) fn matches(&self, entry: EntryRef<'_>, stream: &Stream) -> bool {
        match self.outcome(entry.severity()) {
            Outcome::Never => false,
            Outcome::Always => true,
            Outcome::Rest(rest) => rest.expr.matches(&(entry, stream)),
        }
    }

    /// Whether any row of a batch may match for what it says.
    pub(super) fn may_match(&self, batch: &HotRows) -> bool {
        let mut before: Option<&Outcome> = None;
        self.outcomes.iter().any(|outcome| {
            // Most queries leave the same rest for all severities.
            if before
                .replace(outcome)
                .is_some_and(|before| before.is_same(outcome))
            {
                return false;
            }
            match outcome {
                Outcome::Never => false,
                Outcome::Always => true,
                Outcome::Rest(rest) => rest.test.may_match(batch),
            }
        })
    }

    /// How many of these rows may match.
    pub(super) fn n_possible<N: Copy + Into<u64>>(&self, counts: &[N; Severity::ALL.len()]) -> u64 {
        self.sum(counts, |outcome| !matches!(outcome, Outcome::Never))
    }

    /// How many of these rows do match, whatever they say.
    pub(super) fn n_sure<N: Copy + Into<u64>>(&self, counts: &[N; Severity::ALL.len()]) -> u64 {
        self.sum(counts, |outcome| matches!(outcome, Outcome::Always))
    }

    /// Whether the counts alone say which of the rows match.
    pub(super) fn decides<N: Copy + Into<u64>>(&self, counts: &[N; Severity::ALL.len()]) -> bool {
        self.sum(counts, |outcome| matches!(outcome, Outcome::Rest(_))) == 0
    }

    /// Whether stream and severity decide every row.
    pub(super) fn is_decided(&self) -> bool {
        self.decides(&[1u64; Severity::ALL.len()])
    }

    fn sum<N: Copy + Into<u64>>(
        &self,
        counts: &[N; Severity::ALL.len()],
        is_counted: impl Fn(&Outcome) -> bool,
    ) -> u64 {
        let counted = self.outcomes.iter().zip(counts);
        counted
            .filter(|(outcome, _)| is_counted(outcome))
            .map(|(_, n)| (*n).into())
            .sum()
    }

    /// The rows that match for sure, by severity.
    pub(super) fn sure<N: Copy + Into<u64>>(
        &self,
        counts: &[N; Severity::ALL.len()],
    ) -> SeverityCounts {
        let mut sure = SeverityCounts::default();
        for ((sum, outcome), n) in sure.iter_mut().zip(&self.outcomes).zip(counts) {
            if matches!(outcome, Outcome::Always) {
                *sum = (*n).into();
            }
        }
        sure
    }
}

/// Seven severities say the same thing once.
fn dedup(probe: Probe) -> Probe {
    match probe {
        Probe::Either(parts) => {
            let mut kept: Vec<Probe> = Vec::new();
            for part in parts {
                if !kept.contains(&part) {
                    kept.push(part);
                }
            }
            Probe::either(kept)
        }
        other => other,
    }
}

impl Columns {
    /// Asks for these too.
    pub(super) fn include(&mut self, other: &Self) {
        self.time |= other.time;
        self.id |= other.id;
        self.severity |= other.severity;
        self.output |= other.output;
        self.message |= other.message;
        self.attributes = match (std::mem::take(&mut self.attributes), &other.attributes) {
            (AttributeColumns::All, _) | (_, AttributeColumns::All) => AttributeColumns::All,
            (AttributeColumns::None, asked) => asked.clone(),
            (kept, AttributeColumns::None) => kept,
            (AttributeColumns::Some(mut keys), AttributeColumns::Some(more)) => {
                keys.extend(more.iter().cloned());
                keys.sort_unstable();
                keys.dedup();
                AttributeColumns::Some(keys)
            }
        };
    }
}

/// The query with its tests of streams taken out, so that a stream answers each once.
#[derive(Debug)]
enum Node<'q> {
    All,
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// Number of a test of the stream.
    Stream(usize),
    Severity(&'q FieldTest),
    Row(&'q Expr),
}

/// Sorts streams into classes. Shared by the threads of a question.
#[derive(Debug)]
pub(super) struct Residuals<'q> {
    node: Node<'q>,
    stream_tests: Vec<(&'q Field, &'q FieldTest)>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the answers a stream gives, a bit each.
    classes: FxHashMap<Vec<u64>, Arc<Class>>,
    rests: Vec<Arc<Rest>>,
}

impl<'q> Residuals<'q> {
    pub(super) fn new(expr: &'q Expr) -> Self {
        let mut stream_tests = Vec::new();
        Self {
            node: node(expr, &mut stream_tests),
            stream_tests,
            known: Mutex::default(),
        }
    }

    /// Whether streams differ at all; if not, any stream's class is that of all.
    pub(super) fn asks_about_streams(&self) -> bool {
        !self.stream_tests.is_empty()
    }

    /// The answers a stream gives, into `answers`.
    pub(super) fn ask(&self, stream: &Stream, answers: &mut Vec<u64>) {
        answers.clear();
        for tests in self.stream_tests.chunks(64) {
            let mut word = 0;
            for (bit, (field, test)) in tests.iter().enumerate() {
                word |= u64::from(test.matches_stream(field, stream)) << bit;
            }
            answers.push(word);
        }
    }

    /// The class of streams that answer so.
    pub(super) fn class(&self, answers: &[u64]) -> Arc<Class> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(class) = known.classes.get(answers) {
            return Arc::clone(class);
        }
        let outcomes = Severity::ALL.map(|severity| {
            let expr = folded(&self.node, answers, severity);
            if expr == Expr::All {
                Outcome::Always
            } else if is_never(&expr) {
                Outcome::Never
            } else {
                Outcome::Rest(known.rest(expr))
            }
        });
        let class = Arc::new(Class::new(outcomes));
        known.classes.insert(answers.to_vec(), Arc::clone(&class));
        class
    }

    /// The class of one stream.
    pub(super) fn class_of(&self, stream: &Stream) -> Arc<Class> {
        let mut answers = Vec::new();
        self.ask(stream, &mut answers);
        self.class(&answers)
    }
}

impl Known {
    fn rest(&mut self, expr: Expr) -> Arc<Rest> {
        if let Some(rest) = self.rests.iter().find(|rest| rest.expr == expr) {
            return Arc::clone(rest);
        }
        let rest = Arc::new(Rest {
            probe: probe_of(&expr),
            test: Test::of(&expr),
            expr,
        });
        self.rests.push(Arc::clone(&rest));
        rest
    }
}

fn node<'q>(expr: &'q Expr, stream_tests: &mut Vec<(&'q Field, &'q FieldTest)>) -> Node<'q> {
    match expr {
        Expr::All => Node::All,
        Expr::And(parts) => Node::And(parts.iter().map(|part| node(part, stream_tests)).collect()),
        Expr::Or(parts) => Node::Or(parts.iter().map(|part| node(part, stream_tests)).collect()),
        Expr::Not(inner) => Node::Not(Box::new(node(inner, stream_tests))),
        Expr::Field(Field::Severity, test) => Node::Severity(test),
        Expr::Field(field, test) if field.is_of_stream() => {
            let same = |known: &(&Field, &FieldTest)| *known == (field, test);
            let idx = stream_tests.iter().position(same).unwrap_or_else(|| {
                stream_tests.push((field, test));
                stream_tests.len() - 1
            });
            Node::Stream(idx)
        }
        row => Node::Row(row),
    }
}

fn folded(node: &Node<'_>, answers: &[u64], severity: Severity) -> Expr {
    let constant = |holds: bool| {
        if holds { Expr::All } else { never() }
    };
    match node {
        Node::All => Expr::All,
        Node::And(parts) => {
            let mut kept = Vec::new();
            for part in parts {
                let part = folded(part, answers, severity);
                if is_never(&part) {
                    return part;
                }
                kept.push(part);
            }
            Expr::all_of(kept)
        }
        Node::Or(parts) => {
            let parts = parts.iter().map(|part| folded(part, answers, severity));
            Expr::any_of(parts.filter(|part| !is_never(part)))
        }
        Node::Not(inner) => folded(inner, answers, severity).negate(),
        Node::Stream(idx) => constant(answers[idx / 64] >> (idx % 64) & 1 == 1),
        Node::Severity(test) => constant(test.matches_severity(severity)),
        Node::Row(expr) => (*expr).clone(),
    }
}

fn never() -> Expr {
    Expr::All.negate()
}

fn is_never(expr: &Expr) -> bool {
    matches!(expr, Expr::Not(inner) if **inner == Expr::All)
}

#[cfg(test)]
mod tests {
    use tawny_model::StreamId;
    use tawny_query::Query;

    use super::*;

    fn stream(namespace: &str) -> Stream {
        let id = StreamId {
            cluster: "".into(),
            pod_uid: "u".into(),
            container: "c".into(),
            restart: 0,
        };
        Stream::new(id, namespace, "pod")
    }

    /// By severity, `.` for never, `!` for always, else what is left.
    fn left(query: &str, namespace: &str) -> String {
        let query = Query::parse(query).unwrap();
        let class = Residuals::new(query.expr()).class_of(&stream(namespace));
        let of = |severity| match class.outcome(severity) {
            Outcome::Never => ".".to_owned(),
            Outcome::Always => "!".to_owned(),
            Outcome::Rest(rest) => rest.expr.to_string(),
        };
        format!("{} {}", of(Severity::Info), of(Severity::Error))
    }

    #[test]
    fn stream_and_severity_are_folded_into_constants() {
        for (query, of_prod, of_stage) in [
            ("", "! !", "! !"),
            ("namespace:prod", "! !", ". ."),
            ("namespace:prod level>=error", ". !", ". ."),
            ("namespace:prod word", "word word", ". ."),
            ("namespace:prod OR word", "! !", "word word"),
            ("-(namespace:prod OR word)", ". .", "-word -word"),
            ("level:error OR word", "word !", "word !"),
            ("(level:error a) OR (namespace:prod b)", "b a OR b", ". a"),
            ("-namespace:prod -level:error", ". .", "! ."),
            (
                "restart:0 output:stderr",
                "output:stderr output:stderr",
                "output:stderr output:stderr",
            ),
            ("restart:1 output:stderr", ". .", ". ."),
            ("-(level:error -word)", "! word", "! word"),
        ] {
            assert_eq!(left(query, "prod"), of_prod, "{query}");
            assert_eq!(left(query, "stage"), of_stage, "{query}");
        }
    }

    #[test]
    fn streams_that_answer_alike_share_a_class() {
        let query = Query::parse("namespace:prod word").unwrap();
        let residuals = Residuals::new(query.expr());
        let classes = ["a", "b", "prod"].map(|namespace| residuals.class_of(&stream(namespace)));
        assert!(Arc::ptr_eq(&classes[0], &classes[1]) && !Arc::ptr_eq(&classes[1], &classes[2]));
    }

    #[test]
    fn severity_is_read_only_where_it_matters() {
        for (query, reads_severity) in [("word", false), ("level:error word", true), ("", false)] {
            let query = Query::parse(query).unwrap();
            let class = Residuals::new(query.expr()).class_of(&stream("a"));
            assert_eq!(class.columns.severity, reads_severity, "{query:?}");
        }
    }
}
