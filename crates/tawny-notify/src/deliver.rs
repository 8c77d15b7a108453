//! Brings messages where they belong: a bounded queue and a worker for each place, so that none waits for another.

mod dial;
mod lane;
mod outlet;
mod post;
mod queue;

#[cfg(test)]
pub(crate) use dial::{BoxedIo, DialFuture};
pub(crate) use dial::{Dial, Network};
pub(crate) use lane::Lane;
pub use outlet::Writer;
pub(crate) use outlet::{Outlet, outlets};
pub(crate) use queue::{Item, Queue};
