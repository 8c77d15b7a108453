//! Joins the pieces a container runtime cuts long lines into, within a bound on memory.

use tawny_model::{Output, Timestamp};

use crate::line::RawLine;

/// Pieces of one line are joined up to this many bytes, most of which are cut; then the line is given out.
///
/// A program that never writes a newline would otherwise hold back the stream's committed end for ever.
const MAX_OPEN_BYTES: u64 = 1 << 30;

/// A whole line of the program's output, as far as it was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Of its first piece.
    pub timestamp: Timestamp,
    pub output: Output,
    pub content: &'a [u8],
    /// Bytes behind `content` that were not kept; goes into the attribute `tawny.cut_bytes`.
    pub cut_bytes: u64,
}

/// Attribute that counts the bytes cut off an over-long line.
pub const CUT_BYTES: &str = "tawny.cut_bytes";

/// Joins the partial lines of one stream, stdout and stderr apart (VK-9).
///
/// While [`Self::is_open`] no batch may end: a reader that resumes there would see the tail of a line as a line.
#[derive(Debug)]
pub struct PartialJoiner {
    max_line_bytes: usize,
    stdout: Option<Open>,
    stderr: Option<Open>,
}

#[derive(Debug)]
struct Open {
    timestamp: Timestamp,
    kept: Vec<u8>,
    cut_bytes: u64,
}

impl PartialJoiner {
    /// Keeps at most `max_line_bytes` of a line, its head.
    pub fn new(max_line_bytes: usize) -> Self {
        Self {
            max_line_bytes,
            stdout: None,
            stderr: None,
        }
    }

    /// Takes the next physical line and answers the line it completes; one that was never partial is not copied.
    ///
    /// `joined` holds the content of a joined line; its former content is lost, its memory passes to the caller.
    pub fn push<'a>(&mut self, line: RawLine<'a>, joined: &'a mut Vec<u8>) -> Option<Line<'a>> {
        self.push_cut(line, 0, joined)
    }

    /// [`Self::push`] of a physical line of which the reader itself kept only the head, `cut_bytes` less than it was.
    pub fn push_cut<'a>(
        &mut self,
        line: RawLine<'a>,
        cut_bytes: u64,
        joined: &'a mut Vec<u8>,
    ) -> Option<Line<'a>> {
        let max_line_bytes = self.max_line_bytes;
        let slot = self.slot(line.output);
        if slot.is_none() && !line.is_partial {
            let (content, over_bytes) = head(line.content, max_line_bytes);
            return Some(Line {
                timestamp: line.timestamp,
                output: line.output,
                content,
                cut_bytes: cut_bytes + over_bytes,
            });
        }
        let open = slot.get_or_insert_with(|| Open {
            timestamp: line.timestamp,
            kept: Vec::new(),
            cut_bytes: 0,
        });
        open.append(line.content, cut_bytes, max_line_bytes);
        let is_complete =
            !line.is_partial || open.kept.len() as u64 + open.cut_bytes >= MAX_OPEN_BYTES;
        is_complete
            .then(|| slot.take())?
            .map(|open| open.into_line(line.output, joined))
    }

    /// True while the last piece of some line is still to come.
    pub fn is_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Gives out a line whose last piece never came, as at the end of a stream; call until `None`.
    pub fn flush<'a>(&mut self, joined: &'a mut Vec<u8>) -> Option<Line<'a>> {
        let is_stderr_first = match (&self.stdout, &self.stderr) {
            (Some(stdout), Some(stderr)) => stderr.timestamp < stdout.timestamp,
            (stdout, _) => stdout.is_none(),
        };
        let output = if is_stderr_first {
            Output::Stderr
        } else {
            Output::Stdout
        };
        let open = self.slot(output).take()?;
        Some(open.into_line(output, joined))
    }

    fn slot(&mut self, output: Output) -> &mut Option<Open> {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }
}

impl Open {
    fn append(&mut self, content: &[u8], cut_bytes: u64, max_line_bytes: usize) {
        // Once something was cut, nothing follows: the kept head has no holes.
        let room = if self.cut_bytes > 0 {
            0
        } else {
            max_line_bytes - self.kept.len()
        };
        let (kept, over_bytes) = head(content, room);
        self.kept.extend_from_slice(kept);
        self.cut_bytes += cut_bytes + over_bytes;
    }

    fn into_line(self, output: Output, joined: &mut Vec<u8>) -> Line<'_> {
        *joined = self.kept;
        Line {
            timestamp: self.timestamp,
            output,
            content: joined,
            cut_bytes: self.cut_bytes,
        }
    }
}

/// The first `max_bytes`, fewer where a UTF-8 character would be cut, and how many bytes that leaves out.
fn head(content: &[u8], max_bytes: usize) -> (&[u8], u64) {
    if content.len() <= max_bytes {
        return (content, 0);
    }
    let is_continuation = |byte: u8| byte & 0xc0 == 0x80;
    // Bytes that are no UTF-8 have no characters to spare, so look no further back than one character is long.
    let end = (max_bytes.saturating_sub(3)..=max_bytes)
        .rev()
        .find(|end| !is_continuation(content[*end]))
        .unwrap_or(max_bytes);
    (&content[..end], (content.len() - end) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(nanos: i64, output: Output, is_partial: bool, content: &[u8]) -> RawLine<'_> {
        RawLine {
            timestamp: Timestamp::from_nanos(nanos),
            output,
            is_partial,
            content,
        }
    }

    #[test]
    fn pieces_of_stdout_and_stderr_are_joined_apart() {
        let mut joiner = PartialJoiner::new(1024);
        let mut joined = Vec::new();
        assert_eq!(
            joiner.push(raw(1, Output::Stdout, true, b"a"), &mut joined),
            None
        );
        assert_eq!(
            joiner.push(raw(2, Output::Stderr, true, b"x"), &mut joined),
            None
        );
        assert!(joiner.is_open());
        let line = joiner
            .push(raw(3, Output::Stdout, false, b"b"), &mut joined)
            .unwrap();
        assert_eq!((line.timestamp.as_nanos(), line.content), (1, &b"ab"[..]));
        assert!(joiner.is_open());
        let line = joiner
            .push(raw(4, Output::Stdout, false, b"c"), &mut joined)
            .unwrap();
        assert_eq!((line.timestamp.as_nanos(), line.content), (4, &b"c"[..]));
        let line = joiner
            .push(raw(5, Output::Stderr, false, b""), &mut joined)
            .unwrap();
        assert_eq!((line.timestamp.as_nanos(), line.content), (2, &b"x"[..]));
        assert!(!joiner.is_open());
    }

    #[test]
    fn an_over_long_line_keeps_its_head_and_counts_the_rest() {
        let mut joiner = PartialJoiner::new(4);
        let mut joined = Vec::new();
        let line = joiner
            .push(raw(1, Output::Stdout, false, b"123456"), &mut joined)
            .unwrap();
        assert_eq!((line.content, line.cut_bytes), (&b"1234"[..], 2));
        joiner.push(raw(1, Output::Stdout, true, b"123"), &mut joined);
        joiner.push(raw(1, Output::Stdout, true, b"45"), &mut joined);
        let line = joiner
            .push(raw(1, Output::Stdout, false, b"6"), &mut joined)
            .unwrap();
        assert_eq!((line.content, line.cut_bytes), (&b"1234"[..], 2));
        let line = joiner
            .push_cut(raw(1, Output::Stdout, false, b"12"), 1 << 30, &mut joined)
            .unwrap();
        assert_eq!((line.content, line.cut_bytes), (&b"12"[..], 1 << 30));
    }

    #[test]
    fn a_character_is_not_cut_in_two() {
        let mut joiner = PartialJoiner::new(4);
        let mut joined = Vec::new();
        let content = "ab€cd".as_bytes();
        joiner.push(raw(1, Output::Stdout, true, content), &mut joined);
        let line = joiner
            .push(raw(1, Output::Stdout, false, b"z"), &mut joined)
            .unwrap();
        assert_eq!((line.content, line.cut_bytes), (&b"ab"[..], 6));
        let line = joiner
            .push(raw(1, Output::Stdout, false, &[0x80; 9]), &mut joined)
            .unwrap();
        assert_eq!((line.content.len(), line.cut_bytes), (4, 5));
    }

    #[test]
    fn a_line_without_end_is_given_out_at_last() {
        let mut joiner = PartialJoiner::new(4);
        let mut joined = Vec::new();
        let piece = raw(1, Output::Stdout, true, b"never");
        assert_eq!(joiner.push(piece, &mut joined), None);
        let line = joiner.push_cut(piece, MAX_OPEN_BYTES, &mut joined).unwrap();
        assert_eq!(
            (line.content, line.cut_bytes),
            (&b"neve"[..], MAX_OPEN_BYTES + 6)
        );
        assert!(!joiner.is_open());
    }

    #[test]
    fn flush_gives_out_what_is_open_oldest_first() {
        let mut joiner = PartialJoiner::new(9);
        let mut joined = Vec::new();
        joiner.push(raw(2, Output::Stderr, true, b"e"), &mut joined);
        joiner.push(raw(3, Output::Stdout, true, b"o"), &mut joined);
        assert_eq!(
            joiner.flush(&mut joined).map(|line| line.content),
            Some(&b"e"[..])
        );
        assert_eq!(
            joiner.flush(&mut joined).map(|line| line.content),
            Some(&b"o"[..])
        );
        assert_eq!(joiner.flush(&mut joined), None);
        assert!(!joiner.is_open());
    }

    proptest! {
        /// Joining is concatenation per output, cut at the bound.
        #[test]
        fn joined_lines_are_the_pieces_in_a_row(
            pieces in proptest::collection::vec((any::<bool>(), any::<bool>(), "[a-z]{0,9}"), 0..40), max in 0usize..20) {
            let mut joiner = PartialJoiner::new(max);
            let mut open: [Option<String>; 2] = [None, None];
            let mut joined = Vec::new();
            for (is_stderr, is_partial, text) in &pieces {
                let output = if *is_stderr { Output::Stderr } else { Output::Stdout };
                let expected = {
                    let slot = &mut open[usize::from(*is_stderr)];
                    slot.get_or_insert_default().push_str(text);
                    if *is_partial { None } else { slot.take() }
                };
                let got = joiner.push(raw(0, output, *is_partial, text.as_bytes()), &mut joined);
                prop_assert_eq!(got.map(|line| (line.content.to_vec(), line.cut_bytes)), expected.map(|text| {
                    let kept = text.len().min(max);
                    (text.as_bytes()[..kept].to_vec(), (text.len() - kept) as u64)
                }));
                prop_assert_eq!(joiner.is_open(), open.iter().any(Option::is_some));
            }
        }
    }
}
