//! The reverse of `encode`: pages to values. Whatever the bytes are, the answer is values or `None`.

use arrow_array::StringArray;
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::{
    encode::{DELTA_BLOCK, MINIBLOCKS},
    numbers::Cursor,
};

/// `DELTA_BINARY_PACKED`, exactly `n` values.
pub(super) fn delta_binary_packed(cursor: &mut Cursor<'_>, n: usize) -> Option<Vec<i64>> {
    let shape = (cursor.varint()?, cursor.varint()?, cursor.varint()?);
    if shape != (DELTA_BLOCK as u64, MINIBLOCKS as u64, n as u64) {
        return None;
    }
    let first = cursor.zigzag()?;
    let mut values = Vec::with_capacity(n.next_multiple_of(DELTA_BLOCK) + 1);
    if n == 0 {
        return Some(values);
    }
    values.push(first);
    let mut last = first;
    while values.len() < n {
        let min = cursor.zigzag()?;
        let widths = cursor.array::<MINIBLOCKS>()?;
        for width in widths {
            if values.len() >= n {
                break;
            }
            let mut packed = [0u64; DELTA_BLOCK / MINIBLOCKS];
            unpack(cursor, u32::from(width), &mut packed)?;
            for delta in packed {
                last = last.wrapping_add(min).wrapping_add(delta.cast_signed());
                values.push(last);
            }
        }
    }
    values.truncate(n);
    Some(values)
}

/// Numbers of `width` bits, least significant first, without gaps; `to` is filled. Its length is a multiple of eight.
fn unpack(cursor: &mut Cursor<'_>, width: u32, to: &mut [u64]) -> Option<()> {
    if width > 64 {
        return None;
    }
    let n_bytes = to.len() / 8 * width as usize;
    let bytes = cursor.take(n_bytes)?;
    if width == 0 {
        to.fill(0);
        return Some(());
    }
    let mask = u64::MAX >> (64 - width);
    for (idx, value) in to.iter_mut().enumerate() {
        let bit = idx * width as usize;
        let (from, shift) = (bit / 8, bit % 8);
        // Up to 64 bits that begin inside a byte lie in nine.
        let mut word = [0u8; 8];
        let near = &bytes[from..bytes.len().min(from + 8)];
        if let Ok(near) = near.try_into() {
            word = near;
        } else {
            word[..near.len()].copy_from_slice(near);
        }
        let mut found = u64::from_le_bytes(word) >> shift;
        if shift + width as usize > 64
            && let Some(ninth) = bytes.get(from + 8)
        {
            found |= u64::from(*ninth) << (64 - shift);
        }
        *value = found & mask;
    }
    Some(())
}

/// The hybrid of runs and bit-packed numbers, exactly `n` values, to the end of the bytes.
pub(super) fn hybrid(cursor: &mut Cursor<'_>, width: u32, n: usize) -> Option<Vec<u32>> {
    if width > 32 {
        return None;
    }
    let mut values = Vec::with_capacity(n + 8);
    let mut packed = [0u64; 8];
    while values.len() < n {
        let head = cursor.varint()?;
        let count = usize::try_from(head >> 1).ok()?;
        if head & 1 == 0 {
            let n_bytes = width.div_ceil(8) as usize;
            let mut value = [0; 4];
            value[..n_bytes].copy_from_slice(cursor.take(n_bytes)?);
            let value = u32::from_le_bytes(value);
            if u64::from(value) >> width != 0 || count == 0 || count > n - values.len() {
                return None;
            }
            values.resize(values.len() + count, value);
        } else {
            if count == 0 || count.checked_sub(1)?.checked_mul(8)? >= n - values.len() {
                return None;
            }
            for _ in 0..count {
                unpack(cursor, width, &mut packed)?;
                values.extend(packed.map(|value| u32::try_from(value).unwrap_or(u32::MAX)));
            }
        }
    }
    values.truncate(n);
    Some(values)
}

/// Numbers of a dictionary (`RLE_DICTIONARY`), to the end of the page.
pub(super) fn codes(cursor: &mut Cursor<'_>, n: usize) -> Option<Vec<u32>> {
    let width = u32::from(cursor.u8()?);
    hybrid(cursor, width, n)
}

/// Definition levels of an optional column: which of `n` rows have a value.
pub(super) fn levels(cursor: &mut Cursor<'_>, n: usize) -> Option<Vec<bool>> {
    let len_bytes = cursor.u32()? as usize;
    let mut levels = Cursor::new(cursor.take(len_bytes)?);
    let values = hybrid(&mut levels, 1, n)?;
    Some(values.into_iter().map(|level| level == 1).collect())
}

/// `DELTA_LENGTH_BYTE_ARRAY` of text, to the end of the page; the array lies in the page's own memory.
pub(super) fn texts(page: Vec<u8>, is_optional: bool, n: usize) -> Option<StringArray> {
    let mut cursor = Cursor::new(&page);
    let there = if is_optional {
        Some(levels(&mut cursor, n)?)
    } else {
        None
    };
    let n_there = there.as_ref().map_or(n, |there| {
        there.iter().filter(|is_there| **is_there).count()
    });
    let lengths = delta_binary_packed(&mut cursor, n_there)?;
    let start = page.len() - cursor.rest().len();
    let mut offsets = Vec::with_capacity(n + 1);
    let mut end = 0i32;
    offsets.push(end);
    let mut advance = |length: i64| {
        end = u32::try_from(length)
            .ok()
            .and_then(|length| end.checked_add_unsigned(length))?;
        offsets.push(end);
        Some(())
    };
    match &there {
        None => lengths.into_iter().try_for_each(&mut advance)?,
        Some(there) => {
            let mut lengths = lengths.into_iter();
            for is_there in there {
                advance(if *is_there { lengths.next()? } else { 0 })?;
            }
        }
    }
    if usize::try_from(end).ok()? != page.len() - start {
        return None;
    }
    let text = Buffer::from_vec(page).slice(start);
    // Offsets only ever grew, which is what the buffer asks for.
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::try_new(offsets, text, there.map(NullBuffer::from)).ok()
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use proptest::prelude::*;

    use super::{
        super::encode::{self, Width},
        *,
    };

    proptest! {
        #[test]
        fn deltas_read_back(values in prop_oneof![
            proptest::collection::vec(any::<i64>(), 0..400),
            proptest::collection::vec(0i64..1_000, 0..400),
            proptest::collection::vec(Just(7i64), 0..400),
        ]) {
            let mut bytes = Vec::new();
            encode::delta_binary_packed(&mut bytes, Width::Int64, &values);
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(delta_binary_packed(&mut cursor, values.len()), Some(values.clone()));
            prop_assert!(cursor.is_at_end());
            for len_bytes in 0..bytes.len() {
                prop_assert_eq!(delta_binary_packed(&mut Cursor::new(&bytes[..len_bytes]), values.len()), None);
            }
        }

        #[test]
        fn codes_read_back(runs in proptest::collection::vec((0u32..300, 1usize..40), 0..30), max in 300u32..) {
            let width = encode::width_of(max);
            let mut bytes = Vec::new();
            encode::codes(&mut bytes, width, &runs);
            let values: Vec<u32> = runs.iter().flat_map(|(value, n)| std::iter::repeat_n(*value, *n)).collect();
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(codes(&mut cursor, values.len()), Some(values));
            prop_assert!(cursor.is_at_end());
        }

        #[test]
        fn decoders_take_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in 0usize..100) {
            codes(&mut Cursor::new(&bytes), n);
            levels(&mut Cursor::new(&bytes), n);
            delta_binary_packed(&mut Cursor::new(&bytes), n);
            texts(bytes.clone(), true, n);
            texts(bytes, false, n);
        }
    }

    #[test]
    fn texts_that_do_not_fill_the_page_are_refused() {
        let mut page = Vec::new();
        encode::delta_binary_packed(&mut page, Width::Int32, &[1, 2]);
        page.extend_from_slice(b"abc");
        assert_eq!(
            texts(page.clone(), false, 2).map(|array| array.len()),
            Some(2)
        );
        page.push(b'd');
        assert!(texts(page, false, 2).is_none());
        let mut negative = Vec::new();
        encode::delta_binary_packed(&mut negative, Width::Int32, &[4, -1]);
        negative.extend_from_slice(b"abc");
        assert!(texts(negative, false, 2).is_none());
    }
}
