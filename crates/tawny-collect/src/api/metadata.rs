//! Pods as the watch knows them, given to whoever reads their lines.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use tawny_kube::PodDirectory;
use tokio::sync::watch;

use crate::{Metadata, PodFacts};

/// [`Metadata`] out of a [`PodDirectory`]. Clone the directory: both see the same pods.
#[derive(Debug)]
pub struct KubeMetadata {
    directory: PodDirectory,
    /// What was made of a pod, for as long as the pod stays the same.
    made: Mutex<FxHashMap<Arc<str>, Made>>,
}

#[derive(Debug)]
struct Made {
    from: Arc<tawny_kube::PodFacts>,
    facts: Arc<PodFacts>,
}

impl KubeMetadata {
    pub fn new(directory: PodDirectory) -> Self {
        Self {
            directory,
            made: Mutex::default(),
        }
    }
}

impl Metadata for KubeMetadata {
    fn pod(&self, uid: &str) -> Option<Arc<PodFacts>> {
        let from = self.directory.get(uid);
        // Every change leaves the map whole, so a panic elsewhere while locked does no harm.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(from) = from else {
            made.remove(uid);
            return None;
        };
        if let Some(known) = made.get(uid)
            && Arc::ptr_eq(&known.from, &from)
        {
            return Some(Arc::clone(&known.facts));
        }
        // Pods nobody asks for again would stay for ever.
        if made.len() > 2 * self.directory.len() {
            made.retain(|uid, _| self.directory.get(uid).is_some());
        }
        let facts = Arc::new(pod_facts(&from));
        let entry = Made {
            facts: Arc::clone(&facts),
            from,
        };
        made.insert(uid.into(), entry);
        Some(facts)
    }

    fn version(&self) -> watch::Receiver<u64> {
        self.directory.subscribe()
    }

    fn is_expected(&self) -> bool {
        true
    }
}

/// The part of a pod that selection and description need.
pub(crate) fn pod_facts(pod: &tawny_kube::PodFacts) -> PodFacts {
    let phase = (Arc::from("status.phase"), Arc::from(pod.phase.name()));
    PodFacts {
        namespace: Arc::clone(&pod.namespace),
        name: Arc::clone(&pod.name),
        node: Arc::clone(&pod.node),
        labels: pod.labels.clone(),
        annotations: pod.annotations.clone(),
        namespace_labels: (*pod.namespace_labels).clone(),
        workload: pod.workload.clone(),
        images: pod
            .containers
            .iter()
            .map(|container| (Arc::clone(&container.name), Arc::clone(&container.image)))
            .collect(),
        fields: [phase].into_iter().collect(),
    }
}
