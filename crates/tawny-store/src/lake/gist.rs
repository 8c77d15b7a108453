//! What may be in a text: a bit for each three bytes that follow each other, so that most texts a question has no
//! business with are passed over unread.

/// Bytes that are remembered together.
pub(super) const GRAM_BYTES: usize = 3;

/// Source: Knuth, TAOCP 3, section 6.4: 2^32 divided by the golden ratio.
const SPREAD: u32 = 0x9e37_79b1;

const ESC: u8 = 0x1b;

/// Three bytes, ASCII letters as small ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gram(u32);

impl Gram {
    /// All of a folded text, in order; none of one that is shorter.
    pub(crate) fn all_of(folded: &str) -> Vec<Self> {
        let grams = folded.as_bytes().windows(GRAM_BYTES);
        grams
            .map(|gram| Self(gram.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))))
            .collect()
    }
}

/// Of one text, of which it takes a sixteenth to an eighth.
#[derive(Debug)]
pub(crate) struct Gist {
    /// A power of two of bits.
    bits: Box<[u64]>,
    pub(crate) is_ascii: bool,
    pub(crate) has_escape: bool,
}

impl Gist {
    pub(crate) fn of(text: &str) -> Self {
        // Half as many bits as bytes: a log line repeats itself, so about one bit in six is set.
        let n_words = (text.len() / 2).div_ceil(64).next_power_of_two();
        let mut bits = vec![0u64; n_words].into_boxed_slice();
        let shift = shift(n_words);
        let mut gram = 0u32;
        for (idx, byte) in text.bytes().enumerate() {
            gram = (gram << 8 | u32::from(byte.to_ascii_lowercase())) & 0xff_ffff;
            if idx + 1 >= GRAM_BYTES {
                set(&mut bits, gram, shift);
            }
        }
        Self {
            bits,
            is_ascii: text.is_ascii(),
            has_escape: memchr::memchr(ESC, text.as_bytes()).is_some(),
        }
    }

    /// False when not all of these are in the text.
    pub(crate) fn may_hold(&self, grams: &[Gram]) -> bool {
        let shift = shift(self.bits.len());
        grams.iter().all(|gram| {
            let (word, bit) = place(gram.0, shift);
            self.bits.get(word).is_some_and(|found| found & bit != 0)
        })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.bits)
    }
}

/// How far to the right a product goes so that the number of a bit is left.
fn shift(n_words: usize) -> u32 {
    u32::BITS - (n_words * 64).trailing_zeros().min(u32::BITS)
}

fn place(gram: u32, shift: u32) -> (usize, u64) {
    let at = gram.wrapping_mul(SPREAD) >> shift;
    ((at / 64) as usize, 1 << (at % 64))
}

fn set(bits: &mut [u64], gram: u32, shift: u32) {
    let (word, bit) = place(gram, shift);
    if let Some(found) = bits.get_mut(word) {
        *found |= bit;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tawny_query::fold;

    use super::*;

    proptest! {
        #[test]
        fn what_is_in_a_text_is_never_denied(
            text in "([ aAbBzZ019._é-]|Ж|\u{1b}){0,300}",
            start in 0usize..300,
            len in 0usize..12,
        ) {
            let part: String = text.chars().skip(start).take(len).collect();
            let gist = Gist::of(&text);
            if part.is_ascii() {
                prop_assert!(gist.may_hold(&Gram::all_of(&fold(&part))), "{part:?} of {text:?}");
            }
            prop_assert_eq!(gist.is_ascii, text.is_ascii());
            prop_assert_eq!(gist.has_escape, text.contains('\u{1b}'));
        }
    }

    #[test]
    fn most_of_what_is_not_there_is_denied() {
        let lines = (0..500).map(|n| format!("level=info msg=\"request {n} done\" status=200\n"));
        let gist = Gist::of(&lines.collect::<String>());
        let strangers = (0..1_000).map(|n| format!("{:x}", (n + 7) * 0x9e37_79b9_7f4a_7c15u128));
        let n_taken = strangers
            .filter(|stranger| gist.may_hold(&Gram::all_of(stranger)))
            .count();
        assert!(n_taken < 10, "{n_taken} of 1,000");
        assert!(gist.may_hold(&[]), "a short text may be anywhere");
    }
}
