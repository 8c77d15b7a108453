//! Keeps the book of incidents and the bundles of their occurrences in a directory, and tells what changes.
//!
//! A bundle is written before the book that counts it. If the process dies in between, the bundle brings its occurrence
//! back: nothing that was frozen is lost, and nothing counts twice.

mod files;
mod load;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tawny_incident::{Book, Change, Findings, Incident, IncidentId, Occurrence};
use tawny_model::{ByteSize, Timestamp};
use tokio::sync::broadcast;

use crate::{
    Error,
    bundle::{Bundle, BundleName},
};
use files::Files;
use load::{Stored, VERSION, load};
pub use wanted::Wanted;

/// Changes a slow listener may lag behind before it is told that it missed some.
const CHANGES_KEPT: usize = 1_024;

/// How long, and how much of it, is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepLimits {
    /// Bundles older than this are deleted.
    pub max_age: Duration,
    /// The oldest bundles are deleted once all together are larger.
    pub max_bytes: ByteSize,
}

impl Default for KeepLimits {
    /// A quarter, and room for some ten thousand bundles with full last lines.
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(90 * 24 * 60 * 60),
            max_bytes: ByteSize::mib(512),
        }
    }
}

/// The incidents of a cluster. Cheap to clone; clones share the content.
#[derive(Clone)]
pub struct Incidents {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    files: Files,
    limits: KeepLimits,
    told: broadcast::Sender<Arc<Told>>,
    recovered: Mutex<Vec<Recovered>>,
    /// Held while the book is written: two writers would write into one file.
    saving: tokio::sync::Mutex<()>,
}

/// A bundle that a process left which died before it was done with it.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) bundle: Bundle,
    /// What its occurrence changed in the book, which nobody was told.
    pub(crate) changes: Vec<Change>,
}

#[derive(Debug, Default)]
struct State {
    book: Book,
    /// Of each bundle, its size in bytes.
    bundles: BTreeMap<BundleName, u64>,
    muted: BTreeMap<IncidentId, Timestamp>,
    /// Since when is watched at all, over all processes: what is older and not in the book was there before.
    watching_since: Timestamp,
    /// Bundles that are not complete, or of which nobody was told.
    unsealed: BTreeSet<BundleName>,
    /// Occurrences that are counted and of which nothing is written yet.
    n_unwritten: usize,
    n_changes: u64,
    n_saved: u64,
}

/// Something that changed, with what it is about as it is now.
#[derive(Debug, Clone)]
pub struct Told {
    pub change: Change,
    /// `None` when it is no longer held, or the change is about a storm.
    pub incident: Option<Incident>,
    /// Of the occurrence that is new, once its last lines are known.
    pub bundle: Option<Arc<Bundle>>,
    pub is_muted: bool,
}

impl Told {
    /// The incident it is about.
    pub fn id(&self) -> Option<IncidentId> {
        subject(&self.change)
    }
}

/// What was counted anew by one look.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Changes that are about no new occurrence.
    pub(crate) changes: Vec<Change>,
    /// New occurrences with where they count and what that changed.
    pub(crate) occurrences: Vec<(IncidentId, Occurrence, Vec<Change>)>,
}

impl fmt::Debug for Incidents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incidents")
            .field("n_incidents", &self.lock().book.incidents().count())
            .finish_non_exhaustive()
    }
}

impl Incidents {
    /// Opens the directory, which is made if it is not there, and what an earlier process left in it. A book that is
    /// damaged is put aside, and one is begun anew from the bundles.
    ///
    /// # Errors
    /// `Retry` when the directory cannot be read or made.
    pub async fn open(dir: PathBuf, limits: KeepLimits, now: Timestamp) -> Result<Self, Error> {
        let files = Files::open(dir).await?;
        let (state, recovered) = load(&files, now).await?;
        Ok(Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                files,
                limits,
                told: broadcast::Sender::new(CHANGES_KEPT),
                recovered: Mutex::new(recovered),
                saving: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Takes in what another process, which wrote to the same directory, left there.
    ///
    /// # Errors
    /// `Retry` when the directory cannot be read.
    pub(crate) async fn reload(&self, now: Timestamp) -> Result<(), Error> {
        let (state, recovered) = load(&self.shared.files, now).await?;
        *self.lock() = state;
        *self.recovered() = recovered;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every update leaves book and index whole, so a panic elsewhere while locked does no harm.
        (self.shared.state)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The incidents that are wanted, those that changed last first.
    pub fn list(&self, wanted: &Wanted, limit: usize) -> Vec<Incident> {
        let state = self.lock();
        let mut found: Vec<&Incident> = (state.book.incidents())
            .filter(|incident| wanted.takes(incident))
            .collect();
        found.sort_by_key(|incident| std::cmp::Reverse((incident.last_at, incident.id)));
        found.into_iter().take(limit).cloned().collect()
    }

    pub fn get(&self, id: IncidentId) -> Option<Incident> {
        self.lock().book.get(id).cloned()
    }

    /// The one incident whose id begins so.
    ///
    /// # Errors
    /// `Reject` when there is none, or more than one.
    pub fn find(&self, prefix: &str) -> Result<Incident, Error> {
        let state = self.lock();
        let mut found =
            (state.book.incidents()).filter(|incident| incident.id.to_string().starts_with(prefix));
        match (found.next(), found.count()) {
            (Some(incident), 0) => Ok(incident.clone()),
            (None, _) => Err(Error::NoIncident {
                id: prefix.to_owned(),
            }),
            (Some(_), more) => Err(Error::AmbiguousId {
                id: prefix.to_owned(),
                n_found: more + 1,
            }),
        }
    }

    /// The bundles of an incident, the oldest first.
    pub fn bundles(&self, id: IncidentId) -> Vec<BundleName> {
        let state = self.lock();
        let names = state.bundles.keys().filter(|name| name.incident == id);
        names.copied().collect()
    }

    /// Reads a bundle.
    ///
    /// # Errors
    /// `Retry` when it is gone or cannot be read; `Quarantine` when it is damaged.
    pub async fn load_bundle(&self, name: BundleName) -> Result<Bundle, Error> {
        self.shared.files.load_bundle(name).await
    }

    /// Until when nobody is told of an incident.
    pub fn muted_until(&self, id: IncidentId) -> Option<Timestamp> {
        self.lock().muted.get(&id).copied()
    }

    /// Resolves an incident by hand; whether it was open.
    ///
    /// # Errors
    /// `Reject` when there is no such incident; `Retry` when that cannot be saved.
    pub async fn resolve(&self, id: IncidentId, now: Timestamp) -> Result<bool, Error> {
        let changes = {
            let mut state = self.lock();
            state.known(id)?;
            let changes = state.book.resolve(id, now);
            state.n_changes += 1;
            changes
        };
        let is_resolved = !changes.is_empty();
        self.tell(changes, None, now);
        self.save(now).await?;
        Ok(is_resolved)
    }

    /// Tells nobody of an incident until `until`; a time that is past lifts it.
    ///
    /// # Errors
    /// `Reject` when there is no such incident; `Retry` when that cannot be saved.
    pub async fn mute(
        &self,
        id: IncidentId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        {
            let mut state = self.lock();
            state.known(id)?;
            state.muted.retain(|_, until| *until > now);
            if until > now {
                state.muted.insert(id, until);
            } else {
                state.muted.remove(&id);
            }
            state.n_changes += 1;
        }
        self.save(now).await
    }

    /// Every change from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Told>> {
        self.shared.told.subscribe()
    }

    /// Since when is watched at all.
    pub(crate) fn watching_since(&self) -> Timestamp {
        self.lock().watching_since
    }

    /// What an earlier process was not done with; once.
    pub(crate) fn take_recovered(&self) -> Vec<Recovered> {
        std::mem::take(&mut *self.recovered())
    }

    fn recovered(&self) -> MutexGuard<'_, Vec<Recovered>> {
        let recovered = self.shared.recovered.lock();
        recovered.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a look found.
    pub(crate) fn observe(&self, findings: Findings, now: Timestamp) -> News {
        let Findings {
            occurrences,
            markers,
            health,
            recheck_at: _,
        } = findings;
        let mut news = News::default();
        let mut state = self.lock();
        for occurrence in occurrences {
            let changes = state.book.apply(occurrence.clone(), now);
            match changes.iter().find_map(counts_in) {
                Some(id) => {
                    state.n_unwritten += 1;
                    news.occurrences.push((id, occurrence, changes));
                }
                None => news.changes.extend(changes),
            }
        }
        for marker in &markers {
            news.changes.extend(state.book.note(marker, now));
        }
        for (scope, health) in &health {
            news.changes.extend(state.book.hear(scope, *health, now));
        }
        // Health is heard at each look and rarely changes anything; its times are saved with the next change.
        state.n_changes += u64::from(!news.changes.is_empty() || !news.occurrences.is_empty());
        news
    }

    /// Counts an occurrence again, of which more is known now.
    pub(crate) fn refresh(&self, occurrence: Occurrence, now: Timestamp) {
        let mut state = self.lock();
        state.book.apply(occurrence, now);
        state.n_changes += 1;
    }

    /// Lets time pass in the book.
    pub(crate) fn tick(&self, now: Timestamp) -> Vec<Change> {
        let mut state = self.lock();
        let changes = state.book.tick(now);
        state.n_changes += u64::from(!changes.is_empty());
        changes
    }

    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        self.lock().book.next_tick()
    }

    /// Tells listeners, each change with its incident as it is now.
    pub(crate) fn tell(&self, changes: Vec<Change>, bundle: Option<&Arc<Bundle>>, now: Timestamp) {
        let told: Vec<Told> = {
            let state = self.lock();
            let about = |change: Change| {
                let id = subject(&change);
                Told {
                    incident: id.and_then(|id| state.book.get(id).cloned()),
                    bundle: bundle.filter(|bundle| Some(bundle.incident) == id).cloned(),
                    is_muted: id
                        .and_then(|id| state.muted.get(&id))
                        .is_some_and(|until| *until > now),
                    change,
                }
            };
            changes.into_iter().map(about).collect()
        };
        for told in told {
            // Fails only while nobody listens.
            drop(self.shared.told.send(Arc::new(told)));
        }
    }

    /// Writes a bundle of [`Self::observe`] durably for the first time. The book waits for it, and no longer when it
    /// cannot be written.
    ///
    /// # Errors
    /// `Retry` when it cannot be written.
    pub(crate) async fn freeze(&self, bundle: &Bundle) -> Result<(), Error> {
        let written = self.rewrite(bundle).await;
        self.lock().n_unwritten -= 1;
        written
    }

    /// Writes a bundle durably, in place of an earlier one of the same occurrence.
    ///
    /// # Errors
    /// `Retry` when it cannot be written.
    pub(crate) async fn rewrite(&self, bundle: &Bundle) -> Result<(), Error> {
        let name = bundle.name();
        let n_bytes = self.shared.files.save_bundle(bundle).await?;
        let mut state = self.lock();
        state.bundles.insert(name, n_bytes);
        if bundle.is_sealed && bundle.untold.is_empty() {
            state.unsealed.remove(&name);
        } else {
            state.unsealed.insert(name);
        }
        state.n_changes += 1;
        Ok(())
    }

    /// Deletes the bundle of an incident that is no more.
    pub(crate) async fn discard(&self, name: BundleName) {
        if let Err(error) = self.shared.files.remove_bundle(name).await {
            tracing::warn!(%error, "cannot delete the bundle of an incident that is none");
        }
        let mut state = self.lock();
        state.bundles.remove(&name);
        state.unsealed.remove(&name);
    }

    /// Whether the book counts something of which nothing is written yet: a crash would leave it without a bundle.
    pub(crate) fn is_freezing(&self) -> bool {
        self.lock().n_unwritten > 0
    }

    /// Whether the book has changed since it was saved.
    pub(crate) fn is_changed(&self) -> bool {
        let state = self.lock();
        state.n_changes != state.n_saved
    }

    /// Writes the book durably.
    ///
    /// # Errors
    /// `Retry` when it cannot be written.
    pub(crate) async fn save(&self, now: Timestamp) -> Result<(), Error> {
        let _turn = self.shared.saving.lock().await;
        let (stored, n_changes) = {
            let state = self.lock();
            let stored = Stored {
                version: VERSION,
                saved_at: now,
                book: state.book.clone(),
                muted: state.muted.clone(),
                watching_since: state.watching_since,
                unsealed: state.unsealed.iter().map(ToString::to_string).collect(),
            };
            (stored, state.n_changes)
        };
        self.shared.files.save_book(stored).await?;
        let mut state = self.lock();
        state.n_saved = state.n_saved.max(n_changes);
        Ok(())
    }

    /// Deletes bundles that are too old or too many, the oldest first; how many went.
    pub(crate) async fn apply_limits(&self, now: Timestamp) -> usize {
        let over: BTreeSet<BundleName> = {
            let state = self.lock();
            let limits = &self.shared.limits;
            let oldest = now.saturating_sub(limits.max_age).as_millis();
            let mut by_age: Vec<(&BundleName, &u64)> = state.bundles.iter().collect();
            by_age.sort_by_key(|(name, _)| name.at_millis);
            let mut n_bytes: u64 = state.bundles.values().sum();
            by_age
                .into_iter()
                .take_while(|(name, size)| {
                    let is_over = name.at_millis < oldest || n_bytes > limits.max_bytes.as_bytes();
                    n_bytes -= **size;
                    is_over
                })
                .map(|(name, _)| *name)
                .collect()
        };
        for name in &over {
            if let Err(error) = self.shared.files.remove_bundle(*name).await {
                tracing::warn!(%error, "cannot delete an old bundle");
            }
            self.lock().bundles.remove(name);
        }
        over.len()
    }
}

/// Where a new occurrence counts, if the change tells of one.
fn counts_in(change: &Change) -> Option<IncidentId> {
    match change {
        Change::Opened(id) | Change::Recurred(id) | Change::Regressed(id) => Some(*id),
        Change::Moved { into, .. } => Some(*into),
        _ => None,
    }
}

/// Which incident a change is about.
pub(crate) fn subject(change: &Change) -> Option<IncidentId> {
    match change {
        Change::Opened(id)
        | Change::Recurred(id)
        | Change::Regressed(id)
        | Change::Resolved(id)
        | Change::Retracted(id)
        | Change::Forgotten(id)
        | Change::Escalated { id, .. }
        | Change::Adopted { id, .. } => Some(*id),
        Change::Moved { into, .. } => Some(*into),
        _ => None,
    }
}

impl State {
    fn known(&self, id: IncidentId) -> Result<(), Error> {
        match self.book.get(id) {
            Some(_) => Ok(()),
            None => Err(Error::NoIncident { id: id.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests;
