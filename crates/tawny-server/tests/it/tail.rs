//! Live tails: nothing is lost and nothing comes twice where the past meets the present.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use http::Request;
use serde_json::json;
use tawny_model::{Severity, Stream, Timestamp};
use tawny_query::Query;
use tawny_server::Limits;
use tawny_store::{Committed, Filter, Order, SearchRequest};
use tokio::{
    sync::{Barrier, broadcast},
    task::JoinSet,
    time::timeout,
};

use crate::{
    fixture::{Fixture, Lines, entry, six_entries, stream},
    rigged::{Rigged, Trouble},
};

/// Long enough for any busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

async fn rigged(limits: Limits) -> (Fixture, Arc<Rigged>) {
    let mut rigged = None;
    let fixture = Fixture::with(limits, |store| {
        let store = Rigged::new(store);
        rigged = Some(Arc::clone(&store));
        store
    })
    .await;
    (fixture, rigged.unwrap())
}

/// Appends `n` entries named `{prefix} {n}`, in small commits.
async fn write(fixture: &Fixture, stream: &Arc<Stream>, prefix: &str, n: i64) {
    for chunk_start in (0..n).step_by(7) {
        let entries = (chunk_start..n.min(chunk_start + 7))
            .map(|idx| {
                entry(
                    stream,
                    10_000 - idx,
                    Severity::Info,
                    &format!("{prefix} {idx}"),
                )
            })
            .collect();
        fixture.append(entries).await;
    }
}

/// Reads entries until `n` came; panics when one comes twice.
async fn read_once(lines: &mut Lines, n: usize) -> BTreeSet<String> {
    let mut read = BTreeSet::new();
    timeout(PATIENCE, async {
        while read.len() < n {
            let value = lines.value().await;
            if let Some(message) = value["message"].as_str() {
                assert!(read.insert(message.to_owned()), "{message} came twice");
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("only {} of {n} came", read.len()));
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_and_present_meet_without_gap_or_repeat_under_writes() {
    const WRITERS: i64 = 4;
    const BEFORE: i64 = 900;
    const DURING: i64 = 600;
    let mut fixture = Fixture::start().await;
    let streams: Vec<_> = (0..WRITERS)
        .map(|n| stream("shop", &format!("web-{n}"), "nginx"))
        .collect();
    for web in &streams {
        write(&fixture, web, &format!("{} before", web.pod), BEFORE).await;
    }
    // Writers start at the same moment as the tail and write entries older than some that are replayed.
    let barrier = Arc::new(Barrier::new(usize::try_from(WRITERS).unwrap() + 1));
    let mut writers = JoinSet::new();
    for web in &streams {
        let (store, barrier, web) = (
            Arc::clone(&fixture.store),
            Arc::clone(&barrier),
            Arc::clone(web),
        );
        writers.spawn(async move {
            barrier.wait().await;
            for idx in 0..DURING {
                let message = format!("{} during {idx}", web.pod);
                let entry = entry(&web, 9_500 - idx, Severity::Info, &message);
                store.append(vec![entry]).await.unwrap();
            }
        });
    }
    barrier.wait().await;
    let mut lines = fixture.stream("/api/v1/tail?since=0").await;
    let n = usize::try_from(WRITERS * (BEFORE + DURING)).unwrap();
    let read = read_once(&mut lines, n).await;
    writers.join_all().await;
    assert_eq!(read.len(), n);
    assert!(read.contains("web-3 during 599") && read.contains("web-0 before 0"));
    // And nothing else comes: the next entry is one written now.
    fixture
        .append(vec![entry(&streams[0], 1, Severity::Info, "last")])
        .await;
    loop {
        let value = timeout(PATIENCE, lines.value()).await.unwrap();
        if let Some(message) = value["message"].as_str() {
            assert_eq!(message, "last");
            break;
        }
    }
}

#[tokio::test]
async fn commits_during_the_replay_come_after_it_in_order() {
    let (mut fixture, rigged) = rigged(Limits::default()).await;
    let web = stream("shop", "web-1", "nginx");
    fixture
        .append(vec![entry(&web, 50, Severity::Info, "past")])
        .await;
    rigged.set(Trouble::Gated);
    let mut lines = fixture.stream("/api/v1/tail?since=0").await;
    rigged.someone_waits().await;
    rigged.set(Trouble::None);
    // Committed before the search runs, so the search finds it and its announcement is an echo.
    fixture
        .append(vec![entry(&web, 40, Severity::Info, "echo")])
        .await;
    rigged.gate.add_permits(1);
    assert_eq!(lines.value().await["message"], "past");
    assert_eq!(lines.value().await["message"], "echo");
    assert_eq!(lines.value().await, json!({"live": {}}));
    // An entry older than all that was sent is news all the same.
    fixture
        .append(vec![entry(&web, 500, Severity::Info, "late")])
        .await;
    assert_eq!(lines.value().await["message"], "late");
}

#[tokio::test]
async fn commits_overwritten_before_the_tail_saw_them_are_read_again() {
    let (mut fixture, rigged) = rigged(Limits::default()).await;
    let (announcer, _) = broadcast::channel(1);
    rigged.announcer.set(announcer.clone()).unwrap();
    let web = stream("shop", "web-1", "nginx");
    fixture
        .append(vec![entry(&web, 50, Severity::Info, "past")])
        .await;
    let mut lines = fixture.stream("/api/v1/tail?since=0").await;
    assert_eq!(lines.value().await["message"], "past");
    assert_eq!(lines.value().await, json!({"live": {}}));
    // The second is older than what was sent already, and neither of the first two is ever seen by the tail.
    for (secs_ago, message) in [(40, "one"), (60, "two"), (30, "three")] {
        fixture
            .append(vec![entry(&web, secs_ago, Severity::Info, message)])
            .await;
    }
    let page = fixture.store.search(&everything()).await.unwrap();
    for message in ["one", "two", "three"] {
        let mut entries = page.entries.clone();
        entries.retain(|entry| entry.message == message);
        announcer.send(Arc::new(Committed { entries })).unwrap();
    }
    assert_eq!(
        read_once(&mut lines, 3).await,
        ["one", "two", "three"].map(str::to_owned).into()
    );
}

#[tokio::test]
async fn late_entries_that_may_be_missing_are_never_missing_silently() {
    let (mut fixture, rigged) = rigged(Limits::default()).await;
    let (announcer, _) = broadcast::channel(1);
    rigged.announcer.set(announcer.clone()).unwrap();
    let web = stream("shop", "web-1", "nginx");
    let mut lines = fixture.stream("/api/v1/tail").await;
    assert_eq!(lines.value().await, json!({"live": {}}));
    // The first lies before where the tail began and is never seen by it.
    for (secs_ago, message) in [(40, "late"), (-1, "new")] {
        fixture
            .append(vec![entry(&web, secs_ago, Severity::Info, message)])
            .await;
    }
    let page = fixture.store.search(&everything()).await.unwrap();
    for entry in page.entries {
        let entries = vec![entry];
        announcer.send(Arc::new(Committed { entries })).unwrap();
    }
    assert_eq!(lines.value().await["message"], "new");
    assert_eq!(lines.value().await, json!({"overwritten": {"commits": 1}}));
}

#[tokio::test]
async fn last_entries_come_in_order_though_they_fill_several_pages() {
    let mut fixture = Fixture::start().await;
    let web = stream("shop", "web-1", "nginx");
    // Two fit into a page.
    let padding = "x".repeat(6 << 20);
    for n in 0..6 {
        let message = format!("{n} {padding}");
        fixture
            .append(vec![entry(&web, 50 - n, Severity::Info, &message)])
            .await;
    }
    let mut lines = fixture.stream("/api/v1/tail?last=5").await;
    for n in 1..6 {
        let value = lines.value().await;
        let message = value["message"].as_str().unwrap();
        assert_eq!(message.split_once(' ').unwrap().0, n.to_string());
    }
    assert_eq!(lines.value().await, json!({"live": {}}));
}

fn everything() -> SearchRequest {
    SearchRequest {
        filter: Filter {
            query: Query::all(),
            from: Timestamp::MIN,
            to: Timestamp::MAX,
        },
        order: Order::OldestFirst,
        limit: 10,
        after: None,
        before: None,
    }
}

#[tokio::test]
async fn tail_shows_what_matches_from_now_on_unless_asked_for_the_past() {
    let mut fixture = Fixture::start().await;
    fixture.append(six_entries()).await;
    let web = stream("shop", "web-1", "nginx");

    let mut lines = fixture.stream("/api/v1/tail?q=namespace:shop%20pay").await;
    assert_eq!(lines.headers["content-type"], "application/x-ndjson");
    assert_eq!(lines.value().await, json!({"live": {}}));
    fixture
        .append(vec![
            entry(&web, 9, Severity::Info, "nothing of interest"),
            entry(&web, 8, Severity::Info, "pay now"),
        ])
        .await;
    assert_eq!(lines.value().await["message"], "pay now");

    let mut lines = fixture.stream("/api/v1/tail?last=2&q=namespace:bank").await;
    assert_eq!(lines.value().await["message"], "slow commit");
    assert_eq!(lines.value().await["message"], "out of memory");
    assert_eq!(lines.value().await, json!({"live": {}}));

    let mut lines = fixture
        .stream("/api/v1/tail?since=90s&q=namespace:bank")
        .await;
    let entry = lines.value().await;
    assert_eq!(entry["message"], "out of memory");
    assert_eq!(entry["severity"], "fatal");
    let cursor = entry["id"].as_str().unwrap().to_owned();

    let mut lines = fixture
        .stream(&format!("/api/v1/tail?cursor={cursor}"))
        .await;
    assert_eq!(lines.value().await["message"], "nothing of interest");
}

#[tokio::test]
async fn tail_speaks_server_sent_events_to_who_accepts_them() {
    let mut fixture = Fixture::start().await;
    fixture.append(six_entries()).await;
    let events = Request::get("/api/v1/tail?last=1").header("accept", "text/event-stream");
    let mut lines = fixture.stream_with(events).await;
    assert_eq!(lines.headers["content-type"], "text/event-stream");
    let id = lines.next().await.unwrap();
    let entry = lines.data().await;
    assert_eq!(id, format!("id: {}", entry["id"].as_str().unwrap()));
    assert_eq!(entry["message"], "out of memory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_client_gets_every_entry_once_it_reads_again() {
    const N: i64 = 3_000;
    let mut fixture = Fixture::start().await;
    let web = stream("shop", "web-1", "nginx");
    let mut lines = fixture.stream("/api/v1/tail").await;
    assert_eq!(lines.value().await, json!({"live": {}}));
    // Far more than sockets and outbox hold, while nobody reads.
    let padding = "x".repeat(4_000);
    for chunk_start in (0..N).step_by(100) {
        let entries = (chunk_start..chunk_start + 100)
            .map(|idx| {
                entry(
                    &web,
                    5_000 - idx,
                    Severity::Info,
                    &format!("{idx} {padding}"),
                )
            })
            .collect();
        fixture.append(entries).await;
    }
    let read = read_once(&mut lines, usize::try_from(N).unwrap()).await;
    assert_eq!(read.len(), usize::try_from(N).unwrap());
}

#[tokio::test]
async fn tail_ends_when_its_client_leaves() {
    let (mut fixture, rigged) = rigged(Limits {
        max_tails: 1,
        ..Limits::default()
    })
    .await;
    rigged.set(Trouble::Gated);
    let lines = fixture.stream("/api/v1/tail?since=0").await;
    rigged.someone_waits().await;
    let refused = fixture.get("/api/v1/tail").await;
    assert_eq!(refused.error().1, "busy");
    drop(lines);
    // The search it was waiting for is given up, and its place is free again.
    timeout(PATIENCE, rigged.given_up.acquire())
        .await
        .unwrap()
        .unwrap()
        .forget();
    rigged.set(Trouble::None);
    timeout(PATIENCE, async {
        loop {
            let gauge = fixture.get("/metrics").await.text;
            if gauge.contains("tawny_tail_clients 0") {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let mut lines = fixture.stream("/api/v1/tail").await;
    assert_eq!(lines.value().await, json!({"live": {}}));
}

#[tokio::test]
async fn tail_says_why_it_ends() {
    let (mut fixture, rigged) = rigged(Limits::default()).await;
    rigged.set(Trouble::Damaged);
    let mut lines = fixture.stream("/api/v1/tail?since=0").await;
    assert_eq!(
        lines.value().await["ended"]["error"]["code"],
        "store_failed"
    );
    assert!(lines.next().await.is_none());

    rigged.set(Trouble::None);
    let mut lines = fixture.stream("/api/v1/tail").await;
    assert_eq!(lines.value().await, json!({"live": {}}));
    fixture.stop.cancel();
    assert_eq!(lines.value().await["ended"]["error"]["code"], "stopping");
    assert!(lines.next().await.is_none());
    fixture.stopped().await;
}

#[tokio::test]
async fn silence_is_broken_by_a_keep_alive() {
    let mut fixture = Fixture::start().await;
    let mut events = fixture.stream("/api/logs/stream").await;
    assert_eq!(events.next().await.unwrap(), ": live");
    tokio::time::pause();
    assert_eq!(events.next().await.unwrap(), ": keep-alive");
}
