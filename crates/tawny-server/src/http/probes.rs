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

/// Health with its parts, as BlackBox's clients read it (BB-36, BB-18): 503 while the store cannot be written or a watch
/// does not work.
pub(super) async fn components(State(shared): SharedState) -> Response {
    let now = shared.clock.now();
    let mut components = serde_json::Map::new();
    let mut put = |name: &str, is_healthy: bool, detail: String| {
        let status = status(is_healthy);
        let component = serde_json::json!({"status": status, "detail": detail});
        components.insert(name.to_owned(), component);
        is_healthy
    };
    let mut is_healthy = match shared.readiness.why_not() {
        None => put("store", true, "can be written".to_owned()),
        Some(NotReady::Stopping) => put("store", false, "stopping".to_owned()),
        Some(NotReady::NotWritable(reason)) => put("store", false, reason),
    };
    if let Some(watched) = &shared.watched {
        for indicator in watched.health.indicators(now) {
            let is_well = put(indicator.name, indicator.is_healthy, indicator.detail);
            // Rights that were not given are told, and no reason to restart anything.
            is_healthy &= is_well || indicator.name == "permission_state";
        }
    }
    let answer = json(&serde_json::json!({
        "status": status(is_healthy),
        "timestamp": now.to_string(),
        "service": "blackbox-daemon",
        "version": env!("CARGO_PKG_VERSION"),
        "components": components,
    }));
    let code = if is_healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, answer).into_response()
}

fn status(is_healthy: bool) -> &'static str {
    if is_healthy { "healthy" } else { "unhealthy" }
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
