//! Rows 7 to 15, 20 and 21: pods that do not start, do not serve, or were taken away.

use tawny_model::observed::{
    Condition, ConditionStatus, ContainerKind, ContainerState, NamespaceState, PodPhase, PodState,
};

use crate::{
    Cause, Context, Evidence, Findings, MarkerKind, Severity,
    cause::Probe,
    detect,
    message::{MountFailure, PullFailure},
    testing::*,
};

#[test]
fn row_7_image_pull_reasons_are_one_cause_with_the_image_as_detail() {
    let pull = "rpc error: code = NotFound desc = failed to pull and unpack image \"registry.test/api:1.4\": failed to resolve reference \"registry.test/api:1.4\": registry.test/api:1.4: not found";
    let first = only(look(&with_state(waiting("ErrImagePull", pull)), &[], 10));
    assert_eq!(
        first.cause,
        Cause::ImagePull {
            image: "registry.test/api:1.4".into(),
            failure: PullFailure::NotFound
        }
    );
    assert_eq!(first.severity(), Severity::High);
    let backing_off = with_state(waiting(
        "ImagePullBackOff",
        "Back-off pulling image \"registry.test/api:1.4\"",
    ));
    let second = only(look(&backing_off, &[], 30));
    assert_eq!(first.key, second.key);
    assert_eq!(first.cause.detail(), second.cause.detail());
    for reason in [
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    ] {
        let occurrence = only(look(&with_state(waiting(reason, "")), &[], 10));
        assert_eq!(occurrence.cause.class(), "image_pull", "{reason}");
    }
}

#[test]
fn row_7_the_event_remembers_why_while_the_status_backs_off() {
    let backing_off = with_state(waiting(
        "ImagePullBackOff",
        "Back-off pulling image \"registry.test/api:1.4\"",
    ));
    let failed = event(
        "Failed",
        "Failed to pull image \"registry.test/api:1.4\": failed to authorize: 401 Unauthorized",
        20,
    );
    let noise = event("Failed", "Error: ErrImagePull", 21);
    let occurrence = only(look(&backing_off, &[failed, noise], 30));
    assert!(matches!(
        occurrence.cause,
        Cause::ImagePull {
            failure: PullFailure::Unauthorized,
            ..
        }
    ));
    assert_eq!(occurrence.at, at(20));
}

#[test]
fn row_8_config_errors_name_the_missing_object() {
    let missing = with_state(waiting(
        "CreateContainerConfigError",
        "secret \"db-credentials\" not found",
    ));
    let occurrence = only(look(&missing, &[], 10));
    assert_eq!(occurrence.cause.class(), "config");
    assert_eq!(occurrence.cause.detail(), "secret \"db-credentials\"");
    let root = with_state(waiting(
        "CreateContainerConfigError",
        "container has runAsNonRoot and image will run as root (pod: \"x\", container: web)",
    ));
    assert_eq!(
        only(look(&root, &[], 10)).cause.detail(),
        "CreateContainerConfigError"
    );
    for reason in [
        "CreateContainerError",
        "RunContainerError",
        "PreCreateHookError",
        "PreStartHookError",
        "PostStartHookError",
    ] {
        let occurrence = only(look(&with_state(waiting(reason, "")), &[], 10));
        assert_eq!(occurrence.cause.detail(), reason);
        assert_eq!(occurrence.severity(), Severity::High);
    }
}

#[test]
fn row_8_a_command_that_cannot_start_is_one_death_and_no_second_trouble() {
    let mut start_error = dead(128, "StartError", 10, 0);
    start_error.message = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/app/missing\": stat /app/missing: no such file or directory: unknown".into();
    let mut pod_now = restarted(start_error.clone(), 0);
    pod_now.containers[0].state = waiting("RunContainerError", &start_error.message);
    let occurrence = only(look(&pod_now, &[], 11));
    assert_eq!(
        occurrence.cause,
        Cause::StartFailed {
            reason: "StartError".into()
        }
    );
    assert_eq!(occurrence.severity(), Severity::High);
    // Another trouble after it is one of its own.
    pod_now.containers[0].state = waiting("CreateContainerConfigError", "secret \"db\" not found");
    assert_eq!(look(&pod_now, &[], 20).occurrences.len(), 2);
    let cannot_run = only(look(
        &ended(dead(127, "ContainerCannotRun", 10, 0), 0),
        &[],
        11,
    ));
    assert_eq!(cannot_run.cause.class(), "start_failed");
}

#[test]
fn row_8_a_failed_post_start_hook_explains_the_kill_it_leads_to() {
    let killing = event("Killing", "FailedPostStartHook", 99);
    let found = look(&restarted(dead(137, "Error", 100, 0), 0), &[killing], 104);
    assert_eq!(only(found).cause.detail(), "PostStartHookError");
}

fn unready(started: Option<bool>) -> PodState {
    let mut pod = pod();
    pod.conditions = vec![
        condition("PodScheduled", ConditionStatus::True, "", 0),
        condition(
            "ContainersReady",
            ConditionStatus::False,
            "ContainersNotReady",
            60,
        ),
        condition("Ready", ConditionStatus::False, "ContainersNotReady", 60),
    ];
    pod.containers[0].ready = false;
    pod.containers[0].started = started;
    pod
}

#[test]
fn row_9_readiness_alone_waits_five_minutes() {
    let unhealthy = event(
        "Unhealthy",
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
        300,
    );
    let early = look(&unready(Some(true)), std::slice::from_ref(&unhealthy), 359);
    assert!(early.occurrences.is_empty());
    assert_eq!(early.recheck_at, Some(at(360)));
    let occurrence = only(look(&unready(Some(true)), &[unhealthy], 360));
    assert_eq!(
        occurrence.cause,
        Cause::Unready {
            probe: Probe::Readiness
        }
    );
    assert!(occurrence.message.contains("503"));
    assert_eq!(occurrence.at, at(60));
}

#[test]
fn row_9_without_any_ready_replica_one_minute_is_enough() {
    let evidence = Evidence {
        no_replica_ready: true,
        ..Evidence::default()
    };
    let found = detect::pod(Some(&pod()), &unready(Some(true)), evidence, &context(120));
    assert_eq!(only(found).cause.class(), "unready");
}

#[test]
fn row_9_a_startup_probe_that_does_not_pass_is_named() {
    let occurrence = only(look(&unready(Some(false)), &[], 360));
    assert_eq!(occurrence.cause.detail(), "startup");
}

#[test]
fn row_9_a_container_that_just_restarted_gets_its_time() {
    let mut restarted_late = unready(Some(true));
    restarted_late.containers[0].state = running(300);
    let found = look(&restarted_late, &[], 400);
    assert!(found.occurrences.is_empty());
    assert_eq!(found.recheck_at, Some(at(600)));
}

fn evicted(message: &str) -> PodState {
    let mut pod = pod();
    pod.phase = PodPhase::Failed;
    pod.reason = "Evicted".into();
    pod.message = message.into();
    pod.containers.clear();
    pod.conditions.push(Condition {
        message: message.into(),
        ..condition(
            "DisruptionTarget",
            ConditionStatus::True,
            "TerminationByKubelet",
            90,
        )
    });
    pod
}

#[test]
fn row_10_eviction_names_the_resource() {
    for (message, resource) in [
        (
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. ",
            "memory",
        ),
        (
            "The node was low on resource: ephemeral-storage. Container web was using 2Gi, which exceeds its request of 0. ",
            "ephemeral-storage",
        ),
        (
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            "ephemeral-storage limit",
        ),
        (
            "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Gi\". ",
            "emptyDir \"cache\" limit",
        ),
        ("The node had condition: [DiskPressure]. ", "DiskPressure"),
        ("", ""),
    ] {
        let occurrence = only(look(&evicted(message), &[], 100));
        assert_eq!(occurrence.cause.class(), "evicted");
        assert_eq!(occurrence.cause.detail(), resource);
        assert_eq!(occurrence.at, at(90));
        assert_eq!(occurrence.severity(), Severity::Medium);
    }
}

#[test]
fn row_10_what_crashed_before_the_eviction_stays_a_crash() {
    let mut pod_now = evicted("The node was low on resource: memory.");
    pod_now.containers = ended(dead(1, "Error", 80, 0), 0).containers;
    let found = look(&pod_now, &[], 100);
    let classes: Vec<_> = found
        .occurrences
        .iter()
        .map(|it| it.cause.class())
        .collect();
    assert_eq!(classes, ["evicted", "crash"]);
}

#[test]
fn row_11_planned_disruptions_are_markers() {
    for (reason, kind) in [
        ("PreemptionByScheduler", MarkerKind::Preempted),
        ("DeletionByTaintManager", MarkerKind::TaintEviction),
        ("EvictionByEvictionAPI", MarkerKind::ApiEviction),
        ("DeletionByPodGC", MarkerKind::GarbageCollected),
    ] {
        let mut pod_now = ended(dead(143, "Error", 72, 0), 0);
        pod_now.deletion = Some(deletion(70));
        pod_now.conditions.push(condition(
            "DisruptionTarget",
            ConditionStatus::True,
            reason,
            70,
        ));
        let found = look(&pod_now, &[], 75);
        assert!(found.occurrences.is_empty(), "{reason}");
        let kinds: Vec<_> = found.markers.iter().map(|marker| marker.kind).collect();
        assert_eq!(kinds, [kind, kind], "{reason}");
    }
}

#[test]
fn row_12_pods_the_kubelet_refuses_are_low() {
    for reason in [
        "OutOfcpu",
        "OutOfmemory",
        "OutOfpods",
        "OutOfephemeral-storage",
        "NodeAffinity",
        "NodePorts",
        "UnexpectedAdmissionError",
        "TopologyAffinityError",
        "SMTAlignmentError",
        "PodLevelResourcesNotSupported",
        "NodeShutdown",
        "Terminated",
        "NodeLost",
        "Preempting",
    ] {
        let mut pod_now = pod();
        pod_now.phase = PodPhase::Failed;
        pod_now.reason = reason.into();
        pod_now.containers.clear();
        let occurrence = only(look(&pod_now, &[], 100));
        assert_eq!(occurrence.cause.class(), "rejected");
        assert_eq!(occurrence.cause.detail(), reason);
        assert_eq!(occurrence.severity(), Severity::Low);
    }
}

#[test]
fn row_12_a_pod_past_its_deadline_is_one_incident_and_not_one_per_container() {
    let mut pod_now = ended(dead(137, "Error", 100, 0), 0);
    pod_now.phase = PodPhase::Failed;
    pod_now.reason = "DeadlineExceeded".into();
    pod_now.message = "Pod was active on the node longer than the specified deadline".into();
    let occurrence = only(look(&pod_now, &[], 101));
    assert_eq!(occurrence.cause, Cause::Deadline);
    assert_eq!(occurrence.cause.report_type(), "timeout");
}

#[test]
fn bb_7_a_failed_pod_without_reason_is_told_by_its_containers() {
    let mut pod_now = ended(dead(3, "Error", 100, 0), 0);
    pod_now.phase = PodPhase::Failed;
    pod_now.restart_policy = tawny_model::observed::RestartPolicy::Never;
    assert_eq!(only(look(&pod_now, &[], 101)).cause.detail(), "exit 3");
}

fn unscheduled(reason: &str, message: &str) -> PodState {
    let mut pod = pod();
    pod.phase = PodPhase::Pending;
    pod.node = "".into();
    pod.containers.clear();
    pod.conditions = vec![Condition {
        message: message.into(),
        ..condition("PodScheduled", ConditionStatus::False, reason, 10)
    }];
    pod
}

#[test]
fn row_13_unschedulable_opens_after_a_minute_with_counts_per_cause() {
    let pending = unscheduled(
        "Unschedulable",
        "0/5 nodes are available: 3 Insufficient cpu, 2 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }. preemption: 0/5 nodes are available: 5 Preemption is not helpful for scheduling.",
    );
    let early = look(&pending, &[], 69);
    assert!(early.occurrences.is_empty());
    assert_eq!(early.recheck_at, Some(at(70)));
    let occurrence = only(look(&pending, &[], 70));
    let Cause::Unschedulable { refusals } = &occurrence.cause else {
        panic!("{:?}", occurrence.cause);
    };
    assert_eq!(refusals.get("Insufficient cpu"), Some(&3));
    assert_eq!(refusals.len(), 2);
    assert_eq!(occurrence.at, at(10));
    // The nodes that refuse change while the same pod waits.
    let later = only(look(
        &unscheduled(
            "Unschedulable",
            "0/5 nodes are available: 5 Insufficient cpu.",
        ),
        &[],
        90,
    ));
    assert_eq!(later.key, occurrence.key);
}

#[test]
fn row_13_a_scheduler_that_only_writes_events_is_heard() {
    let mut pending = unscheduled("", "");
    pending.conditions.clear();
    let failed = event(
        "FailedScheduling",
        "0/1 nodes are available: 1 Insufficient memory.",
        20,
    );
    let occurrence = only(look(&pending, &[failed], 60));
    assert_eq!(occurrence.cause.detail(), "Insufficient memory");
}

#[test]
fn row_13_gated_pods_wait_on_purpose_and_are_low_after_five_minutes() {
    let gated = unscheduled(
        "SchedulingGated",
        "Scheduling is blocked due to non-empty scheduling gates",
    );
    assert!(look(&gated, &[], 309).occurrences.is_empty());
    let occurrence = only(look(&gated, &[], 310));
    assert_eq!(occurrence.cause, Cause::Gated);
    assert_eq!(occurrence.severity(), Severity::Low);
}

#[test]
fn row_14_a_missing_volume_opens_after_two_minutes() {
    let creating = with_state(waiting("ContainerCreating", ""));
    let failed = event(
        "FailedMount",
        "MountVolume.SetUp failed for volume \"tls\" : secret \"web-tls\" not found",
        60,
    );
    let early = look(&creating, std::slice::from_ref(&failed), 119);
    assert!(early.occurrences.is_empty());
    assert_eq!(early.recheck_at, Some(at(120)));
    let occurrence = only(look(&creating, &[failed], 120));
    assert_eq!(
        occurrence.cause,
        Cause::Volume {
            object: "secret \"web-tls\"".into(),
            failure: MountFailure::ObjectMissing
        }
    );
}

#[test]
fn row_14_slow_creation_without_any_event_is_told_as_such() {
    let creating = with_state(waiting("ContainerCreating", ""));
    let occurrence = only(look(&creating, &[], 120));
    assert_eq!(occurrence.cause, Cause::SlowCreation);
    let pulling = event("Pulling", "Pulling image \"registry.test/api:1.4\"", 20);
    let found = look(&creating, &[pulling], 120);
    assert!(found.occurrences.is_empty());
    assert_eq!(found.recheck_at, Some(at(300)));
}

#[test]
fn row_14_waiting_for_an_init_container_at_work_is_no_trouble_of_volumes() {
    let mut starting = with_state(waiting("PodInitializing", ""));
    starting.containers.insert(
        0,
        ContainerState {
            kind: ContainerKind::Init,
            name: "migrate".into(),
            state: running(2),
            ..ContainerState::default()
        },
    );
    assert!(look(&starting, &[], 200).occurrences.is_empty());
    let late = only(look(&starting, &[], 300));
    assert_eq!(late.cause, Cause::Pending);
    assert_eq!(&*late.subject.container, "migrate");
}

#[test]
fn row_14_a_container_that_has_run_is_not_slow_to_create_because_its_pod_is_old() {
    let mut again = restarted(dead(255, "Unknown", 5_000, 0), 0);
    again.containers[0].state = waiting("ContainerCreating", "");
    again.containers[0].ready = false;
    assert_eq!(only(look(&again, &[], 5_001)).cause, Cause::Lost);
}

#[test]
fn row_15_sandbox_failures_are_grouped_by_node_and_template() {
    let creating = with_state(waiting("ContainerCreating", ""));
    let failed = |sandbox: &str| {
        event(
            "FailedCreatePodSandBox",
            &format!(
                "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox \"{sandbox}\": plugin type=\"bridge\" failed (add): no IP addresses available"
            ),
            50,
        )
    };
    let early = look(&creating, &[failed("0a1b2c3d4e5f")], 59);
    assert!(early.occurrences.is_empty());
    assert_eq!(early.recheck_at, Some(at(60)));
    let first = only(look(&creating, &[failed("0a1b2c3d4e5f")], 60));
    let second = only(look(&creating, &[failed("99aa88bb77cc")], 90));
    assert_eq!(first.cause, second.cause);
    assert_eq!(first.key, second.key);
    assert_eq!(first.cause.class(), "sandbox");
    for reason in [
        "NetworkNotReady",
        "HostPortConflict",
        "DNSConfigForming",
        "FailedKillPod",
    ] {
        let found = look(&creating, &[event(reason, "no", 50)], 60);
        assert_eq!(only(found).cause.class(), "sandbox", "{reason}");
    }
}

#[test]
fn row_20_a_pod_that_stays_a_minute_after_it_was_due_is_stuck() {
    let mut deleting = pod();
    deleting.deletion = Some(deletion(100));
    deleting.finalizers = vec!["example.test/hold".into()];
    let early = look(&deleting, &[], 189);
    assert!(early.occurrences.is_empty());
    assert_eq!(early.recheck_at, Some(at(190)));
    let occurrence = only(look(&deleting, &[], 190));
    assert_eq!(occurrence.cause.class(), "stuck_terminating");
    assert_eq!(occurrence.cause.detail(), "finalizers");
    assert_eq!(occurrence.at, at(130));
    // Without a finalizer the kubelet's next sync takes it away.
    deleting.finalizers.clear();
    assert!(look(&deleting, &[], 309).occurrences.is_empty());
    assert_eq!(only(look(&deleting, &[], 310)).cause.detail(), "");
}

#[test]
fn row_20_a_namespace_that_cannot_go_says_what_holds_it() {
    let mut stuck = NamespaceState {
        uid: "ns".into(),
        name: "old".into(),
        deletion: Some(tawny_model::observed::Deletion {
            due: at(0),
            grace_secs: None,
        }),
        conditions: vec![Condition {
            message: "Some content in the namespace has finalizers remaining: example.test/hold in 1 resource instances".into(),
            ..condition("NamespaceFinalizersRemaining", ConditionStatus::True, "SomeFinalizersRemain", 5)
        }],
    };
    assert_eq!(
        detect::namespace(&stuck, &context(59)).recheck_at,
        Some(at(60))
    );
    let occurrence = only(detect::namespace(&stuck, &context(60)));
    assert_eq!(occurrence.cause.class(), "stuck_terminating");
    assert!(occurrence.message.contains("example.test/hold"));
    stuck.conditions[0].status = ConditionStatus::False;
    assert!(
        detect::namespace(&stuck, &context(60))
            .occurrences
            .is_empty()
    );
}

#[test]
fn row_21_pending_for_five_minutes_is_the_last_resort() {
    let mut pending = pod();
    pending.phase = PodPhase::Pending;
    pending.containers.clear();
    pending.conditions.clear();
    let early = look(&pending, &[], 299);
    assert!(early.occurrences.is_empty());
    assert_eq!(early.recheck_at, Some(at(300)));
    assert_eq!(only(look(&pending, &[], 300)).cause, Cause::Pending);
    // Not beside another reason.
    let image = with_state(waiting("ImagePullBackOff", ""));
    assert_eq!(only(look(&image, &[], 900)).cause.class(), "image_pull");
}

#[test]
fn a_quiet_pod_and_its_normal_end_find_nothing() {
    let nothing = |found: Findings| {
        assert!(found.occurrences.is_empty(), "{:?}", found.occurrences);
        assert_eq!(found.recheck_at, None);
    };
    nothing(look(&pod(), &[], 10_000));
    let mut done = ended(dead(0, "Completed", 90, 0), 0);
    done.phase = PodPhase::Succeeded;
    nothing(look(&done, &[], 10_000));
}

#[test]
fn what_is_wrong_with_a_pod_that_is_leaving_does_not_matter() {
    let mut leaving = with_state(waiting("ImagePullBackOff", ""));
    leaving.deletion = Some(deletion(100));
    assert!(look(&leaving, &[], 110).occurrences.is_empty());
    let mut over = with_state(waiting("ContainerCreating", ""));
    over.phase = PodPhase::Failed;
    assert!(look(&over, &[], 1_000).occurrences.is_empty());
}

#[test]
fn trouble_that_was_there_when_watching_began_is_existing() {
    let stuck = with_state(waiting("CreateContainerConfigError", ""));
    let since = |watching_since| {
        let context = Context {
            watching_since: at(watching_since),
            ..context(500)
        };
        only(detect::pod(None, &stuck, Evidence::default(), &context)).existing
    };
    assert!(since(400));
    assert!(!since(-5));
}

#[test]
fn events_about_another_pod_of_the_same_name_are_left_aside() {
    let mut killing = event(
        "Killing",
        "Container web failed liveness probe, will be restarted",
        99,
    );
    killing.object.uid = "its-predecessor".into();
    let found = look(&restarted(dead(137, "Error", 100, 0), 0), &[killing], 104);
    assert_eq!(only(found).cause, Cause::Killed);
}
