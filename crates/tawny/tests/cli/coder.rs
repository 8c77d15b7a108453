//! `tawny coder`: its settings, and what it serves while neither Coder nor the cluster can be reached.

use crate::program::{Home, get, write};

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
    contexts: [{name: c, context: {cluster: c, user: u}}]\n\
    clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n";

#[test]
fn url_is_required_with_its_scheme_cl_1() {
    let home = Home::new();
    home.run(&["coder"])
        .exits(1)
        .says("--coder-url is required");
    let message = "CODER_URL must include http:// or https:// scheme, got: \"coder.example\"";
    home.run(&["coder", "-u", "coder.example"])
        .exits(1)
        .says(message);
    home.run_with(&["coder"], &[("CODER_URL", "coder.example")])
        .exits(1)
        .says(message);
}

#[test]
fn both_spellings_of_the_namespaces_must_agree_cl_3() {
    let home = Home::new();
    let env = [
        ("CODER_URL", "http://127.0.0.1:1"),
        ("CODER_NAMESPACES", "a"),
        ("CODER_NAMESPACE", "b"),
    ];
    home.run_with(&["coder"], &env)
        .exits(2)
        .says("CODER_NAMESPACE");
}

#[test]
fn metrics_are_served_and_preset_cl_6_cl_7() {
    let home = Home::new();
    let kubeconfig = write(&home, "kubeconfig", KUBECONFIG);
    let mut running = home.start_with(
        &["coder", "--kubeconfig", &kubeconfig],
        &[
            ("CODER_URL", "http://127.0.0.1:1"),
            ("CODER_LOGSTREAM_METRICS_ADDR", "127.0.0.1:0"),
        ],
    );
    let address = running.wait_for("metrics listening on ");
    let (status, body) = get(&address, "/metrics");
    assert_eq!(status, 200);
    for method in ["PostLogSource", "ConnectRPC", "SendLog"] {
        for status in ["success", "failure"] {
            let line = format!(
                "coder_logstream_requests_total{{method=\"{method}\",status=\"{status}\"}} 0"
            );
            assert!(body.contains(&line), "no {line} in\n{body}");
        }
    }
    running.signal("TERM");
    let (ended, said) = running.wait();
    assert!(ended.success(), "{said}");
}
