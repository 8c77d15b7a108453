//! `tawny up`: from log files to a search, and every way it refuses to start.

use std::fs;

use crate::program::{Home, Running, get, wait_until, write};

const LISTEN: [&str; 4] = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"];

/// Starts `up` on the pod logs in `pods`; answers it with its URL.
fn up(home: &Home, more: &[&str]) -> (Running, String) {
    let mut args = vec!["up", "--source", "files", "--pod-logs-root", "pods"];
    args.extend(LISTEN);
    args.extend(more);
    let mut running = home.start(&args);
    let url = running.wait_for("http listening on ");
    (running, url)
}

fn write_logs(home: &Home, n: usize) {
    home.run(&[
        "loadgen",
        "--files",
        "pods",
        "--lines",
        &n.to_string(),
        "--rate",
        "0",
    ])
    .exits(0);
}

/// Waits until the store holds `n` lines; more is a failure.
#[track_caller]
fn wait_for_lines(home: &Home, url: &str, n: usize) {
    wait_until(&format!("{n} lines"), || {
        let found = home.run(&["search", "--server", url, "--limit", "0", "-o", "json"]);
        let n_found = found.out.lines().count();
        assert!(n_found <= n, "{n_found} lines instead of {n}");
        n_found == n
    });
}

#[test]
fn log_files_are_collected_once_over_restarts_kl_1() {
    let home = Home::new();
    write_logs(&home, 1_000);
    let (running, url) = up(&home, &[]);
    wait_for_lines(&home, &url, 1_000);
    running.signal("TERM");
    let (status, said) = running.wait();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("runtime chosen"), "SX-7: {said}");

    let (running, url) = up(&home, &["--log-format", "json"]);
    wait_for_lines(&home, &url, 1_000);
    running.signal("KILL");
    running.wait();

    let (_running, url) = up(&home, &[]);
    wait_for_lines(&home, &url, 1_000);
}

#[test]
fn agent_sends_to_a_server_and_survives_its_restart_kl_2() {
    let home = Home::new();
    write_logs(&home, 700);
    let server = home.server();
    let agent = |server: &str| {
        let mut agent = home.start(&[
            "agent",
            "--server",
            server,
            "--source",
            "files",
            "--pod-logs-root",
            "pods",
            "--http",
            "127.0.0.1:0",
            "--node-name",
            "n1",
        ]);
        let url = agent.wait_for("http listening on ");
        (agent, url)
    };
    let (running, probes) = agent(&server.grpc);
    wait_for_lines(&home, &server.http, 700);
    let found = home.run(&["search", "--server", &probes]).exits(3);
    assert!(
        found.err.contains("there is nothing at"),
        "only probes are there: {}",
        found.err
    );

    let (grpc, http) = (server.grpc.clone(), server.http.clone());
    drop(server);
    let _server = home.start(&[
        "server",
        "--grpc",
        &grpc,
        "--http",
        http.trim_start_matches("http://"),
        "--db",
        "t.db",
    ]);
    write_logs(&home, 300);
    wait_for_lines(&home, &http, 1_000);

    running.signal("TERM");
    let (status, said) = running.wait();
    assert_eq!(status.code(), Some(0), "{said}");
    // Started as kubelogs' collector is.
    let mut again = home.start_with(
        &["agent", "--source", "files", "--pod-logs-root", "pods"],
        &[("NODE_NAME", "n1"), ("KUBELOGS_STORAGE_ADDR", &grpc)],
    );
    again.wait_for("sending to a server");
    write_logs(&home, 1);
    wait_for_lines(&home, &http, 1_001);
}

#[test]
fn agent_without_a_server_keeps_lines_in_a_local_store_kl_21() {
    let home = Home::new();
    write_logs(&home, 50);
    let mut args = vec![
        "agent",
        "--source",
        "files",
        "--pod-logs-root",
        "pods",
        "--db",
        "t.db",
    ];
    args.extend(["--http", "127.0.0.1:0"]);
    let mut agent = home.start(&args);
    agent.wait_for("no server is named; keeping the lines here");
    let probes = agent.wait_for("http listening on ");
    assert_eq!(get(&probes, "/readyz").0, 200);
    wait_until("all lines are read", || {
        let metrics = get(&probes, "/metrics").1;
        let n_read: u64 = metrics
            .lines()
            .filter(|line| line.starts_with("tawny_lines_read_total"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        n_read == 50
    });
    agent.signal("TERM");
    let (status, said) = agent.wait();
    assert_eq!(status.code(), Some(0), "{said}");
    let server = home.server();
    wait_for_lines(&home, &server.http, 50);
}

#[test]
fn agent_with_an_address_that_is_none_is_refused() {
    let home = Home::new();
    home.run(&["agent", "--source", "files", "--server", "tawny-server"])
        .exits(2)
        .says("server address `tawny-server` names no port");
}

#[test]
fn exclusions_hold_for_files() {
    let home = Home::new();
    write_logs(&home, 500);
    let namespaces: Vec<String> = fs::read_dir(home.dir.path().join("pods"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.split('_').next().unwrap().to_owned())
        .collect();
    let (first, rest) = namespaces.split_first().unwrap();
    let other = rest.iter().find(|name| *name != first).unwrap();
    let (_running, url) = up(
        &home,
        &[
            "--namespace",
            first,
            "-n",
            other,
            "--exclude-namespace",
            other,
        ],
    );
    let search = |namespace: &str| {
        home.run(&["search", "--server", &url, "-q", "-n", namespace])
            .code
    };
    wait_until("lines of the chosen namespace", || search(first) == Some(0));
    assert_eq!(search(other), Some(1));
}

#[test]
fn no_runtime_is_told_with_all_that_was_looked_for_sx_4() {
    let home = Home::new();
    let file = write(&home, "docker.sock", "");
    let nowhere = home.path("nowhere.sock");
    home.run(&["up", "--docker-socket", &file, "--podman-socket", &nowhere])
        .exits(2)
        .says("no runtime detected: set STRIXLOG_ENV=docker or STRIXLOG_ENV=kubernetes")
        .says(&format!("docker socket {file} (is no socket)"))
        .says(&format!("podman socket {nowhere} (not there)"))
        .says(".kube/config (not there)");
}

#[test]
fn socket_that_is_a_file_is_refused_even_when_the_runtime_is_named_sx_3() {
    let home = Home::new();
    let file = write(&home, "docker.sock", "");
    let mut args = vec!["up", "--runtime", "docker", "--docker-socket", &file];
    args.extend(LISTEN);
    home.run(&args)
        .exits(2)
        .says("docker.sock` is no socket; name the engine's with --docker-socket");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let home = Home::new();
    home.run(&["up", "--runtime", "docker", "--source", "files"])
        .exits(2)
        .says("--source files does not go with runtime docker");
    home.run(&["up", "--runtime", "kubernetes", "--source", "docker"])
        .exits(2)
        .says("--source docker does not go with runtime kubernetes");
    home.run(&["up", "--runtime", "nomad"])
        .exits(2)
        .says("possible values: auto, kubernetes, docker, podman");
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let home = Home::new();
    fs::create_dir(home.dir.path().join("pods")).unwrap();
    let up = |more: &[&str]| {
        let mut args = vec!["up", "--source", "files", "--pod-logs-root", "pods"];
        args.extend(LISTEN);
        args.extend(more);
        home.run(&args)
    };
    up(&["--selector", "app in"])
        .exits(2)
        .says("selector `app in`");
    up(&["--include-container", "("])
        .exits(2)
        .says("`(` is no regular expression");
    home.run(&[
        "up",
        "--source",
        "files",
        "--pod-logs-root",
        "missing",
        LISTEN[0],
        LISTEN[1],
        LISTEN[2],
        LISTEN[3],
    ])
    .exits(3)
    .says("cannot list missing");
}

#[test]
fn kubeconfig_that_is_missing_or_broken_is_told_with_its_path() {
    let home = Home::new();
    let api = |more: &[&str]| {
        let mut args = vec!["up", "--source", "api"];
        args.extend(LISTEN);
        args.extend(more);
        home.run(&args)
    };
    api(&[])
        .exits(3)
        .says("no kubeconfig: ")
        .says("name one with --kubeconfig");
    let broken = write(&home, "broken.yaml", "clusters: [");
    api(&["--kubeconfig", &broken]).exits(3).says(&broken);
    let empty = write(&home, "empty.yaml", "apiVersion: v1\nkind: Config\n");
    api(&["--kubeconfig", &empty])
        .exits(3)
        .says("has no current context");
    api(&["--kubeconfig", &empty, "--context", "prod"])
        .exits(3)
        .says("has no context `prod`");
}
