//! The stores that are measured: Tawny itself, as a process of its own, and a peer.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use tawny_wire::{api, proto::tawny::ingest_client::IngestClient};
use tokio::{process::Command, time::sleep};
use tonic::{codec::CompressionEncoding, transport::Endpoint};

use super::{
    http::Connection,
    ingest::Sender,
    peer,
    process::Process,
    queries::{Answer, Ask, Question},
};
use crate::client::percent_encode;

/// Which store, and how it is started.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Tawny {
        /// `KEY=VALUE` of its configuration.
        settings: Vec<String>,
        is_compressed: bool,
    },
    VictoriaLogs {
        program: PathBuf,
    },
    RunningVictoriaLogs {
        http: SocketAddr,
        pid: u32,
    },
}

/// A store that runs.
#[derive(Debug)]
pub(super) struct System {
    pub(super) kind: Kind,
    /// Holds its data and nothing else.
    pub(super) dir: PathBuf,
    pub(super) process: Process,
    http: SocketAddr,
    /// Tawny's.
    grpc: Option<SocketAddr>,
}

impl System {
    /// Starts it on free ports of the loopback address, with its data in `dir`.
    pub(super) async fn start(kind: Kind, dir: PathBuf) -> anyhow::Result<Self> {
        let (process, http, grpc) = match &kind {
            Kind::Tawny { settings, .. } => start_tawny(settings, &dir).await?,
            Kind::VictoriaLogs { program } => {
                let (process, http) = start_victoria_logs(program, &dir).await?;
                (process, http, None)
            }
            Kind::RunningVictoriaLogs { http, pid } => (Process::running(*pid), *http, None),
        };
        Ok(Self {
            kind,
            dir,
            process,
            http,
            grpc,
        })
    }

    /// Stops it; [`Self::start_again`] goes on with the same data.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        self.process.stop().await
    }

    pub(super) async fn start_again(&mut self) -> anyhow::Result<()> {
        *self = Self::start(self.kind.clone(), self.dir.clone()).await?;
        Ok(())
    }

    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Tawny { .. } => "Tawny",
            Kind::VictoriaLogs { .. } | Kind::RunningVictoriaLogs { .. } => "VictoriaLogs",
        }
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.http).await
    }

    /// A connection of its own to send lines by.
    pub(super) async fn sender(&self) -> anyhow::Result<Sender> {
        let (Some(grpc), Kind::Tawny { is_compressed, .. }) = (self.grpc, &self.kind) else {
            return Ok(Sender::JsonLines(self.connect().await?));
        };
        let channel = Endpoint::from_shared(format!("http://{grpc}"))?
            .tcp_nodelay(true)
            .connect()
            .await?;
        let client = IngestClient::new(channel);
        Ok(Sender::Push(if *is_compressed {
            client.send_compressed(CompressionEncoding::Zstd)
        } else {
            client
        }))
    }

    /// Makes it write what it holds in memory, where a store has a way to be told.
    pub(super) async fn flush(&self) -> anyhow::Result<()> {
        if !matches!(self.kind, Kind::Tawny { .. }) {
            self.connect().await?.get(peer::FLUSH).await?;
        }
        Ok(())
    }

    /// The path and parameters that ask a question.
    pub(super) fn target(&self, question: &Question) -> String {
        match self.kind {
            Kind::Tawny { .. } => tawny_target(question),
            Kind::VictoriaLogs { .. } | Kind::RunningVictoriaLogs { .. } => peer::target(question),
        }
    }

    /// Reads the answer to it.
    pub(super) fn read(&self, question: &Question, body: &Bytes) -> anyhow::Result<Answer> {
        match self.kind {
            Kind::Tawny { .. } => read_tawny(question.ask, body),
            Kind::VictoriaLogs { .. } | Kind::RunningVictoriaLogs { .. } => {
                peer::read(question.ask, body)
            }
        }
        .with_context(|| {
            let body = String::from_utf8_lossy(body);
            let head: String = body.chars().take(200).collect();
            format!("{}: {}: {head}", self.name(), question.name)
        })
    }
}

async fn start_tawny(
    settings: &[String],
    dir: &Path,
) -> anyhow::Result<(Process, SocketAddr, Option<SocketAddr>)> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["server", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"])
        .arg("--db")
        .arg(dir.join("store"))
        .env_clear()
        .env("HOME", dir)
        .current_dir(dir);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let parts = ["grpc listening on ", "http listening on http://"];
    let (process, addresses) = Process::start(command, &parts).await?;
    let mut addresses = addresses.iter().map(|address| address.parse());
    let mut next = || addresses.next().context("an address is missing");
    let grpc = next()??;
    Ok((process, next()??, Some(grpc)))
}

async fn start_victoria_logs(program: &Path, dir: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    // It can't choose a free port itself.
    let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let mut command = Command::new(program);
    command
        .arg(format!("-storageDataPath={}", dir.display()))
        .arg(format!("-httpListenAddr={http}"))
        .arg("-retentionPeriod=100y")
        .arg("-loggerLevel=INFO")
        .current_dir(dir);
    let (process, _) = Process::start(command, &["started server at"]).await?;
    for _ in 0..100 {
        if Connection::open(http).await.is_ok() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok((process, http))
}

/// Joins a path and its parameters.
pub(super) fn url(path: &str, parameters: &[(&str, String)]) -> String {
    let mut url = path.to_owned();
    for (idx, (name, value)) in parameters.iter().enumerate() {
        url.push(if idx == 0 { '?' } else { '&' });
        url.push_str(name);
        url.push('=');
        percent_encode(value, &mut url);
    }
    url
}

fn tawny_target(question: &Question) -> String {
    if let Ask::P99 { .. } = question.ask {
        return url("/api/v1/sql", &[("sql", question.tawny.clone())]);
    }
    let mut parameters = vec![("q", question.tawny.clone())];
    if let Some(range) = &question.range {
        parameters.push(("from", range.start.to_string()));
        parameters.push(("to", range.end.to_string()));
    }
    match question.ask {
        Ask::Newest(limit) => {
            parameters.push(("limit", limit.to_string()));
            url("/api/v1/search", &parameters)
        }
        Ask::Count => {
            parameters.push(("bucket", "1d".to_owned()));
            url("/api/v1/histogram", &parameters)
        }
        Ask::Top { field, limit } => {
            parameters.push(("fields", field.name().to_owned()));
            parameters.push(("limit", limit.to_string()));
            url("/api/v1/facets", &parameters)
        }
        Ask::PerMinute | Ask::P99 { .. } => {
            parameters.push(("bucket", "1m".to_owned()));
            url("/api/v1/histogram", &parameters)
        }
    }
}

fn read_tawny(ask: Ask, body: &[u8]) -> anyhow::Result<Answer> {
    Ok(match ask {
        Ask::P99 { .. } => peer::read(ask, body)?,
        Ask::Newest(_) => {
            let page: api::SearchResponse<'_> = serde_json::from_slice(body)?;
            let times = page.entries.iter().map(|entry| entry.timestamp.as_nanos());
            Answer::Newest(times.collect())
        }
        Ask::Count => {
            let histogram: api::HistogramResponse = serde_json::from_slice(body)?;
            Answer::Count(histogram.total)
        }
        Ask::Top { .. } => {
            let facets: api::FacetsResponse = serde_json::from_slice(body)?;
            let values = facets.facets.into_iter().flat_map(|facet| facet.values);
            Answer::Top(values.map(|value| (value.value, value.count)).collect())
        }
        Ask::PerMinute => {
            let histogram: api::HistogramResponse = serde_json::from_slice(body)?;
            let buckets = histogram.buckets.iter();
            Answer::PerMinute(
                buckets
                    .map(|bucket| (bucket.start.as_nanos(), bucket.total))
                    .collect(),
            )
        }
    })
}
