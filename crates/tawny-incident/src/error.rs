//! What a caller can get wrong.

use tawny_model::Remedy;

/// A request this crate cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("unknown report format {name:?}, expected default, json or csv")]
    UnknownFormat { name: String },
    #[error(
        "{text:?} is no incident id, expected 16 hex digits, a dash and seconds, as in 89abcdef01234567-1763740800"
    )]
    BadIncidentId { text: String },
}

impl Error {
    /// What a caller should do.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::UnknownFormat { .. } | Self::BadIncidentId { .. } => Remedy::Reject,
        }
    }
}
