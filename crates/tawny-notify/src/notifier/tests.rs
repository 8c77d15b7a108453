//! The whole way from a notice to services that hang, fail, redirect, or are simply there.

use std::fs;

use serde_json::Value;
use tawny_incident::Severity;
use tawny_model::{Remedy, Timestamp};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream},
    time::sleep,
};

use super::*;
use crate::{
    Kind,
    fake::{Answer, Asked, PausedClock, Services},
    testing::{STARTED, notice, settings},
};

/// A notifier that runs, and what it counts.
struct Running {
    handle: Handle,
    metrics: NotifyMetrics,
    stop: CancellationToken,
    task: JoinSet<Result<(), Error>>,
    stdout: DuplexStream,
}

fn make(yaml: &str, services: &Services) -> (Notifier, NotifyMetrics, DuplexStream) {
    let metrics = NotifyMetrics::default();
    let (theirs, stdout) = tokio::io::duplex(1 << 20);
    let notifier = Notifier::with_dial(
        &settings(yaml),
        services.dial(),
        Box::new(theirs),
        Arc::new(PausedClock::new(STARTED)),
        metrics.clone(),
    );
    (notifier, metrics, stdout)
}

impl Running {
    fn start(yaml: &str, services: &Services) -> Self {
        let (notifier, metrics, stdout) = make(yaml, services);
        let stop = CancellationToken::new();
        let handle = notifier.handle();
        let mut task = JoinSet::new();
        task.spawn(notifier.run(stop.clone()));
        Self {
            handle,
            metrics,
            stop,
            task,
            stdout,
        }
    }

    fn push(&self, key: &str, kind: Kind) {
        assert!(self.handle.push_or_drop_newest(notice(key, kind)));
    }

    fn n(&self, kind: ReceiverKind, fate: Fate) -> u64 {
        self.metrics.n_messages(kind, fate)
    }

    /// Stops it; what it wrote to stdout, and how long it took.
    async fn stop(mut self) -> (String, Duration) {
        let begun = Instant::now();
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap().unwrap();
        let took = begun.elapsed();
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).await.unwrap();
        (text, took)
    }
}

fn keys(asked: &[Asked]) -> Vec<&str> {
    asked
        .iter()
        .map(|asked| asked.body["key"].as_str().unwrap())
        .collect()
}

const HOOK: &str = "
receivers:
- name: hook
  webhook:
    url: https://hook:8443/in?k=v
    headers: {X-Team: blue}
    token: sesame
routes: [{receiver: hook, group_wait: 0s}]
";

#[tokio::test(start_paused = true)]
async fn a_webhook_gets_json_with_headers_and_token() {
    let services = Services::start(|_| Answer::Fine);
    let running = Running::start(HOOK, &services);
    running.push("x", Kind::Opened);
    services.until("hook", 1).await;
    let asked = &services.asked("hook")[0];
    assert_eq!(asked.what, "POST /in?k=v");
    for (name, value) in [
        ("host", "hook:8443"),
        ("content-type", "application/json"),
        ("authorization", "Bearer sesame"),
        ("x-team", "blue"),
    ] {
        assert_eq!(asked.headers[name], value);
    }
    let sent = Outgoing::new(notice("x", Kind::Opened));
    let expected = crate::message::json::object(&sent, STARTED);
    assert_eq!(
        asked.body,
        serde_json::from_str::<Value>(&expected).unwrap()
    );
    let metrics = running.metrics.clone();
    running.stop().await;
    assert_eq!(metrics.n_messages(ReceiverKind::webhook, Fate::sent), 1);
    assert_eq!(metrics.n_notices(Taken::routed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_holds_up_neither_the_teller_nor_others() {
    let services = Services::start(|asked| match asked.host.as_str() {
        "stuck" => Answer::Hang,
        _ => Answer::Fine,
    });
    let running = Running::start(
        "
receivers:
- {name: stuck, webhook: {url: http://stuck/}}
- {name: fine, webhook: {url: http://fine/}}
routes: [{receivers: [stuck, fine], group_wait: 0s}]
storm: {more_than: 10000, within: 1s}",
        &services,
    );
    let begun = Instant::now();
    for n in 0..600 {
        running.push(&n.to_string(), Kind::Opened);
    }
    services.until("fine", 256).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    services.until("stuck", 3).await;
    // A try is given up after its timeout, and the message tried again.
    let stuck = services.asked("stuck");
    assert!(stuck[1].at - stuck[0].at >= Duration::from_secs(30));
    assert_eq!(keys(&stuck), ["0", "0", "0"]);
    assert!(running.n(ReceiverKind::webhook, Fate::overflowed) >= 600 - 257);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_for_an_hour_is_tried_patiently_and_then_given_up() {
    let services = Services::start(|_| Answer::Status(500, "", "no".to_owned()));
    let running = Running::start(HOOK, &services);
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(3_700)).await;
    assert_eq!(running.n(ReceiverKind::webhook, Fate::expired), 1);
    let asked = services.asked("hook");
    assert!((60..140).contains(&asked.len()), "{}", asked.len());
    let (first, last) = (asked.first().unwrap().at, asked.last().unwrap().at);
    assert!(last - first > Duration::from_secs(3_500) && last - first < Duration::from_secs(3_600));
    assert!(asked[1].at - first <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_a_service_arrives_when_it_is_back() {
    let begun = Instant::now();
    let services =
        Services::start(
            move |asked| match asked.at - begun < Duration::from_secs(50 * 60) {
                true => Answer::Status(503, "", String::new()),
                false => Answer::Fine,
            },
        );
    let running = Running::start(HOOK, &services);
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(30 * 60)).await;
    running.push("y", Kind::Opened);
    sleep(Duration::from_secs(25 * 60)).await;
    assert_eq!(running.n(ReceiverKind::webhook, Fate::sent), 2);
    let asked = services.asked("hook");
    assert_eq!(keys(&asked)[asked.len() - 2..], ["x", "y"]);
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_not_followed_and_no_token_goes_astray() {
    let services = Services::start(|asked| match asked.host.as_str() {
        "hook" => Answer::Status(307, "location: https://evil/in?secret=x\r\n", String::new()),
        _ => Answer::Fine,
    });
    let running = Running::start(HOOK, &services);
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(services.asked("hook").len(), 1);
    assert!(services.asked("evil").is_empty());
    assert_eq!(running.n(ReceiverKind::webhook, Fate::refused), 1);
    let (notifier, ..) = make(HOOK, &services);
    let error = notifier
        .notify_once("hook", &notice("x", Kind::Opened))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "hook:8443 redirects to https://evil (307), which is not followed so that no token goes astray; set the URL to where the service is"
    );
    assert_eq!(error.remedy(), Remedy::Reject);
}

#[tokio::test(start_paused = true)]
async fn a_busy_service_is_left_alone_as_long_as_it_asks() {
    let begun = Instant::now();
    let services = Services::start(move |asked| match asked.at - begun {
        soon if soon < Duration::from_secs(60) => {
            Answer::Status(429, "retry-after: 120\r\n", String::new())
        }
        _ => Answer::Fine,
    });
    let running = Running::start(HOOK, &services);
    running.push("x", Kind::Opened);
    services.until("hook", 2).await;
    let asked = services.asked("hook");
    let waited = asked[1].at - asked[0].at;
    assert!(
        waited >= Duration::from_secs(120) && waited < Duration::from_secs(122),
        "{waited:?}"
    );
    // One that asks for longer than messages are kept is given up on at once.
    for header in [
        "retry-after: 7200\r\n",
        "retry-after: 9999999999999999999\r\n",
        "retry-after: Fri, 31 Dec 2199 23:59:59 GMT\r\n",
    ] {
        let services = Services::start(move |_| Answer::Status(429, header, String::new()));
        let running = Running::start(HOOK, &services);
        running.push("x", Kind::Opened);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(
            running.n(ReceiverKind::webhook, Fate::expired),
            1,
            "{header}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_end_or_are_refused_are_tried_again() {
    let services = Services::start(|_| Answer::Close);
    let (notifier, ..) = make(HOOK, &services);
    let error = notifier
        .notify_once("hook", &notice("x", Kind::Opened))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert_eq!(error.remedy(), Remedy::Retry);
    let (notifier, ..) = make(&HOOK.replace("hook:8443", "absent:1"), &services);
    let error = notifier
        .notify_once("hook", &notice("x", Kind::Opened))
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("cannot reach absent:1: "),
        "{error}"
    );
    assert_eq!(error.remedy(), Remedy::Retry);

    let begun = Instant::now();
    let services = Services::start(move |asked| match asked.at - begun {
        soon if soon < Duration::from_secs(10) => Answer::Close,
        _ => Answer::Fine,
    });
    let running = Running::start(HOOK, &services);
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(running.n(ReceiverKind::webhook, Fate::sent), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_in_a_line_without_secrets_however_large() {
    let services = Services::start(|_| {
        let body = format!("invalid\npassword=hunter2 {}", "x".repeat(10 << 20));
        Answer::Status(400, "", body)
    });
    let (notifier, ..) = make(HOOK, &services);
    let error = notifier
        .notify_once("hook", &notice("x", Kind::Opened))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("hook:8443 refuses it (400): invalid password=*** xxx"),
        "{text}"
    );
    assert!(text.len() < 400);
    let running = Running::start(HOOK, &services);
    running.push("x", Kind::Opened);
    running.push("y", Kind::Opened);
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(running.n(ReceiverKind::webhook, Fate::refused), 2);
    assert_eq!(services.asked("hook").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn statuses_decide_what_becomes_of_a_message() {
    for (code, remedy) in [
        (301, Remedy::Reject),
        (400, Remedy::Reject),
        (401, Remedy::Reject),
        (403, Remedy::Reject),
        (404, Remedy::Reject),
        (408, Remedy::Retry),
        (425, Remedy::Retry),
        (429, Remedy::Retry),
        (500, Remedy::Retry),
        (503, Remedy::Retry),
    ] {
        let services = Services::start(move |_| Answer::Status(code, "", String::new()));
        let (notifier, ..) = make(HOOK, &services);
        let error = notifier
            .notify_once("hook", &notice("x", Kind::Opened))
            .await
            .unwrap_err();
        assert_eq!(error.remedy(), remedy, "{code}: {error}");
    }
    for code in [200, 201, 202, 204] {
        let services = Services::start(move |_| Answer::Status(code, "", String::new()));
        let (notifier, ..) = make(HOOK, &services);
        notifier
            .notify_once("hook", &notice("x", Kind::Opened))
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn slack_gets_a_message_a_second_at_a_url_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    fs::write(&file, "https://hooks.slack.com/services/T/B/sesame\n").unwrap();
    let services = Services::start(|_| Answer::Fine);
    let running = Running::start(
        &format!(
            "
receivers: [{{name: team, slack: {{url_file: {}}}}}]
routes: [{{receiver: team, group_wait: 0s}}]",
            file.display()
        ),
        &services,
    );
    for key in ["a", "b", "c"] {
        running.push(key, Kind::Opened);
    }
    services.until("hooks.slack.com", 3).await;
    let asked = services.asked("hooks.slack.com");
    assert_eq!(asked[0].what, "POST /services/T/B/sesame");
    assert_eq!(asked[0].body["attachments"][0]["color"], "#e01e5a");
    for pair in asked.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_secs(1));
    }
}

const BOARD: &str = "
receivers: [{name: am, alertmanager: {urls: [http://am-0:9093, http://am-1:9093/base]}}]
routes: [{receiver: am, group_wait: 0s}]
";

#[tokio::test(start_paused = true)]
async fn every_alertmanager_hears_of_open_alerts_each_minute_and_one_that_hangs_alone_is_late() {
    let services = Services::start(|asked| match asked.host.as_str() {
        "am-1" => Answer::Hang,
        _ => Answer::Fine,
    });
    let running = Running::start(BOARD, &services);
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(150)).await;
    let asked = services.asked("am-0");
    assert_eq!(asked.len(), 3);
    assert_eq!(services.asked("am-1")[0].what, "POST /base/api/v2/alerts");
    for (n, asked) in asked.iter().enumerate() {
        assert_eq!(asked.what, "POST /api/v2/alerts");
        let alert = &asked.body[0];
        assert_eq!(alert["labels"]["alertname"], "out_of_memory");
        let sent_at = STARTED.saturating_add(Duration::from_secs(60 * n as u64));
        let time = |name: &str| Timestamp::parse_rfc3339(alert[name].as_str().unwrap().as_bytes());
        assert_eq!(time("startsAt"), Some(STARTED));
        let valid = time("endsAt").unwrap().saturating_since(sent_at);
        assert!(valid >= Duration::from_secs(240) && valid < Duration::from_secs(241));
    }
    // Each new state takes the place of the one that could not be delivered.
    assert!(running.n(ReceiverKind::alertmanager, Fate::superseded) >= 1);
    assert_eq!(running.n(ReceiverKind::alertmanager, Fate::expired), 0);

    let end = Notice {
        ended_at: Some(STARTED.saturating_add(Duration::from_secs(140))),
        ..notice("x", Kind::Resolved)
    };
    running.handle.push_or_drop_newest(end);
    services.until("am-0", 4).await;
    let alert = services.asked("am-0")[3].body[0].clone();
    assert_eq!(alert["endsAt"], "2026-09-21T14:15:40.000000000Z");
}

#[tokio::test(start_paused = true)]
async fn an_alertmanager_that_was_away_hears_the_latest_state_first() {
    let begun = Instant::now();
    let services = Services::start(move |asked| match asked.at - begun {
        away if away < Duration::from_secs(40) => Answer::Status(503, "", String::new()),
        _ => Answer::Fine,
    });
    let running = Running::start(BOARD, &services);
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(20)).await;
    running.push("x", Kind::Resolved);
    sleep(Duration::from_secs(39)).await;
    let asked = services.asked("am-0");
    let first = (asked.iter())
        .find(|asked| asked.at - begun >= Duration::from_secs(20))
        .unwrap();
    let away_until = STARTED.saturating_add(first.at - begun);
    for asked in asked.iter().filter(|asked| asked.at >= first.at) {
        let ends_at = asked.body[0]["endsAt"].as_str().unwrap();
        let sent_at = away_until.saturating_add(asked.at - first.at).to_string();
        assert!(ends_at <= sent_at.as_str(), "{ends_at} {sent_at}");
    }
    assert_eq!(running.n(ReceiverKind::alertmanager, Fate::sent), 2);
    assert_eq!(running.n(ReceiverKind::alertmanager, Fate::superseded), 2);
}

#[tokio::test(start_paused = true)]
async fn many_alerts_go_in_several_requests() {
    let services = Services::start(|_| Answer::Fine);
    let running = Running::start(
        &BOARD.replace("group_wait: 0s", "group_wait: 5s"),
        &services,
    );
    for n in 0..300 {
        running.push(&n.to_string(), Kind::Opened);
    }
    services.until("am-0", 2).await;
    let n_alerts: Vec<usize> = (services.asked("am-0").iter())
        .map(|asked| asked.body.as_array().unwrap().len())
        .collect();
    assert_eq!(n_alerts[..2], [256, 44]);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_keeps_no_other_back() {
    let services = Services::start(|asked| match asked.body.as_array().map(Vec::len) {
        Some(256) => Answer::Status(400, "", "invalid label set".to_owned()),
        _ => Answer::Fine,
    });
    let running = Running::start(
        &BOARD.replace("group_wait: 0s", "group_wait: 5s"),
        &services,
    );
    for n in 0..300 {
        running.push(&n.to_string(), Kind::Opened);
    }
    services.until("am-0", 2).await;
    sleep(Duration::from_secs(1)).await;
    // Counted for each of the two instances.
    assert_eq!(running.n(ReceiverKind::alertmanager, Fate::refused), 2);
}

#[tokio::test(start_paused = true)]
async fn stdout_and_a_file_get_a_line_for_each_message() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notices.jsonl");
    let services = Services::start(|_| Answer::Fine);
    let running = Running::start(
        &format!(
            "
receivers: [{{name: text, stdout: }}, {{name: json, stdout: {{format: json}}}}, {{name: f, file: {{path: {}}}}}]
routes: [{{receiver: text, group_wait: 0s, continue: true}}, {{receivers: [json, f], group_wait: 10s}}]",
            file.display()
        ),
        &services,
    );
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(11)).await;
    running.push("x", Kind::Resolved);
    sleep(Duration::from_secs(11)).await;
    let (stdout, _) = running.stop().await;
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    assert!(lines[0].starts_with("2026-09-21T14:13:20Z HIGH New: Container web"));
    assert!(lines[1].starts_with("{\"version\":1,\"key\":\"x\",\"kind\":\"opened\""));
    assert!(lines[2].contains("HIGH Over: Container web"));
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(written.lines().collect::<Vec<_>>(), [lines[1], lines[3]]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("later");
    let file = folder.join("notices.jsonl");
    let services = Services::start(|_| Answer::Fine);
    let running = Running::start(
        &format!(
            "
receivers: [{{name: f, file: {{path: {}}}}}]
routes: [{{receiver: f, group_wait: 0s}}]",
            file.display()
        ),
        &services,
    );
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(10)).await;
    fs::create_dir(&folder).unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 1);
    assert_eq!(running.n(ReceiverKind::file, Fate::sent), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_file_is_read_at_each_try() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let yaml = HOOK.replace("token: sesame", &format!("token_file: {}", file.display()));
    let services = Services::start(|_| Answer::Fine);
    let running = Running::start(&yaml, &services);
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(10)).await;
    assert!(services.asked("hook").is_empty());
    fs::write(&file, " one\n").unwrap();
    services.until("hook", 1).await;
    fs::write(&file, "two").unwrap();
    running.push("y", Kind::Opened);
    services.until("hook", 2).await;
    let tokens: Vec<String> = (services.asked("hook").iter())
        .map(|asked| asked.headers["authorization"].clone())
        .collect();
    assert_eq!(tokens, ["Bearer one", "Bearer two"]);

    let refusal = async |text: &str| {
        fs::write(&file, text).unwrap();
        let (notifier, ..) = make(&yaml, &services);
        let sent = notifier
            .notify_once("hook", &notice("x", Kind::Opened))
            .await;
        sent.unwrap_err().to_string()
    };
    assert!(
        refusal(" \n")
            .await
            .ends_with("it is empty, too long, or of several lines")
    );
    assert!(
        refusal(&"x".repeat(20_000))
            .await
            .ends_with("it is empty, too long, or of several lines")
    );
    assert!(
        refusal("se\nsame")
            .await
            .ends_with("it is empty, too long, or of several lines")
    );
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_waits_is_sent_and_what_hangs_is_cut_off() {
    let services = Services::start(|asked| match asked.host.as_str() {
        "stuck" => Answer::Hang,
        "failing" => Answer::Status(500, "", String::new()),
        _ => Answer::Fine,
    });
    let running = Running::start(
        "
receivers:
- {name: fine, webhook: {url: http://fine/}}
- {name: chat, slack: {url: http://chat/}}
- {name: stuck, webhook: {url: http://stuck/}}
- {name: failing, webhook: {url: http://failing/}}
routes: [{receivers: [fine, chat, stuck, failing], group_wait: 1h}]",
        &services,
    );
    running.push("x", Kind::Opened);
    running.push("y", Kind::Opened);
    sleep(Duration::from_secs(60)).await;
    assert!(services.asked("fine").is_empty());
    // Handed over but not looked at when the end comes.
    running.push("z", Kind::Opened);
    let metrics = running.metrics.clone();
    let (_, took) = running.stop().await;
    assert!(
        took >= GRACE && took < GRACE + Duration::from_millis(100),
        "{took:?}"
    );
    assert_eq!(keys(&services.asked("fine")), ["x", "y", "z"]);
    assert_eq!(services.asked("chat").len(), 3);
    assert_eq!(services.asked("failing").len(), 3);
    assert_eq!(metrics.n_messages(ReceiverKind::webhook, Fate::sent), 3);
    assert_eq!(metrics.n_messages(ReceiverKind::webhook, Fate::cut_off), 6);
}

#[tokio::test(start_paused = true)]
async fn with_nothing_left_the_end_is_at_once() {
    let services = Services::start(|_| Answer::Fine);
    let running = Running::start(HOOK, &services);
    running.push("x", Kind::Opened);
    services.until("hook", 1).await;
    let (_, took) = running.stop().await;
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_drops_the_newest_counted_and_never_waits() {
    let services = Services::start(|_| Answer::Fine);
    let (notifier, metrics, _stdout) = make(HOOK, &services);
    let handle = notifier.handle();
    let n_taken = (0..MAX_INBOX + 5)
        .filter(|n| handle.push_or_drop_newest(notice(&n.to_string(), Kind::Opened)))
        .count();
    assert_eq!(n_taken, MAX_INBOX);
    assert_eq!(metrics.n_notices(Taken::dropped), 5);
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_concerns_nobody_is_counted() {
    let services = Services::start(|_| Answer::Fine);
    let yaml = HOOK.replace(
        "{receiver: hook",
        "{match: {severity: critical}, receiver: hook",
    );
    let running = Running::start(&yaml, &services);
    running.push("x", Kind::Opened);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(running.metrics.n_notices(Taken::unrouted), 1);
    assert!(services.asked("hook").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_a_last_line_never_reaches_a_service_section_8_row_15() {
    let services = Services::start(|_| Answer::Fine);
    let running = Running::start(HOOK, &services);
    let leaking = Notice {
        last_lines: vec!["connecting to postgres://app:hunter2@db/shop".to_owned()],
        ..notice("x", Kind::Opened)
    };
    running.handle.push_or_drop_newest(leaking);
    services.until("hook", 1).await;
    let body = services.asked("hook")[0].body.to_string();
    assert!(
        body.contains("postgres://app:***@db/shop") && !body.contains("hunter2"),
        "{body}"
    );
    assert_eq!(running.metrics.n_masked(), 1);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_incidents_are_twenty_messages_and_a_digest_a_minute() {
    let services = Services::start(|_| Answer::Fine);
    let running = Running::start(HOOK, &services);
    for n in 0..10_000 {
        while !running.handle.push_or_drop_newest(Notice {
            severity: Severity::Critical,
            ..notice(&n.to_string(), Kind::Opened)
        }) {
            tokio::task::yield_now().await;
        }
    }
    sleep(Duration::from_secs(61)).await;
    let asked = services.asked("hook");
    assert_eq!(asked.len(), 21);
    let digest = &asked[20].body;
    assert_eq!(digest["kind"], "digest");
    assert_eq!(
        digest["sentence"],
        "9980 more messages within 1m: 9980 opened."
    );
}

#[tokio::test(start_paused = true)]
async fn a_try_of_the_settings_goes_to_any_kind_of_receiver_and_names_the_known_ones() {
    let services = Services::start(|asked| match asked.host.as_str() {
        "am-1" => Answer::Status(500, "", "down".to_owned()),
        _ => Answer::Fine,
    });
    let yaml = format!("{HOOK}storm: {{}}").replace(
        "receivers:\n",
        "receivers:\n- {name: am, alertmanager: {urls: [http://am-1, http://am-0]}}\n- {name: out, stdout: {}}\n",
    );
    let (notifier, metrics, mut stdout) = make(&yaml, &services);
    let try_out = async |name: &str| notifier.notify_once(name, &notice("x", Kind::Opened)).await;
    try_out("hook").await.unwrap();
    try_out("out").await.unwrap();
    let error = try_out("am").await.unwrap_err();
    assert_eq!(error.to_string(), "am-1 cannot take it now (500): down");
    assert_eq!(services.asked("am-0").len(), 1);
    let error = try_out("ghost").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no receiver `ghost`; there are `am`, `out`, `hook`"
    );
    drop((notifier, metrics));
    let mut text = String::new();
    stdout.read_to_string(&mut text).await.unwrap();
    assert_eq!(text.lines().count(), 1);
}

mod tls;
