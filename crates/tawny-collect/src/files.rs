//! The file source: every container's log files under a root such as `/var/log/pods` (VK-7 to VK-10).
//!
//! Files are found by directory listing; inotify only says early where to look. One thread at a time does all file
//! work, in turns; between turns it costs nothing.

mod engine;
mod generation;
mod layout;
mod lines;
mod locate;
mod scan;
mod tail;
mod watch;

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use tawny_model::{Batch, StreamId};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch::Receiver,
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::engine::{Engine, Input, Output, TailKey};
use crate::{Error, Intake, Lane, Source, SourceKind};

/// How files are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSettings {
    /// Directory of pod directories.
    pub root: PathBuf,
    /// Time between looks at everything; costs two system calls per file.
    pub reconcile: Duration,
    /// Time between looks at files that cannot be watched.
    pub poll: Duration,
    /// Shortest time between turns: events within it are handled together.
    pub pace: Duration,
    /// Longest wait for labels and annotations that may forbid reading a new pod. Its files are held open meanwhile.
    pub facts_grace: Duration,
    /// A rotated file read to its end is left once its successor has lines and this long has passed; ten times as long
    /// while it has none. Until then the runtime may still write to it.
    pub settle: Duration,
    /// Longest line kept; a longer one keeps its head and says how much is missing (VK-9).
    pub max_line_bytes: usize,
    /// Text of one stream that makes a batch.
    pub batch_bytes: usize,
    /// Files held open at once; a file beyond it is opened when it is written to.
    pub max_open_files: usize,
    /// inotify watches used, one a directory; directories beyond it are polled.
    pub max_watches: usize,
}

impl Default for FilesSettings {
    fn default() -> Self {
        Self {
            root: "/var/log/pods".into(),
            reconcile: Duration::from_secs(2),
            poll: Duration::from_millis(250),
            pace: Duration::from_millis(50),
            facts_grace: Duration::from_secs(2),
            settle: Duration::from_millis(100),
            max_line_bytes: 1 << 20,
            batch_bytes: 512 << 10,
            max_open_files: 8_192,
            max_watches: usize::MAX,
        }
    }
}

/// Reads pod log files.
#[derive(Debug)]
pub struct FileSource {
    settings: FilesSettings,
}

impl FileSource {
    pub fn new(settings: FilesSettings) -> Self {
        Self { settings }
    }
}

/// Longest time a stopping source waits to hand on what it has read; what is left is read again at the next start.
const HAND_ON: Duration = Duration::from_secs(5);

#[async_trait]
impl Source for FileSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Files
    }

    async fn run(
        mut self: Box<Self>,
        intake: Intake,
        stop: CancellationToken,
    ) -> Result<(), Error> {
        let max_open_files = self.settings.max_open_files.min(descriptor_share());
        self.settings.max_open_files = max_open_files;
        let engine = Engine::open(self.settings.clone(), intake.clone(), Instant::now());
        let readiness = engine
            .watcher()
            .readiness()
            .and_then(|fd| watch_readiness(fd.ok()?));
        let driver = Driver {
            settings: self.settings,
            facts: intake.metadata().version(),
            refusals: intake.refusals(),
            intake,
            readiness,
            engine: Some(Box::new(engine)),
            turn: None,
            sending: None,
            resuming: None,
            wanted: Vec::new(),
            lanes: Vec::new(),
            is_facts_changed: false,
            is_refused: false,
            is_hinted: false,
            is_behind: false,
            turned_at: Instant::now(),
            turn_at: Some(Instant::now()),
        };
        driver.run(stop).await
    }
}

/// The process's soft limit on open files, less a quarter for connections, stores and watches.
fn descriptor_share() -> usize {
    // Linux's table of limits, as in proc(5): name, soft limit, hard limit, unit.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits.lines().find_map(|line| {
        line.strip_prefix("Max open files")?
            .split_ascii_whitespace()
            .next()
    });
    soft.and_then(|soft| soft.parse::<usize>().ok())
        .map_or(usize::MAX, |soft| soft / 4 * 3)
}

type Wanted = Vec<(TailKey, StreamId)>;
type Lanes = Vec<(TailKey, Lane)>;

/// Moves the engine between its turns, and batches and lanes between it and the intake.
struct Driver {
    settings: FilesSettings,
    intake: Intake,
    facts: Receiver<u64>,
    refusals: Receiver<u64>,
    readiness: Option<AsyncFd<OwnedFd>>,
    /// Here between turns.
    engine: Option<Box<Engine>>,
    turn: Option<JoinHandle<(Box<Engine>, Output)>>,
    sending: Option<BoxFuture<'static, Result<(), Error>>>,
    resuming: Option<BoxFuture<'static, Result<Lanes, Error>>>,
    wanted: Wanted,
    lanes: Lanes,
    is_facts_changed: bool,
    is_refused: bool,
    /// Events wait to be read.
    is_hinted: bool,
    /// Files wait to be read.
    is_behind: bool,
    turned_at: Instant,
    turn_at: Option<Instant>,
}

impl Driver {
    async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        loop {
            self.start_work();
            let next_turn = self.next_turn();
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish().await,
                done = pending_join(&mut self.turn) => {
                    self.turn = None;
                    self.take_output(done?);
                }
                sent = pending(&mut self.sending) => {
                    self.sending = None;
                    sent?;
                }
                lanes = pending(&mut self.resuming) => {
                    self.resuming = None;
                    self.lanes.extend(lanes?);
                }
                Ok(()) = self.facts.changed() => self.is_facts_changed = true,
                Ok(()) = self.refusals.changed() => self.is_refused = true,
                () = readable(&self.readiness), if !self.is_hinted => self.is_hinted = true,
                () = sleep_until(next_turn), if self.turn.is_none() => self.begin_turn(),
            }
        }
    }

    /// When the next turn is due, given what there is to do.
    fn next_turn(&self) -> Option<Instant> {
        let may_read = self.sending.is_none();
        if !self.lanes.is_empty() || (self.is_behind && may_read) {
            return Some(self.turned_at);
        }
        let is_woken = self.is_hinted || self.is_facts_changed || self.is_refused;
        let paced = is_woken.then(|| self.turned_at + self.settings.pace);
        [paced, self.turn_at].into_iter().flatten().min()
    }

    fn start_work(&mut self) {
        if self.resuming.is_none() && !self.wanted.is_empty() {
            let wanted = std::mem::take(&mut self.wanted);
            self.resuming = Some(resume(self.intake.clone(), wanted).boxed());
        }
    }

    fn begin_turn(&mut self) {
        let Some(mut engine) = self.engine.take() else {
            return;
        };
        let input = Input {
            now: Instant::now(),
            wall: self.intake.clock().now(),
            lanes: std::mem::take(&mut self.lanes),
            is_facts_changed: std::mem::take(&mut self.is_facts_changed),
            is_refused: std::mem::take(&mut self.is_refused),
            may_read: self.sending.is_none(),
        };
        self.is_hinted = false;
        self.turned_at = input.now;
        self.turn = Some(tokio::task::spawn_blocking(move || {
            let output = engine.turn(input);
            (engine, output)
        }));
    }

    fn take_output(&mut self, (engine, output): (Box<Engine>, Output)) {
        let Output {
            batches,
            wanted,
            is_behind,
            wake_at,
        } = output;
        self.engine = Some(engine);
        self.wanted.extend(wanted);
        self.is_behind = is_behind;
        self.turn_at = wake_at;
        if !batches.is_empty() {
            self.sending = Some(send(batches).boxed());
        }
    }

    /// Ends the turn under way and hands on what was read.
    async fn finish(mut self) -> Result<(), Error> {
        let hand_on = async {
            if let Some(sending) = self.sending.take() {
                sending.await?;
            }
            if self.turn.is_some() {
                let done = pending_join(&mut self.turn).await?;
                self.turn = None;
                self.take_output(done);
            }
            match self.sending.take() {
                Some(sending) => sending.await,
                None => Ok(()),
            }
        };
        // Whoever does not take it in time reads it again.
        tokio::time::timeout(HAND_ON, hand_on)
            .await
            .unwrap_or(Ok(()))
    }
}

async fn resume(intake: Intake, wanted: Wanted) -> Result<Lanes, Error> {
    let (keys, ids): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
    let lanes = intake.resume(&ids).await?;
    Ok(keys.into_iter().zip(lanes).collect())
}

async fn send(batches: Vec<(Arc<Lane>, Batch)>) -> Result<(), Error> {
    for (lane, batch) in batches {
        lane.send(batch).await?;
    }
    Ok(())
}

async fn pending<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn pending_join<T>(handle: &mut Option<JoinHandle<T>>) -> Result<T, Error> {
    match handle {
        Some(handle) => handle.await.map_err(|error| Error::Source {
            source_name: SourceKind::Files.name(),
            remedy: tawny_model::Remedy::StandDown,
            source: Box::new(error),
        }),
        None => std::future::pending().await,
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for descriptors that may be closed early; this one is owned"
)]
fn watch_readiness(fd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE).ok()
}

async fn readable(readiness: &Option<AsyncFd<OwnedFd>>) {
    match readiness {
        // Cleared before the events are read: one that comes later makes it readable again.
        Some(fd) => match fd.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
