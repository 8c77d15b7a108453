//! A Coder deployment within the test: HTTP, websocket, yamux and DRPC as its server speaks them, with every way to fail.
//!
//! Connections are pipes in memory, so that paused time moves only when all sides wait.

use std::{
    future::poll_fn,
    io::{self, Cursor},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, stream::FuturesUnordered};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use serde_json::{Value, json};
use tawny_model::{Secret, Timestamp};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_websockets::ServerBuilder;
use url::Url;

use crate::{
    client::{BoxedIo, Dial, DialFuture, Endpoint, byte_stream},
    wire::{
        BatchCreateLogsRequest, BatchCreateLogsResponse,
        drpc::{self, Decoder, Kind, Packet},
    },
};

/// A request as it came; `verb` is `RPC` for a DRPC call, whose `path` is what it calls.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) token: String,
    pub(crate) body: Bytes,
    pub(crate) at: Instant,
}

/// What the deployment does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Fine,
    /// The connection ends behind the answer; for a DRPC call, the session a second later.
    FineAtLast,
    /// For a DRPC call, its error code.
    Status(u16),
    /// The agent's log is full; the line is not kept.
    Full,
    Slow(Duration),
    Never,
    /// The connection ends instead of an answer.
    Drop,
}

/// A line as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) token: String,
    pub(crate) created_at: Timestamp,
    pub(crate) level: i32,
    pub(crate) output: String,
}

type Decide = dyn Fn(&Asked) -> Answer + Send + Sync;

struct State {
    decide: Box<Decide>,
    version: Mutex<String>,
    asked: Mutex<Vec<Asked>>,
    told: Mutex<Vec<Told>>,
    changes: watch::Sender<usize>,
}

pub(crate) struct FakeCoder {
    state: Arc<State>,
    pub(crate) endpoint: Endpoint,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct PipeDial {
    connections_tx: mpsc::Sender<DuplexStream>,
}

impl Dial for PipeDial {
    fn dial(&self) -> DialFuture<'_> {
        Box::pin(async {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
            self.connections_tx.send(theirs).await.map_err(refused)?;
            Ok(Box::new(ours) as BoxedIo)
        })
    }
}

impl FakeCoder {
    /// A deployment that answers as `decide` says, at a URL with a path of its own.
    pub(crate) fn start(decide: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let state = Arc::new(State {
            decide: Box::new(decide),
            version: Mutex::new("v2.34.2".to_owned()),
            asked: Mutex::default(),
            told: Mutex::default(),
            changes: watch::Sender::new(0),
        });
        let (connections_tx, mut connections_rx) = mpsc::channel(16);
        let url = Url::parse("https://coder.example:8443/base/").unwrap();
        let endpoint = Endpoint::with_dial(&url, Box::new(PipeDial { connections_tx })).unwrap();
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&state);
        tasks.spawn(async move {
            let mut connections = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some(io) = connections_rx.recv() => connections.push(Arc::clone(&shared).serve(io)),
                    Some(()) = connections.next() => {}
                    else => return,
                }
            }
        });
        Self {
            state,
            endpoint,
            _tasks: tasks,
        }
    }

    pub(crate) fn set_version(&self, version: &str) {
        version.clone_into(&mut self.state.version.lock().unwrap());
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Verb and path of every request, without the base.
    pub(crate) fn requests(&self) -> Vec<String> {
        let brief = |path: &str| {
            path.trim_start_matches("/base/api/v2/")
                .replace("workspaceagents/me/", "")
        };
        (self.asked().iter())
            .map(|asked| format!("{} {}", asked.verb, brief(&asked.path)))
            .collect()
    }

    pub(crate) fn told(&self) -> Vec<Told> {
        self.state.told.lock().unwrap().clone()
    }

    /// What one agent's log shows.
    pub(crate) fn outputs(&self, token: &str) -> Vec<String> {
        (self.told().into_iter())
            .filter(|told| told.token == token)
            .map(|told| told.output)
            .collect()
    }

    /// Waits until `is_reached`, at most for a day of paused time.
    pub(crate) async fn until(&self, is_reached: impl Fn(&Self) -> bool + Sync + Send) {
        let mut changes = self.state.changes.subscribe();
        let reached = async {
            while !is_reached(self) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(86_400), reached)
            .await
            .unwrap_or_else(|_| panic!("not reached: {:?} {:?}", self.requests(), self.told()));
    }
}

/// The head of a request: its first line's path, and its token.
fn read_head(head: &[u8]) -> (String, String) {
    let head = String::from_utf8_lossy(head);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let token = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("coder-session-token")
            .then(|| value.trim().to_owned())
    });
    (path, token.unwrap_or_default())
}

impl State {
    fn decide(&self, asked: Asked) -> Answer {
        let answer = (self.decide)(&asked);
        self.asked.lock().unwrap().push(asked);
        self.changes.send_modify(|n| *n += 1);
        answer
    }

    /// Takes the lines of a request that is fine.
    fn take(&self, lines: impl Iterator<Item = Told>) {
        self.told.lock().unwrap().extend(lines);
        self.changes.send_modify(|n| *n += 1);
    }

    async fn serve(self: Arc<Self>, mut io: DuplexStream) {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match io.read_buf(&mut head).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let (path, token) = read_head(&head);
        let (read, write) = tokio::io::split(io);
        let io = tokio::io::join(Cursor::new(head).chain(read), write);
        if path.contains("/rpc") {
            self.serve_rpc(io, path, token).await;
        } else {
            let service = service_fn(|request| self.serve_http(request));
            let connection = hyper::server::conn::http1::Builder::new();
            drop(connection.serve_connection(TokioIo::new(io), service).await);
        }
    }

    async fn serve_http(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, io::Error> {
        let (head, body) = request.into_parts();
        assert_eq!(head.headers["host"], "coder.example:8443");
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let token = head.headers.get("coder-session-token");
        let asked = Asked {
            verb: head.method.to_string(),
            path: head.uri.path().to_owned(),
            token: token.map_or("", |token| token.to_str().unwrap()).to_owned(),
            body,
            at: Instant::now(),
        };
        let refusal = |code: u16, message: &str| {
            let body = json!({"message": message}).to_string();
            Response::builder()
                .status(code)
                .body(Full::from(body))
                .unwrap()
        };
        let answer = self.decide(asked.clone());
        let is_last = answer == Answer::FineAtLast;
        match answer {
            Answer::Status(code) => {
                let mut refusal = refusal(code, "as the test wants");
                if code == 308 {
                    let to = http::HeaderValue::from_static("https://elsewhere.example");
                    refusal.headers_mut().insert(http::header::LOCATION, to);
                }
                return Ok(refusal);
            }
            Answer::Full => return Ok(refusal(413, "Logs limit exceeded")),
            Answer::Never => std::future::pending().await,
            Answer::Drop => return Err(io::ErrorKind::ConnectionReset.into()),
            Answer::Slow(time) => tokio::time::sleep(time).await,
            Answer::Fine | Answer::FineAtLast => {}
        }
        let (code, body) = match (head.method, head.uri.path()) {
            (Method::POST, "/base/api/v2/workspaceagents/me/log-source") => {
                (StatusCode::CREATED, asked.body)
            }
            (Method::GET, "/base/api/v2/buildinfo") => {
                let version = self.version.lock().unwrap().clone();
                (
                    StatusCode::OK,
                    json!({"version": version}).to_string().into(),
                )
            }
            (Method::PATCH, "/base/api/v2/workspaceagents/me/logs") => {
                let body: Value = serde_json::from_slice(&asked.body).unwrap();
                let levels = ["", "trace", "debug", "info", "warn", "error"];
                let logs = body["logs"].as_array().unwrap();
                self.take(logs.iter().map(|log| {
                    Told {
                        token: asked.token.clone(),
                        created_at: Timestamp::parse_rfc3339(
                            log["created_at"].as_str().unwrap().as_bytes(),
                        )
                        .unwrap(),
                        level: levels
                            .iter()
                            .position(|level| log["level"] == *level)
                            .unwrap()
                            .try_into()
                            .unwrap(),
                        output: log["output"].as_str().unwrap().to_owned(),
                    }
                }));
                (StatusCode::OK, Bytes::new())
            }
            _ => (StatusCode::NOT_FOUND, Bytes::new()),
        };
        let mut answer = Response::builder()
            .status(code)
            .body(Full::from(body))
            .unwrap();
        if is_last {
            let close = http::HeaderValue::from_static("close");
            answer.headers_mut().insert(http::header::CONNECTION, close);
        }
        Ok(answer)
    }

    async fn serve_rpc<T>(&self, mut io: T, path: String, token: String)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let asked = Asked {
            verb: "GET".to_owned(),
            path,
            token: token.clone(),
            body: Bytes::new(),
            at: Instant::now(),
        };
        match self.decide(asked) {
            Answer::Status(code) => {
                let refusal = format!("HTTP/1.1 {code} No\r\nContent-Length: 0\r\n\r\n");
                drop(io.write_all(refusal.as_bytes()).await);
                return;
            }
            Answer::Drop => return,
            Answer::Never => std::future::pending().await,
            Answer::Slow(time) => tokio::time::sleep(time).await,
            Answer::Fine | Answer::FineAtLast | Answer::Full => {}
        }
        let Ok((_, socket)) = ServerBuilder::new().accept(io).await else {
            return;
        };
        let mut session = yamux::Connection::new(
            byte_stream(socket),
            yamux::Config::default(),
            yamux::Mode::Server,
        );
        let mut calls = FuturesUnordered::new();
        loop {
            tokio::select! {
                stream = poll_fn(|cx| session.poll_next_inbound(cx)) => match stream {
                    Some(Ok(stream)) => calls.push(self.serve_call(stream, &token)),
                    _ => return,
                },
                Some(is_kept) = calls.next() => {
                    if !is_kept {
                        return;
                    }
                }
            }
        }
    }

    /// One call on a stream of its own; whether the session goes on.
    async fn serve_call(&self, mut stream: yamux::Stream, token: &str) -> bool {
        let mut decoder = Decoder::default();
        let mut packets: Vec<Packet> = Vec::new();
        let mut piece = [0; 1000];
        while !packets.iter().any(|packet| packet.kind == Kind::CloseSend) {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return true,
                Ok(n_bytes) => decoder.push(&piece[..n_bytes]),
            }
            while let Some(packet) = decoder.next_packet().unwrap() {
                packets.push(packet);
            }
        }
        let kinds: Vec<Kind> = packets.iter().map(|packet| packet.kind).collect();
        assert_eq!(kinds, [Kind::Invoke, Kind::Message, Kind::CloseSend]);
        let asked = Asked {
            verb: "RPC".to_owned(),
            path: String::from_utf8(packets[0].data.to_vec()).unwrap(),
            token: token.to_owned(),
            body: packets[1].data.clone(),
            at: Instant::now(),
        };
        let answer = self.decide(asked);
        let is_last = answer == Answer::FineAtLast;
        let (kind, data) = match answer {
            Answer::Status(code) => {
                let mut error = u64::from(code).to_be_bytes().to_vec();
                error.extend(b"as the test wants");
                (Kind::Error, error)
            }
            Answer::Drop => return false,
            Answer::Never => std::future::pending().await,
            answer => {
                if let Answer::Slow(time) = answer {
                    tokio::time::sleep(time).await;
                }
                let request = BatchCreateLogsRequest::decode(packets[1].data.clone()).unwrap();
                assert_eq!(request.log_source_id[..], crate::wire::LOG_SOURCE_BYTES);
                if answer != Answer::Full {
                    self.take(request.logs.into_iter().map(|log| {
                        let at = log.created_at.unwrap();
                        Told {
                            token: token.to_owned(),
                            created_at: Timestamp::from_nanos(
                                at.seconds * 1_000_000_000 + i64::from(at.nanos),
                            ),
                            level: log.level,
                            output: log.output,
                        }
                    }));
                }
                let response = BatchCreateLogsResponse {
                    log_limit_exceeded: answer == Answer::Full,
                };
                (Kind::Message, response.encode_to_vec())
            }
        };
        let mut answer = Vec::new();
        for (message, kind, data) in [(1, kind, data), (2, Kind::CloseSend, Vec::new())] {
            let packet = Packet {
                kind,
                stream: 1,
                message,
                data: data.into(),
            };
            drpc::encode(&packet, &mut answer);
        }
        drop(stream.write_all(&answer).await);
        drop(stream.close().await);
        if is_last {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        !is_last
    }
}

pub(crate) fn secret(token: &str) -> Secret {
    Secret::new(token)
}
