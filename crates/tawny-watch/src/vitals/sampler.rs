//! One sample of everything on a node: what a loop calls once a second.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use tawny_incident::OomProof;
use tawny_model::Timestamp;

use super::{
    cgroup::{ContainerSample, Tracker},
    node::{NodeReading, NodeSample},
    ring::SharedRing,
};

/// Measures a node and its containers into a ring.
///
/// Between two samples it remembers the counts that only mean something by their growth, so there is one for a node.
#[derive(Debug)]
pub struct Sampler {
    proc_root: PathBuf,
    tracker: Tracker,
    cgroup_root: PathBuf,
    ring: SharedRing,
    before: Option<NodeReading>,
    /// Told of already.
    unreadable: BTreeSet<PathBuf>,
}

/// What one sample found out beside what went into the ring.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampled {
    /// Kills for want of memory since the last sample.
    pub proofs: Vec<OomProof>,
    /// The last measures of containers that are gone since.
    pub gone: Vec<ContainerSample>,
    pub n_containers: usize,
    /// Files and folders that could not be read.
    pub n_unread: usize,
}

impl Sampler {
    /// `proc_root` is `/proc` and `cgroup_root` is `/sys/fs/cgroup`, or where the host's are mounted.
    pub fn new(proc_root: PathBuf, cgroup_root: PathBuf, ring: SharedRing) -> Self {
        Self {
            proc_root,
            tracker: Tracker::new(cgroup_root.clone()),
            cgroup_root,
            ring,
            before: None,
            unreadable: BTreeSet::new(),
        }
    }

    /// Measures everything, and drops from the ring what is too old.
    ///
    /// Blocks: measured, 0.2 to 0.5 ms for the node, 0.05 ms for each idle container and 0.2 ms for one that runs.
    /// What cannot be read is missing in the ring; it is logged once, and again after it could be read.
    pub fn sample(&mut self, now: Timestamp) -> Sampled {
        let mut unread = Vec::new();
        let mut tell = |path, error| unread.push((path, error));
        let reading = NodeReading::read(&self.proc_root, now, self.before.as_ref(), &mut tell);
        let node = NodeSample::new(reading.clone(), self.before.as_ref());
        self.before = Some(reading);
        let walk = self.tracker.walk(now).unwrap_or_else(|error| {
            tell(self.cgroup_root.clone(), error);
            Default::default()
        });
        let sampled = Sampled {
            proofs: walk.proofs,
            gone: walk.gone,
            n_containers: walk.samples.len(),
            n_unread: unread.len(),
        };
        let mut ring = self.ring.lock();
        ring.push_node(node);
        for sample in walk.samples {
            ring.push_container(sample);
        }
        ring.clean(now);
        drop(ring);
        self.log(unread);
        sampled
    }

    fn log(&mut self, unread: Vec<(PathBuf, io::Error)>) {
        let is_new = |path: &Path| !self.unreadable.contains(path);
        for (path, error) in unread.iter().filter(|(path, _)| is_new(path)) {
            let path = path.display();
            tracing::warn!(%path, %error, "cannot measure the node; what this file tells is missing");
        }
        self.unreadable = unread.into_iter().map(|(path, _)| path).collect();
    }
}

#[cfg(test)]
mod tests;
