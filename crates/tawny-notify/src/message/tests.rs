//! The messages as services get them: golden payloads, the schema of Alertmanager, limits and escapes.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::{Value, json};
use tawny_incident::Severity;
use tawny_model::Timestamp;

use super::*;
use crate::{
    Kind, Link, Notice, Outgoing,
    desk::Alert,
    settings::Dialect,
    testing::{STARTED, labels, notice, outgoing},
};

fn resolved() -> Outgoing {
    Outgoing::new(Notice {
        ended_at: Some(STARTED.saturating_add(Duration::from_secs(25 * 60))),
        ..notice("k", Kind::Resolved)
    })
}

#[test]
fn a_line_reads_like_sentences() {
    assert_eq!(
        text::line(&outgoing("k", Kind::Opened), NOW),
        "2026-09-21T14:23:20Z HIGH New: Container web of Deployment shop/api (pod api-5d4f8-x2 on node n1) was killed by the kernel because it reached its memory limit of 512 MiB, 3 times since 2026-09-21 14:13 UTC. Its last line: \"allocating 300 MiB\". Raise the memory limit, or find what grows. https://tawny.example/incidents/1?a=b&c=d"
    );
    assert!(
        text::line(&resolved(), NOW)
            .starts_with("2026-09-21T14:23:20Z HIGH Over after 25 min: Container web")
    );
    assert!(!text::line(&resolved(), NOW).contains("last line"));
}

#[test]
fn each_kind_has_its_headline() {
    for (kind, headline) in [
        (Kind::Opened, "New"),
        (Kind::Recurred, "Still there"),
        (Kind::Escalated, "Worse, now high"),
        (Kind::Regressed, "Back again"),
        (Kind::Resolved, "Over"),
        (Kind::Digest, "Many at once"),
    ] {
        assert_eq!(text::headline(&outgoing("k", kind)), headline);
    }
}

#[test]
fn a_line_cannot_be_forged_from_within() {
    let forged = Outgoing::new(Notice {
        sentence: "a\nb\u{1b}[31mc".to_owned(),
        last_lines: vec!["x\u{1b}[2J\ry".to_owned()],
        hints: vec!["d\ne".to_owned()],
        links: Vec::new(),
        ..notice("k", Kind::Opened)
    });
    assert_eq!(
        text::line(&forged, NOW),
        "2026-09-21T14:23:20Z HIGH New: a b [31mc Its last line: \"x [2J y\". d e"
    );
}

#[test]
fn the_json_of_webhooks_and_files_has_readable_times() {
    let object = json::object(&resolved(), NOW);
    assert!(!object.contains('\n'));
    let body: Value = serde_json::from_str(&object).unwrap();
    assert_eq!(
        body,
        json!({
            "version": 1,
            "key": "k",
            "kind": "resolved",
            "severity": "high",
            "type": "out_of_memory",
            "text": format!("Over after 25 min: {}", notice("k", Kind::Opened).sentence),
            "sentence": notice("k", Kind::Opened).sentence,
            "labels": {
                "cluster": "prod", "namespace": "shop", "workload": "Deployment/api",
                "pod": "api-5d4f8-x2", "container": "web", "node": "n1",
            },
            "facts": [
                {"name": "exit", "value": "137 (SIGKILL)"},
                {"name": "memory limit", "value": "512 MiB"},
            ],
            "hints": ["Raise the memory limit, or find what grows."],
            "last_lines": ["loading cart", "allocating 300 MiB"],
            "count": 3,
            "told_at": "2026-09-21T14:23:20.000000000Z",
            "started_at": "2026-09-21T14:13:20.000000000Z",
            "ended_at": "2026-09-21T14:38:20.000000000Z",
            "links": [{"title": "incident", "url": "https://tawny.example/incidents/1?a=b&c=d"}],
        })
    );
}

#[test]
fn slack_gets_this_payload() {
    let body: Value =
        serde_json::from_str(&slack::body(&outgoing("k", Kind::Opened), Dialect::Slack)).unwrap();
    assert_eq!(
        body,
        json!({
            "text": "New: Container web of Deployment shop/api (pod api-5d4f8-x2 on node n1) was killed by the kernel because it reached its memory limit of 512 MiB, 3 times since 2026-09-21 14:13 UTC.",
            "mrkdwn": false,
            "attachments": [{
                "color": "#e01e5a",
                "fallback": "New: Container web of Deployment shop/api (pod api-5d4f8-x2 on node n1) was killed by the kernel because it reached its memory limit of 512 MiB, 3 times since 2026-09-21 14:13 UTC.",
                "title": "incident",
                "title_link": "https://tawny.example/incidents/1?a=b&c=d",
                "text": "```\nloading cart\nallocating 300 MiB\n```",
                "fields": [
                    {"title": "exit", "value": "137 (SIGKILL)", "short": true},
                    {"title": "memory limit", "value": "512 MiB", "short": true},
                    {"title": "what to look at", "value": "Raise the memory limit, or find what grows.", "short": false},
                ],
                "footer": "high out_of_memory · prod · shop · Deployment/api · n1",
                "ts": 1_790_000_000,
                "mrkdwn_in": ["text"],
            }],
        })
    );
}

#[test]
fn the_end_is_green_and_short_whatever_it_was() {
    let body: Value = serde_json::from_str(&slack::body(&resolved(), Dialect::Slack)).unwrap();
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["color"], "#2eb67d");
    assert_eq!(attachment.get("text"), None);
    let mut colours = std::collections::BTreeSet::new();
    for severity in [
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ] {
        let notice = Outgoing::new(Notice {
            severity,
            ..notice("k", Kind::Opened)
        });
        let body: Value = serde_json::from_str(&slack::body(&notice, Dialect::Slack)).unwrap();
        colours.insert(body["attachments"][0]["color"].as_str().unwrap().to_owned());
    }
    assert_eq!(colours.len(), 4);
}

#[test]
fn what_a_program_wrote_cannot_format_link_or_call() {
    let hostile = "*b* _i_ ~s~ `c` <!here> @channel <https://evil|ok> [x](http://evil) & ```";
    assert_eq!(
        slack::escape(hostile, Dialect::Slack, 500),
        "*b* _i_ ~s~ `c` &lt;!here&gt; @\u{200b}channel &lt;https://evil|ok&gt; [x](http://evil) &amp; ```"
    );
    assert_eq!(
        slack::escape(hostile, Dialect::Markdown, 500),
        "\\*b\\* \\_i\\_ \\~s\\~ \\`c\\` \\<!here\\> @\u{200b}channel \\<https://evil\\|ok\\> \\[x\\](http://evil) & \\`\\`\\`"
    );
    let notice = Outgoing::new(Notice {
        sentence: hostile.to_owned(),
        last_lines: vec![hostile.to_owned(), "```".to_owned()],
        ..notice("k", Kind::Opened)
    });
    for dialect in [Dialect::Slack, Dialect::Markdown] {
        let body: Value = serde_json::from_str(&slack::body(&notice, dialect)).unwrap();
        assert_eq!(body["mrkdwn"], false);
        let text = body["attachments"][0]["text"].as_str().unwrap();
        assert_eq!(text.matches("```").count(), 2, "{text}");
        for text in [text, body["text"].as_str().unwrap()] {
            let live = text.replace("\\<", "");
            assert!(!live.contains("<!") && !live.contains("<h"), "{text}");
        }
    }
}

fn any_notice() -> impl Strategy<Value = Notice> {
    let text = || prop_oneof!["[*<&@`a-z\n ]{0,3000}", any::<String>(), "é{0,3000}"];
    (
        text(),
        proptest::collection::vec((text(), text()), 0..30),
        proptest::collection::vec(text(), 0..10),
        proptest::collection::vec(text(), 0..40),
    )
        .prop_map(|(sentence, facts, hints, last_lines)| Notice {
            links: vec![Link {
                title: sentence.clone(),
                url: "https://t.example/".to_owned(),
            }],
            labels: labels(&[("cluster", &sentence), ("namespace", &sentence)]),
            sentence,
            facts,
            hints,
            last_lines,
            ..notice("k", Kind::Opened)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_message_exceeds_what_the_services_take(notice in any_notice()) {
        let notice = Outgoing::new(notice);
        for dialect in [Dialect::Slack, Dialect::Markdown] {
            let body: Value = serde_json::from_str(&slack::body(&notice, dialect)).unwrap();
            let n_chars = |value: &Value| value.as_str().unwrap_or_default().chars().count();
            prop_assert!(n_chars(&body["text"]) <= slack::MAX_TEXT_CHARS);
            let attachment = &body["attachments"][0];
            let fields = attachment["fields"].as_array().unwrap();
            prop_assert!(fields.len() <= 25);
            let mut n_total = n_chars(&attachment["title"]) + n_chars(&attachment["text"]) + n_chars(&attachment["footer"]);
            prop_assert!(n_chars(&attachment["text"]) <= 4_096);
            for field in fields {
                prop_assert!(n_chars(&field["title"]) <= 256 && n_chars(&field["value"]) <= 1_024);
                n_total += n_chars(&field["title"]) + n_chars(&field["value"]);
            }
            prop_assert!(n_total <= slack::MAX_TOTAL_CHARS, "{n_total}");
        }
        prop_assert!(!text::line(&notice, NOW).contains('\n'));
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_790_000_600);

fn alert(notice: Outgoing, is_over: bool) -> Value {
    let alert = Alert {
        notice: Arc::new(notice),
        is_over,
    };
    let body = alertmanager::body(&[alert], NOW, Duration::from_secs(60));
    let mut alerts: Vec<Value> = serde_json::from_str(&body).unwrap();
    alerts.remove(0)
}

/// `postableAlert` of Alertmanager's api/v2/openapi.yaml: labels required; labels and annotations map to strings;
/// startsAt and endsAt are date-times; generatorURL is a URI; nothing else.
fn assert_postable(alert: &Value) {
    let alert = alert.as_object().unwrap();
    for (name, value) in alert {
        match name.as_str() {
            "labels" | "annotations" => {
                assert!(
                    value
                        .as_object()
                        .unwrap()
                        .values()
                        .all(|value| value.as_str().is_some_and(|it| !it.is_empty()))
                );
            }
            "startsAt" | "endsAt" => {
                assert!(Timestamp::parse_rfc3339(value.as_str().unwrap().as_bytes()).is_some());
            }
            "generatorURL" => assert!(url::Url::parse(value.as_str().unwrap()).is_ok()),
            other => panic!("{other} is not in the schema"),
        }
    }
    assert!(alert.contains_key("labels"));
}

#[test]
fn alertmanager_gets_this_alert() {
    let alert = alert(outgoing("k", Kind::Opened), false);
    assert_postable(&alert);
    assert_eq!(
        alert,
        json!({
            "labels": {
                "alertname": "out_of_memory", "source": "tawny", "severity": "high", "key": "k",
                "cluster": "prod", "namespace": "shop", "workload": "Deployment/api", "container": "web",
            },
            "annotations": {
                "summary": notice("k", Kind::Opened).sentence,
                "description": "exit: 137 (SIGKILL)\nmemory limit: 512 MiB",
                "hints": "Raise the memory limit, or find what grows.",
                "last_lines": "loading cart\nallocating 300 MiB",
                "count": "3",
                "state": "New",
                "pod": "api-5d4f8-x2",
                "node": "n1",
            },
            "startsAt": "2026-09-21T14:13:20.000000000Z",
            "endsAt": "2026-09-21T14:27:20.000000000Z",
            "generatorURL": "https://tawny.example/incidents/1?a=b&c=d",
        })
    );
}

#[test]
fn an_alert_that_is_over_ends_and_never_in_the_future() {
    let ended = |ended_at| {
        let notice = Outgoing::new(Notice {
            ended_at,
            ..notice("k", Kind::Resolved)
        });
        alert(notice, true)["endsAt"].as_str().unwrap().to_owned()
    };
    let before = NOW.saturating_sub(Duration::from_secs(60));
    let after = NOW.saturating_add(Duration::from_secs(60));
    assert_eq!(ended(Some(before)), before.to_string());
    assert_eq!(ended(Some(after)), NOW.to_string());
    assert_eq!(ended(None), NOW.to_string());
}

#[test]
fn an_alert_of_a_clock_that_is_ahead_begins_before_it_ends() {
    let ahead = NOW.saturating_add(Duration::from_secs(3_600));
    for is_over in [false, true] {
        let notice = Outgoing::new(Notice {
            started_at: ahead,
            ended_at: Some(ahead),
            ..notice("k", Kind::Opened)
        });
        let alert = alert(notice, is_over);
        assert!(alert["startsAt"].as_str().unwrap() <= alert["endsAt"].as_str().unwrap());
    }
}

#[test]
fn labels_are_what_stays_the_same_over_an_alerts_life() {
    let of = |pairs: &[(&str, &str)]| {
        let notice = Outgoing::new(Notice {
            labels: labels(pairs),
            ..notice("k", Kind::Opened)
        });
        let alert = alert(notice, false);
        assert_postable(&alert);
        let labels = alert["labels"].as_object().unwrap().clone();
        labels.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    // The pod itself is what the alert is about.
    assert_eq!(
        of(&[("pod", "p"), ("node", "n")]),
        ["alertname", "key", "node", "pod", "severity", "source"]
    );
    assert_eq!(
        of(&[("workload", "w"), ("pod", "p")]),
        ["alertname", "key", "severity", "source", "workload"]
    );
    // Not a name for every Alertmanager, or empty.
    assert_eq!(
        of(&[("a.b", "x"), ("1a", "x"), ("empty", ""), ("_ok1", "x")]),
        ["_ok1", "alertname", "key", "severity", "source"]
    );
    // Taken by us.
    assert_eq!(
        of(&[("severity", "mine")]),
        ["alertname", "key", "severity", "source"]
    );
}
