//! The watches, one for each kind of object, as one kind of change.

use std::{fmt, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        core::v1::{Event as CoreEvent, Namespace, Node, Pod},
    },
};
use kube::{
    Api, Resource,
    core::DeserializeGuard,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tawny_kube::{Cluster, observe, patient, pod_facts};
use tawny_model::{
    Workload,
    observed::{KubeEvent, PodState},
};
use tawny_runtime::SharedClock;

use crate::world::{Labels, Object};

/// What one object is read as.
#[derive(Debug)]
pub(super) enum Seen {
    Pod(Box<PodState>, Labels),
    Event(Box<KubeEvent>),
    Object(Object),
}

/// What one watch told. An object without a name is left out, and one that detection does not read.
#[derive(Debug)]
pub(super) enum Change {
    /// A list begins: what it does not name is gone.
    Begin,
    Listed(Seen),
    Done,
    Applied(Seen),
    Deleted(Seen),
}

pub(super) type Changes = BoxStream<'static, (usize, watcher::Result<Change>)>;

/// A kind of object that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Pods,
    Events,
    Nodes,
    Namespaces,
    Deployments,
    ReplicaSets,
    StatefulSets,
    DaemonSets,
    Jobs,
    CronJobs,
    Autoscalers,
}

impl Kind {
    pub(super) const ALL: [Self; 11] = [
        Self::Pods,
        Self::Events,
        Self::Nodes,
        Self::Namespaces,
        Self::Deployments,
        Self::ReplicaSets,
        Self::StatefulSets,
        Self::DaemonSets,
        Self::Jobs,
        Self::CronJobs,
        Self::Autoscalers,
    ];

    /// The plural the API has for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Events => "events",
            Self::Nodes => "nodes",
            Self::Namespaces => "namespaces",
            Self::Deployments => "deployments",
            Self::ReplicaSets => "replicasets",
            Self::StatefulSets => "statefulsets",
            Self::DaemonSets => "daemonsets",
            Self::Jobs => "jobs",
            Self::CronJobs => "cronjobs",
            Self::Autoscalers => "horizontalpodautoscalers",
        }
    }

    /// Whether it stands beside all namespaces.
    pub(super) fn is_of_cluster(self) -> bool {
        matches!(self, Self::Nodes | Self::Namespaces)
    }

    /// Watches it, in one namespace or in all.
    pub(super) fn watch(
        self,
        cluster: &Cluster,
        namespace: Option<&str>,
        clock: &SharedClock,
        seed: u64,
    ) -> BoxStream<'static, watcher::Result<Change>> {
        let clock = Arc::clone(clock);
        match self {
            Self::Pods => within(cluster, namespace, seed, read_pod),
            Self::Events => within(cluster, namespace, seed, |event: &CoreEvent| {
                Some(Seen::Event(Box::new(observe::kube_event(event)?)))
            }),
            Self::Nodes => overall(cluster, seed, |node: &Node| {
                object(observe::node_state(node).map(Object::Node))
            }),
            Self::Namespaces => overall(cluster, seed, |namespace: &Namespace| {
                object(observe::namespace_state(namespace).map(Object::Namespace))
            }),
            Self::Deployments => within(cluster, namespace, seed, |it: &Deployment| {
                object(observe::deployment_state(it).map(Object::Workload))
            }),
            Self::ReplicaSets => within(cluster, namespace, seed, read_replica_set),
            Self::StatefulSets => within(cluster, namespace, seed, |it: &StatefulSet| {
                object(observe::stateful_set_state(it).map(Object::Workload))
            }),
            Self::DaemonSets => within(cluster, namespace, seed, |it: &DaemonSet| {
                object(observe::daemon_set_state(it).map(Object::Workload))
            }),
            Self::Jobs => within(cluster, namespace, seed, |job: &Job| {
                object(observe::job_state(job).map(Object::Job))
            }),
            Self::CronJobs => within(cluster, namespace, seed, move |cron: &CronJob| {
                object(observe::cron_job_state(cron, clock.now()).map(Object::CronJob))
            }),
            Self::Autoscalers => {
                within(cluster, namespace, seed, |it: &HorizontalPodAutoscaler| {
                    object(observe::autoscaler_state(it).map(Object::Autoscaler))
                })
            }
        }
    }
}

fn object(object: Option<Object>) -> Option<Seen> {
    object.map(Seen::Object)
}

fn read_pod(pod: &Pod) -> Option<Seen> {
    let labels = pod_facts(pod).map(|facts| Labels::clone(&facts.labels));
    let state = observe::pod_state(pod)?;
    Some(Seen::Pod(Box::new(state), labels.unwrap_or_default()))
}

/// One that stands for itself is a workload; of one that a Deployment made, only whose it is counts.
fn read_replica_set(set: &ReplicaSet) -> Option<Seen> {
    if let Some(state) = observe::replica_set_state(set) {
        return Some(Seen::Object(Object::Workload(state)));
    }
    let meta = &set.metadata;
    let mut owners = meta.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some(Seen::Object(Object::Owned {
        uid: meta.uid.as_deref()?.into(),
        by: Workload {
            kind: owner.kind.as_str().into(),
            name: owner.name.as_str().into(),
        },
    }))
}

fn within<K>(
    cluster: &Cluster,
    namespace: Option<&str>,
    seed: u64,
    read: impl Fn(&K) -> Option<Seen> + Clone + Send + 'static,
) -> BoxStream<'static, watcher::Result<Change>>
where
    K: Watched + Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let client = cluster.client().clone();
    let api = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    changes(api, seed, read)
}

fn overall<K>(
    cluster: &Cluster,
    seed: u64,
    read: impl Fn(&K) -> Option<Seen> + Clone + Send + 'static,
) -> BoxStream<'static, watcher::Result<Change>>
where
    K: Watched + Resource<Scope = ClusterResourceScope, DynamicType = ()>,
{
    changes(Api::all(cluster.client().clone()), seed, read)
}

/// An object of the API that can be watched.
trait Watched: DeserializeOwned + Clone + fmt::Debug + Send + 'static {}

impl<K: DeserializeOwned + Clone + fmt::Debug + Send + 'static> Watched for K {}

/// List, then watch, in pages; a relist after 410 or a broken connection is part of it. What detection does not read of
/// an object is let go of at once.
fn changes<K>(
    api: Api<DeserializeGuard<K>>,
    seed: u64,
    read: impl Fn(&K) -> Option<Seen> + Clone + Send + 'static,
) -> BoxStream<'static, watcher::Result<Change>>
where
    K: Watched + Resource<DynamicType = ()>,
{
    patient(watcher(api, watcher::Config::default()), seed)
        .try_filter_map(move |event| {
            let change = change(event, &read);
            std::future::ready(Ok(change))
        })
        .boxed()
}

fn change<K>(
    event: Event<DeserializeGuard<K>>,
    read: impl Fn(&K) -> Option<Seen>,
) -> Option<Change> {
    let read = |guarded: DeserializeGuard<K>| match guarded.0 {
        Ok(object) => read(&object),
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            tracing::warn!(name, reason = %invalid.error, "left out an object that cannot be read");
            None
        }
    };
    Some(match event {
        Event::Init => Change::Begin,
        Event::InitDone => Change::Done,
        Event::InitApply(object) => Change::Listed(read(object)?),
        Event::Apply(object) => Change::Applied(read(object)?),
        Event::Delete(object) => Change::Deleted(read(object)?),
    })
}
