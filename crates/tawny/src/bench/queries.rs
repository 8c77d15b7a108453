//! What a benchmark asks: each question in the words of every store, with the rule that tells which lines answer it.
//!
//! The rules are written with plain string functions, not with the query language, so that they can prove it wrong.

use std::{collections::BTreeMap, fmt, ops::Range, time::Duration};

use anyhow::{bail, ensure};
use regex::Regex;
use tawny_model::{Severity, Timestamp};

use super::{
    corpus::{Line, NEEDLE, PART, PHRASE, TRACE_ID},
    fleet::{Fleet, MINUTE_NS, MINUTES, START},
};

/// The shape of an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask {
    /// Whole entries, newest first, at most so many.
    Newest(usize),
    Count,
    /// How many lines each value of a field has, the most frequent first, at most so many values.
    Top {
        field: Field,
        limit: usize,
    },
    PerMinute,
    /// The 99th percentile of a number, by namespace.
    P99 {
        attribute: &'static str,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Namespace,
    Pod,
}

impl Field {
    /// The same in every store's language.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Pod => "pod",
        }
    }
}

/// What a store answered, or should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Times in nanoseconds; a right answer has the newest.
    Newest(Vec<i64>),
    Count(u64),
    Top(BTreeMap<String, u64>),
    /// By the minute's beginning in nanoseconds, empty ones left out.
    PerMinute(BTreeMap<i64, u64>),
    /// Of an answer the percentile of each group; of the truth all values. Rounded to whole numbers.
    P99(BTreeMap<String, Vec<i64>>),
}

impl Answer {
    fn empty(ask: Ask) -> Self {
        match ask {
            Ask::Newest(_) => Self::Newest(Vec::new()),
            Ask::Count => Self::Count(0),
            Ask::Top { .. } => Self::Top(BTreeMap::new()),
            Ask::PerMinute => Self::PerMinute(BTreeMap::new()),
            Ask::P99 { .. } => Self::P99(BTreeMap::new()),
        }
    }

    /// How much was found, for the table.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Newest(times) => times.len() as u64,
            Self::Count(n) => *n,
            Self::Top(values) => values.len() as u64,
            Self::PerMinute(minutes) => minutes.values().sum(),
            Self::P99(groups) => groups.len() as u64,
        }
    }
}

type Rule = Box<dyn Fn(&Line<'_>) -> bool + Send + Sync>;

/// One question.
pub(super) struct Question {
    pub(super) name: &'static str,
    /// What we aim for, warm.
    pub(super) aim: Duration,
    pub(super) tawny: String,
    pub(super) logsql: String,
    pub(super) range: Option<Range<Timestamp>>,
    pub(super) ask: Ask,
    rule: Rule,
    /// Of all lines seen; `Newest` and `Top` are not cut to their limit.
    truth: Answer,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Question {
    /// A question for one word, whose right answer nobody knows yet.
    pub(super) fn word(word: String) -> Self {
        Self::new(
            "fresh word",
            0,
            (word.clone(), word),
            None,
            Ask::Newest(1),
            Box::new(|_| false),
        )
    }

    /// The same about another time; its right answer is not known.
    pub(super) fn about(&self, range: Range<Timestamp>) -> Self {
        Self::new(
            self.name,
            0,
            (self.tawny.clone(), self.logsql.clone()),
            Some(range),
            self.ask,
            Box::new(|_| false),
        )
    }

    /// Takes a line of the corpus into the right answer.
    pub(super) fn see(&mut self, line: &Line<'_>) {
        let is_in_range = self
            .range
            .as_ref()
            .is_none_or(|range| range.contains(&line.timestamp));
        if !is_in_range || !(self.rule)(line) {
            return;
        }
        let nanos = line.timestamp.as_nanos();
        match &mut self.truth {
            Answer::Newest(times) => times.push(nanos),
            Answer::Count(n) => *n += 1,
            Answer::Top(values) => {
                let value = match self.ask {
                    Ask::Top {
                        field: Field::Pod, ..
                    } => &line.stream.pod,
                    _ => &line.stream.namespace,
                };
                match values.get_mut(&**value) {
                    Some(n) => *n += 1,
                    None => drop(values.insert(value.as_ref().to_owned(), 1)),
                }
            }
            Answer::PerMinute(minutes) => {
                *minutes
                    .entry(nanos - nanos.rem_euclid(MINUTE_NS))
                    .or_default() += 1;
            }
            Answer::P99(groups) => {
                let Ask::P99 { attribute } = self.ask else {
                    return;
                };
                let found = line.attributes.iter().find(|(key, _)| *key == attribute);
                if let Some(number) = found.and_then(|(_, value)| value.parse().ok()) {
                    let namespace = line.stream.namespace.as_ref().to_owned();
                    groups.entry(namespace).or_default().push(number);
                }
            }
        }
    }

    /// Checks an answer.
    ///
    /// # Errors
    /// When it is wrong.
    pub(super) fn check(&self, answer: &Answer) -> anyhow::Result<()> {
        match (&self.truth, answer, self.ask) {
            (Answer::Newest(all), Answer::Newest(found), Ask::Newest(limit)) => {
                let mut wanted = all.clone();
                wanted.sort_unstable_by(|a, b| b.cmp(a));
                wanted.truncate(limit);
                ensure!(
                    wanted.len() == found.len(),
                    "{}: {} lines where {} are right",
                    self.name,
                    found.len(),
                    wanted.len()
                );
                ensure!(wanted == *found, "{}: not the newest lines", self.name);
            }
            (Answer::Top(all), Answer::Top(found), Ask::Top { limit, .. }) => {
                // Values that are equally frequent may stand for each other.
                let most = |values: &BTreeMap<String, u64>| {
                    let mut counts: Vec<u64> = values.values().copied().collect();
                    counts.sort_unstable_by(|a, b| b.cmp(a));
                    counts.truncate(limit);
                    counts
                };
                ensure!(
                    most(all) == most(found)
                        && found.iter().all(|(value, n)| all.get(value) == Some(n)),
                    "{}: {found:?} of {all:?}",
                    self.name
                );
            }
            (Answer::P99(all), Answer::P99(found), _) => {
                ensure!(
                    all.keys().eq(found.keys()),
                    "{}: groups {:?} where {:?} are right",
                    self.name,
                    found.keys(),
                    all.keys()
                );
                for (group, values) in all {
                    // Stores estimate it: half a percent of the rows to either side is right.
                    let n_below = |limit: i64| values.iter().filter(|v| **v < limit).count();
                    let [found] = found[group][..] else {
                        bail!("{}: no one value for {group}", self.name);
                    };
                    let (at_least, at_most) = (n_below(found), n_below(found + 1));
                    let n = values.len();
                    ensure!(
                        at_least * 1_000 <= n * 995 + 1_000 && at_most * 1_000 + 1_000 >= n * 985,
                        "{}: {found} for {group} has {at_least} of {n} values below it",
                        self.name
                    );
                }
            }
            (Answer::Count(_), Answer::Count(_), _)
            | (Answer::PerMinute(_), Answer::PerMinute(_), _) => ensure!(
                self.truth == *answer,
                "{}: {answer:?} where {:?} is right",
                self.name,
                self.truth
            ),
            _ => bail!("{}: an answer to another question", self.name),
        }
        Ok(())
    }
}

/// The namespace that questions are narrowed to.
pub(super) const CUT: &str = "shop";

/// Which questions have a further use.
pub(super) const NEEDLE_QUESTION: &str = "unique word (needle)";
const P99_QUESTION: &str = "p99 of a number by namespace (SQL)";
pub(super) const TAIL_QUESTION: &str = "namespace + level>=error, last 15 min, 100 newest";

/// All questions, in the order of the table.
pub(super) fn all(fleet: &Fleet) -> Vec<Question> {
    let end =
        Timestamp::from_nanos(START.as_nanos() + i64::try_from(MINUTES).unwrap_or(0) * MINUTE_NS);
    let last = |minutes: u64| Some(end.saturating_sub(Duration::from_secs(60 * minutes))..end);
    let pod = fleet.a_late_pod().to_owned();
    const REGEX: &str = r"upstream 10\.3\.\d+\.7:8443 took 9\d\dms";
    let regex = Regex::new(REGEX).expect("a fixed expression");
    let is_error = |line: &Line<'_>| line.severity >= Severity::Error;
    let errors = "level:in(error,fatal)";
    vec![
        Question::new(
            NEEDLE_QUESTION,
            2,
            (NEEDLE.into(), NEEDLE.into()),
            None,
            Ask::Newest(100),
            Box::new(|line| line.message.contains(NEEDLE)),
        ),
        Question::new(
            "needle in an attribute",
            2,
            (
                format!("trace_id:{TRACE_ID}"),
                format!("trace_id:={TRACE_ID}"),
            ),
            None,
            Ask::Newest(100),
            Box::new(|line| line.attributes.contains(&("trace_id", TRACE_ID))),
        ),
        Question::new(
            "rare phrase, 200 hits",
            10,
            (format!("\"{PHRASE}\""), format!("\"{PHRASE}\"")),
            None,
            Ask::Newest(1_000),
            Box::new(|line| line.message.contains(PHRASE)),
        ),
        Question::new(
            "common word, count",
            30,
            ("timeout".into(), "timeout".into()),
            None,
            Ask::Count,
            Box::new(|line| has_word(line.message, "timeout")),
        ),
        Question::new(
            TAIL_QUESTION,
            5,
            (
                format!("namespace:{CUT} level>=error"),
                format!("{{namespace=\"{CUT}\"}} {errors}"),
            ),
            last(15),
            Ask::Newest(100),
            Box::new(move |line| is_error(line) && &*line.stream.namespace == CUT),
        ),
        Question::new(
            "one pod, 100 newest",
            2,
            (format!("pod:{pod}"), format!("{{pod=\"{pod}\"}}")),
            None,
            Ask::Newest(100),
            Box::new(move |line| *line.stream.pod == *pod),
        ),
        Question::new(
            "regular expression, count",
            30,
            (format!("/{REGEX}/"), format!("~{REGEX:?}")),
            None,
            Ask::Count,
            Box::new(move |line| {
                line.message.contains("upstream 10.3.") && regex.is_match(line.message)
            }),
        ),
        Question::new(
            "substring inside a word, anywhere",
            20,
            (format!("*{PART}*"), format!("~\"{PART}\"")),
            None,
            Ask::Newest(100),
            Box::new(|line| line.message.contains(PART)),
        ),
        Question::new(
            "count by namespace, all lines",
            1,
            (String::new(), "*".into()),
            None,
            Ask::Top {
                field: Field::Namespace,
                limit: 20,
            },
            Box::new(|_| true),
        ),
        Question::new(
            "errors by minute, 2 h",
            1,
            ("level>=error".into(), errors.into()),
            last(120),
            Ask::PerMinute,
            Box::new(is_error),
        ),
        Question::new(
            "top 10 pods by errors",
            1,
            ("level>=error".into(), errors.into()),
            None,
            Ask::Top {
                field: Field::Pod,
                limit: 10,
            },
            Box::new(is_error),
        ),
        Question::new(
            P99_QUESTION,
            30,
            (
                "SELECT namespace AS value, approx_percentile_cont(CAST(duration_ms AS DOUBLE), 0.99) AS p99 \
                 FROM logs WHERE duration_ms IS NOT NULL GROUP BY namespace"
                    .into(),
                "duration_ms:*".into(),
            ),
            None,
            Ask::P99 {
                attribute: "duration_ms",
            },
            Box::new(|line| line.attributes.iter().any(|(key, _)| *key == "duration_ms")),
        ),
        Question::new(
            "word that is nowhere",
            1,
            ("nosuchwordanywhere".into(), "nosuchwordanywhere".into()),
            None,
            Ask::Newest(100),
            Box::new(|line| line.message.contains("nosuchwordanywhere")),
        ),
    ]
}

/// Whether `word`, in lower case, stands in a text of ASCII letters as a whole word.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|found| found.eq_ignore_ascii_case(word))
}

impl Question {
    fn new(
        name: &'static str,
        aim_ms: u64,
        (tawny, logsql): (String, String),
        range: Option<Range<Timestamp>>,
        ask: Ask,
        rule: Rule,
    ) -> Self {
        Self {
            name,
            aim: Duration::from_millis(aim_ms),
            tawny,
            logsql,
            range,
            ask,
            rule,
            truth: Answer::empty(ask),
        }
    }
}

#[cfg(test)]
mod tests {
    use tawny_model::{Output, Stream, StreamId};

    use super::*;

    fn stream(pod: &str) -> Stream {
        let id = StreamId {
            cluster: "".into(),
            pod_uid: pod.into(),
            container: "app".into(),
            restart: 0,
        };
        Stream::new(id, CUT, pod)
    }

    fn question(ask: Ask) -> Question {
        let mut question = Question::new(
            "errors",
            1,
            (String::new(), String::new()),
            None,
            ask,
            Box::new(|line| line.severity == Severity::Error),
        );
        for (nanos, pod, severity) in [
            (1, "a", Severity::Error),
            (2, "b", Severity::Error),
            (3, "a", Severity::Info),
            (MINUTE_NS + 1, "a", Severity::Error),
        ] {
            question.see(&Line {
                stream: &stream(pod),
                timestamp: Timestamp::from_nanos(nanos),
                severity,
                output: Output::Stdout,
                message: "m",
                attributes: &[],
            });
        }
        question
    }

    fn top(values: &[(&str, u64)]) -> Answer {
        let values = values.iter().map(|(value, n)| ((*value).to_owned(), *n));
        Answer::Top(values.collect())
    }

    #[test]
    fn right_answers_pass_and_wrong_ones_do_not() {
        let top_pod = Ask::Top {
            field: Field::Pod,
            limit: 1,
        };
        let newest = Answer::Newest;
        for (ask, right, wrong) in [
            (
                Ask::Newest(2),
                newest(vec![MINUTE_NS + 1, 2]),
                newest(vec![MINUTE_NS + 1, 1]),
            ),
            (
                Ask::Newest(2),
                newest(vec![MINUTE_NS + 1, 2]),
                newest(vec![MINUTE_NS + 1]),
            ),
            (Ask::Count, Answer::Count(3), Answer::Count(4)),
            (top_pod, top(&[("a", 2)]), top(&[("b", 2)])),
            (top_pod, top(&[("a", 2)]), top(&[("a", 3)])),
            (
                Ask::PerMinute,
                Answer::PerMinute([(0, 2), (MINUTE_NS, 1)].into()),
                Answer::PerMinute([(0, 3)].into()),
            ),
            (Ask::Count, Answer::Count(3), newest(Vec::new())),
        ] {
            let question = question(ask);
            question.check(&right).unwrap();
            assert!(question.check(&wrong).is_err(), "{ask:?}: {wrong:?}");
        }
    }

    #[test]
    fn words_are_whole_and_of_any_case() {
        assert!(has_word("request Timeout!", "timeout"));
        assert!(!has_word("timeouts my_timeout", "timeout"));
    }
}
