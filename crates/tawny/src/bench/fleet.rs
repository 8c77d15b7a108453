//! The made-up cluster a benchmark's lines come from: 200 workloads whose pods come and go over two and a half hours.

use std::sync::Arc;

use tawny_model::{Stream, StreamId, Timestamp, Workload};

use crate::corpus::{Format, Pod, Rng, pods};

/// Lines of one node share a connection, as those of one agent do.
pub(super) const CONNECTIONS: usize = 4;

/// 2026-01-09 10:00 UTC: a fixed day, so that the same seed makes the same bytes.
pub(super) const START: Timestamp = Timestamp::from_secs(1_767_952_800);
pub(super) const MINUTES: u64 = 150;
pub(super) const MINUTE_NS: i64 = 60_000_000_000;

const NAMESPACES: usize = 20;
/// Each namespace runs the ten kinds of workload of the corpus.
const WORKLOADS: usize = 10 * NAMESPACES;
const REPLICAS: usize = 4;
const SLOTS: usize = WORKLOADS * REPLICAS;
/// How long a pod lives before a roll-out replaces it; with 14 containers to 10 pods this makes some 6,600 streams.
const LIFE_MINUTES: u64 = 30;
const GENERATIONS: usize = 6;
const NODES: usize = 12;

/// What one container writes over its life, and where it runs.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) stream: Arc<Stream>,
    pub(super) format: Format,
    pub(super) connection: usize,
}

/// A place that a container holds at any time: a replica of a workload, whose pod changes.
#[derive(Debug)]
struct Place {
    slot: usize,
    container: usize,
    /// Pods of different slots are replaced at different minutes.
    offset_minutes: u64,
    weight: u64,
}

/// All pods, and who writes how much.
#[derive(Debug)]
pub(super) struct Fleet {
    pods: Vec<Pod>,
    places: Vec<Place>,
    weight: u64,
}

impl Fleet {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let pods = pods(NAMESPACES, SLOTS * GENERATIONS, &mut rng);
        let mut places: Vec<Place> = (0..SLOTS)
            .flat_map(|slot| {
                let offset_minutes = rng.below(LIFE_MINUTES);
                (0..pods[slot].containers.len()).map(move |container| Place {
                    slot,
                    container,
                    offset_minutes,
                    weight: 0,
                })
            })
            .collect();
        // A few containers write most: Zipf's law, flattened at the head.
        let mut ranks: Vec<u64> = (0..places.len() as u64).collect();
        for idx in (1..ranks.len()).rev() {
            let other = usize::try_from(rng.below(idx as u64 + 1)).unwrap_or(0);
            ranks.swap(idx, other);
        }
        let mut weight = 0;
        for (place, rank) in places.iter_mut().zip(ranks) {
            place.weight = 1_000_000 / (rank + 20);
            weight += place.weight;
        }
        Self {
            pods,
            places,
            weight,
        }
    }

    /// Splits `n_lines` of one minute over the places, exactly; who gets the odd ones changes with the minute.
    /// The other methods take a place by its index herein.
    pub(super) fn shares(&self, n_lines: u64, rng: &mut Rng) -> Vec<u64> {
        let jitter = rng.below(self.weight);
        let mut before = 0;
        let upto = |cumulated: u64| (n_lines * cumulated + jitter) / self.weight;
        self.places
            .iter()
            .map(|place| {
                let from = upto(before);
                before += place.weight;
                upto(before) - from
            })
            .collect()
    }

    /// The pod's number that holds a place at a minute; changes when the pod is replaced.
    pub(super) fn pod_at(&self, place: usize, minute: u64) -> usize {
        let place = &self.places[place];
        let generation =
            usize::try_from((minute + place.offset_minutes) / LIFE_MINUTES).unwrap_or(0);
        generation * SLOTS + place.slot
    }

    /// The container that holds a place when its pod is `pod`.
    pub(super) fn source(&self, place: usize, pod: usize) -> Source {
        let (place, pod) = (&self.places[place], &self.pods[pod]);
        let container = &pod.containers[place.container];
        let node = place.slot % NODES;
        let id = StreamId {
            cluster: "bench".into(),
            pod_uid: pod.uid.as_str().into(),
            container: container.name.into(),
            restart: 0,
        };
        Source {
            stream: Arc::new(Stream {
                node: format!("node-{node}").into(),
                image: container.image.into(),
                workload: Some(Workload {
                    kind: "Deployment".into(),
                    name: pod.workload.into(),
                }),
                labels: [
                    ("app".into(), pod.workload.into()),
                    (
                        "pod-template-hash".into(),
                        pod.template_hash.as_str().into(),
                    ),
                ]
                .into(),
                ..Stream::new(id, pod.namespace.as_str(), pod.name.as_str())
            }),
            format: container.format,
            connection: node % CONNECTIONS,
        }
    }

    /// A pod of the busier half that is alive at the end.
    pub(super) fn a_late_pod(&self) -> &str {
        let busy = self
            .places
            .iter()
            .position(|place| place.weight > 4_000)
            .unwrap_or(0);
        &self.pods[self.pod_at(busy, MINUTES - 1)].name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_minute_is_given_to_a_place() {
        let fleet = Fleet::new(1);
        let mut rng = Rng::new(2);
        for n_lines in [0, 1, 133, 33_333] {
            assert_eq!(fleet.shares(n_lines, &mut rng).iter().sum::<u64>(), n_lines);
        }
    }

    #[test]
    fn there_are_some_six_thousand_streams() {
        let fleet = Fleet::new(1);
        let mut streams = std::collections::BTreeSet::new();
        for minute in 0..MINUTES {
            for place in 0..fleet.places.len() {
                streams.insert((place, fleet.pod_at(place, minute)));
            }
        }
        assert!((6_000..7_200).contains(&streams.len()), "{}", streams.len());
    }
}
