//! The source against a stand-in for API server and kubelet that picks logs as the real ones do.

use std::{collections::BTreeMap, convert::Infallible, io, sync::Mutex};

use futures::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame},
};
use kube::client::Body;
use serde_json::{Value, json};
use tawny_model::{StreamId, Timestamp};

use super::*;
use crate::{
    DeliverSettings, Deliverer, Selection, SelectionConfig,
    testing::{MemorySink, intake_with},
};

/// 2023-11-14T22:13:20Z
const EPOCH_SECS: i64 = 1_700_000_000;

/// One pod `web` in `shop` with one container `app`, on a kubelet that remembers two runs.
#[derive(Default)]
struct World {
    restarts: u32,
    state: State,
    /// Lines by run, each with its time.
    logs: BTreeMap<u32, Vec<String>>,
    uid: u32,
    is_gone: bool,
    phase: &'static str,
    labels: Value,
    /// Follow streams of an older epoch break.
    epoch: u32,
    /// Answers to the next log requests instead of the log.
    refusals: Vec<(u16, &'static str)>,
    n_log_requests: usize,
    n_open: usize,
    n_most_open: usize,
    /// Streams end by themselves after this many lines.
    cut_after: Option<usize>,
    n_pods: usize,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Running,
    Ended,
    BackingOff,
}

#[derive(Clone)]
struct Kube {
    world: Arc<Mutex<World>>,
    changes: watch::Sender<u64>,
    directory: PodDirectory,
}

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

fn answer(code: u16, text: impl Into<Bytes>) -> Answer {
    let body = Full::new(text.into()).map_err(|never: Infallible| match never {});
    Response::builder()
        .status(code)
        .body(body.boxed_unsync())
        .unwrap()
}

fn stamp(nanos: i64) -> String {
    Timestamp::from_nanos(EPOCH_SECS * 1_000_000_000 + nanos).to_string()
}

impl World {
    fn pod(&self, name: &str) -> Value {
        let id = |restart: i64| format!("containerd://{}-{restart}", self.uid);
        let n = i64::from(self.restarts);
        let ended = |restart: i64| json!({"terminated": {"exitCode": 1, "reason": "Error", "containerID": id(restart)}});
        let (state, last) = match self.state {
            State::Running => (json!({"running": {}}), n - 1),
            State::Ended => (ended(n), n - 1),
            State::BackingOff => (json!({"waiting": {"reason": "CrashLoopBackOff"}}), n),
        };
        let last = if last >= 0 { ended(last) } else { json!({}) };
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid{}-{name}", self.uid), "labels": self.labels},
            "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "app:1"}]},
            "status": {
                "phase": self.phase,
                "containerStatuses": [{
                    "name": "app", "image": "", "imageID": "", "ready": true, "restartCount": self.restarts,
                    "containerID": id(n), "state": state, "lastState": last,
                }],
            },
        })
    }

    /// The run whose log the kubelet opens.
    fn chosen(&self, previous: bool) -> Option<u32> {
        match (self.state, previous) {
            (State::Running | State::Ended, true) => self.restarts.checked_sub(1),
            _ => Some(self.restarts),
        }
    }
}

impl Kube {
    fn new() -> Self {
        let world = World {
            phase: "Running",
            labels: json!({"app": "web"}),
            n_pods: 1,
            ..World::default()
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            changes: watch::Sender::new(0),
            directory: PodDirectory::default(),
        }
    }

    /// Changes the world; only [`Kube::tell`] lets the pod watch see it.
    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world.lock().unwrap());
        self.changes.send_modify(|n| *n += 1);
        result
    }

    fn tell(&self) {
        let world = self.world.lock().unwrap();
        for n in 0..world.n_pods {
            let pod = serde_json::from_value(world.pod(&format!("web{n}"))).unwrap();
            let mut facts = tawny_kube::pod_facts(&pod).unwrap();
            facts.gone = world.is_gone;
            self.directory.put(facts);
        }
    }

    /// Writes lines to a run's log, a millisecond apart from each other from `from_ms` on.
    fn write(&self, restart: u32, from_ms: i64, texts: &[&str]) {
        self.change(|world| {
            let log = world.logs.entry(restart).or_default();
            for (n, text) in (0..).zip(texts) {
                log.push(format!("{} {text}\n", stamp((from_ms + n) * 1_000_000)));
            }
        });
    }

    fn cluster(&self) -> Cluster {
        let kube = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let kube = kube.clone();
            async move { Ok::<_, Infallible>(kube.answer(&request)) }
        });
        Cluster::new(kube::Client::new(service, "shop"), "https://fake", "a test")
    }

    fn answer(&self, request: &Request<Body>) -> Answer {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let query = |name: &str| {
            query.split('&').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key == name).then(|| value.replace("%3A", ":"))
            })
        };
        if path == "/version" {
            return answer(
                200,
                r#"{"major":"1","minor":"20","gitVersion":"v1.20.2","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#,
            );
        }
        let name = path.strip_prefix("/api/v1/namespaces/shop/pods/").unwrap();
        let mut world = self.world.lock().unwrap();
        let not_found = r#"{"kind":"Status","status":"Failure","reason":"NotFound","message":"pods not found","code":404}"#;
        if world.is_gone {
            return answer(404, not_found);
        }
        let Some(name) = name.strip_suffix("/log") else {
            return answer(200, world.pod(name).to_string());
        };
        assert_eq!(query("timestamps").as_deref(), Some("true"));
        assert_eq!(query("container").as_deref(), Some("app"));
        assert!(name.starts_with("web"));
        world.n_log_requests += 1;
        if !world.refusals.is_empty() {
            let (code, text) = world.refusals.remove(0);
            return answer(code, text);
        }
        let Some(restart) = world.chosen(query("previous").is_some()) else {
            return answer(
                400,
                r#"{"kind":"Status","message":"previous terminated container not found","code":400}"#,
            );
        };
        let since = query("sinceTime").unwrap_or_default();
        assert!(
            since.is_empty() || since.len() == "2023-11-14T22:13:20Z".len(),
            "{since}"
        );
        let since = since.trim_end_matches('Z').to_owned();
        if query("follow").is_none() {
            let log = world.logs.get(&restart).cloned().unwrap_or_default();
            let text: String = log.into_iter().filter(|line| **line >= *since).collect();
            return answer(200, text);
        }
        world.n_open += 1;
        world.n_most_open = world.n_most_open.max(world.n_open);
        let follow = Follow {
            kube: self.clone(),
            changes: self.changes.subscribe(),
            restart,
            epoch: world.epoch,
            since,
            next: 0,
            n_sent: 0,
        };
        let frames = stream::unfold(follow, |mut follow| async move {
            let frame = follow.frame().await?;
            Some((frame, follow))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

/// A follow stream of one run.
struct Follow {
    kube: Kube,
    changes: watch::Receiver<u64>,
    restart: u32,
    epoch: u32,
    since: String,
    next: usize,
    n_sent: usize,
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.kube.world.lock().unwrap().n_open -= 1;
    }
}

impl Follow {
    async fn frame(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        loop {
            self.changes.borrow_and_update();
            {
                let world = self.kube.world.lock().unwrap();
                if world.epoch != self.epoch || world.cut_after.is_some_and(|n| self.n_sent >= n) {
                    return Some(Err(io::ErrorKind::ConnectionReset.into()));
                }
                let log = world.logs.get(&self.restart).map_or(&[][..], Vec::as_slice);
                if let Some(line) = log.get(self.next) {
                    self.next += 1;
                    if **line >= *self.since {
                        self.n_sent += 1;
                        return Some(Ok(Frame::data(line.clone().into())));
                    }
                    continue;
                }
                if world.restarts != self.restart || world.state != State::Running {
                    return None;
                }
            }
            self.changes.changed().await.ok()?;
        }
    }
}

/// A collector run: source and deliverer as one process.
struct Process {
    stop: CancellationToken,
    tasks: JoinSet<Result<(), Error>>,
}

impl Process {
    fn start(kube: &Kube, sink: &Arc<MemorySink>, writer: u64) -> Self {
        Self::start_with(
            kube,
            sink,
            writer,
            ApiSettings::default(),
            SelectionConfig::default(),
        )
    }

    fn start_with(
        kube: &Kube,
        sink: &Arc<MemorySink>,
        writer: u64,
        settings: ApiSettings,
        selection: SelectionConfig,
    ) -> Self {
        let intake = intake_with(
            sink,
            writer,
            Selection::build(&selection, crate::selection::OwnPod::default()).unwrap(),
            Arc::new(KubeMetadata::new(kube.directory.clone())),
            Arc::new(tawny_runtime::SystemClock),
        );
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Deliverer::new(&intake, DeliverSettings::default()).run(stop.clone()));
        let source = Box::new(ApiSource::new(
            kube.cluster(),
            kube.directory.clone(),
            settings,
        ));
        tasks.spawn(source.run(intake, stop.child_token()));
        Self { stop, tasks }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}

/// Messages by run of the container of `web0`.
fn stored(sink: &MemorySink) -> BTreeMap<u32, Vec<String>> {
    sink.with(|state| {
        state
            .streams
            .iter()
            .filter(|(id, _)| id.pod_uid.ends_with("-web0"))
            .map(|(StreamId { restart, .. }, stored)| {
                (
                    *restart,
                    stored
                        .entries
                        .iter()
                        .map(|kept| kept.message.clone())
                        .collect(),
                )
            })
            .collect()
    })
}

fn runs(expected: &[(u32, &[&str])]) -> BTreeMap<u32, Vec<String>> {
    expected
        .iter()
        .map(|(restart, texts)| {
            (
                *restart,
                texts.iter().map(|text| (*text).to_owned()).collect(),
            )
        })
        .collect()
}

/// Waits until the stored messages are `expected`; fails with what there is after ten minutes of paused time.
async fn expect(sink: &MemorySink, expected: &[(u32, &[&str])]) {
    let expected = runs(expected);
    for _ in 0..60_000 {
        if stored(sink) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stored(sink), expected);
}

#[tokio::test(start_paused = true)]
async fn lines_of_a_running_container_arrive_with_its_description() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["before"]);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["before"])]).await;
    kube.write(0, 500, &["error: after"]);
    expect(&sink, &[(0, &["before", "error: after"])]).await;
    sink.with(|state| {
        let stream = state
            .streams
            .values()
            .next()
            .unwrap()
            .stream
            .clone()
            .unwrap();
        assert_eq!(
            (
                &*stream.namespace,
                &*stream.pod,
                &*stream.node,
                &*stream.image
            ),
            ("shop", "web0", "n1", "app:1")
        );
        assert_eq!(&*stream.labels["app"], "web");
    });
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn broken_connections_neither_lose_nor_repeat_lines() {
    // KL-40: reconnects repeat a second or two of lines, several of them with one time.
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    let texts: Vec<String> = (0..40).map(|n| format!("line {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    kube.change(|world| {
        world.cut_after = Some(11);
        let log = world.logs.entry(0).or_default();
        for (n, text) in (0i64..).zip(&texts) {
            // Every four lines share one nanosecond; a second passes every eight.
            log.push(format!("{} {text}\n", stamp((n / 4) * 500_000_000)));
        }
    });
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    // Each connection sends 11 lines, the first of which are repeats, so it takes several to get through.
    tokio::time::sleep(Duration::from_secs(600)).await;
    kube.change(|world| world.cut_after = None);
    expect(&sink, &[(0, &texts)]).await;
    assert!(kube.change(|world| world.n_log_requests) > 2);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_process_goes_on_where_the_store_ends() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["a", "b"]);
    kube.tell();
    let first = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["a", "b"])]).await;
    first.stop().await;
    kube.write(0, 2, &["c"]);
    let second = Process::start(&kube, &sink, 2);
    expect(&sink, &[(0, &["a", "b", "c"])]).await;
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn last_words_of_a_container_that_ended_are_read() {
    // SX-14: a terminal pod is read to its end, also a last line without a newline.
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["start"]);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["start"])]).await;
    kube.change(|world| {
        world.epoch += 1;
        world.state = State::Ended;
        world.phase = "Failed";
        world
            .logs
            .get_mut(&0)
            .unwrap()
            .push(format!("{} fatal: last words", stamp(5_000_000)));
    });
    kube.tell();
    expect(&sink, &[(0, &["start", "fatal: last words"])]).await;
    kube.change(|world| world.is_gone = true);
    kube.tell();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        kube.directory.is_empty(),
        "a pod read to its end is released"
    );
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restarts_are_streams_of_their_own_and_the_crash_before_is_read() {
    // KL-46; the run before the first look is fetched once under its own number.
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(1, 0, &["crashed before anyone looked"]);
    kube.write(2, 10, &["second life"]);
    kube.change(|world| world.restarts = 2);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(
        &sink,
        &[
            (1, &["crashed before anyone looked"]),
            (2, &["second life"]),
        ],
    )
    .await;
    kube.write(2, 20, &["dying"]);
    kube.change(|world| world.state = State::BackingOff);
    kube.tell();
    tokio::time::sleep(Duration::from_secs(20)).await;
    kube.write(3, 40, &["third life"]);
    kube.change(|world| {
        world.restarts = 3;
        world.state = State::Running;
    });
    kube.tell();
    expect(
        &sink,
        &[
            (1, &["crashed before anyone looked"]),
            (2, &["second life", "dying"]),
            (3, &["third life"]),
        ],
    )
    .await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_the_watch_has_not_told_yet_is_not_taken_for_the_old_run() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["old"]);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["old"])]).await;
    kube.write(0, 5, &["old end"]);
    kube.write(1, 10, &["new"]);
    kube.change(|world| {
        world.epoch += 1;
        world.restarts = 1;
    });
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert_eq!(stored(&sink), runs(&[(0, &["old"])]));
    kube.tell();
    expect(&sink, &[(0, &["old", "old end"]), (1, &["new"])]).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn runs_that_were_missed_leave_gap_records() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["first"]);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["first"])]).await;
    kube.write(2, 20, &["third"]);
    kube.write(3, 30, &["fourth"]);
    kube.change(|world| {
        world.epoch += 1;
        world.restarts = 3;
    });
    kube.tell();
    const GAP: &str = "gap: lines deleted by rotation before they were read";
    expect(
        &sink,
        &[
            (0, &["first", GAP]),
            (1, &[GAP]),
            (2, &["third"]),
            (3, &["fourth"]),
        ],
    )
    .await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_the_same_name_is_another_stream() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["old pod"]);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["old pod"])]).await;
    // The watch does not tell of the new pod yet, but requests by name reach it.
    kube.change(|world| {
        world.epoch += 1;
        world.uid = 1;
        world
            .logs
            .insert(0, vec![format!("{} new pod\n", stamp(9_000_000))]);
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stored(&sink), runs(&[(0, &["old pod"])]));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_are_retried_and_notices_of_the_kubelet_are_no_lines() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["a"]);
    kube.change(|world| {
        world.refusals = vec![
            (403, r#"{"kind":"Status","reason":"Forbidden","message":"pods is forbidden: User \"u\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"shop\"","code":403}"#),
            (500, "boom"),
            (400, r#"{"kind":"Status","message":"container is waiting to start: ContainerCreating","code":400}"#),
            (200, "unable to retrieve container logs for containerd://0-0"),
            (429, r#"{"kind":"Status","message":"slow down","code":429,"details":{"retryAfterSeconds":50}}"#),
        ];
    });
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["a"])]).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn silent_streams_are_opened_anew() {
    // KL-43: a rotation may have wedged the stream.
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["a"]);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["a"])]).await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert_eq!(kube.change(|world| world.n_log_requests), 4);
    kube.write(0, 5, &["b"]);
    expect(&sink, &[(0, &["a", "b"])]).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn more_containers_than_streams_all_get_their_turn() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["a"]);
    kube.change(|world| world.n_pods = 20);
    kube.tell();
    let settings = ApiSettings {
        max_streams: 3,
        ..ApiSettings::default()
    };
    let process = Process::start_with(&kube, &sink, 1, settings, SelectionConfig::default());
    for n_lines in 1..=2 {
        for _ in 0..12_000 {
            if sink.messages().len() == 20 * n_lines {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(sink.messages().len(), 20 * n_lines);
        kube.write(0, 5, &["b"]);
    }
    assert!(kube.change(|world| world.n_most_open) <= 3);
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pods_are_left_out_and_taken_in_as_their_labels_say() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["a"]);
    kube.change(|world| world.labels = json!({"tawny.dev/exclude": "true"}));
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(kube.change(|world| world.n_log_requests), 0);
    kube.change(|world| world.labels = json!({}));
    kube.tell();
    expect(&sink, &[(0, &["a"])]).await;
    kube.change(|world| world.labels = json!({"vector.dev/exclude": "true"}));
    kube.tell();
    tokio::time::sleep(Duration::from_secs(5)).await;
    kube.write(0, 5, &["b"]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stored(&sink), runs(&[(0, &["a"])]));
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pod_deleted_while_the_stream_was_down_leaves_a_gap_record() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["a"]);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["a"])]).await;
    kube.change(|world| {
        world.epoch += 1;
        world.is_gone = true;
    });
    kube.tell();
    expect(
        &sink,
        &[(
            0,
            &["a", "gap: lines deleted by rotation before they were read"],
        )],
    )
    .await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_deleted_pod_is_read_from_the_open_stream() {
    // SX-14
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    kube.write(0, 0, &["a"]);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    expect(&sink, &[(0, &["a"])]).await;
    kube.change(|world| world.is_gone = true);
    kube.tell();
    kube.write(0, 5, &["shutting down"]);
    expect(&sink, &[(0, &["a", "shutting down"])]).await;
    kube.write(0, 9, &["bye"]);
    kube.change(|world| world.state = State::Ended);
    expect(&sink, &[(0, &["a", "shutting down", "bye"])]).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(
        stored(&sink),
        runs(&[(0, &["a", "shutting down", "bye"])]),
        "read to its end, so nothing is missing"
    );
    assert!(kube.directory.is_empty());
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_refuses_again_and_again_is_not_asked_without_pause() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    sink.with(|state| state.is_forgetful = true);
    kube.write(0, 0, &["line"]);
    kube.tell();
    let process = Process::start(&kube, &sink, 1);
    let began = tokio::time::Instant::now();
    sink.wait_until(|state| state.call_sizes.len() >= 4).await;
    // Three pauses of about 1, 2 and 4 s lie between four refusals; without them only batches linger.
    assert!(began.elapsed() > Duration::from_secs(2));
    sink.with(|state| state.is_forgetful = false);
    expect(&sink, &[(0, &["line"])]).await;
    process.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_collectors_of_one_container_store_each_line_once() {
    let (kube, sink) = (Kube::new(), Arc::new(MemorySink::default()));
    let texts: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
    kube.write(0, 0, &["line 0"]);
    kube.tell();
    let first = Process::start(&kube, &sink, 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = Process::start(&kube, &sink, 2);
    for (n, text) in (1i64..).zip(&texts[1..]) {
        tokio::time::sleep(Duration::from_secs(3)).await;
        kube.write(0, n * 3_000, &[text]);
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    expect(&sink, &[(0, &texts)]).await;
    first.stop().await;
    second.stop().await;
}
