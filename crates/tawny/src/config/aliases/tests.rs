//! Every row of the alias table: what it sets, what it refuses, and that it must agree with its native name.

use std::collections::BTreeSet;

use super::*;
use crate::config::{Loaded, Sources, load};

fn load_env(vars: &[(&str, &str)]) -> Result<Loaded, String> {
    let env = Env::of(vars);
    load(&Sources {
        env: &env,
        named_file: None,
        default_files: Vec::new(),
        flags: Vec::new(),
    })
    .map_err(|problems| problems.to_string())
}

/// The value of `key` as `config print` shows it.
fn shown(loaded: &Loaded, key: &str) -> String {
    loaded
        .effective()
        .find(|effective| effective.key.path == key)
        .unwrap_or_else(|| panic!("{key}"))
        .value
}

#[test]
fn each_alias_sets_its_key_kl_20_to_34() {
    let table = [
        ("STRIXLOG_ENV", "docker", "runtime", "docker"),
        ("STRIXLOG_NAMESPACE", "shop", "collect.namespaces", "shop"),
        ("PORT", "9000", "http.listen", ":9000"),
        ("HOSTNAME", "me-0", "collect.self_pod", "me-0"),
        ("NODE_NAME", "n1", "collect.node_name", "n1"),
        ("POD_NAME", "me-1", "collect.self_pod", "me-1"),
        ("POD_NAMESPACE", "logs", "collect.self_namespace", "logs"),
        ("POD_UID", "u-1", "collect.self_uid", "u-1"),
        ("VECTOR_SELF_NODE_NAME", "n1", "collect.node_name", "n1"),
        ("KUBECONFIG", "/a:/b", "kubernetes.kubeconfig", "/a:/b"),
        (
            "DOCKER_HOST",
            "unix:///d.sock",
            "engine.docker_socket",
            "/d.sock",
        ),
        (
            "CONTAINER_HOST",
            "unix:///p.sock",
            "engine.podman_socket",
            "/p.sock",
        ),
        (
            "KUBELOGS_STORAGE_ADDR",
            "s:50051",
            "agent.server",
            "s:50051",
        ),
        ("KUBELOGS_DB_PATH", "/data/k.db", "store.path", "/data/k.db"),
        ("CODER_URL", "https://coder", "coder.url", "https://coder"),
        ("CODER_NAMESPACES", "a,b", "coder.namespaces", "a,b"),
        ("CODER_NAMESPACE", "a", "coder.namespaces", "a"),
        ("CODER_FIELD_SELECTOR", "a=b", "coder.field_selector", "a=b"),
        ("CODER_LABEL_SELECTOR", "a=b", "coder.label_selector", "a=b"),
        (
            "CODER_LOGSTREAM_METRICS_ADDR",
            ":2112",
            "coder.metrics",
            ":2112",
        ),
        ("SSL_CERT_FILE", "/ca.pem", "coder.ca_file", "/ca.pem"),
        ("SSL_CERT_DIR", "/a:/b", "coder.ca_dirs", "/a:/b"),
        ("KUBELOGS_MAX_STREAMS", "7", "collect.max_streams", "7"),
        ("KUBELOGS_BATCH_SIZE", "250", "collect.batch_entries", "250"),
        (
            "KUBELOGS_BATCH_TIMEOUT",
            "5s",
            "collect.batch_timeout",
            "5s",
        ),
        (
            "KUBELOGS_EXCLUDE_NS",
            "a,b",
            "collect.exclude_namespaces",
            "a,b",
        ),
        ("KUBELOGS_INCLUDE_NS", "a,b", "collect.namespaces", "a,b"),
        (
            "KUBELOGS_SHUTDOWN_TIMEOUT",
            "10s",
            "shutdown_timeout",
            "10s",
        ),
        (
            "KUBELOGS_STREAM_IDLE_TIMEOUT",
            "1m",
            "collect.idle_timeout",
            "1m",
        ),
        ("KUBELOGS_LISTEN_ADDR", ":6000", "grpc.listen", ":6000"),
        (
            "KUBELOGS_HTTP_ADDR",
            "127.0.0.1:80",
            "http.listen",
            "127.0.0.1:80",
        ),
        ("KUBELOGS_HTTP_ENABLED", "0", "http.enabled", "false"),
        ("KUBELOGS_RETENTION_DAYS", "7", "store.retention_age", "7d"),
        (
            "AWS_ENDPOINT_URL_S3",
            "http://minio:9000",
            "s3.endpoint",
            "http://minio:9000",
        ),
        (
            "AWS_ENDPOINT_URL",
            "http://minio:9000",
            "s3.endpoint",
            "http://minio:9000",
        ),
        ("AWS_REGION", "eu-west-1", "s3.region", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1", "s3.region", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKIA", "s3.access_key_id", "AKIA"),
        (
            "AWS_SECRET_ACCESS_KEY",
            "hidden",
            "s3.secret_access_key",
            "***",
        ),
        ("AWS_SESSION_TOKEN", "hidden", "s3.session_token", "***"),
    ];
    for (name, value, key, expected) in table {
        let loaded = load_env(&[(name, value)]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(shown(&loaded, key), expected, "{name}");
        assert_eq!(
            loaded.layers.origin(key),
            &Origin::Env(name.to_owned()),
            "{name}"
        );
    }
    let tested: BTreeSet<&str> = table.iter().map(|row| row.0).collect();
    for alias in ALIASES {
        if let Meaning::Of(..) | Meaning::Fallback(..) = alias.meaning {
            assert!(tested.contains(alias.name), "{} has no row", alias.name);
        }
    }
}

#[test]
fn wrong_values_are_refused_loudly_kl_35() {
    for (name, value) in [
        ("PORT", "http"),
        ("KUBELOGS_MAX_STREAMS", "many"),
        ("KUBELOGS_BATCH_SIZE", "-1"),
        ("KUBELOGS_BATCH_TIMEOUT", "5"),
        ("KUBELOGS_SHUTDOWN_TIMEOUT", "x"),
        ("KUBELOGS_STREAM_IDLE_TIMEOUT", "x"),
        ("KUBELOGS_LISTEN_ADDR", "nowhere"),
        ("KUBELOGS_HTTP_ADDR", "nowhere"),
        ("KUBELOGS_HTTP_ENABLED", "maybe"),
        ("KUBELOGS_RETENTION_DAYS", "7d"),
    ] {
        let error = load_env(&[(name, value)]).map(drop).unwrap_err();
        assert!(error.starts_with(&format!("{name} = \"")), "{error}");
    }
}

#[test]
fn unknown_strixlog_env_has_its_exact_text_sx_1() {
    for (value, text) in [
        ("nomad", "unknown STRIXLOG_ENV: \"nomad\""),
        ("podman", "unknown STRIXLOG_ENV: \"podman\""),
    ] {
        assert_eq!(
            load_env(&[("STRIXLOG_ENV", value)]).map(drop).unwrap_err(),
            text
        );
    }
}

#[test]
fn alias_and_native_name_must_agree() {
    let error = load_env(&[("PORT", "8081"), ("TAWNY_HTTP_LISTEN", ":8080")])
        .map(drop)
        .unwrap_err();
    assert_eq!(
        error,
        "TAWNY_HTTP_LISTEN=:8080 and PORT=:8081 both set `http.listen`, to different values; unset one"
    );
    let error = load_env(&[("PORT", "8081"), ("KUBELOGS_HTTP_ADDR", ":8080")])
        .map(drop)
        .unwrap_err();
    assert!(error.contains("PORT=:8081 and KUBELOGS_HTTP_ADDR=:8080"));
    // Written differently, the same value.
    let loaded = load_env(&[
        ("KUBELOGS_BATCH_TIMEOUT", "1000ms"),
        ("TAWNY_COLLECT_BATCH_TIMEOUT", "1s"),
        ("PORT", "8080"),
        ("KUBELOGS_HTTP_ADDR", "[::]:8080"),
    ])
    .unwrap();
    assert_eq!(shown(&loaded, "collect.batch_timeout"), "1s");
}

#[test]
fn variables_of_other_programs_give_way_to_ours() {
    let loaded = load_env(&[
        ("HOSTNAME", "node-7"),
        ("POD_NAME", "tawny-x"),
        ("KUBECONFIG", "/theirs"),
        ("TAWNY_KUBERNETES_KUBECONFIG", "/ours"),
    ])
    .unwrap();
    assert_eq!(shown(&loaded, "collect.self_pod"), "tawny-x");
    assert_eq!(shown(&loaded, "kubernetes.kubeconfig"), "/ours");
}

#[test]
fn login_that_does_not_exist_is_refused_and_its_details_warned_of_kl_33_34() {
    let error = load_env(&[("KUBELOGS_AUTH_ENABLED", "true")])
        .map(drop)
        .unwrap_err();
    assert!(
        error.starts_with("KUBELOGS_AUTH_ENABLED=true is not supported: there is no login yet"),
        "{error}"
    );
    let loaded = load_env(&[
        ("KUBELOGS_AUTH_ENABLED", "false"),
        ("KUBELOGS_SESSION_DURATION", "24h"),
        ("KUBELOGS_SESSION_SECURE", "true"),
        ("KUBELOGS_STREAM_BUFFER", "1000"),
        ("KUBELOGS_SINCE", "15m"),
        ("DOCKER_HOST", "tcp://10.0.0.1:2375"),
    ])
    .unwrap();
    let warned: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned.len(), 5, "{warned:?}");
    for (warning, name) in warned.iter().zip([
        "DOCKER_HOST",
        "KUBELOGS_SINCE",
        "KUBELOGS_STREAM_BUFFER",
        "KUBELOGS_SESSION_DURATION",
        "KUBELOGS_SESSION_SECURE",
    ]) {
        assert!(
            warning.starts_with(&format!("{name} has no effect: ")),
            "{warning}"
        );
    }
}

#[test]
fn kubelogs_variables_leave_kube_system_out_unless_told_otherwise_kl_27() {
    let loaded = load_env(&[("KUBELOGS_DB_PATH", "k.db")]).unwrap();
    assert_eq!(shown(&loaded, "collect.exclude_namespaces"), "kube-system");
    let loaded = load_env(&[("KUBELOGS_EXCLUDE_NS", "x")]).unwrap();
    assert_eq!(shown(&loaded, "collect.exclude_namespaces"), "x");
    let loaded = load_env(&[]).unwrap();
    assert_eq!(shown(&loaded, "collect.exclude_namespaces"), "");
}

#[test]
fn strixlog_variables_collect_their_own_namespace_sx_11() {
    let mut env = Env::of(&[("STRIXLOG_ENV", "kubernetes")]);
    env.own_namespace = Some("shop".to_owned());
    let mut layers = Layers::default();
    profiles(&env, &mut layers);
    assert_eq!(
        layers.get("collect.namespaces").unwrap().1,
        Raw::Text("shop".to_owned())
    );
}
