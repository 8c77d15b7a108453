//! Precedence, conflicts and messages of a whole configuration.

use std::fs;

use super::*;
use crate::config::value::Raw;

fn given(path: &str, value: &str) -> Given {
    Given {
        key: keys::find(path).unwrap(),
        origin: Origin::Flag(format!("--{}", keys::find(path).unwrap().flag.unwrap())),
        value: Raw::Text(value.to_owned()),
    }
}

fn origin_of(loaded: &Loaded, path: &str) -> (String, String) {
    let effective = loaded.effective().find(|e| e.key.path == path).unwrap();
    (effective.value, effective.origin.to_string())
}

#[test]
fn flags_win_over_variables_over_files_over_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let system = dir.path().join("system.yaml");
    let user = dir.path().join("user.yaml");
    fs::write(&system, "cluster: system\nlog:\n  level: debug\n").unwrap();
    fs::write(
        &user,
        "cluster: user\nstore:\n  path: file.db\n  retention_age: 1d\nhttp:\n  listen: 1\n",
    )
    .unwrap();
    let env = Env::of(&[("TAWNY_STORE_PATH", "env.db"), ("TAWNY_HTTP_LISTEN", "2")]);
    let loaded = load(&Sources {
        env: &env,
        named_file: None,
        default_files: vec![system.clone(), user.clone()],
        flags: vec![given("http.listen", "3")],
    })
    .unwrap();
    let user = user.display();
    for (key, value, origin) in [
        ("http.listen", "3", "flag --http".to_owned()),
        ("store.path", "env.db", "env TAWNY_STORE_PATH".to_owned()),
        ("store.retention_age", "1d", format!("file {user}:4")),
        ("cluster", "user", format!("file {user}:1")),
        ("log.level", "debug", format!("file {}:3", system.display())),
        ("grpc.listen", "50051", "default".to_owned()),
    ] {
        assert_eq!(origin_of(&loaded, key), (value.to_owned(), origin), "{key}");
    }
    assert_eq!(loaded.files.len(), 2);
}

#[test]
fn every_problem_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yaml");
    fs::write(&file, "store:\n  retention_age: soon\nnope: 1\n").unwrap();
    let env = Env::of(&[("TAWNY_COLLECT_MAX_STREAMS", "few")]);
    let problems = load(&Sources {
        env: &env,
        named_file: Some(file.clone()),
        default_files: Vec::new(),
        flags: Vec::new(),
    })
    .map(drop)
    .unwrap_err()
    .to_string();
    let file = file.display();
    for line in [
        format!("{file}:3: unknown key `nope`"),
        format!("{file}:2: store.retention_age = \"soon\": is no duration"),
        "TAWNY_COLLECT_MAX_STREAMS = \"few\": must be a whole number".to_owned(),
    ] {
        assert!(problems.contains(&line), "{line}\n{problems}");
    }
}

#[test]
fn values_that_would_stall_the_process_are_refused() {
    for (key, value) in [
        ("shutdown_timeout", "0s"),
        ("collect.max_streams", "0"),
        ("collect.max_line", "100MiB"),
        ("limits.max_queries", "0"),
    ] {
        let env = Env::of(&[]);
        let problems = load(&Sources {
            env: &env,
            named_file: None,
            default_files: Vec::new(),
            flags: vec![Given {
                origin: Origin::Flag("--set".to_owned()),
                key: keys::find(key).unwrap(),
                value: Raw::Text(value.to_owned()),
            }],
        })
        .map(drop)
        .unwrap_err()
        .to_string();
        assert!(problems.contains("must be "), "{key}: {problems}");
    }
}

#[test]
fn named_file_must_be_there() {
    let env = Env::of(&[("TAWNY_CONFIG", "/nonexistent/tawny.yaml")]);
    let error = load(&Sources::of(&env, None, Vec::new()))
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read configuration file /nonexistent/tawny.yaml"),
        "{error}"
    );
}

#[test]
fn explicit_runtime_keeps_the_name_it_was_asked_by_sx_7() {
    let env = Env::of(&[("STRIXLOG_ENV", "docker")]);
    let loaded = load(&Sources {
        env: &env,
        named_file: None,
        default_files: Vec::new(),
        flags: Vec::new(),
    })
    .unwrap();
    assert_eq!(
        loaded.explicit_runtime(),
        Some(Explicit {
            setting: "env STRIXLOG_ENV".to_owned(),
            value: "docker".to_owned()
        })
    );
}

#[test]
fn probes_follow_kubeconfig_and_the_runtime_directory() {
    let env = Env::of(&[
        ("KUBECONFIG", "/a:/b"),
        ("XDG_RUNTIME_DIR", "/run/user/7"),
        ("HOME", "/h"),
    ]);
    let loaded = load(&Sources {
        env: &env,
        named_file: None,
        default_files: Vec::new(),
        flags: Vec::new(),
    })
    .unwrap();
    let probes = loaded.probes(&env);
    assert_eq!(probes.kubeconfigs, [Path::new("/a"), Path::new("/b")]);
    assert_eq!(
        probes.podman_sockets,
        [
            Path::new("/run/user/7/podman/podman.sock"),
            Path::new("/run/podman/podman.sock")
        ]
    );
}

#[test]
fn reference_on_disk_is_the_current_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let on_disk = fs::read_to_string(path).unwrap_or_default();
    assert!(
        on_disk == reference::markdown(),
        "docs/configuration.md is stale; write it anew with:\n  \
         cargo run -p tawny -- config reference > docs/configuration.md"
    );
}
