//! What watching needs of a store, as a port: the crate that wires both implements it.

use std::fmt;

use async_trait::async_trait;
use tawny_incident::report::LogLine;
use tawny_model::{LogEntry, Remedy, StreamId, Timestamp};

/// Where records of events go, and where the last lines of a dead container are.
#[async_trait]
pub trait Archive: fmt::Debug + Send + Sync + 'static {
    /// Keeps records durably. A repeat of one that is kept already is dropped.
    ///
    /// # Errors
    /// `Retry` when the archive cannot write now; any other remedy when it never will take these.
    async fn keep(&self, records: Vec<LogEntry>) -> Result<(), ArchiveError>;

    /// The last lines of one stream that were written in `[from, to)`, at most `limit`, the oldest first.
    ///
    /// # Errors
    /// `Retry` when the archive cannot answer now.
    async fn last_lines(
        &self,
        stream: &StreamId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<LogLine>, ArchiveError>;
}

/// Why the archive did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct ArchiveError {
    pub reason: String,
    pub remedy: Remedy,
}
