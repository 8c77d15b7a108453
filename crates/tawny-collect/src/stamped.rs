//! Bytes of a log answer into lines, each with the time put before it; pure. `pods/log` and the engines write them alike.

use tawny_model::Timestamp;

/// Room for the time before a line: nine fraction digits, an offset and the space.
const MAX_STAMP_BYTES: usize = 36;

/// Sizes of the pieces runtimes cut long lines into: containerd and dockershim, then CRI-O's conmon.
const PIECE_BYTES: [usize; 2] = [16_384, 8_192];

/// Gathers the bytes of one line across reads; keeps at most the head of a long one.
#[derive(Debug)]
pub(crate) struct LineBuffer {
    line: Vec<u8>,
    /// Length of the line so far, kept or not.
    len_bytes: u64,
    max_bytes: usize,
}

/// A line as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StampedLine<'a> {
    /// `None`: it does not start with a time.
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) content: &'a [u8],
    pub(crate) cut_bytes: u64,
    /// With time and newline.
    pub(crate) len_bytes: u64,
}

impl LineBuffer {
    /// Keeps `max_bytes` of what a line says.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            line: Vec::new(),
            len_bytes: 0,
            max_bytes,
        }
    }

    /// Takes bytes up to the first newline: how many, and whether they complete the line. Ask for it with
    /// [`LineBuffer::line`], then [`LineBuffer::clear`].
    pub(crate) fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let newline = memchr::memchr(b'\n', bytes);
        let part = &bytes[..newline.unwrap_or(bytes.len())];
        let n_taken = part.len() + usize::from(newline.is_some());
        let room = (self.max_bytes + MAX_STAMP_BYTES).saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.len_bytes += n_taken as u64;
        (n_taken, newline.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// Forgets the line. A buffer grown by a long line is given back.
    pub(crate) fn clear(&mut self) {
        self.line.clear();
        self.line.shrink_to(PIECE_BYTES[0]);
        self.len_bytes = 0;
    }

    /// The line gathered; `is_whole` says a newline ended it. With `mends`, times before later pieces of a long line are
    /// taken out, which kubelets before 1.26 put there (<https://github.com/kubernetes/kubernetes/issues/77603>) and
    /// engines for containers with a terminal.
    pub(crate) fn line(&mut self, mends: bool, is_whole: bool) -> StampedLine<'_> {
        let len_bytes = self.len_bytes;
        let stamp = split_stamp(&self.line);
        let timestamp = stamp.map(|(timestamp, _)| timestamp);
        let stamp_len = stamp.map_or(0, |(_, len)| len);
        let mended_bytes = match timestamp {
            Some(timestamp) if mends => mend(&mut self.line, stamp_len, timestamp),
            _ => 0,
        };
        let content = &self.line[stamp_len..];
        let content = &content[..content.len().min(self.max_bytes)];
        let whole_bytes = len_bytes - u64::from(is_whole) - stamp_len as u64 - mended_bytes as u64;
        StampedLine {
            timestamp,
            cut_bytes: whole_bytes - content.len() as u64,
            content,
            len_bytes,
        }
    }
}

/// The time a line starts with, and its length with the space behind it.
fn split_stamp(line: &[u8]) -> Option<(Timestamp, usize)> {
    let head = &line[..line.len().min(MAX_STAMP_BYTES)];
    let space = memchr::memchr(b' ', head).or_else(|| {
        // An empty line: the time alone, without the space where something trimmed it.
        (head.len() == line.len()).then_some(head.len())
    })?;
    let timestamp = Timestamp::parse_rfc3339(&head[..space])?;
    Some((timestamp, (space + 1).min(line.len())))
}

/// Takes out the times between the pieces of a line whose content starts at `start`; answers how many bytes they took.
///
/// A time counts as one only exactly behind a full piece and not before the line's own, so that text which merely looks
/// like one stays.
fn mend(line: &mut Vec<u8>, start: usize, first: Timestamp) -> usize {
    let len_before = line.len();
    let mut at = start;
    while let Some((piece_end, stamp_len)) = PIECE_BYTES.iter().find_map(|piece| {
        let end = at + piece;
        let (timestamp, stamp_len) = split_stamp(line.get(end..)?)?;
        (timestamp >= first && line[end + stamp_len - 1] == b' ').then_some((end, stamp_len))
    }) {
        line.drain(piece_end..piece_end + stamp_len);
        at = piece_end;
    }
    len_before - line.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAMP: &str = "2016-10-06T00:17:09.669794202Z";

    fn split(
        bytes: &[u8],
        chunk: usize,
        max_bytes: usize,
        mends: bool,
    ) -> Vec<(Option<i64>, Vec<u8>, u64, u64)> {
        let mut buffer = LineBuffer::new(max_bytes);
        let mut lines = Vec::new();
        let mut keep = |line: StampedLine<'_>| {
            lines.push((
                line.timestamp.map(Timestamp::as_nanos),
                line.content.to_vec(),
                line.cut_bytes,
                line.len_bytes,
            ));
        };
        for mut part in bytes.chunks(chunk) {
            while !part.is_empty() {
                let (n_taken, is_whole) = buffer.take(part);
                part = &part[n_taken..];
                if is_whole {
                    keep(buffer.line(mends, true));
                    buffer.clear();
                }
            }
        }
        if !buffer.is_empty() {
            keep(buffer.line(mends, false));
        }
        lines
    }

    #[test]
    fn lines_carry_their_time_and_their_length_on_the_wire() {
        let text = format!("{STAMP} hello\n{STAMP} \nno time here\n{STAMP} cut off");
        let nanos = Some(1_475_713_029_669_794_202);
        for chunk in [1, 7, 1000] {
            assert_eq!(
                split(text.as_bytes(), chunk, 100, true),
                [
                    (nanos, b"hello".to_vec(), 0, 37),
                    (nanos, b"".to_vec(), 0, 32),
                    (None, b"no time here".to_vec(), 0, 13),
                    (nanos, b"cut off".to_vec(), 0, 38),
                ]
            );
        }
    }

    #[test]
    fn long_line_keeps_its_head_and_counts_the_rest() {
        let text = format!("{STAMP} {}\n{STAMP} next\n", "x".repeat(1000));
        let lines = split(text.as_bytes(), 64, 100, false);
        assert_eq!((lines[0].1.len(), lines[0].2, lines[0].3), (100, 900, 1032));
        assert_eq!(lines[1].1, b"next");
    }

    #[test]
    fn times_between_pieces_are_taken_out() {
        // As Kubernetes 1.20 sends a line of 40,000 bytes.
        for piece in PIECE_BYTES {
            let body: String = ('a'..='z').cycle().take(40_000).collect();
            let pieces: Vec<String> = body
                .as_bytes()
                .chunks(piece)
                .map(|piece| format!("{STAMP} {}", std::str::from_utf8(piece).unwrap()))
                .collect();
            let text = format!("{}\n", pieces.concat());
            let lines = split(text.as_bytes(), 4096, 1 << 20, true);
            assert_eq!(lines.len(), 1);
            assert_eq!(
                (lines[0].1.as_slice(), lines[0].2),
                (body.as_bytes(), 0),
                "{piece}"
            );
            assert_ne!(
                split(text.as_bytes(), 4096, 1 << 20, false)[0].1,
                body.as_bytes()
            );
        }
    }

    #[test]
    fn text_that_looks_like_a_time_stays_where_it_is_none() {
        let inner = format!("{}{STAMP} {}", "x".repeat(100), "y".repeat(40));
        let earlier = format!("{}2015-10-06T00:17:09Z later", "x".repeat(PIECE_BYTES[0]));
        for content in [inner, earlier] {
            let lines = split(
                format!("{STAMP} {content}\n").as_bytes(),
                1000,
                1 << 20,
                true,
            );
            assert_eq!(lines[0].1, content.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_counted(bytes in proptest::collection::vec(any::<u8>(), 0..300), chunk in 1usize..50, max in 0usize..60, mends: bool) {
            let lines = split(&bytes, chunk, max, mends);
            prop_assert_eq!(lines.iter().map(|line| line.3).sum::<u64>(), bytes.len() as u64);
        }
    }
}
