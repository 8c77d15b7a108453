//! The best entries by id: hot rows first, then runs and blocks by the best they can hold, until none can do better.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use tawny_model::{EntryId, Timestamp};

use super::{
    Budget, Snapshot,
    eval::matching_rows,
    hot::{BATCHES_PER_THREAD, HotClasses},
    page,
    parallel::for_each,
    pieces::{BlockTask, Piece, RunPlan, rows_of_minute},
    residual::Residuals,
    span::{Span, highest_id, lowest_id, minute_of},
};
use crate::{
    Error, Order, SearchPage, SearchRequest,
    lake::{rows::HotRows, run::Columns},
    limits::check_search,
};

/// Runs looked at together at first; then twice as many each time.
const FIRST_RUNS: usize = 4;

/// One page of the entries that match.
pub(crate) fn search(
    snapshot: &Snapshot,
    request: &SearchRequest,
    budget: &Budget<'_>,
) -> Result<SearchPage, Error> {
    check_search(request)?;
    let Some(ids) = Ids::of(request) else {
        return Ok(SearchPage::default());
    };
    let span = Span::of(&request.filter).and_then(|span| span.and(ids.span()?));
    let Some(span) = span else {
        return Ok(SearchPage::default());
    };
    let search = Search {
        snapshot,
        budget,
        residuals: Residuals::new(request.filter.query.expr()),
        span,
        ids,
        order: request.order,
        kept: Kept::new(request.limit + 1),
    };
    search.hot()?;
    search.runs()?;
    let found = search.kept.into_sorted();
    page::read(snapshot, request, found, budget)
}

/// Bounds of the ids asked for, both inclusive.
#[derive(Debug, Clone, Copy)]
struct Ids {
    low: EntryId,
    high: EntryId,
}

impl Ids {
    fn of(request: &SearchRequest) -> Option<Self> {
        let low = match request.after {
            Some(after) => after.0.checked_add(1)?,
            None => i64::MIN,
        };
        let high = match request.before {
            Some(before) => before.0.checked_sub(1)?,
            None => i64::MAX,
        };
        (low <= high).then_some(Self {
            low: EntryId(low),
            high: EntryId(high),
        })
    }

    /// Times that may have such an id.
    fn span(&self) -> Option<Span> {
        Span::of_ids(self.low, self.high)
    }

    fn contains(&self, id: EntryId) -> bool {
        self.low <= id && id <= self.high
    }
}

/// A row that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// Greater is better.
    pub(super) rank: i64,
    pub(super) place: Place,
}

/// Where its row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// `row` counts the new rows.
    Hot {
        batch: u32,
        row: u32,
    },
    Run {
        run: u32,
        row: u32,
        stream: u32,
    },
}

pub(super) fn rank(order: Order, id: EntryId) -> i64 {
    match order {
        Order::NewestFirst => id.0,
        // Turns the order round without an overflow.
        Order::OldestFirst => !id.0,
    }
}

/// The best so far, over all threads.
#[derive(Debug)]
struct Kept {
    n_wanted: usize,
    /// What is worse cannot be among the best; rows as good as the worst of them are all kept.
    floor: AtomicI64,
    found: Mutex<Vec<Found>>,
}

impl Kept {
    fn new(n_wanted: usize) -> Self {
        Self {
            n_wanted,
            floor: AtomicI64::new(i64::MIN),
            found: Mutex::default(),
        }
    }

    fn floor(&self) -> i64 {
        self.floor.load(Ordering::Relaxed)
    }

    fn add(&self, mut more: Vec<Found>) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.append(&mut more);
        if found.len() >= self.n_wanted {
            let by_rank = |a: &Found, b: &Found| b.rank.cmp(&a.rank);
            let (_, worst, _) = found.select_nth_unstable_by(self.n_wanted - 1, by_rank);
            let floor = worst.rank;
            found.retain(|row| row.rank >= floor);
            self.floor.store(floor, Ordering::Relaxed);
        }
    }

    /// Best first.
    fn into_sorted(self) -> Vec<Found> {
        let mut found = self
            .found
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }
}

struct Search<'s> {
    snapshot: &'s Snapshot,
    budget: &'s Budget<'s>,
    residuals: Residuals<'s>,
    span: Span,
    ids: Ids,
    order: Order,
    kept: Kept,
}

impl Search<'_> {
    /// The best rank rows between these times can have.
    fn best(&self, first: Timestamp, last: Timestamp) -> i64 {
        match self.order {
            Order::NewestFirst => highest_id(last).min(self.ids.high).0,
            Order::OldestFirst => !lowest_id(first).max(self.ids.low).0,
        }
    }

    /// The span without the times that can no longer be among the best.
    fn open_span(&self) -> Option<Span> {
        self.span_above(self.kept.floor())
            .and_then(|open| self.span.and(open))
    }

    /// Times that may have a rank of at least this.
    fn span_above(&self, floor: i64) -> Option<Span> {
        match self.order {
            Order::NewestFirst => Span::of_ids(EntryId(floor), EntryId(i64::MAX)),
            Order::OldestFirst => Span::of_ids(EntryId(i64::MIN), EntryId(!floor)),
        }
    }

    fn hot(&self) -> Result<(), Error> {
        let mut batches: Vec<(i64, usize)> = Vec::new();
        for (idx, batch) in self.snapshot.hot.iter().enumerate() {
            if !batch.ids.is_empty()
                && batch.first <= self.span.last
                && self.span.first <= batch.last
            {
                batches.push((self.best(batch.first, batch.last), idx));
            }
        }
        batches.sort_unstable_by(|a, b| b.cmp(a));
        for_each(
            batches.len(),
            BATCHES_PER_THREAD,
            self.budget,
            || HotClasses::new(self.snapshot, &self.residuals, self.span),
            |classes, idx| {
                let (best, batch_idx) = batches[idx];
                if best >= self.kept.floor() {
                    self.hot_batch(batch_idx, &self.snapshot.hot[batch_idx], classes);
                }
                Ok(())
            },
        )?;
        Ok(())
    }

    fn hot_batch(&self, batch_idx: usize, batch: &HotRows, classes: &mut HotClasses<'_>) {
        let Some(class) = classes.of(batch) else {
            return;
        };
        let batch_idx = u32::try_from(batch_idx).expect("batches in memory are not that many");
        let mut found = Vec::new();
        for (row, (idx, id)) in (0u32..).zip(batch.new.clone().zip(&batch.ids)) {
            let Some(entry) = batch.entries.get(idx) else {
                break;
            };
            let rank = rank(self.order, *id);
            if rank < self.kept.floor()
                || !self.ids.contains(*id)
                || !self.span.contains(entry.timestamp())
            {
                continue;
            }
            if class.matches(entry, &batch.stream) {
                let place = Place::Hot {
                    batch: batch_idx,
                    row,
                };
                found.push(Found { rank, place });
            }
        }
        if !found.is_empty() {
            self.kept.add(found);
        }
    }

    fn runs(&self) -> Result<(), Error> {
        let mut runs: Vec<(i64, usize)> = Vec::new();
        for (idx, run) in self.snapshot.runs.iter().enumerate() {
            let extent = run.extent();
            let best = match self.order {
                Order::NewestFirst => extent.max_id.0,
                Order::OldestFirst => !extent.min_id.0,
            };
            let best = best.min(self.best(extent.first, extent.last));
            runs.push((best, idx));
        }
        runs.sort_unstable_by(|a, b| b.cmp(a));
        let mut runs = runs.as_slice();
        let mut n_next = FIRST_RUNS;
        while let Some((best, _)) = runs.first() {
            if *best < self.kept.floor() {
                break;
            }
            let (now, later) = runs.split_at(n_next.min(runs.len()));
            self.some_runs(now)?;
            runs = later;
            n_next *= 2;
        }
        Ok(())
    }

    fn some_runs(&self, runs: &[(i64, usize)]) -> Result<(), Error> {
        let Some(span) = self.open_span() else {
            return Ok(());
        };
        let plans = for_each(runs.len(), 2, self.budget, Vec::new, |plans, idx| {
            let (best, run_idx) = runs[idx];
            if best >= self.kept.floor() {
                plans.extend(RunPlan::new(run_idx, self.snapshot, &self.residuals, span)?);
            }
            Ok(())
        })?;
        let plans: Vec<RunPlan> = plans.into_iter().flatten().collect();
        let span = self.narrowed(&plans, span);
        let mut tasks = Vec::new();
        for (plan_idx, plan) in plans.iter().enumerate() {
            self.budget.check()?;
            self.add_tasks(plan_idx, plan, span, &mut tasks);
        }
        tasks.sort_unstable_by_key(|task| std::cmp::Reverse(task.best));
        for_each(
            tasks.len(),
            1,
            self.budget,
            || (),
            |(), idx| {
                let task = &tasks[idx];
                if task.best >= self.kept.floor() {
                    self.block(&plans[task.plan], task)?;
                }
                Ok(())
            },
        )?;
        Ok(())
    }

    fn add_tasks(&self, plan_idx: usize, plan: &RunPlan, span: Span, tasks: &mut Vec<BlockTask>) {
        let extent = plan.run.extent();
        let best_of_run = match self.order {
            Order::NewestFirst => extent.max_id.0,
            Order::OldestFirst => !extent.min_id.0,
        };
        for (stream_idx, stream, class_idx) in plan.streams(span) {
            let class = plan.class(class_idx);
            let cells = plan.cells_within(stream, span);
            let (Some(first), Some(last)) = (cells.first(), cells.last()) else {
                continue;
            };
            let rows = first.first_row..last.first_row + last.n_rows();
            plan.split(rows, class_idx, |block_idx, rows| {
                let from = cells.partition_point(|cell| cell.first_row <= rows.start);
                let to = cells.partition_point(|cell| cell.first_row < rows.end);
                // Severity may leave out cells at both ends.
                let mut possible = cells[from - 1..to]
                    .iter()
                    .filter(|cell| class.n_possible(&cell.counts) > 0);
                let Some(oldest) = possible.next() else {
                    return;
                };
                let newest = possible.next_back().unwrap_or(oldest);
                let first = Span::of_minute(oldest.minute)
                    .first
                    .max(stream.first)
                    .max(span.first);
                let last = Span::of_minute(newest.minute)
                    .last
                    .min(stream.last)
                    .min(span.last);
                let best = self.best(first, last).min(best_of_run);
                if best < self.kept.floor() {
                    return;
                }
                let piece = Piece {
                    rows: rows.start.max(oldest.first_row)
                        ..rows.end.min(newest.first_row + newest.n_rows()),
                    stream: stream_idx,
                    class: class_idx,
                };
                RunPlan::add(plan_idx, tasks, block_idx, piece, best);
            });
        }
    }

    /// Looks at one block: at times and ids first, and at what they say only if any row is good enough.
    fn block(&self, plan: &RunPlan, task: &BlockTask) -> Result<(), Error> {
        let block = plan.run.block(task.block_idx, &Columns::ORDER)?;
        let is_good = |row: u32, floor: i64| {
            let id = block.ids()[row as usize];
            rank(self.order, id) >= floor
                && self.ids.contains(id)
                && self.span.contains(block.times()[row as usize])
        };
        let floor = self.kept.floor();
        // Rows by class, so that a text is looked for in all of them at once.
        let mut by_class: Vec<(u32, Vec<u32>)> = Vec::new();
        for piece in &task.pieces {
            let rows = (piece.rows.start - block.first_row)..(piece.rows.end - block.first_row);
            let good = rows.filter(|row| is_good(*row, floor));
            match by_class.iter_mut().find(|(class, _)| *class == piece.class) {
                Some((_, rows)) => rows.extend(good),
                None => by_class.push((piece.class, good.collect())),
            }
        }
        by_class.retain(|(_, rows)| !rows.is_empty());
        let mut columns = Columns::default();
        for (class, _) in &by_class {
            columns.include(&plan.class(*class).columns);
        }
        let decoded = if columns == Columns::default() {
            block.clone()
        } else {
            plan.run.block(task.block_idx, &columns)?
        };
        let mut found = Vec::new();
        for (class, rows) in by_class {
            for row in matching_rows(plan.class(class), &decoded, rows) {
                let run_row = row + block.first_row;
                let at = task
                    .pieces
                    .partition_point(|piece| piece.rows.end <= run_row);
                let place = Place::Run {
                    run: plan.run_idx,
                    row: run_row,
                    stream: task.pieces[at].stream,
                };
                let rank = rank(self.order, block.ids()[row as usize]);
                found.push(Found { rank, place });
            }
        }
        if !found.is_empty() {
            self.kept.add(found);
        }
        Ok(())
    }

    /// The part of the span that must hold all of the best, as the cells count rows that match whatever they say.
    fn narrowed(&self, plans: &[RunPlan], span: Span) -> Span {
        let safe = Span::surely_of_ids(self.ids.low, self.ids.high);
        let Some(safe) = safe.and_then(|safe| span.and(safe)) else {
            return span;
        };
        if !plans.iter().any(RunPlan::has_sure_rows) {
            return span;
        }
        let (first, last) = (minute_of(safe.first), minute_of(safe.last));
        let ends = plans
            .iter()
            .flat_map(|plan| plan.streams(safe))
            .map(|(_, stream, _)| {
                (
                    minute_of(stream.first).max(first),
                    minute_of(stream.last).min(last),
                )
            });
        let Some((first, last)) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
            return span;
        };
        let mut n_minutes = 1;
        while n_minutes <= i64::from(last) - i64::from(first) {
            let (from, to) = match self.order {
                Order::NewestFirst => (i64::from(last) - n_minutes + 1, i64::from(last)),
                Order::OldestFirst => (i64::from(first), i64::from(first) + n_minutes - 1),
            };
            let (from, to) = (i32::try_from(from), i32::try_from(to));
            let (Ok(from), Ok(to)) = (from, to) else {
                break;
            };
            let window = Span {
                first: Span::of_minute(from).first,
                last: Span::of_minute(to).last,
            };
            if self.has_enough(plans, safe, window) {
                let worst = match self.order {
                    Order::NewestFirst => lowest_id(window.first).0,
                    Order::OldestFirst => !highest_id(window.last).0,
                };
                let above = self.span_above(worst);
                return above.and_then(|above| span.and(above)).unwrap_or(span);
            }
            n_minutes *= 2;
        }
        span
    }

    /// Whether cells that lie whole in `safe` and `window` hold as many rows as are wanted.
    fn has_enough(&self, plans: &[RunPlan], safe: Span, window: Span) -> bool {
        let Some(window) = safe.and(window) else {
            return false;
        };
        let mut n_missing = self.kept.n_wanted as u64;
        for plan in plans {
            for (_, stream, class_idx) in plan.streams(window) {
                let class = plan.class(class_idx);
                let is_whole = |minute| window.covers(rows_of_minute(minute, stream));
                let cells = plan.cells_within(stream, window).iter();
                let n_sure = cells
                    .filter(|cell| is_whole(cell.minute))
                    .map(|cell| class.n_sure(&cell.counts))
                    .sum();
                n_missing = n_missing.saturating_sub(n_sure);
                if n_missing == 0 {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(rank: i64, row: u32) -> Found {
        Found {
            rank,
            place: Place::Hot { batch: 0, row },
        }
    }

    #[test]
    fn as_many_as_wanted_are_kept_and_all_as_good_as_the_worst() {
        let kept = Kept::new(2);
        kept.add(vec![hot(1, 0)]);
        assert_eq!(kept.floor(), i64::MIN);
        kept.add(vec![hot(5, 1), hot(3, 2), hot(3, 3)]);
        assert_eq!(kept.floor(), 3);
        kept.add(vec![hot(2, 4), hot(3, 5)]);
        let ranks: Vec<i64> = kept.into_sorted().iter().map(|row| row.rank).collect();
        assert_eq!(ranks, [5, 3, 3, 3]);
    }

    #[test]
    fn rank_turns_the_order_round() {
        for (a, b) in [(i64::MIN, i64::MAX), (-1, 0), (3, 4)] {
            assert!(rank(Order::NewestFirst, EntryId(a)) < rank(Order::NewestFirst, EntryId(b)));
            assert!(rank(Order::OldestFirst, EntryId(a)) > rank(Order::OldestFirst, EntryId(b)));
        }
    }
}
