//! Which blocks of a run a question may open, and what spared it the others.

use std::ops::Range;

use super::{
    Snapshot,
    pieces::RunPlan,
    residual::Residuals,
    span::{Span, minute_of},
};
use crate::{Error, Filter, lake::run::RunStream};

/// What a question makes of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Explained {
    pub(crate) n_blocks: u32,
    /// Blocks that may be opened; a page that is full sooner opens fewer.
    pub(crate) opened: Vec<u32>,
    pub(crate) spared: Spared,
}

/// Blocks by the last thing that had to be asked before they were left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spared {
    /// None of its rows is in the time asked for.
    pub(crate) by_time: u32,
    /// None of those in time is of a stream that may match.
    pub(crate) by_stream: u32,
    /// None of those left has a severity that may match.
    pub(crate) by_severity: u32,
    /// Its filter has not all the words and values that a match must have.
    pub(crate) by_filter: u32,
}

/// How far a block got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Nowhere,
    InTime,
    OfStream,
    OfSeverity,
    Opened,
}

/// Says of each run of a snapshot which blocks a question may open; reads indexes and filters only.
///
/// # Errors
/// `Quarantine` when an index is damaged, `Retry` when the storage fails.
pub(crate) fn explain(snapshot: &Snapshot, filter: &Filter) -> Result<Vec<Explained>, Error> {
    let residuals = Residuals::new(filter.query.expr());
    let span = Span::of(filter);
    (0..snapshot.runs.len())
        .map(|run_idx| explain_run(snapshot, run_idx, &residuals, span))
        .collect()
}

fn explain_run(
    snapshot: &Snapshot,
    run_idx: usize,
    residuals: &Residuals<'_>,
    span: Option<Span>,
) -> Result<Explained, Error> {
    let run = &snapshot.runs[run_idx];
    let (extent, block_rows) = (run.extent(), run.block_rows());
    let n_blocks = extent.n_rows.div_ceil(block_rows);
    let mut stages = vec![Stage::Nowhere; n_blocks as usize];
    let mut reach = |rows: Range<u32>, stage: Stage| {
        for block_idx in rows.start / block_rows..rows.end.div_ceil(block_rows) {
            if let Some(known) = stages.get_mut(block_idx as usize) {
                *known = stage.max(*known);
            }
        }
    };
    let meets = |span: &Span| span.first <= extent.last && extent.first <= span.last;
    if let Some(span) = span.filter(meets) {
        let index = run.index()?;
        for stream in index.streams().iter().filter(|stream| is_in(stream, span)) {
            for cell in index.cells(stream).filter(|cell| {
                (minute_of(span.first)..=minute_of(span.last)).contains(&cell.minute)
            }) {
                reach(
                    cell.first_row..cell.first_row + cell.n_rows(),
                    Stage::InTime,
                );
            }
        }
        if let Some(plan) = RunPlan::unfiltered(run_idx, snapshot, residuals, span)? {
            for (_, stream, class_idx) in plan.streams(span) {
                let class = plan.class(class_idx);
                for cell in plan.cells_within(stream, span) {
                    let rows = cell.first_row..cell.first_row + cell.n_rows();
                    if class.n_possible(&cell.counts) == 0 {
                        reach(rows, Stage::OfStream);
                        continue;
                    }
                    reach(rows, Stage::OfSeverity);
                }
            }
        }
        if let Some(plan) = RunPlan::new(run_idx, snapshot, residuals, span)? {
            for (_, stream, class_idx) in plan.streams(span) {
                let class = plan.class(class_idx);
                let cells = plan.cells_within(stream, span).iter();
                for cell in cells.filter(|cell| class.n_possible(&cell.counts) > 0) {
                    let rows = cell.first_row..cell.first_row + cell.n_rows();
                    plan.split(rows, class_idx, |_, rows| reach(rows, Stage::Opened));
                }
            }
        }
    }
    let n_at = |stage| {
        let n = stages.iter().filter(|known| **known == stage).count();
        u32::try_from(n).expect("a run has fewer blocks than rows")
    };
    Ok(Explained {
        n_blocks,
        spared: Spared {
            by_time: n_at(Stage::Nowhere),
            by_stream: n_at(Stage::InTime),
            by_severity: n_at(Stage::OfStream),
            by_filter: n_at(Stage::OfSeverity),
        },
        opened: (0u32..)
            .zip(&stages)
            .filter(|(_, stage)| **stage == Stage::Opened)
            .map(|(block_idx, _)| block_idx)
            .collect(),
    })
}

fn is_in(stream: &RunStream, span: Span) -> bool {
    stream.first <= span.last && span.first <= stream.last
}
