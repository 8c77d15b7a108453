//! `tawny storage`: looking into a lake, stopped and running, whole and damaged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::program::{Home, Server};

/// A server on a lake whose rows mostly lie in segments, with so many lines in it.
fn lake_with(home: &Home, n_lines: usize) -> Server {
    let server = home.server_on("lake", &["--set", "store.memory=1MiB"]);
    server.load(home, n_lines);
    server
}

fn stop(server: Server) {
    server.running.signal("TERM");
    let (status, said) = server.running.wait();
    assert_eq!(status.code(), Some(0), "{said}");
}

fn files_below(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

const ON_LAKE: [&str; 2] = ["--db", "lake"];

fn storage(home: &Home, args: &[&str]) -> crate::program::Ran {
    let args = [&["storage"], args, &ON_LAKE].concat();
    home.run(&args)
}

#[test]
fn running_store_is_inspected_verified_and_exported_but_not_compacted() {
    let home = Home::new();
    let server = lake_with(&home, 4_000);
    let summary: Value =
        serde_json::from_str(&storage(&home, &["inspect", "-o", "json"]).exits(0).out).unwrap();
    assert!(
        summary["segments"].as_array().unwrap().len() > 1,
        "{summary}"
    );
    let table = storage(&home, &["inspect"]).exits(0).out;
    assert!(
        table.contains("SEGMENT") && table.contains("LOG FILE"),
        "{table}"
    );
    let verified = storage(&home, &["verify"]).exits(0).out;
    assert!(verified.starts_with("clean: "), "{verified}");
    assert_eq!(
        storage(&home, &["export"]).exits(0).out.lines().count(),
        4_000
    );

    storage(&home, &["compact"])
        .exits(3)
        .says("a running server merges by itself")
        .says(&format!("is in use by process {}", server.running.id()));
    stop(server);
    let said = storage(&home, &["compact"]).exits(0).out;
    assert!(said.contains(", 1 of "), "{said}");
    let summary: Value =
        serde_json::from_str(&storage(&home, &["inspect", "-o", "json"]).exits(0).out).unwrap();
    let segments = summary["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 1, "{summary}");
    let path = segments[0]["path"].as_str().unwrap();
    let content = storage(&home, &["inspect", path]).exits(0).out;
    for part in ["message", "index: tokens", "STREAM"] {
        assert!(content.contains(part), "{content}");
    }
    let verified = storage(&home, &["verify"]).exits(0).out;
    assert!(
        verified.contains("wait for a server to remove them"),
        "{verified}"
    );
    assert_eq!(
        storage(&home, &["export"]).exits(0).out.lines().count(),
        4_000
    );
}

#[test]
fn export_says_what_search_says_and_is_read_as_parquet() {
    let home = Home::new();
    let server = lake_with(&home, 3_000);
    let query = "level>=error OR status:200";
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let exported = storage(&home, &["export", "--query", query]).exits(0);
    let search = [
        "search",
        query,
        "-o",
        "json",
        "--limit",
        "0",
        "--server",
        &server.http,
    ];
    let found = home.run(&search).exits(0);
    assert!(!found.out.is_empty());
    assert!(lines(&exported.out) == lines(&found.out));

    let file = home.path("all.parquet");
    storage(&home, &["export", "-o", &file]).exits(0);
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    storage(&home, &["export", "--query", "nosuchword"]).exits(1);
    storage(&home, &["export", "--query", "level>"])
        .exits(2)
        .says("query does not parse");
    storage(&home, &["export", "--since", "soon"])
        .exits(2)
        .says("--since");
}

#[test]
fn plan_of_a_query_names_the_blocks_and_what_spares_the_others() {
    let home = Home::new();
    stop(lake_with(&home, 3_000));
    let plan = storage(&home, &["inspect", "--query", "nosuchword"])
        .exits(0)
        .out;
    assert!(plan.starts_with("0 of "), "{plan}");
    let args = ["inspect", "--query", "namespace:nowhere", "-o", "json"];
    let plan: Value = serde_json::from_str(&storage(&home, &args).exits(0).out).unwrap();
    for segment in plan["segments"].as_array().unwrap() {
        assert_eq!(segment["spared"]["stream"], segment["blocks"], "{plan}");
    }
    let plan = storage(&home, &["inspect", "--to", "2020-01-01"])
        .exits(0)
        .out;
    assert!(
        plan.starts_with("0 of ") && plan.contains("spared by time"),
        "{plan}"
    );
}

#[test]
fn damage_is_named_with_its_file_and_what_it_means() {
    let home = Home::new();
    stop(lake_with(&home, 3_000));
    let segment = files_below(&home.dir.path().join("lake"), ".parquet").remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let found = storage(&home, &["verify"]).exits(1).out;
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(
        found.contains("damage: logs/date=") && found.contains(name),
        "{found}"
    );
    assert!(found.contains("answer with an error"), "{found}");
    storage(&home, &["export"]).exits(3).says("--skip-damaged");
    let saved = storage(&home, &["export", "--skip-damaged"])
        .exits(1)
        .says("left out");
    assert!(saved.out.lines().count() > 0);
    fs::remove_file(segment).unwrap();
    let found = storage(&home, &["verify"]).exits(1).out;
    assert!(found.contains("the disk has not"), "{found}");
}

#[test]
fn sqlite_store_is_verified_and_otherwise_told_apart() {
    let home = Home::new();
    let server = home.server();
    server.load(&home, 500);
    let verified = home
        .run(&["storage", "verify", "--db", "t.db"])
        .exits(0)
        .out;
    assert!(verified.starts_with("clean: "), "{verified}");
    for command in ["inspect", "export", "compact"] {
        home.run(&["storage", command, "--db", "t.db"])
            .exits(2)
            .says("is a SQLite store");
    }
    stop(server);
    let path = home.path("t.db");
    let mut bytes = fs::read(&path).unwrap();
    // Pages behind the first, which says whose file it is.
    for at in (8_192 + 64..bytes.len()).step_by(8_192) {
        bytes[at] ^= 0xff;
        bytes[at + 1_000] ^= 0xff;
    }
    fs::write(&path, bytes).unwrap();
    let found = home
        .run(&["storage", "verify", "--db", "t.db"])
        .exits(1)
        .out;
    assert!(found.contains("damage: "), "{found}");
    home.run(&["storage", "verify", "--db", "nowhere"])
        .exits(3)
        .says("there is no store at");
}
