//! What a question may cost.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tawny_model::Timestamp;
use tawny_runtime::Clock;

use crate::Error;

/// Limits of one question; checked once per block.
#[derive(Clone, Copy)]
pub(crate) struct Budget<'a> {
    /// Set when nobody waits for the answer any more.
    pub(crate) cancelled: &'a AtomicBool,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) deadline: Timestamp,
    /// What a question may gather in memory beside the blocks it looks at.
    pub(crate) memory_bytes: usize,
    /// Threads it may use, its own included.
    pub(crate) n_threads: usize,
}

impl fmt::Debug for Budget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("deadline", &self.deadline)
            .field("memory_bytes", &self.memory_bytes)
            .field("n_threads", &self.n_threads)
            .finish_non_exhaustive()
    }
}

impl Budget<'_> {
    /// Whether to go on.
    ///
    /// # Errors
    /// `Reject` when the question was called off or has taken too long.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if self.clock.now() > self.deadline {
            return Err(Error::TooExpensive {
                what: "time",
                limit: "its deadline allows".to_owned(),
            });
        }
        Ok(())
    }
}

/// Memory taken by one question, over all its threads.
#[derive(Debug, Default)]
pub(super) struct Gathered(AtomicUsize);

impl Gathered {
    /// # Errors
    /// `Reject` when it is more than the budget has.
    pub(super) fn add(&self, len_bytes: usize, budget: &Budget<'_>) -> Result<(), Error> {
        let before = self.0.fetch_add(len_bytes, Ordering::Relaxed);
        if before + len_bytes > budget.memory_bytes {
            return Err(Error::TooExpensive {
                what: "memory for different values",
                limit: format!("{} bytes", budget.memory_bytes),
            });
        }
        Ok(())
    }
}
