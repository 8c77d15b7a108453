//! Small stores made here, looked at from outside; then with one byte changed.

use std::{collections::BTreeSet, fs, sync::Mutex};

use arrow_array::{Array, RecordBatch, StringArray, cast::AsArray as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tawny_model::{ByteSize, Severity, Timestamp};
use tawny_query::Query;
use tawny_runtime::{ManualClock, Registry as Metrics};
use tempfile::TempDir;

use super::*;
use crate::{
    LakeConfig, LakeStore, LogStore as _,
    conformance::{Feed, Line, T0, filter, search_all, stream},
};

const HOUR_NS: i64 = 3_600_000_000_000;

/// A directory with a lake in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("lake")
    }

    async fn open(&self) -> LakeStore {
        let config = LakeConfig {
            memory: ByteSize::mib(64),
            ..LakeConfig::new(self.root())
        };
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(T0)));
        LakeStore::open(config, clock, &mut Metrics::default())
            .await
            .unwrap()
    }

    /// A store with three segments of two pods, and rows that only the log has; closed.
    async fn filled() -> Self {
        let place = Self::new();
        let store = place.open().await;
        let (mut api, mut web) = (Feed::new("api"), Feed::new("web"));
        for hour in 0..3i64 {
            let line = |n: i64| {
                let line = Line::at(
                    hour * HOUR_NS + n * 1_000_000,
                    format!("line {n} hour{hour}"),
                );
                match n % 100 {
                    0 => line.severity(Severity::Error).with("status", "500"),
                    _ => line.with("path", "/index"),
                }
            };
            api.write(&store, (0..10_000).map(line)).await;
            web.write(
                &store,
                (0..100).map(|n| Line::at(hour * HOUR_NS + n, "quiet")),
            )
            .await;
            flush(&store).await;
        }
        api.write(&store, [Line::at(3 * HOUR_NS, "in the log")])
            .await;
        place
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Path, Handle) -> T + Send + 'static,
    ) -> T {
        let (root, runtime) = (self.root(), Handle::current());
        tokio::task::spawn_blocking(move || look(&root, runtime))
            .await
            .unwrap()
    }

    async fn verify(&self) -> Verified {
        self.look(|root, runtime| LakeFiles::verify(root, runtime, |_, _| {}).unwrap())
            .await
    }

    async fn damage(&self) -> Vec<Finding> {
        self.verify().await.damage().cloned().collect()
    }

    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut waiting = vec![self.root()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path);
                } else if path.to_str().unwrap().ends_with(ending) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    async fn entries(&self, query: &'static str) -> Vec<LogEntry> {
        self.look(move |root, runtime| {
            let entries = LakeFiles::entries(root, runtime).unwrap();
            let mut found = Vec::new();
            entries
                .for_each::<Error>(
                    &filter(query),
                    |entry| {
                        found.push(entry);
                        Ok(())
                    },
                    |error, _| Err(error),
                    |_| {},
                )
                .unwrap();
            found
        })
        .await
    }
}

/// Makes segments of all rows in memory.
async fn flush(store: &LakeStore) {
    store.delete_older_than(Timestamp::MIN).await.unwrap();
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn summary_says_what_lies_where_beside_a_running_store_too() {
    let place = Place::filled().await;
    let running = place.open().await;
    let summary = place
        .look(|root, runtime| LakeFiles::open(root, runtime).unwrap().summary().unwrap())
        .await;
    let rows: Vec<_> = summary
        .segments
        .iter()
        .map(|s| (s.n_rows, s.n_streams))
        .collect();
    assert_eq!(rows, [(10_100, Some(2)); 3]);
    for (hour, segment) in (0..).zip(&summary.segments) {
        assert_eq!(segment.first, Timestamp::from_nanos(T0 + hour * HOUR_NS));
        let on_disk = fs::metadata(place.root().join("logs").join(&segment.path)).unwrap();
        assert_eq!(segment.n_bytes, on_disk.len());
    }
    assert_eq!(summary.n_streams, 2);
    assert_eq!(summary.attribute_columns, ["path"], "the other is rare");
    let records: Vec<_> = summary
        .log_files
        .iter()
        .map(|f| (f.n_records, f.is_open))
        .collect();
    assert_eq!(records, [(1, true)]);
    drop(running);

    let content = place
        .look(|root, runtime| {
            let files = LakeFiles::open(root, runtime).unwrap();
            let error = files.segment("part-0").unwrap_err();
            assert!(error.to_string().contains("several segments"), "{error}");
            assert!(files.segment("part-9").is_err() && files.segment("").is_err());
            files.segment("part-00000000000000000002").unwrap()
        })
        .await;
    assert_eq!((content.n_blocks, content.streams.len()), (2, 2));
    assert_eq!(
        (&*content.streams[0].pod, content.streams[0].n_rows),
        ("api", 10_000)
    );
    let parts = content.columns.iter().chain(&content.index);
    let n_bytes: u64 = parts.map(|part| part.n_bytes).sum();
    assert_eq!(n_bytes + content.footer_bytes, content.summary.n_bytes);
    let message = content
        .columns
        .iter()
        .find(|column| column.name == "message");
    assert!(message.unwrap().n_bytes > 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_says_which_blocks_are_opened_and_what_spares_the_others() {
    let place = Place::filled().await;
    place
        .look(|root, runtime| {
            let files = LakeFiles::open(root, runtime).unwrap();
            let all = filter("");
            let of_hour = |hour: i64, query: &str| Filter {
                query: Query::parse(query).unwrap(),
                from: Timestamp::from_nanos(T0 + hour * HOUR_NS),
                to: Timestamp::from_nanos(T0 + (hour + 1) * HOUR_NS),
            };
            // Two blocks a segment: the first is all of `api`, the second holds the rest of it and `web`.
            for (asked, opened, spared) in [
                (all, [2, 2, 2], (0, 0, 0, 0)),
                (of_hour(1, ""), [0, 2, 0], (4, 0, 0, 0)),
                (of_hour(9, ""), [0, 0, 0], (6, 0, 0, 0)),
                (filter("pod:web"), [1, 1, 1], (0, 3, 0, 0)),
                (filter("pod:nobody"), [0, 0, 0], (0, 6, 0, 0)),
                (of_hour(2, "pod:web level>=error"), [0, 0, 0], (4, 1, 1, 0)),
                (filter("hour1"), [0, 2, 0], (0, 0, 0, 4)),
                (filter("status:404"), [0, 0, 0], (0, 0, 0, 6)),
            ] {
                let plan = files.plan(&asked).unwrap();
                let found: Vec<_> = plan
                    .segments
                    .iter()
                    .map(|s| s.opened.blocks.len())
                    .collect();
                assert_eq!(found, opened, "{asked:?}");
                let mut sums = (0, 0, 0, 0);
                for Spared {
                    by_time,
                    by_stream,
                    by_severity,
                    by_filter,
                } in plan.segments.iter().map(|s| s.spared)
                {
                    sums.0 += by_time;
                    sums.1 += by_stream;
                    sums.2 += by_severity;
                    sums.3 += by_filter;
                }
                assert_eq!(sums, spared, "{asked:?}");
                assert!(plan.log_bytes > 0);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn export_has_what_a_search_finds_those_in_the_log_included() {
    let place = Place::filled().await;
    let running = place.open().await;
    for (query, n) in [
        ("level>=error", 300),
        ("pod:web", 300),
        ("log", 1),
        ("hour2 -status:500", 9_900),
    ] {
        let mut exported = place.entries(query).await;
        exported.sort_by_key(|entry| (entry.id, entry.stream.id.clone()));
        assert_eq!(exported.len(), n, "{query}");
        let mut found = search_all(&running, query).await;
        found.sort_by_key(|entry| (entry.id, entry.stream.id.clone()));
        assert!(exported == found, "{query}");
    }
    assert_eq!(place.entries("").await.len(), 30_301);
    // What only the log knows of a stream is shown on all its entries, as a search shows it.
    let mut described = (*stream("web")).clone();
    described.node = "node-a".into();
    let late = Line::at(4 * HOUR_NS, "late").entry(&Arc::new(described));
    running.append(vec![late]).await.unwrap();
    assert_eq!(place.entries("node:node-a").await.len(), 301);
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet_export_is_read_by_another_reader() {
    let place = Place::filled().await;
    let entries = place.entries("pod:api (status:500 OR log)").await;
    let mut export = ParquetExport::new(Vec::new()).unwrap();
    for entry in &entries {
        export.push(entry).unwrap();
    }
    let bytes = bytes::Bytes::from(export.finish().unwrap());
    let batches: Vec<RecordBatch> = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .unwrap()
        .build()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let schema = batches[0].schema();
    let mut row = 0;
    for batch in &batches {
        let text = |name: &str| {
            let column = batch.column(schema.index_of(name).unwrap());
            let plain = match column.as_any_dictionary_opt() {
                Some(words) => {
                    arrow_select::take::take(words.values(), words.keys(), None).unwrap()
                }
                None => Arc::clone(column),
            };
            plain
                .as_any()
                .downcast_ref::<StringArray>()
                .unwrap()
                .clone()
        };
        let times = batch.column_by_name("timestamp").unwrap();
        let times = times.as_primitive::<arrow_array::types::TimestampNanosecondType>();
        for at in 0..batch.num_rows() {
            let entry = &entries[row];
            assert_eq!(times.value(at), entry.timestamp.as_nanos());
            assert_eq!(text("message").value(at), entry.message);
            assert_eq!(text("severity").value(at), entry.severity.name());
            assert_eq!(text("pod").value(at), "api");
            if entry.attributes.is_empty() {
                assert!(text("attributes").is_null(at));
            } else {
                assert_eq!(text("attributes").value(at), "{\"status\":\"500\"}");
            }
            row += 1;
        }
    }
    assert_eq!((row, entries.len()), (301, 301));
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_store_is_found_whole_and_nothing_is_changed_by_looking() {
    let place = Place::filled().await;
    let listing = |place: &Place| -> Vec<(PathBuf, Vec<u8>)> {
        let files = place.files("").into_iter();
        files
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    };
    let before = listing(&place);
    let told = Arc::new(Mutex::new(Vec::new()));
    let progress = Arc::clone(&told);
    let verified = place
        .look(move |root, runtime| {
            LakeFiles::verify(root, runtime, |done, all| {
                progress.lock().unwrap().push((done, all));
            })
            .unwrap()
        })
        .await;
    assert_eq!(verified.findings, []);
    assert_eq!(
        (verified.n_segments, verified.n_rows, verified.n_records),
        (3, 30_300, 1)
    );
    let told = told.lock().unwrap();
    let (done, all) = *told.last().unwrap();
    assert!(
        done == all && all == verified.n_bytes && told.is_sorted(),
        "{told:?}"
    );
    assert!(listing(&place) == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_byte_is_named_with_its_file_wherever_it_is() {
    let place = Place::filled().await;
    let segment = place.files(".parquet").remove(1);
    let len = fs::read(&segment).unwrap().len();
    let name = format!(
        "logs/{}",
        segment
            .strip_prefix(place.root().join("logs"))
            .unwrap()
            .display()
    );
    // Parquet's footer has no checksum: what other readers find by it is checked, statistics and names of writers are not.
    let root = place.root();
    let file_name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let look = move |_: &Path, runtime| LakeFiles::open(&root, runtime)?.segment(&file_name);
    let content = place.look(look).await.unwrap();
    let data_bytes = len - usize::try_from(content.footer_bytes).unwrap();
    let mut columns = BTreeSet::new();
    for at in (4..len).step_by(len / 23).chain([len - 1]) {
        flip(&segment, at);
        let found = place.damage().await;
        let is_footer = (data_bytes..len - 8).contains(&at);
        assert!(!found.is_empty() || is_footer, "byte {at} of {len}");
        for finding in &found {
            assert_eq!(finding.path, name, "byte {at}");
            assert!(!finding.means.is_empty());
            let column = finding.place.split('`').nth(1);
            columns.extend(column.map(str::to_owned));
        }
        flip(&segment, at);
    }
    assert!(
        columns.contains("message") && columns.len() > 3,
        "{columns:?}"
    );

    let log = place.files(".wal").remove(0);
    for at in [9, 40, fs::read(&log).unwrap().len() - 3] {
        flip(&log, at);
        let verified = place.verify().await;
        // A last record that is damaged could be one that never was acknowledged.
        assert!(!verified.findings.is_empty(), "byte {at}");
        assert!(verified.findings[0].path.starts_with("wal"), "{verified:?}");
        flip(&log, at);
    }
    for (ending, offset, means) in [
        ("00001.json", 1, "does not open"),
        (".zst", 20, "does not open"),
    ] {
        let path = place.files(ending).remove(0);
        let at = fs::read(&path).unwrap().len() / 2 + offset;
        flip(&path, at);
        let found = place.damage().await;
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            found.iter().any(|f| f.path.ends_with(name)),
            "{ending}: {found:?}"
        );
        assert!(
            found.iter().any(|f| f.means.contains(means)),
            "{ending}: {found:?}"
        );
        flip(&path, at);
    }
    assert_eq!(place.damage().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_too_many_and_too_few_are_told_apart() {
    let place = Place::filled().await;
    let segments = place.files(".parquet");
    let orphan = segments[0].with_file_name("part-00000000000000000099-00000000000000ff.parquet");
    fs::copy(&segments[0], &orphan).unwrap();
    fs::write(place.root().join("logs/foreign.parquet"), "PAR1").unwrap();
    let found = place.verify().await;
    assert_eq!(found.damage().count(), 0);
    let notes: Vec<_> = found
        .findings
        .iter()
        .map(|f| f.path.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(
        notes,
        [
            orphan.file_name().unwrap().to_str().unwrap(),
            "foreign.parquet"
        ]
    );

    fs::remove_file(&segments[1]).unwrap();
    let cut = fs::read(&segments[2]).unwrap();
    fs::write(&segments[2], &cut[..cut.len() / 2]).unwrap();
    let commit = place.files("00000000000000000001.json").remove(0);
    fs::remove_file(commit).unwrap();
    let found = place.damage().await;
    assert!(
        found.iter().any(|f| f.path.ends_with("01.json")),
        "{found:?}"
    );
    assert!(
        found.iter().any(|f| f
            .path
            .contains(segments[2].file_name().unwrap().to_str().unwrap())),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_block_is_left_out_of_an_export_and_told() {
    let place = Place::filled().await;
    let page = place
        .look(|root, runtime| {
            let files = LakeFiles::open(root, runtime).unwrap();
            let content = files.segment("part-00000000000000000002").unwrap();
            content.summary.path
        })
        .await;
    // Until a page that an export needs is hit.
    let path = place.root().join("logs").join(page);
    let len = fs::read(&path).unwrap().len();
    let at = (0..len).step_by(97).skip(1);
    let mut n_hits = 0;
    for at in at {
        flip(&path, at);
        let (n_found, n_left_out) = place
            .look(|root, runtime| {
                let entries = LakeFiles::entries(root, runtime)?;
                let (mut n_found, mut n_left_out) = (0, 0);
                entries.for_each::<Error>(
                    &filter(""),
                    |_| {
                        n_found += 1;
                        Ok(())
                    },
                    |error, n_rows| {
                        assert!(matches!(error, Error::Damaged { .. }), "{error}");
                        n_left_out += n_rows;
                        Ok(())
                    },
                    |_| {},
                )?;
                Ok::<_, Error>((n_found, n_left_out))
            })
            .await
            .unwrap();
        assert_eq!(n_found + n_left_out, 30_301, "byte {at}");
        n_hits += u64::from(n_left_out > 0);
        flip(&path, at);
        if n_hits > 10 {
            return;
        }
    }
    panic!("pages were to be hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_lake_is_refused_and_left_alone() {
    let place = Place::new();
    let open = |place: &Place| {
        let look = |root: &Path, runtime| LakeFiles::open(root, runtime).map(drop);
        let (root, runtime) = (place.root(), Handle::current());
        tokio::task::spawn_blocking(move || look(&root, runtime))
    };
    let error = open(&place).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("nothing is there"), "{error}");
    fs::create_dir_all(place.root().join("logs")).unwrap();
    let error = open(&place).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error}");
    assert_eq!(fs::read_dir(place.root().join("logs")).unwrap().count(), 0);
}
