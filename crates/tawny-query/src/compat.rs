//! The `search` parameter of kubelogs, which is the query syntax of SQLite's FTS5, as far as it makes sense here.
//!
//! Source: <https://www.sqlite.org/fts5.html#full_text_query_syntax>. Taken over: words, `"phrases"` with `""` for a
//! quote, `prefix*`, `a + b`, `AND`, `OR`, binary `NOT`, parentheses, and their binding (nothing between two words
//! binds tightest, then `NOT`, `AND`, `OR`). Where FTS5 stops at a sign, as in `foo-bar`, the word is taken as the
//! phrase it is. Words are compared whole; kubelogs also compared their stems.

use crate::{
    ParseError, Query,
    ast::{Expr, TextTest},
    parse::Parser,
    text::{fold, tokens},
};

/// Reads a kubelogs search text; the empty text matches everything.
///
/// # Errors
/// The first place that does not parse; `NEAR(…)`, `^word` and column filters are refused there.
pub fn parse_fts5(text: &str) -> Result<Query, ParseError> {
    let mut parser = Parser::new(text)?;
    parser.skip_space();
    let expr = if parser.rest().is_empty() {
        Expr::All
    } else {
        any(&mut parser)?
    };
    if !parser.rest().is_empty() {
        return Err(parser.error("AND, OR, NOT or the end of the query", None));
    }
    Ok(Query {
        text: text.to_owned(),
        expr,
    })
}

fn any(parser: &mut Parser<'_>) -> Result<Expr, ParseError> {
    let mut parts = vec![all(parser)?];
    while parser.eat_keyword("OR") {
        parts.push(all(parser)?);
    }
    Ok(Expr::any_of(parts))
}

fn all(parser: &mut Parser<'_>) -> Result<Expr, ParseError> {
    let mut parts = vec![without(parser)?];
    while parser.eat_keyword("AND") {
        parts.push(without(parser)?);
    }
    Ok(Expr::all_of(parts))
}

fn without(parser: &mut Parser<'_>) -> Result<Expr, ParseError> {
    let mut parts = vec![row(parser)?];
    while parser.eat_keyword("NOT") {
        parser.count_node()?;
        parts.push(row(parser)?.negate());
    }
    Ok(Expr::all_of(parts))
}

/// Terms with nothing between them; leaves the space behind them consumed.
fn row(parser: &mut Parser<'_>) -> Result<Expr, ParseError> {
    let mut parts = Vec::new();
    loop {
        parser.skip_space();
        let is_end = parser.peek().is_none_or(|c| c == ')') || sees_operator(parser);
        if is_end && !parts.is_empty() {
            return Ok(Expr::all_of(parts));
        }
        if is_end {
            let hint = sees_operator(parser).then_some(
                r#"NOT stands between two terms, as in a NOT b; for the word, quote it"#,
            );
            return Err(parser.error("a word or a phrase", hint));
        }
        parts.push(if parser.eat("(") {
            let inner = parser.deeper(any)?;
            if !parser.eat(")") {
                return Err(parser.error(r#"")""#, None));
            }
            inner
        } else {
            parser.count_node()?;
            phrase(parser)?
        });
    }
}

fn sees_operator(parser: &Parser<'_>) -> bool {
    ["AND", "OR", "NOT"]
        .iter()
        .any(|operator| parser.sees_keyword(operator))
}

/// Strings joined by `+`, perhaps with a `*` behind.
fn phrase(parser: &mut Parser<'_>) -> Result<Expr, ParseError> {
    let start = parser.at();
    let mut words = Vec::new();
    loop {
        let text = string(parser)?;
        words.extend(tokens(&text).map(|token| fold(token).into_owned()));
        parser.skip_space();
        if !parser.eat("+") {
            break;
        }
        parser.skip_space();
    }
    if words.is_empty() {
        return Err(parser.error_at(start, "a word, made of letters, digits or _", None));
    }
    Ok(Expr::Message(if parser.eat("*") {
        TextTest::Prefix(words)
    } else {
        TextTest::Phrase(words)
    }))
}

fn string(parser: &mut Parser<'_>) -> Result<String, ParseError> {
    let start = parser.at();
    let mut text = String::new();
    if parser.eat("\"") {
        while let Some(c) = parser.peek() {
            parser.eat(c.encode_utf8(&mut [0; 4]));
            if c == '"' && !parser.eat("\"") {
                return Ok(text);
            }
            text.push(c);
        }
        let hint = r#"inside quotes write "" for '"'"#;
        return Err(parser.error_at(start, r#"a closing '"'"#, Some(hint)));
    }
    while let Some(c) = parser
        .peek()
        .filter(|c| !c.is_whitespace() && !r#""()*+^:{}"#.contains(*c))
    {
        parser.eat(c.encode_utf8(&mut [0; 4]));
        text.push(c);
    }
    let refused = match parser.peek() {
        Some('(') if text == "NEAR" => Some("NEAR(…) is not known here; use a phrase or AND"),
        Some(':' | '{' | '}') => Some("column filters are not known here; for the text, quote it"),
        Some('^') => Some("`^` is not known here; for the text, quote it"),
        _ if text.starts_with('-') => Some("to leave a word out write NOT before it"),
        _ => None,
    };
    match refused {
        Some(hint) => Err(parser.error_at(start, "a word or a phrase", Some(hint))),
        None if text.is_empty() => Err(parser.error("a word or a phrase", None)),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fts5_texts_mean_what_sqlite_takes_them_for() {
        // Bindings were compared with SQLite 3.40 over all combinations of four words.
        for (text, expected) in [
            ("", "*"),
            ("Error timeout", "error timeout"),
            ("a NOT b c", "a -(b c)"),
            ("a b NOT c", "a b -c"),
            ("a NOT b NOT c", "a -b -c"),
            ("a OR b NOT c", "a OR b -c"),
            ("a OR b AND c", "a OR b c"),
            ("a NOT b AND c", "a -b c"),
            ("a AND (b OR c) NOT d", "a (b OR c) -d"),
            ("a + b*", "\"a b\"*"),
            ("a+b", "\"a b\""),
            ("\"a b\" *", "\"a b\"*"),
            ("\"a\"\"b\" c", "\"a b\" c"),
            ("a\"b\"", "a b"),
            ("((a))", "a"),
            ("a*b*", "a* b*"),
            ("NEAR a", "near a"),
            ("a and b", "a and b"),
            // SQLite refuses these; they can mean only one thing.
            ("foo-bar 10.0.0.1", "\"foo bar\" \"10 0 0 1\""),
            ("(a OR b) c", "(a OR b) c"),
        ] {
            let parsed = parse_fts5(text).map_err(|error| format!("{text}: {error}"));
            assert_eq!(
                parsed.map(|query| query.to_string()),
                Ok(expected.to_owned())
            );
        }
    }

    #[test]
    fn what_fts5_has_beyond_is_refused_with_its_column() {
        for (text, column, part) in [
            ("a NEAR(b c)", 3, "NEAR(…) is not known"),
            ("x message:a", 3, "column filters"),
            ("{m}:a", 1, "column filters"),
            ("a ^b", 3, "`^` is not known"),
            ("a -b", 3, "write NOT"),
            ("NOT a", 1, "a NOT b"),
            ("a NOT", 6, "expected a word or a phrase, found the end"),
            ("a AND AND b", 7, "found \"AND\""),
            ("()", 2, "found \")\""),
            ("(a", 3, "expected \")\""),
            ("a)", 2, "the end of the query"),
            ("\"a", 1, "a closing"),
            ("\"\"", 1, "made of letters"),
            ("***", 1, "a word or a phrase"),
        ] {
            let error = parse_fts5(text).unwrap_err();
            assert_eq!(error.column, column, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        assert!(parse_fts5(&"(".repeat(1_000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[a-zé\"*+():^ {}-]{0,30}|.{0,40}") {
            if let Ok(query) = parse_fts5(&text) {
                let read = crate::parse(&query.to_string()).expect("canonical text parses");
                prop_assert_eq!(read.expr(), query.expr());
            }
        }
    }
}
