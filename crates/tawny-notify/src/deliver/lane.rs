//! The worker of one place: takes what waits, tries until it is there, and gives up in time.

use std::{sync::Arc, time::Duration};

use tawny_model::Remedy;
use tawny_runtime::{Backoff, CancellationToken};
use tokio::time::{Instant, sleep};

use super::{Item, Outlet, Queue, queue::Displaced};
use crate::{
    Error,
    desk::Parcel,
    metrics::{Fate, NotifyMetrics, ReceiverKind},
};

/// Waits between tries: from the first to the longest, unless the service asks for more.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A place, what waits for it, and how its messages are counted.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) receiver: Arc<str>,
    pub(crate) kind: ReceiverKind,
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) give_up_after: Duration,
    pub(crate) metrics: NotifyMetrics,
    /// Varies the waits between places.
    pub(crate) seed: u64,
}

impl Lane {
    /// Puts a parcel into the queue; never waits.
    pub(crate) fn push(&self, parcel: Parcel, now: Instant) {
        self.metrics.queued(self.kind);
        let item = Item {
            parcel,
            due_since: now,
        };
        match self.queue.push_or_drop_oldest(item) {
            None => {}
            Some(Displaced::Superseded) => self.count(Fate::superseded),
            Some(Displaced::Overflowed) => {
                self.count(Fate::overflowed);
                tracing::warn!(receiver = %self.receiver, "queue of messages full, the oldest dropped");
            }
        }
    }

    /// Delivers until `closing` fires and nothing is left. From then on each message is tried once more.
    pub(crate) async fn work(self, closing: CancellationToken) {
        let mut is_failing = false;
        loop {
            let Some(item) = self.queue.pop() else {
                if closing.is_cancelled() {
                    return;
                }
                tokio::select! {
                    biased;
                    () = self.queue.changed.notified() => {}
                    () = closing.cancelled() => {}
                }
                continue;
            };
            let fate = self.deliver(&item, &closing, &mut is_failing).await;
            self.count(fate);
            self.queue.done();
            if fate == Fate::sent {
                let waited = item.due_since.elapsed();
                self.metrics.delivered(self.kind, waited.as_secs_f64());
                tokio::select! {
                    biased;
                    () = closing.cancelled() => {}
                    () = sleep(self.outlet.pause()) => {}
                }
            }
        }
    }

    async fn deliver(
        &self,
        item: &Item,
        closing: &CancellationToken,
        is_failing: &mut bool,
    ) -> Fate {
        let deadline = item.due_since + self.give_up_after;
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, self.seed);
        loop {
            let outcome = self.outlet.send(&item.parcel).await;
            self.metrics.tried(self.kind, &outcome);
            let error = match outcome {
                Ok(()) => {
                    if std::mem::take(is_failing) {
                        tracing::info!(receiver = %self.receiver, "messages arrive again");
                    }
                    return Fate::sent;
                }
                Err(error) => error,
            };
            if error.remedy() != Remedy::Retry {
                self.complain(&item.parcel, &error, "refused");
                return Fate::refused;
            }
            let wait = backoff.next_delay().max(error.wait().unwrap_or_default());
            if closing.is_cancelled() {
                self.complain(&item.parcel, &error, "cut off");
                return Fate::cut_off;
            }
            if wait >= deadline.saturating_duration_since(Instant::now()) {
                self.complain(&item.parcel, &error, "given up");
                return Fate::expired;
            }
            if !std::mem::replace(is_failing, true) {
                tracing::warn!(receiver = %self.receiver, %error, ?wait, "message not delivered yet");
            }
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                () = sleep(wait) => {}
            }
            if matches!(item.parcel, Parcel::Alerts(_)) && self.queue.has_alerts() {
                return Fate::superseded;
            }
        }
    }

    fn count(&self, fate: Fate) {
        self.metrics.messages(self.kind, fate, 1);
    }

    fn complain(&self, parcel: &Parcel, error: &Error, outcome: &'static str) {
        let what = match parcel {
            Parcel::Message(notice) => notice.sentence.clone(),
            Parcel::Alerts(alerts) => format!("{} alerts", alerts.len()),
        };
        tracing::error!(receiver = %self.receiver, %error, what, outcome, "message lost");
    }
}
