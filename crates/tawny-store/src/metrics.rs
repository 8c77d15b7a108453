//! What the store counts: `tawny_store_*`.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use tawny_model::Remedy;

use crate::Error;

/// Metrics of one store.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) batches: Family<ResultLabel, Counter>,
    pub(crate) entries: Family<ResultLabel, Counter>,
    pub(crate) errors: Family<RemedyLabel, Counter>,
    pub(crate) entries_deleted: Counter,
    pub(crate) writes_pushed: Counter,
    pub(crate) writes_popped: Counter,
    pub(crate) commit_seconds: Histogram,
    pub(crate) query_seconds: Family<QueryLabel, Histogram>,
    pub(crate) n_entries: Gauge,
    pub(crate) n_streams: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    result: ResultValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ResultValue {
    New,
    Duplicate,
    Gap,
    Fenced,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RemedyLabel {
    remedy: RemedyValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum RemedyValue {
    Retry,
    Reject,
    StandDown,
    Quarantine,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QueryLabel {
    pub(crate) kind: QueryKind,
}

/// The questions a store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum QueryKind {
    Search,
    Scan,
    Histogram,
    Facets,
    Count,
    Get,
    Stats,
}

/// Label values as Prometheus wants them: lower case.
macro_rules! label_values {
    ($kind:ty { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl EncodeLabelValue for $kind {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                match self { $(Self::$variant => $name),+ }.encode(encoder)
            }
        }
    };
}
label_values!(ResultValue { New = "new", Duplicate = "duplicate", Gap = "gap", Fenced = "fenced" });
label_values!(RemedyValue {
    Retry = "retry",
    Reject = "reject",
    StandDown = "stand_down",
    Quarantine = "quarantine",
});
label_values!(QueryKind {
    Search = "search",
    Scan = "scan",
    Histogram = "histogram",
    Facets = "facets",
    Count = "count",
    Get = "get",
    Stats = "stats",
});

const BATCHES: &str = "tawny_store_batches";
const ENTRIES: &str = "tawny_store_entries";
const ERRORS: &str = "tawny_store_errors";
const ENTRIES_DELETED: &str = "tawny_store_entries_deleted";
const WRITES_PUSHED: &str = "tawny_store_writes_pushed";
const WRITES_POPPED: &str = "tawny_store_writes_popped";
const COMMIT_SECONDS: &str = "tawny_store_commit_seconds";
const QUERY_SECONDS: &str = "tawny_store_query_seconds";
const STORED_ENTRIES: &str = "tawny_store_stored_entries";
const STREAMS: &str = "tawny_store_streams";

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            batches: Family::default(),
            entries: Family::default(),
            errors: Family::default(),
            entries_deleted: Counter::default(),
            writes_pushed: Counter::default(),
            writes_popped: Counter::default(),
            // 0.5 ms (a commit on a fast disk) to 16 s (a disk in trouble).
            commit_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            // 0.1 ms (one entry) to 13 s (a scan of everything).
            query_seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
            }),
            n_entries: Gauge::default(),
            n_streams: Gauge::default(),
        };
        let m = &metrics;
        registry.register(BATCHES, "Batches by what became of them", m.batches.clone());
        registry.register(
            ENTRIES,
            "Entries stored, or dropped as repeats",
            m.entries.clone(),
        );
        registry.register(
            ERRORS,
            "Failed writes by what the caller should do",
            m.errors.clone(),
        );
        registry.register(
            ENTRIES_DELETED,
            "Entries deleted by age, size or request",
            m.entries_deleted.clone(),
        );
        registry.register(
            WRITES_PUSHED,
            "Writes put into the writer's queue",
            m.writes_pushed.clone(),
        );
        registry.register(
            WRITES_POPPED,
            "Writes taken out of the writer's queue",
            m.writes_popped.clone(),
        );
        registry.register(
            COMMIT_SECONDS,
            "Time of a durable transaction",
            m.commit_seconds.clone(),
        );
        registry.register(
            QUERY_SECONDS,
            "Time of a query, without the wait for a reader",
            m.query_seconds.clone(),
        );
        registry.register(STORED_ENTRIES, "Entries in the store", m.n_entries.clone());
        registry.register(STREAMS, "Streams in the store", m.n_streams.clone());
        metrics
    }

    /// Notes what is there at the start.
    pub(crate) fn opened(&self, n_entries: u64, n_streams: usize) {
        self.n_entries.set(n_entries.cast_signed());
        self.set_streams(n_streams);
    }

    pub(crate) fn set_streams(&self, n_streams: usize) {
        self.n_streams.set((n_streams as u64).cast_signed());
    }

    pub(crate) fn n_streams(&self) -> u64 {
        self.n_streams.get().cast_unsigned()
    }

    /// Notes a committed transaction.
    pub(crate) fn stored(&self, n_entries: usize, n_streams: usize) {
        let n_entries = n_entries as u64;
        self.entries_of(ResultValue::New).inc_by(n_entries);
        self.n_entries.inc_by(n_entries.cast_signed());
        self.set_streams(n_streams);
    }

    /// Notes batches, and appended entries, by what became of them.
    pub(crate) fn admitted(&self, new: u64, duplicate: u64, gap: u64, fenced: u64, repeats: u64) {
        for (result, n) in [
            (ResultValue::New, new),
            (ResultValue::Duplicate, duplicate),
            (ResultValue::Gap, gap),
            (ResultValue::Fenced, fenced),
        ] {
            self.batches
                .get_or_create(&ResultLabel { result })
                .inc_by(n);
        }
        self.entries_of(ResultValue::Duplicate).inc_by(repeats);
    }

    fn entries_of(&self, result: ResultValue) -> impl std::ops::Deref<Target = Counter> {
        self.entries.get_or_create(&ResultLabel { result })
    }

    pub(crate) fn deleted(&self, n: u64) {
        self.entries_deleted.inc_by(n);
        self.n_entries.dec_by(n.cast_signed());
    }

    pub(crate) fn failed(&self, error: &Error) {
        let remedy = match error.remedy() {
            Remedy::Retry => RemedyValue::Retry,
            Remedy::Reject => RemedyValue::Reject,
            Remedy::StandDown => RemedyValue::StandDown,
            Remedy::Quarantine => RemedyValue::Quarantine,
        };
        self.errors.get_or_create(&RemedyLabel { remedy }).inc();
    }
}
