//! Client of a server's HTTP interface, for the commands that ask one.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tawny_wire::api::{ErrorBody, ErrorResponse, SQL_ERROR};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::cli::Exit;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the head of an answer; servers give up a query before that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest answer taken: a page of the largest size with lines of a few kilobytes.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// One server. Connects anew for each request: a command makes few.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Without a slash at the end.
    base: String,
    host: String,
    port: u16,
}

/// Why a server did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("server {url:?}: {reason}")]
    Address { url: String, reason: &'static str },
    #[error(
        "cannot reach {base}: {reason}; is `tawny server` or `tawny up` running there? --server names another"
    )]
    Connect { base: String, reason: String },
    #[error("{base} did not answer within {waited:?}")]
    TimedOut { base: String, waited: Duration },
    #[error("{base} broke off")]
    Broken {
        base: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{base} refused ({status}): {}{}", .body.message, hint(.body))]
    Refused {
        base: String,
        status: u16,
        body: ErrorBody,
    },
    #[error("{base} is no Tawny server: {reason}")]
    Foreign { base: String, reason: String },
}

fn hint(body: &ErrorBody) -> String {
    body.hint
        .as_ref()
        .map_or_else(String::new, |hint| format!("; {hint}"))
}

impl Error {
    /// What the command that asked ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Address { .. } => Exit::Usage,
            Self::Refused { status: 400, .. } => Exit::Usage,
            Self::Refused {
                status: 401 | 403, ..
            } => Exit::Denied,
            Self::Connect { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::Refused { .. }
            | Self::Foreign { .. } => Exit::Failed,
        }
    }
}

/// An answer whose body is still to come; the connection lives as long as this does.
#[derive(Debug)]
pub(crate) struct Answer {
    base: String,
    /// Of the head, and in the end of the trailers, too.
    headers: HeaderMap,
    body: Incoming,
    _connection: JoinSet<()>,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:8080`; a bare `host:port` will do.
    pub(crate) fn new(url: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Address {
            url: url.to_owned(),
            reason,
        };
        let whole = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let uri: Uri = whole
            .parse()
            .map_err(|_| refuse("is no URL; write http://host:port"))?;
        if uri.scheme_str() != Some("http") {
            return Err(refuse(
                "only http is spoken; put TLS in front with a port-forward or a proxy",
            ));
        }
        let authority = uri.authority().ok_or_else(|| refuse("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(refuse("must not hold credentials"));
        }
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            base: whole.trim_end_matches('/').to_owned(),
        })
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Asks for `path` with these parameters; anything but a 200 is an error.
    pub(crate) async fn get(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<Answer, Error> {
        let target = self.target(path, parameters);
        self.send(Method::GET, target, None).await
    }

    /// Sends a JSON document to `path`; anything but a 200 is an error.
    pub(crate) async fn post_json(
        &self,
        path: &str,
        document: &(impl Serialize + Sync),
    ) -> Result<Answer, Error> {
        let body = serde_json::to_vec(document).expect("a document of texts and numbers");
        let target = self.target(path, &[]);
        self.send(Method::POST, target, Some(body)).await
    }

    /// [`Self::post_json`], with a JSON document as the answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        let body = self.post_json(path, document).await?.bytes().await?;
        self.read(&body)
    }

    async fn send(
        &self,
        method: Method,
        target: String,
        json: Option<Vec<u8>>,
    ) -> Result<Answer, Error> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let unreachable = |reason: String| Error::Connect {
            base: self.base.clone(),
            reason,
        };
        let socket = timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| unreachable(format!("no connection within {CONNECT_TIMEOUT:?}")))?
            .map_err(|error| unreachable(error.to_string()))?;
        let broken = |source| Error::Broken {
            base: self.base.clone(),
            source,
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .map_err(broken)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // What goes wrong on the connection is told to whoever waits for the answer.
            drop(connection.await);
        });
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::TE, "trailers")
            .header(header::HOST, format!("{}:{}", self.host, self.port))
            .header(
                header::USER_AGENT,
                concat!("tawny/", env!("CARGO_PKG_VERSION")),
            );
        if json.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::<Bytes>::from(json.unwrap_or_default()))
            .map_err(|_| Error::Address {
                url: self.base.clone(),
                reason: "has characters no URL has",
            })?;
        let response = timeout(ANSWER_TIMEOUT, sender.send_request(request))
            .await
            .map_err(|_| Error::TimedOut {
                base: self.base.clone(),
                waited: ANSWER_TIMEOUT,
            })?
            .map_err(broken)?;
        let status = response.status();
        let answer = Answer {
            base: self.base.clone(),
            headers: response.headers().clone(),
            body: response.into_body(),
            _connection: tasks,
        };
        if status.is_success() {
            return Ok(answer);
        }
        let body = answer.bytes().await?;
        match serde_json::from_slice::<ErrorResponse>(&body) {
            Ok(ErrorResponse { error }) => Err(Error::Refused {
                base: self.base.clone(),
                status: status.as_u16(),
                body: error,
            }),
            Err(_) => Err(Error::Foreign {
                base: self.base.clone(),
                reason: format!("it answered {status}"),
            }),
        }
    }

    /// [`Self::get`] of a JSON document.
    pub(crate) async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<T, Error> {
        let body = self.get(path, parameters).await?.bytes().await?;
        self.read(&body)
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(body).map_err(|error| Error::Foreign {
            base: self.base.clone(),
            reason: format!("its answer does not read: {error}"),
        })
    }

    /// The request's target: the server's own path in front, parameters percent-encoded.
    fn target(&self, path: &str, parameters: &[(&str, String)]) -> String {
        let prefix = self
            .base
            .splitn(4, '/')
            .nth(3)
            .map_or_else(String::new, |prefix| format!("/{prefix}"));
        let mut target = format!("{prefix}{path}");
        for (idx, (name, value)) in parameters.iter().enumerate() {
            target.push(if idx == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            percent_encode(value, &mut target);
        }
        target
    }
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| Error::Broken {
                base: self.base.clone(),
                source,
            })?;
            match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(frame) => self
                    .headers
                    .extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        Ok(None)
    }

    /// What a header says, or, once the body has ended, a trailer.
    pub(crate) fn said(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The error that ended the body before its time.
    pub(crate) fn failed(&self) -> Result<(), Error> {
        match self.said(SQL_ERROR).map(serde_json::from_str) {
            None => Ok(()),
            Some(Ok(ErrorResponse { error })) => Err(Error::Refused {
                base: self.base.clone(),
                status: 500,
                body: error,
            }),
            Some(Err(error)) => Err(Error::Foreign {
                base: self.base.clone(),
                reason: format!("its answer ends with what does not read: {error}"),
            }),
        }
    }

    async fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(Error::Foreign {
                    base: self.base,
                    reason: format!("its answer exceeds {MAX_ANSWER_BYTES} bytes"),
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// Encodes all but the characters that stand for themselves everywhere. Source: RFC 3986, 2.3.
pub(crate) fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("a String takes any text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_keep_the_servers_path_and_encode_parameters() {
        let client = Client::new("http://host:8080/logs/").unwrap();
        assert_eq!(
            client.target(
                "/api/v1/search",
                &[("q", "a b&c=ü".into()), ("limit", "5".into())]
            ),
            "/logs/api/v1/search?q=a%20b%26c%3D%C3%BC&limit=5"
        );
        let client = Client::new("[::1]:80").unwrap();
        assert_eq!((client.host.as_str(), client.port), ("::1", 80));
        assert_eq!(client.target("/x", &[]), "/x");
    }

    #[test]
    fn addresses_that_cannot_be_used_are_a_mistake_of_the_user() {
        for url in ["https://h", "http://u:p@h", "http://", "a b", ""] {
            let error = Client::new(url).map(drop).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{url}: {error}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = |status| Error::Refused {
            base: "b".into(),
            status,
            body: ErrorBody {
                code: "c".into(),
                message: "m".into(),
                line: None,
                column: None,
                hint: Some("try x".into()),
            },
        };
        assert_eq!(refused(400).exit(), Exit::Usage);
        assert_eq!(refused(403).exit(), Exit::Denied);
        assert_eq!(refused(503).exit(), Exit::Failed);
        assert_eq!(refused(400).to_string(), "b refused (400): m; try x");
    }
}
