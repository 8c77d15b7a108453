//! What one client may ask of a server, and how long an answer may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tawny_model::ByteSize;

/// Limits of both faces. The defaults suit a server of one CPU and 512 MiB.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest gRPC message taken, decompressed; each connection may hold two of this size.
    pub max_message: ByteSize,
    /// Longest path and query string of an HTTP request.
    pub max_uri: ByteSize,
    /// Longest a search, histogram or count may run before it is given up.
    #[serde(with = "tawny_runtime::duration")]
    pub query_timeout: Duration,
    /// Most queries that run at once; one more waits a second and is then refused.
    pub max_queries: usize,
    /// Memory that all SQL statements together may take for grouping, sorting and joining.
    pub sql_memory: ByteSize,
    /// Rows of an answer to SQL unless the request says how many.
    pub sql_rows: usize,
    /// Most rows an answer to SQL may have.
    pub sql_max_rows: usize,
    /// Threads that compute SQL, over all statements.
    pub sql_threads: usize,
    /// Most live tails at once; each holds up to 2 MiB for a slow client.
    pub max_tails: usize,
    /// Most open connections per listener; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Time requests in flight are given to finish when the server stops.
    #[serde(with = "tawny_runtime::duration")]
    pub stop_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: ByteSize::mib(16),
            max_uri: ByteSize::kib(16),
            query_timeout: Duration::from_secs(30),
            max_queries: 32,
            sql_memory: ByteSize::mib(128),
            sql_rows: 10_000,
            sql_max_rows: 1_000_000,
            sql_threads: 2,
            max_tails: 128,
            max_connections: 1_024,
            stop_grace: Duration::from_secs(5),
        }
    }
}
