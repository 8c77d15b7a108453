//! Settings as people write them, well and badly.

use super::*;
use crate::{
    notice::Notice,
    testing::{labels, notice, settings},
};

const WHOLE: &str = r#"
receivers:
  - name: on-call
    slack:
      url: https://hooks.slack.com/services/T0/B0/sesame
  - name: hooks
    webhook:
      url: https://hooks.example/in?k=sesame
      headers: {X-Team: sesame}
      token: sesame
      timeout: 5s
  - name: am
    alertmanager:
      urls: [http://am-0:9093, "http://am-1:9093/prefix/?k=sesame"]
      token_file: /run/token
      resend_after: 30s
  - name: out
    stdout:
  - name: record
    file: {path: /var/log/tawny/notices.jsonl}
routes:
  - match: {severity: critical}
    receivers: [on-call, am]
    continue: true
  - match:
      severity: medium
      namespaces: ["shop-*", pay]
      types: [out_of_memory, image_*]
      labels: {team: "a*"}
    receiver: hooks
    group_wait: 10s
    repeat_interval: 1h30m
    resolved: false
  - receivers: [out, record]
storm: {more_than: 5, within: 2m}
give_up_after: 10m
"#;

#[test]
fn the_whole_file_is_read_top_down() {
    let settings = settings(WHOLE);
    let kinds: Vec<_> = settings.receivers.iter().map(|it| it.to.kind()).collect();
    assert_eq!(
        kinds,
        ["slack", "webhook", "alertmanager", "stdout", "file"]
    );
    let Destination::Alertmanager(alertmanager) = &settings.receivers[2].to else {
        panic!("{settings:?}");
    };
    let urls: Vec<&str> = (alertmanager.urls.iter())
        .map(|address| match address {
            Address::Url(url) => url.as_str(),
            Address::File(_) => panic!("{address:?}"),
        })
        .collect();
    assert_eq!(
        urls,
        [
            "http://am-0:9093/api/v2/alerts",
            "http://am-1:9093/prefix/api/v2/alerts?k=sesame"
        ]
    );
    assert_eq!(alertmanager.resend_after, Duration::from_secs(30));
    let route = &settings.routes[1];
    assert_eq!(route.group_wait, Duration::from_secs(10));
    assert_eq!(route.repeat_interval, Duration::from_secs(5_400));
    assert!(!route.tells_resolved && !route.continues);
    let last = &settings.routes[2];
    assert_eq!(last.group_wait, Duration::from_secs(30));
    assert_eq!(last.repeat_interval, Duration::from_secs(4 * 3_600));
    assert!(last.tells_resolved);
    assert_eq!(settings.storm.more_than, 5);
    assert_eq!(settings.give_up_after, Duration::from_secs(600));
}

#[test]
fn no_secret_shows_in_debug() {
    let config: NotifyConfig = serde_yaml_ng::from_str(WHOLE).unwrap();
    let text = format!("{config:?} {:?}", settings(WHOLE));
    assert!(!text.contains("sesame"), "{text}");
}

#[test]
fn a_route_matches_by_all_that_it_names() {
    let settings = settings(WHOLE);
    let route = &settings.routes[1];
    let fitting = Notice {
        labels: labels(&[("namespace", "shop-2"), ("team", "alpha")]),
        ..notice("k", Kind::Opened)
    };
    let matches = |notice: Notice| route.matches(&Outgoing::new(notice));
    assert!(matches(fitting.clone()));
    assert!(matches(Notice {
        severity: Severity::Medium,
        ..fitting.clone()
    }));
    assert!(!matches(Notice {
        severity: Severity::Low,
        ..fitting.clone()
    }));
    assert!(!matches(Notice {
        class: "crash".to_owned(),
        ..fitting.clone()
    }));
    assert!(!matches(Notice {
        labels: labels(&[("namespace", "web"), ("team", "alpha")]),
        ..fitting.clone()
    }));
    assert!(!matches(Notice {
        labels: labels(&[("namespace", "pay")]),
        ..fitting.clone()
    }));
    // A digest is about all namespaces.
    assert!(matches(Notice {
        kind: Kind::Digest,
        labels: labels(&[]),
        ..fitting
    }));
}

/// Each wrong file with the line and words of its refusal.
#[test]
fn what_is_wrong_is_named_with_its_line_and_a_remedy() {
    let out = "receivers: [{name: out, stdout: {}}]\n";
    for (yaml, expected) in [
        (
            "receivers:\n- name: a\n  slak: {}\n",
            "line 3, column 3: receivers[0]: unknown field `slak`",
        ),
        (
            "receivers:\n- name: a\n  webhook: {url: sesame}\nroutes: [{receiver: a}]",
            "line 3, `receivers[0].webhook.url`: it is no URL; write it as https://",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: https://u:sesame@h/\n",
            "line 4, `receivers[0].webhook.url`: it holds a user or password",
        ),
        (
            "receivers:\n- name: a\n  webhook: {url: ftp://h/sesame}\n",
            "line 3, `receivers[0].webhook.url`: it is not of http or https",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: http://h\n    headers: \"X: sesame\"\n",
            "line 5, column 14: receivers[0].webhook.headers: invalid type: string, expected a map",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: http://h\n    token: [sesame]\n",
            "line 5, column 12: receivers[0].webhook.token: invalid type: sequence, expected a string",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: http://h\n    token: {sesame: 1}\n",
            "receivers[0].webhook.token: invalid type: map, expected a string",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: http://h\n    token: \"sesame\\n\"\n",
            "line 5, `receivers[0].webhook.token`: it cannot stand in a header",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: http://h\n    token: a\n    token_file: b\n",
            "line 6, `receivers[0].webhook.token_file`: there is a token already",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: http://h\n    headers: {a b: sesame}\n",
            "line 5, `receivers[0].webhook.headers`: `a b` is no name of a header",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: http://h\n    headers: {Host: sesame}\n",
            "line 5, `receivers[0].webhook.headers`: `host` is set by the message itself",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: http://h\n    timeout: 5\n",
            "line 5, column 14: receivers[0].webhook.timeout: ",
        ),
        (
            "receivers:\n- name: a\n  webhook:\n    url: http://h\n    timeout: 0s\n",
            "line 5, `receivers[0].webhook.timeout`: it is too short",
        ),
        (
            "receivers:\n- name: a\n  slack: {}\n",
            "line 3, `receivers[0].slack`: where it is posted is unclear; write `url` or `url_file`",
        ),
        (
            "receivers:\n- name: a\n  alertmanager: {urls: []}\n",
            "line 3, `receivers[0].alertmanager.urls`: it is empty",
        ),
        (
            "receivers:\n- name: a\n  stdout: {}\n- name: b\n",
            "line 4, `receivers[1]`: `b` must be one thing; write exactly one of",
        ),
        (
            "receivers:\n- name: a\n  stdout: {}\n- name: a\n  stdout: {}\n",
            "line 4, `receivers[1].name`: there are two receivers `a`",
        ),
        (
            out,
            "line 1, `routes`: no route leads to any receiver; add `routes:",
        ),
        (
            &format!("{out}routes:\n- receiver: out\n- receiver: out\n"),
            "line 4, `routes[1]`: it is never reached, for routes[0] takes everything",
        ),
        (
            &format!("{out}routes:\n- match: {{severity: high}}\n  receiver: ouch\n"),
            "line 4, `routes[0].receiver`: there is no receiver `ouch`; known are: out",
        ),
        (
            &format!("{out}routes:\n- receivers:\n  - out\n  - ouch\n"),
            "line 5, `routes[0].receivers[1]`: there is no receiver `ouch`",
        ),
        (
            &format!("{out}routes:\n- match: {{severity: severe}}\n  receiver: out\n"),
            "unknown variant `severe`, expected one of `low`, `medium`, `high`, `critical`",
        ),
        (
            &format!("{out}routes:\n- {{}}\n"),
            "line 3, `routes[0]`: who is told is unclear; write `receiver` or `receivers`",
        ),
        (
            &format!("{out}routes:\n- receiver: out\n  repeat_interval: 1s\n"),
            "line 4, `routes[0].repeat_interval`: it is too short or too long; write 60s or more",
        ),
        (
            &format!("{out}routes: [{{receiver: out}}]\nstorm: {{more_than: 0}}\n"),
            "line 3, `storm.more_than`: at least one message",
        ),
        ("receivers: [", "line 2, column 1: "),
    ] {
        let error = Settings::parse(yaml).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(expected),
            "{text}\nwanted: {expected}\n{yaml}"
        );
        assert!(
            !text.contains("sesame") && !format!("{error:?}").contains("sesame"),
            "{text}"
        );
        assert_eq!(error.remedy(), tawny_model::Remedy::Reject);
    }
}

#[test]
fn an_empty_file_tells_nobody() {
    let settings = settings("{}");
    assert!(settings.receivers.is_empty() && settings.routes.is_empty());
}

#[test]
fn the_markup_of_a_chat_is_known_by_its_host_or_said() {
    for (slack, dialect) in [
        ("url: https://hooks.slack.com/services/x", Dialect::Slack),
        (
            "url: https://discord.com/api/webhooks/1/x/slack",
            Dialect::Markdown,
        ),
        (
            "{url: https://chat.example/hooks/x, dialect: markdown}",
            Dialect::Markdown,
        ),
        ("url_file: /run/url", Dialect::Slack),
    ] {
        let slack = slack.trim_matches(['{', '}']);
        let yaml =
            format!("receivers: [{{name: a, slack: {{{slack}}}}}]\nroutes: [{{receiver: a}}]");
        let settings = settings(&yaml);
        let Destination::Slack(found) = &settings.receivers[0].to else {
            panic!("{settings:?}");
        };
        assert_eq!(found.dialect, dialect, "{slack}");
    }
}
