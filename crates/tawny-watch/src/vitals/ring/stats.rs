//! How full the ring is, with the names BlackBox gives its figures (BB-37, BB-38).

use std::time::Duration;

use serde::{Serialize, Serializer};
use tawny_model::Timestamp;

/// Figures of a ring; as JSON those of BB-38, durations in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub total_entries: usize,
    /// The most entries there may be.
    pub buffer_size: usize,
    #[serde(serialize_with = "nanos")]
    pub window_size: Duration,
    /// From the oldest entry to the newest.
    #[serde(serialize_with = "nanos")]
    pub actual_window: Duration,
    #[serde(serialize_with = "rfc3339_or_null")]
    pub oldest_entry: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339_or_null")]
    pub newest_entry: Option<Timestamp>,
    #[serde(skip)]
    pub bytes: usize,
    #[serde(skip)]
    pub cleanups: u64,
    #[serde(skip)]
    pub cleaned_at: Option<Timestamp>,
}

/// The answer of `GET /api/v1/buffer/status` (BB-37).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BufferStatus {
    /// `60s`.
    pub window_size: String,
    pub current_entries: usize,
    pub max_entries: usize,
    pub utilization_percent: f64,
    #[serde(serialize_with = "rfc3339_or_null")]
    pub oldest_entry: Option<Timestamp>,
    #[serde(serialize_with = "rfc3339_or_null")]
    pub newest_entry: Option<Timestamp>,
    pub memory_usage_bytes: usize,
    pub cleanup_runs: u64,
    #[serde(serialize_with = "rfc3339_or_null")]
    pub last_cleanup: Option<Timestamp>,
}

impl From<&Stats> for BufferStatus {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a percentage of entries needs no more than 53 bits"
    )]
    fn from(stats: &Stats) -> Self {
        Self {
            window_size: format!("{}s", stats.window_size.as_secs()),
            current_entries: stats.total_entries,
            max_entries: stats.buffer_size,
            utilization_percent: stats.total_entries as f64 / stats.buffer_size as f64 * 100.0,
            oldest_entry: stats.oldest_entry,
            newest_entry: stats.newest_entry,
            memory_usage_bytes: stats.bytes,
            cleanup_runs: stats.cleanups,
            last_cleanup: stats.cleaned_at,
        }
    }
}

fn nanos<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn rfc3339_or_null<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}
