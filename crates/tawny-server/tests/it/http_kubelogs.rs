//! kubelogs' HTTP interface, as its page and its users' scripts call it.

use http::{Request, StatusCode};
use serde_json::json;

use crate::fixture::{Fixture, Lines, NOW, entry, golden, six_entries, stream};

async fn six() -> Fixture {
    let fixture = Fixture::start().await;
    fixture.append(six_entries()).await;
    fixture
}

async fn messages(fixture: &mut Fixture, path: &str) -> Vec<String> {
    let page = fixture.json(path).await;
    let entries = page["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| entry["message"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn page_has_kubelogs_shape_kl_70() {
    let mut fixture = six().await;
    let page = fixture.json("/api/logs?limit=1&namespace=bank").await;
    insta::assert_json_snapshot!(golden(&page), @r#"
    {
      "entries": [
        {
          "attrs": {
            "pod_uid": "uid-ledger-1",
            "status": "500"
          },
          "container": "app",
          "id": "[…]",
          "message": "out of memory",
          "namespace": "bank",
          "pod": "ledger-1",
          "severity": 6,
          "timestamp": 1769860740123456789
        }
      ],
      "hasMore": true,
      "nextCursor": "[…]",
      "total": 2
    }
    "#);
    assert_eq!(page["nextCursor"], page["entries"][0]["id"]);
    assert!(page["nextCursor"].is_i64());
}

#[tokio::test]
async fn every_parameter_narrows_kl_70() {
    let mut fixture = six().await;
    for (query, wanted) in [
        (
            "order=asc&namespace=bank",
            &["slow commit", "out of memory"][..],
        ),
        (
            "order=desc&namespace=bank",
            &["out of memory", "slow commit"],
        ),
        ("pod=api-1&minSeverity=5", &["payment failed: timeout"]),
        ("container=nginx&search=cart", &["GET /cart 200"]),
        (
            "search=pay*&order=asc",
            &["payment failed: timeout", "GET /pay 500"],
        ),
        (
            "startTime=2026-01-31T11:56:00.123456789Z&endTime=2026-01-31T11:58:00.123456789Z&order=asc",
            &["slow commit", "payment failed: timeout"],
        ),
        ("attr.status=500&limit=1", &["out of memory"]),
        (
            "attr.pod_uid=uid-web-1&order=asc",
            &["GET /cart 200", "GET /pay 500"],
        ),
        ("attr.status=404", &[]),
        // Empty is the same as absent: kubelogs' page sends all of its fields.
        (
            "namespace=&pod=&container=&search=&minSeverity=0&limit=1",
            &["out of memory"],
        ),
    ] {
        assert_eq!(
            messages(&mut fixture, &format!("/api/logs?{query}")).await,
            wanted,
            "{query}"
        );
    }
}

#[tokio::test]
async fn cursor_skips_nothing_and_repeats_nothing_kl_70() {
    let mut fixture = six().await;
    for (order, cursor) in [("asc", "afterId"), ("desc", "beforeId")] {
        let mut read = Vec::new();
        let mut path = format!("/api/logs?limit=4&order={order}");
        loop {
            let page = fixture.json(&path).await;
            for entry in page["entries"].as_array().unwrap() {
                read.push(entry["message"].as_str().unwrap().to_owned());
            }
            if page["hasMore"] == false {
                assert!(page.get("nextCursor").is_none());
                break;
            }
            path = format!(
                "/api/logs?limit=4&order={order}&{cursor}={}",
                page["nextCursor"]
            );
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
async fn page_holds_100_and_at_most_1000_kl_70() {
    let mut fixture = Fixture::start().await;
    let web = stream("shop", "web-1", "nginx");
    let entries = (0..1_100)
        .map(|n| entry(&web, n, tawny_model::Severity::Info, "line"))
        .collect();
    fixture.append(entries).await;
    for (query, n) in [("", 100), ("?limit=5000", 1_000), ("?limit=7", 7)] {
        assert_eq!(
            messages(&mut fixture, &format!("/api/logs{query}"))
                .await
                .len(),
            n
        );
    }
}

#[tokio::test]
async fn bad_parameters_are_400_and_say_what_is_wrong_kl_70() {
    let mut fixture = six().await;
    let answer = fixture.get("/api/logs?search=cart%20AND%20%28").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    insta::assert_json_snapshot!(answer.json(), @r#"
    {
      "error": {
        "code": "bad_query",
        "column": 11,
        "message": "query does not parse: column 11: expected a word or a phrase, found the end"
      }
    }
    "#);
    for (query, code, message) in [
        (
            "minSeverity=7",
            "bad_parameter",
            "parameter `minSeverity`: `7` is none of 0 to 6",
        ),
        (
            "limit=many",
            "bad_parameter",
            "parameter `limit`: `many` is not a number",
        ),
        (
            "order=up",
            "bad_parameter",
            "parameter `order`: `up` is none of desc, asc",
        ),
        (
            "afterId=x",
            "bad_parameter",
            "parameter `afterId`: `x` is not an id",
        ),
        (
            "pod=a&pod=b",
            "bad_parameter",
            "parameter `pod`: is given twice",
        ),
        (
            "minSeverty=3",
            "unknown_parameter",
            "there is no parameter `minSeverty` here",
        ),
    ] {
        let answer = fixture.get(&format!("/api/logs?{query}")).await;
        assert_eq!(
            answer.error(),
            (StatusCode::BAD_REQUEST, code.into(), message.into()),
            "{query}"
        );
    }
    let answer = fixture.get("/api/logs?minSeverty=3").await;
    assert_eq!(
        answer.json()["error"]["hint"],
        "did you mean `minSeverity`?"
    );
    let answer = fixture.get("/api/logs?startTime=tomorrow").await;
    assert!(answer.error().2.contains("is no time"), "{}", answer.text);
}

#[tokio::test]
async fn stats_have_kubelogs_shape_kl_72() {
    let mut fixture = six().await;
    let stats = fixture.json("/api/stats").await;
    assert!(stats["diskSizeBytes"].as_u64().unwrap() > 0);
    insta::assert_json_snapshot!(golden(&stats), @r#"
    {
      "diskSizeBytes": "[…]",
      "newestEntry": 1769860740123456789,
      "oldestEntry": 1769860440123456789,
      "totalEntries": 6
    }
    "#);
}

#[tokio::test]
async fn filters_list_names_in_order_kl_73() {
    let mut fixture = six().await;
    assert_eq!(
        fixture.json("/api/filters/namespaces").await,
        json!(["bank", "shop"])
    );
    assert_eq!(
        fixture.json("/api/filters/containers").await,
        json!(["app", "nginx"])
    );
}

async fn next_message(events: &mut Lines) -> String {
    events.data().await["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn stream_begins_with_50_oldest_first_and_goes_on_live_kl_71() {
    let mut fixture = Fixture::start().await;
    let web = stream("shop", "web-1", "nginx");
    let past = (0..60)
        .map(|n| {
            entry(
                &web,
                100 - n,
                tawny_model::Severity::Info,
                &format!("past {n}"),
            )
        })
        .collect();
    fixture.append(past).await;
    let mut events = fixture.stream("/api/logs/stream?namespace=shop").await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.headers["x-accel-buffering"], "no");
    for n in 10..60 {
        assert_eq!(next_message(&mut events).await, format!("past {n}"));
    }
    let other = stream("bank", "ledger-1", "app");
    fixture
        .append(vec![
            entry(&other, 1, tawny_model::Severity::Info, "elsewhere"),
            entry(&web, 1, tawny_model::Severity::Info, "live"),
        ])
        .await;
    assert_eq!(next_message(&mut events).await, "live");
}

#[tokio::test]
async fn event_has_kubelogs_shape_and_an_id_kl_71() {
    let mut fixture = six().await;
    let mut events = fixture.stream("/api/logs/stream?minSeverity=6").await;
    let id = events.next().await.unwrap();
    let id = id.strip_prefix("id: ").unwrap().to_owned();
    let data = events.data().await;
    assert_eq!(data["id"].to_string(), id);
    insta::assert_json_snapshot!(golden(&data), @r#"
    {
      "attrs": {
        "pod_uid": "uid-ledger-1",
        "status": "500"
      },
      "container": "app",
      "id": "[…]",
      "message": "out of memory",
      "namespace": "bank",
      "pod": "ledger-1",
      "severity": 6,
      "timestamp": 1769860740123456789
    }
    "#);
    assert_eq!(events.next().await.unwrap(), ": live");
}

#[tokio::test]
async fn stream_goes_on_behind_the_last_id_given_either_way_kl_71() {
    let mut fixture = six().await;
    let page = fixture.json("/api/logs?order=asc&limit=4").await;
    let last = page["nextCursor"].clone();

    let mut events = fixture
        .stream(&format!("/api/logs/stream?lastId={last}"))
        .await;
    assert_eq!(next_message(&mut events).await, "GET /pay 500");
    assert_eq!(next_message(&mut events).await, "out of memory");

    // A browser that reconnects by itself repeats the address and adds the header.
    let again = Request::get("/api/logs/stream?lastId=1").header("last-event-id", last.to_string());
    let mut events = fixture.stream_with(again).await;
    assert_eq!(next_message(&mut events).await, "GET /pay 500");
}

#[tokio::test]
async fn javascript_safe_times_are_read_too_kl_70() {
    let mut fixture = six().await;
    let from_ms = NOW.as_millis() - 150_000;
    assert_eq!(
        messages(
            &mut fixture,
            &format!("/api/logs?startTime={from_ms}&order=asc")
        )
        .await,
        ["GET /pay 500", "out of memory"]
    );
}
