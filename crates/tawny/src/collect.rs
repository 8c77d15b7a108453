//! Collecting as tasks of this process: what `up` and `agent` have in common.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    os::unix::fs::FileTypeExt as _,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tawny_collect::{
    ApiSettings, ApiSource, DeliverSettings, Deliverer, DockerSettings, DockerSource, FileSource,
    FilesSettings, Intake, IntakeParts, KubeMetadata, Metadata, Metrics, NoMetadata, OwnContainer,
    Selection, SelectionConfig, Sink, Source, SourceKind,
    detect::{self, Because, Detected, Runtime},
    selection::OwnPod,
};
use tawny_kube::{Access, Cluster, KubeMetrics, Permit, PodDirectory, PodScope, PodWatch};
use tawny_model::WriterId;
use tawny_runtime::{OnExit, Registry, SharedClock, Stage, Supervisor};

use crate::{
    cli::{Exit, Failure, OrExit as _},
    config::{
        Loaded,
        env::Env,
        flags::Group,
        keys::{CollectConfig, Config},
    },
    doctor::NODE_NAME_REMEDY,
};

/// Flags of a process that collects.
#[derive(Debug)]
pub(crate) struct CollectFlags;

impl Group for CollectFlags {
    const KEYS: &'static [&'static str] =
        &["runtime", "cluster", "kubernetes", "engine", "collect"];
    const HEADING: Option<&'static str> = Some("Collecting");
}

/// What is collected from, and through which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) runtime: Runtime,
    pub(crate) source: SourceKind,
}

/// Decides what to collect from and logs the choice (SX-7). A source that is named needs no detection.
pub(crate) fn choose(loaded: &Loaded, env: &Env) -> Result<Way, Failure> {
    let collect = &loaded.config.collect;
    let probes = loaded.probes(env);
    let detected = match (loaded.explicit_runtime(), collect.source.set()) {
        (None, Some(source @ (SourceKind::Files | SourceKind::Api))) => Detected {
            runtime: Runtime::Kubernetes,
            because: Because::Setting(format!("source {source}")),
        },
        (explicit, Some(SourceKind::Docker)) if explicit.is_none() => {
            let engines = detect::Probes {
                service_account_token: PathBuf::new(),
                kubeconfigs: Vec::new(),
                ..probes
            };
            detect::detect(None, &engines).or_exit(Exit::Usage)?
        }
        (explicit, _) => detect::detect(explicit.as_ref(), &probes).or_exit(Exit::Usage)?,
    };
    let source = match (detected.runtime, collect.source.set()) {
        (Runtime::Kubernetes, Some(SourceKind::Docker)) => {
            return Err(mismatch("docker", "kubernetes"));
        }
        (Runtime::Kubernetes, asked) => {
            detect::choose_kubernetes_source(asked, &collect.pod_logs_root)
        }
        (engine, Some(source @ (SourceKind::Files | SourceKind::Api))) => {
            return Err(mismatch(source.name(), engine.name()));
        }
        (Runtime::Docker | Runtime::Podman, _) => SourceKind::Docker,
    };
    tracing::info!(runtime = %detected.runtime, because = %detected.because, %source, "runtime chosen");
    Ok(Way {
        runtime: detected.runtime,
        source,
    })
}

fn mismatch(source: &str, runtime: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        anyhow::anyhow!(
            "--source {source} does not go with runtime {runtime}; leave one of them out"
        ),
    )
}

/// Starts everything between the log lines and `sink`.
///
/// # Errors
/// `Usage` for a selector, pattern or setting that cannot be used; `Failed` when there is no way to the cluster.
pub(crate) async fn spawn(
    supervisor: &mut Supervisor,
    loaded: &Loaded,
    env: &Env,
    way: Way,
    sink: Arc<dyn Sink>,
    registry: &mut Registry,
    clock: SharedClock,
) -> Result<(), Failure> {
    let config = &loaded.config;
    let selection = selection(&config.collect, env)?;
    let metrics = Arc::new(Metrics::default());
    metrics.register(registry);
    let (source, metadata) = match way.source {
        SourceKind::Docker => docker_source(loaded, env, way.runtime)?,
        SourceKind::Files | SourceKind::Api => {
            kubernetes_source(supervisor, loaded, env, way.source, registry, &clock).await?
        }
    };
    let in_flight = usize::try_from(config.collect.max_in_flight.as_bytes());
    let intake = Intake::new(IntakeParts {
        writer: new_writer(),
        cluster: config.general.cluster.as_str().into(),
        sink,
        clock,
        metrics,
        selection: Arc::new(selection),
        metadata,
        bytes_in_flight: in_flight.unwrap_or(usize::MAX),
    });
    let deliverer = Deliverer::new(&intake, deliver_settings(config));
    supervisor.spawn(
        way.source.name(),
        Stage::Intake,
        OnExit::StopProcess,
        |stop| async move { source.run(intake, stop).await.map_err(anyhow::Error::from) },
    );
    supervisor.spawn(
        "deliver",
        Stage::Deliver,
        OnExit::StopProcess,
        |stop| async move { deliverer.run(stop).await.map_err(anyhow::Error::from) },
    );
    Ok(())
}

/// Random at each start: the process before must not be taken for this one.
pub(crate) fn new_writer() -> WriterId {
    // Each RandomState is seeded by the operating system.
    WriterId(RandomState::new().build_hasher().finish())
}

fn deliver_settings(config: &Config) -> DeliverSettings {
    DeliverSettings {
        call_lines: usize::try_from(config.collect.batch_entries).unwrap_or(usize::MAX),
        linger: config.collect.batch_timeout,
        // Less than the stage's share of the time to stop, so that what is left over is counted and not cut off.
        drain: config.general.shutdown_timeout / 3,
        ..DeliverSettings::default()
    }
}

fn selection(config: &CollectConfig, env: &Env) -> Result<Selection, Failure> {
    let wanted = SelectionConfig {
        include_namespaces: config.namespaces.clone(),
        exclude_namespaces: config.exclude_namespaces.clone(),
        include_containers: config.include_container.clone(),
        exclude_containers: config.exclude_container.clone(),
        label_selector: config.selector.clone(),
        field_selector: config.field_selector.clone(),
        opt_in: config.opt_in,
    };
    let own_namespace = config
        .self_namespace
        .clone()
        .or_else(|| env.own_namespace.clone());
    let own = OwnPod {
        uid: config.self_uid.clone().unwrap_or_default(),
        namespace: own_namespace.unwrap_or_default(),
        name: config.self_pod.clone().unwrap_or_default(),
    };
    Selection::build(&wanted, own).or_exit(Exit::Usage)
}

type SourceAndMetadata = (Box<dyn Source>, Arc<dyn Metadata>);

async fn kubernetes_source(
    supervisor: &mut Supervisor,
    loaded: &Loaded,
    env: &Env,
    kind: SourceKind,
    registry: &mut Registry,
    clock: &SharedClock,
) -> Result<SourceAndMetadata, Failure> {
    let collect = &loaded.config.collect;
    if kind == SourceKind::Files {
        std::fs::read_dir(&collect.pod_logs_root).map_err(|error| {
            anyhow::anyhow!(
                "cannot list {}: {error}; run as root with the directory mounted, or choose --source api",
                collect.pod_logs_root.display()
            )
        })?;
        check_node_name(collect, env.in_cluster().is_some())?;
    }
    let cluster = match Cluster::open(&loaded.connection(env)).await {
        Ok(cluster) => cluster,
        Err(error) if kind == SourceKind::Files => {
            tracing::warn!(%error, "no way to the cluster; lines are kept without labels, and selection by label finds nothing");
            return Ok((
                Box::new(FileSource::new(files_settings(collect))),
                Arc::new(NoMetadata::default()),
            ));
        }
        Err(error) => return Err(Failure::new(Exit::Failed, error)),
    };
    let directory = PodDirectory::default();
    let metrics = KubeMetrics::default();
    metrics.register(registry);
    let watch = PodWatch {
        scope: scope(collect, kind, &cluster, env).await,
        cluster: cluster.clone(),
        directory: directory.clone(),
        metrics,
        clock: Arc::clone(clock),
    };
    // In the stage behind the source: what is read while stopping is still described.
    supervisor.spawn(
        "pod_watch",
        Stage::Process,
        OnExit::StopProcess,
        |stop| async move { watch.run(stop).await.map_err(anyhow::Error::from) },
    );
    let metadata: Arc<dyn Metadata> = Arc::new(KubeMetadata::new(directory.clone()));
    let source: Box<dyn Source> = match kind {
        SourceKind::Files => Box::new(FileSource::new(files_settings(collect))),
        SourceKind::Api | SourceKind::Docker => {
            Box::new(ApiSource::new(cluster, directory, api_settings(collect)))
        }
    };
    Ok((source, metadata))
}

/// Inside a cluster every node's agent would watch the pods of all nodes, so a file source must know its own (KL-20).
fn check_node_name(collect: &CollectConfig, is_in_pod: bool) -> Result<(), Failure> {
    if collect.node_name.is_none() && is_in_pod {
        return Err(Failure::new(
            Exit::Usage,
            anyhow::anyhow!("the name of this node is not known; {NODE_NAME_REMEDY}"),
        ));
    }
    Ok(())
}

/// Which pods are watched: as few as the selection allows, and no more than the credentials do.
async fn scope(
    collect: &CollectConfig,
    kind: SourceKind,
    cluster: &Cluster,
    env: &Env,
) -> PodScope {
    let is_pattern = |namespace: &String| namespace.contains('*');
    let mut namespaces = if collect.namespaces.iter().any(is_pattern) {
        Vec::new()
    } else {
        collect.namespaces.clone()
    };
    let all = [
        Access::core("list", "pods", None),
        Access::core("list", "namespaces", None),
        Access::core("watch", "namespaces", None),
    ];
    // An API server that does not answer now will later; the watch says what it lacks then.
    let verdicts = cluster.review(all.to_vec()).await.unwrap_or_default();
    let is_denied = |idx: usize| {
        verdicts
            .get(idx)
            .is_some_and(|verdict| verdict.permit != Permit::Allowed)
    };
    if namespaces.is_empty() && is_denied(0) {
        let own = env.own_namespace.as_deref();
        let own = own.unwrap_or_else(|| cluster.default_namespace());
        tracing::warn!(namespace = %own, "may not list pods in all namespaces; collecting from this one only");
        namespaces = vec![own.to_owned()];
    }
    // Files of pods that are not watched would be held back for facts that never come, so only the API is narrowed.
    let narrow = |selector: &String| {
        (kind == SourceKind::Api && !selector.is_empty()).then(|| selector.clone())
    };
    PodScope {
        namespaces,
        node: collect.node_name.clone(),
        label_selector: narrow(&collect.selector),
        field_selector: narrow(&collect.field_selector),
        namespace_labels: !is_denied(1) && !is_denied(2),
    }
}

fn files_settings(collect: &CollectConfig) -> FilesSettings {
    FilesSettings {
        root: collect.pod_logs_root.clone(),
        max_line_bytes: max_line_bytes(collect),
        ..FilesSettings::default()
    }
}

fn api_settings(collect: &CollectConfig) -> ApiSettings {
    ApiSettings {
        max_streams: usize::try_from(collect.max_streams).unwrap_or(usize::MAX),
        max_line_bytes: max_line_bytes(collect),
        idle_reconnect: collect.idle_timeout.max(Duration::from_secs(1)),
        ..ApiSettings::default()
    }
}

fn max_line_bytes(collect: &CollectConfig) -> usize {
    usize::try_from(collect.max_line.as_bytes()).unwrap_or(usize::MAX)
}

fn docker_source(
    loaded: &Loaded,
    env: &Env,
    runtime: Runtime,
) -> Result<SourceAndMetadata, Failure> {
    let collect = &loaded.config.collect;
    let probes = loaded.probes(env);
    let socket = match runtime {
        Runtime::Podman => {
            let is_there = |socket: &&PathBuf| socket.exists();
            let sockets = &probes.podman_sockets;
            sockets.iter().find(is_there).or_else(|| sockets.last())
        }
        Runtime::Docker | Runtime::Kubernetes => Some(&probes.docker_socket),
    };
    let socket = socket.cloned().unwrap_or_default();
    // One that is missing may come with the engine; one that is something else never becomes a socket.
    if socket
        .metadata()
        .is_ok_and(|found| !found.file_type().is_socket())
    {
        return Err(Failure::new(
            Exit::Usage,
            anyhow::anyhow!(
                "`{}` is no socket; name the engine's with --docker-socket or --podman-socket",
                socket.display()
            ),
        ));
    }
    let settings = DockerSettings {
        max_line_bytes: max_line_bytes(collect),
        idle_reconnect: collect.idle_timeout.max(Duration::from_secs(1)),
        ..DockerSettings::new(socket)
    };
    // Outside of a container they say nothing of one.
    let [cgroup, mounts] = ["/proc/self/cgroup", "/proc/self/mountinfo"]
        .map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let own = OwnContainer::find(
        collect.self_pod.as_deref().unwrap_or_default(),
        &cgroup,
        &mounts,
    );
    Ok((
        Box::new(DockerSource::new(settings, own)),
        Arc::new(NoMetadata::default()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_inside_a_cluster_need_the_name_of_the_node_kl_20() {
        let mut config = CollectConfig::default();
        let failure = check_node_name(&config, true).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let told = failure.error.to_string();
        assert!(
            told.contains("NODE_NAME") && told.contains("spec.nodeName"),
            "{told}"
        );
        assert!(check_node_name(&config, false).is_ok());
        config.node_name = Some("n1".to_owned());
        assert!(check_node_name(&config, true).is_ok());
    }

    #[test]
    fn writers_of_two_starts_differ() {
        assert_ne!(new_writer(), new_writer());
    }
}
