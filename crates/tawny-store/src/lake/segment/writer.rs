//! Writes a segment: rows in, in the order of a run; a Parquet file with its index out.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    arrow::ArrowSchemaConverter,
    basic::{Compression, Encoding, ZstdLevel},
    column::writer::ColumnCloseResult,
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, KeyValue, OffsetIndexBuilder},
        properties::WriterProperties,
        writer::SerializedFileWriter,
    },
};
use tawny_model::{EntryId, Output, Severity, Stream, Timestamp};

use super::{
    ATTRIBUTE_ORDER, GROUP_ROWS, ID_OFFSET, N_PLAIN, N_STREAM, OUTPUT, SEVERITY, TIMESTAMP,
    TIMESTAMP_NS,
    buffer::BlockRows,
    columns::{ChunkBuffer, Packer, page_of},
    fuse,
    index::{
        Chunk, FOOTER_KEY, Kind, Layout, Root, RootPlace, Section, VERSION, encode_filters,
        encode_streams,
    },
    rows::Rows,
    schema,
};
use crate::{
    Error,
    lake::run::{BLOCK_ROWS, Extent, RunIndex},
};

/// Text of one block, messages and attributes: what a writer and a reader must be able to hold.
const MAX_BLOCK_BYTES: usize = 256 << 20;

#[derive(Debug, Clone)]
pub(crate) struct SegmentOptions {
    /// Where the file will lie, for errors.
    pub(crate) path: PathBuf,
    pub(crate) zstd_level: i32,
    /// Keys that get columns of their own, each once.
    pub(crate) attribute_columns: Vec<String>,
}

/// One row of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentRow<'a, A> {
    pub(crate) timestamp: Timestamp,
    pub(crate) id: EntryId,
    pub(crate) severity: Severity,
    pub(crate) output: Output,
    pub(crate) message: &'a str,
    /// Keys and values; gone through twice.
    pub(crate) attributes: A,
}

impl<'a, A> SegmentRow<'a, A>
where
    A: Iterator<Item = (&'a str, &'a str)> + Clone,
{
    /// Bytes of its texts, by which segments are bounded.
    pub(crate) fn text_bytes(&self) -> usize {
        let attributes = self.attributes.clone();
        attributes.fold(self.message.len(), |sum, (key, value)| {
            sum + key.len() + value.len()
        })
    }
}

/// A segment that is written.
#[derive(Debug)]
pub(crate) struct Finished<W> {
    pub(crate) out: W,
    pub(crate) extent: Extent,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests compare it with what is read back")
    )]
    pub(crate) index: Arc<RunIndex>,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "tests compare it with what is read back")
    )]
    pub(crate) n_bytes: u64,
}

/// Takes rows in the order of a run and writes row groups as they fill.
#[derive(Debug)]
pub(crate) struct SegmentWriter<W: Write + Send> {
    path: PathBuf,
    file: SerializedFileWriter<Counted<W>>,
    zstd_level: i32,
    attribute_columns: Vec<String>,
    packer: Packer,
    block: BlockRows,
    /// Columns of the row group in hand.
    chunks: Vec<ChunkBuffer>,
    written: Vec<Vec<Chunk>>,
    row_groups: Vec<u32>,
    group_rows: u32,
    /// Token filters of the row group's blocks.
    filters: Vec<Vec<u8>>,
    sections: Vec<Section>,
    filter_scratch: fuse::Scratch,
    rows: Rows,
}

impl<W: Write + Send> SegmentWriter<W> {
    /// # Errors
    /// `Reject` for attribute columns that are no columns, `Retry` when `out` fails.
    pub(crate) fn new(out: W, options: SegmentOptions) -> Result<Self, Error> {
        let SegmentOptions {
            path,
            zstd_level,
            attribute_columns,
        } = options;
        let schema = schema(&attribute_columns);
        let descriptor = ArrowSchemaConverter::new()
            .convert(&schema)
            .map_err(|error| failed(&path, error))?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("tawny ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let out = Counted {
            inner: out,
            n_bytes: 0,
        };
        let file =
            SerializedFileWriter::new(out, descriptor.root_schema_ptr(), Arc::new(properties))
                .map_err(|error| failed(&path, error))?;
        let packer = Packer::new(zstd_level).map_err(|error| failed(&path, error.into()))?;
        Ok(Self {
            path,
            file,
            zstd_level,
            packer,
            block: BlockRows::new(&attribute_columns),
            chunks: (0..N_PLAIN + attribute_columns.len())
                .map(|_| ChunkBuffer::default())
                .collect(),
            attribute_columns,
            written: Vec::new(),
            row_groups: Vec::new(),
            group_rows: 0,
            filters: Vec::new(),
            sections: Vec::new(),
            filter_scratch: fuse::Scratch::default(),
            rows: Rows::default(),
        })
    }

    /// Whether the segment takes a row with so much text; where not, it is to be finished and another begun.
    pub(crate) fn has_room_for(&self, text_bytes: usize) -> bool {
        let n_rows = self.rows.n_rows;
        n_rows < u32::MAX - BLOCK_ROWS
            && (self.block.n_rows == 0 || self.block.text_bytes + text_bytes <= MAX_BLOCK_BYTES)
    }

    /// # Errors
    /// `Reject` for a row out of order, one there is no room for, or an id too far from its time; `Retry` when the
    /// output fails.
    pub(crate) fn push<'a, A>(
        &mut self,
        stream: &Arc<Stream>,
        row: SegmentRow<'a, A>,
    ) -> Result<(), Error>
    where
        A: Iterator<Item = (&'a str, &'a str)> + Clone,
    {
        let text_bytes = row.text_bytes();
        if !self.has_room_for(text_bytes) {
            return Err(invalid("the segment is full"));
        }
        let id_offset = i128::from(row.id.0) - i128::from(EntryId::first_at(row.timestamp).0);
        let Ok(id_offset) = i32::try_from(id_offset) else {
            return Err(invalid("an id lies too far from its time"));
        };
        let is_new_stream = self
            .rows
            .push(stream, row.timestamp, row.id, row.severity)?;
        if is_new_stream {
            self.block.begin_stream(stream);
        }
        self.block.push(id_offset, text_bytes, row);
        if self.block.n_rows == BLOCK_ROWS {
            self.end_block()?;
            if self.group_rows == GROUP_ROWS {
                self.end_row_group()?;
            }
        }
        Ok(())
    }

    /// Writes what is left, the index and the footer.
    ///
    /// # Errors
    /// `Reject` when no row was pushed, `Retry` when the output fails.
    pub(crate) fn finish(mut self) -> Result<Finished<W>, Error> {
        self.end_block()?;
        self.end_row_group()?;
        let (Some(extent), index) = self.rows.finish() else {
            return Err(invalid("a segment without rows"));
        };
        let layout = Layout {
            attribute_columns: self.attribute_columns,
            shapes: self.block.attributes.shapes().to_vec(),
            chunks: self.written,
        };
        for (kind, raw) in [
            (Kind::Layout, layout.encode()),
            (Kind::Streams, encode_streams(&index)),
        ] {
            put_section(&mut self.file, &mut self.sections, &self.path, kind, 0, raw)?;
        }
        let root = Root {
            extent,
            row_groups: self.row_groups,
            sections: self.sections,
        }
        .encode();
        let place = RootPlace {
            version: VERSION,
            offset: self.file.bytes_written() as u64,
            length: u32::try_from(root.len()).map_err(|_| invalid("too many row groups"))?,
            crc32c: crc32c::crc32c(&root),
        };
        let fail = |error| failed(&self.path, error);
        self.file
            .write_all(&root)
            .map_err(|error| fail(error.into()))?;
        let value = serde_json::to_string(&place).expect("numbers are JSON");
        self.file
            .append_key_value_metadata(KeyValue::new(FOOTER_KEY.to_owned(), value));
        let out = self.file.into_inner().map_err(fail)?;
        Ok(Finished {
            out: out.inner,
            extent,
            index: Arc::new(index),
            n_bytes: out.n_bytes,
        })
    }

    fn end_block(&mut self) -> Result<(), Error> {
        let n_rows = self.block.n_rows as usize;
        if n_rows == 0 {
            return Ok(());
        }
        let mut filter = Vec::new();
        if let Some(distinct) = self.block.tokens.distinct() {
            fuse::build(&mut filter, distinct, &mut self.filter_scratch);
        }
        self.filters.push(filter);
        self.block
            .encode(&mut self.packer, &mut self.chunks)
            .map_err(|error| failed(&self.path, error.into()))?;
        self.group_rows += self.block.n_rows;
        self.block.clear();
        Ok(())
    }

    fn end_row_group(&mut self) -> Result<(), Error> {
        if self.group_rows == 0 {
            return Ok(());
        }
        let path = &self.path;
        let fail = |error| failed(path, error);
        let level = ZstdLevel::try_new(self.zstd_level.clamp(1, 22)).map_err(fail)?;
        let descriptor = self.file.schema_descr().columns().to_vec();
        let mut group = self.file.next_row_group().map_err(fail)?;
        let mut written = Vec::with_capacity(self.chunks.len());
        // Where in the file the next column will begin.
        for (column, (chunk, descr)) in self.chunks.iter_mut().zip(descriptor).enumerate() {
            let mut chunk = std::mem::take(chunk);
            let statistics = self.block.statistics(column);
            let dictionary = self.block.dictionary(column);
            let mut dictionary_bytes = 0;
            if let Some((values, n_values)) = dictionary {
                let (mut page, uncompressed_bytes) = self
                    .packer
                    .dictionary(&values, n_values)
                    .map_err(|error| fail(error.into()))?;
                chunk.uncompressed_bytes += uncompressed_bytes;
                dictionary_bytes = page.len();
                page.extend_from_slice(&chunk.bytes);
                chunk.bytes = page;
            }
            let dictionary =
                (dictionary_bytes > 0).then(|| page_of(&chunk.bytes[..dictionary_bytes], 0));
            let mut offsets = OffsetIndexBuilder::new();
            for (idx, page) in chunk.pages.iter_mut().enumerate() {
                page.offset += dictionary_bytes as u64;
                let len_bytes = i32::try_from(page.len_bytes).expect("a page is below 2 GiB");
                offsets.append_offset_and_size(signed(page.offset), len_bytes);
                let before = u32::try_from(idx).expect("few pages") * BLOCK_ROWS;
                offsets.append_row_count((self.group_rows - before).min(BLOCK_ROWS).into());
            }
            let encoding = encoding_of(column);
            let mut encodings = vec![Encoding::RLE, encoding];
            if dictionary.is_some() {
                encodings.push(Encoding::PLAIN);
            }
            let mut metadata = ColumnChunkMetaData::builder(descr)
                .set_compression(Compression::ZSTD(level))
                .set_encodings(encodings)
                .set_num_values(signed(chunk.n_values))
                .set_total_compressed_size(signed(chunk.bytes.len() as u64))
                .set_total_uncompressed_size(signed(chunk.uncompressed_bytes))
                .set_dictionary_page_offset(dictionary.map(|_| 0))
                .set_data_page_offset(signed(dictionary_bytes as u64));
            if let Some(statistics) = statistics {
                metadata = metadata.set_statistics(statistics);
            }
            let close = ColumnCloseResult {
                bytes_written: chunk.bytes.len() as u64,
                rows_written: u64::from(self.group_rows),
                metadata: metadata.build().map_err(fail)?,
                bloom_filter: None,
                column_index: self.block.column_index(column).map_err(fail)?,
                offset_index: Some(offsets.build()),
            };
            group
                .append_column(&Bytes::from(chunk.bytes), close)
                .map_err(fail)?;
            written.push(Chunk {
                dictionary,
                pages: chunk.pages,
            });
        }
        let metadata = group.close().map_err(fail)?;
        for (chunk, column) in written.iter_mut().zip(metadata.columns()) {
            let (start, _) = column.byte_range();
            for page in chunk.dictionary.iter_mut().chain(&mut chunk.pages) {
                page.offset += start;
            }
        }
        self.written.push(written);
        let row_group = u32::try_from(self.row_groups.len()).expect("fewer than 2^15");
        put_section(
            &mut self.file,
            &mut self.sections,
            path,
            Kind::Tokens,
            row_group,
            encode_filters(&self.filters),
        )?;
        self.filters.clear();
        self.row_groups.push(self.group_rows);
        self.group_rows = 0;
        self.block.end_row_group();
        // The next row group has dictionaries of its own.
        if let Some(entry) = self.rows.streams.last() {
            self.block.begin_stream(&entry.stream);
        }
        Ok(())
    }
}

fn put_section<W: Write + Send>(
    file: &mut SerializedFileWriter<Counted<W>>,
    sections: &mut Vec<Section>,
    path: &Path,
    kind: Kind,
    row_group: u32,
    raw: Vec<u8>,
) -> Result<(), Error> {
    let offset = file.bytes_written() as u64;
    let (section, stored) =
        Section::of(kind, row_group, offset, raw).map_err(|reason| Error::Invalid { reason })?;
    file.write_all(&stored)
        .map_err(|error| failed(path, error.into()))?;
    sections.push(section);
    Ok(())
}

fn encoding_of(column: usize) -> Encoding {
    match column {
        TIMESTAMP | ID_OFFSET | ATTRIBUTE_ORDER => Encoding::DELTA_BINARY_PACKED,
        ..N_STREAM | TIMESTAMP_NS | SEVERITY | OUTPUT => Encoding::RLE_DICTIONARY,
        _ => Encoding::DELTA_LENGTH_BYTE_ARRAY,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("sizes of a file")
}

pub(super) fn invalid(reason: &str) -> Error {
    Error::Invalid {
        reason: reason.to_owned(),
    }
}

fn failed(path: &Path, error: ParquetError) -> Error {
    let path = path.to_owned();
    if let ParquetError::External(source) = &error
        && let Some(source) = source.downcast_ref::<io::Error>()
        && source.kind() == io::ErrorKind::StorageFull
    {
        return Error::DiskFull { path };
    }
    Error::Io {
        path,
        doing: "writing a segment",
        source: error.into(),
    }
}

/// Counts what goes through.
#[derive(Debug)]
struct Counted<W> {
    inner: W,
    n_bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.n_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
