//! Watching the cluster as a task of this process, with its store as the archive.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tawny_incident::report::LogLine;
use tawny_kube::{Cluster, Lease};
use tawny_model::{LogEntry, StreamId, Timestamp};
use tawny_query::{Expr, Field, Query};
use tawny_runtime::{OnExit, Registry, SharedClock, Stage, Supervisor};
use tawny_store::{Filter, LogStore, Order, SearchRequest};
use tawny_watch::{
    Archive, ArchiveError, ClusterWatch, Incidents, KeepLimits, WatchHealth, WatchMetrics,
    WatchSettings,
};
use tokio::sync::mpsc;

use crate::{
    alerts,
    cli::{Exit, Failure, OrExit as _},
    collect::new_writer,
    config::{
        Loaded,
        env::Env,
        flags::Group,
        keys::Config,
        value::{Engine, Switch},
    },
    notify, serve, vitals,
};

/// Flags of a process that may watch a cluster.
#[derive(Debug)]
pub(crate) struct WatchFlags;

impl Group for WatchFlags {
    const KEYS: &'static [&'static str] = &["watch", "incidents", "vitals", "notify", "alerts"];
    const HEADING: Option<&'static str> = Some("Events and incidents");
}

/// Kills for want of memory that wait to be looked at; a node counts a few a second at worst.
const OOM_QUEUE: usize = 1_024;

/// The name of the Lease that the one server holds which watches.
const LEASE: &str = "tawny-watch";

/// What a process knows of its cluster.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) incidents: Incidents,
    pub(crate) health: WatchHealth,
}

/// Whether one of several servers may be the one that watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    Alone,
    Others,
}

/// In what way this process would watch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// Whether it does unless the user says so.
    pub(crate) by_default: bool,
    pub(crate) among: Among,
    /// Whether it runs on the node whose containers it watches.
    pub(crate) is_on_node: bool,
}

/// Starts to watch the cluster, if that is wanted, and to evaluate alert rules and tell people, if there are any. `None`
/// when nothing is watched and no earlier process left anything.
///
/// # Errors
/// `Usage` when it is asked for and there is no way to a cluster; `Failed` when what an earlier process left cannot be
/// used.
pub(crate) async fn spawn(
    supervisor: &mut Supervisor,
    (loaded, env): (&Loaded, &Env),
    store: &Arc<dyn LogStore>,
    registry: &mut Registry,
    clock: &SharedClock,
    how: How,
) -> Result<Option<Watched>, Failure> {
    let config = &loaded.config;
    let rules = alerts::rules(config)?;
    let path = incidents_path(config);
    let cluster = cluster(loaded, env, how.by_default).await?;
    let alerts_state = path.join("alerts.json");
    if cluster.is_none() && !path.join("bundles").is_dir() {
        let notices = notify::spawn(supervisor, config, registry, clock, None)?;
        alerts::spawn(supervisor, &rules, store, clock, notices, alerts_state);
        return Ok(None);
    }
    let limits = KeepLimits {
        max_age: config.incidents.retention_age,
        max_bytes: config.incidents.retention_size,
    };
    let incidents = match Incidents::open(path, limits, clock.now()).await {
        Ok(incidents) => incidents,
        // Logs are collected and served all the same.
        Err(error) => {
            tracing::error!(%error, "events and incidents are not kept");
            let notices = notify::spawn(supervisor, config, registry, clock, None)?;
            alerts::spawn(supervisor, &rules, store, clock, notices, alerts_state);
            return Ok(None);
        }
    };
    let notices = notify::spawn(supervisor, config, registry, clock, Some(&incidents))?;
    alerts::spawn(supervisor, &rules, store, clock, notices, alerts_state);
    let health = WatchHealth::default();
    let Some(cluster) = cluster else {
        health.stand_by();
        return Ok(Some(Watched { incidents, health }));
    };
    let metrics = WatchMetrics::default();
    metrics.register(registry);
    let (ooms_tx, ooms) = mpsc::channel(OOM_QUEUE);
    let vitals = vitals::spawn(supervisor, config, clock, ooms_tx, how.is_on_node)?;
    let lease = (how.among == Among::Others)
        .then(|| env.own_namespace.clone())
        .flatten();
    let watch = ClusterWatch {
        settings: WatchSettings {
            cluster: config.general.cluster.as_str().into(),
            namespaces: config.watch.namespaces.clone(),
        },
        lease: lease.map(|namespace| Lease {
            cluster: cluster.clone(),
            namespace,
            name: LEASE.to_owned(),
            holder: holder(config),
            clock: Arc::clone(clock),
        }),
        cluster,
        archive: Arc::new(StoreArchive(Arc::clone(store))),
        incidents: incidents.clone(),
        metrics,
        health: health.clone(),
        clock: Arc::clone(clock),
        vitals,
        ooms,
    };
    // In the stage behind the sources: a container that dies while this process stops is still told of.
    supervisor.spawn(
        "cluster_watch",
        Stage::Process,
        OnExit::StopProcess,
        |stop| Box::pin(watch.run(stop)),
    );
    Ok(Some(Watched { incidents, health }))
}

/// The cluster to watch.
async fn cluster(loaded: &Loaded, env: &Env, by_default: bool) -> Result<Option<Cluster>, Failure> {
    let wanted = loaded.config.watch.cluster.set();
    if wanted == Some(Switch::Off) || (wanted.is_none() && !by_default) {
        return Ok(None);
    }
    match Cluster::open(&loaded.connection(env)).await {
        Ok(cluster) => Ok(Some(cluster)),
        Err(error) if wanted.is_some() => Err(error).or_exit(Exit::Usage),
        Err(error) => {
            tracing::warn!(%error, "no way to the cluster; its events and incidents are not kept");
            Ok(None)
        }
    }
}

/// Different for every process: the pod's name, and what no other process draws.
fn holder(config: &Config) -> String {
    let name = config.collect.self_pod.as_deref().unwrap_or("tawny");
    format!("{name}_{:016x}", new_writer().0)
}

/// Beside the store, unless it is set.
fn incidents_path(config: &Config) -> PathBuf {
    if let Some(path) = &config.incidents.path {
        return path.clone();
    }
    let store = &config.store;
    if serve::bucket_url(store).is_some() {
        return store.wal.join("incidents");
    }
    match serve::engine(store) {
        Engine::Lake => store.path.join("incidents"),
        Engine::Sqlite => {
            let mut path = store.path.clone().into_os_string();
            path.push("-incidents");
            path.into()
        }
    }
}

/// The store as the archive of a watch.
#[derive(Debug)]
struct StoreArchive(Arc<dyn LogStore>);

#[async_trait]
impl Archive for StoreArchive {
    async fn keep(&self, records: Vec<LogEntry>) -> Result<(), ArchiveError> {
        self.0.append(records).await.map(drop).map_err(refused)
    }

    async fn last_lines(
        &self,
        stream: &StreamId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<LogLine>, ArchiveError> {
        let fields = [
            (Field::Cluster, stream.cluster.to_string()),
            (Field::PodUid, stream.pod_uid.to_string()),
            (Field::Container, stream.container.to_string()),
            (Field::Restart, stream.restart.to_string()),
        ];
        let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let query = Query::all().and(Expr::all_of(
            given.map(|(field, value)| Expr::equals(field, &value)),
        ));
        let request = SearchRequest {
            filter: Filter { query, from, to },
            order: Order::NewestFirst,
            limit,
            after: None,
            before: None,
        };
        let page = self.0.search(&request).await.map_err(refused)?;
        let lines = page.entries.into_iter().rev().map(|entry| LogLine {
            timestamp: entry.timestamp,
            message: entry.message,
        });
        Ok(lines.collect())
    }
}

fn refused(error: tawny_store::Error) -> ArchiveError {
    ArchiveError {
        remedy: error.remedy(),
        reason: error.to_string(),
    }
}
