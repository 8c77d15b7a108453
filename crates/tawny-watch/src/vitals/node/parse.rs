//! The files of a proc tree, from text to numbers. Lines that look otherwise than expected are passed over.

use super::{Core, Disk, Interface, Memory, Traffic, Transfers};
use crate::vitals::file::keyed;

/// A sector of `/proc/diskstats`, whatever the disk's own are (Documentation/admin-guide/iostats.rst of Linux).
const SECTOR_BYTES: u64 = 512;

/// Starts of the names of links into pods, as they are called on the host: one for each pod, which on a full node would
/// make up nearly all that is measured. `veth` of bridges and containerd, `cali` of Calico, `lxc` of Cilium, `eni` and
/// `azv` of the clouds' own networks.
const POD_LINKS: [&str; 5] = ["veth", "cali", "lxc", "eni", "azv"];

/// Starts of the names of disks: BB-45's, and what virtual machines and small boards have instead.
const DISKS: [&str; 5] = ["sd", "nvme", "vd", "xvd", "mmcblk"];

/// `stat`: the lines `cpu` and `cpuN`.
pub(super) fn cores(text: &str) -> Vec<Core> {
    text.lines()
        .map_while(|line| line.strip_prefix("cpu"))
        .filter_map(core)
        .collect()
}

/// `0 user nice system idle iowait irq softirq steal guest guest_nice`; the guests' time is part of the user's.
fn core(line: &str) -> Option<Core> {
    let (number, ticks) = line.split_once(' ')?;
    let number = match number {
        "" => None,
        number => Some(number.parse().ok()?),
    };
    let ticks: Vec<u64> = ticks
        .split_ascii_whitespace()
        .take(8)
        .map_while(|ticks| ticks.parse().ok())
        .collect();
    let &[_, _, _, idle, ref rest @ ..] = ticks.as_slice() else {
        return None;
    };
    let total = ticks.iter().fold(0, |sum: u64, it| sum.saturating_add(*it));
    let waiting = rest.first().copied().unwrap_or(0);
    Some(Core {
        number,
        busy_ticks: total.saturating_sub(idle).saturating_sub(waiting),
        total_ticks: total,
    })
}

/// `meminfo`, whose numbers are KiB.
pub(super) fn memory(text: &str) -> Memory {
    let bytes = |key| keyed(text, key)?.checked_mul(1024);
    Memory {
        total: bytes("MemTotal:"),
        free: bytes("MemFree:"),
        available: bytes("MemAvailable:"),
        buffers: bytes("Buffers:"),
        cached: bytes("Cached:"),
        swap_total: bytes("SwapTotal:"),
        swap_free: bytes("SwapFree:"),
    }
}

/// `net/dev`: bytes, packets and errors are the first three of the eight numbers of either way.
pub(super) fn interfaces(text: &str) -> Vec<Interface> {
    text.lines()
        .filter_map(|line| {
            // An alias is `eth0:1: …`, and the first number may stick to the colon.
            let (name, numbers) = line.rsplit_once(':')?;
            let name = name.trim();
            if name == "lo" || POD_LINKS.iter().any(|link| name.starts_with(link)) {
                return None;
            }
            let numbers: Vec<u64> = numbers
                .split_ascii_whitespace()
                .map_while(|number| number.parse().ok())
                .collect();
            let traffic = |first: usize| match numbers.get(first..first + 3)? {
                &[bytes, packets, errors] => Some(Traffic {
                    bytes,
                    packets,
                    errors,
                }),
                _ => None,
            };
            Some(Interface {
                name: name.into(),
                received: traffic(0)?,
                sent: traffic(8)?,
            })
        })
        .collect()
}

/// `diskstats`: `8 0 sda reads merged sectors ms writes merged sectors …`.
pub(super) fn disks(text: &str) -> Vec<Disk> {
    let lines: Vec<(&str, Vec<u64>)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(2);
            let name = words.next()?;
            let is_disk = DISKS.iter().any(|start| name.starts_with(start));
            let numbers = || words.map_while(|word| word.parse().ok()).collect();
            is_disk.then(|| (name, numbers()))
        })
        .collect();
    let is_listed = |name: &str| lines.iter().any(|(it, _)| *it == name);
    lines
        .iter()
        .filter(|(name, _)| !whole(name).is_some_and(is_listed))
        .filter_map(|(name, numbers)| {
            let &[reads, _, sectors_read, _, writes, _, sectors_written, ..] = numbers.as_slice()
            else {
                return None;
            };
            let transfers = |ios, sectors: u64| Transfers {
                ios,
                bytes: sectors.saturating_mul(SECTOR_BYTES),
            };
            Some(Disk {
                name: (*name).into(),
                read: transfers(reads, sectors_read),
                written: transfers(writes, sectors_written),
            })
        })
        .collect()
}

/// The disk that a name would be a partition of: `sda` of `sda1`, `nvme0n1` of `nvme0n1p2`, `mmcblk0` of `mmcblk0boot1`.
/// On Xen a partition may come without its disk, and then counts as one.
fn whole(name: &str) -> Option<&str> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == name.len() && !name.starts_with("mmcblk") {
        return None;
    }
    for parts in ["p", "boot", "rpmb"] {
        if let Some(disk) = stem.strip_suffix(parts)
            && disk.ends_with(|c: char| c.is_ascii_digit())
        {
            return Some(disk);
        }
    }
    Some(stem)
}

/// `sys/fs/file-nr`: handles in use, free, and the most there may be.
pub(super) fn open_files(text: &str) -> Option<u64> {
    let mut words = text.split_ascii_whitespace();
    let allocated: u64 = words.next()?.parse().ok()?;
    let free: u64 = words.next()?.parse().ok()?;
    Some(allocated.saturating_sub(free))
}

/// `loadavg`.
pub(super) fn load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let mut next =
        || -> Option<f64> { words.next()?.parse().ok().filter(|it: &f64| it.is_finite()) };
    Some([next()?, next()?, next()?])
}
