//! `tawny server`: starting, refusing to start, stopping.

use std::net::TcpListener;

use crate::program::{Home, wait_until, write};

#[test]
fn server_answers_probes_and_stops_in_order_on_sigterm_kl_28() {
    let home = Home::new();
    let server = home.server();
    for path in ["/health", "/healthz", "/livez", "/readyz"] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }
    assert_eq!(server.get("/health").1, "{\"status\":\"ok\"}", "SX-30");
    let (status, metrics) = server.get("/metrics");
    assert_eq!(status, 200);
    for metric in ["process_cpu_seconds_total", "tawny_build_info"] {
        assert!(metrics.contains(metric), "{metric}");
    }
    server.running.signal("TERM");
    let (status, said) = server.running.wait();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("stopping"), "{said}");
    let waits_for_server =
        |line: &str| line.contains("waiting_for=") && line.contains("\"server\"");
    assert!(said.lines().any(waits_for_server), "{said}");
    // The file is free again.
    drop(home.server());
}

#[test]
fn port_in_use_is_told_with_the_flag_that_changes_it() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in [("--http", "--grpc"), ("--grpc", "--http")] {
        home.run(&["server", flag, &address, other, "127.0.0.1:0"])
            .exits(3)
            .says(&format!("cannot listen on {address}"))
            .says(&format!("choose another with {flag}"));
    }
}

#[test]
fn stores_that_cannot_be_used_are_refused() {
    let home = Home::new();
    let on_free_ports = |db: &str| {
        home.run(&[
            "server",
            "--http",
            "127.0.0.1:0",
            "--grpc",
            "127.0.0.1:0",
            "--db",
            db,
        ])
    };
    let text = write(
        &home,
        "notes.db",
        &"these are notes, not a database\n".repeat(100),
    );
    on_free_ports(&text).exits(3).says("is no Tawny store");
    let dir = home.path("dir.db");
    std::fs::create_dir(&dir).unwrap();
    on_free_ports(&dir).exits(3).says("dir.db");
    // A directory of something else is no place for a lake.
    let pages = home.path("pages");
    std::fs::create_dir(&pages).unwrap();
    std::fs::write(format!("{pages}/index.html"), "<html>").unwrap();
    on_free_ports(&pages).exits(3).says("is no Tawny store");

    let running = home.server();
    on_free_ports("t.db").exits(3).says("is in use by process ");
    drop(running);
}

#[test]
fn json_log_is_one_object_a_line() {
    let home = Home::new();
    let mut running = home.start(&[
        "server",
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:0",
        "--log-format",
        "json",
    ]);
    running.wait_for("http listening on ");
    running.signal("TERM");
    let (_, said) = running.wait();
    let line = said.lines().find(|line| line.contains("SIGTERM")).unwrap();
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["level"], "INFO");
    assert_eq!(event["signal"], "SIGTERM");
}

#[test]
fn retention_is_applied_at_the_start_kl_17() {
    let home = Home::new();
    let server = home.server();
    server.load(&home, 200);
    server.running.signal("TERM");
    server.running.wait();
    let server = home.server_with(&["--retention-age", "1ms"]);
    wait_until("everything is too old", || {
        home.run(&["search", "-q", "--server", &server.http]).code == Some(1)
    });
}
