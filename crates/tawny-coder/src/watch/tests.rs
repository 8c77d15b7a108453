//! The whole feature between a stand-in API server and a stand-in Coder.

use serde_json::{Value, json};
use tawny_kube::fake::FakeKube;
use tawny_runtime::ManualClock;

use super::*;
use crate::{
    CoderConfig,
    fake::{Answer, Asked, FakeCoder},
    metrics::{Method, Status},
};

const STARTED: Timestamp = Timestamp::from_secs(1_700_000_000);
const BEFORE: &str = "2023-11-14T22:00:00Z";
const AFTER: &str = "2023-11-14T22:13:25Z";

fn by_value(token: &str) -> Value {
    json!({"name": "CODER_AGENT_TOKEN", "value": token})
}

fn by_secret(optional: bool) -> Value {
    json!({"name": "CODER_AGENT_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token", "optional": optional}}})
}

fn pod(name: &str, created: &str, env: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": created},
        "spec": {"containers": [{"name": "dev", "image": "img:1", "env": env}]},
    })
}

fn replica_set(name: &str, token: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": AFTER},
        "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "dev", "env": [by_value(token)]}]}}},
    })
}

fn event(name: &str, kind: &str, about: &str, count: i32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": AFTER},
        "involvedObject": {"kind": kind, "namespace": "ws", "name": about, "uid": format!("uid-{about}")},
        "message": format!("says {name}"), "count": count,
        "firstTimestamp": AFTER, "lastTimestamp": "2023-11-14T22:14:05Z",
    })
}

fn secret(token: &str) -> Value {
    use k8s_openapi::ByteString;
    let value = serde_json::to_value(ByteString(token.as_bytes().to_vec())).unwrap();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"token": value}})
}

struct Running {
    coder: FakeCoder,
    kube: FakeKube,
    metrics: CoderMetrics,
    stop: CancellationToken,
    tasks: JoinSet<Result<(), Error>>,
}

fn config() -> CoderConfig {
    CoderConfig {
        url: "https://coder.example".to_owned(),
        ..CoderConfig::default()
    }
}

fn start_with(kube: &FakeKube, config: CoderConfig, coder: FakeCoder) -> Running {
    let metrics = CoderMetrics::default();
    let feature = Logstream {
        settings: config.try_into().unwrap(),
        cluster: kube.cluster(),
        clock: Arc::new(ManualClock::new(STARTED)),
        metrics: metrics.clone(),
    };
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(feature.run_at(coder.endpoint.clone(), stop.clone()));
    Running {
        coder,
        kube: kube.clone(),
        metrics,
        stop,
        tasks,
    }
}

/// Runs the feature until it watches everything.
async fn start(kube: &FakeKube) -> Running {
    let running = start_with(kube, config(), FakeCoder::start(|_| Answer::Fine));
    kube.watched(3).await;
    running
}

impl Running {
    async fn until_told(&self, n_lines: usize) {
        self.coder
            .until(|coder| coder.told().len() >= n_lines)
            .await;
    }

    /// Time for whatever should not come.
    async fn pass(&self, secs: u64) {
        tokio::time::sleep(Duration::from_secs(secs)).await;
    }

    async fn end(mut self) -> FakeCoder {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
        self.coder
    }

    /// What an agent's log shows, without colours.
    fn outputs(&self, token: &str) -> Vec<String> {
        plain(&self.coder, token)
    }
}

fn plain(coder: &FakeCoder, token: &str) -> Vec<String> {
    let plain = |text: String| {
        ["\x1b[1m", "\x1b[37m", "\x1b[0m"]
            .iter()
            .fold(text, |text, code| text.replace(code, ""))
    };
    coder.outputs(token).into_iter().map(plain).collect()
}

#[tokio::test(start_paused = true)]
async fn a_workspaces_life_is_in_its_log() {
    let running = start(&FakeKube::new()).await;
    let kube = &running.kube;
    kube.put("replicasets", replica_set("rs", "t"));
    kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    running.until_told(2).await;
    kube.put("events", event("pulling", "Pod", "ws", 1));
    kube.put("events", event("queued", "ReplicaSet", "rs", 1));
    kube.put("events", event("other", "Pod", "other", 1));
    running.until_told(4).await;
    kube.delete("pods", "ws");
    kube.delete("replicasets", "rs");
    running.until_told(6).await;
    running.pass(60).await;
    let mut outputs = running.outputs("t");
    // Watches of different kinds run side by side.
    outputs[..2].sort_unstable();
    outputs[4..].sort_unstable();
    assert_eq!(
        outputs,
        [
            "🐳 Created pod: ws",
            "🐳 Queued pod from ReplicaSet: rs",
            "says pulling",
            "says queued",
            "🗑️ Deleted ReplicaSet: rs",
            "🗑️ Deleted pod: ws",
        ]
    );
    let told = running.coder.told();
    assert_eq!(told[0].created_at, Timestamp::from_secs(1_700_000_005));
    assert_eq!(told[2].created_at, Timestamp::from_secs(1_700_000_045));
    assert_eq!(running.metrics.n_lines(Fate::sent), 6);
    assert_eq!(
        running.metrics.n_requests(Method::SendLog, Status::failure),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn created_goes_before_events_and_repeats_are_counted() {
    let running = start(&FakeKube::new()).await;
    running.kube.put("events", event("e", "Pod", "ws", 1));
    running.pass(1).await;
    running.kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    running.until_told(2).await;
    running.kube.put("events", event("e", "Pod", "ws", 3));
    running.until_told(3).await;
    assert_eq!(
        running.outputs("t"),
        ["🐳 Created pod: ws", "says e", "says e (x3 over 40s)"]
    );
}

#[tokio::test(start_paused = true)]
async fn objects_and_events_from_before_the_start_are_not_told_cl_14() {
    let kube = FakeKube::new();
    kube.put("pods", pod("ws", BEFORE, &[by_value("t")]));
    let mut old = event("old", "Pod", "ws", 1);
    old["lastTimestamp"] = json!(BEFORE);
    kube.put("events", old);
    let running = start(&kube).await;
    running.pass(60).await;
    assert!(running.coder.requests().is_empty());
    kube.put("events", event("new", "Pod", "ws", 1));
    kube.delete("pods", "ws");
    running.until_told(2).await;
    let mut outputs = running.outputs("t");
    outputs.sort_unstable();
    assert_eq!(outputs, ["says new", "🗑️ Deleted pod: ws"]);
}

#[tokio::test(start_paused = true)]
async fn two_tokens_of_one_pod_are_two_agents_cl_10() {
    let running = start(&FakeKube::new()).await;
    let env = [by_value("a"), by_value("b")];
    running.kube.put("pods", pod("ws", AFTER, &env));
    running.until_told(2).await;
    for token in ["a", "b"] {
        assert_eq!(running.outputs(token), ["🐳 Created pod: ws"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_relist_after_410_repeats_nothing_and_misses_no_end() {
    let running = start(&FakeKube::new()).await;
    let kube = &running.kube;
    kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    kube.put("pods", pod("gone", AFTER, &[by_value("g")]));
    kube.put("replicasets", replica_set("rs", "r"));
    running.until_told(3).await;
    kube.put("events", event("e", "Pod", "ws", 2));
    running.until_told(4).await;
    kube.delete_unseen("pods", "gone");
    for plural in ["pods", "replicasets", "events"] {
        kube.expire(plural);
    }
    running.until_told(5).await;
    running.pass(120).await;
    assert_eq!(running.coder.told().len(), 5);
    assert_eq!(
        running.outputs("g"),
        ["🐳 Created pod: gone", "🗑️ Deleted pod: gone"]
    );
    assert_eq!(running.metrics.watch_restarts.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_token_in_a_secret_is_fetched_cl_12() {
    let kube = FakeKube::new();
    kube.put("secrets", secret("t"));
    let running = start(&kube).await;
    kube.put("pods", pod("ws", AFTER, &[by_secret(false)]));
    running.until_told(1).await;
    assert_eq!(running.outputs("t"), ["🐳 Created pod: ws"]);
    assert!(
        kube.asked()
            .contains(&"/api/v1/namespaces/ws/secrets/s?".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_comes_late_still_gets_its_lines() {
    let running = start(&FakeKube::new()).await;
    let kube = &running.kube;
    kube.put("pods", pod("ws", AFTER, &[by_secret(false)]));
    kube.put("events", event("e", "Pod", "ws", 1));
    running.pass(30).await;
    assert!(running.coder.requests().is_empty());
    kube.put("secrets", secret("t"));
    running.until_told(2).await;
    assert_eq!(running.outputs("t"), ["🐳 Created pod: ws", "says e"]);
}

#[tokio::test(start_paused = true)]
async fn an_optional_secret_that_is_missing_is_not_waited_for_cl_12() {
    let running = start(&FakeKube::new()).await;
    running
        .kube
        .put("pods", pod("ws", AFTER, &[by_secret(true)]));
    running.pass(600).await;
    let n_asked = (running.kube.asked().iter())
        .filter(|path| path.contains("/secrets/"))
        .count();
    assert_eq!(n_asked, 1);
    assert_eq!(running.metrics.n_lines(Fate::no_token), 1);
}

fn by_env_from(name: &str) -> Value {
    let mut pod = pod(name, AFTER, &[]);
    pod["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "m"}}, {"prefix": "CODER_AGENT_", "secretRef": {"name": "s"}}]);
    pod
}

#[tokio::test(start_paused = true)]
async fn a_token_among_all_variables_of_a_secret_is_found_by_choice_cl_13() {
    for env_from in [true, false] {
        let kube = FakeKube::new();
        let mut holder = secret("t");
        holder["data"]["TOKEN"] = holder["data"]["token"].take();
        kube.put("secrets", holder);
        // The rights of coder-logstream-kube do not cover config maps.
        kube.forbid("configmaps");
        let config = CoderConfig {
            env_from,
            ..config()
        };
        let running = start_with(&kube, config, FakeCoder::start(|_| Answer::Fine));
        kube.watched(3).await;
        kube.put("pods", by_env_from("ws"));
        running.pass(60).await;
        let told = running.outputs("t");
        assert_eq!(told.len(), usize::from(env_from), "{told:?}");
        let is_read = kube
            .asked()
            .iter()
            .any(|asked| asked.contains("/secrets/s"));
        assert_eq!(is_read, env_from);
    }
}

#[tokio::test(start_paused = true)]
async fn pods_of_others_with_shared_variables_are_looked_at_once_and_counted_nowhere() {
    let kube = FakeKube::new();
    kube.put("secrets", secret("other"));
    kube.forbid("configmaps");
    let running = start(&kube).await;
    for _ in 0..3 {
        kube.put("pods", by_env_from("web"));
        kube.put("events", event("e", "Pod", "web", 1));
        running.pass(600).await;
    }
    let n_read = (kube.asked().iter())
        .filter(|asked| asked.contains("/secrets/s"))
        .count();
    assert_eq!(n_read, 1);
    assert!(running.coder.requests().is_empty());
    assert_eq!(running.metrics.n_lines(Fate::no_token), 0);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_changes_after_its_token_was_refused_is_read_again() {
    let kube = FakeKube::new();
    kube.put("secrets", secret("old"));
    let coder = FakeCoder::start(|asked: &Asked| match asked.token.as_str() {
        "old" => Answer::Status(401),
        _ => Answer::Fine,
    });
    let running = start_with(&kube, config(), coder);
    kube.watched(3).await;
    kube.put("pods", pod("ws", AFTER, &[by_secret(false)]));
    running
        .coder
        .until(|coder| !coder.requests().is_empty())
        .await;
    // As long as a workspace may take to be provisioned.
    running.pass(400).await;
    let n_refused = || {
        let asked = running.coder.asked().into_iter();
        asked.filter(|asked| asked.token == "old").count()
    };
    let before = n_refused();
    kube.put("secrets", secret("new"));
    running.until_told(1).await;
    assert_eq!(running.outputs("new"), ["🐳 Created pod: ws"]);
    assert_eq!(
        (before, n_refused()),
        (15, 15),
        "tried as often as anything"
    );
}

#[tokio::test(start_paused = true)]
async fn a_workspace_built_anew_is_not_asked_again() {
    let coder = FakeCoder::start(|_| Answer::Status(403));
    let kube = FakeKube::new();
    let running = start_with(&kube, config(), coder);
    kube.watched(3).await;
    kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    running
        .coder
        .until(|coder| !coder.requests().is_empty())
        .await;
    running.pass(5).await;
    kube.put("events", event("e", "Pod", "ws", 1));
    running.pass(60).await;
    assert_eq!(running.coder.requests(), ["POST log-source"]);
    assert_eq!(running.metrics.n_lines(Fate::agent_stopped), 2);
}

fn remembering(dir: &tempfile::TempDir) -> CoderConfig {
    CoderConfig {
        state_file: dir.path().join("coder.json").display().to_string(),
        ..config()
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_repeats_nothing_and_tells_what_happened_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    let coder = FakeCoder::start(|_| Answer::Fine);
    let running = start_with(&kube, remembering(&dir), coder);
    kube.watched(3).await;
    kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    kube.put("replicasets", replica_set("rs", "r"));
    kube.put("events", event("e", "Pod", "ws", 1));
    running.until_told(3).await;
    running.end().await;

    kube.put("events", event("e", "Pod", "ws", 2));
    kube.put("pods", pod("meanwhile", AFTER, &[by_value("m")]));
    let running = start_with(&kube, remembering(&dir), FakeCoder::start(|_| Answer::Fine));
    running.until_told(2).await;
    running.pass(60).await;
    assert_eq!(running.outputs("t"), ["says e (x2 over 40s)"]);
    assert_eq!(running.outputs("m"), ["🐳 Created pod: meanwhile"]);
    assert_eq!(running.coder.told().len(), 2);
    running.end().await;

    kube.delete_unseen("pods", "ws");
    let running = start_with(&kube, remembering(&dir), FakeCoder::start(|_| Answer::Fine));
    running.pass(60).await;
    assert!(running.coder.requests().is_empty());
    running.end().await;
    // What went meanwhile is not remembered for ever.
    let state = std::fs::read_to_string(dir.path().join("coder.json")).unwrap();
    assert!(
        state.contains("uid-meanwhile") && !state.contains("uid-ws"),
        "{state}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_right_after_a_line_was_told_does_not_repeat_it() {
    let dir = tempfile::tempdir().unwrap();
    let kube = FakeKube::new();
    let mut running = start_with(&kube, remembering(&dir), FakeCoder::start(|_| Answer::Fine));
    kube.watched(3).await;
    kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    running.until_told(1).await;
    running.tasks.abort_all();
    let running = start_with(&kube, remembering(&dir), FakeCoder::start(|_| Answer::Fine));
    running.pass(60).await;
    assert!(running.coder.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_state_file_that_cannot_be_read_stops_the_start_and_one_that_cannot_be_written_does_not()
{
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("coder.json"), "not ours").unwrap();
    let kube = FakeKube::new();
    let mut running = start_with(&kube, remembering(&dir), FakeCoder::start(|_| Answer::Fine));
    let ended = running.tasks.join_next().await.unwrap().unwrap();
    assert!(
        ended
            .unwrap_err()
            .to_string()
            .contains("remove it to begin anew")
    );

    let nowhere = CoderConfig {
        state_file: dir.path().join("no/such/dir").display().to_string(),
        ..config()
    };
    let running = start_with(&kube, nowhere, FakeCoder::start(|_| Answer::Fine));
    kube.watched(3).await;
    kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    running.until_told(1).await;
}

#[tokio::test(start_paused = true)]
async fn namespaces_have_watches_of_their_own_and_selectors_spare_events_cl_4_cl_5_cl_9() {
    let kube = FakeKube::new();
    let config = CoderConfig {
        namespaces: vec!["ws".to_owned(), "b".to_owned()],
        label_selector: "app=ws".to_owned(),
        field_selector: "metadata.name!=x".to_owned(),
        ..config()
    };
    let running = start_with(&kube, config, FakeCoder::start(|_| Answer::Fine));
    kube.watched(6).await;
    let asked = kube.asked();
    for namespace in ["ws", "b"] {
        for (api, plural, is_selected) in [
            ("/api/v1", "pods", true),
            ("/apis/apps/v1", "replicasets", true),
            ("/api/v1", "events", false),
        ] {
            let path = format!("{api}/namespaces/{namespace}/{plural}?");
            let of: Vec<_> = asked
                .iter()
                .filter(|asked| asked.starts_with(&path))
                .collect();
            assert_eq!(of.len(), 2, "{path}: {asked:?}");
            for asked in of {
                assert_eq!(
                    asked.contains("labelSelector=app%3Dws"),
                    is_selected,
                    "{asked}"
                );
                assert_eq!(asked.contains("fieldSelector="), is_selected, "{asked}");
            }
        }
    }
    // A relist in one namespace ends nothing in the other.
    let mut other = pod("ws", AFTER, &[by_value("b")]);
    other["metadata"]["namespace"] = json!("b");
    other["metadata"]["uid"] = json!("uid-b");
    kube.put("pods", other);
    kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    kube.put("pods", {
        let mut p = pod("elsewhere", AFTER, &[by_value("e")]);
        p["metadata"]["namespace"] = json!("c");
        p
    });
    running.until_told(2).await;
    kube.expire("pods");
    running.pass(120).await;
    assert_eq!(running.coder.told().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_may_not_be_watched_holds_up_no_other() {
    let kube = FakeKube::new();
    kube.forbid("replicasets");
    let running = start_with(&kube, config(), FakeCoder::start(|_| Answer::Fine));
    kube.watched(2).await;
    kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    running.until_told(1).await;
    kube.put("events", event("e", "Pod", "ws", 1));
    running.until_told(2).await;
    kube.allow_all();
    kube.watched(3).await;
    kube.put("replicasets", replica_set("rs", "t"));
    running.until_told(3).await;
    assert!(running.metrics.watch_restarts.get() > 0);
}

fn dead(n_restarts: i32) -> Value {
    let mut pod = pod("ws", AFTER, &[by_value("t")]);
    pod["status"] = json!({"phase": "Running", "containerStatuses": [{
        "name": "dev", "image": "img:1", "imageID": "", "ready": true, "restartCount": n_restarts, "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "containerID": format!("c{n_restarts}")}},
    }]});
    pod
}

#[tokio::test(start_paused = true)]
async fn the_reason_and_the_last_words_of_a_dead_container_are_told_by_choice() {
    for (reasons, last_lines) in [(false, 0), (true, 0), (true, 2)] {
        let kube = FakeKube::new();
        kube.set_log("2023-11-14T22:13:24Z building\n2023-11-14T22:13:25.5Z out of  memory\n");
        let config = CoderConfig {
            reasons,
            last_lines,
            ..config()
        };
        let running = start_with(&kube, config, FakeCoder::start(|_| Answer::Fine));
        kube.watched(3).await;
        kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
        kube.put("pods", dead(3));
        running.pass(10).await;
        kube.put("pods", dead(3));
        running.pass(10).await;
        let all = [
            "🐳 Created pod: ws",
            "💥 Container dev OOMKilled (exit 137), restart 3",
            "   dev │ building",
            "   dev │ out of  memory",
        ];
        let n_lines = 1 + usize::from(reasons) + usize::try_from(last_lines).unwrap();
        assert_eq!(running.outputs("t"), all[..n_lines]);
        let asked = kube.asked();
        let log = asked.iter().find(|asked| asked.contains("/log?"));
        assert_eq!(log.is_some(), last_lines > 0);
        if let Some(log) = log {
            for part in [
                "/namespaces/ws/pods/ws/log",
                "container=dev",
                "previous=true",
                "tailLines=2",
            ] {
                assert!(log.contains(part), "{log}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_costs_only_its_lines() {
    let kube = FakeKube::new();
    let config = CoderConfig {
        reasons: true,
        last_lines: 5,
        ..config()
    };
    let running = start_with(&kube, config, FakeCoder::start(|_| Answer::Fine));
    kube.watched(3).await;
    kube.forbid("pods");
    kube.put("pods", dead(1));
    running.until_told(2).await;
    running.pass(30).await;
    assert_eq!(running.coder.told().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn objects_that_do_not_read_are_left_out() {
    let kube = FakeKube::new();
    let mut broken = pod("broken", AFTER, &[by_value("b")]);
    broken["spec"]["containers"] = json!("none");
    kube.put("pods", broken.clone());
    let running = start(&kube).await;
    kube.put("pods", broken);
    kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    running.until_told(1).await;
    assert_eq!(running.outputs("t"), ["🐳 Created pod: ws"]);
}

#[tokio::test(start_paused = true)]
async fn stopping_delivers_what_was_seen() {
    let running = start(&FakeKube::new()).await;
    running.kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    running.pass(0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let coder = running.end().await;
    assert_eq!(plain(&coder, "t"), ["🐳 Created pod: ws"]);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_events_in_a_burst_lose_none_of_ours() {
    let running = start(&FakeKube::new()).await;
    running.kube.put("pods", pod("ws", AFTER, &[by_value("t")]));
    running.until_told(1).await;
    for n in 0..9_900 {
        running
            .kube
            .put("events", event(&format!("x{n}"), "Pod", "other", 1));
    }
    for n in 0..90 {
        running
            .kube
            .put("events", event(&format!("e{n}"), "Pod", "ws", 1));
    }
    running.until_told(91).await;
    let all: Vec<_> = (0..90).map(|n| format!("says e{n}")).collect();
    assert_eq!(running.outputs("t")[1..], all);
}
