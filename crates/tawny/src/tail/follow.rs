//! Follows one container run through `pods/log`: every line once, across disconnects and rotations.

use std::{sync::Arc, time::Duration};

use memchr::memchr;
use tawny_kube::{Cluster, ContainerState, Error, LogRequest, LogStream, PodDirectory, PodFacts};
use tawny_model::{Remedy, ResumeMark, StreamKey, Timestamp};
use tawny_runtime::{Backoff, CancellationToken};
use tawny_wire::{kube_log, to_text};
use tokio::sync::mpsc;

use super::merge::Timed;

/// One run of one container.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) pod: Arc<PodFacts>,
    pub(super) container: Arc<str>,
    /// The run's number, the `N` of `N.log`.
    pub(super) restart: u32,
    /// The run is the one before the latest.
    pub(super) is_previous: bool,
}

/// What a follower tells.
#[derive(Debug)]
pub(super) enum Item {
    Started(Arc<Target>),
    Line {
        timestamp: Timestamp,
        text: String,
        target: Arc<Target>,
    },
    /// With the time of its last line, so that it is told behind it.
    Ended {
        timestamp: Timestamp,
        target: Arc<Target>,
    },
    /// The log could not be read any further.
    Failed {
        timestamp: Timestamp,
        target: Arc<Target>,
        error: Error,
    },
}

impl Timed for Item {
    fn timestamp(&self) -> Timestamp {
        match self {
            Self::Started(_) => Timestamp::MIN,
            Self::Line { timestamp, .. }
            | Self::Ended { timestamp, .. }
            | Self::Failed { timestamp, .. } => *timestamp,
        }
    }
}

/// What to read of a log.
#[derive(Debug, Clone)]
pub(super) struct Extent {
    pub(super) since: Option<Timestamp>,
    pub(super) tail_lines: Option<u64>,
    pub(super) follow: bool,
}

/// Reads one log to its end.
pub(super) struct Follower {
    pub(super) cluster: Cluster,
    pub(super) directory: PodDirectory,
    pub(super) target: Arc<Target>,
    pub(super) extent: Extent,
    pub(super) items_tx: mpsc::Sender<Item>,
    pub(super) stop: CancellationToken,
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A silent log is asked for anew: a rotation can leave a follow stream hanging (KL-43).
const IDLE_RECONNECT: Duration = Duration::from_secs(300);

/// Longer lines are cut; nobody reads them on a terminal.
const MAX_LINE_BYTES: usize = 1 << 20;

/// How a connection ended.
enum End {
    /// The log is at its end for now.
    Eof,
    /// Nobody listens any more, or the command stops.
    Stopped,
}

impl Follower {
    pub(super) async fn run(self) {
        let seed = StreamKey(u64::from(self.target.restart)).0 ^ self.target.pod.uid.len() as u64;
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY, seed);
        let mut place = Place::default();
        if self
            .items_tx
            .send(Item::Started(Arc::clone(&self.target)))
            .await
            .is_err()
        {
            return;
        }
        loop {
            match self.read(&mut place, &mut backoff).await {
                Ok(End::Stopped) => return,
                Ok(End::Eof) if self.goes_on() => {}
                Ok(End::Eof) => {
                    return self
                        .tell(Item::Ended {
                            timestamp: place.mark.timestamp,
                            target: Arc::clone(&self.target),
                        })
                        .await;
                }
                Err(error) if self.extent.follow && error.remedy() == Remedy::Retry => {
                    tracing::debug!(pod = %self.target.pod.name, container = %self.target.container, %error, "log stream broke");
                }
                Err(Error::NotFound { .. }) if place.mark.n_lines > 0 => {
                    return self
                        .tell(Item::Ended {
                            timestamp: place.mark.timestamp,
                            target: Arc::clone(&self.target),
                        })
                        .await;
                }
                Err(error) => {
                    return self
                        .tell(Item::Failed {
                            timestamp: place.mark.timestamp,
                            target: Arc::clone(&self.target),
                            error,
                        })
                        .await;
                }
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.items_tx.closed() => return,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
    }

    async fn tell(&self, item: Item) {
        // Fails only when nobody listens any more.
        drop(self.items_tx.send(item).await);
    }

    /// Whether the container still runs this run, so that an end of the log is only the end of a connection (KL-42).
    fn goes_on(&self) -> bool {
        self.extent.follow
            && !self.target.is_previous
            && self.directory.get(&self.target.pod.uid).is_some_and(|pod| {
                !pod.is_over()
                    && pod
                        .container(&self.target.container)
                        .is_some_and(|container| {
                            container.restarts == self.target.restart
                                && matches!(container.state, ContainerState::Running { .. })
                        })
            })
    }

    /// Opens the log where it was left and reads until it ends or breaks.
    async fn read(&self, place: &mut Place, backoff: &mut Backoff) -> Result<End, Error> {
        let is_first = place.mark.n_lines == 0;
        let request = LogRequest {
            namespace: self.target.pod.namespace.to_string(),
            pod: self.target.pod.name.to_string(),
            container: self.target.container.to_string(),
            follow: self.extent.follow && !self.target.is_previous,
            previous: self.target.is_previous,
            since: if is_first {
                self.extent.since
            } else {
                Some(place.mark.timestamp)
            },
            tail_lines: if is_first {
                self.extent.tail_lines
            } else {
                None
            },
            limit_bytes: None,
        };
        let opened = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(End::Stopped),
            opened = self.cluster.open_logs(&request) => opened,
        };
        let mut log = opened?;
        place.reconnected();
        let mut line = Vec::new();
        loop {
            let filled = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(End::Stopped),
                () = self.items_tx.closed() => return Ok(End::Stopped),
                filled = tokio::time::timeout(IDLE_RECONNECT, take_line(&mut log, &mut line)) => filled,
            };
            match filled {
                Err(_idle) => return Ok(End::Eof),
                Ok(more) => {
                    if !more? {
                        return Ok(End::Eof);
                    }
                    backoff.reset();
                }
            }
            if let Some(item) = place.admit(&line, &self.target)
                && self.items_tx.send(item).await.is_err()
            {
                return Ok(End::Stopped);
            }
            line.clear();
        }
    }
}

/// Appends bytes up to the next line end, without it; false at the end of the log with nothing read.
///
/// CANCEL-SAFE: what was taken so far stays in `line`.
async fn take_line(log: &mut LogStream, line: &mut Vec<u8>) -> Result<bool, Error> {
    loop {
        let bytes = log.fill().await?;
        if bytes.is_empty() {
            return Ok(!line.is_empty());
        }
        let (n_line, n_taken, is_whole) = match memchr(b'\n', bytes) {
            Some(at) => (at, at + 1, true),
            None => (bytes.len(), bytes.len(), false),
        };
        let room = MAX_LINE_BYTES.saturating_sub(line.len());
        line.extend_from_slice(&bytes[..n_line.min(room)]);
        log.consume(n_taken);
        if is_whole {
            return Ok(true);
        }
    }
}

/// How far a log has been told, by content.
#[derive(Debug, Default)]
struct Place {
    mark: ResumeMark,
    /// Lines stamped as the mark is that a new connection has shown so far; `None` once past the mark.
    n_seen_again: Option<u32>,
}

impl Place {
    fn reconnected(&mut self) {
        self.n_seen_again = (self.mark.n_lines > 0).then_some(0);
    }

    /// The line as an item, unless an earlier connection told it. The API repeats a whole second (KL-40).
    fn admit(&mut self, line: &[u8], target: &Arc<Target>) -> Option<Item> {
        // A line without a time is the kubelet's own word, told where it stands.
        let (timestamp, content) = kube_log::decode(line).unwrap_or((self.mark.timestamp, line));
        if let Some(n_seen) = &mut self.n_seen_again {
            if timestamp < self.mark.timestamp {
                return None;
            }
            if timestamp == self.mark.timestamp {
                *n_seen += 1;
                if *n_seen <= self.mark.n_lines {
                    return None;
                }
            }
            self.n_seen_again = None;
        }
        self.mark = self.mark.after_line(timestamp);
        let mut text = String::new();
        let text = to_text(content, &mut text).to_owned();
        Some(Item::Line {
            timestamp,
            text,
            target: Arc::clone(target),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tawny_kube::pod_facts;

    use super::*;

    fn target() -> Arc<Target> {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [{"name": "c"}]}});
        let pod = Arc::new(pod_facts(&serde_json::from_value(pod).unwrap()).unwrap());
        Arc::new(Target {
            pod,
            container: "c".into(),
            restart: 0,
            is_previous: false,
        })
    }

    proptest! {
        /// A log cut anywhere and read again from its last whole second is told exactly once, equal times included.
        #[test]
        fn every_line_is_told_once_over_reconnects(steps in prop::collection::vec(0i64..3, 1..60), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
            let mut time = 1_700_000_000_000_000_000i64;
            let lines: Vec<(i64, String)> = steps.iter().enumerate().map(|(idx, step)| {
                time += step * 400_000_000;
                (time, format!("{} line {idx}", Timestamp::from_nanos(time)))
            }).collect();
            let target = target();
            let mut place = Place::default();
            let mut told = Vec::new();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(lines.len())).collect();
            ends.sort_unstable();
            ends.push(lines.len());
            for end in ends {
                let since = if place.mark.n_lines > 0 { place.mark.timestamp.as_secs() } else { 0 };
                place.reconnected();
                for (_, line) in lines[..end].iter().filter(|(time, _)| time.div_euclid(1_000_000_000) >= since) {
                    if let Some(Item::Line { text, .. }) = place.admit(line.as_bytes(), &target) {
                        told.push(text);
                    }
                }
            }
            let expected: Vec<String> = (0..lines.len()).map(|idx| format!("line {idx}")).collect();
            prop_assert_eq!(told, expected);
        }
    }
}
