//! The one thread that admits: takes commands in order, lets waiting writers share a record of the log and its fsync,
//! and hands what has gathered in memory over to become segments.

use std::{
    sync::{Arc, mpsc as std_mpsc},
    time::Duration,
};

use rustc_hash::{FxHashMap, FxHashSet};
use tawny_model::{Remedy, StreamEnd, StreamId, Timestamp, WriterId};
use tokio::{sync::mpsc, time::Instant};

use super::{
    Shared,
    ids::HotIds,
    rows::HotRows,
    streams::Registry,
    wal::{Change, Wal},
};
use crate::{
    Error,
    group::{GROUP_TEXT_BYTES, Input, Reply, Stored, answer},
};

/// What the writer is asked to do. A reply nobody waits for is no error: the work is done all the same.
pub(super) enum Command {
    Resume {
        writer: WriterId,
        streams: Vec<StreamId>,
        reply: Reply<Vec<Option<StreamEnd>>>,
    },
    Store {
        input: Input,
        reply: Reply<Stored>,
    },
    /// Answered when all that was stored before is in segments.
    Flush {
        reply: Reply<()>,
    },
    /// Forget streams that had no write since then and have no rows in these.
    Prune {
        written_before: Timestamp,
        in_use: FxHashSet<StreamId>,
    },
    /// There may be news of the flusher, or rows old enough to flush.
    Wake,
}

/// Rows to be made into segments, with the streams as of the same record of the log.
pub(super) struct FlushJob {
    pub(super) rows: Vec<Arc<HotRows>>,
    pub(super) registry: Registry,
    /// The last record whose rows are in it.
    pub(super) applied: u64,
}

/// What the flusher tells the writer.
pub(super) enum FlushNews {
    Done {
        applied: u64,
    },
    /// It goes on trying.
    Failed(Error),
}

/// How long a writer waits for room in memory before it looks whether the flusher is in trouble.
const ROOM_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) wal: Wal,
    pub(super) registry: Registry,
    pub(super) owners: FxHashMap<StreamId, WriterId>,
    pub(super) ids: HotIds,
    pub(super) jobs_tx: std_mpsc::SyncSender<FlushJob>,
    pub(super) news_rx: std_mpsc::Receiver<FlushNews>,
    /// Sequence number of the last record.
    pub(super) last_seq: u64,
    /// Sequence number of the last record that is in segments.
    pub(super) applied: u64,
    /// Memory of the rows since the last freeze, and of those frozen.
    pub(super) active_bytes: usize,
    pub(super) frozen_bytes: usize,
    /// When the oldest of the active rows came.
    pub(super) active_since: Option<Instant>,
    pub(super) is_flushing: bool,
    /// Callers that wait until this record is in segments.
    pub(super) flush_waiters: Vec<(u64, Reply<()>)>,
}

impl Writer {
    /// Serves commands until every sender is gone.
    pub(super) fn run(mut self, mut commands_rx: mpsc::Receiver<Command>) {
        let mut held_back = None;
        loop {
            if !self.hear_flusher() {
                tracing::error!("the thread that writes segments has died");
                break;
            }
            self.flush_when_due();
            let Some(command) = held_back.take().or_else(|| commands_rx.blocking_recv()) else {
                break;
            };
            if self.shared.is_deposed() {
                // What is in the log stays there; whoever asks learns that the store is closed.
                break;
            }
            match command {
                Command::Resume {
                    writer,
                    streams,
                    reply,
                } => {
                    let ends = streams.into_iter().map(|id| {
                        let end = self.registry.get(&id).and_then(|known| known.end);
                        self.owners.insert(id, writer);
                        end
                    });
                    answer(reply, Ok(ends.collect()));
                }
                Command::Store { input, reply } => {
                    held_back = self.store_group(input, reply, &mut commands_rx);
                }
                Command::Flush { reply } => {
                    self.flush_waiters.push((self.last_seq, reply));
                    self.flush_now();
                    self.answer_flush_waiters();
                }
                Command::Prune {
                    written_before,
                    in_use,
                } => self.prune(written_before, &in_use),
                Command::Wake => {}
            }
        }
    }

    /// Stores an input together with those waiting behind it; returns a command that does not fit in.
    fn store_group(
        &mut self,
        input: Input,
        reply: Reply<Stored>,
        commands_rx: &mut mpsc::Receiver<Command>,
    ) -> Option<Command> {
        let mut text_bytes = input.text_bytes();
        let (mut inputs, mut replies) = (vec![input], vec![reply]);
        let mut held_back = None;
        while text_bytes < GROUP_TEXT_BYTES {
            match commands_rx.try_recv() {
                Ok(Command::Store { input, reply }) => {
                    text_bytes += input.text_bytes();
                    inputs.push(input);
                    replies.push(reply);
                }
                Ok(other) => {
                    held_back = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let metrics = &self.shared.metrics;
        metrics.writes_popped.inc_by(inputs.len() as u64);
        match self.store(inputs) {
            Ok(stored) => {
                for (reply, stored) in replies.into_iter().zip(stored) {
                    if let Err(error) = &stored {
                        self.shared.metrics.failed(error);
                    }
                    answer(reply, stored);
                }
            }
            Err(error) => {
                self.shared.metrics.failed(&error);
                for reply in replies {
                    answer(reply, Err(error.again()));
                }
            }
        }
        held_back
    }

    /// Waits while memory is full; the flusher makes room.
    ///
    /// # Errors
    /// What the flusher met, when it cannot make any.
    pub(super) fn wait_for_room(&mut self) -> Result<(), Error> {
        let limit = self.shared.config.memory_bytes();
        while self.active_bytes + self.frozen_bytes > limit {
            self.flush_now();
            match self.news_rx.recv_timeout(ROOM_WAIT) {
                Ok(FlushNews::Failed(error)) => {
                    self.answer_failed_flush(&error);
                    return Err(match error.remedy() {
                        Remedy::Retry | Remedy::StandDown => error,
                        // It is the store that is in trouble, not what is to be written.
                        Remedy::Reject | Remedy::Quarantine => Error::Io {
                            path: self.shared.config.path.clone(),
                            doing: "write a segment, to make room in memory",
                            source: error.into(),
                        },
                    });
                }
                Ok(FlushNews::Done { applied }) => self.flushed(applied),
                Err(std_mpsc::RecvTimeoutError::Timeout) => {}
                Err(std_mpsc::RecvTimeoutError::Disconnected) => return Err(Error::Closed),
            }
        }
        Ok(())
    }

    /// Takes in the news there are; false when none will ever come again.
    fn hear_flusher(&mut self) -> bool {
        loop {
            match self.news_rx.try_recv() {
                Ok(FlushNews::Done { applied }) => self.flushed(applied),
                Ok(FlushNews::Failed(error)) => self.answer_failed_flush(&error),
                Err(std_mpsc::TryRecvError::Empty) => return true,
                Err(std_mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn answer_failed_flush(&mut self, error: &Error) {
        for (_, reply) in self.flush_waiters.drain(..) {
            answer(reply, Err(error.again()));
        }
    }

    fn flush_when_due(&mut self) {
        let config = &self.shared.config;
        let is_full = self.active_bytes >= config.flush_bytes();
        let is_old = self
            .active_since
            .is_some_and(|since| since.elapsed() >= config.flush_age);
        if is_full || is_old || !self.flush_waiters.is_empty() {
            self.flush_now();
        }
    }

    /// Hands the rows in memory to the flusher unless it is at work or there are none.
    fn flush_now(&mut self) {
        if self.is_flushing || self.active_since.is_none() {
            return;
        }
        let applied = match self.wal.rotate() {
            Ok(applied) => applied,
            Err(error) => {
                tracing::warn!(%error, "cannot begin a new file of the log");
                return;
            }
        };
        let job = FlushJob {
            rows: self.shared.state.freeze(),
            registry: self.registry.clone(),
            applied,
        };
        self.ids.freeze();
        self.frozen_bytes = std::mem::take(&mut self.active_bytes);
        self.active_since = None;
        self.is_flushing = true;
        self.jobs_tx
            .send(job)
            .expect("the flusher lives as long as the writer");
    }

    fn flushed(&mut self, applied: u64) {
        self.is_flushing = false;
        self.applied = applied;
        self.frozen_bytes = 0;
        self.ids.forget_frozen();
        if let Err(error) = self.wal.remove_through(applied) {
            tracing::warn!(%error, "cannot remove files of the log that are in segments");
        }
        self.shared.set_wal_bytes(self.wal.len_bytes());
        self.answer_flush_waiters();
    }

    /// Answers those whose rows are all in segments.
    fn answer_flush_waiters(&mut self) {
        let has_none = !self.is_flushing && self.active_since.is_none();
        let applied = self.applied;
        for (_, reply) in self
            .flush_waiters
            .extract_if(.., |(seq, _)| has_none || *seq <= applied)
        {
            answer(reply, Ok(()));
        }
    }

    fn prune(&mut self, written_before: Timestamp, in_use: &FxHashSet<StreamId>) {
        let gone: Vec<StreamId> = self
            .registry
            .iter()
            .filter(|known| known.written < written_before && !in_use.contains(&known.stream.id))
            .map(|known| known.stream.id.clone())
            .collect();
        if gone.is_empty() {
            return;
        }
        // Not in the log, a start would bring them back.
        let forget = self.wal.append(&[Change::Forget { streams: &gone }]);
        match forget.and_then(|seq| self.wal.commit().map(|()| seq)) {
            Ok(seq) => self.last_seq = seq,
            Err(error) => {
                tracing::warn!(%error, "streams without entries are kept until the next time");
                return;
            }
        }
        for id in &gone {
            self.registry.remove(id);
            self.owners.remove(id);
        }
        self.shared.state.forget(&gone);
        self.shared.metrics.set_streams(self.registry.len());
    }
}
