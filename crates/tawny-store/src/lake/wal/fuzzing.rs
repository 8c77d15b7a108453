//! What the fuzz target of the log needs: files whose checksums hold around any bodies, and their replay.

use std::{fs, path::Path};

use super::{
    Wal,
    file::{self, FORMAT, Header, RecordHead, Seed},
    replay::{ReplayedGroup, Report},
};
use crate::Error;

/// The first file of a log with these bodies, each committed on its own.
pub fn log_file(bodies: &[&[u8]]) -> Vec<u8> {
    let (first_seq, seed) = (1, Seed::of(1));
    let header = Header {
        version: FORMAT,
        first_seq,
        committed: 0,
    };
    let mut bytes = header.to_bytes().to_vec();
    for (body, committed) in bodies.iter().zip(0..) {
        let head = RecordHead {
            body_len: u32::try_from(body.len()).expect("a fuzzer's input is short"),
            body_crc: seed.crc(body),
            seq: committed + 1,
            committed,
        };
        bytes.extend_from_slice(&head.to_bytes(seed));
        bytes.extend_from_slice(body);
    }
    bytes
}

/// Makes a log of one file with these bytes in an empty directory, replays it and removes it. Answers the numbers
/// replayed, and how many places were found cut or damaged.
///
/// # Errors
/// `Reject` when the file is no log.
pub fn replay_file(directory: &Path, bytes: &[u8]) -> Result<(Vec<u64>, u64), Error> {
    let path = file::path(directory, 1);
    fs::write(&path, bytes).map_err(|source| Error::file(&path, "write log file", source))?;
    let replayed = replay(directory);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        fs::remove_file(entry.path())
            .map_err(|source| Error::file(&path, "remove log file", source))?;
    }
    let (seqs, report) = replayed?;
    let n_places = report.n_damaged + u64::from(report.cut_bytes > 0);
    Ok((seqs, n_places))
}

fn replay(directory: &Path) -> Result<(Vec<u64>, Report), Error> {
    let mut replay = Wal::open(directory, 0)?;
    let mut seqs = Vec::new();
    while let Some(ReplayedGroup { seq, .. }) = replay.next()? {
        seqs.push(seq);
    }
    let (_, report) = replay.finish()?;
    Ok((seqs, report))
}
