//! Rows in memory become segments: sorted by stream and time, one file for each day.

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashMap;
use tawny_model::{EntryId, EntryRef, Stream, StreamId};

use super::{
    catalog::{Day, attribute_column},
    rows::HotRows,
};

/// A row on its way into a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) entry: EntryRef<'a>,
    pub(super) id: EntryId,
}

/// Rows of one day, in the order of a run.
#[derive(Debug, Default)]
pub(super) struct DayRows<'a> {
    streams: Vec<(&'a Arc<Stream>, Vec<Row<'a>>)>,
}

impl<'a> DayRows<'a> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a Arc<Stream>, Row<'a>)> {
        self.streams
            .iter()
            .flat_map(|(stream, rows)| rows.iter().map(|row| (*stream, *row)))
    }
}

/// Sorts rows for the segments they go into.
pub(super) fn by_day(pieces: &[Arc<HotRows>]) -> BTreeMap<Day, DayRows<'_>> {
    let mut by_stream: BTreeMap<&StreamId, Vec<&Arc<HotRows>>> = BTreeMap::new();
    for piece in pieces {
        by_stream.entry(&piece.stream.id).or_default().push(piece);
    }
    let mut days: BTreeMap<Day, DayRows<'_>> = BTreeMap::new();
    for pieces in by_stream.into_values() {
        // The last piece knows the stream best.
        let Some(stream) = pieces.last().map(|piece| &piece.stream) else {
            continue;
        };
        let mut rows: Vec<Row<'_>> = pieces
            .iter()
            .flat_map(|piece| piece.iter().map(|(entry, id)| Row { entry, id }))
            .collect();
        // Nearly sorted as they come, which this sort takes advantage of.
        rows.sort_by_key(|row| (row.entry.timestamp().as_micros(), row.id));
        for of_day in
            rows.chunk_by(|a, b| Day::of(a.entry.timestamp()) == Day::of(b.entry.timestamp()))
        {
            let Some(first) = of_day.first() else {
                continue;
            };
            let day = days.entry(Day::of(first.entry.timestamp())).or_default();
            day.streams.push((stream, of_day.to_vec()));
        }
    }
    days
}

/// Attribute keys that get a column of their own in a segment of these rows.
///
/// A column costs a few hundred bytes in each segment and a line in the schema of the table for ever, so a key has to
/// be frequent to get one; rare ones share a column. Keys are asked for in the spelling of a column name.
pub(super) fn frequent_keys(pieces: &[Arc<HotRows>]) -> Vec<String> {
    let mut counts: FxHashMap<&str, u64> = FxHashMap::default();
    let mut n_rows = 0;
    for piece in pieces {
        n_rows += piece.ids.len() as u64;
        let keys = piece.entries.keys();
        let mut of_piece = vec![0u64; keys.len()];
        for (entry, _) in piece.iter() {
            for (key, _) in entry.keyed_attributes() {
                of_piece[key as usize] += 1;
            }
        }
        for (key, n) in keys.iter().zip(of_piece) {
            *counts.entry(key).or_default() += n;
        }
    }
    let at_least = (n_rows / FREQUENT_SHARE).max(FREQUENT_ROWS);
    let mut frequent: Vec<(&str, u64)> = counts
        .into_iter()
        .filter(|(key, n)| *n >= at_least && attribute_column(key).is_some())
        .collect();
    frequent.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    frequent.truncate(MAX_FREQUENT);
    let mut keys: Vec<String> = frequent
        .into_iter()
        .map(|(key, _)| key.to_owned())
        .collect();
    // Names of columns are told apart without regard to case by most readers: the more frequent spelling has it.
    let mut seen = std::collections::BTreeSet::new();
    keys.retain(|key| seen.insert(key.to_ascii_lowercase()));
    keys.sort_unstable();
    keys
}

/// One row in this many has a frequent key.
const FREQUENT_SHARE: u64 = 256;

/// And at least so many rows.
const FREQUENT_ROWS: u64 = 128;

/// Most columns one flush may ask for.
const MAX_FREQUENT: usize = 64;
