//! Rows 1 to 6: who or what ended a container.

use tawny_model::observed::{
    ConditionStatus, ContainerKind, ContainerState, PodPhase, PodState, RestartPolicy, Terminated,
};

use crate::{
    Cause, Evidence, MarkerKind, OomProof, Severity,
    cause::{OomEvidence, Probe},
    detect,
    exit::Exit,
    testing::*,
};

fn proof(secs: i64, container_id: &str) -> OomProof {
    OomProof {
        pod_uid: pod().uid,
        container_id: container_id.into(),
        container: "web".into(),
        at: at(secs),
        kills: 1,
    }
}

fn with_proofs(pod_now: &PodState, ooms: &[OomProof], now: i64) -> crate::Findings {
    let evidence = Evidence {
        ooms,
        ..Evidence::default()
    };
    detect::pod(Some(&pod()), pod_now, evidence, &context(now))
}

fn markers(found: &crate::Findings) -> Vec<MarkerKind> {
    found.markers.iter().map(|marker| marker.kind).collect()
}

#[test]
fn row_1_crash_is_one_occurrence_keyed_by_container_id_at_finished_at() {
    let mut terminated = dead(1, "Error", 100, 0);
    terminated.message = "cannot open /etc/app.conf".into();
    let occurrence = only(look(&restarted(terminated, 0), &[], 104));
    assert_eq!(occurrence.key, "death/containerd://web-0");
    assert_eq!(occurrence.at, at(100));
    assert_eq!(occurrence.severity(), Severity::High);
    assert_eq!(&*occurrence.message, "cannot open /etc/app.conf");
    assert!(!occurrence.existing);
    assert_eq!(
        occurrence.cause,
        Cause::Crash {
            exit: Some(Exit {
                code: 1,
                signal: None
            })
        }
    );
    let run = occurrence.run.unwrap();
    assert!(run.restarting);
    assert_eq!((run.restart, &*run.image), (0, "registry.test/api:1.4"));
    assert_eq!(run.limits.memory_bytes, Some(512 << 20));
    assert_eq!(&*occurrence.subject.node, "n1");
    assert_eq!(
        occurrence.subject.workload,
        Some(workload("Deployment", "api"))
    );
}

#[test]
fn row_1_same_death_in_state_and_then_in_last_state_has_one_key() {
    let ended_now = only(look(&ended(dead(1, "Error", 100, 0), 0), &[], 101));
    let later = only(look(&restarted(dead(1, "Error", 100, 0), 0), &[], 110));
    assert_eq!(ended_now.key, later.key);
    assert_eq!(ended_now.run.unwrap().restart, later.run.unwrap().restart);
}

#[test]
fn row_1_without_id_the_key_is_pod_container_and_restart() {
    let mut lost_id = dead(1, "Error", 100, 3);
    lost_id.container_id = "".into();
    let mut before = pod();
    before.containers[0].restart_count = 3;
    let in_state = only(detect::pod(
        Some(&before),
        &ended(lost_id.clone(), 3),
        Evidence::default(),
        &context(101),
    ));
    let in_last = only(look(&restarted(lost_id.clone(), 3), &[], 110));
    let mut looping = restarted(lost_id, 2);
    looping.containers[0].state = waiting("CrashLoopBackOff", "");
    let in_loop = only(look(&looping, &[], 110));
    let key = format!("death/{}/web/3", pod().uid);
    assert_eq!(in_state.key, key);
    assert_eq!(in_last.key, key);
    assert_eq!(in_loop.key, key);
}

#[test]
fn row_1_exit_0_of_an_always_restarted_container_is_an_unexpected_completion() {
    let occurrence = only(look(&restarted(dead(0, "Completed", 100, 0), 0), &[], 104));
    assert_eq!(occurrence.cause, Cause::UnexpectedCompletion);
    assert_eq!(occurrence.severity(), Severity::Low);
}

#[test]
fn row_1_normal_completion_is_nothing() {
    for policy in [RestartPolicy::Never, RestartPolicy::OnFailure] {
        let mut job_pod = ended(dead(0, "Completed", 100, 0), 0);
        job_pod.restart_policy = policy;
        job_pod.phase = PodPhase::Succeeded;
        let found = look(&job_pod, &[], 101);
        assert!(found.occurrences.is_empty() && found.markers.is_empty());
    }
    let mut init = pod();
    init.containers[0].kind = ContainerKind::Init;
    init.containers[0].state = tawny_model::observed::Run::Terminated(dead(0, "Completed", 3, 0));
    assert!(look(&init, &[], 4).occurrences.is_empty());
}

#[test]
fn row_1_signal_of_the_runtime_counts_more_than_the_code() {
    let mut terminated = dead(2, "Error", 100, 0);
    terminated.signal = Some(11);
    let occurrence = only(look(&restarted(terminated, 0), &[], 104));
    assert_eq!(occurrence.cause.detail(), "SIGSEGV");
    assert_eq!(occurrence.severity(), Severity::High);
}

#[test]
fn row_2_crash_loop_is_a_state_of_the_death_and_no_occurrence_of_its_own() {
    let mut looping = restarted(dead(1, "Error", 100, 4), 3);
    looping.containers[0].ready = false;
    looping.containers[0].state = waiting(
        "CrashLoopBackOff",
        "back-off 1m20s restarting failed container=web pod=api-5d4f8c7b9d-x2x9z_shop(7b0a3e9c)",
    );
    let back_off = event(
        "BackOff",
        "Back-off restarting failed container web in pod api-5d4f8c7b9d-x2x9z_shop(7b0a3e9c)",
        101,
    );
    let before = restarted(dead(1, "Error", 60, 3), 3);
    let events = [back_off];
    let found = detect::pod(Some(&before), &looping, evidence(&events), &context(101));
    let run = only(found).run.unwrap();
    assert_eq!(run.back_off_secs, Some(80));
    // While it waits, the last run is the latest: its log is `4.log`.
    assert_eq!(run.restart, 4);
}

#[test]
fn row_2_crash_loop_whose_last_state_is_missing_still_tells_of_a_death() {
    let mut looping = pod();
    looping.containers[0].restart_count = 2;
    looping.containers[0].state = waiting("CrashLoopBackOff", "");
    let occurrence = only(look(&looping, &[], 101));
    assert_eq!(occurrence.cause.detail(), "unknown exit");
    assert_eq!(occurrence.at, at(101));
    assert_eq!(occurrence.run.unwrap().back_off_secs, None);
}

#[test]
fn row_3_oom_by_status_is_high_and_carries_the_limit() {
    let occurrence = only(look(
        &restarted(dead(137, "OOMKilled", 100, 0), 0),
        &[],
        104,
    ));
    assert_eq!(
        occurrence.cause,
        Cause::OutOfMemory {
            proof: OomEvidence::Status
        }
    );
    assert_eq!(occurrence.severity(), Severity::High);
    assert_eq!(occurrence.cause.report_type(), "oom");
    assert_eq!(occurrence.run.unwrap().limits.memory_bytes, Some(512 << 20));
}

#[test]
fn row_4_a_kill_in_a_container_that_goes_on_is_a_child_out_of_memory() {
    let running_on = pod();
    let early = with_proofs(&running_on, &[proof(100, "web-0")], 101);
    assert!(early.occurrences.is_empty());
    assert_eq!(early.recheck_at, Some(at(105)));
    let occurrence = only(with_proofs(&running_on, &[proof(100, "web-0")], 105));
    assert_eq!(occurrence.cause, Cause::ChildOutOfMemory);
    assert_eq!(occurrence.cause.report_type(), "oom");
    assert_eq!(occurrence.at, at(100));
    // The next kill in the same container is another occurrence, the same seen again is not.
    let mut second = proof(200, "web-0");
    second.kills = 2;
    let next = with_proofs(&running_on, &[second], 300);
    assert_ne!(next.occurrences[0].key, occurrence.key);
}

#[test]
fn row_4_a_kill_that_ended_the_main_process_is_no_child() {
    let found = with_proofs(
        &restarted(dead(137, "Error", 100, 0), 0),
        &[proof(100, "containerd://web-0")],
        200,
    );
    assert_eq!(
        only(found).cause,
        Cause::OutOfMemory {
            proof: OomEvidence::Cgroup
        }
    );
}

#[test]
fn row_4_a_proof_without_an_id_is_no_child_when_it_explains_the_death() {
    let mut named = proof(100, "");
    named.container = "web".into();
    let found = with_proofs(&restarted(dead(137, "Error", 100, 0), 0), &[named], 200);
    assert_eq!(only(found).cause.class(), "out_of_memory");
}

#[test]
fn an_eviction_explains_the_latest_run_only() {
    let mut evicted = ended(dead(137, "Error", 100, 1), 1);
    evicted.phase = PodPhase::Failed;
    evicted.reason = "Evicted".into();
    evicted.containers[0].last = Some(dead(137, "Error", 50, 0));
    let causes = |pod_now: &PodState| {
        let found = look(pod_now, &[], 101);
        let of = |it: &crate::Occurrence| (it.cause.class(), it.at);
        found.occurrences.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(causes(&evicted)[1..], [("killed", at(50))]);
    // Without a time of the decision, an error of its own is not the kubelet's doing.
    evicted.containers = ended(dead(1, "Error", 100, 0), 0).containers;
    assert_eq!(causes(&evicted)[1..], [("crash", at(100))]);
}

#[test]
fn six_kinds_of_sigkill_are_told_apart() {
    // Section 4.2 rows 3 to 5 and 10, section 4.3 row 137.
    let killed = || dead(137, "Error", 100, 0);
    let cause = |found: crate::Findings| only(found).cause;

    // 1. Out of memory, says the status.
    assert_eq!(
        cause(look(
            &restarted(dead(137, "OOMKilled", 100, 0), 0),
            &[],
            104
        )),
        Cause::OutOfMemory {
            proof: OomEvidence::Status
        }
    );
    // 2. Out of memory, counted the cgroup.
    assert_eq!(
        cause(with_proofs(
            &restarted(killed(), 0),
            &[proof(99, "web-0")],
            104
        )),
        Cause::OutOfMemory {
            proof: OomEvidence::Cgroup
        }
    );
    // 3. A probe.
    for (message, probe) in [
        (
            "Container web failed liveness probe, will be restarted",
            Probe::Liveness,
        ),
        (
            "Container web failed startup probe, will be restarted",
            Probe::Startup,
        ),
    ] {
        let killing = event("Killing", message, 72);
        let found = look(&restarted(killed(), 0), &[killing], 104);
        assert_eq!(cause(found), Cause::ProbeKill { probe });
    }
    // 4. The grace period of a deletion.
    let mut deleted = ended(killed(), 0);
    deleted.deletion = Some(deletion(70));
    let found = look(&deleted, &[], 101);
    assert_eq!(
        cause(found),
        Cause::GraceOverrun {
            grace_secs: Some(30)
        }
    );
    // 5. The node: the pod's eviction is the incident, and the kill a part of it.
    let mut evicted = ended(killed(), 0);
    evicted.phase = PodPhase::Failed;
    evicted.reason = "Evicted".into();
    evicted.message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. Container web was using 480Mi, request is 0, has larger consumption of memory. ".into();
    let found = look(&evicted, &[], 101);
    assert_eq!(markers(&found), [MarkerKind::PodEnded]);
    assert_eq!(
        cause(found),
        Cause::Evicted {
            resource: "memory".into()
        }
    );
    // 6. Nobody knows: never called out of memory.
    let plain = only(look(&restarted(killed(), 0), &[], 104));
    assert_eq!(plain.cause, Cause::Killed);
    assert_eq!(plain.cause.report_type(), "killed");
    assert_eq!(plain.severity(), Severity::Medium);
}

#[test]
fn an_oom_proof_of_another_time_or_container_proves_nothing() {
    let killed = restarted(dead(137, "Error", 100, 0), 0);
    let mut other_pod = proof(100, "web-0");
    other_pod.pod_uid = "other".into();
    let mut by_name = proof(100, "");
    by_name.container = "sidecar".into();
    for (name, proof) in [
        ("another container", proof(100, "sidecar-0")),
        ("long before", proof(80, "web-0")),
        ("long after", proof(120, "web-0")),
        ("another pod", other_pod),
        ("another name", by_name),
    ] {
        assert_eq!(
            only(with_proofs(&killed, &[proof], 104)).cause,
            Cause::Killed,
            "{name}"
        );
    }
    let named = proof(100, "");
    assert_eq!(
        only(with_proofs(&killed, &[named], 104)).cause.class(),
        "out_of_memory"
    );
}

#[test]
fn an_oom_proof_does_not_explain_an_exit_by_itself() {
    // A worker was killed, and the main process then gave up with exit 1.
    let occurrence = only(with_proofs(
        &restarted(dead(1, "Error", 100, 0), 0),
        &[proof(99, "web-0")],
        104,
    ));
    assert_eq!(occurrence.cause.detail(), "exit 1");
}

#[test]
fn row_5_a_probe_kill_explains_the_run_it_was_about_and_no_other() {
    let killing = |secs| {
        event(
            "Killing",
            "Container web failed liveness probe, will be restarted",
            secs,
        )
    };
    let class = |secs, code| {
        let pod_now = restarted(dead(code, "Error", 100, 0), 0);
        only(look(&pod_now, &[killing(secs)], 200)).cause.class()
    };
    assert_eq!(class(100, 137), "probe_kill");
    assert_eq!(class(72, 143), "probe_kill");
    // A server that stops cleanly when it is told to was killed by the probe all the same.
    assert_eq!(class(72, 0), "probe_kill");
    assert_eq!(class(60, 137), "killed");
    assert_eq!(class(150, 143), "terminated");
    // A kubelet that names no container in the field path names it in the text.
    let mut nameless = killing(90);
    nameless.object.container = "".into();
    let pod_now = restarted(dead(137, "Error", 100, 0), 0);
    assert_eq!(
        only(look(&pod_now, &[nameless], 200)).cause.class(),
        "probe_kill"
    );
    let mut of_other_container = killing(90);
    of_other_container.object.container = "sidecar".into();
    assert_eq!(
        only(look(&pod_now, &[of_other_container], 200)).cause,
        Cause::Killed
    );
}

#[test]
fn row_5_a_stop_within_the_grace_of_a_deletion_is_planned() {
    for code in [0, 1, 130, 137, 143] {
        let mut deleted = ended(dead(code, "Error", 72, 0), 0);
        deleted.deletion = Some(deletion(70));
        let found = look(&deleted, &[], 75);
        assert!(found.occurrences.is_empty(), "{code}");
        assert_eq!(markers(&found), [MarkerKind::Deleted], "{code}");
    }
}

#[test]
fn row_5_force_deletion_is_planned() {
    let mut deleted = ended(dead(137, "Error", 71, 0), 0);
    deleted.deletion = Some(tawny_model::observed::Deletion {
        due: at(70),
        grace_secs: Some(0),
    });
    let found = look(&deleted, &[], 72);
    assert!(found.occurrences.is_empty());
}

#[test]
fn a_crash_before_the_deletion_stays_a_crash() {
    let mut deleted = ended(dead(139, "Error", 60, 0), 0);
    deleted.deletion = Some(deletion(70));
    assert_eq!(only(look(&deleted, &[], 72)).cause.detail(), "SIGSEGV");
}

#[test]
fn a_node_with_a_slow_clock_does_not_turn_a_deletion_into_a_crash() {
    // The node's clock is 2 min behind the API server's: by their times, the container died before the deletion.
    let mut deleting = pod();
    deleting.deletion = Some(deletion(200));
    let mut over = ended(dead(143, "Error", 85, 0), 0);
    over.deletion = Some(deletion(200));
    let found = detect::pod(Some(&deleting), &over, Evidence::default(), &context(206));
    assert!(found.occurrences.is_empty());
    // Not seen in between, but the kubelet said what it did.
    let stopping = event("Killing", "Stopping container web", 84);
    assert!(look(&over, &[stopping], 206).occurrences.is_empty());
}

#[test]
fn a_node_with_a_fast_clock_keeps_its_time_and_loses_nothing() {
    let occurrence = only(look(&restarted(dead(1, "Error", 5_000, 0), 0), &[], 100));
    assert_eq!(occurrence.at, at(5_000));
}

#[test]
fn sigterm_outside_a_deletion_is_terminated() {
    // Section 4.3 row 143.
    let occurrence = only(look(&restarted(dead(143, "Error", 100, 0), 0), &[], 104));
    assert_eq!(occurrence.cause, Cause::Terminated);
    assert_eq!(occurrence.severity(), Severity::Medium);
    assert_eq!(occurrence.cause.report_type(), "crash");
}

#[test]
fn a_container_replaced_in_place_is_planned() {
    let killing = event(
        "Killing",
        "Container web definition changed, will be restarted",
        98,
    );
    let found = look(&restarted(dead(143, "Error", 100, 0), 0), &[killing], 104);
    assert!(found.occurrences.is_empty());
    assert_eq!(markers(&found), [MarkerKind::Replaced]);
}

#[test]
fn row_6_init_container_failure() {
    let mut starting = pod();
    starting.phase = PodPhase::Pending;
    starting.conditions.push(condition(
        "Initialized",
        ConditionStatus::False,
        "ContainersNotInitialized",
        0,
    ));
    starting.containers[0].state = waiting("PodInitializing", "");
    let init = ContainerState {
        kind: ContainerKind::Init,
        name: "migrate".into(),
        restart_count: 1,
        state: waiting(
            "CrashLoopBackOff",
            "back-off 10s restarting failed container=migrate",
        ),
        last: Some(Terminated {
            container_id: id("migrate", 1),
            ..dead(1, "Error", 20, 1)
        }),
        ..ContainerState::default()
    };
    starting.containers.insert(0, init);
    let occurrence = only(look(&starting, &[], 200));
    assert_eq!(occurrence.cause.class(), "init_failure");
    assert_eq!(occurrence.severity(), Severity::High);
    assert_eq!(occurrence.subject.container_kind, Some(ContainerKind::Init));
    assert_eq!(&*occurrence.subject.container, "migrate");
}

#[test]
fn row_6_native_sidecars_are_like_app_containers_but_may_end_after_them() {
    let sidecar = |code, finished| ContainerState {
        kind: ContainerKind::Sidecar,
        name: "proxy".into(),
        state: tawny_model::observed::Run::Terminated(Terminated {
            container_id: id("proxy", 0),
            ..dead(code, "Error", finished, 0)
        }),
        ..ContainerState::default()
    };
    let mut crashed = pod();
    crashed.containers.push(sidecar(1, 50));
    assert_eq!(only(look(&crashed, &[], 51)).cause.class(), "crash");
    let mut completed = pod();
    completed.containers.push(sidecar(0, 50));
    assert_eq!(
        only(look(&completed, &[], 51)).cause,
        Cause::UnexpectedCompletion
    );
    for code in [0, 137, 143] {
        let mut done = ended(dead(0, "Completed", 100, 0), 0);
        done.restart_policy = RestartPolicy::Never;
        done.containers.push(sidecar(code, 130));
        assert!(look(&done, &[], 131).occurrences.is_empty(), "{code}");
    }
}

#[test]
fn ephemeral_containers_crash_but_leaving_their_shell_is_nothing() {
    let debug = |code| {
        let mut debugged = pod();
        debugged.containers.push(ContainerState {
            kind: ContainerKind::Ephemeral,
            name: "debugger".into(),
            state: tawny_model::observed::Run::Terminated(Terminated {
                container_id: id("debugger", 0),
                ..dead(code, "Error", 50, 0)
            }),
            ..ContainerState::default()
        });
        look(&debugged, &[], 51)
    };
    assert!(debug(0).occurrences.is_empty());
    assert!(debug(130).occurrences.is_empty());
    assert!(debug(137).occurrences.is_empty());
    let crash = only(debug(139));
    assert_eq!(crash.subject.container_kind, Some(ContainerKind::Ephemeral));
}

#[test]
fn lost_containers_are_neither_killed_nor_out_of_memory() {
    // Section 4.3 row 255.
    let unknown = Terminated {
        exit_code: 137,
        reason: "ContainerStatusUnknown".into(),
        message: "The container could not be located when the pod was terminated".into(),
        ..Terminated::default()
    };
    let mut waiting_again = restarted(unknown.clone(), 0);
    waiting_again.containers[0].state = waiting("ContainerCreating", "");
    let first = only(look(&waiting_again, &[], 100));
    assert_eq!(first.cause, Cause::Lost);
    // The kubelet counts the restart at once, so the key stays the same when the next run begins.
    let second = only(look(&restarted(unknown, 0), &[], 110));
    assert_eq!(first.key, second.key);
    let after_reboot = only(look(&restarted(dead(255, "Unknown", 100, 0), 0), &[], 104));
    assert_eq!(after_reboot.cause, Cause::Lost);
    let own_255 = only(look(&restarted(dead(255, "Error", 100, 0), 0), &[], 104));
    assert_eq!(own_255.cause.detail(), "exit 255");
}

#[test]
fn a_lost_run_has_its_own_number_wherever_the_kubelet_shows_it() {
    // `convertToAPIContainerStatuses` and `TerminatePod` of the kubelet: the count is ahead by one while the pod lives.
    let unknown = Terminated {
        exit_code: 137,
        reason: "ContainerStatusUnknown".into(),
        ..Terminated::default()
    };
    let restart = |pod_now: &PodState| only(look(pod_now, &[], 100)).run.unwrap().restart;
    let mut in_state = ended(unknown.clone(), 1);
    assert_eq!(restart(&in_state), 0);
    assert_eq!(restart(&restarted(unknown, 0)), 0);
    in_state.phase = PodPhase::Failed;
    in_state.containers[0].restart_count = 0;
    assert_eq!(restart(&in_state), 0);
    in_state.phase = PodPhase::Running;
    in_state.deletion = Some(deletion(90));
    assert!(look(&in_state, &[], 100).occurrences.is_empty());
}

#[test]
fn bb_8_a_restart_count_that_grew_is_a_death_even_without_any_state() {
    let mut grown = pod();
    grown.containers[0].restart_count = 1;
    let occurrence = only(look(&grown, &[], 100));
    assert_eq!(occurrence.cause.detail(), "unknown exit");
    assert_eq!(occurrence.run.unwrap().restart, 0);
    // At the first look a count alone says nothing of when.
    let first = detect::pod(None, &grown, Evidence::default(), &context(100));
    assert!(first.occurrences.is_empty());
}

#[test]
fn restart_counts_that_go_down_are_no_death() {
    let mut before = pod();
    before.containers[0].restart_count = 7;
    let mut after = pod();
    after.containers[0].restart_count = 2;
    let found = detect::pod(Some(&before), &after, Evidence::default(), &context(100));
    assert!(found.occurrences.is_empty());
}

#[test]
fn renamed_containers_and_reused_pod_names_are_not_compared() {
    let mut renamed = pod();
    renamed.containers = vec![container("api")];
    renamed.containers[0].restart_count = 3;
    assert!(look(&renamed, &[], 100).occurrences.is_empty());
    let mut recreated = pod();
    recreated.uid = "another".into();
    recreated.containers[0].restart_count = 3;
    assert!(look(&recreated, &[], 100).occurrences.is_empty());
}

#[test]
fn a_pod_first_seen_dead_is_existing_only_if_it_died_before_watching_began() {
    // Section 4.5, row "Baseline".
    let over = ended(dead(1, "Error", 100, 0), 0);
    let first = |watching_since, over: &PodState| {
        let context = crate::Context {
            watching_since: at(watching_since),
            ..context(300)
        };
        only(detect::pod(None, over, Evidence::default(), &context)).existing
    };
    assert!(first(200, &over));
    assert!(!first(50, &over));
    let mut timeless = dead(1, "Error", 100, 0);
    timeless.finished_at = None;
    assert!(first(50, &ended(timeless, 0)));
}

#[test]
fn a_death_of_a_pod_seen_before_is_news_whatever_the_nodes_clock_says() {
    let context = crate::Context {
        watching_since: at(200),
        ..context(300)
    };
    let over = ended(dead(1, "Error", 100, 0), 0);
    let found = detect::pod(Some(&pod()), &over, Evidence::default(), &context);
    assert!(!only(found).existing);
}

#[test]
fn events_without_a_uid_belong_to_no_pod() {
    let mut nobody = restarted(dead(137, "Error", 100, 0), 0);
    nobody.uid = "".into();
    let mut killing = event("Killing", "Container web failed liveness probe", 90);
    killing.object.uid = "".into();
    assert_eq!(only(look(&nobody, &[killing], 101)).cause, Cause::Killed);
}

#[test]
fn statuses_with_every_field_missing_are_survived() {
    let empty: PodState = serde_json::from_str("{}").unwrap();
    let found = detect::pod(None, &empty, Evidence::default(), &context(0));
    assert!(found.occurrences.is_empty());
    let bare = PodState {
        containers: vec![ContainerState {
            state: tawny_model::observed::Run::Terminated(Terminated::default()),
            last: Some(Terminated {
                exit_code: 1,
                ..Terminated::default()
            }),
            ..ContainerState::default()
        }],
        ..PodState::default()
    };
    let found = detect::pod(Some(&empty), &bare, Evidence::default(), &context(0));
    let classes: Vec<_> = found
        .occurrences
        .iter()
        .map(|it| it.cause.class())
        .collect();
    assert_eq!(classes, ["crash", "unexpected_completion"]);
}

#[test]
fn an_application_error_is_medium_once_and_high_when_it_comes_back() {
    // Section 4.3 row 1.
    let mut once = ended(dead(1, "Error", 100, 0), 0);
    once.restart_policy = RestartPolicy::Never;
    let occurrence = only(look(&once, &[], 101));
    assert_eq!(occurrence.severity(), Severity::Medium);
    assert!(!occurrence.run.unwrap().restarting);
    once.restart_policy = RestartPolicy::OnFailure;
    assert_eq!(only(look(&once, &[], 101)).severity(), Severity::High);
}

#[test]
fn row_5_a_probe_that_ended_a_pod_for_good_is_named_though_the_kubelet_only_says_that_it_stops_it()
{
    let unhealthy = |probe: &str| event("Unhealthy", &format!("{probe} probe failed: no"), 98);
    let stopping = event("Killing", "Stopping container web", 98);
    let class = |pod_now: &PodState, probe: &str| {
        let events = [unhealthy(probe), stopping.clone()];
        only(look(pod_now, &events, 104)).cause
    };
    let over = ended(dead(137, "Error", 100, 0), 0);
    for (name, probe) in [("Liveness", Probe::Liveness), ("Startup", Probe::Startup)] {
        assert_eq!(class(&over, name), Cause::ProbeKill { probe });
    }
    assert_eq!(class(&over, "Readiness"), Cause::Killed);
    let mut deleted = over;
    deleted.deletion = Some(deletion(97));
    let events = [unhealthy("Liveness"), stopping];
    assert!(look(&deleted, &events, 104).occurrences.is_empty());
}

#[test]
fn row_8_a_failed_post_start_hook_is_told_whatever_code_the_container_ends_with() {
    let failed = event("FailedPostStartHook", "Exec lifecycle hook failed", 99);
    for code in [0, 1, 137] {
        let pod_now = restarted(dead(code, "Error", 100, 0), 0);
        let cause = only(look(&pod_now, std::slice::from_ref(&failed), 104)).cause;
        assert_eq!(cause.detail(), "PostStartHookError", "{code}");
    }
}

#[test]
fn row_1_a_run_that_the_status_skips_is_counted_with_the_one_that_follows_it() {
    // Seen running for the first time, and then dead for the second.
    let mut pod_now = ended(dead(1, "Error", 100, 1), 1);
    pod_now.containers[0].state = waiting("CrashLoopBackOff", "back-off 10s restarting");
    pod_now.containers[0].last = Some(dead(1, "Error", 100, 1));
    let found = look(&pod_now, &[], 104);
    let runs: Vec<(u32, bool)> = (found.occurrences.iter())
        .map(|it| it.run.as_ref().unwrap())
        .map(|run| (run.restart, run.exit.is_some()))
        .collect();
    assert_eq!(runs, [(1, true), (0, false)]);
    let mut book = crate::Book::new();
    book.observe(found, at(104));
    let incidents: Vec<_> = book.incidents().collect();
    assert_eq!((incidents.len(), incidents[0].count), (1, 2));
    // Told at a look before: not again.
    let before = restarted(dead(1, "Error", 60, 0), 0);
    let found = detect::pod(Some(&before), &pod_now, evidence(&[]), &context(104));
    assert_eq!(found.occurrences.len(), 1);
    // A count that jumps is the kubelet's, and no row of deaths.
    pod_now.containers[0].restart_count = 40;
    assert_eq!(look(&pod_now, &[], 104).occurrences.len(), 1);
}
