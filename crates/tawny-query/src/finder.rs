//! Finds a text in much larger ones without regard to case, for scans of a whole block of messages.

use std::fmt;

use aho_corasick::{
    Span,
    packed::{Config, Searcher},
};

use crate::text::{commonness, occurrences};

/// Bytes that are looked for together: their spellings with small and large letters are eight at most.
const WINDOW_BYTES: usize = 3;

/// A text to look for, folded. ASCII letters are found in either case, other bytes as they are.
#[derive(Clone)]
pub struct Finder {
    part: String,
    /// Finds every spelling of the rarest three bytes of the text, and where in it they begin; `None` for a text that is
    /// shorter, and where the processor lacks what it takes.
    window: Option<(Searcher, usize)>,
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Finder").field(&self.part).finish()
    }
}

impl PartialEq for Finder {
    fn eq(&self, other: &Self) -> bool {
        self.part == other.part
    }
}

impl Finder {
    /// `part` is not empty.
    pub fn new(part: &str) -> Self {
        let windows = part.as_bytes().windows(WINDOW_BYTES).enumerate();
        let rarest = windows.min_by_key(|(_, window)| {
            let ranks = window.iter().map(|byte| u32::from(commonness(*byte)));
            ranks.sum::<u32>()
        });
        let window = rarest.and_then(|(at, window)| {
            let mut builder = Config::new().builder();
            builder.extend(spellings(window));
            Some((builder.build()?, at))
        });
        Self {
            part: part.to_owned(),
            window,
        }
    }

    /// The text it looks for.
    pub fn part(&self) -> &str {
        &self.part
    }

    /// Where the text begins, each time, overlapping ones included.
    pub fn find_iter<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = usize> + 't {
        let part = self.part.as_bytes();
        let slowly = self.window.is_none().then(|| occurrences(text, part));
        let mut slowly = slowly.into_iter().flatten();
        let mut from = 0;
        std::iter::from_fn(move || {
            let Some((searcher, offset)) = &self.window else {
                return slowly.next();
            };
            loop {
                let rest = Span::from(from..text.len());
                let at = searcher.find_in(text, rest)?.start();
                from = at + 1;
                let Some(start) = at.checked_sub(*offset) else {
                    continue;
                };
                let found = text.get(start..start + part.len());
                if found.is_some_and(|found| found.eq_ignore_ascii_case(part)) {
                    return Some(start);
                }
            }
        })
    }
}

/// The bytes with each letter small or large.
fn spellings(window: &[u8]) -> Vec<Vec<u8>> {
    let mut spellings = vec![Vec::new()];
    for byte in window {
        let (small, large) = (byte.to_ascii_lowercase(), byte.to_ascii_uppercase());
        let longer = |last: u8| {
            spellings.iter().map(move |start: &Vec<u8>| {
                let mut spelling = start.clone();
                spelling.push(last);
                spelling
            })
        };
        let mut next: Vec<Vec<u8>> = longer(small).collect();
        if large != small {
            next.extend(longer(large));
        }
        spellings = next;
    }
    spellings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn finds_what_a_plain_search_finds(
            text in "([aAbBkK. é-]|\u{212a}){0,200}",
            part in "[ab.é k]{1,6}",
        ) {
            let found: Vec<usize> = Finder::new(&part).find_iter(text.as_bytes()).collect();
            let expected: Vec<usize> = occurrences(text.as_bytes(), part.as_bytes()).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn overlapping_ones_are_found() {
        let found: Vec<usize> = Finder::new("aaa").find_iter(b"xaAaAa").collect();
        assert_eq!(found, [1, 2, 3]);
    }
}
