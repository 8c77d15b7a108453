//! Counters of the pod watch.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use tawny_model::Timestamp;
use tawny_runtime::Registry;

/// How the watches of this process fare. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct KubeMetrics {
    /// Failures after which a watch began again.
    pub watch_restarts: Counter,
    /// When the API server last said anything about a pod, bookmarks aside.
    last_event: Gauge<f64, AtomicU64>,
    /// Objects left out because they do not read as pods.
    pub malformed_objects: Counter,
}

pub const WATCH_RESTARTS: &str = "tawny_k8s_watch_restarts";
pub const WATCH_LAST_EVENT: &str = "tawny_k8s_watch_last_event_timestamp_seconds";
pub const MALFORMED_OBJECTS: &str = "tawny_k8s_malformed_objects";

impl KubeMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            WATCH_RESTARTS,
            "Watches of the Kubernetes API that failed and began again",
            self.watch_restarts.clone(),
        );
        registry.register(
            WATCH_LAST_EVENT,
            "When the last event of a Kubernetes watch arrived",
            self.last_event.clone(),
        );
        registry.register(
            MALFORMED_OBJECTS,
            "Objects of the Kubernetes API that could not be read and were left out",
            self.malformed_objects.clone(),
        );
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of this century fit 53 bits"
    )]
    pub(crate) fn event_at(&self, now: Timestamp) {
        self.last_event.set(now.as_millis() as f64 / 1_000.0);
    }

    /// Unix time in seconds of the last event; 0 before the first.
    pub fn last_event_secs(&self) -> f64 {
        self.last_event.get()
    }
}
