//! How streams, entries and their indexed words are laid down in columns, and read back.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use rusqlite::{
    Row,
    types::{Type, ValueRef},
};
use rustc_hash::FxHashMap;
use tawny_model::{
    EntryId, LogEntry, Output, Position, ResumeMark, Severity, Stream, StreamEnd, StreamId,
    Timestamp, Workload, entry::TIE_BITS,
};
use tawny_query::{fold_char, index_text, tokens};

use crate::pairs::pairs;

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

/// One row of `logs`; its text stays with SQLite until it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryRow<'r> {
    pub(super) id: i64,
    pub(super) stream_row: StreamRow,
    pub(super) timestamp: Timestamp,
    pub(super) severity: Severity,
    row: &'r Row<'r>,
}

impl<'r> EntryRow<'r> {
    pub(super) fn read(row: &'r Row<'_>) -> rusqlite::Result<Self> {
        let id = row.get(0)?;
        Ok(Self {
            id,
            stream_row: row.get(1)?,
            timestamp: timestamp_of(id, row.get(2)?),
            severity: Severity::from_number(row.get(3)?).unwrap_or_default(),
            row,
        })
    }

    pub(super) fn output(&self) -> Output {
        match self.row.get(4) {
            Ok(1i64) => Output::Stderr,
            _ => Output::Stdout,
        }
    }

    pub(super) fn message(&self) -> rusqlite::Result<&'r str> {
        Ok(self.row.get_ref(5)?.as_str()?)
    }

    pub(super) fn attributes(&self) -> rusqlite::Result<Vec<(String, String)>> {
        match self.row.get_ref(6)? {
            ValueRef::Null => Ok(Vec::new()),
            json => pairs(json.as_str()?).map_err(|source| {
                rusqlite::Error::FromSqlConversionFailure(6, Type::Text, Box::new(source))
            }),
        }
    }

    /// The whole entry.
    pub(super) fn to_entry(self, stream: Arc<Stream>) -> rusqlite::Result<LogEntry> {
        Ok(LogEntry {
            id: EntryId(self.id),
            timestamp: self.timestamp,
            severity: self.severity,
            output: self.output(),
            message: self.message()?.to_owned(),
            attributes: self.attributes()?,
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
                rusqlite::Error::FromSqlConversionFailure(11, Type::Text, Box::new(source))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// What the `ascii` tokenizer with `tokenchars '_'` makes of a text. Source: fts5_tokenize.c, `fts5AsciiTokenize`.
    fn ascii_tokens(text: &str) -> BTreeSet<String> {
        text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_')
            .filter(|token| !token.is_empty())
            .map(str::to_ascii_lowercase)
            .collect()
    }

    fn terms(message: &str, attributes: &[(String, String)]) -> BTreeSet<String> {
        let mut text = "left over".to_owned();
        let attributes = attributes.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        write_terms(
            &mut text,
            message,
            attributes,
            &stream_term(7),
            Severity::Fatal,
        );
        ascii_tokens(&text)
    }

    #[test]
    fn words_of_values_are_indexed_unless_the_message_has_them() {
        let attributes = |value: &str| [("k".to_owned(), value.to_owned())];
        for (message, value, extra) in [
            ("status=500 ok", "500", &[][..]),
            ("status=5001 500x", "500", &["\u{81}500"]),
            ("status=5001 500", "500", &[]),
            ("a b c", "a b", &[]),
            ("a b c", "b a", &["\u{81}a", "\u{81}b"]),
            ("a", "", &[]),
            ("größe 500", "500", &["\u{81}500"]),
            ("x", "GRÖßE", &["\u{81}größe"]),
        ] {
            let mut expected = terms(message, &[]);
            expected.extend(extra.iter().map(|&term| term.to_owned()));
            assert_eq!(
                terms(message, &attributes(value)),
                expected,
                "{message} {value}"
            );
        }
    }

    proptest! {
        #[test]
        fn terms_are_the_words_of_the_query_language(message in any::<String>(), value in any::<String>()) {
            let mut expected: BTreeSet<String> = index_text(&message).split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
            let of_value: BTreeSet<String> = index_text(&value.replace('\u{1b}', " ")).split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
            expected.extend(["\u{80}s7".to_owned(), "\u{80}f".to_owned()]);
            let found = terms(&message, &[("k".to_owned(), value.replace('\u{1b}', " "))]);
            let (marked, plain): (BTreeSet<_>, BTreeSet<_>) = found.into_iter().partition(|term| term.starts_with(ATTRIBUTE_MARK));
            prop_assert_eq!(&plain, &expected);
            // Every word of the value can be looked up, one way or the other.
            for word in of_value {
                prop_assert!(plain.contains(&word) || marked.contains(&attribute_term(&word)), "{}", word);
            }
        }

        #[test]
        fn attributes_read_back_as_written(attributes in proptest::collection::vec((any::<String>(), any::<String>()), 0..6)) {
            let mut json = "left over".to_owned();
            write_attributes(&mut json, attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            if attributes.is_empty() {
                prop_assert_eq!(json, "");
            } else {
                prop_assert_eq!(pairs(&json).unwrap(), attributes);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
            }
        }

        #[test]
        fn any_time_survives_any_id(ns: i64, id: i64) {
            let time = Timestamp::from_nanos(ns);
            let near = EntryId::first_at(time).0;
            prop_assert_eq!(timestamp_of(near, ns_of(near, time)), time);
            let _any = timestamp_of(id, ns);
        }
    }
}
