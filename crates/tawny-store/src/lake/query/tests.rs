//! Every question against a plain model, over random data split at random into hot rows and runs.

mod memory_run;
mod pruning;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use proptest::{collection::vec, prelude::*, sample::select};
use rustc_hash::FxHashMap;
use tawny_model::{Entries, EntryId, LogEntry, Position, Severity, Stream, StreamId, Timestamp};
use tawny_query::{Field, Query, testing};
use tawny_runtime::ManualClock;

use self::memory_run::MemoryRun;
use super::{Budget, Describe, Snapshot, contains, count, facets, get, histogram, ids_at, search};
use crate::{
    Bucket, Error, FacetsRequest, Filter, HistogramRequest, Order, SearchRequest,
    lake::{rows::HotRows, run::Run},
};

const T0: i64 = 1_700_000_000_000_000_000;

/// What is known of streams by now.
#[derive(Debug, Default)]
struct Latest(FxHashMap<StreamId, Arc<Stream>>);

impl Describe for Latest {
    fn describe(&self, stream: &Arc<Stream>) -> Arc<Stream> {
        Arc::clone(self.0.get(&stream.id).unwrap_or(stream))
    }
}

static NEVER: AtomicBool = AtomicBool::new(false);

fn budget(n_threads: usize) -> Budget<'static> {
    static CLOCK: std::sync::LazyLock<ManualClock> = std::sync::LazyLock::new(ManualClock::default);
    Budget {
        cancelled: &NEVER,
        clock: &*CLOCK,
        deadline: Timestamp::MAX,
        memory_bytes: 1 << 30,
        n_threads,
    }
}

/// `n` lines, of three streams in turn and all severities, at times by number.
fn lines(n: i64, at: impl Fn(i64) -> i64) -> Vec<LogEntry> {
    let streams = ["a", "b", "c"].map(|pod| {
        let id = StreamId {
            cluster: "".into(),
            pod_uid: pod.into(),
            container: "main".into(),
            restart: 0,
        };
        Arc::new(Stream::new(id, "ns", pod))
    });
    let entry = |n: i64| {
        let timestamp = Timestamp::from_nanos(T0 + at(n));
        let idx = usize::try_from(n).unwrap();
        LogEntry {
            id: EntryId(EntryId::first_at(timestamp).0 + n % 4_000),
            timestamp,
            severity: Severity::ALL[idx % 7],
            output: Default::default(),
            message: format!("line {n}"),
            attributes: vec![("n".to_owned(), n.to_string())],
            stream: Arc::clone(&streams[idx % 3]),
        }
    };
    (0..n).map(entry).collect()
}

fn hot(entries: &[LogEntry]) -> Arc<HotRows> {
    let mut rows = Entries::default();
    // A row that was stored before stands in front, and one behind.
    let mut push = |entry: &LogEntry, message: &str| {
        let attributes = entry.attributes.iter();
        rows.push(
            entry.timestamp,
            entry.severity,
            entry.output,
            message,
            attributes.map(|(k, v)| (k.as_str(), v.as_str())),
            Position(0),
        )
        .unwrap();
    };
    push(&entries[0], "stored before");
    for entry in entries {
        push(entry, &entry.message);
    }
    push(&entries[0], "stored before too");
    let ids = entries.iter().map(|entry| entry.id).collect();
    let stream = Arc::clone(&entries[0].stream);
    Arc::new(HotRows::new(stream, rows, 1..entries.len() + 1, ids))
}

/// All entries as they should be shown, and a snapshot of them.
#[derive(Debug)]
struct World {
    all: Vec<LogEntry>,
    snapshot: Snapshot,
}

impl World {
    /// Each entry goes where its number says: 0 is memory, others are runs.
    fn new(parts: Vec<(LogEntry, usize)>, block_rows: u32) -> Self {
        let mut latest = FxHashMap::default();
        for (entry, _) in &parts {
            latest.insert(entry.stream.id.clone(), Arc::clone(&entry.stream));
        }
        let latest = Latest(latest);
        let all = parts.iter().map(|(entry, _)| LogEntry {
            stream: latest.describe(&entry.stream),
            ..entry.clone()
        });
        let all = all.collect();
        let mut sources: BTreeMap<usize, Vec<LogEntry>> = BTreeMap::new();
        for (entry, source) in parts {
            sources.entry(source).or_default().push(entry);
        }
        let memory = sources.remove(&0).unwrap_or_default();
        let batches = memory.chunk_by(|a, b| a.stream.id == b.stream.id);
        let runs = sources
            .into_values()
            .map(|entries| Arc::new(MemoryRun::new(entries, block_rows)) as Arc<dyn Run>);
        Self {
            snapshot: Snapshot {
                hot: batches.map(hot).collect(),
                runs: runs.collect(),
                streams: Arc::new(latest),
            },
            all,
        }
    }

    fn matching(&self, filter: &Filter) -> Vec<&LogEntry> {
        let is_in_time = |entry: &LogEntry| {
            entry.timestamp >= filter.from
                && (entry.timestamp < filter.to || filter.to == Timestamp::MAX)
        };
        let all = self.all.iter();
        all.filter(|entry| is_in_time(entry) && filter.query.matches(*entry))
            .collect()
    }

    /// What a page should be: never an id parted, never more than asked for unless one id has more.
    fn page(&self, request: &SearchRequest) -> (Vec<LogEntry>, bool) {
        let mut found = self.matching(&request.filter);
        found.retain(|entry| {
            request.after.is_none_or(|after| entry.id > after)
                && request.before.is_none_or(|before| entry.id < before)
        });
        found.sort_by(|a, b| by_order(request.order, a, b));
        let groups: Vec<&[&LogEntry]> = found.chunk_by(|a, b| a.id == b.id).collect();
        let mut page = Vec::new();
        for group in &groups {
            if !page.is_empty() && page.len() + group.len() > request.limit {
                break;
            }
            page.extend(group.iter().map(|entry| (*entry).clone()));
        }
        let has_more = page.len() < found.len();
        (page, has_more)
    }
}

/// In the order asked for; equal ids, which may come in any order, by stream.
fn by_order(order: Order, a: &LogEntry, b: &LogEntry) -> std::cmp::Ordering {
    let by_id = match order {
        Order::NewestFirst => b.id.cmp(&a.id),
        Order::OldestFirst => a.id.cmp(&b.id),
    };
    by_id.then_with(|| a.stream.id.cmp(&b.stream.id))
}

fn entries() -> impl Strategy<Value = Vec<(LogEntry, usize)>> {
    // Few streams, each described in several ways, so that what is known of them changes.
    let streams = vec((testing::stream(), testing::stream()), 1..4);
    let scale = select(&[1i64, 30, 2_000, 0][..]);
    let id_offset = prop_oneof![
        20 => 0i64..3,
        3 => 0i64..100_000,
        1 => i64::from(i32::MIN)..=i64::from(i32::MAX),
    ];
    let row = (
        testing::entry(),
        any::<prop::sample::Index>(),
        any::<bool>(),
        id_offset,
        prop_oneof![2 => Just(0usize), 3 => 1..4usize],
    );
    (streams, scale, vec(row, 0..90)).prop_map(|(streams, scale, rows)| {
        let mut taken = std::collections::HashSet::new();
        let rows = rows
            .into_iter()
            .map(|(mut entry, stream, is_late, offset, source)| {
                let (early, late) = &streams[stream.index(streams.len())];
                let described = if is_late { late } else { early };
                entry.stream = Arc::new(Stream {
                    id: early.id.clone(),
                    ..(**described).clone()
                });
                let ns = entry.timestamp.as_nanos() - T0;
                // Times meet in one instant, in one microsecond, or spread over hours.
                let ns = if scale == 0 { ns % 5 * 300 } else { ns * scale };
                entry.timestamp = Timestamp::from_nanos(T0 + ns);
                let mut id = EntryId::first_at(entry.timestamp).0 + offset;
                while !taken.insert((entry.stream.id.clone(), id)) {
                    id = if offset > 1_000_000 { id - 1 } else { id + 1 };
                }
                entry.id = EntryId(id);
                (entry, source)
            });
        rows.collect()
    })
}

fn filter() -> impl Strategy<Value = Filter> {
    let time = prop_oneof![
        (0..10_000_000_000i64).prop_map(|ns| T0 + ns),
        (0..20_000i64).prop_map(|s| T0 + s * 1_000_000_000),
        (0..5i64).prop_map(|n| T0 + n * 300),
    ];
    let query = prop_oneof![
        4 => testing::query(),
        1 => Just(Query::all()),
        1 => testing::field_test().prop_map(Query::from_expr),
    ];
    let (from, to) = (time.clone(), time);
    (query, prop::option::of(from), prop::option::of(to)).prop_map(|(query, from, to)| Filter {
        query,
        from: from.map_or(Timestamp::MIN, Timestamp::from_nanos),
        to: to.map_or(Timestamp::MAX, Timestamp::from_nanos),
    })
}

fn world() -> impl Strategy<Value = World> {
    (entries(), select(&[1u32, 3, 16, 8_192][..]))
        .prop_map(|(parts, block_rows)| World::new(parts, block_rows))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn pages_are_those_of_the_model(
        world in world(),
        filter in filter(),
        is_newest: bool,
        limit in select(&[1usize, 2, 5, 20, 1_000][..]),
        bounds in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
        n_threads in 1..3usize,
    ) {
        let mut request = SearchRequest {
            filter,
            order: if is_newest { Order::NewestFirst } else { Order::OldestFirst },
            limit,
            after: None,
            before: None,
        };
        if let (Some((after, before)), false) = (bounds, world.all.is_empty()) {
            request.after = Some(after.get(&world.all).id);
            request.before = Some(before.get(&world.all).id);
        }
        // On to the last page.
        loop {
            let found = search(&world.snapshot, &request, &budget(n_threads)).unwrap();
            let (expected, has_more) = world.page(&request);
            let key = |entry: &LogEntry| match request.order {
                Order::NewestFirst => !entry.id.0,
                Order::OldestFirst => entry.id.0,
            };
            prop_assert!(found.entries.is_sorted_by_key(key));
            let mut entries = found.entries;
            entries.sort_by(|a, b| by_order(request.order, a, b));
            prop_assert_eq!(&entries, &expected, "{:?}", &request);
            prop_assert_eq!(found.has_more, has_more, "{:?}", &request);
            let Some(last) = entries.last().filter(|_| has_more) else {
                break;
            };
            match request.order {
                Order::NewestFirst => request.before = Some(last.id),
                Order::OldestFirst => request.after = Some(last.id),
            }
        }
    }

    #[test]
    fn counts_are_those_of_the_model(
        world in world(),
        filter in filter(),
        bucket in select(&[1u64, 7, 60, 90, 3_600][..]),
        n_threads in 1..3usize,
    ) {
        let matching = world.matching(&filter);
        let budget = budget(n_threads);
        prop_assert_eq!(count(&world.snapshot, &filter, &budget).unwrap(), matching.len() as u64);
        let mut expected: BTreeMap<i64, [u64; 7]> = BTreeMap::new();
        let width = i64::try_from(bucket).unwrap() * 1_000_000_000;
        for entry in &matching {
            let counts = expected.entry(entry.timestamp.as_nanos().div_euclid(width)).or_default();
            counts[usize::from(entry.severity.number())] += 1;
        }
        let expected: Vec<Bucket> = expected
            .into_iter()
            .map(|(idx, counts)| Bucket { start: Timestamp::from_nanos(idx * width), counts })
            .collect();
        let request = HistogramRequest { filter, bucket: Duration::from_secs(bucket) };
        prop_assert_eq!(histogram(&world.snapshot, &request, &budget).unwrap().buckets, expected);
    }

    #[test]
    fn facets_are_those_of_the_model(
        world in world(),
        filter in filter(),
        fields in vec(select(fields()), 0..4),
        limit in 0..5usize,
        n_threads in 1..3usize,
    ) {
        let request = FacetsRequest { filter, fields, limit };
        let found = facets(&world.snapshot, &request, &budget(n_threads)).unwrap();
        let matching = world.matching(&request.filter);
        prop_assert_eq!(found.len(), request.fields.len());
        for (facet, field) in found.iter().zip(&request.fields) {
            prop_assert_eq!(&facet.field, field);
            let mut expected: BTreeMap<String, u64> = BTreeMap::new();
            for value in matching.iter().filter_map(|entry| value(field, entry)) {
                *expected.entry(value).or_default() += 1;
            }
            let mut expected: Vec<_> = expected.into_iter().collect();
            expected.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
            expected.truncate(limit);
            prop_assert_eq!(&facet.values, &expected, "{:?}", field);
        }
    }

    #[test]
    fn single_rows_are_found(world in world(), other: i64) {
        for entry in &world.all {
            let found = get(&world.snapshot, entry.id, &budget(1)).unwrap().unwrap();
            prop_assert!(found.id == entry.id && world.all.contains(&found));
            let id = &entry.stream.id;
            prop_assert!(contains(&world.snapshot, id, entry.timestamp, &entry.message).unwrap());
            for (time, message) in [
                (Timestamp::from_nanos(entry.timestamp.as_nanos() + 1), &*entry.message),
                (entry.timestamp, "stored before"),
                (entry.timestamp, ""),
            ] {
                let expected = world.all.iter().any(|e| e.stream.id == *id && e.timestamp == time && e.message == message);
                prop_assert_eq!(contains(&world.snapshot, id, time, message).unwrap(), expected);
            }
            let in_runs = Snapshot { hot: Vec::new(), ..world.snapshot.clone() };
            let micros = entry.timestamp.as_micros();
            let mut found = ids_at(&in_runs, id, entry.timestamp).unwrap();
            let hot = world.snapshot.hot.iter().filter(|batch| batch.stream.id == *id).flat_map(|batch| batch.ids.clone());
            found.extend(hot.filter(|hot| world.all.iter().any(|e| e.id == *hot && e.stream.id == *id && e.timestamp.as_micros() == micros)));
            found.sort_unstable();
            let of_micros = world.all.iter().filter(|e| e.stream.id == *id && e.timestamp.as_micros() == micros);
            let mut expected: Vec<EntryId> = of_micros.map(|e| e.id).collect();
            expected.sort_unstable();
            prop_assert_eq!(found, expected);
        }
        let is_known = world.all.iter().any(|entry| entry.id.0 == other);
        prop_assert_eq!(get(&world.snapshot, EntryId(other), &budget(1)).unwrap().is_some(), is_known);
    }
}

fn fields() -> Vec<Field> {
    vec![
        Field::Cluster,
        Field::Namespace,
        Field::Pod,
        Field::Restart,
        Field::Workload,
        Field::Severity,
        Field::Output,
        Field::Label("app".to_owned()),
        Field::Attribute("status".to_owned()),
        Field::Attribute("path".to_owned()),
        Field::Attribute("nowhere".to_owned()),
    ]
}

fn value(field: &Field, entry: &LogEntry) -> Option<String> {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let stream = &entry.stream;
    match field {
        Field::Cluster => known(&stream.id.cluster),
        Field::Namespace => known(&stream.namespace),
        Field::Pod => known(&stream.pod),
        Field::Restart => Some(stream.id.restart.to_string()),
        Field::Workload => stream
            .workload
            .as_ref()
            .map(|workload| workload.to_string()),
        Field::Severity => Some(entry.severity.name().to_owned()),
        Field::Output => Some(entry.output.name().to_owned()),
        Field::Label(key) => stream
            .labels
            .get(key.as_str())
            .map(|value| value.to_string()),
        Field::Attribute(key) => entry.attribute(key).map(str::to_owned),
        _ => None,
    }
}

fn all() -> Filter {
    Filter {
        query: Query::all(),
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    }
}

#[test]
fn a_question_ends_when_it_is_called_off_or_late_or_too_large() {
    let parts = lines(100, |n| n)
        .into_iter()
        .map(|entry| (entry, 1))
        .collect();
    let snapshot = World::new(parts, 8).snapshot;
    let request = FacetsRequest {
        filter: all(),
        fields: vec![Field::Attribute("n".to_owned())],
        limit: 3,
    };
    let cancelled = AtomicBool::new(true);
    let called_off = Budget {
        cancelled: &cancelled,
        ..budget(2)
    };
    let error = facets(&snapshot, &request, &called_off).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    let late = Budget {
        deadline: Timestamp::MIN,
        ..budget(2)
    };
    let error = count(&snapshot, &all(), &late).unwrap_err();
    assert!(matches!(error, Error::TooExpensive { what: "time", .. }));
    let small = Budget {
        memory_bytes: 1_000,
        ..budget(2)
    };
    let error = facets(&snapshot, &request, &small).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    assert!(facets(&snapshot, &request, &budget(2)).is_ok());
}

#[test]
fn too_many_buckets_are_refused() {
    let parts = lines(6_000, |n| n * 1_000_000_000);
    let parts = parts
        .into_iter()
        .enumerate()
        .map(|(n, entry)| (entry, n % 3));
    let snapshot = World::new(parts.collect(), 512).snapshot;
    for (seconds, is_fine) in [(1, false), (2, true), (60, true)] {
        let request = HistogramRequest {
            filter: all(),
            bucket: Duration::from_secs(seconds),
        };
        let found = histogram(&snapshot, &request, &budget(2));
        assert_eq!(found.is_ok(), is_fine, "{seconds}");
    }
}
