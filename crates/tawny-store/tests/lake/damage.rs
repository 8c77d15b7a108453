//! Other owners, damaged files, files of others, clocks that step back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tawny_model::{ByteSize, LogEntry, Remedy, Stream};
use tawny_query::Query;
use tawny_store::{
    Error, Filter, Retention,
    conformance::{Feed, Line, filter, search_all, stream},
};

use super::*;

const HOUR_NS: i64 = 3_600_000_000_000;

async fn flush(store: &LakeStore) {
    store.delete_older_than(Timestamp::MIN).await.unwrap();
}

async fn try_open(directory: &Directory, clock: &Arc<ManualClock>) -> Result<LakeStore, Error> {
    let config = LakeConfig {
        memory: directory.memory,
        flush_age: directory.flush_age,
        ..LakeConfig::new(directory.root())
    };
    LakeStore::open(
        config,
        Arc::<ManualClock>::clone(clock),
        &mut Registry::default(),
    )
    .await
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_nanos(T0)))
}

fn files_below(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

fn of_hour(hour: i64) -> Filter {
    Filter {
        query: Query::parse("line").unwrap(),
        from: Timestamp::from_nanos(T0 + hour * HOUR_NS),
        to: Timestamp::from_nanos(T0 + (hour + 1) * HOUR_NS),
    }
}

/// Three segments of an hour each.
async fn three_hours(directory: &Directory, feed: &mut Feed) {
    let store = try_open(directory, &clock()).await.unwrap();
    for hour in 0..3i64 {
        let line = |n: i64| {
            Line::at(
                hour * HOUR_NS + n * 1_000,
                format!("line {n} of hour {hour}"),
            )
        };
        feed.write(&store, (0..500).map(line)).await;
        flush(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_store_stands_down_and_says_who_has_the_directory() {
    let directory = Directory::patient();
    let first = try_open(&directory, &clock()).await.unwrap();
    let error = try_open(&directory, &clock()).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::StandDown);
    let this = format!("in use by process {}", std::process::id());
    assert!(error.to_string().contains(&this), "{error}");
    Feed::new("api")
        .write(&first, [Line::at(0, "still mine")])
        .await;
    drop(first);
    let store = try_open(&directory, &clock()).await.unwrap();
    assert_eq!(search_all(&store, "").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_byte_of_a_segment_is_named_by_queries_that_need_it_and_by_no_others() {
    let directory = Directory::patient();
    let mut feed = Feed::new("api");
    three_hours(&directory, &mut feed).await;
    let segment = files_below(&directory.root(), ".parquet").remove(1);
    let name = segment.file_name().unwrap().to_str().unwrap();
    let len = fs::read(&segment).unwrap().len();
    let mut n_refused = 0;
    for at in (0..len).step_by(len / 40) {
        flip(&segment, at);
        let store = try_open(&directory, &clock()).await.unwrap();
        for hour in [0, 2] {
            assert_eq!(store.count(&of_hour(hour)).await.unwrap(), 500, "byte {at}");
        }
        match store.count(&of_hour(1)).await {
            // Not every byte is needed to count.
            Ok(n) => assert_eq!(n, 500, "byte {at}"),
            Err(error) => {
                assert_eq!(error.remedy(), Remedy::Quarantine, "byte {at}");
                assert!(error.to_string().contains(name), "byte {at}: {error}");
                n_refused += 1;
            }
        }
        flip(&segment, at);
    }
    assert!(n_refused > 5, "{n_refused}");
    // A store with damage takes lines and flushes them.
    flip(&segment, len / 2);
    let store = try_open(&directory, &clock()).await.unwrap();
    feed.write(&store, [Line::at(5 * HOUR_NS, "line after all")])
        .await;
    flush(&store).await;
    assert_eq!(store.count(&of_hour(5)).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_byte_of_the_log_costs_its_record_and_no_other() {
    let directory = Directory::patient();
    let mut feed = Feed::new("api");
    let store = try_open(&directory, &clock()).await.unwrap();
    for n in 0..9 {
        feed.write(&store, [Line::at(n, format!("line {n}"))]).await;
    }
    drop(store);
    let log = files_below(&directory.root(), ".wal").remove(0);
    let at = fs::read(&log).unwrap();
    let at = at.windows(6).position(|bytes| bytes == b"line 4").unwrap();
    flip(&log, at);
    let store = try_open(&directory, &clock()).await.unwrap();
    let found = search_all(&store, "line").await;
    let found: Vec<&str> = found.iter().map(|entry| entry.message.as_str()).collect();
    let expected = [0, 1, 2, 3, 5, 6, 7, 8].map(|n| format!("line {n}"));
    assert_eq!(found, expected);
    assert_eq!(files_below(&directory.root(), ".damaged").len(), 1);
    // The stream goes on where its sender is.
    feed.write(&store, [Line::at(9, "line 9")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_byte_of_the_catalog_is_named_and_nothing_is_touched() {
    let directory = Directory::patient();
    three_hours(&directory, &mut Feed::new("api")).await;
    let logs = directory.root().join("logs");
    for path in [
        files_below(&logs, "00002.json").remove(0),
        files_below(&logs, ".json.zst").remove(0),
    ] {
        let at = fs::read(&path).unwrap().len() / 2;
        flip(&path, at);
        let error = try_open(&directory, &clock()).await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::Quarantine, "{error}");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
        flip(&path, at);
        let store = try_open(&directory, &clock()).await.unwrap();
        assert_eq!(store.count(&filter("line")).await.unwrap(), 1_500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_others_in_the_directory_are_left_alone() {
    let directory = Directory::patient();
    let mut feed = Feed::new("api");
    three_hours(&directory, &mut feed).await;
    let segment = files_below(&directory.root(), ".parquet").remove(0);
    let others = [
        directory.root().join("logs/their.parquet"),
        segment.with_file_name("their.parquet"),
        segment.with_file_name("part-1.parquet"),
    ];
    for other in &others {
        fs::copy(&segment, other).unwrap();
    }
    let clock = clock();
    let store = try_open(&directory, &clock).await.unwrap();
    assert_eq!(store.count(&filter("line")).await.unwrap(), 1_500);
    // The third hour is one of the next day.
    assert_eq!(store.compact().await.unwrap(), 1);
    // Long after every grace.
    clock.set(Timestamp::from_nanos(T0 + 1_000 * HOUR_NS));
    feed.write(&store, [Line::at(3 * HOUR_NS, "line of later")])
        .await;
    flush(&store).await;
    assert_eq!(store.count(&filter("line")).await.unwrap(), 1_501);
    for other in &others {
        assert!(other.exists(), "{}", other.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_segment_keeps_no_other_from_merging_and_ageing() {
    let directory = Directory::patient();
    let store = try_open(&directory, &clock()).await.unwrap();
    let of = |namespace: &str| {
        Feed::of(Arc::new(Stream {
            namespace: namespace.into(),
            ..(*stream(namespace)).clone()
        }))
    };
    let (mut dev, mut prod) = (of("dev"), of("prod"));
    let midnight = -T0.rem_euclid(24 * HOUR_NS);
    for half_day in 0..6i64 {
        for feed in [&mut dev, &mut prod] {
            let start = midnight + half_day * 12 * HOUR_NS;
            let line = |n: i64| Line::at(start + n, format!("line {n}"));
            feed.write(&store, (0..100).map(line)).await;
        }
        flush(&store).await;
    }
    let files = || files_below(&directory.root(), ".parquet");
    let before = files();
    assert_eq!(before.len(), 6);
    // Pages of data; its index stays as it is.
    let mut bytes = fs::read(&before[2]).unwrap();
    let n_bytes = bytes.len();
    bytes[8..n_bytes / 3].fill(0xa5);
    fs::write(&before[2], bytes).unwrap();
    let error = store.compact().await.unwrap_err();
    let name = before[2].file_name().unwrap().to_str().unwrap();
    assert!(error.to_string().contains(name), "{error}");
    let merged = files().iter().filter(|path| !before.contains(path)).count();
    assert_eq!(merged, 2, "both sound days");

    let retention = Retention {
        namespaces: [("dev".to_owned(), Some(Duration::ZERO))].into(),
        ..Retention::default()
    };
    let now = Timestamp::from_nanos(T0 + 72 * HOUR_NS);
    assert_eq!(store.apply_retention(&retention, now).await.unwrap(), 500);
    // Who asks for a deletion is told what it left, and a limit of size takes the damaged one whole.
    let inside = Timestamp::from_nanos(T0 + midnight + 24 * HOUR_NS + 50);
    let error = store.delete_older_than(inside).await.unwrap_err();
    assert!(error.to_string().contains(name), "{error}");
    let small = Retention {
        max_bytes: Some(ByteSize(store.stats().await.unwrap().disk_bytes - 1)),
        ..Retention::default()
    };
    assert!(store.apply_retention(&small, now).await.unwrap() > 0);
    let oldest = store.stats().await.unwrap().oldest;
    assert!(oldest.is_none_or(|oldest| oldest >= inside), "{oldest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_that_goes_backwards_loses_nothing() {
    let directory = Directory::hasty();
    let clock = clock();
    let mut feed = Feed::new("api");
    let mut expected = Vec::new();
    for (start, hours) in [100, -100, 50, -2_000, 0].into_iter().enumerate() {
        clock.set(Timestamp::from_nanos(T0 + hours * HOUR_NS));
        let store = try_open(&directory, &clock).await.unwrap();
        for n in 0..20 {
            // Back by an hour at each step.
            clock.set(Timestamp::from_nanos(T0 + (hours - n) * HOUR_NS));
            let message = format!("line {start} {n}");
            feed.write(&store, [Line::at((hours - n) * HOUR_NS, message.clone())])
                .await;
            expected.push(message);
        }
        flush(&store).await;
        store.compact().await.unwrap();
        let retention = Retention {
            max_age: Some(Duration::from_secs(10_000 * 3_600)),
            ..Retention::default()
        };
        let now = Timestamp::from_nanos(T0 + hours * HOUR_NS);
        assert_eq!(store.apply_retention(&retention, now).await.unwrap(), 0);
        let mut found: Vec<String> = search_all(&store, "line")
            .await
            .into_iter()
            .map(|entry: LogEntry| entry.message)
            .collect();
        found.sort();
        let mut all = expected.clone();
        all.sort();
        assert_eq!(found, all, "{hours}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_other_years_lie_in_files_of_their_own_and_age_takes_the_old_only() {
    let directory = Directory::patient();
    let store = try_open(&directory, &clock()).await.unwrap();
    const YEAR_NS: i64 = 365 * 24 * HOUR_NS;
    let mut feed = Feed::new("api");
    let years = [-53i64, -20, -1, 0, 1, 20, 200];
    feed.write(
        &store,
        years.map(|year| Line::at(year * YEAR_NS, format!("year {year}"))),
    )
    .await;
    flush(&store).await;
    assert_eq!(
        files_below(&directory.root(), ".parquet").len(),
        years.len()
    );
    assert_eq!(store.compact().await.unwrap(), 0);
    let retention = Retention {
        max_age: Some(Duration::from_secs(2 * 365 * 24 * 3_600)),
        ..Retention::default()
    };
    let now = Timestamp::from_nanos(T0);
    assert_eq!(store.apply_retention(&retention, now).await.unwrap(), 2);
    let found = search_all(&store, "").await;
    let found: Vec<&str> = found.iter().map(|entry| entry.message.as_str()).collect();
    assert_eq!(
        found,
        ["year -1", "year 0", "year 1", "year 20", "year 200"]
    );
}
