//! The book of incidents: takes occurrences, however often they are seen, and tells what changed.
//!
//! One book has one owner. It is pure and bounded, and can be stored and restored at any point: what was counted
//! before is not counted again. At most [`MAX_INCIDENTS`] incidents (some 6 KiB each with full messages, 24 MiB) and
//! [`MAX_SEEN`] keys are held.

mod fingerprint;
mod incident;
mod seen;
mod storm;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tawny_model::Timestamp;

use crate::{Cause, Findings, Health, Marker, Occurrence, Scope, Severity};

pub use fingerprint::{Fingerprint, IncidentId};
pub use incident::{Incident, Quiet, RESOLVE_AFTER, STALE_AFTER, State};
pub use seen::MAX_SEEN;
pub use storm::{Digest, STORM_THRESHOLD, STORM_WINDOW};

use seen::Seen;
use storm::Storm;

/// Incidents held. Beyond it the longest resolved, then the longest untouched, is forgotten.
pub const MAX_INCIDENTS: usize = 4_096;

/// Things the index may name: more than all incidents together watch (64 pods and a workload each).
const MAX_SCOPES: usize = MAX_INCIDENTS * 66;

/// Within this time of its resolution an incident reopens; after it, the same trouble is a new one.
pub const REGRESS_WITHIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Incidents of a node's pods that opened this long before the node's own are taken for its first signs.
const ADOPT_WITHIN: Duration = Duration::from_secs(5 * 60);

/// What happened to an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    Opened(IncidentId),
    /// One more occurrence.
    Recurred(IncidentId),
    /// Resolved before, and there again.
    Regressed(IncidentId),
    /// Its occurrences reached 3, 10 or 50.
    Escalated {
        id: IncidentId,
        severity: Severity,
    },
    Resolved(IncidentId),
    /// It turned out to be part of another.
    Adopted {
        id: IncidentId,
        parent: IncidentId,
    },
    /// An occurrence counted in one incident is now better explained and counts in another.
    Moved {
        key: String,
        from: IncidentId,
        into: IncidentId,
    },
    /// Nothing is left in it: what it was about was planned, or is better explained elsewhere.
    Retracted(IncidentId),
    /// No longer held, because the book is full or it was resolved 7 days ago.
    Forgotten(IncidentId),
    StormBegan {
        at: Timestamp,
    },
    StormEnded(Digest),
}

/// All incidents, open and lately resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Book {
    incidents: BTreeMap<IncidentId, Incident>,
    seen: Seen,
    storm: Storm,
    /// The latest incident of each fingerprint.
    by_fingerprint: BTreeMap<Fingerprint, IncidentId>,
    /// Open incidents by what they are about.
    by_scope: BTreeMap<Scope, BTreeSet<IncidentId>>,
}

/// The book as it is stored; what can be derived is left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    incidents: Vec<Incident>,
    seen: Seen,
    storm: Storm,
}

impl Book {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn get(&self, id: IncidentId) -> Option<&Incident> {
        self.incidents.get(&id)
    }

    /// All incidents held, in the order of their ids.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    /// Takes in all that one look found.
    pub fn observe(&mut self, findings: Findings, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for occurrence in findings.occurrences {
            changes.extend(self.apply(occurrence, now));
        }
        for marker in &findings.markers {
            changes.extend(self.note(marker, now));
        }
        for (scope, health) in &findings.health {
            changes.extend(self.hear(scope, *health, now));
        }
        changes
    }

    /// Counts an occurrence, unless it was before.
    pub fn apply(&mut self, occurrence: Occurrence, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        let fingerprint = Fingerprint::of(&occurrence.subject, &occurrence.cause);
        let key = occurrence.key.clone();
        let counted_in = match self.find(&occurrence) {
            None => None,
            Some(None) => return changes,
            Some(Some(id)) => {
                let Some(incident) = self.incidents.get_mut(&id) else {
                    return changes;
                };
                if occurrence.cause.certainty() <= incident.cause().certainty()
                    || id.fingerprint == fingerprint
                {
                    incident.refresh(&occurrence);
                    return changes;
                }
                Some(id)
            }
        };
        if let Some(from) = counted_in {
            self.take_back(from, now, &mut changes);
        }
        let id = self.count(fingerprint, occurrence, now, &mut changes);
        if let Some(from) = counted_in {
            changes.push(Change::Moved {
                key,
                from,
                into: id,
            });
        }
        self.stay_within_bounds(&mut changes);
        changes
    }

    /// Takes note of something planned: the same thing, if it was counted as unexplained before, is taken back.
    pub fn note(&mut self, marker: &Marker, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(Some(id)) = self.seen.find(&marker.key) {
            let is_explained = self
                .incidents
                .get(&id)
                .is_none_or(|incident| incident.cause().certainty() > 1);
            if is_explained {
                return changes;
            }
            self.take_back(id, now, &mut changes);
        }
        self.seen.record(&marker.key, None);
        changes
    }

    /// Takes in how something does that incidents may be about.
    pub fn hear(&mut self, scope: &Scope, health: Health, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut ids = self.by_scope.remove(scope).unwrap_or_default();
        ids.retain(|id| {
            let Some(incident) = self.incidents.get_mut(id) else {
                return false;
            };
            if !incident.is_open() || !incident.is_about(scope) {
                return false;
            }
            incident.hear(scope, health, now);
            if incident.resolves_at().is_some_and(|at| at <= now) {
                incident.resolve(now);
                changes.push(Change::Resolved(*id));
                return false;
            }
            health != Health::Gone || incident.is_about(scope)
        });
        if !ids.is_empty() {
            self.by_scope.insert(scope.clone(), ids);
        }
        changes
    }

    /// Lets time pass: resolves what has been healthy long enough, ends a storm, forgets what is long over.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        let over: Vec<IncidentId> = self
            .incidents
            .values()
            .filter(|incident| incident.is_open())
            .filter(|incident| incident.resolves_at().is_some_and(|at| at <= now))
            .map(|incident| incident.id)
            .collect();
        for id in over {
            if let Some(incident) = self.incidents.get_mut(&id) {
                incident.resolve(now);
                changes.push(Change::Resolved(id));
            }
        }
        let old: Vec<IncidentId> = self
            .incidents
            .values()
            .filter(|incident| {
                incident
                    .resolved_at
                    .is_some_and(|at| now.saturating_since(at) > REGRESS_WITHIN)
            })
            .map(|incident| incident.id)
            .collect();
        for id in old {
            self.remove(id);
            changes.push(Change::Forgotten(id));
        }
        changes.extend(self.storm.tick(now).map(Change::StormEnded));
        changes
    }

    /// Resolves an incident because a person says so. It reopens with its next occurrence.
    pub fn resolve(&mut self, id: IncidentId, now: Timestamp) -> Vec<Change> {
        match self.incidents.get_mut(&id) {
            Some(incident) if incident.is_open() => {
                incident.resolve(now);
                vec![Change::Resolved(id)]
            }
            _ => Vec::new(),
        }
    }

    /// When [`Self::tick`] has something to do although nothing happens.
    pub fn next_tick(&self) -> Option<Timestamp> {
        self.incidents
            .values()
            .filter(|incident| incident.is_open())
            .filter_map(Incident::resolves_at)
            .chain(self.storm.ends_at())
            .min()
    }

    /// Where the occurrence is counted. A death without a runtime id is the same as one with, if pod, container and
    /// restart are: the status may name the id only later, or never.
    fn find(&mut self, occurrence: &Occurrence) -> Option<Option<IncidentId>> {
        if let Some(found) = self.seen.find(&occurrence.key) {
            return Some(found);
        }
        let instance = occurrence.instance()?;
        if instance == occurrence.key {
            self.seen.find(&with_id(&instance))
        } else {
            self.seen.find(&instance)
        }
    }

    fn record(&mut self, occurrence: &Occurrence, id: IncidentId) {
        self.seen.record(&occurrence.key, Some(id));
        if let Some(instance) = occurrence.instance()
            && instance != occurrence.key
        {
            self.seen.record(&with_id(&instance), Some(id));
        }
    }

    fn count(
        &mut self,
        fingerprint: Fingerprint,
        occurrence: Occurrence,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) -> IncidentId {
        let held = self
            .by_fingerprint
            .get(&fingerprint)
            .and_then(|id| self.incidents.get(id))
            .filter(|incident| {
                incident
                    .resolved_at
                    .is_none_or(|at| now.saturating_since(at) <= REGRESS_WITHIN)
            })
            .map(|incident| incident.id);
        match held {
            Some(id) => {
                self.record(&occurrence, id);
                self.recur(id, occurrence, now, changes);
                id
            }
            None => {
                let mut id = IncidentId::new(fingerprint, now);
                // One that is held but too old to reopen may have opened in the same second of a stopped clock.
                while self.incidents.contains_key(&id) {
                    id.opened_secs += 1;
                }
                self.record(&occurrence, id);
                self.open(id, occurrence, now, changes);
                id
            }
        }
    }

    fn recur(
        &mut self,
        id: IncidentId,
        occurrence: Occurrence,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) {
        let parent = self.parent_of(&occurrence, id);
        let Some(incident) = self.incidents.get_mut(&id) else {
            return;
        };
        let step = incident.add(occurrence, now);
        incident.parent = parent;
        let change = if incident.state == State::Regressed {
            Change::Regressed(id)
        } else {
            Change::Recurred(id)
        };
        changes.push(change);
        changes.extend(step.map(|severity| Change::Escalated { id, severity }));
        self.index(id);
    }

    fn open(
        &mut self,
        id: IncidentId,
        occurrence: Occurrence,
        now: Timestamp,
        changes: &mut Vec<Change>,
    ) {
        let mut incident = Incident::open(id, occurrence, now);
        incident.parent = self.parent_of(&incident.latest, id);
        if incident.quiet().is_none() {
            let (in_storm, begins) =
                self.storm
                    .opened(incident.cause().class(), incident.subject(), now);
            incident.in_storm = in_storm;
            if begins {
                changes.push(Change::StormBegan { at: now });
            }
        }
        changes.push(Change::Opened(id));
        self.by_fingerprint.insert(id.fingerprint, id);
        self.incidents.insert(id, incident);
        self.index(id);
        self.adopt(id, now, changes);
    }

    /// The open incident this occurrence follows from: its node's, or the trouble of its workload.
    fn parent_of(&self, occurrence: &Occurrence, own: IncidentId) -> Option<IncidentId> {
        if !occurrence.cause.follows_node() && !occurrence.cause.is_consequence() {
            return None;
        }
        self.incidents
            .values()
            .filter(|incident| incident.is_open() && incident.id != own)
            .find(|incident| follows(occurrence, &incident.latest))
            .map(|incident| incident.id)
    }

    /// Makes what follows from a newly opened incident a part of it.
    fn adopt(&mut self, parent: IncidentId, now: Timestamp, changes: &mut Vec<Change>) {
        let Some(cause) = self.incidents.get(&parent).map(|it| it.latest.clone()) else {
            return;
        };
        for incident in self.incidents.values_mut() {
            let is_recent = now.saturating_since(incident.opened_at) <= ADOPT_WITHIN
                || incident.cause().is_consequence();
            if incident.id != parent
                && incident.is_open()
                && incident.parent.is_none()
                && is_recent
                && follows(&incident.latest, &cause)
            {
                incident.parent = Some(parent);
                changes.push(Change::Adopted {
                    id: incident.id,
                    parent,
                });
            }
        }
    }

    fn take_back(&mut self, id: IncidentId, now: Timestamp, changes: &mut Vec<Change>) {
        let is_left = self
            .incidents
            .get_mut(&id)
            .is_none_or(|incident| incident.take_back(now));
        if !is_left {
            self.remove(id);
            changes.push(Change::Retracted(id));
        }
    }

    fn stay_within_bounds(&mut self, changes: &mut Vec<Change>) {
        while self.incidents.len() > MAX_INCIDENTS {
            let oldest = self
                .incidents
                .values()
                .min_by_key(|incident| (incident.is_open(), incident.updated_at, incident.id))
                .map(|incident| incident.id);
            let Some(id) = oldest else {
                return;
            };
            self.remove(id);
            changes.push(Change::Forgotten(id));
        }
    }

    fn remove(&mut self, id: IncidentId) {
        self.incidents.remove(&id);
        if self.by_fingerprint.get(&id.fingerprint) == Some(&id) {
            self.by_fingerprint.remove(&id.fingerprint);
        }
    }

    fn index(&mut self, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id) else {
            return;
        };
        let scopes = incident
            .watched
            .iter()
            .map(|(scope, _)| scope.clone())
            .chain(incident.subject().workload_scope());
        for scope in scopes {
            self.by_scope.entry(scope).or_default().insert(id);
        }
        self.clean_index();
    }

    /// The index is cleaned as things are heard of; what is never heard of again is cleaned away here.
    fn clean_index(&mut self) {
        if self.by_scope.len() <= MAX_SCOPES {
            return;
        }
        let incidents = &self.incidents;
        self.by_scope.retain(|scope, ids| {
            ids.retain(|id| {
                incidents
                    .get(id)
                    .is_some_and(|incident| incident.is_open() && incident.is_about(scope))
            });
            !ids.is_empty()
        });
    }
}

/// The name under which a death whose runtime id is known is also known by pod, container and restart.
fn with_id(instance: &str) -> String {
    format!("{instance}/with-id")
}

fn follows(occurrence: &Occurrence, other: &Occurrence) -> bool {
    let (own, its) = (&occurrence.subject, &other.subject);
    if own.cluster != its.cluster {
        return false;
    }
    if matches!(other.cause, Cause::Node { .. }) {
        return occurrence.cause.follows_node() && !own.node.is_empty() && own.node == its.node;
    }
    let is_same_pod = !own.pod_uid.is_empty() && own.pod_uid == its.pod_uid;
    let is_same_workload =
        own.workload.is_some() && own.workload == its.workload && own.namespace == its.namespace;
    occurrence.cause.is_consequence()
        && !other.cause.is_consequence()
        && (is_same_pod || is_same_workload)
}

impl From<Stored> for Book {
    fn from(stored: Stored) -> Self {
        let mut book = Self {
            seen: stored.seen,
            storm: stored.storm,
            ..Self::default()
        };
        for incident in stored.incidents {
            let id = incident.id;
            let is_open = incident.is_open();
            // In the order of ids, the later one of a fingerprint comes later.
            book.by_fingerprint.insert(id.fingerprint, id);
            book.incidents.insert(id, incident);
            if is_open {
                book.index(id);
            }
        }
        book
    }
}

impl From<Book> for Stored {
    fn from(book: Book) -> Self {
        Self {
            incidents: book.incidents.into_values().collect(),
            seen: book.seen,
            storm: book.storm,
        }
    }
}

#[cfg(test)]
mod tests;
