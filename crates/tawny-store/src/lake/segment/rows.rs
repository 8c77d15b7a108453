//! What the index of a run says of its rows, counted row by row in their order.

use std::sync::Arc;

use tawny_model::{EntryId, Severity, Stream, Timestamp};

use super::writer::invalid;
use crate::{
    Error,
    lake::run::{Cell, Extent, RunIndex, RunStream},
};

/// What the index says of the rows so far.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) streams: Vec<RunStream>,
    cells: Vec<Cell>,
    pub(super) n_rows: u32,
    extent: Option<Extent>,
    /// Microsecond and id of the last row.
    last: (i64, i64),
}

impl Rows {
    /// Takes a row into the index; whether it begins a stream.
    pub(super) fn push(
        &mut self,
        stream: &Arc<Stream>,
        timestamp: Timestamp,
        id: EntryId,
        severity: Severity,
    ) -> Result<bool, Error> {
        let micros = timestamp.as_micros();
        let now = (micros, id.0);
        let is_new = match self.streams.last() {
            None => true,
            Some(last) if Arc::ptr_eq(&last.stream, stream) || last.stream.id == stream.id => {
                if now < self.last {
                    return Err(invalid(
                        "rows of a stream are not in the order of time and id",
                    ));
                }
                false
            }
            Some(last) if last.stream.id < stream.id => true,
            Some(_) => return Err(invalid("streams are not in the order of their identity")),
        };
        self.last = now;
        let row = self.n_rows;
        self.n_rows += 1;
        let minute = i32::try_from(micros.div_euclid(60_000_000)).expect("63 bits of ns");
        let n_cells = u32::try_from(self.cells.len()).expect("no more cells than rows");
        if is_new {
            self.streams.push(RunStream {
                stream: Arc::clone(stream),
                rows: row..row,
                cells: n_cells..n_cells,
                first: timestamp,
                last: timestamp,
                counts: Default::default(),
            });
        }
        let entry = self
            .streams
            .last_mut()
            .expect("one was there or was pushed");
        entry.rows.end = row + 1;
        entry.first = entry.first.min(timestamp);
        entry.last = entry.last.max(timestamp);
        entry.counts[usize::from(severity.number())] += 1;
        let is_new_cell = self.cells.last().is_none_or(|cell| cell.minute != minute);
        if is_new || is_new_cell {
            self.cells.push(Cell {
                minute,
                first_row: row,
                counts: Default::default(),
            });
            entry.cells.end += 1;
        }
        let cell = self.cells.last_mut().expect("one was there or was pushed");
        cell.counts[usize::from(severity.number())] += 1;
        let extent = self.extent.get_or_insert(Extent {
            n_rows: 0,
            first: timestamp,
            last: timestamp,
            min_id: id,
            max_id: id,
        });
        extent.n_rows += 1;
        extent.first = extent.first.min(timestamp);
        extent.last = extent.last.max(timestamp);
        extent.min_id = extent.min_id.min(id);
        extent.max_id = extent.max_id.max(id);
        Ok(is_new)
    }
    /// What there is of them all; no extent when there are none.
    pub(super) fn finish(self) -> (Option<Extent>, RunIndex) {
        (self.extent, RunIndex::new(self.streams, self.cells))
    }
}
