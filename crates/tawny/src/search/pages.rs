//! Pages of a search: one request after the other, each going on where the last one ended.

use tawny_model::{LogEntry, Timestamp};
use tawny_wire::api::SearchResponse;

use super::args::Order;
use crate::client::{Client, Error};

/// Which entries are asked for.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) query: String,
    pub(super) from: Option<Timestamp>,
    /// Exclusive.
    pub(super) to: Option<Timestamp>,
}

impl Range {
    /// As parameters of a request.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = vec![("q", self.query.clone())];
        parameters.extend(self.from.map(|from| ("from", from.to_string())));
        parameters.extend(self.to.map(|to| ("to", to.to_string())));
        parameters
    }
}

/// Entries of one request: large enough that the round trip does not count, small enough to show something soon.
const PAGE_ENTRIES: usize = 1_000;

/// A search under way.
#[derive(Debug)]
pub(super) struct Pages {
    client: Client,
    range: Range,
    cursor: Option<String>,
    is_done: bool,
}

impl Pages {
    pub(super) fn new(client: Client, range: Range) -> Self {
        Self {
            client,
            range,
            cursor: None,
            is_done: false,
        }
    }

    /// The next entries, at most `limit` and never none; `None` when there are no more.
    pub(super) async fn next(
        &mut self,
        order: Order,
        limit: usize,
    ) -> Result<Option<Vec<LogEntry>>, Error> {
        if self.is_done {
            return Ok(None);
        }
        let mut parameters = self.range.parameters();
        parameters.push(("limit", limit.min(PAGE_ENTRIES).to_string()));
        let order = match order {
            Order::Latest | Order::Newest => "desc",
            Order::Oldest => "asc",
        };
        parameters.push(("order", order.to_owned()));
        parameters.extend(self.cursor.take().map(|cursor| ("cursor", cursor)));
        let page: SearchResponse<'_> = self.client.get_json("/api/v1/search", &parameters).await?;
        self.cursor = page.next_cursor;
        self.is_done = self.cursor.is_none();
        let entries: Vec<LogEntry> = page.entries.into_iter().map(LogEntry::from).collect();
        Ok((!entries.is_empty()).then_some(entries))
    }
}
