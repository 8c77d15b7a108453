//! Vital signs: what a node, its containers and their sidecars measured, kept for the minutes before a death.
//!
//! `node` and `cgroup` measure, `sidecar` reads what programs send about themselves, `ring` keeps all of it within
//! bounds, `resources` reads a container's end out of it, and `sampler` is what a loop calls once a second. Files of
//! proc and cgroup trees are read with blocking calls: call [`Sampler::sample`] where blocking is allowed.

pub mod cgroup;
mod error;
mod file;
pub mod node;
pub mod resources;
pub mod ring;
mod sampler;
pub mod sidecar;

pub use error::Error;
pub use resources::{Analysis, Series};
pub use ring::{Filter, Ring, SharedRing, Source, Stats, Window};
pub use sampler::{Sampled, Sampler};
