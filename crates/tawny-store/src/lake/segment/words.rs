//! The tokens of a block of rows: what its filter is built over.

use tawny_query::{fold, strip_ansi, tokens};

use super::super::probe::{key_hash, pair_hash, word_hash};

/// Distinct tokens of one block, past which it gets no filter: 32 MiB of hashes.
const MAX_TOKENS: usize = 4 << 20;

/// Distinct hashes, collected row by row.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Open addressing, zero for an empty place; a power of two, at most half full.
    table: Vec<u64>,
    distinct: Vec<u64>,
    has_zero: bool,
    folded: Vec<u8>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            table: vec![0; 1 << 12],
            distinct: Vec::new(),
            has_zero: false,
            folded: Vec::new(),
        }
    }
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
                self.insert(word_hash(&fold(token)));
            }
            return;
        }
        let mut folded = std::mem::take(&mut self.folded);
        folded.clear();
        folded.extend_from_slice(text.as_bytes());
        folded.make_ascii_lowercase();
        let is_word = |byte: &u8| IS_WORD_BYTE[usize::from(*byte)];
        let mut rest = folded.as_slice();
        while let Some(start) = rest.iter().position(is_word) {
            rest = &rest[start..];
            let end = rest
                .iter()
                .position(|byte| !is_word(byte))
                .unwrap_or(rest.len());
            self.insert(hash_of_ascii(&rest[..end]));
            rest = &rest[end..];
        }
        self.folded = folded;
    }

    pub(super) fn attribute(&mut self, key: &str, value: &str) {
        self.insert(key_hash(key));
        self.insert(pair_hash(key, &fold(value)));
    }

    fn insert(&mut self, hash: u64) {
        if hash == 0 {
            if !self.has_zero {
                self.has_zero = true;
                self.distinct.push(0);
            }
            return;
        }
        let mask = self.table.len() - 1;
        let mut at = place(hash, mask);
        loop {
            match self.table[at] {
                0 => break,
                found if found == hash => return,
                _ => at = (at + 1) & mask,
            }
        }
        if self.distinct.len() > MAX_TOKENS {
            return;
        }
        self.table[at] = hash;
        self.distinct.push(hash);
        if self.distinct.len() * 2 > self.table.len() {
            self.grow();
        }
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

    /// Each once; `None` when there were too many to tell.
    pub(super) fn distinct(&self) -> Option<&[u64]> {
        (self.distinct.len() <= MAX_TOKENS).then_some(&self.distinct)
    }

    pub(super) fn clear(&mut self) {
        // A table that one odd block made large is not kept.
        if self.table.len() > 1 << 17 {
            *self = Self::default();
            return;
        }
        self.table.fill(0);
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

/// [`word_hash`] of folded ASCII.
fn hash_of_ascii(word: &[u8]) -> u64 {
    word_hash(std::str::from_utf8(word).unwrap_or_default())
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
                by_definition.extend(tawny_query::index_text(message).split(' ').filter(|word| !word.is_empty()).map(word_hash));
            }
            let found = collected.distinct().unwrap();
            prop_assert_eq!(found.len(), by_definition.len());
            prop_assert!(found.iter().all(|hash| by_definition.contains(hash)));
        }
    }

    #[test]
    fn many_tokens_are_each_kept_once_and_forgotten() {
        let mut tokens = Tokens::default();
        for round in 0..2 {
            for n in 0..100_000 {
                tokens.message(&format!("word{n} word{n} same"));
            }
            tokens.insert(0);
            tokens.insert(0);
            assert_eq!(tokens.distinct().unwrap().len(), 100_002, "{round}");
            tokens.clear();
            assert_eq!(tokens.distinct().unwrap().len(), 0);
        }
    }
}
