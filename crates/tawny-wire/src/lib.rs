//! Bytes to model and back: CRI, docker json-file, log messages, gRPC and HTTP types
//!
//! The parsers run once per line of a cluster's logs: one pass over bytes, no allocation once their scratch has grown.

pub mod api;
pub mod cri;
pub mod docker_json;
mod json;
pub mod kube_log;
pub mod kubelogs;
pub mod line;
pub mod message;
pub mod multiline;
pub mod partial;
pub mod proto;
pub mod push;
mod text;

pub use line::{LineError, RawLine};
pub use message::{Parsed, Scratch, parse_message};
pub use multiline::RecordJoiner;
pub use partial::{Line, PartialJoiner};
pub use tawny_model::strip_ansi;
pub use text::to_text;
