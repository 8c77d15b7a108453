//! A node's processor, memory, network, disks and load, as its proc tree tells them (BB-45).
//!
//! A reading is what the files say at one moment; usage of the processor takes two of them, so that it is that of the
//! time between and not of the time since boot.

mod parse;
mod telemetry;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tawny_model::Timestamp;

use super::file;

/// What a node's proc tree says at one moment. What could not be read is missing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeReading {
    pub at: Timestamp,
    /// Of all cores together first, then of each.
    pub cores: Vec<Core>,
    pub memory: Memory,
    /// Without `lo` and the host's ends of the links into pods.
    pub interfaces: Vec<Interface>,
    /// Whole disks, without their partitions.
    pub disks: Vec<Disk>,
    /// File handles open on the node.
    pub open_files: Option<u64>,
    pub processes: Option<Processes>,
    /// Over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
}

/// How many processes there were, and when that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processes {
    pub count: u64,
    pub at: Timestamp,
}

/// Time of one core, or of all, since boot, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Core {
    /// `None` for all cores together.
    pub number: Option<u32>,
    pub busy_ticks: u64,
    pub total_ticks: u64,
}

/// Memory and swap, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    pub total: Option<u64>,
    pub free: Option<u64>,
    pub available: Option<u64>,
    pub buffers: Option<u64>,
    pub cached: Option<u64>,
    pub swap_total: Option<u64>,
    pub swap_free: Option<u64>,
}

/// What went over a network interface since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: Arc<str>,
    pub received: Traffic,
    pub sent: Traffic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
}

/// What a disk did since boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub name: Arc<str>,
    pub read: Transfers,
    pub written: Transfers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transfers {
    pub ios: u64,
    pub bytes: u64,
}

/// A reading with what only the one before could tell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeSample {
    pub reading: NodeReading,
    pub usage: Vec<CoreUsage>,
}

/// How busy a core was between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoreUsage {
    /// `None` for all cores together.
    pub number: Option<u32>,
    /// 0 to 100, also for all cores together.
    pub percent: f64,
}

/// How often processes are counted: there is a folder for each, and to list thousands takes milliseconds.
const COUNT_EVERY: Duration = Duration::from_secs(10);

impl NodeReading {
    /// Reads the tree at `root`: `/proc`, or where the host's is mounted. Blocks for as long as its files take.
    ///
    /// `before` is the reading before, whose count of processes holds for a while. Each file that cannot be read is told
    /// to `unread`, and its part of the reading is missing.
    pub fn read(
        root: &Path,
        at: Timestamp,
        before: Option<&Self>,
        unread: &mut impl FnMut(PathBuf, io::Error),
    ) -> Self {
        let mut text = String::new();
        let mut with = |path: &str, text: &mut String| {
            let path = root.join(path);
            if let Err(error) = file::read(&path, text) {
                unread(path, error);
            }
        };
        let mut reading = Self {
            at,
            ..Self::default()
        };
        with("stat", &mut text);
        reading.cores = parse::cores(&text);
        with("meminfo", &mut text);
        reading.memory = parse::memory(&text);
        // `net` leads to the reader's own network; that of process 1 is the host's, whatever pod reads it.
        let is_host_seen = root.join("1").exists();
        with(
            if is_host_seen { "1/net/dev" } else { "net/dev" },
            &mut text,
        );
        reading.interfaces = parse::interfaces(&text);
        with("diskstats", &mut text);
        reading.disks = parse::disks(&text);
        with("sys/fs/file-nr", &mut text);
        reading.open_files = parse::open_files(&text);
        with("loadavg", &mut text);
        reading.load = parse::load(&text);
        let counted = before.and_then(|before| before.processes);
        reading.processes =
            counted.filter(|it| it.at <= at && at.saturating_since(it.at) < COUNT_EVERY);
        if reading.processes.is_none() {
            match processes(root) {
                Ok(count) => reading.processes = Some(Processes { count, at }),
                Err(error) => unread(root.to_owned(), error),
            }
        }
        reading
    }
}

impl NodeSample {
    /// `before` is the reading before; without one, usage of the processor is not known.
    pub fn new(reading: NodeReading, before: Option<&NodeReading>) -> Self {
        let usage = before.map_or_else(Vec::new, |before| {
            reading
                .cores
                .iter()
                .filter_map(|core| {
                    let earlier = before.cores.iter().find(|it| it.number == core.number)?;
                    core.usage_since(earlier)
                })
                .collect()
        });
        Self { reading, usage }
    }
}

impl Core {
    /// `None` when no tick went by.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a percentage of ticks needs no more than 53 bits"
    )]
    fn usage_since(&self, before: &Self) -> Option<CoreUsage> {
        let total = self.total_ticks.checked_sub(before.total_ticks)?;
        // The time spent waiting for disks, which counts as idle, is known to go back a little.
        let busy = self.busy_ticks.saturating_sub(before.busy_ticks).min(total);
        (total > 0).then(|| CoreUsage {
            number: self.number,
            percent: busy as f64 / total as f64 * 100.0,
        })
    }
}

/// Every process has a folder named after its number.
fn processes(root: &Path) -> io::Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
