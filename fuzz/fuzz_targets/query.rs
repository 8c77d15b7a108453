//! Queries: no text panics the parsers, and what parses prints as text of the same tree.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tawny_query::{MAX_TEXT_BYTES, Query, parse, parse_fts5, tokens};

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
    // Messages are texts too: the matcher takes any.
    let _n_words = tokens(&tawny_query::strip_ansi(text)).count();
}
