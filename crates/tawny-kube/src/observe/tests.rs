//! Objects as API servers from 1.20 to 1.36 write them.

use serde_json::{Value, from_value, json};
use tawny_model::{
    Timestamp, Workload,
    observed::{
        ConditionStatus, ContainerKind, EventKind, PodPhase, Resources, RestartPolicy, Run,
    },
};

use super::*;

fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text.as_bytes()).unwrap()
}

fn pod(value: Value) -> tawny_model::observed::PodState {
    pod_state(&from_value(value).unwrap()).unwrap()
}

#[test]
fn everything_detection_reads_is_taken_from_a_pod() {
    let state = pod(json!({
        "metadata": {
            "name": "api-5d4f8c7b9d-x2x9z", "namespace": "shop", "uid": "u-1",
            "creationTimestamp": "2026-11-21T10:00:00Z",
            "deletionTimestamp": "2026-11-21T11:00:30Z", "deletionGracePeriodSeconds": 30,
            "finalizers": ["example.test/hold"],
            "labels": {"pod-template-hash": "5d4f8c7b9d"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-5d4f8c7b9d", "uid": "r", "controller": true}],
        },
        "spec": {
            "nodeName": "n1",
            "restartPolicy": "OnFailure",
            "initContainers": [
                {"name": "migrate", "image": "db:1"},
                {"name": "proxy", "image": "proxy:2", "restartPolicy": "Always"},
            ],
            "containers": [{
                "name": "web", "image": "web:3",
                "resources": {"limits": {"cpu": "500m", "memory": "512Mi"}, "requests": {"cpu": "0.1", "memory": "128Mi"}},
            }],
            "ephemeralContainers": [{"name": "debugger", "image": "busybox"}],
        },
        "status": {
            "phase": "Running", "reason": "Odd", "message": "so it is",
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m", "lastTransitionTime": "2026-11-21T10:30:00Z"}],
            "containerStatuses": [{
                "name": "web", "image": "web:3", "imageID": "web@sha256:1", "ready": false, "started": false, "restartCount": 4,
                "containerID": "containerd://w4",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container=web"}},
                "lastState": {"terminated": {
                    "exitCode": 137, "signal": 9, "reason": "OOMKilled", "message": "last words",
                    "startedAt": "2026-11-21T10:29:00Z", "finishedAt": "2026-11-21T10:30:00Z", "containerID": "containerd://w4"}},
            }],
        },
    }));
    assert_eq!(
        (&*state.uid, &*state.node, state.phase),
        ("u-1", "n1", PodPhase::Running)
    );
    assert_eq!((&*state.reason, &*state.message), ("Odd", "so it is"));
    assert_eq!(state.restart_policy, RestartPolicy::OnFailure);
    assert_eq!(state.created, Some(time("2026-11-21T10:00:00Z")));
    let deletion = state.deletion.unwrap();
    assert_eq!(deletion.due, time("2026-11-21T11:00:30Z"));
    assert_eq!(deletion.requested(), time("2026-11-21T11:00:00Z"));
    assert_eq!(&*state.finalizers[0], "example.test/hold");
    assert_eq!(
        state.workload,
        Some(Workload {
            kind: "Deployment".into(),
            name: "api".into()
        })
    );
    assert_eq!(state.conditions[0].status, ConditionStatus::False);
    assert_eq!(
        state.conditions[0].changed,
        Some(time("2026-11-21T10:30:00Z"))
    );
    let kinds: Vec<_> = state
        .containers
        .iter()
        .map(|container| (&*container.name, container.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            ("migrate", ContainerKind::Init),
            ("proxy", ContainerKind::Sidecar),
            ("web", ContainerKind::App),
            ("debugger", ContainerKind::Ephemeral),
        ]
    );
    let web = &state.containers[2];
    assert_eq!(
        (web.restart_count, web.ready, web.started),
        (4, false, Some(false))
    );
    assert_eq!(web.waiting_reason(), "CrashLoopBackOff");
    assert!(web.waiting_message().starts_with("back-off 40s"));
    assert_eq!(
        web.limits,
        Resources {
            cpu_millis: Some(500),
            memory_bytes: Some(512 << 20)
        }
    );
    assert_eq!(web.requests.cpu_millis, Some(100));
    assert_eq!((&*web.image, &*web.image_id), ("web:3", "web@sha256:1"));
    let last = web.last.as_ref().unwrap();
    assert_eq!((last.exit_code, last.signal), (137, Some(9)));
    assert_eq!((&*last.reason, &*last.message), ("OOMKilled", "last words"));
    assert_eq!(&*last.container_id, "containerd://w4");
    assert_eq!(last.started_at, Some(time("2026-11-21T10:29:00Z")));
    assert_eq!(last.finished_at, Some(time("2026-11-21T10:30:00Z")));
}

#[test]
fn a_pod_with_nothing_but_its_name_is_read() {
    let bare = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}});
    let state = pod(bare);
    assert_eq!(state.phase, PodPhase::Unknown);
    assert!(state.containers.is_empty());
    let no_status = pod(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": -1, "state": {}, "lastState": {}}]},
    }));
    assert_eq!(no_status.containers[0].state, Run::default());
    assert_eq!(no_status.containers[0].restart_count, 0);
    assert_eq!(no_status.containers[0].last, None);
    let nameless = from_value(json!({"metadata": {"uid": "u"}})).unwrap();
    assert_eq!(pod_state(&nameless), None);
}

#[test]
fn zero_times_of_runtimes_are_no_times() {
    let state = pod(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": null, "finishedAt": "1970-01-01T00:00:00Z"}}}]},
    }));
    let Run::Terminated(ended) = &state.containers[0].state else {
        panic!("{state:?}");
    };
    assert_eq!((ended.started_at, ended.finished_at), (None, None));
}

#[test]
fn a_static_pod_has_the_uid_its_kubelet_knows() {
    let state = pod(json!({
        "metadata": {
            "name": "etcd-n1", "namespace": "kube-system", "uid": "mirror",
            "annotations": {"kubernetes.io/config.mirror": "manifest-hash"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n", "controller": true}],
        },
    }));
    assert_eq!(&*state.uid, "manifest-hash");
    assert_eq!(state.workload, None);
}

#[test]
fn limits_in_force_after_a_resize_count() {
    let state = pod(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "1Gi"}}}]},
        "status": {"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "resources": {"limits": {"memory": "512Mi"}}}]},
    }));
    assert_eq!(state.containers[0].limits.memory_bytes, Some(512 << 20));
}

#[test]
fn events_of_the_old_style() {
    let event = kube_event(
        &from_value(json!({
            "metadata": {"name": "p.17", "namespace": "shop", "uid": "e-1", "creationTimestamp": "2026-11-21T10:00:00Z"},
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "p", "uid": "u", "fieldPath": "spec.containers{web}"},
            "reason": "BackOff", "message": "Back-off restarting failed container", "type": "Warning", "count": 7,
            "firstTimestamp": "2026-11-21T10:00:00Z", "lastTimestamp": "2026-11-21T10:05:00Z", "eventTime": null,
            "source": {"component": "kubelet", "host": "n1"}, "reportingComponent": "", "reportingInstance": "",
        }))
        .unwrap(),
    )
    .unwrap();
    assert_eq!(
        (&*event.uid, event.count, event.kind),
        ("e-1", 7, EventKind::Warning)
    );
    assert_eq!(event.at, time("2026-11-21T10:05:00Z"));
    assert_eq!((&*event.object.container, &*event.object.uid), ("web", "u"));
    assert_eq!((&*event.component, &*event.host), ("kubelet", "n1"));
}

#[test]
fn events_of_the_new_style_have_a_series_and_microseconds() {
    let event = kube_event(
        &from_value(json!({
            "metadata": {"name": "p.18", "namespace": "shop", "uid": "e-2", "creationTimestamp": "2026-11-21T10:00:00Z"},
            "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "p", "uid": "u"},
            "reason": "FailedScheduling", "message": "0/1 nodes are available", "type": "Warning",
            "firstTimestamp": null, "lastTimestamp": null, "eventTime": "2026-11-21T10:00:00.123456Z",
            "series": {"count": 3, "lastObservedTime": "2026-11-21T10:10:00.654321Z"},
            "source": {}, "reportingComponent": "default-scheduler", "reportingInstance": "default-scheduler-n1",
        }))
        .unwrap(),
    )
    .unwrap();
    assert_eq!(event.count, 3);
    assert_eq!(event.at, time("2026-11-21T10:10:00.654321Z"));
    assert_eq!(&*event.component, "default-scheduler");
    assert_eq!(&*event.host, "");
}

#[test]
fn events_with_nothing_but_a_uid_have_no_time_and_are_none() {
    let event = |value| kube_event(&from_value(value).unwrap());
    let object = json!({});
    assert_eq!(
        event(json!({"metadata": {"uid": "e"}, "involvedObject": object})),
        None
    );
    let created = json!({"metadata": {"uid": "e", "creationTimestamp": "2026-11-21T10:00:00Z"}, "involvedObject": {}});
    assert_eq!(event(created).unwrap().count, 1);
    assert_eq!(
        event(
            json!({"metadata": {"creationTimestamp": "2026-11-21T10:00:00Z"}, "involvedObject": {}})
        ),
        None
    );
}

#[test]
fn nodes_and_namespaces() {
    let node = node_state(
        &from_value(json!({
            "metadata": {"name": "n1", "uid": "n", "creationTimestamp": "2026-11-21T10:00:00Z"},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.", "lastTransitionTime": "2026-11-21T11:00:00Z"}]},
        }))
        .unwrap(),
    )
    .unwrap();
    assert_eq!(node.conditions[0].status, ConditionStatus::Unknown);
    assert_eq!(node.created, Some(time("2026-11-21T10:00:00Z")));
    let namespace = namespace_state(
        &from_value(json!({
            "metadata": {"name": "old", "uid": "o", "deletionTimestamp": "2026-11-21T10:00:00Z"},
            "status": {"phase": "Terminating", "conditions": [{"type": "NamespaceContentRemaining", "status": "True"}]},
        }))
        .unwrap(),
    )
    .unwrap();
    assert_eq!(
        namespace.deletion.unwrap().requested(),
        time("2026-11-21T10:00:00Z")
    );
    assert_eq!(&*namespace.conditions[0].kind, "NamespaceContentRemaining");
}

#[test]
fn jobs_name_their_cron_job_and_cron_jobs_their_zone() {
    let job = job_state(
        &from_value(json!({
            "metadata": {"name": "nightly-29254380", "namespace": "shop", "uid": "j",
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "c", "controller": true}]},
            "status": {"failed": 3, "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]},
        }))
        .unwrap(),
    )
    .unwrap();
    assert_eq!(job.cron_job.as_deref(), Some("nightly"));
    assert_eq!(
        (job.failed, &*job.conditions[0].reason),
        (3, "BackoffLimitExceeded")
    );
    let cron = |zone: Value| {
        let cron = json!({
            "metadata": {"name": "nightly", "namespace": "shop", "uid": "c"},
            "spec": {"schedule": "0 3 * * *", "suspend": true, "timeZone": zone, "jobTemplate": {"spec": {"template": {}}}},
            "status": {"lastScheduleTime": "2026-11-21T03:00:00Z"},
        });
        cron_job_state(&from_value(cron).unwrap(), time("2026-07-01T00:00:00Z")).unwrap()
    };
    assert_eq!(cron(json!("Europe/Berlin")).utc_offset_secs, 7_200);
    assert_eq!(cron(json!(null)).utc_offset_secs, 0);
    let state = cron(json!("Nowhere/Land"));
    assert_eq!((state.utc_offset_secs, state.suspended), (0, true));
    assert_eq!(state.last_schedule, Some(time("2026-11-21T03:00:00Z")));
}

fn ready(spec: Value, status: Value, generation: i64) -> (u32, u32) {
    let deployment = json!({
        "metadata": {"name": "api", "namespace": "shop", "uid": "d", "generation": generation},
        "spec": spec, "status": status,
    });
    let mut deployment = deployment;
    deployment["spec"]["selector"] = json!({});
    deployment["spec"]["template"] = json!({});
    let state = deployment_state(&from_value(deployment).unwrap()).unwrap();
    (state.ready, state.desired)
}

#[test]
fn old_pods_that_serve_do_not_make_a_stuck_rollout_healthy() {
    let status = |replicas, updated, ready| json!({"observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready});
    let three = || json!({"replicas": 3});
    assert_eq!(ready(three(), status(3, 3, 3), 2), (3, 3));
    assert_eq!(ready(three(), status(4, 1, 3), 2), (0, 3));
    assert_eq!(ready(three(), status(6, 3, 3), 2), (0, 3));
    assert_eq!(ready(three(), status(4, 3, 4), 2), (3, 3));
    // A status of the specification before.
    assert_eq!(ready(three(), status(3, 3, 3), 3), (0, 3));
    assert_eq!(ready(json!({}), json!({}), 0), (0, 1));
    assert_eq!(
        ready(json!({"replicas": 0}), json!({"observedGeneration": 2}), 2),
        (0, 0)
    );
}

#[test]
fn other_workloads_and_autoscalers() {
    let set = |owners: Value| {
        replica_set_state(
            &from_value(json!({
                "metadata": {"name": "api-5d4f8c7b9d", "namespace": "shop", "uid": "r", "ownerReferences": owners},
                "spec": {"replicas": 2, "selector": {}},
                "status": {"replicas": 2, "readyReplicas": 2},
            }))
            .unwrap(),
        )
    };
    assert_eq!(set(json!([])).unwrap().ready, 2);
    let owner = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": "d", "controller": true}]);
    assert_eq!(set(owner), None);
    let stateful = stateful_set_state(
        &from_value(json!({
            "metadata": {"name": "db", "namespace": "shop", "uid": "s"},
            "spec": {"replicas": 2, "selector": {}, "serviceName": "db", "template": {}},
            "status": {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2},
        }))
        .unwrap(),
    )
    .unwrap();
    assert_eq!((stateful.ready, stateful.desired), (1, 2));
    let daemon = daemon_set_state(
        &from_value(json!({
            "metadata": {"name": "agent", "namespace": "shop", "uid": "a"},
            "spec": {"selector": {}, "template": {}},
            "status": {"currentNumberScheduled": 3, "desiredNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 3, "updatedNumberScheduled": 3},
        }))
        .unwrap(),
    )
    .unwrap();
    assert_eq!((daemon.ready, daemon.desired), (3, 3));
    let hpa = autoscaler_state(
        &from_value(json!({
            "metadata": {"name": "api", "namespace": "shop", "uid": "h"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "api"}},
            "status": {"desiredReplicas": 1, "conditions": [{"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric"}]},
        }))
        .unwrap(),
    )
    .unwrap();
    assert_eq!(&*hpa.conditions[0].reason, "FailedGetResourceMetric");
}
