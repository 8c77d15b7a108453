//! One process per store: a lock that the system frees when its holder ends, however it ends.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use crate::Error;

/// A store is ours while this lives: an advisory lock on a file.
#[derive(Debug)]
pub(crate) struct Ownership {
    _lock: File,
}

impl Ownership {
    /// Locks `lock_path`, created where missing in a directory that exists, on behalf of the store at `path`.
    ///
    /// # Errors
    /// `StandDown` when another process has it.
    pub(crate) fn take(path: &Path, lock_path: &Path) -> Result<Self, Error> {
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(lock_path)
            .map_err(|source| Error::file(lock_path, "open lock file", source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(Error::file(lock_path, "lock file", source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_has_one_owner_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let (path, lock_path) = (directory.path(), directory.path().join("lock"));
        let first = Ownership::take(path, &lock_path).unwrap();
        let second = Ownership::take(path, &lock_path);
        assert!(matches!(second, Err(Error::Locked { path: named }) if named == path));
        drop(first);
        Ownership::take(path, &lock_path).unwrap();
    }
}
