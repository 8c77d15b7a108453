use tawny_incident::Health;
use tawny_model::observed::{
    ConditionStatus, ContainerState, EventKind, ObjectRef, PodPhase, Run, Terminated,
};

use super::*;

const START: Timestamp = Timestamp::from_secs(1_763_740_800);

fn at(secs: u64) -> Timestamp {
    START.saturating_add(Duration::from_secs(secs))
}

fn world() -> World {
    let mut world = World::new("".into(), START);
    world.settle();
    world
}

fn container(restart: u32, state: Run) -> ContainerState {
    ContainerState {
        name: "web".into(),
        container_id: format!("containerd://{restart}").into(),
        restart_count: restart,
        ready: matches!(state, Run::Running { .. }),
        state,
        ..ContainerState::default()
    }
}

fn pod(container: ContainerState) -> PodState {
    PodState {
        uid: "u1".into(),
        namespace: "shop".into(),
        name: "api-1".into(),
        node: "n1".into(),
        phase: PodPhase::Running,
        created: Some(at(0)),
        containers: vec![container],
        ..PodState::default()
    }
}

fn running() -> PodState {
    let started_at = Some(at(1));
    pod(container(0, Run::Running { started_at }))
}

fn died(code: i32) -> PodState {
    pod(container(0, Run::Terminated(ended(code))))
}

fn ended(code: i32) -> Terminated {
    Terminated {
        exit_code: code,
        reason: "Error".into(),
        started_at: Some(at(1)),
        finished_at: Some(at(5)),
        container_id: "containerd://0".into(),
        ..Terminated::default()
    }
}

fn event(uid: &str, reason: &str, message: &str, secs: u64, count: u32) -> KubeEvent {
    KubeEvent {
        uid: uid.into(),
        object: ObjectRef {
            kind: "Pod".into(),
            namespace: "shop".into(),
            name: "api-1".into(),
            uid: "u1".into(),
            container: "web".into(),
        },
        reason: reason.into(),
        message: message.into(),
        kind: EventKind::Normal,
        count,
        at: at(secs),
        ..KubeEvent::default()
    }
}

fn classes(found: &Findings) -> Vec<&'static str> {
    let classes = found.occurrences.iter().map(|it| it.cause.class());
    classes.collect()
}

#[test]
fn a_death_is_found_and_a_pod_that_did_not_change_is_not_looked_at() {
    let mut world = world();
    let labels = Labels::new();
    assert_eq!(
        classes(&world.pod(running(), labels.clone(), at(2))),
        [""; 0]
    );
    let found = world.pod(died(1), labels.clone(), at(6));
    assert_eq!(classes(&found), ["crash"]);
    assert!(!found.occurrences[0].existing);
    assert_eq!(world.pod(died(1), labels, at(7)), Findings::default());
}

#[test]
fn an_event_that_comes_after_the_death_or_the_pods_end_explains_it() {
    for is_gone in [false, true] {
        let mut world = world();
        world.pod(running(), Labels::new(), at(2));
        world.pod(died(137), Labels::new(), at(6));
        if is_gone {
            let found = world.pod_gone(&"u1".into(), None, at(7));
            let gone = (Scope::Pod("u1".into()), Health::Gone);
            assert_eq!(found.health.last(), Some(&gone));
        }
        let killing = event(
            "e1",
            "Killing",
            "Container web failed liveness probe, will be restarted",
            4,
            1,
        );
        let found = world.event(killing.clone(), at(8)).unwrap();
        assert_eq!(classes(&found), ["probe_kill"]);
        assert_eq!(found.health.is_empty(), is_gone);
        assert_eq!(world.event(killing, at(9)), None);
        let later = at(8 + 60 * 60);
        world.tick(later);
        assert_eq!(world.pod_state("u1").is_none(), is_gone);
    }
}

#[test]
fn an_event_before_its_pod_is_kept_for_it() {
    let mut world = world();
    let killing = event("e1", "Killing", "Container web failed liveness probe", 4, 1);
    assert!(world.event(killing, at(4)).is_some());
    let found = world.pod(died(137), Labels::new(), at(6));
    assert_eq!(classes(&found), ["probe_kill"]);
}

#[test]
fn what_was_there_before_the_watch_is_existing_even_if_its_event_comes_later() {
    let mut world = World::new("".into(), at(100));
    let found = world.pod(died(1), Labels::new(), at(101));
    assert!(found.occurrences[0].existing);
    let back_off = event(
        "e1",
        "BackOff",
        "Back-off restarting failed container",
        90,
        3,
    );
    let found = world.event(back_off, at(102)).unwrap();
    assert!(found.occurrences.iter().all(|it| it.existing), "{found:?}");
}

#[test]
fn only_a_higher_count_of_an_event_is_new() {
    let mut world = world();
    assert!(
        world
            .event(event("e1", "Pulled", "m", 1, 1), at(1))
            .is_some()
    );
    assert!(
        world
            .event(event("e1", "Pulled", "m", 1, 1), at(2))
            .is_none()
    );
    assert!(
        world
            .event(event("e1", "Pulled", "m", 3, 2), at(3))
            .is_some()
    );
    assert!(
        world
            .event(event("e1", "Pulled", "m", 1, 1), at(4))
            .is_none()
    );
}

#[test]
fn events_are_bounded_and_forgotten_after_an_hour() {
    let mut world = world();
    for n in 0..20_100u64 {
        let mut event = event(&format!("e{n}"), "Pulled", "m", n, 1);
        if n >= 100 {
            event.object.uid = format!("u{n}").into();
        }
        world.event(event, at(n));
        if n == 100 {
            assert_eq!(world.events.about("u1").len(), 64);
        }
    }
    assert_eq!(world.events.all().count(), 20_000);
    world.tick(at(20_100 + 3_500));
    assert!(world.events.all().count() < 200);
}

#[test]
fn a_trouble_that_needs_time_is_found_by_a_later_look_alone() {
    let mut world = world();
    let mut waiting = pod(container(
        0,
        Run::Waiting {
            reason: "ContainerCreating".into(),
            message: "".into(),
        },
    ));
    waiting.phase = PodPhase::Pending;
    waiting.conditions.push(Condition {
        kind: "PodScheduled".into(),
        status: ConditionStatus::True,
        changed: Some(at(0)),
        ..Condition::default()
    });
    let mut found = world.pod(waiting, Labels::new(), at(1));
    assert_eq!(classes(&found), [""; 0]);
    let mut n_ticks = 0;
    while found.occurrences.is_empty() && n_ticks < 10 {
        let next = world.next_tick().expect("there is something to wait for");
        found = world.tick(next);
        n_ticks += 1;
    }
    assert_eq!(classes(&found), ["pending"]);
    world.pod_gone(&"u1".into(), None, at(1_000));
    assert_eq!(world.next_tick(), None);
}

#[test]
fn a_killed_child_is_found_once() {
    let mut world = world();
    world.pod(running(), Labels::new(), at(2));
    let proof = OomProof {
        pod_uid: "u1".into(),
        container_id: "0".into(),
        container: "".into(),
        at: at(3),
        kills: 1,
    };
    assert_eq!(classes(&world.oom(proof.clone(), at(3))), [""; 0]);
    // Unless the death of the main process is told within a few seconds.
    let found = world.tick(at(10));
    assert_eq!(classes(&found), ["child_out_of_memory"]);
    assert_eq!(world.oom(proof, at(11)), Findings::default());
}

#[test]
fn events_of_objects_between_are_their_top_controllers() {
    let mut world = world();
    let deployment = Workload {
        kind: "Deployment".into(),
        name: "api".into(),
    };
    let owned = Object::Owned {
        uid: "rs1".into(),
        by: deployment.clone(),
    };
    world.object(owned, at(1));
    let mut failed = event(
        "e1",
        "FailedCreate",
        "Error creating: pods \"api-x\" is forbidden: exceeded quota: q",
        2,
        1,
    );
    failed.object.kind = "ReplicaSet".into();
    failed.object.name = "api-5d4f".into();
    failed.object.uid = "rs1".into();
    failed.kind = EventKind::Warning;
    assert_eq!(world.about(&failed).workload, Some(deployment.clone()));
    let found = world.event(failed, at(2)).unwrap();
    assert_eq!(found.occurrences[0].subject.workload, Some(deployment));
    world.object_gone("rs1");
    assert_eq!(world.about(&event("e", "", "", 1, 1)), About::default());
}

#[test]
fn a_node_that_goes_takes_its_conditions_with_it() {
    let mut world = world();
    let node = NodeState {
        name: "n1".into(),
        created: Some(at(0)),
        conditions: vec![Condition {
            kind: "Ready".into(),
            status: ConditionStatus::False,
            changed: Some(at(600)),
            ..Condition::default()
        }],
    };
    let found = world.object(Object::Node(node), at(601));
    assert_eq!(classes(&found), ["node"]);
    assert_eq!(world.node_conditions("n1").len(), 1);
    let found = world.object_gone("n1");
    assert_eq!(found.health, [(Scope::Node("n1".into()), Health::Gone)]);
    assert!(world.node_conditions("n1").is_empty());
    assert_eq!(world.object_gone("n1"), Findings::default());
}
