//! What Tawny speaks of: log entries, streams, positions, batches, and the rule that admits a batch once.
//!
//! Everything here is data and pure functions. No clock, no file, no network, no environment.

pub mod ansi;
pub mod batch;
pub mod delivery;
pub mod entry;
pub mod gap;
pub mod observed;
pub mod pairs;
pub mod remedy;
pub mod secret;
pub mod severity;
pub mod stream;
pub mod timestamp;
pub mod units;

pub use ansi::{strip_ansi, strip_ansi_into};
pub use batch::{Batch, Entries, EntriesFull, EntryRef};
pub use delivery::{Admission, ResumeMark, StreamEnd, WriterId, admit};
pub use entry::{EntryId, LogEntry};
pub use gap::{Gap, GapReason};
pub use remedy::Remedy;
pub use secret::Secret;
pub use severity::Severity;
pub use stream::{Output, Position, Stream, StreamId, StreamKey, Workload};
pub use timestamp::Timestamp;
pub use units::ByteSize;
