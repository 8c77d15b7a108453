//! The server's contracts, over real sockets and a real store. Rows of the requirements are cited in test names.

#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test that cannot go on has failed it"
)]

mod fixture;
mod http_incidents;
mod http_kubelogs;
mod http_sql;
mod http_v1;
mod ingest;
mod lifecycle;
mod rigged;
mod storage;
mod tail;
