//! The source against a stand-in for an engine, over a real socket.

use std::{collections::BTreeMap, convert::Infallible, io, path::Path, sync::Mutex};

use futures::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tawny_model::{Output, Timestamp};
use tempfile::TempDir;
use tokio::{net::UnixListener, sync::watch};

use super::*;
use crate::{
    DeliverSettings, Deliverer, NoMetadata, Selection,
    testing::{MemorySink, intake_with},
};

const EPOCH_SECS: i64 = 1_700_000_000;

#[derive(Default)]
struct World {
    containers: BTreeMap<String, Fake>,
    events: Vec<Value>,
    /// Streams of an older epoch break.
    epoch: u32,
    n_log_requests: usize,
}

#[derive(Default, Clone)]
struct Fake {
    name: String,
    has_terminal: bool,
    is_running: bool,
    labels: Value,
    /// Time in nanoseconds since the epoch, output, text with its newline.
    log: Vec<(i64, Output, String)>,
}

#[derive(Clone)]
struct FakeEngine {
    world: Arc<Mutex<World>>,
    changes: watch::Sender<u64>,
    dir: Arc<TempDir>,
}

type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

fn reply(code: u16, value: &Value) -> Reply {
    let body =
        Full::new(Bytes::from(value.to_string())).map_err(|never: Infallible| match never {});
    Response::builder()
        .status(code)
        .body(body.boxed_unsync())
        .unwrap()
}

impl Fake {
    fn encode(&self, (time, output, text): &(i64, Output, String)) -> Bytes {
        let text = format!("{} {text}", Timestamp::from_nanos(*time));
        if self.has_terminal {
            return text.into();
        }
        let mut frame = vec![if *output == Output::Stdout { 1 } else { 2 }, 0, 0, 0];
        frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text.as_bytes());
        frame.into()
    }
}

impl FakeEngine {
    fn new() -> Self {
        Self {
            world: Arc::default(),
            changes: watch::Sender::new(0),
            dir: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world.lock().unwrap());
        self.changes.send_modify(|n| *n += 1);
        result
    }

    fn add(&self, id: &str, container: Fake) {
        self.change(|world| world.containers.insert(id.to_owned(), container));
    }

    fn start(&self, id: &str) {
        self.change(|world| {
            world.containers.get_mut(id).unwrap().is_running = true;
            world.events.push(json!({"Type": "container", "Action": "start", "Actor": {"ID": id, "Attributes": {}}}));
        });
    }

    fn die(&self, id: &str) {
        self.change(|world| {
            world.containers.get_mut(id).unwrap().is_running = false;
            world.events.push(json!({"Type": "container", "Action": "die", "Actor": {"ID": id, "Attributes": {}}}));
        });
    }

    fn write(&self, id: &str, at_ms: i64, text: &str) {
        self.change(|world| {
            let at = EPOCH_SECS * 1_000_000_000 + at_ms * 1_000_000;
            let log = &mut world.containers.get_mut(id).unwrap().log;
            log.push((at, Output::Stdout, text.to_owned()));
        });
    }

    async fn serve(self, path: PathBuf) {
        let listener = UnixListener::bind(path).unwrap();
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let engine = self.clone();
            connections.spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let engine = engine.clone();
                    async move { Ok::<_, Infallible>(engine.answer(&request)) }
                });
                // A client that leaves is no failure of the engine.
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Reply {
        let mut world = self.world.lock().unwrap();
        let query = request.uri().query().unwrap_or_default();
        let path: Vec<&str> = request
            .uri()
            .path()
            .trim_start_matches('/')
            .split('/')
            .collect();
        match path[..] {
            ["info"] => reply(200, &json!({"Name": "machine"})),
            ["events"] => self.stream(
                Following::Events {
                    next: world.events.len(),
                },
                world.epoch,
            ),
            ["containers", "json"] => {
                assert_eq!(query, "all=true");
                let all: Vec<_> = world
                    .containers
                    .keys()
                    .map(|id| json!({"Id": id}))
                    .collect();
                reply(200, &json!(all))
            }
            ["containers", id, "json"] => match world.containers.get(id) {
                Some(container) => reply(
                    200,
                    &json!({
                        "Id": id, "Name": format!("/{}", container.name), "RestartCount": 0,
                        "State": {"Running": container.is_running, "Status": "x"},
                        "Config": {"Tty": container.has_terminal, "Image": "img:1", "Labels": container.labels},
                    }),
                ),
                None => reply(404, &json!({"message": "No such container"})),
            },
            ["containers", id, "logs"] => {
                world.n_log_requests += 1;
                assert!(
                    query.contains("stdout=true&stderr=true&timestamps=true"),
                    "{query}"
                );
                let since = query.split("since=").nth(1).map_or(0, |since| {
                    let (secs, nanos) = since.split_once('.').unwrap();
                    secs.parse::<i64>().unwrap() * 1_000_000_000 + nanos.parse::<i64>().unwrap()
                });
                let follow = Following::Log {
                    id: id.to_owned(),
                    next: 0,
                    since,
                    follow: query.contains("follow=true"),
                };
                self.stream(follow, world.epoch)
            }
            _ => reply(404, &json!({"message": "page not found"})),
        }
    }

    fn stream(&self, following: Following, epoch: u32) -> Reply {
        let state = (self.clone(), self.changes.subscribe(), following);
        let frames = stream::unfold(
            state,
            move |(engine, mut changes, mut following)| async move {
                loop {
                    changes.borrow_and_update();
                    {
                        let world = engine.world.lock().unwrap();
                        if world.epoch != epoch {
                            let broken = Err(io::ErrorKind::ConnectionReset.into());
                            drop(world);
                            return Some((broken, (engine, changes, following)));
                        }
                        match following.next(&world) {
                            Next::Bytes(bytes) => {
                                drop(world);
                                return Some((
                                    Ok(Frame::data(bytes)),
                                    (engine, changes, following),
                                ));
                            }
                            Next::End => return None,
                            Next::Wait => {}
                        }
                    }
                    changes.changed().await.ok()?;
                }
            },
        );
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

enum Following {
    Events {
        next: usize,
    },
    Log {
        id: String,
        next: usize,
        since: i64,
        follow: bool,
    },
}

enum Next {
    Bytes(Bytes),
    End,
    Wait,
}

impl Following {
    fn next(&mut self, world: &World) -> Next {
        match self {
            Self::Events { next } => match world.events.get(*next) {
                Some(event) => {
                    *next += 1;
                    Next::Bytes(format!("{event}\n").into())
                }
                None => Next::Wait,
            },
            Self::Log {
                id,
                next,
                since,
                follow,
            } => {
                let Some(container) = world.containers.get(id) else {
                    return Next::End;
                };
                while let Some(line) = container.log.get(*next) {
                    *next += 1;
                    if line.0 >= *since {
                        return Next::Bytes(container.encode(line));
                    }
                }
                if *follow && container.is_running {
                    Next::Wait
                } else {
                    Next::End
                }
            }
        }
    }
}

struct Process {
    stop: CancellationToken,
    tasks: JoinSet<Result<(), Error>>,
}

impl Process {
    fn start(socket: &Path, own: OwnContainer, sink: &Arc<MemorySink>, writer: u64) -> Self {
        let intake = intake_with(
            sink,
            writer,
            Selection::default(),
            Arc::new(NoMetadata::default()),
            Arc::new(tawny_runtime::SystemClock),
        );
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Deliverer::new(&intake, DeliverSettings::default()).run(stop.clone()));
        let source = Box::new(DockerSource::new(
            DockerSettings::new(socket.to_owned()),
            own,
        ));
        assert_eq!(source.kind(), SourceKind::Docker);
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

/// The engine, started, and an empty store.
fn started() -> (FakeEngine, Arc<MemorySink>, JoinSet<()>) {
    let engine = FakeEngine::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(engine.clone().serve(engine.socket()));
    (engine, Arc::new(MemorySink::default()), tasks)
}

fn running(name: &str) -> Fake {
    Fake {
        name: name.to_owned(),
        is_running: true,
        ..Fake::default()
    }
}

#[tokio::test]
async fn containers_of_all_kinds_are_read_and_described() {
    let (engine, sink, _serving) = started();
    let labels = json!({"com.docker.compose.project": "shop", "com.docker.compose.service": "web", "tier": "front"});
    engine.add(
        "c1",
        Fake {
            labels,
            ..running("shop-web-1")
        },
    );
    engine.add(
        "c2",
        Fake {
            has_terminal: true,
            ..running("shell")
        },
    );
    engine.add(
        "c3",
        Fake {
            is_running: false,
            ..running("batch")
        },
    );
    engine.write("c1", 0, "hello\n");
    let piece = "p".repeat(16_384);
    engine.change(|world| {
        let log = &mut world.containers.get_mut("c1").unwrap().log;
        log.push((
            EPOCH_SECS * 1_000_000_000 + 1,
            Output::Stderr,
            piece.clone(),
        ));
        log.push((
            EPOCH_SECS * 1_000_000_000 + 2,
            Output::Stderr,
            "second piece\n".to_owned(),
        ));
    });
    engine.write("c2", 0, "prompt\r\n");
    engine.write("c3", 0, "result\n");
    let process = Process::start(&engine.socket(), OwnContainer::default(), &sink, 1);
    sink.wait_for_messages(4).await;
    sink.with(|state| {
        let texts: Vec<_> = state
            .streams
            .values()
            .flat_map(|stored| {
                let stream = stored.stream.clone().unwrap();
                let name = format!("{}/{}/{}", stream.namespace, stream.pod, stream.container());
                stored
                    .entries
                    .iter()
                    .map(move |kept| format!("{name} {}", kept.message))
            })
            .collect();
        assert_eq!(
            texts,
            [
                "shop/shop-web-1/web hello",
                &format!("shop/shop-web-1/web {piece}second piece"),
                "docker/shell/shell prompt",
                "docker/batch/batch result",
            ]
        );
        let stream = state
            .streams
            .values()
            .next()
            .unwrap()
            .stream
            .clone()
            .unwrap();
        assert_eq!(
            (&*stream.node, &*stream.image, &*stream.labels["tier"]),
            ("machine", "img:1", "front")
        );
        assert_eq!((&*stream.id.pod_uid, stream.id.restart), ("c1", 0));
    });
    process.stop().await;
}

#[tokio::test]
async fn started_and_restarted_containers_are_read_without_repeats() {
    // SX-24
    let (engine, sink, _serving) = started();
    let process = Process::start(&engine.socket(), OwnContainer::default(), &sink, 1);
    engine.add("c0", running("first"));
    engine.write("c0", 0, "one\n");
    // Whether the list or the event names it depends on who was first; both must work, and not twice.
    engine.start("c0");
    sink.wait_for_messages(1).await;
    engine.write("c0", 10, "last words\n");
    engine.die("c0");
    sink.wait_for_messages(2).await;
    engine.write("c0", 20, "again\n");
    engine.start("c0");
    engine.write("c0", 30, "and on\n");
    assert_eq!(
        sink.wait_for_messages(4).await,
        ["one", "last words", "again", "and on"]
    );
    process.stop().await;
}

#[tokio::test]
async fn broken_connections_and_new_processes_neither_lose_nor_repeat_lines() {
    let (engine, sink, _serving) = started();
    engine.add("c1", running("web"));
    engine.write("c1", 0, "a\n");
    engine.write("c1", 0, "b\n");
    let process = Process::start(&engine.socket(), OwnContainer::default(), &sink, 1);
    sink.wait_for_messages(2).await;
    engine.change(|world| world.epoch += 1);
    engine.write("c1", 0, "c\n");
    sink.wait_for_messages(3).await;
    process.stop().await;
    engine.write("c1", 5000, "d\n");
    let process = Process::start(&engine.socket(), OwnContainer::default(), &sink, 2);
    assert_eq!(sink.wait_for_messages(4).await, ["a", "b", "c", "d"]);
    assert!(engine.change(|world| world.n_log_requests) >= 3);
    process.stop().await;
}

#[tokio::test]
async fn a_sink_that_refuses_is_not_asked_again_without_pause() {
    let (engine, sink, _serving) = started();
    sink.with(|state| state.is_forgetful = true);
    engine.add("c0", running("first"));
    engine.write("c0", 0, "one\n");
    let process = Process::start(&engine.socket(), OwnContainer::default(), &sink, 1);
    sink.wait_until(|state| !state.call_sizes.is_empty()).await;
    let began = Instant::now();
    sink.wait_until(|state| state.call_sizes.len() >= 3).await;
    // Two pauses; without them only batches linger, twice 100 ms.
    assert!(began.elapsed() > RETRY_FIRST);
    sink.with(|state| state.is_forgetful = false);
    assert_eq!(sink.wait_for_messages(1).await, ["one"]);
    process.stop().await;
}

#[tokio::test]
async fn own_and_excluded_containers_are_left_out() {
    // SX-27
    let (engine, sink, _serving) = started();
    engine.add("c1", running("strixlog"));
    engine.add(
        "c2",
        Fake {
            labels: json!({"tawny.dev/exclude": "true"}),
            ..running("quiet")
        },
    );
    engine.add("c3", running("web"));
    for id in ["c1", "c2", "c3"] {
        engine.write(id, 0, "x\n");
    }
    let process = Process::start(
        &engine.socket(),
        OwnContainer::find("strixlog", "", ""),
        &sink,
        1,
    );
    sink.wait_for_messages(1).await;
    process.stop().await;
    assert_eq!(engine.change(|world| world.n_log_requests), 1);
}

#[tokio::test]
async fn an_engine_that_comes_later_is_found() {
    let engine = FakeEngine::new();
    engine.add("c1", running("web"));
    engine.write("c1", 0, "x\n");
    let sink = Arc::new(MemorySink::default());
    let process = Process::start(&engine.socket(), OwnContainer::default(), &sink, 1);
    let mut serving = JoinSet::new();
    serving.spawn(engine.clone().serve(engine.socket()));
    sink.wait_for_messages(1).await;
    process.stop().await;
}

#[tokio::test]
async fn a_socket_that_is_none_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (socket, expected) in [
        (file, "is the engine running?"),
        (dir.path().join("none"), "is the engine running?"),
    ] {
        let error = Engine::new(&socket).fetch_containers().await.unwrap_err();
        assert_eq!(error.remedy(), tawny_model::Remedy::Retry);
        assert!(error.to_string().contains(expected), "{error}");
    }
}
