//! Parquet's encodings, as far as a segment writes them.
//!
//! Layout: <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.

use super::numbers::{put_varint, put_zigzag};

/// Values of a delta block and of a miniblock; the reader takes no others.
pub(super) const DELTA_BLOCK: usize = 128;
pub(super) const MINIBLOCKS: usize = 4;
const MINIBLOCK: usize = DELTA_BLOCK / MINIBLOCKS;

/// Physical type of numbers: differences wrap around at its width, so that any two values have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Int32,
    Int64,
}

/// `DELTA_BINARY_PACKED`; values of `Int32` must fit it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "differences of 32-bit numbers wrap around at 32 bits, as readers add them"
)]
pub(super) fn delta_binary_packed(to: &mut Vec<u8>, width: Width, values: &[i64]) {
    put_varint(to, DELTA_BLOCK as u64);
    put_varint(to, MINIBLOCKS as u64);
    put_varint(to, values.len() as u64);
    let first = values.first().copied().unwrap_or_default();
    put_zigzag(to, first);
    let mut before = first;
    for block in values.get(1..).unwrap_or_default().chunks(DELTA_BLOCK) {
        let mut deltas = [0i64; DELTA_BLOCK];
        let mut min = i64::MAX;
        for (delta, value) in deltas.iter_mut().zip(block) {
            *delta = match width {
                Width::Int64 => value.wrapping_sub(before),
                Width::Int32 => i64::from(value.wrapping_sub(before) as i32),
            };
            min = min.min(*delta);
            before = *value;
        }
        put_zigzag(to, min);
        let mut packed = [0u64; DELTA_BLOCK];
        for (packed, delta) in packed.iter_mut().zip(&deltas[..block.len()]) {
            *packed = delta.wrapping_sub(min).cast_unsigned();
        }
        let widths: [u32; MINIBLOCKS] = std::array::from_fn(|idx| {
            let all = packed[idx * MINIBLOCK..][..MINIBLOCK]
                .iter()
                .fold(0, |all, value| all | value);
            u64::BITS - all.leading_zeros()
        });
        for width in widths {
            to.push(width.to_le_bytes()[0]);
        }
        for (miniblock, width) in packed.chunks(MINIBLOCK).zip(widths) {
            // Miniblocks past the last value are absent, the last one is filled up.
            pack(to, miniblock, width);
        }
    }
}

/// Least significant bits first, without gaps.
fn pack(to: &mut Vec<u8>, values: &[u64], width: u32) {
    let mut pending = 0u128;
    let mut n_bits = 0;
    for value in values {
        pending |= u128::from(*value) << n_bits;
        n_bits += width;
        while n_bits >= 32 {
            to.extend_from_slice(&pending.to_le_bytes()[..4]);
            pending >>= 32;
            n_bits -= 32;
        }
    }
    let n_bytes = n_bits.div_ceil(8) as usize;
    to.extend_from_slice(&pending.to_le_bytes()[..n_bytes]);
}

/// Bits that numbers up to `max` take.
pub(super) fn width_of(max: u32) -> u32 {
    u32::BITS - max.leading_zeros()
}

/// The hybrid of runs and bit-packed numbers, without length or width in front: `runs` of (number, how often).
///
/// Runs of eight and more become runs, what lies between is packed in groups of eight.
#[derive(Debug)]
pub(super) struct Hybrid<'t> {
    to: &'t mut Vec<u8>,
    width: u32,
    /// Not yet written, to be packed.
    loose: Vec<u64>,
}

impl<'t> Hybrid<'t> {
    pub(super) fn new(to: &'t mut Vec<u8>, width: u32) -> Self {
        Self {
            to,
            width,
            loose: Vec::new(),
        }
    }

    pub(super) fn run(&mut self, value: u32, mut n: usize) {
        // Packed numbers come in whole groups: the group begun is filled up first.
        let fill = (8 - self.loose.len() % 8) % 8;
        if n < fill + 8 {
            self.loose.extend(std::iter::repeat_n(u64::from(value), n));
            return;
        }
        self.loose
            .extend(std::iter::repeat_n(u64::from(value), fill));
        n -= fill;
        self.pack_loose();
        put_varint(self.to, (n as u64) << 1);
        let n_bytes = self.width.div_ceil(8) as usize;
        self.to.extend_from_slice(&value.to_le_bytes()[..n_bytes]);
    }

    pub(super) fn finish(mut self) {
        self.pack_loose();
    }

    fn pack_loose(&mut self) {
        if self.loose.is_empty() {
            return;
        }
        let n_groups = self.loose.len().div_ceil(8);
        self.loose.resize(n_groups * 8, 0);
        put_varint(self.to, (n_groups as u64) << 1 | 1);
        pack(self.to, &self.loose, self.width);
        self.loose.clear();
    }
}

/// Runs of equal numbers.
pub(super) fn runs(values: impl IntoIterator<Item = u32>) -> Vec<(u32, usize)> {
    let mut runs: Vec<(u32, usize)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((last, n)) if *last == value => *n += 1,
            _ => runs.push((value, 1)),
        }
    }
    runs
}

/// Numbers of a dictionary (`RLE_DICTIONARY`): the width in one byte, then the hybrid.
pub(super) fn codes(to: &mut Vec<u8>, width: u32, runs: &[(u32, usize)]) {
    to.push(width.to_le_bytes()[0]);
    let mut hybrid = Hybrid::new(to, width);
    for (code, n) in runs {
        hybrid.run(*code, *n);
    }
    hybrid.finish();
}

/// Definition levels of an optional column (data page version 1): length in four bytes, then the hybrid of one bit.
pub(super) fn levels(to: &mut Vec<u8>, runs: impl IntoIterator<Item = (bool, usize)>) {
    let at = to.len();
    to.extend_from_slice(&[0; 4]);
    let mut hybrid = Hybrid::new(to, 1);
    for (is_there, n) in runs {
        hybrid.run(u32::from(is_there), n);
    }
    hybrid.finish();
    let len_bytes = u32::try_from(to.len() - at - 4).expect("levels of a block are short");
    to[at..at + 4].copy_from_slice(&len_bytes.to_le_bytes());
}
