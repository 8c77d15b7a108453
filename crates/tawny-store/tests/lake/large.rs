//! Much of one thing: attribute keys, streams; little of another: memory for a query.

use tawny_query::Field;
use tawny_store::{
    Error, FacetsRequest,
    conformance::{Feed, Line, filter, stream},
};

use super::*;

async fn open(directory: &Directory, query_memory: ByteSize) -> LakeStore {
    let config = LakeConfig {
        memory: directory.memory,
        query_memory,
        ..LakeConfig::new(directory.root())
    };
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(T0)));
    LakeStore::open(config, clock, &mut Registry::default())
        .await
        .unwrap()
}

async fn flush(store: &LakeStore) {
    store.delete_older_than(Timestamp::MIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn million_distinct_attribute_keys_are_stored_and_found() {
    const KEYS: i64 = 250;
    let directory = Directory::patient();
    let store = open(&directory, ByteSize::mib(256)).await;
    let mut feed = Feed::new("api");
    for batch in 0..8i64 {
        let line = |n: i64| {
            let n = batch * 500 + n;
            let line = Line::at(n * 1_000, format!("line {n}")).with("path", "/index");
            (0..KEYS).fold(line, |line, key| line.with(&format!("key_{n}_{key}"), "v"))
        };
        feed.write(&store, (0..500).map(line)).await;
        if batch % 4 == 3 {
            flush(&store).await;
        }
    }
    for (query, n) in [
        ("key_7_9:v", 1),
        ("key_3999_249:*", 1),
        ("key_4000_0:v", 0),
        ("path:/index", 4_000),
    ] {
        assert_eq!(store.count(&filter(query)).await.unwrap(), n, "{query}");
    }
    let found = store
        .search(&tawny_store::conformance::newest("key_7_9:v", 1))
        .await
        .unwrap();
    assert_eq!(found.entries[0].attributes.len(), 251);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundred_thousand_streams_of_one_hour_are_told_apart_and_open_again() {
    const STREAMS: i64 = 100_000;
    let directory = Directory::patient();
    let store = open(&directory, ByteSize::mib(256)).await;
    let stream_of = |n: i64| stream(&format!("pod-{n:06}"));
    for chunk in 0..20 {
        let batches = (0..STREAMS / 20).map(|n| {
            let n = chunk * STREAMS / 20 + n;
            Feed::of(stream_of(n)).batch([Line::at(n * 36_000_000, format!("line of {n}"))])
        });
        store.write(batches.collect()).await.unwrap();
    }
    flush(&store).await;
    drop(store);
    let store = open(&directory, ByteSize::mib(256)).await;
    let stats = store.stats().await.unwrap();
    assert_eq!(stats.n_streams, STREAMS.cast_unsigned());
    assert_eq!(stats.n_entries, STREAMS.cast_unsigned());
    // A stream is named once in a list and once in a segment, and takes few bytes there.
    assert!(stats.disk_bytes < 60 * STREAMS.cast_unsigned(), "{stats:?}");
    assert_eq!(store.count(&filter("pod:pod-077777")).await.unwrap(), 1);
    assert_eq!(store.count(&filter("pod:pod-07*")).await.unwrap(), 10_000);
    let id = stream_of(4_711).id.clone();
    let ends = store.resume(tawny_model::WriterId(2), &[id]).await.unwrap();
    assert!(ends[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn query_over_everything_with_little_memory_is_refused_with_its_limit() {
    let directory = Directory::patient();
    let store = open(&directory, ByteSize::kib(64)).await;
    let mut feed = Feed::new("api");
    let line = |n: i64| Line::at(n * 1_000, format!("line {n}")).with("user", &format!("user-{n}"));
    feed.write(&store, (0..20_000).map(line)).await;
    let facets = |query: &str| FacetsRequest {
        filter: filter(query),
        fields: vec![Field::Attribute("user".to_owned())],
        limit: 10,
    };
    for place in ["memory", "segments"] {
        let error = store.facets(&facets("")).await.unwrap_err();
        assert!(
            matches!(error, Error::TooExpensive { .. }),
            "{place}: {error}"
        );
        assert!(
            error.to_string().contains("65536 bytes"),
            "{place}: {error}"
        );
        // Narrower questions, and those that gather nothing, are answered.
        assert_eq!(
            store.facets(&facets("77")).await.unwrap()[0].values.len(),
            1,
            "{place}"
        );
        assert_eq!(
            store.count(&filter("line")).await.unwrap(),
            20_000,
            "{place}"
        );
        flush(&store).await;
    }
}
