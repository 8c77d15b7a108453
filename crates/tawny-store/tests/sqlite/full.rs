//! A full disk: by way of the file's own limit, which SQLite reports alike, and for real.

use std::{fs, time::Duration};

use tawny_model::{Batch, ByteSize, Remedy, Timestamp, WriterId};
use tawny_store::{
    Error, LogStore as _, Retention, SqliteConfig, SqliteStore, Written,
    conformance::{Feed, Line, T0, filter},
};

use super::{Directory, open};

const LINES: u64 = 200;

fn lines(round: i64) -> impl Iterator<Item = Line> {
    (0..LINES.cast_signed()).map(move |n| {
        let noise = (round * 1_000 + n).wrapping_mul(0x1e37_79b9_7f4a_7c15);
        Line::at(
            round * 1_000_000 + n * 1_000,
            format!("common {noise:x} round {round}"),
        )
    })
}

fn is_new(batch: &Batch) -> [Written; 1] {
    [Written::New {
        end: batch.end,
        n_new: LINES,
    }]
}

/// Writes until the disk is full, checks that nothing is half done; answers the rounds stored and the batch refused.
async fn fill(store: &SqliteStore, feed: &mut Feed) -> (i64, Batch) {
    let mut n_rounds = 0;
    let (error, refused) = loop {
        let batch = feed.batch(lines(n_rounds));
        match store.write(vec![batch.clone()]).await {
            Ok(written) => {
                assert_eq!(written, is_new(&batch));
                n_rounds += 1;
            }
            Err(error) => break (error, batch),
        }
        assert!(n_rounds < 2_000, "the limit holds");
    };
    assert!(n_rounds > 5, "{n_rounds}");
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert_eq!(error.remedy(), Remedy::Retry);

    let refused_round = format!("\"round {n_rounds}\"");
    let n_lines = n_rounds.cast_unsigned() * LINES;
    for (query, n_expected) in [
        ("", n_lines),
        ("common", n_lines),
        ("*ommo*", n_lines),
        (refused_round.as_str(), 0),
    ] {
        let n = store.count(&filter(query)).await.unwrap();
        assert_eq!(n, n_expected, "{query}");
    }
    let id = std::slice::from_ref(&feed.stream.id);
    let ends = store.resume(WriterId(1), id).await.unwrap();
    assert_eq!(ends[0].map(|end| end.end), Some(refused.start));
    (n_rounds, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn full_store_refuses_writes_keeps_answering_and_recovers_by_deletion() {
    let directory = Directory::new();
    let mut config = directory.config();
    config.max_file_bytes = Some(ByteSize::mib(1));
    let store = open(config).await.unwrap();
    let mut feed = Feed::new("api");
    let (n_rounds, refused) = fill(&store, &mut feed).await;

    // Refused again and again; a stream that was to be made is not there.
    let newcomer = Feed::new("newcomer").batch(lines(n_rounds));
    for batch in [&refused, &newcomer, &refused] {
        let error = store.write(vec![batch.clone()]).await.unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
        assert_eq!(store.count(&filter("pod:newcomer")).await.unwrap(), 0);
        assert_eq!(store.stats().await.unwrap().n_streams, 1);
    }

    // Deleting makes room, even though the file is at its limit; the same batch is taken then.
    let before = Timestamp::from_nanos(T0 + n_rounds / 2 * 1_000_000);
    let n_deleted = store.delete_older_than(before).await.unwrap();
    assert_eq!(n_deleted, (n_rounds / 2).cast_unsigned() * LINES);
    let written = store.write(vec![refused.clone()]).await.unwrap();
    assert_eq!(written, is_new(&refused));
    let n_left = (n_rounds + 1).cast_unsigned() * LINES - n_deleted;
    assert_eq!(store.count(&filter("common")).await.unwrap(), n_left);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fills its file system: run with TMPDIR on one of some 48 MiB"]
async fn full_disk_refuses_writes_keeps_answering_and_recovers_by_itself() {
    let directory = Directory::new();
    let ballast = directory.0.path().join("ballast");
    fs::write(&ballast, vec![1; 8 << 20]).unwrap();
    let store = open(SqliteConfig::new(directory.file())).await.unwrap();
    let mut feed = Feed::new("api");
    let (n_rounds, refused) = fill(&store, &mut feed).await;
    fs::remove_file(ballast).unwrap();
    let written = store.write(vec![refused.clone()]).await.unwrap();
    assert_eq!(written, is_new(&refused));
    drop(store);
    let store = open(SqliteConfig::new(directory.file())).await.unwrap();
    let n_lines = (n_rounds + 1).cast_unsigned() * LINES;
    for query in ["", "common", "*ommo*"] {
        assert_eq!(
            store.count(&filter(query)).await.unwrap(),
            n_lines,
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fills its file system: run with TMPDIR on one of some 48 MiB"]
async fn full_disk_is_relieved_by_retention() {
    let directory = Directory::new();
    let store = open(SqliteConfig::new(directory.file())).await.unwrap();
    let mut feed = Feed::new("api");
    let (n_rounds, refused) = fill(&store, &mut feed).await;
    let now = Timestamp::from_nanos(T0 + n_rounds * 1_000_000);
    let retention = Retention {
        max_age: Some(Duration::from_millis(n_rounds.cast_unsigned() / 2)),
        ..Retention::default()
    };
    let n_deleted = store.apply_retention(&retention, now).await.unwrap();
    assert!(n_deleted > 0);
    let written = store.write(vec![refused.clone()]).await.unwrap();
    assert_eq!(written, is_new(&refused));
    let n_left = (n_rounds + 1).cast_unsigned() * LINES - n_deleted;
    assert_eq!(store.count(&filter("common")).await.unwrap(), n_left);
    assert!(
        directory.0.path().join("logs.db.reserve").exists(),
        "kept back again"
    );
}
