//! `tawny.v1.Ingest`: what an agent relies on.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use tawny_model::{
    Batch, Entries, Output, Position, ResumeMark, Severity, Stream, StreamEnd, Timestamp, WriterId,
};
use tawny_server::Limits;
use tawny_wire::{
    proto::tawny::{
        PushRequest, PushResponse, ResumeRequest, StreamId, ingest_client::IngestClient,
        push_response::answer::Result as Told,
    },
    push,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, codec::CompressionEncoding, transport::Channel};

use crate::{
    fixture::{self, Fixture, golden},
    rigged::{Rigged, Trouble},
};

const WRITER: WriterId = WriterId(11);

/// Rows of 10 bytes each, numbered by where they end.
fn batch(stream: &Arc<Stream>, start: u64, n_rows: u64) -> Batch {
    let mut entries = Entries::default();
    for row in 1..=n_rows {
        let end = Position(start + row * 10);
        entries
            .push(
                Timestamp::from_nanos(fixture::NOW.as_nanos() + i64::try_from(end.0).unwrap()),
                Severity::Info,
                Output::Stderr,
                &format!("row {end}"),
                [("status", "200")],
                end,
            )
            .unwrap();
    }
    Batch {
        stream: Arc::clone(stream),
        writer: WRITER,
        start: Position(start),
        end: Position(start + n_rows * 10),
        end_mark: ResumeMark {
            timestamp: fixture::NOW,
            n_lines: 3,
        },
        entries,
    }
}

fn request(batches: &[Batch]) -> PushRequest {
    PushRequest {
        writer: WRITER.0,
        batches: batches.iter().map(push::encode).collect(),
    }
}

async fn client(fixture: &Fixture) -> IngestClient<Channel> {
    IngestClient::new(fixture.channel().await)
}

/// A push stream: a sender of requests and the answers.
async fn open(
    client: &mut IngestClient<Channel>,
) -> (mpsc::Sender<PushRequest>, Streaming<PushResponse>) {
    let (requests_tx, requests_rx) = mpsc::channel(16);
    let answers = client.push(ReceiverStream::new(requests_rx)).await.unwrap();
    (requests_tx, answers.into_inner())
}

fn told(answer: Result<PushResponse, Status>) -> Vec<Told> {
    let answers = answer.unwrap().answers;
    answers
        .into_iter()
        .map(|answer| answer.result.unwrap())
        .collect()
}

async fn resume(
    client: &mut IngestClient<Channel>,
    writer: WriterId,
    stream: &Stream,
) -> Option<StreamEnd> {
    let request = ResumeRequest {
        writer: writer.0,
        streams: vec![(&stream.id).into()],
    };
    let mut answers = client.resume(request).await.unwrap().into_inner().answers;
    assert_eq!(answers.len(), 1);
    answers.remove(0).end.map(StreamEnd::from)
}

#[tokio::test]
async fn each_request_is_answered_in_order_with_what_became_of_it() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture)
        .await
        .send_compressed(CompressionEncoding::Zstd);
    let (web, api) = (
        fixture::stream("shop", "web-1", "nginx"),
        fixture::stream("shop", "api-1", "app"),
    );
    assert_eq!(resume(&mut client, WRITER, &web).await, None);

    let requests = stream::iter([
        request(&[batch(&web, 0, 3), batch(&api, 0, 1)]),
        request(&[batch(&web, 0, 3)]),
        request(&[batch(&web, 20, 2), batch(&web, 90, 1)]),
        request(&[]),
    ]);
    let answers: Vec<_> = client
        .push(requests)
        .await
        .unwrap()
        .into_inner()
        .collect()
        .await;
    let answers: Vec<_> = answers.into_iter().map(told).collect();
    assert_eq!(
        answers,
        [
            vec![Told::StoredEnd(30), Told::StoredEnd(10)],
            vec![Told::StoredEnd(30)],
            vec![Told::StoredEnd(40), Told::GapCommitted(40)],
            vec![],
        ]
    );
    assert_eq!(fixture.store.stats().await.unwrap().n_entries, 5);
    let end = resume(&mut client, WRITER, &web).await.unwrap();
    assert_eq!(
        end,
        StreamEnd {
            end: Position(40),
            mark: batch(&web, 0, 1).end_mark,
        }
    );
}

#[tokio::test]
async fn pushed_lines_are_found_with_all_that_is_known_of_their_stream() {
    let mut fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let web = fixture::stream("shop", "web-1", "nginx");
    let (requests, mut answers) = open(&mut client).await;
    requests.send(request(&[batch(&web, 0, 1)])).await.unwrap();
    told(answers.next().await.unwrap());
    // Answered means committed: no wait in between.
    let found = fixture.json("/api/v1/search?q=row%20label.app:shop").await;
    insta::assert_json_snapshot!(golden(&found["entries"][0]), @r#"
    {
      "attributes": {
        "status": "200"
      },
      "container": "nginx",
      "id": "[…]",
      "image": "registry/app:1",
      "labels": {
        "app": "shop"
      },
      "message": "row 10",
      "namespace": "shop",
      "node": "node-a",
      "output": "stderr",
      "pod": "web-1",
      "pod_uid": "uid-web-1",
      "restart": 1,
      "severity": "info",
      "timestamp": "2026-01-31T12:00:00.000000010Z",
      "workload": "Deployment/app"
    }
    "#);
}

#[tokio::test]
async fn writer_that_was_replaced_is_fenced() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let web = fixture::stream("shop", "web-1", "nginx");
    resume(&mut client, WRITER, &web).await;
    resume(&mut client, WriterId(12), &web).await;
    let (requests, mut answers) = open(&mut client).await;
    requests.send(request(&[batch(&web, 0, 1)])).await.unwrap();
    assert_eq!(told(answers.next().await.unwrap()), [Told::Fenced(true)]);
}

#[tokio::test]
async fn malformed_batch_is_named_and_nothing_of_its_request_is_stored() {
    let mut fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let web = fixture::stream("shop", "web-1", "nginx");
    let mut bad = request(&[batch(&web, 0, 1), batch(&web, 10, 1)]);
    bad.batches[1].message_lens = vec![1];
    let (requests, mut answers) = open(&mut client).await;
    requests.send(bad).await.unwrap();
    let error = answers.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(
        error
            .message()
            .starts_with("batch 1: lengths of `messages`"),
        "{}",
        error.message()
    );
    assert!(answers.next().await.is_none());
    assert_eq!(fixture.store.stats().await.unwrap().n_entries, 0);
    let metrics = fixture.get("/metrics").await.text;
    assert!(
        metrics.contains(
            "tawny_ingest_requests_total{protocol=\"tawny\",code=\"invalid_argument\"} 1"
        ),
        "{metrics}"
    );

    let nameless = ResumeRequest {
        writer: 1,
        streams: vec![StreamId::default()],
    };
    let error = client.resume(nameless).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.message(), "stream 0: `stream.id.pod_uid` is missing");
}

#[tokio::test]
async fn request_over_the_limit_is_out_of_range_packed_or_not() {
    let limits = Limits {
        max_message: tawny_model::ByteSize::kib(64),
        ..Limits::default()
    };
    let mut fixture = Fixture::with(limits, |store| store).await;
    let web = fixture::stream("shop", "web-1", "nginx");
    for is_packed in [false, true] {
        let mut client = client(&fixture).await;
        if is_packed {
            client = client.send_compressed(CompressionEncoding::Zstd);
        }
        let (requests, mut answers) = open(&mut client).await;
        requests
            .send(request(&[batch(&web, 0, 10_000)]))
            .await
            .unwrap();
        let error = answers.next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::OutOfRange);
        assert!(
            error.message().contains("65536 bytes"),
            "{}",
            error.message()
        );
    }
    let metrics = fixture.get("/metrics").await.text;
    assert!(
        metrics.contains("tawny_ingest_requests_total{protocol=\"tawny\",code=\"out_of_range\"} 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn slow_store_holds_the_sender_back() {
    let mut rigged = None;
    let fixture = Fixture::with(Limits::default(), |store| {
        let store = Rigged::new(store);
        rigged = Some(Arc::clone(&store));
        store
    })
    .await;
    let rigged = rigged.unwrap();
    rigged.set(Trouble::Gated);
    let mut client = client(&fixture).await;
    let web = fixture::stream("shop", "web-1", "nginx");
    let (requests, mut answers) = open(&mut client).await;
    for n in 0..5 {
        requests
            .send(request(&[batch(&web, n * 10, 1)]))
            .await
            .unwrap();
    }
    rigged.someone_waits().await;
    // One request is in work; the others are not even decoded.
    assert_eq!(rigged.waiting.available_permits(), 0);
    rigged.gate.add_permits(5);
    for n in 1..=5 {
        assert_eq!(
            told(answers.next().await.unwrap()),
            [Told::StoredEnd(n * 10)]
        );
    }
}

#[tokio::test]
async fn stop_answers_the_request_in_work_and_ends_the_stream() {
    let mut rigged = None;
    let mut fixture = Fixture::with(Limits::default(), |store| {
        let store = Rigged::new(store);
        rigged = Some(Arc::clone(&store));
        store
    })
    .await;
    let rigged = rigged.unwrap();
    rigged.set(Trouble::Gated);
    let mut client = client(&fixture).await;
    let web = fixture::stream("shop", "web-1", "nginx");
    let (requests, mut answers) = open(&mut client).await;
    requests.send(request(&[batch(&web, 0, 1)])).await.unwrap();
    requests.send(request(&[batch(&web, 10, 1)])).await.unwrap();
    rigged.someone_waits().await;
    fixture.stop.cancel();
    rigged.gate.add_permits(1);
    assert_eq!(told(answers.next().await.unwrap()), [Told::StoredEnd(10)]);
    let error = answers.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    fixture.stopped().await;
    assert_eq!(fixture.store.stats().await.unwrap().n_entries, 1);
}
