//! Random queries against the matcher, random calls against a plain model. Seeds are fixed and printed on failure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tawny_model::{EntryId, LogEntry, StreamId, Timestamp, WriterId};
use tawny_query::{Field, Query, testing};

use super::{Feed, Line, Place, T0, oldest, search_all};
use crate::{FacetsRequest, Filter, HistogramRequest, MAX_LIMIT, Order, SearchRequest, Written};

pub(super) fn runner(seed: u8) -> TestRunner {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    TestRunner::new_with_rng(Config::default(), rng)
}

pub(super) fn draw<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy
        .new_tree(runner)
        .expect("strategies give values")
        .current()
}

/// Hundreds of random queries over random entries: search, count, histogram and facets say what [`Query::matches`] says.
pub async fn engine_answers_as_the_matcher_does(place: &impl Place) {
    const SEED: u8 = 7;
    let mut runner = runner(SEED);
    let store = place.open().await;
    let strategy = proptest::collection::vec(testing::entry(), 150);
    for _ in 0..2 {
        store.append(draw(&mut runner, &strategy)).await.unwrap();
    }
    let all = search_all(&*store, "").await;
    assert!(all.len() > 250, "few entries are the same");
    let base = all[0].timestamp.as_secs();
    let mut n_hits = 0;
    for case in 0..400 {
        let query = draw(&mut runner, &testing::query());
        let (from, to) = match case % 3 {
            0 => (Timestamp::MIN, Timestamp::MAX),
            1 => (
                Timestamp::from_secs(base + 1),
                Timestamp::from_secs(base + 8),
            ),
            _ => {
                let offset = draw(&mut runner, &(0..8_000_000_000i64));
                let from = Timestamp::from_nanos(base * 1_000_000_000 + offset);
                (from, from.saturating_add(Duration::from_secs(3)))
            }
        };
        let context = format!("seed {SEED}, case {case}: `{query}` {from}..{to}");
        let is_hit = |entry: &&LogEntry| {
            entry.timestamp >= from && entry.timestamp < to && query.matches(*entry)
        };
        let mut expected: Vec<&LogEntry> = all.iter().filter(is_hit).collect();
        n_hits += expected.len();
        let filter = Filter {
            query: query.clone(),
            from,
            to,
        };
        assert_eq!(
            store.count(&filter).await.expect(&context),
            expected.len() as u64,
            "{context}"
        );
        let request = HistogramRequest {
            filter: filter.clone(),
            bucket: Duration::from_secs(60),
        };
        let buckets = store.histogram(&request).await.expect(&context).buckets;
        assert_eq!(
            buckets.iter().flat_map(|b| b.counts).sum::<u64>(),
            expected.len() as u64,
            "{context}"
        );
        let request = FacetsRequest {
            filter: filter.clone(),
            fields: vec![Field::Namespace, Field::Attribute("status".into())],
            limit: usize::MAX,
        };
        let facets = store.facets(&request).await.expect(&context);
        let expected_facets = [
            tally(expected.iter().map(|entry| Some(&*entry.stream.namespace))),
            tally(expected.iter().map(|entry| entry.attribute("status"))),
        ];
        for (facet, expected) in facets.into_iter().zip(expected_facets) {
            let values: BTreeMap<String, u64> = facet.values.into_iter().collect();
            assert_eq!(values, expected, "{context}");
        }
        let request = SearchRequest {
            filter,
            ..oldest("", MAX_LIMIT)
        };
        let found = store.search(&request).await.expect(&context).entries;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{context}");
        let request = SearchRequest {
            order: Order::NewestFirst,
            limit: 5,
            ..request
        };
        let page = store.search(&request).await.expect(&context);
        expected.reverse();
        assert_eq!(page.has_more, expected.len() > 5, "{context}");
        expected.truncate(5);
        assert_eq!(
            page.entries.iter().collect::<Vec<_>>(),
            expected,
            "{context}"
        );
    }
    assert!(n_hits > 5_000, "the queries hit something: {n_hits}");
}

fn tally<'e>(values: impl Iterator<Item = Option<&'e str>>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for value in values.flatten() {
        *counts.entry(value.to_owned()).or_default() += 1;
    }
    counts
}

#[derive(Debug, Clone)]
enum Op {
    /// Sends lines from `back` batches before the stream's end; see [`Lines`].
    Write {
        stream: usize,
        back: usize,
        n: usize,
        writer: u64,
    },
    Append {
        stream: usize,
        at: i64,
        n: i64,
    },
    Resume {
        stream: usize,
        writer: u64,
    },
    Delete {
        before: i64,
    },
    Reopen,
}

const STREAMS: usize = 4;
const LINES: usize = 120;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0..STREAMS, 0..12usize, 0..9usize, 1..3u64)
            .prop_map(|(stream, back, n, writer)| Op::Write { stream, back, n, writer }),
        4 => (0..STREAMS, 0..40i64, 1..5i64).prop_map(|(stream, at, n)| Op::Append { stream, at, n }),
        2 => (0..STREAMS, 1..3u64).prop_map(|(stream, writer)| Op::Resume { stream, writer }),
        1 => (0..30i64).prop_map(|before| Op::Delete { before }),
        1 => Just(Op::Reopen),
    ]
}

/// What a store is, told plainly.
#[derive(Default)]
struct Model {
    /// By time and order of arrival.
    entries: BTreeMap<(Timestamp, u64), (StreamId, String)>,
    /// How many lines of each stream are in.
    ends: [Option<usize>; STREAMS],
    owners: [Option<u64>; STREAMS],
    n_arrived: u64,
}

impl Model {
    fn add(&mut self, at: Timestamp, stream: &StreamId, message: String) {
        self.n_arrived += 1;
        self.entries
            .insert((at, self.n_arrived), (stream.clone(), message));
    }

    fn has(&self, at: Timestamp, stream: &StreamId, message: &str) -> bool {
        let of_instant = (at, 0)..=(at, u64::MAX);
        self.entries
            .range(of_instant)
            .any(|(_, (s, m))| s == stream && m == message)
    }

    /// Sorted, as what is stored compares.
    fn listed(&self) -> Vec<(Timestamp, StreamId, String)> {
        let mut all: Vec<_> = self
            .entries
            .iter()
            .map(|((at, _), (stream, message))| (*at, stream.clone(), message.clone()))
            .collect();
        all.sort();
        all
    }
}

/// Line `n` of a stream: times repeat and step back now and then.
fn line(stream: usize, n: usize) -> Line {
    let wave = [0, 3, 3, 5, 4, 9, 9, 9, 12, 11][n % 10] + n / 10 * 10;
    Line::at(
        i64::try_from(wave).expect("small") * 400,
        format!("stream {stream} line {n}"),
    )
}

/// A few hundred calls in each of several runs; what is stored, and every answer, is what the model says.
pub async fn any_sequence_of_calls_agrees_with_a_plain_model(place: &impl Place) {
    const SEED: u8 = 11;
    let mut runner = runner(SEED);
    let ops = draw(&mut runner, &proptest::collection::vec(op(), 400));
    let streams: Vec<_> = (0..STREAMS)
        .map(|n| super::stream(&format!("pod-{n}")))
        .collect();
    // The positions at which lines begin.
    let starts: Vec<Vec<Feed>> = (0..STREAMS)
        .map(|stream| {
            let mut feed = Feed::of(Arc::clone(&streams[stream]));
            (0..=LINES)
                .map(|n| {
                    let here = feed.clone();
                    feed.batch([line(stream, n)]);
                    here
                })
                .collect()
        })
        .collect();
    let mut model = Model::default();
    let mut store = Some(place.open().await);
    for (step, op) in ops.iter().enumerate() {
        let context = format!("seed {SEED}, step {step}: {op:?}");
        let open = store.as_deref().expect("open between steps");
        match *op {
            Op::Write {
                stream,
                back,
                n,
                writer,
            } => {
                let end = model.ends[stream].unwrap_or_default();
                // Mostly overlapping what is in, at times behind a hole of one line.
                let from = (end + 1).saturating_sub(back).min(LINES);
                let to = (from + n).min(LINES);
                let mut feed = Feed {
                    writer: WriterId(writer),
                    ..starts[stream][from].clone()
                };
                let batch = feed.batch((from..to).map(|n| line(stream, n)));
                let position = |n: usize| starts[stream][n].position;
                let expected = if model.owners[stream].is_some_and(|owner| owner != writer) {
                    Written::Fenced
                } else if from > end {
                    Written::Gap {
                        committed: position(end),
                    }
                } else if to <= end {
                    Written::Duplicate { end: position(end) }
                } else {
                    for n in end..to {
                        let line = line(stream, n);
                        model.add(line.timestamp, &streams[stream].id, line.message);
                    }
                    model.ends[stream] = Some(to);
                    Written::New {
                        end: position(to),
                        n_new: (to - end) as u64,
                    }
                };
                let written = open.write(vec![batch]).await.expect(&context);
                assert_eq!(written, [expected], "{context}");
            }
            Op::Append { stream, at, n } => {
                let lines: Vec<Line> = (at..at + n)
                    .map(|t| Line::at(t * 400, format!("pushed {}", t / 2)))
                    .collect();
                let mut n_new = 0;
                for line in &lines {
                    if !model.has(line.timestamp, &streams[stream].id, &line.message) {
                        model.add(line.timestamp, &streams[stream].id, line.message.clone());
                        n_new += 1;
                    }
                }
                let entries = lines
                    .into_iter()
                    .map(|line| line.entry(&streams[stream]))
                    .collect();
                assert_eq!(
                    open.append(entries).await.expect(&context),
                    n_new,
                    "{context}"
                );
            }
            Op::Resume { stream, writer } => {
                let id = std::slice::from_ref(&streams[stream].id);
                let ends = open.resume(WriterId(writer), id).await.expect(&context);
                let expected = model.ends[stream].map(|n| starts[stream][n].position);
                assert_eq!(ends[0].map(|end| end.end), expected, "{context}");
                model.owners[stream] = Some(writer);
            }
            Op::Delete { before } => {
                let before = Timestamp::from_nanos(T0 + before * 400);
                let kept = model.entries.split_off(&(before, 0));
                let n_gone = std::mem::replace(&mut model.entries, kept).len();
                let n = open.delete_older_than(before).await.expect(&context);
                assert_eq!(n, n_gone as u64, "{context}");
            }
            Op::Reopen => {
                drop(store.take());
                store = Some(place.open().await);
                // Ownership is of the process's life.
                model.owners = Default::default();
            }
        }
        let open = store.as_deref().expect("open between steps");
        let mut found: Vec<_> = search_all(open, "")
            .await
            .into_iter()
            .map(|entry| (entry.timestamp, entry.stream.id.clone(), entry.message))
            .collect();
        found.sort();
        assert_eq!(found, model.listed(), "{context}");
        let filter = Filter {
            query: Query::all(),
            from: Timestamp::MIN,
            to: Timestamp::MAX,
        };
        assert_eq!(
            open.count(&filter).await.expect(&context),
            found.len() as u64,
            "{context}"
        );
    }
    assert!(
        model.n_arrived > 200,
        "the run stored something: {}",
        model.n_arrived
    );
    let open = store.expect("open at the end");
    let ids: Vec<EntryId> = search_all(&*open, "")
        .await
        .iter()
        .map(|entry| entry.id)
        .collect();
    assert!(ids.is_sorted_by(|a, b| a < b));
}
