//! Series and analysis of a container whose end is known.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::vitals::{
    Window,
    cgroup::{ContainerKey, ContainerSample, Measures},
    ring::DEFAULT_MAX_BYTES,
};

const MIB: u64 = 1 << 20;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_294_200_000 + millis)
}

fn sample(millis: i64, id: &str, measures: Measures) -> ContainerSample {
    ContainerSample {
        at: at(millis),
        container: Arc::new(ContainerKey {
            pod_uid: "u".into(),
            container_id: id.into(),
        }),
        measures,
    }
}

fn measures(memory_mib: u64, cpu_millis: u64, throttled_millis: u64) -> Measures {
    Measures {
        memory_bytes: Some(memory_mib * MIB),
        memory_limit_bytes: Some(64 * MIB),
        cpu_ns: Some(cpu_millis * 1_000_000),
        throttled_ns: Some(throttled_millis * 1_000_000),
        oom_kills: Some(0),
    }
}

/// Four seconds of a container that grows to its end at 3,000 ms, and another beside it.
fn ring() -> Ring {
    let mut ring = Ring::new(Window::default(), DEFAULT_MAX_BYTES);
    for (millis, memory, cpu, throttled) in [
        (0, 10, 1_000, 0),
        (1_000, 20, 1_500, 0),
        (2_000, 60, 3_500, 250),
        (3_000, 48, 3_600, 750),
        (4_000, 63, 9_000, 750),
    ] {
        ring.push_container(sample(millis, "c", measures(memory, cpu, throttled)));
        ring.push_container(sample(millis, "other", measures(1, 1, 1)));
    }
    ring
}

#[test]
fn memory_goes_up_to_the_death_and_no_further() {
    let series = Series::memory(&ring(), "containerd://c", at(0), at(3_000));
    assert_eq!(series.limit, Some(64 * MIB));
    assert_eq!(
        series.samples,
        [
            (at(0), 10 * MIB),
            (at(1_000), 20 * MIB),
            (at(2_000), 60 * MIB),
            (at(3_000), 48 * MIB)
        ]
    );
    assert_eq!(
        Series::memory(&ring(), "nobody", at(0), at(3_000)),
        Series::default()
    );
}

#[test]
fn last_sample_without_a_limit_does_not_take_it_away() {
    let mut ring = ring();
    let last = Measures {
        memory_bytes: Some(MIB),
        ..Measures::default()
    };
    ring.push_container(sample(5_000, "c", last));
    let series = Series::memory(&ring, "c", at(4_000), at(5_000));
    assert_eq!(series.limit, Some(64 * MIB));
    assert_eq!(series.samples.len(), 2);
}

#[test]
fn cpu_is_thousandths_of_a_core_between_two_samples() {
    let series = Series::cpu(&ring(), "c", at(0), at(3_000), Some(2_000));
    assert_eq!(series.limit, Some(2_000));
    assert_eq!(
        series.samples,
        [(at(1_000), 500), (at(2_000), 2_000), (at(3_000), 100)]
    );
}

#[test]
fn odd_counts_of_processor_time_give_no_rate() {
    let readings = [
        (at(0), 1_000_000_000),
        (at(0), 1_500_000_000),
        (at(500), 1_750_000_000),
        (at(1_000), 5),
        (at(500), 10),
        (at(1_500), u64::MAX),
    ];
    let rates: Vec<_> = rates(readings.into_iter()).collect();
    assert_eq!(rates[0], (at(500), 500));
    assert_eq!(rates.len(), 2, "{rates:?}");
    assert_eq!(rates[1].0, at(1_500));
}

/// BB-13, BB-14.
#[test]
fn analysis_sets_use_against_request_and_limit() {
    let requests = Resources {
        cpu_millis: Some(500),
        memory_bytes: Some(40 * MIB),
    };
    let limits = Resources {
        cpu_millis: Some(3_000),
        memory_bytes: Some(80 * MIB),
    };
    let analysis = Analysis::new(&ring(), "c", (at(0), at(3_000)), requests, limits);
    assert_eq!(
        analysis,
        Analysis {
            memory: Use {
                used: Some(48 * MIB),
                peak: Some(60 * MIB),
                request: Some(40 * MIB),
                limit: Some(80 * MIB),
                of_request_percent: Some(150.0),
                of_limit_percent: Some(75.0),
            },
            cpu: Use {
                used: Some(100),
                peak: Some(2_000),
                request: Some(500),
                limit: Some(3_000),
                of_request_percent: Some(400.0),
                of_limit_percent: Some(66.7),
            },
            throttled_percent: Some(25.0),
        }
    );
    let json = serde_json::to_string(&analysis).unwrap();
    assert_eq!(serde_json::from_str::<Analysis>(&json).unwrap(), analysis);
}

#[test]
fn limit_of_the_cgroup_stands_in_for_one_the_spec_does_not_tell() {
    let none = Resources::default();
    let analysis = Analysis::new(&ring(), "c", (at(0), at(3_000)), none, none);
    assert_eq!(analysis.memory.limit, Some(64 * MIB));
    assert_eq!(analysis.memory.of_limit_percent, Some(93.8));
    assert_eq!(analysis.memory.of_request_percent, None);
    assert_eq!(analysis.cpu.of_limit_percent, None);
}

#[test]
fn container_never_measured_has_an_empty_analysis() {
    let none = Resources::default();
    let analysis = Analysis::new(&ring(), "x", (at(0), at(3_000)), none, none);
    assert_eq!(analysis, Analysis::default());
    let zero = Resources {
        cpu_millis: Some(0),
        memory_bytes: Some(0),
    };
    let analysis = Analysis::new(&ring(), "c", (at(0), at(3_000)), zero, zero);
    assert_eq!(analysis.memory.of_limit_percent, None);
}

#[test]
fn window_shorter_than_two_samples_has_memory_and_no_rates() {
    let (from, to) = (
        at(2_500),
        at(2_500).saturating_add(Duration::from_millis(500)),
    );
    assert_eq!(Series::memory(&ring(), "c", from, to).samples.len(), 1);
    assert_eq!(Series::cpu(&ring(), "c", from, to, None).samples, []);
}
