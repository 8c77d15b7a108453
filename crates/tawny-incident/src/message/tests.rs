//! Messages as kubelet, scheduler, containerd, CRI-O and registries write them.

use proptest::prelude::*;

use super::*;

#[test]
fn pull_messages_are_told_apart() {
    // Section 4.2 row 7.
    for (message, failure) in [
        (
            "rpc error: code = NotFound desc = failed to pull and unpack image \"docker.io/library/nginx:nope\": failed to resolve reference \"docker.io/library/nginx:nope\": docker.io/library/nginx:nope: not found",
            PullFailure::NotFound,
        ),
        (
            "rpc error: code = Unknown desc = reading manifest nope in docker.io/library/nginx: manifest unknown",
            PullFailure::NotFound,
        ),
        (
            "failed to pull and unpack image \"docker.io/acme/private:1\": failed to resolve reference \"docker.io/acme/private:1\": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
            PullFailure::Unauthorized,
        ),
        (
            "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token: 401 Unauthorized",
            PullFailure::Unauthorized,
        ),
        (
            "failed to do request: Head \"https://registry.local/v2/app/manifests/1\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
            PullFailure::Certificate,
        ),
        (
            "failed to do request: Head \"https://10.0.0.9:5000/v2/app/manifests/1\": dial tcp 10.0.0.9:5000: i/o timeout",
            PullFailure::Timeout,
        ),
        (
            "failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/redis/manifests/sha256:1: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit.",
            PullFailure::RateLimit,
        ),
        (
            "rpc error: code = NotFound desc = failed to pull and unpack image \"docker.io/acme/app:1\": no match for platform in manifest: not found",
            PullFailure::NoMatchingManifest,
        ),
        (
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            PullFailure::NoMatchingManifest,
        ),
        (
            "failed to do request: Head \"http://127.0.0.1:9/v2/absent/manifests/1\": dial tcp 127.0.0.1:9: connect: connection refused",
            PullFailure::Unreachable,
        ),
        (
            "dial tcp: lookup registry.nowhere.test on 10.96.0.10:53: no such host",
            PullFailure::Unreachable,
        ),
        (
            "write /var/lib/containerd/x: no space left on device",
            PullFailure::NoSpace,
        ),
        (
            "Back-off pulling image \"nginx:nope\"",
            PullFailure::Unknown,
        ),
        ("", PullFailure::Unknown),
    ] {
        assert_eq!(pull_failure("ErrImagePull", message), failure, "{message}");
    }
    for (reason, failure) in [
        ("InvalidImageName", PullFailure::InvalidName),
        ("ErrImageNeverPull", PullFailure::NeverPulled),
        ("SignatureValidationFailed", PullFailure::Signature),
    ] {
        assert_eq!(pull_failure(reason, "x not found"), failure);
    }
}

#[test]
fn missing_objects_and_keys_are_named() {
    // Section 4.2 row 8.
    for (message, label) in [
        (
            "secret \"db-credentials\" not found",
            Some("secret \"db-credentials\""),
        ),
        ("configmap \"app\" not found", Some("configmap \"app\"")),
        ("Error: secret \"db\" not found", Some("secret \"db\"")),
        (
            "couldn't find key url in Secret shop/db",
            Some("key \"url\" of secret \"db\""),
        ),
        (
            "couldn't find key LOG_LEVEL in ConfigMap shop/app",
            Some("key \"LOG_LEVEL\" of configmap \"app\""),
        ),
        (
            "MountVolume.SetUp failed for volume \"tls\" : secret \"web-tls\" not found",
            Some("secret \"web-tls\""),
        ),
        (
            "MountVolume.SetUp failed for volume \"tls\" : references non-existent secret key: ca.crt",
            Some("key \"ca.crt\" of a secret"),
        ),
        (
            "MountVolume.SetUp failed for volume \"c\" : references non-existent config key: app.yaml",
            Some("key \"app.yaml\" of a configmap"),
        ),
        (
            "0/3 nodes are available: persistentvolumeclaim \"data\" not found.",
            Some("persistentvolumeclaim \"data\""),
        ),
        (
            "pods \"web-\" is forbidden: error looking up service account shop/web: serviceaccount \"web\" not found",
            Some("serviceaccount \"web\""),
        ),
        (
            "container has runAsNonRoot and image will run as root",
            None,
        ),
        ("secret \"half", None),
        ("couldn't find key ", None),
        ("", None),
    ] {
        let found = missing(message).map(|missing| missing.label());
        assert_eq!(found.as_deref(), label, "{message}");
    }
}

#[test]
fn scheduling_messages_count_nodes_per_cause() {
    // Section 4.2 row 13.
    let counts = |message| refusals(message).into_iter().collect::<Vec<_>>();
    let of = |pairs: &[(&str, u32)]| {
        pairs
            .iter()
            .map(|(reason, count)| ((*reason).to_owned(), *count))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        counts(
            "0/5 nodes are available: 3 Insufficient cpu, 2 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }. preemption: 0/5 nodes are available: 2 Preemption is not helpful for scheduling, 3 No preemption victims found for incoming pod."
        ),
        of(&[
            ("Insufficient cpu", 3),
            (
                "had untolerated taint {node-role.kubernetes.io/control-plane: }",
                2
            )
        ])
    );
    assert_eq!(
        counts(
            "0/1 nodes are available: 1 node(s) had taint {dedicated: gpu}, that the pod didn't tolerate."
        ),
        of(&[(
            "had taint {dedicated: gpu}, that the pod didn't tolerate",
            1
        )])
    );
    assert_eq!(
        counts(
            "(combined from similar events): 0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        ),
        of(&[("pod has unbound immediate PersistentVolumeClaims", 3)])
    );
    assert_eq!(
        counts("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
        of(&[("didn't match Pod's node affinity/selector", 1)])
    );
    for other in [
        "",
        "no nodes available to schedule pods",
        "x nodes are available: ",
    ] {
        assert_eq!(counts(other), of(&[]), "{other}");
    }
    assert_eq!(
        counts("0/9 nodes are available: 4294967295 a, 7 a."),
        of(&[("a", u32::MAX)])
    );
}

#[test]
fn mount_messages_are_told_apart_and_name_their_object() {
    // Section 4.2 row 14.
    for (reason, message, failure, object) in [
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"tls\" : secret \"web-tls\" not found",
            MountFailure::ObjectMissing,
            "secret \"web-tls\"",
        ),
        (
            "FailedMount",
            "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[data kube-api-access-x7x2k]: timed out waiting for the condition",
            MountFailure::Timeout,
            "volume \"data\"",
        ),
        (
            "FailedAttachVolume",
            "Multi-Attach error for volume \"pvc-0f6c\" Volume is already exclusively attached to one node and can't be attached to another",
            MountFailure::MultiAttach,
            "volume \"pvc-0f6c\"",
        ),
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"h\" : hostPath type check failed: /data is not a directory",
            MountFailure::HostPath,
            "volume \"h\"",
        ),
        (
            "ProvisioningFailed",
            "storageclass.storage.k8s.io \"fast\" not found",
            MountFailure::Provisioning,
            "",
        ),
        ("FailedMount", "", MountFailure::Other, ""),
    ] {
        assert_eq!(mount_failure(reason, message), failure, "{message}");
        assert_eq!(volume_of(message), object, "{message}");
    }
}

#[test]
fn repeats_of_one_message_have_one_template() {
    // Section 4.4, row "Aggregation".
    let first = "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox \"b24e7c7b7d9a0c\": plugin type=\"bridge\" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.88.0.1-10.88.255.254";
    let second = "(combined from similar events): Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox \"0cf1d2aa19b3e4\": plugin type=\"bridge\" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.88.0.1-10.88.255.254";
    assert_eq!(template(first, &[]), template(second, &[]));
    assert_eq!(
        template(
            "Back-off 5m0s restarting web-5d4f8c7b9d-x2x9z in pod 7b0a3e9c-5f1d-4c2b-9e1f-000000000001",
            &[]
        ),
        "Back-off #m#s restarting web-# in pod #"
    );
    assert_eq!(
        template("Error: pod shop/web-abcde is gone", &["web-abcde"]),
        "Error: pod shop/# is gone"
    );
    // Words made of hash letters alone stay words.
    assert_eq!(template("bad face, dead wgxl", &[]), "bad face, dead wgxl");
    assert_eq!(template(&"ä".repeat(1000), &[]).chars().count(), 160);
}

proptest! {
    #[test]
    fn any_message_is_survived(message in ".{0,200}", reason in "[A-Za-z]{0,12}") {
        let _parsed = (
            pull_failure(&reason, &message),
            missing(&message),
            refusals(&message),
            mount_failure(&reason, &message),
            volume_of(&message),
        );
        prop_assert!(template(&message, &[]).chars().count() <= 160);
    }

    #[test]
    fn fragments_of_known_wordings_are_survived(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("secret \""), Just("\" not found"), Just("couldn't find key "), Just(" in Secret "),
                Just("0/5 nodes are available: "), Just(", "), Just("3 x"), Just("unmounted volumes=["),
                Just("]"), Just("for volume \""), Just(" key: "), Just("non-existent secret"), Just(" preemption: "),
            ],
            0..8,
        )
    ) {
        let message = parts.concat();
        let _parsed = (missing(&message), refusals(&message), volume_of(&message));
    }
}
