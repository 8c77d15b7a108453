//! Puts the lines of many streams in order of time while they arrive.
//!
//! A line is released when no stream can bring an earlier one any more: every other stream either has a later line
//! waiting, or has been quiet for the watermark. History therefore merges exactly, and live lines wait at most the
//! watermark. Each stream's queue is bounded, so a fast stream waits for the slow ones instead of filling memory.

use std::{
    collections::VecDeque,
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tawny_model::Timestamp;
use tokio::{sync::mpsc, time::Instant};

/// Something with a time; items of one stream come in order.
pub(super) trait Timed {
    fn timestamp(&self) -> Timestamp;
}

/// Items taken from a stream in one go; more only adds latency for the others.
const MAX_TAKEN: usize = 64;

struct Lane<T> {
    rx: mpsc::Receiver<T>,
    waiting: VecDeque<T>,
    /// When its last item came, or it was added.
    last_arrival: Instant,
    is_closed: bool,
}

/// Merges streams that are added while it runs. Owned by one task.
pub(super) struct Merge<T> {
    added_rx: mpsc::Receiver<mpsc::Receiver<T>>,
    is_adding_over: bool,
    lanes: Vec<Lane<T>>,
    watermark: Duration,
}

impl<T: Timed> Merge<T> {
    /// `added_rx` brings the streams; the merge ends when it is closed and every stream is.
    pub(super) fn new(added_rx: mpsc::Receiver<mpsc::Receiver<T>>, watermark: Duration) -> Self {
        Self {
            added_rx,
            is_adding_over: false,
            lanes: Vec::new(),
            watermark,
        }
    }

    /// The next item in order of time, `None` at the end of everything.
    ///
    /// CANCEL-SAFE: an item is removed only in the poll that returns it.
    pub(super) async fn next(&mut self) -> Option<T> {
        loop {
            let now = Instant::now();
            poll_fn(|cx| {
                self.fill(cx, now);
                Poll::Ready(())
            })
            .await;
            self.lanes
                .retain(|lane| !(lane.is_closed && lane.waiting.is_empty()));
            if self.lanes.is_empty() && self.is_adding_over {
                return None;
            }
            match self.wait_for(now) {
                Wait::Nothing => {
                    let lane = self
                        .earliest()
                        .expect("there is an item when there is nothing to wait for");
                    return self.lanes[lane].waiting.pop_front();
                }
                Wait::Until(deadline) => {
                    tokio::select! {
                        biased;
                        () = poll_fn(|cx| self.poll_news(cx)) => {}
                        () = tokio::time::sleep_until(deadline) => {}
                    }
                }
                Wait::ForNews => poll_fn(|cx| self.poll_news(cx)).await,
            }
        }
    }

    /// Takes what has arrived without waiting.
    fn fill(&mut self, cx: &mut Context<'_>, now: Instant) {
        while !self.is_adding_over {
            match self.added_rx.poll_recv(cx) {
                Poll::Ready(Some(rx)) => {
                    self.lanes.push(Lane {
                        rx,
                        waiting: VecDeque::new(),
                        last_arrival: now,
                        is_closed: false,
                    });
                }
                Poll::Ready(None) => self.is_adding_over = true,
                Poll::Pending => break,
            }
        }
        for lane in self
            .lanes
            .iter_mut()
            .filter(|lane| lane.waiting.is_empty() && !lane.is_closed)
        {
            while lane.waiting.len() < MAX_TAKEN {
                match lane.rx.poll_recv(cx) {
                    Poll::Ready(Some(item)) => {
                        lane.waiting.push_back(item);
                        lane.last_arrival = now;
                    }
                    Poll::Ready(None) => {
                        lane.is_closed = true;
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
    }

    /// Ready once any empty lane or the list of streams has news; takes it in.
    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let before = self.progress();
        self.fill(cx, Instant::now());
        if self.progress() == before {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    /// Changes with every arrival, addition and end.
    fn progress(&self) -> (usize, usize, usize, bool) {
        let n_waiting = self.lanes.iter().map(|lane| lane.waiting.len()).sum();
        (
            self.lanes.len(),
            n_waiting,
            self.lanes.iter().filter(|lane| lane.is_closed).count(),
            self.is_adding_over,
        )
    }

    fn earliest(&self) -> Option<usize> {
        let heads = self
            .lanes
            .iter()
            .enumerate()
            .filter_map(|(idx, lane)| Some((lane.waiting.front()?.timestamp(), idx)));
        heads.min().map(|(_, idx)| idx)
    }

    fn wait_for(&self, now: Instant) -> Wait {
        if self.earliest().is_none() {
            return Wait::ForNews;
        }
        let quiet_until = self
            .lanes
            .iter()
            .filter(|lane| lane.waiting.is_empty() && !lane.is_closed)
            .map(|lane| lane.last_arrival + self.watermark)
            .max();
        match quiet_until {
            Some(deadline) if deadline > now => Wait::Until(deadline),
            _ => Wait::Nothing,
        }
    }
}

enum Wait {
    Nothing,
    Until(Instant),
    ForNews,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Timed for (i64, &'static str) {
        fn timestamp(&self) -> Timestamp {
            Timestamp::from_nanos(self.0)
        }
    }

    const WATERMARK: Duration = Duration::from_millis(500);

    #[tokio::test(start_paused = true)]
    async fn history_of_two_streams_is_merged_in_order() {
        let (added_tx, added_rx) = mpsc::channel(2);
        for items in [
            [(1, "a"), (4, "a"), (5, "a")],
            [(2, "b"), (3, "b"), (6, "b")],
        ] {
            let (tx, rx) = mpsc::channel(8);
            added_tx.send(rx).await.unwrap();
            for item in items {
                tx.send(item).await.unwrap();
            }
        }
        drop(added_tx);
        let mut merge = Merge::new(added_rx, WATERMARK);
        let mut times = Vec::new();
        while let Some((time, _)) = merge.next().await {
            times.push(time);
        }
        assert_eq!(times, [1, 2, 3, 4, 5, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_holds_others_for_the_watermark_only() {
        let (added_tx, added_rx) = mpsc::channel(2);
        let (busy_tx, busy_rx) = mpsc::channel(8);
        let (_quiet_tx, quiet_rx) = mpsc::channel::<(i64, &str)>(8);
        added_tx.send(busy_rx).await.unwrap();
        added_tx.send(quiet_rx).await.unwrap();
        let mut merge = Merge::new(added_rx, WATERMARK);
        let started = Instant::now();
        busy_tx.send((10, "busy")).await.unwrap();
        assert_eq!(merge.next().await, Some((10, "busy")));
        assert_eq!(started.elapsed(), WATERMARK);
        // The other stream is known to be quiet now: the next line passes at once.
        busy_tx.send((11, "busy")).await.unwrap();
        assert_eq!(merge.next().await, Some((11, "busy")));
        assert_eq!(started.elapsed(), WATERMARK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_arrives_within_the_watermark_is_put_first() {
        let (added_tx, added_rx) = mpsc::channel(2);
        let (late_tx, late_rx) = mpsc::channel(8);
        let (early_tx, early_rx) = mpsc::channel(8);
        added_tx.send(late_rx).await.unwrap();
        added_tx.send(early_rx).await.unwrap();
        drop(added_tx);
        late_tx.send((20, "late")).await.unwrap();
        drop(late_tx);
        let sender = async {
            tokio::time::sleep(WATERMARK / 2).await;
            early_tx.send((10, "early")).await.unwrap();
            drop(early_tx);
        };
        let mut merge = Merge::new(added_rx, WATERMARK);
        let (first, ()) = tokio::join!(merge.next(), sender);
        assert_eq!(first, Some((10, "early")));
        assert_eq!(merge.next().await, Some((20, "late")));
        assert_eq!(merge.next().await, None);
    }

    proptest! {
        /// Streams that were there from the start come out as a stable merge of sorted lists, whatever the queues hold.
        #[test]
        fn complete_streams_come_out_sorted_and_whole(mut lists in prop::collection::vec(prop::collection::vec(0i64..50, 0..20), 0..6), capacity in 1usize..5) {
            for list in &mut lists {
                list.sort_unstable();
            }
            let mut expected = lists.concat();
            expected.sort_unstable();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let merged = runtime.block_on(async {
                let (added_tx, added_rx) = mpsc::channel(8);
                let mut sending = Vec::new();
                for list in lists {
                    let (tx, rx) = mpsc::channel(capacity);
                    added_tx.send(rx).await.unwrap();
                    sending.push(async move {
                        for time in list {
                            tx.send((time, "")).await.unwrap();
                        }
                    });
                }
                drop(added_tx);
                let receiving = async {
                    let mut merge = Merge::new(added_rx, WATERMARK);
                    let mut merged = Vec::new();
                    while let Some((time, _)) = merge.next().await {
                        merged.push(time);
                    }
                    merged
                };
                futures::join!(receiving, futures::future::join_all(sending)).0
            });
            prop_assert_eq!(merged, expected);
        }
    }
}
