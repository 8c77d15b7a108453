//! What a word is, what case-insensitive means and which bytes are colour: the rules every store must agree with.
//!
//! The pipeline is always the same: [`strip_ansi`], then [`tokens`], then [`fold`] on each token.

use std::{borrow::Cow, cell::OnceCell};

use memchr::memchr2_iter;
pub use tawny_model::strip_ansi;

/// Whether the character is part of a word: a Unicode letter or digit (`char::is_alphanumeric`) or `_`.
pub fn is_word_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The words of a text, in order: maximal runs of [`is_word_char`], case kept.
///
/// Colour codes are not known here; take [`strip_ansi`] of a message first. To make another tokenizer (FTS5's
/// `unicode61`, say) agree in spite of its own Unicode tables, index [`index_text`] instead of the message: it holds
/// nothing but folded words and spaces.
pub fn tokens(text: &str) -> impl Iterator<Item = &str> + Clone {
    text.split(|c| !is_word_char(c))
        .filter(|token| !token.is_empty())
}

/// The lower-case form used in every comparison: Unicode's simple mapping, so one character stays one character.
///
/// It differs from `char::to_lowercase` for `İ` alone, which becomes `i` without the combining dot.
pub fn fold_char(c: char) -> char {
    if c.is_ascii() {
        c.to_ascii_lowercase()
    } else {
        c.to_lowercase().next().unwrap_or(c)
    }
}

/// [`fold_char`] over a text; borrowed when nothing changes.
pub fn fold(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| fold_char(c) == c) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(folded(text))
    }
}

fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| !byte.is_ascii()) {
        let (ascii, others) = rest.split_at(at);
        folded.push_str(ascii);
        let mut others = others.chars();
        folded.extend(others.next().map(fold_char));
        rest = others.as_str();
    }
    folded.push_str(rest);
    folded.make_ascii_lowercase();
    folded
}

/// Whether `value` is `folded` without regard to case.
pub fn eq_folded(value: &str, folded: &str) -> bool {
    // What folds to ASCII gets no longer by it, and shorter where it was none: nearly all values are told by their length.
    if value.len() <= folded.len() && folded.is_ascii() {
        value.eq_ignore_ascii_case(folded)
    } else if value.is_ascii() {
        false
    } else {
        value.chars().map(fold_char).eq(folded.chars())
    }
}

/// The folded words of a raw message, joined by single spaces: what a full-text index should be given.
pub fn index_text(message: &str) -> String {
    let text = strip_ansi(message);
    let mut joined = String::with_capacity(text.len());
    for token in tokens(&text) {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.extend(token.chars().map(fold_char));
    }
    joined
}

/// A value read as a number: decimal, with optional sign, fraction and exponent, spaces around ignored, finite.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let last = text.as_bytes().last()?;
    // `inf`, `infinity` and `nan` are words here, though `f64` reads them.
    if !(last.is_ascii_digit() || *last == b'.') {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Which words of a row need not be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    Whole,
    /// The last word need only begin so.
    OpenEnd,
    /// The first word need only end so.
    OpenStart,
}

/// A message as tests look at it: colours removed once, folded once and only where that is needed.
#[derive(Debug)]
pub(crate) struct Message<'m> {
    stripped: Cow<'m, str>,
    is_ascii: bool,
    folded: OnceCell<String>,
}

impl<'m> Message<'m> {
    pub(crate) fn new(raw: &'m str) -> Self {
        let stripped = strip_ansi(raw);
        Self {
            is_ascii: stripped.is_ascii(),
            stripped,
            folded: OnceCell::new(),
        }
    }

    /// Without colour codes, case kept.
    pub(crate) fn text(&self) -> &str {
        &self.stripped
    }

    /// What the searches below take: ASCII is compared without regard to case as it stands, all else is folded.
    fn searched(&self) -> &str {
        if self.is_ascii {
            return &self.stripped;
        }
        self.folded.get_or_init(|| folded(&self.stripped))
    }

    /// Whether the folded `words` stand in a row.
    pub(crate) fn contains_row(&self, words: &[String], row: Row) -> bool {
        let text = self.searched();
        words.first().is_none_or(|first| {
            occurrences(text.as_bytes(), first.as_bytes()).any(|start| {
                let opens = row == Row::OpenStart || !ends_in_word(text, start);
                opens && row_goes_on(text, start, words, row).is_some()
            })
        })
    }

    /// Whether the folded `part` stands anywhere.
    pub(crate) fn contains_part(&self, part: &str) -> bool {
        part.is_empty()
            || occurrences(self.searched().as_bytes(), part.as_bytes())
                .next()
                .is_some()
    }
}

/// The end of the row whose first word was found at `start`; `None` when it breaks off.
fn row_goes_on(text: &str, start: usize, words: &[String], row: Row) -> Option<usize> {
    let mut at = start;
    for (idx, word) in words.iter().enumerate() {
        if idx > 0 {
            at += text.get(at..)?.find(is_word_char)?;
            let found = text.as_bytes().get(at..at + word.len())?;
            if !found.eq_ignore_ascii_case(word.as_bytes()) {
                return None;
            }
        }
        at += word.len();
        let may_go_on = row == Row::OpenEnd && idx + 1 == words.len();
        if !may_go_on && begins_in_word(text, at) {
            return None;
        }
    }
    Some(at)
}

/// Whether the character at this byte is of a word.
fn begins_in_word(text: &str, at: usize) -> bool {
    text.get(at..)
        .and_then(|rest| rest.chars().next())
        .is_some_and(is_word_char)
}

/// Whether the character before this byte is of a word.
fn ends_in_word(text: &str, at: usize) -> bool {
    text.get(..at)
        .and_then(|before| before.chars().next_back())
        .is_some_and(is_word_char)
}

/// Where `part`, not empty and folded, begins; case of ASCII letters ignored, other bytes as they are.
pub fn occurrences<'t>(text: &'t [u8], part: &'t [u8]) -> impl Iterator<Item = usize> + 't {
    let (anchor_idx, anchor) = part
        .iter()
        .copied()
        .enumerate()
        .min_by_key(|(_, byte)| COMMONNESS[usize::from(*byte)])
        .unwrap_or_default();
    memchr2_iter(anchor, anchor.to_ascii_uppercase(), text).filter_map(move |at| {
        let start = at.checked_sub(anchor_idx)?;
        text.get(start..start + part.len())?
            .eq_ignore_ascii_case(part)
            .then_some(start)
    })
}

/// Rank of a byte by how common it is in log lines, the rarest first.
pub(crate) fn commonness(byte: u8) -> u8 {
    COMMONNESS[usize::from(byte)]
}

/// Rank of each byte in English log lines; a scan looks for the rarest byte of what it seeks.
const COMMONNESS: [u8; 256] = {
    let rare_to_common = b"zqjxkvbywgpfmucdlhrsnioate0123456789-_./:= ";
    let mut ranks = [0; 256];
    let mut rank = 0u8;
    while (rank as usize) < rare_to_common.len() {
        ranks[rare_to_common[rank as usize] as usize] = rank + 1;
        rank += 1;
    }
    ranks
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_runs_of_letters_digits_and_underscores() {
        for (text, words) in [
            ("", &[] as &[&str]),
            ("— *** —", &[]),
            ("GET /api/v1?x=1", &["GET", "api", "v1", "x", "1"]),
            ("foo_bar-baz.10", &["foo_bar", "baz", "10"]),
            ("naïve Größe 東京 ١٢٣", &["naïve", "Größe", "東京", "١٢٣"]),
        ] {
            assert_eq!(tokens(text).collect::<Vec<_>>(), words, "{text}");
        }
    }

    #[test]
    fn folding_keeps_words_words_and_is_done_once() {
        for c in '\0'..=char::MAX {
            let folded = fold_char(c);
            assert_eq!(fold(&format!("A{c}Z")), format!("a{folded}z"));
            assert_eq!(is_word_char(c), is_word_char(folded), "{c:?} → {folded:?}");
            assert_eq!(fold_char(folded), folded, "{c:?}");
        }
    }

    #[test]
    fn index_text_holds_folded_words_only() {
        assert_eq!(
            index_text("\x1b[31mERROR\x1b[0m: Conn-Reset (İ)"),
            "error conn reset i"
        );
    }

    #[test]
    fn numbers_are_finite_decimals() {
        for (text, value) in [
            ("500", Some(500.0)),
            (" -1.5e3 ", Some(-1500.0)),
            ("1.", Some(1.0)),
            ("nan", None),
            ("inf", None),
            ("1e999", None),
            ("12ms", None),
            ("", None),
            ("0x10", None),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn equal_without_case_means_equal_when_folded(
            value in "([abKİ]|\u{212a}|é|É){0,4}",
            other in "[abikKİéÉ]{0,4}",
        ) {
            let folded = fold(&other);
            prop_assert_eq!(eq_folded(&value, &folded), fold(&value) == folded);
            prop_assert!(eq_folded(&value, &fold(&value)));
        }

        #[test]
        fn search_agrees_with_the_definition(
            text in "([ aAbB_.é-]|É|ß|\u{212a}|K|—){0,24}",
            words in proptest::collection::vec("[ab_ék]{1,3}", 1..3),
        ) {
            let message = Message::new(&text);
            for row in [Row::Whole, Row::OpenEnd, Row::OpenStart] {
                prop_assert_eq!(
                    message.contains_row(&words, row),
                    contains_row_by_definition(&text, &words, row),
                    "{:?}", row
                );
            }
            prop_assert_eq!(message.contains_part(&words[0]), fold(&text).contains(&words[0]));
        }
    }

    fn contains_row_by_definition(text: &str, words: &[String], row: Row) -> bool {
        let found: Vec<String> = tokens(text).map(|token| fold(token).into_owned()).collect();
        found.windows(words.len()).any(|window| {
            window
                .iter()
                .zip(words)
                .enumerate()
                .all(|(idx, (token, word))| {
                    if row == Row::OpenEnd && idx + 1 == words.len() {
                        token.starts_with(word)
                    } else if row == Row::OpenStart && idx == 0 {
                        token.ends_with(word)
                    } else {
                        token == word
                    }
                })
        })
    }
}
