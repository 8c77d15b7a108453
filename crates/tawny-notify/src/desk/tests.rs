//! What is told when, on a clock that the tests turn.

use proptest::prelude::*;
use tawny_incident::Severity;

use super::*;
use crate::{
    notice::{Notice, label},
    testing::{labels, notice, outgoing, settings, with_severity},
};

const ONE: &str = "
receivers: [{name: a, stdout: {}}]
routes: [{receiver: a, group_wait: 30s, repeat_interval: 4h}]
";

/// A desk and its clock.
struct Bench {
    desk: Desk,
    now: Instant,
}

impl Bench {
    fn new(yaml: &str) -> Self {
        Self {
            desk: Desk::new(&settings(yaml)),
            now: Instant::now(),
        }
    }

    fn take(&mut self, key: &str, kind: Kind) -> usize {
        self.desk.take(outgoing(key, kind), self.now)
    }

    fn take_severe(&mut self, key: &str, kind: Kind, severity: Severity) {
        self.desk.take(with_severity(key, kind, severity), self.now);
    }

    /// What is told after so many seconds: `receiver kind key`.
    fn after(&mut self, secs: u64) -> Vec<String> {
        self.now += Duration::from_secs(secs);
        brief(&self.desk.due(self.now))
    }

    /// The same, with `next_due` as the only guide: what a caller that sleeps would see.
    fn run(&mut self, secs: u64) -> Vec<(u64, String)> {
        let from = self.now;
        let end = from + Duration::from_secs(secs);
        let mut told = Vec::new();
        while let Some(at) = self.desk.next_due().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let brief = brief(&self.desk.due(self.now));
            assert!(
                !brief.is_empty() || self.desk.next_due() != Some(at),
                "it would spin"
            );
            told.extend(
                brief
                    .into_iter()
                    .map(|text| ((self.now - from).as_secs(), text)),
            );
        }
        self.now = end;
        told
    }
}

fn brief(deliveries: &[Delivery]) -> Vec<String> {
    (deliveries.iter())
        .flat_map(|delivery| match &delivery.parcel {
            Parcel::Message(notice) => {
                vec![format!(
                    "{} {} {}",
                    delivery.receiver,
                    notice.kind.name(),
                    notice.key
                )]
            }
            Parcel::Alerts(alerts) => (alerts.iter())
                .map(|alert| {
                    let state = if alert.is_over { "over" } else { "firing" };
                    format!(
                        "{} {state} {} {}",
                        delivery.receiver, alert.notice.key, alert.notice.severity
                    )
                })
                .collect(),
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn notices_of_one_key_within_the_wait_are_one_message_with_the_latest_state() {
    let mut bench = Bench::new(ONE);
    bench.take("x", Kind::Opened);
    assert_eq!(bench.after(10), [""; 0]);
    let latest = Notice {
        count: 7,
        ..notice("x", Kind::Recurred)
    };
    bench.desk.take(Outgoing::new(latest), bench.now);
    assert_eq!(bench.after(19), [""; 0]);
    bench.now += Duration::from_secs(1);
    let deliveries = bench.desk.due(bench.now);
    assert_eq!(brief(&deliveries), ["0 opened x"]);
    let Parcel::Message(message) = &deliveries[0].parcel else {
        panic!();
    };
    assert_eq!(message.count, 7);
}

#[tokio::test(start_paused = true)]
async fn what_recurs_is_told_again_only_when_it_is_worse_or_the_interval_is_over() {
    let mut bench = Bench::new(ONE);
    bench.take("x", Kind::Opened);
    bench.run(30);
    for _ in 0..100 {
        bench.take("x", Kind::Recurred);
        assert_eq!(bench.after(60), [""; 0]);
    }
    // Said to be worse, but no worse than told.
    bench.take_severe("x", Kind::Escalated, Severity::High);
    assert_eq!(bench.after(60), [""; 0]);
    bench.take_severe("x", Kind::Escalated, Severity::Critical);
    assert_eq!(bench.after(30), ["0 escalated x"]);
    bench.take_severe("x", Kind::Recurred, Severity::Critical);
    assert_eq!(
        bench.run(9 * 3_600),
        [
            (4 * 3_600, "0 recurred x".to_owned()),
            (8 * 3_600, "0 recurred x".to_owned())
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_once_and_ends_the_repeats() {
    let mut bench = Bench::new(ONE);
    bench.take("x", Kind::Opened);
    bench.run(60);
    bench.take("x", Kind::Resolved);
    assert_eq!(bench.run(86_400), [(30, "0 resolved x".to_owned())]);
    assert_eq!(bench.desk.next_due(), None);
    bench.take("x", Kind::Regressed);
    assert_eq!(bench.run(60), [(30, "0 regressed x".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn opened_and_over_within_the_wait_is_one_message() {
    let mut bench = Bench::new(ONE);
    bench.take("x", Kind::Opened);
    bench.take("x", Kind::Resolved);
    assert_eq!(bench.run(86_400), [(30, "0 resolved x".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn over_and_back_within_the_wait_is_back() {
    let mut bench = Bench::new(ONE);
    bench.take("x", Kind::Opened);
    bench.run(60);
    bench.take("x", Kind::Resolved);
    bench.take("x", Kind::Regressed);
    bench.take("x", Kind::Recurred);
    assert_eq!(bench.run(60), [(30, "0 regressed x".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_route_without_ends_tells_what_began_and_forgets_it() {
    let mut bench = Bench::new(
        "
receivers: [{name: a, stdout: {}}]
routes: [{receiver: a, resolved: false}]",
    );
    bench.take("x", Kind::Opened);
    bench.run(60);
    bench.take("x", Kind::Resolved);
    bench.take("y", Kind::Opened);
    bench.take("y", Kind::Resolved);
    assert_eq!(bench.run(86_400), [(30, "0 opened y".to_owned())]);
    assert_eq!(bench.desk.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn something_open_from_before_the_start_is_told_when_it_recurs_and_when_it_ends() {
    let mut bench = Bench::new(ONE);
    bench.take("x", Kind::Recurred);
    bench.take("y", Kind::Resolved);
    assert_eq!(
        bench.run(60),
        [
            (30, "0 recurred x".to_owned()),
            (30, "0 resolved y".to_owned())
        ]
    );
}

const ROUTES: &str = "
receivers:
- {name: on-call, stdout: {}}
- {name: team, stdout: {}}
- {name: all, file: {path: /f}}
routes:
- match: {severity: critical}
  receiver: on-call
  group_wait: 0s
  continue: true
- match: {namespaces: [shop]}
  receivers: [team, on-call]
- match: {severity: medium}
  receiver: all
";

#[tokio::test(start_paused = true)]
async fn routes_are_tried_in_order_and_a_receiver_is_told_once() {
    let mut bench = Bench::new(ROUTES);
    bench.take_severe("shop", Kind::Opened, Severity::Critical);
    let elsewhere = |severity| {
        Outgoing::new(Notice {
            severity,
            labels: labels(&[(label::NAMESPACE, "web")]),
            ..notice("web", Kind::Opened)
        })
    };
    assert_eq!(bench.desk.take(elsewhere(Severity::Low), bench.now), 0);
    assert_eq!(bench.desk.take(elsewhere(Severity::Medium), bench.now), 1);
    assert_eq!(bench.after(0), ["0 opened shop"]);
    assert_eq!(bench.after(30), ["1 opened shop", "2 opened web"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_goes_to_whoever_was_told_of_the_beginning() {
    let mut bench = Bench::new(ROUTES);
    bench.take_severe("x", Kind::Opened, Severity::Critical);
    bench.run(60);
    // Its severity no longer matches the first route, and its namespace is not known any more.
    let end = Notice {
        severity: Severity::Low,
        labels: labels(&[]),
        ..notice("x", Kind::Resolved)
    };
    assert_eq!(bench.desk.take(Outgoing::new(end), bench.now), 2);
    assert_eq!(
        bench.run(60),
        [
            (0, "0 resolved x".to_owned()),
            (30, "1 resolved x".to_owned())
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_storm_is_told_as_digests_and_a_record_stays_complete() {
    let mut bench = Bench::new(
        "
receivers: [{name: a, stdout: {}}, {name: b, file: {path: /f}}]
routes: [{receivers: [a, b], group_wait: 0s}]
storm: {more_than: 3, within: 1m}",
    );
    for n in 0..50 {
        let kind = if n < 45 { Kind::Opened } else { Kind::Resolved };
        let severity = if n == 40 {
            Severity::Critical
        } else {
            Severity::Medium
        };
        let notice = Notice {
            severity,
            sentence: format!("Sentence {n}."),
            class: if n % 10 == 0 {
                "crash".to_owned()
            } else {
                "killed".to_owned()
            },
            ..notice(&format!("{n:02}"), kind)
        };
        bench.desk.take(Outgoing::new(notice), bench.now);
    }
    let deliveries = bench.desk.due(bench.now);
    let told = |receiver| {
        deliveries
            .iter()
            .filter(|it| it.receiver == receiver)
            .count()
    };
    assert_eq!((told(0), told(1)), (3, 50));
    bench.take("late", Kind::Opened);
    bench.now += Duration::from_secs(59);
    let deliveries = bench.desk.due(bench.now);
    assert_eq!(brief(&deliveries), ["1 opened late"]);
    bench.now += Duration::from_secs(1);
    let deliveries = bench.desk.due(bench.now);
    assert_eq!(brief(&deliveries), ["0 digest digest"]);
    let Parcel::Message(digest) = &deliveries[0].parcel else {
        panic!();
    };
    assert_eq!(
        digest.sentence,
        "48 more messages within 1m: 43 opened, 5 resolved."
    );
    assert_eq!(digest.severity, Severity::Critical);
    assert_eq!(digest.facts[0].1, "killed 43, crash 4, out_of_memory 1");
    assert_eq!(digest.facts[1].1, "shop 48");
    assert_eq!(digest.last_lines.len(), 10);
    assert_eq!(digest.last_lines[0], "Sentence 40.");
    // The storm is over, so messages come one by one again.
    bench.take("z", Kind::Opened);
    assert_eq!(bench.after(0), ["0 opened z", "1 opened z"]);
}

#[tokio::test(start_paused = true)]
async fn a_storm_that_began_gathers_until_its_digest() {
    let mut bench = Bench::new(
        "
receivers: [{name: a, stdout: {}}]
routes: [{receiver: a, group_wait: 0s}]
storm: {more_than: 2, within: 1m}",
    );
    bench.take("a", Kind::Opened);
    assert_eq!(bench.after(0), ["0 opened a"]);
    bench.now += Duration::from_secs(30);
    bench.take("b", Kind::Opened);
    assert_eq!(bench.after(0), ["0 opened b"]);
    bench.take("c", Kind::Opened);
    assert_eq!(bench.after(0), [""; 0]);
    // The first is a minute ago now, but what comes must not overtake what was gathered.
    bench.now += Duration::from_secs(45);
    bench.take("d", Kind::Opened);
    assert_eq!(bench.run(60), [(15, "0 digest digest".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn what_gets_worse_is_told_as_its_new_route_says() {
    let mut bench = Bench::new(
        "
receivers: [{name: a, stdout: {}}]
routes:
- {match: {severity: critical}, receiver: a, group_wait: 0s, repeat_interval: 1h}
- {receiver: a, repeat_interval: 1d}",
    );
    bench.take("x", Kind::Opened);
    assert_eq!(bench.run(2 * 3_600), [(30, "0 opened x".to_owned())]);
    bench.take_severe("x", Kind::Escalated, Severity::Critical);
    assert_eq!(
        bench.run(3_700),
        [
            (0, "0 escalated x".to_owned()),
            (3_600, "0 recurred x".to_owned())
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_digest_goes_at_once_to_everyone_its_severity_concerns() {
    let mut bench = Bench::new(ROUTES);
    let digest = Notice {
        severity: Severity::High,
        labels: labels(&[]),
        ..notice("storm", Kind::Digest)
    };
    bench.desk.take(Outgoing::new(digest), bench.now);
    assert_eq!(
        bench.after(0),
        ["0 digest storm", "1 digest storm", "2 digest storm"]
    );
    assert_eq!(bench.desk.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_notices_stay_within_bounds_and_none_is_lost() {
    let mut bench = Bench::new(
        "
receivers: [{name: b, file: {path: /f}}]
routes: [{receiver: b}]",
    );
    for n in 0..10_000 {
        bench.take(&n.to_string(), Kind::Opened);
    }
    let Ledger::Conversation(conversation) = &bench.desk.ledgers[0] else {
        panic!();
    };
    assert!(conversation.n_topics() <= MAX_TOPICS);
    assert_eq!(bench.run(30).len(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_waits_is_told_at_once() {
    let mut bench = Bench::new(
        "
receivers: [{name: a, stdout: {}}, {name: m, alertmanager: {urls: [http://m]}}]
routes: [{receivers: [a, m]}]
storm: {more_than: 1, within: 1m}",
    );
    bench.take("told", Kind::Opened);
    bench.run(30);
    bench.take("x", Kind::Opened);
    bench.take("y", Kind::Opened);
    assert_eq!(
        brief(&bench.desk.flush(bench.now)),
        [
            "0 digest digest",
            "1 firing told high",
            "1 firing x high",
            "1 firing y high"
        ]
    );
}

const BOARD: &str = "
receivers: [{name: m, alertmanager: {urls: [http://m], resend_after: 1m}}]
routes: [{match: {severity: medium}, receiver: m}]
";

#[tokio::test(start_paused = true)]
async fn an_alertmanager_hears_of_open_alerts_again_and_of_ended_ones_for_a_quarter_of_an_hour() {
    let mut bench = Bench::new(BOARD);
    bench.take("x", Kind::Opened);
    bench.take("y", Kind::Opened);
    assert_eq!(bench.after(4), [""; 0]);
    assert_eq!(bench.after(1), ["0 firing x high", "0 firing y high"]);
    assert_eq!(bench.after(59), [""; 0]);
    assert_eq!(bench.after(1).len(), 2);
    bench.take("x", Kind::Resolved);
    let told = bench.run(20 * 60);
    let over: Vec<u64> = (told.iter())
        .filter(|(_, text)| text == "0 over x high")
        .map(|(secs, _)| *secs)
        .collect();
    assert_eq!(over[..3], [5, 65, 125]);
    assert_eq!(*over.last().unwrap(), 905);
    let firing = told
        .iter()
        .filter(|(_, text)| text == "0 firing y high")
        .count();
    assert_eq!(firing, 20);
    bench.take("y", Kind::Resolved);
    bench.run(20 * 60);
    assert_eq!(bench.desk.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn an_alert_that_gets_worse_ends_as_what_it_was() {
    let mut bench = Bench::new(BOARD);
    bench.take_severe("x", Kind::Opened, Severity::Medium);
    bench.run(5);
    bench.take_severe("x", Kind::Escalated, Severity::Critical);
    assert_eq!(bench.after(5), ["0 over x medium", "0 firing x critical"]);
    // Its end ends it whatever severity the end has.
    bench.take_severe("x", Kind::Resolved, Severity::Low);
    assert_eq!(
        bench.after(5),
        ["0 over x low", "0 over x medium", "0 over x critical"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_board_is_bounded_and_gives_up_what_is_over_first() {
    let mut bench = Bench::new(BOARD);
    bench.take("over", Kind::Resolved);
    for n in 0..MAX_TOPICS {
        bench.take(&format!("{n:04}"), Kind::Opened);
    }
    let told = bench.after(5);
    assert!(told.len() > MAX_TOPICS / 2 && told.len() <= MAX_TOPICS);
    assert!(!told.contains(&"0 over over high".to_owned()));
    assert!(told.contains(&format!("0 firing {:04} high", MAX_TOPICS - 1)));
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Opened),
        Just(Kind::Recurred),
        Just(Kind::Escalated),
        Just(Kind::Regressed),
        Just(Kind::Resolved),
    ]
}

fn any_severity() -> impl Strategy<Value = Severity> {
    prop_oneof![
        Just(Severity::Low),
        Just(Severity::Medium),
        Just(Severity::High),
        Just(Severity::Critical)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes in whatever order: everything is told, an end last if it is one, nothing without a reason, and
    /// waiting for `next_due` never spins.
    #[test]
    fn everything_is_told_and_nothing_without_reason(
        steps in proptest::collection::vec((0..4u8, any_kind(), any_severity(), 0..200u64), 1..40),
    ) {
        let mut bench = Bench::new(
            "
receivers: [{name: f, file: {path: /f}}]
routes: [{receiver: f, group_wait: 30s, repeat_interval: 1d}]",
        );
        let mut told: Vec<String> = Vec::new();
        let mut latest = std::collections::BTreeMap::new();
        let mut reasons = std::collections::BTreeMap::new();
        for (key, kind, severity, secs) in steps {
            let key = key.to_string();
            bench.take_severe(&key, kind, severity);
            let before = latest.insert(key.clone(), (kind, severity));
            let is_reason = matches!(kind, Kind::Regressed | Kind::Resolved)
                || before.is_none_or(|(kind, before)| kind == Kind::Resolved || severity > before);
            *reasons.entry(key).or_insert(0) += usize::from(is_reason);
            told.extend(bench.run(secs).into_iter().map(|(_, text)| text));
        }
        told.extend(bench.run(60).into_iter().map(|(_, text)| text));
        for (key, (kind, _)) in latest {
            let end = format!(" {key}");
            let of_key: Vec<&String> = told.iter().filter(|text| text.ends_with(&end)).collect();
            prop_assert!((1..=reasons[&key]).contains(&of_key.len()), "{:?} {:?}", of_key, reasons);
            let is_end = of_key.last().unwrap().contains("resolved");
            prop_assert_eq!(is_end, kind == Kind::Resolved, "{:?}", told);
        }
    }
}
