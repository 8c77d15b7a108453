//! Counts, histograms, facets, stats.

use std::{collections::BTreeMap, time::Duration};

use tawny_model::{Remedy, Severity, Timestamp};
use tawny_query::Field;

use super::{
    Feed, Line, Place, T0, filter, oldest,
    reading::{MINUTE, SECOND, between, described},
};
use crate::{
    Bucket, FacetsRequest, Filter, HistogramRequest, MAX_BUCKETS, MAX_LIMIT, SearchRequest,
};

fn counts(pairs: &[(Severity, u64)]) -> [u64; 7] {
    let mut counts = [0; 7];
    for (severity, n) in pairs {
        counts[usize::from(severity.number())] = *n;
    }
    counts
}

pub async fn histogram_counts_by_bucket_and_severity(place: &impl Place) {
    let store = place.open().await;
    let lines = (0..600).map(|n| {
        let severity = if n % 10 == 0 {
            Severity::Error
        } else {
            Severity::Info
        };
        Line::at(n * SECOND, if n % 2 == 0 { "even" } else { "odd" }).severity(severity)
    });
    Feed::new("api").write(&*store, lines).await;
    let histogram = async |query: &str, bucket| {
        let request = HistogramRequest {
            filter: filter(query),
            bucket,
        };
        store.histogram(&request).await.unwrap().buckets
    };
    let minute = |n: i64, counts| Bucket {
        start: Timestamp::from_nanos(T0 + n * MINUTE),
        counts,
    };
    let all = counts(&[(Severity::Info, 54), (Severity::Error, 6)]);
    let expected: Vec<Bucket> = (0..10).map(|n| minute(n, all)).collect();
    assert_eq!(histogram("", Duration::from_secs(60)).await, expected);
    let even = counts(&[(Severity::Info, 24), (Severity::Error, 6)]);
    let expected: Vec<Bucket> = (0..10).map(|n| minute(n, even)).collect();
    assert_eq!(histogram("even", Duration::from_secs(60)).await, expected);
    let errors = counts(&[(Severity::Error, 6)]);
    let expected: Vec<Bucket> = (0..10).map(|n| minute(n, errors)).collect();
    assert_eq!(
        histogram("level:error pod:api", Duration::from_secs(60)).await,
        expected
    );
    assert_eq!(histogram("nowhere", Duration::from_secs(60)).await, []);
}

pub async fn histogram_of_odd_buckets_and_cut_minutes_is_exact(place: &impl Place) {
    let store = place.open().await;
    let stamps: Vec<i64> = (0..2_000).map(|n| n * 371_111_111 - 100 * SECOND).collect();
    Feed::new("api")
        .write(&*store, stamps.iter().map(|n| Line::at(*n, "x")))
        .await;
    for (from, to, bucket_ms) in [
        (-30 * SECOND + 1, 200 * SECOND - 1, 60_000),
        (-30 * SECOND, 31 * SECOND, 7_003),
        (5, 7 * MINUTE, 120_000),
        (MINUTE, 3 * MINUTE, 90_000),
        (MINUTE + 1, MINUTE + 2, 60_000),
        (10 * SECOND, 50 * SECOND, 60_000),
    ] {
        let bucket_ns = bucket_ms * 1_000_000;
        let mut expected: BTreeMap<i64, u64> = BTreeMap::new();
        for stamp in stamps.iter().filter(|n| (from..to).contains(*n)) {
            *expected
                .entry((T0 + stamp).div_euclid(bucket_ns) * bucket_ns)
                .or_default() += 1;
        }
        let bucket = Duration::from_millis(bucket_ms.cast_unsigned());
        let request = HistogramRequest {
            filter: between(from, to),
            bucket,
        };
        let found = store.histogram(&request).await.unwrap().buckets;
        let found: BTreeMap<i64, u64> = found
            .iter()
            .map(|bucket| (bucket.start.as_nanos(), bucket.counts.iter().sum()))
            .collect();
        assert_eq!(found, expected, "{from}..{to} by {bucket_ms} ms");
        assert_eq!(
            store.count(&between(from, to)).await.unwrap(),
            expected.values().sum::<u64>()
        );
    }
}

pub async fn histogram_with_too_many_buckets_is_refused(place: &impl Place) {
    let store = place.open().await;
    let n_lines = i64::try_from(MAX_BUCKETS).expect("small") + 1;
    Feed::new("api")
        .write(&*store, (0..n_lines).map(|n| Line::at(n * 1_000_000, "x")))
        .await;
    for (milliseconds, is_fine) in [(1, false), (2, true), (0, false)] {
        let request = HistogramRequest {
            filter: filter(""),
            bucket: Duration::from_millis(milliseconds),
        };
        match store.histogram(&request).await {
            Ok(_) => assert!(is_fine),
            Err(error) => {
                assert!(!is_fine);
                assert_eq!(error.remedy(), Remedy::Reject);
            }
        }
    }
    let widest = HistogramRequest {
        filter: filter(""),
        bucket: Duration::MAX,
    };
    assert_eq!(store.histogram(&widest).await.unwrap().buckets.len(), 1);
}

pub async fn facets_are_ordered_by_count_then_value(place: &impl Place) {
    let store = place.open().await;
    let line = |n: i64, path: &str| Line::at(n, "hit").with("path", path);
    described("api-1", "prod", "n1", "api", 0)
        .write(
            &*store,
            [
                line(0, "/a"),
                line(1, "/b"),
                line(2, "/b"),
                Line::at(3, "miss"),
            ],
        )
        .await;
    described("web-1", "stage", "", "web", 2)
        .write(&*store, [line(4, "/c").severity(Severity::Warn)])
        .await;
    let ask = async |query: &str, fields: &[Field], limit| {
        let request = FacetsRequest {
            filter: filter(query),
            fields: fields.to_vec(),
            limit,
        };
        let facets = store.facets(&request).await.unwrap();
        let facets = facets.into_iter().zip(fields).map(|(facet, field)| {
            assert_eq!(facet.field, *field);
            facet
                .values
                .into_iter()
                .map(|(value, n)| format!("{value}={n}"))
                .collect::<Vec<_>>()
                .join(" ")
        });
        facets.collect::<Vec<_>>()
    };
    let path = Field::Attribute("path".into());
    assert_eq!(
        ask("", std::slice::from_ref(&path), 10).await,
        ["/b=2 /a=1 /c=1"]
    );
    assert_eq!(ask("", std::slice::from_ref(&path), 2).await, ["/b=2 /a=1"]);
    assert_eq!(ask("miss", &[path], 2).await, [""]);
    let fields = [
        Field::Namespace,
        Field::Pod,
        Field::Node,
        Field::Severity,
        Field::Restart,
        Field::Workload,
        Field::Label("app".into()),
        Field::Output,
        Field::Container,
        Field::Cluster,
    ];
    let all = [
        "prod=4 stage=1",
        "api-1=4 web-1=1",
        "n1=4",
        "info=4 warn=1",
        "0=4 2=1",
        "Deployment/api=4 Deployment/web=1",
        "api=4 web=1",
        "stdout=5",
        "main=5",
        "",
    ];
    assert_eq!(ask("", &fields, 10).await, all);
    assert_eq!(ask("", &fields[..7], 10).await, all[..7]);
    assert_eq!(ask("hit level:info", &fields[..1], 10).await, ["prod=3"]);
    assert_eq!(ask("", &[], 10).await, [""; 0]);
}

pub async fn counts_agree_with_what_is_listed(place: &impl Place) {
    let store = place.open().await;
    for (idx, pod) in ["api", "web", "db"].into_iter().enumerate() {
        let lines = (0..200usize).map(|n| {
            let severity = Severity::ALL[(n + idx) % 7];
            Line::at(
                i64::try_from(n * n).expect("small") * 5_000_000,
                format!("word{} common", n % 9),
            )
            .severity(severity)
        });
        Feed::new(pod).write(&*store, lines).await;
    }
    for query in [
        "",
        "common",
        "word3",
        "word3 level>=warn",
        "level>=error",
        "level<=debug",
        "level!=info",
        "pod:api",
        "-pod:api word1",
        "pod:api OR word2",
        "\"word4 common\"",
        "wor*",
        "-common",
        "level>=warn OR word5",
    ] {
        for (from, to) in [
            (i64::MIN + T0, i64::MAX - T0),
            (SECOND, 90 * SECOND),
            (0, 61 * SECOND + 3),
        ] {
            let filter = Filter {
                query: tawny_query::Query::parse(query).unwrap(),
                ..between(from, to)
            };
            let request = SearchRequest {
                filter: filter.clone(),
                ..oldest("", MAX_LIMIT)
            };
            let listed = store.search(&request).await.unwrap().entries;
            assert_eq!(
                store.count(&filter).await.unwrap(),
                listed.len() as u64,
                "{query} {from} {to}"
            );
            let request = HistogramRequest {
                filter,
                bucket: Duration::from_secs(60),
            };
            let buckets = store.histogram(&request).await.unwrap().buckets;
            let n: u64 = buckets.iter().flat_map(|bucket| bucket.counts).sum();
            assert_eq!(n, listed.len() as u64, "{query} {from} {to}");
        }
    }
}

/// KL-9.
pub async fn stats_say_how_much_and_from_when_to_when(place: &impl Place) {
    let store = place.open().await;
    let empty = store.stats().await.unwrap();
    assert_eq!(
        (empty.n_entries, empty.oldest, empty.newest),
        (0, None, None)
    );
    Feed::new("api")
        .write(
            &*store,
            [Line::at(7, "a"), Line::at(1, "b"), Line::at(99, "c")],
        )
        .await;
    Feed::new("web")
        .write(
            &*store,
            [
                Line::at(50, "d"),
                Line::at(SECOND + 7, "e"),
                Line::at(SECOND, "f"),
            ],
        )
        .await;
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.n_entries, stats.n_streams), (6, 2));
    assert_eq!(stats.oldest, Some(Timestamp::from_nanos(T0 + 1)));
    assert_eq!(stats.newest, Some(Timestamp::from_nanos(T0 + SECOND + 7)));
    assert!(stats.disk_bytes > 0);
}
