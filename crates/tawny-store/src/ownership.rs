//! One process per store: a lock that the system frees when its holder ends, however it ends.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::Path,
};

use crate::Error;

/// A store is ours while this lives: an advisory lock on a file, in which the owner says who it is.
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
            Ok(()) => {
                if let Err(error) = sign(&lock) {
                    // The lock holds all the same; only its holder will not be named.
                    tracing::debug!(%error, "cannot write into the lock file");
                }
                Ok(Self { _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(match holder(lock_path) {
                Some(holder) => Error::Locked {
                    path: path.to_owned(),
                    holder,
                },
                None => Error::locked(path),
            }),
            Err(TryLockError::Error(source)) => Err(Error::file(lock_path, "lock file", source)),
        }
    }
}

fn sign(mut lock: &File) -> io::Result<()> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => String::new(),
        host => format!(" on {host}"),
    };
    lock.set_len(0)?;
    writeln!(lock, "process {}{host}", std::process::id())
}

/// Who signed a lock file; `None` when nobody did, or not in words that a terminal should be shown.
fn holder(lock_path: &Path) -> Option<String> {
    let text = fs::read_to_string(lock_path).ok()?;
    let text = text.trim();
    let is_ours = text.starts_with("process ") && text.len() < 512;
    (is_ours && !text.contains(char::is_control)).then(|| text.to_owned())
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
        let Err(Error::Locked {
            path: named,
            holder,
        }) = second
        else {
            panic!("{second:?}");
        };
        assert_eq!(named, path);
        let this = format!("process {}", std::process::id());
        assert!(holder.starts_with(&this), "{holder}");
        // One who did not say its name, or something that is no name, is called another process.
        for signed in ["", "process \x1b[2J"] {
            fs::write(&lock_path, signed).unwrap();
            let second = Ownership::take(path, &lock_path).unwrap_err();
            assert!(
                second.to_string().contains("in use by another process"),
                "{second}"
            );
        }
        drop(first);
        Ownership::take(path, &lock_path).unwrap();
    }
}
