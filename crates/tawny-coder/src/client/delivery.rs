//! Delivery of one agent's lines: registration, the way Coder takes them, and the connection in between.
//!
//! HTTP goes first; where a deployment has it no longer (404, 405, 410), the RPC, and the other way about.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method as Verb, Request, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;
use tawny_model::{Remedy, Secret};
use tokio::time::timeout;

use super::{
    Endpoint,
    http::{HttpLink, refusal},
    rpc::RpcLink,
};
use crate::{
    CoderMetrics, Error,
    lines::Line,
    metrics::Method,
    wire::{LOG_SOURCE, patch_body},
};

/// Longest wait for one answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

const TOKEN_HEADER: HeaderName = HeaderName::from_static("coder-session-token");

/// The first release that knows `role`. Without it, a server takes whoever connects for the agent itself and shows the
/// workspace as connected. Source: coder/coder pull request 22052.
const FIRST_WITH_ROLE: (u64, u64) = (2, 31);

/// Sends batches for one agent.
pub(crate) struct Delivery {
    endpoint: Endpoint,
    token: HeaderValue,
    metrics: CoderMetrics,
    is_registered: bool,
    http: Option<HttpLink>,
    rpc: Option<RpcLink>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct BuildInfo {
    version: String,
}

impl Delivery {
    /// # Errors
    /// `StandDown` when the token can stand in no header.
    pub(crate) fn new(
        endpoint: Endpoint,
        token: &Secret,
        metrics: CoderMetrics,
    ) -> Result<Self, Error> {
        // A secret made from a file often ends with a newline.
        let mut token =
            HeaderValue::from_str(token.expose().trim()).map_err(|_| Error::TokenMalformed)?;
        token.set_sensitive(true);
        Ok(Self {
            endpoint,
            token,
            metrics,
            is_registered: false,
            http: None,
            rpc: None,
        })
    }

    /// Hands over one batch, by the other way when Coder lacks the first.
    pub(crate) async fn send(&mut self, lines: &[Line]) -> Result<(), Error> {
        let is_rpc = self.endpoint.prefers_rpc();
        let mut result = self.send_by(is_rpc, lines).await;
        if let Err(Error::Gone { what, code }) = &result {
            tracing::info!(
                what,
                code,
                "Coder lacks one way for lines; taking the other"
            );
            self.hang_up().await;
            result = self.send_by(!is_rpc, lines).await;
            if result.is_ok() {
                self.endpoint.prefer_rpc(!is_rpc);
            }
        }
        if result
            .as_ref()
            .is_err_and(|error| error.remedy() == Remedy::Retry)
        {
            self.hang_up().await;
        }
        result
    }

    /// Drives an open connection until it breaks, so that the server's pings are answered and a dead one is not used.
    /// Waits for ever when there is none. CANCEL-SAFE.
    pub(crate) async fn idle(&mut self) {
        if let Some(rpc) = &mut self.rpc {
            rpc.drive().await;
            self.rpc = None;
        } else if let Some(http) = &mut self.http {
            http.drive().await;
            self.http = None;
        } else {
            std::future::pending().await
        }
    }

    /// Ends the connection; the next batch registers anew.
    pub(crate) async fn hang_up(&mut self) {
        self.is_registered = false;
        self.http = None;
        if let Some(mut rpc) = self.rpc.take() {
            rpc.close().await;
        }
    }

    async fn send_by(&mut self, is_rpc: bool, lines: &[Line]) -> Result<(), Error> {
        if !self.is_registered {
            let registered = self.register().await;
            self.metrics.requested(Method::PostLogSource, &registered);
            registered?;
            self.is_registered = true;
        }
        if !is_rpc {
            let sent = self.patch(lines).await;
            self.metrics.requested(Method::SendLog, &sent);
            return sent;
        }
        if self.rpc.is_none() {
            let connected = self.connect().await;
            self.metrics.requested(Method::ConnectRPC, &connected);
            // Its one use, the version, is behind it.
            self.http = None;
            self.rpc = Some(connected?);
        }
        let rpc = self.rpc.as_mut().expect("connected above");
        let sent = within(rpc.send(lines)).await;
        self.metrics.requested(Method::SendLog, &sent);
        sent
    }

    async fn register(&mut self) -> Result<(), Error> {
        let path = "/api/v2/workspaceagents/me/log-source";
        let body = Bytes::from_static(LOG_SOURCE.as_bytes());
        let (status, body) = self.request(Verb::POST, path, body).await?;
        if status.is_success() {
            return Ok(());
        }
        match Error::from_status(status.as_u16(), path, refusal(&body)) {
            // Both ways need it, so there is none to change to.
            Error::Gone { code, .. } => Err(Error::Failed {
                code,
                message: "it cannot register where lines come from; is CODER_URL right?".to_owned(),
            }),
            error => Err(error),
        }
    }

    async fn patch(&mut self, lines: &[Line]) -> Result<(), Error> {
        let path = "/api/v2/workspaceagents/me/logs";
        let (status, body) = self.request(Verb::PATCH, path, patch_body(lines)).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(Error::from_status(status.as_u16(), path, refusal(&body)))
    }

    /// Asks for the version, then opens the session that this version understands.
    async fn connect(&mut self) -> Result<RpcLink, Error> {
        let path = "/api/v2/buildinfo";
        let (status, body) = self.request(Verb::GET, path, Bytes::new()).await?;
        if status != StatusCode::OK {
            return Err(Error::from_status(status.as_u16(), path, refusal(&body)));
        }
        let BuildInfo { version } =
            serde_json::from_slice(&body).map_err(|error| Error::Malformed {
                reason: error.to_string(),
            })?;
        let path = (self.endpoint).path(&format!(
            "/api/v2/workspaceagents/me/rpc?{}",
            rpc_query(&version)
        ))?;
        let uri = format!("http://{}{path}", self.endpoint.authority());
        let io = self.endpoint.dial().await?;
        let header = (TOKEN_HEADER, self.token.clone());
        within(RpcLink::open(io, &uri, header)).await
    }

    async fn request(
        &mut self,
        verb: Verb,
        path: &'static str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Error> {
        let request = Request::builder()
            .method(verb)
            .uri(self.endpoint.path(path)?.as_str())
            .header(header::HOST, self.endpoint.authority().as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(TOKEN_HEADER, self.token.clone())
            .body(Full::new(body))
            .expect("a checked path and checked headers make a request");
        let is_open = match &mut self.http {
            Some(http) => http.is_open().await,
            None => false,
        };
        if !is_open {
            self.http = Some(HttpLink::open(self.endpoint.dial().await?).await?);
        }
        let http = self.http.as_mut().expect("opened above");
        let answer = within(http.request(request)).await;
        if answer.is_err() {
            self.http = None;
        }
        answer
    }
}

/// What to ask a server of this version for.
fn rpc_query(version: &str) -> &'static str {
    let mut numbers = version
        .trim_start_matches('v')
        .split(['.', '-', '+'])
        .map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= FIRST_WITH_ROLE => {
            "version=2.8&role=logstream-kube"
        }
        _ => "version=2.0",
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(REQUEST_TIMEOUT, work)
        .await
        .unwrap_or(Err(Error::TimedOut {
            waited: REQUEST_TIMEOUT,
        }))
}

#[cfg(test)]
mod tests;
