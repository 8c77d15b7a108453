//! Bounds of the ring, each by itself, and what is read out of it.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::vitals::{
    cgroup::{ContainerKey, Measures},
    node::{Memory, NodeReading},
    sidecar::Runtime,
};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_795_294_200 + secs)
}

fn ring(secs: u64) -> Ring {
    let window = Window::new(Duration::from_secs(secs)).unwrap();
    Ring::new(window, DEFAULT_MAX_BYTES)
}

/// Two measures: total memory and its use.
fn node(secs: i64) -> NodeSample {
    let memory = Memory {
        total: Some(100),
        available: None,
        swap_total: Some(7),
        ..Memory::default()
    };
    let reading = NodeReading {
        at: at(secs),
        memory,
        ..NodeReading::default()
    };
    NodeSample::new(reading, None)
}

fn container(secs: i64, pod_uid: &str, container_id: &str) -> ContainerSample {
    ContainerSample {
        at: at(secs),
        container: Arc::new(ContainerKey {
            pod_uid: pod_uid.into(),
            container_id: container_id.into(),
        }),
        measures: Measures {
            memory_bytes: Some(u64::try_from(secs).unwrap_or(0)),
            ..Measures::default()
        },
    }
}

fn post(secs: i64, pod: &str, n_values: usize) -> Arc<Post> {
    Arc::new(Post {
        at: at(secs),
        pod_name: pod.to_owned(),
        namespace: "shop".to_owned(),
        container_id: Some(format!("containerd://{pod}-c")),
        runtime: Runtime::Jvm,
        runtime_name: "jvm".to_owned(),
        tags: [("pod_name".to_owned(), pod.to_owned())].into(),
        values: (0..n_values)
            .map(|n| (format!("heap_{n}"), json!(n)))
            .collect(),
    })
}

fn names(entries: &[Telemetry]) -> Vec<(i64, &str)> {
    let secs = |entry: &Telemetry| entry.timestamp.as_secs() - at(0).as_secs();
    entries
        .iter()
        .map(|entry| (secs(entry), entry.name.as_str()))
        .collect()
}

fn all(ring: &Ring) -> Vec<Telemetry> {
    ring.entries(Timestamp::MIN, Timestamp::MAX, Filter::All, usize::MAX)
}

#[test]
fn bb_38_window_is_10_to_600_s_and_capacity_1000_a_second() {
    for (secs, capacity) in [(10, 10_000), (60, 60_000), (600, 600_000)] {
        let window = Window::new(Duration::from_secs(secs)).unwrap();
        assert_eq!(window.capacity(), capacity);
    }
    assert_eq!(
        Window::default(),
        Window::new(Duration::from_secs(60)).unwrap()
    );
    for wrong in [
        Duration::ZERO,
        Duration::from_millis(9_999),
        Duration::from_secs(601),
    ] {
        let error = Window::new(wrong).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("window of {wrong:?} is not between 10s and 600s")
        );
    }
}

#[test]
fn what_is_older_than_the_window_goes() {
    let mut ring = ring(10);
    for secs in 0..=15 {
        ring.push_node(node(secs));
        ring.push_container(container(secs, "u", "c"));
        ring.push_post(post(secs, "p", 1));
    }
    ring.clean(at(15));
    let entries = all(&ring);
    assert_eq!(entries.first().unwrap().timestamp, at(5));
    assert_eq!(entries.len(), 11 * 4);
    let stats = ring.stats();
    assert_eq!((stats.cleanups, stats.cleaned_at), (1, Some(at(15))));
    ring.clean(at(100));
    assert_eq!(all(&ring), []);
    assert_eq!(ring.stats().bytes, 0);
    assert_eq!(ring.stats().total_entries, 0);
}

#[test]
fn entries_of_a_window_end_with_it() {
    let mut ring = ring(60);
    for secs in 0..10 {
        ring.push_container(container(secs, "u", "c"));
    }
    let entries = ring.entries(at(3), at(5), Filter::All, usize::MAX);
    let name = "container_memory_working_set_bytes";
    assert_eq!(names(&entries), [(3, name), (4, name), (5, name)]);
}

#[test]
fn full_ring_drops_the_oldest() {
    let mut ring = ring(10);
    for secs in 0..6_000 {
        ring.push_node(node(secs));
        ring.push_container(container(secs, "u", "c"));
    }
    let stats = ring.stats();
    assert!(
        stats.total_entries <= 10_000 && stats.total_entries > 9_997,
        "{stats:?}"
    );
    let oldest = all(&ring).first().unwrap().timestamp;
    assert!(oldest >= at(2_660) && oldest <= at(2_670), "{oldest}");
    let (nodes, containers) = (ring.nodes.items.len(), ring.containers.items.len());
    assert!(nodes.abs_diff(containers) <= 1, "{nodes} {containers}");
}

#[test]
fn bytes_are_bounded_too() {
    let mut ring = Ring::new(Window::default(), 10_000);
    for secs in 0..1_000 {
        ring.push_container(container(secs, "u", "c"));
        assert!(ring.stats().bytes <= 10_000);
    }
    assert_eq!(
        ring.containers.items.len(),
        10_000 / size_of::<ContainerSample>()
    );
    assert_eq!(ring.containers.items.back().unwrap().at, at(999));
    // What is larger than all is not kept, and the ring goes on.
    ring.push_post(post(1_000, "p", 1_000));
    assert!(ring.posts.items.is_empty());
    ring.push_container(container(1_001, "u", "c"));
    assert_eq!(ring.containers.items.back().unwrap().at, at(1_001));
}

#[test]
fn samples_take_what_is_documented() {
    assert_eq!(size_of::<ContainerSample>(), 96);
    assert_eq!(size_of::<NodeSample>(), 288);
    assert_eq!(
        size_of::<CoreUsage>() + size_of::<crate::vitals::node::Core>(),
        40
    );
    assert_eq!(size_of::<(String, serde_json::Value)>(), 56);
    let minute_of_250 = 250 * 60 * size_of::<ContainerSample>();
    assert!(minute_of_250 < DEFAULT_MAX_BYTES / 10);
}

#[test]
fn sidecar_that_sends_too_much_pushes_out_only_sidecars() {
    let mut ring = ring(10);
    for secs in 0..10 {
        ring.push_node(node(secs));
        ring.push_container(container(secs, "u", "c"));
    }
    for _ in 0..100 {
        ring.push_post(post(9, "loud", 1_000));
    }
    assert_eq!(ring.nodes.items.len(), 10);
    assert_eq!(ring.containers.items.len(), 10);
    let stats = ring.stats();
    assert!(stats.total_entries <= 10_000, "{stats:?}");
    assert!(ring.posts.n_entries > 4_000);
}

#[test]
fn entries_are_filtered_by_source_pod_and_container() {
    let mut ring = ring(60);
    ring.push_node(node(0));
    ring.push_container(container(0, "uid-a", "c-a"));
    ring.push_container(container(0, "uid-b", "c-b"));
    ring.push_post(post(0, "a", 1));
    ring.push_post(post(0, "b", 1));
    let sources = |filter: Filter<'_>| -> Vec<String> {
        let entries = ring.entries(at(0), at(0), filter, usize::MAX);
        entries.into_iter().map(|entry| entry.source).collect()
    };
    let pod = |uid, namespace, name| Filter::Pod {
        uid,
        namespace,
        name,
    };
    assert_eq!(sources(Filter::All).len(), 6);
    assert_eq!(
        sources(Filter::Source(Source::System)),
        ["system", "system"]
    );
    assert_eq!(
        sources(Filter::Source(Source::Container)),
        ["container", "container"]
    );
    assert_eq!(
        sources(Filter::Source(Source::Sidecar)),
        ["sidecar", "sidecar"]
    );
    assert_eq!(sources(pod("uid-a", "shop", "a")), ["container", "sidecar"]);
    assert_eq!(sources(pod("", "shop", "a")), ["sidecar"]);
    assert_eq!(sources(pod("uid-b", "", "a")), ["container"]);
    assert_eq!(sources(pod("", "other", "a")), [""; 0]);
    assert_eq!(
        sources(Filter::Container("containerd://c-a")),
        ["container"]
    );
    assert_eq!(sources(Filter::Container("cri-o://a-c")), ["sidecar"]);
    assert_eq!(sources(Filter::Container("")), [""; 0]);
}

#[test]
fn entries_come_in_the_order_they_were_measured() {
    let mut ring = ring(60);
    ring.push_post(post(5, "p", 1));
    ring.push_post(post(2, "late", 1));
    ring.push_container(container(3, "u", "c"));
    ring.push_node(node(4));
    let secs: Vec<_> = names(&all(&ring))
        .into_iter()
        .map(|(secs, _)| secs)
        .collect();
    assert_eq!(secs, [2, 3, 4, 4, 5]);
}

#[test]
fn more_entries_than_asked_for_are_cut_to_the_newest() {
    let mut ring = ring(60);
    for secs in 0..3 {
        ring.push_node(node(secs));
    }
    let newest = |limit| {
        let entries = ring.entries(at(0), at(9), Filter::All, limit);
        names(&entries)
            .into_iter()
            .map(|(secs, name)| format!("{secs} {name}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(newest(0), [""; 0]);
    assert_eq!(newest(1), ["2 swap_total_bytes"]);
    assert_eq!(
        newest(3),
        [
            "1 swap_total_bytes",
            "2 memory_total_bytes",
            "2 swap_total_bytes"
        ]
    );
    assert_eq!(newest(100).len(), 6);
}

#[test]
fn latest_sample_of_the_node_is_at_hand() {
    let mut ring = ring(60);
    assert_eq!(ring.latest_node(), None);
    ring.push_node(node(1));
    ring.push_node(node(2));
    assert_eq!(ring.latest_node().unwrap().reading.at, at(2));
}

#[test]
fn bb_38_stats_and_bb_37_status_as_json() {
    let mut ring = ring(60);
    let empty = serde_json::to_value(ring.stats()).unwrap();
    assert_eq!(
        empty,
        json!({
            "total_entries": 0, "buffer_size": 60_000, "window_size": 60_000_000_000u64, "actual_window": 0,
            "oldest_entry": null, "newest_entry": null,
        })
    );
    ring.push_container(container(1, "u", "c"));
    ring.push_post(post(4, "p", 2));
    ring.push_post(post(3, "p", 0));
    ring.clean(at(5));
    let stats = ring.stats();
    assert_eq!(
        serde_json::to_value(&stats).unwrap(),
        json!({
            "total_entries": 4, "buffer_size": 60_000, "window_size": 60_000_000_000u64,
            "actual_window": 3_000_000_000u64,
            "oldest_entry": "2026-11-21T20:50:01.000000000Z", "newest_entry": "2026-11-21T20:50:04.000000000Z",
        })
    );
    let status = BufferStatus::from(&stats);
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({
            "window_size": "60s", "current_entries": 4, "max_entries": 60_000,
            "utilization_percent": 4.0 / 60_000.0 * 100.0,
            "oldest_entry": "2026-11-21T20:50:01.000000000Z", "newest_entry": "2026-11-21T20:50:04.000000000Z",
            "memory_usage_bytes": stats.bytes, "cleanup_runs": 1, "last_cleanup": "2026-11-21T20:50:05.000000000Z",
        })
    );
}

#[test]
fn ring_is_usable_after_a_holder_panicked() {
    let ring = SharedRing::new(ring(60));
    let held = ring.clone();
    let panicked = std::thread::spawn(move || {
        let _guard = held.lock();
        panic!("while it is held");
    })
    .join();
    assert!(panicked.is_err());
    ring.lock().push_node(node(1));
    assert_eq!(ring.lock().stats().total_entries, 2);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Node,
    Container,
    Post(usize),
    Clean,
}

fn steps() -> impl Strategy<Value = Vec<(Step, i64)>> {
    let step = prop_oneof![
        Just(Step::Node),
        Just(Step::Container),
        (0..400usize).prop_map(Step::Post),
        Just(Step::Clean),
    ];
    prop::collection::vec((step, 0..3i64), 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bounds_and_counts_hold_whatever_comes(steps in steps(), max_bytes in 500..40_000usize) {
        let mut ring = Ring::new(Window::new(Duration::from_secs(10)).unwrap(), max_bytes);
        let mut now = 0;
        for (step, passed) in steps {
            now += passed;
            match step {
                Step::Node => ring.push_node(node(now)),
                Step::Container => ring.push_container(container(now, "u", "c")),
                Step::Post(n) => ring.push_post(post(now - 1, "p", n)),
                Step::Clean => {
                    ring.clean(at(now));
                    prop_assert!(all(&ring).iter().all(|it| it.timestamp >= at(now - 10)));
                }
            }
            let stats = ring.stats();
            prop_assert!(stats.bytes <= max_bytes && stats.total_entries <= stats.buffer_size);
            fn sum<T: Measured>(items: &VecDeque<T>) -> (usize, usize) {
                let items = items.iter();
                items.fold((0, 0), |(n, bytes), it| (n + it.n_entries(), bytes + it.bytes()))
            }
            let sums = [sum(&ring.nodes.items), sum(&ring.containers.items), sum(&ring.posts.items)];
            prop_assert_eq!(sums.iter().map(|it| it.0).sum::<usize>(), stats.total_entries);
            prop_assert_eq!(sums.iter().map(|it| it.1).sum::<usize>(), stats.bytes);
        }
    }
}
