//! What can go wrong while collecting, and what to do about it.

use std::{path::PathBuf, time::Duration};

use tawny_model::Remedy;

use crate::SinkError;

/// Collecting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("the deliverer has stopped; nothing can be handed on")]
    Closed,
    #[error(
        "{n_batches} batches ({bytes} bytes) were not acknowledged within {waited:?} of stopping; they are read again at the next start"
    )]
    NotDelivered {
        n_batches: usize,
        bytes: usize,
        waited: Duration,
    },
    #[error("selector `{selector}`: expected {expected} at byte {at_byte}")]
    Selector {
        selector: String,
        at_byte: usize,
        expected: &'static str,
    },
    #[error("`{pattern}` is no regular expression")]
    Pattern {
        pattern: String,
        #[source]
        source: Box<regex::Error>,
    },
    #[error("{doing} `{path}`")]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{source_name} source")]
    Source {
        source_name: &'static str,
        remedy: Remedy,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// The caller's next step; exhaustive, so a new variant must choose.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Sink(error) => error.remedy,
            Self::Source { remedy, .. } => *remedy,
            Self::Io { .. } | Self::NotDelivered { .. } => Remedy::Retry,
            Self::Closed => Remedy::StandDown,
            Self::Selector { .. } | Self::Pattern { .. } => Remedy::Reject,
        }
    }
}
