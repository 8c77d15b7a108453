//! Deletion by age and by size, in steps short enough for writers to get their turn between them.

use std::time::Duration;

use rusqlite::{Connection, params};
use rustc_hash::FxHashMap;
use tawny_model::{ByteSize, Timestamp};

use super::{
    row::{StreamRow, timestamp_of},
    schema::{BUSY_TIMEOUT, sqlite_error},
    transaction::MINUTE_NS,
    writer::Writer,
};
use crate::{
    Error, Retention,
    group::{Reply, answer},
    retention::Cutoffs,
};

/// Entries one step deletes: some 20 ms.
const STEP_ENTRIES: u64 = 2_000;

/// Pages of index one step merges: some 20 ms.
const STEP_MERGE_PAGES: i64 = 500;

/// Pages one step gives back to the file system.
const STEP_VACUUM_PAGES: i64 = 1_000;

/// Share of the size limit that is freed beyond it, so that a store at its limit is not trimmed at every turn: 1/20.
const SIZE_SLACK: u64 = 20;

/// Free pages are given back when they are more than this share of the file; fewer are soon written again: 1/16.
const FREE_SHARE: i64 = 16;

/// Work that goes on between writes.
pub(super) struct Chore {
    /// Entries before it go, by namespace.
    cutoffs: Cutoffs,
    /// The same by stream, once asked for.
    of_streams: Option<FxHashMap<StreamRow, Timestamp>>,
    max_bytes: Option<ByteSize>,
    /// When it is part of retention: forget stream ends that nothing refers to.
    prune_at: Option<Timestamp>,
    stage: Stage,
    n_deleted: u64,
    reply: Reply<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// Deletes entries before `before`; ids below this are done.
    Expire {
        from_id: i64,
    },
    /// Deletes this many of the oldest.
    Trim {
        n_left: u64,
    },
    /// Lets the index drop the words of what was deleted, then looks at the size again.
    Merge,
    Shrink,
    Prune,
}

impl Chore {
    pub(super) fn delete(before: Timestamp, reply: Reply<u64>) -> Self {
        Self {
            cutoffs: Cutoffs::all(before),
            of_streams: None,
            max_bytes: None,
            prune_at: None,
            stage: Stage::Expire { from_id: i64::MIN },
            n_deleted: 0,
            reply,
        }
    }

    pub(super) fn retain(retention: &Retention, now: Timestamp, reply: Reply<u64>) -> Self {
        Self {
            cutoffs: retention.cutoffs(now),
            of_streams: None,
            max_bytes: retention.max_bytes,
            prune_at: Some(now),
            stage: Stage::Expire { from_id: i64::MIN },
            n_deleted: 0,
            reply,
        }
    }

    /// Does one step; true when there is none left. A step that fails leaves what earlier ones did.
    pub(super) fn step(&mut self, writer: &mut Writer) -> Result<bool, Error> {
        let path = writer.shared.path.clone();
        let error = |doing| {
            let path = &path;
            move |source| sqlite_error(path, doing, source)
        };
        let deleting = error("delete entries");
        let tidying = error("free space");
        match self.stage {
            Stage::Expire { from_id } => {
                let latest = Some(self.cutoffs.latest()).filter(|latest| *latest > Timestamp::MIN);
                let high =
                    latest.and_then(|latest| writer.drift.ids_between(Timestamp::MIN, latest));
                let Some((_, high)) = high else {
                    self.stage = self.after_expiry(writer)?;
                    return Ok(false);
                };
                let cutoffs = &self.cutoffs;
                let deleted = match cutoffs.common() {
                    Some(before) => {
                        delete_step(&writer.conn, (from_id, high), STEP_ENTRIES, |_, time| {
                            time < before
                        })
                    }
                    None => {
                        let of_streams = self.of_streams.get_or_insert_with(|| {
                            let streams = writer.streams.values();
                            streams
                                .map(|known| (known.row, cutoffs.of(&known.stream.namespace)))
                                .collect()
                        });
                        // A stream that came meanwhile has its turn the next time.
                        let goes = |stream: StreamRow, time| {
                            of_streams.get(&stream).is_some_and(|before| time < *before)
                        };
                        delete_step(&writer.conn, (from_id, high), STEP_ENTRIES, goes)
                    }
                };
                let deleted = deleted.map_err(deleting)?;
                self.note(writer, deleted.n);
                self.stage = match deleted.last_id {
                    Some(last_id) if last_id < high => Stage::Expire {
                        from_id: last_id + 1,
                    },
                    _ => self.after_expiry(writer)?,
                };
            }
            Stage::Trim { n_left: 0 } => self.stage = Stage::Merge,
            Stage::Trim { n_left } => {
                let n = n_left.min(STEP_ENTRIES);
                let deleted = delete_step(&writer.conn, (i64::MIN, i64::MAX), n, |_, _| true)
                    .map_err(deleting)?;
                self.note(writer, deleted.n);
                self.stage = Stage::Trim {
                    n_left: if deleted.n == 0 {
                        0
                    } else {
                        n_left - deleted.n.min(n_left)
                    },
                };
            }
            Stage::Merge => {
                if !merge_step(&writer.conn).map_err(tidying)? {
                    self.stage = match self.excess(writer)? {
                        Some(n_left) => Stage::Trim { n_left },
                        None => Stage::Shrink,
                    };
                }
            }
            Stage::Shrink => {
                if !shrink_step(&writer.conn, self.max_bytes).map_err(tidying)? {
                    if self.n_deleted > 0 || self.prune_at.is_some() {
                        checkpoint(&writer.conn).map_err(error("fold in the log"))?;
                    }
                    self.stage = Stage::Prune;
                }
            }
            Stage::Prune => {
                if let Some(now) = self.prune_at {
                    prune_streams(writer, now).map_err(error("forget streams"))?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn finish(self) {
        answer(self.reply, Ok(self.n_deleted));
    }

    pub(super) fn fail(self, error: Error) {
        answer(self.reply, Err(error));
    }

    fn note(&mut self, writer: &Writer, n_deleted: u64) {
        self.n_deleted += n_deleted;
        writer.shared.metrics.deleted(n_deleted);
    }

    fn after_expiry(&self, writer: &Writer) -> Result<Stage, Error> {
        Ok(match self.excess(writer)? {
            Some(n_left) => Stage::Trim { n_left },
            None if self.n_deleted > 0 => Stage::Merge,
            None => Stage::Shrink,
        })
    }

    /// How many entries must go for the size limit, going by the mean; `None` when it holds or nothing is left.
    fn excess(&self, writer: &Writer) -> Result<Option<u64>, Error> {
        let Some(max_bytes) = self.max_bytes.map(ByteSize::as_bytes) else {
            return Ok(None);
        };
        let read = || -> rusqlite::Result<(u64, u64)> {
            let pages = Pages::read(&writer.conn)?;
            let n: i64 =
                writer
                    .conn
                    .query_row("SELECT coalesce(sum(n), 0) FROM rollup", [], |row| {
                        row.get(0)
                    })?;
            Ok((pages.used_bytes(), n.cast_unsigned()))
        };
        let (used_bytes, n_entries) =
            read().map_err(|source| sqlite_error(&writer.shared.path, "measure", source))?;
        if used_bytes <= max_bytes || n_entries == 0 {
            return Ok(None);
        }
        let excess_bytes = used_bytes - (max_bytes - max_bytes / SIZE_SLACK);
        let n = u128::from(n_entries) * u128::from(excess_bytes) / u128::from(used_bytes);
        Ok(Some(
            u64::try_from(n).unwrap_or(u64::MAX).clamp(1, n_entries),
        ))
    }
}

struct Pages {
    n: i64,
    n_free: i64,
    page_bytes: i64,
}

impl Pages {
    fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let pragma = |name| conn.pragma_query_value(None, name, |row| row.get(0));
        Ok(Self {
            n: pragma("page_count")?,
            n_free: pragma("freelist_count")?,
            page_bytes: pragma("page_size")?,
        })
    }

    fn used_bytes(&self) -> u64 {
        ((self.n - self.n_free) * self.page_bytes).cast_unsigned()
    }

    fn file_bytes(&self) -> u64 {
        (self.n * self.page_bytes).cast_unsigned()
    }
}

struct DeletedStep {
    n: u64,
    last_id: Option<i64>,
}

/// Looks at up to `limit` entries with ids in `low..=high`, oldest first, and deletes those that `goes` says of their
/// stream and time.
fn delete_step(
    conn: &Connection,
    (low, high): (i64, i64),
    limit: u64,
    goes: impl Fn(StreamRow, Timestamp) -> bool,
) -> rusqlite::Result<DeletedStep> {
    let transaction = conn.unchecked_transaction()?;
    let mut doomed: Vec<i64> = Vec::new();
    let mut counts: FxHashMap<(i64, StreamRow, i64), i64> = FxHashMap::default();
    let mut last_id = None;
    {
        let mut select = conn.prepare_cached(
            "SELECT id, ns, stream_id, severity FROM logs WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3",
        )?;
        let mut rows = select.query(params![low, high, limit.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let id = row.get(0)?;
            last_id = Some(id);
            let time = timestamp_of(id, row.get(1)?);
            let stream_row = row.get(2)?;
            if goes(stream_row, time) {
                doomed.push(id);
                let minute = time.as_nanos().div_euclid(MINUTE_NS);
                *counts.entry((minute, stream_row, row.get(3)?)).or_default() += 1;
            }
        }
        let mut forget = conn.prepare_cached("DELETE FROM words WHERE rowid = ?1")?;
        let mut delete = conn.prepare_cached("DELETE FROM logs WHERE id = ?1")?;
        for id in &doomed {
            forget.execute([id])?;
            delete.execute([id])?;
        }
        let mut lessen = conn.prepare_cached(
            "UPDATE rollup SET n = n - ?4 WHERE minute = ?1 AND stream_id = ?2 AND severity = ?3",
        )?;
        let mut drop_empty = conn.prepare_cached(
            "DELETE FROM rollup WHERE minute = ?1 AND stream_id = ?2 AND severity = ?3 AND n <= 0",
        )?;
        for ((minute, stream_row, severity), n) in counts {
            lessen.execute(params![minute, stream_row, severity, n])?;
            drop_empty.execute(params![minute, stream_row, severity])?;
        }
    }
    transaction.commit()?;
    Ok(DeletedStep {
        n: doomed.len() as u64,
        last_id,
    })
}

/// Merges some of the index; false when nothing is worth merging.
fn merge_step(conn: &Connection) -> rusqlite::Result<bool> {
    let changes_before = conn.total_changes();
    conn.execute(
        "INSERT INTO words (words, rank) VALUES ('merge', ?1)",
        [STEP_MERGE_PAGES],
    )?;
    // Source: FTS5 documentation, "The 'merge' Command": fewer than two changes mean that nothing was merged.
    Ok(conn.total_changes() - changes_before >= 2)
}

/// Gives some free pages back; false when what is free is too little to bother.
fn shrink_step(conn: &Connection, max_bytes: Option<ByteSize>) -> rusqlite::Result<bool> {
    let pages = Pages::read(conn)?;
    let is_over = max_bytes.is_some_and(|max_bytes| pages.file_bytes() > max_bytes.as_bytes());
    if pages.n_free == 0 || !(is_over || pages.n_free > pages.n / FREE_SHARE) {
        return Ok(false);
    }
    let mut vacuum = conn.prepare(&format!("PRAGMA incremental_vacuum({STEP_VACUUM_PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    Ok(Pages::read(conn)?.n_free < pages.n_free)
}

fn checkpoint(conn: &Connection) -> rusqlite::Result<()> {
    // Does what it can at once: a reader in the middle of a long answer must not hold up the writer, and the log is
    // cut the next time.
    conn.busy_timeout(Duration::ZERO)?;
    let result = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    conn.busy_timeout(BUSY_TIMEOUT)?;
    result
}

/// Forgets streams without entries that nothing was written to for long: their ends can no longer be asked for.
fn prune_streams(writer: &mut Writer, now: Timestamp) -> rusqlite::Result<()> {
    let before = now.saturating_sub(writer.shared.keep_ends);
    let old: Vec<_> = writer
        .streams
        .values()
        .filter(|known| known.written < before)
        .map(|known| (known.row, known.stream.id.clone()))
        .collect();
    if old.is_empty() {
        return Ok(());
    }
    let transaction = writer.conn.unchecked_transaction()?;
    let mut pruned = Vec::new();
    {
        let mut with_entries = writer
            .conn
            .prepare("SELECT DISTINCT stream_id FROM rollup")?;
        let with_entries = with_entries
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<rustc_hash::FxHashSet<StreamRow>>>()?;
        let mut delete = writer
            .conn
            .prepare_cached("DELETE FROM streams WHERE id = ?1")?;
        for (row, id) in old {
            if !with_entries.contains(&row) {
                delete.execute([row])?;
                pruned.push((row, id));
            }
        }
    }
    transaction.commit()?;
    for (_, id) in &pruned {
        writer.streams.remove(id);
        writer.owners.remove(id);
    }
    writer
        .shared
        .unpublish(pruned.into_iter().map(|(row, _)| row));
    writer.shared.metrics.set_streams(writer.streams.len());
    Ok(())
}
