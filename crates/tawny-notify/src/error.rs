//! What can go wrong between a notice and the people who should read it, each with what becomes of the message.

use std::{io, path::PathBuf, time::Duration};

use tawny_model::Remedy;

/// Telling failed, or cannot begin. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("line {line}, column {column}: {problem}")]
    Yaml {
        line: usize,
        column: usize,
        problem: String,
    },
    #[error("line {line}, `{key}`: {problem}; {advice}")]
    Setting {
        line: usize,
        /// `routes[1].receiver`.
        key: String,
        problem: String,
        advice: String,
    },
    #[error("there is no receiver `{name}`; there are {}", list(.known))]
    UnknownReceiver { name: String, known: Vec<String> },
    #[error("cannot read {}: {source}; check that it is there and may be read", .path.display())]
    SecretFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no token or URL: it is empty, too long, or of several lines", .path.display())]
    SecretFileUnfit { path: PathBuf },
    #[error("`{name}` cannot be sent as a header: it has line breaks or control characters")]
    HeaderMalformed { name: String },
    #[error("the URL in {} is none: {problem}", .path.display())]
    UrlFileMalformed {
        path: PathBuf,
        problem: &'static str,
    },
    #[error("cannot reach {server}: {source}; check the URL, the network and the certificates")]
    Unreachable {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("{server} did not answer within {waited:?}")]
    TimedOut { server: String, waited: Duration },
    #[error("the connection to {server} broke: {reason}")]
    Broken { server: String, reason: String },
    #[error("{server} cannot take it now ({code}): {message}")]
    Busy {
        server: String,
        code: u16,
        message: String,
        /// As its `Retry-After` says.
        wait: Option<Duration>,
    },
    #[error("{server} refuses it ({code}): {message}")]
    Refused {
        server: String,
        code: u16,
        message: String,
    },
    #[error(
        "{server} redirects to {target} ({code}), which is not followed so that no token goes astray; set the URL to where the service is"
    )]
    Redirected {
        server: String,
        code: u16,
        target: String,
    },
    #[error("cannot write to {to}: {source}")]
    Write {
        to: String,
        #[source]
        source: io::Error,
    },
    #[error("the worker of a receiver ended: {reason}")]
    WorkerEnded { reason: String },
}

impl Error {
    /// The caller's next step; exhaustive, so a new variant must choose. `Retry` keeps the message, `Reject` drops it.
    pub fn remedy(&self) -> Remedy {
        match self {
            // A mounted secret may come, or be replaced, later.
            Self::SecretFile { .. }
            | Self::SecretFileUnfit { .. }
            | Self::UrlFileMalformed { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. }
            | Self::Busy { .. }
            | Self::Write { .. } => Remedy::Retry,
            Self::Yaml { .. }
            | Self::Setting { .. }
            | Self::UnknownReceiver { .. }
            | Self::HeaderMalformed { .. }
            | Self::Refused { .. }
            | Self::Redirected { .. } => Remedy::Reject,
            Self::WorkerEnded { .. } => Remedy::StandDown,
        }
    }

    /// How long the service asks to be left alone.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Busy { wait, .. } => *wait,
            _ => None,
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
