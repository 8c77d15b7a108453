//! Which rules can a line matter to? What costs little is asked first, so that hundreds of rules cost a line little.
//!
//! Two questions rule nearly all out: whether the line's stream and level can match at all, answered once per stream,
//! and whether a text that the rule needs is in the message, answered for all rules by one pass over it.

use aho_corasick::AhoCorasick;
use tawny_model::{Severity, Stream, strip_ansi};
use tawny_query::{Expr, Field, TextTest, fold};

use super::rules::Rule;

/// Shorter texts are in so many lines that looking for them costs more than it saves.
const MIN_NEEDLE_BYTES: usize = 3;

/// A set of rules by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set(Box<[u64]>);

impl Set {
    fn of_none(n_rules: usize) -> Self {
        Self(vec![0; n_rules.div_ceil(64)].into())
    }

    fn insert(&mut self, rule: usize) {
        if let Some(word) = self.0.get_mut(rule / 64) {
            *word |= 1 << (rule % 64);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    fn assign(&mut self, other: &Self) {
        self.0.copy_from_slice(&other.0);
    }

    fn keep(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word &= other;
        }
    }

    /// The first rule of this index or a later one.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let mut idx = from / 64;
        let mut word = self.0.get(idx)? & (u64::MAX << (from % 64));
        while word == 0 {
            idx += 1;
            word = *self.0.get(idx)?;
        }
        Some(idx * 64 + word.trailing_zeros() as usize)
    }
}

/// What a stream leaves of the rules, by the number of a line's severity.
#[derive(Debug)]
pub(super) struct Plan {
    may: [Set; Severity::ALL.len()],
}

impl Plan {
    /// Bytes it takes for so many rules.
    pub(super) const fn bytes(n_rules: usize) -> usize {
        Severity::ALL.len() * (size_of::<Set>() + n_rules.div_ceil(64) * 8)
    }
}

#[derive(Debug)]
pub(super) struct Sieve {
    exprs: Vec<Expr>,
    /// Finds the texts that rules need; `None` when no rule needs one.
    needles: Option<AhoCorasick>,
    /// The rules that need the text of this index.
    rules_of: Vec<Vec<usize>>,
    /// The rules that need a text.
    needy: Set,
    /// The rules that need none.
    free: Set,
}

impl Sieve {
    pub(super) fn new<'r>(rules: impl Iterator<Item = &'r Rule>) -> Self {
        let exprs: Vec<Expr> = rules.map(|rule| rule.looked_at().expr().clone()).collect();
        let mut texts: Vec<String> = Vec::new();
        let mut rules_of: Vec<Vec<usize>> = Vec::new();
        let mut needy = Set::of_none(exprs.len());
        let mut free = Set::of_none(exprs.len());
        for (rule, expr) in exprs.iter().enumerate() {
            let Some(needed) = needed(expr) else {
                free.insert(rule);
                continue;
            };
            needy.insert(rule);
            for text in needed {
                if let Some(idx) = texts.iter().position(|known| *known == text) {
                    rules_of
                        .get_mut(idx)
                        .expect("a list for each text")
                        .push(rule);
                } else {
                    texts.push(text);
                    rules_of.push(vec![rule]);
                }
            }
        }
        let built = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(&texts);
        let needles = built.ok().filter(|_| !texts.is_empty());
        if needles.is_none() {
            // Too many texts for one automaton cost time and no match.
            for rule in 0..exprs.len() {
                free.insert(rule);
            }
            needy = Set::of_none(exprs.len());
        }
        Self {
            exprs,
            needles,
            rules_of,
            needy,
            free,
        }
    }

    /// The rules lines of this stream can matter to.
    pub(super) fn plan(&self, stream: &Stream) -> Plan {
        let may = Severity::ALL.map(|severity| {
            let mut may = Set::of_none(self.exprs.len());
            for (rule, expr) in self.exprs.iter().enumerate() {
                if verdict(expr, stream, severity) != Some(false) {
                    may.insert(rule);
                }
            }
            may
        });
        Plan { may }
    }

    pub(super) fn set(&self) -> Set {
        Set::of_none(self.exprs.len())
    }

    /// Puts the rules this line can matter to into `found`.
    pub(super) fn sift(&self, plan: &Plan, severity: Severity, message: &str, found: &mut Set) {
        let may = plan
            .may
            .get(usize::from(severity.number()))
            .expect("a set for each severity");
        found.assign(&self.free);
        if let Some(needles) = self.needles.as_ref().filter(|_| may.meets(&self.needy)) {
            let plain = strip_ansi(message);
            if plain.is_ascii() {
                self.look_for(needles, &plain, found);
            } else {
                self.look_for(needles, &fold(&plain), found);
            }
        }
        found.keep(may);
    }

    fn look_for(&self, needles: &AhoCorasick, text: &str, found: &mut Set) {
        for hit in needles.find_overlapping_iter(text) {
            for rule in self
                .rules_of
                .get(hit.pattern().as_usize())
                .into_iter()
                .flatten()
            {
                found.insert(*rule);
            }
        }
    }

    /// Whether lines of the stream can matter to no rule at all.
    pub(super) fn rules_out(&self, plan: &Plan) -> bool {
        plan.may.iter().all(Set::is_empty)
    }
}

/// Texts, folded, one of which is in every message that matches; `None` when that cannot be said.
fn needed(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Message(test) => {
            let text = match test {
                TextTest::Phrase(words) | TextTest::Prefix(words) | TextTest::Suffix(words) => {
                    words.iter().max_by_key(|word| word.len())?
                }
                TextTest::Substring(part) => part,
                _ => return None,
            };
            (text.len() >= MIN_NEEDLE_BYTES).then(|| vec![text.clone()])
        }
        // One part is enough: the one whose texts are the rarest, which is to say the longest and fewest.
        Expr::And(parts) => parts.iter().filter_map(needed).max_by_key(|texts| {
            let shortest = texts.iter().map(String::len).min().unwrap_or_default();
            (shortest, usize::MAX - texts.len())
        }),
        Expr::Or(parts) => {
            let texts: Option<Vec<_>> = parts.iter().map(needed).collect();
            texts.map(|texts| texts.concat())
        }
        _ => None,
    }
}

/// Whether a line of this stream and severity matches, as far as these two tell.
fn verdict(expr: &Expr, stream: &Stream, severity: Severity) -> Option<bool> {
    match expr {
        Expr::All => Some(true),
        Expr::And(parts) => {
            let mut all = Some(true);
            for part in parts {
                match verdict(part, stream, severity) {
                    Some(false) => return Some(false),
                    Some(true) => {}
                    None => all = None,
                }
            }
            all
        }
        Expr::Or(parts) => {
            let mut any = Some(false);
            for part in parts {
                match verdict(part, stream, severity) {
                    Some(true) => return Some(true),
                    Some(false) => {}
                    None => any = None,
                }
            }
            any
        }
        Expr::Not(inner) => verdict(inner, stream, severity).map(|matches| !matches),
        Expr::Field(Field::Severity, test) => Some(test.matches_severity(severity)),
        Expr::Field(field, test) if field.is_of_stream() => {
            Some(test.matches_stream(field, stream))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tawny_query::testing;

    use super::*;
    use crate::alert::Rules;

    fn sieve(queries: &[tawny_query::Query]) -> Sieve {
        let rules = Rules::load([("none", "rules: [{name: a, query: '', window: 1m}]")]).unwrap();
        let rule = rules.iter().next().unwrap();
        let with = |query: &tawny_query::Query| Rule {
            query: query.clone(),
            ..Rule::clone(rule)
        };
        let rules: Vec<Rule> = queries.iter().map(with).collect();
        Sieve::new(rules.iter())
    }

    fn sifted(sieve: &Sieve, entry: &tawny_model::LogEntry) -> Vec<usize> {
        let mut found = sieve.set();
        let plan = sieve.plan(&entry.stream);
        sieve.sift(&plan, entry.severity, &entry.message, &mut found);
        let rules: Vec<usize> =
            std::iter::successors(found.next(0), |rule| found.next(rule + 1)).collect();
        assert!(rules.is_empty() || !sieve.rules_out(&plan));
        rules
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn no_line_that_matches_is_sifted_out(
            queries in prop::collection::vec(testing::query(), 1..80),
            entry in testing::entry(),
        ) {
            let found = sifted(&sieve(&queries), &entry);
            for (rule, query) in queries.iter().enumerate() {
                prop_assert!(!query.matches(&entry) || found.contains(&rule), "{query}");
            }
        }
    }

    #[test]
    fn a_line_without_the_text_the_stream_or_the_level_is_sifted_out() {
        let queries = [
            "timeout",
            "namespace:shop",
            "level>=error",
            "-timeout",
            "/time/",
        ]
        .map(|text| tawny_query::Query::parse(text).unwrap());
        let sieve = sieve(&queries);
        let id = tawny_model::StreamId {
            cluster: "".into(),
            pod_uid: "u".into(),
            container: "c".into(),
            restart: 0,
        };
        let entry = |namespace: &str, severity, message: &str| tawny_model::LogEntry {
            id: tawny_model::EntryId(0),
            timestamp: tawny_model::Timestamp::default(),
            severity,
            output: tawny_model::Output::Stdout,
            message: message.to_owned(),
            attributes: Vec::new(),
            stream: Stream::new(id.clone(), namespace, "p").into(),
        };
        let info = Severity::Info;
        assert_eq!(sifted(&sieve, &entry("bar", info, "all is well")), [3, 4]);
        assert_eq!(
            sifted(&sieve, &entry("shop", info, "a TIME\x1b[1mOUT")),
            [0, 1, 3, 4]
        );
        assert_eq!(
            sifted(&sieve, &entry("bar", Severity::Fatal, "größe")),
            [2, 3, 4]
        );
    }
}
