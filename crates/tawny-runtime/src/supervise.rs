//! Task supervision: every long-lived task has a name, a stage and an exit policy.
//!
//! Stages stop in declaration order, so producers stop before the consumers they feed.

use std::{fmt, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use tokio::{task::JoinSet, time::timeout};
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

/// A stage did not finish inside its allowance.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("stage {stage:?} still running after {allowed:?}: {tasks:?}")]
pub struct StopTimeout {
    pub stage: Stage,
    pub allowed: Duration,
    pub tasks: Vec<&'static str>,
}

#[derive(Debug)]
struct Ended {
    task: &'static str,
    stage: Stage,
    on_exit: OnExit,
    result: Result<(), String>,
}

pub struct Supervisor {
    stage_tokens: [CancellationToken; STOP_ORDER.len()],
    running: Vec<(&'static str, Stage)>,
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
            stage_tokens: std::array::from_fn(|_| CancellationToken::new()),
            running: Vec::new(),
            set: JoinSet::new(),
        }
    }
}

impl Supervisor {
    /// Starts `make(stop)` as a task; `stop` fires when `stage` must wind down.
    pub fn spawn<F, Fut, E>(&mut self, task: &'static str, stage: Stage, on_exit: OnExit, make: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let stop = self.stage_tokens[stage as usize].clone();
        let work = make(stop);
        self.running.push((task, stage));
        self.set.spawn(async move {
            let result = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(panic) => Err(format!("panic: {}", panic_text(panic.as_ref()))),
            };
            Ended {
                task,
                stage,
                on_exit,
                result,
            }
        });
    }

    /// Runs until `shutdown` resolves or a [`OnExit::StopProcess`] task ends, then stops by stage.
    ///
    /// # Errors
    /// [`StopTimeout`] names the tasks that ignored their token for `allowed_per_stage`.
    pub async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
        allowed_per_stage: Duration,
    ) -> Result<Outcome, StopTimeout> {
        tokio::pin!(shutdown);
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Outcome::Requested,
                Some(ended) = self.next_ended() => {
                    if ended.on_exit == OnExit::StopProcess {
                        let cause = ended.result.err().unwrap_or_else(|| "returned early".into());
                        tracing::error!(task = ended.task, %cause, "essential task ended");
                        break Outcome::TaskFailed { task: ended.task, cause };
                    }
                    if let Err(cause) = ended.result {
                        tracing::warn!(task = ended.task, %cause, "task ended");
                    }
                }
            }
        };
        for stage in STOP_ORDER {
            self.stage_tokens[stage as usize].cancel();
            let drained = timeout(allowed_per_stage, async {
                while self.running.iter().any(|&(_, s)| s == stage) {
                    if self.next_ended().await.is_none() {
                        break;
                    }
                }
            })
            .await;
            if drained.is_err() {
                let tasks = self
                    .running
                    .iter()
                    .filter(|&&(_, s)| s == stage)
                    .map(|&(t, _)| t)
                    .collect();
                return Err(StopTimeout {
                    stage,
                    allowed: allowed_per_stage,
                    tasks,
                });
            }
        }
        Ok(outcome)
    }

    /// Waits for one task to end and forgets it; `None` when nothing runs.
    async fn next_ended(&mut self) -> Option<Ended> {
        let ended = self
            .set
            .join_next()
            .await?
            .expect("task bodies catch their own panics");
        if let Some(at) = self
            .running
            .iter()
            .position(|r| *r == (ended.task, ended.stage))
        {
            self.running.swap_remove(at);
        }
        Some(ended)
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
    async fn task_that_ignores_its_token_is_named() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("deaf", Stage::Deliver, OnExit::StopProcess, |_| async {
            std::future::pending::<Result<(), String>>().await
        });
        let outcome = supervisor.run(std::future::ready(()), ALLOWED).await;
        assert_eq!(
            outcome,
            Err(StopTimeout {
                stage: Stage::Deliver,
                allowed: ALLOWED,
                tasks: vec!["deaf"]
            })
        );
    }
}
