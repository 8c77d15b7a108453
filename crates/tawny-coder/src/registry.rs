//! What is known of each pod and ReplicaSet with an agent, and what is to be told of it: a state machine without I/O.
//!
//! Keyed by UID, so that one name in two namespaces, or used twice, is never mistaken. A relist, a restart of a watch and,
//! with a [`Snapshot`], a restart of the process tell nothing twice.

mod seen;
mod snapshot;

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};
use tawny_model::{Secret, Timestamp};

pub use seen::{EventSeen, Kind, Look, Seen};
pub use snapshot::{Remembered, Snapshot};

use crate::{
    lines::Line,
    reasons::{Death, Told, take_new},
    tokens::{self, Wanted},
};

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Find the tokens and call [`Registry::resolved`]; those in `refused` do not count.
    Resolve {
        uid: String,
        namespace: String,
        wanted: Vec<Wanted>,
        refused: Vec<Secret>,
    },
    /// Stop looking for tokens.
    Abandon { uid: String },
    /// Give an agent a line.
    Send { token: Secret, line: Line },
    /// Deliver what is left for an agent soon, and begin anew with its next line (CL-24).
    Close { token: Secret },
    /// Read the end of a dead container's log and call [`Registry::tell`]; `at` is when it died.
    ReadLog {
        uid: String,
        namespace: String,
        pod: String,
        death: Death,
        at: Timestamp,
    },
    /// Lines that no agent will get, for the count.
    Lose { n_lines: usize },
}

/// How an object came to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// In the first list of a watch, which holds what was there before.
    FirstList,
    /// Later.
    Live,
}

/// How far the API server's clock may run behind this machine's before a new object is taken for an old one.
const MAX_SKEW: std::time::Duration = std::time::Duration::from_secs(300);

/// Lines held for an object whose token is still looked for. More than a pod has events before it starts.
const MAX_HELD: usize = 64;

/// Events of objects not seen yet: the watches run side by side, and an event may overtake its pod. Most are of pods
/// without an agent and go by; a burst of 1,000 at 200 B is 200 KiB.
const MAX_STRAYS: usize = 1_000;

/// How long an event waits for its object.
const STRAY_LIFE: std::time::Duration = std::time::Duration::from_secs(30);

/// All objects with an agent.
#[derive(Debug)]
pub struct Registry {
    /// What existed by then is not news.
    since: Timestamp,
    objects: FxHashMap<String, Object>,
    /// Of the run before, not seen in this one yet.
    remembered: BTreeMap<String, Remembered>,
    strays: VecDeque<(Timestamp, EventSeen)>,
    n_changes: u64,
}

#[derive(Debug)]
struct Object {
    kind: Kind,
    namespace: String,
    name: String,
    watch: usize,
    wanted: Vec<Wanted>,
    tokens: Vec<Secret>,
    refused: Vec<Secret>,
    is_resolving: bool,
    held: Vec<Line>,
    is_remembered: bool,
    /// Looked for tokens where any pod's variables may come from, and found none: known only so as not to look again.
    is_stranger: bool,
    told: Told,
    /// Highest count told of each event, by the event's UID.
    events: BTreeMap<String, u32>,
}

impl Registry {
    /// `started`: objects and events of then and before produce no lines of their own (CL-14).
    pub fn new(started: Timestamp) -> Self {
        Self {
            since: started,
            objects: FxHashMap::default(),
            remembered: BTreeMap::new(),
            strays: VecDeque::new(),
            n_changes: 0,
        }
    }

    /// Goes on where a run before stopped.
    pub fn resume(snapshot: Snapshot) -> Self {
        let Snapshot {
            version: _,
            taken_at,
            objects,
        } = snapshot;
        Self {
            remembered: objects,
            ..Self::new(taken_at)
        }
    }

    /// All that a later run needs to repeat nothing; no tokens.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let ours = (self.objects.iter()).filter(|(_, object)| !object.is_stranger);
        let live = ours.map(|(uid, object)| {
            let remembered = Remembered {
                told: object.told.clone(),
                events: object.events.clone(),
            };
            (uid.clone(), remembered)
        });
        Snapshot {
            version: snapshot::VERSION,
            taken_at: now,
            objects: (self.remembered.clone().into_iter()).chain(live).collect(),
        }
    }

    /// Rises with each change that a snapshot would show.
    pub fn n_changes(&self) -> u64 {
        self.n_changes
    }

    /// An object as a watch shows it now. `watch` is which one, so that a list of one says nothing of another's objects.
    pub fn apply(&mut self, seen: Seen, watch: usize, sight: Sight, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        let Seen {
            uid,
            kind,
            namespace,
            name,
            created,
            wanted,
            reasons,
        } = seen;
        if let Some(object) = self.objects.get_mut(&uid) {
            object.watch = watch;
            if object.is_stranger {
                return actions;
            }
            let before = object.told.clone();
            let new = take_new(reasons, &mut object.told);
            self.n_changes += u64::from(before != object.told);
            for reason in new {
                object.tell([reason.line.clone()], &mut actions);
                actions.extend(object.read_log(&uid, reason.death, reason.line.created_at));
            }
            return actions;
        }
        if wanted.is_empty() {
            return actions;
        }
        self.n_changes += 1;
        let remembered = self.remembered.remove(&uid);
        let is_remembered = remembered.is_some();
        let is_new = !is_remembered
            && match (sight, created) {
                (Sight::FirstList, Some(created)) => created > self.since,
                (Sight::FirstList, None) => false,
                (Sight::Live, Some(created)) => created.saturating_add(MAX_SKEW) > self.since,
                (Sight::Live, None) => true,
            };
        let Remembered { told, events } = remembered.unwrap_or_default();
        let resolved = tokens::holders(&wanted)
            .is_empty()
            .then(|| tokens::resolve(&wanted, &BTreeMap::new()).tokens);
        let mut object = Object {
            kind,
            namespace,
            name,
            watch,
            wanted,
            is_resolving: resolved.is_none(),
            tokens: resolved.unwrap_or_default(),
            refused: Vec::new(),
            held: Vec::new(),
            is_remembered,
            is_stranger: false,
            told,
            events,
        };
        if object.is_resolving {
            actions.push(object.resolve(&uid));
        }
        if is_new {
            let line = Line::created(object.kind, &object.name, created.unwrap_or(now));
            object.tell([line], &mut actions);
        }
        let new = take_new(reasons, &mut object.told);
        if is_new || is_remembered {
            let mut early = Vec::new();
            self.strays.retain(|(_, event)| {
                let is_of = event.is_about(&uid, &object);
                if is_of {
                    early.push(event.clone());
                }
                !is_of
            });
            for event in early {
                object.event(event, &mut actions);
            }
            for reason in new {
                object.tell([reason.line.clone()], &mut actions);
                actions.extend(object.read_log(&uid, reason.death, reason.line.created_at));
            }
        }
        self.objects.insert(uid, object);
        actions
    }

    /// An object is gone (CL-16, CL-18), whether its end was seen or is only known from its absence.
    pub fn delete(&mut self, uid: &str, now: Timestamp) -> Vec<Action> {
        self.remembered.remove(uid);
        let Some(mut object) = self.objects.remove(uid) else {
            return Vec::new();
        };
        self.n_changes += 1;
        let mut actions = Vec::new();
        if object.is_resolving {
            actions.push(Action::Abandon {
                uid: uid.to_owned(),
            });
        }
        if object.tokens.is_empty() {
            actions.extend(object.lose_held());
            return actions;
        }
        let line = Line::deleted(object.kind, &object.name, now);
        object.tell([line], &mut actions);
        actions.extend((object.tokens.into_iter()).map(|token| Action::Close { token }));
        actions
    }

    /// A complete list of one kind in one watch: what it does not name is gone.
    pub fn keep_only(
        &mut self,
        kind: Kind,
        watch: usize,
        listed: &FxHashSet<String>,
        now: Timestamp,
    ) -> Vec<Action> {
        let mut gone: Vec<String> = (self.objects.iter())
            .filter(|(uid, object)| {
                object.kind == kind && object.watch == watch && !listed.contains(*uid)
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        gone.sort_unstable();
        gone.iter().flat_map(|uid| self.delete(uid, now)).collect()
    }

    /// Every watch has listed its objects: what was remembered and did not show up went while nobody looked. Its token
    /// went with it, so there is nobody to tell.
    pub fn forget_unlisted(&mut self) {
        self.n_changes += u64::from(!self.remembered.is_empty());
        self.remembered.clear();
    }

    /// A Kubernetes event, new or repeated.
    pub fn event(&mut self, event: EventSeen, sight: Sight, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        let is_old = sight == Sight::FirstList && event.at <= self.since;
        let known = if event.about_uid.is_empty() {
            (self.objects.iter_mut())
                .find(|(uid, object)| event.is_about(uid, object))
                .map(|(_, object)| object)
        } else {
            self.objects.get_mut(&event.about_uid)
        };
        match known {
            Some(object) if object.is_stranger => {}
            Some(object) if is_old && !object.is_remembered => {
                object.events.insert(event.uid, event.count);
                self.n_changes += 1;
            }
            Some(object) => self.n_changes += u64::from(object.event(event, &mut actions)),
            None if is_old => {}
            None => {
                self.strays.push_back((now, event));
                while self.strays.len() > MAX_STRAYS
                    || (self.strays.front())
                        .is_some_and(|(since, _)| now.saturating_since(*since) > STRAY_LIFE)
                {
                    self.strays.pop_front();
                }
            }
        }
        actions
    }

    /// An event expired: its count need not be known any longer.
    pub fn event_expired(&mut self, about_uid: &str, event_uid: &str) {
        if let Some(object) = self.objects.get_mut(about_uid) {
            self.n_changes += u64::from(object.events.remove(event_uid).is_some());
        }
    }

    /// A complete list of one watch's events: those it does not name have expired.
    pub fn keep_only_events(&mut self, watch: usize, listed: &FxHashSet<String>) {
        for object in (self.objects.values_mut()).filter(|object| object.watch == watch) {
            let before = object.events.len();
            object.events.retain(|uid, _| listed.contains(uid));
            self.n_changes += u64::from(object.events.len() != before);
        }
    }

    /// The tokens asked for with [`Action::Resolve`] are found, or it is certain that there are none.
    pub fn resolved(&mut self, uid: &str, tokens: Vec<Secret>) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(object) = self.objects.get_mut(uid) else {
            return actions;
        };
        object.is_resolving = false;
        for token in tokens {
            if !object.tokens.contains(&token) && !object.refused.contains(&token) {
                object.tokens.push(token);
            }
        }
        if object.tokens.is_empty() {
            actions.extend(object.lose_held());
            if !object.is_named() {
                object.is_stranger = true;
                object.wanted = Vec::new();
                object.told = Told::new();
                object.events = BTreeMap::new();
                self.n_changes += 1;
            }
        }
        let held = std::mem::take(&mut object.held);
        object.tell(held, &mut actions);
        actions
    }

    /// More lines about an object, such as the end of a log.
    pub fn tell(&mut self, uid: &str, lines: Vec<Line>) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.objects.get_mut(uid) {
            Some(object) => object.tell(lines, &mut actions),
            None => actions.push(Action::Lose {
                n_lines: lines.len(),
            }),
        }
        actions
    }

    /// Coder does not know the token (401), and did not take `lines`. Where it came from a secret or config map, that is
    /// looked at again: it may have changed, or been read too early.
    pub fn refused(&mut self, token: &Secret, lines: Vec<Line>) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut held = Some(lines);
        for (uid, object) in &mut self.objects {
            if !object.tokens.contains(token) || tokens::holders(&object.wanted).is_empty() {
                continue;
            }
            object.tokens.retain(|known| known != token);
            object.refused.push(token.clone());
            if !std::mem::replace(&mut object.is_resolving, true) {
                actions.push(object.resolve(uid));
            }
            // Two objects with one token have one agent, which is told once.
            object.tell(held.take().unwrap_or_default(), &mut actions);
        }
        if let Some(lines) = held.filter(|lines| !lines.is_empty()) {
            actions.push(Action::Lose {
                n_lines: lines.len(),
            });
        }
        actions
    }
}

impl Object {
    /// Gives lines to each agent (CL-10), or holds them until one is known.
    fn tell(&mut self, lines: impl IntoIterator<Item = Line>, actions: &mut Vec<Action>) {
        for line in lines {
            if self.tokens.is_empty() && self.is_resolving {
                if self.held.len() < MAX_HELD {
                    self.held.push(line);
                } else if self.is_named() {
                    actions.push(Action::Lose { n_lines: 1 });
                }
                continue;
            }
            actions.extend(self.tokens.iter().map(|token| Action::Send {
                token: token.clone(),
                line: line.clone(),
            }));
        }
    }

    /// Whether it is to have a token, rather than might.
    fn is_named(&self) -> bool {
        self.wanted.iter().any(Wanted::is_named)
    }

    /// Gives up what no token was found for. Lines of a stranger were none of ours.
    fn lose_held(&mut self) -> Option<Action> {
        let n_lines = std::mem::take(&mut self.held).len();
        (n_lines > 0 && self.is_named()).then_some(Action::Lose { n_lines })
    }

    /// Tells an event unless it was; whether it was not.
    fn event(&mut self, event: EventSeen, actions: &mut Vec<Action>) -> bool {
        let told = self.events.entry(event.uid.clone()).or_insert(0);
        if *told >= event.count {
            return false;
        }
        *told = event.count;
        self.tell([event.line()], actions);
        true
    }

    fn resolve(&self, uid: &str) -> Action {
        Action::Resolve {
            uid: uid.to_owned(),
            namespace: self.namespace.clone(),
            wanted: self.wanted.clone(),
            refused: self.refused.clone(),
        }
    }

    fn read_log(&self, uid: &str, death: Option<Death>, at: Timestamp) -> Option<Action> {
        death.map(|death| Action::ReadLog {
            uid: uid.to_owned(),
            namespace: self.namespace.clone(),
            pod: self.name.clone(),
            death,
            at,
        })
    }
}

impl EventSeen {
    /// By UID; an event without one, as some controllers write them, by kind and name (CL-19).
    fn is_about(&self, uid: &str, object: &Object) -> bool {
        if self.about_uid.is_empty() {
            self.kind == object.kind
                && self.namespace == object.namespace
                && self.name == object.name
        } else {
            self.about_uid == uid
        }
    }
}

#[cfg(test)]
mod tests;
