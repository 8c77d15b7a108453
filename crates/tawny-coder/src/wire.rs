//! Bytes of Coder's agent interface: the JSON of its HTTP side, and the protobuf messages and DRPC frames of its RPC side.

pub mod drpc;
pub mod logs;

pub use logs::{
    BatchCreateLogsRequest, BatchCreateLogsResponse, LOG_SOURCE, LOG_SOURCE_BYTES, patch_body,
};
