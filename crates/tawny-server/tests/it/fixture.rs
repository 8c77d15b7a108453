//! A server on port 0 over a SQLite store in a temporary directory, and small clients for both faces.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::{Body, Incoming},
    client::conn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tawny_model::{EntryId, LogEntry, Output, Severity, Stream, StreamId, Timestamp, Workload};
use tawny_runtime::{CancellationToken, ManualClock, Registry};
use tawny_server::{Limits, Listeners, Readiness, Server};
use tawny_store::{LogStore, SqliteConfig, SqliteStore};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tonic::transport::Channel;

/// 2026-01-31T12:00:00Z; the server's clock stands there.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_769_860_800);

pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn LogStore>,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) stop: CancellationToken,
    /// Connections of the HTTP clients.
    driven: JoinSet<()>,
    served: JoinSet<()>,
    _directory: Option<TempDir>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default(), |store| store).await
    }

    /// A server with other limits, over a store wrapped by `wrap`.
    pub(crate) async fn with(
        limits: Limits,
        wrap: impl FnOnce(Arc<dyn LogStore>) -> Arc<dyn LogStore>,
    ) -> Self {
        Self::finished(limits, wrap, |server| server).await
    }

    /// A server that `finish` adds to.
    pub(crate) async fn finished(
        limits: Limits,
        wrap: impl FnOnce(Arc<dyn LogStore>) -> Arc<dyn LogStore>,
        finish: impl FnOnce(Server) -> Server,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let mut registry = Registry::default();
        tawny_runtime::metrics::register_process(&mut registry, "0.0.0");
        let store = SqliteStore::open(
            SqliteConfig::new(directory.path().join("logs.db")),
            Arc::<ManualClock>::clone(&clock),
            &mut registry,
        )
        .await
        .unwrap();
        let store = wrap(Arc::new(store));
        let server = Server::new(Arc::clone(&store), clock, limits, &mut registry);
        let server = finish(server);
        let readiness = server.readiness();
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (grpc_addr, http_addr) = (grpc.local_addr().unwrap(), http.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut served = JoinSet::new();
        served.spawn(server.serve(
            Listeners {
                grpc: Some(grpc),
                http: Some(http),
            },
            Arc::new(registry),
            stop.clone(),
        ));
        Self {
            store,
            http: http_addr,
            grpc: grpc_addr,
            readiness,
            stop,
            driven: JoinSet::new(),
            served,
            _directory: Some(directory),
        }
    }

    /// Asks the server to stop and waits until it has.
    pub(crate) async fn stopped(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.served.join_next().await {
            ended.unwrap();
        }
    }

    pub(crate) async fn append(&self, entries: Vec<LogEntry>) {
        self.store.append(entries).await.unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(Request::get(path).body(Empty::<Bytes>::new()).unwrap())
            .await
    }

    /// The body's JSON; the status must be 200.
    pub(crate) async fn json(&mut self, path: &str) -> serde_json::Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        answer.json()
    }

    pub(crate) async fn ask<B: Body<Data = Bytes, Error = Infallible> + Send + 'static>(
        &mut self,
        request: Request<B>,
    ) -> Answer {
        let response = self.open(request).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Sends a request over HTTP/1.1 and returns once the head of the answer is there.
    pub(crate) async fn open<B: Body<Data = Bytes, Error = Infallible> + Send + 'static>(
        &mut self,
        request: Request<B>,
    ) -> http::Response<Incoming> {
        let socket = TcpStream::connect(self.http).await.unwrap();
        let (mut sender, connection) = conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
        self.driven.spawn(async move {
            // A test that drops its answer breaks its connection.
            let _broken = connection.await;
        });
        sender.send_request(request).await.unwrap()
    }

    /// The same over HTTP/2 without TLS.
    pub(crate) async fn ask_h2c(&mut self, path: &str) -> (StatusCode, http::Version) {
        let socket = TcpStream::connect(self.http).await.unwrap();
        let (mut sender, connection) =
            conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                .await
                .unwrap();
        self.driven.spawn(async move {
            let _broken = connection.await;
        });
        let request = Request::get(format!("http://{}{path}", self.http))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        (response.status(), response.version())
    }

    /// Opens a stream of lines.
    pub(crate) async fn stream(&mut self, path: &str) -> Lines {
        self.stream_with(Request::get(path)).await
    }

    pub(crate) async fn stream_with(&mut self, request: http::request::Builder) -> Lines {
        let response = self
            .open(request.body(Empty::<Bytes>::new()).unwrap())
            .await;
        assert_eq!(response.status(), StatusCode::OK);
        let (head, body) = response.into_parts();
        Lines {
            headers: head.headers,
            body,
            text: String::new(),
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The error's code and message; panics when it is none.
    pub(crate) fn error(&self) -> (StatusCode, String, String) {
        let json = self.json();
        let text = |key: &str| json["error"][key].as_str().unwrap().to_owned();
        (self.status, text("code"), text("message"))
    }
}

/// A body without an end, line by line.
pub(crate) struct Lines {
    pub(crate) headers: HeaderMap,
    body: Incoming,
    text: String,
}

impl Lines {
    /// The next line that is not empty; `None` at the end of the body.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.text = rest;
                if line.is_empty() {
                    continue;
                }
                return Some(line);
            }
            let frame = self.body.frame().await?.ok()?;
            let bytes = frame.into_data().unwrap_or_default();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// The next server-sent event's data, comments and ids passed over.
    pub(crate) async fn data(&mut self) -> serde_json::Value {
        loop {
            let line = self.next().await.expect("an event");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    /// The next JSON line.
    pub(crate) async fn value(&mut self) -> serde_json::Value {
        let line = self.next().await.expect("a line");
        serde_json::from_str(&line).unwrap()
    }
}

/// A stream of pod `pod` in namespace `namespace`, with all metadata.
pub(crate) fn stream(namespace: &str, pod: &str, container: &str) -> Arc<Stream> {
    let id = StreamId {
        cluster: "".into(),
        pod_uid: format!("uid-{pod}").into(),
        container: container.into(),
        restart: 1,
    };
    let mut stream = Stream::new(id, namespace, pod);
    stream.node = "node-a".into();
    stream.image = "registry/app:1".into();
    stream.workload = Some(Workload {
        kind: "Deployment".into(),
        name: "app".into(),
    });
    stream.labels = [("app".into(), "shop".into())].into();
    Arc::new(stream)
}

/// An entry `secs_ago` before [`NOW`].
pub(crate) fn entry(
    stream: &Arc<Stream>,
    secs_ago: i64,
    severity: Severity,
    message: &str,
) -> LogEntry {
    LogEntry {
        id: EntryId(0),
        timestamp: Timestamp::from_nanos(NOW.as_nanos() - secs_ago * 1_000_000_000 + 123_456_789),
        severity,
        output: Output::Stderr,
        message: message.to_owned(),
        attributes: vec![("status".to_owned(), "500".to_owned())],
        stream: Arc::clone(stream),
    }
}

/// Three pods in two namespaces, six entries, a minute apart.
pub(crate) fn six_entries() -> Vec<LogEntry> {
    let web = stream("shop", "web-1", "nginx");
    let api = stream("shop", "api-1", "app");
    let bank = stream("bank", "ledger-1", "app");
    vec![
        entry(&web, 360, Severity::Info, "GET /cart 200"),
        entry(&api, 300, Severity::Debug, "cache miss for cart"),
        entry(&bank, 240, Severity::Warn, "slow commit"),
        entry(&api, 180, Severity::Error, "payment failed: timeout"),
        entry(&web, 120, Severity::Info, "GET /pay 500"),
        entry(&bank, 60, Severity::Fatal, "out of memory"),
    ]
}

/// A copy in which what differs from run to run is blotted out.
pub(crate) fn golden(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                let is_volatile = matches!(
                    key.as_str(),
                    "id" | "nextCursor" | "next_cursor" | "diskSizeBytes"
                );
                let value = if is_volatile {
                    Value::from("[…]")
                } else {
                    golden(value)
                };
                (key.clone(), value)
            })
            .collect(),
        Value::Array(values) => values.iter().map(golden).collect(),
        other => other.clone(),
    }
}
