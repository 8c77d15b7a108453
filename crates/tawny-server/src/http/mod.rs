//! The HTTP face: kubelogs' endpoints, `/api/v1`, probes and metrics. Every answer that is an error is JSON.

mod incidents;
mod kubelogs;
mod params;
mod probes;
mod sql;
mod v1;

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Uri, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use tawny_runtime::Registry;
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer};

pub(crate) use kubelogs::KubelogsEntry;

use crate::{Error, Readiness, shared::Shared};

/// Every path answered; also the values of the metric's `route`.
mod route {
    pub(super) const LOGS: &str = "/api/logs";
    pub(super) const LOGS_STREAM: &str = "/api/logs/stream";
    pub(super) const STATS: &str = "/api/stats";
    pub(super) const NAMESPACES: &str = "/api/filters/namespaces";
    pub(super) const CONTAINERS: &str = "/api/filters/containers";
    pub(super) const SEARCH: &str = "/api/v1/search";
    pub(super) const HISTOGRAM: &str = "/api/v1/histogram";
    pub(super) const FACETS: &str = "/api/v1/facets";
    pub(super) const SQL: &str = "/api/v1/sql";
    pub(super) const TAIL: &str = "/api/v1/tail";
    pub(super) const INCIDENTS: &str = "/api/v1/incidents";
    pub(super) const INCIDENTS_STREAM: &str = "/api/v1/incidents/stream";
    pub(super) const INCIDENT: &str = "/api/v1/incidents/{id}";
    pub(super) const INCIDENT_REPORT: &str = "/api/v1/incidents/{id}/report";
    pub(super) const INCIDENT_RESOLVE: &str = "/api/v1/incidents/{id}/resolve";
    pub(super) const INCIDENT_MUTE: &str = "/api/v1/incidents/{id}/mute";
    pub(super) const V1_HEALTH: &str = "/api/v1/health";
    pub(super) const HEALTH: &str = "/health";
    pub(super) const HEALTHZ: &str = "/healthz";
    pub(super) const LIVEZ: &str = "/livez";
    pub(super) const READYZ: &str = "/readyz";
    pub(super) const METRICS: &str = "/metrics";
    pub(super) const ALL: [&str; 22] = [
        LOGS,
        LOGS_STREAM,
        STATS,
        NAMESPACES,
        CONTAINERS,
        SEARCH,
        HISTOGRAM,
        FACETS,
        SQL,
        TAIL,
        INCIDENTS,
        INCIDENTS_STREAM,
        INCIDENT,
        INCIDENT_REPORT,
        INCIDENT_RESOLVE,
        INCIDENT_MUTE,
        V1_HEALTH,
        HEALTH,
        HEALTHZ,
        LIVEZ,
        READYZ,
        METRICS,
    ];
    pub(super) const UNKNOWN: &str = "unknown";
}

type SharedState = State<Arc<Shared>>;

pub(crate) fn router(shared: &Arc<Shared>, registry: Arc<Registry>) -> Router {
    let answers = Router::new()
        .route(route::LOGS, get(kubelogs::logs))
        .route(route::STATS, get(kubelogs::stats))
        .route(route::NAMESPACES, get(kubelogs::namespaces))
        .route(route::CONTAINERS, get(kubelogs::containers))
        .route(route::SEARCH, get(v1::search))
        .route(route::HISTOGRAM, get(v1::histogram))
        .route(route::FACETS, get(v1::facets))
        .route(route::SQL, get(sql::sql).post(sql::sql))
        .route(route::INCIDENTS, get(incidents::list))
        .route(route::INCIDENT, get(incidents::detail))
        .route(route::INCIDENT_REPORT, get(incidents::report))
        .route(route::INCIDENT_RESOLVE, post(incidents::resolve))
        .route(route::INCIDENT_MUTE, post(incidents::mute))
        .route(
            route::METRICS,
            get(move |headers| probes::metrics(headers, registry)),
        )
        .layer(CompressionLayer::new().gzip(true));
    // Not compressed: an entry must leave when it comes, not when a block is full.
    let streams = Router::new()
        .route(route::LOGS_STREAM, get(kubelogs::stream))
        .route(route::TAIL, get(v1::tail))
        .route(route::INCIDENTS_STREAM, get(incidents::follow));
    let probes = Router::new()
        .route(route::V1_HEALTH, get(probes::components))
        .route(route::HEALTH, get(probes::health))
        .route(route::HEALTHZ, get(probes::live))
        .route(route::LIVEZ, get(probes::live))
        .route(route::READYZ, get(probes::ready));
    answers
        .merge(streams)
        .merge(probes)
        .fallback(unknown_path)
        .method_not_allowed_fallback(async || Error::Method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(shared), around))
        .with_state(Arc::clone(shared))
}

/// Probes and metrics alone, for a process without a store.
pub(crate) fn probes_router(readiness: Readiness, registry: Arc<Registry>) -> Router {
    Router::new()
        .route(route::HEALTH, get(probes::health))
        .route(route::HEALTHZ, get(probes::live))
        .route(route::LIVEZ, get(probes::live))
        .route(route::READYZ, get(async move || probes::answer(&readiness)))
        .route(
            route::METRICS,
            get(move |headers| probes::metrics(headers, registry)),
        )
        .fallback(unknown_path)
        .method_not_allowed_fallback(async || Error::Method)
        .layer(CatchPanicLayer::custom(panicked))
}

async fn unknown_path(uri: Uri) -> Error {
    Error::UnknownPath {
        path: uri.path().to_owned(),
    }
}

fn panicked(_panic: Box<dyn Any + Send + 'static>) -> Response {
    Error::Panic.into_response()
}

/// Refuses what is too long, counts what is answered.
async fn around(State(shared): SharedState, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .and_then(|matched| {
            route::ALL
                .into_iter()
                .find(|route| *route == matched.as_str())
        })
        .unwrap_or(route::UNKNOWN);
    let len_bytes = request
        .uri()
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    let limit_bytes = shared.limits.max_uri.as_bytes();
    let response = if len_bytes as u64 > limit_bytes {
        Error::UriTooLong {
            len_bytes,
            limit_bytes,
        }
        .into_response()
    } else {
        next.run(request).await
    };
    shared.metrics.http_request(route, response.status());
    response
}

fn json(value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("texts and numbers are always JSON");
    (
        [
            (header::CONTENT_TYPE, "application/json"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        text,
    )
        .into_response()
}

/// An answer without an end. nginx is told not to hold it back (KL-71).
fn stream(content_type: &'static str, body: Body) -> Response {
    (
        [
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (
                HeaderName::from_static("x-accel-buffering"),
                HeaderValue::from_static("no"),
            ),
        ],
        body,
    )
        .into_response()
}
