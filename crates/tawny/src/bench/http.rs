//! A client that keeps its connection, so that what is timed is the answer and not the way to it.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

/// One open connection.
#[derive(Debug)]
pub(super) struct Connection {
    host: String,
    sender: SendRequest<Full<Bytes>>,
    _task: JoinSet<()>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        socket.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Whoever waits for an answer is told.
            drop(connection.await);
        });
        Ok(Self {
            host: address.to_string(),
            sender,
            _task: task,
        })
    }

    /// The whole body of the answer to a GET.
    pub(super) async fn get(&mut self, target: &str) -> anyhow::Result<Bytes> {
        self.ask(Method::GET, target, Bytes::new()).await
    }

    pub(super) async fn post(&mut self, target: &str, body: Bytes) -> anyhow::Result<Bytes> {
        self.ask(Method::POST, target, body).await
    }

    async fn ask(&mut self, method: Method, target: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, &self.host)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "{status} to {target}: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }
}
