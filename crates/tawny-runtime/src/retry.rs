//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff with full jitter over the upper half, so that many clients do not return at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    seed: u64,
}

impl Backoff {
    /// Waits `first`, then twice as long each time up to `longest`. `seed` varies the jitter between callers.
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self {
            first,
            longest,
            next: first,
            seed: seed | 1,
        }
    }

    /// The next wait: between half and the whole of the current step.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.longest);
        // xorshift64: jitter needs no better randomness. Source: Marsaglia, "Xorshift RNGs", 2003.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let half_ns = u64::try_from(step.as_nanos() / 2).unwrap_or(u64::MAX);
        Duration::from_nanos(half_ns + self.seed % half_ns.max(1))
    }

    /// Starts again from the first wait, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_with_jitter() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), 7);
        for step in [1u64, 2, 4, 8, 16, 30, 30] {
            let delay = backoff.next_delay();
            assert!(
                delay >= Duration::from_millis(step * 500) && delay <= Duration::from_secs(step),
                "{step}: {delay:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_secs(1));
    }
}
