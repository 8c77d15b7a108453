//! Recorded proc trees, and texts no kernel writes.

use std::fs;

use proptest::prelude::*;
use serde_json::json;
use tawny_incident::report::Telemetry;

use super::*;

const STAT: &str = "\
cpu  5520252 860488 762893 1938963 46425 0 21660 74328 500 60
cpu0 2734861 430862 367741 1021755 16159 0 5027 35644 500 60
cpu1 2785391 429625 395151 917208 30265 0 16632 38684 0 0
intr 63705082 0 0 9246
ctxt 147076794
";

/// One second later: core 0 ran 75 of 100 ticks, core 1 none of 100.
const STAT_LATER: &str = "\
cpu  5520327 860488 762893 1939083 46430 0 21660 74328 500 60
cpu0 2734931 430862 367746 1021775 16164 0 5027 35644 500 60
cpu1 2785391 429625 395151 917308 30265 0 16632 38684 0 0
";

const MEMINFO: &str = "\
MemTotal:       24684092 kB
MemFree:        17859484 kB
MemAvailable:   23776648 kB
Buffers:           94976 kB
Cached:          5924376 kB
SwapCached:            0 kB
SwapTotal:       1048576 kB
SwapFree:        1048000 kB
HugePages_Total:       0
";

const NET_DEV: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 29176656065 9493921    0    0    0     0          0         0 29176656065 9493921    0    0    0     0       0          0
  eth0: 1488033015   53711    3    0    0     0          0         0  3346484   32952    4    0    0     0       0          0
veth3f1c9b0a: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0
cali12345678901:1 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0
ens5:17 1 0 0 0 0 0 0 18 2 0 0 0 0 0 0
";

const DISKSTATS: &str = "\
   7       0 loop0 1 0 2 0 3 0 4 0 0 0 0
 254       0 vda 5947614 211858 238091962 40423296 4567910 1043530 760895928 8384803 0 1796312 49309932 1001659 263 558369608 322839 740909 178992
 254       1 vda1 1 1 1 1 1 1 1 1 1 1 1
   8       0 sda 10 0 20 0 30 0 40 0 0 0 0
   8       1 sda1 9 0 19 0 29 0 39 0 0 0 0
   8      17 sdaa 11 0 21 0 31 0 41 0 0 0 0
 259       0 nvme0n1 1 0 2 0 3 0 4 0 0 0 0
 259       1 nvme0n1p1 1 0 2 0 3 0 4 0 0 0 0
 179       0 mmcblk0 1 0 2 0 3 0 4 0 0 0 0
 179       1 mmcblk0p1 1 0 2 0 3 0 4 0 0 0 0
 179       8 mmcblk0boot0 1 0 2 0 3 0 4 0 0 0 0
 202       1 xvda1 5 0 6 0 7 0 8 0 0 0 0
 253       0 dm-0 1 0 2 0 3 0 4 0 0 0 0
";

/// A proc tree in which process 1 has the node's network and the reader another.
fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("stat", STAT),
        ("meminfo", MEMINFO),
        ("1/net/dev", NET_DEV),
        ("net/dev", "  pod0: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n"),
        ("diskstats", DISKSTATS),
        ("sys/fs/file-nr", "541\t1\t2466186\n"),
        ("loadavg", "0.23 0.81 1.64 4/106 27731\n"),
        ("4711/stat", ""),
        ("815/stat", ""),
        ("fs/nfs", ""),
    ] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn read(root: &Path, secs: i64) -> (NodeReading, Vec<PathBuf>) {
    let mut unread = Vec::new();
    let at = Timestamp::from_secs(secs);
    let reading = NodeReading::read(root, at, None, &mut |path, _| unread.push(path));
    (reading, unread)
}

fn sample_of_a_second() -> NodeSample {
    let root = tree();
    let (before, unread) = read(root.path(), 100);
    assert_eq!(unread, Vec::<PathBuf>::new());
    fs::write(root.path().join("stat"), STAT_LATER).unwrap();
    let (reading, _) = read(root.path(), 101);
    NodeSample::new(reading, Some(&before))
}

fn value(entries: &[Telemetry], name: &str) -> serde_json::Value {
    let mut named = entries.iter().filter(|entry| entry.name == name);
    let entry = named.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(named.next().is_none(), "{name} twice");
    entry.value.clone()
}

#[test]
fn bb_45_names_and_values_of_a_recorded_tree() {
    let entries = sample_of_a_second().telemetry();
    let expected = [
        ("cpu_usage_percent", json!(37.5)),
        ("cpu0_usage_percent", json!(75.0)),
        ("cpu1_usage_percent", json!(0.0)),
        ("memory_total_bytes", json!(24_684_092u64 * 1024)),
        ("memory_free_bytes", json!(17_859_484u64 * 1024)),
        ("memory_available_bytes", json!(23_776_648u64 * 1024)),
        ("memory_buffers_bytes", json!(94_976u64 * 1024)),
        ("memory_cached_bytes", json!(5_924_376u64 * 1024)),
        ("swap_total_bytes", json!(1u64 << 30)),
        ("swap_free_bytes", json!(1_048_000u64 * 1024)),
        (
            "memory_usage_percent",
            json!(907_444.0 / 24_684_092.0 * 100.0),
        ),
        ("network_rx_bytes_eth0", json!(1_488_033_015u64)),
        ("network_rx_packets_eth0", json!(53_711)),
        ("network_rx_errors_eth0", json!(3)),
        ("network_tx_bytes_eth0", json!(3_346_484)),
        ("network_tx_packets_eth0", json!(32_952)),
        ("network_tx_errors_eth0", json!(4)),
        ("network_rx_bytes_ens5", json!(17)),
        ("network_tx_bytes_ens5", json!(18)),
        ("disk_read_ios_vda", json!(5_947_614)),
        ("disk_read_bytes_vda", json!(238_091_962u64 * 512)),
        ("disk_write_ios_vda", json!(4_567_910)),
        ("disk_write_bytes_vda", json!(760_895_928u64 * 512)),
        ("open_files_total", json!(540)),
        ("processes_total", json!(3)),
        ("load_1min", json!(0.23)),
        ("load_5min", json!(0.81)),
        ("load_15min", json!(1.64)),
    ];
    for (name, expected) in expected {
        assert_eq!(value(&entries, name), expected, "{name}");
    }
    assert!(entries.iter().all(|entry| entry.source == "system"));
    assert!(
        entries
            .iter()
            .all(|entry| entry.timestamp == Timestamp::from_secs(101))
    );
}

#[test]
fn bb_45_entries_have_blackboxs_types_and_tags() {
    let entries = sample_of_a_second().telemetry();
    for (name, kind, tag) in [
        ("cpu_usage_percent", "cpu", Some(("core", "cpu"))),
        ("cpu1_usage_percent", "cpu", Some(("core", "cpu1"))),
        ("memory_free_bytes", "memory", None),
        ("swap_free_bytes", "memory", None),
        (
            "network_rx_bytes_eth0",
            "network",
            Some(("interface", "eth0")),
        ),
        ("disk_read_ios_sda", "disk", Some(("device", "sda"))),
        ("open_files_total", "process", None),
        ("load_1min", "process", None),
    ] {
        let entry = entries.iter().find(|entry| entry.name == name).unwrap();
        let tags = tag.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(entry.kind, kind, "{name}");
        assert_eq!(entry.tags, tags.into_iter().collect(), "{name}");
    }
}

#[test]
fn counted_entries_are_those_told() {
    let sample = sample_of_a_second();
    assert_eq!(sample.n_entries(), sample.telemetry().len());
    assert_eq!(NodeSample::default().n_entries(), 0);
    assert_eq!(NodeSample::default().telemetry(), []);
}

#[test]
fn usage_of_the_processor_takes_two_readings() {
    let (reading, _) = read(tree().path(), 100);
    assert_eq!(NodeSample::new(reading.clone(), None).usage, []);
    // No tick went by, or the counts began anew: nothing is known.
    assert_eq!(NodeSample::new(reading.clone(), Some(&reading)).usage, []);
    let mut later = reading.clone();
    for core in &mut later.cores {
        core.total_ticks += 1_000;
    }
    assert_eq!(NodeSample::new(reading, Some(&later)).usage, []);
}

#[test]
fn waiting_for_a_disk_is_no_use_of_a_core_and_guests_count_once() {
    let cores = parse::cores("cpu0 100 0 0 200 700 0 0 0 90 0\n");
    assert_eq!(
        cores,
        [Core {
            number: Some(0),
            busy_ticks: 100,
            total_ticks: 1_000
        }]
    );
}

#[test]
fn core_that_came_later_has_no_usage_yet() {
    let (before, _) = read(tree().path(), 100);
    let mut reading = before.clone();
    reading.cores.push(Core {
        number: Some(2),
        busy_ticks: 5,
        total_ticks: 10,
    });
    for core in &mut reading.cores {
        core.total_ticks += 100;
    }
    let usage = NodeSample::new(reading, Some(&before)).usage;
    let numbers: Vec<_> = usage.iter().map(|usage| usage.number).collect();
    assert_eq!(numbers, [None, Some(0), Some(1)]);
}

#[test]
fn processes_are_counted_every_ten_seconds() {
    let root = tree();
    let (before, _) = read(root.path(), 100);
    fs::create_dir(root.path().join("99")).unwrap();
    for (secs, count) in [(101, 3), (109, 3), (110, 4), (99, 4)] {
        let at = Timestamp::from_secs(secs);
        let reading = NodeReading::read(root.path(), at, Some(&before), &mut |_, _| {});
        assert_eq!(reading.processes.unwrap().count, count, "{secs}");
    }
}

#[test]
fn loopback_and_links_into_pods_are_left_out() {
    let names: Vec<_> = parse::interfaces(NET_DEV)
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, ["eth0".into(), "ens5".into()]);
}

#[test]
fn partitions_are_left_out_unless_they_come_without_their_disk() {
    let names: Vec<_> = parse::disks(DISKSTATS)
        .into_iter()
        .map(|it| it.name.to_string())
        .collect();
    assert_eq!(names, ["vda", "sda", "sdaa", "nvme0n1", "mmcblk0", "xvda1"]);
}

#[test]
fn network_is_that_of_the_node_and_not_of_the_reader() {
    let root = tree();
    let (reading, _) = read(root.path(), 100);
    assert_eq!(&*reading.interfaces[0].name, "eth0");
    // That of the reader is not taken for it when the node's cannot be read, but where there is no other.
    fs::remove_dir_all(root.path().join("1/net")).unwrap();
    let (reading, unread) = read(root.path(), 100);
    assert_eq!(reading.interfaces, []);
    assert_eq!(unread, [root.path().join("1/net/dev")]);
    fs::remove_dir_all(root.path().join("1")).unwrap();
    let (reading, unread) = read(root.path(), 100);
    assert_eq!(&*reading.interfaces[0].name, "pod0");
    assert_eq!(unread, Vec::<PathBuf>::new());
}

#[test]
fn file_that_cannot_be_read_is_told_and_the_rest_is_there() {
    let root = tree();
    fs::remove_file(root.path().join("meminfo")).unwrap();
    fs::write(root.path().join("loadavg"), b"\xff\xfe").unwrap();
    let (reading, unread) = read(root.path(), 100);
    assert_eq!(
        unread,
        [root.path().join("meminfo"), root.path().join("loadavg")]
    );
    assert_eq!(reading.memory, Memory::default());
    assert_eq!(reading.load, None);
    assert_eq!(reading.cores.len(), 3);
    let names: Vec<_> = NodeSample::new(reading, None)
        .telemetry()
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert!(!names.iter().any(|name| name.starts_with("memory")));
}

#[test]
fn tree_that_is_not_there_gives_an_empty_reading() {
    let (reading, unread) = read(Path::new("/nowhere"), 7);
    assert_eq!(
        reading,
        NodeReading {
            at: Timestamp::from_secs(7),
            ..NodeReading::default()
        }
    );
    assert_eq!(unread.len(), 7);
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "(?s).{0,400}") {
        let _parsed = (parse::cores(&text), parse::memory(&text), parse::interfaces(&text),
            parse::disks(&text), parse::open_files(&text), parse::load(&text));
    }

    #[test]
    fn any_change_of_a_recorded_file_is_survived(
        which in 0..6usize, at in 0..400usize, len in 0..40usize, put in "[-0-9a-z: \n\t]{0,30}",
    ) {
        let texts = [STAT, MEMINFO, NET_DEV, DISKSTATS, "541\t0\t2466186\n", "0.23 0.81 1.64 4/106 1\n"];
        let mut text = texts[which].to_owned();
        let from = at.min(text.len());
        text.replace_range(from..(from + len).min(text.len()), &put);
        let reading = NodeReading {
            cores: parse::cores(&text),
            memory: parse::memory(&text),
            interfaces: parse::interfaces(&text),
            disks: parse::disks(&text),
            open_files: parse::open_files(&text),
            load: parse::load(&text),
            ..NodeReading::default()
        };
        let before = NodeReading { cores: parse::cores(STAT), ..NodeReading::default() };
        let sample = NodeSample::new(reading, Some(&before));
        prop_assert!(sample.usage.iter().all(|it| (0.0..=100.0).contains(&it.percent)));
        prop_assert_eq!(sample.n_entries(), sample.telemetry().len());
    }
}
