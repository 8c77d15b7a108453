//! Probes and metrics: what kubelets and Prometheus ask.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use tawny_runtime::Registry;

use super::{SharedState, json};
use crate::{NotReady, Readiness, metrics::Exposition};

/// Alive in JSON, as strixlog's probes read it.
pub(super) async fn health() -> Response {
    json(&serde_json::json!({ "status": "ok" }))
}

pub(super) async fn live() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(shared): SharedState) -> (StatusCode, String) {
    answer(&shared.readiness)
}

pub(super) fn answer(readiness: &Readiness) -> (StatusCode, String) {
    match readiness.why_not() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(NotReady::Stopping) => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        Some(NotReady::NotWritable(reason)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("store cannot be written: {reason}\n"),
        ),
    }
}

pub(super) async fn metrics(headers: HeaderMap, registry: Arc<Registry>) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let exposition = Exposition::accepted(accept);
    (
        [(header::CONTENT_TYPE, exposition.content_type())],
        exposition.render(&registry),
    )
        .into_response()
}
