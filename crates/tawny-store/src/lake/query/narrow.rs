//! What a block must hold so that a row of it can match: an expression in, a probe out. Pure.
//!
//! It must never refute a block with a match: what is not known to be needed is left out.

use tawny_query::{Expr, Field, FieldTest, TextTest, is_word_char, tokens};

use super::literals::required_parts;
use crate::lake::probe::{Probe, key_hash, pair_hash, word_hash};

/// The probe of what is left of a query.
pub(super) fn probe_of(expr: &Expr) -> Probe {
    probe(expr, false)
}

fn probe(expr: &Expr, is_negated: bool) -> Probe {
    match (expr, is_negated) {
        (Expr::All, false) => Probe::Any,
        (Expr::All, true) => Probe::Never,
        (Expr::And(parts), false) | (Expr::Or(parts), true) => {
            Probe::all(parts.iter().map(|part| probe(part, is_negated)))
        }
        (Expr::Or(parts), false) | (Expr::And(parts), true) => {
            Probe::either(parts.iter().map(|part| probe(part, is_negated)))
        }
        (Expr::Not(inner), _) => probe(inner, !is_negated),
        (Expr::Message(test), false) => of_message(test),
        (Expr::Field(Field::Attribute(key), test), _) => of_attribute(key, test, is_negated),
        _ => Probe::Any,
    }
}

fn of_message(test: &TextTest) -> Probe {
    match test {
        TextTest::Phrase(words) => Probe::all(words.iter().map(|word| whole(word))),
        TextTest::Prefix(words) => match words.split_last() {
            Some((open, others)) => {
                Probe::all(others.iter().map(|word| whole(word)).chain([part(open)]))
            }
            None => Probe::Any,
        },
        TextTest::Suffix(words) => match words.split_first() {
            Some((open, others)) => Probe::all(
                [part(open)]
                    .into_iter()
                    .chain(others.iter().map(|word| whole(word))),
            ),
            None => Probe::Any,
        },
        TextTest::Substring(text) => of_text(text),
        TextTest::Regex(regex) => {
            let clauses = required_parts(regex.as_str());
            Probe::all(
                clauses
                    .iter()
                    .map(|texts| Probe::either(texts.iter().map(|text| of_text(text)))),
            )
        }
        _ => Probe::Any,
    }
}

fn of_attribute(key: &str, test: &FieldTest, is_negated: bool) -> Probe {
    match (test, is_negated) {
        (FieldTest::Equals(value), false) => Probe::Token(pair_hash(key, value)),
        // Whatever is tested, the attribute must be there; and there it must be where "not there" must not hold.
        (FieldTest::Absent, false) => Probe::Any,
        (FieldTest::Absent, true) | (_, false) => Probe::Token(key_hash(key)),
        (_, true) => Probe::Any,
    }
}

fn whole(word: &str) -> Probe {
    Probe::Token(word_hash(word))
}

fn part(text: &str) -> Probe {
    if text.is_empty() {
        Probe::Any
    } else {
        Probe::Part(text.to_owned())
    }
}

/// Text anywhere: words in the middle of it are whole.
fn of_text(text: &str) -> Probe {
    let begins_whole = !text.starts_with(is_word_char);
    let ends_whole = !text.ends_with(is_word_char);
    let words: Vec<&str> = tokens(text).collect();
    let n_words = words.len();
    let inner = words
        .into_iter()
        .enumerate()
        .filter(|(idx, _)| (*idx > 0 || begins_whole) && (*idx + 1 < n_words || ends_whole));
    Probe::all(inner.map(|(_, word)| whole(word)).chain([part(text)]))
}

#[cfg(test)]
mod tests {
    use tawny_query::Query;

    use super::*;

    fn of(query: &str) -> Probe {
        probe_of(Query::parse(query).unwrap().expr())
    }

    fn all<const N: usize>(parts: [Probe; N]) -> Probe {
        Probe::All(parts.to_vec())
    }

    #[test]
    fn what_must_be_there_is_asked_for() {
        let word = whole;
        for (query, probe) in [
            ("", Probe::Any),
            ("Error", word("error")),
            ("\"conn reset\"", all([word("conn"), word("reset")])),
            ("\"conn res\"*", all([word("conn"), part("res")])),
            ("*fused", part("fused")),
            ("*usedby*", part("usedby")),
            (
                "*\"on reset by\"*",
                all([word("reset"), part("on reset by")]),
            ),
            ("a b", all([word("a"), word("b")])),
            ("a OR b", Probe::Either(vec![word("a"), word("b")])),
            ("-a", Probe::Any),
            ("a -b", word("a")),
            ("-(-a OR -b)", all([word("a"), word("b")])),
            ("output:stderr a", word("a")),
            ("status:500", Probe::Token(pair_hash("status", "500"))),
            ("status>=500", Probe::Token(key_hash("status"))),
            ("status:5*", Probe::Token(key_hash("status"))),
            ("status:*", Probe::Token(key_hash("status"))),
            ("-status:*", Probe::Any),
            ("/time.*out/", all([part("time"), part("out")])),
            (
                "/time(d )?out/",
                Probe::Either(vec![part("timed out"), part("timeout")]),
            ),
            ("/(?i)ERROR/", part("error")),
            ("/[0-9]+/", Probe::Any),
        ] {
            assert_eq!(of(query), probe, "{query}");
        }
    }
}
