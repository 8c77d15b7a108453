//! Search: order, ranges, pages, and what each kind of query finds.

use std::{collections::BTreeMap, sync::Arc};

use tawny_model::{EntryId, LogEntry, Output, Remedy, Severity, Stream, Timestamp, Workload};
use tokio::task::JoinSet;

use super::{
    Feed, Line, Place, T0, feed::messages, filter, newest, oldest, search_all, stream, times,
    writing::newest_times,
};
use crate::{Filter, LogStore, MAX_LIMIT, Order, SearchRequest, limits::MAX_MESSAGE_BYTES};

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const MINUTE: i64 = 60 * SECOND;

pub(super) fn between(from: i64, to: i64) -> Filter {
    Filter {
        from: Timestamp::from_nanos(T0 + from),
        to: Timestamp::from_nanos(T0 + to),
        ..filter("")
    }
}

pub async fn newest_come_first_and_oldest_when_asked(place: &impl Place) {
    let store = place.open().await;
    // Late lines of another stream fall into place.
    Feed::new("api")
        .write(&*store, [1, 3, 5].map(|n| Line::at(n * SECOND, "x")))
        .await;
    Feed::new("web")
        .write(&*store, [2, 4].map(|n| Line::at(n * SECOND, "x")))
        .await;
    let seconds = |times: Vec<i64>| times.into_iter().map(|t| t / SECOND).collect::<Vec<_>>();
    assert_eq!(
        seconds(newest_times(&*store, "", 10).await),
        [5, 4, 3, 2, 1]
    );
    assert_eq!(seconds(newest_times(&*store, "x", 2).await), [5, 4]);
    let page = store.search(&oldest("", 3)).await.unwrap();
    assert_eq!(seconds(times(&page.entries)), [1, 2, 3]);
    assert!(page.has_more);
    assert!(!store.search(&oldest("", 5)).await.unwrap().has_more);
}

pub async fn lines_of_one_instant_keep_their_order(place: &impl Place) {
    let store = place.open().await;
    let (mut api, mut web) = (Feed::new("api"), Feed::new("web"));
    // As a source of whole seconds stamps them, over several batches.
    for batch in 0..4 {
        for feed in [&mut api, &mut web] {
            feed.write(
                &*store,
                (0..500).map(|n| Line::at(0, format!("{batch} {n:03}"))),
            )
            .await;
        }
    }
    for pod in ["api", "web"] {
        let found = search_all(&*store, &format!("pod:{pod}")).await;
        let mut sorted = messages(&found);
        sorted.sort_unstable();
        assert_eq!(messages(&found), sorted);
        assert_eq!(found.len(), 2_000);
    }
    // Their ids may have had to move on, yet time finds them.
    assert_eq!(store.count(&between(0, 1)).await.unwrap(), 4_000);
    assert_eq!(store.count(&between(1, SECOND)).await.unwrap(), 0);
}

pub async fn range_takes_its_start_and_leaves_its_end_to_the_nanosecond(place: &impl Place) {
    let store = place.open().await;
    let stamps = [0, 1, 999, 1_000, 1_001, 2_000];
    Feed::new("api")
        .write(&*store, stamps.map(|n| Line::at(n, "x")))
        .await;
    for from in stamps {
        for to in stamps {
            let expected: Vec<i64> = stamps
                .into_iter()
                .filter(|n| (from..to).contains(n))
                .collect();
            let filter = between(from, to);
            assert_eq!(store.count(&filter).await.unwrap(), expected.len() as u64);
            let with_word = Filter {
                query: tawny_query::Query::parse("x").unwrap(),
                ..filter.clone()
            };
            assert_eq!(
                store.count(&with_word).await.unwrap(),
                expected.len() as u64
            );
            let request = SearchRequest {
                filter,
                ..oldest("", 10)
            };
            assert_eq!(
                times(&store.search(&request).await.unwrap().entries),
                expected
            );
        }
    }
}

/// All pages of a query, following the cursor.
async fn pages(store: &dyn LogStore, query: &str, order: Order, limit: usize) -> Vec<LogEntry> {
    let mut request = SearchRequest {
        order,
        ..newest(query, limit)
    };
    let mut all: Vec<LogEntry> = Vec::new();
    loop {
        let page = store.search(&request).await.expect("search works");
        assert!(page.entries.len() <= limit && !(page.has_more && page.entries.is_empty()));
        all.extend(page.entries);
        let cursor = all.last().map(|entry| entry.id);
        if !page.has_more {
            return all;
        }
        match order {
            Order::NewestFirst => request.before = cursor,
            Order::OldestFirst => request.after = cursor,
        }
    }
}

pub async fn long_entries_make_short_pages(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    let third = "x".repeat(MAX_MESSAGE_BYTES / 3);
    for n in 0..4 {
        feed.write(&*store, [Line::at(n, third.as_str())]).await;
    }
    feed.write(&*store, [Line::at(4, "x".repeat(MAX_MESSAGE_BYTES))])
        .await;
    let page = store.search(&oldest("", 10)).await.unwrap();
    assert_eq!((times(&page.entries).len(), page.has_more), (3, true));
    let page = store.search(&newest("", 10)).await.unwrap();
    assert_eq!((times(&page.entries).len(), page.has_more), (1, true));
    for order in [Order::OldestFirst, Order::NewestFirst] {
        assert_eq!(pages(&*store, "", order, 10).await.len(), 5);
    }
}

pub async fn pages_neither_skip_nor_repeat(place: &impl Place) {
    let store = place.open().await;
    for pod in ["api", "web", "db"] {
        let word = |n: i64| if n % 3 == 0 { "fizz" } else { "buzz" };
        Feed::new(pod)
            .write(&*store, (0..100).map(|n| Line::at(n / 7 * 500, word(n))))
            .await;
    }
    for query in ["", "fizz", "pod:web fizz", "nowhere"] {
        let all = search_all(&*store, query).await;
        for limit in [1, 7, 34, 1_000] {
            assert_eq!(pages(&*store, query, Order::OldestFirst, limit).await, all);
            let mut newest = pages(&*store, query, Order::NewestFirst, limit).await;
            newest.reverse();
            assert_eq!(newest, all);
        }
    }
    let all = search_all(&*store, "").await;
    let request = SearchRequest {
        after: Some(all[10].id),
        before: Some(all[20].id),
        ..oldest("", 100)
    };
    assert_eq!(store.search(&request).await.unwrap().entries, all[11..20]);
    for (after, before) in [(i64::MAX, i64::MAX), (0, i64::MIN), (5, 5)] {
        let request = SearchRequest {
            after: Some(EntryId(after)),
            before: Some(EntryId(before)),
            ..oldest("", 9)
        };
        assert_eq!(store.search(&request).await.unwrap().entries, []);
    }
}

pub async fn pages_hold_while_lines_are_written(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    feed.write(&*store, (0..300).map(|n| Line::at(n * 1_000, "old")))
        .await;
    let mut writing = JoinSet::new();
    let writer_store = Arc::clone(&store);
    writing.spawn(async move {
        for round in 1..40 {
            feed.write(
                &*writer_store,
                (0..10).map(|n| Line::at(SECOND * round + n, "new")),
            )
            .await;
        }
    });
    // Newest first: what comes in is newer than every cursor. Oldest first: it comes at the end.
    for _ in 0..3 {
        let mut seen = pages(&*store, "", Order::NewestFirst, 11).await;
        seen.reverse();
        let again = pages(&*store, "", Order::OldestFirst, 11).await;
        assert_eq!(seen[..300], again[..300]);
        for all in [seen, again] {
            assert!(all.is_sorted_by(|a, b| a.id < b.id));
            assert_eq!(
                all.iter().filter(|entry| entry.message == "old").count(),
                300
            );
        }
    }
    writing
        .join_next()
        .await
        .expect("one task")
        .expect("it writes");
    assert_eq!(
        pages(&*store, "", Order::OldestFirst, 100).await.len(),
        300 + 390
    );
}

pub async fn limit_out_of_range_is_refused(place: &impl Place) {
    let store = place.open().await;
    for limit in [0, MAX_LIMIT + 1, usize::MAX] {
        let error = store.search(&newest("", limit)).await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::Reject);
    }
    assert_eq!(
        store.search(&newest("", MAX_LIMIT)).await.unwrap().entries,
        []
    );
}

pub async fn get_finds_by_id_and_nothing_else(place: &impl Place) {
    let store = place.open().await;
    Feed::new("api")
        .write(
            &*store,
            (0..50).map(|n| Line::at(n, format!("line {n}")).with("n", "1")),
        )
        .await;
    for entry in search_all(&*store, "").await {
        assert_eq!(store.get(entry.id).await.unwrap(), Some(entry));
    }
    for id in [0, i64::MIN, i64::MAX, -1] {
        assert_eq!(store.get(EntryId(id)).await.unwrap(), None);
    }
}

pub async fn words_phrases_prefixes_and_parts_are_found(place: &impl Place) {
    let store = place.open().await;
    let texts = [
        "connection refused by peer",
        "Connection was REFUSED",
        "refused connection",
        "connections refused",
        "time-out of foo_bar",
        "timeout after 30s",
        "confused",
        "größe 東京 x",
    ];
    let lines = texts
        .iter()
        .enumerate()
        .map(|(n, text)| Line::at(i64::try_from(n).expect("few"), *text));
    Feed::new("api").write(&*store, lines).await;
    for (query, expected) in [
        ("connection", &[0, 1, 2][..]),
        ("connection refused", &[0, 1, 2]),
        ("\"connection refused\"", &[0]),
        ("conn*", &[0, 1, 2, 3]),
        ("\"connection re\"*", &[0]),
        ("*fused*", &[0, 1, 2, 3, 6]),
        ("/time(d |-)?out/", &[4, 5]),
        ("bar", &[]),
        ("foo_bar", &[4]),
        ("refused -connection", &[3]),
        ("-refused", &[4, 5, 6, 7]),
        ("timeout OR confused", &[5, 6]),
        ("(timeout OR confused) -after", &[6]),
        ("GRÖSSE", &[]),
        ("GRÖẞE", &[7]),
        ("東京", &[7]),
        ("東*", &[7]),
        ("30", &[]),
        ("30s", &[5]),
    ] {
        let found = search_all(&*store, query).await;
        assert_eq!(times(&found), expected, "{query}");
        assert_eq!(
            store.count(&filter(query)).await.unwrap(),
            expected.len() as u64,
            "{query}"
        );
    }
}

pub async fn colour_codes_are_ignored(place: &impl Place) {
    let store = place.open().await;
    let raw = "\u{1b}[31mERR\u{1b}[1mOR\u{1b}[0m: conn\u{1b}[0mection lost";
    Feed::new("api").write(&*store, [Line::at(0, raw)]).await;
    for query in [
        "error",
        "\"error connection\"",
        "*rorconn* OR *nnectio*",
        "/^ERROR: c/",
    ] {
        assert_eq!(
            messages(&search_all(&*store, query).await),
            [raw],
            "{query}"
        );
    }
    for query in ["31m", "err", "0m*"] {
        assert_eq!(
            messages(&search_all(&*store, query).await),
            [""; 0],
            "{query}"
        );
    }
}

pub(super) fn described(pod: &str, namespace: &str, node: &str, app: &str, restart: u32) -> Feed {
    let plain = stream(pod);
    let id = tawny_model::StreamId {
        restart,
        ..plain.id.clone()
    };
    Feed::of(Arc::new(Stream {
        id,
        namespace: namespace.into(),
        node: node.into(),
        image: format!("registry/{app}:1").as_str().into(),
        workload: Some(Workload {
            kind: "Deployment".into(),
            name: app.into(),
        }),
        labels: BTreeMap::from([("app".into(), app.into())]),
        ..(*plain).clone()
    }))
}

pub async fn fields_of_streams_are_found(place: &impl Place) {
    let store = place.open().await;
    for (n, feed) in [
        described("api-1", "prod", "n1", "api", 0),
        described("api-1", "prod", "n1", "api", 1),
        described("api-2", "prod", "n2", "api", 0),
        described("web-1", "stage", "n2", "web", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let n = i64::try_from(n).expect("few");
        let mut lines = [
            Line::at(n, "x"),
            Line::at(n + 100, "x").severity(Severity::Error),
        ];
        lines[1].output = Output::Stderr;
        feed.clone().write(&*store, lines).await;
    }
    for (query, expected) in [
        ("namespace:prod", &[0, 1, 2, 100, 101, 102][..]),
        ("ns:PROD pod:api-2", &[2, 102]),
        ("pod:api-* level>=error", &[100, 101, 102]),
        ("pod:*-1 restart:0 level<error", &[0, 3]),
        ("restart>=1", &[1, 101]),
        ("node:n2 output:stderr", &[102, 103]),
        ("workload:web OR level:fatal", &[3, 103]),
        ("workload:Deployment/web", &[3, 103]),
        ("label.app:api -pod:api-1", &[2, 102]),
        ("-namespace:prod", &[3, 103]),
        ("-label.tier:* image:*web*", &[3, 103]),
        ("namespace:nowhere", &[]),
        ("namespace:nowhere OR output:stdout", &[0, 1, 2, 3]),
        ("x namespace:stage level:error", &[103]),
    ] {
        // Within a microsecond, streams come in no order of theirs.
        let mut found = times(&search_all(&*store, query).await);
        found.sort_unstable();
        assert_eq!(found, expected, "{query}");
        assert_eq!(
            store.count(&filter(query)).await.unwrap(),
            expected.len() as u64,
            "{query}"
        );
    }
}

pub async fn attributes_are_found_by_text_and_number(place: &impl Place) {
    let store = place.open().await;
    let lines = [
        Line::at(0, r#"{"status":500,"trace_id":"4bf9"}"#)
            .with("status", "500")
            .with("trace_id", "4bf9"),
        Line::at(1, "status=404").with("status", "404"),
        Line::at(2, "status=5e2 said 4bf9").with("status", "5e2"),
        Line::at(3, "no attributes, 4bf9 500"),
        Line::at(4, "status=slow")
            .with("status", "slow")
            .with("Status", "fast"),
    ];
    Feed::new("api").write(&*store, lines).await;
    for (query, expected) in [
        ("trace_id:4bf9", &[0][..]),
        ("trace_id:4BF9", &[0]),
        ("status>=500", &[0, 2]),
        ("status<500", &[1]),
        ("status:500", &[0]),
        ("status:*", &[0, 1, 2, 4]),
        ("-status:*", &[3]),
        ("status:s?ow", &[4]),
        ("Status:fast", &[4]),
        ("status:fast", &[]),
        ("4bf9", &[0, 2, 3]),
        ("4bf9 status>0", &[0, 2]),
    ] {
        assert_eq!(
            times(&search_all(&*store, query).await),
            expected,
            "{query}"
        );
        assert_eq!(
            store.count(&filter(query)).await.unwrap(),
            expected.len() as u64,
            "{query}"
        );
    }
}

pub async fn attribute_values_that_are_not_in_the_message_are_found(place: &impl Place) {
    let store = place.open().await;
    let lines = [
        Line::at(0, "done")
            .with("trace_id", "Needle-7")
            .with("note", "a \"b\" größe"),
        Line::at(1, "xneedle 77").with("trace_id", "needle"),
        Line::at(2, "\u{1b}[1mneedle\u{1b}[0m").with("trace_id", "needle"),
        Line::at(3, "needle 7"),
    ];
    Feed::new("api").write(&*store, lines).await;
    for (query, expected) in [
        ("trace_id:needle-7", &[0][..]),
        ("trace_id:needle", &[1, 2]),
        ("note:\"A \\\"b\\\" GRÖßE\"", &[0]),
        // What is in an attribute alone is no word of the message.
        ("needle", &[2, 3]),
        ("größe", &[]),
    ] {
        assert_eq!(
            times(&search_all(&*store, query).await),
            expected,
            "{query}"
        );
        assert_eq!(
            store.count(&filter(query)).await.unwrap(),
            expected.len() as u64,
            "{query}"
        );
    }
}

/// KL-13: text of an index's own query syntax is text.
pub async fn nothing_in_a_query_is_syntax(place: &impl Place) {
    let store = place.open().await;
    let texts = [
        "AND",
        "a NEAR b",
        "x\"y",
        "it's 100%",
        "rowid ^ + {}",
        "; DROP TABLE logs",
        "text: words",
    ];
    Feed::new("api")
        .write(
            &*store,
            texts
                .iter()
                .enumerate()
                .map(|(n, t)| Line::at(i64::try_from(n).expect("few"), *t)),
        )
        .await;
    for text in texts {
        let quoted = format!("\"{}\"", text.replace('"', "\\\""));
        let found = search_all(&*store, &quoted).await;
        assert_eq!(messages(&found), [text]);
        for word in tawny_query::tokens(text) {
            let found = search_all(&*store, &format!("\"{word}\"")).await;
            assert!(messages(&found).contains(&text), "{word}");
        }
    }
}

pub async fn many_streams_are_told_apart(place: &impl Place) {
    let store = place.open().await;
    let batches = (0..500i64).map(|n| {
        let mut feed = described(
            &format!("pod-{n}"),
            &format!("ns-{}", n % 10),
            "n1",
            "app",
            0,
        );
        feed.batch([
            Line::at(n, "x"),
            Line::at(n + 1_000, "y").severity(Severity::Error),
        ])
    });
    store.write(batches.collect()).await.unwrap();
    for (query, n_expected) in [
        ("namespace:ns-3", 100),
        ("pod:pod-77", 2),
        ("pod:pod-7?", 20),
        ("-pod:pod-77", 998),
        ("pod:pod-1*", 2 * 111),
        ("namespace:ns-3 level:error", 50),
        ("-namespace:ns-3 level:error", 450),
        ("-namespace:ns-3 y", 450),
        ("pod:pod-1* OR x", 500 + 111),
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
    assert_eq!(store.stats().await.unwrap().n_streams, 500);
}
