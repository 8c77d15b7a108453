//! Entries as one plain Parquet file that needs to know nothing of Tawny.

use std::{fmt, io::Write, path::PathBuf, sync::Arc};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        Int32Builder, Int64Builder, StringBuilder, StringDictionaryBuilder,
        TimestampNanosecondBuilder,
    },
    types::Int32Type,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use tawny_model::LogEntry;

use crate::Error;

/// Entries gathered before they are handed to the writer.
const BATCH_ROWS: usize = 8_192;

/// Text gathered before they are, however few they are.
const BATCH_BYTES: usize = 16 << 20;

/// Rows of a row group, which the writer holds in memory.
const GROUP_ROWS: usize = 262_144;

const ZSTD_LEVEL: i32 = 3;

/// Writes entries as Parquet: a row each, with `timestamp` to the nanosecond, `severity` and `output` as words, `labels`
/// and `attributes` as JSON objects of texts (of a repeated key of an attribute the last is seen by most readers).
pub struct ParquetExport<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
    rows: Rows,
}

impl<W: Write + Send> fmt::Debug for ParquetExport<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetExport").finish_non_exhaustive()
    }
}

type Words = StringDictionaryBuilder<Int32Type>;

/// The columns being filled, in the order of the schema.
#[derive(Default)]
struct Rows {
    n_rows: usize,
    text_bytes: usize,
    timestamps: TimestampNanosecondBuilder,
    severities: Words,
    names: [Words; 5],
    restarts: Int32Builder,
    descriptions: [Words; 4],
    outputs: Words,
    messages: StringBuilder,
    attributes: StringBuilder,
    ids: Int64Builder,
}

const NAMES: [&str; 5] = ["cluster", "namespace", "pod", "pod_uid", "container"];
const DESCRIPTIONS: [&str; 4] = ["node", "image", "workload", "labels"];

fn schema() -> Schema {
    let words = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let utc = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("timestamp", utc, false),
        Field::new("severity", words(), false),
    ];
    fields.extend(NAMES.map(|name| Field::new(name, words(), false)));
    fields.push(Field::new("restart", DataType::Int32, false));
    fields.extend(DESCRIPTIONS.map(|name| Field::new(name, words(), true)));
    fields.extend([
        Field::new("output", words(), false),
        Field::new("message", DataType::Utf8, false),
        Field::new("attributes", DataType::Utf8, true),
        Field::new("id", DataType::Int64, false),
    ]);
    Schema::new(fields)
}

impl<W: Write + Send> ParquetExport<W> {
    /// Begins the file.
    ///
    /// # Errors
    /// `Retry` when writing fails.
    pub fn new(out: W) -> Result<Self, Error> {
        let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("is a level of zstd");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let schema = Arc::new(schema());
        let writer =
            ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties)).map_err(failed)?;
        Ok(Self {
            writer,
            schema,
            rows: Rows::default(),
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// `Retry` when writing fails.
    pub fn push(&mut self, entry: &LogEntry) -> Result<(), Error> {
        self.rows.push(entry);
        if self.rows.n_rows >= BATCH_ROWS || self.rows.text_bytes >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        let mut rows = std::mem::take(&mut self.rows);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), rows.columns())
            .map_err(|error| failed(error.into()))?;
        self.writer.write(&batch).map_err(failed)
    }

    /// Ends the file and gives back what it was written to.
    ///
    /// # Errors
    /// `Retry` when writing fails.
    pub fn finish(mut self) -> Result<W, Error> {
        self.write()?;
        self.writer.into_inner().map_err(failed)
    }
}

impl Rows {
    fn push(&mut self, entry: &LogEntry) {
        let stream = &*entry.stream;
        self.n_rows += 1;
        self.timestamps.append_value(entry.timestamp.as_nanos());
        self.severities.append_value(entry.severity.name());
        let names = [
            &stream.id.cluster,
            &stream.namespace,
            &stream.pod,
            &stream.id.pod_uid,
            &stream.id.container,
        ];
        for (column, name) in self.names.iter_mut().zip(names) {
            column.append_value(name);
        }
        self.restarts
            .append_value(i32::try_from(stream.id.restart).unwrap_or(i32::MAX));
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let labels = (!stream.labels.is_empty())
            .then(|| serde_json::to_string(&stream.labels).expect("texts are JSON"));
        let descriptions = [
            known(&stream.node),
            known(&stream.image),
            stream.workload.as_ref().map(ToString::to_string),
            labels,
        ];
        for (column, text) in self.descriptions.iter_mut().zip(descriptions) {
            column.append_option(text);
        }
        self.outputs.append_value(entry.output.name());
        self.messages.append_value(&entry.message);
        let attributes = (!entry.attributes.is_empty()).then(|| object(&entry.attributes));
        self.text_bytes += entry.message.len() + attributes.as_ref().map_or(0, String::len);
        self.attributes.append_option(attributes);
        self.ids.append_value(entry.id.0);
    }

    fn columns(&mut self) -> Vec<ArrayRef> {
        let utc = std::mem::take(&mut self.timestamps).with_timezone("UTC");
        self.timestamps = utc;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.timestamps.finish()),
            Arc::new(self.severities.finish()),
        ];
        columns.extend(self.names.iter_mut().map(|c| Arc::new(c.finish()) as _));
        columns.push(Arc::new(self.restarts.finish()));
        columns.extend(
            self.descriptions
                .iter_mut()
                .map(|c| Arc::new(c.finish()) as _),
        );
        columns.extend([
            Arc::new(self.outputs.finish()) as ArrayRef,
            Arc::new(self.messages.finish()),
            Arc::new(self.attributes.finish()),
            Arc::new(self.ids.finish()),
        ]);
        columns
    }
}

/// A JSON object with keys in their order, repeated ones repeated.
fn object(attributes: &[(String, String)]) -> String {
    let text = |text: &String| serde_json::to_string(text).expect("a text is JSON");
    let members = attributes
        .iter()
        .map(|(key, value)| format!("{}:{}", text(key), text(value)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn failed(error: ParquetError) -> Error {
    Error::Io {
        path: PathBuf::from("the export"),
        doing: "write Parquet",
        source: Box::new(error),
    }
}
