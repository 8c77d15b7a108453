//! Rows in memory: what was admitted and lies in no segment yet, batch by batch.

use std::{ops::Range, sync::Arc};

use tawny_model::{Entries, EntryId, Stream, Timestamp};

/// Admitted entries of one stream, in the order they came, with their ids.
#[derive(Debug)]
pub(crate) struct HotRows {
    /// As described when they came; the registry of streams may know better by now.
    pub(crate) stream: Arc<Stream>,
    pub(crate) entries: Entries,
    /// Which of `entries` were new; the rest had been stored before.
    pub(crate) new: Range<usize>,
    /// One id for each row of `new`.
    pub(crate) ids: Vec<EntryId>,
    /// Earliest and latest time of `new`, both inclusive.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}
