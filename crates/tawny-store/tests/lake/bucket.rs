//! The lake in a bucket: what it fetches, and what it does when the bucket fails.

use std::{collections::BTreeMap, path::Path};

use http::Method;
use tawny_model::{Remedy, Stream};
use tawny_store::{
    BucketConfig, Error, Written,
    conformance::{Feed, Line, filter, newest, search_all, stream},
};

use super::{
    s3::{Asked, Fault, S3},
    *,
};

/// A bucket, and a directory for the log of the store in it.
pub(crate) struct InBucket {
    pub(crate) s3: S3,
    pub(crate) wal: TempDir,
    memory: ByteSize,
    flush_age: Duration,
    cache: ByteSize,
}

impl InBucket {
    pub(crate) fn patient() -> Self {
        let Directory {
            dir,
            memory,
            flush_age,
        } = Directory::patient();
        Self {
            s3: S3::start(),
            wal: dir,
            memory,
            flush_age,
            cache: ByteSize::mib(16),
        }
    }

    pub(crate) fn hasty() -> Self {
        let Directory {
            memory, flush_age, ..
        } = Directory::hasty();
        Self {
            memory,
            flush_age,
            ..Self::patient()
        }
    }

    fn config(&self) -> LakeConfig {
        LakeConfig {
            memory: self.memory,
            flush_age: self.flush_age,
            cache: self.cache,
            bucket: Some(self.s3.bucket()),
            ..LakeConfig::new(self.wal.path().join("log"))
        }
    }

    async fn try_open(&self) -> Result<LakeStore, Error> {
        open(self.config()).await
    }
}

async fn open(config: LakeConfig) -> Result<LakeStore, Error> {
    LakeStore::open(
        config,
        Arc::new(ManualClock::new(Timestamp::from_nanos(T0))),
        &mut Registry::default(),
    )
    .await
}

#[async_trait]
impl Place for InBucket {
    async fn open(&self) -> Arc<dyn LogStore> {
        Arc::new(self.try_open().await.unwrap())
    }
}

const DAY: i64 = 86_400_000_000_000;

/// Text that no codec makes shorter by much.
fn noise(mut seed: u64, len: usize) -> String {
    let mut text = String::with_capacity(len);
    while text.len() < len {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        text.push_str(&format!("{seed:016x}"));
    }
    text
}

/// Every fault there is, in turn, on every third request.
fn every_third() -> impl FnMut(&Method, &str) -> Option<Fault> + Send + 'static {
    let faults = [
        Fault::Status(500),
        Fault::HalfBody,
        Fault::Status(503),
        Fault::NoAnswer,
        Fault::Slow(Duration::from_millis(50)),
    ];
    let mut n = 0;
    move |_, _| {
        n += 1;
        (n % 3 == 0).then(|| faults[n / 3 % faults.len()])
    }
}

async fn write_lines(store: &LakeStore, feed: &mut Feed, n: std::ops::Range<i64>) {
    feed.write(store, n.map(|n| Line::at(n, format!("line {n}"))))
        .await;
}

/// All that is there becomes segments.
async fn flush(store: &LakeStore) -> Result<u64, Error> {
    store.delete_older_than(Timestamp::MIN).await
}

#[tokio::test]
async fn unreliable_bucket_gives_the_same_answers_and_loses_nothing() {
    let place = InBucket::patient();
    let mut feed = Feed::new("api");
    for round in 0..3 {
        place.s3.fail(every_third());
        let store = place.try_open().await.unwrap();
        assert_eq!(
            search_all(&store, "line").await.len(),
            usize::try_from(round * 200).unwrap()
        );
        write_lines(&store, &mut feed, round * 200..round * 200 + 100).await;
        flush(&store).await.unwrap();
        write_lines(&store, &mut feed, round * 200 + 100..round * 200 + 200).await;
        let found = search_all(&store, "line").await;
        let expected: Vec<String> = (0..round * 200 + 200)
            .map(|n| format!("line {n}"))
            .collect();
        let found: Vec<String> = found.into_iter().map(|entry| entry.message).collect();
        assert_eq!(found, expected);
        assert!(place.s3.recover() > 0);
    }
}

#[tokio::test]
async fn bucket_that_fails_for_good_is_named_and_costs_no_line() {
    let place = InBucket::patient();
    let mut feed = Feed::new("api");
    let store = place.try_open().await.unwrap();
    write_lines(&store, &mut feed, 0..100).await;
    flush(&store).await.unwrap();
    drop(store);

    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::HalfBody,
        Fault::NoAnswer,
    ] {
        // Opened anew, it has nothing of the segment in memory.
        let store = place.try_open().await.unwrap();
        place
            .s3
            .fail(move |_, path| path.ends_with(".parquet").then_some(fault));
        let error = store.search(&newest("line", 10)).await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::Retry, "{fault:?}: {error}");
        assert!(
            error
                .to_string()
                .contains("s3://bucket/some/prefix/logs/date="),
            "{fault:?}: {error}"
        );
        assert!(place.s3.recover() <= 40, "repeated within bounds");
        assert_eq!(search_all(&store, "line").await.len(), 100, "{fault:?}");
    }

    let store = place.try_open().await.unwrap();
    place.s3.fail(|_, _| Some(Fault::Status(500)));
    write_lines(&store, &mut feed, 100..200).await;
    let error = flush(&store).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry);
    // Closed while nothing gets through, and opened when it does.
    drop(store);
    let error = place.try_open().await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry);
    assert!(
        error.to_string().contains("s3://bucket/some/prefix/logs/"),
        "{error}"
    );
    place.s3.recover();
    let store = place.try_open().await.unwrap();
    assert_eq!(search_all(&store, "line").await.len(), 200);
    flush(&store).await.unwrap();
    assert_eq!(search_all(&store, "line").await.len(), 200);
}

#[tokio::test]
async fn lines_are_admitted_while_the_bucket_is_away_until_memory_is_full() {
    let place = InBucket::hasty();
    let store = place.try_open().await.unwrap();
    place.s3.fail(|_, _| Some(Fault::Status(503)));
    let mut feed = Feed::new("api");
    let mut n_acked = 0;
    let refused = loop {
        let batch = feed.batch((n_acked..n_acked + 50).map(|n| Line::at(n, format!("line {n}"))));
        match store.write(vec![batch.clone()]).await {
            Ok(_) => n_acked += 50,
            Err(error) => break (batch, error),
        }
        assert!(n_acked < 100_000, "48 KiB hold no more");
    };
    assert!(n_acked > 0);
    assert_eq!(refused.1.remedy(), Remedy::Retry, "{}", refused.1);
    place.s3.recover();
    // By itself, as soon as the bucket is back.
    let written = loop {
        match store.write(vec![refused.0.clone()]).await {
            Ok(written) => break written,
            Err(error) => assert_eq!(error.remedy(), Remedy::Retry, "{error}"),
        }
    };
    assert!(
        matches!(written[..], [Written::New { n_new: 50, .. }]),
        "{written:?}"
    );
    let expected = u64::try_from(n_acked + 50).unwrap();
    assert_eq!(store.count(&filter("line")).await.unwrap(), expected);
    drop(store);
    let store = place.try_open().await.unwrap();
    assert_eq!(store.count(&filter("line")).await.unwrap(), expected);
}

/// Twenty days, each a segment of 900 long lines, some of them with a word of their own.
async fn twenty_segments(place: &InBucket) {
    let store = place.try_open().await.unwrap();
    let mut feed = Feed::new("api");
    for day in (0..20).rev() {
        let lines = (0..900u32).map(|n| {
            let noise = noise(u64::from(n) * 20 + u64::try_from(day).unwrap() + 1, 1_000);
            let word = if n == 150 {
                format!("needle{day}")
            } else {
                "hay".to_owned()
            };
            Line::at(i64::from(n) - day * DAY, format!("{word} {noise}"))
        });
        feed.write(&store, lines).await;
    }
    flush(&store).await.unwrap();
}

/// Requests and bytes by segment.
fn of_segments(asked: &[Asked]) -> BTreeMap<&str, (usize, u64)> {
    let mut of = BTreeMap::new();
    for asked in asked
        .iter()
        .filter(|asked| asked.path.ends_with(".parquet"))
    {
        let (n, len_bytes) = of.entry(asked.path.as_str()).or_default();
        *n += 1;
        *len_bytes += asked.len_bytes;
    }
    of
}

#[tokio::test]
async fn question_fetches_the_blocks_that_may_hold_it_and_nothing_twice() {
    let place = InBucket::patient();
    twenty_segments(&place).await;
    let store = place.try_open().await.unwrap();
    place.s3.take_asked();

    assert_eq!(search_all(&store, "needle7").await.len(), 1);
    let asked = place.s3.take_asked();
    assert!(
        asked.iter().all(|asked| asked.method == Method::GET),
        "{asked:?}"
    );
    let first = of_segments(&asked);
    assert_eq!(first.len(), 20);
    // Of each its tail and its filters, and of one the columns of a block; one filter of 256 says yes for no reason.
    let read: Vec<_> = first.values().filter(|(n, _)| *n > 2).collect();
    assert!(matches!(read.len(), 1 | 2), "{first:?}");
    assert!(read.iter().all(|(n, _)| *n <= 5), "{read:?}");
    let fetched: u64 = first.values().map(|(_, len_bytes)| len_bytes).sum();
    let there = store.stats().await.unwrap().disk_bytes;
    assert!(fetched * 3 < there, "{fetched} bytes of {there}");

    assert_eq!(search_all(&store, "needle7").await.len(), 1);
    assert_eq!(place.s3.take_asked().len(), 0, "all of it is in memory");

    assert_eq!(search_all(&store, "needle11").await.len(), 1);
    let asked = place.s3.take_asked();
    let other = of_segments(&asked);
    assert!(
        matches!(other.len(), 1 | 2),
        "indexes are in memory: {other:?}"
    );
    assert!(other.values().all(|(n, _)| *n <= 3), "{other:?}");

    assert_eq!(store.count(&filter("")).await.unwrap(), 18_000);
    assert_eq!(place.s3.take_asked().len(), 0, "known without any row");
}

fn config_at(directory: &Path, bucket: BucketConfig) -> LakeConfig {
    LakeConfig {
        bucket: Some(BucketConfig {
            lease: Duration::from_secs(1),
            ..bucket
        }),
        ..LakeConfig::new(directory)
    }
}

#[tokio::test]
async fn second_server_on_a_bucket_stands_down_and_says_who_is_there() {
    let (s3, dir) = (S3::start(), tempfile::tempdir().unwrap());
    let at = |name: &str| config_at(&dir.path().join(name), s3.bucket());
    let first = open(at("first")).await.unwrap();
    let error = open(at("second")).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::StandDown, "{error}");
    assert!(error.to_string().contains("/first`"), "{error}");
    Feed::new("api")
        .write(&first, [Line::at(0, "still here")])
        .await;
    drop(first);
    // The same directory again waits for nobody.
    let first = open(at("first")).await.unwrap();
    assert_eq!(search_all(&first, "still").await.len(), 1);
}

#[tokio::test]
async fn server_cut_off_from_its_bucket_is_replaced_and_then_writes_no_more() {
    let (cut_off, dir) = (S3::start(), tempfile::tempdir().unwrap());
    let s3 = cut_off.beside();
    let first_config = config_at(&dir.path().join("first"), cut_off.bucket());
    let first = open(first_config.clone()).await.unwrap();
    let mut feed = Feed::new("api");
    feed.write(&first, [Line::at(0, "in a segment")]).await;
    flush(&first).await.unwrap();
    cut_off.fail(|_, _| Some(Fault::Status(500)));
    feed.write(&first, [Line::at(1, "in the log of the first")])
        .await;

    let second = open(config_at(&dir.path().join("second"), s3.bucket()))
        .await
        .unwrap();
    let api: Arc<Stream> = stream("other");
    second
        .append(vec![Line::at(2, "of the second").entry(&api)])
        .await
        .unwrap();
    flush(&second).await.unwrap();
    assert_eq!(search_all(&second, "").await.len(), 2);

    cut_off.recover();
    first.died().await;
    let late = first
        .append(vec![Line::at(3, "too late").entry(&api)])
        .await;
    assert!(late.is_err());
    drop(first);
    // What it had acknowledged is kept, and not mixed up with what the second has made of the table.
    let error = open(first_config).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::StandDown, "{error}");
    assert!(error.to_string().contains("first/wal"), "{error}");
    flush(&second).await.unwrap();
    assert_eq!(search_all(&second, "").await.len(), 2);
}

fn is_lease(path: &str) -> bool {
    path.ends_with("/_tawny/writer.json")
}

#[tokio::test]
async fn renewal_whose_answer_is_lost_costs_no_lease() {
    let (s3, dir) = (S3::start(), tempfile::tempdir().unwrap());
    let store = open(config_at(&dir.path().join("first"), s3.bucket()))
        .await
        .unwrap();
    // One renewal is done and not answered, and then nothing says so any more.
    let (asked_tx, mut asked_rx) = tokio::sync::mpsc::channel(1_024);
    let mut is_lost = false;
    s3.fail(move |method, path| {
        if !is_lease(path) {
            return None;
        }
        asked_tx.try_send(method.clone()).unwrap();
        if !is_lost && *method == Method::PUT {
            is_lost = true;
            return Some(Fault::NoAnswer);
        }
        is_lost.then_some(Fault::Status(500))
    });
    while asked_rx.recv().await.unwrap() != Method::PUT {}
    asked_rx.recv().await.unwrap();
    let (renewed_tx, mut renewed_rx) = tokio::sync::mpsc::channel(1_024);
    s3.fail(move |method, path| {
        if is_lease(path) && *method == Method::PUT {
            renewed_tx.try_send(()).unwrap();
        }
        None
    });
    // The third is only asked for when the second had worked.
    for _ in 0..3 {
        renewed_rx.recv().await.unwrap();
    }
    Feed::new("api")
        .write(&store, [Line::at(0, "still the owner")])
        .await;
    flush(&store).await.unwrap();
    assert_eq!(search_all(&store, "owner").await.len(), 1);
}

#[tokio::test]
async fn takeover_that_failed_is_finished_by_the_next_start() {
    let (s3, dir) = (S3::start(), tempfile::tempdir().unwrap());
    let first = s3.beside();
    let first_config = config_at(&dir.path().join("first"), first.bucket());
    let store = open(first_config).await.unwrap();
    Feed::new("api")
        .write(&store, [Line::at(0, "in a segment")])
        .await;
    flush(&store).await.unwrap();
    first.fail(|_, _| Some(Fault::Status(500)));
    // The second takes the lease and cannot say so in the table.
    let second_config = config_at(&dir.path().join("second"), s3.bucket());
    let mut is_taken = false;
    s3.fail(move |method, path| {
        is_taken |= is_lease(path) && *method == Method::PUT;
        (is_taken && *method == Method::PUT && path.contains("/_delta_log/"))
            .then_some(Fault::Status(500))
    });
    let error = open(second_config.clone()).await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Retry, "{error}");
    s3.recover();
    let versions = || {
        let asked = s3.take_asked();
        let commits = asked
            .iter()
            .filter(|asked| asked.method == Method::PUT && asked.path.contains("/_delta_log/"));
        commits.count()
    };
    versions();
    let second = open(second_config).await.unwrap();
    assert!(
        versions() > 0,
        "a commit takes the place of any that the first may still try"
    );
    assert_eq!(search_all(&second, "").await.len(), 1);
}
