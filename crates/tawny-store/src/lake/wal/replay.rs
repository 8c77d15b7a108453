//! Reads the log back after a start: what counts, in order; what is torn is cut, what is damaged is set aside.
//!
//! A record that does not hold was either never acknowledged (the crash came while it was written) or has been damaged
//! since. The first must go, with all that was written in the same commit, for its sender sends it again; the second is
//! lost, and all behind it counts. Which one it is, records of later commits prove.

use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    ClosedFile, CurrentFile, FIRST_RECORD, Wal,
    disk::Disk,
    file::{self, FORMAT, Header, MAX_BODY_BYTES, MAX_SEQ, Named, Reader, Record},
    record::{Descriptions, Malformed, Replayed},
};
use crate::Error;

/// The records after the applied ones, and then the log to write to.
#[derive(Debug)]
pub(crate) struct Replay {
    directory: PathBuf,
    disk: Box<dyn Disk>,
    applied: u64,
    /// Oldest first.
    ahead: VecDeque<Ahead>,
    current: Option<Reading>,
    closed: Vec<ClosedFile>,
    /// The last number that is known to have been durable.
    committed: u64,
    /// The highest number that ever was in use, as far as files tell.
    highest: u64,
    report: Report,
    places: Vec<DamagedPlace>,
}

/// Bytes of the log that are no record that follows, though one was acknowledged there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamagedPlace {
    pub(crate) path: PathBuf,
    /// From `from` to before `to`; empty where records are missing at the very end.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// One transaction as it was appended.
#[derive(Debug)]
pub(crate) struct ReplayedGroup {
    pub(crate) seq: u64,
    pub(crate) changes: Vec<Replayed>,
}

/// What a replay met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Handed out.
    pub(crate) n_records: u64,
    /// Of a commit that never finished; nothing was lost by cutting it.
    pub(crate) cut_bytes: u64,
    /// Places that were damaged after they had been acknowledged.
    pub(crate) n_damaged: u64,
    pub(crate) damaged_bytes: u64,
    /// Acknowledged records that are gone.
    pub(crate) n_lost: u64,
    /// Changes that lost the description of their stream with another record.
    pub(crate) n_nameless: u64,
}

/// A file that is yet to be read.
#[derive(Debug)]
struct Ahead {
    first_seq: u64,
    /// `None` when it is damaged.
    header: Option<Header>,
    may_be_unfinished: bool,
    len_bytes: u64,
}

/// The file being read.
#[derive(Debug)]
struct Reading {
    path: PathBuf,
    first_seq: u64,
    reader: Reader,
    descriptions: Descriptions,
    /// Where the next record should begin.
    offset: u64,
    /// The record before it.
    last_seq: u64,
    may_be_ours: bool,
    /// Records behind this one are void; `None` in the last file.
    through: Option<u64>,
}

/// Most of a damaged place that is kept.
const MAX_KEPT_BYTES: u64 = 16 << 20;

/// Most damaged places that are kept by one replay; 64 × 16 MiB = 1 GiB at the worst.
const MAX_KEPT: u64 = 64;

impl Replay {
    pub(super) fn open(directory: &Path, applied: u64, disk: Box<dyn Disk>) -> Result<Self, Error> {
        let mut replay = Self {
            directory: directory.to_owned(),
            disk,
            applied,
            ahead: VecDeque::new(),
            current: None,
            closed: Vec::new(),
            committed: applied,
            highest: applied,
            report: Report::default(),
            places: Vec::new(),
        };
        for first_seq in list(directory)? {
            replay.ahead.push_back(look_ahead(directory, first_seq)?);
            replay.highest = first_seq;
        }
        replay.drop_unfinished()?;
        replay.highest = replay.highest.max(applied);
        Ok(replay)
    }

    /// A file that was being created when the process died says nothing, and hides that the one before it is the last.
    fn drop_unfinished(&mut self) -> Result<(), Error> {
        let is_unfinished =
            |last: &mut Ahead| last.may_be_unfinished && last.len_bytes <= FIRST_RECORD;
        if let Some(last) = self.ahead.pop_back_if(is_unfinished) {
            self.report.cut_bytes += last.len_bytes;
            self.remove(last.first_seq)?;
        }
        Ok(())
    }

    fn remove(&self, first_seq: u64) -> Result<(), Error> {
        let path = file::path(&self.directory, first_seq);
        self.disk
            .remove(&path)
            .map_err(|source| Error::file(&path, "remove log file", source))
    }

    /// The next transaction after the applied ones; `None` behind the last.
    ///
    /// # Errors
    /// `Retry` when reading or cutting fails, `Reject` for a file that is no log.
    pub(crate) fn next(&mut self) -> Result<Option<ReplayedGroup>, Error> {
        loop {
            if self.current.is_none() && !self.begin_file()? {
                return Ok(None);
            }
            let Some(record) = self.next_record()? else {
                self.end_file()?;
                continue;
            };
            if let Some(group) = self.decode(record)? {
                return Ok(Some(group));
            }
        }
    }

    /// What was met so far.
    pub(crate) fn report(&self) -> Report {
        self.report
    }

    /// The damaged places met so far, the first of them when they are many.
    pub(crate) fn places(&self) -> &[DamagedPlace] {
        &self.places
    }

    /// Reads what is left, and gives the log to write to.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(crate) fn finish(mut self) -> Result<(Wal, Report), Error> {
        while self.next()?.is_some() {}
        let next_seq = self.highest.max(self.committed) + 1;
        let mut wal = Wal {
            directory: self.directory,
            disk: self.disk,
            closed: self.closed,
            current: CurrentFile::new(next_seq),
            buffer: Vec::new(),
            next_seq,
            committed: self.committed,
            has_failed: false,
            max_body_bytes: MAX_BODY_BYTES,
        };
        wal.remove_through(self.applied)?;
        Ok((wal, self.report))
    }

    /// Opens the next file that holds anything to replay; false behind the last.
    fn begin_file(&mut self) -> Result<bool, Error> {
        let Some(next) = self.ahead.pop_front() else {
            return Ok(false);
        };
        let path = file::path(&self.directory, next.first_seq);
        if let Some(header) = next.header {
            self.report.n_lost += header.committed.saturating_sub(self.committed);
            self.committed = self.committed.max(header.committed);
        }
        let through = self.ahead.front().map(|following| {
            following
                .header
                .map_or(following.first_seq - 1, |header| header.committed)
        });
        if next.header.is_some()
            && let Some(through) = through.filter(|through| *through <= self.applied)
        {
            self.closed.push(ClosedFile {
                first_seq: next.first_seq,
                last_seq: through,
                len_bytes: next.len_bytes,
            });
            return self.begin_file();
        }
        let reader = Reader::open(&path, next.first_seq)
            .map_err(|source| Error::file(&path, "open log file", source))?;
        self.current = Some(Reading {
            path,
            first_seq: next.first_seq,
            reader,
            descriptions: Descriptions::default(),
            offset: if next.header.is_some() {
                FIRST_RECORD
            } else {
                0
            },
            last_seq: next.first_seq - 1,
            may_be_ours: next.header.is_some() || next.may_be_unfinished,
            through,
        });
        Ok(true)
    }

    fn end_file(&mut self) -> Result<(), Error> {
        let Some(done) = self.current.take() else {
            return Ok(());
        };
        if done.reader.len_bytes() == 0 {
            return self.remove(done.first_seq);
        }
        self.closed.push(ClosedFile {
            first_seq: done.first_seq,
            last_seq: done.through.unwrap_or(done.last_seq),
            len_bytes: done.reader.len_bytes(),
        });
        Ok(())
    }
}

impl Replay {
    /// The next record that counts in the current file.
    fn next_record(&mut self) -> Result<Option<Record>, Error> {
        let Some(reading) = &mut self.current else {
            return Ok(None);
        };
        if reading.is_through() {
            return Ok(None);
        }
        let expected = reading.last_seq + 1;
        let at_offset = reading.record_at(reading.offset)?;
        let record = match at_offset.filter(|record| record.head.seq == expected) {
            Some(record) => record,
            None => match self.next_after_damage()? {
                Some(record) => record,
                None => return Ok(None),
            },
        };
        if let Some(reading) = &mut self.current {
            reading.offset = record.end();
            reading.last_seq = record.head.seq;
        }
        self.committed = self.committed.max(record.head.seq);
        Ok(Some(record))
    }

    /// Decides about the bytes at the current offset, which are no record that follows; answers the record behind them
    /// that counts.
    fn next_after_damage(&mut self) -> Result<Option<Record>, Error> {
        let Some(reading) = &mut self.current else {
            return Ok(None);
        };
        let (offset, last_seq) = (reading.offset, reading.last_seq);
        let expected = last_seq + 1;
        let found = reading.find(offset, last_seq)?;
        if found.is_none() && !reading.may_be_ours {
            return Err(Error::NotAStore {
                path: reading.path.clone(),
                reason: "its header is not that of a log, and no record is found in it".to_owned(),
            });
        }
        let was_durable = reading.through.is_some() || expected <= self.committed;
        let proof = match found {
            Some(record) if was_durable || record.head.seq == expected => Some(record),
            Some(record) if reading.proves(record, expected)? => Some(record),
            _ => None,
        };
        let len_bytes = reading.reader.len_bytes();
        if let Some(record) = proof {
            let lost_from = last_seq.max(self.committed);
            self.report.n_lost += (record.head.seq - 1).saturating_sub(lost_from);
            self.set_aside(offset, record.offset)?;
            return Ok(Some(record));
        }
        if let Some(through) = reading.through {
            self.report.n_lost += through.saturating_sub(last_seq.max(self.committed));
            self.committed = self.committed.max(through);
            self.set_aside(offset, len_bytes)?;
            return Ok(None);
        }
        self.report.cut_bytes += len_bytes - offset;
        self.cut(offset)?;
        Ok(None)
    }

    /// Ends the current file at `len_bytes`, durably: what is behind must not come back when more files follow.
    fn cut(&mut self, len_bytes: u64) -> Result<(), Error> {
        let Some(reading) = &mut self.current else {
            return Ok(());
        };
        let path = &reading.path;
        tracing::info!(
            path = %path.display(),
            len_bytes,
            cut_bytes = reading.reader.len_bytes() - len_bytes,
            "cut off a commit that had not finished"
        );
        self.disk
            .open(path)
            .and_then(|mut file| {
                file.truncate(len_bytes)?;
                file.sync()
            })
            .map_err(|source| Error::file(path, "cut log file", source))?;
        reading.reader.end_at(len_bytes);
        Ok(())
    }

    /// Counts damaged bytes and keeps a copy of them for people to look at.
    fn set_aside(&mut self, from: u64, to: u64) -> Result<(), Error> {
        let Some(reading) = &mut self.current else {
            return Ok(());
        };
        if (self.places.len() as u64) < MAX_KEPT {
            self.places.push(DamagedPlace {
                path: reading.path.clone(),
                from,
                to,
            });
        }
        // Nothing is there when records are missing at the very end.
        if from >= to {
            return Ok(());
        }
        self.report.n_damaged += 1;
        self.report.damaged_bytes += to - from;
        let kept_path = file::damaged_path(&self.directory, reading.first_seq, from);
        tracing::error!(
            path = %reading.path.display(),
            offset = from,
            len_bytes = to - from,
            kept = %kept_path.display(),
            "log is damaged; records behind it are read"
        );
        if self.report.n_damaged > MAX_KEPT {
            return Ok(());
        }
        let bytes = reading
            .reader
            .bytes(from, (to - from).min(MAX_KEPT_BYTES))
            .map_err(|source| Error::file(&reading.path, "read damaged place", source))?;
        let kept = match self.disk.create(&kept_path) {
            // By an earlier start: the file stays as it is until it is removed.
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(source),
            Ok(mut file) => file.append(bytes),
        };
        if let Err(source) = kept {
            // No reason not to start.
            tracing::warn!(path = %kept_path.display(), error = %source, "cannot keep damaged bytes");
        }
        Ok(())
    }

    /// The transaction in a record, unless it was applied or makes no sense.
    fn decode(&mut self, record: Record) -> Result<Option<ReplayedGroup>, Error> {
        let Some(reading) = &mut self.current else {
            return Ok(None);
        };
        let body = reading
            .reader
            .body(record)
            .map_err(|source| Error::file(&reading.path, "read log file", source))?;
        // Of those that were applied too: they may describe streams that later ones only number.
        let decoded = reading.descriptions.decode(body);
        let seq = record.head.seq;
        let is_applied = seq <= self.applied;
        match decoded {
            _ if is_applied => Ok(None),
            Ok(decoded) => {
                self.report.n_records += 1;
                self.report.n_nameless += decoded.n_nameless;
                Ok(Some(ReplayedGroup {
                    seq,
                    changes: decoded.changes,
                }))
            }
            Err(Malformed(reason)) => {
                tracing::error!(path = %reading.path.display(), offset = record.offset, seq, reason, "record makes no sense");
                self.report.n_lost += 1;
                self.set_aside(record.offset, record.end())?;
                Ok(None)
            }
        }
    }
}

impl Reading {
    /// Whether nothing more in the file counts.
    fn is_through(&self) -> bool {
        self.offset == self.reader.len_bytes() && self.through.is_none()
            || self.through.is_some_and(|through| self.last_seq >= through)
    }

    fn record_at(&mut self, offset: u64) -> Result<Option<Record>, Error> {
        self.reader
            .record_at(offset)
            .map_err(|source| Error::file(&self.path, "read log file", source))
    }

    fn find(&mut self, offset: u64, after: u64) -> Result<Option<Record>, Error> {
        self.reader
            .find(offset, after, self.through.unwrap_or(MAX_SEQ))
            .map_err(|source| Error::file(&self.path, "read log file", source))
    }

    /// Whether this record, or one behind it, was written after `seq` was durable.
    fn proves(&mut self, mut record: Record, seq: u64) -> Result<bool, Error> {
        while record.head.committed < seq {
            match self.find(record.end(), record.head.seq)? {
                Some(next) => record = next,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// The first numbers of the files, in order.
pub(super) fn list(directory: &Path) -> Result<Vec<u64>, Error> {
    let failed = |source| Error::file(directory, "list log files", source);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.file_name().to_str().map_or(Named::Other, file::named) {
            // Numbers begin at 1.
            Named::First(first_seq) if (1..=MAX_SEQ).contains(&first_seq) => found.push(first_seq),
            Named::First(_) | Named::Strange => {
                return Err(Error::NotAStore {
                    path: entry.path(),
                    reason: "it is named like no file of the log".to_owned(),
                });
            }
            Named::Other => {}
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn look_ahead(directory: &Path, first_seq: u64) -> Result<Ahead, Error> {
    let path = file::path(directory, first_seq);
    let failed = |source| Error::file(&path, "read header of log file", source);
    let mut reader = Reader::open(&path, first_seq).map_err(failed)?;
    let len_bytes = reader.len_bytes();
    let start = reader.bytes(0, FIRST_RECORD).map_err(failed)?;
    match Header::parse(start) {
        Some(header) if header.version > FORMAT => Err(Error::Newer {
            path,
            found: header.version,
            supported: FORMAT,
        }),
        Some(header) if header.first_seq != first_seq => Err(Error::NotAStore {
            path,
            reason: format!(
                "it has been renamed: its first record is {}",
                header.first_seq
            ),
        }),
        header => Ok(Ahead {
            first_seq,
            header,
            may_be_unfinished: header.is_none() && file::may_be_unfinished(start),
            len_bytes,
        }),
    }
}
