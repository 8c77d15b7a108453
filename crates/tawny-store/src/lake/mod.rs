//! The columnar store: a write-ahead log and rows in memory in front of sorted Parquet segments in a Delta table.

mod probe;
mod rows;
mod run;
