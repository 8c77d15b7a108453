//! Turns the rows found into a page: whole entries, within its limits of number and bytes.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tawny_model::{EntryId, LogEntry, Stream};

use super::{
    Budget, Snapshot,
    parallel::for_each,
    search::{Found, Place, search},
};
use crate::{
    Error, Order, SearchPage, SearchRequest,
    lake::run::{Block, Columns},
    limits::MAX_MESSAGE_BYTES,
};

/// Most text one page holds, unless its first entry alone is longer; the same in every engine.
const PAGE_BYTES: usize = MAX_MESSAGE_BYTES;

/// Blocks held while entries are copied out of them.
const MAX_OPEN_BLOCKS: usize = 16;

/// The page of what was found: up to one more than the limit, best first, and all rows as good as the last.
pub(super) fn read(
    snapshot: &Snapshot,
    request: &SearchRequest,
    mut found: Vec<Found>,
    budget: &Budget<'_>,
) -> Result<SearchPage, Error> {
    let n_found = found.len();
    found.truncate(page_len(&found, request.limit));
    let mut page = SearchPage {
        entries: Vec::new(),
        has_more: found.len() < n_found,
    };
    // Where only rows with equal ids were found, what is worse was not looked for.
    let is_one_id = found.first().map(|row| row.rank) == found.last().map(|row| row.rank);
    if !page.has_more && found.len() > request.limit && is_one_id {
        page.has_more = has_beyond(snapshot, request, found[0], budget)?;
    }
    let mut reader = Reader {
        snapshot,
        budget,
        blocks: FxHashMap::default(),
    };
    let mut n_bytes = 0;
    for idx in 0..found.len() {
        let entry = reader.entry(&found, idx)?;
        let attributes = entry.attributes.iter();
        n_bytes += entry.message.len() + attributes.map(|(k, v)| k.len() + v.len()).sum::<usize>();
        if n_bytes > PAGE_BYTES {
            // The page ends before the first entry of this id, unless it begins with it.
            let n_before = page.entries.iter().rposition(|other| other.id != entry.id);
            let n_kept = n_before.map_or(0, |at| at + 1);
            if n_kept > 0 {
                page.entries.truncate(n_kept);
                page.has_more = true;
                break;
            }
        }
        page.entries.push(entry);
    }
    Ok(page)
}

/// How many of the rows make a page: at most `limit`, without parting equal ids, unless all are equal.
fn page_len(found: &[Found], limit: usize) -> usize {
    if found.len() <= limit {
        return found.len();
    }
    let next = found[limit].rank;
    match found[..limit].iter().rposition(|row| row.rank != next) {
        Some(last) => last + 1,
        None => found
            .iter()
            .position(|row| row.rank != next)
            .unwrap_or(found.len()),
    }
}

/// Whether anything matches beyond this row.
fn has_beyond(
    snapshot: &Snapshot,
    request: &SearchRequest,
    last: Found,
    budget: &Budget<'_>,
) -> Result<bool, Error> {
    let mut beyond = SearchRequest {
        limit: 1,
        ..request.clone()
    };
    match request.order {
        Order::NewestFirst => beyond.before = Some(EntryId(last.rank)),
        Order::OldestFirst => beyond.after = Some(EntryId(!last.rank)),
    }
    Ok(!search(snapshot, &beyond, budget)?.entries.is_empty())
}

/// Reads entries in the order of a page, several blocks at a time.
struct Reader<'s> {
    snapshot: &'s Snapshot,
    budget: &'s Budget<'s>,
    blocks: FxHashMap<(u32, u32), Block>,
}

impl Reader<'_> {
    fn entry(&mut self, found: &[Found], idx: usize) -> Result<LogEntry, Error> {
        let row = found[idx];
        match row.place {
            Place::Hot { batch, row } => Ok(hot_entry(self.snapshot, batch, row)),
            Place::Run { run, row, stream } => {
                let key = self.block_of(run, row);
                if !self.blocks.contains_key(&key) {
                    self.open(&found[idx..])?;
                }
                let index = self.snapshot.runs[run as usize].index()?;
                let stream = &index.streams()[stream as usize].stream;
                let block = &self.blocks[&key];
                Ok(LogEntry {
                    stream: self.snapshot.streams.describe(stream),
                    ..stored_entry(block, row - block.first_row, stream)
                })
            }
        }
    }

    fn block_of(&self, run: u32, row: u32) -> (u32, u32) {
        (run, row / self.snapshot.runs[run as usize].block_rows())
    }

    /// Opens the next blocks that the rows are in.
    fn open(&mut self, rows: &[Found]) -> Result<(), Error> {
        self.blocks.clear();
        let mut keys: Vec<(u32, u32)> = Vec::new();
        for found in rows {
            if let Place::Run { run, row, .. } = found.place {
                let key = self.block_of(run, row);
                if !keys.contains(&key) {
                    if keys.len() == MAX_OPEN_BLOCKS {
                        break;
                    }
                    keys.push(key);
                }
            }
        }
        let runs = &self.snapshot.runs;
        let opened = for_each(keys.len(), 2, self.budget, Vec::new, |opened, idx| {
            let (run, block_idx) = keys[idx];
            opened.push((
                keys[idx],
                runs[run as usize].block(block_idx, &Columns::ALL)?,
            ));
            Ok(())
        })?;
        self.blocks.extend(opened.into_iter().flatten());
        Ok(())
    }
}

/// A new row in memory, as an entry.
pub(super) fn hot_entry(snapshot: &Snapshot, batch: u32, row: u32) -> LogEntry {
    let batch = &snapshot.hot[batch as usize];
    let entry = batch.entries.get(batch.new.start + row as usize);
    let entry = entry.expect("the row was found there");
    entry.to_entry(
        batch.ids[row as usize],
        snapshot.streams.describe(&batch.stream),
    )
}

/// A row of a block with all its columns, as an entry.
pub(super) fn stored_entry(block: &Block, row: u32, stream: &Arc<Stream>) -> LogEntry {
    let row = row as usize;
    LogEntry {
        id: block.ids()[row],
        timestamp: block.times()[row],
        severity: block.severities()[row],
        output: block.outputs()[row],
        message: block.messages().value(row).to_owned(),
        attributes: block
            .attributes()
            .row(row)
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        stream: Arc::clone(stream),
    }
}
