//! How a command ends: what the shell is told, and what its user.

use std::{io, process::ExitCode};

use tawny_runtime::StopSignal;

/// What the exit code says, as grep and kubectl do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Found, or done.
    Found,
    NothingFound,
    /// What was to be checked is damaged.
    Damaged,
    /// Settings that another program, whose place we take, ends with 1 for.
    Refused,
    /// Wrong flags, configuration or query.
    Usage,
    /// Could not be done: no connection, no disk, a port in use.
    Failed,
    /// Not allowed.
    Denied,
    /// Ended by a signal before it was done.
    Signal(StopSignal),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Found => 0,
            Exit::NothingFound | Exit::Damaged | Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Failed => 3,
            Exit::Denied => 4,
            Exit::Signal(signal) => signal.exit_code(),
        })
    }
}

/// A command that could not do what was asked; any error turned into one by `?` counts as [`Exit::Failed`].
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// Whether the reader of our output has gone, which is no failure: `tawny search x | head`.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::Failed, error)
    }
}

/// Names the exit code of an error that is not a plain failure.
pub(crate) trait OrExit<T> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, error))
    }
}
