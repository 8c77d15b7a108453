//! The events of the last hour: what was recorded already, and what was heard about each pod.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;
use tawny_model::{Timestamp, observed::KubeEvent};

/// How long an event may explain what happens: as long as API servers keep it (`--event-ttl`).
const KEEP: Duration = Duration::from_secs(60 * 60);

/// Events held, at some 700 bytes each: 14 MiB.
const MAX_EVENTS: usize = 20_000;

/// Events held about one object, the latest: what detection looks through each time.
const MAX_ABOUT: usize = 64;

/// Events by UID and by what they are about.
#[derive(Debug, Default)]
pub(super) struct Events {
    by_uid: FxHashMap<Arc<str>, KubeEvent>,
    /// In the order of their arrival.
    by_object: FxHashMap<Arc<str>, VecDeque<Arc<str>>>,
    by_arrival: BTreeMap<(Timestamp, u64), Arc<str>>,
    arrivals: FxHashMap<Arc<str>, (Timestamp, u64)>,
    n_arrived: u64,
}

impl Events {
    /// Keeps an event; `None` if it is known with this count or more.
    pub(super) fn put(&mut self, event: KubeEvent, now: Timestamp) -> Option<KubeEvent> {
        if self
            .by_uid
            .get(&event.uid)
            .is_some_and(|known| known.count >= event.count && known.at >= event.at)
        {
            return None;
        }
        let uid = Arc::clone(&event.uid);
        self.remove(&uid);
        let about = self
            .by_object
            .entry(Arc::clone(&event.object.uid))
            .or_default();
        about.push_back(Arc::clone(&uid));
        let crowded_out = (about.len() > MAX_ABOUT)
            .then(|| about.front().cloned())
            .flatten();
        self.n_arrived += 1;
        let arrival = (now, self.n_arrived);
        self.by_arrival.insert(arrival, Arc::clone(&uid));
        self.arrivals.insert(Arc::clone(&uid), arrival);
        self.by_uid.insert(uid, event.clone());
        if let Some(uid) = crowded_out {
            self.remove(&uid);
        }
        if self.by_uid.len() > MAX_EVENTS {
            self.remove_oldest();
        }
        Some(event)
    }

    /// The latest events about an object.
    pub(super) fn about(&self, uid: &str) -> Vec<KubeEvent> {
        let Some(about) = self.by_object.get(uid) else {
            return Vec::new();
        };
        let held = about.iter().filter_map(|uid| self.by_uid.get(uid));
        held.cloned().collect()
    }

    /// All that are held, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &KubeEvent> {
        self.by_uid.values()
    }

    pub(super) fn forget_old(&mut self, now: Timestamp) {
        while let Some(((arrived, _), _)) = self.by_arrival.first_key_value()
            && now.saturating_since(*arrived) > KEEP
        {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((_, uid)) = self.by_arrival.first_key_value() {
            self.remove(&Arc::clone(uid));
        }
    }

    fn remove(&mut self, uid: &Arc<str>) {
        let Some(event) = self.by_uid.remove(uid) else {
            return;
        };
        if let Some(arrival) = self.arrivals.remove(uid) {
            self.by_arrival.remove(&arrival);
        }
        if let Some(about) = self.by_object.get_mut(&event.object.uid) {
            about.retain(|other| other != uid);
            if about.is_empty() {
                self.by_object.remove(&event.object.uid);
            }
        }
    }
}
