//! The same random entries in both engines: the same random queries are answered alike.

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tawny_model::LogEntry;
use tawny_query::{Field, testing};
use tawny_store::{
    FacetsRequest, Filter, HistogramRequest, Order, SearchRequest, SqliteConfig, SqliteStore,
};

use super::*;

fn draw<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).unwrap().current()
}

/// All that an engine must say alike: ids tell entries of one microsecond apart, each engine in its own way.
fn said(entry: &LogEntry) -> impl Ord + std::fmt::Debug + use<> {
    (
        entry.timestamp,
        format!("{:?}", entry.stream),
        entry.severity,
        entry.output.name(),
        entry.message.clone(),
        entry.attributes.clone(),
    )
}

/// Everything that matches, page by page.
async fn pages(store: &dyn LogStore, filter: &Filter, order: Order, limit: usize) -> Vec<LogEntry> {
    let mut request = SearchRequest {
        filter: filter.clone(),
        order,
        limit,
        after: None,
        before: None,
    };
    let mut found = Vec::new();
    loop {
        let page = store.search(&request).await.unwrap();
        found.extend(page.entries);
        let Some(last) = found.last().filter(|_| page.has_more) else {
            return found;
        };
        match order {
            Order::NewestFirst => request.before = Some(last.id),
            Order::OldestFirst => request.after = Some(last.id),
        }
    }
}

fn fields() -> Vec<Field> {
    vec![
        Field::Namespace,
        Field::Pod,
        Field::Container,
        Field::Node,
        Field::Workload,
        Field::Severity,
        Field::Output,
        Field::Label("app".to_owned()),
        Field::Attribute("status".to_owned()),
        Field::Attribute("path".to_owned()),
    ]
}

async fn agree(seed: u8) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let runner = &mut TestRunner::new_with_rng(Config::default(), rng);
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(T0)));
    let config = SqliteConfig::new(directory.path().join("logs.db"));
    let sqlite = SqliteStore::open(
        config,
        Arc::<ManualClock>::clone(&clock),
        &mut Registry::default(),
    )
    .await
    .unwrap();
    let config = LakeConfig {
        memory: ByteSize::kib(256),
        ..LakeConfig::new(directory.path().join("lake"))
    };
    let lake = LakeStore::open(config, clock, &mut Registry::default())
        .await
        .unwrap();
    let mut n_hits = 0;
    for round in 0..6 {
        let entries = draw(runner, &vec(testing::entry(), 70));
        let context = format!("seed {seed}, round {round}");
        let n_new = sqlite.append(entries.clone()).await.unwrap();
        assert_eq!(lake.append(entries).await.unwrap(), n_new, "{context}");
        match round {
            // Rows in memory, a segment, several, one of all, and rows behind it.
            1..=3 => assert_eq!(lake.delete_older_than(Timestamp::MIN).await.unwrap(), 0),
            4 => {
                lake.delete_older_than(Timestamp::MIN).await.unwrap();
                assert!(lake.compact().await.unwrap() > 0, "{context}");
            }
            _ => {}
        }
        let stats = sqlite.stats().await.unwrap();
        assert_eq!(
            lake.stats().await.unwrap().n_entries,
            stats.n_entries,
            "{context}"
        );
        let base = stats.oldest.unwrap().as_secs();
        for case in 0..25 {
            let query = draw(runner, &testing::query());
            let second = |n: i64| Timestamp::from_nanos(base * 1_000_000_000 + n);
            let (from, to) = match case % 3 {
                0 => (Timestamp::MIN, Timestamp::MAX),
                1 => (second(1_000_000_000), second(8_000_000_000)),
                _ => {
                    let from = second(draw(runner, &(0..8_000_000_000i64)));
                    (from, from.saturating_add(Duration::from_secs(3)))
                }
            };
            let context = format!("{context}, case {case}: `{query}` {from}..{to}");
            let filter = Filter { query, from, to };
            let n = sqlite.count(&filter).await.unwrap();
            assert_eq!(lake.count(&filter).await.unwrap(), n, "{context}");
            n_hits += n;
            let order = draw(
                runner,
                &select(vec![Order::NewestFirst, Order::OldestFirst]),
            );
            let limit = draw(runner, &select(vec![1usize, 7, 50, 1_000]));
            let limit = if n > 100 { limit.max(50) } else { limit };
            let of_sqlite = pages(&sqlite, &filter, order, limit).await;
            let of_lake = pages(&lake, &filter, order, limit).await;
            let micros = |found: &[LogEntry]| -> Vec<i64> {
                found
                    .iter()
                    .map(|entry| entry.timestamp.as_micros())
                    .collect()
            };
            assert_eq!(micros(&of_lake), micros(&of_sqlite), "{context}");
            let sorted = |found: &[LogEntry]| {
                let mut all: Vec<_> = found.iter().map(said).collect();
                all.sort();
                all
            };
            for (of_lake, of_sqlite) in sorted(&of_lake).iter().zip(&sorted(&of_sqlite)) {
                assert_eq!(of_lake, of_sqlite, "{context}");
            }
            let request = HistogramRequest {
                filter: filter.clone(),
                bucket: Duration::from_secs(draw(runner, &select(vec![1u64, 7, 60, 3_600]))),
            };
            assert_eq!(
                lake.histogram(&request).await.unwrap(),
                sqlite.histogram(&request).await.unwrap(),
                "{context}"
            );
            let request = FacetsRequest {
                filter,
                fields: draw(runner, &proptest::sample::subsequence(fields(), 0..4)),
                limit: draw(runner, &(1..6usize)),
            };
            assert_eq!(
                lake.facets(&request).await.unwrap(),
                sqlite.facets(&request).await.unwrap(),
                "{context}"
            );
        }
    }
    assert!(
        n_hits > 600,
        "seed {seed}: queries find something: {n_hits}"
    );
    // Retention takes the same entries away.
    let middle = Timestamp::from_secs(sqlite.stats().await.unwrap().oldest.unwrap().as_secs() + 5);
    assert_eq!(
        lake.delete_older_than(middle).await.unwrap(),
        sqlite.delete_older_than(middle).await.unwrap(),
        "seed {seed}"
    );
    assert_eq!(
        lake.stats().await.unwrap().n_entries,
        sqlite.stats().await.unwrap().n_entries,
        "seed {seed}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn random_queries_are_answered_alike_by_both_engines() {
    for seed in 1..=3 {
        agree(seed).await;
    }
}
