//! Coder's agent interface as a client: where it is, how it is spoken to, and the delivery of one agent's lines.

mod delivery;
mod endpoint;
mod http;
mod roots;
mod rpc;

pub(crate) use delivery::Delivery;
pub(crate) use endpoint::Endpoint;
#[cfg(test)]
pub(crate) use endpoint::{BoxedIo, Dial, DialFuture};
pub use roots::Roots;
#[cfg(test)]
pub(crate) use rpc::byte_stream;
