//! One transaction of the writer: admission, ids, rows, words and rollup, all or nothing.

use std::sync::Arc;

use rusqlite::{Connection, params};
use rustc_hash::{FxHashMap, FxHashSet};
use tawny_model::{
    Batch, EntryId, EntryRef, LogEntry, Output, Severity, Stream, StreamEnd, StreamId, Timestamp,
    admit,
};
use tokio::time::Instant;

use super::{
    ids::{Drift, free_id},
    row::{StreamRow, ns_of, stream_term, timestamp_of, write_attributes, write_terms},
    schema::sqlite_error,
    writer::{Known, Writer},
};
use crate::{
    Committed, Error, Written,
    group::{Input, Results, Sorted, Stored, WRITTEN_STEP_NS},
    naming::{base_id, merge_stream},
};

/// Entries of one rollup row lie in one minute.
pub(super) const MINUTE_NS: i64 = 60_000_000_000;

/// An entry on its way into a row.
struct NewRow<'a> {
    id: i64,
    stream_row: StreamRow,
    source: Source<'a>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Batch(EntryRef<'a>),
    Entry(&'a LogEntry),
}

impl<'a> Source<'a> {
    fn timestamp(&self) -> Timestamp {
        match self {
            Self::Batch(entry) => entry.timestamp(),
            Self::Entry(entry) => entry.timestamp,
        }
    }

    fn severity(&self) -> Severity {
        match self {
            Self::Batch(entry) => entry.severity(),
            Self::Entry(entry) => entry.severity,
        }
    }

    fn output(&self) -> Output {
        match self {
            Self::Batch(entry) => entry.output(),
            Self::Entry(entry) => entry.output,
        }
    }

    fn message(&self) -> &'a str {
        match self {
            Self::Batch(entry) => entry.message(),
            Self::Entry(entry) => &entry.message,
        }
    }

    fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (of_batch, of_entry) = match self {
            Self::Batch(entry) => (Some(entry.attributes()), None),
            Self::Entry(entry) => (None, Some(entry.attributes.iter())),
        };
        let of_entry = of_entry.into_iter().flatten();
        of_batch
            .into_iter()
            .flatten()
            .chain(of_entry.map(|(key, value)| (key.as_str(), value.as_str())))
    }
}

/// What a transaction gathers before it touches the file, and what memory takes over once it is committed.
struct Pending<'a> {
    now: Timestamp,
    streams: FxHashMap<StreamId, Touched>,
    next_stream_row: StreamRow,
    rows: Vec<NewRow<'a>>,
    appended: FxHashSet<(i64, StreamRow, Box<str>)>,
    looked_up_us: FxHashSet<i64>,
    results: Results,
}

struct Touched {
    known: Known,
    /// Whether more than the end has changed.
    is_changed: bool,
}

impl Writer {
    /// Commits all inputs in one durable transaction, or none; one answer each, in order.
    pub(super) fn store(&mut self, inputs: &[Input]) -> Result<Vec<Stored>, Error> {
        let started = Instant::now();
        let mut pending = Pending {
            now: self.shared.clock.now(),
            streams: FxHashMap::default(),
            next_stream_row: self.next_stream_row,
            rows: Vec::new(),
            appended: FxHashSet::default(),
            looked_up_us: FxHashSet::default(),
            results: Results::default(),
        };
        let result = self.commit(&mut pending, inputs);
        match result {
            Ok(stored) => {
                self.settle(pending);
                self.shared
                    .metrics
                    .commit_seconds
                    .observe(started.elapsed().as_secs_f64());
                Ok(stored)
            }
            Err(source) => {
                self.roll_back(&pending);
                let error = sqlite_error(&self.shared.path, "store entries", source);
                self.shared.metrics.failed(&error);
                Err(error)
            }
        }
    }

    fn commit<'a>(
        &mut self,
        pending: &mut Pending<'a>,
        inputs: &'a [Input],
    ) -> rusqlite::Result<Vec<Stored>> {
        let mut stored = Vec::with_capacity(inputs.len());
        for input in inputs {
            stored.push(match input {
                Input::Batches(batches) => Stored::Batches(
                    batches
                        .iter()
                        .map(|batch| self.admit(pending, batch))
                        .collect(),
                ),
                Input::Entries(entries) => Stored::Entries(self.take_new(pending, entries)?),
            });
        }
        if pending.streams.is_empty() {
            return Ok(stored);
        }
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        self.write_streams(pending)?;
        let mut drift = self.drift;
        write_rows(&self.conn, pending, &mut drift)?;
        write_rollup(&self.conn, pending)?;
        if drift != self.drift {
            drift.save(&self.conn)?;
        }
        // Readers must know every stream of a row they can see, so streams are published before the rows are.
        self.shared.publish(
            pending
                .streams
                .values()
                .filter(|touched| touched.is_changed)
                .map(|touched| (touched.known.row, Arc::clone(&touched.known.stream))),
        );
        self.conn.execute_batch("COMMIT")?;
        self.drift = drift;
        Ok(stored)
    }

    fn admit<'a>(&self, pending: &mut Pending<'a>, batch: &'a Batch) -> Written {
        let id = &batch.stream.id;
        let committed = match pending.streams.get(id) {
            Some(touched) => touched.known.end,
            None => self.streams.get(id).and_then(|known| known.end),
        };
        let admission = admit(batch, committed, self.owners.get(id).copied());
        let skip = match pending.results.sort(admission, committed) {
            Sorted::New { skip } => skip,
            Sorted::Answered(written) => return written,
        };
        let known = pending.touch(self, &batch.stream, true);
        known.end = Some(StreamEnd {
            end: batch.end,
            mark: batch.end_mark,
        });
        let (key, stream_row) = (known.key, known.row);
        pending
            .rows
            .extend(batch.entries.iter().skip(skip).map(|entry| NewRow {
                id: base_id(entry.timestamp(), key),
                stream_row,
                source: Source::Batch(entry),
            }));
        Written::New {
            end: batch.end,
            n_new: (batch.entries.len() - skip) as u64,
        }
    }

    /// Takes the entries that are not stored yet (KL-14): same time, stream and message make a repeat.
    fn take_new<'a>(
        &self,
        pending: &mut Pending<'a>,
        entries: &'a [LogEntry],
    ) -> rusqlite::Result<u64> {
        let mut n_new = 0;
        for entry in entries {
            let is_known = self.streams.contains_key(&entry.stream.id);
            if is_known && pending.looked_up_us.insert(entry.timestamp.as_micros()) {
                self.look_up(pending, entry.timestamp)?;
            }
            let known = pending.touch(self, &entry.stream, false);
            let (key, stream_row) = (known.key, known.row);
            let identity = (
                entry.timestamp.as_nanos(),
                stream_row,
                entry.message.as_str().into(),
            );
            if pending.appended.insert(identity) {
                pending.rows.push(NewRow {
                    id: base_id(entry.timestamp, key),
                    stream_row,
                    source: Source::Entry(entry),
                });
                n_new += 1;
            } else {
                pending.results.repeated_entries += 1;
            }
        }
        Ok(n_new)
    }

    /// Notes what is stored in the microsecond of `timestamp`.
    fn look_up(&self, pending: &mut Pending<'_>, timestamp: Timestamp) -> rusqlite::Result<()> {
        let from = Timestamp::from_micros(timestamp.as_micros());
        let to = Timestamp::from_nanos(from.as_nanos().saturating_add(1_000));
        let Some((low, high)) = self.drift.ids_between(from, to) else {
            return Ok(());
        };
        let mut select = self.conn.prepare_cached(
            "SELECT id, ns, stream_id, message FROM logs WHERE id BETWEEN ?1 AND ?2",
        )?;
        let mut rows = select.query([low, high])?;
        while let Some(row) = rows.next()? {
            let at = timestamp_of(row.get(0)?, row.get(1)?);
            pending
                .appended
                .insert((at.as_nanos(), row.get(2)?, row.get(3)?));
        }
        Ok(())
    }

    fn write_streams(&self, pending: &Pending<'_>) -> rusqlite::Result<()> {
        let mut update = self.conn.prepare_cached(
            "UPDATE streams SET \"end\" = ?2, mark_ns = ?3, mark_lines = ?4, written_ns = ?5 WHERE id = ?1",
        )?;
        let mut upsert = self.conn.prepare_cached(
            "INSERT INTO streams VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
             ON CONFLICT (id) DO UPDATE SET namespace = excluded.namespace, pod = excluded.pod, node = excluded.node, \
             image = excluded.image, workload_kind = excluded.workload_kind, workload_name = excluded.workload_name, \
             labels = excluded.labels, \"end\" = excluded.\"end\", mark_ns = excluded.mark_ns, \
             mark_lines = excluded.mark_lines, written_ns = excluded.written_ns",
        )?;
        for touched in pending.streams.values() {
            let Known {
                row,
                key: _,
                stream,
                end,
                written,
            } = &touched.known;
            let position = end.map(|end| end.end.0.cast_signed());
            let mark_ns = end.map(|end| end.mark.timestamp.as_nanos());
            let mark_lines = end.map(|end| end.mark.n_lines);
            let written = written.as_nanos();
            if touched.is_changed {
                let labels = serde_json::to_string(&stream.labels)
                    .map_err(|source| rusqlite::Error::ToSqlConversionFailure(Box::new(source)))?;
                upsert.execute(params![
                    row,
                    stream.id.cluster,
                    stream.id.pod_uid,
                    stream.id.container,
                    stream.id.restart,
                    stream.namespace,
                    stream.pod,
                    stream.node,
                    stream.image,
                    stream.workload.as_ref().map(|workload| &workload.kind),
                    stream.workload.as_ref().map(|workload| &workload.name),
                    labels,
                    position,
                    mark_ns,
                    mark_lines,
                    written,
                ])?;
            } else {
                update.execute(params![row, position, mark_ns, mark_lines, written])?;
            }
        }
        Ok(())
    }

    /// Brings memory up to what was committed and tells the subscribers.
    fn settle(&mut self, pending: Pending<'_>) {
        let n_rows = pending.rows.len();
        self.next_stream_row = pending.next_stream_row;
        if n_rows > 0 && self.shared.committed_tx.receiver_count() > 0 {
            let streams: FxHashMap<StreamRow, &Arc<Stream>> = pending
                .streams
                .values()
                .map(|touched| (touched.known.row, &touched.known.stream))
                .collect();
            let entries = pending.rows.iter().map(|row| LogEntry {
                id: EntryId(row.id),
                timestamp: row.source.timestamp(),
                severity: row.source.severity(),
                output: row.source.output(),
                message: row.source.message().to_owned(),
                attributes: row
                    .source
                    .attributes()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
                stream: Arc::clone(streams[&row.stream_row]),
            });
            let committed = Committed {
                entries: entries.collect(),
            };
            // Fails only when the last subscriber has just left.
            drop(self.shared.committed_tx.send(Arc::new(committed)));
        }
        for (id, touched) in pending.streams {
            self.streams.insert(id, touched.known);
        }
        self.shared.metrics.stored(n_rows, self.streams.len());
        pending.results.tell(&self.shared.metrics);
    }

    /// Puts file and published streams back to what was before.
    fn roll_back(&self, pending: &Pending<'_>) {
        // SQLite has already rolled back by itself after some errors; then this one fails and there is nothing to do.
        if !self.conn.is_autocommit()
            && let Err(source) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::warn!(error = %source, "rollback failed");
        }
        self.shared.publish(pending.streams.keys().filter_map(|id| {
            let known = self.streams.get(id)?;
            Some((known.row, Arc::clone(&known.stream)))
        }));
        self.shared.unpublish(
            pending
                .streams
                .iter()
                .filter(|(id, _)| !self.streams.contains_key(*id))
                .map(|(_, touched)| touched.known.row),
        );
    }
}

impl Pending<'_> {
    /// The stream with its news merged in, to be written with this transaction.
    fn touch(&mut self, writer: &Writer, news: &Arc<Stream>, has_end: bool) -> &mut Known {
        let now = self.now;
        if !self.streams.contains_key(&news.id) {
            let touched = match writer.streams.get(&news.id) {
                Some(known) => Touched {
                    known: known.clone(),
                    is_changed: false,
                },
                None => {
                    let row = self.next_stream_row;
                    self.next_stream_row += 1;
                    Touched {
                        known: Known {
                            row,
                            key: news.id.key(),
                            stream: Arc::clone(news),
                            end: None,
                            written: now,
                        },
                        is_changed: true,
                    }
                }
            };
            self.streams.insert(news.id.clone(), touched);
        }
        let touched = self
            .streams
            .get_mut(&news.id)
            .expect("inserted above where it was missing");
        let known = &mut touched.known;
        if !Arc::ptr_eq(&known.stream, news) && known.stream != *news {
            let merged = merge_stream(&known.stream, news);
            if merged != *known.stream {
                known.stream = Arc::new(merged);
                touched.is_changed = true;
            }
        }
        if has_end || now.as_nanos().saturating_sub(known.written.as_nanos()) >= WRITTEN_STEP_NS {
            known.written = now;
        }
        known
    }
}

fn write_rows(
    conn: &Connection,
    pending: &mut Pending<'_>,
    drift: &mut Drift,
) -> rusqlite::Result<()> {
    // In id order both trees grow at their right edge, and FTS5 keeps one sorted run in memory instead of flushing at
    // each step back. The sort is stable: rows that want the same id get theirs in the order they came.
    pending.rows.sort_by_key(|row| row.id);
    let terms: FxHashMap<StreamRow, String> = pending
        .streams
        .values()
        .map(|touched| (touched.known.row, stream_term(touched.known.row)))
        .collect();
    let mut insert = conn.prepare_cached(
        "INSERT INTO logs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
    )?;
    let mut index = conn.prepare_cached("INSERT INTO words (rowid, text) VALUES (?1, ?2)")?;
    let (mut text, mut attributes) = (String::new(), String::new());
    let mut last_id: Option<i64> = None;
    for row in &mut pending.rows {
        let (source, timestamp) = (row.source, row.source.timestamp());
        write_attributes(&mut attributes, source.attributes());
        // INVARIANT: every id from a row's base up to the id given to it is taken, so a base at or below the last id
        // given needs no look at the ids between.
        if let Some(last) = last_id.filter(|last| row.id <= *last) {
            row.id = last.saturating_add(1);
        }
        loop {
            let n_inserted = insert.execute(params![
                row.id,
                row.stream_row,
                ns_of(row.id, timestamp),
                source.severity().number(),
                source.output() as u8,
                source.message(),
                (!attributes.is_empty()).then_some(attributes.as_str()),
            ])?;
            if n_inserted == 1 {
                break;
            }
            row.id = free_id(conn, row.id)?;
        }
        last_id = last_id.max(Some(row.id));
        drift.widen(row.id, timestamp);
        write_terms(
            &mut text,
            source.message(),
            source.attributes(),
            &terms[&row.stream_row],
            source.severity(),
        );
        index.execute(params![row.id, text])?;
    }
    Ok(())
}

fn write_rollup(conn: &Connection, pending: &Pending<'_>) -> rusqlite::Result<()> {
    let mut counts: FxHashMap<(i64, StreamRow, u8), i64> = FxHashMap::default();
    for row in &pending.rows {
        let minute = row.source.timestamp().as_nanos().div_euclid(MINUTE_NS);
        *counts
            .entry((minute, row.stream_row, row.source.severity().number()))
            .or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    let mut upsert = conn.prepare_cached(
        "INSERT INTO rollup VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (minute, stream_id, severity) DO UPDATE SET n = n + excluded.n",
    )?;
    for ((minute, stream_row, severity), n) in counts {
        upsert.execute(params![minute, stream_row, severity, n])?;
    }
    Ok(())
}
