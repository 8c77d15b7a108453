//! Why did it die: from what Kubernetes shows to incidents a person can act on.
//!
//! `detect` finds occurrences, `book` makes one incident of those with one cause and follows its life, `sentence`
//! tells it, `report` writes it down. Everything here is a pure function of its arguments: no clock, file or network.

pub mod alert;
pub mod book;
pub mod cause;
pub mod detect;
mod error;
pub mod exit;
mod hints;
pub mod message;
mod occurrence;
pub mod report;
pub mod sentence;
mod severity;
#[cfg(test)]
mod testing;

pub use book::{Book, Change, Incident, IncidentId};
pub use cause::Cause;
pub use detect::{Context, Evidence, OomProof};
pub use error::Error;
pub use exit::Exit;
pub use occurrence::{
    DeadRun, Findings, Health, MAX_MESSAGE_BYTES, Marker, MarkerKind, Occurrence, Scope, Subject,
};
pub use report::IncidentReport;
pub use severity::Severity;
