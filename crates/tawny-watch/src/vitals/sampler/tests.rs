//! A node whose files change between two samples.

use std::fs;

use super::*;
use crate::vitals::{Filter, Ring, Source, Window, ring::DEFAULT_MAX_BYTES};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_795_294_200 + secs)
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

struct Node {
    dir: tempfile::TempDir,
    ring: SharedRing,
    sampler: Sampler,
}

const CONTAINER: &str = "cgroup/kubepods/pod7b0a3e9c-5f1d-4c2b-9e1f-3d8f5a6b7c8d/\
    0f6c3a1b9d8e7f605142332415061728394a5b6c7d8e9f00112233445566778f";

fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(&root.join("proc/stat"), "cpu 10 0 0 90 0 0 0 0 0 0\n");
    write(&root.join("proc/meminfo"), "MemTotal: 100 kB\n");
    write(&root.join("proc/1/net/dev"), "");
    write(&root.join("proc/diskstats"), "");
    write(&root.join("proc/sys/fs/file-nr"), "1 0 9\n");
    write(&root.join("proc/loadavg"), "0.10 0.20 0.30 1/2 3\n");
    write(&root.join("cgroup/cgroup.controllers"), "memory\n");
    let ring = SharedRing::new(Ring::new(Window::default(), DEFAULT_MAX_BYTES));
    let sampler = Sampler::new(root.join("proc"), root.join("cgroup"), ring.clone());
    let node = Node { dir, ring, sampler };
    node.run(1, 0);
    node
}

impl Node {
    /// The container has used so much processor time and lost so many processes.
    fn run(&self, usage_usec: u64, kills: u64) {
        let container = self.dir.path().join(CONTAINER);
        write(&container.join("memory.current"), "4096\n");
        write(&container.join("memory.max"), "8192\n");
        write(&container.join("memory.stat"), "inactive_file 0\n");
        write(
            &container.join("memory.events"),
            &format!("oom_kill {kills}\n"),
        );
        write(
            &container.join("cpu.stat"),
            &format!("usage_usec {usage_usec}\n"),
        );
    }

    fn entries(&self, source: Source) -> Vec<String> {
        let ring = self.ring.lock();
        let entries = ring.entries(at(0), at(100), Filter::Source(source), usize::MAX);
        entries.into_iter().map(|entry| entry.name).collect()
    }
}

#[test]
fn sample_fills_the_ring_and_tells_proofs() {
    let mut node = node();
    let first = node.sampler.sample(at(0));
    assert_eq!(
        first,
        Sampled {
            n_containers: 1,
            ..Sampled::default()
        }
    );
    assert!(
        !node
            .entries(Source::System)
            .contains(&"cpu_usage_percent".to_owned())
    );
    write(
        &node.dir.path().join("proc/stat"),
        "cpu 60 0 0 140 0 0 0 0 0 0\n",
    );
    node.run(500_001, 1);
    let second = node.sampler.sample(at(1));
    assert_eq!(second.proofs.len(), 1);
    assert_eq!((second.proofs[0].kills, second.proofs[0].at), (1, at(1)));
    let ring = node.ring.lock();
    assert_eq!(ring.latest_node().unwrap().usage[0].percent, 50.0);
    let id = &second.proofs[0].container_id;
    assert_eq!(ring.container(id, at(0), at(1)).count(), 2);
}

#[test]
fn sample_drops_what_is_too_old_and_tells_who_went() {
    let mut node = node();
    node.sampler.sample(at(0));
    fs::remove_dir_all(node.dir.path().join(CONTAINER)).unwrap();
    let sampled = node.sampler.sample(at(61));
    assert_eq!(sampled.gone.len(), 1);
    assert_eq!(sampled.n_containers, 0);
    assert_eq!(node.entries(Source::Container), [""; 0]);
    assert_eq!(node.ring.lock().stats().oldest_entry, Some(at(61)));
}

#[test]
fn node_that_cannot_be_read_in_part_is_measured_in_part() {
    let mut node = node();
    fs::remove_file(node.dir.path().join("proc/meminfo")).unwrap();
    fs::remove_dir_all(node.dir.path().join("cgroup")).unwrap();
    let sampled = node.sampler.sample(at(0));
    assert_eq!((sampled.n_unread, sampled.n_containers), (2, 0));
    assert!(
        node.entries(Source::System)
            .contains(&"load_1min".to_owned())
    );
    let unreadable = node.sampler.unreadable.clone();
    assert_eq!(unreadable.len(), 2);
    write(&node.dir.path().join("proc/meminfo"), "MemTotal: 100 kB\n");
    assert_eq!(node.sampler.sample(at(1)).n_unread, 1);
    assert!(node.sampler.unreadable.is_subset(&unreadable));
}
