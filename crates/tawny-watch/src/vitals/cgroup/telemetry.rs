//! A container's sample as telemetry entries. BlackBox measures no containers; the names are those of cAdvisor, which
//! every dashboard knows.

use std::collections::BTreeMap;

use serde_json::Value;
use tawny_incident::report::Telemetry;

use super::ContainerSample;
use crate::vitals::ring::Source;

impl ContainerSample {
    /// What the sample knows, tagged with `pod_uid` and `container_id`.
    pub fn telemetry(&self) -> impl Iterator<Item = Telemetry> {
        let measures = self.measures;
        let whole = |value: Option<u64>| value.map(Value::from);
        let secs = |ns: Option<u64>| ns.map(seconds).map(Value::from);
        [
            (
                "memory",
                "container_memory_working_set_bytes",
                whole(measures.memory_bytes),
            ),
            (
                "memory",
                "container_spec_memory_limit_bytes",
                whole(measures.memory_limit_bytes),
            ),
            (
                "cpu",
                "container_cpu_usage_seconds_total",
                secs(measures.cpu_ns),
            ),
            (
                "cpu",
                "container_cpu_cfs_throttled_seconds_total",
                secs(measures.throttled_ns),
            ),
            (
                "memory",
                "container_oom_events_total",
                whole(measures.oom_kills),
            ),
        ]
        .into_iter()
        .filter_map(move |(kind, name, value)| {
            let container = &self.container;
            Some(Telemetry {
                timestamp: self.at,
                source: Source::Container.name().to_owned(),
                kind: kind.to_owned(),
                name: name.to_owned(),
                value: value?,
                tags: BTreeMap::from([
                    (
                        "container_id".to_owned(),
                        container.container_id.to_string(),
                    ),
                    ("pod_uid".to_owned(), container.pod_uid.to_string()),
                ]),
                metadata: BTreeMap::new(),
            })
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "104 days of one core fit into 53 bits, and more need no nanosecond"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
