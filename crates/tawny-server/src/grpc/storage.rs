//! `kubelogs.storage.v1.StorageService` (KL-3 to KL-9). Write is answered after the durable commit.

use std::sync::Arc;

use async_trait::async_trait;
use prost::Message as _;
use tawny_model::{EntryId, Timestamp};
use tawny_store::{MAX_LIMIT, Order};
use tawny_wire::{
    kubelogs as wire,
    proto::kubelogs::{self as pb, storage_service_server::StorageService},
};
use tonic::{Request, Response, Status};

use super::{answer, code};
use crate::{
    Error,
    kubelogs::{DEFAULT_LIMIT, Filters, page, request},
    metrics::{Asked, LineResult, Protocol},
    shared::Shared,
};

/// Stock gRPC clients take at most 4 MiB; a page ends before that and says that there is more.
const MAX_PAGE_BYTES: usize = 3 << 20;

pub(super) struct Storage(pub(super) Arc<Shared>);

impl Storage {
    async fn store(&self, request: pb::WriteRequest) -> Result<i32, Error> {
        let n_entries = request.entries.len();
        let entries = request
            .entries
            .into_iter()
            .enumerate()
            .map(|(entry_idx, entry)| {
                wire::decode(entry).map_err(|source| Error::Entry { entry_idx, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let n_new = self.0.written(self.0.store.append(entries).await)?;
        let n_entries = n_entries as u64;
        self.0.metrics.kubelogs_write(n_entries);
        self.0.metrics.ingest_lines(LineResult::New, n_new);
        self.0
            .metrics
            .ingest_lines(LineResult::Duplicate, n_entries.saturating_sub(n_new));
        // What is stored now, new or not: a client that repeats a request is told the same.
        Ok(i32::try_from(n_entries).unwrap_or(i32::MAX))
    }

    async fn search(&self, query: pb::QueryRequest) -> Result<pb::QueryResponse, Error> {
        let order = match pb::Order::try_from(query.order) {
            Ok(pb::Order::Desc) => Order::NewestFirst,
            Ok(pb::Order::Asc) => Order::OldestFirst,
            Err(_) => {
                return Err(Error::parameter(
                    "order",
                    format!(
                        "{} is neither 0 (newest first) nor 1 (oldest first)",
                        query.order
                    ),
                ));
            }
        };
        let limit = match usize::try_from(query.limit) {
            Ok(0) => DEFAULT_LIMIT,
            Ok(limit) => limit.min(MAX_LIMIT),
            Err(_) => return Err(Error::parameter("limit", "is negative")),
        };
        let filters = Filters {
            search: query.search,
            namespace: query.namespace,
            pod: query.pod,
            container: query.container,
            min_severity: wire::severity(query.min_severity)
                .map_err(|error| Error::parameter("min_severity", error.to_string()))?,
            attributes: query.attributes,
            from: Some(Timestamp::from_nanos(query.start_time_nanos)),
            to: (query.end_time_nanos != 0).then_some(Timestamp::from_nanos(query.end_time_nanos)),
        };
        let request = request(
            filters.filter()?,
            order,
            limit,
            query.after_id,
            query.before_id,
        );
        let page = page(&self.0, &request).await?;
        let mut response = pb::QueryResponse {
            has_more: page.has_more,
            next_cursor: page.next_cursor.map_or(0, |id| id.0),
            total_estimate: page.total.map_or(0, saturated),
            ..pb::QueryResponse::default()
        };
        let mut n_bytes = 0;
        for entry in page.entries {
            let entry = wire::encode(entry);
            n_bytes += entry.encoded_len();
            if n_bytes > MAX_PAGE_BYTES
                && let Some(last) = response.entries.last()
            {
                response.has_more = true;
                response.next_cursor = last.id;
                break;
            }
            response.entries.push(entry);
        }
        Ok(response)
    }

    async fn get(&self, id: EntryId) -> Result<pb::LogEntry, Error> {
        self.0
            .ask(Asked::Get, self.0.store.get(id))
            .await?
            .map(wire::encode)
            .ok_or(Error::NoEntry { id })
    }
}

#[async_trait]
impl StorageService for Storage {
    async fn write(
        &self,
        request: Request<pb::WriteRequest>,
    ) -> Result<Response<pb::WriteResponse>, Status> {
        let stored = self.store(request.into_inner()).await;
        self.0
            .metrics
            .ingest_request(Protocol::Kubelogs, code(&stored));
        answer(
            &self.0,
            "Write",
            stored.map(|count| pb::WriteResponse { count }),
        )
    }

    async fn query(
        &self,
        request: Request<pb::QueryRequest>,
    ) -> Result<Response<pb::QueryResponse>, Status> {
        answer(&self.0, "Query", self.search(request.into_inner()).await)
    }

    async fn get_by_id(
        &self,
        request: Request<pb::GetByIdRequest>,
    ) -> Result<Response<pb::GetByIdResponse>, Status> {
        let found = self.get(EntryId(request.into_inner().id)).await;
        let found = found.map(|entry| pb::GetByIdResponse { entry: Some(entry) });
        answer(&self.0, "GetByID", found)
    }

    async fn delete(
        &self,
        request: Request<pb::DeleteRequest>,
    ) -> Result<Response<pb::DeleteResponse>, Status> {
        let before = Timestamp::from_nanos(request.into_inner().older_than_nanos);
        let deleted = self
            .0
            .written(self.0.store.delete_older_than(before).await)
            .map(|n| pb::DeleteResponse {
                deleted_count: saturated(n),
            });
        answer(&self.0, "Delete", deleted)
    }

    async fn stats(
        &self,
        _request: Request<pb::StatsRequest>,
    ) -> Result<Response<pb::StatsResponse>, Status> {
        let stats = self.0.ask(Asked::Stats, self.0.store.stats()).await;
        let nanos = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_nanos);
        let stats = stats.map(|stats| pb::StatsResponse {
            total_entries: saturated(stats.n_entries),
            disk_size_bytes: saturated(stats.disk_bytes),
            oldest_entry_nanos: nanos(stats.oldest),
            newest_entry_nanos: nanos(stats.newest),
        });
        answer(&self.0, "Stats", stats)
    }
}

fn saturated(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
