//! A container's memory and processor up to its end, against what it asked for and may use (BB-13, BB-14).

use serde::{Deserialize, Serialize};
use tawny_model::{Timestamp, observed::Resources};

use super::ring::Ring;

/// One measure over time, the oldest first, and what bounded it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Series {
    /// In the unit of the samples; `None` without a limit.
    pub limit: Option<u64>,
    pub samples: Vec<(Timestamp, u64)>,
}

/// How a container used what it was given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Analysis {
    /// In bytes.
    pub memory: Use,
    /// In thousandths of a core.
    pub cpu: Use,
    /// Of the time measured, how much its processes were held back by the limit of their processor time; more than 100
    /// when several were at once.
    pub throttled_percent: Option<f64>,
}

/// One resource. Percentages are of the peak, rounded to a tenth.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Use {
    /// The last measured.
    pub used: Option<u64>,
    pub peak: Option<u64>,
    pub request: Option<u64>,
    pub limit: Option<u64>,
    pub of_request_percent: Option<f64>,
    pub of_limit_percent: Option<f64>,
}

impl Series {
    /// The working set in bytes, from `from` up to `to`, the death; the limit is the last its cgroup told.
    pub fn memory(ring: &Ring, container_id: &str, from: Timestamp, to: Timestamp) -> Self {
        let mut series = Self::default();
        for sample in ring.container(container_id, from, to) {
            series.limit = sample.measures.memory_limit_bytes.or(series.limit);
            let bytes = sample.measures.memory_bytes;
            series.samples.extend(bytes.map(|bytes| (sample.at, bytes)));
        }
        series
    }

    /// Processor time in thousandths of a core, each sample for the time since the one before; `limit` is the pod's.
    pub fn cpu(
        ring: &Ring,
        container_id: &str,
        from: Timestamp,
        to: Timestamp,
        limit: Option<u64>,
    ) -> Self {
        let readings = ring
            .container(container_id, from, to)
            .filter_map(|sample| Some((sample.at, sample.measures.cpu_ns?)));
        Self {
            limit,
            samples: rates(readings).collect(),
        }
    }

    fn last(&self) -> Option<u64> {
        self.samples.last().map(|(_, value)| *value)
    }

    fn peak(&self) -> Option<u64> {
        self.samples.iter().map(|(_, value)| *value).max()
    }
}

impl Analysis {
    /// Of a container from `from` up to `to`, its death. Limits of the spec count, and that of the cgroup where the spec
    /// tells none.
    pub fn new(
        ring: &Ring,
        container_id: &str,
        (from, to): (Timestamp, Timestamp),
        requests: Resources,
        limits: Resources,
    ) -> Self {
        let memory = Series::memory(ring, container_id, from, to);
        let cpu = Series::cpu(ring, container_id, from, to, limits.cpu_millis);
        let held_back = ring
            .container(container_id, from, to)
            .filter_map(|sample| Some((sample.at, sample.measures.throttled_ns?)));
        let memory_limit = limits.memory_bytes.or(memory.limit);
        Self {
            memory: Use::new(&memory, requests.memory_bytes, memory_limit),
            cpu: Use::new(&cpu, requests.cpu_millis, limits.cpu_millis),
            throttled_percent: share(held_back),
        }
    }
}

impl Use {
    fn new(series: &Series, request: Option<u64>, limit: Option<u64>) -> Self {
        let peak = series.peak();
        let percent = |of: Option<u64>| percent(peak?, of?);
        Self {
            used: series.last(),
            peak,
            request,
            limit,
            of_request_percent: percent(request),
            of_limit_percent: percent(limit),
        }
    }
}

/// Growth per second of what counts nanoseconds, in thousandths. A reading at the time of the one before is passed
/// over, and a count that went back starts anew.
fn rates(
    readings: impl Iterator<Item = (Timestamp, u64)>,
) -> impl Iterator<Item = (Timestamp, u64)> {
    let mut before: Option<(Timestamp, u64)> = None;
    readings.filter_map(move |(at, ns)| {
        let (earlier, earlier_ns) = before.replace((at, ns))?;
        let elapsed_ns = at.saturating_since(earlier).as_nanos();
        let grown_ns = u128::from(ns.checked_sub(earlier_ns)?);
        let millis = (grown_ns * 1_000).checked_div(elapsed_ns)?;
        Some((at, u64::try_from(millis).ok()?))
    })
}

/// How much of the time between the first and the last reading the count grew by, in percent.
fn share(mut readings: impl Iterator<Item = (Timestamp, u64)>) -> Option<f64> {
    let (first_at, first_ns) = readings.next()?;
    let (last_at, last_ns) = readings.last()?;
    let elapsed_ns = u64::try_from(last_at.saturating_since(first_at).as_nanos()).ok()?;
    percent(last_ns.checked_sub(first_ns)?, elapsed_ns)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a percentage rounded to a tenth needs no more than 53 bits"
)]
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 1_000.0).round() / 10.0)
}

#[cfg(test)]
mod tests;
