//! Matching rows by column: planned once, then read block by block by whoever asks next.

use std::{
    cmp::Reverse,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray,
    TimestampNanosecondArray, UInt32Array, builder::StringViewBuilder,
};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::take::take;
use memchr::memchr;
use tawny_model::{Output, Severity, Stream, Timestamp};
use tawny_query::{Expr, Field, Record, strip_ansi};

use super::{
    Budget, Snapshot,
    eval::matching_rows,
    hot::HotClasses,
    pieces::{BlockTask, Piece, RunPlan, rows_of_minute},
    residual::{Class, Residuals},
    span::Span,
};
use crate::{
    Error, Interest, ScanRequest,
    lake::{
        rows::HotRows,
        run::{AttributeColumns, Block, Columns},
    },
    scan::{
        BATCH_ROWS, Column, HotRow, RowBuilder, batch_of, maps, put_map, schema_of, value_of_stream,
    },
};

const ESC: u8 = 0x1b;

/// What is to be read, and how far that has come. Threads share it.
#[derive(Debug)]
pub(crate) struct BatchScan {
    snapshot: Snapshot,
    columns: Vec<Column>,
    schema: SchemaRef,
    /// What the columns need of a block.
    needs: Columns,
    /// `None` when no time is asked for.
    span: Option<Span>,
    interest: Option<Arc<dyn Interest>>,
    hot: Vec<(Arc<HotRows>, Arc<Stream>, Arc<Class>)>,
    plans: Vec<RunPlan>,
    tasks: Vec<Task>,
    next: AtomicUsize,
}

/// One batch at most.
#[derive(Debug)]
enum Task {
    /// These of the batches in memory.
    Hot(Range<usize>),
    /// When its rows may be.
    Block(BlockTask, Span),
}

impl BatchScan {
    /// Finds out what must be looked at: the newest first.
    pub(crate) fn plan(
        snapshot: Snapshot,
        request: &ScanRequest,
        budget: &Budget<'_>,
    ) -> Result<Self, Error> {
        let residuals = Residuals::new(request.filter.query.expr());
        let mut scan = Self {
            schema: schema_of(&request.columns),
            needs: needs(&request.columns),
            columns: request.columns.clone(),
            span: Span::of(&request.filter),
            interest: request.interest.clone(),
            hot: Vec::new(),
            plans: Vec::new(),
            tasks: Vec::new(),
            next: AtomicUsize::new(0),
            snapshot,
        };
        let Some(span) = scan.span else {
            return Ok(scan);
        };
        scan.plan_hot(&residuals, span);
        let mut blocks = Vec::new();
        for run_idx in 0..scan.snapshot.runs.len() {
            budget.check()?;
            if let Some(plan) = RunPlan::new(run_idx, &scan.snapshot, &residuals, span)? {
                let n_before = blocks.len();
                blocks.extend(tasks(&plan, scan.plans.len(), span));
                if blocks.len() > n_before {
                    scan.plans.push(plan);
                }
            }
        }
        // The newest first, which is what most readers want, and in the order of the file where that is the same.
        blocks.sort_by_key(|(_, span)| Reverse(span.last));
        let blocks = blocks
            .into_iter()
            .map(|(task, span)| Task::Block(task, span));
        scan.tasks.extend(blocks);
        Ok(scan)
    }

    fn plan_hot(&mut self, residuals: &Residuals<'_>, span: Span) {
        let mut classes = HotClasses::new(&self.snapshot, residuals, span);
        let mut hot = Vec::new();
        let mut first = 0;
        let mut n_rows = 0;
        for batch in self.snapshot.hot.iter().rev() {
            let Some(class) = classes.of(batch) else {
                continue;
            };
            if n_rows + batch.ids.len() > BATCH_ROWS && n_rows > 0 {
                self.tasks.push(Task::Hot(first..hot.len()));
                (first, n_rows) = (hot.len(), 0);
            }
            n_rows += batch.ids.len();
            let stream = self.snapshot.streams.describe(&batch.stream);
            hot.push((Arc::clone(batch), stream, class));
        }
        if n_rows > 0 {
            self.tasks.push(Task::Hot(first..hot.len()));
        }
        self.hot = hot;
    }

    /// The next rows that nobody has read yet, `None` when all are; in batches of at most [`BATCH_ROWS`].
    ///
    /// Blocks on I/O and decoding. Goes on until it has found some.
    pub(crate) fn read(&self, budget: &Budget<'_>) -> Result<Option<Vec<RecordBatch>>, Error> {
        let Some(span) = self.span else {
            return Ok(None);
        };
        loop {
            let idx = self.next.fetch_add(1, Relaxed);
            let Some(task) = self.tasks.get(idx) else {
                return Ok(None);
            };
            budget.check()?;
            let Some(span) = self.narrowed(span) else {
                return Ok(None);
            };
            let batches = match task {
                Task::Hot(batches) => self.hot(batches.clone(), span),
                Task::Block(_, rows) if rows.and(span).is_none() => Vec::new(),
                Task::Block(task, _) => {
                    let batch = self.block(&self.plans[task.plan], task, span)?;
                    batch.into_iter().collect()
                }
            };
            if !batches.is_empty() {
                return Ok(Some(batches));
            }
        }
    }

    /// What of the times is still of interest.
    fn narrowed(&self, span: Span) -> Option<Span> {
        let Some(interest) = &self.interest else {
            return Some(span);
        };
        let (first, last) = interest.times();
        span.and(Span::new(first, last)?)
    }

    fn hot(&self, batches: Range<usize>, span: Span) -> Vec<RecordBatch> {
        let mut done = Vec::new();
        let mut rows = RowBuilder::new(&self.columns);
        for (batch, stream, class) in &self.hot[batches] {
            for (entry, id) in batch.iter() {
                if span.contains(entry.timestamp()) && class.matches(entry, stream) {
                    rows.push(&HotRow { entry, id, stream });
                    if rows.n_rows() == BATCH_ROWS {
                        let full = std::mem::replace(&mut rows, RowBuilder::new(&self.columns));
                        done.push(full.finish(&self.schema));
                    }
                }
            }
        }
        if rows.n_rows() > 0 {
            done.push(rows.finish(&self.schema));
        }
        done
    }

    fn block(
        &self,
        plan: &RunPlan,
        task: &BlockTask,
        span: Span,
    ) -> Result<Option<RecordBatch>, Error> {
        let mut columns = plan.columns(&task.pieces);
        columns.include(&self.needs);
        let extent = plan.run.extent();
        let is_cut = !span.covers(Span {
            first: extent.first,
            last: extent.last,
        });
        let in_time = |block: &Block, piece: &Piece| -> Vec<u32> {
            let rows = piece.rows.start - block.first_row..piece.rows.end - block.first_row;
            if is_cut {
                rows.filter(|row| span.contains(block.times()[*row as usize]))
                    .collect()
            } else {
                rows.collect()
            }
        };
        columns.time |= is_cut;
        if is_cut && (columns.message || columns.attributes != AttributeColumns::None) {
            // Times decide whether text is worth decoding.
            let light = plan.run.block(task.block_idx, &Columns::TIME)?;
            if task
                .pieces
                .iter()
                .all(|piece| in_time(&light, piece).is_empty())
            {
                return Ok(None);
            }
        }
        let block = plan.run.block(task.block_idx, &columns)?;
        let mut chosen = Chosen {
            block: &block,
            rows: Vec::new(),
            piece_of: Vec::new(),
            streams: Vec::new(),
        };
        for piece in &task.pieces {
            let rows = matching_rows(plan.class(piece.class), &block, in_time(&block, piece));
            if rows.is_empty() {
                continue;
            }
            let number = u32::try_from(chosen.streams.len()).expect("no more pieces than rows");
            let stream = &plan.index.streams()[piece.stream as usize].stream;
            chosen.streams.push(self.snapshot.streams.describe(stream));
            chosen.piece_of.extend(rows.iter().map(|_| number));
            chosen.rows.extend(rows);
        }
        if chosen.rows.is_empty() {
            return Ok(None);
        }
        let n_rows = chosen.rows.len();
        let rows = Rows::of(chosen);
        let arrays = self.columns.iter().map(|column| rows.column(column));
        Ok(Some(batch_of(&self.schema, arrays.collect(), n_rows)))
    }
}

/// The blocks that may hold matches, with their pieces, and when their rows may be.
fn tasks(plan: &RunPlan, plan_idx: usize, span: Span) -> Vec<(BlockTask, Span)> {
    let mut tasks = Vec::new();
    let mut spans: Vec<Span> = Vec::new();
    for (stream_idx, stream, class_idx) in plan.streams(span) {
        let class = plan.class(class_idx);
        if class.n_possible(&stream.counts) == 0 {
            continue;
        }
        for cell in plan.cells_within(stream, span) {
            if class.n_possible(&cell.counts) == 0 {
                continue;
            }
            let rows = cell.first_row..cell.first_row + cell.n_rows();
            let minute = rows_of_minute(cell.minute, stream);
            plan.split(rows, class_idx, |block_idx, rows| {
                let piece = Piece {
                    rows,
                    stream: stream_idx,
                    class: class_idx,
                };
                RunPlan::add(plan_idx, &mut tasks, block_idx, piece, 0);
                if spans.len() < tasks.len() {
                    spans.push(minute);
                } else if let Some(last) = spans.last_mut() {
                    last.first = last.first.min(minute.first);
                    last.last = last.last.max(minute.last);
                }
            });
        }
    }
    tasks.into_iter().zip(spans).collect()
}

fn needs(columns: &[Column]) -> Columns {
    let mut needs = Columns::default();
    for column in columns {
        match column {
            Column::SeverityNumber => needs.severity = true,
            Column::Message => needs.message = true,
            Column::Attributes => needs.attributes = AttributeColumns::All,
            Column::Field(field) => needs.include(&of_field(field)),
            Column::Matches(expr) => needs.include(&of_expr(expr)),
            Column::Timestamp => needs.time = true,
            Column::Id => needs.id = true,
            Column::Labels => {}
        }
    }
    needs
}

fn of_field(field: &Field) -> Columns {
    let mut needs = Columns::default();
    match field {
        Field::Severity => needs.severity = true,
        Field::Output => needs.output = true,
        Field::Attribute(key) => needs.attributes = AttributeColumns::Some(vec![key.clone()]),
        _ => {}
    }
    needs
}

fn of_expr(expr: &Expr) -> Columns {
    let mut needs = Columns::default();
    match expr {
        Expr::And(parts) | Expr::Or(parts) => {
            for part in parts {
                needs.include(&of_expr(part));
            }
        }
        Expr::Not(inner) => needs = of_expr(inner),
        Expr::Message(_) => needs.message = true,
        Expr::Field(field, _) => needs = of_field(field),
        _ => {}
    }
    needs
}

/// Rows of a block that match, ascending, each with the number of its stream.
struct Chosen<'b> {
    block: &'b Block,
    rows: Vec<u32>,
    piece_of: Vec<u32>,
    streams: Vec<Arc<Stream>>,
}

struct Rows<'b> {
    block: &'b Block,
    /// `None` for all rows of the block.
    rows: Option<UInt32Array>,
    places: Vec<u32>,
    piece_of: UInt32Array,
    streams: Vec<Arc<Stream>>,
}

impl<'b> Rows<'b> {
    fn of(chosen: Chosen<'b>) -> Self {
        let is_all = chosen.rows.len() == chosen.block.n_rows as usize;
        Self {
            block: chosen.block,
            rows: (!is_all).then(|| UInt32Array::from(chosen.rows.clone())),
            places: chosen.rows,
            piece_of: chosen.piece_of.into(),
            streams: chosen.streams,
        }
    }

    fn column(&self, column: &Column) -> ArrayRef {
        match column {
            Column::Timestamp => {
                let times = self.block.times();
                let times = self.each(|row| times[row].as_nanos());
                let times = TimestampNanosecondArray::from(times);
                let DataType::Timestamp(_, zone) = column.data_type() else {
                    unreachable!("a timestamp is of that type")
                };
                Arc::new(times.with_timezone_opt(zone))
            }
            Column::Id => {
                let ids = self.block.ids();
                Arc::new(Int64Array::from(self.each(|row| ids[row].0)))
            }
            Column::SeverityNumber => {
                let severities = self.severities();
                let numbers = self.each(|row| i64::from(severities[row].number()));
                Arc::new(Int64Array::from(numbers))
            }
            Column::Message => self.messages(),
            Column::Labels => {
                let mut labels = maps();
                for stream in &self.streams {
                    let pairs = stream.labels.iter();
                    put_map(&mut labels, pairs.map(|(key, value)| (&**key, &**value)));
                }
                gather(&labels.finish(), &self.piece_of)
            }
            Column::Attributes => {
                let attributes = self.block.attributes();
                let mut built = maps();
                for row in &self.places {
                    put_map(&mut built, attributes.row(*row as usize).into_iter());
                }
                Arc::new(built.finish())
            }
            Column::Field(field) => self.field(field),
            Column::Matches(expr) => {
                let rows = self.places.iter().zip(self.piece_of.values());
                let flags = rows.map(|(row, piece)| {
                    expr.matches(&BlockRow {
                        block: self.block,
                        row: *row as usize,
                        stream: &self.streams[*piece as usize],
                    })
                });
                Arc::new(flags.map(Some).collect::<BooleanArray>())
            }
        }
    }

    fn each<T>(&self, of_row: impl Fn(usize) -> T) -> Vec<T> {
        self.places
            .iter()
            .map(|row| of_row(*row as usize))
            .collect()
    }

    fn severities(&self) -> &[Severity] {
        self.block.severities()
    }

    fn chosen(&self, array: ArrayRef) -> ArrayRef {
        match &self.rows {
            None => array,
            Some(rows) => {
                let gathered = gather(&array, rows);
                // Views of a few rows would keep the text of all the block's.
                match gathered.as_any().downcast_ref::<StringViewArray>() {
                    Some(views) if views.len() * 2 < array.len() => Arc::new(views.gc()),
                    _ => gathered,
                }
            }
        }
    }

    fn messages(&self) -> ArrayRef {
        let messages = self.block.messages();
        if memchr(ESC, messages.value_data()).is_none() {
            // Views lie in the block's own memory.
            return self.chosen(Arc::new(StringViewArray::from(messages)));
        }
        let mut texts = StringViewBuilder::with_capacity(self.places.len());
        for row in &self.places {
            texts.append_value(strip_ansi(messages.value(*row as usize)));
        }
        Arc::new(texts.finish())
    }

    fn field(&self, field: &Field) -> ArrayRef {
        match field {
            Field::Severity => {
                let names = Severity::ALL.map(Severity::name);
                let severities = self.severities();
                let numbers = self.each(|row| u32::from(severities[row].number()));
                gather(&StringViewArray::from(names.to_vec()), &numbers.into())
            }
            Field::Output => {
                let names = [Output::Stdout, Output::Stderr].map(Output::name);
                let outputs = self.block.outputs();
                let numbers = self.each(|row| u32::from(outputs[row] == Output::Stderr));
                gather(&StringViewArray::from(names.to_vec()), &numbers.into())
            }
            Field::Attribute(key) => {
                let attributes = self.block.attributes();
                match attributes.column(key) {
                    Some(column) => self.chosen(Arc::new(StringViewArray::from(column))),
                    None => {
                        let values = self.each(|row| attributes.get(row, key));
                        Arc::new(StringViewArray::from(values))
                    }
                }
            }
            Field::Restart => {
                let of_streams = self.streams.iter().map(|s| i64::from(s.id.restart));
                gather(&Int64Array::from_iter_values(of_streams), &self.piece_of)
            }
            field => {
                let of_streams = self.streams.iter().map(|s| value_of_stream(field, s));
                gather(&of_streams.collect::<StringViewArray>(), &self.piece_of)
            }
        }
    }
}

fn gather(values: &dyn Array, numbers: &UInt32Array) -> ArrayRef {
    take(values, numbers, None).expect("numbers are those of values")
}

/// A row of a block as a query sees it.
struct BlockRow<'b> {
    block: &'b Block,
    row: usize,
    stream: &'b Stream,
}

impl Record for BlockRow<'_> {
    fn message(&self) -> &str {
        self.block.messages().value(self.row)
    }

    fn timestamp(&self) -> Timestamp {
        self.block.times()[self.row]
    }

    fn severity(&self) -> Severity {
        self.block.severities()[self.row]
    }

    fn output(&self) -> Output {
        self.block.outputs()[self.row]
    }

    fn stream(&self) -> &Stream {
        self.stream
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        self.block.attributes().get(self.row, key)
    }
}
