//! Finding single rows: by id, by what they say, and which ids a stream has in one microsecond.

use tawny_model::{EntryId, LogEntry, StreamId, Timestamp};
use tawny_query::Query;

use super::{
    Budget, Snapshot,
    page::{hot_entry, stored_entry},
    pieces::{BlockTask, Piece, RunPlan},
    residual::Residuals,
    span::{Span, minute_of},
};
use crate::{
    Error,
    lake::run::{Block, Columns, Run, RunStream},
};

/// One entry by id.
pub(crate) fn get(
    snapshot: &Snapshot,
    id: EntryId,
    budget: &Budget<'_>,
) -> Result<Option<LogEntry>, Error> {
    for (batch_idx, batch) in (0u32..).zip(&snapshot.hot) {
        if let Some(row) = batch.ids.iter().position(|known| *known == id) {
            let row = u32::try_from(row).expect("batches hold u32 rows");
            return Ok(Some(hot_entry(snapshot, batch_idx, row)));
        }
    }
    let Some(span) = Span::of_ids(id, id) else {
        return Ok(None);
    };
    let everything = Query::all();
    let residuals = Residuals::new(everything.expr());
    for (run_idx, run) in snapshot.runs.iter().enumerate() {
        let extent = run.extent();
        if id < extent.min_id || extent.max_id < id {
            continue;
        }
        let Some(plan) = RunPlan::new(run_idx, snapshot, &residuals, span)? else {
            continue;
        };
        let mut tasks = Vec::new();
        // Nearly every id lies in its own microsecond; only a crowd of lines pushes ids further.
        let own = Span::new(id.timestamp(), id.timestamp()).and_then(|own| span.and(own));
        for near in own.into_iter().chain([span]) {
            tasks.clear();
            add_tasks(&plan, near, &mut tasks);
            for task in &tasks {
                budget.check()?;
                if let Some(entry) = find(snapshot, &plan, task, id)? {
                    return Ok(Some(entry));
                }
            }
        }
    }
    Ok(None)
}

fn add_tasks(plan: &RunPlan, span: Span, tasks: &mut Vec<BlockTask>) {
    for (stream_idx, stream, class) in plan.streams(span) {
        let cells = plan.cells_within(stream, span);
        if let (Some(first), Some(last)) = (cells.first(), cells.last()) {
            let rows = first.first_row..last.first_row + last.n_rows();
            plan.split(rows, class, |block_idx, rows| {
                let piece = Piece {
                    rows,
                    stream: stream_idx,
                    class,
                };
                RunPlan::add(0, tasks, block_idx, piece, 0);
            });
        }
    }
}

fn find(
    snapshot: &Snapshot,
    plan: &RunPlan,
    task: &BlockTask,
    id: EntryId,
) -> Result<Option<LogEntry>, Error> {
    let block = plan.run.block(task.block_idx, &Columns::ORDER)?;
    for piece in &task.pieces {
        for row in piece.rows.clone() {
            if block.ids()[(row - block.first_row) as usize] == id {
                let block = plan.run.block(task.block_idx, &Columns::ALL)?;
                let stream = &plan.index.streams()[piece.stream as usize].stream;
                let stream = snapshot.streams.describe(stream);
                return Ok(Some(stored_entry(&block, row - block.first_row, &stream)));
            }
        }
    }
    Ok(None)
}

/// Whether the stream has an entry of this very time and text (KL-14).
pub(crate) fn contains(
    snapshot: &Snapshot,
    stream: &StreamId,
    timestamp: Timestamp,
    message: &str,
) -> Result<bool, Error> {
    for batch in &snapshot.hot {
        if batch.stream.id == *stream && batch.holds(timestamp, message) {
            return Ok(true);
        }
    }
    let at = Span {
        first: timestamp,
        last: timestamp,
    };
    for run in &snapshot.runs {
        let is_found = visit(&**run, stream, at, |block_idx, rows, block| {
            let is_then = |row: &u32| block.times()[*row as usize] == timestamp;
            let rows: Vec<u32> = rows.filter(is_then).collect();
            if rows.is_empty() {
                return Ok(false);
            }
            let columns = Columns {
                message: true,
                ..Columns::default()
            };
            let block = run.block(block_idx, &columns)?;
            let messages = block.messages();
            Ok(rows
                .into_iter()
                .any(|row| messages.value(row as usize) == message))
        })?;
        if is_found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The ids that entries of a stream in the microsecond of `timestamp` have in runs.
pub(crate) fn ids_at(
    snapshot: &Snapshot,
    stream: &StreamId,
    timestamp: Timestamp,
) -> Result<Vec<EntryId>, Error> {
    let first = Timestamp::from_micros(timestamp.as_micros());
    let at = Span {
        first,
        last: Timestamp::from_nanos(first.as_nanos().saturating_add(999)),
    };
    let mut ids = Vec::new();
    for run in &snapshot.runs {
        visit(&**run, stream, at, |_, rows, block| {
            for row in rows {
                if block.times()[row as usize].as_micros() == timestamp.as_micros() {
                    ids.push(block.ids()[row as usize]);
                }
            }
            Ok(false)
        })?;
    }
    Ok(ids)
}

/// Shows the blocks, times and ids decoded, where a stream has rows of the minutes of the span, until `look` says yes.
///
/// Rows count within the block.
fn visit(
    run: &dyn Run,
    stream: &StreamId,
    span: Span,
    mut look: impl FnMut(u32, std::ops::Range<u32>, &Block) -> Result<bool, Error>,
) -> Result<bool, Error> {
    let extent = run.extent();
    if extent.n_rows == 0 || span.first > extent.last || extent.first > span.last {
        return Ok(false);
    }
    let index = run.index()?;
    let is_then = |known: &&RunStream| known.first <= span.last && span.first <= known.last;
    let Some(stream) = index.find(stream).filter(is_then) else {
        return Ok(false);
    };
    let (first, last) = (minute_of(span.first), minute_of(span.last));
    let block_rows = run.block_rows();
    for cell in index.cells_of(stream) {
        if cell.minute < first || last < cell.minute {
            continue;
        }
        let (start, end) = (cell.first_row, cell.first_row + cell.n_rows());
        for block_idx in start / block_rows..=(end - 1) / block_rows {
            let block = run.block(block_idx, &Columns::ORDER)?;
            let from = start.max(block.first_row) - block.first_row;
            let to = end.min(block.first_row.saturating_add(block_rows)) - block.first_row;
            if look(block_idx, from..to, &block)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
