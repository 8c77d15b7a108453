//! The faces of a store: gRPC for agents and kubelogs clients, HTTP for people and programs.

mod error;
mod grpc;
mod http;
mod kubelogs;
mod limits;
mod listen;
mod metrics;
mod readiness;
mod server;
mod shared;
mod tail;

pub use error::Error;
pub use limits::Limits;
pub use readiness::{NotReady, Readiness};
pub use server::{Listeners, Server, serve_probes};
