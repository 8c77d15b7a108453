//! Where in a run the rows of a question may be: streams, their classes, and rows by block.

use std::{ops::Range, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    Snapshot,
    residual::{Class, Residuals},
    span::{Span, minute_of},
};
use crate::{
    Error,
    lake::{
        probe::Probe,
        run::{Cell, Columns, Run, RunIndex, RunStream},
    },
};

/// Classes whose probes are put to the filters one by one; more of them are asked as one.
const MAX_PROBES: usize = 8;

/// A run as a question sees it.
#[derive(Debug)]
pub(super) struct RunPlan {
    /// Its number in the snapshot.
    pub(super) run_idx: u32,
    pub(super) run: Arc<dyn Run>,
    pub(super) index: Arc<RunIndex>,
    classes: Vec<Arc<Class>>,
    /// By class; `None`, or nothing at all, when all blocks may hold a match.
    may_hold: Vec<Option<Arc<MayHold>>>,
    selected: Selected,
}

/// Which blocks may hold a match.
#[derive(Debug)]
struct MayHold {
    blocks: Vec<bool>,
    /// How many of them do, before each block and at the end.
    n_before: Vec<u32>,
}

impl MayHold {
    fn new(blocks: Vec<bool>) -> Self {
        let mut n = 0;
        let mut n_before = vec![0];
        n_before.extend(blocks.iter().map(|may_hold| {
            n += u32::from(*may_hold);
            n
        }));
        Self { blocks, n_before }
    }

    fn has_any(&self) -> bool {
        self.n_before.last().is_some_and(|n| *n > 0)
    }

    /// Whether any of these blocks may hold one.
    fn has_any_of(&self, blocks: Range<u32>) -> bool {
        let n_before = |block: u32| self.n_before.get(block as usize);
        n_before(blocks.start) != n_before(blocks.end)
    }
}

/// The streams that may have matches.
#[derive(Debug)]
enum Selected {
    /// All, of one class.
    All,
    /// Number of stream and class.
    Some(Vec<(u32, u32)>),
}

/// Rows of one stream in one block that may match.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// Row numbers in the run.
    pub(super) rows: Range<u32>,
    pub(super) stream: u32,
    pub(super) class: u32,
}

/// What is to be looked at in one block.
#[derive(Debug)]
pub(super) struct BlockTask {
    pub(super) plan: usize,
    pub(super) block_idx: u32,
    pub(super) pieces: Vec<Piece>,
    /// The best any of its rows can be, as the question ranks rows.
    pub(super) best: i64,
}

impl RunPlan {
    /// `None` when the run has nothing to say about these times, or nothing that its filters allow to match.
    pub(super) fn new(
        run_idx: usize,
        snapshot: &Snapshot,
        residuals: &Residuals<'_>,
        span: Span,
    ) -> Result<Option<Self>, Error> {
        let Some(mut plan) = Self::unfiltered(run_idx, snapshot, residuals, span)? else {
            return Ok(None);
        };
        plan.may_hold = may_hold(&*plan.run, &plan.classes)?;
        let may_match = plan
            .may_hold
            .iter()
            .any(|blocks| blocks.as_deref().is_none_or(MayHold::has_any));
        Ok(may_match.then_some(plan))
    }

    /// The same before filters are asked, as if all blocks might hold a match.
    pub(super) fn unfiltered(
        run_idx: usize,
        snapshot: &Snapshot,
        residuals: &Residuals<'_>,
        span: Span,
    ) -> Result<Option<Self>, Error> {
        let run = &snapshot.runs[run_idx];
        let extent = run.extent();
        if extent.n_rows == 0 || span.first > extent.last || extent.first > span.last {
            return Ok(None);
        }
        let index = run.index()?;
        let (selected, classes) = if residuals.asks_about_streams() {
            let (selected, classes) = select(&index, snapshot, residuals, span);
            (Selected::Some(selected), classes)
        } else {
            let class = residuals.class(&[]);
            if class.is_never() {
                return Ok(None);
            }
            (Selected::All, vec![class])
        };
        if classes.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            run_idx: u32::try_from(run_idx).expect("runs are not that many"),
            may_hold: Vec::new(),
            run: Arc::clone(run),
            index,
            classes,
            selected,
        }))
    }

    pub(super) fn class(&self, class: u32) -> &Arc<Class> {
        &self.classes[class as usize]
    }

    /// The class, where it is one for all streams.
    pub(super) fn only_class(&self) -> Option<&Arc<Class>> {
        match self.selected {
            Selected::All => self.classes.first(),
            Selected::Some(_) => None,
        }
    }

    /// Whether any row may match for its stream and severity alone.
    pub(super) fn has_sure_rows(&self) -> bool {
        self.classes
            .iter()
            .any(|class| class.n_sure(&[1u64; 7]) > 0)
    }

    fn may_hold(&self, class: u32, block_idx: u32) -> bool {
        match self.may_hold.get(class as usize) {
            Some(Some(may_hold)) => {
                let blocks = &may_hold.blocks;
                blocks.get(block_idx as usize).copied().unwrap_or(true)
            }
            _ => true,
        }
    }

    /// Whether any block with rows of the stream may hold a match.
    fn stream_may_hold(&self, class: u32, rows: &Range<u32>) -> bool {
        let Some(Some(may_hold)) = self.may_hold.get(class as usize) else {
            return true;
        };
        let block_rows = self.run.block_rows();
        may_hold.has_any_of(rows.start / block_rows..rows.end.div_ceil(block_rows))
    }

    /// The streams that may have matches in the span, with their numbers and classes.
    pub(super) fn streams(&self, span: Span) -> impl Iterator<Item = (u32, &RunStream, u32)> {
        let streams = self.index.streams();
        let n = match &self.selected {
            Selected::All => streams.len(),
            Selected::Some(selected) => selected.len(),
        };
        (0..n).filter_map(move |idx| {
            let (stream, class) = match &self.selected {
                Selected::All => (u32::try_from(idx).expect("streams have u32 rows"), 0),
                Selected::Some(selected) => selected[idx],
            };
            let found = &streams[stream as usize];
            let may_match = found.first <= span.last
                && span.first <= found.last
                && self.stream_may_hold(class, &found.rows);
            may_match.then_some((stream, found, class))
        })
    }

    /// The cells of a stream whose minutes meet the span.
    pub(super) fn cells_within(&self, stream: &RunStream, span: Span) -> &[Cell] {
        let cells = self.index.cells_of(stream);
        if span.covers(Span {
            first: stream.first,
            last: stream.last,
        }) {
            return cells;
        }
        let (first, last) = (minute_of(span.first), minute_of(span.last));
        let from = cells.partition_point(|cell| cell.minute < first);
        let to = cells.partition_point(|cell| cell.minute <= last);
        cells.get(from..to).unwrap_or_default()
    }

    /// Calls `take` for each block that may hold matches, with those of the `rows` that are in it.
    pub(super) fn split(
        &self,
        rows: Range<u32>,
        class: u32,
        mut take: impl FnMut(u32, Range<u32>),
    ) {
        let block_rows = self.run.block_rows();
        let mut start = rows.start;
        while start < rows.end {
            let block_idx = start / block_rows;
            let end = rows.end.min((block_idx + 1).saturating_mul(block_rows));
            if self.may_hold(class, block_idx) {
                take(block_idx, start..end);
            }
            start = end;
        }
    }

    /// Adds a piece to the tasks of this plan; pieces come in the order of rows.
    pub(super) fn add(
        plan: usize,
        tasks: &mut Vec<BlockTask>,
        block_idx: u32,
        piece: Piece,
        best: i64,
    ) {
        match tasks.last_mut() {
            Some(task) if task.plan == plan && task.block_idx == block_idx => {
                task.best = task.best.max(best);
                match task.pieces.last_mut() {
                    Some(last)
                        if last.rows.end == piece.rows.start && last.stream == piece.stream =>
                    {
                        last.rows.end = piece.rows.end;
                    }
                    _ => task.pieces.push(piece),
                }
            }
            _ => tasks.push(BlockTask {
                plan,
                block_idx,
                pieces: vec![piece],
                best,
            }),
        }
    }

    /// The columns that decide the pieces of a block.
    pub(super) fn columns(&self, pieces: &[Piece]) -> Columns {
        let mut columns = Columns::default();
        let mut last = None;
        for piece in pieces {
            if last != Some(piece.class) {
                columns.include(&self.class(piece.class).columns);
                last = Some(piece.class);
            }
        }
        columns
    }
}

/// Asks the filters, for each class, which blocks may hold matches.
fn may_hold(run: &dyn Run, classes: &[Arc<Class>]) -> Result<Vec<Option<Arc<MayHold>>>, Error> {
    let together = (classes.len() > MAX_PROBES)
        .then(|| Probe::either(classes.iter().map(|class| class.probe.clone())));
    let mut known: Vec<(&Probe, Option<Arc<MayHold>>)> = Vec::new();
    let mut of_classes = Vec::new();
    for class in classes {
        let probe = together.as_ref().unwrap_or(&class.probe);
        let found = known.iter().find(|(other, _)| *other == probe);
        let blocks = match (found, probe) {
            (Some((_, blocks)), _) => blocks.clone(),
            (None, Probe::Any) => None,
            (None, probe) => {
                let blocks = Some(Arc::new(MayHold::new(run.may_hold(probe)?)));
                known.push((probe, blocks.clone()));
                blocks
            }
        };
        of_classes.push(blocks);
    }
    Ok(of_classes)
}

/// When the rows of a stream in a minute may be.
pub(super) fn rows_of_minute(minute: i32, stream: &RunStream) -> Span {
    let minute = Span::of_minute(minute);
    Span {
        first: minute.first.max(stream.first),
        last: minute.last.min(stream.last),
    }
}

/// Streams with rows in the span whose rows may match, and the classes they are of.
fn select(
    index: &RunIndex,
    snapshot: &Snapshot,
    residuals: &Residuals<'_>,
    span: Span,
) -> (Vec<(u32, u32)>, Vec<Arc<Class>>) {
    let mut selected = Vec::new();
    let mut classes: Vec<Arc<Class>> = Vec::new();
    // `None` for a class that never matches.
    let mut known: FxHashMap<Vec<u64>, Option<u32>> = FxHashMap::default();
    let mut answers = Vec::new();
    let described = snapshot.streams.describe_all(index);
    for ((idx, stream), described) in (0u32..).zip(index.streams()).zip(described.iter()) {
        if stream.first > span.last || span.first > stream.last {
            continue;
        }
        residuals.ask(described, &mut answers);
        let class = known.get(&answers).copied().unwrap_or_else(|| {
            let class = residuals.class(&answers);
            let number = (!class.is_never()).then(|| {
                classes.push(class);
                u32::try_from(classes.len() - 1).expect("no more classes than streams")
            });
            known.insert(answers.clone(), number);
            number
        });
        if let Some(class) = class {
            selected.push((idx, class));
        }
    }
    (selected, classes)
}
