//! Waiting between tries of a watch.

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use kube::runtime::watcher::{self, Event};
use tawny_runtime::Backoff;

/// The first and the longest wait; the latter is what a server without the right answer is asked by each node.
const FIRST_WAIT: Duration = Duration::from_millis(800);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Waits longer after each failure in a row, with jitter.
///
/// kube's own backoff starts over at each attempt, because the announcement of a list counts as a success there: a
/// watch that may not list would ask every second for ever. Here only what a server really sent starts it over.
pub(crate) fn patient<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    seed: u64,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    let state = (
        Box::pin(events),
        Backoff::new(FIRST_WAIT, LONGEST_WAIT, seed),
        false,
    );
    stream::unfold(state, |(mut events, mut backoff, has_failed)| async move {
        if has_failed {
            tokio::time::sleep(backoff.next_delay()).await;
        }
        let event = events.next().await?;
        match &event {
            Ok(Event::Init) | Err(_) => {}
            Ok(_) => backoff.reset(),
        }
        let has_failed = event.is_err();
        Some((event, (events, backoff, has_failed)))
    })
}
