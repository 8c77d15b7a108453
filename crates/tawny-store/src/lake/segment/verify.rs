//! Looks through a whole segment: is every byte that Tawny reads what its writer wrote, and does the index say so?

use std::{
    io::{self, Read},
    ops::Range,
    sync::Arc,
};

use arrow_array::{
    Array, Int8Array, Int16Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    basic::Compression,
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        reader::{ChunkReader, Length},
    },
};
use tawny_model::{EntryId, Stream};

use super::{
    BLOCK_ROWS, CLUSTER, CONTAINER, ID_OFFSET, IMAGE, LABELS, MESSAGE, N_PLAIN, N_STREAM,
    NAMESPACE, NODE, OUTPUT, POD, POD_UID, RESTART, SEVERITY, TIMESTAMP, TIMESTAMP_NS, WORKLOAD,
    index::{Chunk, Kind, Layout, Page, Root},
    reader::Segment,
    rows::Rows,
    schema,
    words::Tokens,
};
use crate::{
    Error,
    lake::{
        read_at::ReadAt,
        run::{Block, Columns, Extent, Run, RunIndex, RunStream},
    },
};

/// Read at once when all of a file is.
const STRIDE_BYTES: u64 = 8 << 20;

/// What was looked through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct VerifyReport {
    pub(crate) n_rows: u32,
    pub(crate) n_streams: u32,
    pub(crate) n_blocks: u32,
    pub(crate) n_pages: u32,
    pub(crate) n_bytes: u64,
}

/// What a segment consists of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inspection {
    pub(crate) extent: Extent,
    pub(crate) n_streams: usize,
    pub(crate) n_blocks: u32,
    pub(crate) n_bytes: u64,
    /// Bytes of each column's pages, in the order of the schema.
    pub(crate) columns: Vec<(String, u64)>,
    /// Bytes of the index by kind of section.
    pub(crate) sections: Vec<(&'static str, u64)>,
}

/// A page whose bytes are not those that were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamagedPage {
    pub(crate) column: String,
    /// Whether Tawny itself reads the column; those that describe streams are there for other readers.
    pub(crate) is_read: bool,
    /// The rows that cannot be read without it, numbered in the segment.
    pub(crate) rows: Range<u32>,
    pub(crate) bytes: Range<u64>,
}

impl Segment {
    /// All pages whose checksum is wrong.
    ///
    /// # Errors
    /// `Quarantine` when the index is damaged or the file is too short for it, `Retry` when the storage fails.
    pub(crate) fn damaged_pages(&self) -> Result<Vec<DamagedPage>, Error> {
        self.cache.remove_segment(self.number);
        let (root, layout) = (self.root()?, self.layout()?);
        let schema = schema(&layout.attribute_columns);
        let mut damaged = Vec::new();
        let mut first_row = 0;
        for (n_rows, chunks) in root.row_groups.iter().zip(&layout.chunks) {
            let end = first_row + n_rows;
            for (column, (field, chunk)) in schema.fields().iter().zip(chunks).enumerate() {
                let of_block = |block: u32| {
                    let first = first_row + block * BLOCK_ROWS;
                    first..(first + BLOCK_ROWS).min(end)
                };
                let dictionary = chunk.dictionary.iter().map(|page| (page, first_row..end));
                let blocks = (0..).map(of_block);
                for (page, rows) in dictionary.chain(chunk.pages.iter().zip(blocks)) {
                    let bytes = self.read(&[page.range()])?.remove(0);
                    if crc32c::crc32c(&bytes) != page.crc32c {
                        damaged.push(DamagedPage {
                            column: field.name().clone(),
                            is_read: column >= N_STREAM,
                            rows,
                            bytes: page.range(),
                        });
                    }
                }
            }
            first_row = end;
        }
        Ok(damaged)
    }

    /// What the segment consists of; reads its index only.
    ///
    /// # Errors
    /// `Quarantine` when the index is damaged, `Retry` when the storage fails.
    pub(crate) fn inspect(&self) -> Result<Inspection, Error> {
        let (root, layout) = (self.root()?, self.layout()?);
        let schema = schema(&layout.attribute_columns);
        let bytes_of = |column: usize| -> u64 {
            let chunks = layout.chunks.iter().filter_map(|group| group.get(column));
            chunks
                .flat_map(pages)
                .map(|page| u64::from(page.len_bytes))
                .sum()
        };
        let names = schema.fields().iter().map(|field| field.name().clone());
        let section_bytes = |kind| -> u64 {
            let sections = root.sections(kind);
            sections
                .map(|section| u64::from(section.stored_bytes))
                .sum()
        };
        Ok(Inspection {
            extent: root.extent,
            n_streams: self.index()?.streams().len(),
            n_blocks: n_blocks(&root),
            n_bytes: self.file.len_bytes(),
            columns: names
                .enumerate()
                .map(|(idx, name)| (name, bytes_of(idx)))
                .collect(),
            sections: [
                ("streams", Kind::Streams),
                ("layout", Kind::Layout),
                ("tokens", Kind::Tokens),
            ]
            .map(|(name, kind)| (name, section_bytes(kind)))
            .into(),
        })
    }

    /// Reads all of the segment and checks it against itself, and against what other readers of Parquet see.
    ///
    /// # Errors
    /// `Quarantine` naming the first thing that is wrong, `Retry` when the storage fails.
    pub(crate) fn verify(&self) -> Result<VerifyReport, Error> {
        // What is cached proves nothing of the file.
        self.cache.remove_segment(self.number);
        let (root, layout, index) = (self.root()?, self.layout()?, self.index()?);
        if root.extent != self.extent() {
            return Err(self.damaged("its rows are not those expected of it"));
        }
        let n_pages = self.verify_pages(&layout)?;
        let file = Arc::clone(&self.file);
        let builder = ParquetRecordBatchReaderBuilder::try_new(Chunks(file))
            .map_err(|error| self.not_parquet(&error.to_string()))?;
        // Checked first: the decoder of others trusts its footer, and no checksum guards that.
        if !leads_to(builder.metadata(), &root, &layout) || !has_columns(builder.schema(), &layout)
        {
            return Err(self.damaged("its footer disagrees with its index"));
        }
        let reader = builder
            .with_batch_size(BLOCK_ROWS as usize)
            .build()
            .map_err(|error| self.not_parquet(&error.to_string()))?;
        let filters = self.token_filters(&root)?;
        let mut filters = filters
            .iter()
            .zip(&root.row_groups)
            .flat_map(|(filters, n_rows)| {
                (0..n_rows.div_ceil(BLOCK_ROWS) as usize).map(move |of_group| filters.get(of_group))
            });
        let mut rows = Rows::default();
        let mut n_blocks = 0;
        for batch in reader {
            let batch = batch.map_err(|error| self.not_parquet(&error.to_string()))?;
            let block = self.block(n_blocks, &Columns::ALL)?;
            let wrong = |what: &str| self.damaged(format!("block {n_blocks}: {what}"));
            let streams = streams_of(&index, &block).ok_or_else(|| wrong("rows of no stream"))?;
            Foreign::of(&batch, &layout)
                .filter(|foreign| foreign.is(&block, &streams))
                .ok_or_else(|| wrong("other readers see other rows"))?;
            let mut tokens = Tokens::default();
            for (at, entry) in streams.iter().enumerate() {
                let row = Row::of(&block, at).ok_or_else(|| wrong("a column is absent"))?;
                rows.push(
                    &entry.stream,
                    block.times()[at],
                    block.ids()[at],
                    row.severity,
                )
                .map_err(|_| wrong("rows are out of order"))?;
                tokens.message(row.message);
                for (key, value) in &row.attributes {
                    tokens.attribute(key, value);
                }
            }
            if let Some(filter) = filters.next().flatten() {
                let mut distinct = tokens.distinct().unwrap_or_default().iter();
                if !distinct.all(|hash| filter.may_contain(*hash)) {
                    return Err(wrong("its filter denies a word that is there"));
                }
            }
            n_blocks += 1;
        }
        let (extent, counted) = rows.finish();
        if extent != Some(root.extent) || counted != *index {
            return Err(self.damaged("its index disagrees with its rows"));
        }
        Ok(VerifyReport {
            n_rows: root.extent.n_rows,
            n_streams: u32::try_from(index.streams().len()).unwrap_or(u32::MAX),
            n_blocks,
            n_pages,
            n_bytes: self.file.len_bytes(),
        })
    }

    fn not_parquet(&self, error: &str) -> Error {
        self.damaged(format!("other readers cannot read it: {error}"))
    }

    /// Checksums of all pages, those of columns included that are never read here.
    fn verify_pages(&self, layout: &Layout) -> Result<u32, Error> {
        let mut n_pages = 0;
        for chunk in layout.chunks.iter().flatten() {
            for page in pages(chunk) {
                let bytes = self.read(&[page.range()])?.remove(0);
                if crc32c::crc32c(&bytes) != page.crc32c {
                    let reason = format!("the page at byte {} has a wrong checksum", page.offset);
                    return Err(self.damaged(reason));
                }
                n_pages += 1;
            }
        }
        Ok(n_pages)
    }
}

fn pages(chunk: &Chunk) -> impl Iterator<Item = &Page> {
    chunk.dictionary.iter().chain(&chunk.pages)
}

fn n_blocks(root: &Root) -> u32 {
    root.extent.n_rows.div_ceil(BLOCK_ROWS)
}

/// Whether a footer finds the pages that the index finds.
fn leads_to(metadata: &ParquetMetaData, root: &Root, layout: &Layout) -> bool {
    let groups = metadata.row_groups();
    groups.len() == root.row_groups.len()
        && groups.iter().zip(&root.row_groups).zip(&layout.chunks).all(
            |((group, n_rows), chunks)| {
                group.num_rows() == i64::from(*n_rows)
                    && group.columns().len() == chunks.len()
                    && group
                        .columns()
                        .iter()
                        .zip(chunks)
                        .all(|(column, chunk)| is_chunk(column, chunk, *n_rows))
            },
        )
}

fn is_chunk(column: &ColumnChunkMetaData, chunk: &Chunk, n_rows: u32) -> bool {
    let offset = |page: &Page| i64::try_from(page.offset).ok();
    let n_bytes: u64 = pages(chunk).map(|page| u64::from(page.len_bytes)).sum();
    matches!(column.compression(), Compression::ZSTD(_))
        && column.num_values() == i64::from(n_rows)
        && u64::try_from(column.compressed_size()) == Ok(n_bytes)
        && column.dictionary_page_offset() == chunk.dictionary.as_ref().and_then(offset)
        && Some(column.data_page_offset()) == chunk.pages.first().and_then(offset)
}

fn has_columns(found: &Schema, layout: &Layout) -> bool {
    let expected = schema(&layout.attribute_columns);
    let is_same = |(expected, found): (&Arc<Field>, &Arc<Field>)| {
        expected.name() == found.name()
            && expected.data_type() == found.data_type()
            && expected.is_nullable() == found.is_nullable()
    };
    expected.fields().len() == found.fields().len()
        && expected.fields().iter().zip(found.fields()).all(is_same)
}

/// The stream of each row of a block.
fn streams_of<'i>(index: &'i RunIndex, block: &Block) -> Option<Vec<&'i RunStream>> {
    let streams = index.streams();
    let mut at = streams.partition_point(|entry| entry.rows.end <= block.first_row);
    (block.first_row..)
        .take(block.n_rows as usize)
        .map(|row| {
            while streams.get(at)?.rows.end <= row {
                at += 1;
            }
            streams.get(at)
        })
        .collect()
}

/// A row as Tawny reads it.
struct Row<'b> {
    severity: tawny_model::Severity,
    message: &'b str,
    attributes: Vec<(&'b str, &'b str)>,
}

impl<'b> Row<'b> {
    fn of(block: &'b Block, at: usize) -> Option<Self> {
        Some(Self {
            severity: *block.severities.as_ref()?.get(at)?,
            message: block.messages.as_ref()?.value(at),
            attributes: block.attributes.as_ref()?.row(at),
        })
    }
}

/// Rows as another reader of Parquet sees them.
struct Foreign<'b> {
    batch: &'b RecordBatch,
    layout: &'b Layout,
    texts: Vec<Option<&'b StringArray>>,
}

impl<'b> Foreign<'b> {
    fn of(batch: &'b RecordBatch, layout: &'b Layout) -> Option<Self> {
        let same = has_columns(&batch.schema(), layout);
        let texts = batch
            .columns()
            .iter()
            .map(|column| column.as_any().downcast_ref());
        same.then(|| Self {
            batch,
            layout,
            texts: texts.collect(),
        })
    }

    fn is(&self, block: &Block, streams: &[&RunStream]) -> bool {
        self.batch.num_rows() == block.n_rows as usize
            && self.streams_are(streams) == Some(true)
            && self.rows_are(block) == Some(true)
    }

    fn text(&self, column: usize, at: usize) -> Option<&'b str> {
        let texts = self.texts.get(column).copied().flatten()?;
        texts.is_valid(at).then(|| texts.value(at))
    }

    fn column<A: 'static>(&self, column: usize) -> Option<&'b A> {
        self.batch.columns().get(column)?.as_any().downcast_ref()
    }

    fn streams_are(&self, streams: &[&RunStream]) -> Option<bool> {
        let restarts: &Int32Array = self.column(RESTART)?;
        let mut before: Option<(&Stream, String, Option<String>)> = None;
        for (at, entry) in streams.iter().enumerate() {
            let stream = &*entry.stream;
            if before
                .as_ref()
                .is_none_or(|(before, ..)| !std::ptr::eq(*before, stream))
            {
                let labels = serde_json::to_string(&stream.labels).ok()?;
                let workload = stream.workload.as_ref().map(ToString::to_string);
                before = Some((stream, labels, workload));
            }
            let (_, labels, workload) = before.as_ref()?;
            let texts: [(usize, Option<&str>); 9] = [
                (CLUSTER, Some(&stream.id.cluster)),
                (NAMESPACE, Some(&stream.namespace)),
                (POD, Some(&stream.pod)),
                (POD_UID, Some(&stream.id.pod_uid)),
                (CONTAINER, Some(&stream.id.container)),
                (NODE, Some(&stream.node)),
                (IMAGE, Some(&stream.image)),
                (WORKLOAD, workload.as_deref()),
                (LABELS, Some(labels)),
            ];
            let restart = i32::try_from(stream.id.restart).unwrap_or(i32::MAX);
            let same = restarts.value(at) == restart
                && texts
                    .iter()
                    .all(|(column, text)| self.text(*column, at) == *text);
            if !same {
                return Some(false);
            }
        }
        Some(true)
    }

    fn rows_are(&self, block: &Block) -> Option<bool> {
        let micros: &TimestampMicrosecondArray = self.column(TIMESTAMP)?;
        let nanos: &Int16Array = self.column(TIMESTAMP_NS)?;
        let offsets: &Int32Array = self.column(ID_OFFSET)?;
        let severities: &Int8Array = self.column(SEVERITY)?;
        let outputs: &Int8Array = self.column(OUTPUT)?;
        let of_block = (
            block.severities.as_ref()?,
            block.outputs.as_ref()?,
            block.messages.as_ref()?,
            block.attributes.as_ref()?,
        );
        let keys = || self.layout.attribute_columns.iter().zip(N_PLAIN..);
        let is_row = |at: usize| {
            let time = block.times()[at];
            let id = EntryId::first_at(time)
                .0
                .wrapping_add(i64::from(offsets.value(at)));
            micros.value(at) == time.as_micros()
                && i64::from(nanos.value(at)) == time.as_nanos().rem_euclid(1_000)
                && id == block.ids()[at].0
                && severities.value(at) == of_block.0[at] as i8
                && outputs.value(at) == of_block.1[at] as i8
                && self.text(MESSAGE, at) == Some(of_block.2.value(at))
                && keys().all(|(key, column)| self.text(column, at) == of_block.3.get(at, key))
        };
        Some((0..block.n_rows as usize).all(is_row))
    }
}

/// A file as the Parquet crate reads one.
struct Chunks(Arc<dyn ReadAt>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.len_bytes()
    }
}

impl ChunkReader for Chunks {
    type T = Box<dyn Read + Send>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let len_bytes = self.0.len_bytes();
        let end = len_bytes.min(start.saturating_add(STRIDE_BYTES));
        let bytes = self.get_bytes(start, usize::try_from(end.saturating_sub(start))?)?;
        Ok(Box::new(io::Cursor::new(bytes)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length as u64);
        let end = end.filter(|end| *end <= self.0.len_bytes());
        let end = end.ok_or_else(|| ParquetError::EOF("past the end of the file".to_owned()))?;
        let read = self.0.read(std::slice::from_ref(&(start..end)));
        let read = read.map_err(|error| ParquetError::External(error.into()))?;
        let bytes = read.into_iter().next();
        bytes.ok_or_else(|| ParquetError::EOF("nothing was read".to_owned()))
    }
}
