use proptest::prelude::*;
use serde_json::Value;
use tawny_model::{Severity, entry::MAX_ATTRIBUTES};

use super::*;

fn parse(line: &str) -> (Severity, String, Vec<(String, String)>) {
    let mut scratch = Scratch::default();
    // A used scratch must not show.
    parse_message(r#"{"level":"fatal","msg":"\u0041","x":"\n"}"#, &mut scratch);
    let parsed = parse_message(line, &mut scratch);
    let attributes = parsed
        .attributes()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    (parsed.severity, parsed.message.to_owned(), attributes)
}

fn owned(attributes: &[(&str, &str)]) -> Vec<(String, String)> {
    attributes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[track_caller]
fn check(line: &str, severity: Severity, message: &str, attributes: &[(&str, &str)]) {
    assert_eq!(
        parse(line),
        (severity, message.to_owned(), owned(attributes)),
        "{line}"
    );
}

/// A line whose message is the whole line.
#[track_caller]
fn check_whole(line: &str, severity: Severity, attributes: &[(&str, &str)]) {
    check(line, severity, line, attributes);
}

// KL-61, KL-64, KL-66
#[test]
fn json_fields_become_attributes_and_msg_the_message() {
    check(
        r#"{"level":"warn","ts":1700000000.5,"msg":"slow \"query\"","ok":true,"none":null,"n":-1e3,"a":[1,"x"]}"#,
        Severity::Warn,
        r#"slow "query""#,
        &[
            ("level", "warn"),
            ("ts", "1700000000.5"),
            ("ok", "true"),
            ("n", "-1e3"),
            ("a", r#"[1,"x"]"#),
        ],
    );
}

// KL-67
#[test]
fn nested_objects_are_flattened() {
    check(
        r#" {"message":"m","http":{"request":{"method":"GET"},"status":200},"log":{"level":"error"},"e":{}} "#,
        Severity::Error,
        "m",
        &[
            ("http.request.method", "GET"),
            ("http.status", "200"),
            ("log.level", "error"),
            ("e", "{}"),
        ],
    );
    let key = ["a"; 8].join(".");
    let deep = format!(
        r#"{{"msg":"m","a":{}{{"b":{{}}}}{}}}"#,
        r#"{"a":"#.repeat(7),
        "}".repeat(7)
    );
    check(&deep, Severity::Unknown, "m", &[(&key, r#"{"b":{}}"#)]);
}

// KL-65
#[test]
fn aliases_are_stored_under_one_name() {
    check(
        r#"{"msg":"m","traceId":"t","spanID":"s","request-id":"r","location":"f:1","app":"a","userId":7}"#,
        Severity::Unknown,
        "m",
        &[
            ("trace_id", "t"),
            ("span_id", "s"),
            ("request_id", "r"),
            ("caller", "f:1"),
            ("service", "a"),
            ("user_id", "7"),
        ],
    );
    check(
        r#"{"msg":"m","app":"a","application":"b","service":"c"}"#,
        Severity::Unknown,
        "m",
        &[("app", "a"), ("application", "b"), ("service", "c")],
    );
}

// KL-66
#[test]
fn the_best_message_key_wins_and_an_error_stays_an_attribute() {
    check(
        r#"{"error":"boom","message":"second","msg":"first"}"#,
        Severity::Unknown,
        "first",
        &[("error", "boom"), ("message", "second")],
    );
    check(
        r#"{"level":"error","err":"boom"}"#,
        Severity::Error,
        "boom",
        &[("level", "error"), ("err", "boom")],
    );
    let line = r#"{"msg":"","err":null,"a":1}"#;
    check_whole(line, Severity::Unknown, &[("msg", ""), ("a", "1")]);
    let line = r#"{"error":true,"message":{"text":"t"}}"#;
    check_whole(
        line,
        Severity::Unknown,
        &[("error", "true"), ("message.text", "t")],
    );
}

#[test]
fn the_whole_line_stays_where_a_field_would_be_lost() {
    // Twice the same key, once by way of flattening.
    check_whole(
        r#"{"msg":"m","a":1,"a":2}"#,
        Severity::Unknown,
        &[("a", "1")],
    );
    check_whole(
        r#"{"msg":"m","a.b":1,"a":{"b":2}}"#,
        Severity::Unknown,
        &[("a.b", "1")],
    );
    // Half a surrogate pair and a key without a name.
    check_whole(r#"{"msg":"m\ud800"}"#, Severity::Unknown, &[]);
    check_whole(r#"{"msg":"m","":1}"#, Severity::Unknown, &[]);
}

#[test]
fn overlong_keys_are_data_and_cost_no_memory() {
    let key = "k".repeat(100_000);
    check_whole(
        &format!(r#"{{"msg":"m","{key}":1,"a":2}}"#),
        Severity::Unknown,
        &[("a", "2")],
    );
    let fields: Vec<String> = (0..500).map(|n| format!(r#""f{n}":{n}"#)).collect();
    let nested = format!(r#"{{"msg":"m","{key}":{{{}}},"a":2}}"#, fields.join(","));
    check_whole(&nested, Severity::Unknown, &[("a", "2")]);
    let key = "k".repeat(500);
    let nested = format!(r#"{{"msg":"m","{key}":{{{}}},"a":2}}"#, fields.join(","));
    let mut scratch = Scratch::default();
    assert_eq!(parse_message(&nested, &mut scratch).message, nested);
    assert!(scratch.memory_bytes() < 50_000);
    check_whole(
        &format!("{key}{key}=1 a=2"),
        Severity::Unknown,
        &[("a", "2")],
    );
}

// KL-64
#[test]
fn attributes_beyond_the_most_keep_the_whole_line() {
    let line_of = |n: usize| {
        let fields: Vec<String> = (0..n).map(|n| format!(r#""k{n}":{n}"#)).collect();
        format!(r#"{{{},"msg":"m","level":"info"}}"#, fields.join(","))
    };
    let full = line_of(MAX_ATTRIBUTES - 1);
    let (severity, message, attributes) = parse(&full);
    assert_eq!(
        (severity, message.as_str(), attributes.len()),
        (Severity::Info, "m", MAX_ATTRIBUTES)
    );
    let over = line_of(MAX_ATTRIBUTES);
    let (severity, message, attributes) = parse(&over);
    assert_eq!(
        (severity, message, attributes.len()),
        (Severity::Info, over, MAX_ATTRIBUTES)
    );
}

// KL-67
#[test]
fn numeric_levels_are_those_of_pino_and_syslog() {
    for (level, severity) in [
        ("10", Severity::Trace),
        ("20", Severity::Debug),
        ("30", Severity::Info),
        ("35", Severity::Info),
        ("40", Severity::Warn),
        ("50", Severity::Error),
        ("60", Severity::Fatal),
        ("0", Severity::Fatal),
        ("3", Severity::Error),
        ("4", Severity::Warn),
        ("6", Severity::Info),
        ("7", Severity::Debug),
        ("8", Severity::Unknown),
        ("61", Severity::Unknown),
        ("-1", Severity::Unknown),
    ] {
        let line = format!(r#"{{"level":{level},"msg":"m"}}"#);
        check(&line, severity, "m", &[("level", level)]);
    }
}

#[test]
fn broken_json_is_text() {
    for line in [
        r#"{"level":"error","msg":"cut"#,
        r#"{"level":"error"} trailing"#,
        r#"{"level":"error",}"#,
        r#"{level:"error"}"#,
    ] {
        check_whole(line, Severity::Error, &[]);
    }
    check_whole("{", Severity::Unknown, &[]);
    check_whole("{}", Severity::Unknown, &[]);
    check_whole(r#"{"a":01x}"#, Severity::Unknown, &[]);
    check_whole(&r#"{"a":"#.repeat(5000), Severity::Unknown, &[]);
}

#[test]
fn json_without_a_level_takes_the_one_its_message_declares() {
    check(
        r#"{"msg":"[WARN] low disk"}"#,
        Severity::Warn,
        "[WARN] low disk",
        &[],
    );
}

// KL-67
#[test]
fn json_behind_a_prefix_is_lifted_and_the_line_stays() {
    check_whole(
        "2026-11-02T10:00:00.123Z\tINFO\tcontroller/manager.go:12\tstarted\t{\"controller\": \"pod\", \"n\": 3}",
        Severity::Info,
        &[("controller", "pod"), ("n", "3")],
    );
    check_whole(
        r#"[app] {"level":"error","msg":"m"}"#,
        Severity::Error,
        &[("level", "error")],
    );
    check_whole(r#"got body {"a":1 and }"#, Severity::Unknown, &[]);
}

// KL-62
#[test]
fn logfmt_pairs_become_attributes() {
    check(
        r#"time="2026-11-02T10:00:00Z" level=info msg="it \"works\"\n" dur=1.5ms empty= path=/a?b=c"#,
        Severity::Info,
        "it \"works\"\n",
        &[
            ("time", "2026-11-02T10:00:00Z"),
            ("level", "info"),
            ("dur", "1.5ms"),
            ("empty", ""),
            ("path", "/a?b=c"),
        ],
    );
    check_whole(
        "user=ann action=login",
        Severity::Unknown,
        &[("user_id", "ann"), ("action", "login")],
    );
    check(
        "level=error msg=boom",
        Severity::Error,
        "boom",
        &[("level", "error")],
    );
    check_whole("level=error", Severity::Error, &[("level", "error")]);
}

#[test]
fn logfmt_with_words_in_it_keeps_the_line() {
    check_whole(
        "2026-11-02T10:00:00Z  INFO api: done method=GET status=200",
        Severity::Info,
        &[("method", "GET"), ("status", "200")],
    );
    check_whole(
        "level=warn msg=\"a b\", retry=3, bare",
        Severity::Warn,
        &[("level", "warn"), ("retry", "3")],
    );
}

#[test]
fn prose_with_an_equals_sign_is_left_alone() {
    for line in [
        "if x=1 and then y=2 we are done with all of this",
        "x = 1 y = 2",
        "GET /search?q=1&b=2",
        "a==b",
        "the value k=v of a long sentence",
        r#"said "a=1 b=2" to them"#,
        "https://x.example/?a=1 https://x.example/?b=2",
        "=",
    ] {
        check_whole(line, Severity::Unknown, &[]);
    }
}

// KL-67
#[test]
fn klog_header_gives_severity_and_caller() {
    check_whole(
        "W0102 15:04:05.000000       1 reflector.go:324] watch of *v1.Pod ended",
        Severity::Warn,
        &[("caller", "reflector.go:324")],
    );
    check_whole(
        r#"E1102 10:00:00.123456    4321 pod_workers.go:951] "Error syncing pod" err="back-off 5m0s" pod="ns/x""#,
        Severity::Error,
        &[
            ("caller", "pod_workers.go:951"),
            ("err", "back-off 5m0s"),
            ("pod", "ns/x"),
        ],
    );
    check_whole("I0102 is a room", Severity::Unknown, &[]);
    check_whole("F0102 15:04:05.000000 1 x", Severity::Unknown, &[]);
}

// KL-67
#[test]
fn access_logs_give_request_and_severity_of_the_status() {
    check_whole(
        r#"203.0.113.7 - ann [02/Nov/2026:10:00:00 +0000] "GET /a/b?c=d HTTP/1.1" 503 2326 "http://ref/" "curl/8.0 (x)""#,
        Severity::Error,
        &[
            ("client", "203.0.113.7"),
            ("user_id", "ann"),
            ("method", "GET"),
            ("path", "/a/b?c=d"),
            ("status", "503"),
            ("bytes", "2326"),
            ("referer", "http://ref/"),
            ("user_agent", "curl/8.0 (x)"),
        ],
    );
    check_whole(
        r#"10.0.0.1 - - [02/Nov/2026:10:00:00 +0000] "POST /x HTTP/2.0" 404 0 "-" "-" 350 0.004 [shop-api-80] [] 10.1.2.3:8080 0 0.004 404 5f1c2"#,
        Severity::Warn,
        &[
            ("client", "10.0.0.1"),
            ("method", "POST"),
            ("path", "/x"),
            ("status", "404"),
            ("bytes", "0"),
            ("duration", "0.004"),
            ("upstream", "shop-api-80"),
            ("request_id", "5f1c2"),
        ],
    );
    check_whole(
        r#"INFO:     10.0.0.1:5000 - "GET / HTTP/1.1" 200 OK"#,
        Severity::Info,
        &[("method", "GET"), ("path", "/"), ("status", "200")],
    );
    check_whole(
        r#"sent "GET / HTTP/1.1" and waited"#,
        Severity::Unknown,
        &[],
    );
    check_whole(r#"x "GET HTTP/1.1" 200"#, Severity::Unknown, &[]);
}

// KL-63
#[test]
fn levels_in_text_are_found_where_a_program_declares_them() {
    for (line, severity) in [
        ("[ERROR] boom", Severity::Error),
        ("[ warn ] boom", Severity::Warn),
        (
            "2026/11/02 10:00:00 [error] 7#7: *1 open() failed",
            Severity::Error,
        ),
        ("ERROR: boom", Severity::Error),
        ("WARNING:django.request:Not Found: /x", Severity::Warn),
        ("info: Microsoft.Hosting.Lifetime[14]", Severity::Info),
        ("fail: Microsoft.AspNetCore.Server[13]", Severity::Error),
        ("app level=debug started", Severity::Debug),
        (r#"broken {"level": "fatal", "#, Severity::Fatal),
        (
            "2026-11-02 10:00:00.123  WARN 1 --- [main] c.e.App : slow",
            Severity::Warn,
        ),
        ("10:00:00.123 [main] DEBUG com.foo.Bar - x", Severity::Debug),
        (
            "2026-11-02 10:00:00,123 - root - CRITICAL - x",
            Severity::Fatal,
        ),
        ("[2026-11-02T10:00:00Z ERROR server] x", Severity::Error),
        (
            "[2026-11-02 10:00:00,123: INFO/MainProcess] x",
            Severity::Info,
        ),
        (
            "2026-11-02T10:00:00.000+0000 I NETWORK  [listener] x",
            Severity::Info,
        ),
        ("[W 2026-11-02 10:00:00 app:12] x", Severity::Warn),
        (
            "2026-11-02 10:00:00.000 UTC [1] LOG:  ready",
            Severity::Info,
        ),
        ("2026-11-02T10:00:00Z error cannot open", Severity::Error),
        ("npm ERR! code ELIFECYCLE", Severity::Error),
        ("ERROR something broke", Severity::Error),
        ("SEVERE: x", Severity::Error),
        ("request failed, error: timeout", Severity::Error),
        ("12 |WARN| x", Severity::Warn),
    ] {
        check_whole(
            line,
            severity,
            parse(line)
                .2
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect::<Vec<_>>()
                .as_slice(),
        );
    }
}

#[test]
fn prose_about_levels_declares_none() {
    for line in [
        "no errors found",
        "the error rate is 0",
        "you may want to set your level to DEBUG",
        "fine, thanks",
        "log in succeeded",
        "/var/log/error.log opened",
        "errors[info] = 3",
        "INFORMATION_SCHEMA read",
        "warn_threshold reached",
        "",
    ] {
        check_whole(line, Severity::Unknown, &[]);
    }
    let late = format!("{} ERROR: x", "word ".repeat(40));
    check_whole(&late, Severity::Unknown, &[]);
}

// KL-67
#[test]
fn first_lines_of_crashes_are_errors() {
    for (line, severity) in [
        (
            "panic: runtime error: index out of range [3]",
            Severity::Fatal,
        ),
        (
            "fatal error: all goroutines are asleep - deadlock!",
            Severity::Fatal,
        ),
        ("goroutine 1 [running]:", Severity::Fatal),
        (
            "thread 'main' panicked at src/main.rs:4:5:",
            Severity::Fatal,
        ),
        (
            "thread 'main' (17) panicked at src/main.rs:4:5:",
            Severity::Fatal,
        ),
        ("Traceback (most recent call last):", Severity::Error),
        ("ValueError: invalid literal", Severity::Error),
        (
            "Exception in thread \"main\" java.lang.IllegalStateException: x",
            Severity::Error,
        ),
        ("java.lang.NullPointerException", Severity::Error),
        ("Caused by: java.io.IOException: x", Severity::Error),
        (
            "Unhandled exception. System.InvalidOperationException: x",
            Severity::Fatal,
        ),
        ("goroutine pool started", Severity::Unknown),
        ("thread 'x' started", Severity::Unknown),
        ("Exception", Severity::Unknown),
        ("\tat com.example.Main.main(Main.java:5)", Severity::Unknown),
    ] {
        check_whole(line, severity, &[]);
    }
}

// KL-67
#[test]
fn levels_and_pairs_are_seen_through_colours_which_the_message_keeps() {
    check_whole("\x1b[32mINFO\x1b[0m ready", Severity::Info, &[]);
    check_whole(
        "\x1b[2m2026-11-02T10:00:00Z\x1b[0m \x1b[33m WARN\x1b[0m \x1b[2mapi\x1b[0m: slow \x1b[3mms\x1b[0m\x1b[2m=\x1b[0m12 \x1b[3mpath\x1b[0m\x1b[2m=\x1b[0m/x",
        Severity::Warn,
        &[("ms", "12"), ("path", "/x")],
    );
    // A title without its end hides nothing, as in searches.
    check_whole("\x1b] ERROR no end of this", Severity::Error, &[]);
}

#[test]
fn huge_lines_are_parsed_without_holding_their_memory() {
    let line = format!(
        r#"{{"msg":"m","a":"\n{}"}}"#,
        "x".repeat(MAX_PARSED_BYTES / 2)
    );
    let mut scratch = Scratch::default();
    assert_eq!(parse_message(&line, &mut scratch).message, "m");
    let line = format!(r#"{{"msg":"{}"}}"#, "x".repeat(MAX_PARSED_BYTES));
    assert_eq!(parse_message(&line, &mut scratch).message, line);
    parse_message("", &mut scratch);
    assert!(scratch.memory_bytes() < MAX_PARSED_BYTES / 4);
}

/// The fields of an object as they should be lifted, in order.
fn flatten(
    prefix: &str,
    object: &serde_json::Map<String, Value>,
    fields: &mut Vec<(String, String)>,
) {
    for (key, value) in object {
        let key = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            Value::Null => {}
            Value::String(text) => fields.push((key, text.clone())),
            Value::Object(inner) if !inner.is_empty() => flatten(&key, inner, fields),
            other => fields.push((key, other.to_string())),
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            any_object(inner).prop_map(Value::Object),
        ]
    })
}

/// Keys that are nobody's alias.
fn any_object(
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = serde_json::Map<String, Value>> {
    proptest::collection::vec(("k[a-z\"\n\u{e9}]{0,4}", value), 0..8)
        .prop_map(|members| members.into_iter().collect())
}

/// Text with much of what the formats are made of.
fn any_line() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[{}\\[\\]\",:=\\\\ \t0-9a-cA-C.\u{1b}\u{e9}|-]{1,6}",
        "level|msg|traceId|error|ERROR|INFO:|WARN|panic: |Error: |\\\\u00e9|\\\\ud83d|null|true",
        "I0102 15:04:05\\.0 1 f:1\\] |\"GET / HTTP/1\\.1\" 500 |1\\.1\\.1\\.1 - - \\[t\\] |10:00:00 |\\{\"",
        "\\PC{1,4}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// KL-64, KL-66: every field comes back, and the message is the object's own where all of them found room.
    #[test]
    fn objects_written_by_a_json_library_read_back(object in any_object(any_value()), message in any::<String>()) {
        let mut object = object;
        let mut expected = Vec::new();
        flatten("", &object, &mut expected);
        object.insert("msg".to_owned(), message.clone().into());
        let line = Value::Object(object).to_string();
        let (_, got_message, attributes) = parse(&line);
        if message.is_empty() {
            prop_assert_eq!(got_message, line);
        } else if expected.len() <= MAX_ATTRIBUTES {
            prop_assert_eq!(got_message, message);
            prop_assert_eq!(attributes, expected);
        } else {
            prop_assert_eq!(got_message, line);
            prop_assert_eq!(attributes, &expected[..MAX_ATTRIBUTES]);
        }
    }

    /// KL-62, KL-66
    #[test]
    fn quoted_pairs_read_back(values in proptest::collection::vec(any::<String>(), 2..MAX_ATTRIBUTES)) {
        let mut line = String::new();
        let mut expected = Vec::new();
        for (idx, value) in values.iter().enumerate() {
            // Control characters below space are escaped and `\u{7f}` is not, by JSON's rules; ESC would count as a colour.
            line.push_str(&format!("k{idx}={} ", serde_json::to_string(value).unwrap()));
            expected.push((format!("k{idx}"), value.clone()));
        }
        line.push_str("msg=m");
        let (_, message, attributes) = parse(&line);
        prop_assert_eq!((message.as_str(), attributes), ("m", expected));
    }

    #[test]
    fn any_line_is_survived_within_the_bounds(line in any_line()) {
        let (_, message, attributes) = parse(&line);
        prop_assert!(attributes.len() <= MAX_ATTRIBUTES);
        let mut keys: Vec<&str> = attributes.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        prop_assert_eq!(keys.len(), attributes.len(), "a key came twice");
        prop_assert!(message == line || message.len() < line.len());
    }
}
