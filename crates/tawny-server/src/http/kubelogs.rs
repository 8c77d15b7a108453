//! kubelogs' HTTP interface (KL-70 to KL-73), so that its page and its users' scripts work unchanged.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};
use serde::Serialize;
use tawny_model::{LogEntry, Severity, Timestamp};
use tawny_query::{Field, Query};
use tawny_store::{FacetsRequest, Filter, Order};
use tawny_wire::{api::attribute_map, kubelogs::known_pod_uid};

use super::{SharedState, json, params::Params, stream as streamed};
use crate::{
    Error,
    kubelogs::{DEFAULT_LIMIT, Filters, page, request},
    metrics::Asked,
    shared::Shared,
    tail::{self, Format, Replay},
};

/// Most entries of a page; more is cut to this, as kubelogs does.
const MAX_LIMIT: usize = 1_000;

/// Entries a stream begins with.
const STREAM_BEGINS_WITH: usize = 50;

/// Most namespaces or containers listed.
const MAX_NAMES: usize = 10_000;

/// An entry as kubelogs writes it: id and time are numbers, which JavaScript rounds above 2^53.
#[derive(Debug, Serialize)]
pub(crate) struct KubelogsEntry<'a> {
    id: i64,
    /// Nanoseconds since the epoch.
    timestamp: i64,
    namespace: &'a str,
    pod: &'a str,
    container: &'a str,
    severity: u8,
    message: &'a str,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "attribute_map::serialize"
    )]
    attrs: Vec<(&'a str, &'a str)>,
}

impl<'a> From<&'a LogEntry> for KubelogsEntry<'a> {
    fn from(entry: &'a LogEntry) -> Self {
        let attributes = entry
            .attributes
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let pod_uid = known_pod_uid(&entry.stream).map(|uid| (tawny_wire::kubelogs::POD_UID, uid));
        Self {
            id: entry.id.0,
            timestamp: entry.timestamp.as_nanos(),
            namespace: &entry.stream.namespace,
            pod: &entry.stream.pod,
            container: entry.stream.container(),
            severity: entry.severity.number(),
            message: &entry.message,
            attrs: pod_uid.into_iter().chain(attributes).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Logs<'a> {
    entries: Vec<KubelogsEntry<'a>>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    total_entries: u64,
    disk_size_bytes: u64,
    /// Nanoseconds since the epoch; 0 when there is no entry.
    oldest_entry: i64,
    newest_entry: i64,
}

pub(super) async fn logs(State(shared): SharedState, uri: Uri) -> Result<Response, Error> {
    let params = Params::read(
        &uri,
        &[
            "namespace",
            "pod",
            "container",
            "search",
            "minSeverity",
            "limit",
            "afterId",
            "beforeId",
            "order",
            "startTime",
            "endTime",
            "attr.",
        ],
    )?;
    let order = params
        .choice(
            "order",
            &[("desc", Order::NewestFirst), ("asc", Order::OldestFirst)],
        )?
        .unwrap_or_default();
    let limit = params
        .parsed::<usize>("limit", "a number")?
        .filter(|limit| *limit > 0)
        .unwrap_or(DEFAULT_LIMIT)
        .min(MAX_LIMIT);
    let filter = filters(&params, shared.clock.now())?.filter()?;
    let id = |name| Ok::<i64, Error>(params.parsed(name, "an id")?.unwrap_or(0));
    let request = request(filter, order, limit, id("afterId")?, id("beforeId")?);
    let page = page(&shared, &request).await?;
    Ok(json(&Logs {
        entries: page.entries.iter().map(KubelogsEntry::from).collect(),
        has_more: page.has_more,
        next_cursor: page.next_cursor.map(|id| id.0),
        total: page.total,
    }))
}

fn filters(params: &Params, now: Timestamp) -> Result<Filters, Error> {
    let text = |name| params.text(name).unwrap_or_default().to_owned();
    let min_severity = match params.text("minSeverity") {
        None => Severity::Unknown,
        Some(number) => number
            .parse()
            .ok()
            .and_then(Severity::from_number)
            .ok_or_else(|| {
                Error::parameter("minSeverity", format!("`{number}` is none of 0 to 6"))
            })?,
    };
    Ok(Filters {
        search: text("search"),
        namespace: text("namespace"),
        pod: text("pod"),
        container: text("container"),
        min_severity,
        attributes: params
            .prefixed("attr.")
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        from: params.moment("startTime", now)?,
        to: params.moment("endTime", now)?,
    })
}

/// Pushed from the store's commits, where kubelogs asked its database every 500 ms.
pub(super) async fn stream(
    State(shared): SharedState,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let params = Params::read(
        &uri,
        &[
            "namespace",
            "pod",
            "container",
            "search",
            "minSeverity",
            "startTime",
            "endTime",
            "lastId",
            "attr.",
        ],
    )?;
    let filter = filters(&params, shared.clock.now())?.filter()?;
    let replay = last_id(&params, "lastId", &headers)?.unwrap_or(Replay::Last(STREAM_BEGINS_WITH));
    let format = Format::KubelogsEvents;
    let body = tail::open(&shared, filter, Some(replay), format)?;
    Ok(streamed(format.content_type(), body))
}

/// Where a client that was here before left off; the header is what a browser sends when it reconnects by itself.
pub(super) fn last_id(
    params: &Params,
    name: &'static str,
    headers: &HeaderMap,
) -> Result<Option<Replay>, Error> {
    let from_header = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok()?.parse().ok());
    let id = match from_header {
        Some(id) => Some(id),
        None => params.parsed(name, "an id")?,
    };
    Ok(id.map(|id| Replay::After(tawny_model::EntryId(id))))
}

pub(super) async fn stats(State(shared): SharedState, uri: Uri) -> Result<Response, Error> {
    Params::read(&uri, &[])?;
    let stats = shared.ask(Asked::Stats, shared.store.stats()).await?;
    let nanos = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_nanos);
    Ok(json(&Stats {
        total_entries: stats.n_entries,
        disk_size_bytes: stats.disk_bytes,
        oldest_entry: nanos(stats.oldest),
        newest_entry: nanos(stats.newest),
    }))
}

pub(super) async fn namespaces(State(shared): SharedState, uri: Uri) -> Result<Response, Error> {
    Params::read(&uri, &[])?;
    names(&shared, Field::Namespace).await
}

pub(super) async fn containers(State(shared): SharedState, uri: Uri) -> Result<Response, Error> {
    Params::read(&uri, &[])?;
    names(&shared, Field::Container).await
}

/// The field's values in alphabetical order (KL-73).
async fn names(shared: &Arc<Shared>, field: Field) -> Result<Response, Error> {
    let request = FacetsRequest {
        filter: Filter {
            query: Query::all(),
            from: Timestamp::MIN,
            to: Timestamp::MAX,
        },
        fields: vec![field],
        limit: MAX_NAMES,
    };
    let facets = shared
        .ask(Asked::Facets, shared.store.facets(&request))
        .await?;
    let mut names: Vec<&str> = facets
        .iter()
        .flat_map(|facet| &facet.values)
        .map(|(value, _)| value.as_str())
        .collect();
    names.sort_unstable();
    Ok(json(&names))
}
