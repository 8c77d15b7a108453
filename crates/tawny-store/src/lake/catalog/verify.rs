//! Looks through the whole Delta log, the part behind the newest checkpoint included that opening does not read.

use super::{
    log::{self, Listing},
    replay,
};
use crate::{Error, lake::files::Storage};

/// What the log consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogFiles {
    pub(crate) n_commits: u64,
    /// Version of the newest checkpoint.
    pub(crate) checkpoint: Option<u64>,
    pub(crate) n_bytes: u64,
}

/// Checks every file of the log; hands each error to `found`.
///
/// # Errors
/// `Retry` when the storage fails.
pub(crate) fn verify_log(
    storage: &Storage,
    mut found: impl FnMut(Error),
) -> Result<LogFiles, Error> {
    let files = storage.list(log::DIRECTORY)?;
    let listing = Listing::new(&files);
    // Cleaning deletes the oldest first, so a hole behind the first commit is one.
    let mut expected = listing.commits.first().copied();
    for version in &listing.commits {
        let path = log::commit_path(*version);
        while let Some(missing) = expected.filter(|missing| missing < version) {
            let path = log::commit_path(missing);
            found(replay::damaged(storage, &path, "the commit is missing"));
            expected = Some(missing + 1);
        }
        expected = Some(version + 1);
        let Some(bytes) = storage.get(&path)? else {
            // A server cleaned it away since.
            continue;
        };
        if let Err(reason) = log::check_commit(&bytes) {
            found(replay::damaged(storage, &path, &reason));
        }
    }
    Ok(LogFiles {
        n_commits: listing.commits.len() as u64,
        checkpoint: listing.checkpoint.map(|(version, _)| version),
        n_bytes: files.iter().map(|file| file.len_bytes).sum(),
    })
}
