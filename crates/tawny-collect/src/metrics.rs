//! What the collector counts (requirements §6.4). Labels are namespaces and enums, never pods.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use tawny_runtime::Registry;

/// Label of counters kept by namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NamespaceLabel {
    pub namespace: String,
}

/// Why lines are lost for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label's values")]
pub enum LostReason {
    /// Deleted by rotation before they were read; the number of lines is unknown, each gap counts once.
    rotated,
    /// The tail of a line over the length limit.
    too_long,
    /// Stored bytes could not be read back.
    unreadable,
    /// The sink can never take them.
    refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LostLabel {
    pub reason: LostReason,
}

/// How a sink call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label's values")]
pub enum DeliveryResult {
    new,
    duplicate,
    gap,
    fenced,
    retried,
    refused,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeliveryLabel {
    pub result: DeliveryResult,
}

/// Handles to all of the collector's series; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub lines_read: Family<NamespaceLabel, Counter>,
    pub bytes_read: Counter,
    pub lines_lost: Family<LostLabel, Counter>,
    pub lines_malformed: Counter,
    /// Bytes in files not read yet, as of the last look.
    pub read_lag_bytes: Gauge<u64, AtomicU64>,
    pub open_files: Gauge<u64, AtomicU64>,
    pub streams: Gauge<u64, AtomicU64>,
    pub queue_bytes: Gauge<u64, AtomicU64>,
    pub batches: Family<DeliveryLabel, Counter>,
    pub sink_calls: Counter,
    /// Times a poll had to stand in for a change notice, as when inotify has no watches left.
    pub watch_failures: Counter,
}

impl Metrics {
    /// Makes the series visible in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "tawny_lines_read",
            "Lines read and handed on",
            self.lines_read.clone(),
        );
        registry.register(
            "tawny_bytes_read",
            "Bytes of log files and streams read",
            self.bytes_read.clone(),
        );
        registry.register(
            "tawny_lines_lost",
            "Lines lost for good; a gap of unknown size counts once",
            self.lines_lost.clone(),
        );
        registry.register(
            "tawny_lines_malformed",
            "Lines of no known format, kept raw",
            self.lines_malformed.clone(),
        );
        registry.register(
            "tawny_read_lag_bytes",
            "Bytes in log files that are not read yet",
            self.read_lag_bytes.clone(),
        );
        registry.register(
            "tawny_open_files",
            "Log files held open",
            self.open_files.clone(),
        );
        registry.register(
            "tawny_streams",
            "Container instances being read",
            self.streams.clone(),
        );
        registry.register(
            "tawny_queue_bytes",
            "Memory of lines read and not yet acknowledged",
            self.queue_bytes.clone(),
        );
        registry.register(
            "tawny_deliver_batches",
            "Batches by what became of them",
            self.batches.clone(),
        );
        registry.register(
            "tawny_deliver_calls",
            "Calls to the sink",
            self.sink_calls.clone(),
        );
        registry.register(
            "tawny_watch_failures",
            "Directories read by polling because they cannot be watched",
            self.watch_failures.clone(),
        );
    }

    pub(crate) fn lost(&self, reason: LostReason, n_lines: u64) {
        self.lines_lost
            .get_or_create(&LostLabel { reason })
            .inc_by(n_lines);
    }

    pub(crate) fn delivered(&self, result: DeliveryResult, n_batches: u64) {
        self.batches
            .get_or_create(&DeliveryLabel { result })
            .inc_by(n_batches);
    }

    /// The namespace's line counter, to be kept by a stream so that a batch costs one increment.
    pub fn lines_of(&self, namespace: &str) -> Counter {
        let label = NamespaceLabel {
            namespace: namespace.to_owned(),
        };
        self.lines_read.get_or_create_owned(&label)
    }
}

/// Metrics as they are handed about.
pub type SharedMetrics = Arc<Metrics>;
