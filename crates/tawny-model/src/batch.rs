//! Batches: entries of one stream in one arena, so that a line costs a copy and not an allocation.

use std::sync::Arc;

use crate::{
    EntryId, LogEntry, Output, Position, ResumeMark, Severity, Stream, Timestamp, WriterId,
};

/// Entries of one stream that lie in `[start, end)`, in stream order.
///
/// `end` never lies inside an open partial line or multi-line record. A batch may be empty: it then only moves the
/// committed end past lines that yield no entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub stream: Arc<Stream>,
    /// The reader that made it; a stream has one at a time.
    pub writer: WriterId,
    pub start: Position,
    pub end: Position,
    /// How a reader that lost everything finds `end` again.
    pub end_mark: ResumeMark,
    pub entries: Entries,
}

/// Rows over one text arena. Rows are appended in stream order and never changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entries {
    text: String,
    /// Attribute keys, nearly always each once: lines of one stream repeat their keys.
    keys: Vec<String>,
    attributes: Vec<Attribute>,
    rows: Vec<Row>,
    next_key: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    timestamp: Timestamp,
    end: Position,
    message_start: u32,
    message_len: u32,
    attributes_start: u32,
    attributes_len: u16,
    severity: Severity,
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Attribute {
    key: u32,
    value_start: u32,
    value_len: u32,
}

/// The arena cannot take the entry: it is limited to 4 GiB of text. Send it and start another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a batch holds at most 4 GiB of text")]
pub struct EntriesFull;

/// Keys searched for a match before one is stored again; bounds the cost of a stream with ever new keys.
const KEY_SEARCH: usize = 64;

impl Entries {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of memory the entries hold; what queues count.
    pub fn memory_bytes(&self) -> usize {
        self.text.capacity()
            + self.rows.capacity() * size_of::<Row>()
            + self.attributes.capacity() * size_of::<Attribute>()
            + self
                .keys
                .iter()
                .map(|key| key.capacity() + size_of::<String>())
                .sum::<usize>()
    }

    /// The messages and the values of the attributes of all rows, one behind the other: what is in none of it is in no
    /// row.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Bytes of message and attribute text.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Appends an entry; `end` is the stream position just behind its last line.
    ///
    /// # Errors
    /// [`EntriesFull`] when the text would pass 4 GiB; nothing is appended.
    pub fn push<'a>(
        &mut self,
        timestamp: Timestamp,
        severity: Severity,
        output: Output,
        message: &str,
        attributes: impl IntoIterator<Item = (&'a str, &'a str)>,
        end: Position,
    ) -> Result<(), EntriesFull> {
        let (text_len, attributes_len) = (self.text.len(), self.attributes.len());
        let row = (|| {
            let (message_start, message_len) = self.put(message)?;
            for (key, value) in attributes {
                let key = self.key(key)?;
                let (value_start, value_len) = self.put(value)?;
                self.attributes.push(Attribute {
                    key,
                    value_start,
                    value_len,
                });
            }
            Some(Row {
                timestamp,
                end,
                message_start,
                message_len,
                attributes_start: u32::try_from(attributes_len).ok()?,
                attributes_len: u16::try_from(self.attributes.len() - attributes_len).ok()?,
                severity,
                output,
            })
        })();
        let Some(row) = row else {
            self.text.truncate(text_len);
            self.attributes.truncate(attributes_len);
            return Err(EntriesFull);
        };
        self.rows.push(row);
        Ok(())
    }

    fn put(&mut self, text: &str) -> Option<(u32, u32)> {
        let start = u32::try_from(self.text.len()).ok()?;
        let len = u32::try_from(text.len()).ok()?;
        start.checked_add(len)?;
        self.text.push_str(text);
        Some((start, len))
    }

    fn key(&mut self, key: &str) -> Option<u32> {
        // A stream's lines repeat their keys in order, so the key after the last one is nearly always the next.
        let found = if self.keys.get(self.next_key).is_some_and(|next| next == key) {
            self.next_key
        } else if let Some(at) = self
            .keys
            .iter()
            .rev()
            .take(KEY_SEARCH)
            .position(|known| known == key)
        {
            self.keys.len() - 1 - at
        } else {
            self.keys.push(key.to_owned());
            self.keys.len() - 1
        };
        self.next_key = if found + 1 == self.keys.len() {
            0
        } else {
            found + 1
        };
        u32::try_from(found).ok()
    }

    /// Attribute keys; [`EntryRef::keyed_attributes`] points into them.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    pub fn get(&self, idx: usize) -> Option<EntryRef<'_>> {
        (idx < self.rows.len()).then_some(EntryRef { entries: self, idx })
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = EntryRef<'_>> + Clone {
        (0..self.rows.len()).map(|idx| EntryRef { entries: self, idx })
    }

    /// Forgets all rows, keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.keys.clear();
        self.attributes.clear();
        self.rows.clear();
        self.next_key = 0;
    }
}

/// A view of one row.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    entries: &'a Entries,
    idx: usize,
}

impl<'a> EntryRef<'a> {
    fn row(&self) -> &'a Row {
        &self.entries.rows[self.idx]
    }

    pub fn timestamp(&self) -> Timestamp {
        self.row().timestamp
    }

    pub fn severity(&self) -> Severity {
        self.row().severity
    }

    pub fn output(&self) -> Output {
        self.row().output
    }

    /// Stream position just behind this entry.
    pub fn end(&self) -> Position {
        self.row().end
    }

    #[expect(
        clippy::string_slice,
        reason = "the range was taken from a whole str when it was pushed"
    )]
    pub fn message(&self) -> &'a str {
        let row = self.row();
        &self.entries.text[row.message_start as usize..][..row.message_len as usize]
    }

    pub fn attributes(
        &self,
    ) -> impl ExactSizeIterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let keys = &self.entries.keys;
        self.keyed_attributes()
            .map(|(key, value)| (keys[key as usize].as_str(), value))
    }

    /// [`Self::attributes`], each key as its index in [`Entries::keys`].
    #[expect(
        clippy::string_slice,
        reason = "the range was taken from a whole str when it was pushed"
    )]
    pub fn keyed_attributes(
        &self,
    ) -> impl ExactSizeIterator<Item = (u32, &'a str)> + Clone + use<'a> {
        let row = self.row();
        let entries = self.entries;
        entries.attributes[row.attributes_start as usize..][..usize::from(row.attributes_len)]
            .iter()
            .map(|attribute| {
                let value =
                    &entries.text[attribute.value_start as usize..][..attribute.value_len as usize];
                (attribute.key, value)
            })
    }

    /// The row as an entry of its own.
    pub fn to_entry(self, id: EntryId, stream: Arc<Stream>) -> LogEntry {
        LogEntry {
            id,
            timestamp: self.timestamp(),
            severity: self.severity(),
            output: self.output(),
            message: self.message().to_owned(),
            attributes: self
                .attributes()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            stream,
        }
    }

    /// The value of an attribute, the first where a key repeats.
    pub fn attribute(&self, key: &str) -> Option<&'a str> {
        self.attributes()
            .find(|(k, _)| *k == key)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Plain = (i64, String, Vec<(String, String)>);

    proptest! {
        #[test]
        fn rows_read_back_as_pushed(rows in proptest::collection::vec(
            (any::<i64>(), ".{0,20}", proptest::collection::vec(("[a-e]{1,2}", ".{0,5}"), 0..6)), 0..30)) {
            let rows: Vec<Plain> = rows;
            let mut entries = Entries::default();
            for (idx, (ns, message, attributes)) in rows.iter().enumerate() {
                entries.push(Timestamp::from_nanos(*ns), Severity::Warn, Output::Stderr, message,
                    attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())), Position(idx as u64)).unwrap();
            }
            let back: Vec<Plain> = entries.iter().map(|row| (row.timestamp().as_nanos(), row.message().to_owned(),
                row.attributes().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())).collect();
            prop_assert_eq!(back, rows);
        }
    }

    #[test]
    fn repeated_keys_are_stored_once() {
        let mut entries = Entries::default();
        for _ in 0..100 {
            entries
                .push(
                    Timestamp::default(),
                    Severity::Info,
                    Output::Stdout,
                    "m",
                    [("a", "1"), ("b", "2")],
                    Position::ZERO,
                )
                .unwrap();
        }
        assert_eq!(entries.keys, ["a", "b"]);
    }
}
