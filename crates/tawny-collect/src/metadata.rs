//! What is known about pods beyond their paths: looked up by UID, attached late, never waited for by a reader (VK-13).

use std::{collections::BTreeMap, fmt, sync::Arc};

use tawny_model::{Stream, StreamId, Workload};
use tokio::sync::watch;

/// A map of small strings, as labels and annotations are.
pub type StringMap = BTreeMap<Arc<str>, Arc<str>>;

/// Facts about one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub node: Arc<str>,
    pub labels: StringMap,
    pub annotations: StringMap,
    /// Labels of the pod's namespace; empty when unknown.
    pub namespace_labels: StringMap,
    pub workload: Option<Workload>,
    /// Container name → image as the pod spec wrote it; init, sidecar and ephemeral containers too.
    pub images: StringMap,
    /// Values a field selector may name besides `metadata.name`, `metadata.namespace` and `spec.nodeName`, by their
    /// path, such as `status.phase`.
    pub fields: StringMap,
}

impl PodFacts {
    /// The value of a field by its selector path.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            "spec.nodeName" => Some(&self.node),
            _ => self.fields.get(path).map(AsRef::as_ref),
        }
    }

    /// The description of one of the pod's streams.
    pub fn describe(&self, id: StreamId) -> Stream {
        Stream {
            image: self
                .images
                .get(&id.container)
                .map_or_else(|| "".into(), Arc::clone),
            id,
            namespace: Arc::clone(&self.namespace),
            pod: Arc::clone(&self.name),
            node: Arc::clone(&self.node),
            workload: self.workload.clone(),
            labels: self.labels.clone(),
        }
    }
}

/// Gives facts about pods. Calls are cheap and never block: an implementation answers from memory.
pub trait Metadata: fmt::Debug + Send + Sync + 'static {
    /// Facts about the pod of this UID; for a static pod its directory's UID is the `config.mirror` hash (VK-7).
    ///
    /// Answers the same `Arc` until the facts change. Facts stay after the pod is gone, as long as its lines may come.
    fn pod(&self, uid: &str) -> Option<Arc<PodFacts>>;

    /// A number that grows with every change of any pod; readers look again when it does.
    fn version(&self) -> watch::Receiver<u64>;

    /// False when facts never come, so that nobody waits for them.
    fn is_expected(&self) -> bool;
}

/// No facts at all: paths must do.
#[derive(Debug)]
pub struct NoMetadata(watch::Sender<u64>);

impl Default for NoMetadata {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Metadata for NoMetadata {
    fn pod(&self, _uid: &str) -> Option<Arc<PodFacts>> {
        None
    }

    fn version(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    fn is_expected(&self) -> bool {
        false
    }
}
