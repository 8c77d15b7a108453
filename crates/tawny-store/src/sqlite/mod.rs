//! A store in one SQLite file, with a full-text index: for a laptop, an edge node, or under a million lines a day.
//!
//! One thread writes, a few connections read. A write is answered when its transaction is on disk (WAL, synchronous
//! FULL), so nothing acknowledged is lost to a kill or a power cut.

mod ids;
mod plan;
mod reader;
mod reserve;
mod retention;
mod row;
mod schema;
mod transaction;
mod verify;
mod writer;

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use prometheus_client::registry::Registry;
use rusqlite::{Connection, InterruptHandle};
use tawny_model::{
    Batch, ByteSize, EntryId, LogEntry, Stream, StreamEnd, StreamId, Timestamp, WriterId,
};
use tawny_runtime::SharedClock;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast},
    task,
    time::Instant,
};

pub use self::verify::verify;
use self::{
    reader::Reader,
    reserve::Reserve,
    row::{StreamMap, StreamRow},
    writer::{Command, Writer},
};
use crate::{
    Committed, Error, Facet, FacetsRequest, Filter, Histogram, HistogramRequest, LogStore,
    Retention, SearchPage, SearchRequest, StoreStats, Written,
    group::{COMMITTED_QUEUE, ToWriter, lock},
    limits,
    metrics::{Metrics, QueryKind, QueryLabel},
    ownership::Ownership,
};

/// How a [`SqliteStore`] is opened.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The file; its directory is made where missing. `<path>-wal`, `<path>-shm`, `<path>.lock` and
    /// `<path>.reserve` lie beside it.
    pub path: PathBuf,
    /// Queries that run at once; each takes up to 8 MiB of cache.
    pub n_readers: usize,
    /// The file never grows beyond it: at the limit writes are answered [`Error::DiskFull`]. For retention by size,
    /// which deletes the oldest instead, see [`LogStore::apply_retention`].
    pub max_file_bytes: Option<ByteSize>,
    /// How long the end of a stream without entries is kept after its last write: an agent that comes back later
    /// sends from the start, and what is still in its files is stored once more.
    pub keep_ends: Duration,
    /// Room kept back in `<path>.reserve` for deletion on a full disk; zero for none, and a full disk then has to be
    /// relieved by hand. At least 12 MiB to be of use: 8 MiB of log folded in, and what deletion writes.
    pub reserve: ByteSize,
}

impl SqliteConfig {
    /// The usual settings for this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            n_readers: 4,
            max_file_bytes: None,
            keep_ends: Duration::from_secs(30 * 24 * 3_600),
            reserve: ByteSize::mib(16),
        }
    }
}

/// The SQLite engine. Dropping it waits for the transaction at hand and frees the file.
pub struct SqliteStore {
    shared: Arc<Shared>,
    to_writer: ToWriter<Command>,
    writer: Option<thread::JoinHandle<()>>,
    readers: Arc<Readers>,
    /// Declared last: freed only when every connection is closed.
    _ownership: Ownership,
}

/// What writer and readers have in common.
struct Shared {
    path: PathBuf,
    clock: SharedClock,
    keep_ends: Duration,
    max_file_bytes: Option<ByteSize>,
    streams: RwLock<Arc<StreamMap>>,
    committed_tx: broadcast::Sender<Arc<Committed>>,
    metrics: Metrics,
}

struct Readers {
    permits: Arc<Semaphore>,
    /// INVARIANT: as many connections as free permits.
    idle: Mutex<Vec<Connection>>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.shared.path)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the store, creating file and directory where missing.
    ///
    /// # Errors
    /// `StandDown` when another process has it open; `Reject` when the file is no store, from a newer version or not
    /// writable; `Quarantine` when it is damaged; `Retry` when the disk is full.
    pub async fn open(
        config: SqliteConfig,
        clock: SharedClock,
        registry: &mut Registry,
    ) -> Result<Self, Error> {
        let metrics = Metrics::register(registry);
        let path = config.path.clone();
        task::spawn_blocking(move || Self::open_blocking(&config, clock, metrics))
            .await
            .map_err(|source| Error::Io {
                path,
                doing: "open store",
                source: Box::new(source),
            })?
    }

    fn open_blocking(
        config: &SqliteConfig,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let ownership = schema::own(&config.path)?;
        let conn = schema::open_writer(config)?;
        let n_readers = config.n_readers.max(1);
        let idle = (0..n_readers)
            .map(|_| schema::open_reader(&config.path))
            .collect::<Result<Vec<_>, _>>()?;
        let (committed_tx, _) = broadcast::channel(COMMITTED_QUEUE);
        let shared = Arc::new(Shared {
            path: config.path.clone(),
            clock,
            keep_ends: config.keep_ends,
            max_file_bytes: config.max_file_bytes,
            streams: RwLock::default(),
            committed_tx,
            metrics,
        });
        let writer = Writer::load(
            conn,
            Arc::clone(&shared),
            Reserve::new(&config.path, config.reserve),
        )?;
        let (to_writer, commands_rx) = ToWriter::new();
        let thread = thread::Builder::new()
            .name("tawny-store".to_owned())
            .spawn(move || writer.run(commands_rx))
            .map_err(|source| Error::Io {
                path: config.path.clone(),
                doing: "start the writer",
                source: Box::new(source),
            })?;
        Ok(Self {
            shared,
            to_writer,
            writer: Some(thread),
            readers: Arc::new(Readers {
                permits: Arc::new(Semaphore::new(n_readers)),
                idle: Mutex::new(idle),
            }),
            _ownership: ownership,
        })
    }

    /// Answers a question on a blocking thread. A caller that goes away interrupts it.
    async fn read<T: Send + 'static>(
        &self,
        kind: QueryKind,
        ask: impl FnOnce(&Reader<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = Arc::clone(&self.readers.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::Closed)?;
        let conn = lock(&self.readers.idle)
            .pop()
            .expect("a connection is idle for every free permit");
        let running = Arc::new(Mutex::new(Some(conn.get_interrupt_handle())));
        let _interrupt = InterruptOnDrop(Arc::clone(&running));
        let (shared, readers) = (Arc::clone(&self.shared), Arc::clone(&self.readers));
        task::spawn_blocking(move || {
            let started = Instant::now();
            let lease = Lease {
                conn: Some(conn),
                readers,
                running,
                _permit: permit,
            };
            let answer = Reader::ask(lease.conn(), &shared, ask);
            let seconds = shared
                .metrics
                .query_seconds
                .get_or_create(&QueryLabel { kind });
            seconds.observe(started.elapsed().as_secs_f64());
            answer
        })
        .await
        .map_err(|source| Error::Io {
            path: self.shared.path.clone(),
            doing: "answer a query",
            source: Box::new(source),
        })?
    }
}

#[async_trait]
impl LogStore for SqliteStore {
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
        self.read(QueryKind::Search, move |reader| reader.search(&request))
            .await
    }

    async fn histogram(&self, request: &HistogramRequest) -> Result<Histogram, Error> {
        limits::check_histogram(request)?;
        let request = request.clone();
        self.read(QueryKind::Histogram, move |reader| {
            reader.histogram(&request)
        })
        .await
    }

    async fn facets(&self, request: &FacetsRequest) -> Result<Vec<Facet>, Error> {
        let request = request.clone();
        self.read(QueryKind::Facets, move |reader| reader.facets(&request))
            .await
    }

    async fn count(&self, filter: &Filter) -> Result<u64, Error> {
        let filter = filter.clone();
        self.read(QueryKind::Count, move |reader| reader.count(&filter))
            .await
    }

    async fn get(&self, id: EntryId) -> Result<Option<LogEntry>, Error> {
        self.read(QueryKind::Get, move |reader| reader.get(id))
            .await
    }

    async fn delete_older_than(&self, before: Timestamp) -> Result<u64, Error> {
        self.to_writer
            .ask(|reply| Command::Delete { before, reply })
            .await
    }

    async fn apply_retention(&self, retention: &Retention, now: Timestamp) -> Result<u64, Error> {
        let retention = retention.clone();
        self.to_writer
            .ask(|reply| Command::Retain {
                retention,
                now,
                reply,
            })
            .await
    }

    async fn stats(&self) -> Result<StoreStats, Error> {
        let path = self.shared.path.clone();
        self.read(QueryKind::Stats, move |reader| {
            let mut wal = path.clone().into_os_string();
            wal.push("-wal");
            let len_bytes = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
            Ok(StoreStats {
                disk_bytes: len_bytes(path) + len_bytes(wal.into()),
                ..reader.stats()?
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

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.to_writer.close();
        // The writer's connection should be the last to close: only it can fold in and remove the log.
        lock(&self.readers.idle).clear();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the store had panicked");
        }
    }
}

impl Shared {
    /// Every stream there is, as of now.
    fn streams(&self) -> Arc<StreamMap> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&streams)
    }

    fn publish(&self, news: impl Iterator<Item = (StreamRow, Arc<Stream>)>) {
        let mut news = news.peekable();
        if news.peek().is_some() {
            // Copied only while a reader holds the old one.
            let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut streams).extend(news);
        }
    }

    fn unpublish(&self, rows: impl Iterator<Item = StreamRow>) {
        let mut rows = rows.peekable();
        if rows.peek().is_some() {
            let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
            let streams = Arc::make_mut(&mut streams);
            for row in rows {
                streams.remove(&row);
            }
        }
    }
}

/// A connection on loan; goes back before its permit does.
struct Lease {
    conn: Option<Connection>,
    readers: Arc<Readers>,
    running: Running,
    _permit: OwnedSemaphorePermit,
}

/// How to interrupt a query, while it runs: its connection must not be interrupted once it serves another.
type Running = Arc<Mutex<Option<InterruptHandle>>>;

impl Lease {
    fn conn(&self) -> &Connection {
        self.conn.as_ref().expect("taken only when dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.running).take();
        lock(&self.readers.idle).extend(self.conn.take());
    }
}

struct InterruptOnDrop(Running);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = lock(&self.0).as_ref() {
            handle.interrupt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dead_writer_is_told_and_answered_for() {
        let directory = tempfile::tempdir().unwrap();
        let config = SqliteConfig {
            reserve: ByteSize(0),
            ..SqliteConfig::new(directory.path().join("logs.db"))
        };
        let clock = Arc::new(tawny_runtime::SystemClock);
        let mut store = SqliteStore::open(config, clock, &mut Registry::default())
            .await
            .unwrap();
        let alive = tokio::time::timeout(Duration::from_millis(1), store.died()).await;
        assert!(alive.is_err(), "it works");
        // As a panic leaves it: the receiving end is gone.
        let (to_writer, commands_rx) = ToWriter::new();
        drop(commands_rx);
        store.to_writer = to_writer;
        store.died().await;
        let error = store.write(Vec::new()).await.unwrap_err();
        assert!(matches!(error, Error::Closed), "{error}");
        let count = store.stats().await.unwrap().n_entries;
        assert_eq!(count, 0, "what is stored can still be asked for");
    }
}
