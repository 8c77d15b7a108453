//! `kubelogs.storage.v1` by a stock client.

use std::collections::BTreeMap;

use tawny_model::Severity;
use tawny_server::Limits;
use tawny_wire::proto::kubelogs::{
    DeleteRequest, GetByIdRequest, LogEntry, Order, QueryRequest, QueryResponse, StatsRequest,
    WriteRequest, storage_service_client::StorageServiceClient,
};
use tonic::{Code, codec::CompressionEncoding, transport::Channel};

use crate::{
    fixture::{Fixture, NOW, six_entries},
    rigged::{Rigged, Trouble},
};

async fn client(fixture: &Fixture) -> StorageServiceClient<Channel> {
    StorageServiceClient::new(fixture.channel().await)
}

fn wire(nanos: i64, message: &str) -> LogEntry {
    LogEntry {
        id: 0,
        timestamp_nanos: nanos,
        namespace: "shop".into(),
        pod: "web-1".into(),
        container: "nginx".into(),
        severity: 4,
        message: message.into(),
        attributes: BTreeMap::from([
            ("pod_uid".to_owned(), "u-1".to_owned()),
            ("status".to_owned(), "500".to_owned()),
        ]),
    }
}

async fn six() -> (Fixture, StorageServiceClient<Channel>) {
    let fixture = Fixture::start().await;
    fixture.append(six_entries()).await;
    let client = client(&fixture).await;
    (fixture, client)
}

async fn messages(client: &mut StorageServiceClient<Channel>, query: QueryRequest) -> Vec<String> {
    let found = client.query(query).await.unwrap().into_inner();
    found
        .entries
        .into_iter()
        .map(|entry| entry.message)
        .collect()
}

#[tokio::test]
async fn entry_comes_back_with_every_field_kl_4_kl_5_kl_6_kl_7() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let sent = wire(1_475_713_029_669_794_202, "GET /pay 500");
    let written = client
        .write(WriteRequest {
            entries: vec![sent.clone(), wire(1_475_713_029_669_794_203, "next")],
        })
        .await
        .unwrap();
    assert_eq!(written.into_inner().count, 2);

    let found = client
        .query(QueryRequest::default())
        .await
        .unwrap()
        .into_inner();
    let mut back = found.entries[1].clone();
    let id = std::mem::take(&mut back.id);
    assert_ne!(id, 0);
    assert_eq!(back, sent);
    assert!(!found.has_more);
    assert_eq!((found.next_cursor, found.total_estimate), (0, 2));

    let by_id = client.get_by_id(GetByIdRequest { id }).await.unwrap();
    assert_eq!(by_id.into_inner().entry, Some(found.entries[1].clone()));
}

#[tokio::test]
async fn repeated_write_stores_once_and_answers_the_same_kl_5_kl_14() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    for _ in 0..2 {
        let request = WriteRequest {
            entries: vec![wire(1_000, "once")],
        };
        assert_eq!(client.write(request).await.unwrap().into_inner().count, 1);
    }
    assert_eq!(
        messages(&mut client, QueryRequest::default()).await,
        ["once"]
    );
}

#[tokio::test]
async fn missing_entry_is_not_found_kl_7() {
    let fixture = Fixture::start().await;
    let error = client(&fixture)
        .await
        .get_by_id(GetByIdRequest { id: 42 })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert_eq!(error.message(), "there is no entry 42");
}

#[tokio::test]
async fn every_filter_narrows_kl_6() {
    let (_fixture, mut client) = six().await;
    let all = QueryRequest {
        order: Order::Asc.into(),
        ..QueryRequest::default()
    };
    let at = |idx: usize| six_entries()[idx].timestamp.as_nanos();
    for (query, wanted) in [
        (
            QueryRequest {
                namespace: "bank".into(),
                ..all.clone()
            },
            &["slow commit", "out of memory"][..],
        ),
        (
            QueryRequest {
                pod: "api-1".into(),
                min_severity: 5,
                ..all.clone()
            },
            &["payment failed: timeout"],
        ),
        (
            QueryRequest {
                container: "nginx".into(),
                search: "cart OR nothing".into(),
                ..all.clone()
            },
            &["GET /cart 200"],
        ),
        (
            // From is inclusive, to is exclusive.
            QueryRequest {
                start_time_nanos: at(2),
                end_time_nanos: at(4),
                ..all.clone()
            },
            &["slow commit", "payment failed: timeout"],
        ),
        (
            QueryRequest {
                attributes: BTreeMap::from([
                    ("pod_uid".into(), "uid-ledger-1".into()),
                    ("status".into(), "500".into()),
                ]),
                limit: 1,
                ..all.clone()
            },
            &["slow commit"],
        ),
        (
            QueryRequest {
                attributes: BTreeMap::from([("status".into(), "404".into())]),
                ..all.clone()
            },
            &[],
        ),
    ] {
        assert_eq!(
            messages(&mut client, query.clone()).await,
            wanted,
            "{query:?}"
        );
    }
}

#[tokio::test]
async fn pages_by_cursor_hold_each_entry_once_in_both_orders_kl_6() {
    let (_fixture, mut client) = six().await;
    let sorted: Vec<String> = six_entries()
        .into_iter()
        .map(|entry| entry.message)
        .collect();
    for order in [Order::Asc, Order::Desc] {
        let mut read = Vec::new();
        let mut query = QueryRequest {
            limit: 4,
            order: order.into(),
            ..QueryRequest::default()
        };
        loop {
            let page: QueryResponse = client.query(query.clone()).await.unwrap().into_inner();
            read.extend(page.entries.iter().map(|entry| entry.message.clone()));
            if !page.has_more {
                assert_eq!(page.next_cursor, 0);
                break;
            }
            assert_eq!(page.next_cursor, page.entries.last().unwrap().id);
            match order {
                Order::Asc => query.after_id = page.next_cursor,
                Order::Desc => query.before_id = page.next_cursor,
            }
        }
        if order == Order::Desc {
            read.reverse();
        }
        assert_eq!(read, sorted, "{order:?}");
    }
}

#[tokio::test]
async fn first_page_says_how_many_match_kl_6() {
    let (_fixture, mut client) = six().await;
    let query = QueryRequest {
        limit: 2,
        ..QueryRequest::default()
    };
    let page = client.query(query).await.unwrap().into_inner();
    assert_eq!((page.entries.len(), page.total_estimate), (2, 6));
}

#[tokio::test]
async fn limit_is_100_when_not_given_kl_6() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let entries = (0..150).map(|n| wire(n, "line")).collect();
    client.write(WriteRequest { entries }).await.unwrap();
    let page = client
        .query(QueryRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((page.entries.len(), page.has_more), (100, true));
}

#[tokio::test]
async fn bad_search_is_invalid_argument_that_names_the_column_kl_6() {
    let (_fixture, mut client) = six().await;
    for (query, wanted) in [
        (
            QueryRequest {
                search: "cart AND (".into(),
                ..QueryRequest::default()
            },
            "column 11",
        ),
        (
            QueryRequest {
                limit: -1,
                ..QueryRequest::default()
            },
            "`limit`: is negative",
        ),
        (
            QueryRequest {
                order: 7,
                ..QueryRequest::default()
            },
            "`order`: 7",
        ),
        (
            QueryRequest {
                min_severity: 9,
                ..QueryRequest::default()
            },
            "severity 9 is none of 0 to 6",
        ),
    ] {
        let error = client.query(query).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(wanted), "{}", error.message());
    }
}

#[tokio::test]
async fn entry_with_unknown_severity_refuses_the_whole_write_kl_11() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let bad = LogEntry {
        severity: 7,
        ..wire(2, "bad")
    };
    let error = client
        .write(WriteRequest {
            entries: vec![wire(1, "good"), bad],
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.message(), "entry 1: severity 7 is none of 0 to 6");
    assert!(
        messages(&mut client, QueryRequest::default())
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn delete_and_stats_count_kl_8_kl_9() {
    let (_fixture, mut client) = six().await;
    let at = |idx: usize| six_entries()[idx].timestamp.as_nanos();
    let stats = client.stats(StatsRequest {}).await.unwrap().into_inner();
    assert_eq!(stats.total_entries, 6);
    assert!(stats.disk_size_bytes > 0);
    assert_eq!(
        (stats.oldest_entry_nanos, stats.newest_entry_nanos),
        (at(0), at(5))
    );

    let deleted = client
        .delete(DeleteRequest {
            older_than_nanos: NOW.as_nanos() - 200 * 1_000_000_000,
        })
        .await
        .unwrap();
    assert_eq!(deleted.into_inner().deleted_count, 3);
    let stats = client.stats(StatsRequest {}).await.unwrap().into_inner();
    assert_eq!((stats.total_entries, stats.oldest_entry_nanos), (3, at(3)));
}

#[tokio::test]
async fn empty_store_has_no_oldest_entry_kl_9() {
    let fixture = Fixture::start().await;
    let stats = client(&fixture)
        .await
        .stats(StatsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            stats.total_entries,
            stats.oldest_entry_nanos,
            stats.newest_entry_nanos
        ),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn page_ends_before_a_stock_clients_message_limit() {
    let fixture = Fixture::start().await;
    let mut client = client(&fixture).await;
    let long = "x".repeat(200_000);
    for n in 0..4 {
        let entries = (0..10)
            .map(|m| wire(n * 10 + m, &format!("{n} {m} {long}")))
            .collect();
        client.write(WriteRequest { entries }).await.unwrap();
    }
    let mut query = QueryRequest {
        limit: 40,
        order: Order::Asc.into(),
        ..QueryRequest::default()
    };
    let mut n_read = 0;
    loop {
        let page = client.query(query.clone()).await.unwrap().into_inner();
        n_read += page.entries.len();
        if !page.has_more {
            break;
        }
        query.after_id = page.next_cursor;
    }
    assert_eq!(n_read, 40);
}

#[tokio::test]
async fn message_over_the_limit_is_refused_and_names_it() {
    let limits = Limits {
        max_message: tawny_model::ByteSize::kib(64),
        ..Limits::default()
    };
    let fixture = Fixture::with(limits, |store| store).await;
    let long = "x".repeat(100_000);
    let request = WriteRequest {
        entries: vec![wire(1, &long)],
    };
    let error = client(&fixture)
        .await
        .write(request.clone())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::OutOfRange);
    assert!(
        error.message().contains("limit is: 65536 bytes"),
        "{}",
        error.message()
    );

    // Small on the wire, too large unpacked.
    let mut zipped = client(&fixture)
        .await
        .send_compressed(CompressionEncoding::Zstd);
    let error = zipped.write(request).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(
        error.message().contains("65536 bytes"),
        "{}",
        error.message()
    );
}

#[tokio::test]
async fn compressed_requests_are_taken() {
    let fixture = Fixture::start().await;
    for (n, encoding) in [
        (1, CompressionEncoding::Zstd),
        (2, CompressionEncoding::Gzip),
    ] {
        let mut client = client(&fixture)
            .await
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let request = WriteRequest {
            entries: vec![wire(n, "zipped")],
        };
        client.write(request).await.unwrap();
        assert_eq!(
            messages(&mut client, QueryRequest::default()).await.len(),
            usize::try_from(n).unwrap()
        );
    }
}

#[tokio::test]
async fn full_disk_is_resource_exhausted_and_other_failures_are_internal_kl_10() {
    let mut rigged = None;
    let fixture = Fixture::with(Limits::default(), |store| {
        let store = Rigged::new(store);
        rigged = Some(std::sync::Arc::clone(&store));
        store
    })
    .await;
    let rigged = rigged.unwrap();
    let mut client = client(&fixture).await;
    let request = WriteRequest {
        entries: vec![wire(1, "line")],
    };

    rigged.set(Trouble::DiskFull);
    let error = client.write(request.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(
        error.message().contains("no space left"),
        "{}",
        error.message()
    );
    assert!(!fixture.readiness.is_ready());

    rigged.set(Trouble::Damaged);
    let error = client.query(QueryRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(!error.message().contains("/data"), "{}", error.message());

    rigged.set(Trouble::None);
    client.write(request).await.unwrap();
    assert!(fixture.readiness.is_ready());
}

#[tokio::test]
async fn write_metrics_have_kubelogs_names_kl_99() {
    let (mut fixture, mut client) = six().await;
    let request = WriteRequest {
        entries: vec![wire(1, "a"), wire(2, "b"), wire(1, "a")],
    };
    client.write(request).await.unwrap();
    client.query(QueryRequest::default()).await.unwrap();
    let text = fixture.get("/metrics").await.text;
    for line in [
        "kubelogs_write_total 1",
        "kubelogs_write_entries_total 3",
        "kubelogs_query_total 1",
        "kubelogs_query_duration_seconds_count 1",
        "tawny_ingest_requests_total{protocol=\"kubelogs\",code=\"ok\"} 1",
        "tawny_ingest_lines_total{result=\"new\"} 2",
        "tawny_ingest_lines_total{result=\"duplicate\"} 1",
        "tawny_query_duration_seconds_count{kind=\"search\"} 1",
        "tawny_grpc_requests_total{method=\"Query\",code=\"ok\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test]
async fn severities_of_the_store_are_kubelogs_numbers_kl_11() {
    let (_fixture, mut client) = six().await;
    let found = client
        .query(QueryRequest::default())
        .await
        .unwrap()
        .into_inner();
    let numbers: Vec<u32> = found.entries.iter().map(|entry| entry.severity).collect();
    assert_eq!(numbers, [6, 3, 5, 4, 2, 3]);
    assert_eq!(u32::from(Severity::Fatal.number()), numbers[0]);
}
