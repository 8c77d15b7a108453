//! Metrics of the process itself: `process_*` as Prometheus clients name them, and what build this is.

use std::{fs, path::Path};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

/// Clock ticks per second in `/proc/*/stat`. Source: proc_pid_stat(5); USER_HZ is 100 on every architecture Linux has.
const TICKS_PER_SEC: f64 = 100.0;

/// Registers the process's metrics and `tawny_build_info`.
pub fn register_process(registry: &mut Registry, version: &'static str) {
    registry.register(
        "tawny_build",
        "What build runs",
        Info::new([("version", version)]),
    );
    registry.register_collector(Box::new(ProcessMetrics));
}

/// Read from `/proc` at each scrape; empty where there is none.
#[derive(Debug)]
struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(usage) = Usage::read(Path::new("/proc")) else {
            return Ok(());
        };
        let cpu = ConstCounter::new(usage.cpu_secs);
        let metric = encoder.encode_descriptor(
            "process_cpu",
            "Total user and system CPU time",
            Some(&Unit::Seconds),
            prometheus_client::metrics::MetricType::Counter,
        )?;
        cpu.encode(metric)?;
        for (name, help, unit, value) in [
            (
                "process_resident_memory",
                "Resident memory",
                Some(&Unit::Bytes),
                usage.resident_bytes,
            ),
            (
                "process_virtual_memory",
                "Virtual memory",
                Some(&Unit::Bytes),
                usage.virtual_bytes,
            ),
            (
                "process_start_time",
                "Start of the process since the Unix epoch",
                Some(&Unit::Seconds),
                usage.start_secs,
            ),
            (
                "process_open_fds",
                "Open file descriptors",
                None,
                usage.n_open_fds,
            ),
            (
                "process_max_fds",
                "Most file descriptors the process may open",
                None,
                usage.n_max_fds,
            ),
            ("process_threads", "Threads", None, usage.n_threads),
        ] {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(
                name,
                help,
                unit,
                prometheus_client::metrics::MetricType::Gauge,
            )?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Usage {
    cpu_secs: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    start_secs: f64,
    n_open_fds: f64,
    n_max_fds: f64,
    n_threads: f64,
}

impl Usage {
    /// What `proc` says of this process; `None` when it is no proc file system.
    fn read(proc: &Path) -> Option<Self> {
        let text = |file: &str| fs::read_to_string(proc.join(file)).unwrap_or_default();
        let stat = text("self/stat");
        // The command in parentheses may hold spaces; what follows it is numbered from 3 in proc_pid_stat(5).
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let field = |number: usize| -> f64 {
            fields
                .get(number - 3)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default()
        };
        let keyed = |text: &str, key: &str| -> f64 {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
                .unwrap_or_default()
        };
        let boot_secs = keyed(&text("stat"), "btime ");
        Some(Self {
            cpu_secs: (field(14) + field(15)) / TICKS_PER_SEC,
            resident_bytes: keyed(&text("self/status"), "VmRSS:") * 1024.0,
            virtual_bytes: field(23),
            start_secs: boot_secs + field(22) / TICKS_PER_SEC,
            n_open_fds: fs::read_dir(proc.join("self/fd"))
                .map_or(0, Iterator::count)
                .try_into()
                .map_or(0.0, |n: u32| n.into()),
            n_max_fds: keyed(&text("self/limits"), "Max open files"),
            n_threads: field(20),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_metrics_are_exposed_with_their_usual_names() {
        let mut registry = Registry::default();
        register_process(&mut registry, "1.2.3");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("tawny_build_info{version=\"1.2.3\"} 1"),
            "{text}"
        );
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_virtual_memory_bytes ",
            "process_start_time_seconds ",
            "process_open_fds ",
            "process_max_fds ",
            "process_threads ",
        ] {
            let value: f64 = text
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_else(|| panic!("{name} is missing:\n{text}"))
                .parse()
                .unwrap();
            assert!(
                value > 0.0 || name.starts_with("process_cpu"),
                "{name}{value}"
            );
        }
    }

    #[test]
    fn without_a_proc_file_system_there_is_nothing_to_say() {
        assert_eq!(Usage::read(Path::new("/nonexistent")), None);
    }
}
