//! The directory of incidents: `book.json`, and a file for each bundle beside it. Every file is replaced at once.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Serialize, de::DeserializeOwned};
use tawny_model::Timestamp;
use tokio::{fs, io::AsyncWriteExt as _};

use crate::{
    Error,
    bundle::{Bundle, BundleName},
};

const BOOK: &str = "book.json";
const BUNDLES: &str = "bundles";

/// What a file is called while it is written; such files are leftovers of a crash.
const UNFINISHED: &str = ".new";

/// The file of a bundle.
#[derive(Debug, Clone, Copy)]
pub(super) struct BundleFile {
    pub(super) n_bytes: u64,
    pub(super) written_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(super) async fn open(dir: PathBuf) -> Result<Self, Error> {
        let bundles = dir.join(BUNDLES);
        (fs::create_dir_all(&bundles).await).map_err(|source| Error::Io {
            path: bundles,
            source,
        })?;
        Ok(Self { dir })
    }

    /// The book; `None` when none was saved.
    pub(super) async fn load_book<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let path = self.dir.join(BOOK);
        match read(&path).await {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    pub(super) async fn save_book<T: Serialize + Sync>(&self, book: &T) -> Result<(), Error> {
        write(&self.dir.join(BOOK), book).await.map(drop)
    }

    /// Every bundle there is.
    pub(super) async fn list_bundles(&self) -> Result<BTreeMap<BundleName, BundleFile>, Error> {
        let dir = self.dir.join(BUNDLES);
        let failed = |source: io::Error| Error::Io {
            path: dir.clone(),
            source,
        };
        let mut found = BTreeMap::new();
        let mut files = fs::read_dir(&dir).await.map_err(failed)?;
        while let Some(file) = files.next_entry().await.map_err(failed)? {
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(bundle) = BundleName::from_file_name(name) {
                let metadata = file.metadata().await.map_err(failed)?;
                let since_epoch = (metadata.modified().ok())
                    .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
                    .unwrap_or_default();
                let file = BundleFile {
                    n_bytes: metadata.len(),
                    written_at: Timestamp::default().saturating_add(since_epoch),
                };
                found.insert(bundle, file);
            } else if name.ends_with(UNFINISHED) {
                fs::remove_file(file.path()).await.map_err(failed)?;
            }
        }
        Ok(found)
    }

    pub(super) async fn load_bundle(&self, name: BundleName) -> Result<Bundle, Error> {
        read(&self.path(name)).await
    }

    /// Answers the size of what was written, in bytes.
    pub(super) async fn save_bundle(&self, bundle: &Bundle) -> Result<u64, Error> {
        write(&self.path(bundle.name()), bundle).await
    }

    pub(super) async fn remove_bundle(&self, name: BundleName) -> Result<(), Error> {
        let path = self.path(name);
        match fs::remove_file(&path).await {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Io { path, source }),
            _ => Ok(()),
        }
    }

    fn path(&self, name: BundleName) -> PathBuf {
        self.dir.join(BUNDLES).join(name.file_name())
    }
}

async fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = fs::read(path).await.map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Damaged {
        path: path.to_owned(),
        source,
    })
}

/// Replaces a file at once, so that a crash leaves the old or the new one, whole.
async fn write<T: Serialize + Sync>(path: &Path, value: &T) -> Result<u64, Error> {
    let failed = |source: io::Error| Error::Io {
        path: path.to_owned(),
        source,
    };
    let bytes = serde_json::to_vec(value).map_err(|error| failed(io::Error::other(error)))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(UNFINISHED);
    let mut file = fs::File::create(&beside).await.map_err(failed)?;
    file.write_all(&bytes).await.map_err(failed)?;
    file.sync_all().await.map_err(failed)?;
    fs::rename(&beside, path).await.map_err(failed)?;
    if let Some(dir) = path.parent() {
        let dir = fs::File::open(dir).await.map_err(failed)?;
        dir.sync_all().await.map_err(failed)?;
    }
    Ok(bytes.len() as u64)
}
