//! The columnar store: a write-ahead log and rows in memory in front of sorted Parquet segments in a Delta table.
//!
//! ```text
//! write → admit → log (fsync) → rows in memory → segment → commit in the Delta log → merged segments
//!                        ack ↑ visible            └ flusher thread ┘   └ maintainer thread ┘
//! ```
//! An answered write is in the log or in a committed segment, and is seen by every later read. What is in segments is
//! named by the number of its last record (`applied`), which each commit carries; at start the records after it are
//! read again.

mod catalog;
mod compact;
mod described;
mod files;
mod flush;
mod flusher;
mod gist;
mod ids;
mod lease;
mod maintain;
mod merge;
pub use place::BucketConfig;
mod place;
mod probe;
mod query;
mod read_at;
mod recover;
mod rows;
mod run;
mod segment;
mod state;
pub mod storage;
mod streams;
mod table;
mod transaction;
mod turns;
mod wal;
mod writer;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc as std_mpsc,
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use prometheus_client::registry::Registry as MetricsRegistry;
use tawny_model::{Batch, ByteSize, EntryId, LogEntry, StreamEnd, StreamId, Timestamp, WriterId};
use tawny_runtime::SharedClock;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, broadcast, oneshot},
    task,
    time::Instant,
};

use self::{
    catalog::Catalog,
    flusher::Flusher,
    maintain::{Job, Maintainer},
    place::Place,
    query::{BatchScan, Budget, Snapshot},
    segment::BlockCache,
    state::State,
    streams::Registry,
    table::Table,
    wal::{Replay, Wal},
    writer::{Command, Writer},
};
use crate::{
    Committed, Error, Facet, FacetsRequest, Filter, Histogram, HistogramRequest, LogStore,
    Retention, Rows, ScanRequest, SearchPage, SearchRequest, StoreStats, Written,
    group::{COMMITTED_QUEUE, Reply, ToWriter},
    limits,
    metrics::{Metrics, QueryKind, QueryLabel},
};

/// How a [`LakeStore`] is opened.
#[derive(Debug, Clone)]
pub struct LakeConfig {
    /// The directory; made where missing. The table is in `logs`, the log in `wal`.
    pub path: PathBuf,
    /// Where the table is instead, if not in the directory: then that holds the log alone.
    pub bucket: Option<BucketConfig>,
    /// Memory for rows that are in no segment yet, in text and tables: half of it gathers while the other half is
    /// written. A write waits when it is used up.
    pub memory: ByteSize,
    /// Rows stay in memory no longer than this before they become a segment. Short: many small segments.
    pub flush_age: Duration,
    /// Decoded blocks and indexes of segments that are kept for the next query.
    pub cache: ByteSize,
    /// Queries that run at once.
    pub n_readers: usize,
    /// Threads one query may use.
    pub query_threads: usize,
    /// Most memory of one query; one that needs more is refused.
    pub query_memory: ByteSize,
    /// Longest time of one query.
    pub query_time: Duration,
    /// How long the end of a stream without entries is kept after its last write.
    pub keep_ends: Duration,
    /// How long the file of a segment stays after another took its place, for readers from outside.
    pub grace: Duration,
}

impl LakeConfig {
    /// The usual settings for this directory.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            bucket: None,
            memory: ByteSize::mib(96),
            flush_age: Duration::from_secs(300),
            cache: ByteSize::mib(128),
            n_readers: 4,
            query_threads: 2,
            query_memory: ByteSize::mib(256),
            query_time: Duration::from_secs(60),
            keep_ends: Duration::from_secs(30 * 24 * 3_600),
            grace: Duration::from_secs(600),
        }
    }

    fn memory_bytes(&self) -> usize {
        usize::try_from(self.memory.as_bytes()).unwrap_or(usize::MAX)
    }

    fn flush_bytes(&self) -> usize {
        self.memory_bytes() / 2
    }
}

/// Jobs for the maintainer that may wait; further callers wait to be queued.
const JOB_QUEUE: usize = 16;

/// The columnar engine. Dropping it waits for the record and the segment at hand and frees the directory.
pub struct LakeStore {
    shared: Arc<Shared>,
    to_writer: ToWriter<Command>,
    /// `None` only while being dropped.
    maintenance_tx: Option<std_mpsc::SyncSender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
    readers: Arc<Semaphore>,
    /// Declared last: freed only when every thread has ended.
    _place: Place,
}

/// What the threads of a store have in common.
struct Shared {
    config: LakeConfig,
    clock: SharedClock,
    state: State,
    table: Table,
    committed_tx: broadcast::Sender<Arc<Committed>>,
    metrics: Metrics,
    wal_bytes: AtomicU64,
    is_stopping: AtomicBool,
    /// Another server writes to the table now: nothing more is admitted.
    is_deposed: Arc<AtomicBool>,
}

impl fmt::Debug for LakeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeStore")
            .field("path", &self.shared.config.path)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// What segments and the log take.
    fn disk_bytes(&self) -> u64 {
        self.state
            .live()
            .iter()
            .map(|live| live.size_bytes)
            .sum::<u64>()
            + self.wal_bytes.load(Relaxed)
    }

    fn set_wal_bytes(&self, len_bytes: u64) {
        self.wal_bytes.store(len_bytes, Relaxed);
    }

    fn wal_bytes(&self) -> u64 {
        self.wal_bytes.load(Relaxed)
    }

    fn is_deposed(&self) -> bool {
        self.is_deposed.load(Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Relaxed)
    }

    /// What a question may cost that is asked now.
    fn budget<'a>(&'a self, cancelled: &'a AtomicBool) -> Budget<'a> {
        let config = &self.config;
        Budget {
            cancelled,
            clock: &*self.clock,
            deadline: self.clock.now().saturating_add(config.query_time),
            memory_bytes: usize::try_from(config.query_memory.as_bytes()).unwrap_or(usize::MAX),
            n_threads: config.query_threads.max(1),
        }
    }
}

impl LakeStore {
    /// Opens the store, making the directory where it is missing.
    ///
    /// # Errors
    /// `StandDown` when another process has it open or, in a bucket, another server writes there; `Reject` when the directory holds something else, or a newer
    /// version; `Quarantine` when the catalog is damaged; `Retry` when the disk is full.
    pub async fn open(
        config: LakeConfig,
        clock: SharedClock,
        registry: &mut MetricsRegistry,
    ) -> Result<Self, Error> {
        let metrics = Metrics::register(registry);
        let path = config.path.clone();
        let handle = Handle::current();
        task::spawn_blocking(move || Self::open_blocking(config, clock, metrics, handle))
            .await
            .map_err(|source| Error::Io {
                path,
                doing: "open store",
                source: Box::new(source),
            })?
    }

    fn open_blocking(
        config: LakeConfig,
        clock: SharedClock,
        metrics: Metrics,
        runtime: Handle,
    ) -> Result<Self, Error> {
        let place = Place::open(&config, runtime)?;
        let open_wal = |path: &Path, applied| Wal::open(path, applied);
        Self::start(config, clock, metrics, place, open_wal)
    }

    /// Brings a store to life in its place, with the log that is there.
    fn start(
        config: LakeConfig,
        clock: SharedClock,
        metrics: Metrics,
        place: Place,
        open_wal: impl FnOnce(&Path, u64) -> Result<Replay, Error>,
    ) -> Result<Self, Error> {
        let root = config.path.clone();
        let (catalog, table_state) = Catalog::open(place.storage.clone(), Arc::clone(&clock))?;
        let cache_bytes = usize::try_from(config.cache.as_bytes()).unwrap_or(usize::MAX);
        let state = State::default();
        let table = Table::open(catalog, Arc::new(BlockCache::new(cache_bytes)), &state);
        let registry = match table_state.applied {
            Some(applied) => table.load_registry(applied)?,
            None => Registry::default(),
        };
        state.describe(registry.iter().map(|known| Arc::clone(&known.stream)));
        let mut applied = table_state.applied.unwrap_or(0);
        if place.was_taken_over() {
            // Whatever the server before us still tries to commit comes after this, and is refused.
            applied += 1;
            table.add_flushed(&state, &[], applied, &registry)?;
        }
        let (committed_tx, _) = broadcast::channel(COMMITTED_QUEUE);
        let shared = Arc::new(Shared {
            config,
            clock,
            state,
            table,
            committed_tx,
            metrics,
            wal_bytes: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
            is_deposed: place.is_lost(),
        });
        let (to_writer, commands_rx) = ToWriter::new();
        let (jobs_tx, jobs_rx) = std_mpsc::sync_channel(1);
        let (news_tx, news_rx) = std_mpsc::sync_channel(1);
        let (maintenance_tx, maintenance_rx) = std_mpsc::sync_channel(JOB_QUEUE);
        let writer = Writer::replay(
            Arc::clone(&shared),
            registry,
            open_wal(&place.wal_path, applied)?,
            applied,
            jobs_tx,
            news_rx,
        )?;
        let commands_tx = to_writer.downgrade().ok_or(Error::Closed)?;
        let flusher = Flusher {
            shared: Arc::clone(&shared),
            news_tx,
            commands_tx: commands_tx.clone(),
            maintenance_tx: maintenance_tx.clone(),
        };
        let maintainer = Maintainer {
            shared: Arc::clone(&shared),
            commands_tx,
            cleaned: None,
            left_alone: Default::default(),
        };
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(format!("tawny-{name}"))
                .spawn(run)
                .map_err(|source| Error::Io {
                    path: root.clone(),
                    doing: "start a thread of the store",
                    source: Box::new(source),
                })
        };
        let threads = vec![
            start("store", Box::new(move || writer.run(commands_rx)))?,
            start("flush", Box::new(move || flusher.run(&jobs_rx)))?,
            start(
                "maintain",
                Box::new(move || maintainer.run(&maintenance_rx)),
            )?,
        ];
        Ok(Self {
            readers: Arc::new(Semaphore::new(shared.config.n_readers.max(1))),
            shared,
            to_writer,
            maintenance_tx: Some(maintenance_tx),
            threads,
            _place: place,
        })
    }

    /// Merges each day's segments into one; answers how many files went.
    ///
    /// # Errors
    /// `Retry` when the storage fails; the segments stay as they were.
    pub async fn compact(&self) -> Result<u64, Error> {
        self.job(|reply| Job::Compact { reply }).await
    }

    /// Hands a job to the maintainer and waits for its answer.
    async fn job<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Error> {
        let (reply_tx, reply_rx) = oneshot::channel();
        let maintenance_tx = self.maintenance_tx.clone().ok_or(Error::Closed)?;
        let job = job(reply_tx);
        task::spawn_blocking(move || maintenance_tx.send(job))
            .await
            .map_err(|_| Error::Closed)?
            .map_err(|_| Error::Closed)?;
        reply_rx.await.map_err(|_| Error::Closed)?
    }

    /// Answers a question on a blocking thread. A caller that goes away stops it.
    async fn read<T: Send + 'static>(
        &self,
        kind: QueryKind,
        ask: impl FnOnce(&Snapshot, &Budget) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.readers)
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let shared = Arc::clone(&self.shared);
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(Arc::clone(&cancelled));
        task::spawn_blocking(move || {
            let started = Instant::now();
            let answer = ask(&shared.state.snapshot(), &shared.budget(&cancelled));
            drop(permit);
            let seconds = shared
                .metrics
                .query_seconds
                .get_or_create(&QueryLabel { kind });
            seconds.observe(started.elapsed().as_secs_f64());
            answer
        })
        .await
        .map_err(|source| Error::Io {
            path: self.shared.config.path.clone(),
            doing: "answer a query",
            source: Box::new(source),
        })?
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[async_trait]
impl LogStore for LakeStore {
    async fn resume(
        &self,
        writer: WriterId,
        streams: &[StreamId],
    ) -> Result<Vec<Option<StreamEnd>>, Error> {
        let streams = streams.to_vec();
        self.to_writer
            .ask(|reply| Command::Resume {
                writer,
                streams,
                reply,
            })
            .await
    }

    async fn write(&self, batches: Vec<Batch>) -> Result<Vec<Written>, Error> {
        limits::check_batches(&batches)?;
        self.to_writer
            .store_batches(batches, &self.shared.metrics, |input, reply| {
                Command::Store { input, reply }
            })
            .await
    }

    async fn append(&self, entries: Vec<LogEntry>) -> Result<u64, Error> {
        limits::check_entries(&entries)?;
        self.to_writer
            .store_entries(entries, &self.shared.metrics, |input, reply| {
                Command::Store { input, reply }
            })
            .await
    }

    async fn search(&self, request: &SearchRequest) -> Result<SearchPage, Error> {
        limits::check_search(request)?;
        let request = request.clone();
        self.read(QueryKind::Search, move |snapshot, budget| {
            query::search(snapshot, &request, budget)
        })
        .await
    }

    async fn histogram(&self, request: &HistogramRequest) -> Result<Histogram, Error> {
        limits::check_histogram(request)?;
        let request = request.clone();
        self.read(QueryKind::Histogram, move |snapshot, budget| {
            query::histogram(snapshot, &request, budget)
        })
        .await
    }

    async fn facets(&self, request: &FacetsRequest) -> Result<Vec<Facet>, Error> {
        let request = request.clone();
        self.read(QueryKind::Facets, move |snapshot, budget| {
            query::facets(snapshot, &request, budget)
        })
        .await
    }

    async fn count(&self, filter: &Filter) -> Result<u64, Error> {
        let filter = filter.clone();
        self.read(QueryKind::Count, move |snapshot, budget| {
            query::count(snapshot, &filter, budget)
        })
        .await
    }

    async fn scan(self: Arc<Self>, request: ScanRequest) -> Result<Vec<Rows>, Error> {
        let n_parts = request.n_parts.max(1);
        let scan = self
            .read(QueryKind::Scan, move |snapshot, budget| {
                BatchScan::plan(snapshot.clone(), &request, budget)
            })
            .await?;
        let scan = Arc::new(scan);
        let part = |_| turns::rows(Arc::clone(&self.shared), Arc::clone(&scan));
        Ok((0..n_parts).map(part).collect())
    }

    async fn get(&self, id: EntryId) -> Result<Option<LogEntry>, Error> {
        self.read(QueryKind::Get, move |snapshot, budget| {
            query::get(snapshot, id, budget)
        })
        .await
    }

    async fn delete_older_than(&self, before: Timestamp) -> Result<u64, Error> {
        self.job(|reply| Job::Delete { before, reply }).await
    }

    async fn apply_retention(&self, retention: &Retention, now: Timestamp) -> Result<u64, Error> {
        let retention = retention.clone();
        self.job(|reply| Job::Retain {
            retention,
            now,
            reply,
        })
        .await
    }

    async fn stats(&self) -> Result<StoreStats, Error> {
        let shared = Arc::clone(&self.shared);
        self.read(QueryKind::Stats, move |snapshot, _| {
            let extents = snapshot.runs.iter().map(|run| run.extent());
            let in_segments: u64 = extents.clone().map(|extent| u64::from(extent.n_rows)).sum();
            let in_memory: usize = snapshot.hot.iter().map(|rows| rows.ids.len()).sum();
            let times = extents.clone().map(|extent| (extent.first, extent.last));
            let times = times.chain(snapshot.hot.iter().map(|rows| (rows.first, rows.last)));
            Ok(StoreStats {
                n_entries: in_segments + in_memory as u64,
                n_streams: shared.metrics.n_streams(),
                disk_bytes: shared.disk_bytes(),
                oldest: times.clone().map(|(first, _)| first).min(),
                newest: times.map(|(_, last)| last).max(),
            })
        })
        .await
    }

    async fn died(&self) {
        self.to_writer.died().await;
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.shared.committed_tx.subscribe()
    }
}

impl Drop for LakeStore {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Relaxed);
        self.to_writer.close();
        self.maintenance_tx = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(feature = "test-util")]
pub use wal::fuzzing as wal_fuzzing;
