//! `tawny doctor` on machines and clusters with something amiss.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
};

use crate::program::{Home, write};

#[test]
fn doctor_tells_what_is_missing_and_how_to_mend_it() {
    let home = Home::new();
    let nowhere = home.path("nowhere.sock");
    let examined = home
        .run(&[
            "doctor",
            "--docker-socket",
            &nowhere,
            "--podman-socket",
            &nowhere,
        ])
        .exits(3)
        .out;
    assert!(
        examined.contains("FAIL  runtime        no runtime detected"),
        "{examined}"
    );
    assert!(
        examined.contains("ok    store          tawny-data can be written"),
        "{examined}"
    );

    let socket = home.path("docker.sock");
    let _engine = UnixListener::bind(&socket).unwrap();
    let found = home
        .run(&["doctor", "-o", "json", "--docker-socket", &socket])
        .exits(0)
        .out;
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let engine = found
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["topic"] == "engine")
        .unwrap();
    assert_eq!(engine["grade"], "ok");

    // A server that somebody named must be there.
    home.run(&[
        "doctor",
        "--docker-socket",
        &socket,
        "--server",
        "127.0.0.1:1",
    ])
    .exits(3);
}

/// A stand-in for an API server that grants every access but the ones named, as `verb resource`.
struct FakeCluster {
    kubeconfig: String,
}

impl FakeCluster {
    fn start(home: &Home, denied: &'static [&'static str], date: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer(socket, denied, date));
            }
        });
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
        );
        Self {
            kubeconfig: write(home, "kubeconfig", &config),
        }
    }
}

/// Answers every request of a connection.
fn answer(socket: TcpStream, denied: &[&str], date: &str) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut socket = socket;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.to_ascii_lowercase());
        }
        let length = head
            .iter()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let reply = if head[0].starts_with("get /version") {
            serde_json::json!({
                "major": "1", "minor": "33", "gitVersion": "v1.33.1", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": "",
            })
        } else {
            let mut review: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let asked = &review["spec"]["resourceAttributes"];
            let resource = match asked["subresource"].as_str() {
                Some(sub) => format!("{}/{sub}", asked["resource"].as_str().unwrap()),
                None => asked["resource"].as_str().unwrap().to_owned(),
            };
            let access = format!("{} {resource}", asked["verb"].as_str().unwrap());
            review["status"] = serde_json::json!({"allowed": !denied.contains(&access.as_str())});
            review
        };
        let reply = reply.to_string();
        write!(
            socket,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{date}\r\n{reply}",
            reply.len()
        )
        .unwrap();
    }
}

#[test]
fn rights_that_are_missing_are_named_with_the_rule_that_gives_them() {
    let home = Home::new();
    let denied = &["watch pods", "get pods/log", "list namespaces"];
    let cluster = FakeCluster::start(&home, denied, "");
    let examined = home
        .run(&["doctor", "--kubeconfig", &cluster.kubeconfig, "-n", "shop"])
        .exits(3)
        .out;
    for line in [
        "ok    api server     http://127.0.0.1",
        "runs v1.33.1",
        "ok    access         may list pods in namespace shop",
        "FAIL  access         may not watch pods in namespace shop",
        "FAIL  access         may not get pods/log in namespace shop",
        "{apiGroups: [\"\"], resources: [\"pods/log\"], verbs: [\"get\"]}",
        "note  access         may not list namespaces",
    ] {
        assert!(examined.contains(line), "{line}\n{examined}");
    }
}

#[test]
fn cluster_that_grants_everything_is_no_complaint() {
    let home = Home::new();
    let cluster = FakeCluster::start(&home, &[], "");
    let examined = home
        .run(&["doctor", "--kubeconfig", &cluster.kubeconfig])
        .exits(0)
        .out;
    assert!(
        examined.contains("ok    access         may get pods/log in all namespaces"),
        "{examined}"
    );
    assert!(examined.contains("note  clock"), "{examined}");
}

#[test]
fn clock_that_is_off_is_told() {
    let home = Home::new();
    let cluster = FakeCluster::start(&home, &[], "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n");
    let examined = home
        .run(&["doctor", "--kubeconfig", &cluster.kubeconfig])
        .exits(3)
        .out;
    assert!(
        examined.contains("FAIL  clock          differs from the API server's by"),
        "{examined}"
    );
}
