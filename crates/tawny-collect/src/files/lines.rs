//! Reads physical lines out of plain and compressed files into one shared buffer; nothing is kept for an idle file.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read as _, Seek as _},
    ops::ControlFlow,
    os::unix::fs::FileExt as _,
};

use flate2::read::MultiGzDecoder;
use memchr::memchr_iter;

/// Size of the shared read buffer; also the most one stream is given at a turn.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// A line's time, output and tag, or docker's JSON around the text: kept on top of the length limit.
const HEADER_BYTES: usize = 256;

/// A file's uncompressed bytes.
#[derive(Debug)]
pub(super) enum Content {
    Plain(File),
    Gz(Box<GzContent>),
}

/// A compressed file, read front to back.
pub(super) struct GzContent {
    decoder: MultiGzDecoder<BufReader<File>>,
    /// Uncompressed offset of what the decoder gives next.
    at: u64,
    /// The bytes just before `at`, given back because their line is not whole yet.
    unread: Vec<u8>,
}

impl fmt::Debug for GzContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GzContent")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Content {
    pub(super) fn new(file: File, is_gz: bool) -> Self {
        if is_gz {
            Self::Gz(Box::new(GzContent {
                decoder: MultiGzDecoder::new(BufReader::new(file)),
                at: 0,
                unread: Vec::new(),
            }))
        } else {
            Self::Plain(file)
        }
    }

    fn file(&self) -> &File {
        match self {
            Self::Plain(file) => file,
            Self::Gz(gz) => gz.decoder.get_ref().get_ref(),
        }
    }

    pub(super) fn is_gz(&self) -> bool {
        matches!(self, Self::Gz(_))
    }

    /// The file's metadata, whatever its name is by now.
    pub(super) fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.file().metadata()
    }

    /// Reads at an uncompressed offset; 0 bytes at the end. Going back in a compressed file starts it anew.
    pub(super) fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => loop {
                match file.read_at(buf, offset) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => return result,
                }
            },
            Self::Gz(gz) => gz.read_at(buf, offset),
        }
    }

    /// Gives back the last bytes read.
    fn unread(&mut self, bytes: &[u8]) {
        if let Self::Gz(gz) = self {
            // What is left of bytes given back earlier follows these.
            gz.unread.splice(0..0, bytes.iter().copied());
        }
    }
}

impl GzContent {
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let unread_at = self.at - self.unread.len() as u64;
        if offset < unread_at {
            let mut file = self.decoder.get_ref().get_ref().try_clone()?;
            file.rewind()?;
            self.decoder = MultiGzDecoder::new(BufReader::new(file));
            self.at = 0;
            self.unread.clear();
        } else if offset < self.at {
            let skip = usize::try_from(offset - unread_at).expect("inside a buffer in memory");
            let given_back = &self.unread[skip..];
            let n = given_back.len().min(buf.len());
            buf[..n].copy_from_slice(&given_back[..n]);
            let n_left = given_back.len() - n;
            self.unread.drain(..self.unread.len() - n_left);
            return Ok(n);
        }
        self.unread.clear();
        while self.at < offset {
            let want = usize::try_from(offset - self.at)
                .unwrap_or(usize::MAX)
                .min(buf.len());
            match self.decoder.read(&mut buf[..want])? {
                0 => return Ok(0),
                n => self.at += n as u64,
            }
        }
        let n = self.decoder.read(buf)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// One line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Physical<'a> {
    /// Without the newline; of an over-long line the head.
    pub(super) bytes: &'a [u8],
    pub(super) cut_bytes: u64,
    /// Length in the file, newline and cut bytes included.
    pub(super) len_bytes: u64,
}

/// A place in a file between two reads.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Of the first byte not taken yet.
    pub(super) offset: u64,
    /// A line longer than the buffer, whose end is still to come; its bytes so far lie before `offset`.
    long: Option<Box<LongLine>>,
}

#[derive(Debug, Default)]
struct LongLine {
    head: Vec<u8>,
    len_bytes: u64,
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// There is nothing behind what was read, for now.
    AtEof,
    /// There may be more.
    MidFile,
}

impl Cursor {
    pub(super) fn at(offset: u64) -> Self {
        Self { offset, long: None }
    }

    /// Hands the lines from here on to `each`, until it breaks, about `limit_bytes` are read, or the file ends. A last
    /// line without newline is left where it is.
    pub(super) fn read_lines(
        &mut self,
        content: &mut Content,
        buf: &mut [u8],
        limit_bytes: usize,
        max_line_bytes: usize,
        mut each: impl FnMut(Physical<'_>) -> ControlFlow<()>,
    ) -> io::Result<Ended> {
        let first = self.offset;
        let mut n_filled = 0;
        let mut n_read = 0;
        loop {
            let room = buf.len() - n_filled;
            let n = content.read_at(&mut buf[n_filled..], self.offset + n_filled as u64)?;
            let old = n_filled;
            n_filled += n;
            n_read += n;
            let mut start = 0;
            for newline in memchr_iter(b'\n', &buf[old..n_filled]) {
                let end = old + newline;
                let flow = self.give(&buf[start..end], 1, max_line_bytes, &mut each);
                self.offset += (end + 1 - start) as u64;
                start = end + 1;
                if flow.is_break() {
                    content.unread(&buf[start..n_filled]);
                    return Ok(Ended::MidFile);
                }
            }
            if start == 0 && n_filled == buf.len() {
                self.absorb(&buf[..n_filled], max_line_bytes);
                self.offset += n_filled as u64;
                n_filled = 0;
            } else {
                buf.copy_within(start..n_filled, 0);
                n_filled -= start;
            }
            // A plain file gives less than was asked for only at its end; this saves the read that would say so.
            let is_eof = n == 0 || (n < room && !content.is_gz());
            // Never without progress, or a line longer than the limit would be begun for ever.
            if is_eof || (n_read >= limit_bytes && self.offset > first) {
                content.unread(&buf[..n_filled]);
                return Ok(if is_eof { Ended::AtEof } else { Ended::MidFile });
            }
        }
    }

    /// Hands on what is left at the end of a file that nobody writes to any more: a last line without newline.
    ///
    /// Answers false, and hands on nothing, when whole lines came after all.
    pub(super) fn read_rest(
        &mut self,
        content: &mut Content,
        buf: &mut [u8],
        max_line_bytes: usize,
        mut each: impl FnMut(Physical<'_>) -> ControlFlow<()>,
    ) -> io::Result<bool> {
        let n = content.read_at(buf, self.offset)?;
        if memchr::memchr(b'\n', &buf[..n]).is_some() {
            content.unread(&buf[..n]);
            return Ok(false);
        }
        if n > 0 || self.long.is_some() {
            // Nothing follows, so it does not matter whether more is wanted.
            let _flow = self.give(&buf[..n], 0, max_line_bytes, &mut each);
            self.offset += n as u64;
        }
        Ok(true)
    }

    fn give(
        &mut self,
        piece: &[u8],
        newline_bytes: u64,
        max_line_bytes: usize,
        each: &mut impl FnMut(Physical<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let len_bytes = piece.len() as u64 + newline_bytes;
        if self.long.is_none() {
            return each(Physical {
                bytes: piece,
                cut_bytes: 0,
                len_bytes,
            });
        }
        self.absorb(piece, max_line_bytes);
        let Some(long) = self.long.take() else {
            return ControlFlow::Continue(());
        };
        each(Physical {
            bytes: &long.head,
            cut_bytes: long.len_bytes - long.head.len() as u64,
            len_bytes: long.len_bytes + newline_bytes,
        })
    }

    fn absorb(&mut self, bytes: &[u8], max_line_bytes: usize) {
        let long = self.long.get_or_insert_default();
        let room = (max_line_bytes + HEADER_BYTES).saturating_sub(long.head.len());
        long.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        long.len_bytes += bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    type Given = (Vec<u8>, u64, u64);

    fn plain(bytes: &[u8]) -> Content {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Content::new(file, false)
    }

    fn gz(bytes: &[u8]) -> Content {
        let mut encoder = GzEncoder::new(tempfile::tempfile().unwrap(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        let mut file = encoder.finish().unwrap();
        file.rewind().unwrap();
        Content::new(file, true)
    }

    /// All lines, with turns of `limit` bytes and a buffer of `buf_len`.
    fn read_all(
        content: &mut Content,
        buf_len: usize,
        limit: usize,
        max_line: usize,
    ) -> (Vec<Given>, Cursor) {
        let mut cursor = Cursor::default();
        let mut buf = vec![0; buf_len];
        let mut lines = Vec::new();
        let mut each = |line: Physical<'_>| {
            lines.push((line.bytes.to_vec(), line.cut_bytes, line.len_bytes));
            ControlFlow::Continue(())
        };
        while cursor
            .read_lines(content, &mut buf, limit, max_line, &mut each)
            .unwrap()
            == Ended::MidFile
        {}
        assert!(
            cursor
                .read_rest(content, &mut buf, max_line, &mut each)
                .unwrap()
        );
        (lines, cursor)
    }

    proptest! {
        /// Whatever the buffer and the turns, plain or compressed: the lines are those between the newlines.
        #[test]
        fn lines_are_what_lies_between_newlines(
            lines in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'a'), Just(0), Just(0xff)], 0..40), 0..20),
            is_last_whole: bool, is_gz: bool, buf_len in 1usize..50, limit in 1usize..60) {
            let mut bytes = lines.join(&b'\n');
            if is_last_whole && !lines.is_empty() {
                bytes.push(b'\n');
            }
            let mut content = if is_gz { gz(&bytes) } else { plain(&bytes) };
            let (given, cursor) = read_all(&mut content, buf_len, limit, 1000);
            let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(given.iter().map(|line| line.0.clone()).collect::<Vec<_>>(), expected);
            prop_assert_eq!(given.iter().map(|line| line.2).sum::<u64>(), bytes.len() as u64);
            prop_assert!(given.iter().all(|line| line.1 == 0));
            prop_assert_eq!(cursor.offset, bytes.len() as u64);
        }
    }

    #[test]
    fn an_over_long_line_is_given_by_its_head_and_its_length() {
        let mut bytes = vec![b'x'; 1 << 20];
        bytes.extend_from_slice(b"\nnext\n");
        let (given, _) = read_all(&mut plain(&bytes), 4096, 4096, 1000);
        assert_eq!(given.len(), 2);
        assert_eq!(given[0].0.len(), 1000 + HEADER_BYTES);
        assert_eq!(given[0].0.len() as u64 + given[0].1, 1 << 20);
        assert_eq!(given[0].2, (1 << 20) + 1);
        assert_eq!(given[1], (b"next".to_vec(), 0, 5));
    }

    #[test]
    fn a_compressed_file_can_be_read_from_anywhere() {
        let bytes: Vec<u8> = (0u32..100_000).flat_map(u32::to_le_bytes).collect();
        let mut content = gz(&bytes);
        let mut buf = [0; 8];
        for offset in [4u64, 300_000, 8, 399_992, 0, 12] {
            let n = content.read_at(&mut buf, offset).unwrap();
            let at = usize::try_from(offset).unwrap();
            assert_eq!(&buf[..n], &bytes[at..at + n], "{offset}");
        }
        assert_eq!(content.read_at(&mut buf, 400_000).unwrap(), 0);
    }

    #[test]
    fn a_damaged_compressed_file_is_an_error_after_what_can_be_read() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let bytes: Vec<u8> = (0u32..50_000)
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect();
        encoder.write_all(&bytes).unwrap();
        let packed = encoder.finish().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&packed[..packed.len() / 2]).unwrap();
        file.rewind().unwrap();
        let mut content = Content::new(file, true);
        let mut cursor = Cursor::default();
        let mut n_lines = 0;
        let result = cursor.read_lines(&mut content, &mut [0; 4096], usize::MAX, 100, |_| {
            n_lines += 1;
            ControlFlow::Continue(())
        });
        assert!(result.is_err());
        assert!(n_lines > 1000, "{n_lines}");
    }
}
