//! One agent's deliveries against a deployment that speaks both ways.

use tokio::time::Instant;

use super::*;
use crate::{
    fake::{Answer, Asked, FakeCoder, secret},
    lines::Level,
    metrics::Status,
};

fn delivery(coder: &FakeCoder) -> (Delivery, CoderMetrics) {
    let metrics = CoderMetrics::default();
    let delivery = Delivery::new(coder.endpoint.clone(), &secret("t"), metrics.clone());
    (delivery.unwrap(), metrics)
}

fn line(output: &str) -> Line {
    let at = tawny_model::Timestamp::from_nanos(1_700_000_000_250_000_000);
    Line::new(at, Level::Debug, output)
}

/// Answers requests whose path ends in `end`, verb included, as given; all others are fine.
fn when(end: &'static str, answer: Answer) -> FakeCoder {
    FakeCoder::start(move |asked| {
        if is(asked, end) {
            answer.clone()
        } else {
            Answer::Fine
        }
    })
}

fn is(asked: &Asked, end: &str) -> bool {
    format!("{} {}", asked.verb, asked.path).contains(end)
}

const PATCH: &str = "PATCH /base/api/v2/workspaceagents/me/logs";

/// A deployment without the HTTP way.
fn rpc_only() -> FakeCoder {
    when(PATCH, Answer::Status(404))
}

#[tokio::test(start_paused = true)]
async fn the_source_is_registered_once_and_lines_are_patched() {
    let coder = FakeCoder::start(|_| Answer::Fine);
    let (mut delivery, metrics) = delivery(&coder);
    delivery.send(&[line("one"), line("two")]).await.unwrap();
    delivery.send(&[line("three")]).await.unwrap();
    assert_eq!(
        coder.requests(),
        ["POST log-source", "PATCH logs", "PATCH logs"]
    );
    assert_eq!(coder.outputs("t"), ["one", "two", "three"]);
    let told = &coder.told()[0];
    assert_eq!((told.level, told.created_at), (2, line("").created_at));
    assert_eq!(&coder.asked()[0].body[..], LOG_SOURCE.as_bytes());
    assert_eq!(
        metrics.n_requests(Method::PostLogSource, Status::success),
        1
    );
    assert_eq!(metrics.n_requests(Method::SendLog, Status::success), 2);
    assert_eq!(metrics.n_requests(Method::ConnectRPC, Status::success), 0);
}

#[tokio::test(start_paused = true)]
async fn the_rpc_takes_over_where_the_patch_is_gone() {
    for code in [404, 405, 410] {
        let coder = when(PATCH, Answer::Status(code));
        let (mut first, metrics) = delivery(&coder);
        first.send(&[line("one")]).await.unwrap();
        first.send(&[line("two")]).await.unwrap();
        assert_eq!(
            coder.requests(),
            [
                "POST log-source",
                "PATCH logs",
                "POST log-source",
                "GET buildinfo",
                "GET rpc?version=2.8&role=logstream-kube",
                "RPC /coder.agent.v2.Agent/BatchCreateLogs",
                "RPC /coder.agent.v2.Agent/BatchCreateLogs",
            ]
        );
        assert!(coder.asked().iter().all(|asked| asked.token == "t"));
        assert_eq!(coder.outputs("t"), ["one", "two"]);
        assert_eq!(coder.told()[0].created_at, line("").created_at);
        assert_eq!(metrics.n_requests(Method::ConnectRPC, Status::success), 1);
        assert_eq!(metrics.n_requests(Method::SendLog, Status::failure), 1);
        // Other agents go straight to the RPC.
        let (mut second, _) = delivery(&coder);
        second.send(&[line("three")]).await.unwrap();
        assert_eq!(coder.requests()[7..9], ["POST log-source", "GET buildinfo"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_server_is_not_asked_for_a_role() {
    let coder = rpc_only();
    coder.set_version("v2.30.9+abc");
    let (mut delivery, _) = delivery(&coder);
    delivery.send(&[line("one")]).await.unwrap();
    assert!(coder.requests().contains(&"GET rpc?version=2.0".to_owned()));
}

#[test]
fn the_role_is_asked_for_from_2_31_on() {
    for (version, has_role) in [
        ("v2.31.0", true),
        ("v2.31.0-devel+abcdef", true),
        ("2.34.2", true),
        ("v3.0.0", true),
        ("v10.1", true),
        ("v2.30.12", false),
        ("v1.99.0", false),
        ("v0.0.0-devel", false),
        ("", false),
        ("main", false),
        ("v2", false),
    ] {
        assert_eq!(rpc_query(version).contains("role"), has_role, "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_patch_takes_over_where_the_rpc_is_gone_again() {
    let coder = when("/rpc", Answer::Status(404));
    coder.endpoint.prefer_rpc(true);
    let (mut delivery, _) = delivery(&coder);
    delivery.send(&[line("one")]).await.unwrap();
    assert_eq!(coder.outputs("t"), ["one"]);
    assert!(!coder.endpoint.prefers_rpc());
    // A server that has the RPC but not the call is no different.
    let coder = when("BatchCreateLogs", Answer::Status(12));
    coder.endpoint.prefer_rpc(true);
    let (mut delivery, _) = self::delivery(&coder);
    delivery.send(&[line("one")]).await.unwrap();
    assert_eq!(coder.outputs("t"), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_with_neither_way_is_tried_again() {
    let coder = FakeCoder::start(|asked| match is(asked, "/log-source") {
        true => Answer::Fine,
        false => Answer::Status(404),
    });
    let (mut delivery, _) = delivery(&coder);
    let error = delivery.send(&[line("one")]).await.unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error:?}");
    assert_eq!(error.remedy(), Remedy::Retry);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_url_is_named_and_changes_no_way() {
    let coder = when("/log-source", Answer::Status(404));
    let (mut delivery, metrics) = delivery(&coder);
    let error = delivery.send(&[line("one")]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Coder failed (404): it cannot register where lines come from; is CODER_URL right?"
    );
    assert_eq!(coder.requests(), ["POST log-source"]);
    assert_eq!(
        metrics.n_requests(Method::PostLogSource, Status::failure),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_not_followed_with_the_token_and_says_where_to() {
    let coder = when("/log-source", Answer::Status(308));
    let error = delivery(&coder).0.send(&[line("one")]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Coder failed (308): it redirects to https://elsewhere.example; set CODER_URL to where Coder is"
    );
    assert_eq!(error.remedy(), Remedy::Retry);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_either_way_say_what_becomes_of_the_lines() {
    for (code, remedy) in [
        (401, Remedy::StandDown),
        (403, Remedy::StandDown),
        (400, Remedy::Reject),
        (500, Remedy::Retry),
    ] {
        for (end, is_rpc) in [("/log-source", false), (PATCH, false), ("/rpc", true)] {
            let coder = when(end, Answer::Status(code));
            coder.endpoint.prefer_rpc(is_rpc);
            let (mut delivery, _) = delivery(&coder);
            let error = delivery.send(&[line("one")]).await.unwrap_err();
            assert_eq!(error.remedy(), remedy, "{end} {code}: {error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_log_is_told_by_both_ways() {
    for (end, is_rpc) in [("BatchCreateLogs", true), (PATCH, false)] {
        let coder = when(end, Answer::Full);
        coder.endpoint.prefer_rpc(is_rpc);
        let error = delivery(&coder).0.send(&[line("one")]).await.unwrap_err();
        assert!(matches!(error, Error::LogFull), "{end}: {error:?}");
        assert_eq!(error.remedy(), Remedy::StandDown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_tried_again_on_a_new_session() {
    for answer in [Answer::Status(1), Answer::Drop] {
        let coder = when("BatchCreateLogs", answer);
        coder.endpoint.prefer_rpc(true);
        let (mut delivery, _) = delivery(&coder);
        for _ in 0..2 {
            let error = delivery.send(&[line("one")]).await.unwrap_err();
            assert_eq!(error.remedy(), Remedy::Retry, "{error:?}");
        }
        let n_sessions = (coder.requests().iter())
            .filter(|request| request.starts_with("GET rpc"))
            .count();
        assert_eq!(n_sessions, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_yamux_windows_goes_through() {
    let coder = FakeCoder::start(|_| Answer::Fine);
    coder.endpoint.prefer_rpc(true);
    let (mut delivery, _) = delivery(&coder);
    let long = line(&"x".repeat((1 << 20) - 21));
    delivery.send(std::slice::from_ref(&long)).await.unwrap();
    assert_eq!(coder.outputs("t"), [long.output]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_given_up_after_20_s() {
    for (end, is_rpc) in [
        ("/log-source", false),
        (PATCH, false),
        ("/rpc", true),
        ("BatchCreateLogs", true),
    ] {
        let coder = when(end, Answer::Never);
        coder.endpoint.prefer_rpc(is_rpc);
        let began = Instant::now();
        let error = delivery(&coder).0.send(&[line("one")]).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { .. }), "{end}: {error:?}");
        // A session that is given up takes another second for its good-bye.
        assert!((20..=21).contains(&began.elapsed().as_secs()), "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_while_idle_is_not_used_again() {
    for is_rpc in [false, true] {
        let coder = FakeCoder::start(|_| Answer::Fine);
        coder.endpoint.prefer_rpc(is_rpc);
        let endpoint = coder.endpoint.clone();
        let (mut delivery, metrics) = delivery(&coder);
        delivery.send(&[line("one")]).await.unwrap();
        drop(coder);
        // Without this, the next batch would be the first to learn of it.
        delivery.idle().await;
        assert!(delivery.http.is_none() && delivery.rpc.is_none());
        let error = delivery.send(&[line("two")]).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        assert_eq!(metrics.n_requests(Method::SendLog, Status::success), 1);
        drop(endpoint);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_connection_is_a_reason_to_try_again() {
    for end in ["/log-source", PATCH] {
        let coder = when(end, Answer::Drop);
        let error = delivery(&coder).0.send(&[line("one")]).await.unwrap_err();
        assert_eq!(error.remedy(), Remedy::Retry, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_from_a_file_may_end_with_a_newline_but_hold_none() {
    let coder = FakeCoder::start(|_| Answer::Fine);
    let with = |token: &str| {
        Delivery::new(
            coder.endpoint.clone(),
            &secret(token),
            CoderMetrics::default(),
        )
    };
    with("t\n").unwrap().send(&[line("one")]).await.unwrap();
    assert_eq!(coder.outputs("t"), ["one"]);
    let error = with("a\nb").unwrap_err();
    assert_eq!(error.remedy(), Remedy::StandDown);
}
