//! Queries: no text panics the parsers or the matcher, and what parses prints as text of the same tree.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tawny_model::{EntryId, LogEntry, Output, Severity, Stream, StreamId, Timestamp};
use tawny_query::{MAX_TEXT_BYTES, Query, parse, parse_fts5};

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(query) => check(&query, text),
        Err(error) => assert!(error.render(text).ends_with(&error.to_string())),
    }
    if let Ok(query) = parse_fts5(text) {
        check(&query, text);
    }
});

fn check(query: &Query, text: &str) {
    let printed = query.to_string();
    // Canonical names can be longer than the user's, up to passing the limit.
    if printed.len() <= MAX_TEXT_BYTES {
        let read = parse(&printed).expect("canonical text parses");
        assert_eq!(read.expr(), query.expr(), "{printed}");
    }
    // Messages are texts too: a query looks at itself, and `NOT` turns the answer round.
    let entry = entry(text);
    let negated = Query::from_expr(query.expr().clone().negate());
    assert_ne!(query.matches(&entry), negated.matches(&entry), "{printed}");
}

fn entry(message: &str) -> LogEntry {
    let id = StreamId {
        cluster: "".into(),
        pod_uid: "u".into(),
        container: "c".into(),
        restart: 0,
    };
    LogEntry {
        id: EntryId(0),
        timestamp: Timestamp::from_secs(0),
        severity: Severity::Unknown,
        output: Output::Stdout,
        message: message.to_owned(),
        attributes: vec![("a".to_owned(), message.to_owned())],
        stream: Stream::new(id, "n", "p").into(),
    }
}
