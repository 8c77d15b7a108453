//! Containers read through the Kubernetes API: no host path, no root, only the right to get `pods/log`.
//!
//! One follow stream per container, within a bound; each finds its place again by content, so that a broken connection
//! neither loses nor repeats a line. The API tells stdout and stderr apart on no released server: all is stdout.

mod container;
mod metadata;
mod problems;
mod runs;
mod slots;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rustc_hash::FxHashMap;
use tawny_kube::{Cluster, PodDirectory, PodFacts};
use tawny_runtime::CancellationToken;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::timeout,
};

pub use metadata::KubeMetadata;

use self::{
    container::{Context, Reader},
    metadata::pod_facts,
    problems::Problems,
    slots::Slots,
};
use crate::{Error, Facts, Intake, Source, SourceKind, Subject};

/// How containers are read through the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSettings {
    /// Streams open at once. Each is a connection here and a goroutine in API server and kubelet; containers beyond
    /// it are read in turns.
    pub max_streams: usize,
    /// Most bytes kept of one line (KL-44).
    pub max_line_bytes: usize,
    /// A follow stream that stays silent for this long is opened anew (KL-43).
    pub idle_reconnect: Duration,
    /// Between two looks at a container while more containers are read than streams may be open. The kubelet scans the
    /// whole log file at each look.
    pub poll_interval: Duration,
    /// Longest silence for which the rest of an ended container's log is waited for.
    pub drain: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            max_streams: 100,
            max_line_bytes: 1 << 20,
            idle_reconnect: Duration::from_secs(300),
            poll_interval: Duration::from_secs(10),
            drain: Duration::from_secs(10),
        }
    }
}

/// Longest wait for the server's version before streams are opened without it.
const VERSION_WAIT: Duration = Duration::from_secs(5);

/// The first minor version of an API server that no kubelet before 1.26 may be paired with, by the skew policy.
const FIRST_MINOR_WITHOUT_OLD_KUBELETS: u32 = 29;

/// Reads the containers of all pods in a directory that a [`tawny_kube::PodWatch`] keeps current.
#[derive(Debug)]
pub struct ApiSource {
    cluster: Cluster,
    directory: PodDirectory,
    settings: ApiSettings,
}

impl ApiSource {
    pub fn new(cluster: Cluster, directory: PodDirectory, settings: ApiSettings) -> Self {
        Self {
            cluster,
            directory,
            settings,
        }
    }

    async fn has_old_kubelets(&self) -> bool {
        match timeout(VERSION_WAIT, self.cluster.fetch_version()).await {
            Ok(Ok(version)) => {
                // Some providers write `27+`.
                let digits = version
                    .minor
                    .trim_end_matches(|c: char| !c.is_ascii_digit());
                digits
                    .parse::<u32>()
                    .is_ok_and(|minor| minor < FIRST_MINOR_WITHOUT_OLD_KUBELETS)
            }
            // The pod watch tells of the same failure, and says what to do.
            Ok(Err(_)) | Err(_) => true,
        }
    }
}

#[async_trait]
impl Source for ApiSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Api
    }

    async fn run(self: Box<Self>, intake: Intake, stop: CancellationToken) -> Result<(), Error> {
        let mends_lines = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            has_old_kubelets = self.has_old_kubelets() => has_old_kubelets,
        };
        let context = Context {
            cluster: self.cluster,
            intake,
            slots: Slots::new(self.settings.max_streams),
            settings: self.settings,
            problems: Problems::default(),
            mends_lines,
        };
        let readers = Readers {
            context: Arc::new(context),
            directory: self.directory,
            stop,
            pods: FxHashMap::default(),
            tasks: JoinSet::new(),
        };
        readers.run().await
    }
}

/// All containers being read.
struct Readers {
    context: Arc<Context>,
    directory: PodDirectory,
    stop: CancellationToken,
    pods: FxHashMap<Arc<str>, PodReaders>,
    tasks: JoinSet<Ended>,
}

/// A reader that has ended: UID of its pod, name of its container.
type Ended = (Arc<str>, Arc<str>, Result<(), Error>);

/// The containers of one pod; `None` for one that is read to its end.
struct PodReaders {
    facts: watch::Sender<Arc<PodFacts>>,
    containers: FxHashMap<Arc<str>, Option<CancellationToken>>,
}

impl Readers {
    async fn run(mut self) -> Result<(), Error> {
        let mut versions = self.directory.subscribe();
        let mut version = 0;
        loop {
            versions.borrow_and_update();
            let changes = self.directory.changed_since(version);
            version = changes.version;
            for facts in changes.pods {
                self.attend(facts);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(ended) = self.tasks.join_next() => self.ended(ended)?,
                changed = versions.changed() => changed.expect("the directory holds the sender"),
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended)?;
        }
        Ok(())
    }

    /// Starts, informs and stops the readers of a pod that is new or has changed.
    fn attend(&mut self, facts: Arc<PodFacts>) {
        let selectable = pod_facts(&facts);
        let pod = self
            .pods
            .entry(Arc::clone(&facts.uid))
            .or_insert_with(|| PodReaders {
                facts: watch::Sender::new(Arc::clone(&facts)),
                containers: FxHashMap::default(),
            });
        let before = pod.facts.send_replace(Arc::clone(&facts));
        if before.object_uid != facts.object_uid {
            // The mirror of a static pod was made anew: its runs go on being counted, so readers that live go on too.
            pod.containers.retain(|_, reader| reader.is_some());
        }
        for container in &facts.containers {
            let subject = Subject {
                namespace: &facts.namespace,
                pod: &facts.name,
                pod_uid: &facts.uid,
                container: &container.name,
            };
            let is_wanted = self
                .context
                .intake
                .selection()
                .decide(subject, Facts::Known(&selectable))
                .is_collect();
            match pod.containers.get(&container.name) {
                Some(Some(stop)) if !is_wanted => stop.cancel(),
                None if is_wanted && container.has_run() => {
                    let stop = self.stop.child_token();
                    pod.containers
                        .insert(Arc::clone(&container.name), Some(stop.clone()));
                    let reader = Reader {
                        context: Arc::clone(&self.context),
                        pod: pod.facts.subscribe(),
                        container: Arc::clone(&container.name),
                        stop,
                    };
                    let (uid, name) = (Arc::clone(&facts.uid), Arc::clone(&container.name));
                    self.tasks
                        .spawn(async move { (uid, name, reader.run().await) });
                }
                _ => {}
            }
        }
        self.forget_if_read(&facts.uid);
    }

    /// Notes that a container is read to its end.
    fn ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), Error> {
        let (uid, container, result) = match ended {
            Ok(ended) => ended,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        };
        result?;
        if let Some(pod) = self.pods.get_mut(&uid) {
            let was_unwanted = pod
                .containers
                .get(&container)
                .and_then(Option::as_ref)
                .is_some_and(CancellationToken::is_cancelled);
            if was_unwanted {
                // Its labels may come to ask for it again.
                pod.containers.remove(&container);
            } else {
                pod.containers.insert(container, None);
            }
        }
        self.forget_if_read(&uid);
        Ok(())
    }

    fn forget_if_read(&mut self, uid: &str) {
        let is_read = self.pods.get(uid).is_some_and(|pod| {
            pod.facts.borrow().gone && pod.containers.values().all(Option::is_none)
        });
        if is_read {
            self.pods.remove(uid);
            self.directory.release(uid);
        }
    }
}

#[cfg(test)]
mod tests;
