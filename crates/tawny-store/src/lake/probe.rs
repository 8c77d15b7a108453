//! What a block of rows must hold to be worth opening: the language between the planner and the token filters.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A condition on a block that a filter can refute. "May hold" is always a right answer, "cannot" must be true.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Probe {
    /// Nothing is known: every block may hold it.
    Any,
    /// No block can.
    Never,
    /// A token with this hash: [`word_hash`], [`pair_hash`] or [`key_hash`].
    Token(u64),
    /// This folded text anywhere in a message, colour codes removed; it need not be whole words.
    Part(String),
    All(Vec<Self>),
    Either(Vec<Self>),
}

impl Probe {
    /// All of them, simplified.
    pub(crate) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Any => {}
                Self::Never => return Self::Never,
                Self::All(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Any,
            1 => kept.remove(0),
            _ => Self::All(kept),
        }
    }

    /// Any of them, simplified.
    pub(crate) fn either(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Any => return Self::Any,
                Self::Never => {}
                Self::Either(inner) => kept.extend(inner),
                other => kept.push(other),
            }
        }
        match kept.len() {
            0 => Self::Never,
            1 => kept.remove(0),
            _ => Self::Either(kept),
        }
    }
}

// Seeds keep the kinds of token apart. They are part of the segment format: a change makes every filter blind. They lie
// far apart because XXH3 adds them to short texts: with near ones a short word hashes like some other short key.
const WORD_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const PAIR_SEED: u64 = 0xbf58_476d_1ce4_e5b9;
const KEY_SEED: u64 = 0x94d0_49bb_1331_11eb;

/// Hash of a word of a message, folded ([`tawny_query::fold`]). XXH3, 64 bit.
pub(crate) fn word_hash(folded: &str) -> u64 {
    xxh3_64_with_seed(folded.as_bytes(), WORD_SEED)
}

/// Hash of an attribute with its whole value, folded; the key as it is.
pub(crate) fn pair_hash(key: &str, folded_value: &str) -> u64 {
    xxh3_64_with_seed(
        folded_value.as_bytes(),
        key_hash(key).wrapping_add(PAIR_SEED),
    )
}

/// Hash of an attribute's key: some row has the attribute.
pub(crate) fn key_hash(key: &str) -> u64 {
    xxh3_64_with_seed(key.as_bytes(), KEY_SEED)
}
