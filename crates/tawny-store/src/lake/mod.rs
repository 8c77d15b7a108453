//! The columnar store: a write-ahead log and rows in memory in front of sorted Parquet segments in a Delta table.

mod probe;
mod read_at;
mod rows;
mod run;
mod segment;
