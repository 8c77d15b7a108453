//! Decides what is told to whom and when: routes, groups, repeats, digests.
//!
//! A state machine of one owner: time is an argument, and nothing here waits or sends.

mod board;
mod conversation;
mod digest;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    Kind, Outgoing, Settings,
    settings::{Destination, Route},
};
use board::Board;
use conversation::Conversation;

/// Incidents and alerts remembered for each receiver, as many as the book of incidents holds. A topic is some 200 bytes
/// and a share of its notice (3 KiB as a rule): 12 MiB.
pub const MAX_TOPICS: usize = 4_096;

/// Something to be delivered now.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Index into [`Settings::receivers`].
    pub receiver: usize,
    pub parcel: Parcel,
}

#[derive(Debug, Clone)]
pub enum Parcel {
    /// One message.
    Message(Arc<Outgoing>),
    /// All that an Alertmanager should know; the next such parcel replaces it.
    Alerts(Arc<[Alert]>),
}

/// One alert of an Alertmanager.
#[derive(Debug, Clone)]
pub struct Alert {
    pub notice: Arc<Outgoing>,
    pub is_over: bool,
}

/// How a route wants to be told.
#[derive(Debug, Clone, Copy)]
struct Manner {
    group_wait: Duration,
    repeat_interval: Duration,
    tells_resolved: bool,
}

/// What each receiver was told, and is to be told.
#[derive(Debug)]
pub struct Desk {
    routes: Vec<Route>,
    ledgers: Vec<Ledger>,
}

#[derive(Debug)]
enum Ledger {
    /// People, who are told once of a thing.
    Conversation(Conversation),
    /// An Alertmanager, which wants to hear again and again what is the case.
    Board(Board),
}

impl Desk {
    pub fn new(settings: &Settings) -> Self {
        let ledger = |to: &Destination| match to {
            Destination::Alertmanager(alertmanager) => {
                Ledger::Board(Board::new(alertmanager.resend_after))
            }
            // A record is complete.
            Destination::File(_) => Ledger::Conversation(Conversation::new(None)),
            Destination::Webhook(_) | Destination::Slack(_) | Destination::Stdout(_) => {
                Ledger::Conversation(Conversation::new(Some(settings.storm)))
            }
        };
        Self {
            routes: settings.routes.clone(),
            ledgers: (settings.receivers.iter())
                .map(|it| ledger(&it.to))
                .collect(),
        }
    }

    /// Takes in a notice; to how many receivers it matters.
    ///
    /// The end of something goes also to those who were told of its beginning by a route that no longer matches.
    pub fn take(&mut self, notice: Outgoing, now: Instant) -> usize {
        let manners = self.route(&notice);
        let notice = Arc::new(notice);
        let mut n_receivers = 0;
        for (ledger, manner) in self.ledgers.iter_mut().zip(manners) {
            let is_concerned = match ledger {
                Ledger::Conversation(conversation) => conversation.take(&notice, manner, now),
                Ledger::Board(board) => board.take(&notice, manner, now),
            };
            n_receivers += usize::from(is_concerned);
        }
        n_receivers
    }

    /// What is to be delivered now, in the order it became due.
    pub fn due(&mut self, now: Instant) -> Vec<Delivery> {
        self.collect(now, false)
    }

    /// As [`Self::due`], with everything that waits for others of its kind: at the end of the process.
    pub fn flush(&mut self, now: Instant) -> Vec<Delivery> {
        self.collect(now, true)
    }

    /// When [`Self::due`] has something to give although nothing is taken in.
    pub fn next_due(&self) -> Option<Instant> {
        (self.ledgers.iter())
            .filter_map(|ledger| match ledger {
                Ledger::Conversation(conversation) => conversation.next_due(),
                Ledger::Board(board) => board.next_due(),
            })
            .min()
    }

    fn collect(&mut self, now: Instant, is_last: bool) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for (receiver, ledger) in self.ledgers.iter_mut().enumerate() {
            match ledger {
                Ledger::Conversation(conversation) => {
                    let messages = conversation.due(now, is_last);
                    deliveries.extend(messages.into_iter().map(|message| Delivery {
                        receiver,
                        parcel: Parcel::Message(message),
                    }));
                }
                Ledger::Board(board) => {
                    deliveries.extend(board.due(now, is_last).map(|alerts| Delivery {
                        receiver,
                        parcel: Parcel::Alerts(alerts),
                    }));
                }
            }
        }
        deliveries
    }

    /// For each receiver, how the first route that leads to it wants to be told.
    fn route(&self, notice: &Outgoing) -> Vec<Option<Manner>> {
        let mut manners = vec![None; self.ledgers.len()];
        for route in self.routes.iter().filter(|route| route.matches(notice)) {
            let manner = Manner {
                group_wait: route.group_wait,
                repeat_interval: route.repeat_interval,
                tells_resolved: route.tells_resolved,
            };
            for &receiver in &route.receivers {
                if let Some(of_receiver) = manners.get_mut(receiver) {
                    of_receiver.get_or_insert(manner);
                }
            }
            // A digest stands for things of any namespace and type, so every route may have wanted one of them.
            if !route.continues && notice.kind != Kind::Digest {
                break;
            }
        }
        manners
    }
}

#[cfg(test)]
mod tests;
