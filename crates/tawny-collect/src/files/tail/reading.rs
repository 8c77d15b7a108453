//! How a tail reads: over the files of its chain, each to its end, and when a file's end is the end.

use std::{io, ops::ControlFlow, sync::Arc, time::Duration};

use prometheus_client::metrics::counter::Counter;
use tawny_model::{Batch, GapReason, Timestamp};
use tokio::time::Instant;

use super::{About, Bench, Next, Phase, Tail};
use crate::{
    Lane, StreamAssembler,
    files::lines::{BUFFER_BYTES, Content, Cursor, Ended},
    metrics::LostReason,
};

/// How much longer a file is waited for when nobody waits for what is behind it: it was deleted, or its successor has no
/// lines.
const QUIET_FACTOR: u32 = 10;

/// A rotated file not written to for this long is left at once.
const LONG_QUIET: Duration = Duration::from_secs(10);

/// Wait before a file is read again that could not be.
const UNREADABLE_RETRY: Duration = Duration::from_secs(2);

/// Fresh listings taken at once for a file that is not where the last one showed it.
pub(super) const MAX_MISSES: u32 = 3;

#[derive(Debug)]
pub(super) struct Reading {
    pub(super) lane: Arc<Lane>,
    pub(super) assembler: StreamAssembler,
    pub(super) cursor: Cursor,
    pub(super) lines: Counter,
    /// When the first file was first found read to its end with somebody waiting behind it.
    pub(super) eof_since: Option<Instant>,
}

impl Tail {
    /// Reads up to a turn's share, over as many files as that takes.
    pub(super) fn read(&mut self, about: About<'_>, bench: &mut Bench) -> Next {
        let mut left_bytes = BUFFER_BYTES;
        loop {
            let Phase::Reading(reading) = &mut self.phase else {
                return Next::Idle;
            };
            let Some(front) = self.chain.front_mut() else {
                return Next::Idle;
            };
            let is_new = front.content.is_none();
            let may_have_moved = front.is_linked && !self.is_directory_gone;
            let content = match front.open(about.directory) {
                Ok(content) => content,
                Err(error) if error.kind() == io::ErrorKind::NotFound && may_have_moved => {
                    self.n_misses += 1;
                    if self.n_misses > MAX_MISSES {
                        tracing::warn!(stream = %self.id, %error, "log file is listed and cannot be opened");
                        return Next::WakeAt(bench.now + UNREADABLE_RETRY);
                    }
                    return Next::Relist;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let lost_bytes = front.listed.len_bytes.saturating_sub(reading.cursor.offset);
                    tracing::warn!(stream = %self.id, lost_bytes, "a file was deleted before it was read");
                    if lost_bytes > 0 {
                        reading.assembler.gap(GapReason::Rotated, lost_bytes);
                    }
                    reading.cursor = Cursor::default();
                    self.leave_front(bench);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(stream = %self.id, %error, "log file cannot be opened");
                    return Next::WakeAt(bench.now + UNREADABLE_RETRY);
                }
            };
            bench.n_open_files += usize::from(is_new);
            self.n_misses = 0;
            let before = reading.cursor.offset;
            let result = reading.read_lines(content, left_bytes, bench);
            let n_read =
                usize::try_from(reading.cursor.offset.saturating_sub(before)).unwrap_or(usize::MAX);
            bench.n_read_bytes += n_read;
            left_bytes = left_bytes.saturating_sub(n_read);
            if n_read > 0 {
                reading.eof_since = None;
            }
            match result {
                Ok(Ended::MidFile) if left_bytes == 0 || n_read == 0 => return Next::Again,
                Ok(Ended::MidFile) => continue,
                Ok(Ended::AtEof) => {}
                Err(error) if content.is_gz() => {
                    tracing::warn!(stream = %self.id, %error, "compressed log file is damaged; a gap record takes the place of its rest");
                    reading.assembler.gap(GapReason::Unreadable, 0);
                    reading.cursor = Cursor::default();
                    self.leave_front(bench);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(stream = %self.id, %error, "log file cannot be read");
                    return Next::WakeAt(bench.now + UNREADABLE_RETRY);
                }
            }
            match self.at_eof(bench) {
                AtEof::Stay => return Next::Idle,
                AtEof::Until(at) => return Next::WakeAt(at),
                AtEof::ReadOn if left_bytes == 0 => return Next::Again,
                AtEof::ReadOn => {}
            }
        }
    }

    /// Decides whether the first file is over, and leaves it if so.
    fn at_eof(&mut self, bench: &mut Bench) -> AtEof {
        let Phase::Reading(reading) = &mut self.phase else {
            return AtEof::Stay;
        };
        let n_behind = self.chain.len() - 1;
        let is_successor_empty = self.chain.get(1).is_some_and(|next| {
            next.content
                .as_ref()
                .and_then(|content| content.metadata().ok())
                .map_or(next.listed.len_bytes, |metadata| metadata.len())
                == 0
        });
        let Some(front) = self.chain.front_mut() else {
            return AtEof::Stay;
        };
        let Some(content) = &mut front.content else {
            return AtEof::Stay;
        };
        if !content.is_gz() {
            let Ok(metadata) = content.metadata() else {
                return AtEof::Stay;
            };
            if metadata.len() < reading.cursor.offset {
                tracing::warn!(stream = %self.id, "log file was truncated; lines may have been lost, so a gap record is put");
                reading.assembler.gap(GapReason::Rotated, 0);
                reading.cursor = Cursor::default();
                return AtEof::ReadOn;
            }
            let is_live =
                n_behind == 0 && front.is_linked && !self.is_superseded && !self.is_directory_gone;
            if is_live {
                reading.eof_since = None;
                return AtEof::Stay;
            }
            let is_long_quiet = n_behind > 0
                && metadata
                    .modified()
                    .ok()
                    .and_then(|modified| modified.duration_since(std::time::UNIX_EPOCH).ok())
                    .is_some_and(|modified| {
                        let modified = Timestamp::default().saturating_add(modified);
                        bench.wall.saturating_since(modified) >= LONG_QUIET
                    });
            if n_behind < 2 && !is_long_quiet {
                let is_quiet = n_behind == 0 || is_successor_empty;
                let settle = bench.settings.settle * if is_quiet { QUIET_FACTOR } else { 1 };
                let over_at = *reading.eof_since.get_or_insert(bench.now) + settle;
                if bench.now < over_at {
                    return AtEof::Until(over_at);
                }
            }
        }
        match reading.read_rest(content, bench) {
            Ok(false) => return AtEof::ReadOn,
            Ok(true) => {}
            Err(_) => reading.assembler.gap(GapReason::Unreadable, 0),
        }
        reading.cursor = Cursor::default();
        reading.eof_since = None;
        self.leave_front(bench);
        if self.chain.is_empty() {
            AtEof::Stay
        } else {
            AtEof::ReadOn
        }
    }
}

enum AtEof {
    /// Lines may follow in this file.
    Stay,
    Until(Instant),
    /// There is more, here or in the next file.
    ReadOn,
}

impl Reading {
    fn read_lines(
        &mut self,
        content: &mut Content,
        limit_bytes: usize,
        bench: &mut Bench,
    ) -> io::Result<Ended> {
        let Self {
            lane,
            assembler,
            cursor,
            lines,
            ..
        } = self;
        let Bench {
            settings,
            buf,
            scratch,
            batches,
            wall,
            ..
        } = bench;
        let batch_bytes = settings.batch_bytes;
        cursor.read_lines(content, buf, limit_bytes, settings.max_line_bytes, |line| {
            assembler.file_line(line.bytes, line.cut_bytes, line.len_bytes, *wall, scratch);
            if assembler.text_bytes() >= batch_bytes {
                cut(assembler, lane, lines, batches);
            }
            ControlFlow::Continue(())
        })
    }

    fn read_rest(&mut self, content: &mut Content, bench: &mut Bench) -> io::Result<bool> {
        let Self {
            assembler, cursor, ..
        } = self;
        let Bench {
            settings,
            buf,
            scratch,
            wall,
            ..
        } = bench;
        cursor.read_rest(content, buf, settings.max_line_bytes, |line| {
            assembler.file_line(line.bytes, line.cut_bytes, line.len_bytes, *wall, scratch);
            ControlFlow::Continue(())
        })
    }

    pub(super) fn cut(&mut self, bench: &mut Bench) {
        cut(
            &mut self.assembler,
            &self.lane,
            &self.lines,
            &mut bench.batches,
        );
    }

    pub(super) fn note_lost(&mut self, bench: &Bench) {
        let lost = self.assembler.take_lost();
        if lost == crate::assembler::Lost::default() {
            return;
        }
        let metrics = bench.intake.metrics();
        metrics.lines_malformed.inc_by(lost.n_malformed);
        metrics.lost(LostReason::too_long, lost.n_cut);
        metrics.lost(LostReason::rotated, lost.n_rotated_gaps);
        metrics.lost(LostReason::unreadable, lost.n_unreadable_gaps);
    }
}

fn cut(
    assembler: &mut StreamAssembler,
    lane: &Arc<Lane>,
    lines: &Counter,
    batches: &mut Vec<(Arc<Lane>, Batch)>,
) {
    if let Some(batch) = assembler.cut() {
        lines.inc_by(batch.entries.len() as u64);
        batches.push((Arc::clone(lane), batch));
    }
}
