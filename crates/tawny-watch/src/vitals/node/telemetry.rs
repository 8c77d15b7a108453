//! A node's sample as telemetry entries, with the names, types and tags of BB-45.

use std::collections::BTreeMap;

use serde_json::Value;
use tawny_incident::report::Telemetry;

use super::{CoreUsage, NodeSample};
use crate::vitals::ring::Source;

impl NodeSample {
    /// Everything of the sample, the names in a fixed order.
    ///
    /// Types are BlackBox's own for a system's measures: `cpu`, `memory`, `network`, `disk` and `process`.
    pub fn telemetry(&self) -> Vec<Telemetry> {
        let reading = &self.reading;
        let mut out = Entries {
            sample: self,
            entries: Vec::new(),
        };
        for usage in &self.usage {
            let core = core_name(usage);
            out.tagged(
                "cpu",
                format!("{core}_usage_percent"),
                usage.percent,
                ("core", &core),
            );
        }
        let memory = &reading.memory;
        for (name, bytes) in [
            ("memory_total_bytes", memory.total),
            ("memory_free_bytes", memory.free),
            ("memory_available_bytes", memory.available),
            ("memory_buffers_bytes", memory.buffers),
            ("memory_cached_bytes", memory.cached),
            ("swap_total_bytes", memory.swap_total),
            ("swap_free_bytes", memory.swap_free),
        ] {
            out.plain("memory", name, bytes);
        }
        out.plain("memory", "memory_usage_percent", memory.usage_percent());
        for interface in &reading.interfaces {
            for (way, traffic) in [("rx", interface.received), ("tx", interface.sent)] {
                for (what, value) in [
                    ("bytes", traffic.bytes),
                    ("packets", traffic.packets),
                    ("errors", traffic.errors),
                ] {
                    let name = format!("network_{way}_{what}_{}", interface.name);
                    out.tagged("network", name, value, ("interface", &interface.name));
                }
            }
        }
        for disk in &reading.disks {
            for (way, transfers) in [("read", disk.read), ("write", disk.written)] {
                for (what, value) in [("ios", transfers.ios), ("bytes", transfers.bytes)] {
                    let name = format!("disk_{way}_{what}_{}", disk.name);
                    out.tagged("disk", name, value, ("device", &disk.name));
                }
            }
        }
        out.plain("process", "open_files_total", reading.open_files);
        let processes = reading.processes.map(|processes| processes.count);
        out.plain("process", "processes_total", processes);
        let load = |nth: usize| reading.load.and_then(|load| load.get(nth).copied());
        out.plain("process", "load_1min", load(0));
        out.plain("process", "load_5min", load(1));
        out.plain("process", "load_15min", load(2));
        out.entries
    }

    /// How many entries [`Self::telemetry`] gives.
    pub fn n_entries(&self) -> usize {
        let reading = &self.reading;
        let memory = &reading.memory;
        let amounts = [
            memory.total,
            memory.free,
            memory.available,
            memory.buffers,
            memory.cached,
            memory.swap_total,
            memory.swap_free,
            reading.open_files,
            reading.processes.map(|processes| processes.count),
        ];
        self.usage.len()
            + amounts.iter().flatten().count()
            + usize::from(memory.usage_percent().is_some())
            + reading.interfaces.len() * 6
            + reading.disks.len() * 4
            + reading.load.map_or(0, |load| load.len())
    }
}

impl super::Memory {
    /// What programs could not have, in percent of all.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a percentage of bytes needs no more than 53 bits"
    )]
    pub fn usage_percent(&self) -> Option<f64> {
        let (total, available) = (self.total?, self.available?);
        (total > 0).then(|| total.saturating_sub(available) as f64 / total as f64 * 100.0)
    }
}

/// `cpu3`, and `cpu` for all together, as BlackBox tags them.
fn core_name(usage: &CoreUsage) -> String {
    usage
        .number
        .map_or_else(|| "cpu".to_owned(), |number| format!("cpu{number}"))
}

struct Entries<'a> {
    sample: &'a NodeSample,
    entries: Vec<Telemetry>,
}

impl Entries<'_> {
    fn plain(&mut self, kind: &str, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.push(kind, name.to_owned(), value.into(), BTreeMap::new());
        }
    }

    fn tagged(&mut self, kind: &str, name: String, value: impl Into<Value>, tag: (&str, &str)) {
        let tags = BTreeMap::from([(tag.0.to_owned(), tag.1.to_owned())]);
        self.push(kind, name, value.into(), tags);
    }

    fn push(&mut self, kind: &str, name: String, value: Value, tags: BTreeMap<String, String>) {
        self.entries.push(Telemetry {
            timestamp: self.sample.reading.at,
            source: Source::System.name().to_owned(),
            kind: kind.to_owned(),
            name,
            value,
            tags,
            metadata: BTreeMap::new(),
        });
    }
}
