//! What files the log consists of, for those who look at a store from outside.

use std::{io, path::Path};

use super::{
    FIRST_RECORD,
    file::{self, MAX_SEQ, Reader},
    replay,
};
use crate::Error;

/// One file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFile {
    pub(crate) name: String,
    pub(crate) len_bytes: u64,
    /// Whole records, and the numbers of the first and the last of them.
    pub(crate) n_records: u64,
    pub(crate) seqs: Option<(u64, u64)>,
    /// Whether it is the last, to which a running server appends.
    pub(crate) is_open: bool,
}

/// The files of a log, oldest first; none where there is no directory. One that goes while this looks is left out.
///
/// # Errors
/// `Reject` for a file that is named like no file of the log, `Retry` when reading fails.
pub(crate) fn survey(directory: &Path) -> Result<Vec<LogFile>, Error> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let first_seqs = replay::list(directory)?;
    let last = first_seqs.last().copied();
    let mut files = Vec::new();
    for first_seq in first_seqs {
        let path = file::path(directory, first_seq);
        match look(&path, first_seq) {
            Ok(found) => files.push(LogFile {
                is_open: Some(first_seq) == last,
                ..found
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file(&path, "read log file", error)),
        }
    }
    Ok(files)
}

fn look(path: &Path, first_seq: u64) -> io::Result<LogFile> {
    let mut reader = Reader::open(path, first_seq)?;
    let name = path.file_name().unwrap_or_default();
    let mut found = LogFile {
        name: name.to_string_lossy().into_owned(),
        len_bytes: reader.len_bytes(),
        n_records: 0,
        seqs: None,
        is_open: false,
    };
    let mut offset = FIRST_RECORD;
    let mut after = 0;
    while let Some(record) = reader.find(offset, after, MAX_SEQ)? {
        offset = record.end();
        after = record.head.seq;
        found.n_records += 1;
        let (first, _) = found.seqs.unwrap_or((after, after));
        found.seqs = Some((first, after));
    }
    Ok(found)
}
