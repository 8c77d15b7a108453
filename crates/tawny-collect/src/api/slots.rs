//! A bounded number of open streams, given out in the order asked for, so that every container gets its turn.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The streams that may be open at once.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    free: Arc<Semaphore>,
    n_waiting: AtomicUsize,
    contended: Notify,
}

/// Counts one waiter for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Slots {
    pub(crate) fn new(n_slots: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                free: Arc::new(Semaphore::new(n_slots.clamp(1, Semaphore::MAX_PERMITS))),
                n_waiting: AtomicUsize::new(0),
                contended: Notify::new(),
            }),
        }
    }

    /// Waits for a slot; those who wait are served in order.
    pub(crate) async fn acquire(&self) -> OwnedSemaphorePermit {
        let free = Arc::clone(&self.shared.free);
        if let Ok(slot) = Arc::clone(&free).try_acquire_owned() {
            return slot;
        }
        self.shared.n_waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.shared.n_waiting);
        self.shared.contended.notify_waiters();
        free.acquire_owned()
            .await
            .expect("the semaphore is never closed")
    }

    /// Whether someone waits for a slot.
    pub(crate) fn is_contended(&self) -> bool {
        self.shared.n_waiting.load(Relaxed) > 0
    }

    /// Waits until someone waits for a slot.
    pub(crate) async fn contended(&self) {
        loop {
            let notified = self.shared.contended.notified();
            if self.is_contended() {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_waiter_is_seen_served_in_turn_and_forgotten_when_it_leaves() {
        let slots = Slots::new(1);
        let first = slots.acquire().await;
        assert!(slots.contended().now_or_never().is_none());
        {
            let mut second = std::pin::pin!(slots.acquire());
            let mut third = std::pin::pin!(slots.acquire());
            assert!(second.as_mut().now_or_never().is_none());
            assert!(third.as_mut().now_or_never().is_none());
            assert!(slots.contended().now_or_never().is_some());
            drop(first);
            assert!(third.as_mut().now_or_never().is_none());
            assert!(second.now_or_never().is_some());
        }
        assert!(!slots.is_contended());
    }
}
