//! Runs statements on threads of its own, within limits of memory, time and rows.

use std::{
    fmt, io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::{
    dataframe::DataFrame,
    error::DataFusionError,
    execution::{
        SendableRecordBatchStream, SessionState, SessionStateBuilder,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::GreedyMemoryPool,
        runtime_env::RuntimeEnvBuilder,
    },
    prelude::SessionConfig,
};
use futures::StreamExt as _;
use tawny_model::{ByteSize, Timestamp};
use tawny_runtime::SharedClock;
use tawny_store::LogStore;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    Error,
    statement::{self, Bound, Checked},
};

/// Batches that wait for a slow reader: two of 8,192 rows each.
const BATCH_QUEUE: usize = 2;

/// Functions whose result is as long as a number in the statement says, or as two texts multiplied: one call could take
/// all memory at once, where no limit is asked.
const BOUNDLESS: &[&str] = &[
    "repeat",
    "replace",
    "regexp_replace",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
    "gen_series",
];

/// What statements may take.
#[derive(Debug, Clone, Copy)]
pub struct SqlLimits {
    /// Memory of all statements together, in hash tables and sorts.
    pub memory: ByteSize,
    /// Longest one statement may work; the time its reader takes is not counted, but no wait for it is longer.
    pub time: Duration,
    /// Threads that compute, over all statements; also how many read the store for one.
    pub n_threads: usize,
}

/// Answers statements about a store.
pub struct Sql {
    store: Arc<dyn LogStore>,
    clock: SharedClock,
    limits: SqlLimits,
    started: OnceLock<Started>,
    /// Whether filters are put to the store; a test compares both ways.
    pushes_down: bool,
}

/// What the first statement starts.
struct Started {
    base: SessionState,
    /// `None` only while being dropped.
    runtime: Option<Runtime>,
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Sql {
    /// Costs nothing until the first statement comes.
    pub fn new(store: Arc<dyn LogStore>, clock: SharedClock, limits: SqlLimits) -> Self {
        Self {
            store,
            clock,
            limits,
            started: OnceLock::new(),
            pushes_down: true,
        }
    }

    /// Runs one statement and answers at most `max_rows` of its rows.
    ///
    /// # Errors
    /// `Reject` when it does not parse, would write, or makes no sense; `Retry` when it took too long. More of these may
    /// come with the rows.
    pub async fn query(&self, sql: &str, max_rows: usize) -> Result<Answer, Error> {
        let checked = statement::check(sql)?;
        let started = self.started()?;
        let (batches_tx, batches_rx) = mpsc::channel(BATCH_QUEUE);
        let (begun_tx, begun_rx) = tokio::sync::oneshot::channel();
        let work = Work {
            store: Arc::clone(&self.store),
            base: started.base.clone(),
            now: self.clock.now(),
            limits: self.limits,
            max_rows,
            pushes_down: self.pushes_down,
        };
        let runtime = started.runtime.as_ref().expect("taken only when dropped");
        let mut task = JoinSet::new();
        let work = async move {
            let mut left = work.limits.time;
            let begun = work.begin(checked, &mut left).await;
            let rows = match begun {
                Ok((schema, rows)) => {
                    if begun_tx.send(Ok(schema)).is_err() {
                        return;
                    }
                    rows
                }
                Err(error) => {
                    drop(begun_tx.send(Err(error)));
                    return;
                }
            };
            work.send(rows, left, batches_tx).await;
        };
        task.spawn_on(work, runtime.handle());
        let gone = |_| Error::Internal {
            reason: "its task has ended".to_owned(),
        };
        let schema = begun_rx.await.map_err(gone)??;
        Ok(Answer {
            schema,
            batches_rx,
            is_truncated: false,
            is_done: false,
            _task: task,
        })
    }

    fn started(&self) -> Result<&Started, Error> {
        if let Some(started) = self.started.get() {
            return Ok(started);
        }
        let started = Started::new(self.limits).map_err(|error| Error::Internal {
            reason: format!("cannot start its threads: {error}"),
        })?;
        // Of two that start at once, one is kept.
        Ok(self.started.get_or_init(|| started))
    }
}

impl Started {
    fn new(limits: SqlLimits) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(limits.n_threads.max(1))
            .thread_name("tawny-sql")
            // A statement as long as may be nests as deep as it is long; what is not used of it costs nothing.
            .thread_stack_size(64 << 20)
            .enable_time()
            .build()?;
        Ok(Self {
            base: base(limits).map_err(io::Error::other)?,
            runtime: Some(runtime),
        })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may be dropped where waiting is not allowed.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn base(limits: SqlLimits) -> Result<SessionState, DataFusionError> {
    let mut config = SessionConfig::new()
        .with_target_partitions(limits.n_threads.max(1))
        .with_information_schema(true);
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".to_owned());
    // It bounds what is read by the columns among the arguments alone and so loses rows for the others.
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // Readers elsewhere know plain text better than views.
    options.optimizer.expand_views_at_output = true;
    let memory = usize::try_from(limits.memory.as_bytes()).unwrap_or(usize::MAX);
    let env = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .build_arc()?;
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(env)
        .with_default_features()
        .build();
    for name in BOUNDLESS {
        datafusion::execution::FunctionRegistry::deregister_udf(&mut state, name)?;
    }
    Ok(state)
}

struct Work {
    store: Arc<dyn LogStore>,
    base: SessionState,
    /// What `now()` is.
    now: Timestamp,
    limits: SqlLimits,
    max_rows: usize,
    pushes_down: bool,
}

impl Work {
    fn error(&self, error: DataFusionError) -> Error {
        Error::of(error, self.limits.memory)
    }

    /// Waits for a step of the work, which takes from the time left.
    async fn timed<T>(
        &self,
        left: &mut Duration,
        step: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let done = timeout(*left, step).await;
        *left = left.saturating_sub(begun.elapsed());
        done.map_err(|_| Error::Time {
            allowed: self.limits.time,
        })
    }

    async fn begin(
        &self,
        checked: Checked,
        left: &mut Duration,
    ) -> Result<(SchemaRef, SendableRecordBatchStream), Error> {
        let is_query = checked.is_query;
        let n_parts = self.limits.n_threads.max(1);
        let begin = async {
            let bound = checked.bind(&self.base, &self.store, self.now, n_parts, self.pushes_down);
            let Bound { state, plan } = bound.await?;
            let mut frame = DataFrame::new(state, plan);
            if is_query {
                // One more tells whether there are more.
                frame = frame.limit(0, Some(self.max_rows.saturating_add(1)))?;
            }
            frame.execute_stream().await
        };
        let rows = self.timed(left, begin).await?.map_err(|e| self.error(e))?;
        Ok((rows.schema(), rows))
    }

    async fn send(
        &self,
        mut rows: SendableRecordBatchStream,
        mut left: Duration,
        batches_tx: mpsc::Sender<Result<Piece, Error>>,
    ) {
        let mut n_left = self.max_rows;
        loop {
            let piece = match self.timed(&mut left, rows.next()).await {
                Ok(None) => return drop(batches_tx.send(Ok(Piece::End)).await),
                Ok(Some(Ok(batch))) if batch.num_rows() > n_left => {
                    let cut = batch.slice(0, n_left);
                    drop(batches_tx.send(Ok(Piece::Rows(cut))).await);
                    return drop(batches_tx.send(Ok(Piece::Cut)).await);
                }
                Ok(Some(Ok(batch))) => {
                    n_left -= batch.num_rows();
                    Ok(Piece::Rows(batch))
                }
                Ok(Some(Err(error))) => Err(self.error(error)),
                Err(error) => Err(error),
            };
            let is_failed = piece.is_err();
            let sent = timeout(self.limits.time, batches_tx.send(piece)).await;
            if is_failed || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// What a statement's task sends; without [`Piece::End`] or [`Piece::Cut`] something went wrong.
#[derive(Debug)]
enum Piece {
    Rows(RecordBatch),
    End,
    /// There are more rows than were asked for.
    Cut,
}

/// The rows of a statement, as they come. Dropping it ends the work.
#[derive(Debug)]
pub struct Answer {
    schema: SchemaRef,
    batches_rx: mpsc::Receiver<Result<Piece, Error>>,
    is_truncated: bool,
    is_done: bool,
    /// Ended with this.
    _task: JoinSet<()>,
}

impl Answer {
    /// The columns of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; `None` at the end. An error is the last there is.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, Error>> {
        if self.is_done {
            return None;
        }
        match self.batches_rx.recv().await {
            Some(Ok(Piece::Rows(batch))) => return Some(Ok(batch)),
            Some(Ok(Piece::End)) => self.is_done = true,
            Some(Ok(Piece::Cut)) => (self.is_done, self.is_truncated) = (true, true),
            Some(Err(error)) => {
                self.is_done = true;
                return Some(Err(error));
            }
            None => {
                self.is_done = true;
                return Some(Err(Error::Internal {
                    reason: "its task has ended".to_owned(),
                }));
            }
        }
        None
    }

    /// Whether rows were left out for the limit; known once the end has been reached.
    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }
}

#[cfg(test)]
pub(crate) mod tests;
