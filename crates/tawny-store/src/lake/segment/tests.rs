//! Segments written and read back, whole, cut and flipped.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use arrow_array::{
    Array, Int8Array, Int16Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    cast::AsArray,
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use tawny_model::{EntryId, Output, Severity, Stream, StreamId, Timestamp, Workload};

use super::{writer::Finished, *};
use crate::{
    Error,
    lake::{
        probe::{Probe, key_hash, pair_hash, word_hash},
        read_at::ReadAt,
        run::{AttributeColumns, Block, Columns, Run},
    },
};

/// A file in memory.
#[derive(Debug)]
pub(super) struct InMemory(pub(super) Bytes);

impl ReadAt for InMemory {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn len_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        Ok(ranges
            .iter()
            .map(|range| {
                let len_bytes = self.0.len();
                let start = usize::try_from(range.start).unwrap().min(len_bytes);
                let end = usize::try_from(range.end).unwrap().min(len_bytes);
                self.0.slice(start..end.max(start))
            })
            .collect())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) stream: Arc<Stream>,
    pub(super) timestamp: Timestamp,
    pub(super) id: EntryId,
    pub(super) severity: Severity,
    pub(super) output: Output,
    pub(super) message: String,
    pub(super) attributes: Vec<(String, String)>,
}

pub(super) fn stream(pod_uid: &str, restart: u32) -> Arc<Stream> {
    let id = StreamId {
        cluster: "c".into(),
        pod_uid: pod_uid.into(),
        container: "app".into(),
        restart,
    };
    Arc::new(Stream {
        node: "node-1".into(),
        image: "registry/shop:1.2".into(),
        workload: restart.is_multiple_of(2).then(|| Workload {
            kind: "Deployment".into(),
            name: pod_uid.into(),
        }),
        labels: BTreeMap::from([
            ("app".into(), "sh\"op".into()),
            ("tier".into(), pod_uid.into()),
        ]),
        ..Stream::new(id, format!("ns-{pod_uid}"), format!("pod-{pod_uid}"))
    })
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| {
        let key = |row: &Row| (row.stream.id.clone(), row.timestamp.as_micros(), row.id);
        key(a).cmp(&key(b))
    });
    rows
}

pub(super) fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

pub(super) fn write(rows: &[Row], attribute_columns: &[&str]) -> Finished<Vec<u8>> {
    let options = SegmentOptions {
        path: "memory".into(),
        zstd_level: 1,
        attribute_columns: keys(attribute_columns),
    };
    let mut writer = SegmentWriter::new(Vec::new(), options).unwrap();
    for row in rows {
        push(&mut writer, row).unwrap();
    }
    writer.finish().unwrap()
}

fn push(writer: &mut SegmentWriter<Vec<u8>>, row: &Row) -> Result<(), Error> {
    writer.push(
        &row.stream,
        SegmentRow {
            timestamp: row.timestamp,
            id: row.id,
            severity: row.severity,
            output: row.output,
            message: &row.message,
            attributes: row.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())),
        },
    )
}

pub(super) fn open(file: Vec<u8>) -> Result<Segment, Error> {
    let cache = Arc::new(BlockCache::new(64 << 20));
    Segment::open(Arc::new(InMemory(file.into())), cache)
}

/// Every row of a segment, through its blocks.
fn read_rows(segment: &Segment) -> Result<Vec<Row>, Error> {
    let index = segment.index()?;
    let n_blocks = segment.extent().n_rows.div_ceil(BLOCK_ROWS);
    let blocks: Vec<Block> = (0..n_blocks)
        .map(|block_idx| segment.block(block_idx, &Columns::ALL))
        .collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for entry in index.streams() {
        for row in entry.rows.clone() {
            let block = &blocks[(row / BLOCK_ROWS) as usize];
            let at = (row - block.first_row) as usize;
            rows.push(Row {
                stream: Arc::clone(&entry.stream),
                timestamp: block.times()[at],
                id: block.ids()[at],
                severity: block.severities.as_ref().unwrap()[at],
                output: block.outputs.as_ref().unwrap()[at],
                message: block.messages.as_ref().unwrap().value(at).to_owned(),
                attributes: (block.attributes.as_ref().unwrap().row(at).into_iter())
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            });
        }
    }
    Ok(rows)
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(i64::MIN),
        Just(i64::MAX),
        Just(0),
        any::<i64>(),
        1_700_000_000_000_000_000i64..1_700_000_100_000_000_000,
    ]
}

fn any_row() -> impl Strategy<Value = Row> {
    let attribute = (
        "[ab\"\\\\é]|status|trace_id|\u{0}",
        "[a-c]{0,2}|\\PC{0,4}|\u{0}\n",
    );
    (
        (0u32..3, 0u32..3),
        any_time(),
        prop_oneof![Just(7i32), any::<i32>()],
        0u8..7,
        any::<bool>(),
        "[a-d ]{0,8}|.{0,12}|\\PC{0,40}",
        proptest::collection::vec(attribute, 0..5),
    )
        .prop_map(
            |((pod, restart), nanos, id_offset, severity, is_stderr, message, attributes)| {
                let timestamp = Timestamp::from_nanos(nanos);
                let first = EntryId::first_at(timestamp).0;
                Row {
                    stream: stream(["p0", "p1", "p2"][pod as usize], restart),
                    timestamp,
                    id: EntryId(first.saturating_add(i64::from(id_offset))),
                    severity: Severity::from_number(severity).unwrap(),
                    output: if is_stderr {
                        Output::Stderr
                    } else {
                        Output::Stdout
                    },
                    message,
                    attributes,
                }
            },
        )
}

/// Rows made of their number, for many of them.
pub(super) fn plain_row(n: u32) -> Row {
    let timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000 + i64::from(n) * 1_234_567);
    Row {
        stream: stream("p", n / 20_000),
        timestamp,
        id: EntryId(EntryId::first_at(timestamp).0 + 9),
        severity: Severity::ALL[(n % 7) as usize],
        output: Output::Stdout,
        message: format!("request {n} to /api/v1/Orders took={}ms", n % 900),
        attributes: vec![
            ("status".to_owned(), (200 + n % 7).to_string()),
            (
                "trace_id".to_owned(),
                format!("{:016x}", u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            ),
        ],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rows_read_back_as_written(rows in proptest::collection::vec(any_row(), 1..60)) {
        let rows = sorted(rows);
        let finished = write(&rows, &["status", "b"]);
        prop_assert_eq!(finished.out.len() as u64, finished.n_bytes);
        let segment = open(finished.out).unwrap();
        prop_assert_eq!(segment.extent(), finished.extent);
        prop_assert_eq!(&*segment.index().unwrap(), &*finished.index);
        prop_assert_eq!(read_rows(&segment).unwrap(), rows);
    }

    #[test]
    fn the_index_counts_the_rows(rows in proptest::collection::vec(any_row(), 1..60)) {
        let rows = sorted(rows);
        let finished = write(&rows, &[]);
        let index = open(finished.out).unwrap().index().unwrap();
        let mut by_cell: BTreeMap<(StreamId, i64), [u64; 7]> = BTreeMap::new();
        for row in &rows {
            let minute = row.timestamp.as_nanos().div_euclid(60_000_000_000);
            by_cell.entry((row.stream.id.clone(), minute)).or_default()[usize::from(row.severity.number())] += 1;
        }
        let mut found = BTreeMap::new();
        for entry in index.streams() {
            let of_stream = &rows[entry.rows.start as usize..entry.rows.end as usize];
            prop_assert!(of_stream.iter().all(|row| row.stream == entry.stream));
            prop_assert_eq!(Some(entry.first), of_stream.iter().map(|row| row.timestamp).min());
            prop_assert_eq!(Some(entry.last), of_stream.iter().map(|row| row.timestamp).max());
            for cell in index.cells(entry) {
                let first = &rows[cell.first_row as usize];
                prop_assert_eq!(i64::from(cell.minute), first.timestamp.as_nanos().div_euclid(60_000_000_000));
                found.insert((entry.stream.id.clone(), i64::from(cell.minute)), cell.counts.map(u64::from));
            }
        }
        prop_assert_eq!(found, by_cell);
    }

    #[test]
    fn a_filter_never_denies_what_is_there(rows in proptest::collection::vec(any_row(), 1..60)) {
        let rows = sorted(rows);
        let segment = open(write(&rows, &["status"]).out).unwrap();
        for row in &rows {
            let words = tawny_query::index_text(&row.message);
            let mut hashes: Vec<u64> = words.split_whitespace().map(word_hash).collect();
            for (key, value) in &row.attributes {
                hashes.extend([key_hash(key), pair_hash(key, &tawny_query::fold(value))]);
            }
            let probe = Probe::all(hashes.into_iter().map(Probe::Token));
            prop_assert_eq!(segment.may_hold(&probe).unwrap(), [true]);
        }
    }
}

/// The file as any Parquet reader sees it.
fn foreign(file: &[u8]) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::copy_from_slice(file)).unwrap();
    reader
        .with_batch_size(1_000)
        .build()
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn column<'b, A: Array + 'static>(batch: &'b RecordBatch, name: &str) -> &'b A {
    let column = batch.column_by_name(name).unwrap();
    column.as_any().downcast_ref().unwrap()
}

fn expect_foreign(rows: &[Row], file: &[u8], attribute_columns: &[&str]) {
    let mut rows = rows.iter();
    for batch in foreign(file) {
        let text = |name: &str| {
            batch
                .column_by_name(name)
                .unwrap()
                .as_string::<i32>()
                .clone()
        };
        let names = [
            "cluster",
            "namespace",
            "pod",
            "pod_uid",
            "container",
            "node",
            "image",
            "workload",
            "labels",
        ];
        let texts: BTreeMap<&str, StringArray> =
            names.into_iter().map(|name| (name, text(name))).collect();
        for at in 0..batch.num_rows() {
            let row = rows.next().unwrap();
            let stream = &row.stream;
            let get = |name: &str| {
                texts[name]
                    .is_valid(at)
                    .then(|| texts[name].value(at).to_owned())
            };
            assert_eq!(get("cluster").as_deref(), Some(&*stream.id.cluster));
            assert_eq!(get("namespace").as_deref(), Some(&*stream.namespace));
            assert_eq!(get("pod").as_deref(), Some(&*stream.pod));
            assert_eq!(get("pod_uid").as_deref(), Some(&*stream.id.pod_uid));
            assert_eq!(get("container").as_deref(), Some(&*stream.id.container));
            assert_eq!(get("node").as_deref(), Some(&*stream.node));
            assert_eq!(get("image").as_deref(), Some(&*stream.image));
            assert_eq!(
                get("workload"),
                stream.workload.as_ref().map(ToString::to_string)
            );
            assert_eq!(
                get("labels"),
                Some(serde_json::to_string(&stream.labels).unwrap())
            );
            assert_eq!(
                column::<Int32Array>(&batch, "restart").value(at),
                stream.id.restart.cast_signed()
            );
            let micros = column::<TimestampMicrosecondArray>(&batch, "timestamp").value(at);
            assert_eq!(micros, row.timestamp.as_micros());
            let nanos = column::<Int16Array>(&batch, "timestamp_ns").value(at);
            assert_eq!(i64::from(nanos), row.timestamp.as_nanos().rem_euclid(1_000));
            let offset = column::<Int32Array>(&batch, "id_offset").value(at);
            assert_eq!(
                EntryId::first_at(row.timestamp).0 + i64::from(offset),
                row.id.0
            );
            let severity = column::<Int8Array>(&batch, "severity").value(at);
            assert_eq!(severity, row.severity.number().cast_signed());
            assert_eq!(
                column::<Int8Array>(&batch, "output").value(at),
                row.output as i8
            );
            assert_eq!(text("message").value(at), row.message);
            for key in attribute_columns {
                let values = text(&format!("attr_{key}"));
                let value = values.is_valid(at).then(|| values.value(at));
                let first = row.attributes.iter().find(|(name, _)| name == key);
                assert_eq!(value, first.map(|(_, value)| value.as_str()));
            }
        }
    }
    assert!(rows.next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn other_readers_see_the_rows(rows in proptest::collection::vec(any_row(), 1..60)) {
        let rows = sorted(rows);
        expect_foreign(&rows, &write(&rows, &["status", "b"]).out, &["status", "b"]);
    }
}

#[test]
fn row_groups_and_blocks_follow_each_other() {
    let rows: Vec<Row> = (0..GROUP_ROWS + 20_000).map(plain_row).collect();
    let finished = write(&rows, &["status"]);
    expect_foreign(&rows, &finished.out, &["status"]);
    let segment = open(finished.out).unwrap();
    assert_eq!(segment.root().unwrap().row_groups, [GROUP_ROWS, 20_000]);
    assert_eq!(read_rows(&segment).unwrap(), rows);
    let holds = |word: &str| segment.may_hold(&Probe::Token(word_hash(word))).unwrap();
    let needle = GROUP_ROWS + 5_000;
    let found = holds(&needle.to_string());
    assert!(found[(needle / BLOCK_ROWS) as usize]);
    assert!(found.iter().filter(|may| **may).count() < 4, "{found:?}");
    assert!(holds("orders").iter().all(|may| *may));
    let part = |text: &str| segment.may_hold(&Probe::Part(text.to_owned())).unwrap();
    assert!(part("quest 1").iter().all(|may| *may));
    assert!(part("xyzzy").iter().all(|may| !may));
    let found = part(&format!("t {needle} to"));
    assert!(found[(needle / BLOCK_ROWS) as usize]);
    assert!(found.iter().filter(|may| **may).count() < 4, "{found:?}");
}

#[test]
fn pages_are_blocks() {
    let rows: Vec<Row> = (0..3 * BLOCK_ROWS + 5).map(plain_row).collect();
    let file = Bytes::from(write(&rows, &["status"]).out);
    let options = parquet::file::metadata::PageIndexPolicy::Required;
    let metadata = parquet::file::metadata::ParquetMetaDataReader::new()
        .with_page_index_policy(options)
        .parse_and_finish(&file)
        .unwrap();
    for column in &metadata.offset_index().unwrap()[0] {
        let first_rows: Vec<i64> = column
            .page_locations()
            .iter()
            .map(|page| page.first_row_index)
            .collect();
        assert_eq!(first_rows, [0, 1, 2, 3].map(|n| n * i64::from(BLOCK_ROWS)));
    }
}

fn few_rows() -> Vec<Row> {
    let odd = |n: u32, message: &str, attributes: &[(&str, &str)]| Row {
        stream: stream("p", 5),
        message: message.to_owned(),
        attributes: attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..plain_row(100_000 + n)
    };
    let mut rows: Vec<Row> = (0..40).map(plain_row).collect();
    rows.push(odd(0, "\u{1b}[31mred\u{1b}[0m Größe 東京\0", &[]));
    rows.push(odd(
        1,
        "",
        &[("status", "1"), ("x", ""), ("status", "2"), ("x", "\n")],
    ));
    rows
}

/// What there is to ask of a segment, all of it.
fn ask(file: Vec<u8>) -> Result<(Vec<Row>, Vec<bool>), Error> {
    let segment = open(file)?;
    let rows = read_rows(&segment)?;
    let held = segment.may_hold(&Probe::all([
        Probe::Token(word_hash("orders")),
        Probe::Part("equest".to_owned()),
    ]))?;
    Ok((rows, held))
}

#[test]
fn a_flipped_byte_is_noticed_or_does_not_matter() {
    let file = write(&few_rows(), &["status"]).out;
    let whole = ask(file.clone()).unwrap();
    for at in 0..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 1 << (at % 8);
        match ask(flipped) {
            Ok(answer) => assert_eq!(answer, whole, "byte {at}"),
            Err(Error::Damaged { .. } | Error::Newer { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn a_flipped_byte_of_a_page_or_a_section_is_found_by_verification() {
    let file = write(&few_rows(), &["status"]).out;
    let segment = open(file.clone()).unwrap();
    let report = segment.verify().unwrap();
    assert_eq!((report.n_rows, report.n_blocks), (42, 1));
    let (root, layout) = (segment.root().unwrap(), segment.layout().unwrap());
    let chunks = layout.chunks[0].iter();
    let pages = chunks.flat_map(|chunk| chunk.dictionary.iter().chain(&chunk.pages));
    let ranges = pages
        .map(index::Page::range)
        .chain(root.sections.iter().map(index::Section::range));
    for at in ranges.flatten() {
        let mut flipped = file.clone();
        flipped[usize::try_from(at).unwrap()] ^= 0x10;
        let verified = open(flipped).and_then(|segment| segment.verify());
        assert!(
            matches!(verified, Err(Error::Damaged { .. })),
            "byte {at}: {verified:?}"
        );
    }
}

#[test]
fn verification_takes_any_footer() {
    let file = write(&few_rows(), &["status"]).out;
    let segment = open(file.clone()).unwrap();
    let report = segment.verify().unwrap();
    let sections = segment.root().unwrap().sections.clone();
    let end = sections.iter().map(|section| section.range().end).max();
    for at in usize::try_from(end.unwrap()).unwrap()..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 1 << (at % 8);
        match open(flipped).and_then(|segment| segment.verify()) {
            // Some of it matters to nobody.
            Ok(found) => assert_eq!(found, report, "byte {at}"),
            Err(Error::Damaged { .. } | Error::Newer { .. }) => {}
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn the_segment_of_format_1_reads() {
    let file = include_bytes!("../../../../../testdata/store/segment-v1/segment.parquet");
    let segment = open(file.to_vec()).unwrap();
    assert_eq!(read_rows(&segment).unwrap(), few_rows());
    segment.verify().unwrap();
    for probe in [
        Probe::Token(word_hash("größe")),
        Probe::Token(pair_hash("status", "206")),
        Probe::Token(key_hash("x")),
        Probe::Part("api/v1/order".to_owned()),
    ] {
        assert_eq!(segment.may_hold(&probe).unwrap(), [true]);
    }
    let nowhere = Probe::Part("xyzzy".to_owned());
    assert_eq!(segment.may_hold(&nowhere).unwrap(), [false]);
}

#[test]
#[ignore = "writes the file of a format when it is made"]
fn write_the_segment_of_format_1() {
    let directory = "../../testdata/store/segment-v1";
    std::fs::create_dir_all(directory).unwrap();
    let file = write(&few_rows(), &["status"]).out;
    std::fs::write(format!("{directory}/segment.parquet"), file).unwrap();
}

#[test]
fn a_file_cut_anywhere_is_damaged() {
    let file = write(&few_rows(), &["status"]).out;
    for len_bytes in 0..file.len() {
        let cut = ask(file[..len_bytes].to_vec());
        assert!(matches!(cut, Err(Error::Damaged { .. })), "{len_bytes}");
    }
}

#[test]
fn a_file_shorter_than_its_length_is_damaged() {
    #[derive(Debug)]
    struct Short(InMemory, u64);

    impl ReadAt for Short {
        fn place(&self) -> String {
            self.0.place()
        }

        fn len_bytes(&self) -> u64 {
            self.1
        }

        fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
            self.0.read(ranges)
        }
    }

    let file = write(&few_rows(), &[]).out;
    let len_bytes = file.len() as u64 + 10;
    let short = Short(InMemory(file.into()), len_bytes);
    let opened = Segment::open(Arc::new(short), Arc::new(BlockCache::new(1 << 20)));
    assert!(matches!(opened, Err(Error::Damaged { .. })));
}

#[test]
fn a_parquet_file_of_others_is_refused() {
    let batch = RecordBatch::try_from_iter([(
        "message",
        Arc::new(StringArray::from(vec!["hello"])) as Arc<dyn Array>,
    )])
    .unwrap();
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let error = open(file).unwrap_err().to_string();
    assert!(error.contains("without a Tawny index"), "{error}");
}

#[test]
fn rows_out_of_order_are_refused() {
    let options = SegmentOptions {
        path: "memory".into(),
        zstd_level: 1,
        attribute_columns: Vec::new(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), options.clone()).unwrap();
    push(&mut writer, &plain_row(30_000)).unwrap();
    for wrong in [plain_row(29_999), plain_row(3)] {
        assert!(matches!(
            push(&mut writer, &wrong),
            Err(Error::Invalid { .. })
        ));
    }
    let empty = SegmentWriter::new(Vec::new(), options).unwrap().finish();
    assert!(matches!(empty, Err(Error::Invalid { .. })));
}

#[test]
fn a_huge_message_reads_back_and_a_block_has_an_end() {
    let huge = Row {
        message: "x".repeat(16 << 20),
        ..plain_row(1)
    };
    let options = SegmentOptions {
        path: "memory".into(),
        zstd_level: 1,
        attribute_columns: Vec::new(),
    };
    let mut writer = SegmentWriter::new(Vec::new(), options).unwrap();
    assert!(writer.has_room_for(1 << 30), "a row alone always fits");
    push(&mut writer, &huge).unwrap();
    assert!(writer.has_room_for(200 << 20));
    assert!(!writer.has_room_for(250 << 20));
    let segment = open(writer.finish().unwrap().out).unwrap();
    assert_eq!(read_rows(&segment).unwrap(), [huge]);
}

#[test]
fn ever_new_keys_go_to_the_rest() {
    let rows: Vec<Row> = (0..BLOCK_ROWS + 10)
        .map(|n| Row {
            attributes: (0..100)
                .map(|of| (format!("key{}", n * 100 + of), String::new()))
                .collect(),
            ..plain_row(n)
        })
        .collect();
    let segment = open(write(&rows, &["status"]).out).unwrap();
    assert_eq!(
        segment.layout().unwrap().shapes.len(),
        2,
        "none, and a hundred of the rest"
    );
    assert_eq!(read_rows(&segment).unwrap(), rows);
}

#[test]
fn orders_without_end_are_kept_in_the_rest() {
    let names: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let rows: Vec<Row> = (0..3 * BLOCK_ROWS)
        .map(|n| {
            // Another order of the keys in each row.
            let mut left = names.clone();
            let mut code = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut attributes = Vec::new();
            while !left.is_empty() {
                let at = usize::try_from(code % left.len() as u64).unwrap();
                code /= left.len() as u64;
                attributes.push((left.remove(at), n.to_string()));
            }
            Row {
                attributes,
                ..plain_row(n)
            }
        })
        .collect();
    let columns: Vec<&str> = names.iter().map(String::as_str).collect();
    let segment = open(write(&rows, &columns).out).unwrap();
    let n_shapes = segment.layout().unwrap().shapes.len();
    assert!(n_shapes < rows.len() / 2, "{n_shapes}");
    assert_eq!(read_rows(&segment).unwrap(), rows);
    segment.verify().unwrap();
}

#[test]
fn a_hundred_thousand_streams_fit_an_index() {
    let rows: Vec<Row> = (0..100_000)
        .map(|n| Row {
            stream: stream(&format!("{n:06}"), n % 2),
            ..plain_row(n)
        })
        .collect();
    let finished = write(&rows, &[]);
    let segment = open(finished.out).unwrap();
    let index = segment.index().unwrap();
    assert_eq!(index.streams().len(), 100_000);
    assert_eq!(*index, *finished.index);
}

#[test]
fn columns_asked_for_are_the_only_ones_read() {
    #[derive(Debug)]
    struct Counted(InMemory, std::sync::Mutex<Vec<u64>>);

    impl ReadAt for Counted {
        fn place(&self) -> String {
            self.0.place()
        }

        fn len_bytes(&self) -> u64 {
            self.0.len_bytes()
        }

        fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
            let n_bytes = ranges.iter().map(|range| range.end - range.start).sum();
            self.1.lock().unwrap().push(n_bytes);
            self.0.read(ranges)
        }
    }

    let rows: Vec<Row> = (0..3 * BLOCK_ROWS).map(plain_row).collect();
    let finished = write(&rows, &["status"]);
    let file = Arc::new(Counted(InMemory(finished.out.into()), Default::default()));
    let cache = Arc::new(BlockCache::new(16 << 20));
    let segment = Segment::new(Arc::<Counted>::clone(&file), finished.extent, cache);
    assert!(file.1.lock().unwrap().is_empty(), "nothing is read yet");
    segment.index().unwrap();
    segment.block(1, &Columns::ORDER).unwrap();
    file.1.lock().unwrap().clear();
    let message = Columns {
        message: true,
        ..Columns::default()
    };
    for _ in 0..2 {
        let block = segment.block(1, &message).unwrap();
        assert_eq!(
            block.messages.unwrap().value(5),
            rows[BLOCK_ROWS as usize + 5].message
        );
        assert!(block.attributes.is_none());
        let keys = Columns {
            attributes: AttributeColumns::Some(keys(&["status"])),
            ..Columns::default()
        };
        let block = segment.block(1, &keys).unwrap();
        let found = block.attributes.unwrap();
        assert_eq!(
            found.get(5, "status"),
            Some(rows[BLOCK_ROWS as usize + 5].attributes[0].1.as_str())
        );
    }
    let layout = segment.layout().unwrap();
    let page = |column: usize| u64::from(layout.chunks[0][column].pages[1].len_bytes);
    assert_eq!(*file.1.lock().unwrap(), [page(MESSAGE), page(N_PLAIN)]);
}

#[test]
fn a_small_cache_answers_the_same() {
    let rows: Vec<Row> = (0..3 * BLOCK_ROWS).map(plain_row).collect();
    let file = write(&rows, &["status"]).out;
    for max_bytes in [0, 1_000, 300_000] {
        let cache = Arc::new(BlockCache::new(max_bytes));
        let file = Arc::new(InMemory(file.clone().into()));
        let segment = Segment::open(file, Arc::clone(&cache)).unwrap();
        assert_eq!(read_rows(&segment).unwrap(), rows);
        let probe = Probe::Token(word_hash("nowhere"));
        segment.may_hold(&probe).unwrap();
        assert!(cache.n_bytes() <= max_bytes);
        drop(segment);
        assert_eq!(cache.n_bytes(), 0, "what a segment cached goes with it");
    }
}
