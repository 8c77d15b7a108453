//! Rows in memory: what was admitted and lies in no segment yet, batch by batch.

use std::{ops::Range, sync::Arc};

use tawny_model::{Entries, EntryId, EntryRef, LogEntry, Severity, Stream, Timestamp};

use super::gist::Gist;

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
    /// Of all texts of `entries`.
    pub(crate) gist: Gist,
    /// Rows of `new` by severity number.
    pub(crate) counts: [u32; Severity::ALL.len()],
}

impl HotRows {
    /// Rows `new` of the entries, one id each.
    pub(crate) fn new(
        stream: Arc<Stream>,
        entries: Entries,
        new: Range<usize>,
        ids: Vec<EntryId>,
    ) -> Self {
        let (mut first, mut last) = (Timestamp::MAX, Timestamp::MIN);
        let mut counts = [0; Severity::ALL.len()];
        for entry in entries.iter().skip(new.start).take(new.len()) {
            let time = entry.timestamp();
            (first, last) = (first.min(time), last.max(time));
            counts[usize::from(entry.severity().number())] += 1;
        }
        Self {
            stream,
            gist: Gist::of(entries.text()),
            entries,
            new,
            ids,
            first,
            last,
            counts,
        }
    }

    /// What the rows take, for the limits of memory: text, tables, ids and their place in the set of ids.
    pub(crate) fn memory_bytes(&self) -> usize {
        const SET_BYTES_PER_ID: usize = 18;
        self.entries.memory_bytes()
            + self.gist.memory_bytes()
            + self.ids.len() * (size_of::<EntryId>() + SET_BYTES_PER_ID)
            + size_of::<Self>()
    }

    /// The new rows with their ids.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (EntryRef<'_>, EntryId)> + Clone {
        let new = self.entries.iter().skip(self.new.start);
        new.zip(self.ids.iter().copied())
    }

    /// Whether a new row has this time and message.
    pub(crate) fn holds(&self, timestamp: Timestamp, message: &str) -> bool {
        (self.first..=self.last).contains(&timestamp)
            && self
                .iter()
                .any(|(entry, _)| entry.timestamp() == timestamp && entry.message() == message)
    }

    /// All new rows as entries of their stream.
    pub(crate) fn to_entries(&self) -> impl Iterator<Item = LogEntry> {
        self.iter()
            .map(|(entry, id)| entry.to_entry(id, Arc::clone(&self.stream)))
    }
}
