//! Batches as `tawny.v1` carries them: by column, so that a row costs no message of its own.
//!
//! Decoding trusts nothing: every length and index is checked before it is used, and no count allocates ahead of data.

use std::sync::Arc;

use bytes::Bytes;
use tawny_model::{
    Batch, Entries, EntriesFull, Output, Position, Remedy, ResumeMark, Severity, Stream, StreamEnd,
    StreamId, Timestamp, Workload, WriterId,
};

use crate::proto::tawny as pb;

/// What is wrong with a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("`{field}` is missing")]
    Missing { field: &'static str },
    #[error("`{column}` has {found} values where {wanted} are needed")]
    Count {
        column: &'static str,
        found: usize,
        wanted: u64,
    },
    #[error("lengths of `{column}` do not add up to its {n_bytes} bytes")]
    Lengths {
        column: &'static str,
        n_bytes: usize,
    },
    #[error("`{column}` is not UTF-8, or a length cuts a character")]
    NotUtf8 { column: &'static str },
    #[error("row {row_idx} has kind {kind:#04x}")]
    Kind { row_idx: usize, kind: u8 },
    #[error("attribute key {key_idx} of {n_keys} does not exist")]
    Key { key_idx: u32, n_keys: usize },
    #[error("row {row_idx} ends outside of [{start}, {end})")]
    Position {
        row_idx: usize,
        start: Position,
        end: Position,
    },
    #[error("batch ends at {end}, before its start {start}")]
    Reversed { start: Position, end: Position },
    #[error("row {row_idx}: {source}")]
    Full { row_idx: usize, source: EntriesFull },
}

impl Error {
    /// A malformed batch stays malformed.
    pub fn remedy(&self) -> Remedy {
        Remedy::Reject
    }
}

/// Set in a row's kind when it was written to stderr; the low 4 bits are the severity.
const STDERR: u8 = 0x10;

/// A batch in its wire form. The writer travels beside it, once per request.
pub fn encode(batch: &Batch) -> pb::Batch {
    let entries = &batch.entries;
    let n_rows = entries.len();
    let mut timestamp_deltas_nanos = Vec::with_capacity(n_rows);
    let mut end_deltas = Vec::with_capacity(n_rows);
    let mut kinds = Vec::with_capacity(n_rows);
    let mut message_lens = Vec::with_capacity(n_rows);
    let mut messages = Vec::with_capacity(entries.text_bytes());
    let mut attribute_counts = Vec::with_capacity(n_rows);
    let mut attribute_key_idxs = Vec::new();
    let mut attribute_value_lens = Vec::new();
    let mut attribute_values = Vec::new();
    let mut timestamp = 0i64;
    let mut end = batch.start;
    for row in entries.iter() {
        // Wrapping, so that any two times have a difference; decoding wraps back.
        timestamp_deltas_nanos.push(row.timestamp().as_nanos().wrapping_sub(timestamp));
        timestamp = row.timestamp().as_nanos();
        end_deltas.push(row.end().bytes_since(end));
        end = row.end();
        kinds.push(
            row.severity().number()
                | match row.output() {
                    Output::Stdout => 0,
                    Output::Stderr => STDERR,
                },
        );
        message_lens.push(len_u32(row.message()));
        messages.extend_from_slice(row.message().as_bytes());
        let attributes = row.keyed_attributes();
        attribute_counts.push(u32::try_from(attributes.len()).expect("a row counts in 16 bits"));
        for (key_idx, value) in attributes {
            attribute_key_idxs.push(key_idx);
            attribute_value_lens.push(len_u32(value));
            attribute_values.extend_from_slice(value.as_bytes());
        }
    }
    pb::Batch {
        stream: Some(pb::Stream::from(&*batch.stream)),
        start: batch.start.0,
        end: batch.end.0,
        end_mark: Some(batch.end_mark.into()),
        timestamp_deltas_nanos,
        end_deltas,
        kinds: kinds.into(),
        message_lens,
        messages: messages.into(),
        attribute_keys: entries.keys().to_vec(),
        attribute_counts,
        attribute_key_idxs,
        attribute_value_lens,
        attribute_values: attribute_values.into(),
    }
}

fn len_u32(text: &str) -> u32 {
    u32::try_from(text.len()).expect("an arena holds at most 4 GiB of text")
}

/// The batch of a wire message that came from `writer`.
///
/// # Errors
/// All `Reject`: columns that disagree, text that is not UTF-8, rows outside of the batch.
pub fn decode(batch: pb::Batch, writer: WriterId) -> Result<Batch, Error> {
    let pb::Batch {
        stream,
        start,
        end,
        end_mark,
        timestamp_deltas_nanos,
        end_deltas,
        kinds,
        message_lens,
        messages,
        attribute_keys,
        attribute_counts,
        attribute_key_idxs,
        attribute_value_lens,
        attribute_values,
    } = batch;
    let stream = Stream::try_from(stream.ok_or(Error::Missing { field: "stream" })?)?;
    let (start, end) = (Position(start), Position(end));
    if end < start {
        return Err(Error::Reversed { start, end });
    }
    let n_rows = kinds.len() as u64;
    let n_attributes = attribute_counts.iter().map(|count| u64::from(*count)).sum();
    for (column, found, wanted) in [
        (
            "timestamp_deltas_nanos",
            timestamp_deltas_nanos.len(),
            n_rows,
        ),
        ("end_deltas", end_deltas.len(), n_rows),
        ("message_lens", message_lens.len(), n_rows),
        ("attribute_counts", attribute_counts.len(), n_rows),
        ("attribute_key_idxs", attribute_key_idxs.len(), n_attributes),
        (
            "attribute_value_lens",
            attribute_value_lens.len(),
            n_attributes,
        ),
    ] {
        if found as u64 != wanted {
            return Err(Error::Count {
                column,
                found,
                wanted,
            });
        }
    }
    let mut messages = Texts::new("messages", &messages, &message_lens)?;
    let mut values = Texts::new("attribute_values", &attribute_values, &attribute_value_lens)?;
    if let Some(key_idx) = attribute_key_idxs
        .iter()
        .find(|idx| **idx as usize >= attribute_keys.len())
    {
        return Err(Error::Key {
            key_idx: *key_idx,
            n_keys: attribute_keys.len(),
        });
    }

    let mut entries = Entries::default();
    let mut attributes = Vec::new();
    let mut key_idxs = attribute_key_idxs.iter();
    let mut timestamp = 0i64;
    let mut row_end = start;
    let columns = timestamp_deltas_nanos
        .iter()
        .zip(&end_deltas)
        .zip(&kinds)
        .zip(&attribute_counts)
        .enumerate();
    for (row_idx, (((timestamp_delta, end_delta), kind), n_attributes)) in columns {
        timestamp = timestamp.wrapping_add(*timestamp_delta);
        row_end = row_end
            .0
            .checked_add(*end_delta)
            .map(Position)
            .filter(|row_end| *row_end <= end)
            .ok_or(Error::Position {
                row_idx,
                start,
                end,
            })?;
        let (severity, output) = row_kind(*kind).ok_or(Error::Kind {
            row_idx,
            kind: *kind,
        })?;
        let message = messages.next()?;
        attributes.clear();
        for key_idx in key_idxs.by_ref().take(*n_attributes as usize) {
            attributes.push((attribute_keys[*key_idx as usize].as_str(), values.next()?));
        }
        entries
            .push(
                Timestamp::from_nanos(timestamp),
                severity,
                output,
                message,
                attributes.iter().copied(),
                row_end,
            )
            .map_err(|source| Error::Full { row_idx, source })?;
    }
    Ok(Batch {
        stream: Arc::new(stream),
        writer,
        start,
        end,
        end_mark: end_mark.map(ResumeMark::from).unwrap_or_default(),
        entries,
    })
}

fn row_kind(kind: u8) -> Option<(Severity, Output)> {
    let output = if kind & STDERR == 0 {
        Output::Stdout
    } else {
        Output::Stderr
    };
    Some((Severity::from_number(kind & !STDERR)?, output))
}

/// Texts lying one behind the other, handed out by their lengths.
struct Texts<'a> {
    column: &'static str,
    rest: &'a str,
    lens: std::slice::Iter<'a, u32>,
}

impl<'a> Texts<'a> {
    fn new(column: &'static str, bytes: &'a Bytes, lens: &'a [u32]) -> Result<Self, Error> {
        let sum: u64 = lens.iter().map(|len| u64::from(*len)).sum();
        if sum != bytes.len() as u64 {
            return Err(Error::Lengths {
                column,
                n_bytes: bytes.len(),
            });
        }
        let rest = std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8 { column })?;
        Ok(Self {
            column,
            rest,
            lens: lens.iter(),
        })
    }

    fn next(&mut self) -> Result<&'a str, Error> {
        let len = *self.lens.next().expect("counts were checked") as usize;
        let (text, rest) = self.rest.split_at_checked(len).ok_or(Error::NotUtf8 {
            column: self.column,
        })?;
        self.rest = rest;
        Ok(text)
    }
}

impl From<&StreamId> for pb::StreamId {
    fn from(id: &StreamId) -> Self {
        Self {
            cluster: id.cluster.as_ref().to_owned(),
            pod_uid: id.pod_uid.as_ref().to_owned(),
            container: id.container.as_ref().to_owned(),
            restart: id.restart,
        }
    }
}

impl TryFrom<pb::StreamId> for StreamId {
    type Error = Error;

    fn try_from(id: pb::StreamId) -> Result<Self, Error> {
        for (field, value) in [
            ("stream.id.pod_uid", &id.pod_uid),
            ("stream.id.container", &id.container),
        ] {
            if value.is_empty() {
                return Err(Error::Missing { field });
            }
        }
        Ok(Self {
            cluster: id.cluster.into(),
            pod_uid: id.pod_uid.into(),
            container: id.container.into(),
            restart: id.restart,
        })
    }
}

impl From<&Stream> for pb::Stream {
    fn from(stream: &Stream) -> Self {
        Self {
            id: Some((&stream.id).into()),
            namespace: stream.namespace.as_ref().to_owned(),
            pod: stream.pod.as_ref().to_owned(),
            node: stream.node.as_ref().to_owned(),
            image: stream.image.as_ref().to_owned(),
            workload: stream.workload.as_ref().map(|workload| pb::Workload {
                kind: workload.kind.as_ref().to_owned(),
                name: workload.name.as_ref().to_owned(),
            }),
            labels: stream
                .labels
                .iter()
                .map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned()))
                .collect(),
        }
    }
}

impl TryFrom<pb::Stream> for Stream {
    type Error = Error;

    fn try_from(stream: pb::Stream) -> Result<Self, Error> {
        Ok(Self {
            id: stream
                .id
                .ok_or(Error::Missing { field: "stream.id" })?
                .try_into()?,
            namespace: stream.namespace.into(),
            pod: stream.pod.into(),
            node: stream.node.into(),
            image: stream.image.into(),
            workload: stream.workload.map(|workload| Workload {
                kind: workload.kind.into(),
                name: workload.name.into(),
            }),
            labels: stream
                .labels
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        })
    }
}

impl From<ResumeMark> for pb::ResumeMark {
    fn from(mark: ResumeMark) -> Self {
        Self {
            timestamp_nanos: mark.timestamp.as_nanos(),
            n_lines: mark.n_lines,
        }
    }
}

impl From<pb::ResumeMark> for ResumeMark {
    fn from(mark: pb::ResumeMark) -> Self {
        Self {
            timestamp: Timestamp::from_nanos(mark.timestamp_nanos),
            n_lines: mark.n_lines,
        }
    }
}

impl From<StreamEnd> for pb::StreamEnd {
    fn from(end: StreamEnd) -> Self {
        Self {
            end: end.end.0,
            mark: Some(end.mark.into()),
        }
    }
}

impl From<pb::StreamEnd> for StreamEnd {
    fn from(end: pb::StreamEnd) -> Self {
        Self {
            end: Position(end.end),
            mark: end.mark.map(ResumeMark::from).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
