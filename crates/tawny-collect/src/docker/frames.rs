//! The engine's log stream into lines: multiplexed frames, or raw bytes where the container has a terminal; pure.

use tawny_model::Output;

use crate::stamped::{LineBuffer, StampedLine};

/// Bytes before each frame (SX-25): output, three zeros, payload length as big-endian u32.
const HEADER_BYTES: usize = 8;

/// Bytes of a full piece of a long line in Docker's log drivers. Source: `defaultBufSize` in `daemon/logger/copier.go`.
const DOCKER_PIECE_BYTES: u64 = 16_384;

/// What a piece without a newline means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// Docker gathers a line until it is whole or fills a piece: a shorter one is the last of a run, and goes on nowhere.
    Full,
    /// Podman logs what was written so far, of any length.
    Any,
}

/// Takes a log stream apart, however its bytes are cut.
#[derive(Debug)]
pub(crate) struct LogDecoder {
    lines: LineBuffer,
    pieces: Pieces,
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    /// SX-26: a container with a terminal has one output and no frames.
    Raw,
    Header {
        bytes: [u8; HEADER_BYTES],
        len: usize,
    },
    Payload {
        output: Option<Output>,
        left: usize,
    },
}

/// What a stream is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Line {
        output: Output,
        /// The line goes on in the next of the same output.
        is_partial: bool,
        line: StampedLine<'a>,
    },
    /// The engine's own words about a failure.
    Failure(&'a [u8]),
}

/// The stream has a frame no engine writes; it cannot be told where the next one starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadFrame;

impl LogDecoder {
    pub(crate) fn new(has_terminal: bool, pieces: Pieces, max_line_bytes: usize) -> Self {
        let framing = if has_terminal {
            Framing::Raw
        } else {
            EMPTY_HEADER
        };
        Self {
            lines: LineBuffer::new(max_line_bytes),
            pieces,
            framing,
        }
    }

    /// Takes bytes and hands on each part that they complete.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(Part<'_>),
    ) -> Result<(), BadFrame> {
        while !bytes.is_empty() {
            match &mut self.framing {
                Framing::Raw => {
                    let (n_taken, is_whole) = self.lines.take(bytes);
                    bytes = &bytes[n_taken..];
                    if is_whole {
                        self.raw_line(true, &mut each);
                    }
                }
                Framing::Header { bytes: header, len } => {
                    let n_taken = (HEADER_BYTES - *len).min(bytes.len());
                    header[*len..*len + n_taken].copy_from_slice(&bytes[..n_taken]);
                    *len += n_taken;
                    bytes = &bytes[n_taken..];
                    if *len == HEADER_BYTES {
                        self.framing = payload(*header)?;
                    }
                }
                Framing::Payload { output, left } => {
                    let (n_taken, is_whole) = self.lines.take(&bytes[..bytes.len().min(*left)]);
                    bytes = &bytes[n_taken..];
                    *left -= n_taken;
                    let (output, is_over) = (*output, *left == 0);
                    if is_whole || is_over {
                        let line = self.lines.line(false, is_whole);
                        let is_partial = !is_whole
                            && (self.pieces == Pieces::Any
                                || line.content.len() as u64 + line.cut_bytes
                                    >= DOCKER_PIECE_BYTES);
                        match output {
                            Some(output) => each(Part::Line {
                                output,
                                is_partial,
                                line,
                            }),
                            None => each(Part::Failure(line.content)),
                        }
                        self.lines.clear();
                    }
                    if is_over {
                        self.framing = EMPTY_HEADER;
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands on a last line without a newline, once a container with a terminal has ended.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(Part<'_>)) {
        if matches!(self.framing, Framing::Raw) && !self.lines.is_empty() {
            self.raw_line(false, &mut each);
        }
    }

    fn raw_line(&mut self, is_whole: bool, each: &mut impl FnMut(Part<'_>)) {
        let mut line = self.lines.line(true, is_whole);
        // A terminal ends lines with both.
        line.content = line.content.strip_suffix(b"\r").unwrap_or(line.content);
        each(Part::Line {
            output: Output::Stdout,
            is_partial: false,
            line,
        });
        self.lines.clear();
    }
}

const EMPTY_HEADER: Framing = Framing::Header {
    bytes: [0; HEADER_BYTES],
    len: 0,
};

fn payload(header: [u8; HEADER_BYTES]) -> Result<Framing, BadFrame> {
    let output = match header {
        // 0 is what a program reads, which engines send as if it were written.
        [0 | 1, 0, 0, 0, ..] => Some(Output::Stdout),
        [2, 0, 0, 0, ..] => Some(Output::Stderr),
        [3, 0, 0, 0, ..] => None,
        _ => return Err(BadFrame),
    };
    let [_, _, _, _, length @ ..] = header;
    let left = u32::from_be_bytes(length) as usize;
    Ok(if left == 0 {
        EMPTY_HEADER
    } else {
        Framing::Payload { output, left }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAMP: &str = "2016-10-06T00:17:09.669794202Z";

    fn frame(kind: u8, text: &str) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text.as_bytes());
        frame
    }

    fn decode(
        bytes: &[u8],
        chunk: usize,
        has_terminal: bool,
        pieces: Pieces,
    ) -> Result<Vec<String>, BadFrame> {
        let mut decoder = LogDecoder::new(has_terminal, pieces, 100_000);
        let mut parts = Vec::new();
        let mut keep = |part: Part<'_>| {
            parts.push(match part {
                Part::Line {
                    output,
                    is_partial,
                    line,
                } => format!(
                    "{output}{}{} {}",
                    if is_partial { "+" } else { "" },
                    if line.timestamp.is_some() { "" } else { "?" },
                    String::from_utf8_lossy(line.content)
                ),
                Part::Failure(text) => format!("failure {}", String::from_utf8_lossy(text)),
            });
        };
        for chunk in bytes.chunks(chunk) {
            decoder.take(chunk, &mut keep)?;
        }
        decoder.finish(&mut keep);
        Ok(parts)
    }

    #[test]
    fn frames_become_lines_of_their_output() {
        let stream = [
            frame(1, &format!("{STAMP} out\n")),
            frame(2, &format!("{STAMP} err\n")),
            frame(1, ""),
            frame(1, &format!("{STAMP} first piece ")),
            frame(1, &format!("{STAMP} last piece\n")),
            frame(3, "Error grabbing logs\n"),
        ]
        .concat();
        for chunk in [1, 3, 1000] {
            assert_eq!(
                decode(&stream, chunk, false, Pieces::Any).unwrap(),
                [
                    "stdout out",
                    "stderr err",
                    "stdout+ first piece ",
                    "stdout last piece",
                    "failure Error grabbing logs"
                ]
            );
        }
    }

    #[test]
    fn last_words_without_a_newline_do_not_run_into_the_next_run_of_docker() {
        let long = "x".repeat(16_384);
        let stream = [
            frame(1, &format!("{STAMP} dying")),
            frame(1, &format!("{STAMP} start\n")),
            frame(1, &format!("{STAMP} {long}")),
            frame(1, &format!("{STAMP} rest\n")),
        ]
        .concat();
        let expected = [
            "stdout dying",
            "stdout start",
            &format!("stdout+ {long}"),
            "stdout rest",
        ];
        assert_eq!(decode(&stream, 100, false, Pieces::Full).unwrap(), expected);
    }

    #[test]
    fn terminal_stream_has_no_frames() {
        // SX-26
        let long = "x".repeat(16_384);
        let stream = format!("{STAMP} hello\r\n{STAMP} {long}{STAMP} rest\r\n{STAMP} open");
        assert_eq!(
            decode(stream.as_bytes(), 7, true, Pieces::Full).unwrap(),
            [
                "stdout hello".to_owned(),
                format!("stdout {long}rest"),
                "stdout open".to_owned()
            ]
        );
    }

    #[test]
    fn unknown_frame_is_refused() {
        assert_eq!(
            decode(&frame(7, "x"), 100, false, Pieces::Full),
            Err(BadFrame)
        );
        assert_eq!(
            decode(b"2016-10-06T00:17:09Z raw", 100, false, Pieces::Full),
            Err(BadFrame)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), chunk in 1usize..40, has_terminal: bool) {
            let whole = decode(&bytes, 1000, has_terminal, Pieces::Full);
            prop_assert_eq!(decode(&bytes, chunk, has_terminal, Pieces::Full), whole);
        }
    }
}
