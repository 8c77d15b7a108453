//! The binary as its users meet it: arguments in, output and exit codes out.

mod collect;
mod configuration;
mod program;
mod search;
mod server;
