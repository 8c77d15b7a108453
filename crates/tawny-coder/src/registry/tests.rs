//! What is told of an object's life, and that nothing of it is told twice.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

use super::*;
use crate::lines::Level;

const STARTED: Timestamp = Timestamp::from_secs(1_700_000_000);
const BEFORE: &str = "2023-11-14T22:00:00Z";
const AFTER: &str = "2023-11-14T22:13:25Z";
const NOW: Timestamp = Timestamp::from_secs(1_700_000_010);

const LOOK: Look = Look {
    is_explained: true,
    follows_env_from: true,
};

fn pod(name: &str, created: &str, env: Value) -> Seen {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ws", "uid": format!("uid-{name}"), "creationTimestamp": created},
        "spec": {"containers": [{"name": "dev", "env": env}]},
    }))
    .unwrap();
    Seen::pod(&pod, LOOK, NOW).unwrap()
}

fn by_value(tokens: &[&str]) -> Value {
    tokens
        .iter()
        .map(|token| json!({"name": "CODER_AGENT_TOKEN", "value": token}))
        .collect()
}

fn by_secret() -> Value {
    json!([{"name": "CODER_AGENT_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}])
}

fn event(uid: &str, about: &str, count: u32) -> EventSeen {
    EventSeen {
        uid: uid.to_owned(),
        kind: Kind::Pod,
        namespace: "ws".to_owned(),
        name: about.to_owned(),
        about_uid: format!("uid-{about}"),
        message: "Pulling image".to_owned(),
        count,
        over: Duration::from_secs(40),
        at: NOW,
    }
}

/// `token: text` of each line to send, `close token`, and the names of other actions.
fn brief(actions: Vec<Action>) -> Vec<String> {
    actions
        .into_iter()
        .map(|action| match action {
            Action::Send { token, line } => {
                let text = line
                    .output
                    .replace("\x1b[1m", "")
                    .replace("\x1b[37m", "")
                    .replace("\x1b[0m", "");
                format!("{}: {text}", token.expose())
            }
            Action::Close { token } => format!("close {}", token.expose()),
            Action::Resolve { uid, refused, .. } => format!("resolve {uid} but {}", refused.len()),
            Action::Abandon { uid } => format!("abandon {uid}"),
            Action::ReadLog { death, .. } => format!("read log of {}", death.container),
            Action::Lose { n_lines } => format!("lose {n_lines}"),
        })
        .collect()
}

fn registry() -> Registry {
    Registry::new(STARTED)
}

fn live(registry: &mut Registry, seen: Seen) -> Vec<String> {
    brief(registry.apply(seen, 0, Sight::Live, NOW))
}

fn listed(registry: &mut Registry, seen: Seen) -> Vec<String> {
    brief(registry.apply(seen, 0, Sight::FirstList, NOW))
}

fn happens(registry: &mut Registry, event: EventSeen) -> Vec<String> {
    brief(registry.event(event, Sight::Live, NOW))
}

#[test]
fn a_pods_life_is_told_once_cl_15_cl_16_cl_24() {
    let mut registry = registry();
    let ws = || pod("ws", AFTER, by_value(&["t"]));
    assert_eq!(live(&mut registry, ws()), ["t: 🐳 Created pod: ws"]);
    assert_eq!(live(&mut registry, ws()), [""; 0]);
    let deleted = ["t: 🗑️ Deleted pod: ws", "close t"];
    assert_eq!(brief(registry.delete("uid-ws", NOW)), deleted);
    assert_eq!(brief(registry.delete("uid-ws", NOW)), [""; 0]);
}

#[test]
fn created_is_told_with_the_time_of_creation() {
    let actions = registry().apply(pod("ws", AFTER, by_value(&["t"])), 0, Sight::Live, NOW);
    let Action::Send { line, .. } = &actions[0] else {
        panic!("{actions:?}")
    };
    assert_eq!(line.created_at, Timestamp::from_secs(1_700_000_005));
    assert_eq!(line.level, Level::Debug);
}

#[test]
fn a_pod_without_a_token_is_none_of_ours() {
    let mut registry = registry();
    assert_eq!(live(&mut registry, pod("other", AFTER, json!([]))), [""; 0]);
    assert!(registry.objects.is_empty());
    assert_eq!(brief(registry.delete("uid-other", NOW)), [""; 0]);
}

#[test]
fn each_of_two_tokens_gets_the_lines_cl_10() {
    let mut registry = registry();
    let told = live(&mut registry, pod("ws", AFTER, by_value(&["a", "b"])));
    assert_eq!(told, ["a: 🐳 Created pod: ws", "b: 🐳 Created pod: ws"]);
    let told = happens(&mut registry, event("e", "ws", 1));
    assert_eq!(told, ["a: Pulling image", "b: Pulling image"]);
}

#[test]
fn objects_from_before_the_start_are_followed_but_not_announced_cl_14() {
    let mut registry = registry();
    assert_eq!(
        listed(&mut registry, pod("ws", BEFORE, by_value(&["t"]))),
        [""; 0]
    );
    assert_eq!(
        happens(&mut registry, event("e", "ws", 1)),
        ["t: Pulling image"]
    );
    assert_eq!(
        brief(registry.delete("uid-ws", NOW))[0],
        "t: 🗑️ Deleted pod: ws"
    );
    // One made between the start and the first list is new, though a list shows it.
    let told = listed(&mut registry, pod("late", AFTER, by_value(&["t"])));
    assert_eq!(told, ["t: 🐳 Created pod: late"]);
}

#[test]
fn an_old_pod_that_comes_to_match_the_selector_is_not_announced_cl_14() {
    let mut registry = registry();
    assert_eq!(
        live(&mut registry, pod("ws", BEFORE, by_value(&["t"]))),
        [""; 0]
    );
    // An API server whose clock is a little behind still has its pods announced.
    let skewed = pod("new", "2023-11-14T22:10:00Z", by_value(&["t"]));
    assert_eq!(live(&mut registry, skewed).len(), 1);
}

#[test]
fn a_relist_repeats_nothing_and_finds_what_went_in_between() {
    let mut registry = registry();
    live(&mut registry, pod("stays", AFTER, by_value(&["a"])));
    live(&mut registry, pod("went", AFTER, by_value(&["b"])));
    let mut set = pod("set", AFTER, by_value(&["c"]));
    set.kind = Kind::ReplicaSet;
    live(&mut registry, set);
    assert_eq!(
        live(&mut registry, pod("stays", AFTER, by_value(&["a"]))),
        [""; 0]
    );
    let listed = ["uid-stays".to_owned()].into_iter().collect();
    let told = registry.keep_only(Kind::Pod, 0, &listed, NOW);
    assert_eq!(brief(told), ["b: 🗑️ Deleted pod: went", "close b"]);
    // The list of another namespace's watch says nothing of this one's pods.
    assert_eq!(
        registry.keep_only(Kind::Pod, 1, &FxHashSet::default(), NOW),
        []
    );
    assert_eq!(registry.objects.len(), 2);
}

#[test]
fn one_name_with_two_uids_is_two_pods() {
    let mut registry = registry();
    let mut second = pod("ws", AFTER, by_value(&["b"]));
    second.uid = "uid-second".to_owned();
    second.namespace = "other".to_owned();
    live(&mut registry, pod("ws", AFTER, by_value(&["a"])));
    live(&mut registry, second);
    assert_eq!(brief(registry.delete("uid-ws", NOW))[1], "close a");
    let mut about_second = event("e", "ws", 1);
    about_second.about_uid = "uid-second".to_owned();
    assert_eq!(happens(&mut registry, about_second), ["b: Pulling image"]);
}

#[test]
fn an_event_that_repeats_is_told_again_with_its_count_cl_19() {
    let mut registry = registry();
    live(&mut registry, pod("ws", AFTER, by_value(&["t"])));
    assert_eq!(
        happens(&mut registry, event("e", "ws", 1)),
        ["t: Pulling image"]
    );
    assert_eq!(happens(&mut registry, event("e", "ws", 1)), [""; 0]);
    let third = happens(&mut registry, event("e", "ws", 3));
    assert_eq!(third, ["t: Pulling image (x3 over 40s)"]);
    assert_eq!(happens(&mut registry, event("e", "ws", 2)), [""; 0]);
}

#[test]
fn events_of_unknown_objects_and_old_events_are_not_told() {
    let mut registry = registry();
    listed(&mut registry, pod("ws", BEFORE, by_value(&["t"])));
    assert_eq!(happens(&mut registry, event("e", "other", 1)), [""; 0]);
    let old = EventSeen {
        at: STARTED,
        ..event("old", "ws", 2)
    };
    assert_eq!(registry.event(old.clone(), Sight::FirstList, NOW), []);
    let of_other = EventSeen {
        at: STARTED,
        ..event("o", "third", 1)
    };
    registry.event(of_other, Sight::FirstList, NOW);
    assert_eq!(registry.strays.len(), 1, "an old event waits for no object");
    // A relist shows it again; only its next repeat is news.
    assert_eq!(registry.event(old.clone(), Sight::Live, NOW), []);
    let again = EventSeen {
        count: 3,
        at: NOW,
        ..old
    };
    assert_eq!(
        happens(&mut registry, again),
        ["t: Pulling image (x3 over 40s)"]
    );
}

#[test]
fn an_event_that_overtakes_its_pod_is_told_after_created() {
    let mut registry = registry();
    assert_eq!(happens(&mut registry, event("e", "ws", 1)), [""; 0]);
    let told = live(&mut registry, pod("ws", AFTER, by_value(&["t"])));
    assert_eq!(told, ["t: 🐳 Created pod: ws", "t: Pulling image"]);
    assert_eq!(happens(&mut registry, event("e", "ws", 1)), [""; 0]);
}

#[test]
fn events_without_a_pod_do_not_pile_up() {
    let mut registry = registry();
    for n in 0..10_000 {
        happens(&mut registry, event(&format!("e{n}"), "other", 1));
    }
    assert_eq!(registry.strays.len(), MAX_STRAYS);
    let later = NOW.saturating_add(STRAY_LIFE + Duration::from_secs(1));
    registry.event(event("late", "other", 1), Sight::Live, later);
    assert_eq!(registry.strays.len(), 1);
}

#[test]
fn an_event_without_a_uid_is_matched_by_kind_namespace_and_name_cl_19() {
    let mut registry = registry();
    live(&mut registry, pod("ws", AFTER, by_value(&["t"])));
    let nameless = |kind, namespace: &str| EventSeen {
        kind,
        namespace: namespace.to_owned(),
        about_uid: String::new(),
        ..event("e", "ws", 1)
    };
    assert_eq!(
        happens(&mut registry, nameless(Kind::Pod, "other")),
        [""; 0]
    );
    assert_eq!(
        happens(&mut registry, nameless(Kind::ReplicaSet, "ws")),
        [""; 0]
    );
    assert_eq!(
        happens(&mut registry, nameless(Kind::Pod, "ws")),
        ["t: Pulling image"]
    );
}

#[test]
fn lines_wait_for_a_token_that_has_to_be_fetched_cl_12() {
    let mut registry = registry();
    assert_eq!(
        live(&mut registry, pod("ws", AFTER, by_secret())),
        ["resolve uid-ws but 0"]
    );
    assert_eq!(happens(&mut registry, event("e", "ws", 1)), [""; 0]);
    let told = brief(registry.resolved("uid-ws", vec![Secret::new("t")]));
    assert_eq!(told, ["t: 🐳 Created pod: ws", "t: Pulling image"]);
    assert_eq!(happens(&mut registry, event("e", "ws", 2)).len(), 1);
}

#[test]
fn a_pod_whose_token_never_comes_loses_its_lines_and_they_are_counted() {
    let mut registry = registry();
    live(&mut registry, pod("optional", AFTER, by_secret()));
    assert_eq!(brief(registry.resolved("uid-optional", vec![])), ["lose 1"]);
    assert_eq!(happens(&mut registry, event("e", "optional", 1)), [""; 0]);
    live(&mut registry, pod("missing", AFTER, by_secret()));
    for n in 0..100 {
        registry.event(event(&format!("e{n}"), "missing", 1), Sight::Live, NOW);
    }
    let told = brief(registry.delete("uid-missing", NOW));
    assert_eq!(
        told,
        ["abandon uid-missing".to_owned(), format!("lose {MAX_HELD}")]
    );
}

#[test]
fn a_pod_with_shared_variables_and_no_token_is_a_stranger() {
    let mut registry = registry();
    let other = || {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "other", "namespace": "ws", "uid": "uid-other", "creationTimestamp": AFTER},
            "spec": {"containers": [{"name": "web", "envFrom": [{"secretRef": {"name": "s"}}]}]},
        }))
        .unwrap();
        Seen::pod(&pod, LOOK, NOW).unwrap()
    };
    assert_eq!(live(&mut registry, other()), ["resolve uid-other but 0"]);
    for n in 0..100 {
        assert_eq!(
            happens(&mut registry, event(&format!("e{n}"), "other", 1)),
            [""; 0]
        );
    }
    assert_eq!(brief(registry.resolved("uid-other", vec![])), [""; 0]);
    let n_changes = registry.n_changes();
    assert_eq!(live(&mut registry, other()), [""; 0]);
    assert_eq!(happens(&mut registry, event("e", "other", 2)), [""; 0]);
    assert_eq!(registry.n_changes(), n_changes);
    assert!(registry.snapshot(NOW).objects.is_empty());
    assert_eq!(brief(registry.delete("uid-other", NOW)), [""; 0]);
    assert!(registry.objects.is_empty());
    // Deleted while it is looked for, it costs nobody a line either.
    live(&mut registry, other());
    assert_eq!(
        brief(registry.delete("uid-other", NOW)),
        ["abandon uid-other"]
    );
}

#[test]
fn a_token_that_coder_refuses_is_looked_up_again_where_it_may_have_changed() {
    let mut registry = registry();
    live(&mut registry, pod("ws", AFTER, by_secret()));
    registry.resolved("uid-ws", vec![Secret::new("old")]);
    let lost = Line::event("m", 1, Duration::ZERO, NOW);
    let told = brief(registry.refused(&Secret::new("old"), vec![lost.clone()]));
    assert_eq!(told, ["resolve uid-ws but 1"]);
    assert_eq!(happens(&mut registry, event("e", "ws", 1)), [""; 0]);
    let told = brief(registry.resolved("uid-ws", vec![Secret::new("old"), Secret::new("new")]));
    assert_eq!(told, ["new: m", "new: Pulling image"]);
    // A token that stands in the specification cannot change.
    live(&mut registry, pod("fixed", AFTER, by_value(&["t"])));
    assert_eq!(
        brief(registry.refused(&Secret::new("t"), vec![lost])),
        ["lose 1"]
    );
}

#[test]
fn reasons_are_told_once_with_the_dead_containers_log() {
    let dead = |count: i32| {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "ws", "namespace": "ws", "uid": "uid-ws", "creationTimestamp": AFTER},
            "spec": {"containers": [{"name": "dev", "env": by_value(&["t"])}]},
            "status": {"containerStatuses": [{"name": "dev", "image": "", "imageID": "", "ready": false, "restartCount": count,
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "containerID": format!("c{count}")}}}]},
        }))
        .unwrap();
        Seen::pod(&pod, LOOK, NOW).unwrap()
    };
    let mut registry = registry();
    live(&mut registry, pod("ws", AFTER, by_value(&["t"])));
    let oom = [
        "t: 💥 Container dev OOMKilled (exit 137), restart 1",
        "read log of dev",
    ];
    assert_eq!(live(&mut registry, dead(1)), oom);
    assert_eq!(live(&mut registry, dead(1)), [""; 0]);
    assert_eq!(live(&mut registry, dead(2)).len(), 2);
    // Deaths of before the start are no news.
    let mut later = Registry::new(NOW);
    assert_eq!(listed(&mut later, dead(2)), [""; 0]);
    assert_eq!(live(&mut later, dead(3)).len(), 2);
}

/// Stops a run and starts the next from what it wrote.
fn restart(registry: &Registry) -> Registry {
    let written = serde_json::to_string(&registry.snapshot(NOW)).unwrap();
    Registry::resume(serde_json::from_str(&written).unwrap())
}

#[test]
fn a_restart_repeats_nothing_and_goes_on() {
    let mut first = registry();
    live(&mut first, pod("ws", AFTER, by_value(&["t"])));
    live(&mut first, pod("gone", AFTER, by_value(&["t"])));
    happens(&mut first, event("e", "ws", 2));
    let mut second = restart(&first);
    assert_eq!(
        listed(&mut second, pod("ws", AFTER, by_value(&["t"]))),
        [""; 0]
    );
    let again = |count| event("e", "ws", count);
    assert_eq!(second.event(again(2), Sight::FirstList, NOW), []);
    // What happened while nothing ran is told: an event's repeat, and a pod's creation.
    assert_eq!(second.event(again(3), Sight::FirstList, NOW).len(), 1);
    let meanwhile = pod("meanwhile", "2023-11-14T22:13:35Z", by_value(&["t"]));
    assert_eq!(listed(&mut second, meanwhile).len(), 1);
    second.forget_unlisted();
    assert_eq!(second.snapshot(NOW).objects.len(), 2);
}

#[test]
fn two_restarts_in_a_row_forget_nothing() {
    let mut first = registry();
    live(&mut first, pod("ws", AFTER, by_value(&["t"])));
    let mut third = restart(&restart(&first));
    assert_eq!(
        listed(&mut third, pod("ws", AFTER, by_value(&["t"]))),
        [""; 0]
    );
}

#[test]
fn what_is_written_holds_no_token_and_a_later_form_is_refused() {
    let mut registry = registry();
    live(&mut registry, pod("ws", AFTER, by_value(&["hush-hush"])));
    let written = serde_json::to_string(&registry.snapshot(NOW)).unwrap();
    assert!(!written.contains("hush"), "{written}");
    assert!(!format!("{registry:?}").contains("hush"));
    let later = written.replace("\"version\":1", "\"version\":2");
    let error = serde_json::from_str::<Snapshot>(&later)
        .unwrap_err()
        .to_string();
    assert!(error.contains("version 2 is not known"), "{error}");
}

#[test]
fn each_change_worth_writing_is_counted_and_nothing_else() {
    let mut registry = registry();
    live(&mut registry, pod("ws", AFTER, by_value(&["t"])));
    assert_eq!(registry.n_changes(), 1);
    live(&mut registry, pod("ws", AFTER, by_value(&["t"])));
    live(&mut registry, pod("other", AFTER, json!([])));
    happens(&mut registry, event("e", "other", 1));
    assert_eq!(registry.n_changes(), 1);
    happens(&mut registry, event("e", "ws", 1));
    happens(&mut registry, event("e", "ws", 1));
    assert_eq!(registry.n_changes(), 2);
    registry.event_expired("uid-ws", "e");
    registry.event_expired("uid-ws", "e");
    assert_eq!(registry.n_changes(), 3);
    happens(&mut registry, event("f", "ws", 1));
    registry.keep_only_events(1, &FxHashSet::default());
    assert_eq!(registry.n_changes(), 4);
    registry.keep_only_events(0, &FxHashSet::default());
    assert_eq!(registry.n_changes(), 5);
}

#[test]
fn events_are_read_with_either_way_to_count_and_missing_fields() {
    let read = |rest: Value| {
        let mut event = json!({"metadata": {"uid": "e", "namespace": "ws", "creationTimestamp": AFTER}, "involvedObject": {"kind": "Pod", "name": "ws", "uid": "u"}});
        event
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        EventSeen::new(&serde_json::from_value::<Event>(event).unwrap(), NOW)
    };
    let core = read(json!({"count": 3, "firstTimestamp": "2023-11-14T22:13:20Z", "lastTimestamp": "2023-11-14T22:14:00Z", "message": "m"})).unwrap();
    assert_eq!(
        (core.count, core.over, core.at),
        (
            3,
            Duration::from_secs(40),
            Timestamp::from_secs(1_700_000_040)
        )
    );
    let series = read(json!({"eventTime": "2023-11-14T22:13:20.500000Z", "series": {"count": 4, "lastObservedTime": "2023-11-14T22:13:30.500000Z"}})).unwrap();
    assert_eq!((series.count, series.over), (4, Duration::from_secs(10)));
    let bare = read(json!({})).unwrap();
    assert_eq!(
        (bare.count, bare.over, bare.at),
        (1, Duration::ZERO, Timestamp::from_secs(1_700_000_005))
    );
    assert_eq!(read(json!({"count": -1})).unwrap().count, 1);
    assert_eq!(
        read(json!({"involvedObject": {"kind": "Node", "name": "n"}})),
        None
    );
    assert_eq!(read(json!({"involvedObject": {}})), None);
    assert_eq!(EventSeen::new(&Event::default(), NOW), None);
}

#[test]
fn a_replica_sets_token_is_that_of_its_template_cl_17_cl_18_cl_20() {
    let set = serde_json::from_value(json!({
        "metadata": {"name": "ws-77", "namespace": "ws", "uid": "r", "creationTimestamp": AFTER},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "dev", "env": by_value(&["t"])}]}}},
    }))
    .unwrap();
    let mut registry = registry();
    let told = live(&mut registry, Seen::replica_set(&set, LOOK).unwrap());
    assert_eq!(told, ["t: 🐳 Queued pod from ReplicaSet: ws-77"]);
    assert_eq!(
        brief(registry.delete("r", NOW))[0],
        "t: 🗑️ Deleted ReplicaSet: ws-77"
    );
    assert_eq!(Seen::replica_set(&Default::default(), LOOK), None);
    assert_eq!(Seen::pod(&Pod::default(), LOOK, NOW), None);
}
