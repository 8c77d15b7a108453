//! What a sender or a setting can get wrong.

use std::time::Duration;

use tawny_model::{Remedy, Timestamp};

/// A request or setting that vital signs cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("window of {got:?} is not between {:?} and {:?}", .least, .most)]
    Window {
        got: Duration,
        least: Duration,
        most: Duration,
    },
    /// BB-31's text; the reason goes beside it.
    #[error("Invalid JSON")]
    InvalidJson { reason: String },
    /// BB-31's text.
    #[error("Pod name and namespace are required")]
    PodMissing,
    #[error("body of {got_bytes} bytes is larger than {limit_bytes} bytes; send less at once")]
    BodyTooLarge {
        got_bytes: usize,
        limit_bytes: usize,
    },
    #[error("{field} has {got} entries, more than {limit}; send less at once")]
    TooMany {
        field: &'static str,
        got: usize,
        limit: usize,
    },
    #[error("{field} has {got_bytes} bytes, more than {limit_bytes}")]
    TooLong {
        field: String,
        got_bytes: usize,
        limit_bytes: usize,
    },
    #[error("timestamp {got:?} is no time; write it as 2026-11-21T10:00:00Z, or leave it out")]
    BadTimestamp { got: String },
    #[error("timestamp {got} is {ahead:?} ahead of the node's clock, which says {now}")]
    FromFuture {
        got: Timestamp,
        now: Timestamp,
        ahead: Duration,
    },
    #[error("timestamp {got} is {age:?} old, and nothing older than {limit:?} is kept")]
    TooOld {
        got: Timestamp,
        age: Duration,
        limit: Duration,
    },
    #[error("{field} {got:?} is not known, expected {expected}")]
    Unknown {
        field: &'static str,
        got: String,
        expected: &'static str,
    },
}

impl Error {
    /// What a caller should do: nothing here gets better by trying again.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Window { .. }
            | Self::InvalidJson { .. }
            | Self::PodMissing
            | Self::BodyTooLarge { .. }
            | Self::TooMany { .. }
            | Self::TooLong { .. }
            | Self::BadTimestamp { .. }
            | Self::FromFuture { .. }
            | Self::TooOld { .. }
            | Self::Unknown { .. } => Remedy::Reject,
        }
    }

    /// The word for it in an answer's `error` (BB-37).
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidJson { .. } => "invalid_json",
            Self::BodyTooLarge { .. } => "payload_too_large",
            Self::Window { .. }
            | Self::PodMissing
            | Self::TooMany { .. }
            | Self::TooLong { .. }
            | Self::BadTimestamp { .. }
            | Self::FromFuture { .. }
            | Self::TooOld { .. }
            | Self::Unknown { .. } => "validation_failed",
        }
    }
}
