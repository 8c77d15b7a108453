//! Reads a scan in turns: a blocking thread for each, so that none is held while nobody asks for rows.

use std::sync::{Arc, atomic::AtomicBool};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task;

use super::{CancelOnDrop, Shared, query::BatchScan};
use crate::{Error, Rows};

/// The batches that this reader of the scan gets hold of.
pub(super) fn rows(shared: Arc<Shared>, scan: Arc<BatchScan>) -> Rows {
    let turns = stream::try_unfold((shared, scan), |(shared, scan)| async move {
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = CancelOnDrop(Arc::clone(&cancelled));
        let path = shared.config.path.clone();
        let turn = task::spawn_blocking(move || {
            let read = scan.read(&shared.budget(&cancelled))?;
            Ok::<_, Error>(read.map(|batches| (batches, (shared, scan))))
        });
        turn.await.map_err(|source| Error::Io {
            path,
            doing: "read rows",
            source: Box::new(source),
        })?
    });
    turns
        .map_ok(|batches| stream::iter(batches.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}
