//! What can go wrong on the way to Coder, each with what becomes of the lines and what the user can do.

use std::{io, path::PathBuf, time::Duration};

use tawny_model::Remedy;

use crate::wire::drpc::DrpcError;

/// Telling Coder failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("--coder-url is required")]
    UrlMissing,
    #[error("CODER_URL must include http:// or https:// scheme, got: {got:?}")]
    UrlScheme { got: String },
    #[error("parse coder URL: {got:?}: {reason}")]
    UrlBroken { got: String, reason: String },
    #[error("`{key}` is {got}: {rule}")]
    Setting {
        key: &'static str,
        got: String,
        rule: &'static str,
    },
    #[error("cannot read certificates from {}: {reason}; check SSL_CERT_FILE and SSL_CERT_DIR", .path.display())]
    Roots { path: PathBuf, reason: String },
    #[error(
        "no certificates of authorities found in {}; name a file with SSL_CERT_FILE or directories with SSL_CERT_DIR", list(.searched)
    )]
    NoRoots { searched: Vec<PathBuf> },
    #[error("cannot use the state file {}: {reason}; repair it, or remove it to begin anew", .path.display())]
    State { path: PathBuf, reason: String },
    #[error(
        "cannot reach Coder at {server}: {source}; check CODER_URL, the network and the certificates"
    )]
    Unreachable {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("Coder did not answer within {waited:?}")]
    TimedOut { waited: Duration },
    #[error("the connection to Coder broke: {reason}")]
    Broken { reason: String },
    #[error(
        "Coder does not know the agent's token (401): {message}; its workspace is still being provisioned or was deleted, or the token is another deployment's"
    )]
    Unauthorized { message: String },
    #[error(
        "Coder refuses the agent (403): {message}; the workspace was built anew and has a new token"
    )]
    Outdated { message: String },
    #[error("Coder takes no more lines of this size (413): {message}")]
    TooLarge { message: String },
    #[error("Coder has no {what} ({code})")]
    Gone { what: &'static str, code: u16 },
    #[error("Coder refused the request ({code}): {message}")]
    Refused { code: u16, message: String },
    #[error("Coder failed ({code}): {message}")]
    Failed { code: u16, message: String },
    #[error("Coder's call failed (code {code}): {message}")]
    Rpc { code: u64, message: String },
    #[error("what Coder sent is no DRPC: {0}")]
    Drpc(#[from] DrpcError),
    #[error("what Coder answered cannot be read: {reason}")]
    Malformed { reason: String },
    #[error("the startup log of the agent is full")]
    LogFull,
    #[error("the agent's token cannot stand in a header; it has line breaks or control characters")]
    TokenMalformed,
}

impl Error {
    /// The caller's next step; exhaustive, so a new variant must choose. `Retry` keeps the lines, `Reject` drops the batch,
    /// `StandDown` ends the agent.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::Gone { .. }
            | Self::Failed { .. }
            | Self::Rpc { .. }
            | Self::Drpc(_)
            | Self::Malformed { .. } => Remedy::Retry,
            Self::Unauthorized { .. }
            | Self::Outdated { .. }
            | Self::LogFull
            | Self::TokenMalformed => Remedy::StandDown,
            Self::UrlMissing
            | Self::UrlScheme { .. }
            | Self::UrlBroken { .. }
            | Self::Setting { .. }
            | Self::Roots { .. }
            | Self::NoRoots { .. }
            | Self::State { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. } => Remedy::Reject,
        }
    }

    /// Sorts out an HTTP status that is no success.
    pub(crate) fn from_status(code: u16, what: &'static str, message: String) -> Self {
        match code {
            401 => Self::Unauthorized { message },
            403 => Self::Outdated { message },
            404 | 405 | 410 => Self::Gone { what, code },
            // Coder's words for a log that has its 1 MiB; else the batch was too large for it or for a proxy.
            413 if message.starts_with("Logs limit exceeded") => Self::LogFull,
            413 => Self::TooLarge { message },
            // A proxy or an overloaded server may answer so for a while; a redirect is a proxy being set up.
            408 | 425 | 429 | 500.. | ..=399 => Self::Failed { code, message },
            _ => Self::Refused { code, message },
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let texts: Vec<_> = (paths.iter())
        .map(|path| format!("`{}`", path.display()))
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_decides_what_becomes_of_the_lines() {
        for (code, remedy) in [
            (302, Remedy::Retry),
            (400, Remedy::Reject),
            (401, Remedy::StandDown),
            (403, Remedy::StandDown),
            (404, Remedy::Retry),
            (410, Remedy::Retry),
            (413, Remedy::Reject),
            (422, Remedy::Reject),
            (429, Remedy::Retry),
            (500, Remedy::Retry),
            (503, Remedy::Retry),
        ] {
            let error = Error::from_status(code, "way", String::new());
            assert_eq!(error.remedy(), remedy, "{code}: {error}");
        }
        let full = Error::from_status(413, "way", "Logs limit exceeded".to_owned());
        assert!(matches!(full, Error::LogFull));
    }
}
