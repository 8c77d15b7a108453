//! Binary fuse filters of 8 bits: is a key in a set? Never a wrong no, a wrong yes in one of 256.
//!
//! Source: Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters", ACM JEA 27 (2022),
//! <https://arxiv.org/abs/2201.01174>; three positions a key, in three neighbouring segments.

use super::numbers::Cursor;

/// Seeds tried; each fails in well under one case of ten.
const ATTEMPTS: u64 = 64;

/// Where the positions of keys lie: all that a look-up needs beside the fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    seed: u64,
    /// A power of two.
    segment_len: u32,
    /// Segments a key can begin in.
    n_starts: u32,
}

impl Layout {
    /// Sizes of the paper's section 4, as its authors' `binaryfusefilter.h` computes them.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes of a filter: small and positive"
    )]
    fn for_keys(n_keys: u32) -> Self {
        let n = f64::from(n_keys.max(2));
        let exponent = (n.ln() / 3.33f64.ln() + 2.25).floor() as u32;
        let segment_len = 1u32 << exponent.min(18);
        let factor = (0.875 + 0.25 * 1e6f64.ln() / n.ln()).max(1.125);
        let capacity = (n * factor).round() as u32;
        let n_starts = capacity.div_ceil(segment_len).saturating_sub(2).max(1);
        Self {
            seed: 0,
            segment_len,
            n_starts,
        }
    }

    fn n_slots(&self) -> u64 {
        u64::from(self.segment_len) * (u64::from(self.n_starts) + 2)
    }

    /// The three slots of a key, and its fingerprint.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the high half of a product with a u32 is less than it; a fingerprint is eight bits of the hash"
    )]
    fn slots(&self, key: u64) -> ([usize; 3], u8) {
        let hash = mix(key.wrapping_add(self.seed));
        let n_first = u64::from(self.segment_len) * u64::from(self.n_starts);
        let first = ((u128::from(hash) * u128::from(n_first)) >> 64) as usize;
        let mask = self.segment_len as usize - 1;
        let second = (first + self.segment_len as usize) ^ ((hash >> 18) as usize & mask);
        let third = (first + 2 * self.segment_len as usize) ^ (hash as usize & mask);
        ([first, second, third], (hash ^ (hash >> 32)) as u8)
    }
}

/// The finalizer of MurmurHash3, 64 bit.
fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Appends the filter of these keys, which are distinct. Layout: seed u64, segment length u32, starts u32, fingerprints.
///
/// Nothing is appended for no keys, or when no seed was found, which does not happen to hashes.
pub(super) fn build(to: &mut Vec<u8>, keys: &[u64], scratch: &mut Scratch) {
    let Ok(n_keys) = u32::try_from(keys.len()) else {
        return;
    };
    if keys.is_empty() {
        return;
    }
    let mut layout = Layout::for_keys(n_keys);
    for attempt in 1..=ATTEMPTS {
        layout.seed = mix(attempt);
        if let Some(fingerprints) = scratch.assign(&layout, keys) {
            to.extend_from_slice(&layout.seed.to_le_bytes());
            to.extend_from_slice(&layout.segment_len.to_le_bytes());
            to.extend_from_slice(&layout.n_starts.to_le_bytes());
            to.extend_from_slice(fingerprints);
            return;
        }
    }
}

/// Memory of a build, used again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Of each slot: number of keys, and the sum (xor) of their hashes' indexes.
    slots: Vec<(u32, u32)>,
    alone: Vec<u32>,
    /// Keys by the order they were taken out, with the slot each had alone.
    order: Vec<(u32, u32)>,
    fingerprints: Vec<u8>,
}

impl Scratch {
    /// Peels keys that are alone in some slot until none is left, then assigns in reverse.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "slots and keys are fewer than 2^32"
    )]
    fn assign(&mut self, layout: &Layout, keys: &[u64]) -> Option<&[u8]> {
        let n_slots = layout.n_slots() as usize;
        self.slots.clear();
        self.slots.resize(n_slots, (0, 0));
        self.alone.clear();
        self.order.clear();
        for (idx, key) in keys.iter().enumerate() {
            for slot in layout.slots(*key).0 {
                let entry = &mut self.slots[slot];
                entry.0 += 1;
                entry.1 ^= idx as u32;
            }
        }
        let alone = self.slots.iter().enumerate();
        self.alone.extend(
            alone
                .filter(|(_, (n, _))| *n == 1)
                .map(|(slot, _)| slot as u32),
        );
        while let Some(slot) = self.alone.pop() {
            let (n, idx) = self.slots[slot as usize];
            if n != 1 {
                continue;
            }
            self.order.push((idx, slot));
            for other in layout.slots(keys[idx as usize]).0 {
                let entry = &mut self.slots[other];
                entry.0 -= 1;
                entry.1 ^= idx;
                if entry.0 == 1 {
                    self.alone.push(other as u32);
                }
            }
        }
        if self.order.len() != keys.len() {
            return None;
        }
        self.fingerprints.clear();
        self.fingerprints.resize(n_slots, 0);
        for (idx, slot) in self.order.iter().rev() {
            let ([a, b, c], fingerprint) = layout.slots(keys[*idx as usize]);
            // The slot's own value is still zero, so it takes part without harm.
            let sum = self.fingerprints[a] ^ self.fingerprints[b] ^ self.fingerprints[c];
            self.fingerprints[*slot as usize] = fingerprint ^ sum;
        }
        Some(&self.fingerprints)
    }
}

/// A filter in its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter<'a> {
    layout: Layout,
    fingerprints: &'a [u8],
}

impl<'a> Filter<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let layout = Layout {
            seed: cursor.u64()?,
            segment_len: cursor.u32()?,
            n_starts: cursor.u32()?,
        };
        let fits = layout.segment_len.is_power_of_two()
            && layout.n_starts > 0
            && layout.n_slots() == cursor.rest().len() as u64;
        fits.then_some(Self {
            layout,
            fingerprints: cursor.rest(),
        })
    }

    pub(super) fn may_contain(&self, key: u64) -> bool {
        let ([a, b, c], fingerprint) = self.layout.slots(key);
        let value = |slot: usize| self.fingerprints.get(slot).copied().unwrap_or_default();
        value(a) ^ value(b) ^ value(c) == fingerprint
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64_with_seed;

    use super::*;

    fn keys(n: u64, seed: u64) -> Vec<u64> {
        (0..n)
            .map(|n| xxh3_64_with_seed(&n.to_le_bytes(), seed))
            .collect()
    }

    proptest! {
        #[test]
        fn every_key_is_found(n in 1u64..3_000, seed: u64) {
            let keys = keys(n, seed);
            let mut bytes = Vec::new();
            build(&mut bytes, &keys, &mut Scratch::default());
            let filter = Filter::read(&bytes).unwrap();
            prop_assert!(keys.iter().all(|key| filter.may_contain(*key)));
        }
    }

    #[test]
    fn strangers_are_rarely_found_and_the_filter_is_small() {
        for (n, most_bits) in [(10, 64.0), (1_000, 13.0), (10_000, 11.0), (200_000, 9.7)] {
            let keys = keys(n, 1);
            let mut bytes = Vec::new();
            build(&mut bytes, &keys, &mut Scratch::default());
            let filter = Filter::read(&bytes).unwrap();
            let n_wrong = self::keys(100_000, 2)
                .iter()
                .filter(|key| filter.may_contain(**key))
                .count();
            assert!((250..550).contains(&n_wrong), "{n}: {n_wrong}");
            let bits = 8.0 * bytes.len() as f64 / n as f64;
            assert!(bits < most_bits, "{n}: {bits}");
        }
    }

    #[test]
    fn a_filter_of_any_bytes_answers() {
        let mut bytes = Vec::new();
        build(&mut bytes, &keys(50, 3), &mut Scratch::default());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x80;
            if let Some(filter) = Filter::read(&flipped) {
                filter.may_contain(7);
            }
            assert!(Filter::read(&bytes[..at]).is_none());
        }
    }
}
