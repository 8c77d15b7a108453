//! The files of one container's cgroup, of either version, from text to numbers.

use std::path::Path;

use super::Measures;
use crate::vitals::file::{self, keyed};

/// v1 has no word for "no limit" but the largest number of pages that fits (`PAGE_COUNTER_MAX` of Linux), a little
/// below 2^63 whatever the size of a page; no machine has 2^60 bytes.
const NO_LIMIT_V1: u64 = 1 << 60;

/// Where the controllers of a v1 container lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct V1Dirs<'a> {
    pub(super) memory: &'a Path,
    pub(super) cpuacct: Option<&'a Path>,
    pub(super) cpu: Option<&'a Path>,
}

/// Reads a container of a v2 tree; `None` when its cgroup is gone.
///
/// `before` is what it measured lately. A container whose processes had no processor since then did nothing, was not
/// charged for memory and was not killed: it is not read again. Most containers idle, and each has a sandbox that does.
pub(super) fn v2(dir: &Path, before: Option<&Measures>, text: &mut String) -> Option<Measures> {
    read(dir, "cpu.stat", text);
    let mut measures = Measures {
        cpu_ns: keyed(text, "usage_usec").and_then(micros),
        throttled_ns: keyed(text, "throttled_usec").and_then(micros),
        ..Measures::default()
    };
    if let Some(idle) = idle(&measures, before) {
        return Some(idle);
    }
    measures.oom_kills = oom_kills_v2(dir, text);
    if read(dir, "memory.current", text)
        && let Ok(usage) = text.trim().parse::<u64>()
    {
        read(dir, "memory.stat", text);
        measures.memory_bytes = Some(working_set(usage, keyed(text, "inactive_file")));
    }
    read(dir, "memory.max", text);
    measures.memory_limit_bytes = text.trim().parse().ok();
    is_there(measures, dir)
}

/// Reads a container of a v1 tree, as [`v2`] does; `None` when its cgroup is gone.
pub(super) fn v1(
    dirs: V1Dirs<'_>,
    before: Option<&Measures>,
    text: &mut String,
) -> Option<Measures> {
    let dir = dirs.memory;
    let mut measures = Measures::default();
    if let Some(dir) = dirs.cpuacct {
        read(dir, "cpuacct.usage", text);
        measures.cpu_ns = text.trim().parse().ok();
    }
    if let Some(idle) = idle(&measures, before) {
        return Some(idle);
    }
    if let Some(dir) = dirs.cpu {
        read(dir, "cpu.stat", text);
        measures.throttled_ns = keyed(text, "throttled_time");
    }
    read(dir, "memory.oom_control", text);
    measures.oom_kills = keyed(text, "oom_kill");
    if read(dir, "memory.usage_in_bytes", text)
        && let Ok(usage) = text.trim().parse::<u64>()
    {
        read(dir, "memory.stat", text);
        measures.memory_bytes = Some(working_set(usage, keyed(text, "total_inactive_file")));
    }
    read(dir, "memory.limit_in_bytes", text);
    let limit = text.trim().parse().ok();
    measures.memory_limit_bytes = limit.filter(|limit| *limit < NO_LIMIT_V1);
    is_there(measures, dir)
}

fn idle(now: &Measures, before: Option<&Measures>) -> Option<Measures> {
    before
        .filter(|before| now.cpu_ns.is_some() && now.cpu_ns == before.cpu_ns)
        .copied()
}

/// Kills in a v2 cgroup and in all that are or were below it (`memory.events`, cgroup-v2.rst of Linux).
pub(super) fn oom_kills_v2(dir: &Path, text: &mut String) -> Option<u64> {
    read(dir, "memory.events", text);
    keyed(text, "oom_kill")
}

fn read(dir: &Path, name: &str, text: &mut String) -> bool {
    file::read(&dir.join(name), text).is_ok()
}

/// A cgroup that was removed while it was read gives nothing, or only the first of its files.
fn is_there(measures: Measures, dir: &Path) -> Option<Measures> {
    let is_empty = measures == Measures::default();
    (!is_empty && dir.exists()).then_some(measures)
}

fn working_set(usage: u64, inactive_file: Option<u64>) -> u64 {
    usage.saturating_sub(inactive_file.unwrap_or(0))
}

fn micros(micros: u64) -> Option<u64> {
    micros.checked_mul(1_000)
}
