//! Brings it together: notices come in without waiting, the desk decides, lanes deliver.

use std::{sync::Arc, time::Duration};

use rustls::RootCertStore;
use tawny_runtime::{CancellationToken, SharedClock};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Error, Notice, Outgoing, Settings,
    deliver::{Dial, Lane, Network, Queue, Writer, outlets},
    desk::{Alert, Delivery, Desk, Parcel},
    metrics::{Fate, NotifyMetrics, ReceiverKind, Taken},
};

/// Notices not looked at yet: 1,024 × 3 KiB as a rule = 3 MiB.
const MAX_INBOX: usize = 1_024;

/// Notices taken between two looks at the clock.
const MAX_BATCH: usize = 32;

/// Time for what is left when the process ends: less than a fourth of the supervisor's 10 s.
pub const GRACE: Duration = Duration::from_secs(2);

/// The only way in; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    notices_tx: mpsc::Sender<Notice>,
    metrics: NotifyMetrics,
}

impl Handle {
    /// Hands over a notice and never waits. When the inbox is full the notice is dropped and counted; whether it was
    /// taken.
    pub fn push_or_drop_newest(&self, notice: Notice) -> bool {
        let is_taken = self.notices_tx.try_send(notice).is_ok();
        if !is_taken {
            self.metrics.taken(Taken::dropped);
        }
        is_taken
    }
}

/// Tells people. Made once; [`Self::run`] is its task.
#[derive(Debug)]
pub struct Notifier {
    desk: Desk,
    /// For each receiver, its places.
    lanes: Vec<Vec<Lane>>,
    handle: Handle,
    notices_rx: mpsc::Receiver<Notice>,
    metrics: NotifyMetrics,
}

impl Notifier {
    /// `roots` vouch for the certificates of services; receivers of kind `stdout` write to `stdout`. Opens nothing yet.
    pub fn new(
        settings: &Settings,
        roots: RootCertStore,
        stdout: Writer,
        clock: SharedClock,
        metrics: NotifyMetrics,
    ) -> Self {
        Self::with_dial(
            settings,
            Arc::new(Network::new(roots)),
            stdout,
            clock,
            metrics,
        )
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "a clock is handed over, as in `new`"
    )]
    pub(crate) fn with_dial(
        settings: &Settings,
        dial: Arc<dyn Dial>,
        stdout: Writer,
        clock: SharedClock,
        metrics: NotifyMetrics,
    ) -> Self {
        let stdout = Arc::new(Mutex::new(stdout));
        let mut seed = clock.now().as_nanos().unsigned_abs();
        let lanes = (settings.receivers.iter())
            .map(|receiver| {
                (outlets(&receiver.to, &dial, &stdout, &clock).into_iter())
                    .map(|outlet| {
                        seed = seed.wrapping_add(1_000_003);
                        Lane {
                            receiver: receiver.name.as_str().into(),
                            kind: ReceiverKind::from(&receiver.to),
                            outlet: Arc::new(outlet),
                            queue: Arc::new(Queue::default()),
                            give_up_after: settings.give_up_after,
                            metrics: metrics.clone(),
                            seed,
                        }
                    })
                    .collect()
            })
            .collect();
        let (notices_tx, notices_rx) = mpsc::channel(MAX_INBOX);
        Self {
            desk: Desk::new(settings),
            lanes,
            handle: Handle {
                notices_tx,
                metrics: metrics.clone(),
            },
            notices_rx,
            metrics,
        }
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Sends one notice to one receiver at once and tells what came of it, for a command that tries the settings.
    ///
    /// # Errors
    /// As the service answers; of several instances of an Alertmanager, the first that failed.
    pub async fn notify_once(&self, receiver: &str, notice: &Notice) -> Result<(), Error> {
        let lanes = (self.lanes.iter()).find(|lanes| {
            lanes
                .first()
                .is_some_and(|lane| &*lane.receiver == receiver)
        });
        let Some(lanes) = lanes else {
            let known = self.lanes.iter().flat_map(|lanes| lanes.first());
            return Err(Error::UnknownReceiver {
                name: receiver.to_owned(),
                known: known.map(|lane| lane.receiver.to_string()).collect(),
            });
        };
        let outgoing = Outgoing::new(notice.clone());
        self.metrics.masked(outgoing.n_secrets());
        let notice = Arc::new(outgoing);
        let mut outcome = Ok(());
        for lane in lanes {
            let parcel = match lane.kind {
                ReceiverKind::alertmanager => {
                    let is_over = notice.kind == crate::Kind::Resolved;
                    let notice = Arc::clone(&notice);
                    Parcel::Alerts(Arc::new([Alert { notice, is_over }]))
                }
                _ => Parcel::Message(Arc::clone(&notice)),
            };
            outcome = outcome.and(lane.outlet.send(&parcel).await);
        }
        outcome
    }

    /// Tells until `stop` fires; then sends what waits, for at most [`GRACE`].
    ///
    /// # Errors
    /// `StandDown` when a worker ended by itself, which only a bug can make it do.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let closing = CancellationToken::new();
        let mut workers = JoinSet::new();
        for lane in self.lanes.iter().flatten() {
            workers.spawn(lane.clone().work(closing.clone()));
        }
        let mut batch = Vec::new();
        loop {
            let next_due = self.desk.next_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = workers.join_next() => {
                    let reason = ended.map_or_else(|error| error.to_string(), |()| "it returned".to_owned());
                    return Err(Error::WorkerEnded { reason });
                }
                _n_taken = self.notices_rx.recv_many(&mut batch, MAX_BATCH) => {}
                () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() => {}
            }
            for notice in batch.drain(..) {
                self.take(notice);
                // Masking a long notice takes a while; others may want this thread.
                tokio::task::yield_now().await;
            }
            let now = Instant::now();
            let due = self.desk.due(now);
            self.hand_over(due, now);
        }
        while let Ok(notice) = self.notices_rx.try_recv() {
            self.take(notice);
        }
        let now = Instant::now();
        let left = self.desk.flush(now);
        self.hand_over(left, now);
        closing.cancel();
        let finish = async { while workers.join_next().await.is_some() {} };
        if timeout(GRACE, finish).await.is_err() {
            workers.shutdown().await;
            self.count_left();
        }
        Ok(())
    }

    fn take(&mut self, notice: Notice) {
        let outgoing = Outgoing::new(notice);
        self.metrics.masked(outgoing.n_secrets());
        let taken = match self.desk.take(outgoing, Instant::now()) {
            0 => Taken::unrouted,
            _ => Taken::routed,
        };
        self.metrics.taken(taken);
    }

    fn hand_over(&self, deliveries: Vec<Delivery>, now: Instant) {
        for Delivery { receiver, parcel } in deliveries {
            for lane in self.lanes.get(receiver).into_iter().flatten() {
                lane.push(parcel.clone(), now);
            }
        }
    }

    /// What the time left was too short for.
    fn count_left(&self) {
        for lane in self.lanes.iter().flatten() {
            let n_left = lane.queue.n_left();
            if n_left > 0 {
                self.metrics.messages(lane.kind, Fate::cut_off, n_left);
                tracing::error!(receiver = %lane.receiver, n_left, "messages not delivered before the end");
            }
        }
    }
}

#[cfg(test)]
mod tests;
