//! Messages that wait for one place, bounded; the newest state of an Alertmanager takes the place of the one before.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use crate::{Kind, desk::Parcel};

/// Messages that wait for one place: 256 × 3 KiB as a rule, shared between the places = 768 KiB.
pub(crate) const MAX_WAITING: usize = 256;

/// A parcel on its way.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) parcel: Parcel,
    pub(crate) due_since: Instant,
}

/// Why a parcel left the queue without being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Displaced {
    Overflowed,
    Superseded,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Item>,
    /// One was taken and is not done with.
    is_busy: bool,
}

impl Queue {
    /// Never waits. When the queue is full, the oldest that tells of nothing new goes, else the oldest.
    pub(crate) fn push_or_drop_oldest(&self, item: Item) -> Option<Displaced> {
        let displaced = self.lock().push(item);
        self.changed.notify_one();
        displaced
    }

    /// Takes the oldest; until [`Self::done`] it counts as left.
    pub(super) fn pop(&self) -> Option<Item> {
        let mut state = self.lock();
        let item = state.waiting.pop_front();
        state.is_busy = item.is_some();
        item
    }

    pub(super) fn done(&self) {
        self.lock().is_busy = false;
    }

    /// Whether a newer state of an Alertmanager waits.
    pub(super) fn has_alerts(&self) -> bool {
        self.lock().waiting.iter().any(Item::is_alerts)
    }

    /// What nobody has, yet.
    pub(crate) fn n_left(&self) -> usize {
        let state = self.lock();
        state.waiting.len() + usize::from(state.is_busy)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock, and every state of the queue is a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Item {
    fn is_alerts(&self) -> bool {
        matches!(self.parcel, Parcel::Alerts(_))
    }

    /// Whether somebody learns of something for the first time.
    fn is_opening(&self) -> bool {
        matches!(&self.parcel, Parcel::Message(notice) if notice.kind == Kind::Opened)
    }
}

impl State {
    fn push(&mut self, item: Item) -> Option<Displaced> {
        if item.is_alerts()
            && let Some(older) = self.waiting.iter_mut().find(|it| it.is_alerts())
        {
            *older = item;
            return Some(Displaced::Superseded);
        }
        let mut displaced = None;
        if self.waiting.len() >= MAX_WAITING {
            let oldest = self.waiting.iter().position(|it| !it.is_opening());
            self.waiting.remove(oldest.unwrap_or(0));
            displaced = Some(Displaced::Overflowed);
        }
        self.waiting.push_back(item);
        displaced
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::outgoing;

    fn item(key: &str, kind: Kind) -> Item {
        Item {
            parcel: Parcel::Message(Arc::new(outgoing(key, kind))),
            due_since: Instant::now(),
        }
    }

    fn keys(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|item| match item.parcel {
                Parcel::Message(notice) => notice.key.clone(),
                Parcel::Alerts(alerts) => format!("{} alerts", alerts.len()),
            })
            .collect()
    }

    #[tokio::test]
    async fn a_full_queue_gives_up_the_oldest_that_opened_nothing() {
        let queue = Queue::default();
        for n in 0..MAX_WAITING {
            let kind = if n == 3 { Kind::Resolved } else { Kind::Opened };
            assert_eq!(queue.push_or_drop_oldest(item(&n.to_string(), kind)), None);
        }
        for key in ["a", "b"] {
            let displaced = queue.push_or_drop_oldest(item(key, Kind::Opened));
            assert_eq!(displaced, Some(Displaced::Overflowed));
        }
        let keys = keys(&queue);
        assert_eq!(keys.len(), MAX_WAITING);
        assert_eq!(keys[..4], ["1", "2", "4", "5"]);
        assert_eq!(keys[MAX_WAITING - 2..], ["a", "b"]);
    }

    #[tokio::test]
    async fn a_newer_state_takes_the_place_of_the_one_that_waits() {
        let alerts = |n| Item {
            parcel: Parcel::Alerts(
                vec![
                    crate::desk::Alert {
                        notice: Arc::new(outgoing("k", Kind::Opened)),
                        is_over: false
                    };
                    n
                ]
                .into(),
            ),
            due_since: Instant::now(),
        };
        let queue = Queue::default();
        assert_eq!(queue.push_or_drop_oldest(alerts(1)), None);
        assert_eq!(
            queue.push_or_drop_oldest(alerts(2)),
            Some(Displaced::Superseded)
        );
        assert!(queue.has_alerts());
        assert_eq!(keys(&queue), ["2 alerts"]);
        assert!(!queue.has_alerts());
    }

    #[tokio::test]
    async fn what_was_taken_counts_as_left_until_it_is_done() {
        let queue = Queue::default();
        queue.push_or_drop_oldest(item("a", Kind::Opened));
        queue.push_or_drop_oldest(item("b", Kind::Opened));
        assert!(queue.pop().is_some());
        assert_eq!(queue.n_left(), 2);
        queue.done();
        assert_eq!(queue.n_left(), 1);
    }
}
