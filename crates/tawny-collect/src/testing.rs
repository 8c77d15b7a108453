//! For tests: a sink in memory that admits as a store does, and can be made to fail.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tawny_model::{
    Admission, Batch, Position, Remedy, Severity, Stream, StreamEnd, StreamId, Timestamp, WriterId,
    admit,
};
use tawny_runtime::{SharedClock, SystemClock};
use tawny_store::Written;
use tokio::sync::watch;

use crate::{Intake, IntakeParts, Metadata, Metrics, NoMetadata, Selection, Sink, SinkError};

/// A stored entry, flat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) timestamp: Timestamp,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) end: Position,
}

impl Kept {
    pub(crate) fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) stream: Option<Arc<Stream>>,
    pub(crate) end: StreamEnd,
    pub(crate) entries: Vec<Kept>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    owners: HashMap<StreamId, WriterId>,
    pub(crate) streams: BTreeMap<StreamId, Stored>,
    /// Errors to answer the next calls of `deliver` with, before anything is taken.
    faults: VecDeque<Remedy>,
    /// Errors to answer the next calls of `deliver` with, after everything was taken: the ack is lost.
    lost_acks: usize,
    reject_messages: Option<String>,
    /// Every batch is answered as one behind a gap.
    pub(crate) is_forgetful: bool,
    pub(crate) call_sizes: Vec<usize>,
}

#[derive(Debug)]
pub(crate) struct MemorySink {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

impl Default for MemorySink {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

/// Longest a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

impl MemorySink {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub(crate) fn fail_next(&self, remedies: &[Remedy]) {
        self.with(|state| state.faults.extend(remedies));
    }

    pub(crate) fn lose_acks(&self, n_calls: usize) {
        self.with(|state| state.lost_acks = n_calls);
    }

    /// Refuses for good every call with an entry of this message.
    pub(crate) fn reject(&self, message: &str) {
        self.with(|state| state.reject_messages = Some(message.to_owned()));
    }

    /// Messages of a container's restarts, in order of streams and lines.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.with(|state| {
            state
                .streams
                .values()
                .flat_map(|stored| &stored.entries)
                .map(|kept| kept.message.clone())
                .collect()
        })
    }

    pub(crate) fn entries(&self) -> Vec<Kept> {
        self.with(|state| {
            state
                .streams
                .values()
                .flat_map(|stored| stored.entries.clone())
                .collect()
        })
    }

    /// Waits until `done` holds; looks again after each change.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub(crate) async fn wait_until(&self, done: impl Fn(&State) -> bool + Send + Sync) {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !self.with(|state| done(state)) {
                changes.changed().await.expect("the sink lives");
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let messages = self.messages();
            panic!(
                "waited in vain; {} messages, last {:?}",
                messages.len(),
                messages.iter().rev().take(5).collect::<Vec<_>>()
            );
        }
    }

    pub(crate) async fn wait_for_messages(&self, n: usize) -> Vec<String> {
        self.wait_until(|state| {
            state
                .streams
                .values()
                .map(|stored| stored.entries.len())
                .sum::<usize>()
                >= n
        })
        .await;
        self.messages()
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn resume(
        &self,
        writer: WriterId,
        streams: &[StreamId],
    ) -> Result<Vec<Option<StreamEnd>>, SinkError> {
        Ok(self.with(|state| {
            streams
                .iter()
                .map(|id| {
                    state.owners.insert(id.clone(), writer);
                    state.streams.get(id).map(|stored| stored.end)
                })
                .collect()
        }))
    }

    async fn deliver(&self, batches: &[Batch]) -> Result<Vec<Written>, SinkError> {
        let answer = self.with(|state| {
            state.call_sizes.push(batches.len());
            if let Some(remedy) = state.faults.pop_front() {
                return Err(fault(remedy));
            }
            let rejects = |batch: &Batch| {
                state
                    .reject_messages
                    .as_ref()
                    .is_some_and(|bad| batch.entries.iter().any(|entry| entry.message() == bad))
            };
            if batches.iter().any(rejects) {
                return Err(fault(Remedy::Reject));
            }
            let answers = batches.iter().map(|batch| state.write(batch)).collect();
            if state.lost_acks > 0 {
                state.lost_acks -= 1;
                return Err(fault(Remedy::Retry));
            }
            Ok(answers)
        });
        self.changes.send_modify(|n| *n += 1);
        answer
    }
}

fn fault(remedy: Remedy) -> SinkError {
    SinkError {
        sink: "memory".to_owned(),
        remedy,
        source: "made to fail".into(),
    }
}

impl State {
    fn write(&mut self, batch: &Batch) -> Written {
        if self.is_forgetful {
            let committed = Position::ZERO;
            return Written::Gap { committed };
        }
        let id = &batch.stream.id;
        let owner = self.owners.get(id).copied();
        let committed = self.streams.get(id).map(|stored| stored.end);
        match admit(batch, committed, owner) {
            Admission::New { skip } => {
                let stored = self.streams.entry(id.clone()).or_default();
                stored.end = StreamEnd {
                    end: batch.end,
                    mark: batch.end_mark,
                };
                stored.stream = Some(Arc::clone(&batch.stream));
                let n_before = stored.entries.len();
                stored
                    .entries
                    .extend(batch.entries.iter().skip(skip).map(|entry| {
                        Kept {
                            timestamp: entry.timestamp(),
                            severity: entry.severity(),
                            message: entry.message().to_owned(),
                            attributes: entry
                                .attributes()
                                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                                .collect(),
                            end: entry.end(),
                        }
                    }));
                Written::New {
                    end: batch.end,
                    n_new: (stored.entries.len() - n_before) as u64,
                }
            }
            Admission::Duplicate => Written::Duplicate {
                end: committed.unwrap_or_default().end,
            },
            Admission::Gap { committed } => Written::Gap { committed },
            Admission::Fenced => Written::Fenced,
        }
    }
}

/// An intake into `sink`, as another process at each `writer`.
pub(crate) fn intake(sink: &Arc<MemorySink>, writer: u64) -> Intake {
    intake_with(
        sink,
        writer,
        Selection::default(),
        Arc::new(NoMetadata::default()),
        Arc::new(SystemClock),
    )
}

pub(crate) fn intake_with(
    sink: &Arc<MemorySink>,
    writer: u64,
    selection: Selection,
    metadata: Arc<dyn Metadata>,
    clock: SharedClock,
) -> Intake {
    Intake::new(IntakeParts {
        writer: WriterId(writer),
        cluster: "".into(),
        sink: Arc::<MemorySink>::clone(sink),
        clock,
        metrics: Arc::new(Metrics::default()),
        selection: Arc::new(selection),
        metadata,
        bytes_in_flight: 8 << 20,
    })
}

pub(crate) fn stream_id(container: &str, restart: u32) -> StreamId {
    StreamId {
        cluster: "".into(),
        pod_uid: "u".into(),
        container: container.into(),
        restart,
    }
}
