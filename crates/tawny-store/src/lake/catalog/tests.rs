mod readers;

use std::{io, sync::atomic::AtomicUsize, time::Duration};

use proptest::prelude::*;
use tawny_model::{EntryId, Remedy, Timestamp};
use tawny_runtime::{Clock as _, ManualClock};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::lake::{files::FaultPoints, run::Extent};

const HOUR: Duration = Duration::from_hours(1);

/// A table in a directory of its own.
struct Bed {
    directory: TempDir,
    runtime: Runtime,
    clock: Arc<ManualClock>,
}

impl Bed {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            clock: Arc::new(ManualClock::new(time("2026-11-21T10:00:00Z"))),
        }
    }

    fn storage(&self) -> Storage {
        Storage::in_directory(self.directory.path(), self.runtime.handle().clone()).unwrap()
    }

    fn open(&self) -> Catalog {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<Catalog, Error> {
        Catalog::open(self.storage(), self.shared_clock()).map(|(catalog, _)| catalog)
    }

    fn shared_clock(&self) -> SharedClock {
        Arc::<ManualClock>::clone(&self.clock)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.path(path)).unwrap()
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.path(path), bytes).unwrap();
    }
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text.as_bytes()).unwrap()
}

/// Writes a segment file, which the catalog never looks into.
fn segment(catalog: &Catalog, number: u64) -> SegmentFile {
    let first = time("2026-11-21T09:00:00.123456789Z");
    let path = catalog.new_path(Day::of(first));
    let bytes = format!("segment {number}");
    catalog
        .storage()
        .put(path.as_str(), bytes.clone().into())
        .unwrap();
    SegmentFile {
        path,
        len_bytes: bytes.len() as u64,
        extent: Extent {
            n_rows: 10,
            first,
            last: first.saturating_add(Duration::from_nanos(number * 1_000 + 1)),
            min_id: EntryId::first_at(first),
            max_id: EntryId(EntryId::first_at(first).0 + 5_000_000),
        },
        tier: 0,
    }
}

fn flush(catalog: &Catalog, applied: u64) -> SegmentFile {
    let added = segment(catalog, applied);
    let change = Change {
        add: vec![added.clone()],
        applied: Some(applied),
        data_change: true,
        ..Change::default()
    };
    committed(catalog.commit(&change));
    added
}

fn committed(outcome: Result<Outcome, Error>) -> Arc<State> {
    match outcome.unwrap() {
        Outcome::Committed(state) => state,
        Outcome::Stale { gone, .. } => panic!("stale: {gone:?}"),
    }
}

fn merge(catalog: &Catalog, of: &[SegmentFile]) -> Change {
    Change {
        add: vec![segment(catalog, 99)],
        remove: of.iter().map(|segment| segment.path.clone()).collect(),
        ..Change::default()
    }
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let bed = Bed::new();
    let catalog = bed.open();
    let first = flush(&catalog, 7);
    let second = flush(&catalog, 9);
    committed(catalog.commit(&merge(&catalog, &[first, second.clone()])));
    let change = Change {
        new_attributes: vec!["status".to_owned(), "http.method".to_owned()],
        ..Change::default()
    };
    let state = committed(catalog.commit(&change));
    assert_eq!(state.applied, Some(9));
    assert_eq!(state.segments.len(), 1);
    assert!(state.attributes.contains("http.method"));

    let again = bed.open();
    assert_eq!(*again.state(), *state);
    again.checkpoint().unwrap();
    assert_eq!(*bed.open().state(), *state);
    let next = again.new_path(Day::of(bed.clock.now()));
    assert!(next.number() > second.path.number());
}

#[test]
fn commits_go_on_across_checkpoints() {
    let bed = Bed::new();
    let catalog = bed.open();
    for applied in 1..=120 {
        flush(&catalog, applied);
        if catalog.checkpoint_due() {
            catalog.checkpoint().unwrap();
        }
    }
    assert_eq!(bed.open().state(), catalog.state());
    let listing = log::Listing::new(&catalog.storage().list(log::DIRECTORY).unwrap());
    assert_eq!(listing.checkpoint.unwrap().0, 100);
}

#[test]
fn another_tawny_on_the_same_table_makes_this_one_stand_down() {
    let bed = Bed::new();
    let (one, other) = (bed.open(), bed.open());
    flush(&one, 5);
    let change = Change {
        add: vec![segment(&other, 1)],
        applied: Some(6),
        ..Change::default()
    };
    let error = other.commit(&change).unwrap_err();
    assert_eq!(error.remedy(), Remedy::StandDown, "{error}");
    assert_eq!(bed.open().state(), one.state());
}

#[test]
fn cleaning_notices_another_tawny_too() {
    let bed = Bed::new();
    let (one, other) = (bed.open(), bed.open());
    flush(&one, 5);
    assert_eq!(other.clean(HOUR).unwrap_err().remedy(), Remedy::StandDown);
    let change = Change {
        add: vec![segment(&other, 1)],
        applied: Some(6),
        ..Change::default()
    };
    assert_eq!(
        other.commit(&change).unwrap_err().remedy(),
        Remedy::StandDown
    );
}

#[test]
fn a_table_in_a_bucket_is_the_same() {
    let bed = Bed::new();
    let bucket: Arc<dyn object_store::ObjectStore> =
        Arc::new(object_store::memory::InMemory::new());
    let open = || {
        let handle = bed.runtime.handle().clone();
        let storage = Storage::in_objects(Arc::clone(&bucket), "memory://", handle);
        Catalog::open(storage, bed.shared_clock()).unwrap().0
    };
    let catalog = open();
    let first = flush(&catalog, 1);
    catalog.checkpoint().unwrap();
    flush(&catalog, 2);
    committed(catalog.commit(&merge(&catalog, &[first])));
    assert_eq!(open().state(), catalog.state());

    let other = open();
    flush(&catalog, 3);
    let change = Change {
        add: vec![segment(&other, 1)],
        applied: Some(3),
        ..Change::default()
    };
    assert_eq!(
        other.commit(&change).unwrap_err().remedy(),
        Remedy::StandDown
    );
    bed.clock.set(time("2100-01-01T00:00:00Z"));
    assert_eq!(catalog.clean(HOUR).unwrap().segments, 2);
    assert_eq!(open().state().segments, catalog.state().segments);
}

#[test]
fn a_runtime_of_one_thread_and_its_blocking_threads_are_enough() {
    let bed = Bed::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (root, clock) = (bed.directory.path().to_owned(), bed.shared_clock());
    let handle = runtime.handle().clone();
    let work = runtime.spawn_blocking(move || {
        let storage = Storage::in_directory(&root, handle).unwrap();
        let (catalog, _) = Catalog::open(storage, clock).unwrap();
        flush(&catalog, 1);
        catalog.checkpoint().unwrap();
        catalog.clean(HOUR).unwrap();
        catalog.state()
    });
    let state = runtime.block_on(work).unwrap();
    assert_eq!(bed.open().state(), state);
}

#[test]
fn an_applied_record_never_goes_back() {
    let bed = Bed::new();
    let catalog = bed.open();
    flush(&catalog, 5);
    let change = Change {
        add: vec![segment(&catalog, 1)],
        applied: Some(5),
        ..Change::default()
    };
    assert_eq!(
        catalog.commit(&change).unwrap_err().remedy(),
        Remedy::StandDown
    );
}

#[test]
fn a_commit_follows_what_another_writer_committed() {
    let bed = Bed::new();
    let catalog = bed.open();
    let first = flush(&catalog, 1);
    append_as_another(&bed, 2, "date=2026-11-21/theirs.parquet");
    flush(&catalog, 2);
    let state = catalog.state();
    assert_eq!(state.version, 3);
    assert_eq!(state.segments.len(), 2);
    assert_eq!(state.foreign.len(), 1);
    assert_eq!(bed.open().state(), state);

    let other = bed.open();
    let gone = Change {
        remove: vec![first.path.clone()],
        ..Change::default()
    };
    committed(other.commit(&gone));
    match catalog.commit(&merge(&catalog, std::slice::from_ref(&first))) {
        Ok(Outcome::Stale { gone, .. }) => assert_eq!(gone, [first.path]),
        other => panic!("{other:?}"),
    }
    // Removing what is removed is no conflict.
    assert_eq!(committed(catalog.commit(&gone)).version, 4);
}

/// A blind append of a tool that knows nothing of Tawny.
fn append_as_another(bed: &Bed, version: u64, path: &str) {
    let commit = format!(
        r#"{{"add":{{"path":"{path}","partitionValues":{{"date":"2026-11-21"}},"size":3,"modificationTime":1,"dataChange":true}}}}
{{"commitInfo":{{"timestamp":1,"operation":"WRITE"}}}}"#
    );
    bed.write(&log::commit_path(version), commit.as_bytes());
}

#[test]
fn a_commit_whose_answer_was_lost_is_found() {
    let bed = Bed::new();
    let storage = bed.storage().with_faults(Arc::new(FailOnce {
        step: "after put_new",
        n_passed: AtomicUsize::new(0),
        at: 1,
    }));
    let (catalog, _) = Catalog::open(storage, bed.shared_clock()).unwrap();
    let change = Change {
        add: vec![segment(&catalog, 1)],
        applied: Some(1),
        ..Change::default()
    };
    let state = committed(catalog.commit(&change));
    assert_eq!(state.applied, Some(1));
    assert_eq!(*bed.open().state(), *state);
}

#[derive(Debug)]
struct FailOnce {
    step: &'static str,
    n_passed: AtomicUsize,
    at: usize,
}

impl FaultPoints for FailOnce {
    fn reach(&self, step: &'static str, _path: &str) -> io::Result<()> {
        if step == self.step && self.n_passed.fetch_add(1, Ordering::Relaxed) == self.at {
            return Err(io::Error::other("fault"));
        }
        Ok(())
    }
}

/// The process dies at a point: nothing after it happens.
#[derive(Debug)]
struct DieAt {
    n_passed: AtomicUsize,
    at: usize,
}

impl FaultPoints for DieAt {
    fn reach(&self, _step: &'static str, _path: &str) -> io::Result<()> {
        if self.n_passed.fetch_add(1, Ordering::Relaxed) >= self.at {
            return Err(io::Error::other("dead"));
        }
        Ok(())
    }
}

#[test]
fn a_crash_at_any_step_leaves_a_table_with_whole_commits() {
    let mut n_points = 0;
    for at in 0.. {
        let bed = Bed::new();
        let faults = Arc::new(DieAt {
            n_passed: AtomicUsize::new(0),
            at,
        });
        let storage = bed.storage().with_faults(Arc::<DieAt>::clone(&faults));
        let (acked, done) = live_until_death(&bed, storage);
        let state = bed.open().state();
        let applied = state.applied.unwrap_or(0);
        // Each flush adds one segment; the merge made one of two.
        assert!(applied == acked || applied == acked + 1, "at {at}");
        let n_segments = state.segments.len() as u64;
        assert!(
            n_segments == applied || (applied >= 2 && n_segments == applied - 1),
            "at {at}: {n_segments} segments, applied {applied}"
        );
        let catalog = bed.open();
        flush(&catalog, applied + 1);
        catalog.checkpoint().unwrap();
        assert_eq!(bed.open().state(), catalog.state(), "at {at}");
        if done {
            n_points = at;
            break;
        }
    }
    assert!(n_points > 20, "{n_points}");
}

/// Gives the last WAL record whose commit was acknowledged, and whether the end was reached.
fn live_until_death(bed: &Bed, storage: Storage) -> (u64, bool) {
    let mut acked = 0;
    let live = || -> Result<(), Error> {
        let (catalog, _) = Catalog::open(storage, bed.shared_clock())?;
        let mut segments = Vec::new();
        for applied in 1..=3 {
            let path = catalog.new_path(Day::of(bed.clock.now()));
            catalog
                .storage()
                .put(path.as_str(), bytes::Bytes::from_static(b"rows"))?;
            let mut added = template();
            added.path = path;
            segments.push(added.clone());
            committed_or(catalog.commit(&Change {
                add: vec![added],
                applied: Some(applied),
                data_change: true,
                ..Change::default()
            }))?;
            acked = applied;
            if applied == 2 {
                catalog.checkpoint()?;
            }
        }
        let mut merged = template();
        merged.path = catalog.new_path(Day::of(bed.clock.now()));
        committed_or(catalog.commit(&Change {
            add: vec![merged],
            remove: segments.drain(..2).map(|segment| segment.path).collect(),
            ..Change::default()
        }))?;
        catalog.checkpoint()?;
        bed.clock.set(time("2030-01-01T00:00:00Z"));
        catalog.clean(HOUR)?;
        Ok(())
    };
    let done = live().is_ok();
    (acked, done)
}

fn committed_or(outcome: Result<Outcome, Error>) -> Result<(), Error> {
    outcome.map(|outcome| assert!(matches!(outcome, Outcome::Committed(_))))
}

fn template() -> SegmentFile {
    let at = time("2026-11-21T09:00:00Z");
    SegmentFile {
        path: SegmentPath::new(Day::of(at), 0, 0),
        len_bytes: 4,
        extent: Extent {
            n_rows: 1,
            first: at,
            last: at,
            min_id: EntryId::first_at(at),
            max_id: EntryId::first_at(at),
        },
        tier: 0,
    }
}

/// Whatever happens to a file of the log, opening finds the same table or says which file is damaged.
fn assert_never_smaller(bed: &Bed, expected: &State, file: &str, what: &str) {
    match bed.try_open() {
        Ok(catalog) => assert_eq!(*catalog.state(), *expected, "{what}"),
        Err(Error::Damaged { path, .. }) => {
            let named = path.display().to_string();
            assert!(named.ends_with(file), "{what}: names {named}");
        }
        Err(error) => panic!("{what}: {error:?}"),
    }
}

fn damage_everywhere(bed: &Bed, expected: &State, file: &str, step: usize) {
    let whole = bed.read(file);
    let hint = std::fs::read(bed.path(log::HINT)).ok();
    for at in (0..whole.len()).step_by(step) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        bed.write(file, &flipped);
        assert_never_smaller(bed, expected, file, &format!("{file}: byte {at} flipped"));
        bed.write(file, whole.get(..at).unwrap());
        assert_never_smaller(bed, expected, file, &format!("{file}: cut at {at}"));
        if let Some(hint) = &hint {
            bed.write(log::HINT, hint);
        }
    }
    bed.write(file, &whole);
}

fn damaged_bed() -> (Bed, Arc<State>) {
    let bed = Bed::new();
    let catalog = bed.open();
    for applied in 1..=3 {
        flush(&catalog, applied);
    }
    let state = catalog.state();
    (bed, state)
}

#[test]
fn a_damaged_commit_is_named_and_never_makes_the_table_smaller() {
    let (bed, state) = damaged_bed();
    damage_everywhere(&bed, &state, &log::commit_path(0), 41);
    damage_everywhere(&bed, &state, &log::commit_path(2), 13);
    damage_everywhere(&bed, &state, &log::commit_path(3), 13);
    std::fs::remove_file(bed.path(&log::commit_path(1))).unwrap();
    assert_never_smaller(&bed, &state, &log::commit_path(1), "commit gone");
    assert!(bed.try_open().is_err());
}

#[test]
fn a_damaged_checkpoint_is_named_and_never_makes_the_table_smaller() {
    let (bed, _) = damaged_bed();
    let catalog = bed.open();
    catalog.checkpoint().unwrap();
    let checkpoint = "_delta_log/00000000000000000003.checkpoint.parquet";
    damage_everywhere(&bed, &catalog.state(), checkpoint, 97);
    flush(&catalog, 4);
    damage_everywhere(&bed, &catalog.state(), checkpoint, 211);
}

#[test]
fn a_damaged_hint_to_the_checkpoint_is_no_loss() {
    let (bed, _) = damaged_bed();
    let catalog = bed.open();
    catalog.checkpoint().unwrap();
    flush(&catalog, 4);
    let whole = bed.read(log::HINT);
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        for bytes in [&flipped, &whole.get(..at).unwrap().to_vec()] {
            bed.write(log::HINT, bytes);
            assert_eq!(bed.open().state(), catalog.state(), "byte {at}");
        }
    }
}

#[test]
fn a_table_that_lost_its_log_is_not_taken_for_a_new_one() {
    let (bed, _) = damaged_bed();
    std::fs::remove_dir_all(bed.path(log::DIRECTORY)).unwrap();
    let error = bed.try_open().unwrap_err();
    assert_eq!(error.remedy(), Remedy::Quarantine, "{error}");
}

#[test]
fn a_table_of_another_program_is_refused() {
    let bed = Bed::new();
    std::fs::create_dir(bed.path(log::DIRECTORY)).unwrap();
    let commit = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"a","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"x\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}","partitionColumns":[],"configuration":{},"createdTime":1}}
"#;
    bed.write(&log::commit_path(0), commit.as_bytes());
    let error = bed.try_open().unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error}");
}

#[test]
fn cleaning_deletes_only_our_files_and_only_after_the_grace() {
    let bed = Bed::new();
    let catalog = bed.open();
    let (first, second) = (flush(&catalog, 1), flush(&catalog, 2));
    let written = segment(&catalog, 3);
    let orphan = SegmentPath::new(first.path.day(), 3, 1);
    bed.write(orphan.as_str(), b"of a crash");
    bed.write("date=2026-11-21/theirs.parquet", b"foreign");
    bed.write(".staging/17-3", b"half");

    // The files' times are the machine's, so the clock of the test begins there.
    let newest = catalog.storage().list("").unwrap();
    let now = newest.iter().map(|file| file.modified).max().unwrap();
    bed.clock.set(now.saturating_add(HOUR * 2));
    committed(catalog.commit(&Change {
        remove: vec![first.path.clone()],
        ..Change::default()
    }));
    let cleaned = catalog.clean(HOUR).unwrap();
    assert_eq!((cleaned.segments, cleaned.unfinished), (1, 1));
    assert!(!bed.path(orphan.as_str()).exists());
    assert!(bed.path(first.path.as_str()).exists());

    bed.clock.set(now.saturating_add(HOUR * 4));
    assert_eq!(bed.open().clean(HOUR).unwrap().segments, 2);
    assert!(!bed.path(first.path.as_str()).exists());
    assert!(bed.path(second.path.as_str()).exists());
    assert!(!bed.path(written.path.as_str()).exists());
    assert!(bed.path("date=2026-11-21/theirs.parquet").exists());
}

#[test]
fn old_log_entries_go_once_a_checkpoint_covers_them() {
    let bed = Bed::new();
    let catalog = bed.open();
    for applied in 1..=5 {
        flush(&catalog, applied);
    }
    catalog.checkpoint().unwrap();
    flush(&catalog, 6);
    assert_eq!(catalog.clean(HOUR).unwrap().log_files, 0);
    bed.clock.set(time("2100-01-01T00:00:00Z"));
    assert_eq!(catalog.clean(HOUR).unwrap().log_files, 5);
    let mut state = (*catalog.state()).clone();
    state.removed.clear();
    assert_eq!(*bed.open().state(), state);
}

#[test]
fn attributes_whose_columns_readers_would_mix_up_get_none() {
    let bed = Bed::new();
    let catalog = bed.open();
    let add = |key: &str| {
        catalog.commit(&Change {
            new_attributes: vec![key.to_owned()],
            ..Change::default()
        })
    };
    committed(add("userId"));
    committed(add("userId"));
    assert_eq!(catalog.state().version, 1);
    for key in ["userid", "", "a b", "a;b", "größe"] {
        assert!(!catalog.state().may_add_attribute(key), "{key}");
        assert_eq!(add(key).unwrap_err().remedy(), Remedy::Reject, "{key}");
    }
    assert_eq!(schema::attribute_key("attr_userId"), Some("userId"));
}

#[test]
fn paths_read_back_and_foreign_names_do_not() {
    for at in [
        Timestamp::MIN,
        time("1969-12-31T23:59:59.9Z"),
        time("2026-11-21T00:00:00Z"),
        Timestamp::MAX,
    ] {
        let path = SegmentPath::new(Day::of(at), u64::MAX, 0xabc);
        assert_eq!(SegmentPath::parse(path.as_str()), Some(path.clone()));
        assert_eq!(path.day(), Day::of(at));
        assert!(path.as_str().starts_with(&format!("date={}", Day::of(at))));
    }
    assert_eq!(
        SegmentPath::new(Day::of(time("2026-11-21T23:59:59Z")), 12, 255).as_str(),
        "date=2026-11-21/part-00000000000000000012-00000000000000ff.parquet"
    );
    for name in [
        "",
        "date=2026-11-21/part-0-0.parquet",
        "date=2026-02-30/part-00000000000000000012-00000000000000ff.parquet",
        "date=2026-11-21/part-00000000000000000012-00000000000000FF.parquet",
        "date=2026-11-21/part-00000000000000000012-00000000000000ff.parquet.tmp",
        "a/date=2026-11-21/part-00000000000000000012-00000000000000ff.parquet",
        "date=2026-11-21/part-00000-3f2b-c000.snappy.parquet",
    ] {
        assert_eq!(SegmentPath::parse(name), None, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever happens between, a table opened anew is the table that was left.
    #[test]
    fn opening_gives_what_was_left(steps in proptest::collection::vec((0u8..6, any::<u64>()), 1..16)) {
        let bed = Bed::new();
        let (mut catalog, mut expected) = (bed.open(), BTreeSet::new());
        for (applied, (step, at)) in (1..).zip(steps) {
            let picked = expected.iter().nth(usize::try_from(at % 8).unwrap()).cloned();
            match (step, picked) {
                (0, _) => catalog.checkpoint().unwrap(),
                (1, _) => catalog = bed.open(),
                (2, Some(path)) => {
                    let change = Change { remove: vec![path], data_change: true, ..Change::default() };
                    committed(catalog.commit(&change));
                    expected.remove(&change.remove[0]);
                }
                (3, Some(path)) => {
                    let add = vec![segment(&catalog, at % 1_000)];
                    expected.insert(add[0].path.clone());
                    expected.remove(&path);
                    committed(catalog.commit(&Change { add, remove: vec![path], ..Change::default() }));
                }
                (4, _) => {
                    let key = format!("key-{}", at % 4);
                    committed(catalog.commit(&Change { new_attributes: vec![key], ..Change::default() }));
                }
                _ => {
                    expected.insert(flush(&catalog, applied).path);
                }
            }
            prop_assert!(catalog.state().segments.keys().eq(&expected));
        }
        prop_assert_eq!(bed.open().state(), catalog.state());
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80), text in ".{0,60}") {
        let _checked = log::check_commit(&bytes.clone().into());
        let _hinted = log::hinted_version(&bytes);
        if let Some(path) = SegmentPath::parse(&text) {
            prop_assert_eq!(path.as_str(), text);
        }
    }
}

#[test]
#[ignore = "measures; run it with --release"]
#[expect(clippy::print_stderr, reason = "the figures are the point")]
fn ten_thousand_segments_open_within_a_second() {
    let bed = Bed::new();
    let catalog = bed.open();
    let mut number = 0;
    for applied in 1..=1_020 {
        let add = (0..10)
            .map(|_| {
                number += 1;
                let mut segment = template();
                segment.path = catalog.new_path(Day::of(Timestamp::from_secs(
                    1_790_000_000 + 86_400 * i64::from(number / 400),
                )));
                segment
            })
            .collect();
        let begin = tokio::time::Instant::now();
        committed(catalog.commit(&Change {
            add,
            applied: Some(applied),
            data_change: true,
            ..Change::default()
        }));
        if applied % 170 == 0 {
            eprintln!("commit {applied}: {:?}", begin.elapsed());
        }
        if catalog.checkpoint_due() {
            let begin = tokio::time::Instant::now();
            catalog.checkpoint().unwrap();
            eprintln!("checkpoint: {:?}", begin.elapsed());
        }
    }
    for _ in 0..3 {
        let begin = tokio::time::Instant::now();
        let opened = bed.open();
        let took = begin.elapsed();
        eprintln!("open: {took:?}");
        assert_eq!(opened.state(), catalog.state());
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}
