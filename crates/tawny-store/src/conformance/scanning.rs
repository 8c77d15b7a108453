//! Rows by column are the rows a search lists.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch, StructArray, cast::AsArray as _, types};
use arrow_schema::DataType;
use futures::TryStreamExt as _;
use tawny_model::LogEntry;
use tawny_query::{Expr, Field, Query, strip_ansi, testing};

use super::{
    Feed, Line, Place, T0, filter,
    random::{draw, runner},
    search_all, times,
};
use crate::{Column, Filter, LogStore, Order, ScanRequest, SearchRequest, scan::BATCH_ROWS};

/// Cells of a row as text, `None` where there is no value.
type Cells = Vec<Option<String>>;

async fn scan(store: &Arc<dyn LogStore>, request: ScanRequest) -> Vec<RecordBatch> {
    let n_parts = request.n_parts;
    let parts = Arc::clone(store).scan(request).await.expect("scan works");
    assert_eq!(parts.len(), n_parts);
    let mut batches = Vec::new();
    for part in parts {
        batches.extend(part.try_collect::<Vec<_>>().await.expect("reading works"));
    }
    assert!(batches.iter().all(|batch| batch.num_rows() <= BATCH_ROWS));
    batches
}

fn cells(batch: &RecordBatch, row: usize) -> Cells {
    let cell = |array: &Arc<dyn Array>| {
        array.is_valid(row).then(|| match array.data_type() {
            DataType::Timestamp(..) => {
                let times = array.as_primitive::<types::TimestampNanosecondType>();
                times.value(row).to_string()
            }
            DataType::Int64 => array
                .as_primitive::<types::Int64Type>()
                .value(row)
                .to_string(),
            DataType::Boolean => array.as_boolean().value(row).to_string(),
            DataType::Utf8View => array.as_string_view().value(row).to_owned(),
            DataType::Map(..) => pairs(&array.as_map().value(row)),
            other => unreachable!("no column is of type {other}"),
        })
    };
    batch.columns().iter().map(cell).collect()
}

fn pairs(entries: &StructArray) -> String {
    let (keys, values) = (
        entries.column(0).as_string::<i32>(),
        entries.column(1).as_string::<i32>(),
    );
    let pairs: Vec<_> = keys.iter().zip(values).collect();
    format!("{pairs:?}")
}

fn expected_cells(entry: &LogEntry, columns: &[Column]) -> Cells {
    let cell = |column: &Column| {
        let stream = &entry.stream;
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        match column {
            Column::Timestamp => Some(entry.timestamp.as_nanos().to_string()),
            Column::Id => Some(entry.id.0.to_string()),
            Column::SeverityNumber => Some(entry.severity.number().to_string()),
            Column::Message => Some(strip_ansi(&entry.message).into_owned()),
            Column::Labels => {
                let labels = stream.labels.iter();
                let labels: Vec<_> = labels
                    .map(|(key, value)| (Some(key), Some(value)))
                    .collect();
                Some(format!("{labels:?}"))
            }
            Column::Attributes => {
                let mut seen: Vec<(Option<&str>, Option<&str>)> = Vec::new();
                for (key, value) in &entry.attributes {
                    if !seen.iter().any(|(known, _)| *known == Some(key)) {
                        seen.push((Some(key), Some(value)));
                    }
                }
                Some(format!("{seen:?}"))
            }
            Column::Matches(expr) => Some(expr.matches(entry).to_string()),
            Column::Field(field) => match field {
                Field::Cluster => known(&stream.id.cluster),
                Field::Namespace => known(&stream.namespace),
                Field::Pod => known(&stream.pod),
                Field::Workload => stream.workload.as_ref().map(ToString::to_string),
                Field::Restart => Some(stream.id.restart.to_string()),
                Field::Severity => Some(entry.severity.name().to_owned()),
                Field::Output => Some(entry.output.name().to_owned()),
                Field::Label(key) => stream.labels.get(key.as_str()).map(ToString::to_string),
                Field::Attribute(key) => entry.attribute(key).map(str::to_owned),
                other => unreachable!("{other:?} is not asked for"),
            },
        }
    };
    columns.iter().map(cell).collect()
}

fn all_columns(expr: &Expr) -> Vec<Column> {
    let fields = [
        Field::Cluster,
        Field::Namespace,
        Field::Pod,
        Field::Workload,
        Field::Restart,
        Field::Severity,
        Field::Output,
        Field::Label("app".into()),
        Field::Attribute("status".into()),
        Field::Attribute("no such".into()),
    ];
    [
        Column::Timestamp,
        Column::Id,
        Column::SeverityNumber,
        Column::Message,
        Column::Labels,
        Column::Attributes,
        Column::Matches(Arc::new(expr.clone())),
    ]
    .into_iter()
    .chain(fields.map(Column::Field))
    .collect()
}

/// Random queries over random entries: a scan gives each row a search lists, once, whatever columns are asked for.
pub async fn scan_gives_what_search_lists(place: &impl Place) {
    const SEED: u8 = 17;
    let mut runner = runner(SEED);
    let store = place.open().await;
    let strategy = proptest::collection::vec(testing::entry(), 150);
    for _ in 0..2 {
        store.append(draw(&mut runner, &strategy)).await.unwrap();
    }
    let all = search_all(&*store, "").await;
    let middle = all[all.len() / 2].timestamp;
    let mut n_rows = 0;
    for case in 0..150 {
        let query = draw(&mut runner, &testing::query());
        let context = format!("seed {SEED}, case {case}: `{query}`");
        let mut filter = Filter {
            query,
            ..filter("")
        };
        match case % 3 {
            0 => filter.from = middle,
            1 => filter.to = middle,
            _ => {}
        }
        let columns = all_columns(draw(&mut runner, &testing::query()).expr());
        // Few columns, so that what the filter needs is not there by chance.
        let skip = case % columns.len();
        let columns: Vec<Column> = columns
            .into_iter()
            .skip(skip)
            .step_by(1 + case % 4)
            .collect();
        let search = SearchRequest {
            filter: filter.clone(),
            order: Order::OldestFirst,
            limit: crate::MAX_LIMIT,
            after: None,
            before: None,
        };
        let listed = store.search(&search).await.expect(&context).entries;
        let mut expected: Vec<Cells> = listed
            .iter()
            .map(|entry| expected_cells(entry, &columns))
            .collect();
        let request = ScanRequest {
            filter,
            columns,
            n_parts: 1 + case % 3,
            interest: None,
        };
        let batches = scan(&store, request).await;
        let mut found: Vec<Cells> = batches
            .iter()
            .flat_map(|batch| (0..batch.num_rows()).map(|row| cells(batch, row)))
            .collect();
        n_rows += found.len();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{context}");
    }
    assert!(n_rows > 1_000, "the queries hit something: {n_rows}");
}

/// A scan of no columns says how many rows there are, over more rows than a batch holds.
pub async fn scan_without_columns_counts_rows(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    for part in 0..3 {
        let lines = (0..7_000).map(|n| Line::at((part * 7_000 + n) * 1_000, format!("line {n}")));
        feed.write(&*store, lines).await;
    }
    let request = |query: &str| ScanRequest {
        filter: filter(query),
        columns: Vec::new(),
        n_parts: 2,
        interest: None,
    };
    let count = async |query: &str| {
        let batches = scan(&store, request(query)).await;
        batches.iter().map(RecordBatch::num_rows).sum::<usize>()
    };
    assert_eq!(count("").await, 21_000);
    assert_eq!(count("77").await, 3);
    assert_eq!(count("pod:nobody").await, 0);
}

/// What was written before the scan is in it, though other rows are in segments; times are exact.
pub async fn scan_sees_what_was_just_written(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    for n in 0..20 {
        feed.write(&*store, [Line::at(n, format!("line {n}"))])
            .await;
        let request = ScanRequest {
            filter: Filter {
                query: Query::all(),
                from: tawny_model::Timestamp::from_nanos(T0),
                to: tawny_model::Timestamp::from_nanos(T0 + n + 1),
            },
            columns: vec![Column::Timestamp],
            n_parts: 1,
            interest: None,
        };
        let batches = scan(&store, request).await;
        let found: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(found, times(&search_all(&*store, "").await).len());
    }
}
