//! What a source is given: streams to resume, lanes to send batches into, and the world it may look at.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tawny_model::{Batch, Position, Remedy, StreamEnd, StreamId, WriterId};
use tawny_runtime::{Backoff, SharedClock};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::{Error, Metadata, Selection, Sink, metrics::SharedMetrics};

/// First and longest wait between attempts at an unanswering sink (KL-41).
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(200);
pub(crate) const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What a batch costs in the budget besides its entries: queue slots, stream handle, rounding up.
const BATCH_OVERHEAD_BYTES: usize = 512;

/// The way from sources to the deliverer; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Intake {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) writer: WriterId,
    pub(crate) cluster: Arc<str>,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: SharedMetrics,
    pub(crate) selection: Arc<Selection>,
    pub(crate) metadata: Arc<dyn Metadata>,
    /// Bytes that may be read and not yet acknowledged; batches hold permits of it until then.
    pub(crate) budget: Arc<Semaphore>,
    pub(crate) budget_bytes: usize,
    pub(crate) ready: Mutex<VecDeque<Arc<LaneState>>>,
    /// Batches in lanes and not in a call, and their bytes.
    n_queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    /// Something became ready for the deliverer.
    pub(crate) work: Notify,
    /// Some lane was refused.
    pub(crate) refusals: watch::Sender<u64>,
}

/// Everything an [`Intake`] is made of.
#[derive(Debug)]
pub struct IntakeParts {
    /// Random at each start of the process.
    pub writer: WriterId,
    /// Empty where there is only one.
    pub cluster: Arc<str>,
    pub sink: Arc<dyn Sink>,
    pub clock: SharedClock,
    pub metrics: SharedMetrics,
    pub selection: Arc<Selection>,
    pub metadata: Arc<dyn Metadata>,
    /// Most bytes of memory read and not yet acknowledged.
    pub bytes_in_flight: usize,
}

impl Intake {
    pub fn new(parts: IntakeParts) -> Self {
        let IntakeParts {
            writer,
            cluster,
            sink,
            clock,
            metrics,
            selection,
            metadata,
            bytes_in_flight,
        } = parts;
        let budget_bytes = bytes_in_flight.clamp(1, u32::MAX as usize);
        Self {
            shared: Arc::new(Shared {
                writer,
                cluster,
                sink,
                clock,
                metrics,
                selection,
                metadata,
                budget: Arc::new(Semaphore::new(budget_bytes)),
                budget_bytes,
                ready: Mutex::default(),
                n_queued: AtomicUsize::new(0),
                queued_bytes: AtomicUsize::new(0),
                work: Notify::new(),
                refusals: watch::Sender::new(0),
            }),
        }
    }

    pub fn writer(&self) -> WriterId {
        self.shared.writer
    }

    /// The cluster's name for stream ids; empty where there is only one.
    pub fn cluster(&self) -> &Arc<str> {
        &self.shared.cluster
    }

    pub fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }

    pub fn metrics(&self) -> &SharedMetrics {
        &self.shared.metrics
    }

    pub fn selection(&self) -> &Arc<Selection> {
        &self.shared.selection
    }

    pub fn metadata(&self) -> &Arc<dyn Metadata> {
        &self.shared.metadata
    }

    /// Takes the streams over and opens a lane for each, in order; asks again with backoff while the sink does not answer.
    ///
    /// A lane starts where the sink's copy ends. A stream has one lane at a time: drop the old one first.
    ///
    /// CANCEL-SAFE: taking a stream over twice is the same as once.
    ///
    /// # Errors
    /// What the sink says can never work: `Reject`, `StandDown`.
    pub async fn resume(&self, streams: &[StreamId]) -> Result<Vec<Lane>, Error> {
        if streams.is_empty() {
            return Ok(Vec::new());
        }
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, self.shared.writer.0);
        let ends = loop {
            match self.shared.sink.resume(self.shared.writer, streams).await {
                Ok(ends) => break ends,
                Err(error) if error.remedy == Remedy::Retry => {
                    let delay = backoff.next_delay();
                    tracing::warn!(error = %ErrorChain(&error), ?delay, n_streams = streams.len(), "sink did not say how far streams are stored");
                    tokio::time::sleep(delay).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok(streams
            .iter()
            .zip(ends)
            .map(|(id, end)| Lane {
                state: Arc::new(LaneState {
                    id: id.clone(),
                    end,
                    acked: AtomicU64::new(end.unwrap_or_default().end.0),
                    refusal: AtomicU8::new(NOT_REFUSED),
                    refused: Notify::new(),
                    pending: Mutex::default(),
                }),
                shared: Arc::clone(&self.shared),
            })
            .collect())
    }

    /// Counts refused lanes, of all sources; one that has many lanes looks at all of its own when the number changes.
    pub fn refusals(&self) -> watch::Receiver<u64> {
        self.shared.refusals.subscribe()
    }
}

/// Why batches of a lane are no longer taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The sink's copy ends before what was sent: resume the stream and send from there.
    Gap,
    /// Another writer took the stream over: resume it after a while, or stop.
    Fenced,
}

const NOT_REFUSED: u8 = 0;
const REFUSED_GAP: u8 = 1;
const REFUSED_FENCED: u8 = 2;

/// One stream's way to the sink, in order, from one resume to the next.
///
/// Dropping it loses nothing: what was sent is still delivered.
#[derive(Debug)]
pub struct Lane {
    pub(crate) state: Arc<LaneState>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct LaneState {
    pub(crate) id: StreamId,
    end: Option<StreamEnd>,
    acked: AtomicU64,
    refusal: AtomicU8,
    refused: Notify,
    pub(crate) pending: Mutex<Pending>,
}

/// Batches of a lane on their way.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) batches: VecDeque<Held>,
    /// In the ready queue or in a sink call: nobody else may take from this lane.
    pub(crate) is_scheduled: bool,
}

/// A batch and its share of the budget.
pub(crate) struct Held {
    pub(crate) batch: Batch,
    pub(crate) bytes: usize,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("start", &self.batch.start)
            .field("end", &self.batch.end)
            .finish_non_exhaustive()
    }
}

impl Lane {
    pub fn id(&self) -> &StreamId {
        &self.state.id
    }

    /// How far the stream was stored when it was resumed; `None` for a stream never seen.
    pub fn end(&self) -> Option<StreamEnd> {
        self.state.end
    }

    /// How far the stream is known to be stored now.
    pub fn acked(&self) -> Position {
        Position(self.state.acked.load(Relaxed))
    }

    /// Why batches are no longer taken, if so.
    pub fn refusal(&self) -> Option<Refusal> {
        self.state.refusal()
    }

    /// Waits until batches are no longer taken.
    pub async fn refused(&self) -> Refusal {
        loop {
            let notified = self.state.refused.notified();
            if let Some(refusal) = self.refusal() {
                return refusal;
            }
            notified.await;
        }
    }

    /// Hands a batch on; waits while too many bytes are unacknowledged. A batch of a refused lane is dropped: its
    /// stream is resumed and read again.
    ///
    /// CANCEL-SAFE: a cancelled call has not handed the batch on, and the caller must resume the stream.
    ///
    /// # Errors
    /// `StandDown` when the deliverer has ended.
    pub async fn send(&self, batch: Batch) -> Result<(), Error> {
        let bytes =
            (batch.entries.memory_bytes() + BATCH_OVERHEAD_BYTES).min(self.shared.budget_bytes);
        let n_permits = u32::try_from(bytes).expect("the budget is clamped to u32");
        let permit = Arc::clone(&self.shared.budget)
            .acquire_many_owned(n_permits)
            .await
            .map_err(|_| Error::Closed)?;
        self.shared.metrics.queue_bytes.inc_by(bytes as u64);
        let mut pending = self.state.lock();
        // Asked under the lock that a refusal empties the queue under, so nothing stays behind in it.
        if self.refusal().is_some() {
            self.shared.metrics.queue_bytes.dec_by(bytes as u64);
            return Ok(());
        }
        pending.batches.push_back(Held {
            batch,
            bytes,
            permit,
        });
        self.shared.n_queued.fetch_add(1, Relaxed);
        self.shared.queued_bytes.fetch_add(bytes, Relaxed);
        if !pending.is_scheduled {
            pending.is_scheduled = true;
            drop(pending);
            self.shared.schedule(Arc::clone(&self.state));
        }
        Ok(())
    }
}

impl Shared {
    /// Queues a lane for the deliverer. Lanes are in the queue at most once, so its length is bounded by their number.
    pub(crate) fn schedule(&self, lane: Arc<LaneState>) {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(lane);
        self.work.notify_one();
    }

    pub(crate) fn n_queued(&self) -> usize {
        self.n_queued.load(Relaxed)
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Relaxed)
    }

    pub(crate) fn sub_queued(&self, n_batches: usize, bytes: usize) {
        self.n_queued.fetch_sub(n_batches, Relaxed);
        self.queued_bytes.fetch_sub(bytes, Relaxed);
    }
}

impl LaneState {
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self) -> Option<Refusal> {
        match self.refusal.load(Acquire) {
            NOT_REFUSED => None,
            REFUSED_GAP => Some(Refusal::Gap),
            _ => Some(Refusal::Fenced),
        }
    }

    pub(crate) fn ack(&self, end: Position) {
        self.acked.fetch_max(end.0, Relaxed);
    }

    /// Closes the lane and answers what was still queued in it, to be dropped.
    pub(crate) fn refuse(&self, refusal: Refusal) -> VecDeque<Held> {
        let mut pending = self.lock();
        let code = match refusal {
            Refusal::Gap => REFUSED_GAP,
            Refusal::Fenced => REFUSED_FENCED,
        };
        self.refusal.store(code, Release);
        let dropped = std::mem::take(&mut pending.batches);
        drop(pending);
        self.refused.notify_waiters();
        dropped
    }
}

/// An error with its causes on one line.
pub(crate) struct ErrorChain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
