//! The columnar store: a write-ahead log and rows in memory in front of sorted Parquet segments in a Delta table.

mod ids;
mod catalog;
mod files;
mod probe;
mod query;
mod read_at;
mod rows;
mod run;
mod streams;
mod wal;

#[cfg(feature = "test-util")]
pub use wal::fuzzing as wal_fuzzing;
