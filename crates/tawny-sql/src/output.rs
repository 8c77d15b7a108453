//! The forms in which rows leave: JSON lines, CSV, an Arrow IPC stream; and a table for people.

use std::{str::FromStr, sync::Arc};

use arrow_array::{
    Array, ArrayRef, MapArray, RecordBatch, StringArray, builder::StringBuilder, cast::AsArray as _,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use datafusion::arrow::{
    buffer::Buffer,
    csv,
    ipc::{reader::StreamDecoder, writer::StreamWriter},
    json::{WriterBuilder as JsonBuilder, writer::LineDelimited},
    util::{
        display::{ArrayFormatter, DurationFormat, FormatOptions},
        pretty::pretty_format_batches_with_options,
    },
};

use crate::Error;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// An object a line; every column is in it, null or not.
    #[default]
    Json,
    /// With a line of names first.
    Csv,
    /// Arrow's IPC streaming format.
    Arrow,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::Arrow];

    /// As requests and flags say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
        }
    }

    /// The media type of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| format.name() == text).ok_or(())
    }
}

/// Writes batches of one schema, piece by piece.
pub struct Encoder(Inner);

enum Inner {
    Json,
    /// Whether the names are written.
    Csv(bool, SchemaRef),
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// # Errors
    /// `Retry`: a type that the format does not know.
    pub fn new(format: Format, schema: &SchemaRef) -> Result<Self, Error> {
        Ok(Self(match format {
            Format::Json => Inner::Json,
            Format::Csv => Inner::Csv(false, Arc::clone(schema)),
            Format::Arrow => {
                let writer = StreamWriter::try_new(Vec::new(), schema).map_err(failed)?;
                Inner::Arrow(Box::new(writer))
            }
        }))
    }

    /// The bytes of some rows, with what stands before the first of all.
    ///
    /// # Errors
    /// `Retry`: a type that the format does not know.
    pub fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        match &mut self.0 {
            Inner::Json => {
                let builder = JsonBuilder::new().with_explicit_nulls(true);
                let mut writer = builder.build::<_, LineDelimited>(Vec::new());
                writer
                    .write(batch)
                    .and_then(|()| writer.finish())
                    .map_err(failed)?;
                Ok(writer.into_inner())
            }
            Inner::Csv(has_names, _) => {
                let builder = csv::WriterBuilder::new().with_header(!*has_names);
                *has_names = true;
                let mut bytes = Vec::new();
                let mut writer = builder.build(&mut bytes);
                writer
                    .write(&flat(batch).map_err(failed)?)
                    .map_err(failed)?;
                drop(writer);
                Ok(bytes)
            }
            Inner::Arrow(writer) => {
                writer.write(batch).map_err(failed)?;
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }

    /// What stands behind the last row.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub fn finish(mut self) -> Result<Vec<u8>, Error> {
        // Without a row there are names all the same.
        let names = match &self.0 {
            Inner::Csv(false, schema) => Some(RecordBatch::new_empty(Arc::clone(schema))),
            _ => None,
        };
        if let Some(names) = names {
            return self.rows(&names);
        }
        match self.0 {
            Inner::Arrow(mut writer) => {
                writer.finish().map_err(failed)?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Inner::Json | Inner::Csv(..) => Ok(Vec::new()),
        }
    }
}

fn failed(error: ArrowError) -> Error {
    Error::Internal {
        reason: error.to_string(),
    }
}

/// The batch with what CSV has no form for as text: maps as JSON objects, the rest as Arrow shows it.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .map(|array| match array.data_type() {
            DataType::Map(..) if is_text_map(array.as_map()) => {
                Ok(Arc::new(as_json(array.as_map())) as ArrayRef)
            }
            kind if kind.is_nested() => Ok(Arc::new(as_shown(array)?) as ArrayRef),
            _ => Ok(Arc::clone(array)),
        })
        .collect::<Result<_, ArrowError>>()?;
    let schema = batch.schema();
    let fields = schema.fields().iter().zip(&columns);
    let fields: Vec<Field> = fields
        .map(|(field, array)| Field::new(field.name(), array.data_type().clone(), true))
        .collect();
    if columns.is_empty() {
        return Ok(batch.clone());
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn is_text_map(map: &MapArray) -> bool {
    *map.keys().data_type() == DataType::Utf8 && *map.values().data_type() == DataType::Utf8
}

fn as_json(map: &MapArray) -> StringArray {
    let mut texts = StringBuilder::new();
    for row in 0..map.len() {
        if map.is_null(row) {
            texts.append_null();
            continue;
        }
        let entries = map.value(row);
        let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
        let pairs = keys.iter().zip(values.as_string::<i32>());
        let object: serde_json::Map<String, serde_json::Value> = pairs
            .map(|(key, value)| (key.unwrap_or_default().to_owned(), value.into()))
            .collect();
        texts.append_value(serde_json::Value::Object(object).to_string());
    }
    texts.finish()
}

fn as_shown(array: &ArrayRef) -> Result<StringArray, ArrowError> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    (0..array.len())
        .map(|row| {
            if array.is_null(row) {
                Ok(None)
            } else {
                formatter.value(row).try_to_string().map(Some)
            }
        })
        .collect()
}

/// Reads what [`Format::Arrow`] wrote, as it comes.
#[derive(Debug, Default)]
pub struct ArrowReader(StreamDecoder);

impl ArrowReader {
    /// The batches that are complete with these bytes.
    ///
    /// # Errors
    /// `Retry`: the bytes are of another kind.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<RecordBatch>, Error> {
        let mut buffer = Buffer::from(bytes);
        let mut batches = Vec::new();
        while !buffer.is_empty() {
            batches.extend(self.0.decode(&mut buffer).map_err(failed)?);
        }
        Ok(batches)
    }

    /// The columns, once they have come.
    pub fn schema(&self) -> Option<SchemaRef> {
        self.0.schema()
    }
}

/// Rows as a table for people, with a line below each of its parts.
///
/// # Errors
/// `Retry`: a type that cannot be shown.
pub fn table(schema: SchemaRef, batches: &[RecordBatch]) -> Result<String, Error> {
    let options = FormatOptions::default().with_duration_format(DurationFormat::Pretty);
    let mut with_schema = vec![RecordBatch::new_empty(schema)];
    with_schema.extend_from_slice(batches);
    let table = pretty_format_batches_with_options(&with_schema, &options);
    Ok(table.map_err(failed)?.to_string())
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray};

    use super::*;

    fn batch() -> RecordBatch {
        let mut labels =
            arrow_array::builder::MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        labels.keys().append_value("app");
        labels.values().append_value("web \"x\"");
        labels.append(true).unwrap();
        labels.append(true).unwrap();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![Some(1), None]))),
            ("t", Arc::new(StringArray::from(vec!["a,b", "c"]))),
            ("labels", Arc::new(labels.finish())),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .unwrap()
    }

    fn encoded(format: Format, batches: &[RecordBatch]) -> Vec<u8> {
        let mut encoder = Encoder::new(format, &batch().schema()).unwrap();
        let mut bytes = Vec::new();
        for batch in batches {
            bytes.extend(encoder.rows(batch).unwrap());
        }
        bytes.extend(encoder.finish().unwrap());
        bytes
    }

    fn text(format: Format, batches: &[RecordBatch]) -> String {
        String::from_utf8(encoded(format, batches)).unwrap()
    }

    #[test]
    fn json_lines_name_every_column() {
        assert_eq!(
            text(Format::Json, &[batch()]),
            "{\"n\":1,\"t\":\"a,b\",\"labels\":{\"app\":\"web \\\"x\\\"\"}}\n\
             {\"n\":null,\"t\":\"c\",\"labels\":{}}\n"
        );
        assert_eq!(text(Format::Json, &[]), "");
    }

    #[test]
    fn csv_names_its_columns_once_and_writes_maps_as_json() {
        let rows = "1,\"a,b\",\"{\"\"app\"\":\"\"web \\\"\"x\\\"\"\"\"}\"\n,c,{}\n";
        assert_eq!(
            text(Format::Csv, &[batch(), batch()]),
            format!("n,t,labels\n{rows}{rows}")
        );
        assert_eq!(text(Format::Csv, &[]), "n,t,labels\n");
    }

    #[test]
    fn arrow_reads_back_in_pieces_of_any_size() {
        let bytes = encoded(Format::Arrow, &[batch(), batch()]);
        for size in [1, 7, bytes.len()] {
            let mut reader = ArrowReader::default();
            let pieces = bytes.chunks(size);
            let read: Vec<RecordBatch> = pieces
                .flat_map(|piece| reader.push(piece).unwrap())
                .collect();
            assert_eq!(read, [batch(), batch()]);
        }
        let mut reader = ArrowReader::default();
        assert!(
            reader
                .push(&encoded(Format::Arrow, &[]))
                .unwrap()
                .is_empty()
        );
        assert_eq!(reader.schema().unwrap(), batch().schema());
    }

    #[test]
    fn table_shows_names_without_rows() {
        let table = table(batch().schema(), &[]).unwrap();
        assert!(table.contains("labels"), "{table}");
    }
}
