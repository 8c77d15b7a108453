//! A file of the log: its name, its header, and the head of each record. The layout is `docs/formats/wal-v1.md`.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// The first bytes of every file of ours.
pub(super) const MAGIC: [u8; 8] = *b"TAWNYWAL";

/// The layout this code writes; a change of it needs a fixture of the old one.
pub(super) const FORMAT: u32 = 1;

/// Numbers are versions of Delta transactions too, which are signed.
pub(super) const MAX_SEQ: u64 = i64::MAX.unsigned_abs();

/// Longest body of a record: far more than a transaction gathers, and a bound on what a reader holds.
pub(super) const MAX_BODY_BYTES: usize = 1 << 30;

/// Digits of the first sequence number in a file's name: all of a `u64`, so that the order of names is that of numbers.
const NAME_DIGITS: usize = 20;

const SUFFIX: &str = ".wal";

pub(super) fn path(directory: &Path, first_seq: u64) -> PathBuf {
    directory.join(format!("{first_seq:0NAME_DIGITS$}{SUFFIX}"))
}

/// Where the damaged bytes at `offset` of a file are kept.
pub(super) fn damaged_path(directory: &Path, first_seq: u64, offset: u64) -> PathBuf {
    directory.join(format!("{first_seq:0NAME_DIGITS$}-{offset}.damaged"))
}

/// What the name of a file in the directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    First(u64),
    /// Ends like a file of the log but is named otherwise.
    Strange,
    Other,
}

pub(super) fn named(name: &str) -> Named {
    let Some(digits) = name.strip_suffix(SUFFIX) else {
        return Named::Other;
    };
    let is_number = digits.len() == NAME_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(first_seq) if is_number => Named::First(first_seq),
        _ => Named::Strange,
    }
}

/// Opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) first_seq: u64,
    /// The last number that was durable when the file was begun: records before this file that are numbered higher were
    /// never acknowledged and are void.
    pub(super) committed: u64,
}

pub(super) const HEADER_BYTES: usize = 32;

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.committed.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` for bytes that are no whole header.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (covered, crc) = checked(bytes.get(..HEADER_BYTES)?)?;
        if covered.get(..8)? != MAGIC || crc != crc32c::crc32c(covered) {
            return None;
        }
        Some(Self {
            version: u32::from_le_bytes(field(covered, 8)?),
            first_seq: u64::from_le_bytes(field(covered, 12)?),
            committed: u64::from_le_bytes(field(covered, 20)?),
        })
    }
}

/// Whether a file whose header does not hold may still be one of ours that was being created: nothing, zeros or part of
/// the magic where the magic should be.
pub(super) fn may_be_unfinished(start: &[u8]) -> bool {
    start
        .iter()
        .zip(MAGIC)
        .all(|(byte, magic)| *byte == magic || *byte == 0)
}

/// Stands before the body of each record, with a checksum of its own: a reader trusts the length before it reads the
/// body, and finds the next record by it when the body is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub(super) body_len: u32,
    pub(super) body_crc: u32,
    pub(super) seq: u64,
    /// The last number that was durable when this record was written: tells records of one commit from those that
    /// prove it was acknowledged.
    pub(super) committed: u64,
}

pub(super) const RECORD_HEAD_BYTES: usize = 28;

impl RecordHead {
    pub(super) fn to_bytes(self, seed: Seed) -> [u8; RECORD_HEAD_BYTES] {
        let mut bytes = [0; RECORD_HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.committed.to_le_bytes());
        let crc = seed.crc(&bytes[..24]);
        bytes[24..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` for bytes that are no whole head.
    pub(super) fn parse(bytes: &[u8], seed: Seed) -> Option<Self> {
        let (covered, crc) = checked(bytes.get(..RECORD_HEAD_BYTES)?)?;
        let head = Self::parse_unchecked(covered)?;
        (crc == seed.crc(covered)).then_some(head)
    }

    fn parse_unchecked(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            body_len: u32::from_le_bytes(field(bytes, 0)?),
            body_crc: u32::from_le_bytes(field(bytes, 4)?),
            seq: u64::from_le_bytes(field(bytes, 8)?),
            committed: u64::from_le_bytes(field(bytes, 16)?),
        })
    }

    /// Head and body.
    pub(super) fn len_bytes(self) -> u64 {
        RECORD_HEAD_BYTES as u64 + u64::from(self.body_len)
    }
}

/// Begins the checksums of a file's records, so that a record of another file, or one that was logged as text, does not
/// hold in this one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed(u32);

impl Seed {
    pub(super) fn of(first_seq: u64) -> Self {
        Self(crc32c::crc32c(&first_seq.to_le_bytes()))
    }

    pub(super) fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// Splits off the checksum at the end.
fn checked(bytes: &[u8]) -> Option<(&[u8], u32)> {
    let (covered, crc) = bytes.split_last_chunk()?;
    Some((covered, u32::from_le_bytes(*crc)))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Reads a file piece by piece.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    len_bytes: u64,
    seed: Seed,
    window: Vec<u8>,
    window_start: u64,
}

/// Read at once, unless a record is longer.
const WINDOW_BYTES: u64 = 256 << 10;

/// A record whose checksums hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) head: RecordHead,
}

impl Record {
    pub(super) fn end(self) -> u64 {
        self.offset + self.head.len_bytes()
    }
}

/// What lies at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Whole(Record),
    /// Only the head holds; the next record begins at `end`, if the file goes on so far.
    DamagedBody {
        end: u64,
    },
    Nothing,
}

impl Reader {
    pub(super) fn open(path: &Path, first_seq: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        Ok(Self {
            len_bytes: file.metadata()?.len(),
            file,
            seed: Seed::of(first_seq),
            window: Vec::new(),
            window_start: 0,
        })
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// From now on the file ends here.
    pub(super) fn end_at(&mut self, len_bytes: u64) {
        self.len_bytes = len_bytes;
        self.window.clear();
    }

    /// The bytes from `offset` on, fewer than `len` where the file ends.
    pub(super) fn bytes(&mut self, offset: u64, len: u64) -> io::Result<&[u8]> {
        let offset = offset.min(self.len_bytes);
        let end = offset.saturating_add(len).min(self.len_bytes);
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || end > window_end {
            let want = (end - offset)
                .max(WINDOW_BYTES)
                .min(self.len_bytes - offset);
            self.window.resize(in_memory(want)?, 0);
            self.window_start = offset;
            if let Err(source) = self.file.read_exact_at(&mut self.window, offset) {
                self.window.clear();
                return Err(source);
            }
        }
        let start = in_memory(offset - self.window_start)?;
        Ok(&self.window[start..start + in_memory(end - offset)?])
    }

    /// The body of a record that was found here.
    pub(super) fn body(&mut self, record: Record) -> io::Result<&[u8]> {
        self.bytes(
            record.offset + RECORD_HEAD_BYTES as u64,
            u64::from(record.head.body_len),
        )
    }

    /// The record that begins at `offset`, where a whole one does.
    pub(super) fn record_at(&mut self, offset: u64) -> io::Result<Option<Record>> {
        Ok(match self.look(offset)? {
            Found::Whole(record) => Some(record),
            Found::DamagedBody { .. } | Found::Nothing => None,
        })
    }

    fn look(&mut self, offset: u64) -> io::Result<Found> {
        let (len_bytes, seed) = (self.len_bytes, self.seed);
        let bytes = self.bytes(offset, RECORD_HEAD_BYTES as u64)?;
        let Some(head) = RecordHead::parse(bytes, seed) else {
            return Ok(Found::Nothing);
        };
        let record = Record { offset, head };
        if record.end() > len_bytes
            || head.body_len as usize > MAX_BODY_BYTES
            || seed.crc(self.body(record)?) != head.body_crc
        {
            return Ok(Found::DamagedBody { end: record.end() });
        }
        Ok(Found::Whole(record))
    }

    /// The first whole record at or after `offset` with a number in `(after, through]`.
    pub(super) fn find(
        &mut self,
        mut offset: u64,
        after: u64,
        through: u64,
    ) -> io::Result<Option<Record>> {
        let fits = |head: &RecordHead| {
            head.seq > after && head.seq <= through && head.committed < head.seq
        };
        while offset + RECORD_HEAD_BYTES as u64 <= self.len_bytes {
            match self.look(offset)? {
                Found::Whole(record) if fits(&record.head) => return Ok(Some(record)),
                // The length is to be trusted, and nothing begins inside of a record.
                Found::Whole(record) => offset = record.end(),
                Found::DamagedBody { end } => offset = end,
                Found::Nothing => offset = self.skip(offset + 1, fits)?,
            }
        }
        Ok(None)
    }

    /// The first offset from here on where the head of a record could be.
    fn skip(&mut self, offset: u64, fits: impl Fn(&RecordHead) -> bool) -> io::Result<u64> {
        let (len_bytes, seed) = (self.len_bytes, self.seed);
        let bytes = self.bytes(offset, WINDOW_BYTES)?;
        // The fields are compared first: that is cheaper than the checksum and nearly always enough.
        let found = bytes.windows(RECORD_HEAD_BYTES).position(|bytes| {
            RecordHead::parse_unchecked(bytes).is_some_and(|head| fits(&head))
                && RecordHead::parse(bytes, seed).is_some()
        });
        Ok(match found {
            Some(n) => offset + n as u64,
            // The last bytes may begin a head that ends behind them.
            None => {
                let n_seen = (bytes.len() + 1).saturating_sub(RECORD_HEAD_BYTES);
                if n_seen == 0 {
                    len_bytes
                } else {
                    offset + n_seen as u64
                }
            }
        })
    }
}

fn in_memory(len: u64) -> io::Result<usize> {
    usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_first_number_and_strangers_are_told_apart() {
        let path = path(Path::new("d"), 42);
        assert_eq!(path, Path::new("d/00000000000000000042.wal"));
        assert_eq!(named("00000000000000000042.wal"), Named::First(42));
        assert_eq!(named("18446744073709551615.wal"), Named::First(u64::MAX));
        for strange in [
            "42.wal",
            ".wal",
            "99999999999999999999.wal",
            "+0000000000000000042.wal",
        ] {
            assert_eq!(named(strange), Named::Strange, "{strange}");
        }
        assert_eq!(named("00000000000000000042-32.damaged"), Named::Other);
    }

    #[test]
    fn heads_read_back_and_hold_only_in_their_own_file() {
        let header = Header {
            version: FORMAT,
            first_seq: 7,
            committed: 5,
        };
        assert_eq!(Header::parse(&header.to_bytes()), Some(header));
        let head = RecordHead {
            body_len: 1,
            body_crc: 2,
            seq: 3,
            committed: 2,
        };
        let bytes = head.to_bytes(Seed::of(7));
        assert_eq!(RecordHead::parse(&bytes, Seed::of(7)), Some(head));
        assert_eq!(RecordHead::parse(&bytes, Seed::of(8)), None);
        for n_bytes in 0..RECORD_HEAD_BYTES {
            assert_eq!(RecordHead::parse(&bytes[..n_bytes], Seed::of(7)), None);
        }
    }
}
