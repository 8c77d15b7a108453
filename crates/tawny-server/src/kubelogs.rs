//! kubelogs' way to ask, common to its gRPC and HTTP interfaces: flat filters, integer cursors (KL-6, KL-70).

use std::collections::BTreeMap;

use tawny_model::{EntryId, LogEntry, Severity, Timestamp};
use tawny_query::{Expr, Field};
use tawny_store::{Filter, Order, SearchRequest};
use tawny_wire::kubelogs::POD_UID;
use tokio::time::{Duration, Instant, timeout};

use crate::{Error, metrics::Asked, shared::Shared};

/// Entries of a page when the client does not say.
pub(crate) const DEFAULT_LIMIT: usize = 100;

/// A total is counted for the first page only, and only as long as nobody would wait for it.
const COUNT_TIMEOUT: Duration = Duration::from_millis(250);

/// What kubelogs clients filter by; empty text matches everything.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    pub(crate) search: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) min_severity: Severity,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Inclusive.
    pub(crate) from: Option<Timestamp>,
    /// Exclusive.
    pub(crate) to: Option<Timestamp>,
}

impl Filters {
    pub(crate) fn filter(&self) -> Result<Filter, Error> {
        let mut tests = Vec::new();
        for (field, value) in [
            (Field::Namespace, &self.namespace),
            (Field::Pod, &self.pod),
            (Field::Container, &self.container),
        ] {
            if !value.is_empty() {
                tests.push(Expr::equals(field, value));
            }
        }
        if self.min_severity > Severity::Unknown {
            tests.push(Expr::at_least(self.min_severity));
        }
        for (key, value) in &self.attributes {
            // An attribute for kubelogs, a part of the stream's identity here.
            let field = if key == POD_UID {
                Field::PodUid
            } else {
                Field::Attribute(key.clone())
            };
            tests.push(Expr::equals(field, value));
        }
        Ok(Filter {
            query: tawny_query::parse_fts5(&self.search)?.and(Expr::all_of(tests)),
            from: self.from.unwrap_or(Timestamp::MIN),
            to: self.to.unwrap_or(Timestamp::MAX),
        })
    }
}

/// A page as kubelogs tells it.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) entries: Vec<LogEntry>,
    pub(crate) has_more: bool,
    /// The last entry's id, to be given as `before` (newest first) or `after` (oldest first).
    pub(crate) next_cursor: Option<EntryId>,
    /// How many match on all pages, where that was cheap to know.
    pub(crate) total: Option<u64>,
}

pub(crate) async fn page(shared: &Shared, request: &SearchRequest) -> Result<Page, Error> {
    let started = Instant::now();
    let page = shared
        .ask(Asked::Search, shared.store.search(request))
        .await?;
    let is_first = request.after.is_none() && request.before.is_none();
    let total = if !is_first {
        None
    } else if !page.has_more {
        Some(page.entries.len() as u64)
    } else {
        let count = shared.ask(Asked::Count, shared.store.count(&request.filter));
        timeout(COUNT_TIMEOUT, count)
            .await
            .ok()
            .and_then(Result::ok)
    };
    shared.metrics.kubelogs_query(started.elapsed());
    Ok(Page {
        next_cursor: page
            .entries
            .last()
            .filter(|_| page.has_more)
            .map(|entry| entry.id),
        entries: page.entries,
        has_more: page.has_more,
        total,
    })
}

/// A request for one page; ids of 0 are absent, as protobuf has it.
pub(crate) fn request(
    filter: Filter,
    order: Order,
    limit: usize,
    after_id: i64,
    before_id: i64,
) -> SearchRequest {
    let cursor = |id: i64| (id != 0).then_some(EntryId(id));
    SearchRequest {
        filter,
        order,
        limit,
        after: cursor(after_id),
        before: cursor(before_id),
    }
}
