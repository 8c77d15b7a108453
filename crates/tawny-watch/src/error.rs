//! What can go wrong with what is watched and kept, each with what the user can do.

use std::{io, path::PathBuf};

use tawny_model::Remedy;

/// Watching or keeping failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("cannot use {}: {source}; check the disk and the rights, or set `incidents.path`", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is damaged: {source}", .path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("there is no incident `{id}`; `tawny incidents` lists those there are")]
    NoIncident { id: String },
    #[error("{n_found} incidents begin with `{id}`; give more of the id")]
    AmbiguousId { id: String, n_found: usize },
}

impl Error {
    /// What the caller does next.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Io { .. } => Remedy::Retry,
            Self::NoIncident { .. } | Self::AmbiguousId { .. } => Remedy::Reject,
            Self::Damaged { .. } => Remedy::Quarantine,
        }
    }
}
