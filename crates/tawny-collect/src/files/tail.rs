//! One stream's state: which files are still to be read, how far, and what to do next.

use std::{collections::VecDeque, io, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

use prometheus_client::metrics::counter::Counter;
use tawny_model::{Batch, GapReason, Stream, StreamId, Timestamp};
use tokio::time::Instant;

use super::{
    FilesSettings,
    generation::{Done, Generation, Listed, head_of_listed, is_gzip},
    lines::{BUFFER_BYTES, Content, Cursor, Ended},
    locate::{Found, locate},
};
use crate::{
    Facts, Intake, Lane, LineScratch, PodFacts, Refusal, StreamAssembler, Subject, Verdict, Why,
    metrics::LostReason,
};

/// How much longer a file is waited for when nobody waits for what is behind it: it was deleted, or its successor has no
/// lines.
const QUIET_FACTOR: u32 = 10;

/// A rotated file not written to for this long is left at once.
const LONG_QUIET: Duration = Duration::from_secs(10);

/// First wait before a stream that another writer took over is asked for again; doubles each time.
const FENCED_FIRST: Duration = Duration::from_secs(1);
const FENCED_LONGEST: Duration = Duration::from_secs(60);

/// Wait before a file is read again that could not be.
const UNREADABLE_RETRY: Duration = Duration::from_secs(2);

/// Fresh listings taken at once for a file that is not where the last one showed it.
const MAX_MISSES: u32 = 3;

/// What tails share while they are worked on, one at a time.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) intake: Intake,
    pub(super) settings: FilesSettings,
    pub(super) buf: Vec<u8>,
    pub(super) scratch: LineScratch,
    /// What the turn has made.
    pub(super) batches: Vec<(Arc<Lane>, Batch)>,
    pub(super) n_read_bytes: usize,
    pub(super) n_open_files: usize,
    pub(super) now: Instant,
    pub(super) wall: Timestamp,
}

/// What is known about the pod and container of a tail.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) directory: &'a Path,
    pub(super) facts: Option<&'a PodFacts>,
}

#[derive(Debug)]
pub(super) struct Tail {
    pub(super) id: StreamId,
    phase: Phase,
    /// Oldest first; the first is being read.
    chain: VecDeque<Generation>,
    done: Vec<Done>,
    /// A later run of the container exists, so this one writes no more.
    pub(super) is_superseded: bool,
    /// The directory is gone: what is held open is all there is.
    pub(super) is_directory_gone: bool,
    /// In the queue of tails to work on.
    pub(super) is_queued: bool,
    n_fenced: u32,
    /// Listings in a row that did not lead to the first file.
    n_misses: u32,
}

#[derive(Debug)]
enum Phase {
    /// For facts that may forbid reading.
    Waiting {
        until: Instant,
    },
    Skipped,
    /// For the sink to say how far the stream is stored.
    Resuming,
    Reading(Box<Reading>),
    /// Another writer has the stream.
    Fenced {
        until: Instant,
    },
    Finished,
}

#[derive(Debug)]
struct Reading {
    lane: Arc<Lane>,
    assembler: StreamAssembler,
    cursor: Cursor,
    lines: Counter,
    /// When the first file was first found read to its end with somebody waiting behind it.
    eof_since: Option<Instant>,
}

/// What a tail wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// To be left alone until something happens.
    Idle,
    /// Another turn: there is more to read.
    Again,
    WakeAt(Instant),
    /// A lane.
    Resume,
    /// A fresh listing: a file has another name by now.
    Relist,
}

impl Tail {
    pub(super) fn new(id: StreamId, bench: &Bench) -> Self {
        Self {
            id,
            phase: Phase::Waiting {
                until: bench.now + bench.settings.facts_grace,
            },
            chain: VecDeque::new(),
            done: Vec::new(),
            is_superseded: false,
            is_directory_gone: false,
            is_queued: false,
            n_fenced: 0,
            n_misses: 0,
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    pub(super) fn is_skipped(&self) -> bool {
        matches!(self.phase, Phase::Skipped)
    }

    /// Whether a change of the current file would go unnoticed by a watch on its directory.
    pub(super) fn is_symlink(&self) -> bool {
        self.chain
            .back()
            .is_some_and(|generation| generation.listed.is_symlink)
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(&self.phase, Phase::Reading(reading) if reading.lane.refusal().is_some())
    }

    /// Takes a fresh listing of the stream's files, oldest first: follows renames, holds new files open.
    pub(super) fn relink(&mut self, listing: Vec<Listed>, directory: &Path, bench: &mut Bench) {
        if matches!(self.phase, Phase::Finished | Phase::Skipped) {
            return;
        }
        for generation in &mut self.chain {
            generation.is_linked = false;
        }
        for done in &mut self.done {
            done.is_listed = false;
        }
        for listed in listing {
            self.relink_one(listed, directory);
        }
        self.done.retain(|done| done.is_listed);
        for generation in &mut self.chain {
            if generation.content.is_none() && bench.n_open_files < bench.settings.max_open_files {
                // What cannot be opened now is tried again, or found gone, when its turn comes.
                if generation.open(directory).is_ok() {
                    bench.n_open_files += 1;
                }
            }
        }
    }

    fn relink_one(&mut self, listed: Listed, directory: &Path) {
        if let Some(generation) = self
            .chain
            .iter_mut()
            .find(|generation| generation.is_file(&listed))
        {
            generation.is_linked = true;
            generation.listed = listed;
            return;
        }
        let head = || head_of_listed(directory, &listed);
        if let Some(done) = self
            .done
            .iter_mut()
            .find_map(|done| done.is(&listed, head).then_some(done))
        {
            done.is_listed = true;
            return;
        }
        if let Some(generation) = self
            .chain
            .iter_mut()
            .find_map(|generation| generation.is_copy(&listed, head).then_some(generation))
        {
            if generation.content.is_none() && !generation.is_linked && !listed.name.is_tmp {
                generation.listed = listed;
            } else {
                generation.listed.name.stem = listed.name.stem;
            }
            generation.is_linked = true;
            return;
        }
        if listed.name.is_tmp && is_gzip(directory, &listed) {
            return;
        }
        self.chain.push_back(Generation::new(listed));
    }

    /// Looks at the rules again, after facts changed.
    pub(super) fn reconsider(&mut self, about: About<'_>, bench: &mut Bench) {
        let verdict = self.verdict(about, true, bench);
        match (&mut self.phase, verdict) {
            (Phase::Finished | Phase::Waiting { .. }, _) => {}
            (Phase::Skipped, Verdict::Collect(_)) => {
                self.phase = Phase::Waiting { until: bench.now };
            }
            (Phase::Skipped, _) => {}
            (_, Verdict::Skip(why)) => self.skip(why, bench),
            (Phase::Reading(reading), _) => {
                reading.assembler.set_stream(describe(&self.id, about));
            }
            _ => {}
        }
    }

    fn verdict(&self, about: About<'_>, is_grace_over: bool, bench: &Bench) -> Verdict {
        let facts = match about.facts {
            Some(facts) => Facts::Known(facts),
            None if is_grace_over || !bench.intake.metadata().is_expected() => Facts::Unknown,
            None => Facts::Pending,
        };
        bench.intake.selection().decide(about.subject, facts)
    }

    fn skip(&mut self, why: Why, bench: &mut Bench) {
        tracing::debug!(stream = %self.id, %why, "not collected");
        self.close_files(bench);
        self.done.clear();
        self.phase = Phase::Skipped;
    }

    fn close_files(&mut self, bench: &mut Bench) {
        let n_open = self
            .chain
            .iter()
            .filter(|generation| generation.content.is_some())
            .count();
        bench.n_open_files -= n_open;
        self.chain.clear();
    }

    /// Does the next piece of work.
    pub(super) fn step(&mut self, about: About<'_>, bench: &mut Bench) -> Next {
        match &self.phase {
            Phase::Waiting { until } => {
                let until = *until;
                match self.verdict(about, bench.now >= until, bench) {
                    Verdict::Collect(why) => {
                        tracing::debug!(stream = %self.id, %why, "collected");
                        self.phase = Phase::Resuming;
                        Next::Resume
                    }
                    Verdict::Skip(why) => {
                        self.skip(why, bench);
                        Next::Idle
                    }
                    Verdict::Wait => Next::WakeAt(until),
                }
            }
            Phase::Fenced { until } if bench.now >= *until => {
                self.phase = Phase::Resuming;
                Next::Resume
            }
            Phase::Fenced { until } => Next::WakeAt(*until),
            Phase::Skipped | Phase::Resuming | Phase::Finished => Next::Idle,
            Phase::Reading(_) => self.step_reading(about, bench),
        }
    }

    /// Starts over after a refusal: every file is looked at again for the place to go on from.
    fn start_over(&mut self, refusal: Refusal, bench: &mut Bench) -> Next {
        self.done.clear();
        if !self.is_directory_gone {
            self.close_files(bench);
        }
        match refusal {
            Refusal::Gap => {
                self.phase = Phase::Resuming;
                Next::Resume
            }
            Refusal::Fenced => {
                let wait = FENCED_FIRST
                    .saturating_mul(1 << self.n_fenced.min(6))
                    .min(FENCED_LONGEST);
                self.n_fenced += 1;
                let until = bench.now + wait;
                self.phase = Phase::Fenced { until };
                Next::WakeAt(until)
            }
        }
    }

    /// Takes the lane asked for, finds the place to go on from and starts to read.
    pub(super) fn start(&mut self, lane: Lane, about: About<'_>, bench: &mut Bench) {
        if !matches!(self.phase, Phase::Resuming) {
            return;
        }
        let max_line_bytes = bench.settings.max_line_bytes;
        let stream = describe(&self.id, about);
        let mut assembler =
            StreamAssembler::new(stream, bench.intake.writer(), lane.end(), max_line_bytes);
        let mut cursor = Cursor::default();
        if let Some(end) = lane.end() {
            let mut contents: Vec<Option<&mut Content>> = Vec::with_capacity(self.chain.len());
            for generation in &mut self.chain {
                let is_new = generation.content.is_none();
                let content = generation.open(about.directory).ok();
                bench.n_open_files += usize::from(is_new && content.is_some());
                contents.push(content);
            }
            let found = locate(&mut contents, end.mark, max_line_bytes, &mut bench.buf);
            let place = match found {
                Found::Mark(place) => place,
                Found::Gone(place) => {
                    tracing::warn!(stream = %self.id, position = %end.end, "lines were deleted before they were read; a gap record takes their place");
                    assembler.gap(GapReason::Rotated, 0);
                    place
                }
            };
            for _ in 0..place.generation {
                self.leave_front(bench);
            }
            cursor = Cursor::at(place.offset);
        }
        let lines = bench.intake.metrics().lines_of(about.subject.namespace);
        self.phase = Phase::Reading(Box::new(Reading {
            lane: Arc::new(lane),
            assembler,
            cursor,
            lines,
            eof_since: None,
        }));
    }

    fn leave_front(&mut self, bench: &mut Bench) {
        if let Some(generation) = self.chain.pop_front() {
            bench.n_open_files -= usize::from(generation.content.is_some());
            self.done.push(Done::new(generation));
        }
    }

    fn step_reading(&mut self, about: About<'_>, bench: &mut Bench) -> Next {
        let Phase::Reading(reading) = &mut self.phase else {
            return Next::Idle;
        };
        if let Some(refusal) = reading.lane.refusal() {
            return self.start_over(refusal, bench);
        }
        let next = self.read(about, bench);
        let Phase::Reading(reading) = &mut self.phase else {
            return next;
        };
        reading.assembler.expire(bench.wall, &mut bench.scratch);
        reading.note_lost(bench);
        if next == Next::Again {
            return next;
        }
        let is_over = self.chain.is_empty() && (self.is_superseded || self.is_directory_gone);
        if is_over {
            reading.assembler.finish(bench.wall, &mut bench.scratch);
            reading.note_lost(bench);
        }
        reading.cut(bench);
        if is_over {
            self.phase = Phase::Finished;
            return Next::Idle;
        }
        let is_over_budget = bench.n_open_files > bench.settings.max_open_files;
        if is_over_budget && next == Next::Idle && self.chain.len() == 1 {
            for generation in &mut self.chain {
                bench.n_open_files -= usize::from(generation.content.take().is_some());
            }
        }
        match next {
            Next::Idle if reading.assembler.has_open_partial() => {
                Next::WakeAt(bench.now + crate::assembler::PARTIAL_EXPIRY)
            }
            next => next,
        }
    }

    /// Reads up to a turn's share, over as many files as that takes.
    fn read(&mut self, about: About<'_>, bench: &mut Bench) -> Next {
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

    /// Hands on what was read in turns that ended in the middle of a file.
    pub(super) fn cut(&mut self, bench: &mut Bench) {
        if let Phase::Reading(reading) = &mut self.phase {
            reading.cut(bench);
        }
    }

    /// Bytes in the stream's files that are not read yet, and whether the first file has any.
    pub(super) fn lag(&self) -> (u64, bool) {
        let Phase::Reading(reading) = &self.phase else {
            return (0, false);
        };
        let mut lag_bytes = 0;
        let mut is_behind = false;
        for (idx, generation) in self.chain.iter().enumerate() {
            let len_bytes = match &generation.content {
                Some(content) if !content.is_gz() => {
                    content.metadata().map_or(0, |metadata| metadata.len())
                }
                _ => generation.listed.len_bytes,
            };
            if idx == 0 {
                // Shorter than what was read: truncated, which reading finds out.
                is_behind = len_bytes != reading.cursor.offset;
                lag_bytes += len_bytes.saturating_sub(reading.cursor.offset);
            } else {
                lag_bytes += len_bytes;
            }
        }
        (lag_bytes, is_behind)
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

    fn cut(&mut self, bench: &mut Bench) {
        cut(
            &mut self.assembler,
            &self.lane,
            &self.lines,
            &mut bench.batches,
        );
    }

    fn note_lost(&mut self, bench: &Bench) {
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

fn describe(id: &StreamId, about: About<'_>) -> Arc<Stream> {
    Arc::new(match about.facts {
        Some(facts) => facts.describe(id.clone()),
        None => Stream::new(id.clone(), about.subject.namespace, about.subject.pod),
    })
}
