//! Where lines come from. Sources are interchangeable: nothing behind them changes with the source (SX-8).

use std::fmt;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

/// The ways to container logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// Pod log files under a root such as `/var/log/pods`.
    Files,
    /// `pods/log` streams of the Kubernetes API.
    Api,
    /// Docker or Podman through the engine's socket.
    Docker,
}

impl SourceKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Api => "api",
            Self::Docker => "docker",
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads every selected stream to its end and hands batches on, until told to stop.
#[async_trait]
pub trait Source: fmt::Debug + Send {
    fn kind(&self) -> SourceKind;

    /// Runs until `stop` fires (then what is already read is handed on) or nothing can be read any more.
    async fn run(
        self: Box<Self>,
        intake: crate::Intake,
        stop: CancellationToken,
    ) -> Result<(), crate::Error>;
}
