//! How little is opened for a question.

use std::sync::{Arc, atomic::Ordering};

use tawny_model::Timestamp;
use tawny_query::Query;

use super::{Latest, MemoryRun, T0, budget, lines};
use crate::{
    Filter, HistogramRequest, Order, SearchRequest,
    lake::{
        query::{Snapshot, count, histogram, search},
        run::Run,
    },
};

const SECOND: i64 = 1_000_000_000;

/// 4,096 lines, one a second, three streams, blocks of 64 rows: 64 blocks, over 68 minutes.
fn world() -> (Arc<MemoryRun>, Snapshot) {
    let run = Arc::new(MemoryRun::new(lines(4_096, |n| n * SECOND), 64));
    let snapshot = Snapshot {
        hot: Vec::new(),
        runs: vec![Arc::clone(&run) as Arc<dyn Run>],
        streams: Arc::new(Latest::default()),
    };
    (run, snapshot)
}

fn filter(query: &str, from: i64, to: i64) -> Filter {
    Filter {
        query: Query::parse(query).unwrap(),
        from: Timestamp::from_nanos(T0 + from),
        to: Timestamp::from_nanos(T0 + to),
    }
}

fn everything(query: &str) -> Filter {
    Filter {
        from: Timestamp::MIN,
        to: Timestamp::MAX,
        ..filter(query, 0, 0)
    }
}

/// Blocks opened, those opened for messages, and entries found.
fn cost(filter: Filter, order: Order, limit: usize) -> (usize, usize, usize) {
    let (run, snapshot) = world();
    let request = SearchRequest {
        filter,
        order,
        limit,
        after: None,
        before: None,
    };
    let page = search(&snapshot, &request, &budget(1)).unwrap();
    (
        run.n_opened.load(Ordering::Relaxed),
        run.n_messages.load(Ordering::Relaxed),
        page.entries.len(),
    )
}

#[test]
fn a_needle_opens_the_block_it_is_in() {
    // Times and ids, then messages, then the whole entry.
    assert_eq!(cost(everything("2345"), Order::NewestFirst, 100), (3, 2, 1));
    assert_eq!(
        cost(everything("n:2345"), Order::NewestFirst, 100),
        (3, 1, 1)
    );
    assert_eq!(
        cost(everything("nowhere"), Order::NewestFirst, 100),
        (0, 0, 0)
    );
    let (run, snapshot) = world();
    assert_eq!(
        count(&snapshot, &everything("2345"), &budget(1)).unwrap(),
        1
    );
    assert_eq!(run.n_opened.load(Ordering::Relaxed), 1);
}

#[test]
fn a_tail_opens_the_ends_of_streams() {
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for query in ["", "level>=error", "pod:a", "pod:a level:info"] {
            let (n_opened, n_messages, n_found) = cost(everything(query), order, 5);
            assert_eq!(n_found, 5, "{query}");
            // Three streams, each looked into and read; a page of one stream may lie over the edge of a block.
            assert!(
                n_opened <= 9 && n_messages <= 3,
                "{query}: {n_opened} {n_messages}"
            );
        }
    }
}

#[test]
fn a_span_opens_what_is_in_it() {
    let last_minutes = filter("line", 4_000 * SECOND, 5_000 * SECOND);
    let (n_opened, n_messages, n_found) = cost(last_minutes, Order::NewestFirst, 1_000);
    assert_eq!(n_found, 96);
    // Of one stream the end lies in two blocks; times, messages and whole entries of each.
    assert_eq!((n_opened, n_messages), (12, 8));
    assert_eq!(
        cost(filter("line", -100, 0), Order::NewestFirst, 10),
        (0, 0, 0)
    );
}

#[test]
fn counts_by_stream_and_severity_open_only_cut_minutes() {
    let (run, snapshot) = world();
    let n_opened = || run.n_opened.swap(0, Ordering::Relaxed);
    let budget = budget(1);
    for query in ["", "level>=error", "pod:a", "pod:a level:info OR pod:b"] {
        let whole = HistogramRequest {
            filter: everything(query),
            bucket: std::time::Duration::from_secs(60),
        };
        let n: u64 = histogram(&snapshot, &whole, &budget)
            .unwrap()
            .buckets
            .iter()
            .flat_map(|bucket| bucket.counts)
            .sum();
        assert_eq!(count(&snapshot, &whole.filter, &budget).unwrap(), n);
        assert_eq!(n_opened(), 0, "{query}");
        let cut = filter(query, 1_000 * SECOND + 1, 3_000 * SECOND + 1);
        assert!(count(&snapshot, &cut, &budget).unwrap() > 0);
        // Two edges in each of three streams.
        let n_opened = n_opened();
        assert!((1..=8).contains(&n_opened), "{query}: {n_opened}");
    }
    assert_eq!(run.n_messages.load(Ordering::Relaxed), 0);
}
