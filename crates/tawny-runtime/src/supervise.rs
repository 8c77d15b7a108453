//! Task supervision: every long-lived task has a name, a stage and an exit policy.
//!
//! Stages stop in declaration order, so producers stop before the consumers they feed.

use std::{fmt, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// What a task works on; also the order in which work stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Reads from the outside: file tails, watches, listeners.
    Intake,
    /// Parses, redacts, enriches.
    Process,
    /// Drains the spool to a sink, or buffered rows to storage.
    Deliver,
    /// Answers queries and probes; last, so `/readyz` can say "stopping".
    Serve,
}

const STOP_ORDER: [Stage; 4] = [Stage::Intake, Stage::Process, Stage::Deliver, Stage::Serve];

/// What the process does when a task ends before it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// Stop everything, in order, with a non-zero exit code.
    StopProcess,
    /// Log and count; for work scoped to one connection or one file.
    Record,
}

/// Why [`Supervisor::run`] returned.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Requested,
    TaskFailed { task: &'static str, cause: String },
}

/// Tasks that did not finish inside the time given to stop; they were cut off, the stages behind them still drained.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not stopped within {allowed:?}: {}", list(.overruns))]
pub struct StopTimeout {
    pub allowed: Duration,
    pub overruns: Vec<Overrun>,
}

/// One stage's tasks that had to be cut off.
#[derive(Debug, PartialEq, Eq)]
pub struct Overrun {
    pub stage: Stage,
    pub tasks: Vec<&'static str>,
}

fn list(overruns: &[Overrun]) -> String {
    let stages: Vec<String> = overruns
        .iter()
        .map(|overrun| format!("{:?}: {}", overrun.stage, overrun.tasks.join(", ")))
        .collect();
    stages.join("; ")
}

#[derive(Debug)]
struct Ended {
    id: u64,
    task: &'static str,
    on_exit: OnExit,
    result: Result<(), String>,
}

#[derive(Debug)]
struct Running {
    id: u64,
    task: &'static str,
    stage: Stage,
    abort: AbortHandle,
}

pub struct Supervisor {
    stopping: CancellationToken,
    stage_tokens: [CancellationToken; STOP_ORDER.len()],
    n_spawned: u64,
    running: Vec<Running>,
    set: JoinSet<Ended>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            stopping: CancellationToken::new(),
            stage_tokens: std::array::from_fn(|_| CancellationToken::new()),
            n_spawned: 0,
            running: Vec::new(),
            set: JoinSet::new(),
        }
    }
}

impl Supervisor {
    /// Fires when stopping begins, before any stage is told: what `/readyz` watches.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Starts `make(stop)` as a task; `stop` fires when `stage` must wind down.
    pub fn spawn<F, Fut, E>(&mut self, task: &'static str, stage: Stage, on_exit: OnExit, make: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let work = make(self.stage_tokens[stage as usize].clone());
        let id = self.n_spawned;
        self.n_spawned += 1;
        let abort = self.set.spawn(async move {
            let result = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) => Ok(()),
                // Alternate form, so that an anyhow error tells its whole chain.
                Ok(Err(error)) => Err(format!("{error:#}")),
                Err(panic) => Err(format!("panic: {}", panic_text(panic.as_ref()))),
            };
            Ended {
                id,
                task,
                on_exit,
                result,
            }
        });
        self.running.push(Running {
            id,
            task,
            stage,
            abort,
        });
    }

    /// Runs until `shutdown` resolves or a [`OnExit::StopProcess`] task ends, then stops by stage within `allowed`.
    ///
    /// Each stage may take its share of the time left; what it does not use goes to the stages behind it. A stage that
    /// overruns is cut off, so that the ones behind it can still hand on what they hold.
    ///
    /// # Errors
    /// [`StopTimeout`] names the tasks that were cut off.
    pub async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
        allowed: Duration,
    ) -> Result<Outcome, StopTimeout> {
        let outcome = self.run_until(shutdown).await;
        self.stopping.cancel();
        let deadline = Instant::now() + allowed;
        let mut overruns = Vec::new();
        for (stage, n_left) in STOP_ORDER.into_iter().zip((1..=4).rev()) {
            self.stage_tokens[stage as usize].cancel();
            let share = deadline.saturating_duration_since(Instant::now()) / n_left;
            let drained = timeout(share, self.drain(stage)).await;
            if drained.is_err() {
                let overrun = self.cut_off(stage);
                tracing::error!(?stage, waited = ?share, tasks = ?overrun.tasks, "stage cut off");
                overruns.push(overrun);
            }
        }
        if overruns.is_empty() {
            Ok(outcome)
        } else {
            Err(StopTimeout { allowed, overruns })
        }
    }

    async fn run_until(&mut self, shutdown: impl Future<Output = ()>) -> Outcome {
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Outcome::Requested,
                Some(ended) = self.next_ended() => {
                    let Ended { id: _, task, on_exit, result } = ended;
                    if on_exit == OnExit::StopProcess {
                        let cause = result.err().unwrap_or_else(|| "returned early".into());
                        tracing::error!(task, %cause, "essential task ended");
                        return Outcome::TaskFailed { task, cause };
                    }
                    if let Err(cause) = result {
                        tracing::warn!(task, %cause, "task ended");
                    }
                }
            }
        }
    }

    /// Waits until no task of `stage` runs.
    async fn drain(&mut self, stage: Stage) {
        let mut told = Vec::new();
        loop {
            let waiting_for = self.tasks_of(stage);
            if waiting_for.is_empty() {
                return;
            }
            if waiting_for != told {
                tracing::info!(?stage, ?waiting_for, "stopping");
                told = waiting_for;
            }
            if let Some(Ended {
                task,
                result: Err(cause),
                ..
            }) = self.next_ended().await
            {
                tracing::warn!(task, %cause, "task failed while stopping");
            }
        }
    }

    fn cut_off(&mut self, stage: Stage) -> Overrun {
        let tasks = self.tasks_of(stage);
        for running in self.running.extract_if(.., |r| r.stage == stage) {
            running.abort.abort();
        }
        Overrun { stage, tasks }
    }

    fn tasks_of(&self, stage: Stage) -> Vec<&'static str> {
        self.running
            .iter()
            .filter(|running| running.stage == stage)
            .map(|running| running.task)
            .collect()
    }

    /// Waits for one task to end and forgets it; `None` when nothing runs.
    async fn next_ended(&mut self) -> Option<Ended> {
        loop {
            match self.set.join_next().await? {
                Ok(ended) => {
                    self.running.retain(|running| running.id != ended.id);
                    return Some(ended);
                }
                // Task bodies catch their own panics, so only a task that was cut off comes here.
                Err(_cut_off) => {}
            }
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a string")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const ALLOWED: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn stages_stop_in_order_when_shutdown_is_requested() {
        let stopped = Arc::new(Mutex::new(Vec::new()));
        let mut supervisor = Supervisor::default();
        for stage in [Stage::Serve, Stage::Deliver, Stage::Intake] {
            let stopped = Arc::clone(&stopped);
            supervisor.spawn("t", stage, OnExit::StopProcess, move |stop| async move {
                stop.cancelled().await;
                stopped.lock().unwrap().push(stage);
                Ok::<(), String>(())
            });
        }
        let outcome = supervisor
            .run(tokio::time::sleep(Duration::from_secs(1)), ALLOWED)
            .await;
        assert_eq!(outcome, Ok(Outcome::Requested));
        assert_eq!(
            *stopped.lock().unwrap(),
            [Stage::Intake, Stage::Deliver, Stage::Serve]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn panic_in_essential_task_stops_the_process() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("lease", Stage::Intake, OnExit::StopProcess, |_| async {
            if true {
                panic!("lost")
            }
            Ok::<(), String>(())
        });
        let outcome = supervisor.run(std::future::pending(), ALLOWED).await;
        assert_eq!(
            outcome,
            Ok(Outcome::TaskFailed {
                task: "lease",
                cause: "panic: lost".into()
            })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failed_connection_task_is_recorded_only() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("conn", Stage::Intake, OnExit::Record, |_| async {
            Err("reset")
        });
        let outcome = supervisor
            .run(tokio::time::sleep(Duration::from_secs(1)), ALLOWED)
            .await;
        assert_eq!(outcome, Ok(Outcome::Requested));
    }

    #[tokio::test(start_paused = true)]
    async fn task_that_ignores_its_token_is_named_and_later_stages_still_drain() {
        let delivered = Arc::new(Mutex::new(false));
        let mut supervisor = Supervisor::default();
        supervisor.spawn("deaf", Stage::Intake, OnExit::StopProcess, |_| async {
            std::future::pending::<Result<(), String>>().await
        });
        supervisor.spawn("deliver", Stage::Deliver, OnExit::StopProcess, |stop| {
            let delivered = Arc::clone(&delivered);
            async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                *delivered.lock().unwrap() = true;
                Ok::<(), String>(())
            }
        });
        let error = supervisor
            .run(std::future::ready(()), ALLOWED)
            .await
            .unwrap_err();
        assert_eq!(
            error.overruns,
            [Overrun {
                stage: Stage::Intake,
                tasks: vec!["deaf"]
            }]
        );
        assert_eq!(error.to_string(), "not stopped within 5s: Intake: deaf");
        assert!(*delivered.lock().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_takes_no_longer_than_allowed_in_all_stages_together() {
        let mut supervisor = Supervisor::default();
        for stage in STOP_ORDER {
            supervisor.spawn("deaf", stage, OnExit::StopProcess, |_| async {
                std::future::pending::<Result<(), String>>().await
            });
        }
        let stopping = supervisor.stopping();
        let begun = Instant::now();
        let error = supervisor
            .run(std::future::ready(()), ALLOWED)
            .await
            .unwrap_err();
        assert_eq!(error.overruns.len(), STOP_ORDER.len());
        assert!(begun.elapsed() <= ALLOWED + Duration::from_millis(10));
        assert!(stopping.is_cancelled());
    }
}
