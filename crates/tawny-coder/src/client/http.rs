//! One HTTP connection to Coder, kept between requests. Its owner drives it; there is no task behind it.

use std::pin::Pin;

use bytes::Bytes;
use http::{Request, StatusCode, header::LOCATION};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::endpoint::BoxedIo;
use crate::Error;

/// Longest answer read; Coder's are a few lines.
const MAX_ANSWER_BYTES: usize = 256 << 10;

type Connection = http1::Connection<TokioIo<BoxedIo>, Full<Bytes>>;

pub(super) struct HttpLink {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    connection: Option<Pin<Box<Connection>>>,
}

impl HttpLink {
    pub(super) async fn open(io: BoxedIo) -> Result<Self, Error> {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
        Ok(Self {
            sender,
            connection: Some(Box::pin(connection)),
        })
    }

    /// Whether another request can be sent: many servers and proxies end a connection behind an answer.
    pub(super) async fn is_open(&mut self) -> bool {
        if let Some(connection) = &mut self.connection
            && futures::poll!(connection).is_ready()
        {
            self.connection = None;
        }
        self.connection.is_some() && !self.sender.is_closed()
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Error> {
        let sender = &mut self.sender;
        let exchange = async {
            sender.ready().await.map_err(broken)?;
            let (head, body) = sender
                .send_request(request)
                .await
                .map_err(broken)?
                .into_parts();
            if let (true, Some(to)) = (head.status.is_redirection(), head.headers.get(LOCATION)) {
                // Not followed: a token goes to the host that was named and to no other.
                return Err(Error::Failed {
                    code: head.status.as_u16(),
                    message: format!(
                        "it redirects to {}; set CODER_URL to where Coder is",
                        String::from_utf8_lossy(to.as_bytes())
                    ),
                });
            }
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| Error::Malformed {
                reason: error.to_string(),
            })?;
            Ok((head.status, body.to_bytes()))
        };
        let mut exchange = std::pin::pin!(exchange);
        if let Some(connection) = &mut self.connection {
            tokio::select! {
                biased;
                answer = &mut exchange => return answer,
                _ended = connection => self.connection = None,
            }
        }
        // What arrived before the connection ended is still to be had.
        exchange.await
    }

    /// Drives the connection until it ends. CANCEL-SAFE.
    pub(super) async fn drive(&mut self) {
        if let Some(connection) = &mut self.connection {
            // How it ended says nothing about any line: none is under way.
            drop(connection.await);
            self.connection = None;
        }
    }
}

fn broken(error: hyper::Error) -> Error {
    Error::Broken {
        reason: error.to_string(),
    }
}

/// The form of Coder's refusals.
#[derive(Deserialize)]
struct Refusal {
    message: String,
    #[serde(default)]
    detail: String,
}

/// What an answer that is no success says, in one short line.
pub(super) fn refusal(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { message, detail }) if detail.is_empty() => message,
        Ok(Refusal { message, detail }) => format!("{message} ({detail})"),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.join(" ").chars().take(300).collect::<String>() {
        empty if empty.is_empty() => "it does not say why".to_owned(),
        text => text,
    }
}
