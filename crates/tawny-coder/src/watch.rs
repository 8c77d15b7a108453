//! The feature itself: watches feed the registry, and what it says goes to agents, searches for tokens and the state file.

mod streams;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::SelectAll};
use k8s_openapi::api::core::v1::Event as CoreEvent;
use kube::runtime::watcher::Event;
use rustc_hash::FxHashSet;
use tawny_kube::{Cluster, LogRequest};
use tawny_model::Timestamp;
use tawny_runtime::{CancellationToken, SharedClock};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    CoderMetrics, Error, Settings,
    agent::{Agents, Stopped},
    client::Endpoint,
    lines::Line,
    metrics::Fate,
    reasons::Death,
    registry::{Action, EventSeen, Kind, Registry, Seen, Sight},
    resolve::Resolver,
    state,
};
use streams::{Change, Changes, Object};

/// The state file is written this often at most.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Longest a dead container's log is waited for.
const LOG_TIMEOUT: Duration = Duration::from_secs(10);

/// Logs read at once: when a node goes, hundreds of containers may die in a moment.
const CONCURRENT_LOGS: usize = 8;

/// Tells Coder of the pods and ReplicaSets that have an agent.
#[derive(Debug)]
pub struct Logstream {
    pub settings: Settings,
    pub cluster: Cluster,
    pub clock: SharedClock,
    pub metrics: CoderMetrics,
}

impl Logstream {
    /// Watches until `stop`, then gives what is left 4 s to be delivered. Failures of watches and deliveries are logged and
    /// retried: permissions and servers come back.
    ///
    /// # Errors
    /// `Reject` at the start only, when certificates or the state file cannot be read.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let endpoint = Endpoint::open(&self.settings)?;
        let Settings {
            namespaces,
            field_selector,
            label_selector,
            ..
        } = &self.settings;
        tracing::info!(
            coder = %endpoint.authority(),
            ?namespaces,
            ?field_selector,
            ?label_selector,
            "watching for pods of Coder workspaces"
        );
        self.run_at(endpoint, stop).await
    }

    pub(crate) async fn run_at(
        self,
        endpoint: Endpoint,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let snapshot = match &self.settings.state_file {
            Some(path) => state::load(path).await?,
            None => None,
        };
        let registry = match snapshot {
            Some(snapshot) => Registry::resume(snapshot),
            None => Registry::new(self.clock.now()),
        };
        let mut work = Work {
            agents: Agents::new(endpoint, self.metrics.clone()),
            resolver: Resolver::new(self.cluster.clone()),
            logs: JoinSet::new(),
            log_permits: Arc::new(Semaphore::new(CONCURRENT_LOGS)),
            n_saved: registry.n_changes(),
            registry,
            lists: Vec::new(),
            outbox: Vec::new(),
            save_at: None,
            saved_at: None,
            feature: self,
        };
        work.watch(stop).await;
        work.save().await;
        work.agents.finish().await;
        Ok(())
    }
}

/// Everything the loop holds.
struct Work {
    feature: Logstream,
    registry: Registry,
    agents: Agents,
    resolver: Resolver,
    logs: JoinSet<(String, Vec<Line>)>,
    log_permits: Arc<Semaphore>,
    /// One a watch.
    lists: Vec<List>,
    /// What waits for the state file, in order.
    outbox: Vec<Action>,
    /// When the state file is written next, if there is something to write.
    save_at: Option<Instant>,
    saved_at: Option<Instant>,
    n_saved: u64,
}

/// Where one watch stands.
#[derive(Debug, Default)]
struct List {
    object: Object,
    namespace_idx: usize,
    /// UIDs of the list in progress.
    listed: FxHashSet<String>,
    has_listed: bool,
    failing: Option<&'static str>,
}

impl Work {
    async fn watch(&mut self, stop: CancellationToken) {
        let mut changes = SelectAll::new();
        self.open(&mut changes, Object::Pods);
        self.open(&mut changes, Object::ReplicaSets);
        let (mut has_events, mut has_forgotten) = (false, false);
        loop {
            // Events are watched once their objects are known, or cannot be: "Created" goes before them.
            let is_settled = |list: &List| list.has_listed || list.failing.is_some();
            if !has_events && self.lists.iter().all(is_settled) {
                has_events = true;
                self.open(&mut changes, Object::Events);
            }
            let is_known = |list: &List| list.has_listed || list.object == Object::Events;
            if !has_forgotten && self.lists.iter().all(is_known) {
                has_forgotten = true;
                self.registry.forget_unlisted();
            }
            let save_at = self.save_at;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep_until(save_at.unwrap_or_else(Instant::now)), if save_at.is_some() => self.save().await,
                stopped = self.agents.next_stopped() => self.stopped(stopped),
                (uid, tokens) = self.resolver.next() => {
                    let actions = self.registry.resolved(&uid, tokens);
                    self.perform(actions);
                }
                Some(read) = self.logs.join_next() => match read {
                    Ok((uid, lines)) => {
                        let actions = self.registry.tell(&uid, lines);
                        self.perform(actions);
                    }
                    Err(error) => tracing::error!(%error, "reading a dead container's log failed"),
                },
                Some((list_idx, change)) = changes.next() => self.change(list_idx, change),
            }
        }
    }

    /// Starts the watches of one kind of object: one for each namespace, or one for all (CL-9).
    fn open(&mut self, changes: &mut SelectAll<Changes>, object: Object) {
        let settings = &self.feature.settings;
        let all = [None];
        let namespaces: Vec<Option<&str>> = if settings.namespaces.is_empty() {
            all.to_vec()
        } else {
            (settings.namespaces.iter())
                .map(|namespace| Some(namespace.as_str()))
                .collect()
        };
        for (namespace_idx, namespace) in namespaces.into_iter().enumerate() {
            let list_idx = self.lists.len();
            let seed = self.feature.clock.now().as_nanos().unsigned_abs() ^ list_idx as u64;
            let stream = object.watch(&self.feature.cluster, settings, namespace, seed);
            changes.push(stream.map(move |change| (list_idx, change)).boxed());
            self.lists.push(List {
                object,
                namespace_idx,
                ..List::default()
            });
        }
    }

    fn change(&mut self, list_idx: usize, change: Result<Change, kube::runtime::watcher::Error>) {
        let now = self.feature.clock.now();
        let look = self.feature.settings.look;
        match change {
            Ok(Change::Pod(event)) => {
                let event = event_of(event, |pod| Seen::pod(pod, look, now));
                self.object(list_idx, Kind::Pod, event, now);
            }
            Ok(Change::ReplicaSet(event)) => {
                let event = event_of(event, |set| Seen::replica_set(set, look));
                self.object(list_idx, Kind::ReplicaSet, event, now);
            }
            Ok(Change::Event(event)) => self.event(list_idx, event, now),
            Err(error) => self.report(list_idx, error),
        }
    }

    fn object(&mut self, list_idx: usize, kind: Kind, event: Event<Option<Seen>>, now: Timestamp) {
        let list = &mut self.lists[list_idx];
        let sight = list.sight();
        let actions = match event {
            Event::Init => {
                list.listed.clear();
                return;
            }
            Event::InitApply(Some(seen)) => {
                list.listed.insert(seen.uid.clone());
                self.registry.apply(seen, list.namespace_idx, sight, now)
            }
            Event::InitDone => {
                list.succeeded();
                list.has_listed = true;
                let listed = std::mem::take(&mut list.listed);
                (self.registry).keep_only(kind, list.namespace_idx, &listed, now)
            }
            Event::Apply(Some(seen)) => {
                list.succeeded();
                (self.registry).apply(seen, list.namespace_idx, Sight::Live, now)
            }
            Event::Delete(Some(seen)) => {
                list.succeeded();
                self.registry.delete(&seen.uid, now)
            }
            Event::InitApply(None) | Event::Apply(None) | Event::Delete(None) => return,
        };
        self.perform(actions);
    }

    fn event(&mut self, list_idx: usize, event: Event<CoreEvent>, now: Timestamp) {
        let list = &mut self.lists[list_idx];
        let sight = list.sight();
        let actions = match event {
            Event::Init => {
                list.listed.clear();
                return;
            }
            Event::InitApply(event) => {
                list.listed.extend(event.metadata.uid.clone());
                EventSeen::new(&event, now).map(|seen| self.registry.event(seen, sight, now))
            }
            Event::InitDone => {
                list.succeeded();
                list.has_listed = true;
                let listed = std::mem::take(&mut list.listed);
                self.registry.keep_only_events(list.namespace_idx, &listed);
                None
            }
            Event::Apply(event) => {
                list.succeeded();
                EventSeen::new(&event, now).map(|seen| self.registry.event(seen, Sight::Live, now))
            }
            Event::Delete(event) => {
                list.succeeded();
                if let (Some(about), Some(uid)) = (event.involved_object.uid, event.metadata.uid) {
                    self.registry.event_expired(&about, &uid);
                }
                None
            }
        };
        self.perform(actions.unwrap_or_default());
    }

    /// Coder takes no more lines from an agent.
    fn stopped(&mut self, stopped: Stopped) {
        let Stopped {
            token,
            error,
            lines,
        } = stopped;
        tracing::warn!(%error, n_lines = lines.len(), "stopped a Coder agent");
        if matches!(error, Error::Unauthorized { .. }) {
            let actions = self.registry.refused(&token, lines);
            self.perform(actions);
        } else {
            self.feature.metrics.lines(Fate::agent_stopped, lines.len());
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Resolve {
                    uid,
                    namespace,
                    wanted,
                    refused,
                } => self.resolver.start(uid, namespace, wanted, refused),
                Action::Abandon { uid } => self.resolver.stop(&uid),
                Action::ReadLog {
                    uid,
                    namespace,
                    pod,
                    death,
                    at,
                } => self.read_log(uid, namespace, pod, death, at),
                Action::Lose { n_lines } => self.feature.metrics.lines(Fate::no_token, n_lines),
                Action::Send { .. } | Action::Close { .. } => self.outbox.push(action),
            }
        }
        if self.feature.settings.state_file.is_none() {
            self.release();
        } else if self.save_at.is_none()
            && (self.registry.n_changes() != self.n_saved || !self.outbox.is_empty())
        {
            let now = Instant::now();
            let earliest = self.saved_at.map_or(now, |saved_at| saved_at + SAVE_EVERY);
            self.save_at = Some(earliest.max(now));
        }
    }

    fn read_log(
        &mut self,
        uid: String,
        namespace: String,
        pod: String,
        death: Death,
        at: Timestamp,
    ) {
        let n_lines = self.feature.settings.n_last_lines;
        if n_lines == 0 {
            return;
        }
        let request = LogRequest {
            namespace,
            pod,
            container: death.container,
            previous: death.is_previous,
            tail_lines: Some(n_lines.into()),
            ..LogRequest::default()
        };
        let cluster = self.feature.cluster.clone();
        let permits = Arc::clone(&self.log_permits);
        self.logs.spawn(async move {
            let _permit = (permits.acquire().await).expect("the semaphore is never closed");
            let lines = match timeout(LOG_TIMEOUT, cluster.read_log_end(&request)).await {
                Ok(Ok(log)) => {
                    let texts: Vec<String> = log.into_iter().map(|(_, text)| text).collect();
                    Line::last_words(&request.container, &texts.join("\n"), at)
                }
                Ok(Err(error)) => {
                    let (namespace, pod) = (&request.namespace, &request.pod);
                    tracing::warn!(namespace, pod, %error, "cannot read a dead container's log");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            };
            (uid, lines)
        });
    }

    /// Notes what is about to be told, and then tells it: a crash in between loses lines rather than repeating them.
    async fn save(&mut self) {
        self.save_at = None;
        if let Some(path) = &self.feature.settings.state_file {
            self.saved_at = Some(Instant::now());
            let snapshot = self.registry.snapshot(self.feature.clock.now());
            match state::save(path, &snapshot).await {
                Ok(()) => self.n_saved = self.registry.n_changes(),
                Err(error) => {
                    let path = path.display();
                    tracing::warn!(%path, %error, "cannot write the state file; a restart may repeat lines");
                }
            }
        }
        self.release();
    }

    fn release(&mut self) {
        for action in self.outbox.drain(..) {
            match action {
                Action::Send { token, line } => self.agents.push_or_drop_newest(&token, line),
                Action::Close { token } => self.agents.close(&token),
                _ => {}
            }
        }
    }

    /// Logs a failure once until it changes or the watch works again.
    fn report(&mut self, list_idx: usize, error: kube::runtime::watcher::Error) {
        self.feature.metrics.watch_restarts.inc();
        let error = self.feature.cluster.watch_error(error);
        let list = &mut self.lists[list_idx];
        let objects = list.object.name();
        if matches!(error, tawny_kube::Error::Gone) || list.failing == Some(error.kind()) {
            tracing::debug!(objects, %error, "watch for Coder failed again");
        } else {
            tracing::warn!(objects, %error, "watch for Coder failed; trying again");
        }
        if !matches!(error, tawny_kube::Error::Gone) {
            list.failing = Some(error.kind());
        }
    }
}

impl List {
    fn sight(&self) -> Sight {
        if self.has_listed {
            Sight::Live
        } else {
            Sight::FirstList
        }
    }

    fn succeeded(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!(objects = self.object.name(), "watch for Coder works again");
        }
    }
}

/// The same event of what `read` makes of its object.
fn event_of<K, T>(event: Event<K>, read: impl FnOnce(&K) -> T) -> Event<T> {
    match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(read(&object)),
        Event::Apply(object) => Event::Apply(read(&object)),
        Event::Delete(object) => Event::Delete(read(&object)),
    }
}

#[cfg(test)]
mod tests;
