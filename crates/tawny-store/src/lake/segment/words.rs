//! The tokens of a block of rows: what its filter is built over.

use tawny_query::{fold, is_word_char, strip_ansi, tokens};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::probe::{Probe, key_hash, pair_hash, word_hash};

/// Distinct tokens of one block, past which it gets no filter: 32 MiB of hashes.
const MAX_TOKENS: usize = 4 << 20;

/// Keeps parts of words apart from the tokens of `probe`. Part of the format.
const PART_SEED: u64 = 0xd1b5_4a32_d192_ed03;

/// Bytes of the parts of words that filters hold.
const PART_BYTES: usize = 3;

/// Hashes of all parts of a folded word (of its UTF-8) that have no digit in them: the parts of ids and numbers are
/// nearly all there are, so that a filter of them would be large and refute nothing.
fn parts(word: &[u8]) -> impl Iterator<Item = u64> {
    word.windows(PART_BYTES)
        .filter(|part| !part.iter().any(u8::is_ascii_digit))
        .map(|part| xxh3_64_with_seed(part, PART_SEED))
}

/// The probe with each [`Probe::Part`] said in tokens: words that stand in it whole, and parts of its words.
pub(super) fn in_tokens(probe: &Probe) -> Probe {
    match probe {
        Probe::Part(text) => {
            let pieces: Vec<&str> = text.split(|c| !is_word_char(c)).collect();
            let last = pieces.len() - 1;
            Probe::all(pieces.iter().enumerate().flat_map(|(idx, piece)| {
                // The first may go on to the left and the last to the right of the text.
                let is_whole = idx > 0 && idx < last && !piece.is_empty();
                let word = is_whole.then(|| word_hash(piece));
                let parts = parts(piece.as_bytes());
                word.into_iter().chain(parts).map(Probe::Token)
            }))
        }
        Probe::All(inner) => Probe::all(inner.iter().map(in_tokens)),
        Probe::Either(inner) => Probe::either(inner.iter().map(in_tokens)),
        Probe::Any | Probe::Never | Probe::Token(_) => probe.clone(),
    }
}

/// The tokens of a block, collected row by row.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// Hashes of words alone: one that is new here is a new word, whatever else hashes alike.
    words: Set,
    others: Set,
    folded: String,
}

/// A letter or digit of ASCII, or `_`: [`tawny_query::is_word_char`] for bytes.
const IS_WORD_BYTE: [bool; 256] = {
    let mut is_word = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        is_word[byte as usize] = byte == b'_' || byte.is_ascii_alphanumeric();
        byte += 1;
    }
    is_word
};

impl Tokens {
    /// The words of a message, by the rules of `tawny_query`: colour codes removed, split, folded.
    pub(super) fn message(&mut self, message: &str) {
        let text = strip_ansi(message);
        if !text.is_ascii() {
            for token in tokens(&text) {
                self.word(&fold(token));
            }
            return;
        }
        let mut folded = std::mem::take(&mut self.folded);
        folded.clear();
        folded.push_str(&text);
        folded.make_ascii_lowercase();
        let is_word = |byte: &u8| IS_WORD_BYTE[usize::from(*byte)];
        let bytes = folded.as_bytes();
        let mut end = 0;
        while let Some(gap) = bytes[end..].iter().position(is_word) {
            let start = end + gap;
            let len_bytes = bytes[start..].iter().position(|byte| !is_word(byte));
            end = len_bytes.map_or(bytes.len(), |len_bytes| start + len_bytes);
            self.word(folded.get(start..end).expect("all of it is ASCII"));
        }
        self.folded = folded;
    }

    pub(super) fn attribute(&mut self, key: &str, value: &str) {
        self.others.insert(key_hash(key));
        let is_folded = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
        let hash = if value.bytes().all(is_folded) {
            pair_hash(key, value)
        } else {
            pair_hash(key, &fold(value))
        };
        self.others.insert(hash);
    }

    /// A folded word of a message.
    fn word(&mut self, folded: &str) {
        // Only a word that is new has parts that may be.
        if self.words.insert(word_hash(folded)) {
            for part in parts(folded.as_bytes()) {
                self.others.insert(part);
            }
        }
    }

    /// Each token once; `None` when there were too many to tell.
    pub(super) fn distinct(&mut self) -> Option<&[u64]> {
        let words = self.words.all()?;
        for word in words {
            self.others.insert(*word);
        }
        self.others.all()
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.others.clear();
    }
}

/// Distinct hashes.
#[derive(Debug)]
struct Set {
    /// Open addressing, zero for an empty place; a power of two, at most half full.
    table: Vec<u64>,
    distinct: Vec<u64>,
    has_zero: bool,
    /// Hashes that are in the table, at their low bits: most words come again soon, and this fits the nearest cache.
    recent: Vec<u64>,
}

/// Hashes remembered as recent: 16 KiB.
const N_RECENT: usize = 1 << 11;

impl Default for Set {
    fn default() -> Self {
        Self {
            table: vec![0; 1 << 12],
            distinct: Vec::new(),
            has_zero: false,
            recent: vec![0; N_RECENT],
        }
    }
}

impl Set {
    /// Whether the hash was new.
    fn insert(&mut self, hash: u64) -> bool {
        if hash == 0 {
            if !self.has_zero {
                self.has_zero = true;
                self.distinct.push(0);
                return true;
            }
            return false;
        }
        let recent = &mut self.recent[place(hash, N_RECENT - 1)];
        if *recent == hash {
            return false;
        }
        let mask = self.table.len() - 1;
        let mut at = place(hash, mask);
        loop {
            match self.table[at] {
                0 => break,
                found if found == hash => {
                    *recent = hash;
                    return false;
                }
                _ => at = (at + 1) & mask,
            }
        }
        if self.distinct.len() > MAX_TOKENS {
            return false;
        }
        *recent = hash;
        self.table[at] = hash;
        self.distinct.push(hash);
        if self.distinct.len() * 2 > self.table.len() {
            self.grow();
        }
        true
    }

    fn grow(&mut self) {
        let len = self.table.len() * 2;
        self.table.clear();
        self.table.resize(len, 0);
        for hash in self.distinct.iter().filter(|hash| **hash != 0) {
            let mut at = place(*hash, len - 1);
            while self.table[at] != 0 {
                at = (at + 1) & (len - 1);
            }
            self.table[at] = *hash;
        }
    }

    /// `None` when there were too many to tell.
    fn all(&self) -> Option<&[u64]> {
        (self.distinct.len() <= MAX_TOKENS).then_some(&self.distinct)
    }

    fn clear(&mut self) {
        // A table that one odd block made large is not kept.
        if self.table.len() > 1 << 17 {
            *self = Self::default();
            return;
        }
        self.table.fill(0);
        self.recent.fill(0);
        self.distinct.clear();
        self.has_zero = false;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "some bits of a hash are as good as others"
)]
fn place(hash: u64, mask: usize) -> usize {
    hash as usize & mask
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_are_those_of_the_query_language(messages in proptest::collection::vec("([ aAbB_.é9-]|É|ß|\u{212a}|İ|—|\u{1b}\\[3[12]m){0,24}", 0..8)) {
            let mut collected = Tokens::default();
            let mut by_definition = BTreeSet::new();
            for message in &messages {
                collected.message(message);
                for word in tawny_query::index_text(message).split_whitespace() {
                    by_definition.insert(word_hash(word));
                    by_definition.extend(parts(word.as_bytes()));
                }
            }
            let found = collected.distinct().unwrap();
            prop_assert_eq!(found.len(), by_definition.len());
            prop_assert!(found.iter().all(|hash| by_definition.contains(hash)));
        }
    }

    proptest! {
        #[test]
        fn whatever_part_stands_in_a_message_is_not_denied(message in "([ aAbBxyz_.é9-]|É|ß|\u{212a}|—){0,40}", from in 0usize..20, n in 0usize..20) {
            let mut collected = Tokens::default();
            collected.message(&message);
            let text: String = fold(&message).chars().skip(from).take(n).collect();
            let found = collected.distinct().unwrap();
            fn holds(probe: &Probe, found: &[u64]) -> bool {
                match probe {
                    Probe::Token(hash) => found.contains(hash),
                    Probe::All(inner) => inner.iter().all(|inner| holds(inner, found)),
                    other => *other == Probe::Any,
                }
            }
            prop_assert!(holds(&in_tokens(&Probe::Part(text)), found));
        }
    }

    #[test]
    fn many_tokens_are_each_kept_once_and_forgotten() {
        let mut tokens = Tokens::default();
        for round in 0..2 {
            for n in 0..100_000 {
                tokens.message(&format!("word{n} word{n} same"));
            }
            tokens.others.insert(0);
            tokens.others.insert(0);
            // Zero, `same`, its parts and those of `word`.
            assert_eq!(tokens.distinct().unwrap().len(), 100_006, "{round}");
            tokens.clear();
            assert_eq!(tokens.distinct().unwrap().len(), 0);
        }
    }
}
