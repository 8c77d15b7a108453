//! All streams under one root: finds them, queues those with something to read, and works on them in turn.
//!
//! Blocking and single-threaded: a turn runs on a thread that may block and ends after a few megabytes.

mod discover;

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
    lines::BUFFER_BYTES,
    scan::Seen,
    tail::{About, Bench, Next, Tail},
    watch::{Hint, Watch, Watcher},
};
use crate::{Intake, Lane, LineScratch, PodFacts, Subject};

/// Read at one turn over all streams: some milliseconds of work, and what memory a burst leaves behind.
const TURN_BYTES: usize = 512 << 10;

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
