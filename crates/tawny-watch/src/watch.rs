//! The loop: watches feed the world, what is found goes into the book, records of events into the archive, and what is
//! known of each occurrence into a bundle.

mod streams;

use std::{future::pending, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::SelectAll};
use kube::runtime::watcher;
use rustc_hash::FxHashSet;
use tawny_incident::{Change as Told, Findings, OomProof, detect};
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
    metrics::PodChange,
    record::record,
    world::{World, missing},
};
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
            self.health.set_standby(true);
            if !lease.acquire(&stop).await {
                break;
            }
            self.health.set_standby(false);
            let lost = stop.child_token();
            let keep = async {
                lease.keep(&stop).await;
                lost.cancel();
            };
            let (watched, ()) = tokio::join!(self.watch(&lost), keep);
            watched?;
        }
        Ok(())
    }

    async fn watch(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        let now = self.clock.now();
        let since = self.incidents.saved_at().unwrap_or(now);
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
            permits: Arc::new(Semaphore::new(CONCURRENT_CAPTURES)),
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
    freezes: JoinSet<(Bundle, Vec<Told>)>,
    captures: JoinSet<(Bundle, LastWords, Vec<Told>)>,
    permits: Arc<Semaphore>,
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
}

impl Work<'_> {
    async fn run(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        for recovered in self.watch.incidents.take_recovered() {
            self.frozen(recovered.bundle, recovered.changes);
        }
        let mut changes = SelectAll::new();
        self.open(&mut changes);
        loop {
            let wake_at = self.wake_at();
            let limits_at = self.limits_at;
            let has_room = self.records.len() < MAX_RECORDS;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(self.save_at.unwrap_or(limits_at)), if self.save_at.is_some() => self.save().await,
                () = sleep_until(limits_at) => {
                    self.limits_at = Instant::now() + LIMITS_EVERY;
                    self.watch.incidents.apply_limits(self.now()).await;
                }
                Some(done) = self.freezes.join_next() => match done {
                    Ok((bundle, told)) => self.frozen(bundle, told),
                    Err(error) => tracing::error!(%error, "keeping what is known of an incident failed"),
                },
                Some(done) = self.captures.join_next() => match done {
                    Ok((bundle, words, told)) => self.captured(bundle, words, told).await,
                    Err(error) => tracing::error!(%error, "looking for last lines failed"),
                },
                Some(_) = self.keeping.join_next() => self.keep(),
                Some(proof) = self.watch.ooms.recv() => {
                    let found = self.world.oom(proof, self.now());
                    self.found(found).await;
                }
                () = wake(wake_at) => self.tick().await,
                Some((idx, change)) = changes.next(), if has_room => self.change(idx, change).await,
            }
        }
        self.finish().await
    }

    fn now(&self) -> Timestamp {
        self.watch.clock.now()
    }

    fn open(&mut self, changes: &mut SelectAll<Changes>) {
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
                changes.push(stream.map(move |change| (idx, change)).boxed());
                let list = List {
                    kind,
                    namespace,
                    listed: FxHashSet::default(),
                    there: FxHashSet::default(),
                    has_listed: false,
                    failing: None,
                };
                watch.health.set(&list.name(), WatchState::Starting);
                self.lists.push(list);
            }
        }
    }

    async fn change(&mut self, idx: usize, change: watcher::Result<Change>) {
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
        self.found(found).await;
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

    async fn tick(&mut self) {
        let now = self.now();
        let found = self.world.tick(now);
        self.found(found).await;
        let told = self.watch.incidents.tick(now);
        self.watch.incidents.tell(told, None, now);
        self.save_soon();
    }

    /// When something is to be done although nothing is told.
    fn wake_at(&self) -> Option<Duration> {
        let next = [self.world.next_tick(), self.watch.incidents.next_tick()];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_since(self.now()))
    }

    async fn found(&mut self, found: Findings) {
        let now = self.now();
        let news = self.watch.incidents.observe(found, now);
        self.watch.incidents.tell(news.changes, None, now);
        for (incident, occurrence, told) in news.occurrences {
            self.watch
                .metrics
                .occurrence(occurrence.cause.class(), occurrence.severity().name());
            if occurrence.run.is_some() {
                self.watch.metrics.pod(PodChange::crash);
            }
            let mut bundle = Bundle::new(incident, occurrence, now);
            let subject = &bundle.occurrence.subject;
            bundle.pod = self.world.pod_state(&subject.pod_uid).cloned();
            bundle.node_conditions = self.world.node_conditions(&subject.node);
            bundle.events = self.world.related(&bundle.occurrence);
            bundle.is_sealed = bundle.occurrence.run.is_none();
            self.freeze(bundle, told);
        }
        self.save_soon();
    }

    /// Writes what is known now, in case this process ends, with what is stored and measured of the run that died.
    fn freeze(&mut self, mut bundle: Bundle, told: Vec<Told>) {
        let places = self.places.clone();
        let permits = Arc::clone(&self.permits);
        let incidents = self.watch.incidents.clone();
        let metrics = self.watch.metrics.clone();
        self.freezes.spawn(async move {
            let _permit = permits
                .acquire()
                .await
                .expect("the semaphore is never closed");
            bundle = places.measure(bundle).await;
            bundle.last_lines = places.stored(&bundle.occurrence).await;
            if !bundle.last_lines.is_empty() {
                bundle.lines_from = Some(LinesFrom::Store);
            }
            write(&incidents, &metrics, &bundle).await;
            (bundle, told)
        });
    }

    /// Looks for the last lines once they have had time to arrive, beside everything else.
    fn capture(&mut self, bundle: Bundle, told: Vec<Told>) {
        let places = self.places.clone();
        let permits = Arc::clone(&self.permits);
        self.captures.spawn(async move {
            sleep(SETTLE).await;
            let _permit = permits
                .acquire()
                .await
                .expect("the semaphore is never closed");
            let words = places.settled(&bundle.occurrence).await;
            (bundle, words, told)
        });
    }

    fn frozen(&mut self, bundle: Bundle, told: Vec<Told>) {
        if bundle.occurrence.run.is_some() {
            self.capture(bundle, told);
        } else {
            let now = self.now();
            self.watch
                .incidents
                .tell(told, Some(&Arc::new(bundle)), now);
        }
    }

    async fn captured(&mut self, mut bundle: Bundle, words: LastWords, told: Vec<Told>) {
        let now = self.now();
        bundle.last_lines = words.lines;
        bundle.lines_from = Some(words.from);
        bundle.previous_lines = words.previous;
        let texts = bundle.last_lines.iter().map(|line| line.message.as_str());
        bundle.occurrence.signatures = detect::log_signatures(texts);
        // Events of a death come after it. A bundle of before a restart has some that are known no more.
        let events = self.world.related(&bundle.occurrence);
        let new = (events.into_iter()).filter(|event| !bundle.events.contains(event));
        let new: Vec<KubeEvent> = new.collect();
        bundle.events.extend(new);
        bundle.events.sort_by_key(|event| event.at);
        bundle.is_sealed = true;
        self.watch.incidents.refresh(bundle.occurrence.clone(), now);
        write(&self.watch.incidents, &self.watch.metrics, &bundle).await;
        self.watch
            .incidents
            .tell(told, Some(&Arc::new(bundle)), now);
        self.save_soon();
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
        if !self.freezes.is_empty() {
            self.save_at = Some(Instant::now() + SAVE_EVERY);
            return;
        }
        self.save_at = None;
        if let Err(error) = self.watch.incidents.save(self.now()).await {
            tracing::error!(%error, "cannot save the book of incidents; trying again");
            self.save_at = Some(Instant::now() + SAVE_EVERY);
        }
    }

    /// Lets hand-overs and captures under way end, which the stage's time bounds, and saves.
    async fn finish(&mut self) -> Result<(), Error> {
        while let Some(done) = self.freezes.join_next().await {
            if let Ok((bundle, told)) = done {
                self.frozen(bundle, told);
            }
        }
        while let Some(done) = self.captures.join_next().await {
            if let Ok((bundle, words, told)) = done {
                self.captured(bundle, words, told).await;
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
        watch.metrics.reconnections.inc();
        let error = watch.cluster.watch_error(error);
        let list = &mut self.lists[idx];
        if matches!(error, tawny_kube::Error::Gone) {
            return;
        }
        let reason = error.to_string();
        watch.health.set(
            &list.name(),
            match error.kind() {
                "forbidden" => WatchState::Denied { reason },
                "not_found" => WatchState::Unsupported,
                _ => WatchState::Failing { reason },
            },
        );
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
        self.watch.health.set(&list.name(), WatchState::Watching);
        if list.failing.take().is_some() {
            tracing::info!(objects = list.kind.name(), "are watched again");
        }
    }
}

async fn write(incidents: &Incidents, metrics: &WatchMetrics, bundle: &Bundle) {
    let written = incidents.freeze(bundle).await;
    metrics.bundle(written.is_ok());
    if let Err(error) = written {
        tracing::error!(%error, incident = %bundle.incident, "cannot keep what is known of an incident");
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
