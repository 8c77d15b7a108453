//! Bodies as BlackBox's documents show them, and bodies nobody should send.

use proptest::prelude::*;
use serde_json::json;
use tawny_incident::Severity;
use tawny_model::Remedy;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_795_294_200);

fn post(body: &Value) -> Result<Post, Error> {
    Post::parse(body.to_string().as_bytes(), NOW, Window::default())
}

fn incident(body: &Value) -> Result<ManualIncident, Error> {
    ManualIncident::parse(body.to_string().as_bytes(), NOW)
}

/// A body that is accepted, with a field set.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"pod_name": "p", "namespace": "n", "runtime": "go", "data": {"a": 1}});
    body[field] = value;
    body
}

fn message(refused: Result<impl std::fmt::Debug, Error>) -> String {
    let error = refused.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Reject);
    error.to_string()
}

/// The example of the API reference, BB-31 and BB-33.
#[test]
fn bb_33_entries_of_the_documented_body() {
    let post = post(&json!({
        "pod_name": "my-app-pod-abc123",
        "namespace": "production",
        "container_id": "docker://1234567890abcdef",
        "runtime": "jvm",
        "timestamp": "2026-11-21T20:49:55Z",
        "data": {
            "heap_used": 1_073_741_824, "gc_time_ms": 250, "threads_active": 32, "cpu_usage_percent": 45.7,
            "custom_metric": {"nested": [1, {"deep": null}]},
        },
        "tags": {"environment": "production", "pod_name": "a lie"},
    }))
    .unwrap();
    let entries: Vec<Telemetry> = post.telemetry().collect();
    let of = |name: &str| entries.iter().find(|it| it.name == name).unwrap();
    assert_eq!(entries.len(), 5);
    assert_eq!(of("heap_used").kind, "memory");
    assert_eq!(of("heap_used").value, json!(1_073_741_824));
    assert_eq!(of("gc_time_ms").kind, "memory");
    assert_eq!(of("threads_active").kind, "cpu");
    assert_eq!(of("cpu_usage_percent").value, json!(45.7));
    assert_eq!(
        of("custom_metric").value,
        json!({"nested": [1, {"deep": null}]})
    );
    let tags: Vec<_> = of("heap_used").tags.clone().into_iter().collect();
    let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        tags,
        [
            tag("container_id", "docker://1234567890abcdef"),
            tag("environment", "production"),
            tag("namespace", "production"),
            tag("pod_name", "my-app-pod-abc123"),
            tag("runtime", "jvm"),
        ]
    );
    for entry in &entries {
        assert_eq!(entry.source, "sidecar");
        assert_eq!(entry.timestamp, Timestamp::from_secs(1_795_294_195));
        assert_eq!(entry.metadata, [tag("sidecar_runtime", "jvm")].into());
    }
}

#[test]
fn bb_33_type_by_what_the_name_has_in_it() {
    for (name, expected) in [
        ("memory_rss", "memory"),
        ("usedHeap", "memory"),
        ("gc_pause", "memory"),
        ("cpu_percent", "cpu"),
        ("goroutine_threads", "cpu"),
        ("processor_count", "cpu"),
        ("network_in", "network"),
        ("open_sockets", "network"),
        ("db_connections", "network"),
        ("runtime_version", "runtime"),
        ("jvm_classes", "runtime"),
        ("clr_version", "runtime"),
        ("vm_name", "runtime"),
        ("exceptions_total", "application"),
        ("error_rate", "application"),
        ("panics", "application"),
        ("requests", "custom"),
        ("", "custom"),
        // The first that fits counts.
        ("jvm_memory_errors", "memory"),
    ] {
        assert_eq!(kind(name), expected, "{name}");
    }
}

#[test]
fn bb_31_texts_of_refusals() {
    let window = Window::default();
    for broken in ["", "{", "[]", "nonsense", "{\"pod_name\": 1}", "\u{0}"] {
        assert_eq!(
            message(Post::parse(broken.as_bytes(), NOW, window)),
            "Invalid JSON"
        );
        assert_eq!(
            message(ManualIncident::parse(broken.as_bytes(), NOW)),
            "Invalid JSON"
        );
    }
    for missing in [
        json!({}),
        json!({"pod_name": "p"}),
        json!({"namespace": "n", "pod_name": ""}),
        json!({"namespace": " ", "pod_name": "p"}),
        json!({"namespace": null, "pod_name": "p"}),
    ] {
        let expected = "Pod name and namespace are required";
        assert_eq!(message(post(&missing)), expected, "{missing}");
        assert_eq!(message(incident(&missing)), expected, "{missing}");
    }
}

#[test]
fn bb_32_runtimes_are_known_and_any_other_is_custom() {
    for name in ["jvm", "nodejs", "python", "dotnet", "go", "ruby", "custom"] {
        assert_eq!(
            post(&with("runtime", json!(name))).unwrap().runtime.name(),
            name
        );
    }
    let php = post(&with("runtime", json!("php"))).unwrap();
    assert_eq!(php.runtime, Runtime::Custom);
    let entry = php.telemetry().next().unwrap();
    assert_eq!(entry.tags["runtime"], "custom");
    assert_eq!(entry.metadata["sidecar_runtime"], "php");
    for none in [json!(""), Value::Null] {
        let post = post(&with("runtime", none)).unwrap();
        assert_eq!(
            (post.runtime, &*post.runtime_name),
            (Runtime::Custom, "custom")
        );
    }
}

#[test]
fn body_with_only_a_pod_is_accepted() {
    for body in [
        json!({"pod_name": "p", "namespace": "n"}),
        json!({
            "pod_name": "p", "namespace": "n", "container_id": null, "timestamp": null, "data": null, "tags": null,
            "unheard": "of",
        }),
    ] {
        let post = post(&body).unwrap();
        assert_eq!((post.at, post.values.len()), (NOW, 0));
        assert_eq!(post.container_id, None);
        assert!(!post.tags.contains_key("container_id"));
    }
}

#[test]
fn time_that_is_not_told_is_now() {
    for none in [Value::Null, json!(""), json!("0001-01-01T00:00:00Z")] {
        assert_eq!(post(&with("timestamp", none)).unwrap().at, NOW);
    }
}

#[test]
fn time_within_the_window_stands_and_a_clock_a_little_ahead_is_set_back() {
    for (text, expected) in [
        (
            "2026-11-21T20:49:00Z",
            NOW.saturating_sub(Duration::from_secs(60)),
        ),
        (
            "2026-11-21T21:49:30.5+01:00",
            NOW.saturating_sub(Duration::from_millis(29_500)),
        ),
        ("2026-11-21T20:50:00Z", NOW),
        ("2026-11-21T20:51:00Z", NOW),
    ] {
        assert_eq!(
            post(&with("timestamp", json!(text))).unwrap().at,
            expected,
            "{text}"
        );
    }
}

#[test]
fn time_from_the_future_or_long_ago_or_no_time_is_refused() {
    for (text, expected) in [
        (
            "2026-11-21T20:51:01Z",
            "timestamp 2026-11-21T20:51:01.000000000Z is 61s ahead of the node's clock, which says \
             2026-11-21T20:50:00.000000000Z",
        ),
        (
            "2026-11-21T20:48:59Z",
            "timestamp 2026-11-21T20:48:59.000000000Z is 61s old, and nothing older than 60s is kept",
        ),
        (
            "yesterday",
            "timestamp \"yesterday\" is no time; write it as 2026-11-21T10:00:00Z, or leave it out",
        ),
    ] {
        assert_eq!(message(post(&with("timestamp", json!(text)))), expected);
    }
    assert_eq!(message(post(&with("timestamp", json!(17)))), "Invalid JSON");
    let long = message(post(&with("timestamp", json!("é".repeat(10_000)))));
    assert!(long.len() < 300, "{long}");
}

#[test]
fn limits_are_told_with_the_field() {
    let keys = |n: usize| -> Value { (0..n).map(|n| (n.to_string(), json!(n))).collect() };
    let tags = |n: usize| -> Value { (0..n).map(|n| (n.to_string(), json!("x"))).collect() };
    let text = |n: usize| json!("x".repeat(n));
    assert_eq!(
        post(&with("data", keys(MAX_KEYS))).unwrap().values.len(),
        1_000
    );
    assert!(post(&with("tags", tags(MAX_TAGS))).is_ok());
    assert!(post(&with("data", json!({"k": text(MAX_VALUE_BYTES)}))).is_ok());
    let long_key = "k".repeat(257);
    for (body, expected) in [
        (
            with("data", keys(1_001)),
            "data has 1001 entries, more than 1000; send less at once",
        ),
        (
            with("tags", tags(65)),
            "tags has 65 entries, more than 64; send less at once",
        ),
        (
            with("pod_name", text(257)),
            "pod_name has 257 bytes, more than 256",
        ),
        (
            with("namespace", text(257)),
            "namespace has 257 bytes, more than 256",
        ),
        (
            with("runtime", text(257)),
            "runtime has 257 bytes, more than 256",
        ),
        (
            with("container_id", text(257)),
            "container_id has 257 bytes, more than 256",
        ),
        (
            with("data", json!({(long_key.clone()): 1})),
            "a key of data has 257 bytes, more than 256",
        ),
        (
            with("tags", json!({(long_key): "x"})),
            "a key of tags has 257 bytes, more than 256",
        ),
        (
            with("tags", json!({"k": "x".repeat(1_025)})),
            "tags.k has 1025 bytes, more than 1024",
        ),
        (
            with("data", json!({"k": text(16_385)})),
            "data.k has 16385 bytes, more than 16384",
        ),
    ] {
        assert_eq!(message(post(&body)), expected);
    }
    let nested = with("data", json!({"k": vec![json!({"a": 1}); 1_000]}));
    assert!(message(post(&nested)).starts_with("data.k has "));
    let large = vec![b' '; MAX_BODY_BYTES + 1];
    assert_eq!(
        message(Post::parse(&large, NOW, Window::default())),
        "body of 1048577 bytes is larger than 1048576 bytes; send less at once"
    );
}

#[test]
fn deep_nesting_is_refused_and_not_a_stack_overflow() {
    let body = format!(
        r#"{{"pod_name":"p","namespace":"n","data":{{"k":{}1{}}}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        message(Post::parse(body.as_bytes(), NOW, Window::default())),
        "Invalid JSON"
    );
}

/// The example of the API reference.
#[test]
fn bb_34_documented_incident() {
    let incident = incident(&json!({
        "pod_name": "my-app-pod-abc123",
        "namespace": "production",
        "container_id": "docker://1234567890abcdef",
        "severity": "critical",
        "type": "crash",
        "message": "Application crashed with OutOfMemoryError: Java heap space",
        "timestamp": "2026-11-21T15:04:05Z",
        "metadata": {"heap_usage": "98%", "gc_attempts": 15},
        "tags": {"component": "user-processor"},
    }))
    .unwrap();
    assert_eq!(
        serde_json::to_value(&incident).unwrap(),
        json!({
            "id": "manual-1795294200",
            "timestamp": "2026-11-21T15:04:05.000000000Z",
            "severity": "critical",
            "type": "crash",
            "message": "Application crashed with OutOfMemoryError: Java heap space",
            "pod_name": "my-app-pod-abc123",
            "namespace": "production",
            "container_id": "docker://1234567890abcdef",
            "metadata": {"heap_usage": "98%", "gc_attempts": 15},
            "tags": {"component": "user-processor"},
        })
    );
}

#[test]
fn bb_34_defaults_of_an_incident() {
    let body = json!({"pod_name": "p", "namespace": "n", "severity": "", "type": null});
    let incident = incident(&body).unwrap();
    assert_eq!(incident.id, "manual-1795294200");
    assert_eq!(incident.severity, Severity::Medium);
    assert_eq!(incident.kind, IncidentType::Manual);
    assert_eq!(incident.timestamp, NOW);
    assert_eq!((&*incident.message, incident.container_id), ("", None));
}

#[test]
fn bb_35_types_and_severities_are_known_in_any_case_and_others_refused() {
    for kind in IncidentType::ALL {
        let upper = kind.name().to_ascii_uppercase();
        assert_eq!(incident(&with("type", json!(upper))).unwrap().kind, kind);
        assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.name()));
    }
    for name in ["low", "medium", "High", "critical"] {
        let severity = incident(&with("severity", json!(name))).unwrap().severity;
        assert_eq!(severity.name(), name.to_ascii_lowercase());
    }
    assert_eq!(
        message(incident(&with("type", json!("boom")))),
        "type \"boom\" is not known, expected crash, oom, timeout, error, degraded, security or manual"
    );
    assert_eq!(
        message(incident(&with("severity", json!("fatal")))),
        "severity \"fatal\" is not known, expected low, medium, high or critical"
    );
}

#[test]
fn incident_may_be_a_day_old_and_its_sender_may_name_it() {
    let told = |text| incident(&with("timestamp", json!(text)));
    assert!(told("2026-11-20T20:50:00Z").is_ok());
    assert!(message(told("2026-11-20T20:49:59Z")).ends_with("nothing older than 86400s is kept"));
    assert_eq!(told("2026-11-21T20:50:59Z").unwrap().timestamp, NOW);
    let named = incident(&with("id", json!("mine-1"))).unwrap();
    assert_eq!(named.id, "mine-1");
    for (field, length, limit) in [("id", 257, 256), ("message", 16_385, 16_384)] {
        assert_eq!(
            message(incident(&with(field, json!("x".repeat(length))))),
            format!("{field} has {length} bytes, more than {limit}")
        );
    }
    let many: Value = (0..65).map(|n| (n.to_string(), json!(n))).collect();
    assert_eq!(
        message(incident(&with("metadata", many))),
        "metadata has 65 entries, more than 64; send less at once"
    );
}

/// Section 7 row 5, BB-36 and BB-37.
#[test]
fn answers_are_a_superset_of_code_and_documents() {
    let post = post(&with("data", json!({"a": 1, "b": 2}))).unwrap();
    let time = "2026-11-21T20:50:00.000000000Z";
    assert_eq!(
        serde_json::to_value(TelemetryAccepted::new(&post, 7, NOW)).unwrap(),
        json!({
            "status": "accepted", "entry_id": "entry_1795294200_007", "entries_added": 2, "timestamp": time,
        })
    );
    let incident = incident(&with("id", json!("mine-1"))).unwrap();
    assert_eq!(
        serde_json::to_value(IncidentAccepted::new(&incident, NOW)).unwrap(),
        json!({"status": "accepted", "incident_id": "mine-1", "timestamp": time})
    );
    for (is_healthy, status) in [(true, "healthy"), (false, "unhealthy")] {
        assert_eq!(
            serde_json::to_value(Health::new(is_healthy, NOW)).unwrap(),
            json!({
                "status": status, "timestamp": time, "service": "blackbox-daemon", "version": "1.0.0",
            })
        );
    }
}

#[test]
fn bb_37_answer_to_what_is_refused_says_where_and_why() {
    let answer = |error: Error| {
        serde_json::to_value(ErrorAnswer::new(&error, "r1".to_owned(), NOW)).unwrap()
    };
    let time = "2026-11-21T20:50:00.000000000Z";
    let broken = Post::parse(b"{\"pod_name\": 1}", NOW, Window::default()).unwrap_err();
    assert_eq!(
        answer(broken),
        json!({
            "error": "invalid_json", "message": "Invalid JSON",
            "details": {"reason": "invalid type: integer `1`, expected a string at line 1 column 14"},
            "timestamp": time, "request_id": "r1",
        })
    );
    assert_eq!(
        answer(post(&json!({})).unwrap_err()),
        json!({
            "error": "validation_failed", "message": "Pod name and namespace are required", "details": {},
            "timestamp": time, "request_id": "r1",
        })
    );
    for (body, code, field) in [
        (
            with("pod_name", json!("x".repeat(300))),
            "validation_failed",
            "pod_name",
        ),
        (
            with("timestamp", json!("x")),
            "validation_failed",
            "timestamp",
        ),
        (
            with("timestamp", json!("2027-01-01T00:00:00Z")),
            "validation_failed",
            "timestamp",
        ),
        (
            with("timestamp", json!("2026-01-01T00:00:00Z")),
            "validation_failed",
            "timestamp",
        ),
    ] {
        let answer = answer(post(&body).unwrap_err());
        assert_eq!(
            (&answer["error"], &answer["details"]["field"]),
            (&json!(code), &json!(field))
        );
    }
    let unknown = answer(incident(&with("type", json!("boom"))).unwrap_err());
    assert_eq!(unknown["details"]["field"], "type");
    let large = vec![b' '; MAX_BODY_BYTES + 1];
    let large = answer(ManualIncident::parse(&large, NOW).unwrap_err());
    assert_eq!(large["error"], "payload_too_large");
}

#[test]
fn size_of_a_post_grows_with_all_it_holds() {
    let size = |body: &Value| post(body).unwrap().bytes();
    let least = size(&with("data", json!({})));
    for (field, value, at_least) in [
        ("data", json!({"k": "x".repeat(5_000)}), 5_000),
        (
            "data",
            json!({"k": {"x".repeat(100): ["y".repeat(100)]}}),
            200,
        ),
        ("data", json!({"k": vec![1; 100]}), 3_200),
        (
            "data",
            (0..100).map(|n| (format!("{n:064}"), json!(n))).collect(),
            10_000,
        ),
        ("tags", json!({"k": "x".repeat(500)}), 500),
        ("container_id", json!("x".repeat(200)), 200),
    ] {
        let grown = size(&with(field, value)) - least.min(size(&with("data", json!({}))));
        assert!(grown >= at_least, "{field}: {grown} < {at_least}");
    }
}

/// JSON of any shape, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!("2026-11-21T20:50:00Z")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _post = Post::parse(&body, NOW, Window::default());
        let _incident = ManualIncident::parse(&body, NOW);
    }

    #[test]
    fn any_value_of_any_field_is_accepted_or_refused(
        which in 0..10usize, value in any_json(),
    ) {
        let fields = ["pod_name", "namespace", "container_id", "runtime", "timestamp", "data", "tags",
            "severity", "type", "metadata"];
        let body = with(fields[which], value);
        if let Ok(post) = post(&body) {
            prop_assert!(post.at <= NOW);
            prop_assert_eq!(post.telemetry().count(), post.values.len());
        }
        if let Ok(incident) = incident(&body) {
            prop_assert!(incident.timestamp <= NOW);
        }
    }
}
