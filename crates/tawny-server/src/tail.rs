//! Live tails: what matched before, then every commit as it happens, with no gap and no repeat where the two meet.
//!
//! A tail subscribes to the store first and reads the past second. Commits that arrive while it reads, or while its
//! client is slow, are kept as bare ids and fetched in order once there is room; ids just read are remembered, because
//! a commit can be seen by a search before it is announced. Commits overwritten before the tail took them in are found
//! by reading again from where it is sure of what it sent; what came late and lies before that is not found, and the
//! client is told so.

mod format;
mod recent;

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use tawny_model::{EntryId, LogEntry};
use tawny_store::{Committed, Filter, Order, SearchPage, SearchRequest};
use tawny_wire::api::TailNotice;
use tokio::{
    sync::{
        Semaphore,
        broadcast::{self, error::RecvError},
        mpsc,
    },
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_stream::wrappers::ReceiverStream;

pub(crate) use format::Format;
use recent::Recent;

use crate::{Error, metrics::Asked, shared::Shared};

/// Entries read from the store at a time.
const PAGE: usize = 500;

/// Size at which text is handed to the connection.
const CHUNK_BYTES: usize = 64 << 10;

/// Chunks kept for a slow client (16 × 64 KiB = 1 MiB) before only ids are kept.
const OUTBOX_CHUNKS: usize = 16;

/// Ids kept for a slow client (50,000 × about 20 bytes = 1 MiB); beyond, entries are counted and left out.
const MAX_MISSED: usize = 50_000;

/// Silence in which proxies would close the connection.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// What of the past a tail shows first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replay {
    /// The newest so many, oldest first.
    Last(usize),
    /// Those too, but with too long entries for one page: so many lie before this id, and none of them is sent before
    /// the first is known.
    Back(usize, EntryId),
    /// Everything with a greater id; the least id there is means everything.
    After(EntryId),
}

impl Replay {
    pub(crate) const EVERYTHING: Self = Self::After(EntryId(i64::MIN));
}

/// The tails of a server: a bound on their number, and their tasks.
#[derive(Debug)]
pub(crate) struct Tails {
    slots: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
}

impl Tails {
    pub(crate) fn new(max_tails: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(max_tails)),
            tasks: Mutex::default(),
        }
    }

    fn spawn(&self, tail: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "tail panicked");
            }
        }
        tasks.spawn(tail);
    }
}

/// Starts a tail and gives the body of its answer. The tail ends when the body is dropped or the server stops.
pub(crate) fn open(
    shared: &Arc<Shared>,
    filter: Filter,
    replay: Option<Replay>,
    format: Format,
) -> Result<Body, Error> {
    let slot = Arc::clone(&shared.tails.slots)
        .try_acquire_owned()
        .map_err(|_| Error::Busy {
            what: "live tails",
            limit: shared.limits.max_tails,
        })?;
    let floor = match replay {
        Some(Replay::After(id)) => id,
        Some(Replay::Last(_) | Replay::Back(..)) | None => EntryId::first_at(shared.clock.now()),
    };
    let tail = Tail {
        // Before the first search: what is committed after this line is announced, what was before is found.
        live: shared.store.subscribe(),
        shared: Arc::clone(shared),
        filter,
        format,
        replay,
        missed: BTreeSet::new(),
        asked: BTreeSet::new(),
        is_overrun: false,
        n_skipped: 0,
        n_overwritten: 0,
        recent: Recent::new(floor),
        chunk: Vec::new(),
        outbox: VecDeque::new(),
        is_live_told: false,
    };
    // Of one, because the outbox is the queue and knows what it holds.
    let (chunks_tx, chunks_rx) = mpsc::channel(1);
    let tails_open = shared.metrics.tails.clone();
    shared.tails.spawn(async move {
        tails_open.inc();
        tail.run(chunks_tx).await;
        tails_open.dec();
        drop(slot);
    });
    Ok(Body::from_stream(
        ReceiverStream::new(chunks_rx).map(Ok::<_, Infallible>),
    ))
}

/// | state | a live match goes | room is used for |
/// |---|---|---|
/// | `replay` is set | to `missed` | the next page of the past |
/// | `missed` holds ids | to `missed` | the entries of those ids, in order |
/// | neither, outbox full | to `missed` | the outbox |
/// | neither | to the outbox | the outbox |
#[derive(Debug)]
struct Tail {
    shared: Arc<Shared>,
    filter: Filter,
    format: Format,
    live: broadcast::Receiver<Arc<Committed>>,
    /// The past still to be read.
    replay: Option<Replay>,
    /// Matches announced and not sent.
    missed: BTreeSet<EntryId>,
    /// Those of them that the running search asks for. It may not see what is missed while it runs.
    asked: BTreeSet<EntryId>,
    /// Commits were overwritten since the running search began, so what it does not see may never be announced.
    is_overrun: bool,
    /// Matches that will not be sent.
    n_skipped: u64,
    /// Commits that were overwritten and may have held late entries that are not read again.
    n_overwritten: u64,
    recent: Recent,
    /// Text being gathered; empty between calls.
    chunk: Vec<u8>,
    outbox: VecDeque<Bytes>,
    is_live_told: bool,
}

impl Tail {
    async fn run(mut self, chunks_tx: mpsc::Sender<Bytes>) {
        let stop = self.shared.stop.clone();
        let mut keep_alive = tokio::time::interval(KEEP_ALIVE_EVERY);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        keep_alive.reset();
        let error = loop {
            if !self.is_behind() {
                self.tell_state();
            }
            let has_work = !self.outbox.is_empty() || self.is_behind();
            tokio::select! {
                biased;
                () = stop.cancelled() => break Error::Stopping,
                () = chunks_tx.closed() => return,
                room = chunks_tx.reserve(), if has_work => {
                    let Ok(room) = room else { return };
                    if let Some(chunk) = self.outbox.pop_front() {
                        room.send(chunk);
                        continue;
                    }
                    drop(room);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => break Error::Stopping,
                        () = chunks_tx.closed() => return,
                        read = self.read() => if let Err(error) = read { break error },
                    }
                }
                announced = self.live.recv() => if let Err(error) = self.take(announced) { break error },
                _ = keep_alive.tick() => {
                    // No room means that something else keeps the connection busy.
                    if let Ok(room) = chunks_tx.try_reserve() {
                        room.send(Bytes::from_static(self.format.keep_alive()));
                    }
                }
            }
        };
        self.format.notice(
            &TailNotice::Ended {
                error: error.body(),
            },
            &mut self.chunk,
        );
        self.flush();
        // A client that does not even take this is gone.
        for chunk in self.outbox {
            if chunks_tx.send(chunk).await.is_err() {
                return;
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.replay.is_some() || !self.missed.is_empty() || !self.asked.is_empty()
    }

    /// Says, once all there is has been sent, that what follows is live, and what was left out.
    fn tell_state(&mut self) {
        if self.n_skipped > 0 {
            let entries = std::mem::take(&mut self.n_skipped);
            self.shared.metrics.tail_skipped.inc_by(entries);
            self.format
                .notice(&TailNotice::Skipped { entries }, &mut self.chunk);
        }
        if self.n_overwritten > 0 {
            let commits = std::mem::take(&mut self.n_overwritten);
            self.format
                .notice(&TailNotice::Overwritten { commits }, &mut self.chunk);
        }
        if !self.is_live_told {
            self.is_live_told = true;
            self.format.notice(&TailNotice::Live {}, &mut self.chunk);
        }
        self.flush();
    }

    /// Takes in a commit, or the news that commits were overwritten before they were taken in.
    fn take(&mut self, announced: Result<Arc<Committed>, RecvError>) -> Result<(), Error> {
        match announced {
            Ok(commit) => {
                for entry in &commit.entries {
                    let is_wanted = self.filter.from <= entry.timestamp
                        && entry.timestamp < self.filter.to
                        && !self.recent.contains(entry.id)
                        && self.filter.query.matches(entry);
                    if !is_wanted {
                        continue;
                    }
                    if !self.is_behind() && self.outbox.len() < OUTBOX_CHUNKS {
                        self.put(entry);
                    } else if self.missed.len() < MAX_MISSED {
                        self.missed.insert(entry.id);
                    } else {
                        self.n_skipped += 1;
                    }
                }
                self.flush();
                Ok(())
            }
            Err(RecvError::Lagged(n_commits)) => {
                tracing::warn!(n_commits, "tail fell behind the store; reading again");
                self.is_overrun = true;
                // Every id above the floor that was sent is still remembered, so nothing is sent twice.
                let floor = self.recent.floor();
                let replay = match self.replay {
                    Some(Replay::After(id)) => Replay::After(id.min(floor)),
                    Some(last @ (Replay::Last(_) | Replay::Back(..))) => last,
                    None => Replay::After(floor),
                };
                // Exact where nothing that matches can lie before what is read again.
                let is_exact = match replay {
                    Replay::After(id) => {
                        id == EntryId(i64::MIN) || id < EntryId::first_at(self.filter.from)
                    }
                    _ => false,
                };
                if !is_exact {
                    self.n_overwritten += n_commits;
                }
                self.replay = Some(replay);
                Ok(())
            }
            Err(RecvError::Closed) => Err(Error::Stopping),
        }
    }

    /// Reads the next page of what is still to be sent; takes in commits meanwhile.
    async fn read(&mut self) -> Result<(), Error> {
        let (order, limit, after, before) = match self.replay {
            Some(Replay::Last(n)) => (Order::NewestFirst, n, None, None),
            Some(Replay::Back(n, before)) => (Order::NewestFirst, n, None, Some(before)),
            Some(Replay::After(id)) => (Order::OldestFirst, PAGE, Some(id), None),
            None => {
                self.asked = std::mem::take(&mut self.missed);
                let (Some(first), Some(last)) = (self.asked.first(), self.asked.last()) else {
                    return Ok(());
                };
                (
                    Order::OldestFirst,
                    PAGE,
                    Some(EntryId(first.0.saturating_sub(1))),
                    Some(EntryId(last.0.saturating_add(1))),
                )
            }
        };
        self.is_overrun = false;
        let asked_for = self.replay;
        let page = {
            let shared = Arc::clone(&self.shared);
            let request = SearchRequest {
                filter: self.filter.clone(),
                order,
                limit,
                after,
                before,
            };
            let search = async move {
                shared
                    .ask(Asked::Search, shared.store.search(&request))
                    .await
            };
            tokio::pin!(search);
            loop {
                tokio::select! {
                    biased;
                    page = &mut search => break page?,
                    announced = self.live.recv() => self.take(announced)?,
                }
            }
        };
        self.add(page, asked_for);
        Ok(())
    }

    /// Sends the page that was read for `asked_for`, and moves on to what comes behind it.
    fn add(&mut self, mut page: SearchPage, asked_for: Option<Replay>) {
        let last = page.entries.last().map(|entry| entry.id);
        match asked_for {
            Some(Replay::Last(n) | Replay::Back(n, _))
                if page.has_more && page.entries.len() < n && last.is_some() =>
            {
                self.replay = last.map(|last| Replay::Back(n - page.entries.len(), last));
            }
            Some(Replay::Back(_, before)) => {
                let first = last.unwrap_or(before);
                self.replay = Some(Replay::After(EntryId(first.0.saturating_sub(1))));
            }
            Some(Replay::Last(_)) => {
                page.entries.reverse();
                self.put_all(&page.entries);
                self.replay = self.is_overrun.then(|| Replay::After(self.recent.floor()));
            }
            Some(Replay::After(_)) => {
                self.put_all(&page.entries);
                if !self.is_overrun {
                    self.replay = last.filter(|_| page.has_more).map(Replay::After);
                }
            }
            None => {
                for entry in &page.entries {
                    if self.asked.remove(&entry.id) {
                        self.put(entry);
                    }
                }
                self.flush();
                // What the page passed over was deleted; what lies behind it is asked for next.
                self.asked = match last.filter(|_| page.has_more) {
                    Some(last) => self.asked.split_off(&EntryId(last.0.saturating_add(1))),
                    None => BTreeSet::new(),
                };
                self.missed.append(&mut self.asked);
            }
        }
    }

    fn put_all(&mut self, entries: &[LogEntry]) {
        for entry in entries {
            self.missed.remove(&entry.id);
            if !self.recent.contains(entry.id) {
                self.put(entry);
            }
        }
        self.flush();
    }

    fn put(&mut self, entry: &LogEntry) {
        self.recent.insert(entry.id);
        self.format.entry(entry, &mut self.chunk);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.chunk.is_empty() {
            self.outbox
                .push_back(std::mem::take(&mut self.chunk).into());
        }
    }
}
