//! One record of the log: admission, ids and streams of all that waits, durable together or taken back together.

use std::{cell::OnceCell, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};
use tawny_model::{
    Batch, Entries, EntryId, LogEntry, Position, Stream, StreamEnd, StreamId, Timestamp, admit,
};
use tokio::time::Instant;

use super::{
    Shared,
    query::{self, Snapshot},
    rows::HotRows,
    streams::{Known, Last},
    wal::Change,
    writer::Writer,
};
use crate::{
    Committed, Error, Written,
    group::{Input, Results, Sorted, Stored, WRITTEN_STEP_NS},
    metrics::Metrics,
};

/// What was stored before a group, as its rows that may be repeats or step back in time have to know it.
struct Past {
    shared: Arc<Shared>,
    /// Taken when first asked: most groups never ask.
    snapshot: OnceCell<Snapshot>,
}

impl Past {
    fn snapshot(&self) -> &Snapshot {
        self.snapshot.get_or_init(|| self.shared.state.snapshot())
    }

    /// Whether a segment has the entry, or the rows in memory.
    fn contains(&self, entry: &LogEntry) -> Result<bool, Error> {
        let (stream, time) = (&entry.stream.id, entry.timestamp);
        query::contains(self.snapshot(), stream, time, &entry.message)
    }

    /// The highest id that the stream has in this microsecond.
    fn last_id_at(&self, stream: &StreamId, timestamp: Timestamp) -> Option<EntryId> {
        let ids = query::ids_at(self.snapshot(), stream, timestamp);
        ids.inspect_err(|error| tracing::warn!(%error, "cannot look for ids that are taken"))
            .ok()?
            .into_iter()
            .max()
    }
}

/// What a group changes in memory before it is durable, so that it can be taken back.
struct Pending {
    past: Past,
    now: Timestamp,
    rows: Vec<PendingRows>,
    before: FxHashMap<StreamId, Option<Known>>,
    changed: FxHashSet<StreamId>,
    appended: FxHashSet<(StreamId, Timestamp, Box<str>)>,
    results: Results,
}

impl Pending {
    fn new(shared: &Arc<Shared>) -> Self {
        Self {
            past: Past {
                shared: Arc::clone(shared),
                snapshot: OnceCell::new(),
            },
            now: shared.clock.now(),
            rows: Vec::new(),
            before: FxHashMap::default(),
            changed: FxHashSet::default(),
            appended: FxHashSet::default(),
            results: Results::default(),
        }
    }
}

/// One record's worth of one stream.
struct PendingRows {
    stream: Arc<Stream>,
    end: Option<StreamEnd>,
    rows: Option<Arc<HotRows>>,
}

impl Writer {
    /// Commits the inputs in one durable record; one answer each, in order. An error of the whole means none is stored.
    pub(super) fn store(
        &mut self,
        inputs: Vec<Input>,
    ) -> Result<Vec<Result<Stored, Error>>, Error> {
        let started = Instant::now();
        self.wait_for_room()?;
        let mut pending = Pending::new(&self.shared);
        let mut stored = Vec::with_capacity(inputs.len());
        for input in inputs {
            stored.push(match input {
                Input::Batches(batches) => Ok(Stored::Batches(
                    batches
                        .into_iter()
                        .map(|batch| self.admit(&mut pending, batch))
                        .collect(),
                )),
                Input::Entries(entries) => {
                    self.take_new(&mut pending, &entries).map(Stored::Entries)
                }
            });
        }
        // After a failure an empty record shows whether the log can be written again.
        if !pending.rows.is_empty() || self.wal.has_failed() {
            match self.make_durable(&pending.rows) {
                Ok(seq) => self.last_seq = seq,
                Err(error) => {
                    self.roll_back(pending);
                    return Err(error);
                }
            }
        }
        self.settle(pending);
        let commit_seconds = &self.shared.metrics.commit_seconds;
        commit_seconds.observe(started.elapsed().as_secs_f64());
        Ok(stored)
    }

    fn make_durable(&mut self, rows: &[PendingRows]) -> Result<u64, Error> {
        let records: Vec<Change<'_>> = rows
            .iter()
            .map(|pending| match (&pending.rows, pending.end) {
                (Some(rows), end) => Change::Rows { rows, end },
                (None, end) => Change::End {
                    stream: &pending.stream,
                    end: end.unwrap_or_default(),
                },
            })
            .collect();
        let seq = self.wal.append(&records)?;
        self.wal.commit()?;
        Ok(seq)
    }

    fn admit(&mut self, pending: &mut Pending, batch: Batch) -> Written {
        let id = &batch.stream.id;
        let committed = self.registry.get(id).and_then(|known| known.end);
        let admission = admit(&batch, committed, self.owners.get(id).copied());
        let skip = match pending.results.sort(admission, committed) {
            Sorted::New { skip } => skip,
            Sorted::Answered(written) => return written,
        };
        let mut known = self.touch(pending, &batch.stream, true);
        let end = StreamEnd {
            end: batch.end,
            mark: batch.end_mark,
        };
        known.end = Some(end);
        let n_new = batch.entries.len() - skip;
        let rows = self.name_rows(&pending.past, &mut known, batch.entries, skip);
        pending.rows.push(PendingRows {
            stream: Arc::clone(&known.stream),
            end: Some(end),
            rows,
        });
        self.registry.insert(known);
        Written::New {
            end: batch.end,
            n_new: n_new as u64,
        }
    }

    /// Gives the entries from `skip` on their ids; `None` when there are none.
    fn name_rows(
        &mut self,
        past: &Past,
        known: &mut Known,
        entries: Entries,
        skip: usize,
    ) -> Option<Arc<HotRows>> {
        let new = skip..entries.len();
        if new.is_empty() {
            return None;
        }
        let stream = Arc::clone(&known.stream);
        let ids = entries
            .iter()
            .skip(skip)
            .map(|entry| {
                let time = entry.timestamp();
                self.ids
                    .assign(known, time, || past.last_id_at(&stream.id, time))
            })
            .collect();
        Some(Arc::new(HotRows::new(stream, entries, new, ids)))
    }

    /// Takes the entries that are not stored yet (KL-14): same time, stream and message make a repeat. Takes none when
    /// it cannot tell.
    fn take_new(&mut self, pending: &mut Pending, entries: &[LogEntry]) -> Result<u64, Error> {
        let mut taken = FxHashSet::default();
        // Rows of one stream, described alike, that come side by side go into one piece.
        let mut pieces: Vec<(&Arc<Stream>, Entries)> = Vec::new();
        for of_stream in entries.chunk_by(|a, b| a.stream == b.stream) {
            let mut new = Entries::default();
            for entry in of_stream {
                let identity = (
                    entry.stream.id.clone(),
                    entry.timestamp,
                    entry.message.as_str().into(),
                );
                if pending.appended.contains(&identity)
                    || taken.contains(&identity)
                    || self.is_stored(pending, entry)?
                {
                    continue;
                }
                taken.insert(identity);
                let attributes = entry.attributes.iter();
                new.push(
                    entry.timestamp,
                    entry.severity,
                    entry.output,
                    &entry.message,
                    attributes.map(|(key, value)| (key.as_str(), value.as_str())),
                    Position::ZERO,
                )
                .map_err(|full| Error::Invalid {
                    reason: full.to_string(),
                })?;
            }
            pieces.extend(of_stream.first().map(|first| (&first.stream, new)));
        }
        for (stream, new) in pieces {
            let mut known = self.touch(pending, stream, false);
            let rows = self.name_rows(&pending.past, &mut known, new, 0);
            if rows.is_some() {
                pending.rows.push(PendingRows {
                    stream: Arc::clone(&known.stream),
                    end: None,
                    rows,
                });
            }
            self.registry.insert(known);
        }
        let n_new = taken.len() as u64;
        pending.results.repeated_entries += entries.len() as u64 - n_new;
        pending.appended.extend(taken);
        Ok(n_new)
    }

    /// Whether the store has the entry, in memory or in a segment.
    fn is_stored(&self, pending: &Pending, entry: &LogEntry) -> Result<bool, Error> {
        let Some(known) = self.registry.get(&entry.stream.id) else {
            return Ok(false);
        };
        let is_new = |last: Last| last.micros < entry.timestamp.as_micros();
        if known.last.is_none_or(is_new) {
            return Ok(false);
        }
        let in_pending = pending.rows.iter().filter_map(|rows| rows.rows.as_ref());
        if in_pending
            .filter(|rows| rows.stream.id == entry.stream.id)
            .any(|rows| rows.holds(entry.timestamp, &entry.message))
        {
            return Ok(true);
        }
        pending.past.contains(entry)
    }

    /// The stream with its news merged in; the caller puts it back.
    fn touch(&mut self, pending: &mut Pending, news: &Arc<Stream>, has_end: bool) -> Known {
        let before = self.registry.get(&news.id).cloned();
        let is_new = before.is_none();
        let mut known = before
            .clone()
            .unwrap_or_else(|| Known::new(Arc::clone(news), pending.now));
        pending.before.entry(news.id.clone()).or_insert(before);
        if known.learn(news) || is_new {
            pending.changed.insert(news.id.clone());
        }
        let age_ns = pending
            .now
            .as_nanos()
            .saturating_sub(known.written.as_nanos());
        if has_end || age_ns >= WRITTEN_STEP_NS {
            known.written = pending.now;
        }
        known
    }

    /// Makes what is durable visible and tells the subscribers.
    fn settle(&mut self, pending: Pending) {
        let changed = pending.changed.iter();
        self.shared.state.describe(
            changed.filter_map(|id| self.registry.get(id).map(|known| Arc::clone(&known.stream))),
        );
        let rows: Vec<Arc<HotRows>> = pending
            .rows
            .into_iter()
            .filter_map(|pending| pending.rows)
            .collect();
        let n_rows: usize = rows.iter().map(|rows| rows.ids.len()).sum();
        if n_rows > 0 && self.shared.committed_tx.receiver_count() > 0 {
            let entries = rows.iter().flat_map(|rows| rows.to_entries());
            let committed = Committed {
                entries: entries.collect(),
            };
            self.take_rows(rows);
            // Fails only when the last subscriber has just left.
            drop(self.shared.committed_tx.send(Arc::new(committed)));
        } else {
            self.take_rows(rows);
        }
        let metrics: &Metrics = &self.shared.metrics;
        metrics.stored(n_rows, self.registry.len());
        self.shared.set_wal_bytes(self.wal.len_bytes());
        pending.results.tell(metrics);
    }

    fn roll_back(&mut self, pending: Pending) {
        for rows in pending.rows.iter().filter_map(|rows| rows.rows.as_ref()) {
            for id in &rows.ids {
                self.ids.remove(*id);
            }
        }
        for (id, before) in pending.before {
            match before {
                Some(known) => self.registry.insert(known),
                None => self.registry.remove(&id),
            }
        }
    }

    fn take_rows(&mut self, rows: impl IntoIterator<Item = Arc<HotRows>>) {
        let rows: Vec<_> = rows.into_iter().collect();
        if !rows.is_empty() {
            self.active_bytes += rows.iter().map(|rows| rows.memory_bytes()).sum::<usize>();
            self.active_since.get_or_insert_with(Instant::now);
            self.shared.state.admit(rows);
        }
    }
}
