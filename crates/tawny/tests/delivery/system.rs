//! A server and an agent as processes that are killed and started again, and what the server holds in the end.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, de::Error as _};
use tawny_model::Timestamp;

use crate::{
    node::{Node, Voice},
    program::{Home, Running, Server},
};

/// Longest wait until all that was written is stored.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    total_entries: usize,
}

#[derive(Deserialize)]
struct Page {
    entries: Vec<Stored>,
    next_cursor: Option<String>,
}

/// An entry as the API answers it.
#[derive(Debug, Deserialize)]
struct Stored {
    #[serde(deserialize_with = "rfc3339")]
    timestamp: Timestamp,
    pod: String,
    container: String,
    restart: u32,
    output: String,
    message: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

/// Where the server keeps its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Sqlite,
    /// With so little memory that segments are written and merged all the time.
    Lake,
}

impl Store {
    fn path(self) -> &'static str {
        match self {
            Self::Sqlite => "t.db",
            Self::Lake => "lake",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &[],
            Self::Lake => &["--engine", "lake", "--set", "store.memory=256KiB"],
        }
    }
}

/// Both processes, each running or not.
pub(crate) struct System {
    pub(crate) home: Home,
    store: Store,
    server: Option<Server>,
    agent: Option<Running>,
    grpc: String,
    http: String,
    /// False from a start until the server has told its address.
    is_bound: bool,
    /// What ended processes said.
    said: String,
}

impl System {
    /// Starts a server on free ports, which it keeps over its restarts; no agent yet.
    pub(crate) fn new(store: Store) -> Self {
        let home = Home::new();
        let server = home.server_on(store.path(), store.flags());
        let (grpc, http) = (server.grpc.clone(), server.http.clone());
        Self {
            home,
            store,
            server: Some(server),
            agent: None,
            grpc,
            http,
            is_bound: true,
            said: String::new(),
        }
    }

    pub(crate) fn start_server(&mut self) {
        let address = self.http.trim_start_matches("http://");
        let db = self.store.path();
        let mut args = vec![
            "server", "--db", db, "--grpc", &self.grpc, "--http", address,
        ];
        args.extend(self.store.flags());
        let running = self.home.start(&args);
        self.server = Some(Server {
            running,
            grpc: self.grpc.clone(),
            http: self.http.clone(),
        });
        self.is_bound = false;
    }

    pub(crate) fn start_agent(&mut self) {
        let server = format!("http://{}", self.grpc);
        self.agent = Some(self.home.start(&[
            "agent",
            "--source",
            "files",
            "--pod-logs-root",
            "pods",
            "--node-name",
            "n",
            "--shutdown-timeout",
            "6s",
            "--server",
            &server,
        ]));
    }

    pub(crate) fn kill_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.running.signal("KILL");
            self.said += &server.running.wait().1;
        }
    }

    pub(crate) fn kill_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.signal("KILL");
            self.said += &agent.wait().1;
        }
    }

    /// The running agent, no longer looked after.
    pub(crate) fn take_agent(&mut self) -> Running {
        self.agent.take().unwrap()
    }

    fn get(&mut self, path: &str) -> String {
        let server = self.server.as_mut().unwrap();
        if !std::mem::replace(&mut self.is_bound, true) {
            server.running.wait_for("http listening on ");
        }
        let (status, body) = server.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) fn n_stored(&mut self) -> usize {
        let stats: Stats = serde_json::from_str(&self.get("/api/stats")).unwrap();
        stats.total_entries
    }

    /// Checks that every byte of the store is in order, beside the running server and when it has been killed.
    #[track_caller]
    pub(crate) fn assert_verifies(&mut self, seed: u64) {
        let verify = ["storage", "verify", "--db", self.store.path()];
        for what in ["running", "killed"] {
            let ran = self.home.run(&verify);
            let is_clean = ran.code == Some(0) && !ran.out.contains("damage");
            assert!(
                is_clean,
                "seed {seed}, {what}: {}{}\n{}",
                ran.out, ran.err, self.said
            );
            self.kill_agent();
            self.kill_server();
        }
    }

    /// How many commits the table of a lake has seen.
    pub(crate) fn n_commits(&self) -> u64 {
        let inspect = [
            "storage",
            "inspect",
            "-o",
            "json",
            "--db",
            self.store.path(),
        ];
        let summary: serde_json::Value =
            serde_json::from_str(&self.home.run(&inspect).exits(0).out).unwrap();
        summary["version"].as_u64().unwrap()
    }

    /// Waits until as many entries are stored as lines were written; what they are is checked apart.
    pub(crate) fn wait_for_all(&mut self, node: &Node) {
        self.wait_for(node.n_lines());
    }

    /// Waits until `n` entries are stored; gives up in silence, because a comparison then tells more.
    pub(crate) fn wait_for(&mut self, n: usize) {
        let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let deadline = now() + PATIENCE;
        while self.n_stored() < n && now() < deadline {
            pause();
        }
    }

    /// Everything stored, oldest first, as the API answers it.
    fn stored(&mut self) -> Vec<Stored> {
        let mut stored = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/search?order=asc&limit=10000&cursor={cursor}");
            let page: Page = serde_json::from_str(&self.get(&path)).unwrap();
            stored.extend(page.entries);
            match page.next_cursor {
                Some(next) => cursor = next,
                None => return stored,
            }
        }
    }

    /// Checks that the server holds every written line once, whole, in order, and nothing else.
    #[track_caller]
    pub(crate) fn assert_holds(&mut self, node: &Node, seed: u64) {
        let mut found: BTreeMap<Voice, Vec<(Timestamp, String)>> = BTreeMap::new();
        let mut wrong = Vec::new();
        let mut last = Timestamp::default();
        for entry in self.stored() {
            if entry.timestamp < last {
                wrong.push(format!("out of order: {entry:?}"));
            }
            last = entry.timestamp;
            // Malformed lines, gap records, partial lines and cut ones say so here.
            if let Some(key) = entry
                .attributes
                .keys()
                .find(|key| key.starts_with("tawny."))
            {
                wrong.push(format!("{key}: {:.200}", format!("{entry:?}")));
            }
            let voice = Voice {
                pod: entry.pod,
                container: entry.container,
                restart: entry.restart,
                output: entry.output,
            };
            let heard = found.entry(voice).or_default();
            heard.push((entry.timestamp, entry.message));
        }
        for (voice, times) in &node.written {
            let heard = found.remove(voice).unwrap_or_default();
            let mut heard: BTreeMap<usize, Vec<(Timestamp, String)>> = heard
                .into_iter()
                .map(|line| (number(&line.1), line))
                .fold(BTreeMap::new(), |mut by_number, (number, line)| {
                    by_number.entry(number).or_default().push(line);
                    by_number
                });
            for (number, time) in times.iter().enumerate() {
                let expected = [(*time, voice.line(number))];
                let heard = heard.remove(&number).unwrap_or_default();
                if heard != expected {
                    let n = heard.len();
                    wrong.push(format!(
                        "{voice:?} line {number} of {time} is there {n} times: {heard:.300?}"
                    ));
                }
            }
            wrong.extend(
                heard
                    .into_values()
                    .map(|lines| format!("{voice:?} never wrote {lines:.300?}")),
            );
        }
        wrong.extend(
            found
                .into_iter()
                .map(|(voice, lines)| format!("nobody is {voice:?}, who wrote {}", lines.len())),
        );
        if !wrong.is_empty() {
            let n_wrong = wrong.len();
            wrong.truncate(20);
            let wrong = wrong.join("\n");
            self.kill_agent();
            self.kill_server();
            panic!(
                "seed {seed}: {n_wrong} wrong:\n{wrong}\n\nwhat the processes said:\n{}",
                self.said
            );
        }
    }
}

fn rfc3339<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    Timestamp::parse_rfc3339(text.as_bytes()).ok_or_else(|| D::Error::custom(text))
}

/// The number a line gives itself, or one that no line has.
fn number(line: &str) -> usize {
    let number = line
        .strip_prefix("line ")
        .and_then(|rest| rest.split(' ').next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or(usize::MAX)
}

/// Between two polls, or two bursts of a writer.
#[expect(
    clippy::disallowed_methods,
    reason = "a pace, not a wait for something; and no runtime is here that it could block"
)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
