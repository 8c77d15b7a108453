//! What was measured lately, kept within a window of time, a number of entries and a number of bytes (BB-38).
//!
//! What the node, its containers and sidecars gave is kept in three lanes, typed, and told as telemetry entries only
//! when somebody asks. A sidecar that sends too much pushes out what sidecars sent, and never what was measured.

mod stats;

use std::{
    collections::VecDeque,
    mem::size_of,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tawny_incident::report::Telemetry;
use tawny_model::Timestamp;

use super::{
    Error,
    cgroup::ContainerSample,
    node::{CoreUsage, Disk, Interface, NodeSample},
    sidecar::Post,
};

pub use stats::{BufferStatus, Stats};

/// Bytes kept unless told otherwise: ten minutes of 250 containers take 14 MiB, a minute of them a tenth of it.
pub const DEFAULT_MAX_BYTES: usize = 16 << 20;

/// How long measures are kept (BB-38).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window(Duration);

/// Who measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The node.
    System,
    /// A container's cgroup.
    Container,
    /// A program, about itself.
    Sidecar,
}

/// Which entries are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filter<'a> {
    #[default]
    All,
    Source(Source),
    /// Of the pod's containers, by `uid`, and of its sidecars, by namespace and name. What is empty matches nothing.
    Pod {
        uid: &'a str,
        namespace: &'a str,
        name: &'a str,
    },
    /// By the runtime's id, with or without `containerd://`.
    Container(&'a str),
}

/// The ring.
///
/// | lane | an entry is | takes |
/// |---|---|---|
/// | node | one measure | 288 bytes a sample, 40 a core and about 80 an interface or disk |
/// | containers | one sample of a container, five measures at most | 96 bytes |
/// | sidecars | one key of `data` | its name and value, 56 bytes, and once per post its tags |
#[derive(Debug)]
pub struct Ring {
    window: Window,
    max_bytes: usize,
    nodes: Lane<NodeSample>,
    containers: Lane<ContainerSample>,
    posts: Lane<Arc<Post>>,
    cleanups: u64,
    cleaned_at: Option<Timestamp>,
}

/// A ring that many hold.
#[derive(Debug, Clone)]
pub struct SharedRing(Arc<Mutex<Ring>>);

impl Window {
    pub const LEAST: Duration = Duration::from_secs(10);
    pub const MOST: Duration = Duration::from_secs(600);

    /// # Errors
    /// `Reject` outside 10 to 600 s.
    pub fn new(window: Duration) -> Result<Self, Error> {
        if (Self::LEAST..=Self::MOST).contains(&window) {
            Ok(Self(window))
        } else {
            Err(Error::Window {
                got: window,
                least: Self::LEAST,
                most: Self::MOST,
            })
        }
    }

    pub fn duration(self) -> Duration {
        self.0
    }

    /// 1,000 entries a second, and never less than 1,000 (BB-38).
    pub fn capacity(self) -> usize {
        let secs = usize::try_from(self.0.as_secs()).unwrap_or(usize::MAX);
        secs.saturating_mul(1_000).max(1_000)
    }
}

impl Default for Window {
    /// A minute (BB-39).
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

impl Source {
    /// As a telemetry entry names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Container => "container",
            Self::Sidecar => "sidecar",
        }
    }
}

impl Ring {
    /// `max_bytes` bounds what is kept, estimated by what each sample holds; the queues have room for twice as much at
    /// most.
    pub fn new(window: Window, max_bytes: usize) -> Self {
        Self {
            window,
            max_bytes,
            nodes: Lane::default(),
            containers: Lane::default(),
            posts: Lane::default(),
            cleanups: 0,
            cleaned_at: None,
        }
    }

    pub fn window_size(&self) -> Window {
        self.window
    }

    pub fn push_node(&mut self, sample: NodeSample) {
        self.nodes.push(sample);
        self.bound();
    }

    pub fn push_container(&mut self, sample: ContainerSample) {
        self.containers.push(sample);
        self.bound();
    }

    /// Keeps what a sidecar sent, by the time it was measured.
    pub fn push_post(&mut self, post: Arc<Post>) {
        self.posts.push(post);
        self.bound();
    }

    /// Drops what is older than the window.
    pub fn clean(&mut self, now: Timestamp) {
        let oldest = now.saturating_sub(self.window.0);
        self.nodes.drop_before(oldest);
        self.containers.drop_before(oldest);
        self.posts.drop_before(oldest);
        self.cleanups += 1;
        self.cleaned_at = Some(now);
    }

    /// Entries measured in `from..=to`, the oldest first; when there are more than `limit`, the newest of them. A full
    /// ring of containers would come to hundreds of megabytes.
    pub fn entries(
        &self,
        from: Timestamp,
        to: Timestamp,
        filter: Filter<'_>,
        limit: usize,
    ) -> Vec<Telemetry> {
        let mut samples = self.samples(from, to, filter);
        samples.sort_by_key(Sample::at);
        let mut entries = Vec::new();
        while entries.len() < limit
            && let Some(sample) = samples.pop()
        {
            entries.extend(sample.telemetry().into_iter().rev());
        }
        entries.truncate(limit);
        entries.reverse();
        entries
    }

    fn samples(&self, from: Timestamp, to: Timestamp, filter: Filter<'_>) -> Vec<Sample<'_>> {
        let has = |source| match filter {
            Filter::All => true,
            Filter::Source(only) => only == source,
            Filter::Pod { .. } | Filter::Container(_) => source != Source::System,
        };
        let mut samples = Vec::new();
        if has(Source::System) {
            samples.extend(self.nodes.between(from, to).map(Sample::Node));
        }
        if has(Source::Container) {
            let of = self.containers.between(from, to);
            let of = of.filter(|sample| filter.takes_container(sample));
            samples.extend(of.map(Sample::Container));
        }
        if has(Source::Sidecar) {
            let of = self.posts.between(from, to);
            let of = of.filter(|post| filter.takes_post(post));
            samples.extend(of.map(|post| Sample::Post(post)));
        }
        samples
    }

    /// Samples of one container in `from..=to`, the oldest first.
    pub fn container(
        &self,
        container_id: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = &ContainerSample> {
        let filter = Filter::Container(container_id);
        let samples = self.containers.between(from, to);
        samples.filter(move |sample| filter.takes_container(sample))
    }

    /// The latest sample of the node.
    pub fn latest_node(&self) -> Option<&NodeSample> {
        self.nodes.items.back()
    }

    pub fn stats(&self) -> Stats {
        let lanes = [self.nodes.span(), self.containers.span(), self.posts.span()];
        let spans = || lanes.iter().flatten();
        let oldest = spans().map(|(oldest, _)| *oldest).min();
        let newest = spans().map(|(_, newest)| *newest).max();
        Stats {
            total_entries: self.n_entries(),
            buffer_size: self.window.capacity(),
            window_size: self.window.0,
            actual_window: oldest
                .zip(newest)
                .map(|(oldest, newest)| newest.saturating_since(oldest))
                .unwrap_or_default(),
            oldest_entry: oldest,
            newest_entry: newest,
            bytes: self.bytes(),
            cleanups: self.cleanups,
            cleaned_at: self.cleaned_at,
        }
    }

    fn n_entries(&self) -> usize {
        self.nodes.n_entries + self.containers.n_entries + self.posts.n_entries
    }

    fn bytes(&self) -> usize {
        self.nodes.bytes + self.containers.bytes + self.posts.bytes
    }

    /// Drops the oldest until both bounds hold: of sidecars as long as they take more than half, else of what is oldest.
    fn bound(&mut self) {
        let (capacity, max_bytes) = (self.window.capacity(), self.max_bytes);
        while self.n_entries() > capacity || self.bytes() > max_bytes {
            let is_crowded =
                self.posts.n_entries > capacity / 2 || self.posts.bytes > max_bytes / 2;
            let (node, container) = (self.nodes.oldest(), self.containers.oldest());
            let post = self.posts.oldest();
            if is_crowded {
                self.posts.drop_oldest();
            } else if node.is_some() && earlier(node, container) && earlier(node, post) {
                self.nodes.drop_oldest();
            } else if container.is_some() && earlier(container, post) {
                self.containers.drop_oldest();
            } else {
                self.posts.drop_oldest();
            }
        }
    }
}

/// What one lane or another holds.
#[derive(Clone, Copy)]
enum Sample<'a> {
    Node(&'a NodeSample),
    Container(&'a ContainerSample),
    Post(&'a Post),
}

impl Sample<'_> {
    fn at(&self) -> Timestamp {
        match self {
            Self::Node(sample) => sample.reading.at,
            Self::Container(sample) => sample.at,
            Self::Post(post) => post.at,
        }
    }

    fn telemetry(&self) -> Vec<Telemetry> {
        match self {
            Self::Node(sample) => sample.telemetry(),
            Self::Container(sample) => sample.telemetry().collect(),
            Self::Post(post) => post.telemetry().collect(),
        }
    }
}

/// Whether `a` is before whatever `b` is, if anything.
fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> bool {
    b.is_none_or(|b| a.is_some_and(|a| a <= b))
}

impl SharedRing {
    pub fn new(ring: Ring) -> Self {
        Self(Arc::new(Mutex::new(ring)))
    }

    /// Waits for whoever uses the ring. Reading a full one takes milliseconds: lock where blocking is allowed.
    pub fn lock(&self) -> MutexGuard<'_, Ring> {
        // Every change leaves the ring whole, so that a panic elsewhere does no harm to it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filter<'_> {
    fn takes_container(&self, sample: &ContainerSample) -> bool {
        let container = &sample.container;
        match *self {
            Self::All | Self::Source(_) => true,
            Self::Pod { uid, .. } => !uid.is_empty() && *container.pod_uid == *uid,
            Self::Container(id) => *container.container_id == *bare(id),
        }
    }

    fn takes_post(&self, post: &Post) -> bool {
        match *self {
            Self::All | Self::Source(_) => true,
            Self::Pod {
                namespace, name, ..
            } => post.pod_name == name && post.namespace == namespace,
            Self::Container(id) => {
                let sender = post.container_id.as_deref().map(bare).unwrap_or_default();
                !sender.is_empty() && sender == bare(id)
            }
        }
    }
}

/// A container's id without the runtime's prefix.
fn bare(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

/// What a lane holds.
trait Measured {
    fn at(&self) -> Timestamp;
    fn n_entries(&self) -> usize;
    /// With what it points to.
    fn bytes(&self) -> usize;
}

/// Samples in the order they came.
#[derive(Debug)]
struct Lane<T> {
    items: VecDeque<T>,
    n_entries: usize,
    bytes: usize,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            n_entries: 0,
            bytes: 0,
        }
    }
}

impl<T: Measured> Lane<T> {
    fn push(&mut self, item: T) {
        self.n_entries += item.n_entries();
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    fn drop_oldest(&mut self) {
        if let Some(item) = self.items.pop_front() {
            self.n_entries -= item.n_entries();
            self.bytes -= item.bytes();
        }
    }

    fn drop_before(&mut self, oldest: Timestamp) {
        while self.oldest().is_some_and(|at| at < oldest) {
            self.drop_oldest();
        }
    }

    fn oldest(&self) -> Option<Timestamp> {
        self.items.front().map(Measured::at)
    }

    fn between(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &T> {
        let is_between = move |item: &&T| (from..=to).contains(&item.at());
        self.items.iter().filter(is_between)
    }

    /// The first and the last time in it; what sidecars sent is not always in order.
    fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let times = || self.items.iter().map(Measured::at);
        Some((times().min()?, times().max()?))
    }
}

impl Measured for NodeSample {
    fn at(&self) -> Timestamp {
        self.reading.at
    }

    fn n_entries(&self) -> usize {
        self.n_entries()
    }

    fn bytes(&self) -> usize {
        let reading = &self.reading;
        let names = reading.interfaces.iter().map(|it| it.name.len());
        let names: usize = names
            .chain(reading.disks.iter().map(|it| it.name.len()))
            .sum();
        size_of::<Self>()
            + self.usage.len() * size_of::<CoreUsage>()
            + reading.cores.len() * size_of::<super::node::Core>()
            + reading.interfaces.len() * (size_of::<Interface>() + ARC_BYTES)
            + reading.disks.len() * (size_of::<Disk>() + ARC_BYTES)
            + names
    }
}

impl Measured for ContainerSample {
    fn at(&self) -> Timestamp {
        self.at
    }

    fn n_entries(&self) -> usize {
        1
    }

    /// The key is shared by all samples of the container.
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

impl Measured for Arc<Post> {
    fn at(&self) -> Timestamp {
        self.at
    }

    fn n_entries(&self) -> usize {
        self.values.len().max(1)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + ARC_BYTES + Post::bytes(self)
    }
}

/// The two counts of an `Arc`.
const ARC_BYTES: usize = 16;

#[cfg(test)]
mod tests;
