//! Counters of the watches, under the names of BlackBox's specification (BB-16), and of what is kept.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use std::sync::atomic::AtomicU64;
use tawny_model::Timestamp;
use tawny_runtime::Registry;

/// What a pod did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the label's values are lower case")]
pub(crate) enum PodChange {
    crash,
    start,
    stop,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfPod {
    r#type: PodChange,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: &'static str,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// Counters of one cluster watch. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct WatchMetrics {
    pub(crate) pods_watched: Gauge,
    pods: Family<OfPod, Counter>,
    pub(crate) reconnections: Counter,
    pub(crate) events: Counter,
    last_event: Gauge<f64, AtomicU64>,
    incidents: Family<OfClass, Counter>,
    records: Family<OfResult, Counter>,
    bundles: Family<OfResult, Counter>,
}

impl WatchMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let Self {
            pods_watched,
            pods,
            reconnections,
            events,
            last_event,
            incidents,
            records,
            bundles,
        } = self;
        // A gauge, although its name, which is the specification's, ends like a counter's.
        registry.register(
            "k8s_pods_watched_total",
            "Pods that are watched now",
            pods_watched.clone(),
        );
        registry.register("k8s_pod_events", "What pods did", pods.clone());
        registry.register(
            "k8s_watch_reconnections",
            "Watches of the Kubernetes API that failed and began again",
            reconnections.clone(),
        );
        registry.register(
            "k8s_watch_events",
            "Changes that watches of the Kubernetes API told",
            events.clone(),
        );
        registry.register(
            "k8s_watch_last_event_timestamp",
            "When a watch of the Kubernetes API last told of a change, in seconds since the epoch",
            last_event.clone(),
        );
        registry.register(
            "tawny_incidents_occurrences",
            "Occurrences counted, by class and severity",
            incidents.clone(),
        );
        registry.register(
            "tawny_event_records",
            "Records of Kubernetes events handed to the store",
            records.clone(),
        );
        registry.register(
            "tawny_incident_bundles",
            "Bundles of incidents written",
            bundles.clone(),
        );
    }

    pub(crate) fn pod(&self, change: PodChange) {
        self.pods.get_or_create(&OfPod { r#type: change }).inc();
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of this century fit 53 bits"
    )]
    pub(crate) fn event_at(&self, now: Timestamp) {
        self.events.inc();
        self.last_event.set(now.as_millis() as f64 / 1_000.0);
    }

    pub(crate) fn occurrence(&self, class: &'static str, severity: &'static str) {
        let labels = OfClass { class, severity };
        self.incidents.get_or_create(&labels).inc();
    }

    pub(crate) fn records(&self, is_kept: bool, n_records: usize) {
        let labels = OfResult {
            result: if is_kept { "kept" } else { "refused" },
        };
        let n = u64::try_from(n_records).unwrap_or(u64::MAX);
        self.records.get_or_create(&labels).inc_by(n);
    }

    pub(crate) fn bundle(&self, is_written: bool) {
        let labels = OfResult {
            result: if is_written { "written" } else { "failed" },
        };
        self.bundles.get_or_create(&labels).inc();
    }
}
