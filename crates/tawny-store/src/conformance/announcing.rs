//! The hand-off to subscribers.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::timeout,
};

use super::{Feed, Line, Place, feed::messages, search_all};
use crate::Committed;

async fn next(committed_rx: &mut Receiver<Arc<Committed>>) -> Arc<Committed> {
    timeout(Duration::from_secs(30), committed_rx.recv())
        .await
        .expect("a commit is announced")
        .expect("the store is open")
}

pub async fn subscriber_sees_each_entry_once_and_as_search_shows_it(place: &impl Place) {
    let store = place.open().await;
    let mut feed = Feed::new("api");
    feed.write(&*store, [Line::at(0, "before")]).await;
    let mut committed_rx = store.subscribe();
    let mut told = Vec::new();
    for n in 1..=3 {
        let lines = (0..n).map(|i| Line::at(n * 10 + i, format!("line {n} {i}")).with("n", "1"));
        feed.write(&*store, lines).await;
        told.extend(next(&mut committed_rx).await.entries.clone());
    }
    let entry = Line::at(100, "pushed").entry(&feed.stream);
    store.append(vec![entry.clone(), entry]).await.unwrap();
    told.extend(next(&mut committed_rx).await.entries.clone());
    let found = search_all(&*store, "").await;
    assert_eq!(told, found[1..]);
    drop(store);
    assert!(matches!(committed_rx.recv().await, Err(RecvError::Closed)));
}

pub async fn subscriber_gets_no_duplicates_of_a_replay(place: &impl Place) {
    let store = place.open().await;
    let mut committed_rx = store.subscribe();
    let mut feed = Feed::new("api");
    let (first, second) = (
        feed.batch([Line::at(0, "a")]),
        feed.batch([Line::at(1, "b")]),
    );
    for batches in [
        vec![first.clone()],
        vec![first.clone()],
        vec![first, second],
    ] {
        store.write(batches).await.unwrap();
    }
    let told = [next(&mut committed_rx).await, next(&mut committed_rx).await];
    assert_eq!(messages(&told[0].entries), ["a"]);
    assert_eq!(messages(&told[1].entries), ["b"]);
    assert!(committed_rx.is_empty());
}
