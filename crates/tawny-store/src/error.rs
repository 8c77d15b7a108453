//! What can go wrong in a store, and what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use tawny_model::Remedy;

/// Reading or writing a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("request is invalid: {reason}")]
    Invalid { reason: String },
    #[error(
        "no space left for `{path}`: nothing was stored; free space or lower the retention limits"
    )]
    DiskFull { path: PathBuf },
    #[error("`{path}` is in use by {holder}; stop it or choose another path")]
    Locked {
        path: PathBuf,
        /// Who has it, as far as it said so.
        holder: String,
    },
    #[error(
        "`{table}` is being written by another server, whose write-ahead log is in `{by}`; stop it or choose another \
         prefix"
    )]
    Taken { table: PathBuf, by: PathBuf },
    #[error(
        "the write-ahead log in `{path}` holds rows that never got into `{table}`, which another server has written to \
         since or which is new; move the log aside or choose another directory with store.wal"
    )]
    Overtaken { path: PathBuf, table: PathBuf },
    #[error("`{path}` is no Tawny store: {reason}")]
    NotAStore { path: PathBuf, reason: String },
    #[error(
        "`{path}` was written by a newer Tawny (format {found}, this one reads up to {supported}); upgrade"
    )]
    Newer {
        path: PathBuf,
        found: u32,
        supported: u32,
    },
    #[error("`{path}` cannot be written: {reason}")]
    ReadOnly { path: PathBuf, reason: String },
    #[error("stored data in `{path}` is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("the question takes more than {limit} of {what}; narrow it down")]
    TooExpensive { what: &'static str, limit: String },
    #[error("the question was called off")]
    Cancelled,
    #[error("the store is stopping")]
    Closed,
    #[error("`{path}`: {doing}")]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Another process has the store, and nothing tells which.
    pub(crate) fn locked(path: impl Into<PathBuf>) -> Self {
        Self::Locked {
            path: path.into(),
            holder: "another process".to_owned(),
        }
    }

    /// A file system's error in the store's words.
    pub(crate) fn file(path: &Path, doing: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly {
                path,
                reason: source.to_string(),
            },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io {
                path,
                doing,
                source: Box::new(source),
            },
        }
    }

    /// The caller's next step; exhaustive, so a new variant must choose.
    pub fn remedy(&self) -> Remedy {
        match self {
            // Of a disk that cannot be written it is the disk that has to change, not what was to be written.
            Self::DiskFull { .. } | Self::Closed | Self::Io { .. } | Self::ReadOnly { .. } => {
                Remedy::Retry
            }
            Self::Invalid { .. }
            | Self::TooExpensive { .. }
            | Self::Cancelled
            | Self::NotAStore { .. }
            | Self::Newer { .. } => Remedy::Reject,
            Self::Locked { .. } | Self::Taken { .. } | Self::Overtaken { .. } => Remedy::StandDown,
            Self::Damaged { .. } => Remedy::Quarantine,
        }
    }

    /// The same error for another caller that shares its fate; of a source only the text is kept.
    pub fn again(&self) -> Self {
        match self {
            Self::Invalid { reason } => Self::Invalid {
                reason: reason.clone(),
            },
            Self::DiskFull { path } => Self::DiskFull { path: path.clone() },
            Self::Locked { path, holder } => Self::Locked {
                path: path.clone(),
                holder: holder.clone(),
            },
            Self::Taken { table, by } => Self::Taken {
                table: table.clone(),
                by: by.clone(),
            },
            Self::Overtaken { path, table } => Self::Overtaken {
                path: path.clone(),
                table: table.clone(),
            },
            Self::NotAStore { path, reason } => Self::NotAStore {
                path: path.clone(),
                reason: reason.clone(),
            },
            Self::Newer {
                path,
                found,
                supported,
            } => Self::Newer {
                path: path.clone(),
                found: *found,
                supported: *supported,
            },
            Self::ReadOnly { path, reason } => Self::ReadOnly {
                path: path.clone(),
                reason: reason.clone(),
            },
            Self::Damaged { path, reason } => Self::Damaged {
                path: path.clone(),
                reason: reason.clone(),
            },
            Self::TooExpensive { what, limit } => Self::TooExpensive {
                what,
                limit: limit.clone(),
            },
            Self::Cancelled => Self::Cancelled,
            Self::Closed => Self::Closed,
            Self::Io {
                path,
                doing,
                source,
            } => Self::Io {
                path: path.clone(),
                doing,
                source: source.to_string().into(),
            },
        }
    }
}
