//! The `LogStore` trait, its conformance suite and its engines.

#[cfg(feature = "test-util")]
#[expect(clippy::unwrap_used, reason = "tests, though they live in the library")]
pub mod conformance;
pub mod error;
mod group;
pub mod lake;
pub mod limits;
mod metrics;
mod naming;
mod ownership;
mod pairs;
mod retention;
pub mod scan;
pub mod sqlite;
pub mod store;

pub use error::Error;
#[cfg(feature = "test-util")]
pub use lake::wal_fuzzing;
pub use lake::{BucketConfig, LakeConfig, LakeStore};
pub use retention::Retention;
pub use scan::{Column, Interest, Rows, ScanRequest};
pub use sqlite::{SqliteConfig, SqliteStore};
pub use store::{
    Bucket, Committed, Facet, FacetsRequest, Filter, Histogram, HistogramRequest, LogStore,
    MAX_BUCKETS, MAX_LIMIT, Order, SearchPage, SearchRequest, StoreStats, Written,
};
