//! The directory of incidents: `book.json`, and a packed file for each bundle below `bundles/`. Every file is replaced at
//! once.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind, Read, Write as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Serialize, de::DeserializeOwned};
use tawny_model::Timestamp;

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
        blocking(move || {
            fs::create_dir_all(&bundles).map_err(|source| Error::Io {
                path: bundles.clone(),
                source,
            })
        })
        .await?;
        Ok(Self { dir })
    }

    /// The book; `None` when none was saved.
    pub(super) async fn load_book<T: DeserializeOwned + Send + 'static>(
        &self,
    ) -> Result<Option<T>, Error> {
        let path = self.dir.join(BOOK);
        match read(&path).await {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Renames a book that cannot be read; where it is now.
    pub(super) async fn put_book_aside(&self, now: Timestamp) -> Result<PathBuf, Error> {
        let path = self.dir.join(BOOK);
        let aside = self.dir.join(format!("{BOOK}.damaged-{}", now.as_secs()));
        blocking(move || match fs::rename(&path, &aside) {
            Ok(()) => Ok(aside),
            Err(source) => Err(Error::Io { path, source }),
        })
        .await
    }

    pub(super) async fn save_book<T>(&self, book: T) -> Result<(), Error>
    where
        T: Serialize + Send + 'static,
    {
        write(self.dir.join(BOOK), book).await.map(drop)
    }

    /// Every bundle there is.
    pub(super) async fn list_bundles(&self) -> Result<BTreeMap<BundleName, BundleFile>, Error> {
        let dir = self.dir.join(BUNDLES);
        blocking(move || {
            list_bundles(&dir).map_err(|source| Error::Io {
                path: dir.clone(),
                source,
            })
        })
        .await
    }

    pub(super) async fn load_bundle(&self, name: BundleName) -> Result<Bundle, Error> {
        read(&self.path(name)).await
    }

    /// Answers the size of what was written, in bytes.
    pub(super) async fn save_bundle(&self, bundle: &Bundle) -> Result<u64, Error> {
        write(self.path(bundle.name()), bundle.clone()).await
    }

    pub(super) async fn remove_bundle(&self, name: BundleName) -> Result<(), Error> {
        let path = self.path(name);
        blocking(move || match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Io { path, source }),
            _ => Ok(()),
        })
        .await
    }

    fn path(&self, name: BundleName) -> PathBuf {
        self.dir.join(BUNDLES).join(name.file_name())
    }
}

fn list_bundles(dir: &Path) -> io::Result<BTreeMap<BundleName, BundleFile>> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(bundle) = BundleName::from_file_name(name) {
            let metadata = file.metadata()?;
            let since_epoch = (metadata.modified().ok())
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
                .unwrap_or_default();
            let file = BundleFile {
                n_bytes: metadata.len(),
                written_at: Timestamp::default().saturating_add(since_epoch),
            };
            found.insert(bundle, file);
        } else if name.ends_with(UNFINISHED) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(found)
}

/// Largest file read, unpacked: a bundle with all it may hold takes some 3 MiB, a full book 40.
const MAX_FILE_BYTES: u64 = 512 << 20;

async fn read<T: DeserializeOwned + Send + 'static>(path: &Path) -> Result<T, Error> {
    let path = path.to_owned();
    blocking(move || {
        let failed = |source| Error::Io {
            path: path.clone(),
            source,
        };
        let file = fs::File::open(&path).map_err(failed)?;
        let damaged = |source| Error::Damaged {
            path: path.clone(),
            source,
        };
        let mut bytes = Vec::new();
        io::copy(&mut file.take(MAX_FILE_BYTES), &mut bytes).map_err(failed)?;
        if is_packed(&path) {
            let unpacked = zstd::Decoder::new(bytes.as_slice()).and_then(|decoder| {
                let mut text = Vec::new();
                io::copy(&mut decoder.take(MAX_FILE_BYTES), &mut text)?;
                Ok(text)
            });
            bytes = unpacked.map_err(|error| damaged(serde_json::Error::io(error)))?;
        }
        serde_json::from_slice(&bytes).map_err(damaged)
    })
    .await
}

/// Replaces a file at once, so that a crash leaves the old or the new one, whole. Answers its size in bytes.
async fn write<T: Serialize + Send + 'static>(path: PathBuf, value: T) -> Result<u64, Error> {
    blocking(move || {
        let failed = |source: io::Error| Error::Io {
            path: path.clone(),
            source,
        };
        let text = serde_json::to_vec(&value).map_err(|error| failed(io::Error::other(error)))?;
        let bytes = if is_packed(&path) {
            zstd::encode_all(text.as_slice(), 3).map_err(failed)?
        } else {
            text
        };
        let mut beside = path.as_os_str().to_owned();
        beside.push(UNFINISHED);
        let mut file = fs::File::create(&beside).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&beside, &path).map_err(failed)?;
        if let Some(dir) = path.parent() {
            let dir = fs::File::open(dir).map_err(failed)?;
            dir.sync_all().map_err(failed)?;
        }
        Ok(bytes.len() as u64)
    })
    .await
}

fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// Runs what waits for the disk beside the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
