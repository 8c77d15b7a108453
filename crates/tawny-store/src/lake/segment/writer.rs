//! Writes a segment: rows in, in the order of a run; a Parquet file with its index out.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    arrow::ArrowSchemaConverter,
    basic::{BoundaryOrder, Compression, Encoding, Type, ZstdLevel},
    column::writer::ColumnCloseResult,
    data_type::ByteArray,
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ColumnIndexBuilder, KeyValue, OffsetIndexBuilder},
        properties::WriterProperties,
        statistics::Statistics,
        writer::SerializedFileWriter,
    },
};
use tawny_model::{EntryId, Output, Severity, Stream, Timestamp};

use super::{
    ATTRIBUTE_ORDER, ATTRIBUTES, GROUP_ROWS, ID_OFFSET, MESSAGE, N_PLAIN, N_STREAM, NAMESPACE,
    OUTPUT, SEVERITY, TIMESTAMP, TIMESTAMP_NS, WORKLOAD,
    attributes::AttributeRows,
    columns::{
        ChunkBuffer, Packer, StreamColumn, Texts, identity_dictionary, page_of, put_levels,
        set_stream,
    },
    encode::{self, Width},
    fuse,
    index::{
        Chunk, FOOTER_KEY, Kind, Layout, Root, RootPlace, Section, VERSION, encode_filters,
        encode_streams,
    },
    rows::Rows,
    schema, thrift,
    words::Tokens,
};
use crate::{
    Error,
    lake::run::{BLOCK_ROWS, Extent, RunIndex},
};

/// Text of one block, messages and attributes: what a writer and a reader must be able to hold.
const MAX_BLOCK_BYTES: usize = 256 << 20;
const MAX_BLOCK_ROWS: usize = BLOCK_ROWS as usize;

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

/// A segment that is written.
#[derive(Debug)]
pub(crate) struct Finished<W> {
    pub(crate) out: W,
    pub(crate) extent: Extent,
    pub(crate) index: Arc<RunIndex>,
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

/// The block in hand.
#[derive(Debug)]
struct BlockRows {
    n_rows: u32,
    text_bytes: usize,
    stream_columns: [StreamColumn; N_STREAM],
    /// Rows the stream columns know of.
    n_described: u32,
    micros: Vec<i64>,
    nanos: Vec<u32>,
    id_offsets: Vec<i64>,
    severities: Vec<u32>,
    outputs: Vec<u32>,
    messages: Texts,
    attributes: AttributeRows,
    tokens: Tokens,
    /// Least and greatest time and severity of each block of the row group.
    bounds: Vec<Bounds>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    micros: (i64, i64),
    severity: (u32, u32),
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
        let text_bytes = row
            .attributes
            .clone()
            .fold(row.message.len(), |sum, (key, value)| {
                sum + key.len() + value.len()
            });
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
        self.block.bounds.clear();
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
    path: &std::path::Path,
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

impl BlockRows {
    fn new(attribute_columns: &[String]) -> Self {
        Self {
            n_rows: 0,
            text_bytes: 0,
            stream_columns: Default::default(),
            n_described: 0,
            micros: Vec::with_capacity(MAX_BLOCK_ROWS),
            nanos: Vec::with_capacity(MAX_BLOCK_ROWS),
            id_offsets: Vec::with_capacity(MAX_BLOCK_ROWS),
            severities: Vec::with_capacity(MAX_BLOCK_ROWS),
            outputs: Vec::with_capacity(MAX_BLOCK_ROWS),
            messages: Texts::default(),
            attributes: AttributeRows::new(attribute_columns),
            tokens: Tokens::default(),
            bounds: Vec::new(),
        }
    }

    fn push<'a, A>(&mut self, id_offset: i32, text_bytes: usize, row: SegmentRow<'a, A>)
    where
        A: Iterator<Item = (&'a str, &'a str)> + Clone,
    {
        self.micros.push(row.timestamp.as_micros());
        let nanos = row.timestamp.as_nanos().rem_euclid(1_000);
        self.nanos.push(u32::try_from(nanos).expect("below 1,000"));
        self.id_offsets.push(i64::from(id_offset));
        self.severities.push(u32::from(row.severity.number()));
        self.outputs.push(row.output as u32);
        self.messages.push(row.message);
        self.tokens.message(row.message);
        for (key, value) in row.attributes.clone() {
            self.tokens.attribute(key, value);
        }
        self.attributes.push(self.n_rows, row.attributes);
        self.n_rows += 1;
        self.text_bytes += text_bytes;
    }

    fn begin_stream(&mut self, stream: &Stream) {
        self.describe_rows();
        set_stream(&mut self.stream_columns, stream);
    }

    /// Rows not yet described are of the stream in hand.
    fn describe_rows(&mut self) {
        let n_rows = (self.n_rows - self.n_described) as usize;
        if n_rows > 0 {
            for column in &mut self.stream_columns {
                column.rows(n_rows);
            }
        }
        self.n_described = self.n_rows;
    }

    /// One page a column.
    fn encode(&mut self, packer: &mut Packer, chunks: &mut [ChunkBuffer]) -> io::Result<()> {
        let n_rows = self.n_rows as usize;
        self.describe_rows();
        for (idx, column) in self.stream_columns.iter_mut().enumerate() {
            column.encode(&mut packer.raw, idx == WORKLOAD);
            packer.page(&mut chunks[idx], thrift::RLE_DICTIONARY, n_rows)?;
        }
        encode::delta_binary_packed(&mut packer.raw, Width::Int64, &self.micros);
        packer.page(&mut chunks[TIMESTAMP], thrift::DELTA_BINARY_PACKED, n_rows)?;
        for (column, max, values) in [
            (TIMESTAMP_NS, 999, &self.nanos),
            (SEVERITY, MAX_SEVERITY, &self.severities),
            (OUTPUT, 1, &self.outputs),
        ] {
            let runs = encode::runs(values.iter().copied());
            encode::codes(&mut packer.raw, encode::width_of(max), &runs);
            packer.page(&mut chunks[column], thrift::RLE_DICTIONARY, n_rows)?;
        }
        encode::delta_binary_packed(&mut packer.raw, Width::Int32, &self.id_offsets);
        packer.page(&mut chunks[ID_OFFSET], thrift::DELTA_BINARY_PACKED, n_rows)?;
        self.messages.encode(&mut packer.raw);
        packer.page(
            &mut chunks[MESSAGE],
            thrift::DELTA_LENGTH_BYTE_ARRAY,
            n_rows,
        )?;
        let attributes = &mut self.attributes;
        attributes.rest.encode(&mut packer.raw, n_rows);
        packer.page(
            &mut chunks[ATTRIBUTES],
            thrift::DELTA_LENGTH_BYTE_ARRAY,
            n_rows,
        )?;
        put_levels(&mut packer.raw, &attributes.ordered_rows, n_rows);
        encode::delta_binary_packed(&mut packer.raw, Width::Int32, &attributes.orders);
        packer.page(
            &mut chunks[ATTRIBUTE_ORDER],
            thrift::DELTA_BINARY_PACKED,
            n_rows,
        )?;
        for (column, chunk) in attributes.columns.iter_mut().zip(&mut chunks[N_PLAIN..]) {
            column.encode(&mut packer.raw, n_rows);
            packer.page(chunk, thrift::DELTA_LENGTH_BYTE_ARRAY, n_rows)?;
        }
        self.bounds.push(Bounds {
            micros: bounds(&self.micros),
            severity: bounds(&self.severities),
        });
        Ok(())
    }

    fn clear(&mut self) {
        self.n_rows = 0;
        self.n_described = 0;
        self.text_bytes = 0;
        self.micros.clear();
        self.nanos.clear();
        self.id_offsets.clear();
        self.severities.clear();
        self.outputs.clear();
        self.attributes.ordered_rows.clear();
        self.attributes.orders.clear();
        self.tokens.clear();
    }

    /// Values of a column's dictionary, as `PLAIN` writes them, and how many.
    fn dictionary(&mut self, column: usize) -> Option<(Vec<u8>, usize)> {
        let identity = |n_values| Some((identity_dictionary(n_values), usize::from(n_values)));
        match column {
            TIMESTAMP_NS => identity(1_000),
            SEVERITY => identity(7),
            OUTPUT => identity(2),
            _ => self
                .stream_columns
                .get_mut(column)
                .map(StreamColumn::take_dictionary),
        }
    }

    /// Bounds that let other readers skip a row group.
    fn statistics(&self, column: usize) -> Option<Statistics> {
        match column {
            TIMESTAMP => {
                let (min, max) = join(self.bounds.iter().map(|bounds| bounds.micros))?;
                Some(Statistics::int64(
                    Some(min),
                    Some(max),
                    None,
                    Some(0),
                    false,
                ))
            }
            SEVERITY => {
                let (min, max) = join(self.bounds.iter().map(|bounds| bounds.severity))?;
                let (min, max) = (i32::try_from(min).ok()?, i32::try_from(max).ok()?);
                Some(Statistics::int32(
                    Some(min),
                    Some(max),
                    None,
                    Some(0),
                    false,
                ))
            }
            NAMESPACE => {
                let (min, max) = self.stream_columns[NAMESPACE].bounds()?;
                let value = |bytes: &[u8]| Some(ByteArray::from(bytes.to_vec()));
                Some(Statistics::byte_array(
                    value(min),
                    value(max),
                    None,
                    Some(0),
                    false,
                ))
            }
            _ => None,
        }
    }

    /// Bounds that let other readers skip a page.
    fn column_index(
        &self,
        column: usize,
    ) -> Result<Option<parquet::file::page_index::column_index::ColumnIndexMetaData>, ParquetError>
    {
        let (kind, bounds): (_, Vec<(Vec<u8>, Vec<u8>)>) = match column {
            TIMESTAMP => {
                let plain = |value: i64| value.to_le_bytes().to_vec();
                let bounds = self.bounds.iter().map(|bounds| bounds.micros);
                let bounds = bounds.map(|(min, max)| (plain(min), plain(max)));
                (Type::INT64, bounds.collect())
            }
            SEVERITY => {
                let plain = |value: u32| value.to_le_bytes().to_vec();
                let bounds = self.bounds.iter().map(|bounds| bounds.severity);
                let bounds = bounds.map(|(min, max)| (plain(min), plain(max)));
                (Type::INT32, bounds.collect())
            }
            _ => return Ok(None),
        };
        let mut builder = ColumnIndexBuilder::new(kind);
        builder.set_boundary_order(BoundaryOrder::UNORDERED);
        for (min, max) in bounds {
            builder.append(false, min, max, 0);
        }
        builder.build().map(Some)
    }
}

const MAX_SEVERITY: u32 = 6;

fn bounds<T: Ord + Copy + Default>(values: &[T]) -> (T, T) {
    let all = values.iter().copied();
    join(all.map(|value| (value, value))).unwrap_or_default()
}

fn join<T: Ord>(bounds: impl Iterator<Item = (T, T)>) -> Option<(T, T)> {
    bounds.reduce(|(min, max), (less, more)| (min.min(less), max.max(more)))
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

fn failed(path: &std::path::Path, error: ParquetError) -> Error {
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
