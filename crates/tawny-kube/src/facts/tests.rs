//! Facts of pods as API servers from 1.20 to 1.36 describe them.

use serde_json::{Value, json};

use super::*;

fn facts(pod: Value) -> PodFacts {
    pod_facts(&serde_json::from_value(pod).unwrap()).unwrap()
}

fn owned(labels: Value, kind: &str, name: &str) -> Option<Workload> {
    facts(json!({
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u", "labels": labels,
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "1"},
                {"apiVersion": "v1", "kind": kind, "name": name, "uid": "2", "controller": true},
            ],
        },
        "spec": {"containers": []},
    }))
    .workload
}

#[test]
fn everything_a_stream_needs_is_taken_from_a_running_pod() {
    let pod = facts(json!({
        "metadata": {
            "name": "web-6d5f-abcde", "namespace": "shop", "uid": "u-1",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app": "web", "pod-template-hash": "6d5f"},
            "annotations": {"tawny.dev/exclude-containers": "proxy", "big": "x".repeat(2000)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d5f", "uid": "r", "controller": true}],
        },
        "spec": {
            "nodeName": "node-1",
            "initContainers": [
                {"name": "migrate", "image": "db:1"},
                {"name": "mesh", "image": "mesh:2", "restartPolicy": "Always"},
            ],
            "containers": [{"name": "web", "image": "web:3"}],
            "ephemeralContainers": [{"name": "debugger", "image": "busybox"}],
        },
        "status": {
            "phase": "Running",
            "initContainerStatuses": [
                {"name": "migrate", "image": "", "imageID": "", "ready": true, "restartCount": 0, "containerID": "containerd://m",
                 "state": {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": "2026-01-02T03:05:00Z", "containerID": "containerd://m"}}},
                {"name": "mesh", "image": "", "imageID": "", "ready": true, "restartCount": 1, "containerID": "containerd://s",
                 "state": {"running": {"startedAt": "2026-01-02T03:05:01Z"}}},
            ],
            "containerStatuses": [
                {"name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 4, "containerID": "containerd://w5",
                 "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-02T03:06:00Z", "containerID": "containerd://w5"}}},
            ],
            "ephemeralContainerStatuses": [
                {"name": "debugger", "image": "", "imageID": "", "ready": false, "restartCount": 0, "containerID": "containerd://d",
                 "state": {"running": {}}},
            ],
        },
    }));
    assert_eq!(
        (&*pod.uid, &*pod.object_uid, &*pod.node),
        ("u-1", "u-1", "node-1")
    );
    assert_eq!(pod.phase, Phase::Running);
    assert_eq!(pod.created, Some(Timestamp::from_secs(1_767_323_045)));
    assert!(pod.annotations.contains_key("tawny.dev/exclude-containers"));
    assert!(!pod.annotations.contains_key("big"));
    assert_eq!(pod.workload.as_ref().unwrap().to_string(), "Deployment/web");
    let kinds: Vec<_> = pod
        .containers
        .iter()
        .map(|c| (&*c.name, c.kind, c.restarts))
        .collect();
    assert_eq!(
        kinds,
        [
            ("migrate", ContainerKind::Init, 0),
            ("mesh", ContainerKind::Sidecar, 1),
            ("web", ContainerKind::Regular, 4),
            ("debugger", ContainerKind::Ephemeral, 0),
        ]
    );
    assert_eq!(
        pod.container("mesh").unwrap().state,
        ContainerState::Running {
            since: Some(Timestamp::from_secs(1_767_323_101))
        }
    );
    let web = pod.container("web").unwrap();
    assert_eq!(
        web.state,
        ContainerState::Waiting {
            reason: "CrashLoopBackOff".into()
        }
    );
    assert_eq!(web.previous.as_ref().unwrap().exit_code, 137);
    assert!(web.has_run());

    let stream = pod.stream("c1".into(), web, 3);
    assert_eq!(stream.id.to_string(), "c1/u-1/web/3");
    assert_eq!(
        (&*stream.pod, &*stream.image, &*stream.labels["app"]),
        ("web-6d5f-abcde", "web:3", "web")
    );
}

#[test]
fn static_pod_is_known_by_the_hash_in_its_directory() {
    // VK-7: the kubelet names the directory after the manifest's hash, not after the mirror object.
    let pod = facts(json!({
        "metadata": {
            "name": "etcd-node", "namespace": "kube-system", "uid": "object",
            "annotations": {"kubernetes.io/config.mirror": "hash"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "node", "uid": "n", "controller": true}],
        },
        "spec": {"containers": [{"name": "etcd", "image": "etcd:3"}]},
    }));
    assert_eq!((&*pod.uid, &*pod.object_uid), ("hash", "object"));
    assert_eq!(pod.workload, None);
    assert!(!pod.containers[0].has_run());
}

#[test]
fn workload_is_resolved_by_naming_rules() {
    for (labels, kind, name, expected) in [
        (
            json!({"pod-template-hash": "5d4f8c7b9"}),
            "ReplicaSet",
            "web-5d4f8c7b9",
            "Deployment/web",
        ),
        (json!({}), "ReplicaSet", "bare", "ReplicaSet/bare"),
        (
            json!({"pod-template-hash": "other"}),
            "ReplicaSet",
            "web-5d4f8c7b9",
            "ReplicaSet/web-5d4f8c7b9",
        ),
        (json!({}), "Job", "backup-29123456", "CronJob/backup"),
        (json!({}), "Job", "backup-1610000000", "CronJob/backup"),
        (json!({}), "Job", "migrate-42", "Job/migrate-42"),
        (json!({}), "Job", "29123456", "Job/29123456"),
        (json!({}), "StatefulSet", "db", "StatefulSet/db"),
        (json!({}), "Rollout", "canary", "Rollout/canary"),
    ] {
        let workload = owned(labels, kind, name).unwrap();
        assert_eq!(workload.to_string(), expected);
    }
}

#[test]
fn bare_objects_are_survived_and_nameless_ones_refused() {
    let pod = facts(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}}));
    assert_eq!((pod.phase, pod.containers.len()), (Phase::Unknown, 0));
    assert_eq!(pod_facts(&Pod::default()), None);
}

#[test]
fn pod_is_over_when_it_is_gone_or_its_phase_is_final() {
    let mut pod = facts(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "status": {"phase": "Running"}}),
    );
    assert!(!pod.is_over());
    pod.gone = true;
    assert!(pod.is_over());
    let done = facts(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "status": {"phase": "Succeeded"}}),
    );
    assert!(done.is_over());
}
