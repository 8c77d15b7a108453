//! How the engine finds pods, containers and files, and notices that they changed or are gone.

use std::{path::Path, sync::Arc};

use rustc_hash::FxHashMap;
use tawny_model::StreamId;
use tokio::time::Instant;

use super::{Container, Directory, Engine, Pod, TailKey, TailSlot, Target, about};
use crate::files::{
    layout::PodDirName,
    scan::{Seen, list_directories, list_logs},
    tail::Tail,
    watch::Watch,
};

impl Engine {
    pub(super) fn refresh_facts(&mut self) {
        let Self {
            pods,
            containers,
            bench,
            dirty_containers,
            ..
        } = self;
        let metadata = Arc::clone(bench.intake.metadata());
        let mut changed = Vec::new();
        for pod in pods.values_mut() {
            let facts = metadata.pod(&pod.uid);
            let is_same = match (&pod.facts, &facts) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                // Facts once known are kept until the pod's files are read.
                (_, None) => true,
                (None, Some(_)) => false,
            };
            if is_same {
                continue;
            }
            pod.facts = facts;
            for id in pod.containers.values() {
                let Some(container) = containers.get_mut(id) else {
                    continue;
                };
                let Container {
                    directory,
                    name,
                    tails,
                    ..
                } = container;
                for slot in tails {
                    let was_skipped = slot.tail.is_skipped();
                    slot.tail.reconsider(about(pod, directory, name), bench);
                    if was_skipped && !slot.tail.is_skipped() {
                        dirty_containers.insert(*id);
                    }
                    changed.push(TailKey {
                        container: *id,
                        restart: slot.restart,
                    });
                }
            }
        }
        for key in changed {
            self.queue(key);
        }
    }

    /// Looks at every directory and file, however quiet: what no event told is found out here.
    pub(super) fn reconcile(&mut self) {
        self.dirty_root |= self.root.seen.is_changed(&self.root.path) || self.root.watch.is_none();
        for (name, pod) in &self.pods {
            if pod.directory.seen.is_changed(&pod.directory.path) || pod.directory.watch.is_none() {
                self.dirty_pods.insert(name.clone());
            }
        }
        for (id, container) in &self.containers {
            let directory = &container.directory;
            if !directory.is_gone
                && (directory.seen.is_changed(&directory.path) || directory.watch.is_none())
            {
                self.dirty_containers.insert(*id);
            }
        }
        self.queue_behind(|_| true);
        self.forget_finished();
        let metrics = self.bench.intake.metrics();
        metrics.open_files.set(self.bench.n_open_files as u64);
        metrics.streams.set(
            self.containers
                .values()
                .map(|container| container.tails.len() as u64)
                .sum(),
        );
    }

    /// Where there is no watch, size is looked at more often.
    pub(super) fn poll_unwatched(&mut self) {
        self.queue_behind(|container| container.is_unwatched());
        self.dirty_root |= self.root.watch.is_none() && self.root.seen.is_changed(&self.root.path);
        for (name, pod) in &self.pods {
            if pod.directory.watch.is_none() && pod.directory.seen.is_changed(&pod.directory.path) {
                self.dirty_pods.insert(name.clone());
            }
        }
        for (id, container) in &self.containers {
            let directory = &container.directory;
            if directory.watch.is_none()
                && !directory.is_gone
                && directory.seen.is_changed(&directory.path)
            {
                self.dirty_containers.insert(*id);
            }
        }
    }

    pub(super) fn next_poll(&self) -> Option<Instant> {
        let is_any_unwatched = self.root.watch.is_none()
            || self.pods.values().any(|pod| pod.directory.watch.is_none())
            || self.containers.values().any(Container::is_unwatched);
        is_any_unwatched.then_some(self.poll_at)
    }

    fn queue_behind(&mut self, among: impl Fn(&Container) -> bool) {
        let mut total_bytes = 0;
        let mut behind = Vec::new();
        for (id, container) in &self.containers {
            if !among(container) {
                continue;
            }
            for slot in &container.tails {
                let (lag_bytes, is_behind) = slot.tail.lag();
                total_bytes += lag_bytes;
                if is_behind {
                    behind.push(TailKey {
                        container: *id,
                        restart: slot.restart,
                    });
                }
            }
        }
        self.bench.intake.metrics().read_lag_bytes.set(total_bytes);
        for key in behind {
            self.queue(key);
        }
    }

    fn forget_finished(&mut self) {
        let Self {
            containers,
            pods,
            watcher,
            targets,
            ..
        } = self;
        let mut unwatch = |directory: &mut Directory| {
            if let Some(watch) = directory.watch.take() {
                targets.remove(&watch.id());
                watcher.remove(watch);
            }
        };
        containers.retain(|_, container| {
            let is_over = container.directory.is_gone
                && container
                    .tails
                    .iter()
                    .all(|slot| slot.tail.is_finished() || slot.tail.is_skipped());
            if is_over {
                unwatch(&mut container.directory);
                if let Some(pod) = pods.get_mut(&container.pod) {
                    pod.containers.remove(&*container.name);
                }
            }
            !is_over
        });
        pods.retain(|_, pod| {
            let is_over = pod.directory.is_gone && pod.containers.is_empty();
            if is_over {
                unwatch(&mut pod.directory);
            }
            !is_over
        });
    }

    pub(super) fn scan_dirty(&mut self) {
        if std::mem::take(&mut self.dirty_root) {
            self.scan_root();
        }
        while let Some(pod) = self.dirty_pods.pop_first() {
            self.scan_pod(&pod);
        }
        while let Some(container) = self.dirty_containers.pop_first() {
            self.scan_container(container);
        }
    }

    /// Watches the directory if it is not watched: before it is listed, so that nothing falls between.
    fn watch(&mut self, path: &Path, target: Target) -> Option<Watch> {
        match self.watcher.add(path) {
            Ok(watch) => {
                self.targets.insert(watch.id(), target);
                Some(watch)
            }
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    self.bench.intake.metrics().watch_failures.inc();
                    tracing::debug!(path = %path.display(), %error, "directory cannot be watched; it is polled");
                }
                None
            }
        }
    }

    fn scan_root(&mut self) {
        if self.root.watch.is_none() {
            let path = self.root.path.clone();
            self.root.watch = self.watch(&path, Target::Root);
        }
        self.root.seen = Seen::now(&self.root.path, self.bench.wall);
        let listed = list_directories(&self.root.path);
        let was_gone = std::mem::replace(&mut self.root.is_gone, listed.is_err());
        let names = listed.unwrap_or_else(|error| {
            if !was_gone {
                tracing::warn!(path = %self.root.path.display(), %error, "pod log directories cannot be listed");
            }
            Vec::new()
        });
        for name in names {
            if self.pods.contains_key(&name) {
                continue;
            }
            let Some(PodDirName {
                namespace,
                pod,
                uid,
            }) = PodDirName::parse(&name)
            else {
                tracing::debug!(%name, "directory is no pod's");
                continue;
            };
            let pod = Pod {
                directory: Directory::new(self.root.path.join(&*name)),
                namespace: namespace.into(),
                name: pod.into(),
                facts: self.bench.intake.metadata().pod(uid),
                uid: uid.into(),
                containers: FxHashMap::default(),
            };
            self.dirty_pods.insert(name.clone());
            self.pods.insert(name, pod);
        }
    }

    fn scan_pod(&mut self, name: &str) {
        let Some(pod) = self.pods.get(name) else {
            return;
        };
        let path = pod.directory.path.clone();
        let watch = if pod.directory.watch.is_none() {
            self.watch(&path, Target::Pod(name.into()))
        } else {
            None
        };
        let seen = Seen::now(&path, self.bench.wall);
        let listed = list_directories(&path);
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        pod.directory.watch = pod.directory.watch.take().or(watch);
        pod.directory.seen = seen;
        pod.directory.is_gone = listed.is_err();
        let mut old: FxHashMap<_, _> = pod.containers.clone();
        for container_name in listed.unwrap_or_default() {
            if let Some(id) = old.remove(&container_name) {
                // Perhaps removed and made again.
                if self
                    .containers
                    .get(&id)
                    .is_some_and(|container| container.directory.is_gone)
                {
                    self.dirty_containers.insert(id);
                }
                continue;
            }
            self.n_containers_ever += 1;
            let id = self.n_containers_ever;
            let container = Container {
                directory: Directory::new(path.join(&*container_name)),
                pod: name.into(),
                name: (*container_name).into(),
                tails: Vec::new(),
            };
            self.containers.insert(id, container);
            pod.containers.insert(container_name, id);
            self.dirty_containers.insert(id);
        }
        self.dirty_containers.extend(old.values());
    }

    fn scan_container(&mut self, id: u64) {
        let Some(container) = self.containers.get(&id) else {
            return;
        };
        let path = container.directory.path.clone();
        let is_unwatched = container.directory.watch.is_none();
        let watch = if is_unwatched {
            self.watch(&path, Target::Container(id))
        } else {
            None
        };
        let Self {
            pods,
            containers,
            bench,
            ..
        } = self;
        let Some(container) = containers.get_mut(&id) else {
            return;
        };
        container.directory.watch = container.directory.watch.take().or(watch);
        container.directory.seen = Seen::now(&path, bench.wall);
        let listed = list_logs(&path);
        container.directory.is_gone = listed.is_err();
        let mut runs = listed.unwrap_or_default();
        let Some(pod) = pods.get(&container.pod) else {
            return;
        };
        for restart in runs.keys() {
            if container.tails.iter().all(|slot| slot.restart != *restart) {
                let stream = StreamId {
                    cluster: Arc::clone(bench.intake.cluster()),
                    pod_uid: Arc::clone(&pod.uid),
                    container: Arc::clone(&container.name),
                    restart: *restart,
                };
                let tail = Tail::new(stream, bench);
                // Most containers have one run, and there are many containers.
                container.tails.reserve_exact(1);
                container.tails.push(TailSlot {
                    restart: *restart,
                    tail,
                    wake_at: None,
                });
            }
        }
        container.tails.sort_unstable_by_key(|slot| slot.restart);
        let newest = container.tails.last().map_or(0, |slot| slot.restart);
        let is_gone = container.directory.is_gone;
        let mut keys = Vec::with_capacity(container.tails.len());
        for slot in &mut container.tails {
            slot.tail.is_superseded = slot.restart < newest;
            slot.tail.is_directory_gone = is_gone;
            slot.tail
                .relink(runs.remove(&slot.restart).unwrap_or_default(), &path, bench);
            keys.push(TailKey {
                container: id,
                restart: slot.restart,
            });
        }
        for key in keys {
            self.queue(key);
        }
    }
}

impl Container {
    fn is_unwatched(&self) -> bool {
        !self.directory.is_gone
            && (self.directory.watch.is_none()
                || self.tails.iter().any(|slot| slot.tail.is_symlink()))
    }
}
