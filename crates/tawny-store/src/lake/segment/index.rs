//! The index embedded in a segment: its root, and the sections the root names. `docs/formats/segment-v1.md` has the bytes.

use std::{ops::Range, path::PathBuf, sync::Arc};

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tawny_model::{EntryId, Severity, Stream, StreamId, Timestamp, Workload};

use super::{
    super::{
        read_at::ReadAt,
        run::{Cell, Extent, RunIndex, RunStream, SeverityCounts},
    },
    numbers::{Cursor, put_text, put_varint, put_zigzag},
};
use crate::Error;

/// The key of the footer's metadata that says where the root is.
pub(super) const FOOTER_KEY: &str = "tawny.index";
pub(super) const VERSION: u32 = 1;
/// Largest section decompressed; a writer's sections stay far below.
const MAX_SECTION_BYTES: u32 = 1 << 30;
const SECTION_LEVEL: i32 = 3;

/// The value of [`FOOTER_KEY`], as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct RootPlace {
    pub(super) version: u32,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) crc32c: u32,
}

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// The stream table and the cells.
    Streams,
    /// Columns of attributes, shapes of attributes, and where the pages are.
    Layout,
    /// Token filters of the blocks of one row group.
    Tokens,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Streams, Self::Layout, Self::Tokens];

    fn number(self) -> u8 {
        match self {
            Self::Streams => 1,
            Self::Layout => 2,
            Self::Tokens => 3,
        }
    }
}

/// Where a section is and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) kind: Kind,
    /// Row group it speaks of; zero where there is one for all.
    pub(super) row_group: u32,
    pub(super) offset: u64,
    pub(super) stored_bytes: u32,
    /// As many as stored when it is not compressed.
    pub(super) raw_bytes: u32,
    pub(super) crc32c: u32,
}

impl Section {
    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.stored_bytes)
    }

    /// A section of these bytes at this place, with the bytes to be stored: compressed where that makes them fewer.
    pub(super) fn of(
        kind: Kind,
        row_group: u32,
        offset: u64,
        raw: Vec<u8>,
    ) -> Result<(Self, Vec<u8>), String> {
        let raw_bytes = u32::try_from(raw.len())
            .ok()
            .filter(|raw_bytes| *raw_bytes <= MAX_SECTION_BYTES)
            .ok_or("a section of the index would exceed 1 GiB")?;
        let stored = match kind {
            // Fingerprints and checksums are noise.
            Kind::Tokens | Kind::Layout => raw,
            Kind::Streams => zstd::bulk::compress(&raw, SECTION_LEVEL)
                .ok()
                .filter(|packed| packed.len() < raw.len())
                .unwrap_or(raw),
        };
        let section = Self {
            kind,
            row_group,
            offset,
            stored_bytes: u32::try_from(stored.len()).expect("no longer than it was"),
            raw_bytes,
            crc32c: crc32c::crc32c(&stored),
        };
        Ok((section, stored))
    }

    /// The raw bytes, checked.
    pub(super) fn open(&self, stored: Bytes) -> Option<Bytes> {
        if stored.len() != self.stored_bytes as usize || crc32c::crc32c(&stored) != self.crc32c {
            return None;
        }
        if self.stored_bytes == self.raw_bytes {
            return Some(stored);
        }
        let raw = zstd::bulk::decompress(&stored, self.raw_bytes as usize).ok()?;
        (raw.len() == self.raw_bytes as usize).then(|| raw.into())
    }
}

/// What an open reads: how much there is, and where the rest of the index is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) extent: Extent,
    /// Rows of each row group; all but the last are whole blocks.
    pub(super) row_groups: Vec<u32>,
    pub(super) sections: Vec<Section>,
}

impl Root {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::new();
        to.extend_from_slice(&self.extent.n_rows.to_le_bytes());
        for number in [
            self.extent.first.as_nanos(),
            self.extent.last.as_nanos(),
            self.extent.min_id.0,
            self.extent.max_id.0,
        ] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        put_varint(&mut to, self.row_groups.len() as u64);
        for n_rows in &self.row_groups {
            put_varint(&mut to, u64::from(*n_rows));
        }
        put_varint(&mut to, self.sections.len() as u64);
        for section in &self.sections {
            to.push(section.kind.number());
            put_varint(&mut to, u64::from(section.row_group));
            put_varint(&mut to, section.offset);
            put_varint(&mut to, u64::from(section.stored_bytes));
            put_varint(&mut to, u64::from(section.raw_bytes));
            to.extend_from_slice(&section.crc32c.to_le_bytes());
        }
        to
    }

    pub(super) fn decode(bytes: &[u8], file_bytes: u64) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let extent = Extent {
            n_rows: cursor.u32()?,
            first: Timestamp::from_nanos(cursor.i64()?),
            last: Timestamp::from_nanos(cursor.i64()?),
            min_id: EntryId(cursor.i64()?),
            max_id: EntryId(cursor.i64()?),
        };
        let n_row_groups = cursor.count(1)?;
        let row_groups = (0..n_row_groups)
            .map(|_| cursor.varint_u32())
            .collect::<Option<Vec<_>>>()?;
        let n_sections = cursor.count(8)?;
        let mut sections = Vec::with_capacity(n_sections);
        for _ in 0..n_sections {
            let number = cursor.u8()?;
            let section = Section {
                kind: Kind::ALL.into_iter().find(|kind| kind.number() == number)?,
                row_group: cursor.varint_u32()?,
                offset: cursor.varint()?,
                stored_bytes: cursor.varint_u32()?,
                raw_bytes: cursor.varint_u32()?,
                crc32c: cursor.u32()?,
            };
            let end = section.offset.checked_add(section.stored_bytes.into())?;
            if end > file_bytes || section.raw_bytes > MAX_SECTION_BYTES {
                return None;
            }
            sections.push(section);
        }
        let n_rows: u64 = row_groups.iter().map(|n_rows| u64::from(*n_rows)).sum();
        (n_rows == u64::from(extent.n_rows) && cursor.is_at_end()).then_some(Self {
            extent,
            row_groups,
            sections,
        })
    }

    pub(super) fn sections(&self, kind: Kind) -> impl Iterator<Item = &Section> {
        self.sections
            .iter()
            .filter(move |section| section.kind == kind)
    }
}

/// The stream table with its cells: a table of texts, then each stream with its minutes.
pub(super) fn encode_streams(index: &RunIndex) -> Vec<u8> {
    let mut texts = Texts::default();
    let mut body = Vec::new();
    put_varint(&mut body, index.streams().len() as u64);
    for entry in index.streams() {
        let stream = &entry.stream;
        for text in [
            &stream.id.cluster,
            &stream.id.pod_uid,
            &stream.id.container,
            &stream.namespace,
            &stream.pod,
            &stream.node,
            &stream.image,
        ] {
            texts.put(&mut body, text);
        }
        put_varint(&mut body, u64::from(stream.id.restart));
        match &stream.workload {
            None => body.push(0),
            Some(workload) => {
                body.push(1);
                texts.put(&mut body, &workload.kind);
                texts.put(&mut body, &workload.name);
            }
        }
        put_varint(&mut body, stream.labels.len() as u64);
        for (key, value) in &stream.labels {
            texts.put(&mut body, key);
            texts.put(&mut body, value);
        }
        put_zigzag(&mut body, entry.first.as_nanos());
        put_zigzag(
            &mut body,
            entry.last.as_nanos().wrapping_sub(entry.first.as_nanos()),
        );
        put_varint(&mut body, u64::from(entry.cells.end - entry.cells.start));
        let mut before = 0;
        for cell in index.cells(entry) {
            put_zigzag(&mut body, i64::from(cell.minute) - before);
            before = i64::from(cell.minute);
            let mut mask = 0;
            for (idx, n) in cell.counts.iter().enumerate() {
                mask |= u8::from(*n > 0) << idx;
            }
            body.push(mask);
            for n in cell.counts.iter().filter(|n| **n > 0) {
                put_varint(&mut body, u64::from(*n));
            }
        }
    }
    let mut to = Vec::new();
    put_varint(&mut to, texts.in_order.len() as u64);
    for text in &texts.in_order {
        put_text(&mut to, text);
    }
    to.extend_from_slice(&body);
    to
}

/// Texts that are stored once and named by number.
#[derive(Default)]
struct Texts {
    in_order: Vec<Arc<str>>,
    numbers: FxHashMap<Arc<str>, usize>,
}

impl Texts {
    fn put(&mut self, to: &mut Vec<u8>, text: &Arc<str>) {
        let number = *self.numbers.entry(Arc::clone(text)).or_insert_with(|| {
            self.in_order.push(Arc::clone(text));
            self.in_order.len() - 1
        });
        put_varint(to, number as u64);
    }
}

pub(super) fn decode_streams(bytes: &[u8], n_rows: u32) -> Option<RunIndex> {
    let mut cursor = Cursor::new(bytes);
    let n_texts = cursor.count(1)?;
    let texts = (0..n_texts)
        .map(|_| cursor.text().map(Arc::from))
        .collect::<Option<Vec<Arc<str>>>>()?;
    let text = |cursor: &mut Cursor<'_>| {
        let number = usize::try_from(cursor.varint()?).ok()?;
        texts.get(number).cloned()
    };
    let n_streams = cursor.count(12)?;
    let mut streams: Vec<RunStream> = Vec::with_capacity(n_streams);
    let mut cells: Vec<Cell> = Vec::new();
    let mut row = 0u32;
    for _ in 0..n_streams {
        let (cluster, pod_uid, container) =
            (text(&mut cursor)?, text(&mut cursor)?, text(&mut cursor)?);
        let (namespace, pod) = (text(&mut cursor)?, text(&mut cursor)?);
        let (node, image) = (text(&mut cursor)?, text(&mut cursor)?);
        let id = StreamId {
            cluster,
            pod_uid,
            container,
            restart: cursor.varint_u32()?,
        };
        let workload = match cursor.u8()? {
            0 => None,
            1 => Some(Workload {
                kind: text(&mut cursor)?,
                name: text(&mut cursor)?,
            }),
            _ => return None,
        };
        let n_labels = cursor.count(2)?;
        let labels = (0..n_labels)
            .map(|_| Some((text(&mut cursor)?, text(&mut cursor)?)))
            .collect::<Option<_>>()?;
        let first = cursor.zigzag()?;
        let last = first.wrapping_add(cursor.zigzag()?);
        let n_cells = cursor.count(3)?;
        let (first_cell, first_row) = (u32::try_from(cells.len()).ok()?, row);
        let mut counts = SeverityCounts::default();
        let mut minute = 0i64;
        for _ in 0..n_cells {
            minute = minute.checked_add(cursor.zigzag()?)?;
            let mask = cursor.u8()?;
            if mask == 0 || u32::from(mask) >> Severity::ALL.len() != 0 {
                return None;
            }
            let mut cell = Cell {
                minute: i32::try_from(minute).ok()?,
                first_row: row,
                counts: [0; Severity::ALL.len()],
            };
            for (idx, n) in cell.counts.iter_mut().enumerate() {
                if mask >> idx & 1 == 1 {
                    *n = cursor.varint_u32()?;
                    row = row.checked_add(*n)?;
                    counts[idx] += u64::from(*n);
                }
            }
            cells.push(cell);
        }
        streams.push(RunStream {
            stream: Arc::new(Stream {
                id,
                namespace,
                pod,
                node,
                image,
                workload,
                labels,
            }),
            rows: first_row..row,
            cells: first_cell..u32::try_from(cells.len()).ok()?,
            first: Timestamp::from_nanos(first),
            last: Timestamp::from_nanos(last),
            counts,
        });
    }
    (row == n_rows && cursor.is_at_end()).then(|| RunIndex::new(streams, cells))
}

/// Where a page is, and what its bytes must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) offset: u64,
    pub(super) len_bytes: u32,
    pub(super) crc32c: u32,
}

impl Page {
    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + u64::from(self.len_bytes)
    }
}

/// The pages of one column of one row group: one page a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) dictionary: Option<Page>,
    pub(super) pages: Vec<Page>,
}

/// Which columns there are for attributes, how rows order them, and where every page is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) attribute_columns: Vec<String>,
    /// A row's attributes in order: 0 for the next of column `attributes`, n for the attribute column n - 1.
    pub(super) shapes: Vec<Vec<u32>>,
    /// By row group, then by column in the order of the schema.
    pub(super) chunks: Vec<Vec<Chunk>>,
}

impl Layout {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::new();
        put_varint(&mut to, self.attribute_columns.len() as u64);
        for key in &self.attribute_columns {
            put_text(&mut to, key);
        }
        put_varint(&mut to, self.shapes.len() as u64);
        for shape in &self.shapes {
            put_varint(&mut to, shape.len() as u64);
            for place in shape {
                put_varint(&mut to, u64::from(*place));
            }
        }
        for chunk in self.chunks.iter().flatten() {
            let pages = chunk.dictionary.iter().chain(&chunk.pages);
            put_varint(&mut to, pages.clone().next().map_or(0, |page| page.offset));
            to.push(u8::from(chunk.dictionary.is_some()));
            for page in pages {
                put_varint(&mut to, u64::from(page.len_bytes));
                to.extend_from_slice(&page.crc32c.to_le_bytes());
            }
        }
        to
    }

    /// `n_plain` is the number of columns that are always there.
    pub(super) fn decode(
        bytes: &[u8],
        blocks_of_group: &[u32],
        n_plain: usize,
        file_bytes: u64,
    ) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let n_keys = cursor.count(1)?;
        let attribute_columns = (0..n_keys)
            .map(|_| cursor.text().map(str::to_owned))
            .collect::<Option<Vec<_>>>()?;
        let n_shapes = cursor.count(1)?;
        let mut shapes = Vec::with_capacity(n_shapes);
        for _ in 0..n_shapes {
            let n_places = cursor.count(1)?;
            let shape = (0..n_places)
                .map(|_| {
                    cursor
                        .varint_u32()
                        .filter(|place| *place as usize <= n_keys)
                })
                .collect::<Option<Vec<_>>>()?;
            shapes.push(shape);
        }
        let mut chunks = Vec::with_capacity(blocks_of_group.len());
        for n_blocks in blocks_of_group {
            let mut columns = Vec::new();
            for _ in 0..n_plain + n_keys {
                let mut offset = cursor.varint()?;
                let mut page = |cursor: &mut Cursor<'_>| {
                    let page = Page {
                        offset,
                        len_bytes: cursor.varint_u32()?,
                        crc32c: cursor.u32()?,
                    };
                    offset = offset.checked_add(u64::from(page.len_bytes))?;
                    (offset <= file_bytes).then_some(page)
                };
                let dictionary = match cursor.u8()? {
                    0 => None,
                    1 => Some(page(&mut cursor)?),
                    _ => return None,
                };
                let pages = (0..*n_blocks)
                    .map(|_| page(&mut cursor))
                    .collect::<Option<Vec<_>>>()?;
                columns.push(Chunk { dictionary, pages });
            }
            chunks.push(columns);
        }
        cursor.is_at_end().then_some(Self {
            attribute_columns,
            shapes,
            chunks,
        })
    }
}

/// Filters of the blocks of a row group: their lengths, then the filters. An empty one says nothing of its block.
pub(super) fn encode_filters(filters: &[Vec<u8>]) -> Vec<u8> {
    let mut to = Vec::new();
    put_varint(&mut to, filters.len() as u64);
    for filter in filters {
        put_varint(&mut to, filter.len() as u64);
    }
    for filter in filters {
        to.extend_from_slice(filter);
    }
    to
}

/// The place of each filter in the section's bytes.
pub(super) fn decode_filters(bytes: &[u8], n_filters: u32) -> Option<Vec<Range<usize>>> {
    let mut cursor = Cursor::new(bytes);
    let n = cursor.count(1).filter(|n| *n == n_filters as usize)?;
    let lengths = (0..n)
        .map(|_| usize::try_from(cursor.varint()?).ok())
        .collect::<Option<Vec<_>>>()?;
    let mut at = bytes.len() - cursor.rest().len();
    let mut ranges = Vec::with_capacity(n);
    for length in lengths {
        let end = at.checked_add(length)?;
        ranges.push(at..end);
        at = end;
    }
    (at == bytes.len()).then_some(ranges)
}

pub(super) fn damaged(file: &dyn ReadAt, reason: impl Into<String>) -> Error {
    Error::Damaged {
        path: PathBuf::from(file.place()),
        reason: reason.into(),
    }
}
