//! `tawny`: one binary that collects, keeps and searches the logs of a cluster.

mod alerts;
mod bench;
mod cli;
mod client;
mod collect;
mod config;
mod corpus;
mod demo;
mod doctor;
mod incidents;
mod loadgen;
mod notify;
mod render;
mod search;
mod serve;
mod storage;
mod tail;
mod vitals;
mod watch;

fn main() -> std::process::ExitCode {
    cli::main()
}
