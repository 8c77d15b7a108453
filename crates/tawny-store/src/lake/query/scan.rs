//! Fast search over the messages of a block: one scan of all their bytes finds the rows worth a look.

use arrow_array::StringArray;
use memchr::{memchr_iter, memmem};
use tawny_query::{FieldTest, Finder, TextTest, is_word_char};

use super::literals::required_parts;
use crate::lake::{gist::Gram, rows::HotRows};

const ESC: u8 = 0x1b;

/// The only characters that are not ASCII and yet fold to it (to `i` and `k`); a test below sees to that.
const FOLD_TO_ASCII: [&str; 2] = ["\u{130}", "\u{212a}"];

/// Rows, of a stretch, are scanned together when at least one in so many is asked about.
const SPARSE: usize = 8;

/// Bytes that are scanned for; of a longer text its beginning is. Text that repeats itself costs this much at each place.
const MAX_NEEDLE: usize = 64;

/// ASCII text, folded, that a message must hold to pass a test, colour codes and odd letters aside.
#[derive(Debug, PartialEq)]
pub(super) struct Needle {
    text: Finder,
    grams: Vec<Gram>,
    /// Whether finding it decides the test, and what may not stand beside it.
    exact: Option<Edges>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Edges {
    /// No word character before it.
    start: bool,
    /// No word character behind it.
    end: bool,
}

/// A test of messages and what to scan for, where that helps.
#[derive(Debug)]
pub(super) struct Scan {
    test: TextTest,
    needle: Option<Needle>,
}

impl Needle {
    fn of(test: &TextTest) -> Option<Self> {
        let (text, start, end) = match test {
            TextTest::Phrase(words) if words.len() == 1 => (&words[0], true, true),
            TextTest::Prefix(words) if words.len() == 1 => (&words[0], true, false),
            TextTest::Suffix(words) if words.len() == 1 => (&words[0], false, true),
            TextTest::Substring(text) => (text, false, false),
            TextTest::Phrase(words) | TextTest::Prefix(words) | TextTest::Suffix(words) => {
                return Self::part(words.iter().map(String::as_str));
            }
            TextTest::Regex(regex) => {
                let clauses = required_parts(regex.as_str());
                return Self::part(clauses.iter().filter_map(|texts| common_part(texts)));
            }
            _ => return None,
        };
        if (1..=MAX_NEEDLE).contains(&text.len()) && text.is_ascii() {
            Some(Self::new(text, Some(Edges { start, end })))
        } else {
            Self::part([text.as_str()])
        }
    }

    fn new(text: &str, exact: Option<Edges>) -> Self {
        Self {
            grams: Gram::all_of(text),
            text: Finder::new(text),
            exact,
        }
    }

    /// What the value of an attribute must hold to pass a test.
    pub(super) fn of_value(test: &FieldTest) -> Option<Self> {
        match test {
            FieldTest::Equals(value) => Self::part([value.as_str()]),
            _ => None,
        }
    }

    /// Whether some text like it is in a batch.
    pub(super) fn may_be_in(&self, batch: &HotRows) -> bool {
        if !batch.gist.is_ascii && self.has_odd_letters() {
            return true;
        }
        let text = batch.entries.text().as_bytes();
        batch.gist.may_hold(&self.grams) && self.text.find_iter(text).next().is_some()
    }

    /// Whether letters that are not ASCII may stand for some of it.
    fn has_odd_letters(&self) -> bool {
        self.text.part().contains(['i', 'k'])
    }

    /// The longest stretch of ASCII in texts that must all be there.
    fn part<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<Self> {
        let parts = texts
            .into_iter()
            .flat_map(|text| text.split(|c: char| !c.is_ascii()));
        let longest = parts.max_by_key(|part| part.len())?;
        let longest = longest.get(..MAX_NEEDLE).unwrap_or(longest);
        (longest.len() > 1).then(|| Self::new(longest, None))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Sight {
    Nothing,
    /// Ask the matcher.
    Perhaps,
    Match,
}

impl Scan {
    pub(super) fn of(test: &TextTest) -> Self {
        Self {
            needle: Needle::of(test),
            test: test.clone(),
        }
    }

    /// Whether any message of a batch may pass the test.
    pub(super) fn may_match(&self, batch: &HotRows) -> bool {
        // Colour codes part words.
        self.needle
            .as_ref()
            .is_none_or(|needle| batch.gist.has_escape || needle.may_be_in(batch))
    }

    /// The rows, of those given, whose message passes the test; ascending.
    pub(super) fn matching_rows(&self, messages: &StringArray, mut rows: Vec<u32>) -> Vec<u32> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return rows;
        };
        let (first, n_stretch) = (*first as usize, (last - first) as usize + 1);
        let ask = |row: u32| self.test.matches(messages.value(row as usize));
        let is_dense = rows.len() * SPARSE >= n_stretch;
        let Some(needle) = self.needle.as_ref().filter(|_| is_dense) else {
            rows.retain(|row| ask(*row));
            return rows;
        };
        let mut sights = vec![Sight::Nothing; n_stretch];
        look(needle, messages, first, &mut sights);
        rows.retain(|row| match sights[*row as usize - first] {
            Sight::Nothing => false,
            Sight::Perhaps => ask(*row),
            Sight::Match => true,
        });
        rows
    }
}

/// The longest stretch that all of the texts have in common, and that is ASCII.
fn common_part(texts: &[String]) -> Option<&str> {
    let (first, others) = texts.split_first()?;
    let first = first
        .char_indices()
        .nth(MAX_NEEDLE)
        .and_then(|(end, _)| first.get(..end))
        .unwrap_or(first);
    let starts = first.char_indices().map(|(at, _)| at);
    let mut longest = "";
    for start in starts {
        let rest = first.get(start..)?;
        // Only a longer one is of interest, and what extends a stretch that is not common is not common.
        while let Some(part) = rest.get(..longest.len() + 1) {
            if !part.is_ascii() || !others.iter().all(|other| other.contains(part)) {
                break;
            }
            longest = part;
        }
    }
    Some(longest).filter(|part| !part.is_empty())
}

/// What a scan says of each row from `first` on.
fn look(needle: &Needle, messages: &StringArray, first: usize, sights: &mut [Sight]) {
    let offsets = &messages.value_offsets()[first..=first + sights.len()];
    let at = |idx: usize| usize::try_from(offsets[idx]).expect("offsets are not negative");
    let base = at(0);
    let text = &messages.value_data()[base..at(sights.len())];
    // Positions ascend, so the row of each is found by going on from the last one's.
    let rows_of = || {
        let mut row = 0;
        move |position: usize| {
            while at(row + 1) - base <= position {
                row += 1;
            }
            row
        }
    };
    // Colour codes part words, and some letters become ASCII: such rows are for the matcher.
    let mut row_of = rows_of();
    for position in memchr_iter(ESC, text) {
        sights[row_of(position)] = Sight::Perhaps;
    }
    if needle.has_odd_letters() && !text.is_ascii() {
        for letter in FOLD_TO_ASCII {
            let mut row_of = rows_of();
            for position in memmem::find_iter(text, letter) {
                sights[row_of(position)] = Sight::Perhaps;
            }
        }
    }
    let mut row_of = rows_of();
    for position in needle.text.find_iter(text) {
        let row = row_of(position);
        if sights[row] != Sight::Nothing {
            continue;
        }
        let message = messages.value(first + row);
        let start = position - (at(row) - base);
        let end = start + needle.text.part().len();
        if end > message.len() {
            continue;
        }
        sights[row] = match needle.exact {
            None => Sight::Perhaps,
            Some(edges)
                if edges.start && ends_in_word(message, start)
                    || edges.end && begins_in_word(message, end) =>
            {
                Sight::Nothing
            }
            Some(_) => Sight::Match,
        };
    }
}

fn ends_in_word(text: &str, at: usize) -> bool {
    let before = text.get(..at).and_then(|before| before.chars().next_back());
    before.is_some_and(is_word_char)
}

fn begins_in_word(text: &str, at: usize) -> bool {
    let behind = text.get(at..).and_then(|behind| behind.chars().next());
    behind.is_some_and(is_word_char)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};
    use tawny_query::{Regex, fold_char, testing};

    use super::*;

    #[test]
    fn no_other_character_folds_to_ascii() {
        let odd = ('\u{80}'..=char::MAX).filter(|c| fold_char(*c).is_ascii());
        let odd: Vec<String> = odd.map(String::from).collect();
        assert_eq!(odd, FOLD_TO_ASCII);
    }

    #[test]
    fn a_test_is_known_by_its_longest_text() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let of = |test| {
            Needle::of(&test).map(|needle| (needle.text.part().to_owned(), needle.exact.is_some()))
        };
        for (test, needle) in [
            (TextTest::Phrase(words(&["error"])), Some(("error", true))),
            (
                TextTest::Phrase(words(&["a", "word"])),
                Some(("word", false)),
            ),
            (TextTest::Phrase(words(&["größe"])), Some(("gr", false))),
            (TextTest::Phrase(words(&["é"])), None),
            (
                TextTest::Phrase(words(&["x".repeat(1 << 20).as_str()])),
                Some(("x".repeat(MAX_NEEDLE).as_str(), false)),
            ),
            (TextTest::Substring("e".to_owned()), Some(("e", true))),
            (
                TextTest::Regex(Regex::new("time(d)? out.*x").unwrap()),
                Some(("time", false)),
            ),
            (
                TextTest::Regex(Regex::new("(?i)session").unwrap()),
                Some(("ion", false)),
            ),
            (
                TextTest::Regex(Regex::new("größer|größte").unwrap()),
                Some(("gr", false)),
            ),
            (TextTest::Regex(Regex::new("[0-9]+").unwrap()), None),
        ] {
            let needle = needle.map(|(text, is_exact)| (text.to_owned(), is_exact));
            assert_eq!(of(test.clone()), needle, "{test:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn scan_agrees_with_the_matcher(
            test in testing::text_test(),
            messages in proptest::collection::vec(testing::message(), 1..30),
            step in select(&[1usize, 1, 2, 20][..]),
        ) {
            let array = StringArray::from(messages.clone());
            // Not from the first row on: offsets do not begin at zero.
            let rows: Vec<u32> = (0..30u32).skip(1).step_by(step).filter(|row| (*row as usize) < messages.len()).collect();
            let expected: Vec<u32> =
                rows.iter().copied().filter(|row| test.matches(&messages[*row as usize])).collect();
            prop_assert_eq!(Scan::of(&test).matching_rows(&array, rows), expected);
        }
    }
}
