//! Keeps a steady rate without drift.

use std::time::Duration;

use tokio::time::Instant;

/// Lets `rate` messages a second through, in batches, until the time or the number is over.
#[derive(Debug)]
pub(crate) struct Pace {
    started: Instant,
    rate: u64,
    ends_at: Instant,
    left: u64,
    n_released: u64,
}

impl Pace {
    /// `rate` 0 is unlimited; `n_messages` `None` is as many as the time allows.
    pub(crate) fn new(rate: u64, duration: Duration, n_messages: Option<u64>) -> Self {
        let started = Instant::now();
        Self {
            started,
            rate,
            ends_at: started + duration,
            left: n_messages.unwrap_or(u64::MAX),
            n_released: 0,
        }
    }

    /// Waits for the next batch's turn and answers its size, at most `batch_size`; `None` when the run is over.
    pub(crate) async fn next(&mut self, batch_size: u64) -> Option<u64> {
        let n = batch_size.min(self.left);
        if n == 0 || Instant::now() >= self.ends_at {
            return None;
        }
        if let Some(wait_ns) =
            (self.n_released.saturating_mul(1_000_000_000)).checked_div(self.rate)
        {
            let due = self.started + Duration::from_nanos(wait_ns);
            if due >= self.ends_at {
                tokio::time::sleep_until(self.ends_at).await;
                return None;
            }
            tokio::time::sleep_until(due).await;
        }
        self.n_released += n;
        self.left -= n;
        Some(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn total(mut pace: Pace, batch_size: u64) -> u64 {
        let mut total = 0;
        while let Some(n) = pace.next(batch_size).await {
            total += n;
        }
        total
    }

    #[tokio::test(start_paused = true)]
    async fn rate_and_duration_give_the_number_of_messages() {
        let before = Instant::now();
        assert_eq!(
            total(Pace::new(100, Duration::from_secs(10), None), 10).await,
            1_000
        );
        assert_eq!(before.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_of_messages_ends_the_run_exactly() {
        assert_eq!(
            total(Pace::new(0, Duration::from_secs(10), Some(25)), 10).await,
            25
        );
    }
}
