//! Everything that matches, in the order in which it lies: for copying a store, where no order has to be made.

use tawny_model::LogEntry;

use super::{
    Snapshot,
    eval::matching_rows,
    hot::HotClasses,
    page::{hot_entry, stored_entry},
    pieces::{BlockTask, Piece, RunPlan},
    residual::Residuals,
    span::Span,
};
use crate::{Error, Filter, lake::run::Columns};

/// Walks through the matches of a snapshot.
#[derive(Debug)]
pub(crate) struct Matches<'s> {
    snapshot: &'s Snapshot,
    residuals: Residuals<'s>,
    /// `None` when no time is asked for.
    span: Option<Span>,
}

impl<'s> Matches<'s> {
    pub(crate) fn new(snapshot: &'s Snapshot, filter: &'s Filter) -> Self {
        Self {
            snapshot,
            residuals: Residuals::new(filter.query.expr()),
            span: Span::of(filter),
        }
    }

    /// Hands on the matches among the rows in memory, batch by batch.
    pub(crate) fn in_memory<E: From<Error>>(
        &self,
        mut take: impl FnMut(LogEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(span) = self.span else {
            return Ok(());
        };
        let mut classes = HotClasses::new(self.snapshot, &self.residuals, span);
        for (batch_idx, batch) in (0u32..).zip(&self.snapshot.hot) {
            let Some(class) = classes.of(batch) else {
                continue;
            };
            for (row, entry) in (0u32..).zip(batch.iter().map(|(entry, _)| entry)) {
                if span.contains(entry.timestamp()) && class.matches(entry, &batch.stream) {
                    take(hot_entry(self.snapshot, batch_idx, row))?;
                }
            }
        }
        Ok(())
    }

    /// Hands on the matches of one run in the order of its rows, holding one block at a time.
    ///
    /// A block or an index that is damaged goes to `damaged`, with the number of rows that are left out for it.
    pub(crate) fn in_run<E: From<Error>>(
        &self,
        run_idx: usize,
        mut take: impl FnMut(LogEntry) -> Result<(), E>,
        mut damaged: impl FnMut(Error, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(span) = self.span else {
            return Ok(());
        };
        let plan = match RunPlan::new(run_idx, self.snapshot, &self.residuals, span) {
            Ok(Some(plan)) => plan,
            Ok(None) => return Ok(()),
            Err(error @ Error::Damaged { .. }) => {
                let n_rows = self.snapshot.runs[run_idx].extent().n_rows;
                return damaged(error, u64::from(n_rows));
            }
            Err(error) => return Err(error.into()),
        };
        for task in tasks(&plan, span) {
            match self.block(&plan, &task, span) {
                Ok(found) => found.into_iter().try_for_each(&mut take)?,
                Err(error @ Error::Damaged { .. }) => {
                    let rows = task.pieces.iter().map(|piece| piece.rows.len() as u64);
                    damaged(error, rows.sum())?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn block(&self, plan: &RunPlan, task: &BlockTask, span: Span) -> Result<Vec<LogEntry>, Error> {
        let block = plan.run.block(task.block_idx, &Columns::ALL)?;
        let mut found = Vec::new();
        for piece in &task.pieces {
            let rows = (piece.rows.start - block.first_row)..(piece.rows.end - block.first_row);
            let in_time = rows.filter(|row| span.contains(block.times()[*row as usize]));
            let stream = &plan.index.streams()[piece.stream as usize].stream;
            let stream = self.snapshot.streams.describe(stream);
            for row in matching_rows(plan.class(piece.class), &block, in_time.collect()) {
                found.push(stored_entry(&block, row, &stream));
            }
        }
        Ok(found)
    }
}

/// The blocks to open, in their order.
fn tasks(plan: &RunPlan, span: Span) -> Vec<BlockTask> {
    let mut tasks = Vec::new();
    for (stream, found, class) in plan.streams(span) {
        for cell in plan.cells_within(found, span) {
            if plan.class(class).n_possible(&cell.counts) == 0 {
                continue;
            }
            let rows = cell.first_row..cell.first_row + cell.n_rows();
            plan.split(rows, class, |block_idx, rows| {
                let piece = Piece {
                    rows,
                    stream,
                    class,
                };
                RunPlan::add(0, &mut tasks, block_idx, piece, 0);
            });
        }
    }
    tasks
}
