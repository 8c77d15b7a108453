//! The binary as its users meet it: arguments in, output and exit codes out.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on has failed it"
)]

mod bench;
mod coder;
mod collect;
mod configuration;
mod doctor;
mod program;
mod search;
mod server;
mod sql;
mod storage;
