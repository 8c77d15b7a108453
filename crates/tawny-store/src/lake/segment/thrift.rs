//! As much of Thrift's compact protocol as a segment needs: page headers, and the key/value metadata of a footer.
//!
//! Layout: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>; the structs are those of
//! `parquet.thrift`. A footer is skipped through rather than decoded, so a damaged one costs no memory.

use super::numbers::{Cursor, put_zigzag};

// Types of compact protocol fields.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// Structs within structs: more than Parquet has.
const MAX_DEPTH: u32 = 32;

/// Encodings by their number in `parquet.thrift`.
pub(super) const PLAIN: i32 = 0;
pub(super) const RLE: i32 = 3;
pub(super) const DELTA_BINARY_PACKED: i32 = 5;
pub(super) const DELTA_LENGTH_BYTE_ARRAY: i32 = 6;
pub(super) const RLE_DICTIONARY: i32 = 8;

/// `PageType` by number.
pub(super) const DATA_PAGE: i32 = 0;
pub(super) const DICTIONARY_PAGE: i32 = 2;

/// What a page says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) page_type: i32,
    pub(super) uncompressed_bytes: i32,
    pub(super) compressed_bytes: i32,
    pub(super) n_values: i32,
    pub(super) encoding: i32,
}

impl PageHeader {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let mut fields = Fields { to, last: 0 };
        fields.i32(1, self.page_type);
        fields.i32(2, self.uncompressed_bytes);
        fields.i32(3, self.compressed_bytes);
        if self.page_type == DICTIONARY_PAGE {
            fields.begin(7);
            let mut inner = Fields {
                to: fields.to,
                last: 0,
            };
            inner.i32(1, self.n_values);
            inner.i32(2, self.encoding);
        } else {
            fields.begin(5);
            let mut inner = Fields {
                to: fields.to,
                last: 0,
            };
            inner.i32(1, self.n_values);
            inner.i32(2, self.encoding);
            inner.i32(3, RLE);
            inner.i32(4, RLE);
        }
        // Ends of the inner struct and of the header.
        to.extend_from_slice(&[0, 0]);
    }

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let mut header = Self::default();
        let mut last = 0;
        while let Some((id, kind)) = field(cursor, &mut last)? {
            match (id, kind) {
                (1, I32) => header.page_type = int(cursor)?,
                (2, I32) => header.uncompressed_bytes = int(cursor)?,
                (3, I32) => header.compressed_bytes = int(cursor)?,
                (5 | 7, STRUCT) => {
                    let mut last = 0;
                    while let Some((id, kind)) = field(cursor, &mut last)? {
                        match (id, kind) {
                            (1, I32) => header.n_values = int(cursor)?,
                            (2, I32) => header.encoding = int(cursor)?,
                            _ => skip(cursor, kind, 0)?,
                        }
                    }
                }
                _ => skip(cursor, kind, 0)?,
            }
        }
        Some(header)
    }
}

struct Fields<'t> {
    to: &'t mut Vec<u8>,
    last: u8,
}

impl Fields<'_> {
    fn i32(&mut self, id: u8, value: i32) {
        self.to.push((id - self.last) << 4 | I32);
        self.last = id;
        put_zigzag(self.to, i64::from(value));
    }

    fn begin(&mut self, id: u8) {
        self.to.push((id - self.last) << 4 | STRUCT);
        self.last = id;
    }
}

/// The value of a key in the key/value metadata of a Parquet footer (`FileMetaData`); outer `None` when it does not read.
pub(super) fn footer_value<'a>(footer: &'a [u8], wanted: &str) -> Option<Option<&'a [u8]>> {
    let mut cursor = Cursor::new(footer);
    let mut last = 0;
    let mut found = None;
    while let Some((id, kind)) = field(&mut cursor, &mut last)? {
        if (id, kind) != (5, LIST) {
            skip(&mut cursor, kind, 0)?;
            continue;
        }
        let (n_pairs, STRUCT) = list(&mut cursor)? else {
            return None;
        };
        for _ in 0..n_pairs {
            let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
            let mut last = 0;
            while let Some((id, kind)) = field(&mut cursor, &mut last)? {
                match (id, kind) {
                    (1, BINARY) => key = binary(&mut cursor)?,
                    (2, BINARY) => value = binary(&mut cursor)?,
                    _ => skip(&mut cursor, kind, 0)?,
                }
            }
            if key == wanted.as_bytes() {
                found = Some(value);
            }
        }
    }
    Some(found)
}

/// Id and type of the next field; inner `None` at the end of the struct.
fn field(cursor: &mut Cursor<'_>, last: &mut i64) -> Option<Option<(i64, u8)>> {
    let head = cursor.u8()?;
    if head == 0 {
        return Some(None);
    }
    let delta = i64::from(head >> 4);
    *last = if delta == 0 {
        cursor.zigzag()?
    } else {
        last.checked_add(delta)?
    };
    Some(Some((*last, head & 0x0f)))
}

fn int(cursor: &mut Cursor<'_>) -> Option<i32> {
    cursor.zigzag().and_then(|value| i32::try_from(value).ok())
}

fn binary<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let len_bytes = usize::try_from(cursor.varint()?).ok()?;
    cursor.take(len_bytes)
}

/// Number and type of a list's elements.
fn list(cursor: &mut Cursor<'_>) -> Option<(u64, u8)> {
    let head = cursor.u8()?;
    let n_elements = match head >> 4 {
        15 => cursor.varint()?,
        short => u64::from(short),
    };
    Some((n_elements, head & 0x0f))
}

fn skip(cursor: &mut Cursor<'_>, kind: u8, depth: u32) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    match kind {
        // The value of a boolean field is its type.
        TRUE | FALSE => {}
        BYTE => drop(cursor.u8()?),
        I16 | I32 | I64 => drop(cursor.varint()?),
        DOUBLE => drop(cursor.u64()?),
        BINARY => drop(binary(cursor)?),
        LIST | SET => {
            let (n_elements, kind) = list(cursor)?;
            for _ in 0..n_elements {
                skip_element(cursor, kind, depth)?;
            }
        }
        MAP => {
            let n_pairs = cursor.varint()?;
            if n_pairs > 0 {
                let kinds = cursor.u8()?;
                for _ in 0..n_pairs {
                    skip_element(cursor, kinds >> 4, depth)?;
                    skip_element(cursor, kinds & 0x0f, depth)?;
                }
            }
        }
        STRUCT => {
            let mut last = 0;
            while let Some((_, kind)) = field(cursor, &mut last)? {
                skip(cursor, kind, depth + 1)?;
            }
        }
        _ => return None,
    }
    Some(())
}

/// Within lists and maps a boolean takes a byte; so every element takes at least one and a loop over them ends.
fn skip_element(cursor: &mut Cursor<'_>, kind: u8, depth: u32) -> Option<()> {
    match kind {
        TRUE | FALSE => cursor.u8().map(drop),
        kind => skip(cursor, kind, depth + 1),
    }
}

/// Bytes of a page: its header and its data, compressed.
pub(super) fn put_page(to: &mut Vec<u8>, header: PageHeader, data: &[u8]) {
    header.write(to);
    to.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::{super::numbers::put_varint, *};

    #[test]
    fn page_headers_read_back() {
        for page_type in [DATA_PAGE, DICTIONARY_PAGE] {
            let header = PageHeader {
                page_type,
                uncompressed_bytes: i32::MAX,
                compressed_bytes: 12_345,
                n_values: 8_192,
                encoding: RLE_DICTIONARY,
            };
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(PageHeader::read(&mut cursor), Some(header));
            assert!(cursor.is_at_end());
            for len_bytes in 0..bytes.len() {
                assert_eq!(
                    PageHeader::read(&mut Cursor::new(&bytes[..len_bytes])),
                    None
                );
            }
        }
    }

    #[test]
    fn lists_of_nothing_end() {
        // A list that says it has 2^63 elements, with no bytes behind it.
        let mut footer = vec![0x29 + 0x10];
        footer.push(0xf0 | STRUCT);
        put_varint(&mut footer, 1 << 63);
        assert_eq!(footer_value(&footer, "k"), None);
    }
}
