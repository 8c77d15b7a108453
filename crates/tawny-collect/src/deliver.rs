//! Carries batches from all lanes to the sink: grouped into calls, in order per stream, again until answered.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tawny_model::{Batch, Entries, Gap, GapReason, Output, Remedy};
use tawny_runtime::Backoff;
use tawny_store::Written;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Intake, Refusal, SinkError,
    intake::{ErrorChain, Held, LaneState, RETRY_FIRST, RETRY_LONGEST, Shared},
    metrics::{DeliveryResult, LostReason},
};

/// How batches are grouped into calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverSettings {
    /// A call is closed at this many bytes of memory; a single larger batch goes alone.
    pub call_bytes: usize,
    /// A call is closed at this many lines (KL-24).
    pub call_lines: usize,
    /// Longest wait for more batches when the sink is idle (KL-24); a call that is full goes at once.
    pub linger: Duration,
    /// Calls under way at once; the batches of one stream are in one of them.
    pub calls_in_flight: usize,
    /// Longest time spent after a stop on handing on what was read (KL-28).
    pub drain: Duration,
}

impl Default for DeliverSettings {
    fn default() -> Self {
        Self {
            // Encoded, a batch is smaller than in memory: half of gRPC's customary limit of 4 MiB.
            call_bytes: 2 << 20,
            call_lines: 50_000,
            linger: Duration::from_millis(10),
            calls_in_flight: 4,
            drain: Duration::from_secs(30),
        }
    }
}

/// The one consumer of an [`Intake`].
#[derive(Debug)]
pub struct Deliverer {
    shared: Arc<Shared>,
    settings: DeliverSettings,
}

/// Batches of several lanes, in one sink call.
#[derive(Debug, Default)]
struct Call {
    batches: Vec<Batch>,
    parts: Vec<Part>,
    bytes: usize,
    n_lines: usize,
}

/// The batches of one lane within a call.
#[derive(Debug)]
struct Part {
    lane: Arc<LaneState>,
    n_batches: usize,
    bytes: usize,
    permit: OwnedSemaphorePermit,
}

impl Deliverer {
    pub fn new(intake: &Intake, settings: DeliverSettings) -> Self {
        Self {
            shared: Arc::clone(&intake.shared),
            settings,
        }
    }

    /// Delivers until `stop` fires, then what is left, for at most [`DeliverSettings::drain`].
    ///
    /// # Errors
    /// `StandDown` when the sink says so; `Retry` when the drain took too long: what was not acknowledged is read again
    /// at the next start.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let result = self.deliver_until(stop).await;
        // Whoever still waits to send must not wait for ever.
        self.shared.budget.close();
        result
    }

    async fn deliver_until(&self, stop: CancellationToken) -> Result<(), Error> {
        let mut calls = FuturesUnordered::new();
        let mut deadline: Option<Instant> = None;
        let mut linger_until: Option<Instant> = None;
        loop {
            let is_stopping = deadline.is_some();
            while calls.len() < self.settings.calls_in_flight.max(1) && self.shared.has_ready() {
                let is_due = is_stopping
                    || self.shared.queued_bytes() >= self.settings.call_bytes
                    || *linger_until.get_or_insert_with(|| Instant::now() + self.settings.linger)
                        <= Instant::now();
                if !is_due {
                    break;
                }
                linger_until = None;
                calls.push(self.carry(self.take()));
            }
            if is_stopping && calls.is_empty() && !self.shared.has_ready() {
                return Ok(());
            }
            let is_full = calls.len() >= self.settings.calls_in_flight.max(1);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !is_stopping => deadline = Some(Instant::now() + self.settings.drain),
                Some(done) = calls.next() => self.settle(done?),
                () = self.shared.work.notified(), if !is_full => {}
                () = sleep_until(linger_until), if !is_full && linger_until.is_some() => {}
                () = sleep_until(deadline), if is_stopping => {
                    return Err(Error::NotDelivered {
                        n_batches: self.shared.n_queued() + calls.len(),
                        bytes: self.shared.budget_bytes - self.shared.budget.available_permits(),
                        waited: self.settings.drain,
                    });
                }
            }
        }
    }

    /// Takes batches off the ready lanes, whole lanes in turn, until the call is full.
    fn take(&self) -> Call {
        let mut call = Call::default();
        while call.bytes < self.settings.call_bytes && call.n_lines < self.settings.call_lines {
            let Some(lane) = self.shared.pop_ready() else {
                break;
            };
            let mut pending = lane.lock();
            let mut part: Option<Part> = None;
            while let Some(next) = pending.batches.front() {
                let is_over = call.bytes + next.bytes > self.settings.call_bytes
                    || call.n_lines + next.batch.entries.len() > self.settings.call_lines;
                if is_over && !call.batches.is_empty() {
                    break;
                }
                let Some(Held {
                    batch,
                    bytes,
                    permit,
                }) = pending.batches.pop_front()
                else {
                    break;
                };
                call.bytes += bytes;
                call.n_lines += batch.entries.len();
                call.batches.push(batch);
                match &mut part {
                    Some(part) => {
                        part.n_batches += 1;
                        part.bytes += bytes;
                        part.permit.merge(permit);
                    }
                    None => {
                        part = Some(Part {
                            lane: Arc::clone(&lane),
                            n_batches: 1,
                            bytes,
                            permit,
                        });
                    }
                }
            }
            match part {
                Some(part) => {
                    drop(pending);
                    self.shared.sub_queued(part.n_batches, part.bytes);
                    call.parts.push(part);
                }
                None if pending.batches.is_empty() => pending.is_scheduled = false,
                None => {
                    // No room in this call: first in the next.
                    drop(pending);
                    self.shared.schedule_first(lane);
                    break;
                }
            }
        }
        call
    }

    /// Offers the call to the sink until it answers for every batch.
    async fn carry(&self, mut call: Call) -> Result<(Call, Vec<Written>), Error> {
        let answers = match self.offer(&call.batches).await {
            Err(error) if error.remedy == Remedy::Reject => {
                self.carry_singly(&mut call.batches).await?
            }
            answers => answers?,
        };
        Ok((call, answers))
    }

    /// Finds the batches a sink can never take by offering each alone, and puts gap records in their place.
    async fn carry_singly(&self, batches: &mut [Batch]) -> Result<Vec<Written>, Error> {
        let mut answers = Vec::with_capacity(batches.len());
        for batch in batches {
            let one = match self.offer(std::slice::from_ref(batch)).await {
                Err(error) if error.remedy == Remedy::Reject => {
                    let n_lines = batch.entries.len() as u64;
                    tracing::error!(stream = %batch.stream.id, n_lines, error = %ErrorChain(&error), "sink refuses lines for good; a gap record takes their place");
                    self.shared.metrics.lost(LostReason::refused, n_lines);
                    self.shared.metrics.delivered(DeliveryResult::refused, 1);
                    batch.entries = refused_gap(batch);
                    self.offer(std::slice::from_ref(batch)).await?
                }
                answers => answers?,
            };
            answers.extend(one);
        }
        Ok(answers)
    }

    /// Calls the sink, again with backoff while it does not answer. Comes back with `Reject` and `StandDown` only.
    async fn offer(&self, batches: &[Batch]) -> Result<Vec<Written>, SinkError> {
        let seed =
            self.shared.writer.0 ^ batches.first().map_or(0, |batch| batch.stream.id.key().0);
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, seed);
        loop {
            self.shared.metrics.sink_calls.inc();
            match self.shared.sink.deliver(batches).await {
                Ok(answers) if answers.len() == batches.len() => return Ok(answers),
                Ok(answers) => {
                    return Err(SinkError {
                        sink: "sink".to_owned(),
                        remedy: Remedy::StandDown,
                        source: format!("{} answers to {} batches", answers.len(), batches.len())
                            .into(),
                    });
                }
                Err(error) => match error.remedy {
                    Remedy::Reject | Remedy::StandDown => return Err(error),
                    Remedy::Retry | Remedy::Quarantine => {
                        let delay = backoff.next_delay();
                        self.shared
                            .metrics
                            .delivered(DeliveryResult::retried, batches.len() as u64);
                        tracing::warn!(error = %ErrorChain(&error), ?delay, n_batches = batches.len(), "sink did not take batches");
                        tokio::time::sleep(delay).await;
                    }
                },
            }
        }
    }

    /// Passes the answers on to the lanes and gives the call's share of the budget back.
    fn settle(&self, (call, answers): (Call, Vec<Written>)) {
        let mut answers = answers.into_iter();
        for Part {
            lane,
            n_batches,
            bytes,
            permit,
        } in call.parts
        {
            let mut refusal = None;
            for answer in answers.by_ref().take(n_batches) {
                let result = match answer {
                    Written::New { end, .. } => {
                        lane.ack(end);
                        DeliveryResult::new
                    }
                    Written::Duplicate { end } => {
                        lane.ack(end);
                        DeliveryResult::duplicate
                    }
                    Written::Gap { committed } => {
                        tracing::warn!(stream = %lane.id, %committed, "sink has less of the stream than was sent; it is read again from there");
                        refusal.get_or_insert(Refusal::Gap);
                        DeliveryResult::gap
                    }
                    Written::Fenced => {
                        tracing::warn!(stream = %lane.id, "another writer took the stream over");
                        refusal.get_or_insert(Refusal::Fenced);
                        DeliveryResult::fenced
                    }
                };
                self.shared.metrics.delivered(result, 1);
            }
            drop(permit);
            self.shared.metrics.queue_bytes.dec_by(bytes as u64);
            if let Some(refusal) = refusal {
                let dropped = lane.refuse(refusal);
                let dropped_bytes = dropped.iter().map(|held| held.bytes).sum::<usize>();
                self.shared.sub_queued(dropped.len(), dropped_bytes);
                self.shared.metrics.queue_bytes.dec_by(dropped_bytes as u64);
                self.shared.refusals.send_modify(|n| *n += 1);
            }
            let mut pending = lane.lock();
            if pending.batches.is_empty() {
                pending.is_scheduled = false;
                // A quiet stream keeps no queue.
                pending.batches = VecDeque::new();
            } else {
                drop(pending);
                self.shared.schedule(lane);
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One record that says the batch's lines are missing.
fn refused_gap(batch: &Batch) -> Entries {
    let gap = Gap {
        from: batch.start,
        to: batch.end,
        reason: GapReason::Refused,
    };
    let timestamp = batch
        .entries
        .get(0)
        .map(|entry| entry.timestamp())
        .unwrap_or_default();
    let attributes = gap.attributes();
    let mut entries = Entries::default();
    entries
        .push(
            timestamp,
            Gap::SEVERITY,
            Output::Stdout,
            &gap.message(),
            attributes.iter().map(|(key, value)| (*key, value.as_str())),
            batch.end,
        )
        .expect("one short record fits");
    entries
}

impl Shared {
    fn has_ready(&self) -> bool {
        !self
            .ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    fn pop_ready(&self) -> Option<Arc<LaneState>> {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    fn schedule_first(&self, lane: Arc<LaneState>) {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_front(lane);
    }
}

#[cfg(test)]
mod tests;
