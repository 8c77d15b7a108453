//! Physical lines of one stream in, batches out: joins partial lines, parses messages, keeps positions.
//!
//! Pure: time is handed in. Whatever reads the lines (file, API, engine socket), this makes the batches, so a stream's
//! positions mean the same everywhere.

use std::{sync::Arc, time::Duration};

use tawny_model::{
    Batch, Entries, Gap, GapReason, Output, Position, ResumeMark, Severity, Stream, StreamEnd,
    Timestamp, WriterId,
};
use tawny_wire::{
    Line, PartialJoiner, RawLine, Scratch, line, parse_message, partial::CUT_BYTES, to_text,
};

/// Attribute of a line that is of no known format; its value says where the line departs from one.
pub const MALFORMED: &str = "tawny.malformed";

/// Attribute of a line whose last piece did not come in time; the rest, if it comes, is an entry of its own.
pub const PARTIAL: &str = "tawny.partial";

/// Longest wait for the next piece of a partial line (VK-9).
pub const PARTIAL_EXPIRY: Duration = Duration::from_secs(30);

/// How far the wall clock, by which a partial line is measured, may be behind the monotonic one, which wakes its reader:
/// without it a reader woken a microsecond early by the wall's measure would wait a whole expiry again.
const CLOCK_SLACK: Duration = Duration::from_millis(100);

/// Text held back by an open partial line of the other output, above which the partial line is given out as it is.
const MAX_HELD_BACK_BYTES: usize = 8 << 20;

/// Memory that lines of all streams are decoded in, one after the other.
#[derive(Debug, Default)]
pub struct LineScratch {
    docker: Vec<u8>,
    joined: Vec<u8>,
    text: String,
    message: Scratch,
}

/// Assembles one stream.
///
/// | place | is |
/// |---|---|
/// | `start` | where the next batch starts: the last cut, at first the stream's end in the store |
/// | `safe` | behind the last line at which no output had an open partial line: where a batch may end |
/// | `end` | behind the last physical line |
#[derive(Debug)]
pub struct StreamAssembler {
    stream: Arc<Stream>,
    writer: WriterId,
    joiner: PartialJoiner,
    entries: Entries,
    start: Position,
    end: Position,
    mark: ResumeMark,
    safe: Safe,
    /// When the last piece of a still open line was taken.
    open_since: Option<Timestamp>,
    /// Of the line before; what a malformed line is stamped with.
    last_timestamp: Timestamp,
    /// Put before the next line, so that both are stored together or not at all.
    gap: Option<(GapReason, u64)>,
    lost: Lost,
}

#[derive(Debug, Clone, Copy)]
struct Safe {
    end: Position,
    mark: ResumeMark,
    n_entries: usize,
}

/// What could not be kept since the last [`StreamAssembler::take_lost`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    pub n_malformed: u64,
    /// Lines of which only the head is kept.
    pub n_cut: u64,
    pub n_rotated_gaps: u64,
    pub n_unreadable_gaps: u64,
}

impl StreamAssembler {
    /// Goes on at `end`, where the store's copy of the stream ends. Keeps at most `max_line_bytes` of a line.
    pub fn new(
        stream: Arc<Stream>,
        writer: WriterId,
        end: Option<StreamEnd>,
        max_line_bytes: usize,
    ) -> Self {
        let StreamEnd { end, mark } = end.unwrap_or_default();
        Self {
            stream,
            writer,
            joiner: PartialJoiner::new(max_line_bytes),
            entries: Entries::default(),
            start: end,
            end,
            mark,
            safe: Safe {
                end,
                mark,
                n_entries: 0,
            },
            open_since: None,
            last_timestamp: mark.timestamp,
            gap: None,
            lost: Lost::default(),
        }
    }

    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Describes the stream anew, from the next batch on.
    pub fn set_stream(&mut self, stream: Arc<Stream>) {
        self.stream = stream;
    }

    /// Behind the last physical line.
    pub fn end(&self) -> Position {
        self.end
    }

    /// Bytes of text gathered; cut a batch when this is large.
    pub fn text_bytes(&self) -> usize {
        self.entries.text_bytes()
    }

    /// Entries gathered.
    pub fn n_entries(&self) -> usize {
        self.entries.len()
    }

    /// True while some line's last piece is still to come.
    pub fn has_open_partial(&self) -> bool {
        self.joiner.is_open()
    }

    pub fn take_lost(&mut self) -> Lost {
        std::mem::take(&mut self.lost)
    }

    /// Takes a line of a log file, without its newline, in whichever format (VK-8).
    ///
    /// `line` may be only the head of the line: `cut_bytes` are missing. `len_bytes` is the line's length in the stream,
    /// with cut bytes and newline.
    pub fn file_line(
        &mut self,
        line: &[u8],
        cut_bytes: u64,
        len_bytes: u64,
        now: Timestamp,
        scratch: &mut LineScratch,
    ) {
        let n_nuls = line.iter().take_while(|byte| **byte == 0).count();
        let (line, len_bytes) = (&line[n_nuls..], len_bytes - n_nuls as u64);
        if n_nuls > 0 {
            // Blocks a crashed node had allocated and not written.
            self.gap(GapReason::Unreadable, n_nuls as u64);
        }
        let LineScratch {
            docker,
            joined,
            text,
            message,
        } = scratch;
        match line::decode(line, docker) {
            Ok(raw) => self.push_raw(raw, cut_bytes, len_bytes, now, joined, text, message),
            Err(error) => self.malformed(line, &error, cut_bytes, len_bytes, now, scratch),
        }
    }

    /// Takes a decoded line; see [`Self::file_line`]. `raw` must not borrow from `scratch`.
    pub fn push(
        &mut self,
        raw: RawLine<'_>,
        cut_bytes: u64,
        len_bytes: u64,
        now: Timestamp,
        scratch: &mut LineScratch,
    ) {
        let LineScratch {
            docker: _,
            joined,
            text,
            message,
        } = scratch;
        self.push_raw(raw, cut_bytes, len_bytes, now, joined, text, message);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the scratch is taken apart so that a line may borrow the rest of it"
    )]
    fn push_raw(
        &mut self,
        raw: RawLine<'_>,
        cut_bytes: u64,
        len_bytes: u64,
        now: Timestamp,
        joined: &mut Vec<u8>,
        text: &mut String,
        message: &mut Scratch,
    ) {
        self.put_gap(raw.timestamp);
        self.end = self.end.advance(len_bytes);
        self.mark = self.mark.after_line(raw.timestamp);
        self.last_timestamp = raw.timestamp;
        let is_piece = raw.is_partial;
        if let Some(line) = self.joiner.push_cut(raw, cut_bytes, joined) {
            Self::put_line(
                &mut self.entries,
                &mut self.lost,
                line,
                false,
                self.end,
                text,
                message,
            );
        }
        if self.joiner.is_open() {
            // Lines of the other output must not keep a line open that nobody goes on with.
            if is_piece || self.open_since.is_none() {
                self.open_since = Some(now);
            }
            if self.entries.text_bytes() > MAX_HELD_BACK_BYTES && self.safe.n_entries == 0 {
                self.flush_partials(joined, text, message);
            }
        } else {
            self.settle();
        }
    }

    /// Keeps a line that is of no known format raw, stamped like the line before it; see [`Self::file_line`].
    pub fn malformed(
        &mut self,
        line: &[u8],
        why: &dyn std::fmt::Display,
        cut_bytes: u64,
        len_bytes: u64,
        now: Timestamp,
        scratch: &mut LineScratch,
    ) {
        self.put_gap(now);
        self.end = self.end.advance(len_bytes);
        self.mark = self.mark.after_line(self.mark.timestamp);
        self.lost.n_malformed += 1;
        self.lost.n_cut += u64::from(cut_bytes > 0);
        let why = why.to_string();
        let cut = (cut_bytes > 0).then(|| cut_bytes.to_string());
        let attributes = [(MALFORMED, why.as_str())]
            .into_iter()
            .chain(cut.as_deref().map(|cut| (CUT_BYTES, cut)));
        self.entries
            .push(
                self.stamp_or(now),
                Severity::Unknown,
                Output::Stdout,
                to_text(line, &mut scratch.text),
                attributes,
                self.end,
            )
            .expect(ROOM);
        if !self.joiner.is_open() {
            self.settle();
        }
    }

    /// Notes that bytes are missing before the next line; 0 where the number is unknown.
    ///
    /// For a rotated gap the next line must be the oldest there is, or the first that is younger than the mark.
    pub fn gap(&mut self, reason: GapReason, lost_bytes: u64) {
        if self.gap.is_some_and(|(noted, _)| noted != reason) {
            self.put_gap(self.last_timestamp);
        }
        let (_, noted_bytes) = self.gap.unwrap_or((reason, 0));
        self.gap = Some((reason, noted_bytes + lost_bytes));
    }

    /// The time of the line before, or `first` where there was none.
    fn stamp_or(&self, first: Timestamp) -> Timestamp {
        if self.last_timestamp == Timestamp::default() {
            first
        } else {
            self.last_timestamp
        }
    }

    fn put_gap(&mut self, next: Timestamp) {
        let Some((reason, lost_bytes)) = self.gap.take() else {
            return;
        };
        let from = self.end;
        match reason {
            GapReason::Rotated => {
                self.lost.n_rotated_gaps += 1;
                // The line the mark names is gone: what is left begins with the first that is younger. Its time stays, or
                // a stream that ends with this record would be read once more.
                self.mark.n_lines = 0;
            }
            _ => self.lost.n_unreadable_gaps += 1,
        }
        let gap = Gap {
            from,
            to: from.advance(lost_bytes),
            reason,
        };
        // At least one, or a batch with nothing but the record would be a duplicate of what is stored.
        self.end = from.advance(lost_bytes.max(1));
        let attributes = gap.attributes();
        self.entries
            .push(
                self.stamp_or(next),
                Gap::SEVERITY,
                Output::Stdout,
                &gap.message(),
                attributes.iter().map(|(key, value)| (*key, value.as_str())),
                self.end,
            )
            .expect(ROOM);
    }

    /// Gives out partial lines whose next piece has not come for [`PARTIAL_EXPIRY`].
    pub fn expire(&mut self, now: Timestamp, scratch: &mut LineScratch) {
        if self
            .open_since
            .is_some_and(|since| now.saturating_since(since) + CLOCK_SLACK >= PARTIAL_EXPIRY)
        {
            self.flush_partials(&mut scratch.joined, &mut scratch.text, &mut scratch.message);
        }
    }

    /// Gives out all that is held back, at the end of the stream.
    pub fn finish(&mut self, now: Timestamp, scratch: &mut LineScratch) {
        self.put_gap(now);
        self.flush_partials(&mut scratch.joined, &mut scratch.text, &mut scratch.message);
    }

    fn flush_partials(&mut self, joined: &mut Vec<u8>, text: &mut String, message: &mut Scratch) {
        while let Some(line) = self.joiner.flush(joined) {
            Self::put_line(
                &mut self.entries,
                &mut self.lost,
                line,
                true,
                self.end,
                text,
                message,
            );
        }
        self.settle();
    }

    fn put_line(
        entries: &mut Entries,
        lost: &mut Lost,
        line: Line<'_>,
        is_partial: bool,
        end: Position,
        text: &mut String,
        message: &mut Scratch,
    ) {
        let Line {
            timestamp,
            output,
            content,
            cut_bytes,
        } = line;
        let parsed = parse_message(to_text(content, text), message);
        let pushed = if cut_bytes == 0 && !is_partial {
            entries.push(
                timestamp,
                parsed.severity,
                output,
                parsed.message,
                parsed.attributes(),
                end,
            )
        } else {
            lost.n_cut += u64::from(cut_bytes > 0);
            let cut = (cut_bytes > 0).then(|| cut_bytes.to_string());
            let extra = cut
                .as_deref()
                .map(|cut| (CUT_BYTES, cut))
                .into_iter()
                .chain(is_partial.then_some((PARTIAL, "true")));
            entries.push(
                timestamp,
                parsed.severity,
                output,
                parsed.message,
                parsed.attributes().chain(extra),
                end,
            )
        };
        pushed.expect(ROOM);
    }

    fn settle(&mut self) {
        self.open_since = None;
        self.safe = Safe {
            end: self.end,
            mark: self.mark,
            n_entries: self.entries.len(),
        };
    }

    /// Takes what is whole as a batch, `None` when there is nothing. Lines behind an open partial line stay.
    pub fn cut(&mut self) -> Option<Batch> {
        let Safe {
            end,
            mark,
            n_entries,
        } = self.safe;
        if end == self.start {
            return None;
        }
        let entries = if n_entries == self.entries.len() {
            std::mem::take(&mut self.entries)
        } else {
            self.split_entries(n_entries)
        };
        let start = std::mem::replace(&mut self.start, end);
        self.safe.n_entries = 0;
        Some(Batch {
            stream: Arc::clone(&self.stream),
            writer: self.writer,
            start,
            end,
            end_mark: mark,
            entries,
        })
    }

    fn split_entries(&mut self, n_entries: usize) -> Entries {
        let (mut front, mut back) = (Entries::default(), Entries::default());
        for (idx, entry) in self.entries.iter().enumerate() {
            let part = if idx < n_entries {
                &mut front
            } else {
                &mut back
            };
            part.push(
                entry.timestamp(),
                entry.severity(),
                entry.output(),
                entry.message(),
                entry.attributes(),
                entry.end(),
            )
            .expect(ROOM);
        }
        self.entries = back;
        front
    }
}

const ROOM: &str = "batches are cut at megabytes, far below the arena's 4 GiB";

#[cfg(test)]
mod tests;
