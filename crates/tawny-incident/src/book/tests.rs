//! The life of incidents: what opens, repeats, resolves, comes back, belongs together, and what is counted once.

use std::time::Duration;

use proptest::prelude::*;
use tawny_model::{
    Timestamp,
    observed::{PodState, Run, Terminated},
};

use super::*;
use crate::{
    Evidence, Marker, MarkerKind, Subject,
    cause::OomEvidence,
    detect,
    exit::Exit,
    testing::{
        at, context, dead, ended, event_of, look, pod, restarted, waiting, with_state, workload,
    },
};

fn crash(code: i32) -> Cause {
    Cause::Crash {
        exit: Some(Exit { code, signal: None }),
    }
}

fn occurrence(key: &str, secs: i64, cause: Cause) -> Occurrence {
    Occurrence {
        key: key.into(),
        at: at(secs),
        cause,
        subject: Subject {
            cluster: "prod".into(),
            namespace: "shop".into(),
            workload: Some(workload("Deployment", "api")),
            pod: "api-1".into(),
            pod_uid: "uid-1".into(),
            node: "n1".into(),
            container: "web".into(),
            container_kind: None,
        },
        run: None,
        message: "".into(),
        signatures: Vec::new(),
        existing: false,
    }
}

fn on_node(mut occurrence: Occurrence, node: &str) -> Occurrence {
    occurrence.subject = Subject {
        cluster: "prod".into(),
        node: node.into(),
        ..Subject::default()
    };
    occurrence
}

fn node_trouble(key: &str, secs: i64) -> Occurrence {
    let cause = Cause::Node {
        condition: "Ready".into(),
    };
    on_node(occurrence(key, secs, cause), "n1")
}

fn pod_scope() -> Scope {
    Scope::Pod("uid-1".into())
}

fn opened(changes: &[Change]) -> IncidentId {
    changes
        .iter()
        .find_map(|change| match change {
            Change::Opened(id) => Some(*id),
            _ => None,
        })
        .expect("an incident was opened")
}

#[test]
fn an_occurrence_opens_one_incident_however_often_it_is_seen() {
    let mut book = Book::new();
    let id = opened(&book.apply(occurrence("death/a", 0, crash(1)), at(1)));
    for now in 2..50 {
        assert_eq!(book.apply(occurrence("death/a", 0, crash(1)), at(now)), []);
    }
    let incident = book.get(id).unwrap();
    assert_eq!((incident.count, incident.state), (1, State::Open));
    assert_eq!(incident.first_at, at(0));
}

#[test]
fn repeats_of_one_cause_are_one_incident_with_a_count() {
    let mut book = Book::new();
    let id = opened(&book.apply(occurrence("death/a", 0, crash(1)), at(1)));
    let changes = book.apply(occurrence("death/b", 40, crash(1)), at(41));
    assert_eq!(changes, [Change::Recurred(id)]);
    let incident = book.get(id).unwrap();
    assert_eq!((incident.count, incident.state), (2, State::Recurring));
    assert_eq!((incident.first_at, incident.last_at), (at(0), at(40)));
    // One that comes late does not become the latest.
    book.apply(occurrence("death/c", 20, crash(1)), at(42));
    let incident = book.get(id).unwrap();
    assert_eq!(
        (&*incident.latest.key, incident.last_at),
        ("death/b", at(40))
    );
}

#[test]
fn cause_detail_container_workload_namespace_and_cluster_make_the_fingerprint() {
    let base = occurrence("k", 0, crash(1));
    let of = |occurrence: &Occurrence| Fingerprint::of(&occurrence.subject, &occurrence.cause);
    let changed = |change: fn(&mut Occurrence)| {
        let mut other = base.clone();
        change(&mut other);
        of(&other) != of(&base)
    };
    assert!(changed(|it| it.cause = crash(2)));
    assert!(changed(|it| it.cause = Cause::Killed));
    assert!(changed(|it| it.subject.container = "proxy".into()));
    assert!(changed(
        |it| it.subject.workload = Some(workload("Deployment", "web"))
    ));
    assert!(changed(
        |it| it.subject.workload = Some(workload("StatefulSet", "api"))
    ));
    assert!(changed(|it| it.subject.namespace = "dev".into()));
    assert!(changed(|it| it.subject.cluster = "dev".into()));
    // Another pod of the workload, on another node, is the same incident.
    assert!(!changed(|it| it.subject.pod = "api-2".into()));
    assert!(!changed(|it| it.subject.pod_uid = "uid-2".into()));
    assert!(!changed(|it| it.subject.node = "n2".into()));
    // Stored, so it never changes.
    assert_eq!(of(&base).0, PINNED);
}

const PINNED: u64 = 901_573_859_070_339_935;

#[test]
fn sandbox_is_grouped_by_node_and_volumes_by_their_object() {
    let of = |occurrence: &Occurrence| Fingerprint::of(&occurrence.subject, &occurrence.cause);
    let sandbox = occurrence(
        "k",
        0,
        Cause::Sandbox {
            template: "no IP".into(),
        },
    );
    let mut elsewhere = sandbox.clone();
    elsewhere.subject.workload = Some(workload("Deployment", "web"));
    assert_eq!(of(&sandbox), of(&elsewhere));
    elsewhere.subject.node = "n2".into();
    assert_ne!(of(&sandbox), of(&elsewhere));

    let volume = occurrence(
        "k",
        0,
        Cause::Volume {
            object: "secret \"tls\"".into(),
            failure: crate::message::MountFailure::ObjectMissing,
        },
    );
    let mut elsewhere = volume.clone();
    elsewhere.subject.workload = Some(workload("Deployment", "web"));
    assert_eq!(of(&volume), of(&elsewhere));
    elsewhere.subject.namespace = "dev".into();
    assert_ne!(of(&volume), of(&elsewhere));
}

#[test]
fn images_and_missing_objects_are_grouped_by_workload_whatever_the_container() {
    let of = |occurrence: &Occurrence| Fingerprint::of(&occurrence.subject, &occurrence.cause);
    let image = Cause::ImagePull {
        image: "registry.test/api:1".into(),
        failure: crate::message::PullFailure::NotFound,
    };
    let missing = Cause::Config {
        reason: "CreateContainerConfigError".into(),
        missing: crate::message::missing("secret \"db\" not found"),
    };
    for cause in [image, missing] {
        let one = occurrence("k", 0, cause);
        let mut other = one.clone();
        other.subject.container = "proxy".into();
        assert_eq!(of(&one), of(&other));
        other.subject.workload = Some(workload("Deployment", "web"));
        assert_ne!(of(&one), of(&other));
    }
}

#[test]
fn severity_rises_at_3_10_and_50_occurrences() {
    let mut book = Book::new();
    let low = Cause::Rejected {
        reason: "NodeAffinity".into(),
    };
    let mut steps = Vec::new();
    for n in 1..=60 {
        for change in book.apply(occurrence(&format!("death/{n}"), n, low.clone()), at(n)) {
            if let Change::Escalated { severity, .. } = change {
                steps.push((n, severity));
            }
        }
    }
    assert_eq!(
        steps,
        [
            (3, Severity::Medium),
            (10, Severity::High),
            (50, Severity::Critical)
        ]
    );
}

#[test]
fn what_is_low_by_nature_stays_below_its_ceiling() {
    let mut book = Book::new();
    let cause = Cause::GraceOverrun {
        grace_secs: Some(30),
    };
    let id = opened(&book.apply(occurrence("death/0", 0, cause.clone()), at(0)));
    for n in 1..60 {
        book.apply(occurrence(&format!("death/{n}"), n, cause.clone()), at(n));
    }
    assert_eq!(book.get(id).unwrap().severity, Severity::Medium);
}

#[test]
fn ten_healthy_minutes_resolve_and_a_relapse_in_between_starts_them_anew() {
    let mut book = Book::new();
    let id = opened(&book.apply(occurrence("death/a", 0, crash(1)), at(0)));
    assert_eq!(book.hear(&pod_scope(), Health::Unhealthy, at(1)), []);
    assert_eq!(book.next_tick(), None);
    book.hear(&pod_scope(), Health::Healthy, at(10));
    assert_eq!(book.next_tick(), Some(at(610)));
    book.hear(&pod_scope(), Health::Healthy, at(300));
    assert_eq!(book.tick(at(609)), []);
    book.hear(&pod_scope(), Health::Unhealthy, at(609));
    assert_eq!(book.tick(at(5_000)), []);
    book.hear(&pod_scope(), Health::Healthy, at(5_000));
    book.apply(occurrence("death/b", 5_100, crash(1)), at(5_100));
    book.hear(&pod_scope(), Health::Healthy, at(5_110));
    assert_eq!(book.tick(at(5_709)), []);
    assert_eq!(book.tick(at(5_710)), [Change::Resolved(id)]);
    assert_eq!(book.tick(at(5_711)), []);
    assert_eq!(book.get(id).unwrap().resolved_at, Some(at(5_710)));
}

#[test]
fn every_affected_pod_has_to_be_healthy() {
    let mut book = Book::new();
    book.apply(occurrence("death/a", 0, crash(1)), at(0));
    let mut second = occurrence("death/b", 1, crash(1));
    second.subject.pod_uid = "uid-2".into();
    book.apply(second, at(1));
    book.hear(&pod_scope(), Health::Healthy, at(2));
    assert_eq!(book.tick(at(2_000)), []);
    book.hear(&Scope::Pod("uid-2".into()), Health::Healthy, at(2_000));
    assert_eq!(book.tick(at(2_600)).len(), 1);
}

#[test]
fn a_healthy_workload_resolves_what_its_dead_pods_cannot() {
    let mut book = Book::new();
    let evicted = Cause::Evicted {
        resource: "memory".into(),
    };
    let id = opened(&book.apply(occurrence("pod/a", 0, evicted), at(0)));
    book.hear(&pod_scope(), Health::Unhealthy, at(1));
    let api = Scope::Workload {
        namespace: "shop".into(),
        workload: workload("Deployment", "api"),
    };
    book.hear(&api, Health::Healthy, at(100));
    // One more eviction starts the ten minutes anew.
    let mut second = occurrence(
        "pod/b",
        400,
        Cause::Evicted {
            resource: "memory".into(),
        },
    );
    second.subject.pod_uid = "uid-2".into();
    book.apply(second, at(400));
    book.hear(&Scope::Pod("uid-2".into()), Health::Unhealthy, at(400));
    book.hear(&api, Health::Healthy, at(410));
    assert_eq!(book.tick(at(1_009)), []);
    assert_eq!(book.tick(at(1_010)), [Change::Resolved(id)]);
    // The dead pod is still looked at, and stays counted.
    let again = occurrence(
        "pod/a",
        0,
        Cause::Evicted {
            resource: "memory".into(),
        },
    );
    assert_eq!(book.apply(again, at(1_100)), []);
}

#[test]
fn what_is_gone_resolves_at_once_or_after_a_wait_for_its_successor() {
    let mut book = Book::new();
    let mut bare = occurrence("death/a", 0, crash(1));
    bare.subject.workload = None;
    let id = opened(&book.apply(bare, at(0)));
    assert_eq!(
        book.hear(&pod_scope(), Health::Gone, at(5)),
        [Change::Resolved(id)]
    );

    let id = opened(&book.apply(occurrence("death/b", 10, crash(1)), at(10)));
    assert_eq!(book.hear(&pod_scope(), Health::Gone, at(20)), []);
    // Its successor dies the same way before the ten minutes are over.
    let mut successor = occurrence("death/c", 300, crash(1));
    successor.subject.pod_uid = "uid-2".into();
    assert_eq!(book.apply(successor, at(300)), [Change::Recurred(id)]);
    assert_eq!(book.tick(at(700)), []);
    book.hear(&Scope::Pod("uid-2".into()), Health::Gone, at(700));
    assert_eq!(book.tick(at(1_300)), [Change::Resolved(id)]);
    let workload = Scope::Workload {
        namespace: "shop".into(),
        workload: workload("Deployment", "api"),
    };
    book.apply(occurrence("death/d", 1_400, crash(1)), at(1_400));
    assert_eq!(
        book.hear(&workload, Health::Gone, at(1_401)),
        [Change::Resolved(id)]
    );
}

#[test]
fn the_same_within_seven_days_of_its_resolution_is_a_regression() {
    let week = i64::try_from(REGRESS_WITHIN.as_secs()).unwrap();
    let mut book = Book::new();
    let id = opened(&book.apply(occurrence("death/a", 0, crash(1)), at(0)));
    book.hear(&pod_scope(), Health::Healthy, at(0));
    assert_eq!(book.tick(at(600)), [Change::Resolved(id)]);
    let changes = book.apply(occurrence("death/b", 600 + week, crash(1)), at(600 + week));
    assert_eq!(changes, [Change::Regressed(id)]);
    let incident = book.get(id).unwrap();
    assert_eq!(
        (incident.state, incident.regressions),
        (State::Regressed, 1)
    );
    assert_eq!((incident.count, incident.streak), (2, 1));
    assert_eq!(incident.resolved_at, None);

    book.hear(&pod_scope(), Health::Healthy, at(600 + week));
    book.tick(at(1_200 + week));
    let later = 1_201 + 2 * week;
    let changes = book.apply(occurrence("death/c", later, crash(1)), at(later));
    assert_ne!(opened(&changes), id);
    assert_eq!(book.tick(at(later)), [Change::Forgotten(id)]);
    assert_eq!(book.incidents().count(), 1);
}

#[test]
fn nothing_heard_for_a_day_is_over() {
    let mut book = Book::new();
    let id = opened(&book.apply(node_trouble("event/1/1", 0), at(0)));
    assert_eq!(book.next_tick(), Some(at(86_400)));
    assert_eq!(book.tick(at(86_400)), [Change::Resolved(id)]);
}

#[test]
fn a_pod_that_is_never_heard_of_holds_an_incident_for_a_day_only() {
    let mut book = Book::new();
    let id = opened(&book.apply(occurrence("death/a", 0, crash(1)), at(0)));
    // Reported late, by an agent that was away: its pod is gone, and nobody will tell.
    let mut late = occurrence("death/b", -50, crash(1));
    late.subject.pod_uid = "uid-2".into();
    book.apply(late, at(10));
    book.hear(&pod_scope(), Health::Healthy, at(20));
    assert_eq!(book.tick(at(86_409)), []);
    assert_eq!(book.tick(at(86_410)), [Change::Resolved(id)]);
}

#[test]
fn trouble_that_was_there_at_the_start_is_quiet_until_it_happens_again() {
    // Section 4.5, row "Baseline".
    let mut book = Book::new();
    let mut old = occurrence("death/a", -500, crash(1));
    old.existing = true;
    let id = opened(&book.apply(old, at(0)));
    assert_eq!(book.get(id).unwrap().quiet(), Some(Quiet::Baseline));
    book.apply(occurrence("death/b", 10, crash(1)), at(10));
    assert_eq!(book.get(id).unwrap().quiet(), None);
}

#[test]
fn node_trouble_takes_in_what_follows_from_it_before_and_after() {
    // Section 4.5, row "Inhibit".
    let mut book = Book::new();
    let unready = Cause::Unready {
        probe: crate::cause::Probe::Readiness,
    };
    let before = opened(&book.apply(occurrence("pod/before", 0, unready), at(0)));
    let own_fault = opened(&book.apply(occurrence("death/own", 0, crash(1)), at(0)));
    let old = opened(&book.apply(occurrence("death/old", -400, Cause::Killed), at(-400)));
    let changes = book.apply(node_trouble("node/n1", 60), at(60));
    let node = opened(&changes);
    assert!(changes.contains(&Change::Adopted {
        id: before,
        parent: node
    }));
    let evicted = |key: &str, node: &str| {
        let mut it = occurrence(
            key,
            70,
            Cause::Evicted {
                resource: "memory".into(),
            },
        );
        it.subject.node = node.into();
        it.subject.container = node.into();
        it
    };
    let child = opened(&book.apply(evicted("pod/x", "n1"), at(70)));
    let other = opened(&book.apply(evicted("pod/y", "n2"), at(70)));
    assert_eq!(book.get(child).unwrap().parent, Some(node));
    assert_eq!(book.get(child).unwrap().quiet(), Some(Quiet::Child));
    assert_eq!(book.get(other).unwrap().parent, None);
    assert_eq!(book.get(own_fault).unwrap().parent, None);
    assert_eq!(book.get(old).unwrap().parent, None);

    // Once the node is well again, what goes on is news.
    book.hear(&Scope::Node("n1".into()), Health::Healthy, at(100));
    assert_eq!(book.tick(at(700)), [Change::Resolved(node)]);
    book.apply(evicted("pod/z", "n1"), at(800));
    assert_eq!(book.get(child).unwrap().quiet(), None);
}

#[test]
fn a_failed_job_and_a_stuck_rollout_are_part_of_the_crash_behind_them() {
    let failed_job = |key: &str| {
        let mut it = occurrence(
            key,
            50,
            Cause::Job {
                reason: "BackoffLimitExceeded".into(),
            },
        );
        it.subject.pod = "".into();
        it.subject.pod_uid = "".into();
        it.subject.container = "".into();
        it
    };
    let mut book = Book::new();
    let crash_id = opened(&book.apply(occurrence("death/a", 0, crash(1)), at(0)));
    let job = opened(&book.apply(failed_job("job/1"), at(50)));
    assert_eq!(book.get(job).unwrap().parent, Some(crash_id));

    let mut book = Book::new();
    let job = opened(&book.apply(failed_job("job/1"), at(50)));
    assert_eq!(book.get(job).unwrap().quiet(), None);
    let changes = book.apply(occurrence("death/a", 40, crash(1)), at(51));
    let parent = opened(&changes);
    assert!(changes.contains(&Change::Adopted { id: job, parent }));
}

#[test]
fn more_than_twenty_new_incidents_a_minute_are_one_digest() {
    // Section 4.5, row "Storm".
    let mut book = Book::new();
    let mut began = 0;
    let mut loud = 0;
    for n in 0..100 {
        let changes = book.apply(
            occurrence(
                &format!("death/{n}"),
                n,
                crash(i32::try_from(n).unwrap() + 1),
            ),
            at(n / 10),
        );
        began += changes
            .iter()
            .filter(|change| matches!(change, Change::StormBegan { .. }))
            .count();
        loud += usize::from(book.get(opened(&changes)).unwrap().quiet().is_none());
    }
    assert_eq!((began, loud), (1, STORM_THRESHOLD));
    assert_eq!(book.next_tick(), Some(at(68)));
    assert_eq!(book.tick(at(67)), []);
    let changes = book.tick(at(68));
    let [Change::StormEnded(digest)] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    assert_eq!(digest.opened, 80);
    assert_eq!(digest.by_class.get("crash"), Some(&80));
    assert_eq!(digest.by_namespace.get("shop"), Some(&80));
    // The next one is told by itself again.
    let changes = book.apply(occurrence("death/late", 200, Cause::Killed), at(200));
    assert_eq!(book.get(opened(&changes)).unwrap().quiet(), None);
}

#[test]
fn an_unexplained_kill_moves_when_better_evidence_comes() {
    let mut book = Book::new();
    let guess = opened(&book.apply(occurrence("death/a", 0, Cause::Killed), at(0)));
    let proven = Cause::OutOfMemory {
        proof: OomEvidence::Cgroup,
    };
    let changes = book.apply(occurrence("death/a", 0, proven), at(3));
    let into = opened(&changes);
    assert_eq!(
        changes,
        [
            Change::Retracted(guess),
            Change::Opened(into),
            Change::Moved {
                key: "death/a".into(),
                from: guess,
                into
            }
        ]
    );
    assert!(book.get(guess).is_none());
    // Never back to less, nor from one explanation to another.
    assert_eq!(
        book.apply(occurrence("death/a", 0, Cause::Killed), at(4)),
        []
    );
    let probe = Cause::ProbeKill {
        probe: crate::cause::Probe::Liveness,
    };
    assert_eq!(book.apply(occurrence("death/a", 0, probe), at(5)), []);
    assert_eq!(book.get(into).unwrap().count, 1);
}

fn planned(key: &str) -> Marker {
    Marker {
        key: key.into(),
        at: at(0),
        kind: MarkerKind::Deleted,
        subject: Subject::default(),
        message: "".into(),
    }
}

#[test]
fn a_kill_that_turns_out_planned_is_taken_back_and_a_crash_is_not() {
    let mut book = Book::new();
    let killed = opened(&book.apply(occurrence("death/a", 0, Cause::Terminated), at(0)));
    assert_eq!(
        book.note(&planned("death/a"), at(1)),
        [Change::Retracted(killed)]
    );
    assert_eq!(
        book.apply(occurrence("death/a", 0, Cause::Terminated), at(2)),
        []
    );
    let crashed = opened(&book.apply(occurrence("death/b", 0, crash(1)), at(3)));
    assert_eq!(book.note(&planned("death/b"), at(4)), []);
    assert!(book.get(crashed).is_some());
    // What was planned from the start never becomes an incident.
    book.note(&planned("death/c"), at(5));
    assert_eq!(book.apply(occurrence("death/c", 0, crash(1)), at(6)), []);
}

#[test]
fn a_death_known_first_by_its_count_and_then_by_its_id_is_one() {
    let mut vague = pod();
    vague.containers[0].restart_count = 1;
    let full = restarted(dead(139, "Error", 100, 0), 0);
    for order in [[&vague, &full], [&full, &vague]] {
        let mut book = Book::new();
        for pod_now in order {
            book.observe(look(pod_now, &[], 105), at(105));
        }
        let incidents: Vec<_> = book.incidents().collect();
        assert_eq!(incidents.len(), 1);
        assert_eq!(
            (incidents[0].count, incidents[0].cause().detail()),
            (1, "SIGSEGV".to_owned())
        );
    }
}

#[test]
fn the_state_of_a_crash_loop_and_the_reason_of_a_pull_are_kept_up_to_date() {
    let mut book = Book::new();
    let death = || dead(1, "Error", 100, 0);
    let id = opened(&book.observe(look(&ended(death(), 0), &[], 101), at(101)));
    let mut looping = ended(death(), 0);
    looping.containers[0].state = waiting(
        "CrashLoopBackOff",
        "back-off 10s restarting failed container=web",
    );
    looping.containers[0].last = Some(death());
    assert_eq!(book.observe(look(&looping, &[], 102), at(102)), []);
    let back_off = |book: &Book| {
        book.get(id)
            .unwrap()
            .latest
            .run
            .as_ref()
            .unwrap()
            .back_off_secs
    };
    assert_eq!(back_off(&book), Some(10));
    book.observe(look(&restarted(death(), 0), &[], 120), at(120));
    assert_eq!(back_off(&book), None);

    let mut book = Book::new();
    let id = opened(&book.observe(
        look(
            &with_state(waiting("ImagePullBackOff", "Back-off pulling image")),
            &[],
            5,
        ),
        at(5),
    ));
    book.observe(
        look(&with_state(waiting("ErrImagePull", "x: not found")), &[], 9),
        at(9),
    );
    assert!(matches!(
        book.get(id).unwrap().cause(),
        Cause::ImagePull {
            failure: crate::message::PullFailure::NotFound,
            ..
        }
    ));
}

#[test]
fn one_crash_of_a_real_pod_is_one_incident_from_first_look_to_resolution() {
    let mut book = Book::new();
    let crashed = restarted(dead(1, "Error", 100, 0), 0);
    let id = opened(&book.observe(look(&crashed, &[], 105), at(105)));
    // Resyncs show the same death again and again.
    for minute in 1..=10 {
        let now = 105 + minute * 60;
        let changes = book.observe(look(&crashed, &[], now), at(now));
        let expected: &[Change] = if minute < 10 {
            &[]
        } else {
            &[Change::Resolved(id)]
        };
        assert_eq!(changes, expected);
    }
    assert_eq!(book.observe(look(&crashed, &[], 9_000), at(9_000)), []);
    assert_eq!(
        book.observe(detect::gone(Scope::Pod(crashed.uid)), at(9_001)),
        []
    );
}

#[test]
fn incidents_held_are_bounded_and_the_resolved_go_first() {
    let mut book = Book::new();
    let resolved = opened(&book.apply(occurrence("death/r", 0, Cause::Killed), at(0)));
    book.hear(&pod_scope(), Health::Healthy, at(0));
    book.tick(at(600));
    let mut forgotten = Vec::new();
    let mut first = None;
    for n in 0..=MAX_INCIDENTS {
        let mut it = occurrence(&format!("death/{n}"), 700, crash(1));
        it.subject.container = format!("c{n}").into();
        it.subject.pod_uid = format!("uid-{n}").into();
        let changes = book.apply(it, at(700 + i64::try_from(n).unwrap()));
        first = first.or_else(|| Some(opened(&changes)));
        forgotten.extend(changes.into_iter().filter_map(|change| match change {
            Change::Forgotten(id) => Some(id),
            _ => None,
        }));
    }
    assert_eq!(forgotten, [resolved, first.unwrap()]);
    assert_eq!(book.incidents().count(), MAX_INCIDENTS);
}

#[test]
fn one_incident_of_a_thousand_pods_watches_a_bounded_number() {
    let mut book = Book::new();
    for n in 0..1_000 {
        let mut it = occurrence(&format!("death/{n}"), n, crash(1));
        it.subject.pod_uid = format!("uid-{n}").into();
        book.apply(it, at(n));
    }
    let incident = book.incidents().next().unwrap();
    assert_eq!(incident.count, 1_000);
    assert_eq!(incident.watched.len(), 64);
}

#[test]
fn ten_thousand_events_in_a_burst_are_counted_once_and_bounded() {
    let mut book = Book::new();
    let mut told = 0;
    for n in 0..10_000u32 {
        let mut event = event_of(
            "ReplicaSet",
            &format!("api{}-5d4f8c7b9d", n % 50),
            "FailedCreate",
            &format!("Error creating: pods \"api-{n}\" is forbidden: exceeded quota: q"),
        );
        event.uid = format!("e{}", n % 2_000).into();
        event.count = n / 2_000 + 1;
        let found = detect::event(&event, detect::EventContext::default(), &context(100));
        told += book
            .observe(found, at(100))
            .iter()
            .filter(|change| matches!(change, Change::Opened(_)))
            .count();
        // Delivered twice, as after a relist.
        let again = detect::event(&event, detect::EventContext::default(), &context(100));
        assert_eq!(book.observe(again, at(100)), []);
    }
    assert_eq!(told, 50);
    assert_eq!(book.incidents().map(|it| it.count).sum::<u64>(), 10_000);
}

#[test]
fn incident_ids_print_and_read_back() {
    let id = IncidentId {
        fingerprint: Fingerprint(0x1f),
        opened_secs: 1_763_740_800,
    };
    assert_eq!(id.to_string(), "000000000000001f-1763740800");
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in [
        "",
        "1f-1",
        "000000000000001f",
        "000000000000001f-x",
        "00000000000000zz-1",
    ] {
        assert!(bad.parse::<IncidentId>().is_err(), "{bad}");
    }
}

/// One thing that can happen to a book.
#[derive(Debug, Clone)]
enum Step {
    Occur { key: u8, cause: u8, pod: u8 },
    Plan { key: u8 },
    Hear { pod: u8, health: u8 },
    Node { turn: u8 },
    Pass { secs: u16 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..12, 0u8..5, 0u8..3).prop_map(|(key, cause, pod)| Step::Occur { key, cause, pod }),
        1 => (0u8..12).prop_map(|key| Step::Plan { key }),
        3 => (0u8..3, 0u8..3).prop_map(|(pod, health)| Step::Hear { pod, health }),
        1 => (0u8..3).prop_map(|turn| Step::Node { turn }),
        3 => (1u16..2_000).prop_map(|secs| Step::Pass { secs }),
    ];
    proptest::collection::vec(step, 0..60)
}

fn take(book: &mut Book, step: &Step, now: &mut Timestamp) -> Vec<Change> {
    match step {
        Step::Occur { key, cause, pod } => {
            let cause = match cause {
                0 => Cause::Killed,
                1 => Cause::OutOfMemory {
                    proof: OomEvidence::Status,
                },
                2 => Cause::Evicted {
                    resource: "memory".into(),
                },
                3 => Cause::Pending,
                _ => crash(1),
            };
            let mut it = occurrence(&format!("death/{key}"), 0, cause);
            it.at = *now;
            it.subject.pod_uid = format!("uid-{pod}").into();
            book.apply(it, *now)
        }
        Step::Plan { key } => book.note(&planned(&format!("death/{key}")), *now),
        Step::Hear { pod, health } => {
            let health = [Health::Healthy, Health::Unhealthy, Health::Gone][usize::from(*health)];
            book.hear(&Scope::Pod(format!("uid-{pod}").into()), health, *now)
        }
        Step::Node { turn } => {
            let mut it = node_trouble(&format!("node/{turn}"), 0);
            it.at = *now;
            book.apply(it, *now)
        }
        Step::Pass { secs } => {
            *now = now.saturating_add(Duration::from_secs(u64::from(*secs)));
            book.tick(*now)
        }
    }
}

fn store_and_restore(book: &Book) -> Book {
    let json = serde_json::to_string(book).unwrap();
    serde_json::from_str(&json).unwrap()
}

proptest! {
    /// Stored and restored after any step, a book tells the same from there on.
    #[test]
    fn a_restored_book_goes_on_as_if_nothing_happened(steps in steps(), cut in 0usize..60) {
        let mut whole = Book::new();
        let mut now = at(0);
        let mut told = Vec::new();
        for step in &steps {
            told.push(take(&mut whole, step, &mut now));
        }
        let mut again = Book::new();
        let mut now = at(0);
        let mut told_again = Vec::new();
        for (idx, step) in steps.iter().enumerate() {
            if idx == cut {
                again = store_and_restore(&again);
            }
            told_again.push(take(&mut again, step, &mut now));
        }
        prop_assert_eq!(told, told_again);
        prop_assert!(whole.incidents().eq(again.incidents()));
    }

    /// Whatever happens, each key counts at most once, and counts are those of what is told.
    #[test]
    fn counts_never_exceed_the_occurrences_there_were(steps in steps()) {
        let mut book = Book::new();
        let mut now = at(0);
        let mut keys = BTreeSet::new();
        for step in &steps {
            match step {
                Step::Occur { key, .. } => drop(keys.insert(format!("death/{key}"))),
                Step::Node { turn } => drop(keys.insert(format!("node/{turn}"))),
                _ => {}
            }
            take(&mut book, step, &mut now);
        }
        let counted: u64 = book.incidents().map(|incident| incident.count).sum();
        prop_assert!(counted <= u64::try_from(keys.len()).unwrap());
        prop_assert!(book.incidents().all(|incident| incident.count > 0));
    }
}

/// The states a pod really goes through: `lives` runs of one container, each ended with some code.
fn life(codes: &[i32]) -> Vec<PodState> {
    let mut states = vec![pod()];
    for (restart, code) in codes.iter().enumerate() {
        let n = u32::try_from(restart).unwrap();
        let finished = 100 * (i64::from(n) + 1);
        let reason = if *code == 0 { "Completed" } else { "Error" };
        let death = dead(*code, reason, finished, n);
        let last = match states.last() {
            Some(state) => state.containers[0].last.clone(),
            None => None,
        };
        let mut over = ended(death.clone(), n);
        over.containers[0].last = last;
        states.push(over.clone());
        let mut looping = over;
        looping.containers[0].state = waiting("CrashLoopBackOff", "back-off 10s restarting");
        looping.containers[0].last = Some(death.clone());
        states.push(looping);
        states.push(restarted(death, n));
    }
    states
}

proptest! {
    /// Relists, repeats, skipped and stale states: each death at most once, and never one that was not.
    #[test]
    fn any_sequence_of_looks_at_a_life_counts_each_death_once(
        codes in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(137), Just(139), Just(143)], 1..5),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..40),
        in_order in any::<bool>(),
        without_ids in any::<bool>(),
    ) {
        let states: Vec<PodState> = life(&codes)
            .into_iter()
            .map(|mut state| {
                if without_ids {
                    forget_ids(&mut state);
                }
                state
            })
            .collect();
        let mut order: Vec<(usize, bool)> = picks
            .iter()
            .map(|(pick, relist)| (pick.index(states.len()), *relist))
            .collect();
        if in_order {
            order.sort_unstable();
        }
        let mut book = Book::new();
        let mut before: Option<PodState> = None;
        let mut shown = BTreeSet::new();
        for (step, (idx, relist)) in order.iter().enumerate() {
            let now = 1_000 + i64::try_from(step).unwrap();
            let state = &states[*idx];
            // A relist forgets what was seen before, as a restarted watcher does.
            let previous = before.as_ref().filter(|_| !relist);
            let found = detect::pod(previous, state, Evidence::default(), &context(now));
            book.observe(found, at(now));
            before = Some(state.clone());
            // Deaths 0 … n−1 lie behind run n; the run itself is over in two of its three states.
            shown.extend(0..idx.div_ceil(3));
        }
        let counted: u64 = book.incidents().map(|incident| incident.count).sum();
        let died = u64::try_from(shown.last().map_or(0, |last| last + 1)).unwrap();
        prop_assert!(counted <= died, "{counted} of {died}");
        // Looked at in full, each is there.
        if in_order && order.iter().map(|(idx, _)| idx).collect::<BTreeSet<_>>().len() == states.len() {
            prop_assert_eq!(counted, u64::try_from(codes.len()).unwrap());
        }
    }
}

/// A pod that is rolled out, served, and taken away, its container ending with `code` after `stop_secs`.
fn planned_life(code: i32, stop_secs: i64, init: bool) -> Vec<PodState> {
    let mut creating = with_state(waiting("ContainerCreating", ""));
    let mut serving = pod();
    if init {
        let mut done = crate::testing::container("migrate");
        done.kind = tawny_model::observed::ContainerKind::Init;
        done.state = Run::Terminated(dead(0, "Completed", 2, 0));
        creating.containers.insert(0, done.clone());
        serving.containers.insert(0, done);
    }
    let mut leaving = serving.clone();
    leaving.deletion = Some(crate::testing::deletion(500));
    let mut over = leaving.clone();
    let web = over.containers.len() - 1;
    over.containers[web].ready = false;
    let reason = if code == 0 { "Completed" } else { "Error" };
    over.containers[web].state = Run::Terminated(dead(code, reason, 500 + stop_secs, 0));
    vec![creating, serving, leaving, over]
}

proptest! {
    /// Rollouts, scale-downs and drains, whatever states of them are seen and how often: never an incident.
    #[test]
    fn a_planned_life_invents_nothing(
        code in prop_oneof![Just(0), Just(1), Just(2), Just(130), Just(137), Just(143)],
        stop_secs in 0i64..28,
        init in any::<bool>(),
        picks in proptest::collection::vec((0usize..4, any::<bool>()), 1..12),
    ) {
        let states = planned_life(code, stop_secs, init);
        let mut order = picks;
        order.sort_unstable();
        let mut book = Book::new();
        let mut before: Option<&PodState> = None;
        for (idx, relist) in order {
            let state = &states[idx];
            let now = [10, 300, 501, 529][idx];
            let previous = before.filter(|_| !relist);
            let found = detect::pod(previous, state, Evidence::default(), &context(now));
            book.observe(found, at(now));
            before = Some(state);
        }
        book.observe(detect::gone(Scope::Pod(pod().uid)), at(540));
        prop_assert_eq!(book.incidents().count(), 0);
    }
}

fn forget_ids(state: &mut PodState) {
    for container in &mut state.containers {
        container.container_id = "".into();
        let forget = |terminated: &mut Terminated| terminated.container_id = "".into();
        if let Run::Terminated(terminated) = &mut container.state {
            forget(terminated);
        }
        container.last.as_mut().map(forget);
    }
}
