//! Counting: from the index where it decides, row by row at its cut edges and where text decides.

use std::{ops::Range, sync::Arc};

use rustc_hash::FxHashMap;
use tawny_model::{EntryRef, Output, Severity, Stream, Timestamp};

use super::{
    Budget, Snapshot,
    eval::matching_rows,
    hot::{BATCHES_PER_THREAD, HotClasses},
    parallel::for_each,
    pieces::{BlockTask, Piece, RunPlan, rows_of_minute},
    residual::Residuals,
    span::Span,
};
use crate::{
    Bucket, Error, Filter, Histogram, HistogramRequest, MAX_BUCKETS,
    lake::{
        rows::HotRows,
        run::{AttributeColumns, Block, Columns, SeverityCounts},
    },
    limits::check_histogram,
};

/// Runs whose index is worth a thread.
const RUNS_PER_THREAD: usize = 2;

/// Takes what is counted. Each thread fills one of its own.
pub(super) trait Sink: Send {
    /// Takes rows of one stream that this sink counts alike; `time` is that of any of them.
    ///
    /// `of` is [`Of::All`] where streams make no difference, see [`Needs::streams`].
    fn add(&mut self, time: Timestamp, of: Of<'_>, counts: &SeverityCounts) -> Result<(), Error>;

    /// Takes what a single row says, where [`Needs::rows`] asks for it; it is counted by [`Self::add`] too.
    fn add_row(&mut self, _row: &Row<'_>) -> Result<(), Error> {
        Ok(())
    }
}

/// Whose rows are counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'s> {
    All,
    /// A stream of rows in memory.
    Hot(&'s Arc<Stream>),
    /// A stream of a run, both by number.
    Run {
        run: u32,
        stream: u32,
    },
}

/// What a sink must be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    pub(super) streams: bool,
    pub(super) severities: bool,
    /// Width of what is counted together; `None` when times make no difference.
    pub(super) bucket_ns: Option<i64>,
    /// Columns of each row, when rows are asked for.
    pub(super) rows: Option<Columns>,
}

/// A row that matches.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row<'r> {
    Hot(EntryRef<'r>),
    Stored(&'r Block, u32),
}

impl<'r> Row<'r> {
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Hot(entry) => entry.output(),
            Self::Stored(block, row) => {
                let outputs = block.outputs();
                outputs[*row as usize]
            }
        }
    }

    pub(super) fn attribute(&self, key: &str) -> Option<&'r str> {
        match self {
            Self::Hot(entry) => entry.attribute(key),
            Self::Stored(block, row) => {
                let attributes = block.attributes();
                attributes.get(*row as usize, key)
            }
        }
    }
}

impl Needs {
    fn bucket(&self, time: Timestamp) -> i64 {
        self.bucket_ns
            .map_or(0, |width| time.as_nanos().div_euclid(width))
    }

    fn counts_alike(&self, span: Span) -> bool {
        self.bucket(span.first) == self.bucket(span.last)
    }
}

pub(crate) fn count(
    snapshot: &Snapshot,
    filter: &Filter,
    budget: &Budget<'_>,
) -> Result<u64, Error> {
    struct Total(u64);

    impl Sink for Total {
        fn add(
            &mut self,
            _time: Timestamp,
            _of: Of<'_>,
            counts: &SeverityCounts,
        ) -> Result<(), Error> {
            self.0 += counts.iter().sum::<u64>();
            Ok(())
        }
    }

    let totals = tally(snapshot, filter, budget, &Needs::default(), || Total(0))?;
    Ok(totals.iter().map(|total| total.0).sum())
}

pub(crate) fn histogram(
    snapshot: &Snapshot,
    request: &HistogramRequest,
    budget: &Budget<'_>,
) -> Result<Histogram, Error> {
    check_histogram(request)?;
    let bucket_ns = i64::try_from(request.bucket.as_nanos()).unwrap_or(i64::MAX);
    let needs = Needs {
        severities: true,
        bucket_ns: Some(bucket_ns),
        ..Needs::default()
    };
    let new = || Buckets {
        bucket_ns,
        counts: FxHashMap::default(),
    };
    let parts = tally(snapshot, &request.filter, budget, &needs, new)?;
    let mut all = new();
    for (idx, counts) in parts.into_iter().flat_map(|part| part.counts) {
        all.add_to(idx, &counts)?;
    }
    let mut buckets: Vec<(i64, SeverityCounts)> = all.counts.into_iter().collect();
    buckets.sort_unstable_by_key(|(idx, _)| *idx);
    let buckets = buckets.into_iter().map(|(idx, counts)| Bucket {
        start: Timestamp::from_nanos(idx.saturating_mul(bucket_ns)),
        counts,
    });
    Ok(Histogram {
        buckets: buckets.collect(),
    })
}

struct Buckets {
    bucket_ns: i64,
    counts: FxHashMap<i64, SeverityCounts>,
}

impl Buckets {
    fn add_to(&mut self, idx: i64, counts: &SeverityCounts) -> Result<(), Error> {
        if self.counts.len() == MAX_BUCKETS && !self.counts.contains_key(&idx) {
            return Err(Error::Invalid {
                reason: format!(
                    "more than {MAX_BUCKETS} buckets; ask for wider ones or a shorter time"
                ),
            });
        }
        let sums = self.counts.entry(idx).or_default();
        for (sum, n) in sums.iter_mut().zip(counts) {
            *sum += n;
        }
        Ok(())
    }
}

impl Sink for Buckets {
    fn add(&mut self, time: Timestamp, _of: Of<'_>, counts: &SeverityCounts) -> Result<(), Error> {
        self.add_to(time.as_nanos().div_euclid(self.bucket_ns), counts)
    }
}

/// Shows every matching row to sinks, as few of them one by one as can be.
pub(super) fn tally<S: Sink>(
    snapshot: &Snapshot,
    filter: &Filter,
    budget: &Budget<'_>,
    needs: &Needs,
    new: impl Fn() -> S + Sync,
) -> Result<Vec<S>, Error> {
    let Some(span) = Span::of(filter) else {
        return Ok(Vec::new());
    };
    let tally = Tally {
        snapshot,
        budget,
        residuals: Residuals::new(filter.query.expr()),
        span,
        needs,
    };
    let mut sinks = tally.hot(&new)?;
    let runs = for_each(
        snapshot.runs.len(),
        RUNS_PER_THREAD,
        budget,
        || (Vec::new(), new()),
        |(plans, sink), run_idx| tally.run(run_idx, plans, sink),
    )?;
    let mut plans = Vec::new();
    for (of_thread, sink) in runs {
        plans.extend(of_thread);
        sinks.push(sink);
    }
    let tasks: Vec<(&RunPlan, &BlockTask)> = plans
        .iter()
        .flat_map(|(plan, tasks)| tasks.iter().map(move |task| (plan, task)))
        .collect();
    sinks.extend(for_each(tasks.len(), 1, budget, &new, |sink, idx| {
        let (plan, task) = tasks[idx];
        tally.block(plan, task, sink)
    })?);
    Ok(sinks)
}

struct Tally<'s> {
    snapshot: &'s Snapshot,
    budget: &'s Budget<'s>,
    residuals: Residuals<'s>,
    span: Span,
    needs: &'s Needs,
}

impl Tally<'_> {
    fn hot<S: Sink>(&self, new: &(impl Fn() -> S + Sync)) -> Result<Vec<S>, Error> {
        let batches = &self.snapshot.hot;
        let parts = for_each(
            batches.len(),
            BATCHES_PER_THREAD,
            self.budget,
            || {
                let classes = HotClasses::new(self.snapshot, &self.residuals, self.span);
                (classes, new())
            },
            |(classes, sink), idx| self.hot_batch(&batches[idx], classes, sink),
        )?;
        Ok(parts.into_iter().map(|(_, sink)| sink).collect())
    }

    fn hot_batch(
        &self,
        batch: &HotRows,
        classes: &mut HotClasses<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        let Some(class) = classes.of(batch) else {
            return Ok(());
        };
        let rows = Span {
            first: batch.first,
            last: batch.last,
        };
        if self.needs.rows.is_none()
            && class.decides(&batch.counts)
            && self.span.covers(rows)
            && self.needs.counts_alike(rows)
        {
            let sure = class.sure(&batch.counts);
            if sure.iter().any(|n| *n > 0) {
                sink.add(batch.first, Of::Hot(&batch.stream), &sure)?;
            }
            return Ok(());
        }
        let mut group = Group::new(self.needs, Of::Hot(&batch.stream));
        for idx in batch.new.clone() {
            let Some(entry) = batch.entries.get(idx) else {
                break;
            };
            if !self.span.contains(entry.timestamp()) {
                continue;
            }
            if class.matches(entry, &batch.stream) {
                group.add(entry.timestamp(), entry.severity(), sink)?;
                if self.needs.rows.is_some() {
                    sink.add_row(&Row::Hot(entry))?;
                }
            }
        }
        group.flush(sink)
    }

    /// Counts what the index of a run decides; what it does not is put down as tasks.
    fn run(
        &self,
        run_idx: usize,
        plans: &mut Vec<(RunPlan, Vec<BlockTask>)>,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        let plan = RunPlan::new(run_idx, self.snapshot, &self.residuals, self.span)?;
        let Some(plan) = plan else {
            return Ok(());
        };
        let mut tasks = Vec::new();
        let is_simple = plan.only_class().is_some_and(|class| class.is_decided());
        if is_simple && !self.needs.streams && self.needs.rows.is_none() {
            for cut in self.minutes(&plan, sink)? {
                self.streams(&plan, cut, &mut tasks, sink)?;
            }
            // Each stream was gone through once per cut.
            tasks.sort_by_key(|task| task.block_idx);
        } else {
            self.streams(&plan, self.span, &mut tasks, sink)?;
        }
        if !tasks.is_empty() {
            plans.push((plan, tasks));
        }
        Ok(())
    }

    /// Counts whole minutes over all streams; answers the spans left.
    fn minutes(&self, plan: &RunPlan, sink: &mut impl Sink) -> Result<Vec<Span>, Error> {
        let class = plan.only_class().expect("asked for where there is one");
        let extent = plan.run.extent();
        let mut cuts: Vec<Span> = Vec::new();
        for (minute, counts) in plan.index.minutes() {
            let minute = Span::of_minute(*minute);
            let rows = Span {
                first: minute.first.max(extent.first),
                last: minute.last.min(extent.last),
            };
            let Some(cut) = self.span.and(minute) else {
                continue;
            };
            let sure = class.sure(counts);
            if sure.iter().all(|n| *n == 0) {
                continue;
            }
            if self.span.covers(rows) && self.needs.counts_alike(rows) {
                sink.add(rows.first, Of::All, &sure)?;
                continue;
            }
            match cuts.last_mut() {
                Some(last) if last.last.as_nanos() + 1 == cut.first.as_nanos() => {
                    last.last = cut.last;
                }
                _ => cuts.push(cut),
            }
        }
        Ok(cuts)
    }

    /// Counts what streams and cells decide within the span; the rest becomes tasks.
    fn streams(
        &self,
        plan: &RunPlan,
        span: Span,
        tasks: &mut Vec<BlockTask>,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        let is_whole = |rows: Span| {
            self.needs.rows.is_none() && span.covers(rows) && self.needs.counts_alike(rows)
        };
        for (stream_idx, stream, class_idx) in plan.streams(span) {
            let class = plan.class(class_idx);
            if class.n_possible(&stream.counts) == 0 {
                continue;
            }
            let of = Of::Run {
                run: plan.run_idx,
                stream: stream_idx,
            };
            let whole = Span {
                first: stream.first,
                last: stream.last,
            };
            if class.decides(&stream.counts) && is_whole(whole) {
                sink.add(stream.first, of, &class.sure(&stream.counts))?;
                continue;
            }
            let mut add = |rows: Range<u32>| {
                plan.split(rows, class_idx, |block_idx, rows| {
                    let piece = Piece {
                        rows,
                        stream: stream_idx,
                        class: class_idx,
                    };
                    RunPlan::add(0, tasks, block_idx, piece, 0);
                });
            };
            let cells = plan.cells_within(stream, span);
            if let (Some(first), Some(last), true) = (
                cells.first(),
                cells.last(),
                class.n_sure(&stream.counts) == 0 && class.uniform().is_some(),
            ) {
                add(first.first_row..last.first_row + last.n_rows());
                continue;
            }
            for cell in cells {
                if class.n_possible(&cell.counts) == 0 {
                    continue;
                }
                let rows = rows_of_minute(cell.minute, stream);
                if class.decides(&cell.counts) && is_whole(rows) {
                    sink.add(rows.first, of, &class.sure(&cell.counts))?;
                } else {
                    add(cell.first_row..cell.first_row + cell.n_rows());
                }
            }
        }
        Ok(())
    }

    fn block(&self, plan: &RunPlan, task: &BlockTask, sink: &mut impl Sink) -> Result<(), Error> {
        let mut columns = plan.columns(&task.pieces);
        columns.severity |= self.needs.severities;
        if let Some(rows) = &self.needs.rows {
            columns.include(rows);
        }
        let extent = plan.run.extent();
        let is_cut = !self.span.covers(Span {
            first: extent.first,
            last: extent.last,
        });
        let counts_alike = |piece: &Piece| {
            let rows = &plan.index.streams()[piece.stream as usize];
            self.needs.counts_alike(Span {
                first: rows.first,
                last: rows.last,
            })
        };
        columns.time |= is_cut || !task.pieces.iter().all(counts_alike);
        let in_time = |block: &Block, piece: &Piece| -> Vec<u32> {
            let rows = piece.rows.start - block.first_row..piece.rows.end - block.first_row;
            if is_cut {
                let times = block.times();
                rows.filter(|row| self.span.contains(times[*row as usize]))
                    .collect()
            } else {
                rows.collect()
            }
        };
        if is_cut && (columns.message || columns.attributes != AttributeColumns::None) {
            // Times decide whether text is worth decoding.
            let light = plan.run.block(task.block_idx, &Columns::TIME)?;
            let mut pieces = task.pieces.iter();
            if pieces.all(|piece| in_time(&light, piece).is_empty()) {
                return Ok(());
            }
        }
        let block = plan.run.block(task.block_idx, &columns)?;
        let mut by_class: Vec<(u32, Vec<u32>)> = Vec::new();
        for piece in &task.pieces {
            let rows = in_time(&block, piece);
            match by_class.iter_mut().find(|(class, _)| *class == piece.class) {
                Some((_, known)) => known.extend(rows),
                None => by_class.push((piece.class, rows)),
            }
        }
        for (class, rows) in by_class {
            let mut rows = matching_rows(plan.class(class), &block, rows)
                .into_iter()
                .peekable();
            for piece in task.pieces.iter().filter(|piece| piece.class == class) {
                let found = &plan.index.streams()[piece.stream as usize];
                let mut group = Group::new(
                    self.needs,
                    Of::Run {
                        run: plan.run_idx,
                        stream: piece.stream,
                    },
                );
                while let Some(row) = rows.next_if(|row| row + block.first_row < piece.rows.end) {
                    let severities = block.severities.as_deref();
                    let severity = severities.map_or(Severity::Unknown, |all| all[row as usize]);
                    // Where times were not asked for, all count alike.
                    let times = block.times.as_deref();
                    let time = times.map_or(found.first, |all| all[row as usize]);
                    group.add(time, severity, sink)?;
                    if self.needs.rows.is_some() {
                        sink.add_row(&Row::Stored(&block, row))?;
                    }
                }
                group.flush(sink)?;
            }
        }
        Ok(())
    }
}

/// Rows of one stream that a sink counts alike, gathered before it is told.
struct Group<'s> {
    needs: &'s Needs,
    of: Of<'s>,
    time: Timestamp,
    bucket: i64,
    counts: SeverityCounts,
}

impl<'s> Group<'s> {
    fn new(needs: &'s Needs, of: Of<'s>) -> Self {
        Self {
            needs,
            of,
            time: Timestamp::default(),
            bucket: 0,
            counts: SeverityCounts::default(),
        }
    }

    fn add(
        &mut self,
        time: Timestamp,
        severity: Severity,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        let bucket = self.needs.bucket(time);
        if bucket != self.bucket {
            self.flush(sink)?;
        }
        (self.bucket, self.time) = (bucket, time);
        self.counts[usize::from(severity.number())] += 1;
        Ok(())
    }

    fn flush(&mut self, sink: &mut impl Sink) -> Result<(), Error> {
        let counts = std::mem::take(&mut self.counts);
        if counts.iter().any(|n| *n > 0) {
            sink.add(self.time, self.of, &counts)?;
        }
        Ok(())
    }
}
