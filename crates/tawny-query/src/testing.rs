//! Strategies for random entries and queries over small vocabularies, so that queries hit: for conformance suites.

use std::sync::Arc;

use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};
use tawny_model::{EntryId, LogEntry, Output, Severity, Stream, StreamId, Timestamp, Workload};

use crate::{Comparison, Expr, Field, FieldTest, Glob, Query, Regex, TextTest, fold, tokens};

/// Words as they stand in messages: cases, letters that fold oddly, words that begin and end alike, colours.
const WORDS: &[&str] = &[
    "error",
    "Error",
    "ERRORS",
    "timeout",
    "time",
    "out",
    "connection",
    "refused",
    "confused",
    "foo_bar",
    "foo",
    "10",
    "500",
    "Größe",
    "GRÖSSE",
    "İstanbul",
    "\u{212a}afka",
    "kafka",
    "東京",
    "é",
    "e\u{301}",
    "\x1b[31merror\x1b[0m",
    "time\x1b[1mout",
    "%",
    "it's",
    "\"quoted\"",
];
const SEPARATORS: &[&str] = &[
    " ", " ", " ", "-", ".", "/", ": ", "=", " — ", "\t", "\n", "",
];
const NAMES: &[&str] = &[
    "api", "API", "api-1", "api-2", "web", "web_1", "prod", "Größe",
];
const VALUES: &[&str] = &[
    "", "200", "404", "500", "500.0", "5e2", "-1", "slow", "Slow", "slower", "a b", "\"", "*",
    "nan", "Größe",
];
const LABELS: &[&str] = &["app", "tier", "app.kubernetes.io/name"];
const ATTRIBUTES: &[&str] = &["status", "path", "pod", "odd key", "Status"];
const REGEXES: &[&str] = &[
    "err",
    "(?i)err",
    "time(d )?out",
    "^e",
    r"\d+",
    "a/p",
    "^$",
    "fused$",
    "[A-Z]",
];

/// A stream; few enough differ that tests of its fields hit.
pub fn stream() -> impl Strategy<Value = Arc<Stream>> {
    let known = || select(NAMES).prop_map(Arc::<str>::from);
    let perhaps = || prop_oneof![1 => Just(Arc::<str>::from("")), 3 => select(NAMES).prop_map(Arc::<str>::from)];
    let workload =
        (select(&["Deployment", "CronJob"][..]), known()).prop_map(|(kind, name)| Workload {
            kind: kind.into(),
            name,
        });
    let labels = btree_map(select(LABELS).prop_map(Arc::from), known(), 0..3);
    (
        (perhaps(), known(), known(), 0u32..3),
        (known(), known(), perhaps(), perhaps()),
        option::of(workload),
        labels,
    )
        .prop_map(|(id, described, workload, labels)| {
            let (cluster, pod_uid, container, restart) = id;
            let (namespace, pod, node, image) = described;
            Arc::new(Stream {
                id: StreamId {
                    cluster,
                    pod_uid,
                    container,
                    restart,
                },
                namespace,
                pod,
                node,
                image,
                workload,
                labels,
            })
        })
}

/// A message of up to six words.
pub fn message() -> impl Strategy<Value = String> {
    vec((select(WORDS), select(SEPARATORS)), 0..7).prop_map(|parts| {
        parts
            .into_iter()
            .flat_map(|(word, separator)| [word, separator])
            .collect()
    })
}

fn attributes() -> impl Strategy<Value = Vec<(String, String)>> {
    btree_map(select(ATTRIBUTES), select(VALUES), 0..4).prop_map(|attributes| {
        attributes
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    })
}

/// An entry of a given stream, within ten seconds of the epoch's 1,700,000,000th second; its id is of ordinal 0.
pub fn entry_of(stream: Arc<Stream>) -> impl Strategy<Value = LogEntry> {
    (
        0i64..10_000_000_000,
        select(&Severity::ALL[..]),
        prop::bool::ANY,
        message(),
        attributes(),
    )
        .prop_map(move |(nanos, severity, is_stderr, message, attributes)| {
            let timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000 + nanos);
            LogEntry {
                id: EntryId::derive(timestamp, stream.id.key(), 0),
                timestamp,
                severity,
                output: if is_stderr {
                    Output::Stderr
                } else {
                    Output::Stdout
                },
                message,
                attributes,
                stream: Arc::clone(&stream),
            }
        })
}

/// An entry of a random stream.
pub fn entry() -> impl Strategy<Value = LogEntry> {
    stream().prop_flat_map(entry_of)
}

/// A query of up to some twenty tests, in the form the parser makes.
pub fn query() -> impl Strategy<Value = Query> {
    expr().prop_map(Query::from_expr)
}

/// A tree in the form the parser makes, with every kind of node.
pub fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        1 => Just(Expr::All),
        8 => text_test().prop_map(Expr::Message),
        8 => field_test(),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            3 => vec(inner.clone(), 2..4).prop_map(Expr::all_of),
            3 => vec(inner.clone(), 2..4).prop_map(Expr::any_of),
            2 => inner.prop_map(Expr::negate),
        ]
    })
}

fn words(text: &str) -> Vec<String> {
    tokens(text).map(|token| fold(token).into_owned()).collect()
}

/// A test of the message, mostly of words that messages have.
pub fn text_test() -> impl Strategy<Value = TextTest> {
    let row = || {
        vec(select(WORDS), 1..4).prop_filter_map("a row has words", |parts| {
            let words = words(&crate::strip_ansi(&parts.join(" ")));
            (!words.is_empty()).then_some(words)
        })
    };
    // Cut at a random character, so that ends are really open.
    let cut = || (row(), any::<prop::sample::Index>());
    prop_oneof![
        4 => row().prop_map(TextTest::Phrase),
        2 => cut().prop_map(|(mut words, at)| {
            let last = words.pop().unwrap_or_default();
            let len = at.index(last.chars().count()) + 1;
            words.push(last.chars().take(len).collect());
            TextTest::Prefix(words)
        }),
        2 => cut().prop_map(|(mut words, at)| {
            let first = words.remove(0);
            let skipped = at.index(first.chars().count());
            words.insert(0, first.chars().skip(skipped).collect());
            TextTest::Suffix(words)
        }),
        2 => (message(), any::<prop::sample::Index>(), 1usize..5).prop_map(|(text, from, len)| {
            let text = fold(&crate::strip_ansi(&text)).into_owned();
            let from = from.index(text.chars().count() + 1);
            let part: String = text.chars().skip(from).take(len).collect();
            TextTest::Substring(if part.is_empty() { "e".to_owned() } else { part })
        }),
        1 => regex().prop_map(TextTest::Regex),
    ]
}

fn regex() -> impl Strategy<Value = Regex> {
    select(REGEXES).prop_map(|pattern| Regex::new(pattern).expect("the list holds valid patterns"))
}

fn comparison() -> impl Strategy<Value = Comparison> {
    select(
        &[
            Comparison::Equal,
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
        ][..],
    )
}

/// A well-typed test of a field.
pub fn field_test() -> impl Strategy<Value = Expr> {
    let named = |fields: &'static [Field]| select(fields);
    let of_name = prop_oneof![
        4 => named(&[
            Field::Cluster, Field::Namespace, Field::Pod, Field::PodUid, Field::Container,
            Field::Node, Field::Image, Field::Workload,
        ]),
        1 => select(LABELS).prop_map(|key| Field::Label(key.to_owned())),
    ];
    let name_value = prop_oneof![
        3 => select(NAMES).prop_map(str::to_owned),
        1 => (select(&["Deployment", "CronJob", "Job"][..]), select(NAMES))
            .prop_map(|(kind, name)| format!("{kind}/{name}")),
    ];
    let name_glob = select(&["api*", "*1", "*-*", "?pi", "a?i-?", "*/api", "*ö*", "*b?1"][..]);
    let number = || select(&[200.0, 404.0, 500.0, -1.0, 0.0, 1.0, 2.0, 0.5][..]);
    prop_oneof![
        4 => (of_name.clone(), value_test(name_value, name_glob))
            .prop_map(|(field, test)| Expr::Field(field, test)),
        3 => (
            select(ATTRIBUTES),
            value_test(
                select(VALUES).prop_map(str::to_owned),
                select(&["s*", "*0", "?00", "*.*", "*w*", "4?4"][..]),
            ),
        )
            .prop_map(|(key, test)| Expr::Field(Field::Attribute(key.to_owned()), test)),
        2 => (select(ATTRIBUTES), comparison(), number()).prop_map(|(key, comparison, number)| {
            Expr::Field(
                Field::Attribute(key.to_owned()),
                FieldTest::Number(comparison, number),
            )
        }),
        1 => (comparison(), number()).prop_map(|(comparison, number)| Expr::Field(
            Field::Restart,
            FieldTest::Number(comparison, number),
        )),
        1 => select(&["0", "1", "3"][..]).prop_map(|value| Expr::equals(Field::Restart, value)),
        1 => select(&["stdout", "stderr"][..]).prop_map(|value| Expr::equals(Field::Output, value)),
        2 => (
            prop_oneof![comparison(), Just(Comparison::NotEqual)],
            select(&Severity::ALL[..]),
        )
            .prop_map(|(comparison, severity)| Expr::Field(
                Field::Severity,
                FieldTest::Severity(comparison, severity),
            )),
    ]
}

fn value_test(
    value: impl Strategy<Value = String> + 'static,
    glob: impl Strategy<Value = &'static str> + 'static,
) -> impl Strategy<Value = FieldTest> {
    prop_oneof![
        4 => value.prop_map(|value| FieldTest::Equals(fold(&value).into_owned())),
        2 => glob.prop_map(|pattern| FieldTest::Glob(Glob::new(pattern))),
        1 => regex().prop_map(FieldTest::Regex),
        1 => Just(FieldTest::Exists),
    ]
}
