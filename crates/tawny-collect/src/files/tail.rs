//! One stream's state: which files are still to be read, how far, and what to do next.

mod reading;

use std::{collections::VecDeque, io, path::Path, sync::Arc, time::Duration};

use tawny_model::{Batch, GapReason, Stream, StreamId, Timestamp};
use tokio::time::Instant;

use self::reading::{MAX_MISSES, Reading};
use super::{
    FilesSettings,
    generation::{Done, Generation, Listed, head_of_listed, is_gzip},
    lines::{Content, Cursor},
    locate::{Found, locate},
};
use crate::{
    Facts, Intake, Lane, LineScratch, PodFacts, Refusal, StreamAssembler, Subject, Verdict, Why,
};

/// First wait before a stream that was refused is asked for again; doubles each time, until something is stored again.
const FENCED_FIRST: Duration = Duration::from_secs(1);
const FENCED_LONGEST: Duration = Duration::from_secs(60);

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
    n_refused: u32,
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
    /// Another writer has the stream, or the sink refuses again and again.
    Fenced {
        until: Instant,
    },
    Finished,
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
            n_refused: 0,
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
        // Nearly always the only one.
        self.chain.reserve_exact(1);
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
        if let Phase::Reading(reading) = &self.phase
            && reading.lane.acked() > reading.lane.end().unwrap_or_default().end
        {
            self.n_refused = 0;
        }
        let n_before = self.n_refused;
        self.n_refused += 1;
        if refusal == Refusal::Gap && n_before == 0 {
            // Files are closed meanwhile and may be deleted, so only a repeated refusal is worth a wait.
            self.phase = Phase::Resuming;
            return Next::Resume;
        }
        let wait = FENCED_FIRST
            .saturating_mul(1 << n_before.min(6))
            .min(FENCED_LONGEST);
        let until = bench.now + wait;
        self.phase = Phase::Fenced { until };
        Next::WakeAt(until)
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
            let mut has_moved = false;
            for generation in &mut self.chain {
                let is_new = generation.content.is_none();
                let is_linked = generation.is_linked && !self.is_directory_gone;
                let content = generation.open(about.directory);
                has_moved |= is_linked
                    && matches!(&content, Err(error) if error.kind() == io::ErrorKind::NotFound);
                bench.n_open_files += usize::from(is_new && content.is_ok());
                contents.push(content.ok());
            }
            if has_moved && self.n_misses < MAX_MISSES {
                // Renamed or compressed since it was listed: passing it over would lose its lines.
                self.n_misses += 1;
                self.phase = Phase::Waiting { until: bench.now };
                return;
            }
            self.n_misses = 0;
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

fn describe(id: &StreamId, about: About<'_>) -> Arc<Stream> {
    Arc::new(match about.facts {
        Some(facts) => facts.describe(id.clone()),
        None => Stream::new(id.clone(), about.subject.namespace, about.subject.pod),
    })
}
