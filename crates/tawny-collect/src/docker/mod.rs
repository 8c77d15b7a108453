//! Containers of a Docker or Podman engine, read through its socket: whatever log driver it uses, as long as it can be
//! read back.
//!
//! The engine keeps one log per container over all its restarts, so a container is one stream with `restart` 0.
//!
//! | stream | is |
//! |---|---|
//! | namespace | the compose project, or `docker` |
//! | pod | the container's name |
//! | pod UID | the container's id |
//! | container | the compose service, or the container's name |
//! | node | the engine's name for its machine |
//! | labels | the container's labels |

mod container;
mod engine;
mod frames;
mod own;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use rustc_hash::FxHashMap;
use tawny_runtime::{Backoff, CancellationToken};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};

pub use engine::EngineError;
pub use own::OwnContainer;

use self::{
    container::{Context, Reader},
    engine::{Answer, Engine, Event},
};
use crate::{Error, Intake, Source, SourceKind};

/// How the engine's containers are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSettings {
    /// The engine's socket, of Docker or Podman.
    pub socket: PathBuf,
    /// Most bytes kept of one line.
    pub max_line_bytes: usize,
    /// A stream that stays silent for this long is opened anew.
    pub idle_reconnect: Duration,
}

impl DockerSettings {
    /// The usual settings for an engine at `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            max_line_bytes: 1 << 20,
            idle_reconnect: Duration::from_secs(300),
        }
    }
}

/// Waits between attempts at the engine.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// A failing engine is told of again after this long.
const QUIET: Duration = Duration::from_secs(60);

/// Longest line of the event stream; they are some 500 bytes and carry the container's labels.
const MAX_EVENT_BYTES: usize = 1 << 20;

/// Reads all containers of one engine but its own.
#[derive(Debug)]
pub struct DockerSource {
    settings: DockerSettings,
    own: OwnContainer,
}

impl DockerSource {
    pub fn new(settings: DockerSettings, own: OwnContainer) -> Self {
        Self { settings, own }
    }
}

#[async_trait]
impl Source for DockerSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Docker
    }

    async fn run(self: Box<Self>, intake: Intake, stop: CancellationToken) -> Result<(), Error> {
        let engine = Engine::new(&self.settings.socket);
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, intake.writer().0);
        let mut told: Option<Instant> = None;
        let context = Context {
            engine: engine.clone(),
            intake,
            settings: self.settings,
            own: self.own,
        };
        let mut readers = Readers {
            context: Arc::new(context),
            stop: stop.clone(),
            containers: FxHashMap::default(),
            tasks: JoinSet::new(),
        };
        loop {
            let attended = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                attended = readers.attend(&engine) => attended?,
            };
            if attended.is_working {
                backoff.reset();
            }
            if told.is_none_or(|told| told.elapsed() >= QUIET) {
                told = Some(Instant::now());
                tracing::warn!(error = %attended.error, "the engine does not tell of its containers; trying again");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep(backoff.next_delay()) => {}
            }
        }
        while let Some(ended) = readers.tasks.join_next().await {
            readers.ended(ended)?;
        }
        Ok(())
    }
}

/// How listening to the engine ended.
struct Attended {
    /// Whether it worked for a while.
    is_working: bool,
    error: EngineError,
}

/// All containers known.
struct Readers {
    context: Arc<Context>,
    stop: CancellationToken,
    containers: FxHashMap<Arc<str>, Reading>,
    tasks: JoinSet<(Arc<str>, Result<(), Error>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Now,
    /// It was started while its reader may have been about to end.
    Again,
    /// To its end; until it is started anew.
    Done,
}

impl Readers {
    /// Listens for starts, and reads all there is, until the engine fails.
    async fn attend(&mut self, engine: &Engine) -> Result<Attended, Error> {
        let failed = |is_working, error| Ok(Attended { is_working, error });
        // First listen, then list: a container started in between is in both.
        let mut events = match engine.events().await {
            Ok(events) => events,
            Err(error) => return failed(false, error),
        };
        let listed = match engine.fetch_containers().await {
            Ok(listed) => listed,
            Err(error) => return failed(false, error),
        };
        let ids: Vec<Arc<str>> = listed
            .into_iter()
            .map(|container| container.id.into())
            .collect();
        self.containers
            .retain(|id, reading| *reading != Reading::Done || ids.contains(id));
        for id in ids {
            if !self.containers.contains_key(&id) {
                self.read(id);
            }
        }
        let mut line = Vec::new();
        loop {
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.ended(ended)?,
                event = next_event(&mut events, &mut line) => match event {
                    Ok(event) if event.action == "start" => self.started(event.actor.id.into()),
                    // A container that dies ends its own stream.
                    Ok(_) => {}
                    Err(error) => return failed(true, error),
                },
            }
        }
    }

    fn started(&mut self, id: Arc<str>) {
        match self.containers.get_mut(&id) {
            Some(reading @ (Reading::Now | Reading::Again)) => *reading = Reading::Again,
            Some(Reading::Done) | None => self.read(id),
        }
    }

    fn read(&mut self, id: Arc<str>) {
        self.containers.insert(Arc::clone(&id), Reading::Now);
        let reader = Reader {
            context: Arc::clone(&self.context),
            id: Arc::clone(&id),
            stop: self.stop.clone(),
        };
        self.tasks.spawn(async move { (id, reader.run().await) });
    }

    fn ended(
        &mut self,
        ended: Result<(Arc<str>, Result<(), Error>), JoinError>,
    ) -> Result<(), Error> {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        };
        result?;
        let was = self.containers.insert(Arc::clone(&id), Reading::Done);
        if was == Some(Reading::Again) && !self.stop.is_cancelled() {
            self.read(id);
        }
        Ok(())
    }
}

/// The next event; `line` keeps what arrived of it when the wait is cut short.
///
/// CANCEL-SAFE: bytes go from the answer into `line` without a wait in between.
async fn next_event(events: &mut Answer, line: &mut Vec<u8>) -> Result<Event, EngineError> {
    loop {
        if let Some(end) = memchr::memchr(b'\n', line) {
            let event: Vec<u8> = line.drain(..=end).collect();
            match serde_json::from_slice(&event) {
                Ok(event) => return Ok(event),
                Err(error) => tracing::warn!(%error, "left out an event that cannot be read"),
            }
            continue;
        }
        if line.len() > MAX_EVENT_BYTES {
            return Err(EngineError::Malformed {
                reason: "an event without end".to_owned(),
            });
        }
        match events.bytes().await? {
            Some(bytes) => line.extend_from_slice(&bytes),
            None => {
                return Err(EngineError::Malformed {
                    reason: "the events have ended".to_owned(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
