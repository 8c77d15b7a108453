//! Where a table lies, a directory or a bucket, and its files: written whole and durably or not at all, read by
//! ranges, listed, deleted. One face for both, so that nothing above it knows which it is.

mod bucket;
mod local;
pub(super) mod objects;

use std::{
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use object_store::ObjectStore;
use tawny_model::{Secret, Timestamp};
use tokio::runtime::Handle;
use url::Url;

use self::{
    local::{Local, LocalFile, LocalUpload},
    objects::{ObjectFile, ObjectUpload, Objects},
};
use super::read_at::ReadAt;
use crate::Error;

/// Asked before and after each step that changes the storage; an error it gives is that step's. Tests crash by it.
pub(crate) trait FaultPoints: fmt::Debug + Send + Sync {
    fn reach(&self, step: &'static str, path: &str) -> io::Result<()>;
}

/// A directory or a bucket. Cheap to clone; calls block, and must not come from an async task.
///
/// Paths are relative to it, parts separated by `/`.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    kind: Kind,
    runtime: Handle,
    /// Nothing may change it: somebody else's, or one that is only looked at.
    is_read_only: bool,
    faults: Option<Arc<dyn FaultPoints>>,
    traffic: Arc<Traffic>,
}

#[derive(Debug, Clone)]
enum Kind {
    Local(Arc<Local>),
    Objects(Objects),
}

/// What was read so far: for benchmarks and for tests of how much a query fetches.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    requests: AtomicU64,
    bytes: AtomicU64,
}

impl Traffic {
    fn add(&self, len_bytes: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len_bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A file as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) len_bytes: u64,
    pub(crate) modified: Timestamp,
}

impl Storage {
    /// Opens a path in a bucket by its URL (`s3://bucket/prefix`, …); nothing is asked of the bucket yet.
    ///
    /// `options` are those of the `object_store` crate, such as `aws_endpoint`. `runtime` runs the requests, and must do
    /// so while its callers block.
    ///
    /// # Errors
    /// `Reject` when the URL names no bucket, or the options lead to none.
    pub(crate) fn in_bucket(
        location: &str,
        options: &[(String, Secret)],
        runtime: Handle,
    ) -> Result<Self, Error> {
        let store = Url::parse(location)
            .map_err(|error| error.to_string())
            .and_then(|url| bucket::connect(&url, options))
            .map_err(|reason| Error::Invalid {
                reason: format!("storage `{location}`: {reason}"),
            })?;
        Ok(Self::in_objects(store, location, runtime))
    }

    pub(crate) fn in_directory(root: &Path, runtime: Handle) -> Result<Self, Error> {
        Ok(Self {
            kind: Kind::Local(Arc::new(Local::open(root)?)),
            runtime,
            is_read_only: false,
            faults: None,
            traffic: Arc::default(),
        })
    }

    /// A directory that is there already and that nothing is to change: each step that would is refused.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn to_look_at(root: &Path, runtime: Handle) -> Result<Self, Error> {
        Ok(Self {
            kind: Kind::Local(Arc::new(Local::of_existing(root)?)),
            runtime,
            is_read_only: true,
            faults: None,
            traffic: Arc::default(),
        })
    }

    /// Over any object store whose root is the table; `location` is its name in errors.
    pub(crate) fn in_objects(store: Arc<dyn ObjectStore>, location: &str, runtime: Handle) -> Self {
        Self {
            kind: Kind::Objects(Objects::new(store, location)),
            runtime,
            is_read_only: false,
            faults: None,
            traffic: Arc::default(),
        }
    }

    #[cfg(test)]
    /// The same storage, with fault points.
    #[must_use]
    pub(crate) fn with_faults(mut self, faults: Arc<dyn FaultPoints>) -> Self {
        self.faults = Some(faults);
        self
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Where a file lies, for errors: a path or a URL.
    pub(crate) fn place(&self, path: &str) -> String {
        match &self.kind {
            Kind::Local(local) => local.full(path).display().to_string(),
            Kind::Objects(objects) => objects.place(path),
        }
    }

    #[cfg(test)]
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// A file of known length for reading by ranges; nothing is opened before the first read.
    pub(crate) fn reader(&self, path: &str, len_bytes: u64) -> Arc<dyn ReadAt> {
        let traffic = Arc::clone(&self.traffic);
        match &self.kind {
            Kind::Local(local) => Arc::new(LocalFile::new(local, path, len_bytes, traffic)),
            Kind::Objects(objects) => Arc::new(ObjectFile::new(
                objects.clone(),
                path,
                len_bytes,
                self.runtime.clone(),
                traffic,
            )),
        }
    }

    /// The whole file, `None` when there is none.
    pub(crate) fn get(&self, path: &str) -> Result<Option<Bytes>, Error> {
        let found = match &self.kind {
            Kind::Local(local) => local.get(path)?,
            Kind::Objects(objects) => self.runtime.block_on(objects.get(path))?,
        };
        self.traffic
            .add(found.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Ok(found)
    }

    /// The whole files, in order; from a bucket many at a time.
    pub(crate) fn get_all(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        match &self.kind {
            Kind::Local(_) => paths.iter().map(|path| self.get(path)).collect(),
            Kind::Objects(objects) => {
                let found = self.runtime.block_on(objects.get_all(paths))?;
                for bytes in &found {
                    self.traffic
                        .add(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64));
                }
                Ok(found)
            }
        }
    }

    /// Writes a file, replacing one that is there. Durable on return; nobody ever sees a part of it.
    ///
    /// # Errors
    /// `Retry` when the disk is full or the storage fails; the old file, if any, is as it was.
    pub(crate) fn put(&self, path: &str, bytes: Bytes) -> Result<(), Error> {
        self.reach("put", path)?;
        match &self.kind {
            Kind::Local(local) => local.put(path, &[bytes])?,
            Kind::Objects(objects) => self.runtime.block_on(objects.put(path, bytes))?,
        }
        self.reach("after put", path)
    }

    /// Writes a file unless there is one of that name; says whether it did. Durable on return.
    pub(crate) fn put_new(&self, path: &str, bytes: Bytes) -> Result<bool, Error> {
        self.reach("put_new", path)?;
        let written = match &self.kind {
            Kind::Local(local) => local.put_new(path, &[bytes])?,
            Kind::Objects(objects) => self.runtime.block_on(objects.put_new(path, bytes))?,
        };
        self.reach("after put_new", path)?;
        Ok(written)
    }

    /// Starts a big file; it is there once [`Upload::finish`] returned, and never before.
    pub(crate) fn upload(&self, path: &str) -> Result<Upload, Error> {
        self.reach("upload", path)?;
        let sink = match &self.kind {
            Kind::Local(local) => Sink::Local(LocalUpload::start(local, path)?),
            Kind::Objects(objects) => Sink::Objects(ObjectUpload::start(
                objects.clone(),
                path,
                self.runtime.clone(),
            )),
        };
        Ok(Upload {
            storage: self.clone(),
            path: path.to_owned(),
            sink,
            len_bytes: 0,
        })
    }

    /// Deletes a file; one that is gone already is fine.
    pub(crate) fn delete(&self, path: &str) -> Result<(), Error> {
        self.reach("delete", path)?;
        match &self.kind {
            Kind::Local(local) => local.delete(path)?,
            Kind::Objects(objects) => self.runtime.block_on(objects.delete(path))?,
        }
        self.reach("after delete", path)
    }

    /// All files below a directory (`""`: everywhere), in the order of their paths. Unfinished uploads do not show.
    pub(crate) fn list(&self, directory: &str) -> Result<Vec<Listed>, Error> {
        let mut files = match &self.kind {
            Kind::Local(local) => local.list(directory)?,
            Kind::Objects(objects) => self.runtime.block_on(objects.list(directory))?,
        };
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Deletes what unfinished uploads left before `before`. A bucket's own life-cycle rule does it there.
    pub(crate) fn clear_unfinished(&self, before: Timestamp) -> Result<u64, Error> {
        match &self.kind {
            Kind::Local(local) => local.clear_staging(before),
            Kind::Objects(_) => Ok(0),
        }
    }

    /// The same place for the Delta library, with durable writes.
    pub(crate) fn object_store(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        let inner = match &self.kind {
            Kind::Local(local) => local.object_store()?,
            Kind::Objects(objects) => objects.object_store(),
        };
        Ok(Arc::new(objects::Durable::new(inner, self.clone())))
    }

    fn reach(&self, step: &'static str, path: &str) -> Result<(), Error> {
        if self.is_read_only {
            return Err(Error::ReadOnly {
                path: self.place(path).into(),
                reason: "the store is only looked at".to_owned(),
            });
        }
        match &self.faults {
            Some(faults) => faults
                .reach(step, path)
                .map_err(|source| io_error(&self.place(path), "cannot be written", source)),
            None => Ok(()),
        }
    }
}

/// A file on its way; dropping it unfinished leaves nothing.
#[derive(Debug)]
pub(crate) struct Upload {
    storage: Storage,
    path: String,
    sink: Sink,
    len_bytes: u64,
}

#[derive(Debug)]
enum Sink {
    Local(LocalUpload),
    Objects(ObjectUpload),
}

impl Upload {
    /// Makes the file durable and visible, replacing one of that name; gives its length.
    pub(crate) fn finish(self) -> Result<u64, Error> {
        self.storage.reach("finish", &self.path)?;
        match self.sink {
            Sink::Local(sink) => sink.finish()?,
            Sink::Objects(sink) => sink.finish()?,
        }
        self.storage.reach("after finish", &self.path)?;
        Ok(self.len_bytes)
    }
}

impl io::Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(faults) = &self.storage.faults {
            faults.reach("write", &self.path)?;
        }
        match &mut self.sink {
            Sink::Local(sink) => sink.write_all(bytes)?,
            Sink::Objects(sink) => sink.write_all(bytes)?,
        }
        self.len_bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The length of a range that lies within the file; a range beyond it comes of a damaged index.
fn checked_len(range: &Range<u64>, len_bytes: u64) -> Result<usize, String> {
    range
        .end
        .checked_sub(range.start)
        .filter(|_| range.end <= len_bytes)
        .and_then(|len| usize::try_from(len).ok())
        .ok_or_else(|| {
            format!(
                "bytes {} to {} were asked of {len_bytes}",
                range.start, range.end
            )
        })
}

/// Puts an error of the file system in the store's words.
pub(crate) fn io_error(place: &str, doing: &'static str, source: io::Error) -> Error {
    let path = PathBuf::from(place);
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { path },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly {
            path,
            reason: source.to_string(),
        },
        _ => Error::Io {
            path,
            doing,
            source: Box::new(source),
        },
    }
}

/// Like [`io_error`] for a library's error, whose cause may be an error of the file system.
pub(crate) fn library_error(
    place: &str,
    doing: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<io::Error>()
            && matches!(
                inner.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        {
            return Error::DiskFull {
                path: PathBuf::from(place),
            };
        }
        cause = inner.source();
    }
    Error::Io {
        path: PathBuf::from(place),
        doing,
        source: Box::new(error),
    }
}

#[cfg(test)]
mod tests;
