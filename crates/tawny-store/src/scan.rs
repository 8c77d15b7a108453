//! Rows by column, for readers that compute over many of them: what they ask for, and how rows become columns.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use arrow_array::{
    ArrayRef, RecordBatch, RecordBatchOptions,
    builder::{
        BooleanBuilder, Int64Builder, MapBuilder, StringBuilder, StringViewBuilder,
        TimestampNanosecondBuilder,
    },
};
use arrow_schema::{DataType, Field as ArrowField, Fields, Schema, SchemaRef, TimeUnit};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tawny_model::{EntryId, EntryRef, LogEntry, Output, Severity, Stream, Timestamp};
use tawny_query::{Expr, Field, Record, strip_ansi};

use crate::{Error, Filter, LogStore, Order, SearchRequest};

/// Most rows of one batch.
pub const BATCH_ROWS: usize = 8_192;

/// Time zone of [`Column::Timestamp`].
const ZONE: &str = "UTC";

/// Batches of rows; see [`LogStore::scan`]. Dropping it ends the reading.
pub type Rows = BoxStream<'static, Result<RecordBatch, Error>>;

/// Which rows are read, what of them, and by how many readers.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    pub filter: Filter,
    /// Columns of each batch, in order; none asks only how many rows there are.
    pub columns: Vec<Column>,
    /// How many streams the rows are divided into, at least one. Some may be empty.
    pub n_parts: usize,
    /// What the reader has learnt meanwhile; rows it is not interested in may be left out.
    pub interest: Option<Arc<dyn Interest>>,
}

/// A reader that needs fewer rows the more it has seen, as one that looks for the newest does.
pub trait Interest: fmt::Debug + Send + Sync {
    /// Times that are still of interest, both inclusive; asked now and then while rows are read. They only narrow.
    fn times(&self) -> (Timestamp, Timestamp);
}

/// One column of a scan.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Column {
    /// Nanoseconds since the epoch, UTC.
    Timestamp,
    Id,
    /// [`tawny_model::Severity::number`].
    SeverityNumber,
    /// Without colour codes, as queries see it.
    Message,
    /// Of the pod, as a map.
    Labels,
    /// Of the entry, as a map; the first value where a key repeats.
    Attributes,
    /// The text of a field, null where it is absent; a number for [`Field::Restart`].
    Field(Field),
    /// Whether the entry matches.
    Matches(Arc<Expr>),
}

impl Column {
    /// Type of its array.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, Some(ZONE.into())),
            Self::Id | Self::SeverityNumber | Self::Field(Field::Restart) => DataType::Int64,
            Self::Message | Self::Field(_) => DataType::Utf8View,
            Self::Labels | Self::Attributes => map_type(),
            Self::Matches(_) => DataType::Boolean,
        }
    }

    /// Whether a row may have no value.
    pub fn is_nullable(&self) -> bool {
        match self {
            Self::Field(field) => {
                !matches!(field, Field::Restart | Field::Severity | Field::Output)
            }
            _ => false,
        }
    }
}

fn map_type() -> DataType {
    let entries = Fields::from(vec![
        ArrowField::new("keys", DataType::Utf8, false),
        ArrowField::new("values", DataType::Utf8, true),
    ]);
    let entries = ArrowField::new("entries", DataType::Struct(entries), false);
    DataType::Map(Arc::new(entries), false)
}

/// The schema of batches with these columns; names are numbers.
pub(crate) fn schema_of(columns: &[Column]) -> SchemaRef {
    let fields = columns.iter().enumerate().map(|(idx, column)| {
        ArrowField::new(idx.to_string(), column.data_type(), column.is_nullable())
    });
    Arc::new(Schema::new(fields.collect::<Fields>()))
}

/// A batch, which may have rows without having columns.
pub(crate) fn batch_of(schema: &SchemaRef, arrays: Vec<ArrayRef>, n_rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .expect("arrays of the types and lengths of their schema")
}

/// The value of a field that all rows of a stream share; `None` where it is absent, and for other fields.
pub(crate) fn value_of_stream<'s>(field: &Field, stream: &'s Stream) -> Option<Cow<'s, str>> {
    let known = |text: &'s str| (!text.is_empty()).then_some(Cow::Borrowed(text));
    match field {
        Field::Cluster => known(&stream.id.cluster),
        Field::Namespace => known(&stream.namespace),
        Field::Pod => known(&stream.pod),
        Field::PodUid => known(&stream.id.pod_uid),
        Field::Container => known(&stream.id.container),
        Field::Node => known(&stream.node),
        Field::Image => known(&stream.image),
        Field::Workload => stream
            .workload
            .as_ref()
            .map(|known| known.to_string().into()),
        Field::Restart => Some(stream.id.restart.to_string().into()),
        Field::Label(key) => stream
            .labels
            .get(key.as_str())
            .map(|value| (&**value).into()),
        _ => None,
    }
}

/// A row that is not in columns yet.
pub(crate) trait Row: Record {
    fn id(&self) -> EntryId;
    fn attributes(&self) -> impl Iterator<Item = (&str, &str)>;
}

impl Row for LogEntry {
    fn id(&self) -> EntryId {
        self.id
    }

    fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attributes
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// A row in memory.
pub(crate) struct HotRow<'r> {
    pub(crate) entry: EntryRef<'r>,
    pub(crate) id: EntryId,
    pub(crate) stream: &'r Stream,
}

impl Record for HotRow<'_> {
    fn message(&self) -> &str {
        self.entry.message()
    }

    fn timestamp(&self) -> Timestamp {
        self.entry.timestamp()
    }

    fn severity(&self) -> Severity {
        self.entry.severity()
    }

    fn output(&self) -> Output {
        self.entry.output()
    }

    fn stream(&self) -> &Stream {
        self.stream
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        self.entry.attribute(key)
    }
}

impl Row for HotRow<'_> {
    fn id(&self) -> EntryId {
        self.id
    }

    fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entry.attributes()
    }
}

type Maps = MapBuilder<StringBuilder, StringBuilder>;

/// Turns rows into columns, one by one.
pub(crate) struct RowBuilder<'c> {
    columns: &'c [Column],
    builders: Vec<Builder>,
    n_rows: usize,
}

enum Builder {
    Time(TimestampNanosecondBuilder),
    Number(Int64Builder),
    Text(StringViewBuilder),
    Map(Box<Maps>),
    Flag(BooleanBuilder),
}

impl<'c> RowBuilder<'c> {
    pub(crate) fn new(columns: &'c [Column]) -> Self {
        let builders = columns.iter().map(|column| match column.data_type() {
            DataType::Timestamp(..) => {
                Builder::Time(TimestampNanosecondBuilder::new().with_timezone(ZONE))
            }
            DataType::Int64 => Builder::Number(Int64Builder::new()),
            DataType::Boolean => Builder::Flag(BooleanBuilder::new()),
            DataType::Map(..) => Builder::Map(Box::new(maps())),
            _ => Builder::Text(StringViewBuilder::new()),
        });
        Self {
            columns,
            builders: builders.collect(),
            n_rows: 0,
        }
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(crate) fn push(&mut self, row: &impl Row) {
        self.n_rows += 1;
        for (column, builder) in self.columns.iter().zip(&mut self.builders) {
            match (column, builder) {
                (Column::Timestamp, Builder::Time(times)) => {
                    times.append_value(row.timestamp().as_nanos());
                }
                (Column::Id, Builder::Number(numbers)) => numbers.append_value(row.id().0),
                (Column::SeverityNumber, Builder::Number(numbers)) => {
                    numbers.append_value(row.severity().number().into());
                }
                (Column::Field(_), Builder::Number(numbers)) => {
                    numbers.append_value(row.stream().id.restart.into());
                }
                (Column::Message, Builder::Text(texts)) => {
                    texts.append_value(strip_ansi(row.message()));
                }
                (Column::Field(field), Builder::Text(texts)) => match field {
                    Field::Severity => texts.append_value(row.severity().name()),
                    Field::Output => texts.append_value(row.output().name()),
                    Field::Attribute(key) => texts.append_option(row.attribute(key)),
                    field => texts.append_option(value_of_stream(field, row.stream())),
                },
                (Column::Labels, Builder::Map(maps)) => {
                    let labels = row.stream().labels.iter();
                    put_map(maps, labels.map(|(key, value)| (&**key, &**value)));
                }
                (Column::Attributes, Builder::Map(maps)) => put_map(maps, row.attributes()),
                (Column::Matches(expr), Builder::Flag(flags)) => {
                    flags.append_value(expr.matches(row));
                }
                _ => unreachable!("builders are made for their columns"),
            }
        }
    }

    pub(crate) fn finish(self, schema: &SchemaRef) -> RecordBatch {
        let arrays = self.builders.into_iter().map(|builder| -> ArrayRef {
            match builder {
                Builder::Time(mut times) => Arc::new(times.finish()),
                Builder::Number(mut numbers) => Arc::new(numbers.finish()),
                Builder::Text(mut texts) => Arc::new(texts.finish()),
                Builder::Map(mut maps) => Arc::new(maps.finish()),
                Builder::Flag(mut flags) => Arc::new(flags.finish()),
            }
        });
        batch_of(schema, arrays.collect(), self.n_rows)
    }
}

pub(crate) fn maps() -> Maps {
    MapBuilder::new(None, StringBuilder::new(), StringBuilder::new())
}

/// Appends a row's pairs; of a key that repeats the first.
pub(crate) fn put_map<'p>(maps: &mut Maps, pairs: impl Iterator<Item = (&'p str, &'p str)>) {
    let mut seen: Vec<&str> = Vec::new();
    for (key, value) in pairs {
        if !seen.contains(&key) {
            seen.push(key);
            maps.keys().append_value(key);
            maps.values().append_value(value);
        }
    }
    maps.append(true)
        .expect("as many keys as values were appended");
}

/// A scan by pages of a search, newest first: for engines whose rows are not in columns.
pub(crate) fn by_pages<S: LogStore + ?Sized>(store: Arc<S>, request: ScanRequest) -> Vec<Rows> {
    let n_parts = request.n_parts.max(1);
    let ScanRequest {
        filter,
        columns,
        n_parts: _,
        interest,
    } = request;
    let schema = schema_of(&columns);
    let search = SearchRequest {
        filter,
        order: Order::NewestFirst,
        limit: BATCH_ROWS,
        after: None,
        before: None,
    };
    let pages = stream::try_unfold(Some(search), move |search| {
        let (store, columns, schema) = (Arc::clone(&store), columns.clone(), Arc::clone(&schema));
        let interest = interest.clone();
        async move {
            let Some(mut search) = search else {
                return Ok(None);
            };
            if let Some(interest) = interest {
                let (first, last) = interest.times();
                let filter = &mut search.filter;
                filter.from = filter.from.max(first);
                filter.to = filter.to.min(last.saturating_add(Duration::from_nanos(1)));
            }
            let page = store.search(&search).await?;
            let mut rows = RowBuilder::new(&columns);
            for entry in &page.entries {
                rows.push(entry);
            }
            search.before = page.entries.last().map(|entry| entry.id);
            Ok(Some((
                rows.finish(&schema),
                page.has_more.then_some(search),
            )))
        }
    });
    let empty = (1..n_parts).map(|_| stream::empty().boxed());
    std::iter::once(pages.boxed()).chain(empty).collect()
}
