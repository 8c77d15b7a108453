//! Read-only SQL over a store: one table, `logs`, whose filters are put to the engine that holds it.
//!
//! This crate alone knows DataFusion. A statement is checked and bound to columns ([`statement`]), planned, and run on
//! threads of its own; what it says of rows becomes a query of the store ([`filter`]).

mod columns;
pub mod error;
mod filter;
mod narrowing;
pub mod output;
mod run;
mod statement;
mod table;

pub use arrow_array::RecordBatch;
pub use arrow_schema::SchemaRef;
pub use error::Error;
pub use output::{Encoder, Format};
pub use run::{Answer, Sql, SqlLimits};
