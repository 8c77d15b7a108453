//! Reads one container of one pod, run after run, each to its end.

use std::{pin::pin, sync::Arc, time::Duration};

use tawny_kube::{Cluster, LogRequest, LogStream, PodFacts};
use tawny_model::Output;
use tawny_runtime::{Backoff, CancellationToken};
use tawny_wire::RawLine;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    ApiSettings,
    problems::Problems,
    runs::{self, Run, Standing},
    slots::Slots,
};
use crate::{Error, Intake, Refusal, feed::Feed, stamped::LineBuffer};

/// Waits between attempts at a stream (KL-41).
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// How long a stream may keep its slot once others wait for one.
const TURN: Duration = Duration::from_secs(2);

/// A look at a container that brings this much is soon followed by another, so that rotation does not overtake.
const BUSY_BYTES: usize = 64 << 10;

/// Wait before a stream that another writer took over is taken back.
const FENCED_WAIT: Duration = Duration::from_secs(30);

/// Runs missed between two looks that get a gap record each; a container restarts far more slowly than it is looked at.
const MAX_MISSED_RUNS: u32 = 16;

/// What the kubelet writes into the answer itself when the log file is not there.
const NOTICES: [&[u8]; 2] = [
    b"unable to retrieve container logs for ",
    b"failed to try resolving symlinks in path ",
];

/// What all readers share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) cluster: Cluster,
    pub(crate) intake: Intake,
    pub(crate) settings: ApiSettings,
    pub(crate) slots: Slots,
    pub(crate) problems: Problems,
    /// Kubelets here may put times into long lines.
    pub(crate) mends_lines: bool,
}

/// One container of one pod.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) context: Arc<Context>,
    pub(crate) pod: watch::Receiver<Arc<PodFacts>>,
    pub(crate) container: Arc<str>,
    pub(crate) stop: CancellationToken,
}

/// Why a connection was left.
#[derive(Debug)]
enum Left {
    Stopped,
    Refused(Refusal),
    /// Everything there was has been read: this much.
    End {
        n_bytes: usize,
    },
    /// Nothing came for long, or another stream's turn has come.
    Idle,
    /// It belongs to another run or another pod of the same name; nothing was taken from it.
    Mistaken,
    Failed(tawny_kube::Error),
    /// The kubelet says it has no such log.
    NoLog,
}

/// Whether a run was read to its end, or told to stop before.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    Ended,
    Stopped,
}

impl Reader {
    /// Reads until the pod is over and all of it is read, or until told to stop.
    ///
    /// # Errors
    /// When nothing can be handed on any more.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let facts = Arc::clone(&self.pod.borrow_and_update());
            let next = facts
                .container(&self.container)
                .and_then(|container| runs::next(container, after));
            match next {
                Some(run) => {
                    tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return Ok(()),
                        noted = self.note_missed(&facts, after, run.restart) => noted?,
                    }
                    if self.read(&facts, run.restart).await? == Done::Stopped {
                        return Ok(());
                    }
                    after = Some(run.restart);
                }
                None if facts.is_over() => return Ok(()),
                None => tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(()),
                    changed = self.pod.changed() => if changed.is_err() {
                        return Ok(());
                    },
                },
            }
        }
    }

    /// Leaves a gap record in each run that came and went between two looks: loss is never silent.
    async fn note_missed(
        &self,
        facts: &PodFacts,
        after: Option<u32>,
        next: u32,
    ) -> Result<(), Error> {
        let Some(after) = after else {
            return Ok(());
        };
        for restart in (after + 1..next).take(MAX_MISSED_RUNS as usize) {
            let mut feed = self.open(facts, restart).await?;
            feed.lost();
            feed.finish().await?;
        }
        Ok(())
    }

    async fn open(&self, facts: &PodFacts, restart: u32) -> Result<Feed, Error> {
        let Context {
            intake, settings, ..
        } = &*self.context;
        Feed::open(
            intake,
            Arc::new(self.stream(facts, restart)),
            settings.max_line_bytes,
            self.stop.clone(),
        )
        .await
    }

    fn stream(&self, facts: &PodFacts, restart: u32) -> tawny_model::Stream {
        let container = facts
            .container(&self.container)
            .expect("containers of a pod never vanish from its spec");
        facts.stream(
            Arc::clone(self.context.intake.cluster()),
            container,
            restart,
        )
    }

    /// Reads one run: follows it while it lives, then once more to the end (SX-14: a crash's last lines count most).
    async fn read(&mut self, facts: &PodFacts, restart: u32) -> Result<Done, Error> {
        let mut feed = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Done::Stopped),
            feed = self.open(facts, restart) => feed?,
        };
        let seed = feed.lane().id().key().0;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, seed);
        // Whether lines may exist that were not read: only if it was seen alive, or this process read some of it.
        let mut was_live = false;
        let mut is_read_up = false;
        loop {
            let facts = Arc::clone(&self.pod.borrow_and_update());
            feed.describe(self.stream(&facts, restart));
            let run = match facts
                .container(&self.container)
                .map(|c| runs::standing(c, restart))
            {
                Some(Standing::Readable(run)) => run,
                Some(Standing::Lost) | None => break,
                Some(Standing::Unknown) if facts.is_over() => break,
                Some(Standing::Unknown) => {
                    if self.pause(backoff.next_delay()).await == Done::Stopped {
                        return Ok(Done::Stopped);
                    }
                    continue;
                }
            };
            was_live |= run.is_live;
            let slot = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(Done::Stopped),
                slot = self.context.slots.acquire() => slot,
            };
            let follow = run.is_live && !facts.gone && !self.context.slots.is_contended();
            let left = self.connect(&mut feed, &facts, &run, follow).await?;
            drop(slot);
            let pause = match left {
                Left::Stopped => return Ok(Done::Stopped),
                Left::End { .. } if !run.is_live => {
                    feed.finish().await?;
                    return Ok(Done::Ended);
                }
                Left::End { .. } if follow => {
                    // The container has ended, or the kubelet dropped the stream: its next status tells (KL-42).
                    is_read_up = true;
                    backoff.reset();
                    backoff.next_delay()
                }
                Left::End { n_bytes } => {
                    backoff.reset();
                    if n_bytes >= BUSY_BYTES {
                        RETRY_FIRST
                    } else {
                        self.context.settings.poll_interval
                    }
                }
                Left::Idle => {
                    is_read_up = false;
                    backoff.reset();
                    continue;
                }
                Left::Mistaken => backoff.next_delay(),
                Left::Refused(refusal) => {
                    if self.step_back(&feed, refusal, &mut backoff).await == Done::Stopped {
                        return Ok(Done::Stopped);
                    }
                    drop(feed);
                    feed = tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return Ok(Done::Stopped),
                        feed = self.open(&facts, restart) => feed?,
                    };
                    continue;
                }
                Left::NoLog if !run.is_live => break,
                Left::NoLog => backoff.next_delay(),
                Left::Failed(tawny_kube::Error::NotFound { .. }) if facts.gone => break,
                Left::Failed(tawny_kube::Error::BadRequest { .. }) if run.is_previous => break,
                Left::Failed(error) => {
                    is_read_up = false;
                    self.context
                        .problems
                        .report(&error, &facts, &self.container);
                    backoff
                        .next_delay()
                        .max(error.retry_after().unwrap_or_default())
                }
            };
            if self.pause(pause).await == Done::Stopped {
                return Ok(Done::Stopped);
            }
        }
        if was_live && !is_read_up {
            feed.lost();
        }
        feed.finish().await?;
        Ok(Done::Ended)
    }

    /// Waits, but no longer than until the pod changes.
    async fn pause(&mut self, longest: Duration) -> Done {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Done::Stopped,
            Ok(()) = self.pod.changed() => Done::Ended,
            () = sleep(longest) => Done::Ended,
        }
    }

    /// Waits before the stream is resumed.
    async fn step_back(&self, feed: &Feed, refusal: Refusal, backoff: &mut Backoff) -> Done {
        let wait = match refusal {
            Refusal::Gap => backoff.next_delay(),
            Refusal::Fenced => {
                tracing::warn!(stream = %feed.lane().id(), "another collector has taken this stream over; do two of them collect it?");
                FENCED_WAIT
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => Done::Stopped,
            () = sleep(wait) => Done::Ended,
        }
    }

    /// How long a silent connection is kept: a rotation can wedge the stream of a living container (KL-43), and what is
    /// left of an ended one comes at once or never.
    fn patience(&self, restart: u32) -> Duration {
        let facts = self.pod.borrow();
        let is_live = !facts.gone
            && facts.container(&self.container).is_some_and(
                |container| matches!(runs::standing(container, restart), Standing::Readable(run) if run.is_live),
            );
        let settings = &self.context.settings;
        if is_live {
            settings.idle_reconnect
        } else {
            settings.drain
        }
    }

    /// One connection, from where the feed stands, until it ends in some way.
    async fn connect(
        &mut self,
        feed: &mut Feed,
        facts: &PodFacts,
        run: &Run,
        follow: bool,
    ) -> Result<Left, Error> {
        let context = Arc::clone(&self.context);
        let request = LogRequest {
            namespace: facts.namespace.to_string(),
            pod: facts.name.to_string(),
            container: self.container.to_string(),
            follow,
            previous: run.is_previous,
            since: feed.reconnect(),
            ..LogRequest::default()
        };
        let began = Instant::now();
        let mut idle_since = began;
        let mut log: Option<LogStream> = None;
        let mut opening = pin!(context.cluster.open_logs(&request));
        let mut lines = LineBuffer::new(context.settings.max_line_bytes);
        let mut is_checked = false;
        let mut n_read = 0;
        loop {
            let deadline = idle_since + self.patience(run.restart);
            let due = feed.due();
            let turn_ends = (began + TURN).max(idle_since);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    feed.break_off().await?;
                    return Ok(Left::Stopped);
                }
                refusal = feed.lane().refused() => return Ok(Left::Refused(refusal)),
                opened = &mut opening, if log.is_none() => match opened {
                    Ok(opened) => log = Some(opened),
                    Err(error) => return Ok(Left::Failed(error)),
                },
                filled = fill(&mut log), if log.is_some() => {
                    let bytes = match filled {
                        Ok(bytes) => bytes,
                        Err(error) => {
                            feed.break_off().await?;
                            return Ok(Left::Failed(error));
                        }
                    };
                    if bytes.is_empty() {
                        // A line without a newline is whole only once nothing can follow.
                        if !lines.is_empty() && !run.is_live {
                            take_line(feed, &mut lines, context.mends_lines, false);
                        }
                        feed.flush().await?;
                        return Ok(Left::End { n_bytes: n_read });
                    }
                    if !is_checked {
                        if NOTICES.iter().any(|notice| bytes.starts_with(notice)) {
                            return Ok(Left::NoLog);
                        }
                        if let Some(left) = self.check(facts, run).await {
                            return Ok(left);
                        }
                        is_checked = true;
                    }
                    let mut rest = bytes;
                    while !rest.is_empty() {
                        let (n_taken, is_whole) = lines.take(rest);
                        rest = &rest[n_taken..];
                        if is_whole {
                            take_line(feed, &mut lines, context.mends_lines, true);
                        }
                    }
                    let n_bytes = bytes.len();
                    n_read += n_bytes;
                    if let Some(log) = &mut log {
                        log.consume(n_bytes);
                    }
                    if feed.is_full() {
                        feed.flush().await?;
                    }
                    idle_since = Instant::now();
                }
                () = until(due), if due.is_some() => feed.flush().await?,
                Ok(()) = self.pod.changed() => {
                    let facts = Arc::clone(&self.pod.borrow_and_update());
                    feed.describe(self.stream(&facts, run.restart));
                }
                () = sleep_until(deadline) => {
                    feed.flush().await?;
                    return Ok(Left::Idle);
                }
                () = turn_over(&context.slots, turn_ends), if follow => {
                    feed.flush().await?;
                    return Ok(Left::Idle);
                }
            }
        }
    }

    /// Makes sure that an answer comes from the run it was asked for: a container may have been restarted, or its pod
    /// replaced by another of the same name, between the last look and the request. `None` when all is well.
    async fn check(&self, facts: &PodFacts, run: &Run) -> Option<Left> {
        let fresh = match self
            .context
            .cluster
            .fetch_pod(&facts.namespace, &facts.name)
            .await
        {
            Ok(Some(fresh)) => fresh,
            // A pod that is gone cannot have been restarted, and the kubelet still sends what is left.
            Ok(None) => return None,
            Err(error) => return Some(Left::Failed(error)),
        };
        if fresh.object_uid != facts.object_uid {
            return Some(Left::Failed(tawny_kube::Error::NotFound {
                message: format!(
                    "pod {}/{} was replaced by another",
                    facts.namespace, facts.name
                ),
            }));
        }
        let chosen = fresh.container(&self.container).and_then(|container| {
            runs::readable(container)
                .into_iter()
                .find(|r| r.is_previous == run.is_previous)
        });
        let is_same =
            chosen.is_some_and(|chosen| chosen.restart == run.restart && chosen.id == run.id);
        (!is_same).then_some(Left::Mistaken)
    }
}

async fn fill(log: &mut Option<LogStream>) -> Result<&[u8], tawny_kube::Error> {
    match log {
        Some(log) => log.fill().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Waits until another stream waits for a slot and this one's turn is over.
async fn turn_over(slots: &Slots, turn_ends: Instant) {
    slots.contended().await;
    sleep_until(turn_ends).await;
}

/// The API does not tell the two outputs apart, so all lines count as stdout.
fn take_line(feed: &mut Feed, lines: &mut LineBuffer, mends: bool, is_whole: bool) {
    let line = lines.line(mends, is_whole);
    match line.timestamp {
        Some(timestamp) => {
            let raw = RawLine {
                timestamp,
                output: Output::Stdout,
                is_partial: false,
                content: line.content,
            };
            feed.line(raw, line.cut_bytes, line.len_bytes);
        }
        None => feed.malformed(line.content, line.cut_bytes, line.len_bytes),
    }
    lines.clear();
}
