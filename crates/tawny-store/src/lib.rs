//! The `LogStore` trait, its conformance suite and its engines.

pub mod error;
pub mod store;

pub use error::Error;
pub use store::{
    Bucket, Committed, Facet, FacetsRequest, Filter, Histogram, HistogramRequest, LogStore,
    MAX_BUCKETS, MAX_LIMIT, Order, Retention, SearchPage, SearchRequest, StoreStats, Written,
};
