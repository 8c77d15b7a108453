//! `/api/v1`: search, histogram, facets and tail in our own query language. The JSON types live in `tawny_wire::api`.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, Uri, header},
    response::Response,
};
use tawny_model::{EntryId, Severity, Timestamp};
use tawny_query::{Field, Query};
use tawny_store::{FacetsRequest, Filter, HistogramRequest, MAX_LIMIT, Order, SearchRequest};
use tawny_wire::api;

use super::{SharedState, json, kubelogs::last_id, params::Params, stream as streamed};
use crate::{
    Error,
    metrics::Asked,
    shared::Shared,
    tail::{self, Format, Replay},
};

const DEFAULT_LIMIT: usize = 100;

const DEFAULT_FACET_VALUES: usize = 10;
const MAX_FACET_VALUES: usize = 1_000;

/// What people narrow a search by first.
const DEFAULT_FACETS: [Field; 6] = [
    Field::Severity,
    Field::Namespace,
    Field::Workload,
    Field::Pod,
    Field::Container,
    Field::Node,
];

/// A histogram whose bucket is not given has at most this many.
const AUTO_BUCKETS: u32 = 120;

/// Widths people read at a glance.
const BUCKET_SECS: [u64; 17] = [
    1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800,
    2_592_000,
];

/// `q` and the time range, which every request has.
fn filter(params: &Params, now: Timestamp) -> Result<Filter, Error> {
    let from = match (params.moment("since", now)?, params.moment("from", now)?) {
        (Some(_), Some(_)) => {
            return Err(Error::parameter(
                "since",
                "cannot stand beside `from`: both say where to begin",
            ));
        }
        (since, from) => since.or(from),
    };
    Ok(Filter {
        query: Query::parse(params.text("q").unwrap_or_default())?,
        from: from.unwrap_or(Timestamp::MIN),
        to: params.moment("to", now)?.unwrap_or(Timestamp::MAX),
    })
}

/// A number from 1 to `max`.
fn limit(params: &Params, default: usize, max: usize) -> Result<usize, Error> {
    let limit = params.parsed("limit", "a number")?.unwrap_or(default);
    if (1..=max).contains(&limit) {
        Ok(limit)
    } else {
        Err(Error::parameter(
            "limit",
            format!("{limit} is not from 1 to {max}"),
        ))
    }
}

pub(super) async fn search(State(shared): SharedState, uri: Uri) -> Result<Response, Error> {
    let params = Params::read(
        &uri,
        &["q", "since", "from", "to", "limit", "order", "cursor"],
    )?;
    let order = params
        .choice(
            "order",
            &[("desc", Order::NewestFirst), ("asc", Order::OldestFirst)],
        )?
        .unwrap_or_default();
    let cursor = params.parsed("cursor", "a cursor")?.map(EntryId);
    let (after, before) = match order {
        Order::NewestFirst => (None, cursor),
        Order::OldestFirst => (cursor, None),
    };
    let request = SearchRequest {
        filter: filter(&params, shared.clock.now())?,
        order,
        limit: limit(&params, DEFAULT_LIMIT, MAX_LIMIT)?,
        after,
        before,
    };
    let page = shared
        .ask(Asked::Search, shared.store.search(&request))
        .await?;
    Ok(json(&api::SearchResponse {
        next_cursor: page
            .entries
            .last()
            .filter(|_| page.has_more)
            .map(|entry| entry.id.to_string()),
        entries: page.entries.iter().map(api::Entry::from).collect(),
        has_more: page.has_more,
    }))
}

pub(super) async fn histogram(State(shared): SharedState, uri: Uri) -> Result<Response, Error> {
    let params = Params::read(&uri, &["q", "since", "from", "to", "bucket"])?;
    let filter = filter(&params, shared.clock.now())?;
    let bucket = match params.text("bucket") {
        Some(text) => tawny_runtime::duration::parse(text)
            .map_err(|error| Error::parameter("bucket", error.to_string()))?,
        None => bucket_for(covered(&shared, &filter).await?),
    };
    let request = HistogramRequest { filter, bucket };
    let histogram = shared
        .ask(Asked::Histogram, shared.store.histogram(&request))
        .await?;
    let buckets: Vec<api::Bucket> = histogram
        .buckets
        .iter()
        .map(|bucket| api::Bucket {
            start: bucket.start,
            total: bucket.counts.iter().sum(),
            counts: Severity::ALL
                .into_iter()
                .zip(bucket.counts)
                .filter(|(_, n)| *n > 0)
                .collect(),
        })
        .collect();
    Ok(json(&api::HistogramResponse {
        bucket: tawny_runtime::duration::display(bucket).to_string(),
        total: buckets.iter().map(|bucket| bucket.total).sum(),
        buckets,
    }))
}

/// The span of time a filter can find anything in.
async fn covered(shared: &Arc<Shared>, filter: &Filter) -> Result<Duration, Error> {
    let (mut from, mut to) = (filter.from, filter.to);
    if from == Timestamp::MIN || to == Timestamp::MAX {
        let stats = shared.ask(Asked::Stats, shared.store.stats()).await?;
        from = from.max(stats.oldest.unwrap_or(to));
        to = to.min(
            stats
                .newest
                .unwrap_or(from)
                .saturating_add(Duration::from_nanos(1)),
        );
    }
    Ok(to.saturating_since(from))
}

/// The narrowest width that leaves few enough buckets to draw.
fn bucket_for(covered: Duration) -> Duration {
    BUCKET_SECS
        .into_iter()
        .map(Duration::from_secs)
        .find(|bucket| covered <= *bucket * AUTO_BUCKETS)
        .unwrap_or(covered / AUTO_BUCKETS)
}

pub(super) async fn facets(State(shared): SharedState, uri: Uri) -> Result<Response, Error> {
    let params = Params::read(&uri, &["q", "since", "from", "to", "fields", "limit"])?;
    let fields = match params.text("fields") {
        Some(names) => names
            .split(',')
            .map(|name| Field::named(name.trim()))
            .collect(),
        None => DEFAULT_FACETS.to_vec(),
    };
    let request = FacetsRequest {
        filter: filter(&params, shared.clock.now())?,
        fields,
        limit: limit(&params, DEFAULT_FACET_VALUES, MAX_FACET_VALUES)?,
    };
    let facets = shared
        .ask(Asked::Facets, shared.store.facets(&request))
        .await?;
    Ok(json(&api::FacetsResponse {
        facets: facets
            .into_iter()
            .map(|facet| api::Facet {
                field: facet.field.to_string(),
                values: facet
                    .values
                    .into_iter()
                    .map(|(value, count)| api::FacetValue { value, count })
                    .collect(),
            })
            .collect(),
    }))
}

pub(super) async fn tail(
    State(shared): SharedState,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let params = Params::read(
        &uri,
        &["q", "since", "from", "to", "last", "cursor", "format"],
    )?;
    let filter = filter(&params, shared.clock.now())?;
    let last = params.parsed::<usize>("last", "a number")?;
    if last.is_some_and(|last| last > MAX_LIMIT) {
        return Err(Error::parameter(
            "last",
            format!("is more than {MAX_LIMIT}"),
        ));
    }
    let replay = match (last_id(&params, "cursor", &headers)?, last) {
        (Some(after), _) => Some(after),
        (None, Some(0)) => None,
        (None, Some(last)) => Some(Replay::Last(last)),
        // A beginning in time asks for the past; without one, a tail is what comes.
        (None, None) => (filter.from != Timestamp::MIN).then_some(Replay::EVERYTHING),
    };
    let accepts_events = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains(Format::Events.content_type()));
    let format = params
        .choice(
            "format",
            &[("ndjson", Format::Lines), ("sse", Format::Events)],
        )?
        .unwrap_or(if accepts_events {
            Format::Events
        } else {
            Format::Lines
        });
    let body = tail::open(&shared, filter, replay, format)?;
    Ok(streamed(format.content_type(), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_grows_with_the_time_covered() {
        for (covered_secs, bucket_secs) in [
            (0, 1),
            (120, 1),
            (121, 2),
            (900, 10),
            (3_600, 30),
            (86_400, 1_800),
            (30 * 86_400, 21_600),
        ] {
            assert_eq!(
                bucket_for(Duration::from_secs(covered_secs)),
                Duration::from_secs(bucket_secs),
                "{covered_secs} s"
            );
        }
    }
}
