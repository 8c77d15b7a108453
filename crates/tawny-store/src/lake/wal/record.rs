//! What a record of the log says, in bytes: changes of one transaction. The layout is `docs/formats/wal-v1.md`.
//!
//! Encoding runs once per line on the writer's thread, so it copies text and allocates nothing per line.

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashMap;
use tawny_model::{
    Entries, EntryId, Output, Position, ResumeMark, Severity, Stream, StreamEnd, StreamId,
    Timestamp, Workload,
};

use crate::lake::rows::HotRows;

/// One change of a transaction, to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    /// The new ones of these rows, and how far their stream is stored now, where it has positions.
    Rows {
        rows: &'a HotRows,
        end: Option<StreamEnd>,
    },
    /// A stream is stored further without new rows.
    End {
        stream: &'a Arc<Stream>,
        end: StreamEnd,
    },
    /// The ends of these streams are forgotten.
    Forget { streams: &'a [StreamId] },
}

/// A [`Change`] read back.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are rows, and one is held at a time"
)]
#[derive(Debug)]
pub(crate) enum Replayed {
    /// All rows are new; their positions are not kept and read as zero.
    Rows {
        rows: HotRows,
        end: Option<StreamEnd>,
    },
    End {
        stream: Arc<Stream>,
        end: StreamEnd,
    },
    Forget {
        streams: Vec<StreamId>,
    },
}

const ROWS: u8 = 1;
const END: u8 = 2;
const FORGET: u8 = 3;

/// Bytes a stream may write for each byte of its description before it is described again. So descriptions are at most
/// a 64th of a file, and a damaged one costs its stream no more than the rows up to the next.
const BYTES_PER_DESCRIPTION_BYTE: usize = 64;

/// Streams described in the file being written, by their number.
#[derive(Debug, Default)]
pub(super) struct Described {
    streams: FxHashMap<StreamId, Known>,
    next_number: u64,
}

#[derive(Debug)]
struct Known {
    number: u64,
    stream: Arc<Stream>,
    /// The record that described it last.
    seq: u64,
    /// Bytes until it is described again.
    left_bytes: usize,
}

impl Described {
    /// Appends the changes of record `seq` to `out`.
    pub(super) fn encode(&mut self, seq: u64, changes: &[Change<'_>], out: &mut Vec<u8>) {
        for change in changes {
            let start = out.len();
            out.extend_from_slice(&[0; CHANGE_HEAD_BYTES]);
            let tag = match change {
                Change::Rows { rows, end } => {
                    self.put_stream(seq, &rows.stream, out);
                    put_rows(rows, *end, out);
                    self.spend(&rows.stream.id, out.len() - start);
                    ROWS
                }
                Change::End { stream, end } => {
                    self.put_stream(seq, stream, out);
                    put_end(*end, out);
                    self.spend(&stream.id, out.len() - start);
                    END
                }
                Change::Forget { streams } => {
                    put_len(streams.len(), out);
                    for id in *streams {
                        put_id(id, out);
                    }
                    FORGET
                }
            };
            // A body that passes 4 GiB is over the limit of a record and thrown away by the caller.
            let len = u32::try_from(out.len() - start - CHANGE_HEAD_BYTES).unwrap_or(u32::MAX);
            out[start] = tag;
            out[start + 1..start + CHANGE_HEAD_BYTES].copy_from_slice(&len.to_le_bytes());
        }
    }

    /// Takes back what record `seq` described, for it will not be written.
    pub(super) fn forget(&mut self, seq: u64) {
        self.streams.retain(|_, known| known.seq != seq);
    }

    fn put_stream(&mut self, seq: u64, stream: &Arc<Stream>, out: &mut Vec<u8>) {
        let known = self.streams.get(&stream.id);
        if let Some(known) = known
            && known.left_bytes > 0
            && (Arc::ptr_eq(&known.stream, stream) || known.stream == *stream)
        {
            put_number(known.number << 1, out);
            return;
        }
        let number = known.map_or(self.next_number, |known| known.number);
        self.next_number = self.next_number.max(number + 1);
        put_number(number << 1 | 1, out);
        let start = out.len();
        put_description(stream, out);
        let known = Known {
            number,
            stream: Arc::clone(stream),
            seq,
            left_bytes: (out.len() - start) * BYTES_PER_DESCRIPTION_BYTE,
        };
        self.streams.insert(stream.id.clone(), known);
    }

    fn spend(&mut self, id: &StreamId, n_bytes: usize) {
        if let Some(known) = self.streams.get_mut(id) {
            known.left_bytes = known.left_bytes.saturating_sub(n_bytes);
        }
    }
}

/// Tag and length of a change.
const CHANGE_HEAD_BYTES: usize = 5;

fn put_rows(rows: &HotRows, end: Option<StreamEnd>, out: &mut Vec<u8>) {
    out.push(u8::from(end.is_some()));
    if let Some(end) = end {
        put_end(end, out);
    }
    let keys = rows.entries.keys();
    put_len(keys.len(), out);
    for key in keys {
        put_text(key, out);
    }
    put_len(rows.ids.len(), out);
    let (mut last_ns, mut last_offset) = (0, 0);
    for (idx, id) in rows.new.clone().zip(&rows.ids) {
        let row = rows.entries.get(idx).expect("a new row is one of the rows");
        let (timestamp, message) = (row.timestamp(), row.message());
        let attributes = row.keyed_attributes();
        let ns = timestamp.as_nanos();
        let offset = id.0.wrapping_sub(EntryId::first_at(timestamp).0);
        // Gathered on the stack: one append instead of five.
        let mut head = Small::default();
        head.put_signed(ns.wrapping_sub(last_ns));
        head.put_signed(offset.wrapping_sub(last_offset));
        head.put(row.severity() as u8 | (row.output() as u8) << OUTPUT_SHIFT);
        head.put_number(attributes.len() as u64);
        head.put_number(message.len() as u64);
        out.extend_from_slice(head.bytes());
        out.extend_from_slice(message.as_bytes());
        for (key, value) in attributes {
            let mut head = Small::default();
            head.put_number(u64::from(key));
            head.put_number(value.len() as u64);
            out.extend_from_slice(head.bytes());
            out.extend_from_slice(value.as_bytes());
        }
        (last_ns, last_offset) = (ns, offset);
    }
}

/// Severity below, output above.
const OUTPUT_SHIFT: u32 = 4;

fn put_end(end: StreamEnd, out: &mut Vec<u8>) {
    let mut small = Small::default();
    small.put_number(end.end.0);
    small.put_signed(end.mark.timestamp.as_nanos());
    small.put_number(u64::from(end.mark.n_lines));
    out.extend_from_slice(small.bytes());
}

fn put_description(stream: &Stream, out: &mut Vec<u8>) {
    put_id(&stream.id, out);
    for text in [&stream.namespace, &stream.pod, &stream.node, &stream.image] {
        put_text(text, out);
    }
    out.push(u8::from(stream.workload.is_some()));
    if let Some(workload) = &stream.workload {
        put_text(&workload.kind, out);
        put_text(&workload.name, out);
    }
    put_len(stream.labels.len(), out);
    for (key, value) in &stream.labels {
        put_text(key, out);
        put_text(value, out);
    }
}

fn put_id(id: &StreamId, out: &mut Vec<u8>) {
    for text in [&id.cluster, &id.pod_uid, &id.container] {
        put_text(text, out);
    }
    put_number(u64::from(id.restart), out);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_len(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    put_number(len as u64, out);
}

fn put_number(number: u64, out: &mut Vec<u8>) {
    let mut small = Small::default();
    small.put_number(number);
    out.extend_from_slice(small.bytes());
}

/// A few numbers on their way to the buffer: LEB128, signed ones in zigzag.
#[derive(Default)]
struct Small {
    // A row gathers the most: two numbers of up to 10 bytes, one of 1, one of 3, and one of 5.
    bytes: [u8; 32],
    len: usize,
}

impl Small {
    fn put(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "seven bits at a time are meant"
    )]
    fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put(number as u8 | 0x80);
            number >>= 7;
        }
        self.put(number as u8);
    }

    fn put_signed(&mut self, number: i64) {
        self.put_number(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Streams described so far in the file being read, by their number.
#[derive(Debug, Default)]
pub(super) struct Descriptions(FxHashMap<u64, Arc<Stream>>);

/// The changes of one record.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) changes: Vec<Replayed>,
    /// Changes of streams whose description was lost with a damaged record.
    pub(super) n_nameless: u64,
}

/// Why bytes that passed their checksum are no changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Descriptions {
    /// Reads the body of a record.
    pub(super) fn decode(&mut self, body: &[u8]) -> Result<Decoded, Malformed> {
        let mut body = Bytes(body);
        let mut decoded = Decoded::default();
        while !body.0.is_empty() {
            let tag = body.byte()?;
            let len = u32::from_le_bytes(body.array()?);
            let mut change = Bytes(body.take(u64::from(len))?);
            let replayed = match tag {
                ROWS => match self.stream(&mut change)? {
                    Some(stream) => Some(rows(stream, &mut change)?),
                    None => None,
                },
                END => match self.stream(&mut change)? {
                    Some(stream) => Some(Replayed::End {
                        stream,
                        end: change.end()?,
                    }),
                    None => None,
                },
                FORGET => Some(forgotten(&mut change)?),
                _ => return Err(Malformed("a change of unknown kind")),
            };
            match replayed {
                Some(_) if !change.0.is_empty() => {
                    return Err(Malformed("a change is longer than what it says"));
                }
                Some(replayed) => decoded.changes.push(replayed),
                None => decoded.n_nameless += 1,
            }
        }
        Ok(decoded)
    }

    /// `None` for a number that was never described.
    fn stream(&mut self, bytes: &mut Bytes<'_>) -> Result<Option<Arc<Stream>>, Malformed> {
        let number = bytes.number()?;
        if number & 1 == 1 {
            self.0.insert(number >> 1, Arc::new(description(bytes)?));
        }
        Ok(self.0.get(&(number >> 1)).map(Arc::clone))
    }
}

fn rows(stream: Arc<Stream>, bytes: &mut Bytes<'_>) -> Result<Replayed, Malformed> {
    let end = bytes.flag()?.then(|| bytes.end()).transpose()?;
    let n_keys = bytes.count(1)?;
    let mut keys = Vec::with_capacity(n_keys);
    for _ in 0..n_keys {
        keys.push(bytes.text()?);
    }
    let n_rows = bytes.count(MIN_ROW_BYTES)?;
    let mut entries = Entries::default();
    let mut ids = Vec::with_capacity(n_rows);
    let mut attributes = Vec::new();
    let (mut ns, mut offset) = (0i64, 0i64);
    for _ in 0..n_rows {
        ns = ns.wrapping_add(bytes.signed()?);
        offset = offset.wrapping_add(bytes.signed()?);
        let kind = bytes.byte()?;
        let severity = Severity::from_number(kind & ((1 << OUTPUT_SHIFT) - 1))
            .ok_or(Malformed("a severity out of range"))?;
        let output = match kind >> OUTPUT_SHIFT {
            0 => Output::Stdout,
            1 => Output::Stderr,
            _ => return Err(Malformed("an output out of range")),
        };
        let n_attributes = bytes.count(MIN_ATTRIBUTE_BYTES)?;
        let message = bytes.text()?;
        attributes.clear();
        for _ in 0..n_attributes {
            let key = usize::try_from(bytes.number()?)
                .ok()
                .and_then(|key| keys.get(key))
                .ok_or(Malformed("an attribute without a key"))?;
            attributes.push((*key, bytes.text()?));
        }
        let timestamp = Timestamp::from_nanos(ns);
        entries
            .push(
                timestamp,
                severity,
                output,
                message,
                attributes.iter().copied(),
                Position::ZERO,
            )
            .map_err(|_| Malformed("more than a batch holds"))?;
        ids.push(EntryId(EntryId::first_at(timestamp).0.wrapping_add(offset)));
    }
    let new = 0..entries.len();
    Ok(Replayed::Rows {
        rows: HotRows::new(stream, entries, new, ids),
        end,
    })
}

/// Two numbers, a byte, two numbers.
const MIN_ROW_BYTES: usize = 5;
const MIN_ATTRIBUTE_BYTES: usize = 2;
/// Three texts and a number.
const MIN_ID_BYTES: usize = 4;

fn forgotten(bytes: &mut Bytes<'_>) -> Result<Replayed, Malformed> {
    let n_streams = bytes.count(MIN_ID_BYTES)?;
    let streams = (0..n_streams)
        .map(|_| bytes.id())
        .collect::<Result<_, _>>()?;
    Ok(Replayed::Forget { streams })
}

fn description(bytes: &mut Bytes<'_>) -> Result<Stream, Malformed> {
    let mut stream = Stream::new(bytes.id()?, bytes.text()?, bytes.text()?);
    stream.node = bytes.text()?.into();
    stream.image = bytes.text()?.into();
    if bytes.flag()? {
        stream.workload = Some(Workload {
            kind: bytes.text()?.into(),
            name: bytes.text()?.into(),
        });
    }
    let n_labels = bytes.count(2)?;
    let mut labels = BTreeMap::new();
    for _ in 0..n_labels {
        labels.insert(bytes.text()?.into(), bytes.text()?.into());
    }
    stream.labels = labels;
    Ok(stream)
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = usize::try_from(len)
            .ok()
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or(ENDS_EARLY)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(ENDS_EARLY)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("neither yes nor no")),
        }
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("a number of more than 64 bits"))
    }

    fn signed(&mut self) -> Result<i64, Malformed> {
        let number = self.number()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// How many items of at least `min_bytes` follow; no more than there is room for, so it is safe to reserve.
    fn count(&mut self, min_bytes: usize) -> Result<usize, Malformed> {
        usize::try_from(self.number()?)
            .ok()
            .filter(|n| *n <= self.0.len() / min_bytes)
            .ok_or(ENDS_EARLY)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.number()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn id(&mut self) -> Result<StreamId, Malformed> {
        Ok(StreamId {
            cluster: self.text()?.into(),
            pod_uid: self.text()?.into(),
            container: self.text()?.into(),
            restart: u32::try_from(self.number()?)
                .map_err(|_| Malformed("a restart out of range"))?,
        })
    }

    fn end(&mut self) -> Result<StreamEnd, Malformed> {
        Ok(StreamEnd {
            end: Position(self.number()?),
            mark: ResumeMark {
                timestamp: Timestamp::from_nanos(self.signed()?),
                n_lines: u32::try_from(self.number()?)
                    .map_err(|_| Malformed("a mark out of range"))?,
            },
        })
    }
}

const ENDS_EARLY: Malformed = Malformed("it ends early");
