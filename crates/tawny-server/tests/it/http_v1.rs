//! `/api/v1`: our own search interface.

use http::StatusCode;
use serde_json::json;
use tawny_model::LogEntry;
use tawny_wire::api::SearchResponse;

use crate::fixture::{Fixture, golden, six_entries};

async fn six() -> Fixture {
    let fixture = Fixture::start().await;
    fixture.append(six_entries()).await;
    fixture
}

async fn messages(fixture: &mut Fixture, query: &str) -> Vec<String> {
    let page = fixture.json(&format!("/api/v1/search?{query}")).await;
    let entries = page["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["message"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn search_page_in_full() {
    let mut fixture = six().await;
    let page = fixture
        .json("/api/v1/search?q=namespace:bank&limit=1")
        .await;
    insta::assert_json_snapshot!(golden(&page), @r#"
    {
      "entries": [
        {
          "attributes": {
            "status": "500"
          },
          "container": "app",
          "id": "[…]",
          "image": "registry/app:1",
          "labels": {
            "app": "shop"
          },
          "message": "out of memory",
          "namespace": "bank",
          "node": "node-a",
          "output": "stderr",
          "pod": "ledger-1",
          "pod_uid": "uid-ledger-1",
          "restart": 1,
          "severity": "fatal",
          "timestamp": "2026-01-31T11:59:00.123456789Z",
          "workload": "Deployment/app"
        }
      ],
      "has_more": true,
      "next_cursor": "[…]"
    }
    "#);
    assert_eq!(page["next_cursor"], page["entries"][0]["id"]);
}

#[tokio::test]
async fn answer_reads_back_as_the_entries_stored() {
    let mut fixture = six().await;
    let answer = fixture.get("/api/v1/search?order=asc").await;
    let page: SearchResponse<'_> = serde_json::from_str(&answer.text).unwrap();
    let back: Vec<LogEntry> = page.entries.into_iter().map(LogEntry::from).collect();
    for (back, stored) in back.iter().zip(six_entries()) {
        assert_eq!(
            *back,
            LogEntry {
                id: back.id,
                ..stored
            }
        );
    }
    assert_eq!(back.len(), 6);
}

#[tokio::test]
async fn query_and_time_narrow() {
    let mut fixture = six().await;
    for (query, wanted) in [
        (
            "q=level%3E%3Derror&order=asc",
            &["payment failed: timeout", "out of memory"][..],
        ),
        (
            "q=cart&order=asc",
            &["GET /cart 200", "cache miss for cart"],
        ),
        ("q=cart%20-container:nginx", &["cache miss for cart"]),
        ("since=2m", &["GET /pay 500", "out of memory"]),
        ("since=150s&to=90s", &["GET /pay 500"]),
        ("from=2026-01-31T11:58:30Z", &["out of memory"]),
        (
            "from=1769860500&to=1769860550&order=asc",
            &["cache miss for cart"],
        ),
        (
            "from=1769860500000&to=1769860550000&order=asc",
            &["cache miss for cart"],
        ),
        ("q=&since=0&limit=1&order=asc", &["GET /cart 200"]),
    ] {
        let mut found = messages(&mut fixture, query).await;
        if !query.contains("asc") {
            found.reverse();
        }
        assert_eq!(found, wanted, "{query}");
    }
}

#[tokio::test]
async fn cursor_reads_on_in_both_orders() {
    let mut fixture = six().await;
    for order in ["asc", "desc"] {
        let mut read = Vec::new();
        let mut path = format!("/api/v1/search?limit=4&order={order}");
        loop {
            let page = fixture.json(&path).await;
            for entry in page["entries"].as_array().unwrap() {
                read.push(entry["message"].as_str().unwrap().to_owned());
            }
            let Some(cursor) = page.get("next_cursor") else {
                break;
            };
            let cursor = cursor.as_str().unwrap();
            path = format!("/api/v1/search?limit=4&order={order}&cursor={cursor}");
        }
        let mut wanted: Vec<String> = six_entries()
            .into_iter()
            .map(|entry| entry.message)
            .collect();
        if order == "desc" {
            wanted.reverse();
        }
        assert_eq!(read, wanted, "{order}");
    }
}

#[tokio::test]
async fn histogram_counts_by_bucket_and_severity() {
    let mut fixture = six().await;
    let histogram = fixture
        .json("/api/v1/histogram?bucket=2m&q=-level:debug")
        .await;
    insta::assert_json_snapshot!(histogram, @r#"
    {
      "bucket": "2m",
      "buckets": [
        {
          "counts": {
            "info": 1
          },
          "start": "2026-01-31T11:54:00.000000000Z",
          "total": 1
        },
        {
          "counts": {
            "error": 1,
            "warn": 1
          },
          "start": "2026-01-31T11:56:00.000000000Z",
          "total": 2
        },
        {
          "counts": {
            "fatal": 1,
            "info": 1
          },
          "start": "2026-01-31T11:58:00.000000000Z",
          "total": 2
        }
      ],
      "total": 5
    }
    "#);
}

#[tokio::test]
async fn histogram_picks_a_bucket_for_the_time_asked_for() {
    let mut fixture = six().await;
    assert_eq!(fixture.json("/api/v1/histogram").await["bucket"], "5s");
    assert_eq!(
        fixture.json("/api/v1/histogram?since=1h&to=now").await["bucket"],
        "30s"
    );
    let empty = fixture.json("/api/v1/histogram?q=nowhere").await;
    assert_eq!(
        (&empty["buckets"], &empty["total"]),
        (&json!([]), &json!(0))
    );
}

#[tokio::test]
async fn facets_count_values_most_frequent_first() {
    let mut fixture = six().await;
    let facets = fixture
        .json("/api/v1/facets?fields=namespace,level,label.app,status&q=-level:debug")
        .await;
    insta::assert_json_snapshot!(facets["facets"][0], @r#"
    {
      "field": "namespace",
      "values": [
        {
          "count": 3,
          "value": "shop"
        },
        {
          "count": 2,
          "value": "bank"
        }
      ]
    }
    "#);
    let values = |idx: usize| facets["facets"][idx]["values"].clone();
    assert_eq!(values(1)[0], json!({"value": "info", "count": 2}));
    assert_eq!(facets["facets"][2]["field"], "label.app");
    assert_eq!(values(2), json!([{"value": "shop", "count": 5}]));
    assert_eq!(values(3), json!([{"value": "500", "count": 5}]));

    let fields = fixture.json("/api/v1/facets").await;
    let fields: Vec<_> = fields["facets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|facet| facet["field"].clone())
        .collect();
    assert_eq!(
        fields,
        ["level", "namespace", "workload", "pod", "container", "node"]
    );
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let mut fixture = six().await;
    for (path, code, message) in [
        (
            "search?q=cart%20(",
            "bad_query",
            "query does not parse: column 7",
        ),
        (
            "search?q=/(/",
            "bad_query",
            "query does not parse: column 1",
        ),
        (
            "search?limit=0",
            "bad_parameter",
            "parameter `limit`: 0 is not from 1 to 10000",
        ),
        (
            "search?limit=10001",
            "bad_parameter",
            "parameter `limit`: 10001 is not from 1 to 10000",
        ),
        (
            "search?cursor=x",
            "bad_parameter",
            "parameter `cursor`: `x` is not a cursor",
        ),
        (
            "search?since=1h&from=2h",
            "bad_parameter",
            "parameter `since`: cannot stand beside `from`",
        ),
        (
            "search?since=later",
            "bad_parameter",
            "parameter `since`: `later` is no time",
        ),
        (
            "search?query=x",
            "unknown_parameter",
            "there is no parameter `query` here",
        ),
        (
            "histogram?bucket=wide",
            "bad_parameter",
            "parameter `bucket`: `wide` is no duration",
        ),
        ("histogram?bucket=0", "bad_request", "request is invalid"),
        (
            "facets?limit=5000",
            "bad_parameter",
            "parameter `limit`: 5000 is not from 1 to 1000",
        ),
        (
            "tail?format=xml",
            "bad_parameter",
            "parameter `format`: `xml` is none of ndjson, sse",
        ),
        (
            "tail?last=-1",
            "bad_parameter",
            "parameter `last`: `-1` is not a number",
        ),
    ] {
        let answer = fixture.get(&format!("/api/v1/{path}")).await;
        let (status, found_code, found_message) = answer.error();
        assert_eq!(
            (status, found_code.as_str()),
            (StatusCode::BAD_REQUEST, code),
            "{path}"
        );
        assert!(
            found_message.starts_with(message),
            "{path}: {found_message}"
        );
    }
    let answer = fixture.get("/api/v1/search?query=x").await;
    assert_eq!(
        answer.json()["error"]["hint"],
        "known are q, since, from, to, limit, order, cursor"
    );
    let answer = fixture.get("/api/v1/search?limti=1").await;
    assert_eq!(answer.json()["error"]["hint"], "did you mean `limit`?");
}

#[tokio::test]
async fn page_is_compressed_for_who_accepts_it() {
    let mut fixture = six().await;
    let request = http::Request::get("/api/v1/search")
        .header("accept-encoding", "gzip")
        .body(http_body_util::Empty::new())
        .unwrap();
    let response = fixture.open(request).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
}
