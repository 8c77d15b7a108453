//! `tawny demo`: a made-up cluster and the whole of Tawny around it, in one process.
//!
//! Only the cluster is made up. The agent watches its API over HTTP, reads its log files, stores and serves exactly as
//! in production.

mod api;
mod cluster;

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use serde_json::json;
use tawny_model::Timestamp;
use tawny_query::Query;
use tawny_runtime::{
    CancellationToken, Clock as _, OnExit, Stage, Supervisor, SystemClock, duration,
};
use tawny_store::{Filter, LogStore, Order, SearchRequest};
use tokio::{
    net::TcpListener,
    sync::{Mutex, broadcast::error::RecvError, watch},
    time::MissedTickBehavior,
};

use self::{
    api::Shared,
    cluster::{Cluster, NODE},
};
use crate::cli::note;

/// Options of `tawny demo`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DemoArgs {
    /// Lines per second over all pods.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=20_000))]
    pub(crate) rate: u64,
    /// How much of the past the pods have already logged.
    #[arg(long, default_value = "10m", value_parser = duration::parse)]
    pub(crate) history: Duration,
    /// The same seed makes the same cluster.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// The made-up cluster, running under a supervisor, and the settings that lead an agent to it.
#[derive(Debug)]
pub(crate) struct Demo {
    /// `key=value`, as `--set` takes them.
    pub(crate) settings: Vec<String>,
}

/// Between two looks at the cluster: short enough to seem live.
const TICK: Duration = Duration::from_millis(200);

/// Makes the cluster under `dir`, writes its past, and starts its API and its pods.
///
/// # Errors
/// When `dir` cannot be written or no port of the loopback is free.
pub(crate) async fn start(
    args: &DemoArgs,
    dir: &Path,
    supervisor: &mut Supervisor,
) -> anyhow::Result<Demo> {
    let root = dir.join("pods");
    let made = {
        let (root, args) = (root.clone(), args.clone());
        let now = SystemClock.now();
        tokio::task::spawn_blocking(move || {
            Cluster::new(root, args.seed, args.rate, args.history, now)
        })
    };
    let cluster = made
        .await?
        .with_context(|| format!("write the made-up pods' logs under {}", root.display()))?;
    let cluster = Arc::new(Mutex::new(cluster));
    let (ticks_tx, ticks) = watch::channel(0);
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .context("bind the made-up API")?;
    let url = format!("http://{}", listener.local_addr()?);
    let router = api::router(Shared {
        cluster: Arc::clone(&cluster),
        ticks,
    });
    supervisor.spawn(
        "demo_api",
        Stage::Serve,
        OnExit::StopProcess,
        |stop| async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
        },
    );
    supervisor.spawn("demo_pods", Stage::Intake, OnExit::StopProcess, |stop| {
        live(cluster, ticks_tx, stop)
    });
    let kubeconfig = dir.join("kubeconfig");
    write_kubeconfig(&kubeconfig, &url)
        .with_context(|| format!("write {}", kubeconfig.display()))?;
    let settings = [
        // What an agent logs of its work would bury what a newcomer is told.
        ("log.level", "warn".to_owned()),
        ("runtime", "kubernetes".to_owned()),
        ("cluster", "demo".to_owned()),
        ("kubernetes.kubeconfig", kubeconfig.display().to_string()),
        ("collect.source", "files".to_owned()),
        ("collect.pod_logs_root", root.display().to_string()),
        ("collect.node_name", NODE.to_owned()),
        // The node is made up, and this machine's measures are not its.
        ("vitals.measure", "off".to_owned()),
    ];
    Ok(Demo {
        settings: settings.map(|(key, value)| format!("{key}={value}")).into(),
    })
}

/// Lets time pass for the pods until told to stop.
async fn live(
    cluster: Arc<Mutex<Cluster>>,
    ticks_tx: watch::Sender<u64>,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let mut cluster = Arc::clone(&cluster).lock_owned().await;
        tokio::task::spawn_blocking(move || cluster.tick(SystemClock.now()))
            .await
            .map_err(io::Error::other)??;
        // Nobody may be watching just now.
        ticks_tx.send_modify(|n| *n += 1);
    }
}

fn write_kubeconfig(path: &Path, url: &str) -> io::Result<()> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "demo", "cluster": {"server": url}}],
        "users": [{"name": "demo", "user": {}}],
        "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": "demo"}}],
        "current-context": "demo",
    });
    std::fs::write(path, config.to_string())
}

/// Queries a newcomer is told to try.
const PROBLEMS: &str = "level>=error";
const CRASHES: &str = "\"nil pointer\" pod:crasher-*";
const LIVE: &str = "status>=500 namespace:shop";

/// Tells a newcomer where to look as soon as the past has been collected so far that there is something to see.
pub(crate) fn spawn_welcome(supervisor: &mut Supervisor, http: String, store: Arc<dyn LogStore>) {
    supervisor.spawn(
        "demo_welcome",
        Stage::Serve,
        OnExit::StopProcess,
        |stop| async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                shown = something_to_see(&*store) => shown?,
            }
            note(&welcome(&http));
            stop.cancelled().await;
            Ok::<(), tawny_store::Error>(())
        },
    );
}

/// Completes once each query told to the newcomer finds a line.
async fn something_to_see(store: &dyn LogStore) -> Result<(), tawny_store::Error> {
    let mut committed = store.subscribe();
    for text in [PROBLEMS, CRASHES, LIVE] {
        let Ok(query) = Query::parse(text) else {
            continue; // a test parses them
        };
        let request = SearchRequest {
            filter: Filter {
                query,
                from: Timestamp::MIN,
                to: Timestamp::MAX,
            },
            order: Order::NewestFirst,
            limit: 1,
            after: None,
            before: None,
        };
        while store.search(&request).await?.entries.is_empty() {
            match committed.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(tawny_store::Error::Closed),
            }
        }
    }
    Ok(())
}

fn welcome(http: &str) -> String {
    // The default address need not be named.
    let server = if http == "http://127.0.0.1:8080" {
        String::new()
    } else {
        format!(" --server {http}")
    };
    format!(
        "A made-up cluster is running: 14 pods, one that crashes in a loop, one that is OOM-killed.\n\
         Look at it with\n\n\
         \x20 tawny search '{PROBLEMS}' --since 10m{server}\n\
         \x20 tawny search '{CRASHES}' -o json{server}\n\
         \x20 tawny search '{LIVE}' --follow{server}\n\
         \x20 tawny incidents --quiet-too{server}\n\n\
         or over HTTP at {http}/api/v1/facets?since=10m. (`tawny` is `cargo run --release --` in a checkout.) ^C ends it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queries_a_newcomer_is_told_are_queries() {
        for text in [PROBLEMS, CRASHES, LIVE] {
            assert!(Query::parse(text).is_ok(), "{text}");
        }
    }
}
