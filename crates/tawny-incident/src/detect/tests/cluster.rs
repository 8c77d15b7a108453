//! Rows 16 to 19, 22 and 24, and what events tell by themselves.

use tawny_model::observed::{
    Condition, ConditionStatus, CronJobState, HpaState, JobState, KubeEvent, NodeState,
    WorkloadState,
};

use crate::{
    Cause, Findings, Health, MarkerKind, Scope, Severity, Subject,
    cause::Refusal,
    detect::{self, CollectorTrouble, EventContext},
    testing::*,
};

fn node(kind: &str, status: ConditionStatus) -> NodeState {
    NodeState {
        name: "n1".into(),
        created: Some(at(LONG_AGO)),
        conditions: vec![
            condition("MemoryPressure", ConditionStatus::False, "", 0),
            condition("Ready", ConditionStatus::True, "KubeletReady", 0),
            condition(kind, status, "", 50),
        ],
    }
}

fn hear(event: &KubeEvent) -> Findings {
    detect::event(event, EventContext::default(), &context(200))
}

#[test]
fn row_16_each_bad_node_condition_is_one_occurrence_per_turn() {
    for (kind, status, severity) in [
        ("Ready", ConditionStatus::False, Severity::Critical),
        ("Ready", ConditionStatus::Unknown, Severity::Critical),
        ("MemoryPressure", ConditionStatus::True, Severity::High),
        ("DiskPressure", ConditionStatus::True, Severity::High),
        ("PIDPressure", ConditionStatus::True, Severity::High),
        ("NetworkUnavailable", ConditionStatus::True, Severity::High),
        ("KernelDeadlock", ConditionStatus::True, Severity::High),
        ("ReadonlyFilesystem", ConditionStatus::True, Severity::High),
    ] {
        let found = detect::node(&node(kind, status), &context(60));
        assert_eq!(
            found.health,
            [(Scope::Node("n1".into()), Health::Unhealthy)]
        );
        let occurrence = only(found);
        assert_eq!(occurrence.cause.detail(), kind);
        assert_eq!(occurrence.severity(), severity);
        assert_eq!(occurrence.at, at(50));
    }
    let healthy = detect::node(&node("DiskPressure", ConditionStatus::False), &context(60));
    assert!(healthy.occurrences.is_empty());
    assert_eq!(
        healthy.health,
        [(Scope::Node("n1".into()), Health::Healthy)]
    );
}

#[test]
fn row_16_a_node_that_just_joined_may_not_be_ready_yet() {
    let mut joining = node("Ready", ConditionStatus::False);
    joining.conditions.remove(1);
    joining.created = Some(at(0));
    let found = detect::node(&joining, &context(60));
    assert!(found.occurrences.is_empty());
    assert_eq!(found.recheck_at, Some(at(120)));
    assert_eq!(detect::node(&joining, &context(120)).occurrences.len(), 1);
}

#[test]
fn row_16_node_events_that_no_condition_shows() {
    for reason in [
        "Rebooted",
        "SystemOOM",
        "FreeDiskSpaceFailed",
        "ImageGCFailed",
        "ContainerGCFailed",
        "KubeletSetupFailed",
        "TaskHung",
    ] {
        let occurrence = only(hear(&event_of("Node", "n1", reason, "it did")));
        assert_eq!(occurrence.cause.detail(), reason);
        assert_eq!(&*occurrence.subject.node, "n1");
    }
    let system_oom = only(hear(&event_of(
        "Node",
        "n1",
        "SystemOOM",
        "System OOM encountered, victim process: java, pid: 4242",
    )));
    assert_eq!(system_oom.cause.report_type(), "oom");
    let threshold = only(hear(&event_of(
        "Node",
        "n1",
        "EvictionThresholdMet",
        "Attempting to reclaim memory",
    )));
    assert_eq!(threshold.cause.detail(), "MemoryPressure");
}

#[test]
fn row_16_what_kubelets_always_say_and_what_conditions_show_is_no_news() {
    let invalid = |count| {
        let mut event = event_of(
            "Node",
            "n1",
            "InvalidDiskCapacity",
            "invalid capacity 0 on image filesystem",
        );
        event.count = count;
        hear(&event).occurrences.len()
    };
    assert_eq!((invalid(1), invalid(3)), (0, 1));
    let within_limit = event_of(
        "Node",
        "n1",
        "OOMKilling",
        "Memory cgroup out of memory: Killed process 4242 (java)",
    );
    assert!(hear(&within_limit).occurrences.is_empty());
    let not_ready = event_of(
        "Node",
        "n1",
        "NodeNotReady",
        "Node n1 status is now: NodeNotReady",
    );
    assert_eq!(only(hear(&not_ready)).cause.detail(), "Ready");
    let about = EventContext {
        watches_nodes: true,
        ..EventContext::default()
    };
    assert!(
        detect::event(&not_ready, about, &context(200))
            .occurrences
            .is_empty()
    );
}

#[test]
fn an_event_counts_once_per_uid_and_count() {
    // Section 4.4, row "Dedup key".
    let mut event = event_of("Node", "n1", "Rebooted", "Node n1 has been rebooted");
    let first = only(hear(&event)).key;
    assert_eq!(only(hear(&event)).key, first);
    event.count = 2;
    assert_ne!(only(hear(&event)).key, first);
    event.uid = "".into();
    assert!(only(hear(&event)).key.contains("Rebooted"));
}

#[test]
fn row_17_a_failed_job_is_grouped_under_its_cron_job() {
    for reason in [
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "PodFailurePolicy",
        "FailedIndexes",
        "MaxFailedIndexesExceeded",
    ] {
        let job = JobState {
            uid: "uid-nightly-29254380".into(),
            namespace: "shop".into(),
            name: "nightly-29254380".into(),
            cron_job: Some("nightly".into()),
            failed: 7,
            conditions: vec![
                condition("FailureTarget", ConditionStatus::True, reason, 80),
                condition("Failed", ConditionStatus::True, reason, 90),
            ],
        };
        let occurrence = only(detect::job(&job, &context(100)));
        assert_eq!(occurrence.cause.detail(), reason);
        assert_eq!(
            occurrence.subject.workload,
            Some(workload("CronJob", "nightly"))
        );
        assert_eq!(occurrence.at, at(90));
        // The event says the same once more.
        let event = event_of("Job", "nightly-29254380", reason, "Job has reached …");
        assert_eq!(only(hear(&event)).key, occurrence.key);
    }
}

#[test]
fn row_17_a_job_that_completes_is_health_and_no_incident() {
    let job = JobState {
        name: "once".into(),
        namespace: "shop".into(),
        failed: 2,
        conditions: vec![condition("Complete", ConditionStatus::True, "", 90)],
        ..JobState::default()
    };
    let found = detect::job(&job, &context(100));
    assert!(found.occurrences.is_empty());
    let scope = Scope::Workload {
        namespace: "shop".into(),
        workload: workload("Job", "once"),
    };
    assert_eq!(found.health, [(scope, Health::Healthy)]);
    let at_work = JobState::default();
    assert_eq!(detect::job(&at_work, &context(100)), Findings::default());
}

#[test]
fn row_18_a_cron_job_two_runs_late_has_missed_its_schedule() {
    // Second 0 is 10:00:00.
    let cron = CronJobState {
        uid: "c".into(),
        namespace: "shop".into(),
        name: "nightly".into(),
        schedule: "*/10 * * * *".into(),
        last_schedule: Some(at(0)),
        created: Some(at(LONG_AGO)),
        ..CronJobState::default()
    };
    let early = detect::cron_job(&cron, &context(1_259));
    assert!(early.occurrences.is_empty());
    assert_eq!(early.recheck_at, Some(at(1_260)));
    let occurrence = only(detect::cron_job(&cron, &context(1_260)));
    assert_eq!(occurrence.cause.detail(), "MissSchedule");
    assert_eq!(occurrence.at, at(1_200));
    let suspended = CronJobState {
        suspended: true,
        ..cron.clone()
    };
    assert!(
        detect::cron_job(&suspended, &context(9_999))
            .occurrences
            .is_empty()
    );
    let bad = CronJobState {
        schedule: "every now and then".into(),
        ..cron.clone()
    };
    assert_eq!(
        only(detect::cron_job(&bad, &context(0))).cause.detail(),
        "UnparseableSchedule"
    );
    let fresh = CronJobState {
        last_schedule: None,
        created: Some(at(0)),
        ..cron
    };
    assert!(
        detect::cron_job(&fresh, &context(700))
            .occurrences
            .is_empty()
    );
}

#[test]
fn row_18_events_of_cron_jobs() {
    for reason in [
        "FailedNeedsStart",
        "TooManyMissedTimes",
        "MissSchedule",
        "UnparseableSchedule",
    ] {
        let occurrence = only(hear(&event_of("CronJob", "nightly", reason, "")));
        assert_eq!(occurrence.cause.detail(), reason);
        assert_eq!(
            occurrence.subject.workload,
            Some(workload("CronJob", "nightly"))
        );
    }
    let skipped = hear(&event_of(
        "CronJob",
        "nightly",
        "JobAlreadyActive",
        "Not starting job",
    ));
    assert!(skipped.occurrences.is_empty());
    assert_eq!(skipped.markers[0].kind, MarkerKind::RunSkipped);
}

fn deployment(conditions: Vec<Condition>) -> WorkloadState {
    WorkloadState {
        uid: "d".into(),
        namespace: "shop".into(),
        workload: workload("Deployment", "api"),
        desired: 3,
        ready: 3,
        conditions,
    }
}

#[test]
fn row_19_a_stuck_rollout_and_a_refused_pod() {
    let stuck = deployment(vec![Condition {
        message: "ReplicaSet \"api-5d4f8c7b9d\" has timed out progressing.".into(),
        ..condition(
            "Progressing",
            ConditionStatus::False,
            "ProgressDeadlineExceeded",
            600,
        )
    }]);
    let occurrence = only(detect::workload(&stuck, &context(601)));
    assert_eq!(occurrence.cause.detail(), "ProgressDeadlineExceeded");
    assert!(occurrence.cause.is_consequence());
    let refused = deployment(vec![Condition {
        message: "pods \"api-5d4f8c7b9d-\" is forbidden: exceeded quota: compute, requested: cpu=1, used: cpu=4, limited: cpu=4".into(),
        ..condition("ReplicaFailure", ConditionStatus::True, "FailedCreate", 600)
    }]);
    let occurrence = only(detect::workload(&refused, &context(601)));
    assert_eq!(
        occurrence.cause,
        Cause::Rollout {
            reason: "FailedCreate".into(),
            refusal: Refusal::Quota
        }
    );
    let fine = deployment(vec![condition(
        "Progressing",
        ConditionStatus::True,
        "NewReplicaSetAvailable",
        600,
    )]);
    let found = detect::workload(&fine, &context(601));
    assert!(found.occurrences.is_empty());
    assert_eq!(found.health[0].1, Health::Healthy);
    let short = WorkloadState { ready: 2, ..fine };
    assert_eq!(
        detect::workload(&short, &context(601)).health[0].1,
        Health::Unhealthy
    );
}

#[test]
fn row_19_failed_create_events_name_who_refuses_and_the_deployment() {
    for (message, refusal) in [
        (
            "Error creating: pods \"api-5d4f8c7b9d-abcde\" is forbidden: exceeded quota: q",
            Refusal::Quota,
        ),
        (
            "Error creating: pods \"api-5d4f8c7b9d-abcde\" is forbidden: violates PodSecurity \"restricted:latest\": privileged",
            Refusal::PodSecurity,
        ),
        (
            "Error creating: Internal error occurred: failed calling webhook \"inject.test\": connection refused",
            Refusal::Webhook,
        ),
        (
            "Error creating: pods \"x\" is forbidden: error looking up service account shop/api: serviceaccount \"api\" not found",
            Refusal::ServiceAccount,
        ),
        (
            "Error creating: pods \"x\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi",
            Refusal::LimitRange,
        ),
        (
            "Error creating: pods \"x\" is forbidden: no",
            Refusal::Forbidden,
        ),
        (
            "Error creating: etcdserver: request timed out",
            Refusal::Other,
        ),
    ] {
        let event = event_of("ReplicaSet", "api-5d4f8c7b9d", "FailedCreate", message);
        let occurrence = only(hear(&event));
        assert_eq!(
            occurrence.cause,
            Cause::Rollout {
                reason: "FailedCreate".into(),
                refusal
            },
            "{message}"
        );
        assert_eq!(
            occurrence.subject.workload,
            Some(workload("Deployment", "api"))
        );
    }
    let named_by_hand = event_of("ReplicaSet", "api-canary", "FailedCreate", "no");
    assert_eq!(
        only(hear(&named_by_hand)).subject.workload,
        Some(workload("ReplicaSet", "api-canary"))
    );
    let leaving = event_of(
        "ReplicaSet",
        "api-5d4f8c7b9d",
        "FailedCreate",
        "Error creating: pods \"x\" is forbidden: unable to create new content in namespace shop because it is being terminated",
    );
    assert!(hear(&leaving).occurrences.is_empty());
}

#[test]
fn row_22_autoscaler_troubles_are_low_and_wait_two_minutes() {
    let hpa = |kind, status, reason| HpaState {
        uid: "h".into(),
        namespace: "shop".into(),
        name: "api".into(),
        conditions: vec![condition(kind, status, reason, 0)],
    };
    let bad = hpa(
        "ScalingActive",
        ConditionStatus::False,
        "FailedGetResourceMetric",
    );
    assert_eq!(
        detect::autoscaler(&bad, &context(119)).recheck_at,
        Some(at(120))
    );
    let occurrence = only(detect::autoscaler(&bad, &context(120)));
    assert_eq!(occurrence.severity(), Severity::Low);
    for (kind, status, reason, is_bad) in [
        (
            "AbleToScale",
            ConditionStatus::False,
            "FailedGetScale",
            true,
        ),
        (
            "ScalingLimited",
            ConditionStatus::True,
            "TooManyReplicas",
            true,
        ),
        (
            "ScalingLimited",
            ConditionStatus::True,
            "TooFewReplicas",
            false,
        ),
        (
            "ScalingActive",
            ConditionStatus::False,
            "ScalingDisabled",
            false,
        ),
        (
            "ScalingActive",
            ConditionStatus::True,
            "ValidMetricFound",
            false,
        ),
    ] {
        let found = detect::autoscaler(&hpa(kind, status, reason), &context(500));
        assert_eq!(found.occurrences.len(), usize::from(is_bad), "{reason}");
    }
    let mut event = event_of(
        "HorizontalPodAutoscaler",
        "api",
        "FailedGetResourceMetric",
        "no metrics",
    );
    assert!(hear(&event).occurrences.is_empty());
    event.count = 8;
    assert_eq!(only(hear(&event)).cause.class(), "autoscaler");
}

#[test]
fn row_14_claims_without_storage_are_grouped_by_the_claim() {
    let event = event_of(
        "PersistentVolumeClaim",
        "data-db-0",
        "ProvisioningFailed",
        "storageclass.storage.k8s.io \"fast\" not found",
    );
    let occurrence = only(hear(&event));
    assert_eq!(
        occurrence.cause.detail(),
        "persistentvolumeclaim \"data-db-0\""
    );
    let waiting = event_of(
        "PersistentVolumeClaim",
        "data-db-0",
        "ProvisioningFailed",
        "waiting for a volume to be created, either by external provisioner or manually",
    );
    assert!(hear(&waiting).occurrences.is_empty());
}

#[test]
fn pod_events_stand_for_a_status_nobody_can_see() {
    let class = |event: &KubeEvent| {
        let found = hear(event);
        found.occurrences.first().map(|it| it.cause.class())
    };
    let failed = event(
        "Failed",
        "Failed to pull image \"registry.test/api:1.4\": 401 Unauthorized",
        20,
    );
    assert_eq!(class(&failed), Some("image_pull"));
    let mut mount = event(
        "FailedMount",
        "MountVolume.SetUp failed for volume \"x\" : no",
        20,
    );
    assert_eq!(class(&mount), None);
    mount.count = 8;
    assert_eq!(class(&mount), Some("volume"));
    let mut sandbox = event("FailedCreatePodSandBox", "no", 20);
    sandbox.count = 4;
    assert_eq!(class(&sandbox), Some("sandbox"));
    // With the pod at hand its status is what counts, and the key is the same.
    let pod_now = with_state(waiting("ErrImagePull", "401 Unauthorized"));
    let about = EventContext {
        pod: Some(&pod_now),
        ..EventContext::default()
    };
    assert!(
        detect::event(&failed, about, &context(30))
            .occurrences
            .is_empty()
    );
    assert_eq!(only(look(&pod_now, &[], 30)).key, only(hear(&failed)).key);
}

#[test]
fn row_8_a_failed_pre_stop_hook_is_low() {
    let occurrence = only(hear(&event("FailedPreStopHook", "PreStopHook failed", 20)));
    assert_eq!(occurrence.cause.class(), "config");
    assert_eq!(occurrence.severity(), Severity::Low);
}

#[test]
fn row_11_and_13_events_of_plans_are_markers() {
    for (reason, kind) in [
        ("Preempted", MarkerKind::Preempted),
        ("TaintManagerEviction", MarkerKind::TaintEviction),
        ("TriggeredScaleUp", MarkerKind::ScaleUp),
    ] {
        let found = hear(&event(reason, "", 20));
        assert!(found.occurrences.is_empty());
        assert_eq!(found.markers[0].kind, kind);
    }
}

#[test]
fn row_24_what_the_agent_cannot_see_is_told() {
    let subject = Subject {
        namespace: "shop".into(),
        pod: "api-1".into(),
        pod_uid: "u".into(),
        container: "web".into(),
        ..Subject::default()
    };
    for (trouble, detail) in [
        (
            CollectorTrouble::Silent {
                subject: subject.clone(),
                since: at(10),
            },
            "silent",
        ),
        (
            CollectorTrouble::LinesLost {
                subject,
                at: at(10),
                bytes: 4096,
                reason: "rotated".into(),
            },
            "lines_lost",
        ),
        (
            CollectorTrouble::DiskFull {
                node: "n1".into(),
                path: "/var/log".into(),
                at: at(10),
            },
            "disk_full",
        ),
    ] {
        let occurrence = only(detect::collector(&trouble, &context(20)));
        assert_eq!(occurrence.cause.class(), "collector");
        assert_eq!(occurrence.cause.detail(), detail);
        assert!(!occurrence.message.is_empty());
        assert_eq!(&*occurrence.subject.cluster, "prod");
    }
}
