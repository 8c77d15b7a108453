//! What every engine's thread of writing shares: what it is asked to store, what it answers, and how it is reached.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tawny_model::{Admission, Batch, LogEntry, StreamEnd};
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Written, metrics::Metrics};

/// Calls that wait for the writer. A caller waits for a place, so memory is bounded by 64 requests of the size the
/// server admits (4 MiB each: 256 MiB at worst, and only while the disk is stuck).
const WRITE_QUEUE: usize = 64;

/// Transactions a slow subscriber may fall behind: 32 × 4 MiB of text = 128 MiB at worst.
pub(crate) const COMMITTED_QUEUE: usize = 32;

/// Text that one transaction gathers from waiting writers before it commits: long enough to share the cost of an
/// fsync, short enough (tens of milliseconds) that the first of them does not wait for long.
pub(crate) const GROUP_TEXT_BYTES: usize = 4 << 20;

/// A stream's time of writing is brought forward in steps of an hour where nothing else of it changes.
pub(crate) const WRITTEN_STEP_NS: i64 = 3_600 * 1_000_000_000;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(crate) fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    // A caller that went away needs no answer; what it asked for is done.
    drop(reply.send(result));
}

/// Lines to store.
pub(crate) enum Input {
    Batches(Vec<Batch>),
    Entries(Vec<LogEntry>),
}

/// What became of an [`Input`], in kind.
pub(crate) enum Stored {
    Batches(Vec<Written>),
    Entries(u64),
}

impl Input {
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Self::Batches(batches) => batches.iter().map(|batch| batch.entries.text_bytes()).sum(),
            Self::Entries(entries) => entries.iter().map(|entry| entry.message.len()).sum(),
        }
    }
}

/// The way to the thread that writes; `C` is what it can be asked.
#[derive(Debug)]
pub(crate) struct ToWriter<C> {
    /// `None` only while the store is being dropped.
    commands_tx: Option<mpsc::Sender<C>>,
}

impl<C> ToWriter<C> {
    pub(crate) fn new() -> (Self, mpsc::Receiver<C>) {
        let (commands_tx, commands_rx) = mpsc::channel(WRITE_QUEUE);
        let commands_tx = Some(commands_tx);
        (Self { commands_tx }, commands_rx)
    }

    /// Hands a command over and waits for its answer.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> C) -> Result<T, Error> {
        let (reply_tx, reply_rx) = oneshot::channel();
        let commands_tx = self.commands_tx.as_ref().ok_or(Error::Closed)?;
        commands_tx
            .send(command(reply_tx))
            .await
            .map_err(|_| Error::Closed)?;
        reply_rx.await.map_err(|_| Error::Closed)?
    }

    /// Hands batches over, by the command that stores.
    pub(crate) async fn store_batches(
        &self,
        batches: Vec<Batch>,
        metrics: &Metrics,
        command: impl FnOnce(Input, Reply<Stored>) -> C,
    ) -> Result<Vec<Written>, Error> {
        metrics.writes_pushed.inc();
        let input = Input::Batches(batches);
        match self.ask(|reply| command(input, reply)).await? {
            Stored::Batches(written) => Ok(written),
            Stored::Entries(_) => Err(Error::Closed),
        }
    }

    /// Hands entries without positions over, by the command that stores.
    pub(crate) async fn store_entries(
        &self,
        entries: Vec<LogEntry>,
        metrics: &Metrics,
        command: impl FnOnce(Input, Reply<Stored>) -> C,
    ) -> Result<u64, Error> {
        metrics.writes_pushed.inc();
        let input = Input::Entries(entries);
        match self.ask(|reply| command(input, reply)).await? {
            Stored::Entries(n_new) => Ok(n_new),
            Stored::Batches(_) => Err(Error::Closed),
        }
    }

    /// Completes when the thread has died of a fault of its own.
    pub(crate) async fn died(&self) {
        match &self.commands_tx {
            // The writer lets go of its end only when it panics, as long as this one is held.
            Some(commands_tx) => commands_tx.closed().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn downgrade(&self) -> Option<mpsc::WeakSender<C>> {
        self.commands_tx.as_ref().map(mpsc::Sender::downgrade)
    }

    /// Lets the thread end once it has done what it was asked.
    pub(crate) fn close(&mut self) {
        self.commands_tx = None;
    }
}

/// What is to be done with a batch.
pub(crate) enum Sorted {
    /// Store what follows the first `skip` entries.
    New { skip: usize },
    /// Nothing.
    Answered(Written),
}

/// Batches by what became of them, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) new: u64,
    duplicate: u64,
    gap: u64,
    fenced: u64,
    pub(crate) repeated_entries: u64,
}

impl Results {
    /// Counts a batch and says what to do with it.
    pub(crate) fn sort(&mut self, admission: Admission, committed: Option<StreamEnd>) -> Sorted {
        Sorted::Answered(match admission {
            Admission::New { skip } => {
                self.new += 1;
                return Sorted::New { skip };
            }
            Admission::Duplicate => {
                self.duplicate += 1;
                let end = committed.unwrap_or_default().end;
                Written::Duplicate { end }
            }
            Admission::Gap { committed } => {
                self.gap += 1;
                Written::Gap { committed }
            }
            Admission::Fenced => {
                self.fenced += 1;
                Written::Fenced
            }
        })
    }

    pub(crate) fn tell(&self, metrics: &Metrics) {
        let Self {
            new,
            duplicate,
            gap,
            fenced,
            repeated_entries,
        } = *self;
        metrics.admitted(new, duplicate, gap, fenced, repeated_entries);
    }
}

/// Locks; a thread that panicked while it held the lock left nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
