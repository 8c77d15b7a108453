//! Sources, the parsing pipeline and sinks.

pub mod api;
pub mod assembler;
pub mod deliver;
pub mod detect;
pub mod docker;
pub mod error;
mod feed;
pub mod files;
pub mod intake;
pub mod metadata;
pub mod metrics;
pub mod push;
pub mod selection;
pub mod selector;
pub mod sink;
pub mod source;
mod stamped;

#[cfg(test)]
mod testing;

pub use api::{ApiSettings, ApiSource, KubeMetadata};
pub use assembler::{LineScratch, StreamAssembler};
pub use deliver::{DeliverSettings, Deliverer};
pub use docker::{DockerSettings, DockerSource, OwnContainer};
pub use error::Error;
pub use files::{FileSource, FilesSettings};
pub use intake::{Intake, IntakeParts, Lane, Refusal};
pub use metadata::{Metadata, NoMetadata, PodFacts};
pub use metrics::Metrics;
pub use push::PushSink;
pub use selection::{Facts, Selection, SelectionConfig, Subject, Verdict, Why};
pub use sink::{NullSink, Sink, SinkError, StoreSink};
pub use source::{Source, SourceKind};
