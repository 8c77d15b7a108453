//! Several runs become one: the rows of each stream, side by side, in the order of time.

use std::sync::Arc;

use tawny_model::{EntryId, Output, Severity, Stream, Timestamp};

use super::{
    query::Describe,
    run::{BLOCK_ROWS, Block, Columns, Run, RunIndex},
};
use crate::Error;

/// A row of a run, as merging hands it on.
#[derive(Debug)]
pub(super) struct MergedRow<'a> {
    pub(super) timestamp: Timestamp,
    pub(super) id: EntryId,
    pub(super) severity: Severity,
    pub(super) output: Output,
    pub(super) message: &'a str,
    pub(super) attributes: Vec<(&'a str, &'a str)>,
}

/// Hands the rows of all runs to `take` in the order of a run, streams as described now. Holds one block of each run.
pub(super) fn merge(
    runs: &[Arc<dyn Run>],
    streams: &dyn Describe,
    mut take: impl FnMut(&Arc<Stream>, MergedRow<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut cursors = runs
        .iter()
        .map(|run| Cursor::new(Arc::clone(run)))
        .collect::<Result<Vec<_>, _>>()?;
    loop {
        let next = cursors
            .iter()
            .filter_map(Cursor::stream)
            .min_by(|a, b| a.id.cmp(&b.id));
        let Some(stream) = next.map(|stream| streams.describe(stream)) else {
            return Ok(());
        };
        let mut of_stream: Vec<&mut Cursor> = cursors
            .iter_mut()
            .filter(|cursor| cursor.stream().is_some_and(|s| s.id == stream.id))
            .collect();
        while !of_stream.is_empty() {
            let (mut least, mut least_key) = (0, of_stream[0].key()?);
            for (idx, cursor) in of_stream.iter_mut().enumerate().skip(1) {
                let key = cursor.key()?;
                if key < least_key {
                    (least, least_key) = (idx, key);
                }
            }
            take(&stream, of_stream[least].row()?)?;
            if of_stream[least].step() {
                of_stream.swap_remove(least);
            }
        }
    }
}

/// A place in a run.
struct Cursor {
    run: Arc<dyn Run>,
    index: Arc<RunIndex>,
    stream_idx: usize,
    row: u32,
    block: Option<Block>,
}

impl Cursor {
    fn new(run: Arc<dyn Run>) -> Result<Self, Error> {
        Ok(Self {
            index: run.index()?,
            run,
            stream_idx: 0,
            row: 0,
            block: None,
        })
    }

    /// The stream of the row at hand; `None` at the end.
    fn stream(&self) -> Option<&Arc<Stream>> {
        let stream = self.index.streams().get(self.stream_idx)?;
        Some(&stream.stream)
    }

    fn block(&mut self) -> Result<(&Block, usize), Error> {
        let block_idx = self.row / BLOCK_ROWS;
        let is_here = |block: &Block| block.first_row / BLOCK_ROWS == block_idx;
        if !self.block.as_ref().is_some_and(is_here) {
            self.block = Some(self.run.block(block_idx, &Columns::ALL)?);
        }
        let block = self
            .block
            .as_ref()
            .expect("read above where it was missing");
        Ok((block, (self.row - block.first_row) as usize))
    }

    fn key(&mut self) -> Result<(i64, EntryId), Error> {
        let (block, idx) = self.block()?;
        Ok((block.times()[idx].as_micros(), block.ids()[idx]))
    }

    fn row(&mut self) -> Result<MergedRow<'_>, Error> {
        let (block, idx) = self.block()?;
        Ok(MergedRow {
            timestamp: block.times()[idx],
            id: block.ids()[idx],
            severity: block.severities()[idx],
            output: block.outputs()[idx],
            message: block.messages().value(idx),
            attributes: block.attributes().row(idx),
        })
    }

    /// Goes on to the next row; true when it is another stream's, or there is none.
    fn step(&mut self) -> bool {
        self.row += 1;
        let is_over = self
            .index
            .streams()
            .get(self.stream_idx)
            .is_none_or(|stream| self.row >= stream.rows.end);
        if is_over {
            self.stream_idx += 1;
        }
        is_over
    }
}
