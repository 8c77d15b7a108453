//! All streams under one root: finds them, queues those with something to read, and works on them in turn.
//!
//! Blocking and single-threaded: a turn runs on a thread that may block and ends after a few megabytes.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use rustc_hash::FxHashMap;
use tawny_model::{Batch, StreamId, Timestamp};
use tokio::time::Instant;

use super::{
    FilesSettings,
    layout::PodDirName,
    lines::BUFFER_BYTES,
    scan::{Seen, list_directories, list_logs},
    tail::{About, Bench, Next, Tail},
    watch::{Hint, Watch, Watcher},
};
use crate::{Intake, Lane, LineScratch, PodFacts, Subject};

/// Read at one turn over all streams; some tens of milliseconds of work.
const TURN_BYTES: usize = 4 << 20;

/// Names a tail while the source runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TailKey {
    container: u64,
    restart: u32,
}

/// What a turn is given.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
    pub(super) lanes: Vec<(TailKey, Lane)>,
    pub(super) is_facts_changed: bool,
    pub(super) is_refused: bool,
    /// False while what was read before waits to be handed on.
    pub(super) may_read: bool,
}

/// What a turn has made.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) batches: Vec<(Arc<Lane>, Batch)>,
    /// Streams to ask lanes for.
    pub(super) wanted: Vec<(TailKey, StreamId)>,
    /// Streams still have something to read.
    pub(super) is_behind: bool,
    pub(super) wake_at: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Engine {
    bench: Bench,
    watcher: Watcher,
    hints: Vec<Hint>,
    targets: FxHashMap<i32, Target>,
    root: Directory,
    pods: FxHashMap<Box<str>, Pod>,
    containers: FxHashMap<u64, Container>,
    n_containers_ever: u64,
    ready: VecDeque<TailKey>,
    timers: BinaryHeap<Reverse<(Instant, TailKey)>>,
    dirty_root: bool,
    dirty_pods: BTreeSet<Box<str>>,
    dirty_containers: BTreeSet<u64>,
    wanted: Vec<(TailKey, StreamId)>,
    reconcile_at: Instant,
    poll_at: Instant,
}

#[derive(Debug, Clone)]
enum Target {
    Root,
    Pod(Box<str>),
    Container(u64),
}

/// A directory with its watch, if it could have one.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    watch: Option<Watch>,
    seen: Seen,
    is_gone: bool,
}

#[derive(Debug)]
struct Pod {
    directory: Directory,
    namespace: Arc<str>,
    name: Arc<str>,
    uid: Arc<str>,
    facts: Option<Arc<PodFacts>>,
    containers: FxHashMap<Box<str>, u64>,
}

#[derive(Debug)]
struct Container {
    directory: Directory,
    pod: Box<str>,
    name: Arc<str>,
    /// By restart, lowest first.
    tails: Vec<TailSlot>,
}

#[derive(Debug)]
struct TailSlot {
    restart: u32,
    tail: Tail,
    wake_at: Option<Instant>,
}

impl Directory {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            watch: None,
            seen: Seen::default(),
            is_gone: false,
        }
    }
}

impl Container {
    fn slot(&mut self, restart: u32) -> Option<&mut TailSlot> {
        self.tails.iter_mut().find(|slot| slot.restart == restart)
    }
}

impl Engine {
    pub(super) fn open(settings: FilesSettings, intake: Intake, now: Instant) -> Self {
        Self {
            watcher: Watcher::open(settings.max_watches),
            hints: Vec::new(),
            targets: FxHashMap::default(),
            root: Directory::new(settings.root.clone()),
            pods: FxHashMap::default(),
            containers: FxHashMap::default(),
            n_containers_ever: 0,
            ready: VecDeque::new(),
            timers: BinaryHeap::new(),
            dirty_root: true,
            dirty_pods: BTreeSet::new(),
            dirty_containers: BTreeSet::new(),
            wanted: Vec::new(),
            reconcile_at: now + settings.reconcile,
            poll_at: now + settings.poll,
            bench: Bench {
                wall: intake.clock().now(),
                intake,
                settings,
                buf: vec![0; BUFFER_BYTES],
                scratch: LineScratch::default(),
                batches: Vec::new(),
                n_read_bytes: 0,
                n_open_files: 0,
                now,
            },
        }
    }

    pub(super) fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// Takes in what happened, then reads, stream by stream, a share each.
    pub(super) fn turn(&mut self, input: Input) -> Output {
        let Input {
            now,
            wall,
            lanes,
            is_facts_changed,
            is_refused,
            may_read,
        } = input;
        self.bench.now = now;
        self.bench.wall = wall;
        self.take_hints();
        if is_facts_changed {
            self.refresh_facts();
        }
        if now >= self.reconcile_at {
            self.reconcile_at = now + self.bench.settings.reconcile;
            self.reconcile();
        }
        if now >= self.poll_at {
            self.poll_at = now + self.bench.settings.poll;
            self.poll_unwatched();
        }
        if is_refused {
            self.queue_where(Tail::is_refused);
        }
        for (key, _) in &lanes {
            // Names may have changed since the tail asked.
            self.dirty_containers.insert(key.container);
        }
        self.scan_dirty();
        for (key, lane) in lanes {
            self.start(key, lane);
        }
        self.fire_timers();
        if may_read {
            self.work();
        }
        self.scan_dirty();
        let wake_at = [
            Some(self.reconcile_at),
            self.next_poll(),
            self.timers.peek().map(|Reverse((at, _))| *at),
        ];
        Output {
            batches: std::mem::take(&mut self.bench.batches),
            wanted: std::mem::take(&mut self.wanted),
            is_behind: !self.ready.is_empty(),
            wake_at: wake_at.into_iter().flatten().min(),
        }
    }

    fn take_hints(&mut self) {
        let mut hints = std::mem::take(&mut self.hints);
        self.watcher.read(&mut hints);
        for hint in hints.drain(..) {
            match hint {
                Hint::Written { watch, restart } => {
                    if let Some(Target::Container(container)) = self.targets.get(&watch) {
                        self.queue(TailKey {
                            container: *container,
                            restart,
                        });
                    }
                }
                Hint::Changed { watch } => self.mark_dirty(watch),
                Hint::Ended { watch } => self.end_watch(watch),
                Hint::Overflow => self.reconcile_at = self.bench.now,
            }
        }
        self.hints = hints;
    }

    fn mark_dirty(&mut self, watch: i32) {
        match self.targets.get(&watch) {
            Some(Target::Root) => self.dirty_root = true,
            Some(Target::Pod(pod)) => {
                self.dirty_pods.insert(pod.clone());
            }
            Some(Target::Container(container)) => {
                self.dirty_containers.insert(*container);
            }
            None => {}
        }
    }

    fn end_watch(&mut self, watch: i32) {
        self.mark_dirty(watch);
        let directory = match self.targets.remove(&watch) {
            Some(Target::Root) => Some(&mut self.root),
            Some(Target::Pod(pod)) => self.pods.get_mut(&pod).map(|pod| &mut pod.directory),
            Some(Target::Container(id)) => self
                .containers
                .get_mut(&id)
                .map(|container| &mut container.directory),
            None => None,
        };
        if let Some(watch) = directory.and_then(|directory| directory.watch.take()) {
            self.watcher.remove(watch);
        }
    }

    /// Puts a tail into the queue of those to work on, once.
    fn queue(&mut self, key: TailKey) {
        let slot = self
            .containers
            .get_mut(&key.container)
            .and_then(|container| container.slot(key.restart));
        if let Some(slot) = slot
            && !slot.tail.is_queued
            && !slot.tail.is_skipped()
        {
            slot.tail.is_queued = true;
            self.ready.push_back(key);
        }
    }

    fn queue_where(&mut self, wants: impl Fn(&Tail) -> bool) {
        let keys: Vec<_> = self
            .containers
            .iter()
            .flat_map(|(id, container)| container.tails.iter().map(move |slot| (*id, slot)))
            .filter(|(_, slot)| wants(&slot.tail))
            .map(|(container, slot)| TailKey {
                container,
                restart: slot.restart,
            })
            .collect();
        for key in keys {
            self.queue(key);
        }
    }

    fn refresh_facts(&mut self) {
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
    fn reconcile(&mut self) {
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
    fn poll_unwatched(&mut self) {
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

    fn next_poll(&self) -> Option<Instant> {
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

    fn scan_dirty(&mut self) {
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
    fn watch(&mut self, path: &std::path::Path, target: Target) -> Option<Watch> {
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

    fn start(&mut self, key: TailKey, lane: Lane) {
        self.with_tail(key, |tail, about, bench| tail.start(lane, about, bench));
        self.queue(key);
    }

    fn with_tail<T>(
        &mut self,
        key: TailKey,
        run: impl FnOnce(&mut Tail, About<'_>, &mut Bench) -> T,
    ) -> Option<T> {
        let Self {
            pods,
            containers,
            bench,
            ..
        } = self;
        let Container {
            directory,
            pod,
            name,
            tails,
        } = containers.get_mut(&key.container)?;
        let pod = pods.get(pod)?;
        let slot = tails.iter_mut().find(|slot| slot.restart == key.restart)?;
        Some(run(&mut slot.tail, about(pod, directory, name), bench))
    }

    fn fire_timers(&mut self) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > self.bench.now {
                break;
            }
            self.timers.pop();
            let slot = self
                .containers
                .get_mut(&key.container)
                .and_then(|container| container.slot(key.restart));
            if let Some(slot) = slot
                && slot.wake_at == Some(at)
            {
                slot.wake_at = None;
                self.queue(key);
            }
        }
    }

    fn wake_at(&mut self, key: TailKey, at: Instant) {
        let slot = self
            .containers
            .get_mut(&key.container)
            .and_then(|container| container.slot(key.restart));
        if let Some(slot) = slot
            && slot.wake_at.is_none_or(|earlier| at < earlier)
        {
            slot.wake_at = Some(at);
            self.timers.push(Reverse((at, key)));
        }
    }

    fn work(&mut self) {
        self.bench.n_read_bytes = 0;
        while self.bench.n_read_bytes < TURN_BYTES
            && let Some(key) = self.ready.pop_front()
        {
            let next = self.with_tail(key, |tail, about, bench| {
                tail.is_queued = false;
                let next = tail.step(about, bench);
                (next, tail.id.clone())
            });
            match next {
                Some((Next::Again, _)) => self.queue(key),
                Some((Next::WakeAt(at), _)) => self.wake_at(key, at),
                Some((Next::Resume, id)) => self.wanted.push((key, id)),
                Some((Next::Relist, _)) => {
                    self.dirty_containers.insert(key.container);
                }
                Some((Next::Idle, _)) | None => {}
            }
        }
        self.bench
            .intake
            .metrics()
            .bytes_read
            .inc_by(self.bench.n_read_bytes as u64);
        // Nothing read is kept back while other streams have their turns.
        for idx in 0..self.ready.len() {
            let key = self.ready[idx];
            self.with_tail(key, |tail, _, bench| tail.cut(bench));
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

fn about<'a>(pod: &'a Pod, directory: &'a Directory, container: &'a str) -> About<'a> {
    About {
        subject: Subject {
            namespace: &pod.namespace,
            pod: &pod.name,
            pod_uid: &pod.uid,
            container,
        },
        directory: &directory.path,
        facts: pod.facts.as_deref(),
    }
}
