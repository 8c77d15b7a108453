//! Makes a table with all that a log can hold, for `tests/readers/run`, where other programs read it.

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{
    ArrayRef, Int8Array, Int16Array, Int32Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use serde_json::json;
use tawny_model::{EntryId, Timestamp};

use super::*;

const DAY: Duration = Duration::from_hours(24);
const ROWS: u32 = 1_000;

/// One row of four has an attribute `status`, in a column of its own once the table has one.
fn columns(first: Timestamp, with_status: bool) -> Vec<(&'static str, ArrayRef)> {
    let text = |of: &dyn Fn(u32) -> Option<String>| -> ArrayRef {
        Arc::new((0..ROWS).map(of).collect::<StringArray>())
    };
    let time = |row: u32| first.saturating_add(Duration::from_nanos(1_000_001 * u64::from(row)));
    let micros = (0..ROWS).map(|row| Some(time(row).as_micros()));
    let nanos = (0..ROWS).map(|row| i16::try_from(time(row).as_nanos().rem_euclid(1_000)).unwrap());
    let status = |row: u32| row.is_multiple_of(4).then(|| (200 + row % 3).to_string());
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("cluster", text(&|_| Some("prod".to_owned()))),
        (
            "namespace",
            text(&|row| Some(format!("team-{}", row / 250))),
        ),
        ("pod", text(&|row| Some(format!("api-{}", row / 250)))),
        ("pod_uid", text(&|row| Some(format!("uid-{}", row / 250)))),
        ("container", text(&|_| Some("main".to_owned()))),
        (
            "restart",
            Arc::new(Int32Array::from(vec![3; ROWS as usize])),
        ),
        ("node", text(&|_| None)),
        ("image", text(&|_| None)),
        ("workload", text(&|_| None)),
        ("labels", text(&|_| Some(r#"{"app":"web"}"#.to_owned()))),
        (
            "timestamp",
            Arc::new(
                micros
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
        ),
        ("timestamp_ns", Arc::new(nanos.collect::<Int16Array>())),
        (
            "id_offset",
            Arc::new(Int32Array::from(vec![0; ROWS as usize])),
        ),
        (
            "severity",
            Arc::new(
                (0..ROWS)
                    .map(|row| i8::try_from(row % 7).unwrap())
                    .collect::<Int8Array>(),
            ),
        ),
        ("output", Arc::new(Int8Array::from(vec![1; ROWS as usize]))),
        (
            "message",
            text(&|row| Some(format!("größe {row} of the line"))),
        ),
        (
            "attributes",
            text(&|row| {
                status(row)
                    .filter(|_| !with_status)
                    .map(|s| json!({"status": s}).to_string())
            }),
        ),
        (
            "attribute_order",
            Arc::new(Int32Array::from(vec![0; ROWS as usize])),
        ),
    ];
    if with_status {
        columns.push(("attr_http.status", text(&status)));
    }
    columns
}

fn write(catalog: &Catalog, first: Timestamp, with_status: bool) -> SegmentFile {
    let batch = RecordBatch::try_from_iter(columns(first, with_status)).unwrap();
    let path = catalog.new_path(Day::of(first));
    let mut upload = catalog.storage().upload(path.as_str()).unwrap();
    let mut writer = ArrowWriter::try_new(&mut upload, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let last = first.saturating_add(Duration::from_nanos(1_000_001 * u64::from(ROWS - 1)));
    SegmentFile {
        path,
        len_bytes: upload.finish().unwrap(),
        extent: Extent {
            n_rows: ROWS,
            first,
            last,
            min_id: EntryId::first_at(first),
            max_id: EntryId::first_at(last),
        },
        tier: 0,
    }
}

/// Flushes, a new column, a merge, a removal; checkpoints in the middle and commits after the last.
fn make_table(root: &Path) -> serde_json::Value {
    let bed = Bed::new();
    let storage = Storage::in_directory(root, bed.runtime.handle().clone()).unwrap();
    let (catalog, _) = Catalog::open(storage, bed.shared_clock()).unwrap();
    let begin = time("2026-11-19T23:00:00.000000999Z");
    let at = |n: u64| {
        begin.saturating_add(DAY * u32::try_from(n / 20).unwrap() + Duration::from_secs(n))
    };
    let mut live = Vec::new();
    for applied in 1..=60 {
        let with_status = applied > 30;
        let segment = write(&catalog, at(applied), with_status);
        live.push(segment.clone());
        committed(
            catalog.commit(&Change {
                add: vec![segment],
                applied: Some(applied),
                new_attributes: with_status
                    .then(|| "http.status".to_owned())
                    .into_iter()
                    .collect(),
                data_change: true,
                ..Change::default()
            }),
        );
        if catalog.checkpoint_due() {
            catalog.checkpoint().unwrap();
        }
    }
    // The rows of the first two, written anew as one segment would be; here as two of them.
    let again = [write(&catalog, at(1), true), write(&catalog, at(2), true)];
    committed(
        catalog.commit(&Change {
            add: again.to_vec(),
            remove: live
                .iter()
                .take(2)
                .map(|segment| segment.path.clone())
                .collect(),
            ..Change::default()
        }),
    );
    let gone = live.pop().unwrap();
    committed(catalog.commit(&Change {
        remove: vec![gone.path],
        data_change: true,
        ..Change::default()
    }));
    let n_live = live.len() as u64;
    let last = live.last().unwrap();
    json!({
        "rows": n_live * u64::from(ROWS),
        "files": n_live,
        "days": 3,
        "first": Timestamp::from_micros(at(1).as_micros()).to_string(),
        "last": Timestamp::from_micros(last.extent.last.as_micros()).to_string(),
        // Rows with the attribute: every fourth of the segments written since it has a column.
        "with_status": (31..=59).chain(1..=2).count() as u64 * u64::from(ROWS) / 4,
        "fatal": n_live * (0..ROWS).filter(|row| row % 7 == 6).count() as u64,
        "team_1": n_live * 250,
        "message": "größe 999 of the line",
        "rows_with_that_message": n_live,
    })
}

#[test]
#[ignore = "tests/readers/run reads what it makes"]
#[expect(
    clippy::disallowed_methods,
    reason = "the script says where the table shall be"
)]
fn a_table_for_other_readers() {
    let root = std::env::var("TAWNY_READERS_TABLE").expect("names a directory");
    let root = Path::new(&root);
    let expected = make_table(&root.join("logs"));
    serde_json::to_writer(File::create(root.join("expected.json")).unwrap(), &expected).unwrap();
}
