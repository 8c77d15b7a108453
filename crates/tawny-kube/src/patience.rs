//! Waiting between tries of a watch.

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use kube::runtime::watcher::{self, Event};
use tawny_runtime::Backoff;

/// The first and the longest wait; the latter is what a server without the right answer is asked by each node.
const FIRST_WAIT: Duration = Duration::from_millis(800);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Waits longer after each failure in a row, with jitter, and as long as the server asks to.
///
/// kube's own backoff starts over at each attempt, because the announcement of a list counts as a success there: a
/// watch that may not list would ask every second for ever. Here only what a server really sent starts it over.
pub fn patient<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    seed: u64,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    let state = (
        Box::pin(events),
        Backoff::new(FIRST_WAIT, LONGEST_WAIT, seed),
        Duration::ZERO,
    );
    stream::unfold(state, |(mut events, mut backoff, wait)| async move {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let event = events.next().await?;
        let wait = match &event {
            Err(error) => backoff.next_delay().max(asked_wait(error)),
            Ok(Event::Init) => Duration::ZERO,
            Ok(_) => {
                backoff.reset();
                Duration::ZERO
            }
        };
        Some((event, (events, backoff, wait)))
    })
}

fn asked_wait(error: &watcher::Error) -> Duration {
    use kube::Error::Api;
    let (watcher::Error::InitialListFailed(Api(status))
    | watcher::Error::WatchStartFailed(Api(status))
    | watcher::Error::WatchFailed(Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return Duration::ZERO;
    };
    let secs = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(u64::from(secs))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_to_wait_is_left_alone_for_as_long() {
        let failures = [0, 90].map(|secs| {
            let mut status = Status::failure("busy", "TooManyRequests").with_code(429);
            let details = serde_json::json!({"retryAfterSeconds": secs});
            status.details = serde_json::from_value(details).unwrap();
            Err(watcher::Error::WatchError(status.boxed()))
        });
        let events = stream::iter(failures).chain(stream::iter([Ok(Event::<()>::Init)]));
        let began = tokio::time::Instant::now();
        let mut events = Box::pin(patient(events, 7));
        let mut at = Vec::new();
        while events.next().await.is_some() {
            at.push(began.elapsed().as_secs());
        }
        assert_eq!(at[..2], [0, 0]);
        assert!((90..=91).contains(&at[2]), "{at:?}");
    }
}
