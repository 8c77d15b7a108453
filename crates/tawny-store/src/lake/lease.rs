//! Who writes to a table in a bucket: an object beside the table names one server, which renews it while it lives.
//!
//! ```text
//! nobody, or us before      → ours at once
//! another, and it renews    → we stand down and say who it is
//! another, and it is silent → ours after the lease; a commit then takes the place of any that the other may still try
//! ```
//! Silence is watched rather than computed from times, so clocks need not agree. The lease only keeps servers from
//! fighting; that a server which lost it writes nothing more is up to the commits, which are put only if absent.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use object_store::{
    Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion, path::Path as Key,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::files::{library_error, objects::steadily};
use crate::Error;

/// Beside the list of streams; readers of the table skip what begins with `_`.
const OBJECT: &str = "_tawny/writer.json";

/// Renewals within the lease: two may fail.
const RENEWALS: u32 = 3;

/// Looks at the lease of another while we wait for it to move.
const LOOKS: u32 = 15;

/// Names the directory of a log for ever, in a file of it.
const NAME_FILE: &str = "writer";

/// What the object says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// The name of its directory, random.
    writer: String,
    /// Its directory, for people.
    directory: PathBuf,
    /// Grows with each renewal, so that none looks like the one before.
    renewal: u64,
}

/// That the table is ours; renewed by a thread until dropped.
#[derive(Debug)]
pub(super) struct Lease {
    /// Whether another server had it before us, and did not give it up.
    pub(super) was_taken_over: bool,
    is_lost: Arc<AtomicBool>,
    /// `None` only while being dropped: its end stops the thread.
    stop_tx: Option<mpsc::SyncSender<()>>,
    renewing: Option<thread::JoinHandle<()>>,
}

impl Lease {
    /// Takes the lease for the server whose log is in `root`, waiting for its whole length where another has it.
    ///
    /// # Errors
    /// `StandDown` when another server renews it, or had it last while our log holds rows, which may be older than that
    /// other's; `Reject` when the service knows no conditional writes; `Retry` when the bucket fails.
    pub(super) fn take(
        object: Object,
        root: &Path,
        wal_path: &Path,
        length: Duration,
    ) -> Result<Self, Error> {
        let writer = name_of(root)?;
        let found = object.get()?;
        let is_ours = found
            .as_ref()
            .is_some_and(|(held, _)| held.writer == writer);
        let has_no_rows = is_empty(wal_path)?;
        if !is_ours && !has_no_rows {
            return Err(Error::Overtaken {
                path: wal_path.to_owned(),
                table: PathBuf::from(&object.table),
            });
        }
        if let (Some((holder, version)), false) = (&found, is_ours) {
            object.wait_for_silence(holder, version, length)?;
        }
        let renewal = found.as_ref().map_or(0, |(held, _)| held.renewal);
        let mut holder = Holder {
            writer,
            directory: fs::canonicalize(root).unwrap_or_else(|_| root.to_owned()),
            renewal: renewal + 1,
        };
        let version = found.as_ref().map(|(_, version)| version.clone());
        let Some(mut version) = object.put(&holder, version)? else {
            return Err(object.taken());
        };
        object.check_conditions(&holder)?;
        let is_lost = Arc::new(AtomicBool::new(false));
        let (stop_tx, stop_rx) = mpsc::sync_channel(1);
        let lost = Arc::clone(&is_lost);
        let renew = move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = stop_rx.recv_timeout(length / RENEWALS)
            {
                holder.renewal += 1;
                match object.put(&holder, Some(version.clone())) {
                    Ok(Some(renewed)) => version = renewed,
                    Ok(None) => {
                        tracing::error!(
                            table = object.place,
                            "another server has taken over the table; this one stops writing to it"
                        );
                        return lost.store(true, Relaxed);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot renew the right to write to the bucket; trying again");
                    }
                }
            }
        };
        let renewing = thread::Builder::new()
            .name("tawny-lease".to_owned())
            .spawn(renew)
            .map_err(|source| Error::file(root, "start a thread of the store", source))?;
        Ok(Self {
            // Also when it is ours and there is no log: a start that took the table over may have failed before it fenced.
            was_taken_over: found.is_some() && (!is_ours || has_no_rows),
            is_lost,
            stop_tx: Some(stop_tx),
            renewing: Some(renewing),
        })
    }

    /// Set once another server has taken the table over.
    pub(super) fn is_lost(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_lost)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stop_tx = None;
        if let Some(renewing) = self.renewing.take()
            && renewing.join().is_err()
        {
            tracing::error!("the thread that renews the lease had panicked");
        }
    }
}

/// The object in the bucket.
pub(super) struct Object {
    store: Arc<dyn ObjectStore>,
    key: Key,
    place: String,
    table: String,
    runtime: Handle,
}

impl Object {
    /// That of the table at `table`, which is the root of `store`.
    pub(super) fn new(store: Arc<dyn ObjectStore>, table: &str, runtime: Handle) -> Self {
        Self {
            store,
            key: Key::from(OBJECT),
            place: format!("{table}/{OBJECT}"),
            table: table.to_owned(),
            runtime,
        }
    }

    fn get(&self) -> Result<Option<(Holder, UpdateVersion)>, Error> {
        let found = self.runtime.block_on(steadily(async || {
            let got = self.store.get(&self.key).await?;
            let version = UpdateVersion {
                e_tag: got.meta.e_tag.clone(),
                version: got.meta.version.clone(),
            };
            Ok((got.bytes().await?, version))
        }));
        let (bytes, version) = match found {
            Ok(found) => found,
            Err(ObjectError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(library_error(&self.place, "cannot be read", error)),
        };
        let holder = serde_json::from_slice(&bytes).map_err(|error| Error::Damaged {
            path: PathBuf::from(&self.place),
            reason: format!("{error}; delete it if no server is running"),
        })?;
        Ok(Some((holder, version)))
    }

    /// Writes the object in the place of that version; `None` when it is another one's by now.
    fn put(
        &self,
        holder: &Holder,
        version: Option<UpdateVersion>,
    ) -> Result<Option<UpdateVersion>, Error> {
        let bytes = encode(holder);
        let mode = version.clone().map_or(PutMode::Create, PutMode::Update);
        let put = steadily(async || {
            let (bytes, mode) = (bytes.clone().into(), mode.clone().into());
            self.store.put_opts(&self.key, bytes, mode).await
        });
        match self.runtime.block_on(put) {
            Ok(put) => Ok(Some(UpdateVersion {
                e_tag: put.e_tag,
                version: put.version,
            })),
            Err(error) => {
                // The answer of a put can get lost, and the library repeat it.
                if let Ok(Some((found, now))) = self.get() {
                    if found == *holder {
                        return Ok(Some(now));
                    }
                    // An earlier renewal of ours, whose answer was lost, is in the place of the one we knew.
                    if found.writer == holder.writer
                        && found.renewal < holder.renewal
                        && version.as_ref() != Some(&now)
                    {
                        return self.put(holder, Some(now));
                    }
                }
                let is_new = matches!(mode, PutMode::Create);
                match error {
                    ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. } => {
                        Ok(None)
                    }
                    // Deleted by somebody; of a new one it is the bucket that is not found.
                    ObjectError::NotFound { .. } if !is_new => Ok(None),
                    error => Err(library_error(&self.place, "cannot be written", error)),
                }
            }
        }
    }

    /// Tries to write the object as a new one, which must fail: else two servers could each take the same commit for
    /// theirs.
    fn check_conditions(&self, holder: &Holder) -> Result<(), Error> {
        let bytes = encode(holder);
        let put = steadily(async || {
            let (bytes, mode) = (bytes.clone().into(), PutMode::Create.into());
            self.store.put_opts(&self.key, bytes, mode).await
        });
        match self.runtime.block_on(put) {
            Err(ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. }) => Ok(()),
            Err(error) => Err(library_error(&self.place, "cannot be written", error)),
            Ok(_) => Err(Error::Invalid {
                reason: format!(
                    "the service of `{}` knows no conditional writes (If-None-Match), without which servers would \
                     overwrite each other's commits",
                    self.table
                ),
            }),
        }
    }

    fn wait_for_silence(
        &self,
        holder: &Holder,
        version: &UpdateVersion,
        length: Duration,
    ) -> Result<(), Error> {
        tracing::warn!(
            table = self.table,
            log = %holder.directory.display(),
            wait = ?length,
            "the table was last written by another server; waiting to see whether it lives"
        );
        for _ in 0..LOOKS {
            self.runtime.block_on(tokio::time::sleep(length / LOOKS));
            match self.get()? {
                Some((_, now)) if now == *version => {}
                Some((holder, _)) => return Err(self.taken_by(holder)),
                None => return Err(self.taken()),
            }
        }
        Ok(())
    }

    fn taken_by(&self, holder: Holder) -> Error {
        Error::Taken {
            table: PathBuf::from(&self.table),
            by: holder.directory,
        }
    }

    /// By whom the object says by now.
    fn taken(&self) -> Error {
        match self.get() {
            Ok(Some((holder, _))) => self.taken_by(holder),
            Ok(None) => Error::Locked {
                path: PathBuf::from(&self.table),
                holder: "another server".to_owned(),
            },
            Err(error) => error,
        }
    }
}

fn encode(holder: &Holder) -> Bytes {
    let text = serde_json::to_vec(holder);
    text.expect("has only text and numbers").into()
}

fn is_empty(directory: &Path) -> Result<bool, Error> {
    let mut files = fs::read_dir(directory)
        .map_err(|source| Error::file(directory, "list directory", source))?;
    Ok(files.next().is_none())
}

/// The name of a directory, which it gets when first asked.
fn name_of(root: &Path) -> Result<String, Error> {
    let path = root.join(NAME_FILE);
    let failed = |doing| {
        let path = path.clone();
        move |source| Error::file(&path, doing, source)
    };
    match fs::read_to_string(&path) {
        Ok(name) if !name.is_empty() => return Ok(name),
        // Cut short by a crash, before it was used.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read file")(error)),
    }
    let name = format!("{:016x}", super::catalog::random());
    fs::write(&path, &name).map_err(failed("write file"))?;
    let file = fs::File::open(&path).map_err(failed("open file"))?;
    file.sync_all().map_err(failed("sync file"))?;
    Ok(name)
}
