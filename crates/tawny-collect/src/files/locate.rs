//! Finds the place a resume mark names: in the generations of one stream, by content, without any local checkpoint.

use std::{cell::Cell, io, ops::ControlFlow};

use tawny_model::{ResumeMark, Timestamp};
use tawny_wire::line;

use super::lines::{Content, Cursor, Ended, Physical};

/// Bytes of lines younger than the mark that are searched before the fast search gives up, and older ones before it
/// starts: lines of stdout and stderr are stamped by two writers and need not be quite in order.
const SLACK_BYTES: u64 = 64 << 10;

/// A place in a list of generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) generation: usize,
    pub(super) offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Just behind the marked line.
    Mark(Place),
    /// The marked line is gone; this is where the first younger line starts.
    Gone(Place),
}

/// Looks for `mark` in generations ordered oldest first; one that cannot be opened or read counts as empty.
///
/// `max_line_bytes` must be what the stream was read with, so that over-long lines look the same.
///
/// Plain files are searched by halves, on the assumption that times grow; if that does not find the exact line, every
/// line is looked at. Compressed files are read from the front.
pub(super) fn locate(
    generations: &mut [Option<&mut Content>],
    mark: ResumeMark,
    max_line_bytes: usize,
    buf: &mut [u8],
) -> Found {
    let start = Place {
        generation: 0,
        offset: 0,
    };
    if mark == ResumeMark::default() {
        return Found::Mark(start);
    }
    let mut search = Search {
        generations,
        mark,
        max_line_bytes,
        buf,
    };
    if mark.n_lines == 0 {
        // The stream ends with a gap record, which stands for all lines up to this time.
        let from = search.youngest_not_younger().unwrap_or(0);
        return Found::Mark(search.first_younger(from));
    }
    let Some(candidate) = search.youngest_not_younger() else {
        // All lines are younger; or the first few are, where lines are out of order.
        return search
            .scan(start, true)
            .map_or(Found::Gone(start), Found::Mark);
    };
    let from = search.scan_start(candidate);
    if let Some(place) = search.scan(from, true) {
        return Found::Mark(place);
    }
    if from != start
        && let Some(place) = search.scan(start, false)
    {
        return Found::Mark(place);
    }
    Found::Gone(search.first_younger(candidate))
}

struct Search<'a, 'c> {
    generations: &'a mut [Option<&'c mut Content>],
    mark: ResumeMark,
    max_line_bytes: usize,
    buf: &'a mut [u8],
}

impl Search<'_, '_> {
    /// The youngest generation whose first line is no younger than the mark.
    fn youngest_not_younger(&mut self) -> Option<usize> {
        let wanted = self.mark.timestamp;
        (0..self.generations.len()).rev().find(|idx| {
            self.first_time(*idx, 0)
                .is_some_and(|(_, time)| time <= wanted)
        })
    }

    /// Where to start looking so that the whole run of lines with the marked time is seen.
    fn scan_start(&mut self, candidate: usize) -> Place {
        let offset = self.lower_bound(candidate);
        if offset > 0 || candidate == 0 {
            return Place {
                generation: candidate,
                offset,
            };
        }
        // The run may have begun in the file before.
        Place {
            generation: candidate - 1,
            offset: self.lower_bound(candidate - 1),
        }
    }

    /// A line start at or before the first line of the marked time, if times grow; 0 in a compressed file.
    fn lower_bound(&mut self, generation: usize) -> u64 {
        let Some(content) = self.generations[generation]
            .as_ref()
            .filter(|content| !content.is_gz())
        else {
            return 0;
        };
        let (mut low, mut high) = (0, content.metadata().map_or(0, |metadata| metadata.len()));
        while high - low > SLACK_BYTES {
            let middle = low + (high - low) / 2;
            match self.first_time(generation, middle) {
                Some((offset, time)) if time < self.mark.timestamp && offset < high => low = offset,
                _ => high = middle,
            }
        }
        // Further back until a line is older than the mark for certain: the run of the marked time begins behind it.
        let mut slack_bytes = SLACK_BYTES;
        loop {
            let back = low.saturating_sub(slack_bytes);
            if back == 0 {
                return 0;
            }
            match self.first_time(generation, back) {
                Some((offset, time)) if offset <= low && time < self.mark.timestamp => {
                    return offset;
                }
                _ => slack_bytes *= 2,
            }
        }
    }

    /// Start and time of the first well-formed line that starts behind `offset`, or at 0.
    fn first_time(&mut self, generation: usize, offset: u64) -> Option<(u64, Timestamp)> {
        let mut at = offset;
        let mut is_whole = offset == 0;
        let mut found = None;
        let mut scratch = Vec::new();
        let each = |bytes: &[u8], len_bytes: u64| {
            if is_whole && let Ok(raw) = line::decode(without_nuls(bytes), &mut scratch) {
                found = Some((at, raw.timestamp));
                return ControlFlow::Break(());
            }
            is_whole = true;
            at += len_bytes;
            ControlFlow::Continue(())
        };
        // What cannot be read has no lines.
        let _result = self.each_line(generation, offset, PROBE_BYTES, each);
        found
    }

    /// Looks at every line from `from` on; if `is_bounded`, only as long as lines are not much younger than the mark.
    fn scan(&mut self, from: Place, is_bounded: bool) -> Option<Place> {
        let mut running = ResumeMark::default();
        let mut younger_bytes = 0;
        for generation in from.generation..self.generations.len() {
            let offset = if generation == from.generation {
                from.offset
            } else {
                0
            };
            let mut at = offset;
            let mut is_over = false;
            let mut is_found = false;
            let (mark, mut scratch) = (self.mark, Vec::new());
            let each = |bytes: &[u8], len_bytes: u64| {
                let time = line::decode(without_nuls(bytes), &mut scratch)
                    .map_or(running.timestamp, |raw| raw.timestamp);
                running = running.after_line(time);
                at += len_bytes;
                is_found = running == mark;
                if time > mark.timestamp {
                    younger_bytes += len_bytes;
                    is_over = is_bounded && younger_bytes > SLACK_BYTES;
                }
                if is_found || is_over {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            // What cannot be read holds no mark.
            let _result = self.each_line(generation, offset, usize::MAX, each);
            if is_found {
                return Some(Place {
                    generation,
                    offset: at,
                });
            }
            if is_over {
                return None;
            }
        }
        None
    }

    /// The first line younger than the mark, from `generation` on; else the end of everything.
    fn first_younger(&mut self, generation: usize) -> Place {
        let mut place = Place {
            generation,
            offset: 0,
        };
        for generation in generation..self.generations.len() {
            let mut is_found = false;
            let (wanted, mut scratch) = (self.mark.timestamp, Vec::new());
            place = Place {
                generation,
                offset: 0,
            };
            let each = |bytes: &[u8], len_bytes: u64| {
                if line::decode(without_nuls(bytes), &mut scratch)
                    .is_ok_and(|raw| raw.timestamp > wanted)
                {
                    is_found = true;
                    return ControlFlow::Break(());
                }
                place.offset += len_bytes;
                ControlFlow::Continue(())
            };
            // Lines behind what cannot be read are in the next generation.
            let _result = self.each_line(generation, 0, usize::MAX, each);
            if is_found {
                break;
            }
        }
        place
    }

    fn each_line(
        &mut self,
        generation: usize,
        offset: u64,
        max_read_bytes: usize,
        mut each: impl FnMut(&[u8], u64) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let Some(content) = &mut self.generations[generation] else {
            return Ok(());
        };
        let buf_len = self.buf.len().min(max_read_bytes);
        let buf = &mut self.buf[..buf_len];
        let mut cursor = Cursor::at(offset);
        let is_broken_off = Cell::new(false);
        let mut give = |line: Physical<'_>| {
            let flow = each(line.bytes, line.len_bytes);
            is_broken_off.set(flow.is_break());
            flow
        };
        while cursor.read_lines(content, buf, buf_len, self.max_line_bytes, &mut give)?
            == Ended::MidFile
        {
            if is_broken_off.get() {
                return Ok(());
            }
        }
        if !is_broken_off.get() {
            // A torn last line is a line once it was stored as one.
            cursor.read_rest(content, buf, self.max_line_bytes, give)?;
        }
        Ok(())
    }
}

/// Read at once to find one line.
const PROBE_BYTES: usize = 16 << 10;

/// A line without the NUL bytes a crashed node leaves in front of it.
pub(super) fn without_nuls(line: &[u8]) -> &[u8] {
    let n_nuls = line.iter().take_while(|byte| **byte == 0).count();
    &line[n_nuls..]
}

#[cfg(test)]
mod tests;
