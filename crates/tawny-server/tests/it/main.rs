//! The server's contracts, over real sockets and a real store. Rows of the requirements are cited in test names.

mod fixture;
mod http_kubelogs;
mod http_v1;
mod ingest;
mod lifecycle;
mod rigged;
mod storage;
mod tail;
