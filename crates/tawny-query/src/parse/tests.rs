use proptest::prelude::*;

use super::*;
use crate::{ast::Regex, testing};

/// The canonical text, or the error on one line.
fn outcome(text: &str) -> String {
    match parse(text) {
        Ok(query) => query.to_string(),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn check(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(outcome(text), *expected, "{text}");
    }
}

#[test]
fn words_phrases_and_their_open_ends_are_read() {
    check(&[
        ("", "*"),
        ("   ", "*"),
        ("*", "*"),
        ("error Timeout", "error timeout"),
        ("\"Connection  refused\"", "\"connection refused\""),
        (r#""say \"hi\" \\""#, "\"say hi\""),
        ("conn*", "conn*"),
        ("*fused", "*fused"),
        ("*Fused*", "*fused*"),
        ("\"connection ref\"*", "\"connection ref\"*"),
        ("*\"fused by\"", "*\"fused by\""),
        ("*\"a, b\"*", "*\"a, b\"*"),
        ("*—*", "*\"—\"*"),
        ("*a-b*", "*\"a-b\"*"),
        ("foo-con*", "\"foo con\"*"),
        ("/api/*", "api"),
        ("*-foo", "foo"),
        ("what?", "what"),
    ]);
}

#[test]
fn words_with_punctuation_are_phrases() {
    check(&[
        ("foo-bar", "\"foo bar\""),
        ("10.0.0.1", "\"10 0 0 1\""),
        ("10.0.0.1:8080", "\"10 0 0 1 8080\""),
        ("user@host", "\"user host\""),
        ("/healthz", "healthz"),
        ("/api/v1/users", "\"api v1 users\""),
        ("12:30:01", "\"12 30 01\""),
        ("http://example.com:80/x", "\"http example com 80 x\""),
        ("std::fmt", "\"std fmt\""),
        ("fe80::1", "\"fe80 1\""),
        ("+5%", "5"),
        ("and or not", "and or not"),
        ("ANDROID NOTICE ORDER", "android notice order"),
    ]);
}

#[test]
fn operators_bind_not_and_or() {
    check(&[
        ("a AND b", "a b"),
        ("a b OR c d", "a b OR c d"),
        ("a (b OR c)", "a (b OR c)"),
        ("(a b) c", "a b c"),
        ("(a OR b) OR c", "a OR b OR c"),
        ("-healthz", "-healthz"),
        ("NOT healthz", "-healthz"),
        ("a AND NOT b", "a -b"),
        ("-(a b)", "-(a b)"),
        ("NOT a OR b", "-a OR b"),
        ("NOT NOT a", "a"),
        ("--a", "a"),
        ("-*", "-*"),
        ("* a", "a"),
        ("* OR a", "*"),
        ("(a)(b)", "a b"),
        ("NOT(a)", "-a"),
    ]);
}

#[test]
fn regexes_end_with_their_term() {
    check(&[
        (r"/time(d )?out after \d+/", r"/time(d )?out after \d+/"),
        ("/Err/i x", "/Err/i x"),
        ("/(?i)Err/", "/Err/i"),
        (r"/a\/b/", r"/a\/b/"),
        (r"/a\\/", r"/a\\/"),
        ("(/a/)", "/a/"),
        ("-/a/", "-/a/"),
        ("/a/b", "\"a b\""),
        ("/a b", "a b"),
        ("path:/^.api/", "path:/^.api/"),
        ("path:/api/v1", "path:\"/api/v1\""),
        (
            "/(/",
            "column 1: expected a regular expression, found \"/\"; unclosed group; for the text itself use quotes",
        ),
        (
            r"/\w{10000}/",
            "column 1: expected a regular expression, found \"/\\w{10000}/\"; it is too large when compiled; for the text itself use quotes",
        ),
    ]);
}

#[test]
fn fields_are_read_with_their_values() {
    check(&[
        ("namespace:prod", "namespace:prod"),
        ("pod:api-*", "pod:api-*"),
        ("pod:Api-?", "pod:api-?"),
        ("pod=api", "pod:api"),
        ("pod!=api", "-pod:api"),
        ("pod:\"a b*\"", "pod:\"a b*\""),
        ("pod:\"api\"", "pod:api"),
        ("pod:\"\"", "pod:\"\""),
        ("pod:/^api/i", "pod:/^api/i"),
        ("trace_id:*", "trace_id:*"),
        ("-trace_id:*", "-trace_id:*"),
        ("image:nginx:1.25", "image:nginx:1.25"),
        ("caller:file.go:12", "caller:file.go:12"),
        ("url:http://x/y", "url:http://x/y"),
        (
            "pod:(a OR b-* OR \"c d\")",
            "pod:a OR pod:b-* OR pod:\"c d\"",
        ),
        ("pod!=(a OR b)", "-(pod:a OR pod:b)"),
        ("x pod:(a OR b)", "x (pod:a OR pod:b)"),
        ("pod:(a)", "pod:a"),
        ("workload:Deployment/api", "workload:deployment/api"),
        ("restart:3", "restart:3"),
        ("message:\"a b\"", "\"a b\""),
        ("msg:conn* message:(a OR /b/)", "conn* (a OR /b/)"),
        ("msg!=x", "-x"),
    ]);
}

#[test]
fn levels_and_numbers_are_compared() {
    check(&[
        ("level>=warn", "level>=warn"),
        ("level:ERR", "level:error"),
        ("severity!=info", "level!=info"),
        ("-level>=warn", "level<warn"),
        ("level==info", "level:info"),
        ("level:>=Warning", "level>=warn"),
        ("level:(warn OR \"error\")", "level:warn OR level:error"),
        ("level:*", "level!=unknown"),
        ("-level:*", "level:unknown"),
        ("path:/api/*", "path:\"/api/\"*"),
        ("path:\"a b\"*\"c\"?", "path:\"a b\"*\"c\"?"),
        ("path:*\"a\"", "path:*a"),
        ("status>=500", "status>=500"),
        ("duration_ms<1.5e1", "duration_ms<15"),
        ("status:<=-2", "status<=-2"),
        ("status==500", "status==500"),
        ("status=500", "status:500"),
        ("label.weight>1", "label.weight>1"),
        ("restart>0", "restart>0"),
    ]);
}

#[test]
fn names_of_other_tools_mean_the_same_fields() {
    check(&[
        ("ns:a", "namespace:a"),
        ("namespace_name:a", "namespace:a"),
        ("kubernetes.pod_name:a", "pod:a"),
        ("kubernetes.namespace_name:a", "namespace:a"),
        ("kubernetes.container_name:a", "container:a"),
        ("kubernetes.host:a", "node:a"),
        ("node_name:a", "node:a"),
        ("k8s.pod.name:a", "pod:a"),
        ("k8s.namespace.name:a", "namespace:a"),
        ("k8s.container.name:a", "container:a"),
        ("k8s.node.name:a", "node:a"),
        ("k8s.pod.uid:a", "pod_uid:a"),
        ("k8s_pod_name:a", "pod:a"),
        ("k8s_node_name:a", "node:a"),
        ("k8s_container_restart_count:1", "restart:1"),
        ("severity:warn", "level:warn"),
        ("stream:stderr", "output:stderr"),
        ("log.iostream:stdout", "output:stdout"),
        ("labels.app:a", "label.app:a"),
        ("kubernetes.labels.app:a", "label.app:a"),
        ("k8s.pod.label.app:a", "label.app:a"),
        (
            "label.app.kubernetes.io/name:a",
            "label.app.kubernetes.io/name:a",
        ),
        ("label.\"odd key\":a", "label.\"odd key\":a"),
        ("attr.pod:a", "attr.pod:a"),
        ("attr.msg:a", "attr.msg:a"),
        ("attributes.status:5", "status:5"),
        ("attr.\"a:b\":5", "attr.\"a:b\":5"),
        ("attr.attr.x:5", "attr.attr.x:5"),
        ("größe:5", "größe:5"),
        ("Pod:a", "Pod:a"),
    ]);
}

#[test]
fn errors_name_the_column_and_what_was_expected() {
    let quote_field = "a field is written name:value without spaces; to find it as text, quote it";
    let quote_parts = r#"to find text with quotes or parentheses, quote it: "f(\"x\")""#;
    let quote_word = "to find the word or sign itself, put it in quotes";
    let levels = "a level: unknown, trace, debug, info, warn, error, fatal";
    check(&[
        (
            "pod:",
            &format!("column 5: expected a value after \"pod:\", found the end; {quote_field}"),
        ),
        (
            "error: x",
            &format!("column 7: expected a value after \"error:\", found \" x\"; {quote_field}"),
        ),
        (
            "größe=",
            &format!("column 7: expected a value after \"größe=\", found the end; {quote_field}"),
        ),
        (
            "level>=wran",
            &format!("column 8: expected {levels}, found \"wran\""),
        ),
        (
            "level:e*",
            &format!("column 7: expected {levels}, found \"e*\""),
        ),
        (
            "level>=*",
            &format!("column 8: expected {levels}, found \"*\""),
        ),
        (
            "status>=abc",
            "column 9: expected a number after \"status>=\", found \"abc\"; to find it as text, put it in quotes",
        ),
        (
            "x->y",
            "column 4: expected a number after \"x->\", found \"y\"; to find it as text, put it in quotes",
        ),
        (
            "pod>5",
            "column 5: expected pod:value or pod!=value, found \"5\"; this field is text and has no order",
        ),
        (
            "msg>5",
            "column 5: expected message:word, found \"5\"; the message is text and has no order",
        ),
        (
            "stream:weird",
            "column 8: expected stdout or stderr, found \"weird\"; for an attribute of this name write attr.stream or attr.output",
        ),
        (
            "label.:x",
            "column 7: expected a name after \"label.\", found \":x\"",
        ),
        (
            "pod:(a b)",
            "column 8: expected OR or \")\" behind a value, found \"b\"; a list of values is written (a OR b)",
        ),
        (
            "pod:()",
            &format!("column 6: expected a value after \"pod:\", found \")\"; {quote_field}"),
        ),
        (
            "a OR",
            "column 5: expected a word, a phrase or a field after OR, found the end",
        ),
        (
            "OR a",
            &format!("column 1: expected a word, a phrase or a field, found \"OR\"; {quote_word}"),
        ),
        (
            "a AND OR b",
            &format!(
                "column 7: expected a word, a phrase or a field after AND, found \"OR\"; {quote_word}"
            ),
        ),
        (
            "NOT",
            "column 4: expected a word, a phrase or a field after NOT, found the end",
        ),
        ("(a", "column 3: expected \")\", found the end"),
        (
            "()",
            &format!(
                "column 2: expected a word, a phrase or a field after \"(\", found \")\"; {quote_word}"
            ),
        ),
        (
            "a)",
            "column 2: expected the end of the query, found \")\"; this `)` closes nothing",
        ),
        (
            "a - b",
            "column 4: expected a term right behind \"-\", found \" b\"; to find text with a dash, quote it: \"a - b\"",
        ),
        (
            "\"abc",
            "column 1: expected a closing '\"', found \"\"abc\"; inside quotes write \\\" for '\"'",
        ),
        (
            "f(x)",
            &format!("column 2: expected a space, found \"(x\"; {quote_parts}"),
        ),
        (
            "{\"a\":1}",
            &format!("column 2: expected a space, found \"\"a\":1}}\"; {quote_parts}"),
        ),
        (
            "\"a\"b",
            &format!("column 4: expected a space, found \"b\"; {quote_parts}"),
        ),
        (
            "a*b",
            "column 1: expected * only at the ends of a word, found \"a*b\"; write it as a regex: /a\\w*b/",
        ),
        (
            "***",
            "column 1: expected a word, made of letters, digits or _, found \"***\"; to find the sign itself use /\\*\\*\\*/",
        ),
        (
            "x —",
            "column 3: expected a word, made of letters, digits or _, found \"—\"; to find the sign itself use *\"—\"* or /—/",
        ),
        (
            "a && b",
            "column 3: expected a word, made of letters, digits or _, found \"&&\"; for both, write AND or nothing between them",
        ),
        (
            "a || b",
            "column 3: expected a word, made of letters, digits or _, found \"||\"; for either, write OR between them",
        ),
        (
            "!a",
            "column 1: expected a word, found \"!a\"; to leave it out write -a; to find the sign, quote it",
        ),
        (
            "\"\"",
            "column 1: expected a word, made of letters, digits or _, found \"\"\"\"",
        ),
    ]);
}

#[test]
fn limits_are_told() {
    let deep = format!("{}a", "-".repeat(MAX_DEPTH + 1));
    assert_eq!(
        outcome(&deep),
        "column 66: expected at most 64 levels of parentheses and negations, found \"a\""
    );
    let nested = format!("{}a", "(".repeat(2_000));
    assert!(outcome(&nested).contains("at most 64 levels"), "{nested}");
    let wide = "a ".repeat(MAX_NODES + 1);
    assert_eq!(
        outcome(&wide),
        "column 2001: expected at most 1000 terms in a query, found \"a\""
    );
    assert!(parse(&"a ".repeat(MAX_NODES)).is_ok());
    let long = "é".repeat(MAX_TEXT_BYTES);
    assert_eq!(
        outcome(&long),
        "column 4097: expected at most 8192 bytes of query, found 16384 bytes"
    );
    let regexes = "/a/ ".repeat(MAX_REGEXES + 1);
    assert!(outcome(&regexes).contains("at most 32 regular expressions"));
}

#[test]
fn a_caret_stands_under_the_column() {
    let text = "größe:1 level>=wran";
    let error = parse(text).unwrap_err();
    assert_eq!(
        error.render(text),
        format!("größe:1 level>=wran\n               ^\n{error}")
    );
    let long = format!("{} &&\t{}", "word ".repeat(40), "word ".repeat(40));
    let rendered = parse(&long).unwrap_err().render(&long);
    let mut lines = rendered.lines();
    let (shown, caret) = (lines.next().unwrap(), lines.next().unwrap());
    let column = caret.chars().count() - 1;
    assert_eq!(
        shown.chars().skip(column).take(3).collect::<String>(),
        "&& "
    );
    assert!(shown.starts_with('…') && shown.ends_with('…'), "{shown}");
}

#[test]
fn text_is_kept_until_filters_are_added() {
    let query = Query::parse("Error  OR x").unwrap();
    assert_eq!(query.text(), "Error  OR x");
    let filtered = query
        .clone()
        .and(Expr::equals(Field::Namespace, "Prod"))
        .and(Expr::at_least(Severity::Warn));
    assert_eq!(filtered.text(), "(error OR x) namespace:prod level>=warn");
    assert_eq!(query.and(Expr::All).text(), "Error  OR x");
    assert_eq!(filtered.fields(), [&Field::Namespace, &Field::Severity]);
}

#[test]
fn trees_no_text_makes_print_as_text_that_means_the_same() {
    for expr in [
        Expr::And(vec![]),
        Expr::Or(vec![]),
        Expr::Field(Field::Pod, FieldTest::Absent),
        Expr::Field(Field::Pod, FieldTest::Glob(Glob::new("/a b*/"))),
        Expr::Field(Field::Pod, FieldTest::Glob(Glob::new(""))),
        Expr::Field(Field::Pod, FieldTest::Glob(Glob::new("*"))),
        Expr::Field(Field::Restart, FieldTest::Number(Comparison::NotEqual, 2.0)),
        Expr::Message(TextTest::Regex(Regex::new("").unwrap())),
        Expr::Message(TextTest::Regex(Regex::new(r"a/\/b").unwrap())),
    ] {
        let printed = expr.to_string();
        let read = parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(read.to_string(), printed);
    }
}

/// Pieces of syntax in any order reach deeper than random characters do.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(
        &[
            "a", "Ü", "-", "*", "\"", "/", "(", ")", " ", " OR ", " AND ", "NOT ", "pod:",
            "level>=", "warn", "status", ">", "=", "!=", "attr.", "label.", "\\", ":", "5", "?",
            ".", "i", "!", "\u{1b}[m", "msg:", "==",
        ][..],
    );
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_text_is_survived(text in ".{0,60}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.render(&text).contains(&error.to_string()));
        }
    }

    #[test]
    fn what_parses_prints_as_text_that_means_the_same(text in pieces(), entry in testing::entry()) {
        match parse(&text) {
            Ok(query) => {
                let printed = query.to_string();
                let read = parse(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
                prop_assert_eq!(read.expr(), query.expr(), "{}", printed);
                prop_assert_eq!(read.matches(&entry), query.matches(&entry));
            }
            Err(error) => {
                prop_assert!(error.column <= text.chars().count() + 1);
                prop_assert!(error.render(&text).contains(&error.to_string()));
            }
        }
    }

    #[test]
    fn random_trees_print_as_text_of_the_same_tree(expr in testing::expr()) {
        let printed = expr.to_string();
        let read = parse(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(read.expr(), &expr, "{}", printed);
    }
}
