//! What a caller can get wrong.

use tawny_model::Remedy;

use crate::alert::Problem;

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
    /// At least one problem, in the order of the files and of their lines.
    #[error("{}", lines(.problems))]
    BadAlerts { problems: Vec<Problem> },
}

impl Error {
    /// What a caller should do.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::UnknownFormat { .. } | Self::BadIncidentId { .. } | Self::BadAlerts { .. } => {
                Remedy::Reject
            }
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}
