//! Where a store lies: all of it in a directory, or its table in a bucket and its log in a directory; and that it is
//! ours alone while it is open.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tawny_model::Secret;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    LakeConfig,
    files::Storage,
    lease::{self, Lease},
};
use crate::{Error, ownership::Ownership};

/// The table's place in a bucket.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    /// `s3://bucket/prefix`, `gs://…` or `az://…`; the table is in `logs` below it.
    pub url: String,
    /// How to reach it, by the names of the `object_store` crate, such as `aws_endpoint`; those of other services are
    /// left out.
    pub options: Vec<(String, Secret)>,
    /// A server that wrote there and has been silent for so long is taken for dead by another that wants to.
    pub lease: Duration,
}

impl BucketConfig {
    /// The usual settings for this URL.
    pub fn new(url: impl Into<String>, options: Vec<(String, Secret)>) -> Self {
        Self {
            url: url.into(),
            options,
            lease: Duration::from_secs(30),
        }
    }
}

/// An open place. Dropped last of all: it frees directory and bucket.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) storage: Storage,
    pub(super) wal_path: PathBuf,
    /// That the bucket is ours; a directory's lock is enough where there is none.
    lease: Option<Lease>,
    _requests: Option<Requests>,
    _ownership: Ownership,
}

impl Place {
    /// Opens the place of a store, making what is missing.
    ///
    /// # Errors
    /// `StandDown` when another process has it; `Reject` when the directory holds something else, or there is no way to
    /// the bucket; `Retry` when disk or bucket fails.
    pub(super) fn open(config: &LakeConfig, runtime: Handle) -> Result<Self, Error> {
        match &config.bucket {
            None => Self::in_directory(&config.path, runtime),
            Some(bucket) => Self::in_bucket(&config.path, bucket),
        }
    }

    /// Whether another server wrote here before, and may still try to.
    pub(super) fn was_taken_over(&self) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|lease| lease.was_taken_over)
    }

    /// Set once another server has taken over.
    pub(super) fn is_lost(&self) -> Arc<AtomicBool> {
        self.lease.as_ref().map(Lease::is_lost).unwrap_or_default()
    }

    fn in_directory(root: &Path, runtime: Handle) -> Result<Self, Error> {
        let (table_path, wal_path) = (root.join("logs"), root.join("wal"));
        if is_used(root)? && !table_path.is_dir() {
            return Err(no_store(
                root,
                "the directory holds other files; choose an empty one",
            ));
        }
        make(&table_path)?;
        make(&wal_path)?;
        let ownership = Ownership::take(root, &root.join("lock"))?;
        Ok(Self {
            storage: Storage::in_directory(&table_path, runtime)?,
            wal_path,
            lease: None,
            _requests: None,
            _ownership: ownership,
        })
    }

    fn in_bucket(root: &Path, bucket: &BucketConfig) -> Result<Self, Error> {
        let wal_path = root.join("wal");
        let is_used = is_used(root).map_err(|error| match error {
            Error::Io { path, source, .. } => Error::Io {
                path,
                doing: "is no directory for the write-ahead log; choose one with store.wal",
                source,
            },
            error => error,
        })?;
        if is_used && (!wal_path.is_dir() || root.join("logs").exists()) {
            return Err(no_store(
                root,
                "the directory for the write-ahead log holds other files; choose an empty one",
            ));
        }
        make(&wal_path)?;
        let ownership = Ownership::take(root, &root.join("lock"))?;
        let requests = Requests::start(root)?;
        let url = format!("{}/logs", bucket.url.trim_end_matches('/'));
        let storage = Storage::in_bucket(&url, &bucket.options, requests.handle())?;
        let store = storage.object_store()?;
        let object = lease::Object::new(store, &url, requests.handle());
        let lease = Lease::take(object, root, &wal_path, bucket.lease)?;
        Ok(Self {
            storage,
            wal_path,
            lease: Some(lease),
            _requests: Some(requests),
            _ownership: ownership,
        })
    }
}

fn is_used(root: &Path) -> Result<bool, Error> {
    match fs::read_dir(root) {
        // A fresh file system has a directory of its own.
        Ok(mut files) => {
            Ok(files.any(|file| file.is_ok_and(|file| file.file_name() != "lost+found")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file(root, "list directory", error)),
    }
}

fn make(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|source| Error::file(directory, "make directory", source))
}

fn no_store(root: &Path, reason: &str) -> Error {
    Error::NotAStore {
        path: root.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The threads that speak to a bucket. Of its own, because closing a store blocks a thread of whatever runtime it is
/// closed on, while the store's threads finish what they have asked of the bucket.
#[derive(Debug)]
struct Requests(Option<Runtime>);

impl Requests {
    fn start(root: &Path) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("tawny-bucket")
            .enable_all()
            .build()
            .map_err(|source| Error::file(root, "start the threads for a bucket", source))?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Handle {
        let runtime = self.0.as_ref();
        runtime
            .expect("is taken only when dropped")
            .handle()
            .clone()
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A store may be closed where waiting for threads is not allowed; nothing is under way any more.
            runtime.shutdown_background();
        }
    }
}
