//! What became of notices and messages, counted.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use tawny_runtime::Registry;

use crate::settings::Destination;

/// Without `_total`, which the exposition adds to counters.
pub const NOTICES: &str = "tawny_notify_notices";
pub const QUEUED: &str = "tawny_notify_queued_messages";
pub const MESSAGES: &str = "tawny_notify_messages";
pub const TRIES: &str = "tawny_notify_tries";
pub const DELIVERY: &str = "tawny_notify_delivery_seconds";
pub const MASKED: &str = "tawny_notify_masked_secrets";

/// From a chat that answers at once to one that was away for an hour.
const DELIVERY_BUCKETS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0];

/// What a notice came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label's values")]
pub enum Taken {
    /// At least one receiver is concerned.
    routed,
    /// No route leads to any receiver.
    unrouted,
    /// The inbox was full.
    dropped,
}

/// What a message came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label's values")]
pub enum Fate {
    sent,
    /// The service will never take it.
    refused,
    /// The service could not be reached for too long.
    expired,
    /// The receiver's queue was full.
    overflowed,
    /// A newer state of the same Alertmanager took its place.
    superseded,
    /// Not delivered in the time left at the process's end.
    cut_off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label's values")]
pub enum ReceiverKind {
    webhook,
    slack,
    alertmanager,
    stdout,
    file,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the label's values")]
pub enum Status {
    success,
    failure,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoticeLabel {
    result: Taken,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    receiver_kind: ReceiverKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabel {
    receiver_kind: ReceiverKind,
    result: Fate,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TryLabel {
    receiver_kind: ReceiverKind,
    result: Status,
}

impl ReceiverKind {
    const ALL: [Self; 5] = [
        Self::webhook,
        Self::slack,
        Self::alertmanager,
        Self::stdout,
        Self::file,
    ];
}

impl From<&Destination> for ReceiverKind {
    fn from(to: &Destination) -> Self {
        match to {
            Destination::Webhook(_) => Self::webhook,
            Destination::Slack(_) => Self::slack,
            Destination::Alertmanager(_) => Self::alertmanager,
            Destination::Stdout(_) => Self::stdout,
            Destination::File(_) => Self::file,
        }
    }
}

/// Handles to all series; clones count together.
#[derive(Debug, Clone)]
pub struct NotifyMetrics {
    notices: Family<NoticeLabel, Counter>,
    queued: Family<KindLabel, Counter>,
    messages: Family<MessageLabel, Counter>,
    tries: Family<TryLabel, Counter>,
    delivery: Family<KindLabel, Histogram, fn() -> Histogram>,
    masked: Counter,
}

impl Default for NotifyMetrics {
    /// Every counter starts at 0, so that a first failure shows as a rise.
    fn default() -> Self {
        let metrics = Self {
            notices: Family::default(),
            queued: Family::default(),
            messages: Family::default(),
            tries: Family::default(),
            delivery: Family::new_with_constructor(|| Histogram::new(DELIVERY_BUCKETS)),
            masked: Counter::default(),
        };
        for result in [Taken::routed, Taken::unrouted, Taken::dropped] {
            drop(metrics.notices.get_or_create(&NoticeLabel { result }));
        }
        for receiver_kind in ReceiverKind::ALL {
            drop(metrics.queued.get_or_create(&KindLabel { receiver_kind }));
            for result in [
                Fate::sent,
                Fate::refused,
                Fate::expired,
                Fate::overflowed,
                Fate::superseded,
                Fate::cut_off,
            ] {
                let label = MessageLabel {
                    receiver_kind,
                    result,
                };
                drop(metrics.messages.get_or_create(&label));
            }
            for result in [Status::success, Status::failure] {
                let label = TryLabel {
                    receiver_kind,
                    result,
                };
                drop(metrics.tries.get_or_create(&label));
            }
        }
        metrics
    }
}

impl NotifyMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            NOTICES,
            "Notices of incidents and alerts, by what they came to",
            self.notices.clone(),
        );
        registry.register(
            QUEUED,
            "Messages handed to receivers; those that came to nothing yet are this less all results",
            self.queued.clone(),
        );
        registry.register(
            MESSAGES,
            "Messages, by what became of them",
            self.messages.clone(),
        );
        registry.register(TRIES, "Tries to deliver a message", self.tries.clone());
        registry.register(
            DELIVERY,
            "Time from a message being due to its delivery",
            self.delivery.clone(),
        );
        registry.register(
            MASKED,
            "Secrets masked in notices before they left",
            self.masked.clone(),
        );
    }

    pub(crate) fn taken(&self, result: Taken) {
        self.notices.get_or_create(&NoticeLabel { result }).inc();
    }

    pub(crate) fn masked(&self, n_secrets: u64) {
        self.masked.inc_by(n_secrets);
    }

    pub(crate) fn queued(&self, receiver_kind: ReceiverKind) {
        self.queued
            .get_or_create(&KindLabel { receiver_kind })
            .inc();
    }

    pub(crate) fn messages(&self, receiver_kind: ReceiverKind, result: Fate, n_messages: usize) {
        let label = MessageLabel {
            receiver_kind,
            result,
        };
        self.messages
            .get_or_create(&label)
            .inc_by(n_messages as u64);
    }

    pub(crate) fn tried<T, E>(&self, receiver_kind: ReceiverKind, answer: &Result<T, E>) {
        let result = match answer {
            Ok(_) => Status::success,
            Err(_) => Status::failure,
        };
        let label = TryLabel {
            receiver_kind,
            result,
        };
        self.tries.get_or_create(&label).inc();
    }

    pub(crate) fn delivered(&self, receiver_kind: ReceiverKind, secs: f64) {
        let label = KindLabel { receiver_kind };
        self.delivery.get_or_create(&label).observe(secs);
    }

    /// Messages of a fate so far.
    pub fn n_messages(&self, receiver_kind: ReceiverKind, result: Fate) -> u64 {
        let label = MessageLabel {
            receiver_kind,
            result,
        };
        self.messages.get_or_create(&label).get()
    }

    /// Notices of an outcome so far.
    pub fn n_notices(&self, result: Taken) -> u64 {
        self.notices.get_or_create(&NoticeLabel { result }).get()
    }

    /// Secrets masked so far.
    pub fn n_masked(&self) -> u64 {
        self.masked.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_there_from_the_start() {
        let mut registry = Registry::default();
        NotifyMetrics::default().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for series in [
            "tawny_notify_notices_total{result=\"unrouted\"} 0\n",
            "tawny_notify_queued_messages_total{receiver_kind=\"file\"} 0\n",
            "tawny_notify_messages_total{receiver_kind=\"slack\",result=\"expired\"} 0\n",
            "tawny_notify_tries_total{receiver_kind=\"alertmanager\",result=\"failure\"} 0\n",
            "tawny_notify_masked_secrets_total 0\n",
        ] {
            assert!(text.contains(series), "{series}\n{text}");
        }
    }
}
