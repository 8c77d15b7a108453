//! Reads a block: the pages of the columns asked for, in one go, decoded into the cache.

use std::sync::Arc;

use arrow_array::{Array, Int32Array, StringArray};
use arrow_buffer::NullBuffer;
use bytes::Bytes;
use tawny_model::{EntryId, Output, Severity, Timestamp};

use super::{
    ATTRIBUTE_ORDER, ATTRIBUTES, BLOCK_ROWS, ID_OFFSET, MESSAGE, N_PLAIN, OUTPUT, SEVERITY,
    TIMESTAMP, TIMESTAMP_NS,
    attributes::{BlockAttributes, Rest},
    cache::{AnyValue, Part},
    decode,
    index::{Layout, Page},
    numbers::Cursor,
    reader::Segment,
    thrift::{self, PageHeader},
};
use crate::{
    Error,
    lake::run::{AttributeColumns, Attributes, Block, Columns},
};

/// Largest page decompressed: text of a block and its lengths.
const MAX_PAGE_BYTES: i32 = 1 << 30;

pub(super) fn read(segment: &Segment, block_idx: u32, wanted: &Columns) -> Result<Block, Error> {
    let layout = segment.layout()?;
    let (row_group, of_group, n_rows) = segment.locate(&*segment.root()?, block_idx)?;
    let attributes = WantedAttributes::of(&layout, &wanted.attributes);
    let mut columns = Vec::new();
    for (is_wanted, column) in [
        (wanted.time || wanted.id, TIMESTAMP),
        (wanted.id, ID_OFFSET),
        (wanted.severity, SEVERITY),
        (wanted.output, OUTPUT),
        (wanted.message, MESSAGE),
        (attributes.needs_rest, ATTRIBUTES),
        (attributes.needs_order, ATTRIBUTE_ORDER),
    ] {
        columns.extend(is_wanted.then_some(column));
    }
    columns.extend(attributes.columns.iter().map(|column| N_PLAIN + column));
    let pages = layout.chunks[row_group]
        .iter()
        .map(|chunk| chunk.pages[of_group])
        .collect();
    let block = OpenBlock::load(segment, block_idx, n_rows, pages, &columns)?;
    let times: Option<Arc<Arc<[Timestamp]>>> = (wanted.time || wanted.id)
        .then(|| block.get(TIMESTAMP, |block| block.times()))
        .transpose()?;
    let ids: Option<Arc<Arc<[EntryId]>>> = (times.as_deref().filter(|_| wanted.id))
        .map(|times| block.get(ID_OFFSET, |block| block.ids(times)))
        .transpose()?;
    let severities: Option<Arc<Arc<[Severity]>>> = wanted
        .severity
        .then(|| block.get(SEVERITY, |block| block.severities()))
        .transpose()?;
    let outputs: Option<Arc<Arc<[Output]>>> = wanted
        .output
        .then(|| block.get(OUTPUT, |block| block.outputs()))
        .transpose()?;
    let messages = wanted
        .message
        .then(|| block.get(MESSAGE, |block| block.texts(MESSAGE, false)))
        .transpose()?;
    let attributes = match wanted.attributes {
        AttributeColumns::None => None,
        _ => Some(block.attributes(&layout, &attributes)?),
    };
    Ok(Block {
        first_row: block_idx * BLOCK_ROWS,
        n_rows: u32::try_from(n_rows).expect("no more than a block has"),
        times: times.as_deref().map(Arc::clone),
        ids: ids.as_deref().map(Arc::clone),
        severities: severities.as_deref().map(Arc::clone),
        outputs: outputs.as_deref().map(Arc::clone),
        messages: messages.map(|column| (*column).clone()),
        attributes,
    })
}

/// Which columns answer for attributes.
#[derive(Debug, Default)]
struct WantedAttributes {
    /// Counted among the attribute columns.
    columns: Vec<usize>,
    needs_rest: bool,
    needs_order: bool,
}

impl WantedAttributes {
    fn of(layout: &Layout, wanted: &AttributeColumns) -> Self {
        let names = &layout.attribute_columns;
        match wanted {
            AttributeColumns::None => Self::default(),
            AttributeColumns::All => Self {
                columns: (0..names.len()).collect(),
                needs_rest: true,
                needs_order: true,
            },
            AttributeColumns::Some(keys) => {
                let place = |key| names.iter().position(|name| name == key);
                let mut columns: Vec<usize> = keys.iter().filter_map(place).collect();
                columns.sort_unstable();
                columns.dedup();
                Self {
                    columns,
                    needs_rest: keys.iter().any(|key| !names.contains(key)),
                    needs_order: false,
                }
            }
        }
    }
}

/// Columns of a block, from the cache or as pages that were read.
struct OpenBlock<'s> {
    segment: &'s Segment,
    block_idx: u32,
    n_rows: usize,
    cached: Vec<(usize, AnyValue)>,
    pages: Vec<(usize, Page, Bytes)>,
}

impl<'s> OpenBlock<'s> {
    fn load(
        segment: &'s Segment,
        block_idx: u32,
        n_rows: usize,
        pages: Vec<Page>,
        columns: &[usize],
    ) -> Result<Self, Error> {
        let mut block = Self {
            segment,
            block_idx,
            n_rows,
            cached: Vec::with_capacity(columns.len()),
            pages: Vec::new(),
        };
        let mut missing = Vec::new();
        for column in columns {
            match segment.cache.get_any(segment.number, block.part(*column)) {
                Some(value) => block.cached.push((*column, value)),
                None => missing.extend(match *column {
                    TIMESTAMP => vec![TIMESTAMP, TIMESTAMP_NS],
                    column => vec![column],
                }),
            }
        }
        // In the order they lie in the file.
        missing.sort_unstable();
        let ranges: Vec<_> = missing
            .iter()
            .map(|column| pages[*column].range())
            .collect();
        if !ranges.is_empty() {
            let read = segment.read(&ranges)?;
            let found = missing.into_iter().zip(read);
            block.pages = found
                .map(|(column, bytes)| (column, pages[column], bytes))
                .collect();
        }
        Ok(block)
    }

    fn part(&self, column: usize) -> Part {
        Part::Column {
            block_idx: self.block_idx,
            column: u32::try_from(column).expect("columns are few"),
        }
    }

    /// A decoded column; `decode` answers it with what it takes in memory.
    fn get<T: Send + Sync + 'static>(
        &self,
        column: usize,
        decode: impl FnOnce(&Self) -> Result<(T, usize), Error>,
    ) -> Result<Arc<T>, Error> {
        if let Some((_, value)) = self.cached.iter().find(|(cached, _)| *cached == column)
            && let Ok(value) = Arc::clone(value).downcast()
        {
            return Ok(value);
        }
        let (value, n_bytes) = decode(self)?;
        let value = Arc::new(value);
        let segment = self.segment;
        let part = self.part(column);
        segment.cache.put(segment.number, part, n_bytes, &value);
        Ok(value)
    }

    /// Opens the page of a column and decodes it.
    fn decode<T>(
        &self,
        column: usize,
        decode: impl FnOnce(OpenPage) -> Option<T>,
    ) -> Result<T, Error> {
        let found = self.pages.iter().find(|(found, ..)| *found == column);
        let (_, page, bytes) = found.expect("what the cache lacked was read");
        let open = OpenPage::open(self.segment, page, bytes, self.n_rows)?;
        decode(open).ok_or_else(|| undecodable(self.segment, page))
    }

    fn times(&self) -> Result<(Arc<[Timestamp]>, usize), Error> {
        let micros = self.decode(TIMESTAMP, |page| page.numbers())?;
        let times = self.decode(TIMESTAMP_NS, |page| {
            let nanos = page.codes(1_000)?;
            let both = micros.into_iter().zip(nanos);
            // The product may wrap where the sum does not: the first microsecond of all begins before time does.
            Some(
                both.map(|(micros, nanos)| {
                    Timestamp::from_nanos(micros.wrapping_mul(1_000).wrapping_add(i64::from(nanos)))
                })
                .collect::<Arc<[_]>>(),
            )
        })?;
        let n_bytes = size_of_val(&*times);
        Ok((times, n_bytes))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "sums of 32-bit numbers wrap around at 32 bits, and here at 64"
    )]
    fn ids(&self, times: &[Timestamp]) -> Result<(Arc<[EntryId]>, usize), Error> {
        let offsets = self.decode(ID_OFFSET, |page| page.numbers())?;
        let both = times.iter().zip(offsets);
        let ids: Arc<[EntryId]> = both
            .map(|(time, offset)| {
                EntryId(
                    EntryId::first_at(*time)
                        .0
                        .wrapping_add(i64::from(offset as i32)),
                )
            })
            .collect();
        let n_bytes = size_of_val(&*ids);
        Ok((ids, n_bytes))
    }

    fn severities(&self) -> Result<(Arc<[Severity]>, usize), Error> {
        self.decode(SEVERITY, |page| {
            let codes = page.codes(7)?.into_iter();
            let severities: Arc<[Severity]> = codes
                .map(|code| Severity::from_number(u8::try_from(code).ok()?))
                .collect::<Option<_>>()?;
            let n_bytes = size_of_val(&*severities);
            Some((severities, n_bytes))
        })
    }

    fn outputs(&self) -> Result<(Arc<[Output]>, usize), Error> {
        self.decode(OUTPUT, |page| {
            let codes = page.codes(2)?.into_iter();
            let outputs: Arc<[Output]> = codes
                .map(|code| match code {
                    0 => Output::Stdout,
                    _ => Output::Stderr,
                })
                .collect();
            let n_bytes = size_of_val(&*outputs);
            Some((outputs, n_bytes))
        })
    }

    fn texts(&self, column: usize, is_optional: bool) -> Result<(StringArray, usize), Error> {
        let texts = self.decode(column, |page| page.texts(is_optional))?;
        let n_bytes = texts.get_array_memory_size();
        Ok((texts, n_bytes))
    }

    fn attributes(
        &self,
        layout: &Arc<Layout>,
        wanted: &WantedAttributes,
    ) -> Result<Arc<dyn Attributes>, Error> {
        let rest = wanted.needs_rest.then(|| {
            self.get(ATTRIBUTES, |block| {
                let rest = Rest::new(block.texts(ATTRIBUTES, true)?.0);
                let n_bytes = rest.memory_bytes();
                Ok((rest, n_bytes))
            })
        });
        let order = wanted.needs_order.then(|| {
            self.get(ATTRIBUTE_ORDER, |block| {
                let order = block.decode(ATTRIBUTE_ORDER, |page| page.sparse_numbers())?;
                let n_bytes = order.get_array_memory_size();
                Ok((order, n_bytes))
            })
        });
        let columns = wanted
            .columns
            .iter()
            .map(|column| {
                let array = self.get(N_PLAIN + column, |block| {
                    block.texts(N_PLAIN + column, true)
                })?;
                Ok((layout.attribute_columns[*column].clone(), array))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Arc::new(BlockAttributes {
            columns,
            rest: rest.transpose()?,
            order: order.transpose()?,
            layout: Arc::clone(layout),
        }))
    }
}

fn undecodable(segment: &Segment, page: &Page) -> Error {
    segment.damaged(format!("the page at byte {} does not decode", page.offset))
}

/// A page, checked and decompressed.
#[derive(Debug)]
pub(super) struct OpenPage {
    encoding: i32,
    data: Vec<u8>,
    n_values: usize,
}

impl OpenPage {
    pub(super) fn open(
        segment: &Segment,
        page: &Page,
        bytes: &[u8],
        n_values: usize,
    ) -> Result<Self, Error> {
        let fail = |what| segment.damaged(format!("the page at byte {} {what}", page.offset));
        if crc32c::crc32c(bytes) != page.crc32c {
            return Err(fail("has a wrong checksum"));
        }
        let mut cursor = Cursor::new(bytes);
        let header = PageHeader::read(&mut cursor).ok_or_else(|| fail("has no header"))?;
        let fits = usize::try_from(header.n_values) == Ok(n_values)
            && usize::try_from(header.compressed_bytes) == Ok(cursor.rest().len())
            && (0..=MAX_PAGE_BYTES).contains(&header.uncompressed_bytes);
        if !fits {
            return Err(fail("has a header that does not fit"));
        }
        let raw_bytes = usize::try_from(header.uncompressed_bytes).unwrap_or_default();
        let data = (segment.cache.decompress(cursor.rest(), raw_bytes))
            .ok_or_else(|| fail("does not decompress"))?;
        Ok(Self {
            encoding: header.encoding,
            data,
            n_values,
        })
    }

    fn check(&self, encoding: i32) -> Option<Cursor<'_>> {
        (self.encoding == encoding).then(|| Cursor::new(&self.data))
    }

    /// 64-bit numbers, or 32-bit ones whose sums wrapped around.
    fn numbers(&self) -> Option<Vec<i64>> {
        let mut cursor = self.check(thrift::DELTA_BINARY_PACKED)?;
        let numbers = decode::delta_binary_packed(&mut cursor, self.n_values)?;
        cursor.is_at_end().then_some(numbers)
    }

    /// Of an optional column.
    fn sparse_numbers(&self) -> Option<Int32Array> {
        let mut cursor = self.check(thrift::DELTA_BINARY_PACKED)?;
        let there = decode::levels(&mut cursor, self.n_values)?;
        let n_there = there.iter().filter(|is_there| **is_there).count();
        let mut numbers = decode::delta_binary_packed(&mut cursor, n_there)?.into_iter();
        let values = there
            .iter()
            .map(|is_there| match is_there {
                true => i32::try_from(numbers.next()?).ok(),
                false => Some(0),
            })
            .collect::<Option<Vec<i32>>>()?;
        let nulls = NullBuffer::from(there);
        cursor
            .is_at_end()
            .then(|| Int32Array::new(values.into(), Some(nulls)))
    }

    /// Numbers of a dictionary of so many values.
    fn codes(&self, n_in_dictionary: u32) -> Option<Vec<u32>> {
        let mut cursor = self.check(thrift::RLE_DICTIONARY)?;
        let codes = decode::codes(&mut cursor, self.n_values)?;
        let is_sound = cursor.is_at_end() && codes.iter().all(|code| *code < n_in_dictionary);
        is_sound.then_some(codes)
    }

    fn texts(self, is_optional: bool) -> Option<StringArray> {
        self.check(thrift::DELTA_LENGTH_BYTE_ARRAY)?;
        decode::texts(self.data, is_optional, self.n_values)
    }
}
