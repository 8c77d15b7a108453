//! The store and its server as tasks of this process: what `server` and `up` have in common.

use std::{convert::Infallible, fs, io, net::IpAddr, num::NonZero, sync::Arc, time::Duration};

use tawny_model::Secret;
use tawny_runtime::{
    CancellationToken, OnExit, Outcome as Stopped, Registry, SharedClock, Stage, StopSignals,
    Supervisor,
};
use tawny_server::{Limits, Listeners, Readiness, Server, serve_probes};
use tawny_store::{
    BucketConfig, LakeConfig, LakeStore, LogStore, Retention, SqliteConfig, SqliteStore,
};
use tokio::{net::TcpListener, time::Instant};

use crate::{
    cli::{Exit, Failure, OrExit, Outcome, note},
    config::{
        env::Env,
        flags::Group,
        keys::{Config, LimitsConfig, S3Config, StoreConfig},
        value::{ALL_ADDRESSES, Engine, Listen},
    },
};

/// Flags of a process with a store and listeners.
#[derive(Debug)]
pub(crate) struct ServeFlags;

impl Group for ServeFlags {
    const KEYS: &'static [&'static str] = &["http", "grpc", "limits", "store", "shutdown_timeout"];
    const HEADING: Option<&'static str> = Some("Store and server");
}

/// Opens the store that is configured.
pub(crate) async fn open_store(
    config: &Config,
    env: &Env,
    clock: SharedClock,
    registry: &mut Registry,
) -> Result<Arc<dyn LogStore>, Failure> {
    let store = &config.store;
    Ok(match engine(store) {
        Engine::Sqlite if bucket_url(store).is_some() => {
            return Err(anyhow::anyhow!(
                "store.engine: SQLite keeps its file on a disk; choose `lake` for a bucket"
            ))
            .or_exit(Exit::Usage);
        }
        Engine::Sqlite => {
            let config = SqliteConfig::new(&store.path);
            Arc::new(SqliteStore::open(config, clock, registry).await?)
        }
        Engine::Lake => {
            let bucket = bucket_url(store)
                .map(|url| BucketConfig::new(url, bucket_options(&config.s3, env)));
            let directory = bucket.as_ref().map_or(&store.path, |_| &store.wal);
            let config = LakeConfig {
                bucket,
                path: directory.clone(),
                query_time: config.limits.query_timeout,
                ..lake_config(store)
            };
            Arc::new(LakeStore::open(config, clock, registry).await?)
        }
    })
}

/// The settings of a lake that is all in one directory.
pub(crate) fn lake_config(config: &StoreConfig) -> LakeConfig {
    LakeConfig {
        memory: config.memory,
        cache: config.memory,
        ..LakeConfig::new(&config.path)
    }
}

/// The URL of a bucket, when that is what the path is.
pub(crate) fn bucket_url(config: &StoreConfig) -> Option<&str> {
    config.path.to_str().filter(|path| path.contains("://"))
}

/// How to reach the bucket: what the environment says, and on top of it what is configured.
fn bucket_options(config: &S3Config, env: &Env) -> Vec<(String, Secret)> {
    let S3Config {
        endpoint,
        region,
        access_key_id,
        secret_access_key,
        session_token,
    } = config;
    // Whoever writes http:// means it.
    let is_plain = endpoint.as_ref().filter(|url| url.starts_with("http://"));
    let text = |value: &Option<String>| value.as_deref().map(Secret::new);
    let given = [
        ("aws_allow_http", is_plain.map(|_| Secret::new("true"))),
        ("aws_endpoint", text(endpoint)),
        ("aws_region", text(region)),
        ("aws_access_key_id", text(access_key_id)),
        ("aws_secret_access_key", secret_access_key.clone()),
        ("aws_session_token", session_token.clone()),
    ];
    let given = given
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    env.cloud().into_iter().chain(given).collect()
}

/// The engine of the store that is there, or is to be made.
pub(crate) fn engine(config: &StoreConfig) -> Engine {
    config.engine.set().unwrap_or_else(|| {
        if bucket_url(config).is_some() {
            return Engine::Lake;
        }
        let is_named_db = config.path.extension().is_some_and(|ext| ext == "db");
        let is_sqlite = match fs::metadata(&config.path) {
            Ok(metadata) if metadata.is_file() => true,
            // As the lake makes it.
            Ok(_) => is_named_db && !config.path.join("logs").is_dir(),
            Err(_) => is_named_db,
        };
        if is_sqlite {
            Engine::Sqlite
        } else {
            Engine::Lake
        }
    })
}

/// Binds the listeners that are configured and says where they listen.
///
/// A port alone means `default_host`.
pub(crate) async fn bind(config: &Config, default_host: IpAddr) -> Result<Listeners, Failure> {
    let grpc = bind_one(("grpc.listen", "--grpc"), config.grpc.listen, default_host).await?;
    note(&format!("grpc listening on {}", grpc.local_addr()?));
    Ok(Listeners {
        grpc: Some(grpc),
        http: bind_http(config, default_host).await?,
    })
}

/// Binds the HTTP listener and says where it listens; `None` when there is to be none.
pub(crate) async fn bind_http(
    config: &Config,
    default_host: IpAddr,
) -> Result<Option<TcpListener>, Failure> {
    if !config.http.enabled {
        return Ok(None);
    }
    let http = bind_one(("http.listen", "--http"), config.http.listen, default_host).await?;
    note(&format!("http listening on http://{}", http.local_addr()?));
    Ok(Some(http))
}

/// Binds one listener, whose key and flag an error names.
pub(crate) async fn bind_one(
    (key, flag): (&str, &str),
    listen: Listen,
    default_host: IpAddr,
) -> Result<TcpListener, Failure> {
    let address = listen.address(default_host);
    let mut bound = TcpListener::bind(address).await;
    if address.ip() == ALL_ADDRESSES
        && bound
            .as_ref()
            .is_err_and(|error| error.kind() != io::ErrorKind::AddrInUse)
    {
        // A kernel without IPv6 has no [::].
        bound = TcpListener::bind((IpAddr::from([0, 0, 0, 0]), address.port())).await;
    }
    bound.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => "stop what listens there, or choose another",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a right; choose a higher one",
            _ => "choose an address of this machine",
        };
        Failure::from(anyhow::anyhow!(
            "cannot listen on {address}: {error}; {remedy} with {flag} ({key})"
        ))
    })
}

/// Starts the server and the store's upkeep. The registry must be complete: the server serves it.
pub(crate) fn spawn(
    supervisor: &mut Supervisor,
    server: Server,
    listeners: Listeners,
    registry: Registry,
    store: Arc<dyn LogStore>,
    clock: SharedClock,
    config: &StoreConfig,
) {
    spawn_readiness(supervisor, server.readiness());
    spawn_upkeep(supervisor, store, clock, config);
    supervisor.spawn(
        "server",
        Stage::Serve,
        OnExit::StopProcess,
        |stop| async move {
            server.serve(listeners, Arc::new(registry), stop).await;
            Ok::<(), Infallible>(())
        },
    );
}

/// Serves probes and metrics of a process that serves nothing else. The registry must be complete.
pub(crate) fn spawn_probes(
    supervisor: &mut Supervisor,
    listener: TcpListener,
    registry: Registry,
    config: &Config,
) {
    let readiness = Readiness::default();
    let limits = limits(&config.limits, config.general.shutdown_timeout);
    spawn_readiness(supervisor, readiness.clone());
    supervisor.spawn(
        "probes",
        Stage::Serve,
        OnExit::StopProcess,
        |stop| async move {
            serve_probes(listener, readiness, Arc::new(registry), limits, stop).await;
            Ok::<(), Infallible>(())
        },
    );
}

/// Turns unready as soon as stopping begins, before anything stops.
pub(crate) fn spawn_readiness(supervisor: &mut Supervisor, readiness: Readiness) {
    let stopping = supervisor.stopping();
    supervisor.spawn("readiness", Stage::Serve, OnExit::Record, |_| async move {
        stopping.cancelled().await;
        readiness.stopping();
        Ok::<(), Infallible>(())
    });
}

/// Keeps the store within its limits, if it has any, and ends the process with the store.
pub(crate) fn spawn_upkeep(
    supervisor: &mut Supervisor,
    store: Arc<dyn LogStore>,
    clock: SharedClock,
    config: &StoreConfig,
) {
    let watched = Arc::clone(&store);
    supervisor.spawn("store", Stage::Serve, OnExit::StopProcess, |stop| async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            () = watched.died() => Err("the store's writer has died; start again, it goes on where it was"),
        }
    });
    let retention = retention(config);
    if retention != Retention::default() {
        supervisor.spawn("retention", Stage::Process, OnExit::StopProcess, |stop| {
            retain(store, retention, clock, stop)
        });
    }
}

/// Zero stands for no limit.
fn retention(config: &StoreConfig) -> Retention {
    let StoreConfig {
        path: _,
        engine: _,
        wal: _,
        memory: _,
        retention_age,
        retention_namespaces,
        retention_size,
    } = config;
    let age = |age: Duration| Some(age).filter(|age| !age.is_zero());
    Retention {
        max_age: age(*retention_age),
        namespaces: retention_namespaces
            .iter()
            .map(|own| (own.namespace.clone(), age(own.age)))
            .collect(),
        max_bytes: Some(*retention_size).filter(|size| size.as_bytes() > 0),
    }
}

/// How often old entries are deleted (KL-17).
const RETAIN_EVERY: Duration = Duration::from_secs(3_600);

/// Applies the limits now and every hour (KL-17). A failure is told and tried again: old entries harm nobody soon.
async fn retain(
    store: Arc<dyn LogStore>,
    retention: Retention,
    clock: SharedClock,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut ticks = tokio::time::interval(RETAIN_EVERY);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        match store.apply_retention(&retention, clock.now()).await {
            Ok(0) => {}
            Ok(n_deleted) => tracing::info!(n_deleted, "retention deleted entries"),
            Err(error) => tracing::error!(%error, "retention failed; trying again in an hour"),
        }
    }
}

/// Limits of the server; requests in flight get their share of the time to stop.
pub(crate) fn limits(config: &LimitsConfig, shutdown_timeout: Duration) -> Limits {
    let LimitsConfig {
        max_message,
        max_uri,
        query_timeout,
        max_queries,
        sql_memory,
        sql_rows,
        sql_max_rows,
        max_tails,
        max_connections,
    } = *config;
    let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    Limits {
        max_message,
        max_uri,
        query_timeout,
        max_queries: count(max_queries),
        sql_memory,
        sql_rows: count(sql_rows),
        sql_max_rows: count(sql_max_rows),
        sql_threads: std::thread::available_parallelism().map_or(1, NonZero::get),
        max_tails: count(max_tails),
        max_connections: count(max_connections),
        stop_grace: shutdown_timeout / 4,
    }
}

/// Signals so close together are one request: `timeout` and some shells signal the process and then its group.
const ONE_REQUEST: Duration = Duration::from_millis(250);

/// Runs until a task fails or a signal comes, then stops in order within `allowed`; a second signal ends it at once.
pub(crate) async fn run(
    supervisor: Supervisor,
    mut signals: StopSignals,
    allowed: Duration,
) -> Outcome {
    let asked = CancellationToken::new();
    let watch_signals = async {
        let signal = signals.next().await;
        tracing::info!(%signal, ?allowed, "stopping; a second signal ends the process at once");
        asked.cancel();
        let first = Instant::now();
        loop {
            let second = signals.next().await;
            if first.elapsed() >= ONE_REQUEST {
                return second;
            }
        }
    };
    tokio::select! {
        stopped = supervisor.run(asked.cancelled(), allowed) => match stopped? {
            Stopped::Requested => {
                tracing::info!("stopped");
                Ok(Exit::Found)
            }
            Stopped::TaskFailed { task, cause } => Err(anyhow::anyhow!("{task}: {cause}").into()),
        },
        signal = watch_signals => {
            note(&format!("ended at once by a second signal ({signal}); what was not stored yet is read again at the next start"));
            Ok(Exit::Signal(signal))
        }
    }
}

#[cfg(test)]
mod tests {
    use tawny_model::ByteSize;

    use super::*;
    use crate::config::value::Setting as _;

    #[test]
    fn engine_is_the_one_that_is_there_or_what_the_name_says() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = dir.path().join(name);
            engine(&StoreConfig {
                path,
                ..StoreConfig::default()
            })
        };
        fs::write(dir.path().join("file"), "").unwrap();
        fs::create_dir_all(dir.path().join("lake.db/logs")).unwrap();
        fs::create_dir(dir.path().join("empty.db")).unwrap();
        for (name, expected) in [
            ("new.db", Engine::Sqlite),
            ("new", Engine::Lake),
            ("file", Engine::Sqlite),
            ("lake.db", Engine::Lake),
            ("empty.db", Engine::Sqlite),
        ] {
            assert_eq!(at(name), expected, "{name}");
        }
    }

    #[test]
    fn zero_retention_keeps_everything_kl_17() {
        let mut config = StoreConfig::default();
        assert_eq!(retention(&config), Retention::default());
        config.retention_age = Duration::from_secs(60);
        config.retention_size = ByteSize::mib(1);
        config.retention_namespaces = Vec::from_text("dev=1h, audit = 0").unwrap();
        assert_eq!(
            retention(&config),
            Retention {
                max_age: Some(Duration::from_secs(60)),
                max_bytes: Some(ByteSize::mib(1)),
                namespaces: [
                    ("dev".to_owned(), Some(Duration::from_secs(3_600))),
                    ("audit".to_owned(), None),
                ]
                .into(),
            }
        );
    }

    fn signal_this_process() {
        let sent = std::process::Command::new("kill")
            .args(["-TERM", &std::process::id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    #[tokio::test]
    async fn second_signal_ends_the_process_at_once_with_its_code() {
        let signals = StopSignals::catch().unwrap();
        let mut supervisor = Supervisor::default();
        supervisor.spawn("deaf", Stage::Intake, OnExit::StopProcess, |_| {
            std::future::pending::<Result<(), Infallible>>()
        });
        let begun = Instant::now();
        let mut impatient = tokio::time::interval(Duration::from_millis(20));
        let signal_on = async {
            loop {
                impatient.tick().await;
                signal_this_process();
            }
        };
        let hours = Duration::from_secs(36_000);
        let exit = tokio::select! {
            outcome = run(supervisor, signals, hours) => outcome.unwrap(),
            () = signal_on => unreachable!("signals without end"),
        };
        assert!(begun.elapsed() >= ONE_REQUEST);
        assert_eq!(exit, Exit::Signal(tawny_runtime::StopSignal::Terminate));
    }
}
