use std::sync::Arc;

use proptest::prelude::*;
use tawny_model::{Entries, EntryId, Position, StreamId, Workload};

use super::*;
use crate::{Query, testing};

fn entry(message: &str, attributes: &[(&str, &str)]) -> LogEntry {
    let id = StreamId {
        cluster: "".into(),
        pod_uid: "0-1".into(),
        container: "App".into(),
        restart: 2,
    };
    let mut stream = Stream::new(id, "prod", "api-7f9-x2");
    stream.image = "nginx:1.25".into();
    stream.workload = Some(Workload {
        kind: "Deployment".into(),
        name: "api".into(),
    });
    stream.labels.insert("app".into(), "Web".into());
    LogEntry {
        id: EntryId(1),
        timestamp: Timestamp::from_secs(1),
        severity: Severity::Warn,
        output: Output::Stderr,
        message: message.to_owned(),
        attributes: attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        stream: Arc::new(stream),
    }
}

#[track_caller]
fn check(entry: &LogEntry, matching: &[&str], others: &[&str]) {
    for text in matching {
        assert!(Query::parse(text).unwrap().matches(entry), "{text}");
    }
    for text in others {
        assert!(!Query::parse(text).unwrap().matches(entry), "{text}");
    }
}

#[test]
fn words_are_whole_and_of_any_case() {
    check(
        &entry("Connection refused: dial tcp 10.0.0.1:8080", &[]),
        &[
            "",
            "connection",
            "REFUSED",
            "conn*",
            "*fused",
            "*fus*",
            "10.0.0.1",
            "tcp-10",
            "\"connection refused\"",
            "\"connection ref\"*",
            "*\"nection refused\"",
            "*\": d\"*",
            "\"refused dial\"",
            "/refused: \\w+/",
            "/CONN/i",
            "dial -timeout",
        ],
        &[
            "connect",
            "fused",
            "fus*",
            "*refus",
            "\"refused connection\"",
            "\"connection dial\"",
            "10.0.0.2",
            "/CONN/",
            "*:d*",
            "-dial",
            "dial timeout",
        ],
    );
}

#[test]
fn letters_beyond_ascii_are_folded_one_by_one() {
    check(
        &entry("GRÖSSE der \u{212a}afka-İnstanz: 東京_1", &[]),
        &[
            "größe* OR grösse",
            "kafka",
            "instanz",
            "*ÖSS*",
            "東京_1",
            "東京*",
            "*_1",
        ],
        &["größe", "東京", "nstanz"],
    );
}

#[test]
fn colours_do_not_cut_words() {
    check(
        &entry("\x1b[31merr\x1b[1mor\x1b[0m in \x1b]0;title\x07main", &[]),
        &["error", "\"error in main\"", "*ror in*", "/^error in/"],
        &["31merr", "title", "0m"],
    );
}

#[test]
fn fields_of_the_stream_are_compared_whole() {
    check(
        &entry("x", &[]),
        &[
            "namespace:PROD",
            "pod:api-*",
            "pod:/7f\\d/",
            "pod_uid:0-1",
            "container:app",
            "restart:2",
            "restart>1",
            "image:nginx:*",
            "label.app:web",
            "workload:api",
            "workload:deployment/api",
            "workload:*/api",
            "workload:/^api$/",
            "output:stderr",
            "stream!=stdout",
            "level:warn",
            "level>=warn",
            "level<error",
            "level:*",
            "-node:*",
            "-cluster:*",
            "-label.tier:*",
            "node!=a",
            "pod:(x OR api-*)",
        ],
        &[
            "namespace:pro",
            "pod:api",
            "node:*",
            "node:\"\"",
            "cluster:/.*/",
            "label.APP:web",
            "workload:statefulset/api",
            "workload:deployment",
            "level>warn",
            "restart<2",
            "-level:warn",
        ],
    );
}

#[test]
fn attributes_are_text_and_numbers() {
    let attributes = [
        ("status", "500"),
        ("status", "1"),
        ("ms", " 1.5e1 "),
        ("user", "Ann B"),
        ("empty", ""),
        ("pod", "p"),
    ];
    check(
        &entry("x", &attributes),
        &[
            "status:500",
            "status>=500",
            "status==5e2",
            "status<501",
            "ms>14",
            "ms<=15",
            "user:\"ann b\"",
            "user:ann*",
            "user:/n B/",
            "empty:\"\"",
            "empty:*",
            "attr.pod:p",
            "absent!=5",
            "-absent:*",
            "-absent>1",
            "user!=5",
        ],
        &[
            "status:1",
            "status:50",
            "status:500.0",
            "user>1",
            "user<1",
            "empty<1",
            "absent:*",
            "absent!=(a OR b) status:1",
            "Status:500",
            "pod:p",
            "absent<5",
            "absent==0",
        ],
    );
}

#[test]
fn an_unknown_level_is_below_all_others_and_is_no_level() {
    let mut entry = entry("x", &[]);
    entry.severity = Severity::Unknown;
    check(
        &entry,
        &["level:unknown", "level<trace", "level!=error", "-level:*"],
        &["level:*", "level>=trace"],
    );
}

proptest! {
    #[test]
    fn laws_of_logic_hold(a in testing::expr(), b in testing::expr(), entry in testing::entry()) {
        let not = |expr: &Expr| Expr::Not(Box::new(expr.clone()));
        let both = Expr::And(vec![a.clone(), b.clone()]);
        let either = Expr::Or(vec![a.clone(), b.clone()]);
        prop_assert_eq!(not(&not(&a)).matches(&entry), a.matches(&entry));
        prop_assert_ne!(not(&a).matches(&entry), a.matches(&entry));
        prop_assert_eq!(not(&both).matches(&entry), Expr::Or(vec![not(&a), not(&b)]).matches(&entry));
        prop_assert_eq!(not(&either).matches(&entry), Expr::And(vec![not(&a), not(&b)]).matches(&entry));
        prop_assert_eq!(Expr::all_of([a.clone(), b.clone()]).matches(&entry), both.matches(&entry));
        prop_assert_eq!(Expr::any_of([a, b]).matches(&entry), either.matches(&entry));
    }

    #[test]
    fn an_entry_in_a_batch_matches_like_one_alone(expr in testing::expr(), entry in testing::entry()) {
        let mut entries = Entries::default();
        let attributes = entry.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        entries.push(entry.timestamp, entry.severity, entry.output, &entry.message, attributes, Position::ZERO)?;
        let row = entries.get(0).expect("one was pushed");
        prop_assert_eq!(expr.matches(&(row, &*entry.stream)), expr.matches(&entry));
    }

    #[test]
    fn a_word_matches_what_the_index_holds(entry in testing::entry(), test in testing::text_test()) {
        // The promise a full-text index relies on: rows of words can be found in `index_text` alone.
        if let TextTest::Phrase(_) | TextTest::Prefix(_) | TextTest::Suffix(_) = &test {
            prop_assert_eq!(test.matches(&entry.message), test.matches(&crate::index_text(&entry.message)));
        }
    }

    #[test]
    fn a_glob_matches_like_its_regex(pattern in "[ab*?Ö]{0,6}", value in "[abÖö]{0,8}") {
        let glob = crate::Glob::new(&pattern);
        let regex: String = pattern.chars().map(|c| match c {
            '*' => ".*".to_owned(),
            '?' => ".".to_owned(),
            other => other.to_string(),
        }).collect();
        let regex = regex::Regex::new(&format!("(?is)^{regex}$")).unwrap();
        prop_assert_eq!(glob.is_match(&value), regex.is_match(&value));
    }
}

#[test]
fn random_queries_hit_often_enough_to_prove_something() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let n_hits = (0..500)
        .filter(|_| {
            let expr = testing::expr().new_tree(&mut runner).unwrap().current();
            let entry = testing::entry().new_tree(&mut runner).unwrap().current();
            expr.matches(&entry)
        })
        .count();
    assert!((75..425).contains(&n_hits), "{n_hits} of 500");
}
