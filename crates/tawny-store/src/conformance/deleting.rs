//! Deletion and retention.

use std::{sync::Arc, time::Duration};

use tawny_model::{ByteSize, Timestamp};
use tokio::task::JoinSet;

use super::{Feed, Line, Place, T0, filter, reading::described, search_all, times};
use crate::{Retention, Written};

const SECOND: i64 = 1_000_000_000;

fn at(after_ns: i64) -> Timestamp {
    Timestamp::from_nanos(T0 + after_ns)
}

/// KL-8.
pub async fn older_entries_go_and_the_rest_stays(place: &impl Place) {
    let store = place.open().await;
    Feed::new("api")
        .write(&*store, (0..100).map(|n| Line::at(n, "x")))
        .await;
    Feed::new("web")
        .write(&*store, [Line::at(1_500, "y")])
        .await;
    assert_eq!(store.delete_older_than(at(0)).await.unwrap(), 0);
    assert_eq!(store.delete_older_than(at(42)).await.unwrap(), 42);
    assert_eq!(store.delete_older_than(at(42)).await.unwrap(), 0);
    assert_eq!(
        times(&search_all(&*store, "x").await),
        (42..100).collect::<Vec<_>>()
    );
    assert_eq!(store.stats().await.unwrap().oldest, Some(at(42)));
    assert_eq!(store.stats().await.unwrap().n_entries, 59);
    assert_eq!(store.delete_older_than(Timestamp::MAX).await.unwrap(), 59);
    assert_eq!(store.stats().await.unwrap().n_entries, 0);
    Feed::new("db")
        .write(&*store, [Line::at(0, "old but new here")])
        .await;
    assert_eq!(store.count(&filter("")).await.unwrap(), 1);
}

pub async fn deleted_lines_are_not_admitted_again(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    let batch = feed.batch([Line::at(0, "a"), Line::at(1, "b")]);
    store.write(vec![batch.clone()]).await.unwrap();
    store.delete_older_than(Timestamp::MAX).await.unwrap();
    drop(store);
    let store = place.open().await;
    let written = store.write(vec![batch.clone()]).await.unwrap();
    assert_eq!(written, [Written::Duplicate { end: batch.end }]);
    assert_eq!(store.count(&filter("")).await.unwrap(), 0);
}

pub async fn deleted_words_are_no_longer_counted(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    for round in 0..10 {
        let lines =
            (0..300).map(|n| Line::at(round * SECOND + n, format!("common unique{round}x{n}")));
        feed.write(&*store, lines).await;
    }
    assert_eq!(
        store.delete_older_than(at(5 * SECOND)).await.unwrap(),
        1_500
    );
    for (query, n_expected) in [
        ("common", 1_500),
        ("unique4x7", 0),
        ("unique5x7", 1),
        ("unique*", 1_500),
        ("pod:api", 1_500),
        ("*niqu*", 1_500),
    ] {
        assert_eq!(
            store.count(&filter(query)).await.unwrap(),
            n_expected,
            "{query}"
        );
        assert_eq!(
            search_all(&*store, query).await.len() as u64,
            n_expected,
            "{query}"
        );
    }
    // The same moments may be filled again.
    Feed::new("web")
        .write(&*store, (0..300).map(|n| Line::at(n, "common again")))
        .await;
    assert_eq!(store.count(&filter("common")).await.unwrap(), 1_800);
}

/// KL-17.
pub async fn age_limit_deletes_what_is_older(place: &impl Place) {
    let store = place.open().await;
    Feed::new("api")
        .write(&*store, (0..5_000).map(|n| Line::at(n * SECOND, "x")))
        .await;
    let retention = Retention {
        max_age: Some(Duration::from_secs(1_000)),
        ..Retention::default()
    };
    assert_eq!(
        store
            .apply_retention(&retention, at(5_000 * SECOND))
            .await
            .unwrap(),
        4_000
    );
    let left = search_all(&*store, "").await;
    assert_eq!((left.len(), left[0].timestamp), (1_000, at(4_000 * SECOND)));
}

pub async fn namespaces_have_ages_of_their_own(place: &impl Place) {
    let store = place.open().await;
    for namespace in ["dev", "prod", "audit"] {
        let mut feed = described(&format!("{namespace}-1"), namespace, "n1", "app", 0);
        feed.write(&*store, (0..300).map(|n| Line::at(n * SECOND, "x")))
            .await;
    }
    let retention = Retention {
        max_age: Some(Duration::from_secs(200)),
        namespaces: [
            ("dev".to_owned(), Some(Duration::from_secs(50))),
            ("audit".to_owned(), None),
            ("nowhere".to_owned(), Some(Duration::from_secs(1))),
        ]
        .into(),
        max_bytes: None,
    };
    let left = async |namespace: &str| {
        let filter = filter(&format!("namespace:{namespace}"));
        store.count(&filter).await.unwrap()
    };
    for (now, dev, prod) in [(300, 50, 200), (300, 50, 200), (400, 0, 100), (600, 0, 0)] {
        store
            .apply_retention(&retention, at(now * SECOND))
            .await
            .unwrap();
        assert_eq!(
            (left("dev").await, left("prod").await, left("audit").await),
            (dev, prod, 300),
            "after {now} s"
        );
    }
    let prod = Retention {
        namespaces: [("audit".to_owned(), Some(Duration::ZERO))].into(),
        ..Retention::default()
    };
    let n_deleted = store
        .apply_retention(&prod, at(600 * SECOND))
        .await
        .unwrap();
    assert_eq!(
        (n_deleted, store.count(&filter("")).await.unwrap()),
        (300, 0)
    );
}

fn wide(n: i64) -> Line {
    // Words that are each their own, as ids and paths are.
    let noise = (0..12)
        .map(|i| format!("{:x}", (n * 31 + i).wrapping_mul(0x1e37_79b9_7f4a_7c15)))
        .collect::<Vec<_>>();
    Line::at(n * 1_000_000, noise.join(" "))
}

pub async fn size_limit_deletes_the_oldest_and_shrinks_the_store(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    for round in 0..20 {
        feed.write(&*store, (round * 1_000..(round + 1) * 1_000).map(wide))
            .await;
    }
    // What it takes when nothing is pending, as a measure.
    store
        .apply_retention(&Retention::default(), at(0))
        .await
        .unwrap();
    let before = store.stats().await.unwrap();
    let max_bytes = before.disk_bytes / 2;
    let retention = Retention {
        max_bytes: Some(ByteSize(max_bytes)),
        ..Retention::default()
    };
    let n_deleted = store.apply_retention(&retention, at(0)).await.unwrap();
    let after = store.stats().await.unwrap();
    assert!(n_deleted > 0);
    assert_eq!(after.n_entries, 20_000 - n_deleted);
    assert!(
        after.disk_bytes <= max_bytes,
        "{} of {max_bytes}",
        after.disk_bytes
    );
    assert!(
        after.n_entries > 20_000 / 5,
        "no more than needed: {} left",
        after.n_entries
    );
    let first_left = i64::try_from(n_deleted).expect("small") * 1_000_000;
    assert_eq!(after.oldest, Some(at(first_left)), "the oldest went");
    assert_eq!(
        store.apply_retention(&retention, at(0)).await.unwrap(),
        0,
        "the limit holds now"
    );
    feed.write(&*store, (20_000..20_100).map(wide)).await;
    assert_eq!(
        store.stats().await.unwrap().n_entries,
        after.n_entries + 100
    );
}

pub async fn retention_without_limits_deletes_nothing(place: &impl Place) {
    let store = place.open().await;
    Feed::new("api")
        .write(&*store, (0..100).map(|n| Line::at(n, "x")))
        .await;
    let never = at(i64::MAX - T0);
    assert_eq!(
        store
            .apply_retention(&Retention::default(), never)
            .await
            .unwrap(),
        0
    );
    let generous = Retention {
        max_age: Some(Duration::MAX),
        max_bytes: Some(ByteSize::gib(1_000)),
        ..Retention::default()
    };
    assert_eq!(store.apply_retention(&generous, never).await.unwrap(), 0);
    assert_eq!(store.count(&filter("")).await.unwrap(), 100);
}

pub async fn writers_and_readers_go_on_during_retention(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    for round in 0..10 {
        feed.write(
            &*store,
            (0..1_000).map(|n| Line::at(round * SECOND + n, format!("old {n}"))),
        )
        .await;
    }
    let mut deleting = JoinSet::new();
    let deleter = Arc::clone(&store);
    deleting.spawn(async move {
        deleter
            .delete_older_than(at(9 * SECOND))
            .await
            .expect("it deletes")
    });
    for n in 0..50 {
        feed.write(&*store, [Line::at(100 * SECOND + n, "new")])
            .await;
        assert_eq!(
            store.count(&filter("new")).await.unwrap(),
            n.cast_unsigned() + 1
        );
    }
    assert_eq!(
        deleting
            .join_next()
            .await
            .expect("one task")
            .expect("no panic"),
        9_000
    );
    assert_eq!(store.count(&filter("")).await.unwrap(), 1_050);
}
