//! The deliverer against a sink in memory: order, retries, refusals, stopping.

use tawny_model::{Position, ResumeMark, Severity, Stream, StreamId, Timestamp};

use super::*;
use crate::{
    Lane,
    testing::{MemorySink, intake, stream_id},
};

/// Batch number `n` of a stream whose batches are ten bytes and one line each.
fn batch(id: &StreamId, writer: u64, n: u64) -> Batch {
    let mut entries = Entries::default();
    let end = Position((n + 1) * 10);
    let timestamp = Timestamp::from_secs(i64::try_from(n).unwrap());
    entries
        .push(
            timestamp,
            Severity::Info,
            Output::Stdout,
            &format!("{}-{n}", id.container),
            [],
            end,
        )
        .unwrap();
    Batch {
        stream: Arc::new(Stream::new(id.clone(), "ns", "pod")),
        writer: tawny_model::WriterId(writer),
        start: Position(n * 10),
        end,
        end_mark: ResumeMark {
            timestamp,
            n_lines: 1,
        },
        entries,
    }
}

/// Runs a deliverer until everything sent by `work` is delivered.
async fn deliver<F: Future<Output = ()>>(
    intake: &Intake,
    settings: DeliverSettings,
    work: F,
) -> Result<(), Error> {
    let stop = CancellationToken::new();
    let deliverer = Deliverer::new(intake, settings);
    let (result, ()) = futures::join!(deliverer.run(stop.clone()), async {
        work.await;
        stop.cancel();
    });
    result
}

async fn lane(intake: &Intake, id: &StreamId) -> Lane {
    intake
        .resume(std::slice::from_ref(id))
        .await
        .unwrap()
        .remove(0)
}

#[tokio::test(start_paused = true)]
async fn lines_of_each_stream_arrive_once_and_in_order_through_errors_and_lost_acks() {
    let sink = Arc::new(MemorySink::default());
    let intake = intake(&sink, 1);
    let ids = [stream_id("a", 0), stream_id("b", 0), stream_id("c", 0)];
    sink.fail_next(&[Remedy::Retry, Remedy::Retry, Remedy::Quarantine]);
    sink.lose_acks(3);
    let settings = DeliverSettings {
        call_lines: 7,
        ..DeliverSettings::default()
    };
    let acked = async {
        let lanes = intake.resume(&ids).await.unwrap();
        for n in 0..50 {
            for lane in &lanes {
                lane.send(batch(lane.id(), 1, n)).await.unwrap();
            }
        }
        sink.wait_for_messages(150).await;
    };
    deliver(&intake, settings, acked).await.unwrap();
    let expected: Vec<_> = ["a", "b", "c"]
        .iter()
        .flat_map(|c| (0..50).map(move |n| format!("{c}-{n}")))
        .collect();
    assert_eq!(sink.messages(), expected);
    assert!(sink.with(|state| state.call_sizes.iter().all(|n| *n <= 7)));
}

#[tokio::test(start_paused = true)]
async fn a_gap_closes_the_lane_and_resuming_opens_another_at_the_committed_end() {
    let sink = Arc::new(MemorySink::default());
    let intake = intake(&sink, 1);
    let id = stream_id("a", 0);
    deliver(&intake, DeliverSettings::default(), async {
        let first = lane(&intake, &id).await;
        first.send(batch(&id, 1, 0)).await.unwrap();
        first.send(batch(&id, 1, 2)).await.unwrap();
        assert_eq!(first.refused().await, Refusal::Gap);
        first.send(batch(&id, 1, 3)).await.unwrap();
        assert_eq!(first.acked(), Position(10));
        let second = lane(&intake, &id).await;
        assert_eq!(second.end().map(|end| end.end), Some(Position(10)));
        for n in 1..4 {
            second.send(batch(&id, 1, n)).await.unwrap();
        }
        sink.wait_for_messages(4).await;
    })
    .await
    .unwrap();
    assert_eq!(sink.messages(), ["a-0", "a-1", "a-2", "a-3"]);
}

#[tokio::test(start_paused = true)]
async fn the_writer_that_resumed_last_wins() {
    let sink = Arc::new(MemorySink::default());
    let (old, new) = (intake(&sink, 1), intake(&sink, 2));
    let id = stream_id("a", 0);
    let fenced = async {
        let lane_of_old = lane(&old, &id).await;
        let _lane_of_new = lane(&new, &id).await;
        lane_of_old.send(batch(&id, 1, 0)).await.unwrap();
        assert_eq!(lane_of_old.refused().await, Refusal::Fenced);
    };
    deliver(&old, DeliverSettings::default(), fenced)
        .await
        .unwrap();
    assert_eq!(sink.messages(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_the_sink_can_never_take_becomes_a_gap_record() {
    let sink = Arc::new(MemorySink::default());
    let intake = intake(&sink, 1);
    let id = stream_id("a", 0);
    sink.reject("a-1");
    deliver(&intake, DeliverSettings::default(), async {
        let lane = lane(&intake, &id).await;
        for n in 0..3 {
            lane.send(batch(&id, 1, n)).await.unwrap();
        }
        sink.wait_for_messages(3).await;
    })
    .await
    .unwrap();
    let entries = sink.entries();
    assert_eq!(
        entries[1].attribute(tawny_model::gap::GAP_ATTRIBUTE),
        Some("refused")
    );
    assert_eq!(entries[1].message, "gap: 10 bytes refused by the store");
    assert_eq!(
        (entries[0].message.as_str(), entries[2].message.as_str()),
        ("a-0", "a-2")
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_says_what_was_left_when_the_sink_does_not_answer() {
    let sink = Arc::new(MemorySink::default());
    let intake = intake(&sink, 1);
    let id = stream_id("a", 0);
    sink.fail_next(&[Remedy::Retry; 1000]);
    let result = deliver(&intake, DeliverSettings::default(), async {
        lane(&intake, &id)
            .await
            .send(batch(&id, 1, 0))
            .await
            .unwrap();
    })
    .await;
    match result {
        Err(Error::NotDelivered {
            n_batches, waited, ..
        }) => {
            assert_eq!((n_batches, waited), (1, DeliverSettings::default().drain));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_says_stand_down_ends_delivery_and_frees_senders() {
    let sink = Arc::new(MemorySink::default());
    let intake = intake(&sink, 1);
    let id = stream_id("a", 0);
    sink.fail_next(&[Remedy::StandDown]);
    let lane = lane(&intake, &id).await;
    lane.send(batch(&id, 1, 0)).await.unwrap();
    let result = Deliverer::new(&intake, DeliverSettings::default())
        .run(CancellationToken::new())
        .await;
    assert_eq!(
        result.map_err(|error| error.remedy()),
        Err(Remedy::StandDown)
    );
    assert!(matches!(
        lane.send(batch(&id, 1, 1)).await,
        Err(Error::Closed)
    ));
}

#[tokio::test(start_paused = true)]
async fn senders_wait_while_the_budget_is_used_up() {
    let sink = Arc::new(MemorySink::default());
    let intake = intake(&sink, 1);
    let id = stream_id("a", 0);
    let lane = lane(&intake, &id).await;
    let mut n = 0;
    let full = async {
        loop {
            lane.send(batch(&id, 1, n)).await.unwrap();
            n += 1;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(1), full)
            .await
            .is_err()
    );
    let n_sent = usize::try_from(n).unwrap();
    deliver(&intake, DeliverSettings::default(), async {
        sink.wait_for_messages(n_sent).await;
        lane.send(batch(&id, 1, n)).await.unwrap();
    })
    .await
    .unwrap();
    assert_eq!(sink.messages().len(), n_sent + 1);
    assert_eq!(intake.metrics().queue_bytes.get(), 0);
}
