//! Reading: what a question needs of a snapshot, and how its rows are found.
//!
//! A query is folded once per kind of stream ([`residual`]); what is left of it prunes blocks ([`narrow`]), and the
//! rows of the blocks left are looked at ([`eval`]). Counts come from the index wherever it decides them.

mod batches;
mod budget;
mod eval;
mod explain;
mod facets;
mod hot;
mod literals;
mod lookup;
mod matches;
mod narrow;
mod page;
mod parallel;
mod pieces;
mod residual;
mod scan;
mod search;
mod span;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tawny_model::Stream;

use super::{
    described::Described,
    rows::HotRows,
    run::{Run, RunIndex},
};

pub(crate) use self::{
    batches::BatchScan,
    budget::Budget,
    explain::{Explained, explain},
    facets::facets,
    lookup::{contains, get, ids_at},
    matches::Matches,
    search::search,
    tally::{count, histogram},
};

/// Everything a question sees: rows in memory, and runs. No row is in two of them.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) hot: Vec<Arc<HotRows>>,
    pub(crate) runs: Vec<Arc<dyn Run>>,
    pub(crate) streams: Arc<dyn Describe>,
}

/// Latest description of a stream: metadata that came late is seen on earlier entries.
pub(crate) trait Describe: std::fmt::Debug + Send + Sync {
    /// What is known of the stream now; itself when nothing newer is.
    fn describe(&self, stream: &Arc<Stream>) -> Arc<Stream>;

    /// The same for every stream of a run, in their order.
    fn describe_all(&self, index: &RunIndex) -> Arc<Described> {
        let streams = index.streams().iter();
        let described = streams.map(|stream| self.describe(&stream.stream));
        Arc::new(described.collect())
    }
}
