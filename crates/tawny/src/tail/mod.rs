//! `tawny tail`: follow pods straight from a cluster, in order of time, in stern's looks.

mod args;
mod filter;
mod follow;
mod merge;
mod remote;
mod select;

use std::{
    collections::{BTreeMap, HashSet},
    io::IsTerminal as _,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Service;
use tawny_kube::{
    Cluster, Connection, ContainerFacts, KubeMetrics, PodDirectory, PodFacts, PodScope, PodWatch,
};
use tawny_model::Timestamp;
use tawny_runtime::{CancellationToken, Clock as _, SystemClock};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

pub(crate) use args::TailArgs;
use filter::LineFilter;
use follow::{Extent, Follower, Item, Target};
use merge::Merge;
pub(crate) use remote::search_words;
use select::{ContainerFilter, PodQuery, ResourceKind};

use crate::{
    cli::{Exit, Failure, OrExit as _},
    render::{Highlight, Line, Marker, Palette, Renderer, RendererConfig},
};

/// What the environment decides about looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looks {
    pub(crate) no_color: bool,
    pub(crate) force_color: bool,
}

/// Lines a follower may be ahead of the merge. 50 containers × 256 lines × some 200 B = 2.5 MiB.
const ITEMS_PER_CONTAINER: usize = 256;

/// Followers waiting to be merged; adding waits beyond.
const ADDED_AT_ONCE: usize = 64;

/// Follows a cluster until everything is read or `stop` fires; answers the number of lines shown.
///
/// # Errors
/// Wrong options, no way to the cluster, or no right to read it; what a single container refuses is told and passed over.
pub(crate) async fn run(
    args: &TailArgs,
    connection: &Connection,
    looks: Looks,
    stop: CancellationToken,
) -> Result<u64, Failure> {
    let query: PodQuery = args
        .query
        .as_deref()
        .unwrap_or(".*")
        .parse()
        .or_exit(Exit::Usage)?;
    if args.query.is_none()
        && args.selector.is_none()
        && args.field_selector.is_none()
        && args.node.is_none()
    {
        return Err(usage(
            "nothing to follow: name pods by a regular expression or kind/name, or select them with -l (`.` follows all)",
        ));
    }
    let cluster = Cluster::open(connection).await?;
    let namespaces = match () {
        () if args.all_namespaces => Vec::new(),
        () if args.namespace.is_empty() => vec![cluster.default_namespace().to_owned()],
        () => args.namespace.clone(),
    };
    let shows_namespace = namespaces.len() != 1;
    let service_selector = service_selector(&cluster, &query, &namespaces).await?;
    let scope = PodScope {
        namespaces,
        node: args.node.clone(),
        label_selector: args.selector.clone(),
        field_selector: args.field_selector.clone(),
        ..PodScope::default()
    };
    let directory = PodDirectory::default();
    let watch_stop = stop.child_token();
    let watch = PodWatch {
        cluster: cluster.clone(),
        scope,
        directory: directory.clone(),
        metrics: KubeMetrics::default(),
        clock: Arc::new(SystemClock),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn({
        let watch_stop = watch_stop.clone();
        async move { watch.run(watch_stop).await }
    });
    let (added_tx, added_rx) = mpsc::channel(ADDED_AT_ONCE);
    let spawner = Spawner {
        cluster,
        directory,
        query,
        service_selector,
        args: args.clone(),
        containers: ContainerFilter {
            include: args.container.clone(),
            exclude: args.exclude_container.clone(),
            states: args.container_state.clone(),
            has_init: args.init_containers,
            has_ephemeral: args.ephemeral_containers,
        },
        since: SystemClock.now().saturating_sub(args.since),
        permits: Arc::new(Semaphore::new(
            args.max_log_requests
                .unwrap_or(if args.no_follow { 5 } else { 50 })
                .max(1),
        )),
        added_tx,
        stop: stop.clone(),
        followed: HashSet::new(),
    };
    let mut printer =
        Printer::new(args, looks, shows_namespace, tokio::io::stdout()).or_exit(Exit::Usage)?;
    if args.dry_run {
        return spawner.dry_run(&mut tasks).await;
    }
    let watermark = if args.no_sort {
        Duration::ZERO
    } else {
        args.watermark
    };
    let merge = Merge::new(added_rx, watermark);
    {
        let following = spawner.run();
        let printing = printer.run(merge);
        tokio::pin!(following, printing);
        let mut is_following = true;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                printed = &mut printing => {
                    printed?;
                    break;
                }
                () = &mut following, if is_following => is_following = false,
                Some(watched) = tasks.join_next() => watched.context("the pod watch panicked")?.map_err(refused)?,
            }
        }
    }
    watch_stop.cancel();
    Ok(printer.n_lines)
}

/// Shows lines of standard input, `--stdin`; answers their number.
///
/// # Errors
/// Wrong options, or input that cannot be read.
pub(crate) async fn run_stdin(
    args: &TailArgs,
    looks: Looks,
    stop: CancellationToken,
) -> Result<u64, Failure> {
    let mut printer = Printer::new(args, looks, false, tokio::io::stdout()).or_exit(Exit::Usage)?;
    let mut lines = BufReader::new(tokio::io::stdin()).split(b'\n');
    loop {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = lines.next_segment() => next.context("read standard input")?,
        };
        let Some(bytes) = next else { break };
        let mut text = String::new();
        let text = tawny_wire::to_text(&bytes, &mut text);
        if !printer.stdin_line(SystemClock.now(), text).await? {
            break;
        }
    }
    printer.out.flush().await.or_else(ignore_closed)?;
    Ok(printer.n_lines)
}

fn usage(text: &str) -> Failure {
    Failure::new(Exit::Usage, anyhow!("{text}"))
}

/// The exit code tells a missing right from a missing connection.
fn refused(error: tawny_kube::Error) -> Failure {
    use tawny_kube::Error;
    let is_denied = matches!(
        error,
        Error::Forbidden { .. } | Error::Refused { .. } | Error::Unauthorized { .. }
    );
    Failure::new(
        if is_denied {
            Exit::Denied
        } else {
            Exit::Failed
        },
        error,
    )
}

async fn service_selector(
    cluster: &Cluster,
    query: &PodQuery,
    namespaces: &[String],
) -> Result<Vec<(String, String)>, Failure> {
    let PodQuery::Resource {
        kind: ResourceKind::Service,
        name,
    } = query
    else {
        return Ok(Vec::new());
    };
    let [namespace] = namespaces else {
        return Err(usage(&format!(
            "`service/{name}` lives in one namespace: name it with -n"
        )));
    };
    let api: kube::Api<Service> = kube::Api::namespaced(cluster.client().clone(), namespace);
    let service = api
        .get(name)
        .await
        .with_context(|| format!("look up service {name} in namespace {namespace}"))?;
    let selector = service
        .spec
        .and_then(|spec| spec.selector)
        .unwrap_or_default();
    if selector.is_empty() {
        return Err(usage(&format!(
            "service {name} has no selector, so it leads to no pods"
        )));
    }
    Ok(selector.into_iter().collect())
}

/// Starts a follower for each selected container run, once.
struct Spawner {
    cluster: Cluster,
    directory: PodDirectory,
    query: PodQuery,
    service_selector: Vec<(String, String)>,
    args: TailArgs,
    containers: ContainerFilter,
    since: Timestamp,
    permits: Arc<Semaphore>,
    added_tx: mpsc::Sender<mpsc::Receiver<Item>>,
    stop: CancellationToken,
    followed: HashSet<(Arc<str>, Arc<str>, u32)>,
}

impl Spawner {
    /// Runs until stopped, or, without `--follow`, until every log of the first list is read.
    async fn run(mut self) {
        let mut changed = self.directory.subscribe();
        self.directory.synced().await;
        let mut followers = JoinSet::new();
        let mut version = 0;
        loop {
            let changes = self.directory.changed_since(version);
            version = changes.version;
            for pod in changes.pods {
                for target in self.new_targets(&pod) {
                    let (items_tx, items_rx) = mpsc::channel(ITEMS_PER_CONTAINER);
                    if self.added_tx.send(items_rx).await.is_err() {
                        return;
                    }
                    let follower = self.follower(target, items_tx);
                    let permits = Arc::clone(&self.permits);
                    followers.spawn(async move {
                        let _permit = permits
                            .acquire_owned()
                            .await
                            .expect("the semaphore is never closed");
                        follower.run().await;
                    });
                }
            }
            if self.args.no_follow || self.args.previous {
                break;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = self.added_tx.closed() => return,
                more = changed.changed() => if more.is_err() { break },
            }
        }
        drop(self.added_tx);
        while followers.join_next().await.is_some() {}
    }

    fn follower(&self, target: Target, items_tx: mpsc::Sender<Item>) -> Follower {
        // Runs that are over are of interest from the start of the time asked for; a new pod from its first line.
        Follower {
            cluster: self.cluster.clone(),
            directory: self.directory.clone(),
            target: Arc::new(target),
            extent: Extent {
                since: Some(self.since),
                tail_lines: u64::try_from(self.args.tail).ok(),
                follow: !self.args.no_follow && !self.args.previous,
            },
            items_tx,
            stop: self.stop.clone(),
        }
    }

    /// Selected runs of a pod that are not followed yet; marks them as followed.
    fn new_targets(&mut self, pod: &Arc<PodFacts>) -> Vec<Target> {
        let targets = self.targets(pod);
        targets
            .into_iter()
            .filter(|target| {
                self.followed.insert((
                    Arc::clone(&target.pod.uid),
                    Arc::clone(&target.container),
                    target.restart,
                ))
            })
            .collect()
    }

    fn targets(&self, pod: &Arc<PodFacts>) -> Vec<Target> {
        let is_selected = self.query.selects(pod, &self.service_selector)
            && !self
                .args
                .exclude_pod
                .iter()
                .any(|regex| regex.is_match(&pod.name))
            && self
                .args
                .condition
                .as_ref()
                .is_none_or(|condition| condition.selects(pod));
        if !is_selected || pod.gone {
            return Vec::new();
        }
        let containers = pod
            .containers
            .iter()
            .filter(|container| self.containers.selects(container));
        containers
            .filter_map(|container| self.target(pod, container))
            .collect()
    }

    fn target(&self, pod: &Arc<PodFacts>, container: &ContainerFacts) -> Option<Target> {
        let is_previous = self.args.previous;
        let restart = if is_previous {
            container.restarts.checked_sub(1)?
        } else {
            container.restarts
        };
        // A container that waits to run again shows the run before; it has its number until the next one starts.
        let has_log = is_previous || container.has_run();
        has_log.then(|| Target {
            pod: Arc::clone(pod),
            container: Arc::clone(&container.name),
            restart,
            is_previous,
        })
    }

    /// Prints what would be followed; answers the number of container runs.
    #[expect(clippy::print_stdout, reason = "the list is the result of the command")]
    async fn dry_run(
        mut self,
        tasks: &mut JoinSet<Result<(), tawny_kube::Error>>,
    ) -> Result<u64, Failure> {
        tokio::select! {
            () = self.directory.synced() => {}
            Some(ended) = tasks.join_next() => ended.context("the pod watch panicked")?.map_err(refused)?,
        }
        let mut n = 0;
        for pod in self.directory.changed_since(0).pods {
            for target in self.new_targets(&pod) {
                println!(
                    "{} {} {} restart {}",
                    pod.namespace, pod.name, target.container, target.restart
                );
                n += 1;
            }
        }
        Ok(n)
    }
}

/// Filters, renders and writes lines; each line in one piece.
struct Printer<W> {
    renderer: Renderer,
    filter: LineFilter,
    only_log_lines: bool,
    out: BufWriter<W>,
    n_lines: u64,
}

impl<W: AsyncWrite + Unpin> Printer<W> {
    fn new(args: &TailArgs, looks: Looks, shows_namespace: bool, out: W) -> anyhow::Result<Self> {
        let template = match &args.template_file {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .with_context(|| format!("read the template {}", path.display()))?,
            ),
            None => args.template.clone(),
        };
        let palette = match &args.pod_colors {
            Some(colors) => Palette::custom(
                colors,
                args.container_colors.as_deref(),
                args.diff_container,
            )?,
            None => Palette::new(args.diff_container),
        };
        let time_zone = match args.timezone.as_str() {
            "Local" => jiff::tz::TimeZone::system(),
            name => jiff::tz::TimeZone::get(name).with_context(|| format!("--timezone {name}"))?,
        };
        let is_colored = args.color.resolve(looks.no_color, looks.force_color);
        let marked: Vec<_> = args
            .include
            .iter()
            .chain(&args.highlight)
            .cloned()
            .collect();
        let highlight = if is_colored {
            Highlight::new(&marked)?
        } else {
            Highlight::default()
        };
        let renderer = Renderer::new(RendererConfig {
            output: args.output,
            template,
            is_colored,
            palette,
            timestamps: args.timestamps,
            time_zone,
            shows_namespace,
            highlight,
        })?;
        let filter = LineFilter::new(args)?;
        Ok(Self {
            renderer,
            filter,
            only_log_lines: args.only_log_lines,
            out: BufWriter::new(out),
            n_lines: 0,
        })
    }

    /// Prints until the merge ends or the reader of standard output has gone.
    async fn run(&mut self, mut merge: Merge<Item>) -> anyhow::Result<()> {
        loop {
            // Written out only when nothing more is at hand, so that history costs few writes and a live line none of its time.
            let next = match merge.next().now_or_never() {
                Some(next) => next,
                None => {
                    if self.out.flush().await.is_err() {
                        return Ok(());
                    }
                    merge.next().await
                }
            };
            let Some(item) = next else { break };
            if !self.item(item).await? {
                return Ok(());
            }
        }
        self.out.flush().await.or_else(ignore_closed)?;
        Ok(())
    }

    /// False when nobody reads standard output any more.
    async fn item(&mut self, item: Item) -> anyhow::Result<bool> {
        match item {
            Item::Line {
                timestamp,
                text,
                target,
            } => self.line(timestamp, &text, &target).await,
            Item::Started(target) => self.marker(Marker::Started, &target).await,
            Item::Ended { target, .. } => self.marker(Marker::Ended, &target).await,
            Item::Failed { target, error, .. } => {
                tell(&format!(
                    "{}/{} {}: {error}",
                    target.pod.namespace, target.pod.name, target.container
                ));
                self.marker(Marker::Ended, &target).await
            }
        }
    }

    async fn marker(&mut self, marker: Marker, target: &Target) -> anyhow::Result<bool> {
        if self.only_log_lines {
            return Ok(true);
        }
        // Lines before it must be seen before it where both go to one terminal.
        if std::io::stderr().is_terminal() && self.out.flush().await.is_err() {
            return Ok(false);
        }
        tell(&self.renderer.marker(
            marker,
            &target.pod.namespace,
            &target.pod.name,
            &target.container,
        ));
        Ok(true)
    }

    async fn line(
        &mut self,
        timestamp: Timestamp,
        text: &str,
        target: &Target,
    ) -> anyhow::Result<bool> {
        if !self.filter.passes(timestamp, text, target) {
            return Ok(true);
        }
        let annotations: BTreeMap<String, String> = target
            .pod
            .annotations
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let line = Line {
            timestamp,
            message: text,
            node: &target.pod.node,
            namespace: &target.pod.namespace,
            pod: &target.pod.name,
            container: &target.container,
            labels: &target.pod.labels,
            annotations: &annotations,
        };
        self.put(&line).await
    }

    async fn stdin_line(&mut self, now: Timestamp, text: &str) -> anyhow::Result<bool> {
        if !self.filter.passes_text(text) {
            return Ok(true);
        }
        let line = Line {
            timestamp: now,
            message: text,
            node: "",
            namespace: "",
            pod: "stdin",
            container: "-",
            labels: &BTreeMap::new(),
            annotations: &BTreeMap::new(),
        };
        self.put(&line).await
    }

    async fn put(&mut self, line: &Line<'_>) -> anyhow::Result<bool> {
        let mut text = String::new();
        match self.renderer.line(line, &mut text) {
            Ok(()) => {}
            Err(error) => {
                tell(&format!("{error}: {}", line.message));
                return Ok(true);
            }
        }
        self.n_lines += 1;
        // A reader that has gone, as `head` goes, is a normal end.
        Ok(self.out.write_all(text.as_bytes()).await.is_ok())
    }
}

fn ignore_closed(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        Ok(())
    } else {
        Err(error)
    }
}

#[expect(
    clippy::print_stderr,
    reason = "what is said about the lines goes beside them"
)]
fn tell(text: &str) {
    eprintln!("{text}");
}
