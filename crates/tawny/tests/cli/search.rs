//! `tawny search` against a real server.

use crate::program::Home;

#[test]
fn search_finds_what_was_stored_and_says_so_by_its_exit_code() {
    let home = Home::new();
    let server = home.server();
    let search = |args: &[&str]| {
        let mut all = vec!["search", "--server", &server.http];
        all.extend(args);
        home.run(&all)
    };
    search(&["anything"]).exits(1);
    server.load(&home, 2_500);

    // More than one page, in either order, each line once.
    let ids = |args: &[&str]| -> Vec<i64> {
        let found = search(args).exits(0).out;
        found
            .lines()
            .map(|line| {
                let entry: serde_json::Value = serde_json::from_str(line).unwrap();
                entry["id"].as_str().unwrap().parse().unwrap()
            })
            .collect()
    };
    let all = ids(&["-o", "json", "--limit", "0"]);
    assert_eq!(all.len(), 2_500);
    assert!(all.is_sorted_by(|a, b| a < b));
    let newest = ids(&["-o", "json", "--limit", "1500", "--order", "newest"]);
    assert_eq!(newest.len(), 1_500);
    assert!(newest.iter().rev().eq(&all[1_000..]));
    assert_eq!(ids(&["-o", "json", "--limit", "1500"]), all[1_000..]);

    let quiet = search(&["-q"]).exits(0);
    assert_eq!(quiet.out, "");
    search(&["-q", "nosuchwordanywhere"]).exits(1);

    // Options narrow the query down.
    let entry = search(&["-o", "json", "--limit", "1"]).exits(0).out;
    let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
    let namespace = entry["namespace"].as_str().unwrap();
    let n_inside = search(&["-n", namespace, "-o", "raw", "--limit", "0"])
        .exits(0)
        .out
        .lines()
        .count();
    assert!((1..2_500).contains(&n_inside), "{n_inside}");
    search(&["-n", "nosuchnamespace"]).exits(1);
    search(&["--to", "2001-01-01"]).exits(1);
    search(&["--since", "1h", "--level", "warn+", "-q"]).exits(0);
    assert!(
        search(&["--limit", "1", "-o", "logfmt"])
            .exits(0)
            .out
            .contains(&format!("namespace={namespace}"))
    );
}

#[test]
fn queries_that_do_not_parse_are_shown_with_a_caret() {
    let home = Home::new();
    // No server is asked.
    home.run(&["search", "level>=warn AND ("])
        .exits(2)
        .says("level>=warn AND (\n                 ^\ncolumn 18: ");
    home.run(&["search", "--since", "yesterweek"])
        .exits(2)
        .says("--since \"yesterweek\" is no time");
    home.run(&["search", "--server", "https://x"])
        .exits(2)
        .says("only http is spoken");
}

#[test]
fn server_that_is_not_there_is_a_failure_with_a_remedy() {
    let home = Home::new();
    home.run(&["search", "x", "--server", "http://127.0.0.1:1"])
        .exits(3)
        .says("cannot reach http://127.0.0.1:1")
        .says("is `tawny server` or `tawny up` running there?");
}

#[test]
fn follow_shows_lines_as_they_are_stored() {
    let home = Home::new();
    let server = home.server();
    server.load(&home, 20);
    let mut follow = home.start(&["search", "-f", "--server", &server.http, "-o", "json"]);
    // The last ten of the past first.
    for _ in 0..10 {
        assert!(follow.read_line().starts_with("{\"id\":"));
    }
    server.load(&home, 5);
    for _ in 0..5 {
        assert!(follow.read_line().starts_with("{\"id\":"));
    }
    follow.signal("INT");
    let (status, _) = follow.wait();
    assert_eq!(status.code(), Some(130));
}

#[test]
fn reader_that_goes_away_is_no_failure() {
    let home = Home::new();
    let server = home.server();
    server.load(&home, 2_000);
    let mut command = home.command(&["search", "--server", &server.http, "--limit", "0"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8(ended.stderr).unwrap(), "");
}
