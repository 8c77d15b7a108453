//! The block being written: rows by column, until they become pages.

use std::io;

use parquet::{
    basic::{BoundaryOrder, Type},
    data_type::ByteArray,
    errors::ParquetError,
    file::{
        metadata::ColumnIndexBuilder, page_index::column_index::ColumnIndexMetaData,
        statistics::Statistics,
    },
};
use tawny_model::Stream;

use super::{
    ATTRIBUTE_ORDER, ATTRIBUTES, ID_OFFSET, MESSAGE, N_PLAIN, N_STREAM, NAMESPACE, OUTPUT,
    SEVERITY, TIMESTAMP, TIMESTAMP_NS, WORKLOAD,
    attributes::AttributeRows,
    columns::{
        ChunkBuffer, Packer, StreamColumn, Texts, identity_dictionary, put_levels, set_stream,
    },
    encode::{self, Width},
    thrift,
    words::Tokens,
    writer::SegmentRow,
};
use crate::lake::run::BLOCK_ROWS;

const MAX_BLOCK_ROWS: usize = BLOCK_ROWS as usize;
const MAX_SEVERITY: u32 = 6;

/// The block in hand.
#[derive(Debug)]
pub(super) struct BlockRows {
    pub(super) n_rows: u32,
    pub(super) text_bytes: usize,
    stream_columns: [StreamColumn; N_STREAM],
    /// Rows the stream columns know of.
    n_described: u32,
    micros: Vec<i64>,
    nanos: Vec<u32>,
    id_offsets: Vec<i64>,
    severities: Vec<u32>,
    outputs: Vec<u32>,
    messages: Texts,
    pub(super) attributes: AttributeRows,
    pub(super) tokens: Tokens,
    /// Least and greatest time and severity of each block of the row group.
    bounds: Vec<Bounds>,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    micros: (i64, i64),
    severity: (u32, u32),
}

impl BlockRows {
    pub(super) fn new(attribute_columns: &[String]) -> Self {
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

    pub(super) fn push<'a, A>(&mut self, id_offset: i32, text_bytes: usize, row: SegmentRow<'a, A>)
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

    pub(super) fn begin_stream(&mut self, stream: &Stream) {
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
    pub(super) fn encode(
        &mut self,
        packer: &mut Packer,
        chunks: &mut [ChunkBuffer],
    ) -> io::Result<()> {
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

    pub(super) fn clear(&mut self) {
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

    /// Forgets the row group, whose statistics and dictionaries are taken.
    pub(super) fn end_row_group(&mut self) {
        self.bounds.clear();
    }

    /// Values of a column's dictionary, as `PLAIN` writes them, and how many.
    pub(super) fn dictionary(&mut self, column: usize) -> Option<(Vec<u8>, usize)> {
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
    pub(super) fn statistics(&self, column: usize) -> Option<Statistics> {
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
    pub(super) fn column_index(
        &self,
        column: usize,
    ) -> Result<Option<ColumnIndexMetaData>, ParquetError> {
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

fn bounds<T: Ord + Copy + Default>(values: &[T]) -> (T, T) {
    let all = values.iter().copied();
    join(all.map(|value| (value, value))).unwrap_or_default()
}

fn join<T: Ord>(bounds: impl Iterator<Item = (T, T)>) -> Option<(T, T)> {
    bounds.reduce(|(min, max), (less, more)| (min.min(less), max.max(more)))
}
