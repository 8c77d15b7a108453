//! Questions answered on a read-only connection: search, counts, one entry.

use std::{cell::OnceCell, collections::BTreeMap, ops::ControlFlow, sync::Arc};

use rusqlite::{Connection, OptionalExtension as _, params};
use rustc_hash::FxHashMap;
use tawny_model::{EntryId, LogEntry, Output, Severity, Stream, Timestamp};
use tawny_query::{Field, Query, Record};

use super::{
    Shared,
    ids::Drift,
    plan::{Decisions, Reach, Set, is_decided_by_stream_and_severity},
    row::{ENTRY_COLUMNS, EntryRow, StreamMap, StreamRow, timestamp_of},
    schema::sqlite_error,
    transaction::MINUTE_NS,
};
use crate::{
    Bucket, Error, Facet, FacetsRequest, Filter, Histogram, HistogramRequest, MAX_BUCKETS, Order,
    SearchPage, SearchRequest, StoreStats, limits::MAX_MESSAGE_BYTES, scan::value_of_stream,
};

/// Most different values counted for one facet; values that first appear later are left out.
const MAX_FACET_VALUES: usize = 100_000;

/// Most text one search page holds, unless its first entry alone is longer: as much as the longest message, so that a
/// page takes no more memory than the longest entry does, and 10,000 lines of usual length fit.
const PAGE_BYTES: usize = MAX_MESSAGE_BYTES;

/// One question: a snapshot of the file and the streams its rows belong to.
pub(super) struct Reader<'c> {
    conn: &'c Connection,
    shared: &'c Shared,
    streams: Arc<StreamMap>,
    drift: Drift,
}

/// A stored entry as a query sees it.
struct StoredRecord<'r> {
    row: EntryRow<'r>,
    message: &'r str,
    stream: &'r Stream,
    attributes: OnceCell<Vec<(String, String)>>,
}

impl Record for StoredRecord<'_> {
    fn message(&self) -> &str {
        self.message
    }

    fn timestamp(&self) -> Timestamp {
        self.row.timestamp
    }

    fn severity(&self) -> Severity {
        self.row.severity
    }

    fn output(&self) -> Output {
        self.row.output()
    }

    fn stream(&self) -> &Stream {
        self.stream
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        // What does not parse is reported when the entry is returned; here it has no attributes.
        let attributes = self
            .attributes
            .get_or_init(|| self.row.attributes().unwrap_or_default());
        let (_, value) = attributes.iter().find(|(k, _)| k == key)?;
        Some(value)
    }
}

/// Entries counted together: all those of a minute, stream and severity, or one.
struct Tally<'r> {
    time: Timestamp,
    stream: &'r Arc<Stream>,
    severity: Severity,
    n: u64,
    /// The entry, where each is looked at.
    record: Option<&'r StoredRecord<'r>>,
}

/// What must be known of each entry that is counted.
#[derive(Clone, Copy, PartialEq)]
enum Detail {
    /// Minute, stream and severity will do.
    Rollup,
    Entry,
}

impl<'c> Reader<'c> {
    /// Runs `ask` on a snapshot.
    pub(super) fn ask<T>(
        conn: &'c Connection,
        shared: &'c Shared,
        ask: impl FnOnce(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let error = |source| sqlite_error(&shared.path, "read", source);
        // The drop at the end rolls back, which for a reader only lets go of the snapshot.
        let transaction = conn.unchecked_transaction().map_err(error)?;
        // The first read fixes the snapshot; only then are the streams taken, so that none of its rows' is missing.
        let drift = Drift::load(conn).map_err(error)?;
        let reader = Self {
            conn,
            shared,
            streams: shared.streams(),
            drift,
        };
        let answer = ask(&reader);
        drop(transaction);
        answer
    }

    pub(super) fn search(&self, request: &SearchRequest) -> Result<SearchPage, Error> {
        let Some((low, high)) = self
            .drift
            .ids_between(request.filter.from, request.filter.to)
        else {
            return Ok(SearchPage::default());
        };
        let low = request
            .after
            .map_or(Some(low), |after| Some(low.max(after.0.checked_add(1)?)));
        let high = request.before.map_or(Some(high), |before| {
            Some(high.min(before.0.checked_sub(1)?))
        });
        let (Some(low), Some(high)) = (low, high) else {
            return Ok(SearchPage::default());
        };
        let mut page = SearchPage::default();
        let mut n_bytes = 0;
        self.visit(
            &request.filter,
            (low, high),
            request.order,
            |record, stream| {
                if page.entries.len() == request.limit {
                    page.has_more = true;
                    return Ok(ControlFlow::Break(()));
                }
                let entry = self.entry(record.row, stream)?;
                let attributes = entry.attributes.iter();
                n_bytes +=
                    entry.message.len() + attributes.map(|(k, v)| k.len() + v.len()).sum::<usize>();
                if n_bytes > PAGE_BYTES && !page.entries.is_empty() {
                    page.has_more = true;
                    return Ok(ControlFlow::Break(()));
                }
                page.entries.push(entry);
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(page)
    }

    pub(super) fn get(&self, id: EntryId) -> Result<Option<LogEntry>, Error> {
        let mut select =
            self.prepare(&format!("SELECT {ENTRY_COLUMNS} FROM logs WHERE id = ?1"))?;
        let mut rows = select.query([id.0]).map_err(|source| self.error(source))?;
        let Some(row) = rows.next().map_err(|source| self.error(source))? else {
            return Ok(None);
        };
        let row = EntryRow::read(row).map_err(|source| self.error(source))?;
        self.entry(row, self.stream(row.stream_row)?).map(Some)
    }

    pub(super) fn count(&self, filter: &Filter) -> Result<u64, Error> {
        if let Some(n) = self.count_in_index(filter)? {
            return Ok(n);
        }
        let mut n = 0;
        self.tally(filter, Detail::Rollup, |tally| {
            n += tally.n;
            Ok(())
        })?;
        Ok(n)
    }

    pub(super) fn histogram(&self, request: &HistogramRequest) -> Result<Histogram, Error> {
        let bucket_ns = i64::try_from(request.bucket.as_nanos()).unwrap_or(i64::MAX);
        let detail = if bucket_ns % MINUTE_NS == 0 {
            Detail::Rollup
        } else {
            Detail::Entry
        };
        let mut buckets: BTreeMap<i64, Bucket> = BTreeMap::new();
        self.tally(&request.filter, detail, |tally| {
            let idx = tally.time.as_nanos().div_euclid(bucket_ns);
            if buckets.len() == MAX_BUCKETS && !buckets.contains_key(&idx) {
                return Err(Error::Invalid {
                    reason: format!(
                        "more than {MAX_BUCKETS} buckets; ask for wider ones or a shorter time"
                    ),
                });
            }
            let bucket = buckets.entry(idx).or_insert_with(|| Bucket {
                start: Timestamp::from_nanos(idx.saturating_mul(bucket_ns)),
                counts: Default::default(),
            });
            bucket.counts[usize::from(tally.severity.number())] += tally.n;
            Ok(())
        })?;
        Ok(Histogram {
            buckets: buckets.into_values().collect(),
        })
    }

    pub(super) fn facets(&self, request: &FacetsRequest) -> Result<Vec<Facet>, Error> {
        let is_rolled_up = |field: &Field| field.is_of_stream() || *field == Field::Severity;
        let detail = if request.fields.iter().all(is_rolled_up) {
            Detail::Rollup
        } else {
            Detail::Entry
        };
        let mut counts: Vec<FxHashMap<String, u64>> =
            vec![FxHashMap::default(); request.fields.len()];
        self.tally(&request.filter, detail, |tally| {
            for (field, counts) in request.fields.iter().zip(&mut counts) {
                let Some(value) = tally.value(field) else {
                    continue;
                };
                if let Some(n) = counts.get_mut(&*value) {
                    *n += tally.n;
                } else if counts.len() < MAX_FACET_VALUES {
                    counts.insert(value.into_owned(), tally.n);
                }
            }
            Ok(())
        })?;
        let facets = request.fields.iter().zip(counts).map(|(field, counts)| {
            let mut values: Vec<(String, u64)> = counts.into_iter().collect();
            values.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            values.truncate(request.limit);
            Facet {
                field: field.clone(),
                values,
            }
        });
        Ok(facets.collect())
    }

    pub(super) fn stats(&self) -> Result<StoreStats, Error> {
        let read = || -> rusqlite::Result<StoreStats> {
            let n_entries: i64 =
                self.conn
                    .query_row("SELECT coalesce(sum(n), 0) FROM rollup", [], |row| {
                        row.get(0)
                    })?;
            // Ids are in the order of microseconds, so the extremes are found among those of one microsecond.
            let extreme = |sql: &str| {
                self.conn
                    .query_row(sql, [], |row| Ok(timestamp_of(row.get(0)?, row.get(1)?)))
                    .optional()
            };
            Ok(StoreStats {
                n_entries: n_entries.cast_unsigned(),
                n_streams: self.streams.len() as u64,
                disk_bytes: 0,
                oldest: extreme(
                    "SELECT id, ns FROM logs WHERE id <= (SELECT min(id) | 4095 FROM logs) ORDER BY (id >> 12) * 1000 + ns LIMIT 1",
                )?,
                newest: extreme(
                    "SELECT id, ns FROM logs WHERE id >= (SELECT (max(id) >> 12) << 12 FROM logs) \
                     ORDER BY (id >> 12) * 1000 + ns DESC LIMIT 1",
                )?,
            })
        };
        read().map_err(|source| self.error(source))
    }

    /// The count from the index alone, where it decides the query and ids decide the time.
    fn count_in_index(&self, filter: &Filter) -> Result<Option<u64>, Error> {
        let is_on_microsecond = |time: Timestamp| {
            time == Timestamp::MIN || time == Timestamp::MAX || time.as_nanos() % 1_000 == 0
        };
        if is_decided_by_stream_and_severity(filter.query.expr())
            || !self.drift.is_none()
            || !is_on_microsecond(filter.from)
            || !is_on_microsecond(filter.to)
        {
            return Ok(None);
        }
        let Some((low, high)) = self.drift.ids_between(filter.from, filter.to) else {
            return Ok(Some(0));
        };
        let reach = Reach::of(filter.query.expr(), &self.streams);
        match reach.set {
            Set::Nothing => Ok(Some(0)),
            Set::Found(fts) if reach.is_exact => self.count_found(&fts, (low, high)).map(Some),
            Set::AllBut(fts) if reach.is_exact => {
                let everything = Filter {
                    query: Query::all(),
                    ..filter.clone()
                };
                let n_found = self.count_found(&fts, (low, high))?;
                // One snapshot, so nothing is found that is not counted.
                Ok(Some(self.count(&everything)?.saturating_sub(n_found)))
            }
            _ => Ok(None),
        }
    }

    fn count_found(&self, fts: &str, (low, high): (i64, i64)) -> Result<u64, Error> {
        let mut select = self.prepare(
            "SELECT count(*) FROM words WHERE words MATCH ?1 AND rowid BETWEEN ?2 AND ?3",
        )?;
        let n: i64 = select
            .query_row(params![fts, low, high], |row| row.get(0))
            .map_err(|source| self.error(source))?;
        Ok(n.cast_unsigned())
    }

    /// Counts the entries that match: whole minutes from the rollup where that decides, entry by entry elsewhere.
    fn tally(
        &self,
        filter: &Filter,
        detail: Detail,
        mut take: impl FnMut(&Tally<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut take_entries = |from: Timestamp, to: Timestamp| {
            let Some(ids) = self.drift.ids_between(from, to) else {
                return Ok(());
            };
            let part = Filter {
                query: filter.query.clone(),
                from,
                to,
            };
            self.visit(&part, ids, Order::OldestFirst, |record, stream| {
                take(&Tally {
                    time: record.row.timestamp,
                    stream,
                    severity: record.row.severity,
                    n: 1,
                    record: Some(record),
                })?;
                Ok(ControlFlow::Continue(()))
            })
        };
        let expr = filter.query.expr();
        if detail == Detail::Entry || !is_decided_by_stream_and_severity(expr) {
            return take_entries(filter.from, filter.to);
        }
        // Minutes that lie whole in the time asked for: [first, last).
        let first = div_ceil(filter.from.as_nanos(), MINUTE_NS);
        let last = if filter.to == Timestamp::MAX {
            i64::MAX / MINUTE_NS + 1
        } else {
            filter.to.as_nanos().div_euclid(MINUTE_NS)
        };
        let (first, last) = if filter.from == Timestamp::MIN {
            (i64::MIN.div_euclid(MINUTE_NS), last)
        } else {
            (first, last)
        };
        if first >= last {
            return take_entries(filter.from, filter.to);
        }
        if filter.from != Timestamp::MIN {
            take_entries(
                filter.from,
                Timestamp::from_nanos(first.saturating_mul(MINUTE_NS)),
            )?;
        }
        if filter.to != Timestamp::MAX {
            take_entries(
                Timestamp::from_nanos(last.saturating_mul(MINUTE_NS)),
                filter.to,
            )?;
        }
        let mut select = self.prepare(
            "SELECT minute, stream_id, severity, n FROM rollup WHERE minute >= ?1 AND minute < ?2",
        )?;
        let mut rows = select
            .query([first, last])
            .map_err(|source| self.error(source))?;
        let mut decisions = Decisions::new(expr);
        while let Some(row) = rows.next().map_err(|source| self.error(source))? {
            let (minute, stream_row, severity, n) = (|| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, StreamRow>(1)?,
                    Severity::from_number(row.get(2)?).unwrap_or_default(),
                    row.get::<_, i64>(3)?.cast_unsigned(),
                ))
            })()
            .map_err(|source| self.error(source))?;
            let stream = self.stream(stream_row)?;
            if decisions.of(stream_row, stream, severity) == Some(true) {
                take(&Tally {
                    time: Timestamp::from_nanos(minute.saturating_mul(MINUTE_NS)),
                    stream,
                    severity,
                    n,
                    record: None,
                })?;
            }
        }
        Ok(())
    }

    /// Shows the entries that match, with ids in `low..=high`, in order, until told to stop.
    fn visit(
        &self,
        filter: &Filter,
        (low, high): (i64, i64),
        order: Order,
        mut show: impl FnMut(&StoredRecord<'_>, &Arc<Stream>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let expr = filter.query.expr();
        let direction = match order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let reach = Reach::of(expr, &self.streams);
        let is_exact = reach.is_exact && !matches!(reach.set, Set::AllBut(_));
        let (sql, fts) = match reach.set {
            Set::Nothing => return Ok(()),
            Set::Found(fts) => (
                // CROSS JOIN keeps this order of loops: the index leads, in order of ids, and may stop early.
                format!(
                    "SELECT {ENTRY_COLUMNS} FROM words CROSS JOIN logs ON logs.id = words.rowid \
                     WHERE words MATCH ?3 AND words.rowid BETWEEN ?1 AND ?2 ORDER BY words.rowid {direction}"
                ),
                Some(fts),
            ),
            Set::All | Set::AllBut(_) => (
                format!(
                    "SELECT {ENTRY_COLUMNS} FROM logs WHERE id BETWEEN ?1 AND ?2 ORDER BY id {direction}"
                ),
                None,
            ),
        };
        let mut select = self.prepare(&sql)?;
        let rows = match fts {
            Some(fts) => select.query(params![low, high, fts]),
            None => select.query([low, high]),
        };
        let mut rows = rows.map_err(|source| self.error(source))?;
        let mut decisions = Decisions::new(expr);
        while let Some(row) = rows.next().map_err(|source| self.error(source))? {
            let row = EntryRow::read(row).map_err(|source| self.error(source))?;
            if row.timestamp < filter.from
                || (row.timestamp >= filter.to && filter.to != Timestamp::MAX)
            {
                continue;
            }
            let stream = self.stream(row.stream_row)?;
            let decision = decisions.of(row.stream_row, stream, row.severity);
            if decision == Some(false) {
                continue;
            }
            let record = StoredRecord {
                row,
                message: row.message().map_err(|source| self.error(source))?,
                stream,
                attributes: OnceCell::new(),
            };
            let is_match = decision.is_some() || is_exact || filter.query.matches(&record);
            if is_match && show(&record, stream)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn entry(&self, row: EntryRow<'_>, stream: &Arc<Stream>) -> Result<LogEntry, Error> {
        row.to_entry(Arc::clone(stream))
            .map_err(|source| self.error(source))
    }

    fn stream(&self, row: StreamRow) -> Result<&Arc<Stream>, Error> {
        self.streams.get(&row).ok_or_else(|| Error::Damaged {
            path: self.shared.path.clone(),
            reason: format!("entries of stream {row}, which is not there"),
        })
    }

    fn prepare(&self, sql: &str) -> Result<rusqlite::CachedStatement<'_>, Error> {
        self.conn
            .prepare_cached(sql)
            .map_err(|source| self.error(source))
    }

    fn error(&self, source: rusqlite::Error) -> Error {
        sqlite_error(&self.shared.path, "read entries", source)
    }
}

fn div_ceil(a: i64, b: i64) -> i64 {
    a.div_euclid(b) + i64::from(a.rem_euclid(b) != 0)
}

impl Tally<'_> {
    /// The value of a field, `None` where the entry has none.
    fn value(&self, field: &Field) -> Option<std::borrow::Cow<'_, str>> {
        match field {
            Field::Severity => Some(self.severity.name().into()),
            Field::Output => self.record.map(|record| record.row.output().name().into()),
            Field::Attribute(key) => {
                let value = self.record.and_then(|record| record.attribute(key));
                value.map(Into::into)
            }
            of_stream => value_of_stream(of_stream, self.stream),
        }
    }
}
