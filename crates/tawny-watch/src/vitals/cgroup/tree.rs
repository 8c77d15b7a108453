//! The cgroup trees of a node: which version it has, and where pods and containers lie in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Measures,
    measure::{self, V1Dirs},
    place::{container_id, holds_pods, pod_and_container, pod_uid},
};

/// How deep below the root the kubelet's cgroup is looked for: `docker/<id>/kubelet.slice/kubelet-kubepods.slice` of a
/// node that is a container itself is 4 deep.
const MAX_DEPTH: usize = 6;

/// Cgroups looked at in one search for the kubelet's; machines have some hundreds.
const MAX_SEARCHED: usize = 20_000;

/// Containers of one node; a kubelet runs 110 pods unless told otherwise.
const MAX_CONTAINERS: usize = 4_096;

/// The mounted hierarchies of either version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    V1 {
        memory: PathBuf,
        cpuacct: Option<PathBuf>,
        cpu: Option<PathBuf>,
    },
    V2 {
        root: PathBuf,
    },
}

/// A container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) pod_uid: String,
    pub(super) container_id: String,
    /// Below the root of each hierarchy.
    path: PathBuf,
}

/// A pod's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodPlace {
    pub(super) pod_uid: String,
    path: PathBuf,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) pods: Vec<PodPlace>,
    pub(super) containers: Vec<Place>,
}

impl Tree {
    /// Finds out what is mounted at `root`: `/sys/fs/cgroup`, or where the host's is mounted.
    ///
    /// A v1 machine may have a v2 tree at `unified` as well, which has no controllers then.
    pub(super) fn find(root: &Path) -> Option<Self> {
        if root.join("cgroup.controllers").exists() {
            return Some(Self::V2 {
                root: root.to_owned(),
            });
        }
        // The two controllers of processor time are mounted together on most machines.
        let first = |names: [&str; 3]| {
            let mut paths = names.into_iter().map(|name| root.join(name));
            paths.find(|path| path.is_dir())
        };
        let memory = root.join("memory");
        memory.is_dir().then(|| Self::V1 {
            memory,
            cpuacct: first(["cpuacct", "cpu,cpuacct", "cpuacct,cpu"]),
            cpu: first(["cpu", "cpu,cpuacct", "cpuacct,cpu"]),
        })
    }

    /// The hierarchy that is walked.
    fn base(&self) -> &Path {
        match self {
            Self::V1 { memory, .. } => memory,
            Self::V2 { root } => root,
        }
    }

    /// The cgroups below which the kubelet keeps pods, relative to the hierarchy.
    pub(super) fn search(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut searched = 0;
        let mut next = vec![(PathBuf::new(), 0)];
        while let Some((path, depth)) = next.pop() {
            let mut is_mixed = false;
            // What cannot be read, or is gone by now, holds no pods that could be measured.
            let _read = self.each_dir(&path, |name| {
                searched += 1;
                if holds_pods(name) {
                    found.push(path.join(name));
                } else if pod_and_container(name).is_some() {
                    is_mixed = true;
                } else if depth + 1 < MAX_DEPTH && searched < MAX_SEARCHED {
                    next.push((path.join(name), depth + 1));
                }
            });
            if is_mixed {
                found.push(path);
            }
        }
        found.sort_unstable();
        found
    }

    /// Adds all pods and containers below `root`, one of those [`Self::search`] found.
    ///
    /// # Errors
    /// A cgroup that is there cannot be listed.
    pub(super) fn list(&self, root: &Path, places: &mut Places) -> io::Result<()> {
        let mut next = vec![(root.to_owned(), 0)];
        let first_pod = places.pods.len();
        while let Some((path, depth)) = next.pop() {
            self.each_dir(&path, |name| {
                let below = path.join(name);
                if let Some(pod_uid) = pod_uid(name) {
                    places.pods.push(PodPlace {
                        pod_uid,
                        path: below,
                    });
                } else if let Some((pod_uid, id)) = pod_and_container(name) {
                    places.add(&pod_uid, id, below);
                } else if depth == 0 {
                    // Classes of service lie between: `burstable`, `kubepods-besteffort.slice`.
                    next.push((below, depth + 1));
                }
            })?;
        }
        for nth in first_pod..places.pods.len() {
            let PodPlace { pod_uid, path } = places.pods[nth].clone();
            self.each_dir(&path, |name| {
                if let Some(id) = container_id(name) {
                    places.add(&pod_uid, id, path.join(name));
                }
            })?;
        }
        Ok(())
    }

    /// Reads a container; `None` when its cgroup is gone. `before` is what it measured lately, if that may still hold.
    pub(super) fn measure(
        &self,
        place: &Place,
        before: Option<&Measures>,
        text: &mut String,
    ) -> Option<Measures> {
        match self {
            Self::V2 { root } => measure::v2(&root.join(&place.path), before, text),
            Self::V1 {
                memory,
                cpuacct,
                cpu,
            } => {
                let at = |base: &Option<PathBuf>| base.as_ref().map(|base| base.join(&place.path));
                let (cpuacct, cpu) = (at(cpuacct), at(cpu));
                let dirs = V1Dirs {
                    memory: &memory.join(&place.path),
                    cpuacct: cpuacct.as_deref(),
                    cpu: cpu.as_deref(),
                };
                measure::v1(dirs, before, text)
            }
        }
    }

    /// Kills in all containers a pod ever had; v1 does not count them together.
    pub(super) fn pod_oom_kills(&self, pod: &PodPlace, text: &mut String) -> Option<u64> {
        match self {
            Self::V2 { root } => measure::oom_kills_v2(&root.join(&pod.path), text),
            Self::V1 { .. } => None,
        }
    }

    /// Calls `visit` with the name of each cgroup right below `path`; one that is gone has none.
    fn each_dir(&self, path: &Path, mut visit: impl FnMut(&str)) -> io::Result<()> {
        let entries = match fs::read_dir(self.base().join(path)) {
            Err(error) if is_gone(&error) => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Some(name) = entry.file_name().to_str()
            {
                visit(name);
            }
        }
        Ok(())
    }
}

impl Places {
    fn add(&mut self, pod_uid: &str, container_id: &str, path: PathBuf) {
        if self.containers.len() < MAX_CONTAINERS {
            self.containers.push(Place {
                pod_uid: pod_uid.to_owned(),
                container_id: container_id.to_owned(),
                path,
            });
        }
    }
}

/// A cgroup that is removed while it is listed answers `ENODEV`, which the standard library has no kind for.
fn is_gone(error: &io::Error) -> bool {
    const ENODEV: i32 = 19;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ENODEV)
}
