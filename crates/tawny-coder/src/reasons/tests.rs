//! Statuses as kubelets write them, and what a reader is told of each.

use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn pod(status: Value) -> Pod {
    pod_with(json!({"containers": [{"name": "dev"}]}), status)
}

fn pod_with(spec: Value, status: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "ws-1"}, "spec": spec, "status": status}))
        .unwrap()
}

fn status(rest: Value) -> Value {
    let mut status =
        json!({"name": "dev", "image": "img:1", "imageID": "", "ready": false, "restartCount": 0});
    status
        .as_object_mut()
        .unwrap()
        .extend(rest.as_object().unwrap().clone());
    status
}

fn ended(exit_code: i32, reason: &str, id: &str) -> Value {
    json!({"terminated": {"exitCode": exit_code, "reason": reason, "containerID": id, "finishedAt": "2027-01-15T08:00:00Z"}})
}

fn dev(rest: Value) -> Pod {
    pod(json!({"phase": "Running", "containerStatuses": [status(rest)]}))
}

fn outputs(pod: &Pod) -> Vec<String> {
    (reasons(pod, NOW).into_iter())
        .map(|reason| reason.line.output)
        .collect()
}

fn waiting(reason: &str, message: &str) -> Pod {
    dev(json!({"state": {"waiting": {"reason": reason, "message": message}}}))
}

#[test]
fn a_container_out_of_memory_is_told_with_exit_code_and_restart() {
    let running = json!({"restartCount": 3, "state": {"running": {}}, "lastState": ended(137, "OOMKilled", "c2")});
    let all = reasons(&dev(running), NOW);
    assert_eq!(
        all[0].line,
        Line::new(
            Timestamp::from_secs(1_800_000_000),
            Level::Error,
            "💥 Container dev OOMKilled (exit 137), restart 3"
        )
    );
    let death = all[0].death.clone().unwrap();
    assert_eq!((death.container.as_str(), death.is_previous), ("dev", true));
}

#[test]
fn a_death_has_the_same_restart_number_before_and_after_the_restart() {
    let dead = json!({"restartCount": 2, "state": ended(137, "OOMKilled", "c2")});
    let again = json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(137, "OOMKilled", "c2")});
    assert_eq!(outputs(&dev(dead)), outputs(&dev(again)));
}

#[test]
fn each_way_to_end_has_its_words() {
    for (code, reason, words) in [
        (1, "Error", "failed (exit 1)"),
        (137, "Error", "killed by SIGKILL (exit 137)"),
        (143, "Error", "killed by SIGTERM (exit 143)"),
        (139, "Error", "killed by SIGSEGV (exit 139)"),
        (162, "Error", "killed by signal 34 (exit 162)"),
        (255, "Error", "failed (exit 255)"),
        (128, "StartError", "could not start (exit 128)"),
        (127, "ContainerCannotRun", "could not start (exit 127)"),
        (
            137,
            "ContainerStatusUnknown",
            "was lost sight of (exit 137)",
        ),
    ] {
        let pod = dev(json!({"state": ended(code, reason, "c")}));
        assert_eq!(
            outputs(&pod),
            [format!("💥 Container dev {words}, restart 1")]
        );
    }
    let done = dev(json!({"state": ended(0, "Completed", "c")}));
    assert_eq!(
        outputs(&done),
        ["🏁 Container dev exited (exit 0), restart 1"]
    );
    assert_eq!(reasons(&done, NOW)[0].death, None);
}

#[test]
fn the_termination_message_is_told_on_one_bounded_line() {
    let long = "x".repeat(2_000);
    for (message, told) in [
        (
            "exec: \"nosuch\":\n  not found",
            "exec: \"nosuch\": not found".to_owned(),
        ),
        (long.as_str(), format!("{}…", "x".repeat(500))),
    ] {
        let mut end = ended(1, "Error", "c");
        end["terminated"]["message"] = json!(message);
        let output = format!("💥 Container dev failed (exit 1), restart 1: {told}");
        assert_eq!(outputs(&dev(json!({"state": end}))), [output]);
    }
}

#[test]
fn no_restart_is_promised_where_none_follows() {
    let dead = json!({"state": ended(1, "Error", "c")});
    for (policy, phase, restart) in [
        ("Always", "Running", ", restart 1"),
        ("OnFailure", "Running", ", restart 1"),
        ("Never", "Running", ""),
        ("Always", "Failed", ""),
    ] {
        let pod = pod_with(
            json!({"restartPolicy": policy, "containers": [{"name": "dev"}]}),
            json!({"phase": phase, "containerStatuses": [status(dead.clone())]}),
        );
        let told = format!("💥 Container dev failed (exit 1){restart}");
        assert_eq!(outputs(&pod), [told], "{policy} {phase}");
    }
}

#[test]
fn init_and_ephemeral_containers_may_end_but_not_fail() {
    for (part, spec, restart) in [
        (
            "initContainerStatuses",
            json!({"initContainers": [{"name": "dev"}], "containers": []}),
            ", restart 1",
        ),
        ("ephemeralContainerStatuses", json!({"containers": []}), ""),
    ] {
        let told = |code: i32| {
            let status = json!({"phase": "Pending", part: [status(json!({"state": ended(code, "Error", "c")}))]});
            outputs(&pod_with(spec.clone(), status))
        };
        assert_eq!(told(0), [""; 0], "{part}");
        assert_eq!(
            told(2),
            [format!("💥 Container dev failed (exit 2){restart}")],
            "{part}"
        );
    }
}

#[test]
fn deleting_a_pod_makes_no_death_of_its_containers_unless_memory_ran_out() {
    for (code, reason, n) in [(143, "Error", 0), (137, "OOMKilled", 1)] {
        let mut pod = dev(json!({"state": ended(code, reason, "c")}));
        pod.metadata.deletion_timestamp =
            serde_json::from_value(json!("2027-01-15T08:00:30Z")).unwrap();
        assert_eq!(reasons(&pod, NOW).len(), n, "{reason}");
    }
}

#[test]
fn image_troubles_are_told_by_their_cause() {
    for (reason, message, cause) in [
        (
            "ErrImagePull",
            "failed to resolve reference \"docker.io/x:1\": docker.io/x:1: not found",
            "the registry does not have it; check name and tag",
        ),
        (
            "ErrImagePull",
            "pull access denied, repository does not exist or may require authorization",
            "the registry refuses it: it does not exist or needs a login; check the name and imagePullSecrets",
        ),
        (
            "ErrImagePull",
            "dial tcp: lookup reg.example: no such host",
            "the registry's host name does not resolve",
        ),
        (
            "ErrImagePull",
            "429 Too Many Requests - toomanyrequests: denied",
            "the registry limits how often it is asked; log in with imagePullSecrets or wait",
        ),
        (
            "ErrImagePull",
            "dial tcp 10.0.0.1:443: i/o timeout",
            "the registry does not answer",
        ),
        (
            "ErrImagePull",
            "x509: certificate signed by unknown authority",
            "the registry's certificate is not trusted",
        ),
        (
            "ErrImagePull",
            "no match for platform in manifest: not found",
            "there is no such image for this node's platform",
        ),
        (
            "ErrImagePull",
            "write /var: no space left on device",
            "the node's disk is full",
        ),
        ("ErrImagePull", "something new", "something new"),
        (
            "ImagePullBackOff",
            "Back-off pulling image \"img:1\": ErrImagePull: manifest unknown",
            "the registry does not have it; check name and tag",
        ),
        (
            "InvalidImageName",
            "couldn't parse",
            "the image's name is not valid",
        ),
        (
            "ErrImageNeverPull",
            "",
            "it is not on the node, and imagePullPolicy is Never",
        ),
    ] {
        let told = format!("📦 Container dev cannot pull image img:1: {cause}");
        assert_eq!(outputs(&waiting(reason, message)), [told], "{message}");
    }
    assert_eq!(
        outputs(&waiting(
            "ImagePullBackOff",
            "Back-off pulling image \"img:1\""
        )),
        [""; 0]
    );
    assert_eq!(outputs(&waiting("ErrImagePull", "")), [""; 0]);
}

#[test]
fn a_container_that_cannot_be_made_says_why() {
    assert_eq!(
        outputs(&waiting(
            "CreateContainerConfigError",
            "secret \"s\" not found"
        )),
        ["💥 Container dev cannot start (CreateContainerConfigError): secret \"s\" not found"]
    );
    for usual in ["ContainerCreating", "PodInitializing", "CrashLoopBackOff"] {
        assert_eq!(outputs(&waiting(usual, "m")), [""; 0], "{usual}");
    }
}

#[test]
fn an_evicted_pod_says_so_cl_30() {
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    assert_eq!(
        outputs(&pod(evicted)),
        ["⚠️ Pod ws-1 was evicted: The node was low on resource: memory."]
    );
    let late = json!({"phase": "Failed", "reason": "DeadlineExceeded"});
    assert_eq!(
        outputs(&pod(late)),
        ["⚠️ Pod ws-1 failed (DeadlineExceeded)"]
    );
}

#[test]
fn a_pod_without_status_or_with_every_optional_field_missing_has_no_reasons() {
    assert_eq!(reasons(&Pod::default(), NOW), []);
    assert_eq!(
        outputs(&pod(json!({"containerStatuses": [status(json!({}))]}))),
        [""; 0]
    );
    let bare = dev(json!({"state": {"terminated": {"exitCode": 1}}}));
    let all = reasons(&bare, NOW);
    assert_eq!(all[0].line.created_at, NOW);
    assert_eq!(
        all[0].line.output,
        "💥 Container dev failed (exit 1), restart 1"
    );
}

#[test]
fn each_death_is_told_once_however_its_status_moves_on() {
    let mut told = Told::new();
    let mut new = |rest: Value| take_new(reasons(&dev(rest), NOW), &mut told).len();
    let (first, second) = (ended(1, "Error", "c1"), ended(1, "Error", "c2"));
    assert_eq!(new(json!({"state": first})), 1);
    assert_eq!(new(json!({"state": first})), 0);
    assert_eq!(
        new(json!({"restartCount": 1, "state": {"waiting": {}}, "lastState": first})),
        0
    );
    assert_eq!(
        new(json!({"restartCount": 1, "state": {"running": {}}, "lastState": first})),
        0
    );
    assert_eq!(
        new(json!({"restartCount": 1, "state": second, "lastState": first})),
        1
    );
    assert_eq!(
        new(json!({"restartCount": 1, "state": second, "lastState": first})),
        0
    );
    // The kubelet forgot a run: the count goes down, and nothing new happened.
    assert_eq!(
        new(json!({"restartCount": 0, "state": {"running": {}}, "lastState": second})),
        0
    );
}

#[test]
fn a_pull_that_fails_again_and_again_is_told_once_per_cause() {
    let mut told = Told::new();
    let mut new =
        |reason, message| take_new(reasons(&waiting(reason, message), NOW), &mut told).len();
    assert_eq!(new("ErrImagePull", "not found"), 1);
    assert_eq!(
        new("ImagePullBackOff", "Back-off pulling image \"img:1\""),
        0
    );
    assert_eq!(new("ErrImagePull", "manifest unknown"), 0);
    assert_eq!(new("ErrImagePull", "i/o timeout"), 1);
}
