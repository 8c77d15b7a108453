//! Files that are no store, not ours, not writable, damaged or taken, and what the store leaves behind.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    sync::Arc,
    time::Duration,
};

use tawny_model::{Remedy, Timestamp};
use tawny_runtime::{ManualClock, Registry, SharedClock};
use tawny_store::{
    Error, LogStore as _, Retention, SqliteConfig, SqliteStore, Written,
    conformance::{Feed, Line, Place as _, T0, filter, newest, search_all},
};

use super::{Directory, open};

#[tokio::test]
async fn missing_directories_are_made() {
    let directory = Directory::new();
    let path = directory.0.path().join("a/b c/logs.db");
    let store = open(SqliteConfig::new(&path)).await.unwrap();
    drop(store);
    let names: Vec<_> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.contains(&"logs.db".to_owned()), "{names:?}");
    assert!(
        !names.contains(&"logs.db-wal".to_owned()),
        "folded in: {names:?}"
    );
}

#[tokio::test]
async fn empty_file_becomes_a_store() {
    let directory = Directory::new();
    fs::write(directory.file(), "").unwrap();
    let store = directory.open().await;
    Feed::new("api").write(&*store, [Line::at(0, "x")]).await;
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let directory = Directory::new();
    let text = directory.0.path().join("notes.txt");
    fs::write(
        &text,
        "these are my notes, and they are longer than a header ".repeat(40),
    )
    .unwrap();
    let foreign = directory.0.path().join("kubelogs.db");
    rusqlite::Connection::open(&foreign)
        .unwrap()
        .execute_batch("CREATE TABLE logs (id INTEGER PRIMARY KEY, message TEXT); INSERT INTO logs VALUES (1, 'x')")
        .unwrap();
    for path in [text, foreign] {
        let before = fs::read(&path).unwrap();
        let error = open(SqliteConfig::new(&path)).await.unwrap_err();
        assert!(matches!(error, Error::NotAStore { .. }), "{error}");
        assert_eq!(error.remedy(), Remedy::Reject);
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    let error = open(SqliteConfig::new(directory.0.path()))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error}");
    assert!(error.to_string().contains("directory"), "{error}");
}

#[tokio::test]
async fn newer_format_is_refused_and_left_alone() {
    let directory = Directory::new();
    drop(directory.open().await);
    rusqlite::Connection::open(directory.file())
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let before = fs::read(directory.file()).unwrap();
    let error = open(directory.config()).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Newer {
                found: 99,
                supported: 1,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.remedy(), Remedy::Reject);
    assert_eq!(fs::read(directory.file()).unwrap(), before);
}

#[tokio::test]
async fn second_process_stands_down_until_the_first_is_gone() {
    let directory = Directory::new();
    let first = open(directory.config()).await.unwrap();
    let error = open(directory.config()).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert_eq!(error.remedy(), Remedy::StandDown);
    drop(first);
    open(directory.config()).await.unwrap();
}

#[tokio::test]
async fn place_that_cannot_be_written_is_named() {
    // Of the kernel's own file systems; not even root may make files there.
    for path in ["/sys/tawny/logs.db", "/sys/logs.db"] {
        let error = open(SqliteConfig::new(path)).await.unwrap_err();
        assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
        // Lines that meet it are not to blame: a sender that gave them up would lose them.
        assert_eq!(error.remedy(), Remedy::Retry);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_named_and_not_taken_for_an_answer() {
    let directory = Directory::new();
    let store = directory.open().await;
    let mut feed = Feed::new("api");
    feed.write(
        &*store,
        (0..5_000).map(|n| Line::at(n * 1_000, format!("line {n} of some length"))),
    )
    .await;
    drop(store);
    let mut file = fs::File::options()
        .write(true)
        .open(directory.file())
        .unwrap();
    let len_bytes = file.metadata().unwrap().len();
    // All but the header page and the schema.
    file.seek(SeekFrom::Start(20 * 8_192)).unwrap();
    let noise = vec![0xa5; usize::try_from(len_bytes - 25 * 8_192).unwrap()];
    file.write_all(&noise).unwrap();
    drop(file);
    let result = match open(directory.config()).await {
        Ok(store) => store
            .search(&newest("", 10_000))
            .await
            .map(|page| page.entries.len()),
        Err(error) => Err(error),
    };
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    assert_eq!(error.remedy(), Remedy::Quarantine);
}

#[tokio::test(flavor = "multi_thread")]
async fn query_whose_caller_went_away_harms_no_other() {
    let directory = Directory::new();
    let mut config = directory.config();
    config.n_readers = 1;
    let store = open(config).await.unwrap();
    let mut feed = Feed::new("api");
    feed.write(
        &store,
        (0..5_000).map(|n| Line::at(n * 1_000, format!("line {n}"))),
    )
    .await;
    for round in 0..50u64 {
        let scan = filter("/9{9}/");
        let scan = store.count(&scan);
        // Given up at once, or a little later.
        let gave_up = tokio::time::timeout(Duration::from_micros(round * 40), scan).await;
        drop(gave_up);
        assert_eq!(store.count(&filter("line")).await.unwrap(), 5_000);
    }
}

#[tokio::test]
async fn ends_of_streams_without_entries_are_forgotten_after_their_time() {
    let directory = Directory::new();
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(T0)));
    let shared_clock: SharedClock = Arc::<ManualClock>::clone(&clock);
    let days = |n: u64| Duration::from_secs(n * 24 * 3_600);
    let store = SqliteStore::open(directory.config(), shared_clock, &mut Registry::default())
        .await
        .unwrap();
    let (mut gone, mut kept) = (Feed::new("gone"), Feed::new("kept"));
    let first = gone.batch([Line::at(0, "x")]);
    store.write(vec![first.clone()]).await.unwrap();
    kept.write(&store, [Line::at(10_000_000_000, "y")]).await;
    store
        .delete_older_than(Timestamp::from_nanos(T0 + 1))
        .await
        .unwrap();
    for (after, is_known) in [(days(29), true), (days(31), false)] {
        let now = Timestamp::from_nanos(T0).saturating_add(after);
        clock.set(now);
        store
            .apply_retention(&Retention::default(), now)
            .await
            .unwrap();
        let ids = [gone.stream.id.clone(), kept.stream.id.clone()];
        let ends = store.resume(gone.writer, &ids).await.unwrap();
        assert_eq!(ends.map_is_some(), [is_known, true]);
    }
    assert_eq!(
        store.write(vec![first.clone()]).await.unwrap(),
        [Written::New {
            end: first.end,
            n_new: 1
        }]
    );
    assert_eq!(search_all(&store, "").await.len(), 2);
}

trait MapIsSome {
    fn map_is_some(&self) -> Vec<bool>;
}

impl<T> MapIsSome for Vec<Option<T>> {
    fn map_is_some(&self) -> Vec<bool> {
        self.iter().map(Option::is_some).collect()
    }
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let directory = Directory::new();
    let mut registry = Registry::default();
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(T0)));
    let store = SqliteStore::open(directory.config(), clock, &mut registry)
        .await
        .unwrap();
    let mut feed = Feed::new("api");
    let batch = feed.batch([Line::at(0, "a"), Line::at(1, "b"), Line::at(9_000, "c")]);
    store.write(vec![batch.clone(), batch]).await.unwrap();
    store
        .append(vec![Line::at(0, "a").entry(&feed.stream)])
        .await
        .unwrap();
    store
        .delete_older_than(Timestamp::from_nanos(T0 + 2))
        .await
        .unwrap();
    store.count(&filter("")).await.unwrap();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"tawny_store_batches_total{result="new"} 1"#,
        r#"tawny_store_batches_total{result="duplicate"} 1"#,
        r#"tawny_store_batches_total{result="gap"} 0"#,
        r#"tawny_store_entries_total{result="new"} 3"#,
        r#"tawny_store_entries_total{result="duplicate"} 1"#,
        "tawny_store_entries_deleted_total 2",
        "tawny_store_stored_entries 1",
        "tawny_store_streams 1",
        "tawny_store_writes_pushed_total 2",
        "tawny_store_writes_popped_total 2",
        "tawny_store_commit_seconds_count 2",
        r#"tawny_store_query_seconds_count{kind="count"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}
