//! Sends the corpus to a store, over several connections as agents do, and tells what it cost the store.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use indicatif::ProgressBar;
use tawny_model::Timestamp;
use tawny_wire::proto::tawny::{
    PushRequest, ingest_client::IngestClient, push_response::answer::Result as Told,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::transport::Channel;

use super::{
    corpus::{Corpus, Frame, Lane},
    http::Connection,
    peer,
    queries::Question,
    system::System,
};
use crate::loadgen::Pace;

/// One connection by which lines go out.
#[derive(Debug)]
pub(super) enum Sender {
    Push(IngestClient<Channel>),
    JsonLines(Connection),
}

impl Sender {
    /// Sends one request of the corpus and waits until the store has taken it.
    async fn send(&mut self, lane: &Lane, frame: &Frame) -> anyhow::Result<()> {
        match self {
            Self::Push(client) => push(client, lane.push_request(frame)?).await,
            Self::JsonLines(connection) => post(connection, lane.json_lines(frame)?).await,
        }
    }

    /// Sends lines that are no part of the corpus.
    pub(super) async fn send_extra(
        &mut self,
        request: PushRequest,
        json: Bytes,
    ) -> anyhow::Result<()> {
        match self {
            Self::Push(client) => push(client, request).await,
            Self::JsonLines(connection) => post(connection, json).await,
        }
    }
}

/// A stream of one request, as agents send it.
async fn push(client: &mut IngestClient<Channel>, request: PushRequest) -> anyhow::Result<()> {
    let wanted: Vec<u64> = request.batches.iter().map(|batch| batch.end).collect();
    let mut answers = client
        .push(futures::stream::iter([request]))
        .await?
        .into_inner();
    let response = answers
        .message()
        .await?
        .context("the server ended without an answer")?;
    let is_stored = response.answers.len() == wanted.len()
        && response
            .answers
            .iter()
            .zip(&wanted)
            .all(|(answer, end)| matches!(answer.result, Some(Told::StoredEnd(stored)) if stored == *end));
    ensure!(is_stored, "not all was stored: {:?}", response.answers);
    Ok(())
}

async fn post(connection: &mut Connection, lines: Bytes) -> anyhow::Result<()> {
    connection.post(peer::INSERT, lines).await.map(drop)
}

/// What was spent on ingesting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ingested {
    pub(super) n_lines: u64,
    /// To the last acknowledgement.
    pub(super) elapsed: Duration,
    /// The store's, to the last acknowledgement.
    pub(super) cpu_secs: f64,
    /// The store's, until its background work was done too.
    pub(super) settled_cpu_secs: f64,
    pub(super) peak_anonymous_bytes: u64,
}

/// Requests of each lane, split where this share of the lines is reached.
pub(super) fn split(corpus: &Corpus, percent: u64) -> [Vec<Job>; 2] {
    let mut parts = [Vec::new(), Vec::new()];
    for lane in &corpus.lanes {
        let total: u64 = lane.frames.iter().map(|frame| frame.n_lines).sum();
        let mut jobs = [VecDeque::new(), VecDeque::new()];
        let mut n_before = 0;
        for frame in &lane.frames {
            jobs[usize::from(n_before * 100 >= total * percent)].push_back(*frame);
            n_before += frame.n_lines;
        }
        for (part, frames) in parts.iter_mut().zip(jobs) {
            part.push(Job {
                lane: Arc::clone(lane),
                frames,
            });
        }
    }
    parts
}

/// Requests that go out over one connection, in order.
#[derive(Debug, Clone)]
pub(super) struct Job {
    lane: Arc<Lane>,
    frames: VecDeque<Frame>,
}

/// Sends everything as fast as the store takes it.
pub(super) async fn load(
    system: &System,
    jobs: &[Job],
    settle: Duration,
    progress: &ProgressBar,
) -> anyhow::Result<Ingested> {
    let memory = system.process.watch_memory();
    let cpu_before = system.process.cpu_secs()?;
    let started = Instant::now();
    let newest = Arc::new(AtomicI64::new(i64::MIN));
    let mut sending = send_all(system, jobs, 0, &newest, progress).await?;
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let elapsed = started.elapsed();
    let cpu_secs = system.process.cpu_secs()? - cpu_before;
    system.flush().await?;
    system.process.settle(settle).await?;
    Ok(Ingested {
        n_lines: n_lines(jobs),
        elapsed,
        cpu_secs,
        settled_cpu_secs: system.process.cpu_secs()? - cpu_before,
        peak_anonymous_bytes: memory.peak_bytes(),
    })
}

fn n_lines(jobs: &[Job]) -> u64 {
    let frames = jobs.iter().flat_map(|job| &job.frames);
    frames.map(|frame| frame.n_lines).sum()
}

/// Starts a task a connection; `lines_per_sec` of them all together, 0 for no limit.
async fn send_all(
    system: &System,
    jobs: &[Job],
    lines_per_sec: u64,
    newest: &Arc<AtomicI64>,
    progress: &ProgressBar,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    const NEVER: Duration = Duration::from_secs(86_400);
    let mut sending = JoinSet::new();
    for job in jobs {
        let (job, newest, progress) = (job.clone(), Arc::clone(newest), progress.clone());
        let mut sender = system.sender().await?;
        let mut pace = Pace::new(lines_per_sec / jobs.len() as u64, NEVER, None);
        sending.spawn(async move {
            for frame in &job.frames {
                pace.next(frame.n_lines).await.context("the pace is over")?;
                sender.send(&job.lane, frame).await?;
                newest.fetch_max(frame.newest.as_nanos(), Ordering::Relaxed);
                progress.inc(frame.n_lines);
            }
            Ok(())
        });
    }
    Ok(sending)
}

/// How fast lines go out while questions are timed: far below what stores can take, far above what a cluster writes.
const LINES_PER_SEC_WHILE_ASKING: u64 = 50_000;

/// Sends everything at a steady rate and asks a question about the newest lines all the while; answers the times taken.
pub(super) async fn ask_while_loading(
    system: &System,
    jobs: &[Job],
    question: &Question,
    progress: &ProgressBar,
) -> anyhow::Result<Vec<Duration>> {
    const BETWEEN: Duration = Duration::from_millis(20);
    let covered = question.range.as_ref().map_or(Duration::ZERO, |range| {
        range.end.saturating_since(range.start)
    });
    let newest = Arc::new(AtomicI64::new(i64::MIN));
    let mut sending = send_all(system, jobs, LINES_PER_SEC_WHILE_ASKING, &newest, progress).await?;
    let mut connection = system.connect().await?;
    let mut times = Vec::new();
    loop {
        if let Some(sent) = sending.try_join_next() {
            sent??;
        }
        if sending.is_empty() {
            return Ok(times);
        }
        sleep(BETWEEN).await;
        let seen = newest.load(Ordering::Relaxed);
        if seen == i64::MIN {
            continue;
        }
        let to = Timestamp::from_nanos(seen + 1);
        let question = question.about(to.saturating_sub(covered)..to);
        let target = system.target(&question);
        let started = Instant::now();
        let body = connection.get(&target).await?;
        times.push(started.elapsed());
        system.read(&question, &body)?;
    }
}
