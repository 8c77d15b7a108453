//! Deleting what the table no longer needs, late enough for readers of older versions.

use std::{collections::BTreeSet, time::Duration};

use deltalake_core::protocol::checkpoints;

use super::{Catalog, log, path::SegmentPath, replay};
use crate::{Error, group::lock, lake::files::library_error};

/// How far back other readers may follow the log, and the longest grace of a removed file.
pub(super) const LOG_RETENTION: Duration = Duration::from_hours(48);

/// What a cleaning deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cleaned {
    pub(crate) segments: u64,
    pub(crate) bytes: u64,
    pub(crate) log_files: u64,
    pub(crate) unfinished: u64,
}

impl Catalog {
    /// Deletes the files of segments removed longer than `grace` ago, files older than it that never got into the
    /// table, and log entries that no reader follows any more. Only what bears a name of ours is ever touched.
    ///
    /// May be stopped at any point and run again.
    pub(crate) fn clean(&self, grace: Duration) -> Result<Cleaned, Error> {
        let before = self.clock.now().saturating_sub(grace.min(LOG_RETENTION));
        let mut cleaned = Cleaned {
            unfinished: self.storage.clear_unfinished(before)?,
            ..Cleaned::default()
        };
        // The order matters: a file that leaves `pending` by a commit between is in the state.
        let files = self.storage.list("")?;
        let pending: BTreeSet<SegmentPath> = lock(&self.pending).clone();
        let state = {
            let _turn = lock(&self.committing);
            self.adopt(self.reload()?)?
        };
        for file in files {
            let Some(path) = SegmentPath::parse(&file.path) else {
                continue;
            };
            if pending.contains(&path) || state.segments.contains_key(&path) {
                continue;
            }
            let unused_since = state
                .removed
                .get(&path)
                .map_or(file.modified, |removed| file.modified.max(*removed));
            if unused_since < before {
                self.storage.delete(&file.path)?;
                cleaned.segments += 1;
                cleaned.bytes += file.len_bytes;
            }
        }
        self.forget_removed();
        cleaned.log_files = self.clean_log()?;
        Ok(cleaned)
    }

    /// Removals older than what the log keeps need not be known any longer.
    fn forget_removed(&self) {
        let before = self.clock.now().saturating_sub(LOG_RETENTION);
        let mut state = lock(&self.state);
        if state.removed.values().any(|removed| *removed < before) {
            std::sync::Arc::make_mut(&mut state)
                .removed
                .retain(|_, removed| *removed >= before);
        }
    }

    fn clean_log(&self) -> Result<u64, Error> {
        let before = self.clock.now().saturating_sub(LOG_RETENTION);
        let log_store = replay::log_store(&self.storage)?;
        let version = self.state().version;
        let cleanup = checkpoints::cleanup_expired_logs_for(
            version,
            log_store.as_ref(),
            before.as_millis(),
            None,
        );
        let n_deleted = self.storage.runtime().block_on(cleanup).map_err(|error| {
            let place = self.storage.place(log::DIRECTORY);
            library_error(&place, "old log entries cannot be deleted", error)
        })?;
        Ok(n_deleted as u64)
    }
}
