//! The texts a regular expression cannot match without.

use regex_syntax::hir::{Class, Hir, HirKind};
use tawny_query::fold_char;

/// Most alternatives of one text; `(?i)` makes two of each `s`, as `ſ` is one too.
const MAX_ALTERNATIVES: usize = 16;

/// Longest text gathered; longer ones narrow down no better.
const MAX_TEXT_BYTES: usize = 128;

/// Of each clause at least one text is in every match, folded. No clauses when nothing is known.
pub(super) fn required_parts(pattern: &str) -> Vec<Vec<String>> {
    let Ok(hir) = regex_syntax::parse(pattern) else {
        return Vec::new();
    };
    let mut found = Found::of(&hir);
    found.flush();
    found.clauses
}

/// What is known of a piece of a pattern.
struct Found {
    /// Each match ends with one of these; nothing else is in it where `is_whole`.
    run: Vec<String>,
    is_whole: bool,
    clauses: Vec<Vec<String>>,
}

impl Found {
    fn whole(run: Vec<String>) -> Self {
        Self {
            run,
            is_whole: true,
            clauses: Vec::new(),
        }
    }

    fn unknown() -> Self {
        Self {
            run: vec![String::new()],
            is_whole: false,
            clauses: Vec::new(),
        }
    }

    fn of(hir: &Hir) -> Self {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Self::whole(vec![String::new()]),
            HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
                Ok(text) => Self::whole(vec![text.chars().map(fold_char).collect()]),
                Err(_) => Self::unknown(),
            },
            HirKind::Class(class) => match folded_chars(class) {
                Some(chars) => Self::whole(chars.into_iter().map(String::from).collect()),
                None => Self::unknown(),
            },
            HirKind::Capture(capture) => Self::of(&capture.sub),
            HirKind::Repetition(repetition) => {
                let mut sub = Self::of(&repetition.sub);
                match (repetition.min, repetition.max) {
                    (0, Some(1)) if sub.is_whole && sub.run.len() < MAX_ALTERNATIVES => {
                        sub.run.push(String::new());
                        Self::whole(sub.run)
                    }
                    (0, _) => Self::unknown(),
                    (1, Some(1)) => sub,
                    // At least once: what one match needs, and nothing about what follows it.
                    _ => {
                        sub.flush();
                        sub.is_whole = false;
                        sub
                    }
                }
            }
            HirKind::Concat(parts) => {
                let mut all = Self::whole(vec![String::new()]);
                for part in parts {
                    all.follow_with(Self::of(part));
                }
                all
            }
            HirKind::Alternation(branches) => Self::any_of(branches.iter().map(Self::of).collect()),
        }
    }

    /// Ends the text gathered: it is needed, and what comes next does not touch it.
    fn flush(&mut self) {
        let run = std::mem::replace(&mut self.run, vec![String::new()]);
        if run.iter().all(|text| !text.is_empty()) && !run.is_empty() {
            self.clauses.push(run);
        }
    }

    fn follow_with(&mut self, next: Self) {
        if !next.is_whole {
            self.flush();
            self.is_whole = false;
            self.clauses.extend(next.clauses);
            self.run = next.run;
            return;
        }
        let is_long = |texts: &[String]| texts.iter().any(|text| text.len() > MAX_TEXT_BYTES);
        if self.run.len() * next.run.len() > MAX_ALTERNATIVES || is_long(&self.run) {
            self.flush();
            self.is_whole = false;
            self.run = next.run;
            return;
        }
        self.run = self
            .run
            .iter()
            .flat_map(|text| next.run.iter().map(move |more| format!("{text}{more}")))
            .collect();
    }

    fn any_of(branches: Vec<Self>) -> Self {
        let n_texts: usize = branches.iter().map(|branch| branch.run.len()).sum();
        if branches.iter().all(|branch| branch.is_whole) && n_texts <= MAX_ALTERNATIVES {
            return Self::whole(branches.into_iter().flat_map(|branch| branch.run).collect());
        }
        // One clause that names the best text of each branch.
        let mut clause = Vec::new();
        for mut branch in branches {
            branch.flush();
            let shortest = |texts: &Vec<String>| texts.iter().map(String::len).min();
            let Some(best) = branch.clauses.into_iter().max_by_key(shortest) else {
                return Self::unknown();
            };
            clause.extend(best);
        }
        Self {
            clauses: if clause.len() <= MAX_ALTERNATIVES {
                vec![clause]
            } else {
                Vec::new()
            },
            ..Self::unknown()
        }
    }
}

/// The characters of a small class, folded, each once.
fn folded_chars(class: &Class) -> Option<Vec<char>> {
    let mut chars: Vec<char> = match class {
        Class::Unicode(class) => {
            let ranges = class.ranges();
            let n_chars: usize = ranges.iter().map(|range| range.len()).sum();
            if n_chars > 2 * MAX_ALTERNATIVES {
                return None;
            }
            let ranges = ranges.iter();
            ranges
                .flat_map(|range| (range.start()..=range.end()).map(fold_char))
                .collect()
        }
        Class::Bytes(class) => {
            let ranges = class.ranges();
            let n_bytes: usize = ranges.iter().map(|range| range.len()).sum();
            if n_bytes > 2 * MAX_ALTERNATIVES || !class.is_ascii() {
                return None;
            }
            let ranges = ranges.iter();
            ranges
                .flat_map(|range| (range.start()..=range.end()).map(|b| fold_char(char::from(b))))
                .collect()
        }
    };
    chars.sort_unstable();
    chars.dedup();
    // A class of none matches nothing; that is left to the matcher.
    (1..=4).contains(&chars.len()).then_some(chars)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tawny_query::{Regex, fold};

    use super::*;

    /// Clauses by `&`, alternatives by `|`.
    fn parts(pattern: &str) -> String {
        let clauses = required_parts(pattern);
        let clauses: Vec<String> = clauses.iter().map(|clause| clause.join("|")).collect();
        clauses.join("&")
    }

    #[test]
    fn what_every_match_holds_is_found() {
        for (pattern, expected) in [
            ("error", "error"),
            ("ERROR", "error"),
            ("(?i)error", "error"),
            ("(?i)disk", "disk|diſk"),
            ("^error$", "error"),
            (r"\berror\b: \d+ ms", "error: & ms"),
            ("a|b", "a|b"),
            ("abc|def", "abc|def"),
            ("(abc|def)g", "abcg|defg"),
            ("(abc.*|def)g", "abc|def&g"),
            ("abc.*x|def", "abc|def"),
            ("a.*|.*", ""),
            ("conn(ection)? reset", "connection reset|conn reset"),
            ("(?:foo)+bar", "foo&bar"),
            ("fo{2}", "f&o"),
            ("x*", ""),
            ("[ab]c", "ac|bc"),
            ("[a-z]c", "c"),
            (r"\d+", ""),
            ("", ""),
            (r"status=(4|5)\d\d", "status=4|status=5"),
            ("GRÖSSE", "grösse"),
            ("(?-u:a)b", "ab"),
            ("[a&&b]x", "x"),
        ] {
            assert_eq!(parts(pattern), expected, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_match_is_without_its_parts(
            pattern in r"((a|b|\(ab\|Ba\)|\(aé\)\?|\[ab\]|\[\^a\]|S|İ|k|\(b\|k\+\)|x\{2\}|x\{1,2\}|\.|\.\*|\^|\\b|a\+|\(\?i:sK\)|\(x\|\)){1,6})",
            text in "([abABkKsSxéÉİ ]|\u{17f}|\u{212a}){0,12}",
        ) {
            let regex = Regex::new(&pattern).unwrap();
            if regex.is_match(&text) {
                let folded = fold(&text);
                for clause in required_parts(&pattern) {
                    prop_assert!(clause.iter().any(|part| folded.contains(part.as_str())), "{:?} in {:?}", clause, text);
                }
            }
        }
    }
}
