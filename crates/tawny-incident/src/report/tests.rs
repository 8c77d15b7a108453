//! The layouts of BlackBox, to the byte.

use serde_json::{Value, json};

use super::*;
use crate::{
    Book,
    testing::{at, context, dead, event, look, pod, restarted},
};

fn report() -> IncidentReport {
    let mut book = Book::new();
    let pod_now = restarted(dead(137, "OOMKilled", 100, 0), 0);
    book.observe(look(&pod_now, &[], 104), at(104));
    let incident = book.incidents().next().unwrap();
    let mut report = IncidentReport::new(incident, Some(&pod()), at(110));
    report.telemetry = vec![
        Telemetry {
            timestamp: Timestamp::from_millis(at(99).as_millis() + 125),
            source: "system".into(),
            kind: "memory".into(),
            name: "memory_usage_percent".into(),
            value: json!(91.5),
            tags: BTreeMap::from([
                ("core".to_owned(), "0".to_owned()),
                ("node".to_owned(), "n1;a\\b".to_owned()),
            ]),
            metadata: BTreeMap::new(),
        },
        Telemetry {
            timestamp: at(100),
            source: "sidecar".into(),
            kind: "custom".into(),
            name: "last \"query\", slow".into(),
            value: json!("select 1,\n2"),
            tags: BTreeMap::new(),
            metadata: BTreeMap::new(),
        },
    ];
    report
}

#[test]
fn bb_40_default_format() {
    assert_eq!(
        Format::Default.write(&report()),
        "\
=== INCIDENT REPORT ===
ID: container-restart-api-5d4f8c7b9d-x2x9z-web-1795255300
TIMESTAMP: 2026-11-21 10:01:40.000
SEVERITY: high
TYPE: oom
MESSAGE: Container web of Deployment shop/api (pod api-5d4f8c7b9d-x2x9z on node n1) was killed by the kernel because it reached its memory limit of 512 MiB.
POD: shop/api-5d4f8c7b9d-x2x9z

=== TELEMETRY DATA ===
2026-11-21 : 10:01:39.125 | memory_usage_percent | 91.5
2026-11-21 : 10:01:40.000 | last \"query\", slow | select 1, 2
"
    );
}

#[test]
fn bb_40_last_lines_and_events_follow_where_there_are_any() {
    let mut report = report();
    report.telemetry.clear();
    report.logs.push(LogLine {
        timestamp: at(99),
        message: "eating\nmore".into(),
    });
    report
        .events
        .push(EventLine::from(&event("BackOff", "again", 101)));
    let text = Format::Default.write(&report);
    let (_, rest) = text.split_once("=== TELEMETRY DATA ===\n").unwrap();
    assert_eq!(
        rest,
        "
=== LAST LINES ===
2026-11-21 : 10:01:39.000 | eating
    more

=== EVENTS ===
2026-11-21 : 10:01:41.000 | Pod/api-5d4f8c7b9d-x2x9z | BackOff: again (x1)
"
    );
}

#[test]
fn bb_41_and_43_json_is_a_superset_with_indent_2() {
    let text = Format::Json.write(&report());
    assert!(text.starts_with("{\n  \"incident\": {\n    \"id\": \"container-restart-"));
    let json: Value = serde_json::from_str(&text).unwrap();
    for key in [
        "incident",
        "telemetry",
        "logs",
        "events",
        "changes",
        "generated_at",
    ] {
        assert!(json.get(key).is_some(), "{key}");
    }
    let incident = &json["incident"];
    for (key, value) in [
        ("timestamp", json!("2026-11-21T10:01:40.000000000Z")),
        ("severity", json!("high")),
        ("type", json!("oom")),
        ("pod_name", json!("api-5d4f8c7b9d-x2x9z")),
        ("namespace", json!("shop")),
        ("node_name", json!("n1")),
        ("container_id", json!("containerd://web-0")),
        ("exit_code", json!(137)),
        ("signal", json!("SIGKILL")),
        ("started_at", json!("2026-11-21T10:01:10.000000000Z")),
        ("finished_at", json!("2026-11-21T10:01:40.000000000Z")),
        ("workload", json!({"kind": "Deployment", "name": "api"})),
        ("image", json!("registry.test/api:1.4")),
        (
            "limits",
            json!({"cpu_millis": 500, "memory_bytes": 536_870_912}),
        ),
        (
            "cause",
            json!({"class": "out_of_memory", "proof": "status"}),
        ),
        ("count", json!(1)),
        ("restart", json!(0)),
    ] {
        assert_eq!(incident[key], value, "{key}");
    }
    assert!(incident["metadata"].is_object());
    assert!(incident["group_id"].is_string());
    // BB-13: limits and requests of every container.
    assert_eq!(incident["containers"][0]["name"], "web");
    assert_eq!(
        incident["containers"][0]["limits"]["memory_bytes"],
        536_870_912
    );
    assert_eq!(json["telemetry"][0]["type"], "memory");
    assert_eq!(json["generated_at"], "2026-11-21T10:01:50.000000000Z");
}

#[test]
fn bb_42_csv_escapes_what_would_break_a_row() {
    let id = "container-restart-api-5d4f8c7b9d-x2x9z-web-1795255300";
    assert_eq!(
        Format::Csv.write(&report()),
        format!(
            "timestamp,source,type,name,value,tags,incident_id\n\
             2026-11-21T10:01:39.125Z,system,memory,memory_usage_percent,91.5,\"core=0;node=n1\\;a\\\\b\",{id}\n\
             2026-11-21T10:01:40.000Z,sidecar,custom,\"last \"\"query\"\", slow\",\"select 1,\n2\",\"\",{id}\n"
        )
    );
}

#[test]
fn bb_43_ids_say_what_happened_to_what() {
    let id = |pod_now: &PodState| {
        let mut book = Book::new();
        let found = crate::detect::pod(
            Some(&pod()),
            pod_now,
            crate::Evidence::default(),
            &context(101),
        );
        book.observe(found, at(101));
        let incident = book.incidents().next().unwrap();
        IncidentReport::new(incident, None, at(110)).incident.id
    };
    assert_eq!(
        id(&restarted(dead(1, "Error", 100, 0), 0)),
        "container-restart-api-5d4f8c7b9d-x2x9z-web-1795255300"
    );
    let mut failed = crate::testing::ended(dead(1, "Error", 100, 0), 0);
    failed.restart_policy = tawny_model::observed::RestartPolicy::Never;
    failed.phase = tawny_model::observed::PodPhase::Failed;
    assert_eq!(
        id(&failed),
        "container-failed-api-5d4f8c7b9d-x2x9z-web-1795255300"
    );
    failed.containers.clear();
    failed.reason = "DeadlineExceeded".into();
    failed.conditions = vec![crate::testing::condition(
        "Ready",
        tawny_model::observed::ConditionStatus::False,
        "PodFailed",
        90,
    )];
    assert_eq!(id(&failed), "pod-crash-api-5d4f8c7b9d-x2x9z-1795255290");
    let pulling = crate::testing::with_state(crate::testing::waiting("ErrImagePull", ""));
    assert_eq!(
        id(&pulling),
        "image-pull-api-5d4f8c7b9d-x2x9z-web-1795255301"
    );
}

#[test]
fn formats_are_named_as_blackbox_names_them() {
    for format in Format::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    let error = "xml".parse::<Format>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown report format \"xml\", expected default, json or csv"
    );
    assert_eq!(error.remedy(), tawny_model::Remedy::Reject);
}

#[test]
fn events_of_pod_workload_and_node_around_the_death_are_related() {
    // Section 4.5, row "Correlate": from 10 min before to 2 min after.
    let death = crate::testing::only(look(&restarted(dead(1, "Error", 1_000, 0), 0), &[], 1_001));
    let on = |kind: &str, name: &str, secs: i64| {
        let mut event = crate::testing::event_of(kind, name, "Any", "");
        event.at = at(secs);
        event.uid = format!("{kind}/{name}/{secs}").into();
        event
    };
    let mut of_pod = event("BackOff", "again", 1_001);
    of_pod.uid = "own".into();
    let events = [
        of_pod,
        on("Node", "n1", 400),
        on("Node", "n1", 399),
        on("Node", "n2", 1_000),
        on("ReplicaSet", "api-5d4f8c7b9d", 900),
        on("ReplicaSet", "api-6666666666", 900),
        on("Deployment", "api", 1_120),
        on("Deployment", "api", 1_121),
        on("Deployment", "apiary", 1_000),
        on("Pod", "another", 1_000),
    ];
    let related: Vec<&str> = related_events(&death, &events)
        .into_iter()
        .map(|event| &*event.uid)
        .collect();
    assert_eq!(
        related,
        [
            "Node/n1/400",
            "ReplicaSet/api-5d4f8c7b9d/900",
            "own",
            "Deployment/api/1120"
        ]
    );
}

#[test]
fn what_is_no_pod_names_its_place_in_the_text() {
    let place = |incident: &Incident| {
        let text = Format::Default.write(&IncidentReport::new(incident, None, at(110)));
        text.lines().nth(6).unwrap().to_owned()
    };
    let mut book = Book::new();
    let about = crate::detect::EventContext::default();
    for event in [
        crate::testing::event_of("Node", "n1", "Rebooted", ""),
        crate::testing::event_of("CronJob", "nightly", "FailedNeedsStart", ""),
    ] {
        book.observe(crate::detect::event(&event, about, &context(101)), at(101));
    }
    let mut places: Vec<_> = book.incidents().map(place).collect();
    places.sort();
    assert_eq!(places, ["NODE: n1", "WORKLOAD: shop/CronJob/nightly"]);
}
