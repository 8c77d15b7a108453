//! A table in a directory: files are staged, synced and renamed, and read by position through a few open handles.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use object_store::{ObjectStore, local::LocalFileSystem};
use rustc_hash::FxHashMap;
use tawny_model::Timestamp;

use super::{Listed, Traffic, io_error, library_error};
use crate::{Error, lake::read_at::ReadAt};

/// Files being written; the dot hides it from readers of the table.
const STAGING: &str = ".staging";

/// Open files at a time: a table of 10,000 segments must fit a process limit of 1,024 descriptors.
const MAX_HANDLES: usize = 256;

#[derive(Debug)]
pub(super) struct Local {
    root: PathBuf,
    handles: Mutex<Handles>,
    n_staged: AtomicU64,
}

/// The files read last, kept open.
#[derive(Debug, Default)]
struct Handles {
    open: FxHashMap<PathBuf, (Arc<File>, u64)>,
    n_uses: u64,
}

impl Local {
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let staging = root.join(STAGING);
        fs::create_dir_all(&staging).map_err(|source| {
            io_error(
                &root.display().to_string(),
                "the directory cannot be made",
                source,
            )
        })?;
        Self::of_existing(root)
    }

    /// Without making anything.
    pub(super) fn of_existing(root: &Path) -> Result<Self, Error> {
        // Absolute, so that a later change of the working directory changes nothing.
        let root = fs::canonicalize(root).map_err(|source| {
            io_error(
                &root.display().to_string(),
                "the directory cannot be opened",
                source,
            )
        })?;
        Ok(Self {
            root,
            handles: Mutex::default(),
            n_staged: AtomicU64::new(0),
        })
    }

    pub(super) fn full(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn object_store(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        let store = LocalFileSystem::new_with_prefix(&self.root).map_err(|error| {
            library_error(
                &self.root.display().to_string(),
                "the directory cannot be opened",
                error,
            )
        })?;
        Ok(Arc::new(store))
    }

    pub(super) fn get(&self, path: &str) -> Result<Option<Bytes>, Error> {
        let full = self.full(path);
        match fs::read(&full) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(source) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(io_error(
                &full.display().to_string(),
                "cannot be read",
                source,
            )),
        }
    }

    pub(super) fn put(&self, path: &str, parts: &[Bytes]) -> Result<(), Error> {
        let full = self.full(path);
        let staged = self.stage_parts(&full, parts)?;
        staged
            .publish(&full)
            .map_err(|source| write_error(&full, source))?;
        self.forget(&full);
        Ok(())
    }

    pub(super) fn put_new(&self, path: &str, parts: &[Bytes]) -> Result<bool, Error> {
        let full = self.full(path);
        let staged = self.stage_parts(&full, parts)?;
        staged
            .publish_new(&full)
            .map_err(|source| write_error(&full, source))
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), Error> {
        let full = self.full(path);
        self.forget(&full);
        match fs::remove_file(&full) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(io_error(
                &full.display().to_string(),
                "cannot be deleted",
                source,
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn list(&self, directory: &str) -> Result<Vec<Listed>, Error> {
        let mut found = Vec::new();
        let mut waiting = vec![self.full(directory)];
        while let Some(directory) = waiting.pop() {
            self.list_one(&directory, &mut found, &mut waiting)
                .map_err(|source| {
                    io_error(&directory.display().to_string(), "cannot be listed", source)
                })?;
        }
        Ok(found)
    }

    fn list_one(
        &self,
        directory: &Path,
        found: &mut Vec<Listed>,
        waiting: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let entries = match fs::read_dir(directory) {
            Err(source) if source.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            let (full, Ok(name)) = (entry.path(), entry.file_name().into_string()) else {
                continue;
            };
            let meta = match entry.metadata() {
                // Deleted since the directory was read.
                Err(source) if source.kind() == ErrorKind::NotFound => continue,
                meta => meta?,
            };
            if meta.is_dir() {
                if name != STAGING {
                    waiting.push(full);
                }
            } else if let Some(path) = full.strip_prefix(&self.root).ok().and_then(Path::to_str) {
                found.push(Listed {
                    path: path.to_owned(),
                    len_bytes: meta.len(),
                    modified: since_epoch(meta.modified()?),
                });
            }
        }
        Ok(())
    }

    pub(super) fn clear_staging(&self, before: Timestamp) -> Result<u64, Error> {
        let mut n_deleted = 0;
        let mut found = Vec::new();
        let staging = self.root.join(STAGING);
        self.list_one(&staging, &mut found, &mut Vec::new())
            .map_err(|source| {
                io_error(&staging.display().to_string(), "cannot be listed", source)
            })?;
        for file in found.iter().filter(|file| file.modified < before) {
            self.delete(&file.path)?;
            n_deleted += 1;
        }
        Ok(n_deleted)
    }

    fn stage(&self, full: &Path) -> io::Result<Staged> {
        // The process id keeps two processes apart until one of them stands down.
        let number = self.n_staged.fetch_add(1, Ordering::Relaxed);
        let path = self
            .root
            .join(STAGING)
            .join(format!("{}-{number}", std::process::id()));
        if let Some(parent) = full.parent()
            && !parent.exists()
        {
            fs::create_dir_all(parent)?;
            // Else the directory may be gone after a power loss, with the file in it.
            sync_directory(&self.root)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        Ok(Staged { path, file })
    }

    fn stage_parts(&self, full: &Path, parts: &[Bytes]) -> Result<Staged, Error> {
        let write = || {
            let mut staged = self.stage(full)?;
            for part in parts {
                staged.file.write_all(part)?;
            }
            Ok(staged)
        };
        write().map_err(|source| write_error(full, source))
    }

    /// An open handle, from those kept or opened now.
    fn handle(&self, full: &Path) -> io::Result<Arc<File>> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.n_uses += 1;
        let now = handles.n_uses;
        if let Some((file, used)) = handles.open.get_mut(full) {
            *used = now;
            return Ok(Arc::clone(file));
        }
        drop(handles);
        let file = Arc::new(File::open(full)?);
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if handles.open.len() >= MAX_HANDLES {
            let oldest = handles
                .open
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(path, _)| path.clone());
            if let Some(oldest) = oldest {
                handles.open.remove(&oldest);
            }
        }
        handles
            .open
            .insert(full.to_owned(), (Arc::clone(&file), now));
        Ok(file)
    }

    fn forget(&self, full: &Path) {
        self.handles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open
            .remove(full);
    }
}

/// A file that has no name yet; dropped, it is gone.
#[derive(Debug)]
struct Staged {
    path: PathBuf,
    file: File,
}

impl Staged {
    fn publish(self, full: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, full)?;
        sync_parent(full)
    }

    /// `false` when the name is taken.
    fn publish_new(self, full: &Path) -> io::Result<bool> {
        self.file.sync_all()?;
        match fs::hard_link(&self.path, full) {
            Err(source) if source.kind() == ErrorKind::AlreadyExists => return Ok(false),
            linked => linked?,
        }
        sync_parent(full)?;
        Ok(true)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing; what cannot be deleted now, the clean-up deletes later.
        let _gone_or_left = fs::remove_file(&self.path);
    }
}

/// A file on its way into the directory.
#[derive(Debug)]
pub(super) struct LocalUpload {
    local: Arc<Local>,
    full: PathBuf,
    staged: Staged,
}

impl LocalUpload {
    pub(super) fn start(local: &Arc<Local>, path: &str) -> Result<Self, Error> {
        let full = local.full(path);
        let staged = local
            .stage(&full)
            .map_err(|source| write_error(&full, source))?;
        Ok(Self {
            local: Arc::clone(local),
            full,
            staged,
        })
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.staged.file.write_all(bytes)
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        self.staged
            .publish(&self.full)
            .map_err(|source| write_error(&self.full, source))?;
        self.local.forget(&self.full);
        Ok(())
    }
}

/// A file of the directory, for reading.
#[derive(Debug)]
pub(super) struct LocalFile {
    local: Arc<Local>,
    full: PathBuf,
    len_bytes: u64,
    traffic: Arc<Traffic>,
}

impl LocalFile {
    pub(super) fn new(
        local: &Arc<Local>,
        path: &str,
        len_bytes: u64,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            full: local.full(path),
            local: Arc::clone(local),
            len_bytes,
            traffic,
        }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged {
            path: self.full.clone(),
            reason,
        }
    }
}

impl ReadAt for LocalFile {
    fn place(&self) -> String {
        self.full.display().to_string()
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let file = self.local.handle(&self.full).map_err(|source| {
            if source.kind() == ErrorKind::NotFound {
                self.damaged("the file is gone".to_owned())
            } else {
                io_error(&self.place(), "cannot be opened", source)
            }
        })?;
        ranges
            .iter()
            .map(|range| {
                let len = super::checked_len(range, self.len_bytes)
                    .map_err(|reason| self.damaged(reason))?;
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, range.start)
                    .map_err(|source| {
                        if source.kind() == ErrorKind::UnexpectedEof {
                            self.damaged(format!("the file ends before byte {}", range.end))
                        } else {
                            io_error(&self.place(), "cannot be read", source)
                        }
                    })?;
                self.traffic.add(bytes.len() as u64);
                Ok(bytes.into())
            })
            .collect()
    }
}

fn sync_parent(full: &Path) -> io::Result<()> {
    full.parent().map_or(Ok(()), sync_directory)
}

/// Makes names in a directory survive power loss.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn write_error(full: &Path, source: io::Error) -> Error {
    io_error(&full.display().to_string(), "cannot be written", source)
}

fn since_epoch(time: SystemTime) -> Timestamp {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
