//! From one walk to the next: which containers came and went, and in which the kernel killed since.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tawny_incident::OomProof;
use tawny_model::Timestamp;

use super::{
    ContainerKey, ContainerSample, Walk,
    tree::{Places, Tree},
};

/// How often the trees are searched for the kubelet's cgroup, which is there before its first pod and stays.
const SEARCH_EVERY: Duration = Duration::from_secs(10);

/// How long the measures of an idle container hold: its limit may be changed, or memory taken from it.
const FRESH: Duration = Duration::from_secs(10);

/// How long a container that is gone is remembered, so that one that only could not be seen for a while is not new.
const REMEMBER: Duration = Duration::from_secs(600);

/// Walks the cgroups of a node, each time with what the walks before saw in mind.
#[derive(Debug)]
pub struct Tracker {
    root: PathBuf,
    tree: Option<Tree>,
    /// Below which pods are kept.
    kubelets: Vec<PathBuf>,
    searched_at: Option<Timestamp>,
    /// A walk has seen all there was: what is new to the next one started after it.
    is_watching: bool,
    containers: HashMap<Arc<str>, Known>,
    pods: HashMap<Arc<str>, PodKills>,
}

#[derive(Debug)]
struct Known {
    last: ContainerSample,
    /// When all its files were last read whether it ran or not.
    read_at: Timestamp,
    gone_at: Option<Timestamp>,
}

/// The kills a v2 pod counts over all its containers, also those that are gone.
#[derive(Debug, Clone, Copy, Default)]
struct PodKills {
    /// How many of them are told of, or were there before watching began.
    told: u64,
}

impl Tracker {
    /// `root` is `/sys/fs/cgroup`, or where the host's is mounted; it may be mounted later.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            tree: None,
            kubelets: Vec::new(),
            searched_at: None,
            is_watching: false,
            containers: HashMap::new(),
            pods: HashMap::new(),
        }
    }

    /// Measures all containers. Blocks for as long as their files take.
    ///
    /// Kills that the first walk finds were before its time; all later ones are told, also those of a container that
    /// was not there before.
    ///
    /// # Errors
    /// No cgroup tree is mounted at the root, or a cgroup that is there cannot be listed. Nothing is taken for gone
    /// then, and the next walk tells what this one could not.
    pub fn walk(&mut self, now: Timestamp) -> io::Result<Walk> {
        let places = self.places(now)?;
        let mut text = String::new();
        let tree = self.tree.as_ref().ok_or_else(|| no_tree(&self.root))?;
        // Before its containers: what a pod counts is then never more than what they count or have taken with them.
        let pod_kills: Vec<(Arc<str>, u64)> = places
            .pods
            .iter()
            .filter_map(|pod| {
                let kills = tree.pod_oom_kills(pod, &mut text)?;
                Some((Arc::from(pod.pod_uid.as_str()), kills))
            })
            .collect();
        let mut walk = Walk::default();
        let mut seen = HashSet::with_capacity(places.containers.len());
        for place in &places.containers {
            let known = self.containers.get(place.container_id.as_str());
            let before = known.filter(|known| known.is_fresh(now));
            let before = before.map(|known| &known.last.measures);
            let Some(measures) = tree.measure(place, before, &mut text) else {
                continue;
            };
            let container = match known {
                Some(known) => Arc::clone(&known.last.container),
                None => Arc::new(ContainerKey {
                    pod_uid: place.pod_uid.as_str().into(),
                    container_id: place.container_id.as_str().into(),
                }),
            };
            if seen.insert(Arc::clone(&container.container_id)) {
                walk.samples.push(ContainerSample {
                    at: now,
                    container,
                    measures,
                });
            }
        }
        for sample in &walk.samples {
            walk.proofs.extend(self.meet(sample));
        }
        walk.gone = self.part(&seen, now);
        self.settle_pods(&pod_kills, &mut walk, now);
        self.is_watching = true;
        Ok(walk)
    }

    fn places(&mut self, now: Timestamp) -> io::Result<Places> {
        let is_due = self
            .searched_at
            .is_none_or(|at| now < at || now.saturating_since(at) >= SEARCH_EVERY);
        if is_due {
            self.tree = Tree::find(&self.root);
            self.kubelets = self.tree.as_ref().map(Tree::search).unwrap_or_default();
            self.searched_at = Some(now);
        }
        let tree = self.tree.as_ref().ok_or_else(|| no_tree(&self.root))?;
        let mut places = Places::default();
        for kubelet in &self.kubelets {
            tree.list(kubelet, &mut places)?;
        }
        Ok(places)
    }

    /// Takes note of a container's measures; a proof if its kills grew.
    fn meet(&mut self, sample: &ContainerSample) -> Option<OomProof> {
        let kills = sample.measures.oom_kills;
        let id = &sample.container.container_id;
        let before = match self.containers.get(id) {
            Some(known) => known.last.measures.oom_kills,
            None if self.is_watching => Some(0),
            None => None,
        };
        let mut last = sample.clone();
        last.measures.oom_kills = kills.or(before);
        let read_at = match self.containers.get(id) {
            Some(known) if known.is_fresh(sample.at) => known.read_at,
            _ => sample.at,
        };
        let known = Known {
            last,
            read_at,
            gone_at: None,
        };
        self.containers.insert(Arc::clone(id), known);
        let (kills, before) = (kills?, before?);
        let grown = kills.checked_sub(before).filter(|grown| *grown > 0)?;
        let pod = self.pods.entry(Arc::clone(&sample.container.pod_uid));
        let pod = pod.or_default();
        pod.told = pod.told.saturating_add(grown);
        Some(proof(&sample.container, kills, sample.at))
    }

    /// The containers that were there and are not among `seen`; forgets those that are gone for long.
    fn part(&mut self, seen: &HashSet<Arc<str>>, now: Timestamp) -> Vec<ContainerSample> {
        let mut gone = Vec::new();
        self.containers.retain(|id, known| {
            if seen.contains(id) {
                return true;
            }
            let gone_at = *known.gone_at.get_or_insert_with(|| {
                gone.push(known.last.clone());
                now
            });
            now.saturating_since(gone_at) < REMEMBER
        });
        gone.sort_by(|a, b| a.container.container_id.cmp(&b.container.container_id));
        gone
    }

    /// Kills that a pod counts and none of its containers showed happened in one that is gone since. If only one is,
    /// that is a proof; else nobody can say.
    fn settle_pods(&mut self, pod_kills: &[(Arc<str>, u64)], walk: &mut Walk, now: Timestamp) {
        for (uid, kills) in pod_kills {
            let is_new = !self.pods.contains_key(uid);
            let pod = self.pods.entry(Arc::clone(uid)).or_default();
            if is_new && !self.is_watching {
                pod.told = *kills;
                continue;
            }
            let untold = kills.saturating_sub(pod.told);
            pod.told = pod.told.max(*kills);
            let mut gone = walk
                .gone
                .iter()
                .filter(|sample| sample.container.pod_uid == *uid);
            if untold > 0
                && let (Some(sample), None) = (gone.next(), gone.next())
            {
                let kills = sample
                    .measures
                    .oom_kills
                    .unwrap_or(0)
                    .saturating_add(untold);
                walk.proofs.push(proof(&sample.container, kills, now));
            }
        }
        let has_cgroup: HashSet<&Arc<str>> = pod_kills.iter().map(|(uid, _)| uid).collect();
        self.pods.retain(|uid, _| has_cgroup.contains(uid));
    }
}

impl Known {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.read_at <= now && now.saturating_since(self.read_at) < FRESH
    }
}

fn proof(container: &ContainerKey, kills: u64, at: Timestamp) -> OomProof {
    OomProof {
        pod_uid: Arc::clone(&container.pod_uid),
        container_id: Arc::clone(&container.container_id),
        container: "".into(),
        at,
        kills,
    }
}

fn no_tree(root: &std::path::Path) -> io::Error {
    let reason = format!(
        "no cgroup tree at {}: neither cgroup.controllers (v2) nor memory/ (v1) is there; mount the host's /sys/fs/cgroup",
        root.display()
    );
    io::Error::new(io::ErrorKind::NotFound, reason)
}
