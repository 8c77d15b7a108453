//! The pods of a scope, kept current by a watch and keyed by the UID in their log directory.
//!
//! What is known of a pod outlives the pod: lines of a deleted pod are still to be read and need its labels (VK-2).

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream, SelectAll},
};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::watcher::{self, Event},
};
use rustc_hash::{FxHashMap, FxHashSet};
use tawny_runtime::{CancellationToken, SharedClock};
use tokio::sync::watch;

use crate::{Cluster, Error, KubeMetrics, PodFacts, facts::shared, patience::patient, pod_facts};

/// Which pods to watch. Empty lists and `None` do not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodScope {
    /// One watch each; empty watches all namespaces at once.
    pub namespaces: Vec<String>,
    /// Only pods of this node.
    pub node: Option<String>,
    pub label_selector: Option<String>,
    /// In addition to the node.
    pub field_selector: Option<String>,
    /// Watch the labels of namespaces too, which takes the right to list and watch them; without it pods are still
    /// watched, as if their namespaces had no labels.
    pub namespace_labels: bool,
}

/// Pods that are gone and not released, kept at most. At some 2 KiB each: 8 MiB.
const MAX_GONE: usize = 4096;

/// The pods seen so far. Cheap to clone; clones share the content.
///
/// A pod that is gone from the API stays, marked [`PodFacts::gone`], until [`PodDirectory::release`] or until thousands
/// of others went after it.
#[derive(Clone)]
pub struct PodDirectory {
    shared: Arc<Shared>,
}

type Labels = BTreeMap<Arc<str>, Arc<str>>;

struct Shared {
    pods: Mutex<Pods>,
    version: watch::Sender<u64>,
    synced: watch::Sender<bool>,
}

#[derive(Default)]
struct Pods {
    version: u64,
    by_uid: FxHashMap<Arc<str>, Entry>,
    /// UIDs in the order of their last change, so that a reader finds what is new without a scan.
    by_version: BTreeMap<u64, Arc<str>>,
    namespaces: FxHashMap<Arc<str>, Arc<Labels>>,
    /// In the order they went; may name pods released or come back since.
    gone: VecDeque<Arc<str>>,
}

struct Entry {
    facts: Arc<PodFacts>,
    version: u64,
    /// Which watch it belongs to: a relist of one namespace says nothing of another.
    watch: usize,
}

/// Pods that changed, oldest change first.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// To ask from the next time.
    pub version: u64,
    pub pods: Vec<Arc<PodFacts>>,
}

impl fmt::Debug for PodDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodDirectory")
            .field("pods", &self.lock().by_uid.len())
            .finish_non_exhaustive()
    }
}

impl Default for PodDirectory {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                pods: Mutex::default(),
                version: watch::Sender::new(0),
                synced: watch::Sender::new(false),
            }),
        }
    }
}

impl PodDirectory {
    fn lock(&self) -> MutexGuard<'_, Pods> {
        // Every update leaves the maps whole, so a panic elsewhere while locked does no harm.
        self.shared
            .pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the pod whose log directory carries `uid`.
    pub fn get(&self, uid: &str) -> Option<Arc<PodFacts>> {
        self.lock()
            .by_uid
            .get(uid)
            .map(|entry| Arc::clone(&entry.facts))
    }

    /// Number of pods known, gone ones included.
    pub fn len(&self) -> usize {
        self.lock().by_uid.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pods that changed after `version`, each as it is now; `0` gives all.
    pub fn changed_since(&self, version: u64) -> Changes {
        let pods = self.lock();
        Changes {
            version: pods.version,
            pods: pods
                .by_version
                .range(version.saturating_add(1)..)
                .filter_map(|(_, uid)| pods.by_uid.get(uid))
                .map(|entry| Arc::clone(&entry.facts))
                .collect(),
        }
    }

    /// Fires at every change, with the version to compare against.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Whether every watch of the scope has delivered its first list.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits for the first list of every watch.
    pub async fn synced(&self) {
        // Cannot fail: `self` holds the sender.
        drop(
            self.shared
                .synced
                .subscribe()
                .wait_for(|synced| *synced)
                .await,
        );
    }

    /// Says that no line of this pod is left to read. Forgets it if it is gone; a pod still there stays.
    pub fn release(&self, uid: &str) {
        let mut pods = self.lock();
        if pods.by_uid.get(uid).is_some_and(|entry| entry.facts.gone) {
            pods.remove(uid);
        }
    }

    /// Puts a pod in by hand: what a request for this one pod returned, or a pod known from elsewhere.
    pub fn put(&self, facts: PodFacts) {
        let watch = self
            .lock()
            .by_uid
            .get(&facts.uid)
            .map_or(usize::MAX, |entry| entry.watch);
        self.apply(facts, watch);
    }

    fn apply(&self, facts: PodFacts, watch: usize) {
        self.change(|pods| pods.set(facts, watch));
    }

    /// `last` is the pod as it was last seen; its statuses may be newer than what is known.
    fn mark_gone(&self, mut last: PodFacts, watch: usize) {
        last.gone = true;
        self.change(|pods| {
            // A static pod's mirror may have been made anew, under the same directory UID, before the old one's end is told.
            let is_same = pods
                .by_uid
                .get(&last.uid)
                .is_none_or(|entry| entry.facts.object_uid == last.object_uid);
            if is_same {
                pods.set(last, watch);
            }
        });
    }

    /// Marks the pods of `watch` that a complete list did not name.
    fn keep_only(&self, watch: usize, listed: &FxHashSet<Arc<str>>) {
        self.change(|pods| {
            let missing: Vec<PodFacts> = pods
                .by_uid
                .values()
                .filter(|entry| {
                    entry.watch == watch && !entry.facts.gone && !listed.contains(&entry.facts.uid)
                })
                .map(|entry| PodFacts {
                    gone: true,
                    ..PodFacts::clone(&entry.facts)
                })
                .collect();
            for facts in missing {
                pods.set(facts, watch);
            }
        });
    }

    /// Gives the pods of a namespace its labels, those to come as well.
    fn label_namespace(&self, namespace: Arc<str>, labels: Labels) {
        self.change(|pods| {
            pods.namespaces
                .insert(Arc::clone(&namespace), Arc::new(labels));
            let within: Vec<_> = pods
                .by_uid
                .values()
                .filter(|entry| entry.facts.namespace == namespace)
                .map(|entry| (PodFacts::clone(&entry.facts), entry.watch))
                .collect();
            for (facts, watch) in within {
                pods.set(facts, watch);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Pods)) {
        let mut pods = self.lock();
        let before = pods.version;
        change(&mut pods);
        let after = pods.version;
        drop(pods);
        if after != before {
            self.shared.version.send_replace(after);
        }
    }
}

impl Pods {
    fn set(&mut self, mut facts: PodFacts, watch: usize) {
        if let Some(labels) = self.namespaces.get(&facts.namespace) {
            facts.namespace_labels = Arc::clone(labels);
        }
        let uid = Arc::clone(&facts.uid);
        let known = self.by_uid.get(&uid);
        if known.is_some_and(|entry| *entry.facts == facts) {
            return;
        }
        if facts.gone && !known.is_some_and(|entry| entry.facts.gone) {
            self.gone.push_back(Arc::clone(&uid));
        }
        self.version += 1;
        let entry = Entry {
            facts: Arc::new(facts),
            version: self.version,
            watch,
        };
        self.by_version.insert(self.version, Arc::clone(&uid));
        if let Some(old) = self.by_uid.insert(uid, entry) {
            self.by_version.remove(&old.version);
        }
        while self.gone.len() > MAX_GONE {
            if let Some(oldest) = self.gone.pop_front()
                && self
                    .by_uid
                    .get(&oldest)
                    .is_some_and(|entry| entry.facts.gone)
            {
                self.remove(&oldest);
            }
        }
    }

    fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.by_uid.remove(uid) {
            self.by_version.remove(&entry.version);
        }
    }
}

/// Keeps a [`PodDirectory`] current; one per process and scope.
#[derive(Debug)]
pub struct PodWatch {
    pub cluster: Cluster,
    pub scope: PodScope,
    pub directory: PodDirectory,
    pub metrics: KubeMetrics,
    pub clock: SharedClock,
}

/// A pod, or what is left of an object that does not read as one.
type Guarded = DeserializeGuard<Pod>;

type PartialNamespace = PartialObjectMeta<Namespace>;

impl PodWatch {
    /// Watches until `stop`. Failures are logged and retried for ever with backoff and jitter: permissions and servers
    /// come back.
    ///
    /// # Errors
    /// Never today; the type leaves room for a watch that cannot go on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let mut namespaces = self.namespaces();
        let mut refused = None;
        if self.scope.namespace_labels {
            // Before the first pod, so that one in an excluded namespace is never taken for one that is not.
            let first_list = async {
                while let Some(event) = namespaces.next().await {
                    if !self.handle_namespace(event, &mut refused) {
                        break;
                    }
                }
            };
            tokio::select! {
                () = first_list => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
        let mut events = SelectAll::new();
        for (watch, api) in self.apis().into_iter().enumerate() {
            let seed = self.clock.now().as_nanos().unsigned_abs() ^ watch as u64;
            let stream = patient(kube::runtime::watcher(api, self.config()), seed);
            events.push(stream.map(move |event| (watch, event)).boxed());
        }
        let mut relists: Vec<Relist> = (0..events.len()).map(|_| Relist::default()).collect();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Some((watch, event)) = events.next() => match event {
                    Ok(event) => {
                        self.metrics.event_at(self.clock.now());
                        self.handle(event, watch, &mut relists);
                    }
                    Err(error) => self.report(error, &mut relists[watch]),
                },
                Some(event) = namespaces.next() => {
                    self.handle_namespace(event, &mut refused);
                }
            }
        }
    }

    /// Watches the namespaces' metadata; never says anything when that is not wanted.
    fn namespaces(&self) -> BoxStream<'static, watcher::Result<Event<PartialNamespace>>> {
        if !self.scope.namespace_labels {
            return stream::pending().boxed();
        }
        let api: Api<PartialNamespace> = Api::all(self.cluster.client().clone());
        let seed = self.clock.now().as_nanos().unsigned_abs();
        patient(
            kube::runtime::watcher(api, watcher::Config::default()),
            seed,
        )
        .boxed()
    }

    /// Whether more of the first list is to come. `refused` is the kind of failure told last.
    fn handle_namespace(
        &self,
        event: watcher::Result<Event<PartialNamespace>>,
        refused: &mut Option<&'static str>,
    ) -> bool {
        match event {
            Ok(Event::Apply(namespace) | Event::InitApply(namespace)) => {
                if let Some(name) = namespace.metadata.name {
                    let labels = shared(namespace.metadata.labels.as_ref(), usize::MAX);
                    self.directory.label_namespace(name.into(), labels);
                }
                true
            }
            Ok(Event::Init | Event::Delete(_)) => true,
            Ok(Event::InitDone) => {
                *refused = None;
                false
            }
            Err(error) => {
                let error = self.cluster.watch_error(error);
                if refused.replace(error.kind()) == Some(error.kind()) {
                    tracing::debug!(%error, "namespaces still cannot be watched");
                } else {
                    tracing::warn!(%error, "namespaces cannot be watched; their labels count as unset");
                }
                false
            }
        }
    }

    fn apis(&self) -> Vec<Api<Guarded>> {
        let client = self.cluster.client();
        if self.scope.namespaces.is_empty() {
            return vec![Api::all(client.clone())];
        }
        let mut namespaces = self.scope.namespaces.clone();
        namespaces.sort_unstable();
        namespaces.dedup();
        namespaces
            .iter()
            .map(|namespace| Api::namespaced(client.clone(), namespace))
            .collect()
    }

    /// List, then watch. Not a streaming list: servers before 1.27 ignore the request for its end mark, and the watch
    /// would wait for it for ever.
    ///
    /// The pods of one node are listed from the server's cache (`resourceVersion=0`), which has an index by node: every
    /// node of a large cluster may ask at once. That takes a list in one piece, as servers do not page their cache;
    /// wider scopes, which few processes watch, are listed in pages so that neither side holds thousands of pods twice.
    fn config(&self) -> watcher::Config {
        let fields: Vec<String> = (self
            .scope
            .node
            .iter()
            .map(|node| format!("spec.nodeName={node}")))
        .chain(self.scope.field_selector.clone())
        .collect();
        let mut config = watcher::Config::default();
        if self.scope.node.is_some() {
            config = config.any_semantic();
            config.page_size = None;
        }
        config.label_selector.clone_from(&self.scope.label_selector);
        config.field_selector = (!fields.is_empty()).then(|| fields.join(","));
        config
    }

    fn handle(&self, event: Event<Guarded>, watch: usize, relists: &mut [Relist]) {
        let relist = &mut relists[watch];
        match event {
            Event::Init => relist.listed.clear(),
            Event::InitApply(pod) => {
                if let Some(facts) = self.read(pod) {
                    relist.listed.insert(Arc::clone(&facts.uid));
                    self.directory.apply(facts, watch);
                }
            }
            Event::InitDone => {
                relist.succeeded();
                self.directory
                    .keep_only(watch, &std::mem::take(&mut relist.listed));
                relist.is_synced = true;
                if relists.iter().all(|relist| relist.is_synced) {
                    self.directory
                        .shared
                        .synced
                        .send_if_modified(|synced| !std::mem::replace(synced, true));
                }
            }
            Event::Apply(pod) => {
                relist.succeeded();
                if let Some(facts) = self.read(pod) {
                    self.directory.apply(facts, watch);
                }
            }
            Event::Delete(pod) => {
                relist.succeeded();
                if let Some(facts) = self.read(pod) {
                    self.directory.mark_gone(facts, watch);
                }
            }
        }
    }

    fn read(&self, pod: Guarded) -> Option<PodFacts> {
        let (facts, problem) = match pod.0 {
            Ok(pod) => (
                pod_facts(&pod),
                (pod.metadata, "it has no name, namespace or UID".to_owned()),
            ),
            Err(invalid) => (None, (invalid.metadata, invalid.error)),
        };
        if facts.is_none() {
            self.metrics.malformed_objects.inc();
            let (metadata, reason) = problem;
            tracing::warn!(
                namespace = metadata.namespace.unwrap_or_default(),
                pod = metadata.name.unwrap_or_default(),
                %reason,
                "left out an object that does not read as a pod"
            );
        }
        facts
    }

    /// Logs a failure once until it changes or the watch works again.
    fn report(&self, error: watcher::Error, relist: &mut Relist) {
        self.metrics.watch_restarts.inc();
        let error = self.cluster.watch_error(error);
        if relist.failing == Some(error.kind()) || matches!(error, Error::Gone) {
            tracing::debug!(%error, "pod watch failed again");
        } else {
            tracing::warn!(%error, "pod watch failed; trying again");
        }
        if !matches!(error, Error::Gone) {
            relist.failing = Some(error.kind());
        }
    }
}

/// Where one watch stands.
#[derive(Debug, Default)]
struct Relist {
    /// UIDs of the list in progress.
    listed: FxHashSet<Arc<str>>,
    is_synced: bool,
    failing: Option<&'static str>,
}

impl Relist {
    fn succeeded(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!("pod watch works again");
        }
    }
}

#[cfg(test)]
mod tests;
