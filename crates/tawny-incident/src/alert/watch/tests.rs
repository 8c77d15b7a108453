//! One line at a time, and in bulk against a naive recount of every second.

use proptest::prelude::*;
use tawny_model::{EntryId, Output, Severity, StreamId};

use super::*;
use crate::alert::{AlertChangeKind, sentence};

/// A round number in every window.
const START: i64 = 1_767_225_600;

fn secs(secs: i64) -> Timestamp {
    Timestamp::from_secs(START + secs)
}

fn rules(text: &str) -> Rules {
    Rules::load([("r", text)]).unwrap()
}

/// One rule `r` on lines with `boom`.
fn rule(rest: &str) -> Rules {
    rules(&format!(
        "rules: [{{name: r, query: boom, window: 1m, {rest}}}]"
    ))
}

fn line(namespace: &str, at: i64, message: &str) -> LogEntry {
    let id = StreamId {
        cluster: "".into(),
        pod_uid: namespace.into(),
        container: "app".into(),
        restart: 0,
    };
    LogEntry {
        id: EntryId(0),
        timestamp: secs(at),
        severity: Severity::Info,
        output: Output::Stdout,
        message: message.to_owned(),
        attributes: Vec::new(),
        stream: Stream::new(id, namespace, format!("{namespace}-1")).into(),
    }
}

/// Lines of `boom` of their own second and admitted in it.
fn booms(
    watch: &mut Watch,
    namespace: &str,
    at: impl IntoIterator<Item = i64>,
) -> Vec<AlertChange> {
    at.into_iter()
        .flat_map(|at| watch.admit_entry(&line(namespace, at, "boom"), secs(at)))
        .collect()
}

/// `30 fired shop`.
fn told(changes: &[AlertChange]) -> Vec<String> {
    changes
        .iter()
        .map(|change| {
            let at = change.at.as_secs() - START;
            let kind = match change.kind {
                AlertChangeKind::Fired => "fired",
                AlertChangeKind::Worse => "worse",
                AlertChangeKind::Resolved(Ended::Calm) => "over",
                AlertChangeKind::Resolved(Ended::Forgotten) => "forgotten",
                AlertChangeKind::Resolved(Ended::Crowded) => "crowded",
                AlertChangeKind::Resolved(Ended::RuleChanged) => "changed",
            };
            let group: Vec<&str> = change
                .alert
                .group
                .iter()
                .map(|(_, value)| &**value)
                .collect();
            format!("{at} {kind} {}", group.join(","))
                .trim_end()
                .to_owned()
        })
        .collect()
}

#[test]
fn one_episode_fires_once_and_ends_once() {
    let mut watch = Watch::new(&rule("threshold: 3, group_by: [namespace]"), secs(0));
    assert_eq!(told(&booms(&mut watch, "shop", [0, 10])), [""; 0]);
    assert_eq!(told(&booms(&mut watch, "bar", [20, 20])), [""; 0]);
    let fired = booms(&mut watch, "shop", [30, 31, 32]);
    assert_eq!(told(&fired), ["30 fired shop"]);
    let alert = &fired[0].alert;
    assert_eq!(
        (alert.count, alert.since, alert.fired_at),
        (3, secs(30), secs(30))
    );
    let texts: Vec<i64> = alert
        .lines
        .iter()
        .map(|line| line.at.as_secs() - START)
        .collect();
    assert_eq!(texts, [0, 10, 30]);
    assert_eq!(&*alert.lines[0].pod, "shop-1");
    assert_eq!(
        sentence(&fired[0]),
        "r: 3 lines of `boom` in 1m (≥ 3) in namespace shop"
    );
    assert_eq!(watch.firing().count(), 1);
    // Of 30, 31 and 32 the first leaves the window at 90; calm for a minute then.
    assert_eq!(told(&watch.tick(secs(149))), [""; 0]);
    let over = watch.tick(secs(1_000));
    assert_eq!(told(&over), ["150 over shop"]);
    assert_eq!((&over[0].alert.id, over[0].alert.count), (&alert.id, 5));
    assert_eq!((watch.firing().count(), watch.next_tick()), (0, None));
    let again = booms(&mut watch, "shop", [2_000, 2_000, 2_000]);
    assert_eq!(told(&again), ["2000 fired shop"]);
    assert_ne!(again[0].alert.id, alert.id);
    assert_eq!(again[0].alert.key, alert.key);
}

#[test]
fn an_alert_has_its_rules_words_and_reads_back_from_json() {
    let text = "threshold: 2, group_by: [namespace], summary: '{count} in {namespace}: {line}', \
                labels: {team: '{namespace}'}, annotations: {limit: '{threshold} in {window}'}";
    let mut watch = Watch::new(&rule(text), secs(0));
    let fired = booms(&mut watch, "shop", [0, 1]);
    let alert = &fired[0].alert;
    assert_eq!(alert.summary.as_deref(), Some("2 in shop: boom"));
    assert_eq!(alert.labels["team"], "shop");
    assert_eq!(alert.annotations["limit"], "≥ 2 in 1m");
    let json = serde_json::to_value(&fired[0]).unwrap();
    assert_eq!(
        (&json["kind"], &json["alert"]["window"]),
        (&"fired".into(), &"1m".into())
    );
    assert_eq!(
        serde_json::from_value::<AlertChange>(json).unwrap(),
        fired[0]
    );
}

#[test]
fn a_line_is_shown_in_one_line_without_colours_and_cut() {
    let mut watch = Watch::new(&rule("threshold: 1, group_by: [user]"), secs(0));
    let mut entry = line(
        "a",
        0,
        &format!("\x1b[31mboom\x1b[0m\n\tat {}", "ö".repeat(10_000)),
    );
    entry.attributes = vec![("user".to_owned(), "ü".repeat(10_000))];
    let fired = watch.admit_entry(&entry, secs(0));
    let alert = &fired[0].alert;
    assert!(alert.lines[0].text.starts_with("boom at ööö"));
    assert_eq!(alert.lines[0].text.chars().count(), 300);
    assert_eq!(*alert.group[0].1, *"ü".repeat(64), "128 bytes");
    assert_eq!(alert.lines[0].text.capacity(), alert.lines[0].text.len());
    const { assert!(GROUP_BYTES < 8 << 10) };
}

#[test]
fn an_alert_is_told_again_at_ten_times_the_lines() {
    let mut watch = Watch::new(&rule("threshold: 2"), secs(0));
    let changes = booms(&mut watch, "shop", std::iter::repeat_n(5, 199));
    assert_eq!(told(&changes), ["5 fired", "5 worse"]);
    assert_eq!(changes[1].alert.count, 20);
    assert_eq!(told(&booms(&mut watch, "shop", [5])), ["5 worse"]);
}

#[test]
fn a_rule_that_holds_fires_only_when_the_threshold_was_reached_so_long() {
    let mut watch = Watch::new(&rule("threshold: 2, for: 30s"), secs(0));
    assert_eq!(told(&booms(&mut watch, "a", [0, 31])), [""; 0]);
    assert_eq!(
        watch.next_tick(),
        Some(secs(60)),
        "when the line of 0 leaves"
    );
    assert_eq!(
        told(&watch.tick(secs(62))),
        [""; 0],
        "one left the window a second too early"
    );
    assert_eq!(told(&booms(&mut watch, "a", [63])), [""; 0]);
    assert_eq!(told(&booms(&mut watch, "a", [70, 80])), [""; 0]);
    let fired = watch.tick(secs(200));
    assert_eq!(told(&fired[..1]), ["93 fired"]);
    assert_eq!(fired[0].alert.since, secs(63));
}

#[test]
fn late_lines_count_within_the_window_and_a_backlog_does_not() {
    let mut watch = Watch::new(&rule("threshold: 2"), secs(1_000));
    for at in 0..941 {
        assert_eq!(
            told(&watch.admit_entry(&line("a", at, "boom"), secs(1_000))),
            [""; 0],
            "{at}"
        );
    }
    assert_eq!((watch.tallies().late, watch.tallies().groups), (941, 0));
    watch.admit_entry(&line("a", 941, "boom"), secs(1_000));
    assert_eq!(
        watch.next_tick(),
        Some(secs(1_001)),
        "it counts at its own time"
    );
    let fired = watch.admit_entry(&line("a", 5_000, "boom"), secs(1_000));
    assert_eq!(
        told(&fired),
        ["1000 fired"],
        "a line of the future counts now"
    );
    assert_eq!(watch.tallies().counted, 2);
}

#[test]
fn lines_that_are_missing_are_told_after_a_whole_window() {
    let mut watch = Watch::new(&rule("threshold: absent"), secs(0));
    assert_eq!(told(&watch.tick(secs(60))), [""; 0]);
    let fired = watch.tick(secs(500));
    assert_eq!(told(&fired), ["61 fired"]);
    assert_eq!(sentence(&fired[0]), "r: no line of `boom` in 1m");
    assert_eq!(told(&booms(&mut watch, "a", [500])), [""; 0]);
    assert_eq!(told(&watch.tick(secs(600))), ["560 over", "561 fired"]);
}

#[test]
fn a_group_is_waited_for_only_once_it_was_seen_and_not_for_ever() {
    let text = "threshold: '< 2', group_by: [namespace], forget_after: 5m, resolve_after: 0s";
    let mut watch = Watch::new(&rule(text), secs(0));
    assert_eq!(
        (watch.next_tick(), told(&watch.tick(secs(900)))),
        (None, vec![])
    );
    booms(&mut watch, "a", [1_000]);
    assert_eq!(told(&watch.tick(secs(1_100))), ["1061 fired a"]);
    assert_eq!(
        told(&booms(&mut watch, "a", [1_100, 1_101])),
        ["1101 over a"]
    );
    assert_eq!(
        told(&watch.tick(secs(9_000))),
        ["1161 fired a", "1401 forgotten a"]
    );
    assert_eq!((watch.tallies().groups, watch.next_tick()), (0, None));
}

#[test]
fn a_late_line_does_not_bring_back_a_group_that_is_waited_for_no_more() {
    let text = "threshold: absent, group_by: [namespace], forget_after: 2m";
    let mut watch = Watch::new(&rule(text), secs(0));
    booms(&mut watch, "a", [0]);
    let changes = watch.admit_entry(&line("a", 300, "boom"), secs(500));
    assert_eq!(told(&changes), ["61 fired a", "120 forgotten a"]);
    assert_eq!((watch.tallies().groups, watch.next_tick()), (0, None));
}

#[test]
fn a_share_is_judged_when_there_are_enough_lines() {
    let text = "of: line, min_lines: 4, threshold: '>= 50%', resolve_after: 0s";
    let mut watch = Watch::new(&rule(text), secs(0));
    let show =
        |watch: &mut Watch, at, message| watch.admit_entry(&line("a", at, message), secs(at));
    for (at, message) in [(0, "line boom"), (0, "line boom"), (0, "boom"), (1, "line")] {
        assert_eq!(told(&show(&mut watch, at, message)), [""; 0]);
    }
    assert_eq!(told(&watch.tick(secs(10))), [""; 0], "three lines");
    show(&mut watch, 20, "line");
    let fired = watch.tick(secs(30));
    assert_eq!(told(&fired), ["21 fired"]);
    assert_eq!((fired[0].alert.count, fired[0].alert.of), (2, Some(4)));
    show(&mut watch, 30, "line");
    assert_eq!(told(&watch.tick(secs(40))), ["31 over"]);
}

#[test]
fn rules_that_are_not_enabled_are_not_evaluated() {
    let mut watch = Watch::new(&rule("enabled: false"), secs(0));
    assert_eq!(told(&booms(&mut watch, "a", [0])), [""; 0]);
}

#[test]
fn groups_are_bounded_and_those_with_an_alert_stay_longest() {
    let text = "threshold: 2, group_by: [namespace], max_groups: 8";
    let mut watch = Watch::new(&rule(text), secs(0));
    booms(&mut watch, "fires", [0, 0]);
    for n in 0..1_000 {
        assert_eq!(told(&booms(&mut watch, &format!("n{n}"), [1])), [""; 0]);
        assert!(watch.tallies().groups <= 8);
        assert!(watch.due.len() <= 8, "nothing is left to look at");
    }
    assert_eq!(
        (watch.tallies().firing, watch.tallies().crowded_out),
        (1, 993)
    );
    let mut changes = Vec::new();
    for n in 0..8 {
        changes.extend(booms(&mut watch, &format!("f{n}"), [2, 2]));
    }
    assert_eq!(
        told(&changes)
            .iter()
            .filter(|told| told.contains("crowded"))
            .count(),
        1
    );
    assert_eq!(
        told(&changes).last().map(String::as_str),
        Some("2 fired f7")
    );
    assert_eq!(watch.tallies().firing, 8);
}

#[test]
fn a_stream_whose_description_came_late_is_asked_again() {
    let text = "rules: [{name: r, query: 'node:n1 boom', window: 1m}]";
    let mut watch = Watch::new(&rules(text), secs(0));
    assert_eq!(told(&booms(&mut watch, "a", [0])), [""; 0]);
    let mut entry = line("a", 1, "boom");
    Arc::make_mut(&mut entry.stream).node = "n1".into();
    assert_eq!(told(&watch.admit_entry(&entry, secs(1))), ["1 fired"]);
}

#[test]
fn a_batch_is_its_lines() {
    let mut entries = tawny_model::Entries::default();
    for at in 0..5 {
        let end = tawny_model::Position(0);
        let (info, stdout) = (Severity::Info, Output::Stdout);
        entries
            .push(secs(at), info, stdout, "boom", [("status", "500")], end)
            .unwrap();
    }
    let batch = Batch {
        stream: line("shop", 0, "").stream,
        writer: tawny_model::WriterId(1),
        start: tawny_model::Position(0),
        end: tawny_model::Position(0),
        end_mark: tawny_model::ResumeMark::default(),
        entries,
    };
    let mut watch = Watch::new(
        &rule("threshold: 5, group_by: [namespace, status]"),
        secs(0),
    );
    assert_eq!(
        told(&watch.admit_batch(&batch, secs(5))),
        ["5 fired shop,500"]
    );
    assert_eq!(watch.tallies().lines, 5);
}

#[test]
fn a_restart_neither_repeats_nor_loses_nor_invents() {
    let text = "
rules:
  - {name: r, query: boom, window: 1m, threshold: 3, group_by: [namespace]}
  - {name: beat, query: beat, window: 1m, threshold: absent}
";
    let mut watch = Watch::new(&rules(text), secs(0));
    watch.admit_entry(&line("a", 9, "beat"), secs(9));
    booms(&mut watch, "fires", [10, 10, 10]);
    booms(&mut watch, "counts", [10, 10]);
    let json = serde_json::to_string(&watch.state()).unwrap();
    let state = || serde_json::from_str::<State>(&json).unwrap();

    let (mut same, changes) = Watch::restore(&rules(text), state(), secs(30));
    assert_eq!(told(&changes), [""; 0]);
    assert_eq!(same.firing().count(), 1);
    assert_eq!(
        told(&booms(&mut same, "fires", [31, 32])),
        [""; 0],
        "it fired before"
    );
    assert_eq!(told(&booms(&mut same, "counts", [33])), ["33 fired counts"]);
    // A beat was last seen at 9; from 30 on it is watched for again, a whole window of 61.
    assert_eq!(told(&same.tick(secs(90))), [""; 0]);
    assert_eq!(told(&same.tick(secs(91))), ["91 fired"]);

    let (mut later, changes) = Watch::restore(&rules(text), state(), secs(10_000));
    assert_eq!(
        told(&changes),
        [""; 0],
        "what came in the pause may be delivered late"
    );
    assert_eq!(
        told(&booms(&mut later, "fires", [9_990, 9_991, 9_992])),
        [""; 0]
    );
    assert_eq!(told(&later.tick(secs(10_040))), [""; 0]);

    let (mut earlier, _) = Watch::restore(&rules(text), state(), secs(-10_000));
    assert_eq!(told(&earlier.tick(secs(-9_941))), [""; 0]);
    assert_eq!(
        told(&earlier.tick(secs(-9_000))),
        ["-9940 over fires", "-9939 fired"]
    );

    let (other, changes) = Watch::restore(
        &rule("threshold: 4, group_by: [namespace]"),
        state(),
        secs(30),
    );
    assert_eq!(told(&changes), ["30 changed fires"]);
    assert_eq!(other.firing().count(), 0);
}

#[derive(Debug, Clone)]
struct Shown {
    /// Seconds since the line before.
    after: i64,
    /// Seconds the line's own time lies before its arrival.
    lag: i64,
    namespace: &'static str,
    message: &'static str,
    ticks: bool,
}

fn shown() -> impl Strategy<Value = Vec<Shown>> {
    let one = (
        prop_oneof![4 => Just(0i64), 4 => 0i64..8, 1 => 0i64..150],
        prop_oneof![6 => Just(0i64), 3 => 0i64..70, 1 => -50i64..0],
        prop::sample::select(&["a", "b"][..]),
        prop::sample::select(&["boom line", "line", "line", "nothing"][..]),
        any::<bool>(),
    );
    let one = one.prop_map(|(after, lag, namespace, message, ticks)| Shown {
        after,
        lag,
        namespace,
        message,
        ticks,
    });
    prop::collection::vec(one, 0..120)
}

/// A threshold, its text and how many seconds it holds, takes to resolve and to forget.
#[derive(Debug, Clone)]
struct Tried {
    threshold: Threshold,
    is_grouped: bool,
    hold: i64,
    resolve: i64,
    forget: i64,
}

impl Tried {
    fn rules(&self) -> Rules {
        let threshold = match self.threshold {
            Threshold::AtLeast(n) => format!("'>= {n}'"),
            Threshold::Below(n) => format!("'< {n}', forget_after: {}s", self.forget),
            Threshold::Share(part) => {
                format!("'{}%', of: line, min_lines: 3", f64::from(part) / 100.0)
            }
        };
        let group = if self.is_grouped { "namespace" } else { "" };
        rule(&format!(
            "threshold: {threshold}, group_by: [{group}], for: {}s, resolve_after: {}s",
            self.hold, self.resolve
        ))
    }
}

fn tried() -> impl Strategy<Value = Tried> {
    let threshold = prop_oneof![
        (1u64..6).prop_map(Threshold::AtLeast),
        (1u64..4).prop_map(Threshold::Below),
        (1u32..10_000).prop_map(Threshold::Share),
    ];
    (threshold, any::<bool>(), 0i64..3, 0i64..3, 154i64..300).prop_map(
        |(threshold, is_grouped, hold, resolve, forget)| Tried {
            threshold,
            is_grouped,
            hold: hold * 17,
            resolve: resolve * 23,
            forget,
        },
    )
}

/// A group that keeps every line and looks every second.
#[derive(Debug)]
struct Naive {
    name: String,
    lines: Vec<(i64, bool)>,
    since: Option<i64>,
    firing: bool,
    calm: Option<i64>,
    last_told: u64,
    watched_since: i64,
    last_seen: i64,
}

impl Naive {
    fn look(&mut self, tried: &Tried, now: i64, told: &mut Vec<(String, String)>) {
        let steps = if matches!(tried.threshold, Threshold::Below(_)) {
            61
        } else {
            60
        };
        let counted = self.lines.iter().filter(|(at, _)| *at > now - steps);
        let of = counted.clone().count() as u64;
        let count = counted.filter(|(_, is_hit)| *is_hit).count() as u64;
        let reached = match tried.threshold {
            Threshold::AtLeast(n) => count >= n,
            Threshold::Below(n) => count < n && (self.firing || now >= self.watched_since + 61),
            Threshold::Share(part) => of >= 3 && count * 10_000 >= of * u64::from(part),
        };
        let mut tell =
            |kind: &str| told.push((self.name.clone(), format!("{now} {kind} {}", self.name)));
        if self.firing {
            if reached {
                self.calm = None;
                if matches!(tried.threshold, Threshold::AtLeast(_)) && count >= self.last_told * 10
                {
                    self.last_told = count;
                    tell("worse");
                }
            } else if now >= *self.calm.get_or_insert(now) + tried.resolve {
                tell("over");
                (self.firing, self.calm) = (false, None);
            }
        } else if reached {
            if now >= *self.since.get_or_insert(now) + tried.hold {
                tell("fired");
                (self.firing, self.since, self.last_told) = (true, None, count);
            }
        } else {
            self.since = None;
        }
    }
}

fn naive(tried: &Tried, lines: &[Shown], until: i64) -> Vec<(String, String)> {
    let steps = if matches!(tried.threshold, Threshold::Below(_)) {
        61
    } else {
        60
    };
    let group = |name: &str, now| Naive {
        name: name.to_owned(),
        lines: Vec::new(),
        since: None,
        firing: false,
        calm: None,
        last_told: 0,
        watched_since: now,
        last_seen: now,
    };
    let is_short_of = matches!(tried.threshold, Threshold::Below(_));
    let is_share = matches!(tried.threshold, Threshold::Share(_));
    let mut told = Vec::new();
    let mut groups: Vec<Naive> = Vec::new();
    if is_short_of && !tried.is_grouped {
        groups.push(group("", 0));
    }
    let mut arrivals = Vec::new();
    let mut now = 0;
    for shown in lines {
        now += shown.after;
        arrivals.push((now, shown));
    }
    let mut arrivals = arrivals.into_iter().peekable();
    for now in 0..=until {
        groups.retain_mut(|group| {
            if is_short_of && tried.is_grouped && now >= group.last_seen + tried.forget {
                if group.firing {
                    told.push((
                        group.name.clone(),
                        format!("{now} forgotten {}", group.name),
                    ));
                }
                return false;
            }
            group.look(tried, now, &mut told);
            true
        });
        while let Some((_, shown)) = arrivals.next_if(|(at, _)| *at == now) {
            let is_hit = shown.message.contains("boom");
            let counts = if is_share {
                shown.message.contains("line")
            } else {
                is_hit
            };
            let at = (now - shown.lag).min(now);
            if !counts || at <= now - steps {
                continue;
            }
            let name = if tried.is_grouped {
                shown.namespace
            } else {
                ""
            };
            let idx = groups
                .iter()
                .position(|group| group.name == name)
                .unwrap_or_else(|| {
                    groups.push(group(name, now));
                    groups.len() - 1
                });
            groups[idx].lines.push((at, is_hit));
            groups[idx].last_seen = now;
            if !is_share {
                groups[idx].look(tried, now, &mut told);
            }
        }
    }
    told.sort_by(|a, b| a.0.cmp(&b.0));
    told
}

/// What a watch tells of the lines: by group, in order. It is saved and restored before the line of that index.
fn watched(tried: &Tried, lines: &[Shown], until: i64, reload_at: usize) -> Vec<(String, String)> {
    let rules = tried.rules();
    let mut watch = Watch::new(&rules, secs(0));
    let mut changes = Vec::new();
    let mut now = 0;
    for (idx, shown) in lines.iter().enumerate() {
        now += shown.after;
        if shown.ticks {
            changes.extend(watch.tick(secs(now)));
        }
        if idx == reload_at {
            changes.extend(watch.tick(secs(now)));
            let json = serde_json::to_string(&watch.state()).unwrap();
            let (other, more) =
                Watch::restore(&rules, serde_json::from_str(&json).unwrap(), watch.now);
            watch = other;
            changes.extend(more);
        }
        let entry = line(shown.namespace, now - shown.lag, shown.message);
        changes.extend(watch.admit_entry(&entry, secs(now)));
        assert!(watch.due.len() <= watch.tallies().groups);
    }
    changes.extend(watch.tick(secs(until)));
    let mut told: Vec<(String, String)> = changes
        .iter()
        .zip(told(&changes))
        .map(|(change, told)| {
            let group = change.alert.group.first().map_or("", |(_, value)| value);
            (
                group.to_owned(),
                format!("{told}{}", if group.is_empty() { " " } else { "" }),
            )
        })
        .collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    told
}

fn end_of(lines: &[Shown]) -> i64 {
    lines.iter().map(|shown| shown.after).sum::<i64>() + 500
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_fires_and_ends_is_what_a_recount_of_every_second_says(
        tried in tried(),
        lines in shown(),
    ) {
        let until = end_of(&lines);
        prop_assert_eq!(watched(&tried, &lines, until, usize::MAX), naive(&tried, &lines, until));
    }

    #[test]
    fn the_order_of_lines_of_one_moment_does_not_matter(
        tried in tried(),
        lines in shown(),
        reversed in any::<bool>(),
    ) {
        let until = end_of(&lines);
        // Lines of one moment keep it and change places.
        let mut moments: Vec<Vec<Shown>> = Vec::new();
        for shown in &lines {
            match moments.last_mut() {
                Some(moment) if shown.after == 0 => moment.push(shown.clone()),
                _ => moments.push(vec![shown.clone()]),
            }
        }
        for moment in &mut moments {
            let after = std::mem::take(&mut moment[0].after);
            if reversed {
                moment.reverse();
            } else {
                moment.sort_by_key(|shown| (shown.lag, shown.message));
            }
            moment[0].after = after;
        }
        let other: Vec<Shown> = moments.concat();
        prop_assert_eq!(
            watched(&tried, &lines, until, usize::MAX),
            watched(&tried, &other, until, usize::MAX)
        );
    }

    #[test]
    fn a_restart_without_a_pause_changes_nothing(
        tried in tried(),
        lines in shown(),
        reload_at in 0usize..120,
    ) {
        let until = end_of(&lines);
        let told = watched(&tried, &lines, until, usize::MAX);
        prop_assert_eq!(watched(&tried, &lines, until, reload_at), told);
    }
}
