//! The cluster as it is known now: takes what the watches tell, in any order, and gives what detection finds in it.
//!
//! Pure and bounded. A pod that is gone is held for a while, because the event that explains its death may come later.

mod events;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use rustc_hash::{FxHashMap, FxHashSet};
use tawny_incident::{
    Context, Evidence, Findings, Occurrence, OomProof, Scope,
    detect::{self, EventContext},
    report::related_events,
};
use tawny_model::{
    Timestamp, Workload,
    observed::{
        Condition, CronJobState, HpaState, JobState, KubeEvent, NamespaceState, NodeState,
        PodState, WorkloadState,
    },
};

use events::Events;

/// How long a pod that is gone is held for events that come late.
const HOLD_GONE: Duration = Duration::from_secs(2 * 60);

/// Pods that are gone, held at most; some 4 KiB each.
const MAX_GONE: usize = 2_048;

/// Proofs held for one pod, the latest.
const MAX_OOMS: usize = 16;

/// Pods with proofs; one is forgotten with its pod, and this bounds those whose pod is never seen.
const MAX_OOM_PODS: usize = 1_024;

/// Labels of a pod.
pub(crate) type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// An object other than a pod that detection looks at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    Node(NodeState),
    Namespace(NamespaceState),
    Job(JobState),
    CronJob(CronJobState),
    Workload(WorkloadState),
    Autoscaler(HpaState),
    /// A ReplicaSet that a Deployment made: it only tells whose its events are.
    Owned {
        uid: Arc<str>,
        by: Workload,
    },
}

/// What is known of the object of an event.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct About {
    pub(crate) node: Arc<str>,
    pub(crate) workload: Option<Workload>,
    pub(crate) labels: Labels,
}

/// Everything known.
#[derive(Debug)]
pub(crate) struct World {
    cluster: Arc<str>,
    watching_since: Timestamp,
    /// Whether the lists that were there at the start have all been seen: what is found before may be old.
    is_settled: bool,
    pods: FxHashMap<Arc<str>, Pod>,
    /// By UID, nodes by name.
    objects: FxHashMap<Arc<str>, Known>,
    n_nodes: usize,
    events: Events,
    ooms: FxHashMap<Arc<str>, Vec<OomProof>>,
    gone: VecDeque<(Timestamp, Arc<str>)>,
    due: BTreeSet<(Timestamp, Key)>,
}

#[derive(Debug)]
struct Pod {
    labels: Labels,
    /// As it was at the look before; `None` until it changes after the start.
    before: Option<PodState>,
    state: PodState,
    gone: bool,
    recheck_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Known {
    object: Object,
    recheck_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Pod(Arc<str>),
    Object(Arc<str>),
}

impl World {
    /// `watching_since`: what happened before was there already, and nobody needs to be told.
    pub(crate) fn new(cluster: Arc<str>, watching_since: Timestamp) -> Self {
        Self {
            cluster,
            // The status cuts times to seconds: a death of the same second is news.
            watching_since: Timestamp::from_secs(watching_since.as_secs()),
            is_settled: false,
            pods: FxHashMap::default(),
            objects: FxHashMap::default(),
            n_nodes: 0,
            events: Events::default(),
            ooms: FxHashMap::default(),
            gone: VecDeque::new(),
            due: BTreeSet::new(),
        }
    }

    /// The first lists are all there.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }

    /// A pod as it is now.
    pub(crate) fn pod(&mut self, state: PodState, labels: Labels, now: Timestamp) -> Findings {
        let uid = Arc::clone(&state.uid);
        let is_settled = self.is_settled;
        match self.pods.get_mut(&uid) {
            Some(pod) if pod.state == state && !pod.gone => return Findings::default(),
            Some(pod) => {
                pod.labels = labels;
                let before = std::mem::replace(&mut pod.state, state);
                if is_settled {
                    pod.before = Some(before);
                }
                pod.gone = false;
            }
            None => {
                let pod = Pod {
                    labels,
                    before: None,
                    state,
                    gone: false,
                    recheck_at: None,
                };
                self.pods.insert(Arc::clone(&uid), pod);
            }
        }
        self.look_at_pod(&uid, now)
    }

    /// A pod is gone; `last` is its final state, if that was told.
    pub(crate) fn pod_gone(
        &mut self,
        uid: &Arc<str>,
        last: Option<(PodState, Labels)>,
        now: Timestamp,
    ) -> Findings {
        let mut found = match last {
            Some((last, labels)) => self.pod(last, labels, now),
            None => Findings::default(),
        };
        let Some(pod) = self.pods.get_mut(uid).filter(|pod| !pod.gone) else {
            return found;
        };
        pod.gone = true;
        let stale = pod.recheck_at.take();
        if let Some(at) = stale {
            self.due.remove(&(at, Key::Pod(Arc::clone(uid))));
        }
        found.recheck_at = None;
        self.gone.push_back((now, Arc::clone(uid)));
        self.forget_gone(now);
        merge(found, detect::gone(Scope::Pod(Arc::clone(uid))))
    }

    /// An object as it is now.
    pub(crate) fn object(&mut self, object: Object, now: Timestamp) -> Findings {
        let uid = object.uid();
        match self.objects.get_mut(&uid) {
            Some(known) => known.object = object,
            None => {
                self.n_nodes += usize::from(matches!(object, Object::Node(_)));
                let known = Known {
                    object,
                    recheck_at: None,
                };
                self.objects.insert(Arc::clone(&uid), known);
            }
        }
        self.look_at_object(&uid, now)
    }

    /// An object is gone.
    pub(crate) fn object_gone(&mut self, uid: &str) -> Findings {
        let Some((uid, known)) = self.objects.remove_entry(uid) else {
            return Findings::default();
        };
        if let Some(at) = known.recheck_at {
            self.due.remove(&(at, Key::Object(uid)));
        }
        self.n_nodes -= usize::from(matches!(known.object, Object::Node(_)));
        known.object.scope().map(detect::gone).unwrap_or_default()
    }

    /// An event; `None` if it was known with this count or a later one.
    pub(crate) fn event(&mut self, event: KubeEvent, now: Timestamp) -> Option<Findings> {
        let event = self.events.put(event, now)?;
        let about = &event.object.uid;
        let pod = self.pods.get(about);
        let workload = pod
            .and_then(|pod| pod.state.workload.clone())
            .or_else(|| self.objects.get(about)?.object.controller());
        let told = EventContext {
            pod: pod.map(|pod| &pod.state),
            workload: workload.as_ref(),
            watches_nodes: self.n_nodes > 0,
        };
        let found = detect::event(&event, told, &self.context(now));
        let looked = if pod.is_some() {
            self.look_at_pod(&Arc::clone(about), now)
        } else {
            Findings::default()
        };
        Some(merge(found, looked))
    }

    /// The kernel killed something for want of memory.
    pub(crate) fn oom(&mut self, proof: OomProof, now: Timestamp) -> Findings {
        let uid = Arc::clone(&proof.pod_uid);
        if self.ooms.len() >= MAX_OOM_PODS && !self.ooms.contains_key(&uid) {
            self.ooms.clear();
        }
        let proofs = self.ooms.entry(Arc::clone(&uid)).or_default();
        if proofs.contains(&proof) {
            return Findings::default();
        }
        if proofs.len() >= MAX_OOMS {
            proofs.remove(0);
        }
        proofs.push(proof);
        self.look_at_pod(&uid, now)
    }

    /// When [`Self::tick`] has something to look at although nothing is told.
    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Looks again at what was to be looked at by now.
    pub(crate) fn tick(&mut self, now: Timestamp) -> Findings {
        let mut found = Findings::default();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_first() else {
                break;
            };
            let looked = match key {
                Key::Pod(uid) => {
                    if let Some(pod) = self.pods.get_mut(&uid) {
                        pod.recheck_at = None;
                    }
                    self.look_at_pod(&uid, now)
                }
                Key::Object(uid) => {
                    if let Some(known) = self.objects.get_mut(&uid) {
                        known.recheck_at = None;
                    }
                    self.look_at_object(&uid, now)
                }
            };
            found = merge(found, looked);
        }
        self.forget_gone(now);
        self.events.forget_old(now);
        found
    }

    pub(crate) fn n_pods(&self) -> usize {
        self.pods.values().filter(|pod| !pod.gone).count()
    }

    /// What is known of a pod, also for a while after it is gone.
    pub(crate) fn pod_state(&self, uid: &str) -> Option<&PodState> {
        self.pods.get(uid).map(|pod| &pod.state)
    }

    pub(crate) fn node_conditions(&self, node: &str) -> Vec<Condition> {
        match self.objects.get(node).map(|known| &known.object) {
            Some(Object::Node(node)) => node.conditions.clone(),
            _ => Vec::new(),
        }
    }

    /// The events that belong to an occurrence, the oldest first.
    pub(crate) fn related(&self, occurrence: &Occurrence) -> Vec<KubeEvent> {
        let related = related_events(occurrence, self.events.all());
        related.into_iter().cloned().collect()
    }

    /// What is known of the object an event is about, to be kept with its record.
    pub(crate) fn about(&self, event: &KubeEvent) -> About {
        match self.pods.get(&event.object.uid) {
            Some(pod) => About {
                node: Arc::clone(&pod.state.node),
                workload: pod.state.workload.clone(),
                labels: pod.labels.clone(),
            },
            None => About {
                workload: (self.objects.get(&event.object.uid))
                    .and_then(|known| known.object.controller()),
                ..About::default()
            },
        }
    }

    fn context(&self, now: Timestamp) -> Context {
        Context {
            cluster: Arc::clone(&self.cluster),
            now,
            watching_since: self.watching_since,
        }
    }

    fn look_at_pod(&mut self, uid: &Arc<str>, now: Timestamp) -> Findings {
        let context = self.context(now);
        let Some(pod) = self.pods.get(uid) else {
            return Findings::default();
        };
        let events = self.events.about(uid);
        let evidence = Evidence {
            events: &events,
            ooms: self.ooms.get(uid).map_or(&[], Vec::as_slice),
            no_replica_ready: self.has_no_replica(&pod.state),
        };
        let mut found = detect::pod(pod.before.as_ref(), &pod.state, evidence, &context);
        if pod.gone {
            // How it does was told when it went, and nothing about it changes with time any more.
            found.health.clear();
            found.recheck_at = None;
        }
        if let Some(pod) = self.pods.get_mut(uid) {
            let key = Key::Pod(Arc::clone(uid));
            reschedule(&mut self.due, key, &mut pod.recheck_at, found.recheck_at);
        }
        found
    }

    fn look_at_object(&mut self, uid: &Arc<str>, now: Timestamp) -> Findings {
        let context = self.context(now);
        let Some(known) = self.objects.get_mut(uid) else {
            return Findings::default();
        };
        let found = match &known.object {
            Object::Node(node) => detect::node(node, &context),
            Object::Namespace(namespace) => detect::namespace(namespace, &context),
            Object::Job(job) => detect::job(job, &context),
            Object::CronJob(cron) => detect::cron_job(cron, &context),
            Object::Workload(workload) => detect::workload(workload, &context),
            Object::Autoscaler(hpa) => detect::autoscaler(hpa, &context),
            Object::Owned { .. } => Findings::default(),
        };
        let key = Key::Object(Arc::clone(uid));
        reschedule(&mut self.due, key, &mut known.recheck_at, found.recheck_at);
        found
    }

    fn has_no_replica(&self, pod: &PodState) -> bool {
        let Some(workload) = &pod.workload else {
            return false;
        };
        // Only asked of pods that are out of service: the search goes through all workloads.
        if pod.containers.iter().all(|container| container.ready) {
            return false;
        }
        self.objects.values().any(|known| {
            matches!(&known.object, Object::Workload(state)
                if state.workload == *workload && state.namespace == pod.namespace && state.ready == 0)
        })
    }

    fn forget_gone(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.gone.front()
            && (now.saturating_since(*at) > HOLD_GONE || self.gone.len() > MAX_GONE)
        {
            let Some((_, uid)) = self.gone.pop_front() else {
                break;
            };
            if self.pods.get(&uid).is_some_and(|pod| pod.gone) {
                self.pods.remove(&uid);
                self.ooms.remove(&uid);
            }
        }
    }
}

/// What a complete list did not name of what is there.
pub(crate) fn missing<'a>(
    there: impl Iterator<Item = &'a Arc<str>>,
    listed: &FxHashSet<Arc<str>>,
) -> Vec<Arc<str>> {
    there
        .filter(|uid| !listed.contains(*uid))
        .cloned()
        .collect()
}

fn reschedule(
    due: &mut BTreeSet<(Timestamp, Key)>,
    key: Key,
    scheduled: &mut Option<Timestamp>,
    wanted: Option<Timestamp>,
) {
    if *scheduled == wanted {
        return;
    }
    if let Some(at) = scheduled.take() {
        due.remove(&(at, key.clone()));
    }
    if let Some(at) = wanted {
        due.insert((at, key));
    }
    *scheduled = wanted;
}

fn merge(mut first: Findings, second: Findings) -> Findings {
    first.occurrences.extend(second.occurrences);
    first.markers.extend(second.markers);
    first.health.extend(second.health);
    first
}

impl Object {
    /// What it is known by: its UID, a node by its name.
    pub(crate) fn uid(&self) -> Arc<str> {
        Arc::clone(match self {
            Self::Node(node) => &node.name,
            Self::Namespace(namespace) => &namespace.uid,
            Self::Job(job) => &job.uid,
            Self::CronJob(cron) => &cron.uid,
            Self::Workload(workload) => &workload.uid,
            Self::Autoscaler(hpa) => &hpa.uid,
            Self::Owned { uid, .. } => uid,
        })
    }

    /// The controller at the top of it.
    fn controller(&self) -> Option<Workload> {
        let workload = |kind: &str, name: &Arc<str>| {
            Some(Workload {
                kind: kind.into(),
                name: Arc::clone(name),
            })
        };
        match self {
            Self::Node(_) | Self::Namespace(_) => None,
            Self::Job(job) => match &job.cron_job {
                Some(cron) => workload("CronJob", cron),
                None => workload("Job", &job.name),
            },
            Self::CronJob(cron) => workload("CronJob", &cron.name),
            Self::Workload(state) => Some(state.workload.clone()),
            Self::Autoscaler(hpa) => workload("HorizontalPodAutoscaler", &hpa.name),
            Self::Owned { by, .. } => Some(by.clone()),
        }
    }

    /// What incidents about it resolve with when it is gone.
    fn scope(&self) -> Option<Scope> {
        let namespace = match self {
            Self::Node(node) => return Some(Scope::Node(Arc::clone(&node.name))),
            Self::Namespace(namespace) => {
                return Some(Scope::Namespace(Arc::clone(&namespace.name)));
            }
            // One run of many goes; the CronJob stays. A Job of its own is swept up some time after its end.
            Self::Job(job) if job.cron_job.is_some() => return None,
            Self::Owned { .. } => return None,
            Self::Job(job) => &job.namespace,
            Self::CronJob(cron) => &cron.namespace,
            Self::Workload(state) => &state.namespace,
            Self::Autoscaler(hpa) => &hpa.namespace,
        };
        Some(Scope::Workload {
            namespace: Arc::clone(namespace),
            workload: self.controller()?,
        })
    }
}

#[cfg(test)]
mod tests;
