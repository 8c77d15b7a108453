//! The catalog: which segments the table has, kept in the Delta log, so that any Delta reader sees what we see.
//!
//! The Delta library reads the log and writes checkpoints; commits are written here, as reading the whole log for each
//! would cost more than the commit. Each commit says what the table holds after it, and opening compares.

mod clean;
mod commit;
mod log;
mod path;
mod replay;
mod schema;
mod state;
mod verify;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tawny_runtime::SharedClock;

pub(crate) use self::{
    path::{Day, SegmentPath},
    schema::attribute_column,
    state::{SegmentFile, State},
    verify::verify_log,
};
use super::files::Storage;
use crate::{Error, group::lock};

/// Commits between checkpoints: opening replays at most these, and a commit of the table costs a file of 1 kB.
const CHECKPOINT_COMMITS: u64 = 50;

/// Lost races for a version before a commit gives up; each means that another writer got on.
const MAX_RACES: usize = 50;

/// What one commit does, all of it or nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    /// Written and durable; their paths came from [`Catalog::new_path`].
    pub(crate) add: Vec<SegmentFile>,
    pub(crate) remove: Vec<SegmentPath>,
    /// The last WAL record that the added segments contain; must grow.
    pub(crate) applied: Option<u64>,
    /// Keys of attributes that get a column of their own; those that have one already are fine.
    pub(crate) new_attributes: Vec<String>,
    /// Whether the table's rows change; not so when segments are merged.
    pub(crate) data_change: bool,
}

/// What became of a change.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Committed(Arc<State>),
    /// Somebody else removed these first, so what was made of them must not be added. Nothing was committed.
    Stale {
        state: Arc<State>,
        gone: Vec<SegmentPath>,
    },
}

/// The table's log, and its state in memory.
///
/// Calls block. Commits wait for each other; checkpoints and cleaning run beside them.
#[derive(Debug)]
pub(crate) struct Catalog {
    storage: Storage,
    clock: SharedClock,
    /// Tells our commits and files from those of any other process.
    writer: u64,
    n_paths: AtomicU64,
    committing: Mutex<()>,
    state: Mutex<Arc<State>>,
    /// Written or being written, and in no commit yet: not to be cleaned away.
    pending: Mutex<BTreeSet<SegmentPath>>,
    checkpointed: AtomicU64,
}

impl Catalog {
    /// Opens the table, which is made when missing.
    ///
    /// # Errors
    /// `Quarantine` naming the file when the log is damaged, `Reject` when the table is not ours or needs a newer Tawny,
    /// `Retry` when the storage fails.
    pub(crate) fn open(storage: Storage, clock: SharedClock) -> Result<(Self, Arc<State>), Error> {
        let writer = random();
        let replayed = match replay::load(&storage)? {
            Some(replayed) => replayed,
            None => {
                let first = commit::first(clock.now(), writer)?;
                // Losing the race is fine: then the table is there.
                storage.put_new(&log::commit_path(0), first.into())?;
                replay::load(&storage)?.ok_or_else(|| Error::Damaged {
                    path: PathBuf::from(storage.place(log::DIRECTORY)),
                    reason: "the log was written and is gone".to_owned(),
                })?
            }
        };
        let state = Arc::new(replayed.state);
        let catalog = Self {
            n_paths: AtomicU64::new(state.last_path_number()),
            storage,
            clock,
            writer,
            committing: Mutex::default(),
            state: Mutex::new(Arc::clone(&state)),
            pending: Mutex::default(),
            checkpointed: AtomicU64::new(replayed.checkpoint.unwrap_or(0)),
        };
        Ok((catalog, state))
    }

    /// What the table holds, for one who only looks; `None` where there is no table.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn look(storage: &Storage) -> Result<Option<State>, Error> {
        Ok(replay::load(storage)?.map(|replayed| replayed.state))
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&lock(&self.state))
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// A name that no file of the table had or will have. The file is safe from cleaning until its commit, or
    /// until it is discarded.
    pub(crate) fn new_path(&self, day: Day) -> SegmentPath {
        let number = self.n_paths.fetch_add(1, Ordering::Relaxed) + 1;
        let path = SegmentPath::new(day, number, self.writer);
        lock(&self.pending).insert(path.clone());
        path
    }

    /// Gives up a new path whose commit may have happened: a cleaning looks whether it did.
    pub(crate) fn abandon(&self, path: &SegmentPath) {
        lock(&self.pending).remove(path);
    }

    /// Gives up a new path, and deletes what was written there.
    pub(crate) fn discard(&self, path: &SegmentPath) -> Result<(), Error> {
        // First: what cannot be deleted now is deleted by a cleaning.
        lock(&self.pending).remove(path);
        if !self.state().segments.contains_key(path) {
            self.storage.delete(path.as_str())?;
        }
        Ok(())
    }

    /// Commits a change. Durable on return.
    ///
    /// Other writers may commit between: their change is taken in, and ours follows where that is safe.
    ///
    /// # Errors
    /// `StandDown` when another Tawny writes to this table; `Reject` when the change contradicts the table; `Retry` when
    /// the storage fails: then the same change may be tried again, or the table opened anew, but no other change with
    /// these rows.
    pub(crate) fn commit(&self, change: &Change) -> Result<Outcome, Error> {
        let _turn = lock(&self.committing);
        let mut state = self.state();
        for _ in 0..MAX_RACES {
            let fitted = match commit::fit(change, &state, &self.storage)? {
                commit::Fit::Ready(fitted) => fitted,
                commit::Fit::Nothing => return Ok(Outcome::Committed(state)),
                commit::Fit::Stale(gone) => return Ok(Outcome::Stale { state, gone }),
            };
            let now = self.clock.now();
            let next = state.after(&fitted, now);
            let bytes = commit::encode(&fitted, &next, now, self.writer);
            if self.write(&log::commit_path(next.version), bytes)? {
                let next = Arc::new(next);
                self.publish(&next, change);
                return Ok(Outcome::Committed(next));
            }
            let found = self.reload()?;
            if commit::is_in(change, &found) {
                // An earlier try of ours, whose answer was lost.
                self.publish(&found, change);
                return Ok(Outcome::Committed(found));
            }
            state = self.adopt(found)?;
        }
        Err(Error::Io {
            path: PathBuf::from(self.storage.place(log::DIRECTORY)),
            doing: "every try to commit lost against another writer",
            source: "too many writers".into(),
        })
    }

    /// Writes a commit file; `false` when another writer has that version.
    fn write(&self, path: &str, bytes: Vec<u8>) -> Result<bool, Error> {
        let bytes = bytes::Bytes::from(bytes);
        match self.storage.put_new(path, bytes.clone()) {
            Ok(true) => Ok(true),
            // The answer of a put can get lost, and the library repeat it.
            Ok(false) => Ok(self.storage.get(path)? == Some(bytes)),
            Err(error) => {
                if self
                    .storage
                    .get(path)
                    .is_ok_and(|found| found.as_ref() == Some(&bytes))
                {
                    // Visible, but perhaps not yet durable.
                    self.storage.put(path, bytes)?;
                    return Ok(true);
                }
                Err(error)
            }
        }
    }

    fn publish(&self, state: &Arc<State>, change: &Change) {
        *lock(&self.state) = Arc::clone(state);
        let mut pending = lock(&self.pending);
        for segment in &change.add {
            pending.remove(&segment.path);
        }
    }

    /// The newest state, from the log when another writer was there.
    fn reload(&self) -> Result<Arc<State>, Error> {
        let state = self.state();
        if self
            .storage
            .get(&log::commit_path(state.version + 1))?
            .is_none()
        {
            return Ok(state);
        }
        let replayed = replay::load(&self.storage)?.ok_or_else(|| Error::Damaged {
            path: PathBuf::from(self.storage.place(log::DIRECTORY)),
            reason: "the log is gone".to_owned(),
        })?;
        Ok(Arc::new(replayed.state))
    }

    /// Takes in what other writers committed, unless one of them was a Tawny. Only with the turn to commit.
    fn adopt(&self, found: Arc<State>) -> Result<Arc<State>, Error> {
        let known = self.state();
        if found.applied != known.applied {
            return Err(Error::locked(self.storage.place("")));
        }
        for path in known.segments.keys() {
            if !found.segments.contains_key(path) {
                tracing::warn!(segment = %path, "another writer removed a segment from the table");
            }
        }
        *lock(&self.state) = Arc::clone(&found);
        Ok(found)
    }

    /// Whether opening the table has grown slow enough for a checkpoint.
    pub(crate) fn checkpoint_due(&self) -> bool {
        self.state()
            .version
            .saturating_sub(self.checkpointed.load(Ordering::Relaxed))
            >= CHECKPOINT_COMMITS
    }

    /// Writes a checkpoint of the newest version. Takes about as long as opening: not for the thread that commits.
    pub(crate) fn checkpoint(&self) -> Result<(), Error> {
        let version = replay::checkpoint(&self.storage)?;
        self.checkpointed.store(version, Ordering::Relaxed);
        Ok(())
    }
}

/// Differs between processes; from the standard library's keys for hash maps.
pub(super) fn random() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one("writer")
}

#[cfg(test)]
mod tests;
