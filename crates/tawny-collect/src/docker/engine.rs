//! The engine's HTTP interface over its socket: the four requests that reading logs takes, alike in Docker and Podman.
//!
//! Paths carry no version, so the engine answers as its own newest: a fixed one is refused by older (SX-22) or newer
//! engines. An SDK is not used because none bounds the memory a line without end takes.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use http_body_util::Empty;
use hyper::{
    Method, Request,
    body::{Body as _, Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use tawny_model::{Remedy, Timestamp};
use tokio::{net::UnixStream, time::timeout};

/// Longest wait for an answer to begin, and for a plain one to end.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A plain answer is no longer than this; a thousand containers list in some 2 MiB.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Talking to the engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    #[error("cannot connect to the engine at `{}`: {source}{}", .socket.display(), advice(.source))]
    Connect {
        socket: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the connection to the engine broke: {source}")]
    Broken {
        #[source]
        source: hyper::Error,
    },
    #[error("the engine did not answer within {waited:?}")]
    TimedOut { waited: Duration },
    #[error("the engine refused ({code}): {message}")]
    Refused { code: u16, message: String },
    #[error("what the engine answered cannot be read: {reason}")]
    Malformed { reason: String },
    #[error("the engine cannot read the log: {message}")]
    Log { message: String },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as a user of the socket's group, or mount the socket into the container"
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "; is the engine running?",
        _ => "",
    }
}

impl EngineError {
    /// The caller's next step; exhaustive, so a new variant must choose.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Connect { .. }
            | Self::Broken { .. }
            | Self::TimedOut { .. }
            | Self::Log { .. } => Remedy::Retry,
            Self::Refused { code, .. } if *code >= 500 => Remedy::Retry,
            Self::Refused { .. } | Self::Malformed { .. } => Remedy::Reject,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }
}

/// An engine, reached anew for each request.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    socket: Arc<Path>,
}

/// A container of the list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listed {
    pub(crate) id: String,
}

/// A container looked at closely.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) state: State,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) tty: bool,
    #[serde(default)]
    pub(crate) image: String,
    /// Engines write `null` for none.
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    #[serde(default)]
    pub(crate) running: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    name: String,
}

/// Something happened to a container.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "Action", default)]
    pub(crate) action: String,
    #[serde(rename = "Actor")]
    pub(crate) actor: Actor,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Actor {
    #[serde(rename = "ID")]
    pub(crate) id: String,
}

/// An answer as it arrives. It drives its own connection, so it needs no task beside it.
pub(crate) struct Answer {
    body: Incoming,
    connection: Option<Connection>,
    is_podman: bool,
}

type Connection = Pin<Box<http1::Connection<TokioIo<UnixStream>, Empty<Bytes>>>>;

impl Engine {
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The machine's name, as the engine knows it.
    pub(crate) async fn fetch_host_name(&self) -> Result<String, EngineError> {
        self.fetch::<Info>("/info").await.map(|info| info.name)
    }

    /// All containers, ended ones too (SX-23).
    pub(crate) async fn fetch_containers(&self) -> Result<Vec<Listed>, EngineError> {
        self.fetch("/containers/json?all=true").await
    }

    /// `None` when there is no such container.
    pub(crate) async fn fetch_container(&self, id: &str) -> Result<Option<Inspected>, EngineError> {
        match self.fetch(&format!("/containers/{id}/json")).await {
            Ok(container) => Ok(Some(container)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts and ends of containers from now on, one JSON object per line (SX-24).
    pub(crate) async fn events(&self) -> Result<Answer, EngineError> {
        // {"type":["container"],"event":["start","die"]}
        self.get("/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22start%22%2C%22die%22%5D%7D")
            .await
    }

    /// A container's log with times, from `since` on.
    pub(crate) async fn logs(
        &self,
        id: &str,
        since: Option<Timestamp>,
        follow: bool,
    ) -> Result<Answer, EngineError> {
        let since = since.map_or_else(String::new, |since| {
            format!("&since={}.{:09}", since.as_secs(), since.subsec_nanos())
        });
        self.get(&format!(
            "/containers/{id}/logs?follow={follow}&stdout=true&stderr=true&timestamps=true{since}"
        ))
        .await
    }

    async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        let answer = async {
            let text = self.get(path).await?.text().await?;
            serde_json::from_slice(&text).map_err(|error| EngineError::Malformed {
                reason: error.to_string(),
            })
        };
        within(answer).await
    }

    /// Sends a request and waits for the head of the answer. Engines send it at once, also for streams.
    async fn get(&self, path: &str) -> Result<Answer, EngineError> {
        within(self.send(path)).await
    }

    async fn send(&self, path: &str) -> Result<Answer, EngineError> {
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| EngineError::Connect {
                    socket: self.socket.to_path_buf(),
                    source,
                })?;
        let broken = |source| EngineError::Broken { source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut connection = Box::pin(connection);
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header("host", "engine")
            .body(Empty::new())
            .expect("paths are made of ids and constants");
        let mut head = std::pin::pin!(sender.send_request(request));
        let mut is_open = true;
        let response = poll_fn(|cx| {
            if is_open && connection.as_mut().poll(cx).is_ready() {
                is_open = false;
            }
            head.as_mut().poll(cx)
        })
        .await
        .map_err(broken)?;
        let code = response.status().as_u16();
        let server = response
            .headers()
            .get("server")
            .map(|server| server.as_bytes());
        let answer = Answer {
            is_podman: server.is_some_and(|server| server.starts_with(b"Libpod")),
            body: response.into_body(),
            connection: is_open.then_some(connection),
        };
        if (200..300).contains(&code) {
            return Ok(answer);
        }
        let text = answer.text().await?;
        Err(EngineError::Refused {
            code,
            message: refusal(&text),
        })
    }
}

async fn within<T>(answer: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    timeout(REQUEST_TIMEOUT, answer)
        .await
        .map_err(|_| EngineError::TimedOut {
            waited: REQUEST_TIMEOUT,
        })?
}

/// The message of an engine's refusal, `{"message":"…"}`.
fn refusal(text: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    serde_json::from_slice::<Refusal>(text).map_or_else(
        |_| String::from_utf8_lossy(text).trim().to_owned(),
        |refusal| refusal.message,
    )
}

impl Answer {
    /// Whether Podman answers, which keeps logs in another way than Docker.
    pub(crate) fn is_podman(&self) -> bool {
        self.is_podman
    }

    /// The next bytes; `None` at the end.
    ///
    /// CANCEL-SAFE: bytes are either returned or still to come.
    pub(crate) async fn bytes(&mut self) -> Result<Option<Bytes>, EngineError> {
        poll_fn(|cx| {
            if let Some(connection) = &mut self.connection
                && connection.as_mut().poll(cx).is_ready()
            {
                self.connection = None;
            }
            loop {
                return match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(bytes) => Poll::Ready(Ok(Some(bytes))),
                        // Trailers, which engines do not send.
                        Err(_) => continue,
                    },
                    Poll::Ready(Some(Err(source))) => {
                        Poll::Ready(Err(EngineError::Broken { source }))
                    }
                    Poll::Ready(None) => Poll::Ready(Ok(None)),
                    Poll::Pending => Poll::Pending,
                };
            }
        })
        .await
    }

    async fn text(mut self) -> Result<Vec<u8>, EngineError> {
        let mut text = Vec::new();
        while let Some(bytes) = self.bytes().await? {
            if text.len() + bytes.len() > MAX_ANSWER_BYTES {
                return Err(EngineError::Malformed {
                    reason: format!("it is longer than {MAX_ANSWER_BYTES} bytes"),
                });
            }
            text.extend_from_slice(&bytes);
        }
        Ok(text)
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}
