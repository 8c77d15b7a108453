//! Watches as streams of changes, alike for the three kinds of objects.

use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::ReplicaSet,
        core::v1::{Event as CoreEvent, Pod},
    },
};
use kube::{
    Api,
    core::DeserializeGuard,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tawny_kube::{Cluster, patient};

use crate::Settings;

/// What one watch told.
#[derive(Debug)]
pub(super) enum Change {
    Pod(Event<Pod>),
    ReplicaSet(Event<ReplicaSet>),
    Event(Event<CoreEvent>),
}

/// Changes with the number of their watch.
pub(super) type Changes = BoxStream<'static, (usize, watcher::Result<Change>)>;

/// A kind of object that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Object {
    #[default]
    Pods,
    ReplicaSets,
    Events,
}

impl Object {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::ReplicaSets => "replicasets",
            Self::Events => "events",
        }
    }

    /// Selectors go for pods and ReplicaSets (CL-4, CL-5): an event has neither labels nor fields of what it is about.
    pub(super) fn watch(
        self,
        cluster: &Cluster,
        settings: &Settings,
        namespace: Option<&str>,
        seed: u64,
    ) -> BoxStream<'static, watcher::Result<Change>> {
        let all = watcher::Config::default();
        let mut selected = all.clone();
        (selected.label_selector).clone_from(&settings.label_selector);
        (selected.field_selector).clone_from(&settings.field_selector);
        match self {
            Self::Pods => watch(cluster, namespace, selected, seed, Change::Pod),
            Self::ReplicaSets => watch(cluster, namespace, selected, seed, Change::ReplicaSet),
            Self::Events => watch(cluster, namespace, all, seed, Change::Event),
        }
    }
}

/// List, then watch, in pages; a relist after 410 or a broken connection is part of it.
fn watch<K>(
    cluster: &Cluster,
    namespace: Option<&str>,
    config: watcher::Config,
    seed: u64,
    wrap: fn(Event<K>) -> Change,
) -> BoxStream<'static, watcher::Result<Change>>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug
        + Send
        + 'static,
{
    let client = cluster.client().clone();
    let api: Api<DeserializeGuard<K>> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    patient(watcher(api, config), seed)
        .try_filter_map(move |event| std::future::ready(Ok(read(event).map(wrap))))
        .boxed()
}

/// `None` for an object that does not read as one of its kind: a list and a watch go on without it.
fn read<K>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let read = |guarded: DeserializeGuard<K>| match guarded.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let name = invalid.metadata.name.unwrap_or_default();
            tracing::warn!(name, reason = %invalid.error, "left out an object that cannot be read");
            None
        }
    };
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(read(object)?),
        Event::Apply(object) => Event::Apply(read(object)?),
        Event::Delete(object) => Event::Delete(read(object)?),
    })
}
