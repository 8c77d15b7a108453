//! How streams, entries and their indexed words are laid down in columns, and read back.

use std::{collections::BTreeMap, fmt, fmt::Write as _, sync::Arc};

use rusqlite::{Row, types::ValueRef};
use rustc_hash::FxHashMap;
use serde::de::{Deserializer, MapAccess, Visitor};
use tawny_model::{
    EntryId, LogEntry, Output, Position, ResumeMark, Severity, Stream, StreamEnd, StreamId,
    Timestamp, Workload, entry::TIE_BITS,
};
use tawny_query::{fold_char, index_text, tokens};

/// Number of a stream in the `streams` table.
pub(super) type StreamRow = i64;

/// Streams by their number, as readers see them.
pub(super) type StreamMap = FxHashMap<StreamRow, Arc<Stream>>;

/// Opens a term that names a stream or severity. No word holds it: it is neither letter nor digit.
const MARK: char = '\u{80}';
/// Opens a word of an attribute value that is not in the message.
const ATTRIBUTE_MARK: char = '\u{81}';

/// The index term of a stream.
pub(super) fn stream_term(row: StreamRow) -> String {
    format!("{MARK}s{row}")
}

/// The index term of a severity; only these have one, the others being too common to be worth a posting.
pub(super) fn severity_term(severity: Severity) -> Option<&'static str> {
    match severity {
        Severity::Warn => Some("\u{80}w"),
        Severity::Error => Some("\u{80}e"),
        Severity::Fatal => Some("\u{80}f"),
        _ => None,
    }
}

/// The index term of a word of an attribute value where the message does not hold it.
pub(super) fn attribute_term(word: &str) -> String {
    format!("{ATTRIBUTE_MARK}{word}")
}

/// Writes into `text` what the full-text index is given for an entry; the tokenizer splits it at ASCII non-words.
pub(super) fn write_terms<'a>(
    text: &mut String,
    message: &str,
    attributes: impl Iterator<Item = (&'a str, &'a str)>,
    stream_term: &str,
    severity: Severity,
) {
    text.clear();
    // FTS5's `ascii` tokenizer folds and splits ASCII exactly as `tokens` does; all else is split here.
    let is_plain = message.bytes().all(|byte| byte.is_ascii() && byte != 0x1b);
    if is_plain {
        text.push_str(message);
    } else {
        text.push_str(&index_text(message));
    }
    for (_, value) in attributes {
        if is_plain && holds_words_of(message, value) {
            continue;
        }
        for word in tokens(value) {
            text.push(' ');
            text.push(ATTRIBUTE_MARK);
            text.extend(word.chars().map(fold_char));
        }
    }
    text.push(' ');
    text.push_str(stream_term);
    if let Some(term) = severity_term(severity) {
        text.push(' ');
        text.push_str(term);
    }
}

/// Whether `value` stands in `message` with no word running on at its ends, so that all its words are the message's.
fn holds_words_of(message: &str, value: &str) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|b| *b == b'_' || b.is_ascii_alphanumeric());
    let (message, value) = (message.as_bytes(), value.as_bytes());
    if value.is_empty() {
        return true;
    }
    memchr::memmem::find_iter(message, value)
        .take(4)
        .any(|start| {
            let before = start.checked_sub(1).and_then(|idx| message.get(idx));
            !is_word(before) && !is_word(message.get(start + value.len()))
        })
}

/// Writes attributes as a JSON object, in order; a repeated key is repeated.
pub(super) fn write_attributes<'a>(
    json: &mut String,
    attributes: impl Iterator<Item = (&'a str, &'a str)>,
) {
    json.clear();
    for (key, value) in attributes {
        json.push(if json.is_empty() { '{' } else { ',' });
        write_json_str(json, key);
        json.push(':');
        write_json_str(json, value);
    }
    if !json.is_empty() {
        json.push('}');
    }
}

fn write_json_str(json: &mut String, text: &str) {
    json.push('"');
    let needs_escape = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if !text.bytes().any(needs_escape) {
        json.push_str(text);
    } else {
        for c in text.chars() {
            match c {
                '"' => json.push_str("\\\""),
                '\\' => json.push_str("\\\\"),
                '\n' => json.push_str("\\n"),
                c if c < ' ' => {
                    write!(json, "\\u{:04x}", u32::from(c)).expect("a String takes everything");
                }
                c => json.push(c),
            }
        }
    }
    json.push('"');
}

/// Reads what [`write_attributes`] wrote, order and repeats kept.
pub(super) fn read_attributes(json: &str) -> Result<Vec<(String, String)>, serde_json::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    let mut json = serde_json::Deserializer::from_str(json);
    let pairs = json.deserialize_map(Pairs)?;
    json.end()?;
    Ok(pairs)
}

/// Whole microseconds of an id; the exact time of its entry is this and the `ns` column.
pub(super) fn id_micros(id: i64) -> i64 {
    id >> TIE_BITS
}

/// The `ns` column: nanoseconds from the id's microsecond to the entry's time, 0 to 999 unless the id had to move.
pub(super) fn ns_of(id: i64, timestamp: Timestamp) -> i64 {
    timestamp.as_nanos() - id_micros(id) * 1_000
}

pub(super) fn timestamp_of(id: i64, ns: i64) -> Timestamp {
    Timestamp::from_nanos((id_micros(id) * 1_000).saturating_add(ns))
}

/// Columns of an entry, in the order [`EntryRow::read`] expects.
pub(super) const ENTRY_COLUMNS: &str =
    "logs.id, logs.stream_id, logs.ns, logs.severity, logs.output, logs.message, logs.attributes";

/// One row of `logs`, borrowed from SQLite.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryRow<'r> {
    pub(super) id: i64,
    pub(super) stream_row: StreamRow,
    pub(super) timestamp: Timestamp,
    pub(super) severity: Severity,
    pub(super) output: Output,
    pub(super) message: &'r str,
    pub(super) attributes_json: Option<&'r str>,
}

impl<'r> EntryRow<'r> {
    pub(super) fn read(row: &'r Row<'_>) -> rusqlite::Result<Self> {
        let id = row.get(0)?;
        Ok(Self {
            id,
            stream_row: row.get(1)?,
            timestamp: timestamp_of(id, row.get(2)?),
            severity: Severity::from_number(row.get(3)?).unwrap_or_default(),
            output: if row.get::<_, i64>(4)? == 0 {
                Output::Stdout
            } else {
                Output::Stderr
            },
            message: row.get_ref(5)?.as_str()?,
            attributes_json: match row.get_ref(6)? {
                ValueRef::Null => None,
                json => Some(json.as_str()?),
            },
        })
    }

    /// The whole entry.
    pub(super) fn to_entry(self, stream: Arc<Stream>) -> Result<LogEntry, serde_json::Error> {
        Ok(LogEntry {
            id: EntryId(self.id),
            timestamp: self.timestamp,
            severity: self.severity,
            output: self.output,
            message: self.message.to_owned(),
            attributes: self
                .attributes_json
                .map_or_else(|| Ok(Vec::new()), read_attributes)?,
            stream,
        })
    }
}

/// A row of `streams`.
#[derive(Debug)]
pub(super) struct StoredStream {
    pub(super) row: StreamRow,
    pub(super) stream: Stream,
    pub(super) end: Option<StreamEnd>,
    pub(super) written: Timestamp,
}

/// Columns of a stream, in the order [`StoredStream::read`] expects.
pub(super) const STREAM_COLUMNS: &str = "id, cluster, pod_uid, container, restart, namespace, pod, node, image, \
     workload_kind, workload_name, labels, \"end\", mark_ns, mark_lines, written_ns";

impl StoredStream {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let text = |idx| row.get::<_, Arc<str>>(idx);
        let workload = match (row.get::<_, Option<Arc<str>>>(9)?, row.get(10)?) {
            (Some(kind), Some(name)) => Some(Workload { kind, name }),
            _ => None,
        };
        let labels: BTreeMap<Arc<str>, Arc<str>> = serde_json::from_str(row.get_ref(11)?.as_str()?)
            .map_err(|source| {
                rusqlite::Error::FromSqlConversionFailure(
                    11,
                    rusqlite::types::Type::Text,
                    Box::new(source),
                )
            })?;
        let end = match row.get::<_, Option<i64>>(12)? {
            Some(end) => Some(StreamEnd {
                end: Position(end.cast_unsigned()),
                mark: ResumeMark {
                    timestamp: Timestamp::from_nanos(row.get(13)?),
                    n_lines: row.get(14)?,
                },
            }),
            None => None,
        };
        Ok(Self {
            row: row.get(0)?,
            stream: Stream {
                id: StreamId {
                    cluster: text(1)?,
                    pod_uid: text(2)?,
                    container: text(3)?,
                    restart: row.get(4)?,
                },
                namespace: text(5)?,
                pod: text(6)?,
                node: text(7)?,
                image: text(8)?,
                workload,
                labels,
            },
            end,
            written: Timestamp::from_nanos(row.get(15)?),
        })
    }
}

/// What is known of a stream after `news` of it came: an empty field says nothing new.
///
/// An agent that just started knows only the path of a log; it must not wipe out what an earlier one learned.
pub(super) fn merge_stream(known: &Stream, news: &Stream) -> Stream {
    let pick =
        |known: &Arc<str>, news: &Arc<str>| Arc::clone(if news.is_empty() { known } else { news });
    Stream {
        id: known.id.clone(),
        namespace: pick(&known.namespace, &news.namespace),
        pod: pick(&known.pod, &news.pod),
        node: pick(&known.node, &news.node),
        image: pick(&known.image, &news.image),
        workload: news.workload.clone().or_else(|| known.workload.clone()),
        labels: if news.labels.is_empty() {
            known.labels.clone()
        } else {
            news.labels.clone()
        },
    }
}
