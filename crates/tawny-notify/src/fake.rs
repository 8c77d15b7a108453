//! Services within the test that answer as told, over pipes in memory, so that paused time moves only when all wait.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tawny_model::Timestamp;
use tawny_runtime::Clock;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use url::Url;

use crate::deliver::{BoxedIo, Dial, DialFuture};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) host: String,
    /// `POST /path?query`.
    pub(crate) what: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
    pub(crate) at: Instant,
}

/// What a service does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Fine,
    /// A status with further headers and a body.
    Status(u16, &'static str, String),
    /// Never answers.
    Hang,
    /// The connection ends instead of an answer.
    Close,
}

type Decide = dyn Fn(&Asked) -> Answer + Send + Sync;

/// All services there are; a test tells them apart by host.
#[derive(Clone)]
pub(crate) struct Services {
    state: Arc<State>,
}

struct State {
    decide: Box<Decide>,
    asked: Mutex<Vec<Asked>>,
    changes: watch::Sender<usize>,
    connections_tx: mpsc::Sender<DuplexStream>,
    _tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct PipeDial {
    connections_tx: mpsc::Sender<DuplexStream>,
}

impl Dial for PipeDial {
    fn dial<'a>(&'a self, url: &'a Url) -> DialFuture<'a> {
        Box::pin(async move {
            if url.host_str() == Some("absent") {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
            self.connections_tx.send(theirs).await.map_err(refused)?;
            Ok(Box::new(ours) as BoxedIo)
        })
    }
}

impl Services {
    pub(crate) fn start(decide: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let (connections_tx, mut connections_rx) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        let (state_tx, state_rx) = tokio::sync::oneshot::channel::<std::sync::Weak<State>>();
        tasks.spawn(async move {
            let state = state_rx.await.unwrap();
            let mut connections = JoinSet::new();
            while let Some(io) = connections_rx.recv().await {
                let Some(state) = state.upgrade() else {
                    return;
                };
                connections.spawn(serve(state, io));
            }
        });
        let state = Arc::new(State {
            decide: Box::new(decide),
            asked: Mutex::default(),
            changes: watch::Sender::new(0),
            connections_tx,
            _tasks: Mutex::new(tasks),
        });
        state_tx.send(Arc::downgrade(&state)).unwrap();
        Self { state }
    }

    pub(crate) fn dial(&self) -> Arc<dyn Dial> {
        Arc::new(PipeDial {
            connections_tx: self.state.connections_tx.clone(),
        })
    }

    /// One connection from elsewhere, such as a socket.
    pub(crate) async fn serve<T: AsyncRead + AsyncWrite + Unpin + Send>(&self, io: T) {
        serve(Arc::clone(&self.state), io).await;
    }

    /// Requests to a host so far.
    pub(crate) fn asked(&self, host: &str) -> Vec<Asked> {
        let asked = self.state.asked.lock().unwrap();
        asked
            .iter()
            .filter(|asked| asked.host == host)
            .cloned()
            .collect()
    }

    /// Waits until a host got so many requests, at most for a day of paused time.
    pub(crate) async fn until(&self, host: &str, n_asked: usize) {
        let mut changes = self.state.changes.subscribe();
        let reached = async {
            while self.asked(host).len() < n_asked {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(86_400), reached)
            .await
            .unwrap_or_else(|_| panic!("{host}: {:?}", self.asked(host)));
    }
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(state: Arc<State>, mut io: T) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let is_head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(end) = is_head {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length: usize = (head.lines())
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                break (head, bytes[end + 4..].to_vec());
            }
        }
        match io.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let headers: BTreeMap<String, String> = (head.lines().skip(1))
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let what = head
        .lines()
        .next()
        .unwrap()
        .trim_end_matches(" HTTP/1.1")
        .to_owned();
    let asked = Asked {
        host: headers["host"].split(':').next().unwrap().to_owned(),
        what,
        headers,
        body: serde_json::from_slice(&body).unwrap(),
        at: Instant::now(),
    };
    let answer = (state.decide)(&asked);
    state.asked.lock().unwrap().push(asked);
    state.changes.send_modify(|n| *n += 1);
    let response = match answer {
        Answer::Fine => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        Answer::Status(code, headers, body) => {
            let length = body.len();
            format!("HTTP/1.1 {code} Said\r\n{headers}content-length: {length}\r\n\r\n{body}")
        }
        Answer::Hang => std::future::pending().await,
        Answer::Close => return,
    };
    drop(io.write_all(response.as_bytes()).await);
    drop(io.shutdown().await);
}

/// The wall clock of paused time.
#[derive(Debug)]
pub(crate) struct PausedClock {
    started: Instant,
    started_at: Timestamp,
}

impl PausedClock {
    pub(crate) fn new(started_at: Timestamp) -> Self {
        Self {
            started: Instant::now(),
            started_at,
        }
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        self.started_at.saturating_add(self.started.elapsed())
    }
}
