//! Configuration, help and completion.

use crate::program::{Home, write};

#[test]
fn effective_configuration_names_the_origin_of_each_value() {
    let home = Home::new();
    write(
        &home,
        ".config/tawny/config.yaml",
        "cluster: lab\nstore:\n  retention_age: 7d\n",
    );
    let printed = home
        .run_with(
            &[
                "config",
                "print",
                "--http",
                "127.0.0.1:0",
                "--namespace",
                "a",
                "--namespace",
                "b,c",
            ],
            &[
                ("TAWNY_STORE_PATH", "/data/x.db"),
                ("STRIXLOG_ENV", "docker"),
            ],
        )
        .exits(0)
        .out;
    let file = home.path(".config/tawny/config.yaml");
    for line in [
        format!("cluster: \"lab\" # file {file}:1"),
        format!("  retention_age: \"7d\" # file {file}:3"),
        "runtime: \"docker\" # env STRIXLOG_ENV".to_owned(),
        "  path: \"/data/x.db\" # env TAWNY_STORE_PATH".to_owned(),
        "  listen: \"127.0.0.1:0\" # flag --http".to_owned(),
        "  namespaces: [\"a\", \"b\", \"c\"] # flag --namespace".to_owned(),
        "  pod_logs_root: \"/var/log/pods\" # default".to_owned(),
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "{line}\n{printed}"
        );
    }
    // What is printed is a configuration that says the same.
    let copy = write(&home, "copy.yaml", &printed);
    let reprinted = home
        .run(&["config", "print", "--config", &copy])
        .exits(0)
        .out;
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split(" # ").next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(values(&reprinted), values(&printed));
}

#[test]
fn wrong_configuration_is_refused_with_code_2() {
    let home = Home::new();
    home.run(&["config", "check"]).exits(0);
    let file = write(&home, "bad.yaml", "store:\n  retenton_age: 7d\n");
    home.run(&["config", "check", "--config", &file])
        .exits(2)
        .says("bad.yaml:2: unknown key `store.retenton_age`; did you mean `store.retention_age`?");
    home.run_with(&["config", "check"], &[("STRIXLOG_ENV", "nomad")])
        .exits(2)
        .says("unknown STRIXLOG_ENV: \"nomad\"");
    home.run_with(
        &["server"],
        &[("PORT", "8081"), ("KUBELOGS_HTTP_ADDR", ":8080")],
    )
    .exits(2)
    .says("PORT=:8081 and KUBELOGS_HTTP_ADDR=:8080 both set `http.listen`");
    home.run_with(&["server"], &[("KUBELOGS_AUTH_ENABLED", "true")])
        .exits(2)
        .says("there is no login yet");
    home.run(&["--set", "store.pth=x", "config", "check"])
        .exits(2)
        .says("did you mean `store.path`?");
    home.run(&["config", "check", "--config", "/nonexistent.yaml"])
        .exits(2)
        .says("cannot read configuration file /nonexistent.yaml");
}

#[test]
fn wrong_usage_is_told_on_stderr_and_help_on_stdout() {
    let home = Home::new();
    let wrong = home.run(&["serach"]).exits(2).says("similar subcommand");
    assert_eq!(wrong.out, "");
    home.run(&["server", "--retention-age", "soon"])
        .exits(2)
        .says("is no duration");
    let help = home.run(&["server", "--help"]).exits(0);
    assert!(
        help.out.contains("--retention-age <DURATION>"),
        "{}",
        help.out
    );
    assert_eq!(help.err, "");
}

#[test]
fn completion_knows_commands_and_flags() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completion", shell]).exits(0).out;
        for word in ["search", "retention-age"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn kubectl_finds_its_plugin_and_what_may_follow() {
    let home = Home::new();
    let link = |name: &str| {
        let path = home.dir.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tawny"), &path).unwrap();
        path
    };
    let help = std::process::Command::new(link("kubectl-tawny"))
        .args(["config", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("Usage: kubectl tawny config"), "{help}");
    let offered = std::process::Command::new(link("kubectl_complete-tawny"))
        .args(["sea"])
        .output()
        .unwrap();
    assert_eq!(offered.stdout, b"search\n:4\n");
}
