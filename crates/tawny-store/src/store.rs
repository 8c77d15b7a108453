//! `LogStore`: what every engine does, in the words of the model.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tawny_model::{
    Batch, EntryId, LogEntry, Position, Severity, StreamEnd, StreamId, Timestamp, WriterId,
};
use tawny_query::{Field, Query};
use tokio::sync::broadcast;

use crate::{
    Error, Retention,
    scan::{self, Rows, ScanRequest},
};

/// A store of log entries. One conformance suite ([`crate::conformance`]) runs on every engine.
///
/// All methods may be called concurrently. A write that returned is durable and is seen by every later read.
#[async_trait]
pub trait LogStore: fmt::Debug + Send + Sync + 'static {
    /// Makes `writer` the owner of these streams and says how far each is stored; `None` for a stream never seen.
    ///
    /// From then on a batch of another writer is answered [`Written::Fenced`].
    async fn resume(
        &self,
        writer: WriterId,
        streams: &[StreamId],
    ) -> Result<Vec<Option<StreamEnd>>, Error>;

    /// Admits and commits batches, all in one durable transaction; one answer per batch, in order.
    ///
    /// Metadata of a stream is brought up to date with each batch. On error nothing of the call is visible.
    ///
    /// # Errors
    /// `Retry` when the disk is full or busy, `Reject` for a batch over the engine's limits.
    async fn write(&self, batches: Vec<Batch>) -> Result<Vec<Written>, Error>;

    /// Commits entries that carry no position (KL-5): a repeat of a stored entry (same time, stream and message) is
    /// dropped (KL-14). `id` of the given entries is ignored. Answers how many were new.
    async fn append(&self, entries: Vec<LogEntry>) -> Result<u64, Error>;

    /// The best entries by id in the request's order, with a cursor that neither skips nor repeats.
    ///
    /// At most `limit` of them: a page whose entries are long may hold fewer, though at least one, and then says
    /// `has_more`.
    ///
    /// Ids are in the order of time, and lines of one stream within a microsecond in the order they were written. A page
    /// is a snapshot; what is written later shows on later pages where its id lies ahead of the cursor, and not where it
    /// lies behind (a line that comes late, when paging oldest first, or a new one, when paging newest first).
    async fn search(&self, request: &SearchRequest) -> Result<SearchPage, Error>;

    /// Counts per time bucket and severity.
    async fn histogram(&self, request: &HistogramRequest) -> Result<Histogram, Error>;

    /// Most frequent values of each field asked for, with counts, most frequent first, ties by value. Entries without the
    /// field are not counted.
    async fn facets(&self, request: &FacetsRequest) -> Result<Vec<Facet>, Error>;

    /// How many entries match.
    async fn count(&self, filter: &Filter) -> Result<u64, Error>;

    /// Rows that match, by column, in no order, divided into `n_parts` streams that may be read side by side.
    ///
    /// Rows are read as the streams are polled. An engine may read them as of the time of this call, or page by page:
    /// a row that is there all the while comes once, one that is written or deleted meanwhile may come or not.
    async fn scan(self: Arc<Self>, request: ScanRequest) -> Result<Vec<Rows>, Error> {
        Ok(scan::by_pages(self, request))
    }

    /// One entry by id.
    async fn get(&self, id: EntryId) -> Result<Option<LogEntry>, Error>;

    /// Removes what is older, answers how many entries. Stream ends stay, so nothing removed is admitted again. Reads and
    /// writes go on meanwhile and may see part of it done.
    async fn delete_older_than(&self, before: Timestamp) -> Result<u64, Error>;

    /// Applies limits of age and size, oldest entries first, gives free space back, and forgets the ends of streams that
    /// have had no entry and no write for long; `now` is the caller's clock. Answers how many entries went.
    async fn apply_retention(&self, retention: &Retention, now: Timestamp) -> Result<u64, Error>;

    async fn stats(&self) -> Result<StoreStats, Error>;

    /// Proves that a write would be durable now, by writing where that is cheap; asked every few seconds.
    ///
    /// # Errors
    /// What a write would answer: the disk is full, the file has become read-only.
    async fn check_writable(&self) -> Result<(), Error> {
        self.append(Vec::new()).await.map(drop)
    }

    /// Completes when the engine has died of a fault of its own and can write no more: stop the process. Never completes
    /// while it works.
    async fn died(&self) {
        std::future::pending().await
    }

    /// Every commit from now on. A receiver that falls behind is told so by the channel and searches for what it missed.
    fn subscribe(&self) -> broadcast::Receiver<Arc<Committed>>;
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Now stored up to `end`; `n_new` entries were not there before.
    New { end: Position, n_new: u64 },
    /// Was stored already, up to `end`.
    Duplicate { end: Position },
    /// Refused: send from `committed`.
    Gap { committed: Position },
    /// Refused: another writer resumed the stream; resume it again or stop.
    Fenced,
}

/// Entries made visible by one transaction, with their ids, in commit order.
#[derive(Debug, Clone)]
pub struct Committed {
    pub entries: Vec<LogEntry>,
}

/// Which entries a request speaks of.
#[derive(Debug, Clone)]
pub struct Filter {
    pub query: Query,
    /// Inclusive.
    pub from: Timestamp,
    /// Exclusive; [`Timestamp::MAX`] is open.
    pub to: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

#[derive(Debug, Clone)]
pub struct SearchRequest {
    pub filter: Filter,
    pub order: Order,
    /// 1 to [`MAX_LIMIT`]; an upper bound, as a page is bounded in bytes too.
    pub limit: usize,
    /// Only ids greater than this.
    pub after: Option<EntryId>,
    /// Only ids less than this.
    pub before: Option<EntryId>,
}

/// Most entries one search page holds.
pub const MAX_LIMIT: usize = 10_000;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchPage {
    pub entries: Vec<LogEntry>,
    /// Whether more match beyond the last entry, in the request's order. The cursor is that entry's id.
    pub has_more: bool,
}

#[derive(Debug, Clone)]
pub struct HistogramRequest {
    pub filter: Filter,
    /// Width of a bucket; buckets are aligned to multiples of it since the epoch.
    pub bucket: Duration,
}

/// Most buckets one histogram holds; a finer bucket is refused.
pub const MAX_BUCKETS: usize = 5_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Only buckets with entries, oldest first.
    pub buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    pub start: Timestamp,
    /// Entries by [`Severity`] number.
    pub counts: [u64; Severity::ALL.len()],
}

#[derive(Debug, Clone)]
pub struct FacetsRequest {
    pub filter: Filter,
    pub fields: Vec<Field>,
    /// Most values per field.
    pub limit: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facet {
    pub field: Field,
    pub values: Vec<(String, u64)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub n_entries: u64,
    /// Streams known, those whose entries are deleted included while their end is kept.
    pub n_streams: u64,
    /// What the store's files take, log included.
    pub disk_bytes: u64,
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
}
