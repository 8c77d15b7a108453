//! From the log to the state. The Delta library replays it; we check the files first, so that damage has a name, and
//! the result afterwards, so that the table is never silently smaller than it was.

use std::{
    collections::BTreeMap, error::Error as StdError, panic::AssertUnwindSafe, path::PathBuf,
    sync::Arc,
};

use deltalake_core::{
    DeltaTable, DeltaTableError,
    kernel::Add,
    logstore::{LogStoreRef, StorageConfig, default_logstore},
    protocol::checkpoints,
};
use futures::{FutureExt, TryStreamExt};
use serde_json::Value;
use tawny_model::Timestamp;
use url::Url;

use super::{
    commit::{APP_ID, TAG, check_protocol},
    log::{self, Listing, Signature},
    path::SegmentPath,
    schema,
    state::{ForeignFile, SegmentFile, State},
};
use crate::{
    Error,
    lake::files::{Storage, library_error},
};

/// What opening found.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) state: State,
    /// Version of the newest checkpoint.
    pub(super) checkpoint: Option<u64>,
    table: DeltaTable,
}

/// Reads the newest state, `None` when there is no table.
pub(super) fn load(storage: &Storage) -> Result<Option<Replayed>, Error> {
    let listing = Listing::new(&storage.list(log::DIRECTORY)?);
    let tail = listing
        .tail()
        .map_err(|missing| damaged(storage, &log::commit_path(missing), "the commit is missing"))?;
    let Some((version, commits)) = tail else {
        return no_log(storage).map(|()| None);
    };
    let newest = check_commits(storage, version, &commits)?;
    check_hint(storage, &listing)?;

    let suspect = match &listing.checkpoint {
        Some((_, path)) => path.as_str(),
        None => log::DIRECTORY,
    };
    let (table, replay) =
        run(storage, replay(storage, version)).map_err(|error| library(storage, suspect, error))?;
    let state = match build_state(storage, suspect, version, replay) {
        // We would not have written to such a table.
        Err(Error::NotAStore { reason, .. } | Error::ReadOnly { reason, .. })
            if newest.is_some() =>
        {
            return Err(damaged(storage, suspect, &reason));
        }
        state => state?,
    };
    if let Some(newest) = newest
        && newest.after != state.seal()
    {
        let reason = format!(
            "at version {version} the log leads to {:?}, but the commit says {:?}",
            state.seal(),
            newest.after
        );
        return Err(damaged(storage, suspect, &reason));
    }
    Ok(Some(Replayed {
        state,
        checkpoint: listing.checkpoint.map(|(version, _)| version),
        table,
    }))
}

/// Writes a checkpoint of the newest version, which it gives. What is damaged gets none.
pub(super) fn checkpoint(storage: &Storage) -> Result<u64, Error> {
    let replayed =
        load(storage)?.ok_or_else(|| damaged(storage, log::DIRECTORY, "the log is gone"))?;
    let written = async { Ok(checkpoints::create_checkpoint(&replayed.table, None).await?) };
    run(storage, written).map_err(|error| library(storage, log::DIRECTORY, error))?;
    Ok(replayed.state.version)
}

pub(super) fn log_store(storage: &Storage) -> Result<LogStoreRef, Error> {
    let store = storage.object_store()?;
    // The library only takes the path from it: our store begins at the table.
    let root = Url::parse("tawny:///").expect("is a URL");
    Ok(default_logstore(
        Arc::clone(&store),
        store,
        &root,
        &StorageConfig::default(),
    ))
}

/// A table without a log is a new one only if it has no data.
fn no_log(storage: &Storage) -> Result<(), Error> {
    let files = storage.list("")?;
    if files
        .iter()
        .any(|file| SegmentPath::parse(&file.path).is_some())
    {
        return Err(damaged(
            storage,
            log::DIRECTORY,
            "the log is gone, though there are segments",
        ));
    }
    Ok(())
}

/// Checks the commits that are to be replayed; gives the signature of the newest when it is ours.
fn check_commits(
    storage: &Storage,
    newest: u64,
    commits: &[u64],
) -> Result<Option<Signature>, Error> {
    let paths: Vec<String> = commits.iter().map(|v| log::commit_path(*v)).collect();
    let mut signature = None;
    for ((version, path), bytes) in commits.iter().zip(&paths).zip(storage.get_all(&paths)?) {
        let bytes = bytes.ok_or_else(|| damaged(storage, path, "the commit is gone"))?;
        let found = log::check_commit(&bytes).map_err(|reason| damaged(storage, path, &reason))?;
        if *version == newest {
            signature = found;
        }
    }
    Ok(signature)
}

/// Removes a hint that leads nowhere: readers then list the log, and the next checkpoint writes a new one.
fn check_hint(storage: &Storage, listing: &Listing) -> Result<(), Error> {
    if !listing.has_hint {
        return Ok(());
    }
    let hinted = storage.get(log::HINT)?;
    let hinted = hinted.and_then(|bytes| log::hinted_version(&bytes));
    let newest = listing.checkpoint.as_ref().map(|(version, _)| *version);
    // An older one is right too: a crash between a checkpoint and its hint leaves it.
    if hinted.is_none() || hinted > newest {
        if storage.is_read_only() {
            return Err(damaged(storage, log::HINT, "it leads to no checkpoint"));
        }
        let path = storage.place(log::HINT);
        tracing::warn!(
            path,
            "the hint to the last checkpoint is damaged; removing it"
        );
        storage.delete(log::HINT)?;
    }
    Ok(())
}

/// What the Delta library found.
struct Replay {
    protocol: Value,
    metadata: Value,
    adds: Vec<Add>,
    removed: Vec<(String, Timestamp)>,
    applied: Option<i64>,
}

async fn replay(storage: &Storage, version: u64) -> Result<(DeltaTable, Replay), ReplayError> {
    let log_store = log_store(storage).map_err(ReplayError::Ours)?;
    let mut table = DeltaTable::new(Arc::clone(&log_store));
    table.load_version(version).await?;
    let state = table.snapshot()?;
    #[expect(deprecated, reason = "the only way to an add action's tags")]
    let adds = state
        .snapshot()
        .file_views(&log_store, None)
        .map_ok(|view| view.add_action())
        .try_collect()
        .await?;
    let removed = state
        .all_tombstones(&log_store)
        .map_ok(|view| {
            let removed_ms = view.deletion_timestamp().unwrap_or(0);
            (view.path().into_owned(), Timestamp::from_millis(removed_ms))
        })
        .try_collect()
        .await?;
    let replay = Replay {
        protocol: serde_json::to_value(state.protocol())?,
        metadata: serde_json::to_value(state.metadata())?,
        adds,
        removed,
        applied: state.transaction_version(&log_store, APP_ID).await?,
    };
    Ok((table, replay))
}

enum ReplayError {
    Ours(Error),
    Library(DeltaTableError),
    /// A decoder of the library gave up on bytes that no writer writes.
    Panicked,
}

/// Runs the library, which panics on some kinds of damage.
fn run<T>(
    storage: &Storage,
    work: impl Future<Output = Result<T, ReplayError>>,
) -> Result<T, ReplayError> {
    // Nothing of the work outlives a panic but what it read.
    let work = AssertUnwindSafe(work).catch_unwind();
    let done = storage.runtime().block_on(work);
    done.unwrap_or(Err(ReplayError::Panicked))
}

impl From<DeltaTableError> for ReplayError {
    fn from(error: DeltaTableError) -> Self {
        Self::Library(error)
    }
}

impl From<serde_json::Error> for ReplayError {
    fn from(error: serde_json::Error) -> Self {
        Self::Library(error.into())
    }
}

fn build_state(
    storage: &Storage,
    suspect: &str,
    version: u64,
    replay: Replay,
) -> Result<State, Error> {
    let root = || PathBuf::from(storage.place(""));
    check_format(&replay.metadata, root)?;
    check_protocol(&replay.protocol).map_err(|reason| Error::ReadOnly {
        path: root(),
        reason,
    })?;
    let attributes = schema::attributes_of(&replay.metadata)
        .map_err(|reason| damaged(storage, suspect, &reason))?;
    let mut segments = BTreeMap::new();
    let mut foreign = Vec::new();
    for add in replay.adds {
        let file = read_add(add).map_err(|reason| damaged(storage, suspect, &reason))?;
        match file {
            File::Ours(segment) => {
                segments.insert(segment.path.clone(), Arc::new(segment));
            }
            File::Foreign(file) => foreign.push(file),
        }
    }
    if !foreign.is_empty() {
        tracing::warn!(
            n_files = foreign.len(),
            "the table has files of another writer, which searches don't see"
        );
    }
    let applied = replay.applied.map(u64::try_from).transpose().map_err(|_| {
        damaged(
            storage,
            suspect,
            "the last WAL record has a negative number",
        )
    })?;
    let removed = replay
        .removed
        .into_iter()
        .filter_map(|(path, time)| Some((SegmentPath::parse(&path)?, time)))
        .filter(|(path, _)| !segments.contains_key(path))
        .collect();
    let metadata = (replay.metadata, attributes);
    Ok(State::new(
        version, segments, foreign, applied, removed, metadata,
    ))
}

enum File {
    Ours(SegmentFile),
    Foreign(ForeignFile),
}

fn read_add(add: Add) -> Result<File, String> {
    let len_bytes =
        u64::try_from(add.size).map_err(|_| format!("file `{}` has a negative size", add.path))?;
    let tag = add.tags.as_ref().and_then(|tags| tags.get(TAG)?.as_deref());
    match (SegmentPath::parse(&add.path), tag) {
        (Some(path), Some(tag)) => SegmentFile::from_tag(path, len_bytes, tag)
            .map(File::Ours)
            .map_err(|error| format!("tag of `{}`: {error}", add.path)),
        (Some(path), None) => Err(format!("segment `{path}` has lost its tag")),
        (None, Some(_)) => Err(format!("file `{}` has a tag of ours", add.path)),
        (None, None) => Ok(File::Foreign(ForeignFile {
            path: add.path,
            len_bytes,
        })),
    }
}

fn check_format(metadata: &Value, root: impl Fn() -> PathBuf) -> Result<(), Error> {
    let format = metadata
        .get("configuration")
        .and_then(|properties| properties.get(schema::FORMAT_PROPERTY))
        .and_then(Value::as_str)
        .and_then(|format| format.parse::<u32>().ok());
    match format {
        None => Err(Error::NotAStore {
            path: root(),
            reason: "it is a Delta table of another program".to_owned(),
        }),
        Some(found) if found > schema::FORMAT => Err(Error::Newer {
            path: root(),
            found,
            supported: schema::FORMAT,
        }),
        Some(_) => Ok(()),
    }
}

pub(super) fn damaged(storage: &Storage, path: &str, reason: &str) -> Error {
    Error::Damaged {
        path: PathBuf::from(storage.place(path)),
        reason: reason.to_owned(),
    }
}

/// The library fails on damage and on failing storage; only the cause tells which.
fn library(storage: &Storage, suspect: &str, error: ReplayError) -> Error {
    let error = match error {
        ReplayError::Ours(error) => return error,
        ReplayError::Panicked => return damaged(storage, suspect, "it cannot be decoded"),
        ReplayError::Library(error) => error,
    };
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = cause {
        let is_storage = match inner.downcast_ref::<object_store::Error>() {
            Some(object_store::Error::NotFound { .. }) | None => inner.is::<std::io::Error>(),
            Some(_) => true,
        };
        if is_storage {
            return library_error(&storage.place(suspect), "the log cannot be read", error);
        }
        cause = inner.source();
    }
    damaged(storage, suspect, &error.to_string())
}
