//! One task per agent: gathers its lines into batches, delivers them, and waits out a Coder that is away.
//!
//! An agent whose deliveries hang keeps no other waiting; its queue is bounded, and what does not fit is counted.

use std::{collections::VecDeque, fmt, time::Duration};

use rustc_hash::FxHashMap;
use tawny_model::{Remedy, Secret};
use tawny_runtime::CancellationToken;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    CoderMetrics, Error,
    client::{Delivery, Endpoint},
    lines::Line,
    metrics::Fate,
};

/// Lines that wait for one agent (CL-22). At 300 B each: 150 KiB for an agent whose Coder is away.
const QUEUE_LINES: usize = 512;

/// How long a batch is gathered once its first line is there, and its most lines.
const GATHER_TIME: Duration = Duration::from_millis(250);
const MAX_BATCH_LINES: usize = 100;

/// Most output in a batch, each line with what the server adds to it. A line that alone is over it is dropped.
const MAX_BATCH_BYTES: usize = 1 << 20;
const LINE_OVERHEAD_BYTES: usize = 21;

/// The connection is closed after so long without a line (CL-23).
const IDLE_CLOSE: Duration = Duration::from_secs(30);

/// The first and the longest wait between tries, and the most tries for one batch (CL-25).
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const MAX_TRIES: u32 = 15;

/// Time for the last lines after the pod is gone (CL-24).
const CLOSE_FLUSH: Duration = Duration::from_secs(5);

/// Time for the last lines of all agents when the process stops; less than a stage of stopping has.
const STOP_FLUSH: Duration = Duration::from_secs(4);

/// How an agent's task ended.
#[derive(Debug)]
enum End {
    /// All is delivered or counted as lost.
    Drained,
    /// Coder takes no more from this agent. `lines` were not taken.
    Stopped { error: Error, lines: Vec<Line> },
}

/// An agent that Coder takes no more lines from.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) token: Secret,
    pub(crate) error: Error,
    /// What was not taken.
    pub(crate) lines: Vec<Line>,
}

enum Entry {
    Running {
        generation: u64,
        lines_tx: mpsc::Sender<Line>,
        closing: CancellationToken,
    },
    Stopped,
}

/// All agents and their tasks. Dropping it ends the tasks at once.
pub(crate) struct Agents {
    endpoint: Endpoint,
    metrics: CoderMetrics,
    by_token: FxHashMap<Secret, Entry>,
    n_spawned: u64,
    tasks: JoinSet<(Secret, u64, End)>,
    ends_at: CancellationToken,
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents")
            .field("running", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

impl Agents {
    pub(crate) fn new(endpoint: Endpoint, metrics: CoderMetrics) -> Self {
        Self {
            endpoint,
            metrics,
            by_token: FxHashMap::default(),
            n_spawned: 0,
            tasks: JoinSet::new(),
            ends_at: CancellationToken::new(),
        }
    }

    /// Queues a line; drops and counts it when the agent's queue is full or the agent has been stopped.
    pub(crate) fn push_or_drop_newest(&mut self, token: &Secret, line: Line) {
        use mpsc::error::TrySendError::{Closed, Full};
        let line = match self.by_token.get(token) {
            Some(Entry::Stopped) => return self.metrics.lines(Fate::agent_stopped, 1),
            Some(Entry::Running { lines_tx, .. }) => match lines_tx.try_send(line) {
                Ok(()) => return,
                Err(Full(_)) => return self.metrics.lines(Fate::queue_full, 1),
                // It was idle and has gone.
                Err(Closed(line)) => line,
            },
            None => line,
        };
        let (lines_tx, lines_rx) = mpsc::channel(QUEUE_LINES);
        lines_tx
            .try_send(line)
            .expect("a new queue has room, and its receiver is here");
        let closing = self.ends_at.child_token();
        self.n_spawned += 1;
        let generation = self.n_spawned;
        let agent = Delivery::new(self.endpoint.clone(), token, self.metrics.clone());
        let work = run(agent, lines_rx, self.metrics.clone(), closing.clone());
        let key = token.clone();
        self.tasks
            .spawn(async move { (key, generation, work.await) });
        let entry = Entry::Running {
            generation,
            lines_tx,
            closing,
        };
        self.by_token.insert(token.clone(), entry);
    }

    /// Gives an agent's last lines 5 s, and forgets it with its queue, whose end makes it hurry: a later line begins anew (CL-24).
    pub(crate) fn close(&mut self, token: &Secret) {
        if let Some(Entry::Running { closing, .. }) = self.by_token.remove(token) {
            closing.cancel();
        }
    }

    /// Waits for an agent that is stopped; for ever when none is. CANCEL-SAFE.
    pub(crate) async fn next_stopped(&mut self) -> Stopped {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((token, generation, end))) => {
                    if let Some(stopped) = self.ended(token, generation, end) {
                        return stopped;
                    }
                }
                Some(Err(error)) => tracing::error!(%error, "task of a Coder agent failed"),
                None => std::future::pending().await,
            }
        }
    }

    fn ended(&mut self, token: Secret, generation: u64, end: End) -> Option<Stopped> {
        let is_current = |entry: &Entry| matches!(entry, Entry::Running { generation: of, .. } if *of == generation);
        let is_current = self.by_token.get(&token).is_some_and(is_current);
        match end {
            End::Drained => {
                if is_current {
                    self.by_token.remove(&token);
                }
                None
            }
            End::Stopped { error, lines } => {
                if is_current {
                    self.by_token.insert(token.clone(), Entry::Stopped);
                }
                Some(Stopped {
                    token,
                    error,
                    lines,
                })
            }
        }
    }

    /// Delivers what is left, for a few seconds at most.
    pub(crate) async fn finish(mut self) {
        self.by_token.clear();
        self.ends_at.cancel();
        let deadline = Instant::now() + STOP_FLUSH;
        while let Ok(Some(_ended)) = timeout_at(deadline, self.tasks.join_next()).await {}
        if !self.tasks.is_empty() {
            tracing::warn!(
                n_agents = self.tasks.len(),
                "Coder did not take all lines in time"
            );
        }
    }

    /// Number of agents with a task.
    #[cfg(test)]
    pub(crate) fn n_running(&self) -> usize {
        self.tasks.len()
    }
}

async fn run(
    delivery: Result<Delivery, Error>,
    mut lines_rx: mpsc::Receiver<Line>,
    metrics: CoderMetrics,
    closing: CancellationToken,
) -> End {
    let delivery = match delivery {
        Ok(delivery) => delivery,
        Err(error) => {
            lines_rx.close();
            let mut lines = Vec::new();
            while let Some(line) = lines_rx.recv().await {
                lines.push(line);
            }
            return End::Stopped { error, lines };
        }
    };
    let mut agent = Agent {
        delivery: Box::new(delivery),
        lines_rx,
        metrics,
        ahead: None,
        batch: Vec::new(),
    };
    let too_late = async {
        closing.cancelled().await;
        sleep(CLOSE_FLUSH).await;
    };
    // Queued lines are only read in `work`, so what it leaves behind is all there is to count.
    let result = tokio::select! {
        biased;
        result = agent.work() => result,
        () = too_late => {
            let n_left = agent.take_rest().len();
            agent.metrics.lines(Fate::cut_off, n_left);
            return End::Drained;
        }
    };
    agent.delivery.hang_up().await;
    match result {
        Ok(()) => End::Drained,
        Err(error) => {
            let lines = agent.take_rest();
            End::Stopped { error, lines }
        }
    }
}

struct Agent {
    delivery: Box<Delivery>,
    lines_rx: mpsc::Receiver<Line>,
    metrics: CoderMetrics,
    /// Read, but too long for the batch.
    ahead: Option<Line>,
    batch: Vec<Line>,
}

impl Agent {
    /// Delivers until the queue is closed and empty.
    async fn work(&mut self) -> Result<(), Error> {
        while let Some(first) = self.next_line().await {
            self.gather(first).await;
            if !self.batch.is_empty() {
                self.deliver().await?;
            }
        }
        Ok(())
    }

    /// The next line, however long it takes; after half a minute the queue is closed, and with it the connection. A line
    /// that comes later finds a new task.
    async fn next_line(&mut self) -> Option<Line> {
        if let Some(line) = self.ahead.take() {
            return Some(line);
        }
        let idle_at = Instant::now() + IDLE_CLOSE;
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                line = self.lines_rx.recv() => return line,
                () = sleep_until(idle_at), if is_open => {
                    self.lines_rx.close();
                    is_open = false;
                }
                () = self.delivery.idle() => {}
            }
        }
    }

    /// Fills the batch with what comes shortly behind `first`.
    async fn gather(&mut self, first: Line) {
        let until = Instant::now() + GATHER_TIME;
        let mut n_bytes = 0;
        let mut next = Some(first);
        while let Some(line) = next {
            let line_bytes = line.output.len() + LINE_OVERHEAD_BYTES;
            if line_bytes > MAX_BATCH_BYTES {
                tracing::warn!(line_bytes, "dropped a line longer than Coder takes");
                self.metrics.lines(Fate::too_long, 1);
            } else if n_bytes + line_bytes > MAX_BATCH_BYTES {
                self.ahead = Some(line);
                return;
            } else {
                n_bytes += line_bytes;
                self.batch.push(line);
            }
            if self.batch.len() >= MAX_BATCH_LINES {
                return;
            }
            next = tokio::select! {
                biased;
                line = self.lines_rx.recv() => line,
                () = sleep_until(until) => None,
            };
        }
    }

    /// Delivers the batch, or drops and counts it.
    ///
    /// # Errors
    /// `StandDown`; the batch is kept for the caller.
    async fn deliver(&mut self) -> Result<(), Error> {
        let mut wait = FIRST_WAIT;
        for n_tries in 1.. {
            let error = match self.delivery.send(&self.batch).await {
                Ok(()) => {
                    self.settle(Fate::sent);
                    return Ok(());
                }
                Err(error) => error,
            };
            let n_lines = self.batch.len();
            // While a workspace is being provisioned Coder does not know the tokens of its agents yet.
            let may_come = matches!(error, Error::Unauthorized { .. }) && n_tries < MAX_TRIES;
            let remedy = if may_come {
                Remedy::Retry
            } else {
                error.remedy()
            };
            match remedy {
                Remedy::StandDown => return Err(error),
                Remedy::Retry if n_tries < MAX_TRIES => {
                    if n_tries == 1 {
                        tracing::warn!(%error, n_lines, "Coder did not take lines; trying again");
                    } else {
                        tracing::debug!(%error, n_lines, n_tries, "Coder still does not take lines");
                    }
                }
                Remedy::Retry => {
                    tracing::warn!(%error, n_lines, n_tries, "dropped lines that Coder did not take");
                    self.settle(Fate::retries_exhausted);
                    return Ok(());
                }
                Remedy::Reject | Remedy::Quarantine => {
                    tracing::warn!(%error, n_lines, "dropped lines that Coder refused");
                    self.settle(Fate::refused);
                    return Ok(());
                }
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        Ok(())
    }

    fn settle(&mut self, fate: Fate) {
        self.metrics.lines(fate, self.batch.len());
        self.batch.clear();
    }

    /// Everything not delivered, in order; the queue takes no more.
    fn take_rest(&mut self) -> Vec<Line> {
        self.lines_rx.close();
        let mut rest = VecDeque::from(std::mem::take(&mut self.batch));
        rest.extend(self.ahead.take());
        while let Ok(line) = self.lines_rx.try_recv() {
            rest.push_back(line);
        }
        rest.into()
    }
}

#[cfg(test)]
mod tests;
