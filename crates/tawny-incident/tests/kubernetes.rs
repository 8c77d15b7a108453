//! From the JSON an API server sends to the sentence a person reads, in the form Kubernetes 1.30 to 1.36 writes it.

use serde_json::{Value, from_value, json};
use tawny_incident::{Book, Context, Evidence, Findings, detect, sentence};
use tawny_kube::observe::{kube_event, node_state, pod_state};
use tawny_model::{
    Timestamp,
    observed::{KubeEvent, PodState},
};

fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text.as_bytes()).expect("tests write valid times")
}

fn context(now: &str) -> Context {
    Context {
        cluster: "prod".into(),
        now: time(now),
        watching_since: time("2026-11-21T00:00:00Z"),
    }
}

/// A pod of Deployment shop/api with this status and, for its container, this container status.
fn pod(status: Value, container: Value) -> PodState {
    let mut status = status;
    let mut container = container;
    if !container.is_null() {
        container["name"] = json!("web");
        container["image"] = json!("registry.test/api:1.4");
        container["imageID"] = json!("");
        status["containerStatuses"] = json!([container]);
    }
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "api-5d4f8c7b9d-x2x9z",
            "namespace": "shop",
            "uid": "7b0a3e9c-5f1d-4c2b-9e1f-3d8f5a6b7c8d",
            "creationTimestamp": "2026-11-21T10:00:00Z",
            "labels": {"app": "api", "pod-template-hash": "5d4f8c7b9d"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-5d4f8c7b9d", "uid": "r",
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "nodeName": "n1",
            "restartPolicy": "Always",
            "containers": [{
                "name": "web", "image": "registry.test/api:1.4",
                "resources": {"limits": {"memory": "64Mi"}},
            }],
        },
        "status": status,
    });
    pod_state(&from_value(pod).expect("the JSON is a pod")).expect("the pod has a name")
}

fn event(reason: &str, message: &str, at: &str) -> KubeEvent {
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("api.{reason}"), "namespace": "shop", "uid": format!("e-{reason}"), "creationTimestamp": at},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "name": "api-5d4f8c7b9d-x2x9z", "namespace": "shop",
            "uid": "7b0a3e9c-5f1d-4c2b-9e1f-3d8f5a6b7c8d", "resourceVersion": "812", "fieldPath": "spec.containers{web}",
        },
        "reason": reason, "message": message, "type": "Normal", "count": 1,
        "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": at, "lastTimestamp": at, "eventTime": null,
        "reportingComponent": "kubelet", "reportingInstance": "n1",
    });
    kube_event(&from_value(event).expect("the JSON is an event")).expect("the event has a time")
}

fn told(found: Findings, now: &str) -> Vec<String> {
    let mut book = Book::new();
    book.observe(found, time(now));
    book.incidents()
        .map(|incident| sentence::story(incident).sentence)
        .collect()
}

fn look(pod: &PodState, events: &[KubeEvent], now: &str) -> Vec<String> {
    let evidence = Evidence {
        events,
        ..Evidence::default()
    };
    told(detect::pod(None, pod, evidence, &context(now)), now)
}

const WHO: &str = "Container web of Deployment shop/api (pod api-5d4f8c7b9d-x2x9z on node n1)";

fn running() -> Value {
    json!({
        "phase": "Running",
        "conditions": [
            {"type": "PodReadyToStartContainers", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-21T10:00:03Z"},
            {"type": "Initialized", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-21T10:00:00Z"},
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "containers with unready status: [web]", "lastProbeTime": null, "lastTransitionTime": "2026-11-21T10:05:00Z"},
            {"type": "ContainersReady", "status": "False", "reason": "ContainersNotReady", "message": "containers with unready status: [web]", "lastProbeTime": null, "lastTransitionTime": "2026-11-21T10:05:00Z"},
            {"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-21T10:00:00Z"},
        ],
        "qosClass": "Burstable",
    })
}

fn dead(code: i32, reason: &str) -> Value {
    json!({"terminated": {
        "containerID": "containerd://f00d", "exitCode": code, "reason": reason,
        "startedAt": "2026-11-21T10:04:00Z", "finishedAt": "2026-11-21T10:05:00Z",
    }})
}

#[test]
fn a_crash_loop_is_one_incident_told_by_its_exit_code() {
    let looping = pod(
        running(),
        json!({
            "containerID": "containerd://f00d", "ready": false, "started": false, "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 1m20s restarting failed container=web pod=api-5d4f8c7b9d-x2x9z_shop(7b0a3e9c-5f1d-4c2b-9e1f-3d8f5a6b7c8d)"}},
            "lastState": dead(1, "Error"),
        }),
    );
    let back_off = event(
        "BackOff",
        "Back-off restarting failed container web in pod api-5d4f8c7b9d-x2x9z_shop(7b0a3e9c-5f1d-4c2b-9e1f-3d8f5a6b7c8d)",
        "2026-11-21T10:05:10Z",
    );
    assert_eq!(
        look(&looping, &[back_off], "2026-11-21T10:05:12Z"),
        [format!(
            "{WHO} ended with an application error (exit code 1)."
        )]
    );
}

#[test]
fn out_of_memory_names_the_limit() {
    let killed = pod(
        running(),
        json!({
            "containerID": "containerd://beef", "ready": false, "started": true, "restartCount": 1,
            "state": {"running": {"startedAt": "2026-11-21T10:05:01Z"}},
            "lastState": dead(137, "OOMKilled"),
        }),
    );
    assert_eq!(
        look(&killed, &[], "2026-11-21T10:05:02Z"),
        [format!(
            "{WHO} was killed by the kernel because it reached its memory limit of 64 MiB."
        )]
    );
}

#[test]
fn a_liveness_kill_is_told_by_the_kubelets_event() {
    let killed = pod(
        running(),
        json!({
            "containerID": "containerd://beef", "ready": false, "started": true, "restartCount": 1,
            "state": {"running": {"startedAt": "2026-11-21T10:05:01Z"}},
            "lastState": dead(137, "Error"),
        }),
    );
    let killing = event(
        "Killing",
        "Container web failed liveness probe, will be restarted",
        "2026-11-21T10:04:30Z",
    );
    assert_eq!(
        look(&killed, &[killing], "2026-11-21T10:05:02Z"),
        [format!(
            "{WHO} was killed by the kubelet because its liveness probe failed."
        )]
    );
}

#[test]
fn an_image_that_is_not_there() {
    let pulling = pod(
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-21T10:00:00Z"}]}),
        json!({
            "ready": false, "started": false, "restartCount": 0, "lastState": {},
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"registry.test/api:1.4\": ErrImagePull: rpc error: code = NotFound desc = failed to pull and unpack image \"registry.test/api:1.4\": failed to resolve reference \"registry.test/api:1.4\": registry.test/api:1.4: not found"}},
        }),
    );
    assert_eq!(
        look(&pulling, &[], "2026-11-21T10:00:30Z"),
        [format!(
            "{WHO} waits for image registry.test/api:1.4: the registry does not have it."
        )]
    );
}

#[test]
fn a_missing_secret() {
    let waiting = pod(
        json!({"phase": "Pending"}),
        json!({
            "ready": false, "started": false, "restartCount": 0, "lastState": {},
            "state": {"waiting": {"reason": "CreateContainerConfigError", "message": "secret \"db-credentials\" not found"}},
        }),
    );
    assert_eq!(
        look(&waiting, &[], "2026-11-21T10:00:30Z"),
        [format!(
            "{WHO} cannot be created: secret \"db-credentials\" is missing."
        )]
    );
}

#[test]
fn a_command_that_is_not_there_is_one_incident() {
    let message = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"/app/missing\": stat /app/missing: no such file or directory: unknown";
    let failing = pod(
        running(),
        json!({
            "containerID": "containerd://f00d", "ready": false, "started": false, "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container=web pod=api"}},
            "lastState": {"terminated": {
                "containerID": "containerd://f00d", "exitCode": 128, "reason": "StartError", "message": message,
                "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "2026-11-21T10:05:00Z",
            }},
        }),
    );
    let told = look(&failing, &[], "2026-11-21T10:05:12Z");
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with(&format!("{WHO} could not be started: failed to create")));
}

#[test]
fn an_eviction_is_one_incident_and_its_kills_are_part_of_it() {
    let message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 92Mi. Container web was using 60Mi, request is 0, has larger consumption of memory. ";
    let evicted = pod(
        json!({
            "phase": "Failed", "reason": "Evicted", "message": message,
            "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": message, "lastTransitionTime": "2026-11-21T10:04:59Z"}],
        }),
        json!({
            "containerID": "containerd://f00d", "ready": false, "started": false, "restartCount": 0, "lastState": {},
            "state": dead(137, "Error"),
        }),
    );
    assert_eq!(
        look(&evicted, &[], "2026-11-21T10:05:12Z"),
        [
            "A pod of Deployment shop/api (pod api-5d4f8c7b9d-x2x9z on node n1) was evicted because its node ran low on memory."
        ]
    );
}

#[test]
fn an_ordinary_rollout_and_an_ordinary_start_tell_nothing() {
    let starting = pod(
        json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-21T10:00:00Z"}]}),
        json!({
            "ready": false, "started": false, "restartCount": 0, "lastState": {},
            "state": {"waiting": {"reason": "ContainerCreating"}},
        }),
    );
    assert!(look(&starting, &[], "2026-11-21T10:00:10Z").is_empty());
    let mut stopped = pod(
        running(),
        json!({
            "containerID": "containerd://f00d", "ready": false, "started": false, "restartCount": 0, "lastState": {},
            "state": dead(143, "Error"),
        }),
    );
    stopped.deletion = Some(tawny_model::observed::Deletion {
        due: time("2026-11-21T10:05:29Z"),
        grace_secs: Some(30),
    });
    assert!(look(&stopped, &[], "2026-11-21T10:05:01Z").is_empty());
}

#[test]
fn a_node_whose_kubelet_fell_silent() {
    let node = json!({
        "metadata": {"name": "n1", "uid": "n", "creationTimestamp": "2026-11-01T00:00:00Z"},
        "status": {"conditions": [
            {"type": "MemoryPressure", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.", "lastTransitionTime": "2026-11-21T10:05:00Z"},
            {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status.", "lastTransitionTime": "2026-11-21T10:05:00Z"},
        ]},
    });
    let node = node_state(&from_value(node).expect("the JSON is a node")).expect("it has a name");
    let now = "2026-11-21T10:05:05Z";
    assert_eq!(
        told(detect::node(&node, &context(now)), now),
        ["Node n1 is not ready: Kubelet stopped posting node status."]
    );
}
