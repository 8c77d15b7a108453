//! Small segments become larger ones, and rows that are to go are left out. Readers and writers go on meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashSet;
use tawny_model::{Stream, Timestamp};

use super::{
    Shared,
    catalog::{Day, SegmentPath},
    merge::merge,
    query::Describe as _,
    run::Run,
    segment::SegmentRow,
    state::Live,
    table::{COMPACTED_LEVEL, FLUSHED_LEVEL, Replacement},
};
use crate::{Error, retention::Cutoffs};

/// Segments of a tier are merged when there are so many of a day. Each row is then rewritten about once a tier.
const FAN_IN: usize = 8;

/// Sizes that divide the tiers. What is larger stays as it is: 8 × 64 MiB is some 13 million lines.
const TIER_BYTES: [u64; 2] = [8 << 20, 64 << 20];

fn tier(size_bytes: u64) -> Option<usize> {
    TIER_BYTES.iter().position(|limit| size_bytes < *limit)
}

/// What became of segments that were to be merged.
pub(super) enum Merged {
    Replaced,
    /// Nothing: their rows would fill as many files.
    NoFewer,
}

/// Segments to merge now: the oldest of a day and tier that has enough.
pub(super) fn choose(
    live: &[Arc<Live>],
    left_alone: &FxHashSet<SegmentPath>,
) -> Option<Vec<Arc<Live>>> {
    let mut groups: BTreeMap<(usize, Day), Vec<&Arc<Live>>> = BTreeMap::new();
    for live in live.iter().filter(|live| !left_alone.contains(&live.path)) {
        if let Some(tier) = tier(live.size_bytes) {
            groups
                .entry((tier, live.path.day()))
                .or_default()
                .push(live);
        }
    }
    let mut group = groups.into_values().find(|group| group.len() >= FAN_IN)?;
    // Neighbours in time: the merged segment covers no more of it than it must.
    group.sort_by_key(|live| live.segment.extent().first);
    Some(group.into_iter().take(FAN_IN).cloned().collect())
}

/// Makes one segment of several of a day.
pub(super) fn merge_segments(shared: &Shared, inputs: &[Arc<Live>]) -> Result<Merged, Error> {
    let rewritten = rewrite(
        shared,
        inputs,
        COMPACTED_LEVEL,
        &Cutoffs::all(Timestamp::MIN),
    )?;
    Ok(rewritten.map_or(Merged::NoFewer, |_| Merged::Replaced))
}

/// Merges each day's segments into one; answers how many went. A day with damage stays as it is, and is the error when
/// all others are done.
pub(super) fn everything(shared: &Shared) -> Result<u64, Error> {
    let mut days: BTreeMap<Day, Vec<Arc<Live>>> = BTreeMap::new();
    for live in shared.state.live().iter() {
        days.entry(live.path.day())
            .or_default()
            .push(Arc::clone(live));
    }
    let mut n_gone = 0;
    let mut damage = None;
    for inputs in days.into_values().filter(|inputs| inputs.len() > 1) {
        match merge_segments(shared, &inputs) {
            Ok(Merged::Replaced) => n_gone += inputs.len() as u64 - 1,
            Ok(Merged::NoFewer) => {}
            Err(error @ Error::Damaged { .. }) => damage = damage.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    damage.map_or(Ok(n_gone), Err)
}

/// How much of a segment goes.
enum Share {
    Nothing,
    Part,
    All,
}

fn share(shared: &Shared, live: &Live, cutoffs: &Cutoffs) -> Result<Share, Error> {
    let extent = live.segment.extent();
    if extent.first >= cutoffs.latest() {
        return Ok(Share::Nothing);
    }
    // Needs no index, which may be damaged.
    if extent.last < cutoffs.earliest() {
        return Ok(Share::All);
    }
    if cutoffs.common().is_some() {
        return Ok(Share::Part);
    }
    let index = live.segment.index()?;
    let described = shared.state.descriptions().describe_all(&index);
    let (mut goes, mut stays) = (false, false);
    for (rows, stream) in index.streams().iter().zip(described.iter()) {
        let before = cutoffs.of(&stream.namespace);
        goes |= rows.first < before;
        stays |= rows.last >= before;
    }
    Ok(match (goes, stays) {
        (false, _) => Share::Nothing,
        (true, true) => Share::Part,
        (true, false) => Share::All,
    })
}

/// Removes the rows of a segment that are older than they may be; answers how many.
pub(super) fn delete_rows(
    shared: &Shared,
    live: &Arc<Live>,
    cutoffs: &Cutoffs,
) -> Result<u64, Error> {
    let share = share(shared, live, cutoffs)?;
    if let Share::Nothing = share {
        return Ok(0);
    }
    if let Share::All = share {
        shared.table.replace(
            &shared.state,
            Replacement {
                removed: vec![Arc::clone(live)],
                added: Vec::new(),
                is_same_data: false,
            },
        )?;
        return Ok(u64::from(live.segment.extent().n_rows));
    }
    // What is cut at one time for all has not long to live; what namespaces leave may.
    let level = match cutoffs.common() {
        Some(_) => FLUSHED_LEVEL,
        None => COMPACTED_LEVEL,
    };
    let rewritten = rewrite(shared, std::slice::from_ref(live), level, cutoffs)?;
    Ok(rewritten.unwrap_or(0))
}

/// Writes the rows of `inputs` that may stay as one segment, or as few as can hold them, in their place; answers
/// how many rows were left out, `None` when there were none and no file fewer, so that all stays as it is.
fn rewrite(
    shared: &Shared,
    inputs: &[Arc<Live>],
    level: i32,
    cutoffs: &Cutoffs,
) -> Result<Option<u64>, Error> {
    let Some(day) = inputs.first().map(|live| live.path.day()) else {
        return Ok(None);
    };
    let runs: Vec<Arc<dyn Run>> = inputs
        .iter()
        .map(|live| Arc::clone(&live.segment) as Arc<dyn Run>)
        .collect();
    let streams = shared.state.descriptions();
    let mut n_dropped = 0;
    // The stream in hand, with its cutoff.
    let mut known: Option<(Arc<Stream>, Timestamp)> = None;
    let tier = u8::from(inputs.len() > 1);
    let mut draft = shared
        .table
        .draft(day, tier, shared.table.all_columns(), level);
    merge(&runs, &*streams, |stream, row| {
        if !known
            .as_ref()
            .is_some_and(|(known, _)| Arc::ptr_eq(known, stream))
        {
            known = Some((Arc::clone(stream), cutoffs.of(&stream.namespace)));
        }
        if known
            .as_ref()
            .is_some_and(|(_, before)| row.timestamp < *before)
        {
            n_dropped += 1;
            return Ok(());
        }
        let row = SegmentRow {
            timestamp: row.timestamp,
            id: row.id,
            severity: row.severity,
            output: row.output,
            message: row.message,
            attributes: row.attributes.iter().copied(),
        };
        draft.push(stream, row)
    })?;
    let added = draft.finish()?;
    if n_dropped == 0 && added.len() >= inputs.len() {
        shared.table.discard(added);
        return Ok(None);
    }
    shared.table.replace(
        &shared.state,
        Replacement {
            removed: inputs.to_vec(),
            added,
            is_same_data: n_dropped == 0,
        },
    )?;
    Ok(Some(n_dropped))
}
