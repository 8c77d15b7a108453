//! Lines and batches for the cases, in few words.

use std::sync::Arc;

use tawny_model::{
    Batch, Entries, LogEntry, Output, Position, ResumeMark, Severity, Stream, StreamId, Timestamp,
    WriterId,
};
use tawny_query::Query;

use crate::{Filter, LogStore, MAX_LIMIT, Order, SearchPage, SearchRequest, Written};

/// The second most cases begin at: a whole minute of November 2023.
pub const T0: i64 = 1_700_000_040_000_000_000;

/// A stream of namespace `prod`, pod and UID named alike, container `main`.
pub fn stream(pod: &str) -> Arc<Stream> {
    let id = StreamId {
        cluster: "".into(),
        pod_uid: pod.into(),
        container: "main".into(),
        restart: 0,
    };
    Arc::new(Stream::new(id, "prod", pod))
}

/// An entry to be.
#[derive(Debug, Clone)]
pub struct Line {
    pub timestamp: Timestamp,
    pub severity: Severity,
    pub output: Output,
    pub message: String,
    pub attributes: Vec<(String, String)>,
}

impl Line {
    /// An `info` line on stdout, `after_ns` past [`T0`].
    pub fn at(after_ns: i64, message: impl Into<String>) -> Self {
        Self {
            timestamp: Timestamp::from_nanos(T0 + after_ns),
            severity: Severity::Info,
            output: Output::Stdout,
            message: message.into(),
            attributes: Vec::new(),
        }
    }

    #[must_use]
    pub fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.attributes.push((key.to_owned(), value.to_owned()));
        self
    }

    /// As an entry of `stream` for [`LogStore::append`].
    pub fn entry(self, stream: &Arc<Stream>) -> LogEntry {
        LogEntry {
            id: tawny_model::EntryId(0),
            timestamp: self.timestamp,
            severity: self.severity,
            output: self.output,
            message: self.message,
            attributes: self.attributes,
            stream: Arc::clone(stream),
        }
    }
}

/// A reader of one stream: makes batch after batch, each line being as long as its message and a newline.
#[derive(Debug, Clone)]
pub struct Feed {
    pub stream: Arc<Stream>,
    pub writer: WriterId,
    pub position: Position,
}

impl Feed {
    pub fn new(pod: &str) -> Self {
        Self::of(stream(pod))
    }

    pub fn of(stream: Arc<Stream>) -> Self {
        Self {
            stream,
            writer: WriterId(1),
            position: Position::ZERO,
        }
    }

    /// The next batch of this stream.
    pub fn batch(&mut self, lines: impl IntoIterator<Item = Line>) -> Batch {
        let start = self.position;
        let mut mark = ResumeMark::default();
        let mut entries = Entries::default();
        for line in lines {
            self.position = self.position.advance(line.message.len() as u64 + 1);
            mark = mark.after_line(line.timestamp);
            entries
                .push(
                    line.timestamp,
                    line.severity,
                    line.output,
                    &line.message,
                    line.attributes
                        .iter()
                        .map(|(k, v)| (k.as_str(), v.as_str())),
                    self.position,
                )
                .expect("far below 4 GiB");
        }
        Batch {
            stream: Arc::clone(&self.stream),
            writer: self.writer,
            start,
            end: self.position,
            end_mark: mark,
            entries,
        }
    }

    /// Writes the next batch, which must be new.
    pub async fn write(&mut self, store: &dyn LogStore, lines: impl IntoIterator<Item = Line>) {
        let batch = self.batch(lines);
        let expected = Written::New {
            end: batch.end,
            n_new: batch.entries.len() as u64,
        };
        let written = store.write(vec![batch]).await.expect("the store takes it");
        assert_eq!(written, [expected]);
    }
}

/// All of time, for this query.
pub fn filter(query: &str) -> Filter {
    Filter {
        query: Query::parse(query).expect("the case's query parses"),
        from: Timestamp::MIN,
        to: Timestamp::MAX,
    }
}

pub fn newest(query: &str, limit: usize) -> SearchRequest {
    SearchRequest {
        filter: filter(query),
        order: Order::NewestFirst,
        limit,
        after: None,
        before: None,
    }
}

pub fn oldest(query: &str, limit: usize) -> SearchRequest {
    SearchRequest {
        order: Order::OldestFirst,
        ..newest(query, limit)
    }
}

/// Everything that matches, oldest first, in one page.
pub async fn search_all(store: &dyn LogStore, query: &str) -> Vec<LogEntry> {
    let SearchPage { entries, has_more } = store
        .search(&oldest(query, MAX_LIMIT))
        .await
        .expect("search works");
    assert!(!has_more, "a case stores no more than a page");
    entries
}

/// Nanoseconds past [`T0`] of each entry.
pub fn times(entries: &[LogEntry]) -> Vec<i64> {
    entries
        .iter()
        .map(|entry| entry.timestamp.as_nanos() - T0)
        .collect()
}

pub(super) fn messages(entries: &[LogEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.message.as_str()).collect()
}
