//! Doing many like things on a few threads, where there are enough of them to pay for the threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Budget;
use crate::Error;

/// Does `work` for each of `0..n_tasks`, begun in this order, and answers the state of each thread.
///
/// A thread takes part for every `n_per_thread` tasks; the caller's own is one of them. The first error stops all.
pub(super) fn for_each<S: Send>(
    n_tasks: usize,
    n_per_thread: usize,
    budget: &Budget<'_>,
    new: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<(), Error> + Sync,
) -> Result<Vec<S>, Error> {
    let n_threads = (n_tasks / n_per_thread.max(1)).clamp(1, budget.n_threads.max(1));
    let next = AtomicUsize::new(0);
    let run = || {
        let mut state = new();
        loop {
            let idx = next.fetch_add(1, Ordering::Relaxed);
            if idx >= n_tasks {
                return Ok(state);
            }
            if let Err(error) = budget.check().and_then(|()| work(&mut state, idx)) {
                next.store(n_tasks, Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    if n_threads == 1 {
        return run().map(|state| vec![state]);
    }
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..n_threads).map(|_| scope.spawn(run)).collect();
        let own = run();
        let others = others.into_iter().map(|other| {
            other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let mut states = vec![own];
        states.extend(others);
        states.into_iter().collect()
    })
}
