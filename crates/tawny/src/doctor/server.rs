//! Servers this configuration names.

use std::time::Duration;

use tokio::{net::TcpStream, time::timeout};

use super::report::Report;
use crate::{
    client::Client,
    config::{Loaded, layers::Origin},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn examine(loaded: &Loaded, report: &mut Report) {
    examine_http(loaded, report).await;
    if let Some(address) = &loaded.config.agent.server {
        examine_grpc(address, report).await;
    }
}

/// The server that `search` asks: a problem only when somebody named it.
async fn examine_http(loaded: &Loaded, report: &mut Report) {
    let answer = match Client::new(&loaded.config.general.server) {
        Ok(client) => client.get("/readyz", &[]).await.map(|_| client),
        Err(error) => Err(error),
    };
    match answer {
        Ok(client) => report.ok("server", format!("{} is ready", client.base())),
        Err(error) if *loaded.layers.origin("server") == Origin::Default => report.note(
            "server",
            error.to_string(),
            "nothing, unless you want to search: start one, or name one with --server",
        ),
        Err(error) => report.failure("server", error.to_string()),
    }
}

/// The server an agent sends to.
async fn examine_grpc(address: &str, report: &mut Report) {
    let host_port = address
        .rsplit("://")
        .next()
        .unwrap_or(address)
        .trim_end_matches('/');
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(host_port)).await {
        Ok(Ok(_)) => report.ok("agent.server", format!("{address} answers")),
        Ok(Err(error)) => report.problem(
            "agent.server",
            format!("cannot reach {address}: {error}"),
            "start `tawny server` there, or correct agent.server",
        ),
        Err(_) => report.problem(
            "agent.server",
            format!("{address} does not answer"),
            "look for a firewall or network policy on the way",
        ),
    }
}
