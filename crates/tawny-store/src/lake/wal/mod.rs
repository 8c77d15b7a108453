//! The write-ahead log: what was acknowledged and lies in no segment yet. Written by one thread, one sync per commit.
//!
//! Files are named by the first sequence number in them and only ever appended to. A file on which anything failed is
//! left for good and the next commit begins a new one, whose header says which records before it count: so a failed
//! commit is never replayed, and a sync that failed once is never asked again. The layout is `docs/formats/wal-v1.md`.

mod disk;
mod file;
#[cfg(feature = "test-util")]
pub mod fuzzing;
mod record;
mod replay;
mod survey;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub(crate) use self::disk::{Disk, DiskFile, RealDisk};
use self::{
    file::{FORMAT, HEADER_BYTES, Header, RECORD_HEAD_BYTES, RecordHead, Seed},
    record::Described,
};
pub(crate) use self::{
    record::{Change, Replayed},
    replay::{DamagedPlace, Replay, Report},
    survey::survey,
};
use crate::Error;

/// The log, for the one thread that writes.
#[derive(Debug)]
pub(crate) struct Wal {
    directory: PathBuf,
    disk: Box<dyn Disk>,
    /// Oldest first.
    closed: Vec<ClosedFile>,
    current: CurrentFile,
    /// Encoded and not yet written.
    buffer: Vec<u8>,
    next_seq: u64,
    committed: u64,
    /// Whether the last commit failed.
    has_failed: bool,
    max_body_bytes: usize,
}

/// A file nothing is appended to any more.
#[derive(Debug, Clone, Copy)]
struct ClosedFile {
    first_seq: u64,
    /// No record in it that counts has a higher number.
    last_seq: u64,
    len_bytes: u64,
}

/// The file the next commit goes to; created by its first commit.
#[derive(Debug)]
struct CurrentFile {
    first_seq: u64,
    seed: Seed,
    file: Option<Box<dyn DiskFile>>,
    /// Of what is durable.
    len_bytes: u64,
    described: Described,
}

impl CurrentFile {
    fn new(first_seq: u64) -> Self {
        Self {
            first_seq,
            seed: Seed::of(first_seq),
            file: None,
            len_bytes: 0,
            described: Described::default(),
        }
    }
}

/// Memory the buffer keeps between commits.
const KEEP_BUFFER_BYTES: usize = 16 << 20;

impl Wal {
    /// Opens the log in a directory that exists, for [`Replay`] to read and then to write.
    ///
    /// `applied` is the last sequence number that lies in segments: nothing up to it is replayed.
    ///
    /// # Errors
    /// `Reject` when a file is no log of ours or from a newer version, `Retry` when reading fails.
    pub(crate) fn open(directory: &Path, applied: u64) -> Result<Replay, Error> {
        Self::open_on(directory, applied, Box::new(RealDisk))
    }

    /// [`Self::open`] on a disk of its own.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_on(
        directory: &Path,
        applied: u64,
        disk: Box<dyn Disk>,
    ) -> Result<Replay, Error> {
        Replay::open(directory, applied, disk)
    }

    /// Reads the log of a store that somebody else may have open: nothing is cut, kept or removed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn look(directory: &Path, applied: u64) -> Result<Replay, Error> {
        Replay::open(directory, applied, Box::new(disk::UntouchedDisk))
    }

    /// The least number that may be in the log; `None` where there is no file of it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn first_seq(directory: &Path) -> Result<Option<u64>, Error> {
        Ok(replay::list(directory)?.first().copied())
    }

    /// Adds a transaction to the next commit; answers its sequence number. Numbers grow and are used once, that of a
    /// commit that failed included.
    ///
    /// # Errors
    /// `Reject` when it is longer than a record may be; what was appended before stays.
    pub(crate) fn append(&mut self, changes: &[Change<'_>]) -> Result<u64, Error> {
        let seq = self.next_seq;
        let before = self.buffer.len();
        if before == 0 && self.current.file.is_none() {
            let header = Header {
                version: FORMAT,
                first_seq: self.current.first_seq,
                committed: self.committed,
            };
            self.buffer.extend_from_slice(&header.to_bytes());
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
        self.current
            .described
            .encode(seq, changes, &mut self.buffer);
        let body = &self.buffer[start + RECORD_HEAD_BYTES..];
        let body_len = body.len();
        let Some(body_len) = u32::try_from(body_len)
            .ok()
            .filter(|_| body_len <= self.max_body_bytes)
        else {
            self.current.described.forget(seq);
            self.buffer.truncate(before);
            return Err(Error::Invalid {
                reason: format!(
                    "transaction of {body_len} bytes exceeds the limit of {}",
                    self.max_body_bytes
                ),
            });
        };
        let head = RecordHead {
            body_len,
            body_crc: self.current.seed.crc(body),
            seq,
            committed: self.committed,
        };
        let head = head.to_bytes(self.current.seed);
        self.buffer[start..start + RECORD_HEAD_BYTES].copy_from_slice(&head);
        self.next_seq += 1;
        Ok(seq)
    }

    /// Makes everything appended durable: all of it, or on error none. Of a commit that a crash interrupts, the first
    /// transactions may be found, each whole.
    ///
    /// # Errors
    /// `Retry` when the disk is full or fails: append again.
    pub(crate) fn commit(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.write_buffer();
        match written {
            Ok(()) => {
                self.current.len_bytes += self.buffer.len() as u64;
                self.committed = self.next_seq - 1;
            }
            Err(_) => self.abandon(),
        }
        self.has_failed = written.is_err();
        self.buffer.clear();
        self.buffer.shrink_to(KEEP_BUFFER_BYTES);
        written
    }

    /// Whether the last commit failed, so that it is not known whether the next one will do better.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    fn write_buffer(&mut self) -> Result<(), Error> {
        let path = file::path(&self.directory, self.current.first_seq);
        let failed = |doing| move |source| Error::file(&path, doing, source);
        let is_new = self.current.file.is_none();
        let file = match &mut self.current.file {
            Some(file) => file,
            none => none.insert(
                self.disk
                    .create(&file::path(&self.directory, self.current.first_seq))
                    .map_err(failed.clone()("create log file"))?,
            ),
        };
        file.append(&self.buffer)
            .map_err(failed.clone()("append to log"))?;
        file.sync().map_err(failed.clone()("sync log"))?;
        if is_new {
            self.disk
                .sync_directory(&self.directory)
                .map_err(failed("sync directory of log"))?;
        }
        Ok(())
    }

    /// Leaves the file a commit failed on. What the commit may have left there is cut off, as far as the disk still obeys;
    /// where it does not, the next file's header makes it void.
    fn abandon(&mut self) {
        let next = CurrentFile::new(self.next_seq);
        let failed = std::mem::replace(&mut self.current, next);
        let Some(mut file) = failed.file else {
            return;
        };
        let path = file::path(&self.directory, failed.first_seq);
        let cut = file.truncate(failed.len_bytes).and_then(|()| file.sync());
        drop(file);
        let is_empty = failed.len_bytes == 0;
        let removed = if is_empty {
            self.disk.remove(&path)
        } else {
            Ok(())
        };
        if let Err(source) = cut.as_ref().and(removed.as_ref()) {
            tracing::warn!(path = %path.display(), error = %source, "cannot clean up after a failed commit");
        }
        if !is_empty || removed.is_err() {
            self.closed.push(ClosedFile {
                first_seq: failed.first_seq,
                last_seq: self.committed,
                len_bytes: failed.len_bytes,
            });
        }
    }

    /// Commits, and lets later records go to a new file; answers the last number of the old ones.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(crate) fn rotate(&mut self) -> Result<u64, Error> {
        self.commit()?;
        let next = CurrentFile::new(self.next_seq);
        let full = std::mem::replace(&mut self.current, next);
        if full.file.is_some() {
            self.closed.push(ClosedFile {
                first_seq: full.first_seq,
                last_seq: self.committed,
                len_bytes: full.len_bytes,
            });
        }
        Ok(self.committed)
    }

    /// Removes the files that hold nothing after `seq`, but for the one being written: [`Self::rotate`] first.
    ///
    /// # Errors
    /// `Retry`; what could not be removed is tried again by the next call, and by the next start.
    pub(crate) fn remove_through(&mut self, seq: u64) -> Result<(), Error> {
        // Oldest first: a file's header speaks about those before it.
        while let Some(oldest) = self.closed.first().filter(|file| file.last_seq <= seq) {
            let path = file::path(&self.directory, oldest.first_seq);
            self.disk
                .remove(&path)
                .map_err(|source| Error::file(&path, "remove log file", source))?;
            self.closed.remove(0);
        }
        Ok(())
    }

    /// The last durable sequence number.
    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// What the log takes on the disk.
    pub(crate) fn len_bytes(&self) -> u64 {
        let closed: u64 = self.closed.iter().map(|file| file.len_bytes).sum();
        closed + self.current.len_bytes
    }
}

/// Where the first record of a file begins.
const FIRST_RECORD: u64 = HEADER_BYTES as u64;
