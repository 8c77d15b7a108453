//! Reads one container of the engine until it is stopped and read to its end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tawny_model::{Stream, StreamId};
use tawny_runtime::{Backoff, CancellationToken};
use tawny_wire::RawLine;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    DockerSettings, EngineError, OwnContainer, RETRY_FIRST, RETRY_LONGEST,
    engine::{Answer, Engine, Inspected},
    frames::{LogDecoder, Part, Pieces},
    own::COMPOSE_SERVICE,
};
use crate::{Error, Facts, Intake, PodFacts, Refusal, Subject, feed::Feed};

/// Compose's name for the project a container belongs to.
const COMPOSE_PROJECT: &str = "com.docker.compose.project";

/// Namespace of containers that belong to no project.
const NO_PROJECT: &str = "docker";

/// Wait before a stream that another writer took over is taken back.
const FENCED_WAIT: Duration = Duration::from_secs(30);

/// What all readers share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) engine: Engine,
    pub(crate) intake: Intake,
    pub(crate) settings: DockerSettings,
    pub(crate) own: OwnContainer,
}

#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) context: Arc<Context>,
    pub(crate) id: Arc<str>,
    pub(crate) stop: CancellationToken,
}

/// Why a connection was left.
#[derive(Debug)]
enum Left {
    Stopped,
    Refused(Refusal),
    End,
    Idle,
    Failed(EngineError),
}

impl Reader {
    /// Reads until the container no longer runs and its log is read to the end, or until told to stop.
    ///
    /// # Errors
    /// When nothing can be handed on any more.
    pub(crate) async fn run(self) -> Result<(), Error> {
        let stop = self.stop.clone();
        let mut feed: Option<Feed> = None;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST, self.context.intake.writer().0);
        let mut is_failing = false;
        loop {
            let found = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                found = self.context.engine.fetch_container(&self.id) => found,
            };
            let left = match found {
                Ok(Some(container)) => {
                    if feed.is_none() {
                        feed = tokio::select! {
                            biased;
                            () = stop.cancelled() => return Ok(()),
                            feed = self.open(&container) => feed?,
                        };
                    }
                    let Some(feed) = &mut feed else {
                        return Ok(());
                    };
                    let is_running = container.state.running;
                    let left = self.connect(feed, &container, is_running).await?;
                    if matches!(left, Left::End) && !is_running {
                        return Ok(());
                    }
                    left
                }
                // Removed, and its log with it.
                Ok(None) => match &mut feed {
                    Some(feed) => return feed.finish().await,
                    None => return Ok(()),
                },
                Err(error) => Left::Failed(error),
            };
            let pause = match left {
                Left::Stopped => return Ok(()),
                Left::End | Left::Idle => {
                    is_failing = false;
                    backoff.reset();
                    // One more look at an ended container follows at once; a dropped stream waits a little.
                    Duration::from_millis(100)
                }
                Left::Refused(refusal) => {
                    feed = None;
                    if refusal == Refusal::Fenced {
                        tracing::warn!(container = %self.id, "another collector has taken this stream over; do two of them collect it?");
                        FENCED_WAIT
                    } else {
                        backoff.next_delay()
                    }
                }
                Left::Failed(error) => {
                    if !is_failing {
                        tracing::warn!(container = %self.id, %error, "cannot read a container's log; trying again");
                    }
                    is_failing = true;
                    backoff.next_delay()
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = sleep(pause) => {}
            }
        }
    }

    /// `None` for a container that is not to be read.
    async fn open(&self, container: &Inspected) -> Result<Option<Feed>, Error> {
        let Context {
            intake,
            settings,
            own,
            engine,
        } = &*self.context;
        if own.is(container) {
            tracing::debug!(container = %self.id, "left out: it is the collector's own");
            return Ok(None);
        }
        let node = engine.fetch_host_name().await.unwrap_or_default();
        let stream = describe(container, &node, intake.cluster());
        let verdict = intake.selection().decide(
            Subject {
                namespace: &stream.namespace,
                pod: &stream.pod,
                pod_uid: &stream.id.pod_uid,
                container: stream.container(),
            },
            Facts::Known(&facts(&stream)),
        );
        if !verdict.is_collect() {
            tracing::debug!(container = %self.id, ?verdict, "left out");
            return Ok(None);
        }
        Feed::open(
            intake,
            Arc::new(stream),
            settings.max_line_bytes,
            self.stop.clone(),
        )
        .await
        .map(Some)
    }

    /// One connection, from where the feed stands, until it ends in some way.
    async fn connect(
        &self,
        feed: &mut Feed,
        container: &Inspected,
        follow: bool,
    ) -> Result<Left, Error> {
        let since = feed.reconnect();
        let opened = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(Left::Stopped),
            opened = self.context.engine.logs(&self.id, since, follow) => opened,
        };
        let mut log: Answer = match opened {
            Ok(log) => log,
            Err(error) => return Ok(Left::Failed(error)),
        };
        let settings = &self.context.settings;
        let pieces = if log.is_podman() {
            Pieces::Any
        } else {
            Pieces::Full
        };
        let mut decoder = LogDecoder::new(container.config.tty, pieces, settings.max_line_bytes);
        let mut idle_since = Instant::now();
        loop {
            let due = feed.due();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    feed.break_off().await?;
                    return Ok(Left::Stopped);
                }
                refusal = feed.lane().refused() => return Ok(Left::Refused(refusal)),
                bytes = log.bytes() => {
                    let bytes = match bytes {
                        Ok(Some(bytes)) => bytes,
                        // The container has ended: what is open is whole, and the next run begins a new line.
                        Ok(None) => {
                            decoder.finish(|part| take(feed, part, &mut None));
                            feed.finish().await?;
                            return Ok(Left::End);
                        }
                        Err(error) => {
                            feed.break_off().await?;
                            return Ok(Left::Failed(error));
                        }
                    };
                    let mut failure = None;
                    let decoded = decoder.take(&bytes, |part| take(feed, part, &mut failure));
                    if decoded.is_err() {
                        failure = Some("a frame of unknown kind".to_owned());
                    }
                    if let Some(message) = failure {
                        feed.break_off().await?;
                        return Ok(Left::Failed(EngineError::Log { message }));
                    }
                    if feed.is_full() {
                        feed.flush().await?;
                    }
                    idle_since = Instant::now();
                }
                () = sleep_until(due.unwrap_or(idle_since)), if due.is_some() => feed.flush().await?,
                () = sleep_until(idle_since + settings.idle_reconnect) => {
                    feed.flush().await?;
                    return Ok(Left::Idle);
                }
            }
        }
    }
}

fn take(feed: &mut Feed, part: Part<'_>, failure: &mut Option<String>) {
    match part {
        Part::Line {
            output,
            is_partial,
            line,
        } => match line.timestamp {
            Some(timestamp) => {
                let raw = RawLine {
                    timestamp,
                    output,
                    is_partial,
                    content: line.content,
                };
                feed.line(raw, line.cut_bytes, line.len_bytes);
            }
            None => feed.malformed(line.content, line.cut_bytes, line.len_bytes),
        },
        Part::Failure(text) => *failure = Some(String::from_utf8_lossy(text).into_owned()),
    }
}

/// The stream of a container; see the table in the parent module.
fn describe(container: &Inspected, node: &str, cluster: &Arc<str>) -> Stream {
    let name = container.name.trim_start_matches('/');
    let label = |key: &str| {
        container
            .config
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
    };
    let id = StreamId {
        cluster: Arc::clone(cluster),
        pod_uid: container.id.as_str().into(),
        container: label(COMPOSE_SERVICE).map_or(name, String::as_str).into(),
        restart: 0,
    };
    let namespace = label(COMPOSE_PROJECT).map_or(NO_PROJECT, String::as_str);
    let labels: BTreeMap<Arc<str>, Arc<str>> = container
        .config
        .labels
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
        .collect();
    Stream {
        node: node.into(),
        image: container.config.image.as_str().into(),
        labels,
        ..Stream::new(id, namespace, name)
    }
}

/// Labels stand in for annotations, which engines do not have.
fn facts(stream: &Stream) -> PodFacts {
    PodFacts {
        namespace: Arc::clone(&stream.namespace),
        name: Arc::clone(&stream.pod),
        node: Arc::clone(&stream.node),
        labels: stream.labels.clone(),
        ..PodFacts::default()
    }
}
