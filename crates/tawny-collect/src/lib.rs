//! Sources, the parsing pipeline and sinks.

pub mod sink;
pub mod source;

pub use sink::Sink;
pub use source::{Source, SourceKind};
