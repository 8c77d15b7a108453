//! The loop: watches feed the world, what is found goes into the book, records of events into the archive, and what is
//! known of each occurrence into a bundle.

mod occurrences;
mod streams;

use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::SelectAll};
use kube::runtime::watcher;
use rustc_hash::{FxHashMap, FxHashSet};
use tawny_incident::{Change as Told, Findings, IncidentId, OomProof, detect};
use tawny_kube::{Cluster, Lease};
use tawny_model::{LogEntry, Remedy, Timestamp, observed::KubeEvent};
use tawny_runtime::{Backoff, CancellationToken, SharedClock};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Archive, Error, Incidents, WatchHealth, WatchMetrics, WatchState,
    bundle::{Bundle, LinesFrom},
    capture::{LastWords, Places, SETTLE, Vitals},
    health::FAILING_FOR,
    keep::{Recovered, subject},
    metrics::PodChange,
    record::record,
    world::{World, missing},
};
use occurrences::Waiting;
use streams::{Change, Changes, Kind, Seen};

/// The book is written this often at most while it changes.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Bundles and what is too old are looked through this often.
const LIMITS_EVERY: Duration = Duration::from_secs(10 * 60);

/// Records handed to the archive at once.
const RECORDS_AT_ONCE: usize = 1_000;

/// Records that may wait for the archive, some 1 KiB each; no more is read from the API beyond.
const MAX_RECORDS: usize = 16_384;

/// Waits between tries of an archive that cannot take records now.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Bundles written at once.
const CONCURRENT_FREEZES: usize = 16;

/// Dead containers whose last lines are looked for at once: when a node goes, hundreds may die in a moment.
const CONCURRENT_CAPTURES: usize = 64;

/// What is watched.
#[derive(Debug, Clone, Default)]
pub struct WatchSettings {
    /// Kept with every record and incident.
    pub cluster: Arc<str>,
    /// One watch each; empty watches all namespaces at once, and nodes and namespaces too.
    pub namespaces: Vec<String>,
}

/// Watches a cluster; one per store.
#[derive(Debug)]
pub struct ClusterWatch {
    pub settings: WatchSettings,
    pub cluster: Cluster,
    pub archive: Arc<dyn Archive>,
    pub incidents: Incidents,
    pub metrics: WatchMetrics,
    pub health: WatchHealth,
    pub clock: SharedClock,
    /// What is measured on this node, where it is.
    pub vitals: Option<Vitals>,
    /// Kills for want of memory, as the nodes see them.
    pub ooms: mpsc::Receiver<OomProof>,
    /// Of several servers, the one that holds it watches; `None` where there is only one.
    pub lease: Option<Lease>,
}

impl ClusterWatch {
    /// Watches until `stop`, then saves. Failures of watches, of the archive and of the disk are logged and retried.
    ///
    /// # Errors
    /// `Retry` when the book cannot be saved at the end.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        let Some(lease) = self.lease.clone() else {
            return self.watch(&stop).await;
        };
        while !stop.is_cancelled() {
            if !self.acquire(&lease, &stop).await {
                break;
            }
            // Whoever held it before may have written here.
            let now = self.clock.now();
            self.incidents.reload(now).await?;
            let lost = stop.child_token();
            let watched = CancellationToken::new();
            let keep = async {
                tokio::select! {
                    () = lease.keep() => lost.cancel(),
                    () = watched.cancelled() => {}
                }
            };
            let watch = async {
                let done = self.watch(&lost).await;
                watched.cancel();
                done
            };
            let (done, ()) = tokio::join!(watch, keep);
            done?;
            if stop.is_cancelled() {
                lease.release().await;
            }
        }
        Ok(())
    }

    /// Waits for the Lease; health says why it is waited for.
    async fn acquire(&self, lease: &Lease, stop: &CancellationToken) -> bool {
        let is_held = lease
            .acquire(stop, |refused| match refused {
                None => self.health.set_standby(true),
                Some(error) => {
                    self.health.set_standby(false);
                    self.health.set("leases", state_of(error), self.clock.now());
                }
            })
            .await;
        self.health.set_standby(false);
        if is_held {
            self.health
                .set("leases", WatchState::Watching, self.clock.now());
        }
        is_held
    }

    async fn watch(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let since = self.incidents.watching_since();
        let mut work = Work {
            world: World::new(Arc::clone(&self.settings.cluster), since),
            places: Places {
                archive: Arc::clone(&self.archive),
                cluster: self.cluster.clone(),
                vitals: self.vitals.clone(),
            },
            lists: Vec::new(),
            records: Vec::new(),
            keeping: JoinSet::new(),
            freezes: JoinSet::new(),
            captures: JoinSet::new(),
            freeze_permits: Arc::new(Semaphore::new(CONCURRENT_FREEZES)),
            permits: Arc::new(Semaphore::new(CONCURRENT_CAPTURES)),
            waiting: FxHashMap::default(),
            n_waiting: 0,
            is_settled: false,
            save_at: None,
            limits_at: Instant::now(),
            watch: self,
        };
        work.run(stop).await
    }
}

struct Work<'a> {
    watch: &'a mut ClusterWatch,
    world: World,
    places: Places,
    lists: Vec<List>,
    /// What waits for the archive.
    records: Vec<LogEntry>,
    /// At most one hand-over to the archive.
    keeping: JoinSet<()>,
    /// New occurrences whose bundles are being written for the first time.
    freezes: JoinSet<(Bundle, u64)>,
    captures: JoinSet<(Bundle, LastWords, u64)>,
    freeze_permits: Arc<Semaphore>,
    permits: Arc<Semaphore>,
    /// What is to be told of an incident, in order, while its last words are looked for.
    waiting: FxHashMap<IncidentId, VecDeque<Waiting>>,
    n_waiting: u64,
    is_settled: bool,
    save_at: Option<Instant>,
    limits_at: Instant,
}

/// Where one watch stands.
#[derive(Debug)]
struct List {
    kind: Kind,
    namespace: Option<String>,
    /// What the list in progress named.
    listed: FxHashSet<Arc<str>>,
    /// What is there, by this watch.
    there: FxHashSet<Arc<str>>,
    has_listed: bool,
    failing: Option<&'static str>,
    failed_at: Timestamp,
}

impl Work<'_> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        for Recovered { bundle, changes } in self.watch.incidents.take_recovered() {
            let number = self.wait(bundle.incident, changes);
            self.frozen(bundle, number).await;
        }
        let mut changes = SelectAll::new();
        let mut events = SelectAll::new();
        self.open(&mut changes, &mut events);
        loop {
            let wake_at = self.wake_at();
            let limits_at = self.limits_at;
            // Records carry what is known of their objects, so these are listed first.
            let is_known =
                (self.lists.iter()).all(|list| list.kind == Kind::Events || list.is_settled());
            let has_room = is_known && self.records.len() < MAX_RECORDS;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(self.save_at.unwrap_or(limits_at)), if self.save_at.is_some() => self.save().await,
                () = sleep_until(limits_at) => {
                    self.limits_at = Instant::now() + LIMITS_EVERY;
                    self.watch.incidents.apply_limits(self.now()).await;
                    self.save().await;
                }
                Some(done) = self.freezes.join_next() => match done {
                    Ok((bundle, number)) => self.frozen(bundle, number).await,
                    Err(error) => tracing::error!(%error, "keeping what is known of an incident failed"),
                },
                Some(done) = self.captures.join_next() => match done {
                    Ok((bundle, words, number)) => self.captured(bundle, words, number).await,
                    Err(error) => tracing::error!(%error, "looking for last lines failed"),
                },
                Some(_) = self.keeping.join_next() => self.keep(),
                Some(proof) = self.watch.ooms.recv() => {
                    let found = self.world.oom(proof, self.now());
                    self.found(found);
                }
                () = wake(wake_at) => self.tick(),
                Some((idx, change)) = changes.next() => self.change(idx, change),
                // Only events wait for a store that takes no records: deaths are seen all the same.
                Some((idx, change)) = events.next(), if has_room => self.change(idx, change),
            }
        }
        self.finish(stop).await
    }

    fn now(&self) -> Timestamp {
        self.watch.clock.now()
    }

    fn open(&mut self, changes: &mut SelectAll<Changes>, events: &mut SelectAll<Changes>) {
        let settings = self.watch.settings.clone();
        for kind in Kind::ALL {
            let namespaces: Vec<Option<String>> = match settings.namespaces.as_slice() {
                [] => vec![None],
                _ if kind.is_of_cluster() => Vec::new(),
                namespaces => namespaces.iter().cloned().map(Some).collect(),
            };
            for namespace in namespaces {
                let idx = self.lists.len();
                let seed = self.now().as_nanos().unsigned_abs() ^ idx as u64;
                let watch = &self.watch;
                let stream = kind.watch(&watch.cluster, namespace.as_deref(), &watch.clock, seed);
                let stream = stream.map(move |change| (idx, change)).boxed();
                match kind {
                    Kind::Events => events.push(stream),
                    _ => changes.push(stream),
                }
                let list = List {
                    kind,
                    namespace,
                    listed: FxHashSet::default(),
                    there: FxHashSet::default(),
                    has_listed: false,
                    failing: None,
                    failed_at: Timestamp::MIN,
                };
                watch
                    .health
                    .set(&list.name(), WatchState::Starting, self.now());
                self.lists.push(list);
            }
        }
    }

    fn change(&mut self, idx: usize, change: watcher::Result<Change>) {
        let now = self.now();
        let change = match change {
            Ok(change) => change,
            Err(error) => return self.report(idx, error),
        };
        self.watch.metrics.event_at(now);
        self.watch.health.heard(now);
        let found = match change {
            Change::Begin => {
                self.lists[idx].listed.clear();
                return;
            }
            Change::Listed(seen) => {
                self.lists[idx].listed.insert(seen.uid());
                self.apply(idx, seen, now)
            }
            Change::Applied(seen) => {
                self.succeeded(idx);
                self.apply(idx, seen, now)
            }
            Change::Deleted(seen) => {
                self.succeeded(idx);
                self.delete(idx, seen, now)
            }
            Change::Done => {
                self.succeeded(idx);
                self.listed(idx, now)
            }
        };
        self.found(found);
        if !self.is_settled && self.lists.iter().all(List::is_settled) {
            self.is_settled = true;
            self.world.settle();
        }
    }

    fn apply(&mut self, idx: usize, seen: Seen, now: Timestamp) -> Findings {
        if !matches!(seen, Seen::Event(_)) {
            let is_new = self.lists[idx].there.insert(seen.uid());
            if is_new && matches!(seen, Seen::Pod(..)) {
                self.watch.metrics.pod(PodChange::start);
            }
        }
        let found = match seen {
            Seen::Pod(pod, labels) => self.world.pod(*pod, labels, now),
            Seen::Object(object) => self.world.object(object, now),
            Seen::Event(event) => match self.world.event(KubeEvent::clone(&event), now) {
                Some(found) => {
                    let about = self.world.about(&event);
                    let cluster = &self.watch.settings.cluster;
                    self.records.push(record(&event, about, cluster));
                    self.keep();
                    found
                }
                None => Findings::default(),
            },
        };
        self.count_pods();
        found
    }

    fn delete(&mut self, idx: usize, seen: Seen, now: Timestamp) -> Findings {
        let uid = seen.uid();
        self.lists[idx].there.remove(&uid);
        let found = match seen {
            Seen::Pod(pod, labels) => {
                self.watch.metrics.pod(PodChange::stop);
                self.world.pod_gone(&uid, Some((*pod, labels)), now)
            }
            Seen::Object(_) => self.world.object_gone(&uid),
            // The API server forgets events by age.
            Seen::Event(_) => Findings::default(),
        };
        self.count_pods();
        found
    }

    /// A list is complete: what it did not name went while nobody watched.
    fn listed(&mut self, idx: usize, now: Timestamp) -> Findings {
        let list = &mut self.lists[idx];
        list.has_listed = true;
        let gone = missing(list.there.iter(), &std::mem::take(&mut list.listed));
        let kind = list.kind;
        let mut found = Findings::default();
        for uid in gone {
            self.lists[idx].there.remove(&uid);
            let one = match kind {
                Kind::Pods => {
                    self.watch.metrics.pod(PodChange::stop);
                    self.world.pod_gone(&uid, None, now)
                }
                _ => self.world.object_gone(&uid),
            };
            found.occurrences.extend(one.occurrences);
            found.markers.extend(one.markers);
            found.health.extend(one.health);
        }
        self.count_pods();
        found
    }

    fn count_pods(&self) {
        let n_pods = i64::try_from(self.world.n_pods()).unwrap_or(i64::MAX);
        self.watch.metrics.pods_watched.set(n_pods);
    }

    fn tick(&mut self) {
        let now = self.now();
        let found = self.world.tick(now);
        self.found(found);
        let told = self.watch.incidents.tick(now);
        self.tell(told);
        self.save_soon();
    }

    /// When something is to be done although nothing is told.
    fn wake_at(&self) -> Option<Duration> {
        let next = [self.world.next_tick(), self.watch.incidents.next_tick()];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_since(self.now()))
    }

    /// Hands what waits to the archive, unless a hand-over is under way.
    fn keep(&mut self) {
        if !self.keeping.is_empty() || self.records.is_empty() {
            return;
        }
        let n_records = self.records.len().min(RECORDS_AT_ONCE);
        let records: Vec<LogEntry> = self.records.drain(..n_records).collect();
        let archive = Arc::clone(&self.watch.archive);
        let metrics = self.watch.metrics.clone();
        let seed = self.now().as_nanos().unsigned_abs();
        self.keeping.spawn(async move {
            let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, seed);
            loop {
                match archive.keep(records.clone()).await {
                    Ok(()) => return metrics.records(true, n_records),
                    Err(error) if error.remedy == Remedy::Retry => {
                        tracing::warn!(%error, n_records, "the store takes no records of events; trying again");
                        sleep(backoff.next_delay()).await;
                    }
                    Err(error) => {
                        tracing::error!(%error, n_records, "the store refused records of events; they are lost");
                        return metrics.records(false, n_records);
                    }
                }
            }
        });
    }

    fn save_soon(&mut self) {
        if self.save_at.is_none() && self.watch.incidents.is_changed() {
            self.save_at = Some(Instant::now() + SAVE_EVERY);
        }
    }

    /// Not while a bundle is on its way: the book must not count what nothing is kept of.
    async fn save(&mut self) {
        if self.watch.incidents.is_freezing() {
            self.save_at = Some(Instant::now() + SAVE_EVERY);
            return;
        }
        self.save_at = None;
        if let Err(error) = self.watch.incidents.save(self.now()).await {
            tracing::error!(%error, "cannot save the book of incidents; trying again");
            self.save_at = Some(Instant::now() + SAVE_EVERY);
        }
    }

    /// Lets hand-overs and captures under way end, which the stage's time bounds, and saves; not once another process
    /// watches, which goes on with what is written.
    async fn finish(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        if !stop.is_cancelled() {
            return Ok(());
        }
        // First, in case the time to stop is over before all else is done.
        self.watch.incidents.save(self.now()).await?;
        while let Some(done) = self.freezes.join_next().await {
            if let Ok((bundle, number)) = done {
                self.frozen(bundle, number).await;
            }
        }
        while let Some(done) = self.captures.join_next().await {
            if let Ok((bundle, words, number)) = done {
                self.captured(bundle, words, number).await;
            }
        }
        self.keep();
        while self.keeping.join_next().await.is_some() {
            self.keep();
        }
        self.watch.incidents.save(self.now()).await
    }

    /// Logs a failure once until it changes or the watch works again.
    fn report(&mut self, idx: usize, error: watcher::Error) {
        let watch = &self.watch;
        let error = watch.cluster.watch_error(error);
        if error.kind() != "not_found" {
            watch.metrics.reconnections.inc();
        }
        let list = &mut self.lists[idx];
        if matches!(error, tawny_kube::Error::Gone) {
            return;
        }
        let now = watch.clock.now();
        watch.health.set(&list.name(), state_of(&error), now);
        // A watch that tries again fails more often than this.
        let is_news = now.saturating_since(list.failed_at) > FAILING_FOR;
        list.failed_at = now;
        if is_news {
            list.failing = None;
        }
        let objects = list.kind.name();
        match error.kind() {
            kind if list.failing.replace(kind) == Some(kind) => {
                tracing::debug!(objects, %error, "still cannot be watched");
            }
            "not_found" => tracing::info!(objects, "this cluster has none to watch"),
            _ => tracing::warn!(objects, %error, "cannot be watched; trying again"),
        }
        if !self.is_settled && self.lists.iter().all(List::is_settled) {
            self.is_settled = true;
            self.world.settle();
        }
    }

    fn succeeded(&mut self, idx: usize) {
        let list = &mut self.lists[idx];
        let now = self.watch.clock.now();
        self.watch
            .health
            .set(&list.name(), WatchState::Watching, now);
        if list.failing.take().is_some() {
            tracing::info!(objects = list.kind.name(), "are watched again");
        }
    }
}

/// What stands in the way of a watch.
fn state_of(error: &tawny_kube::Error) -> WatchState {
    let reason = error.to_string();
    match error.kind() {
        "forbidden" => WatchState::Denied { reason },
        "not_found" => WatchState::Unsupported,
        _ => WatchState::Failing { reason },
    }
}

/// Sleeps that long, or for ever.
async fn wake(after: Option<Duration>) {
    match after {
        Some(after) => sleep(after).await,
        None => pending().await,
    }
}

impl List {
    fn name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{} in {namespace}", self.kind.name()),
            None => self.kind.name().to_owned(),
        }
    }

    fn is_settled(&self) -> bool {
        self.has_listed || self.failing.is_some()
    }
}

impl Seen {
    fn uid(&self) -> Arc<str> {
        match self {
            Self::Pod(pod, _) => Arc::clone(&pod.uid),
            Self::Event(event) => Arc::clone(&event.uid),
            Self::Object(object) => object.uid(),
        }
    }
}

#[cfg(test)]
mod tests;
