//! `/api/v1/sql` over both engines.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tawny_model::{ByteSize, Severity};
use tawny_runtime::{ManualClock, Registry};
use tawny_server::Limits;
use tawny_store::{LakeConfig, LakeStore, LogStore};
use tempfile::TempDir;

use crate::fixture::{Answer, Fixture, NOW, entry, six_entries, stream};

/// A lake whose rows become segments all the time.
async fn lake() -> (TempDir, Arc<dyn LogStore>) {
    let dir = tempfile::tempdir().unwrap();
    let config = LakeConfig {
        memory: ByteSize::kib(48),
        flush_age: Duration::ZERO,
        ..LakeConfig::new(dir.path().join("lake"))
    };
    let clock = Arc::new(ManualClock::new(NOW));
    let store = LakeStore::open(config, clock, &mut Registry::default()).await;
    (dir, Arc::new(store.unwrap()))
}

/// A server over each engine.
async fn servers(limits: Limits) -> [(Option<TempDir>, Fixture); 2] {
    let (dir, lake) = lake().await;
    [
        (None, Fixture::with(limits.clone(), |sqlite| sqlite).await),
        (Some(dir), Fixture::with(limits, |_| lake).await),
    ]
}

fn request(body: &serde_json::Value) -> Request<Full<Bytes>> {
    Request::post("/api/v1/sql")
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .unwrap()
}

async fn post(fixture: &mut Fixture, body: serde_json::Value) -> Answer {
    fixture.ask(request(&body)).await
}

fn many(n: i64) -> Vec<tawny_model::LogEntry> {
    let api = stream("shop", "api-1", "app");
    (0..n)
        .map(|n| {
            entry(
                &api,
                n,
                Severity::Info,
                &format!("request {n} {}", "x".repeat(200)),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_in_the_format_that_was_asked_for() {
    for (_dir, mut fixture) in servers(Limits::default()).await {
        fixture.append(six_entries()).await;
        let sql = "SELECT namespace, count(*) AS n, max(severity_number) AS worst FROM logs \
                   WHERE timestamp > now() - interval '5 minutes' AND status = '500' GROUP BY 1 ORDER BY 1";
        let answer = post(&mut fixture, json!({"sql": sql})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(
            answer.text,
            "{\"namespace\":\"bank\",\"n\":2,\"worst\":6}\n{\"namespace\":\"shop\",\"n\":3,\"worst\":5}\n"
        );
        assert_eq!(answer.headers["content-type"], "application/x-ndjson");
        assert_eq!(answer.headers["x-tawny-truncated"], "false");
        assert_eq!(answer.headers["x-tawny-limit"], "10000");
        let answer = post(
            &mut fixture,
            json!({"sql": sql, "format": "csv", "limit": 1}),
        )
        .await;
        assert_eq!(answer.text, "namespace,n,worst\nbank,2,6\n");
        assert_eq!(answer.headers["x-tawny-truncated"], "true");
        assert_eq!(answer.headers["x-tawny-limit"], "1");
        // The statement alone, as a body or in the address.
        let plain = Request::post("/api/v1/sql?format=csv")
            .body(Full::<Bytes>::from(
                "SELECT count(*) AS n FROM logs WHERE matches('level>=error')",
            ))
            .unwrap();
        assert_eq!(fixture.ask(plain).await.text, "n\n2\n");
        let answer = fixture.get("/api/v1/sql?sql=SELECT%201%20AS%20one").await;
        assert_eq!(answer.text, "{\"one\":1}\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn written_line_is_there_for_the_next_statement() {
    for (_dir, mut fixture) in servers(Limits::default()).await {
        for (n, entry) in (1..).zip(six_entries()) {
            fixture.append(vec![entry]).await;
            let answer = post(
                &mut fixture,
                json!({"sql": "SELECT count(*) AS n FROM logs"}),
            )
            .await;
            assert_eq!(answer.json(), json!({ "n": n }));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_refused_with_their_place() {
    for (_dir, mut fixture) in servers(Limits::default()).await {
        let mut error = async |body| {
            let answer = post(&mut fixture, body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
            answer.json()["error"].take()
        };
        assert_eq!(
            error(json!({"sql": "SELECT *\nFROM logs WHERE"})).await,
            json!({
                "code": "bad_sql",
                "message": "SQL does not parse: Expected: an expression, found: EOF",
            })
        );
        let syntax = error(json!({"sql": "SELECT *\nFROM logs WHERE AND x"})).await;
        assert_eq!(
            (&syntax["line"], &syntax["column"]),
            (&json!(2), &json!(21)),
            "{syntax}"
        );
        for (body, code, message) in [
            (
                json!({"sql": "DROP TABLE logs"}),
                "bad_sql",
                "SQL is read-only here: DROP TABLE is refused",
            ),
            (
                json!({"sql": "SELECT matches('(')"}),
                "bad_query",
                "matches('('): ",
            ),
            (
                json!({"sql": "SELECT 1", "format": "xml"}),
                "bad_parameter",
                "parameter `format`: `xml` is none of json, csv, arrow",
            ),
            (
                json!({"sql": "SELECT 1", "limit": 0}),
                "bad_parameter",
                "parameter `limit`: 0 is not from 1 to 1000000",
            ),
            (
                json!({"query": "SELECT 1"}),
                "bad_body",
                "the body of the request does not read: unknown field `query`",
            ),
            (
                json!({"sql": "SELECT CAST(pod AS INT) FROM logs UNION SELECT CAST('x' AS INT)"}),
                "bad_sql",
                "Cast error",
            ),
        ] {
            let error = error(body.clone()).await;
            assert_eq!(error["code"], code, "{body}: {error}");
            let found = error["message"].as_str().unwrap();
            assert!(found.starts_with(message), "{body}: {found}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_answer_streams_and_ends_with_how_it_went() {
    for (_dir, mut fixture) in servers(Limits::default()).await {
        fixture.append(many(3_000)).await;
        for (limit, is_truncated) in [(3_000, "false"), (2_900, "true")] {
            let mut request = request(&json!({"sql": "SELECT * FROM logs", "limit": limit}));
            request
                .headers_mut()
                .insert("te", "trailers".parse().unwrap());
            let response = fixture.open(request).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert!(!response.headers().contains_key("x-tawny-truncated"));
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["x-tawny-truncated"], is_truncated);
            let text = body.to_bytes();
            assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), limit);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_on_the_way_is_told_and_never_taken_for_the_end() {
    for (_dir, mut fixture) in servers(Limits::default()).await {
        fixture.append(many(6_000)).await;
        // The cast fails at the oldest entry, which comes late.
        let sql = "SELECT *, CASE WHEN matches('\"request 0\"') THEN CAST(pod AS INT) ELSE 0 END AS n \
                   FROM logs ORDER BY timestamp";
        let body = json!({"sql": sql, "limit": 10_000});
        let answer = post(&mut fixture, body).await;
        // Sorted, so that it fails before the first row.
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
        let endless = json!({
            "sql": "SELECT value, CAST(CASE WHEN value = 200000 THEN 'x' ELSE '1' END AS INT) AS n FROM generate_series(1, 1000000)",
            "limit": 1_000_000,
        });
        let response = fixture.open(request(&endless)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.into_body().collect().await.is_err());
        let mut with_trailers = request(&endless);
        with_trailers
            .headers_mut()
            .insert("te", "trailers".parse().unwrap());
        let response = fixture.open(with_trailers).await;
        let body = response.into_body().collect().await.unwrap();
        let error = body.trailers().unwrap()["x-tawny-error"].to_str().unwrap();
        assert!(
            error.contains("bad_sql") && error.contains("Cast error"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_limited_in_memory_time_and_number() {
    let limits = Limits {
        sql_memory: ByteSize::mib(1),
        query_timeout: Duration::from_secs(1),
        max_queries: 1,
        ..Limits::default()
    };
    for (_dir, mut fixture) in servers(limits).await {
        let large = "SELECT value, count(*) FROM generate_series(1, 3000000) GROUP BY 1";
        let answer = post(&mut fixture, json!({"sql": large})).await;
        let (status, code, message) = answer.error();
        assert_eq!(
            (status, &*code),
            (StatusCode::BAD_REQUEST, "too_expensive"),
            "{message}"
        );
        let slow =
            "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
        let answer = post(&mut fixture, json!({"sql": slow})).await;
        let (status, code, message) = answer.error();
        assert_eq!(
            (status, &*code),
            (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            "{message}"
        );
        // One that streams keeps its turn until its client leaves.
        let wide = json!({"sql": "SELECT value, 'wide' AS text FROM generate_series(1, 100000000)", "limit": 1_000_000});
        let held = fixture.open(request(&wide)).await;
        let (status, code, _) = post(&mut fixture, json!({"sql": "SELECT 1"})).await.error();
        assert_eq!((status, &*code), (StatusCode::TOO_MANY_REQUESTS, "busy"));
        drop(held);
        let answer = post(&mut fixture, json!({"sql": "SELECT 1 AS one"})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
}
