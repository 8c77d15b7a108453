//! A lake seen from outside: what its files hold, whether they are whole, which of them a query would open, and its
//! entries for other programs.
//!
//! Nothing here owns the store or changes it, so all of it works on a store that is stopped and beside a server that
//! runs.

mod export;
mod inspect;
mod verify;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tawny_model::LogEntry;
use tokio::runtime::Handle;

pub use self::{
    export::ParquetExport,
    inspect::{
        ColumnBytes, LogFileSummary, Opened, PlannedSegment, QueryPlan, SegmentContent,
        SegmentSummary, Spared, StreamRows, Summary,
    },
    verify::{Finding, Verified},
};
use super::{
    catalog::{Catalog, SegmentPath, State as TableState},
    files::Storage,
    query::{Matches, Snapshot},
    segment::{BlockCache, Segment},
    state::{Live, State},
    streams::{Known, Registry},
    table::streams_path,
    wal::{Replayed, Wal},
};
use crate::{Error, Filter};

/// Indexes and blocks kept while looking; what is read is mostly read once.
const CACHE_BYTES: usize = 32 << 20;

/// Times a look is begun again because a running server moved on meanwhile.
const MAX_TRIES: usize = 10;

/// The files of a lake as of one commit. Methods block.
pub struct LakeFiles {
    root: PathBuf,
    storage: Storage,
    table: TableState,
    segments: Vec<Arc<Live>>,
}

impl fmt::Debug for LakeFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeFiles")
            .field("root", &self.root)
            .field("version", &self.table.version)
            .finish_non_exhaustive()
    }
}

impl LakeFiles {
    /// Looks at the lake in directory `root`; `runtime` runs the reading of the Delta log, and must not be the thread
    /// that calls.
    ///
    /// # Errors
    /// `Reject` when no lake is there, or a newer one; `Quarantine` when the Delta log is damaged; `Retry` when the disk
    /// fails.
    pub fn open(root: &Path, runtime: Handle) -> Result<Self, Error> {
        let storage = open_storage(root, runtime)?;
        let table = Catalog::look(&storage)?.ok_or_else(|| no_lake(root))?;
        Ok(Self::of(root, storage, table))
    }

    fn of(root: &Path, storage: Storage, table: TableState) -> Self {
        let cache = Arc::new(BlockCache::new(CACHE_BYTES));
        let segments = table.segments.values().map(|file| {
            let reader = storage.reader(file.path.as_str(), file.len_bytes);
            let segment = Segment::new(reader, file.extent, Arc::clone(&cache));
            Arc::new(Live {
                path: file.path.clone(),
                size_bytes: file.len_bytes,
                segment: Arc::new(segment),
            })
        });
        Self {
            root: root.to_owned(),
            segments: segments.collect(),
            storage,
            table,
        }
    }

    fn wal_path(&self) -> PathBuf {
        self.root.join("wal")
    }

    /// The segments alone, described as they were written.
    fn segments_only(&self) -> State {
        let state = State::default();
        state.replaced(|_| self.segments.clone());
        state
    }

    /// The number of the segment of this path, or of the only one whose file name begins like that.
    fn find(&self, name: &str) -> Result<usize, Error> {
        let is_named = |path: &SegmentPath| {
            let file_name = path.as_str().rsplit('/').next().unwrap_or_default();
            path.as_str() == name || (!name.is_empty() && file_name.starts_with(name))
        };
        let mut found = (0..self.segments.len()).filter(|idx| is_named(&self.segments[*idx].path));
        match (found.next(), found.next()) {
            (Some(idx), None) => Ok(idx),
            (None, _) => Err(Error::Invalid {
                reason: format!("no segment of the table is named `{name}`"),
            }),
            (Some(_), Some(_)) => Err(Error::Invalid {
                reason: format!("several segments are named `{name}…`; write more of the name"),
            }),
        }
    }

    /// Everything in the store, as of one moment: the entries in segments, and those only the log has.
    ///
    /// # Errors
    /// As [`Self::open`]; `Retry` when a running server writes segments faster than its log is read.
    pub fn entries(root: &Path, runtime: Handle) -> Result<Entries, Error> {
        let storage = open_storage(root, runtime)?;
        let mut last = None;
        for _ in 0..MAX_TRIES {
            let table = Catalog::look(&storage)?.ok_or_else(|| no_lake(root))?;
            let files = Self::of(root, storage.clone(), table);
            let read = files.with_log();
            // What a flush took from the log meanwhile is in segments that this look does not know.
            let now = Catalog::look(&storage)?.ok_or_else(|| no_lake(root))?;
            match read {
                Ok(entries) if now.applied == files.table.applied => return Ok(entries),
                Err(error) if now.applied == files.table.applied => return Err(error),
                Ok(_) => last = None,
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Io {
            path: root.to_owned(),
            doing: "the store changes faster than its log can be read",
            source: "try again".into(),
        }))
    }

    fn registry(&self) -> Result<Registry, Error> {
        let Some(applied) = self.table.applied else {
            return Ok(Registry::default());
        };
        let path = streams_path(applied);
        let place = self.storage.place(&path);
        let bytes = self.storage.get(&path)?.ok_or_else(|| Error::Damaged {
            path: place.clone().into(),
            reason: "the list of streams is missing".to_owned(),
        })?;
        Registry::decode(&bytes, &place)
    }

    fn with_log(&self) -> Result<Entries, Error> {
        let mut registry = self.registry()?;
        let state = self.segments_only();
        if self.wal_path().is_dir() {
            let applied = self.table.applied.unwrap_or(0);
            let mut replay = Wal::look(&self.wal_path(), applied)?;
            while let Some(group) = replay.next()? {
                for change in group.changes {
                    let (stream, rows) = match change {
                        Replayed::Rows { rows, .. } => (Arc::clone(&rows.stream), Some(rows)),
                        Replayed::End { stream, .. } => (stream, None),
                        Replayed::Forget { .. } => continue,
                    };
                    let known = registry.get(&stream.id).cloned();
                    // Nothing is admitted here, so that the time of the last write does not matter.
                    let mut known = known.unwrap_or_else(|| {
                        Known::new(Arc::clone(&stream), tawny_model::Timestamp::MIN)
                    });
                    known.learn(&stream);
                    registry.insert(known);
                    state.admit(rows.map(Arc::new));
                }
            }
        }
        state.describe(registry.iter().map(|known| Arc::clone(&known.stream)));
        Ok(Entries {
            snapshot: state.snapshot(),
        })
    }
}

fn open_storage(root: &Path, runtime: Handle) -> Result<Storage, Error> {
    let table_path = root.join("logs");
    if !table_path.is_dir() {
        return Err(no_lake(root));
    }
    Storage::to_look_at(&table_path, runtime)
}

fn no_lake(root: &Path) -> Error {
    Error::NotAStore {
        path: root.to_owned(),
        reason: if root.exists() {
            "there is no table of a lake in it".to_owned()
        } else {
            "nothing is there".to_owned()
        },
    }
}

/// The entries of a lake as of one moment; see [`LakeFiles::entries`].
#[derive(Debug)]
pub struct Entries {
    snapshot: Snapshot,
}

impl Entries {
    /// How many entries there are.
    pub fn n_rows(&self) -> u64 {
        let runs = self.snapshot.runs.iter();
        let in_memory = self.snapshot.hot.iter();
        runs.map(|run| u64::from(run.extent().n_rows)).sum::<u64>()
            + in_memory.map(|rows| rows.ids.len() as u64).sum::<u64>()
    }

    /// Hands every entry that matches to `take`, in the order in which they lie: segment by segment, oldest first, in
    /// each by stream and time; at last those that are in no segment yet. One block is held at a time.
    ///
    /// What is damaged goes to `damaged` with the number of entries that are left out for it; an error it answers ends
    /// the walk. `passed` is told how many entries were gone through, a segment at a time.
    ///
    /// # Errors
    /// The callers' own; `Retry` when the storage fails; `Quarantine` when a running server deleted a segment that this
    /// look still needs, which it does no sooner than ten minutes after its removal.
    pub fn for_each<E: From<Error>>(
        &self,
        filter: &Filter,
        mut take: impl FnMut(LogEntry) -> Result<(), E>,
        mut damaged: impl FnMut(Error, u64) -> Result<(), E>,
        mut passed: impl FnMut(u64),
    ) -> Result<(), E> {
        let matches = Matches::new(&self.snapshot, filter);
        let mut runs: Vec<usize> = (0..self.snapshot.runs.len()).collect();
        runs.sort_by_key(|idx| self.snapshot.runs[*idx].extent().first);
        for run_idx in runs {
            matches.in_run(run_idx, &mut take, &mut damaged)?;
            passed(u64::from(self.snapshot.runs[run_idx].extent().n_rows));
        }
        matches.in_memory(take)
    }
}

#[cfg(test)]
mod tests;
