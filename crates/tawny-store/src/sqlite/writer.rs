//! The one thread that writes: takes commands in order and lets waiting writers share a transaction.

use std::{collections::VecDeque, sync::Arc};

use rusqlite::Connection;
use rustc_hash::FxHashMap;
use tawny_model::{Stream, StreamEnd, StreamId, StreamKey, Timestamp, WriterId};
use tokio::sync::mpsc;

use super::{
    Shared,
    ids::Drift,
    reserve::Reserve,
    retention::Chore,
    row::{STREAM_COLUMNS, StoredStream, StreamRow},
    schema::{DELETION_PAGES, limit_pages, sqlite_error},
};
use crate::{
    Error, Retention,
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
    Delete {
        before: Timestamp,
        reply: Reply<u64>,
    },
    Retain {
        retention: Retention,
        now: Timestamp,
        reply: Reply<u64>,
    },
}

impl Input {
    /// Whether both may share a transaction: appended entries look for repeats among what is stored, so they must not
    /// meet rows that are still on their way.
    fn joins(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Batches(_), Self::Batches(_)) | (Self::Entries(_), Self::Entries(_))
        )
    }
}

pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) streams: FxHashMap<StreamId, Known>,
    pub(super) owners: FxHashMap<StreamId, WriterId>,
    pub(super) next_stream_row: StreamRow,
    pub(super) drift: Drift,
    chores: VecDeque<Chore>,
    reserve: Reserve,
    /// The disk is full and a chore frees space out of the reserve, which no writer may use up meanwhile.
    is_freeing: bool,
}

/// A stream as the writer knows it; the same as its row.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) row: StreamRow,
    pub(super) key: StreamKey,
    pub(super) stream: Arc<Stream>,
    pub(super) end: Option<StreamEnd>,
    pub(super) written: Timestamp,
}

impl Writer {
    /// Reads the streams of an opened file.
    pub(super) fn load(
        conn: Connection,
        shared: Arc<Shared>,
        mut reserve: Reserve,
    ) -> Result<Self, Error> {
        let read = || -> rusqlite::Result<_> {
            let mut streams = FxHashMap::default();
            let mut select = conn.prepare(&format!("SELECT {STREAM_COLUMNS} FROM streams"))?;
            let mut rows = select.query([])?;
            let mut last_row = 0;
            while let Some(row) = rows.next()? {
                let stored = StoredStream::read(row)?;
                last_row = last_row.max(stored.row);
                let known = Known {
                    row: stored.row,
                    key: stored.stream.id.key(),
                    end: stored.end,
                    written: stored.written,
                    stream: Arc::new(stored.stream),
                };
                streams.insert(known.stream.id.clone(), known);
            }
            let sum = "SELECT coalesce(sum(n), 0) FROM rollup";
            let n_entries: i64 = conn.query_row(sum, [], |row| row.get(0))?;
            Ok((
                streams,
                last_row,
                Drift::load(&conn)?,
                n_entries.cast_unsigned(),
            ))
        };
        let (streams, last_row, drift, n_entries) =
            read().map_err(|source| sqlite_error(&shared.path, "read streams", source))?;
        shared.publish(
            streams
                .values()
                .map(|known| (known.row, Arc::clone(&known.stream))),
        );
        shared.metrics.opened(n_entries, streams.len());
        reserve.fill();
        Ok(Self {
            conn,
            shared,
            streams,
            owners: FxHashMap::default(),
            next_stream_row: last_row + 1,
            drift,
            chores: VecDeque::new(),
            reserve,
            is_freeing: false,
        })
    }

    /// Serves commands until every sender is gone. Deletion goes in steps, between which writers are served.
    pub(super) fn run(mut self, mut commands_rx: mpsc::Receiver<Command>) {
        let mut held_back = None;
        loop {
            let command = match held_back.take() {
                Some(command) => Some(command),
                None if self.chores.is_empty() => match commands_rx.blocking_recv() {
                    Some(command) => Some(command),
                    None => break,
                },
                None => match commands_rx.try_recv() {
                    Ok(command) => Some(command),
                    Err(mpsc::error::TryRecvError::Empty) => None,
                    Err(mpsc::error::TryRecvError::Disconnected) => break,
                },
            };
            match command {
                Some(Command::Resume {
                    writer,
                    streams,
                    reply,
                }) => {
                    answer(reply, Ok(self.resume(writer, streams)));
                }
                Some(Command::Store { input: _, reply }) if self.is_freeing => {
                    self.shared.metrics.writes_popped.inc();
                    let path = self.shared.path.clone();
                    answer(reply, Err(Error::DiskFull { path }));
                }
                Some(Command::Store { input, reply }) => {
                    held_back = self.store_group(input, reply, &mut commands_rx);
                }
                Some(Command::Delete { before, reply }) => {
                    self.chores.push_back(Chore::delete(before, reply));
                }
                Some(Command::Retain {
                    retention,
                    now,
                    reply,
                }) => {
                    self.chores.push_back(Chore::retain(&retention, now, reply));
                }
                None => {}
            }
            self.step_chore();
        }
        // Folds the log into the file, so that a cleanly stopped store is one file. Losing this loses nothing.
        if let Err(source) = self.conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!(error = %source, "last checkpoint failed");
        }
    }

    fn resume(&mut self, writer: WriterId, streams: Vec<StreamId>) -> Vec<Option<StreamEnd>> {
        streams
            .into_iter()
            .map(|id| {
                let end = self.streams.get(&id).and_then(|known| known.end);
                self.owners.insert(id, writer);
                end
            })
            .collect()
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
                Ok(Command::Store { input, reply }) if input.joins(&inputs[0]) => {
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
        self.shared
            .metrics
            .writes_popped
            .inc_by(inputs.len() as u64);
        match self.store(&inputs) {
            Ok(stored) => {
                for (reply, stored) in replies.into_iter().zip(stored) {
                    answer(reply, Ok(stored));
                }
            }
            // Each alone, so that none fails for another's fault: a small write may still fit on a disk nearly full.
            Err(_) if inputs.len() > 1 => {
                for (input, reply) in inputs.into_iter().zip(replies) {
                    let result = self.store(&[input]);
                    answer(reply, result.map(|mut stored| stored.remove(0)));
                }
            }
            Err(error) => answer(replies.remove(0), Err(error)),
        }
        held_back
    }

    fn step_chore(&mut self) {
        let Some(mut chore) = self.chores.pop_front() else {
            return;
        };
        let limit = |writer: &Self, n_extra| {
            limit_pages(&writer.conn, writer.shared.max_file_bytes, n_extra)
                .map_err(|source| sqlite_error(&writer.shared.path, "set size limit", source))
        };
        let result = limit(self, DELETION_PAGES)
            .and_then(|()| chore.step(self))
            .and_then(|is_done| limit(self, 0).map(|()| is_done));
        match result {
            Ok(false) => return self.chores.push_front(chore),
            Err(Error::DiskFull { .. }) if self.reserve.spend() => {
                tracing::warn!(path = %self.shared.path.display(), "disk full: deleting out of the reserve");
                self.is_freeing = true;
                return self.chores.push_front(chore);
            }
            Ok(true) => chore.finish(),
            Err(error) => chore.fail(error),
        }
        self.is_freeing = false;
        self.reserve.fill();
    }
}
