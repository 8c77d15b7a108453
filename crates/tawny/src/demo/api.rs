//! A stand-in for the Kubernetes API: what an agent asks of it, over real HTTP, for the made-up cluster.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

use super::cluster::{Cluster, NODE};

/// The cluster and a bell that rings at every tick.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) cluster: Arc<Mutex<Cluster>>,
    pub(super) ticks: watch::Receiver<u64>,
}

/// Query parameters of lists and watches that are honoured; selectors of other nodes find nothing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListParams {
    #[serde(default)]
    watch: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    field_selector: String,
    timeout_seconds: Option<u64>,
}

impl ListParams {
    fn is_watch(&self) -> bool {
        matches!(self.watch.as_str(), "true" | "1")
    }

    fn selects(&self, namespace: Option<&str>, pod: &Value) -> bool {
        let in_namespace =
            namespace.is_none_or(|namespace| pod["metadata"]["namespace"] == namespace);
        let on_node = match self.field_selector.strip_prefix("spec.nodeName=") {
            Some(node) => node.trim_start_matches('=') == NODE,
            None => true,
        };
        in_namespace && on_node
    }
}

pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route("/version", get(|| async { Json(json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0-demo", "platform": "linux/amd64"})) }))
        .route("/api/v1/pods", get(all_pods))
        .route("/api/v1/namespaces/{namespace}/pods", get(pods_of_namespace))
        .route("/api/v1/namespaces", get(namespaces))
        .route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", post(review))
        .fallback(|| async { status(StatusCode::NOT_FOUND, "NotFound", "the demo's API serves pods and namespaces only") })
        .with_state(shared)
}

async fn all_pods(State(shared): State<Shared>, Query(params): Query<ListParams>) -> Response {
    pods(shared, None, params).await
}

async fn pods_of_namespace(
    State(shared): State<Shared>,
    Path(namespace): Path<String>,
    Query(params): Query<ListParams>,
) -> Response {
    pods(shared, Some(namespace), params).await
}

/// Namespaces never change here, so a watch of them stays silent until its time is over.
async fn namespaces(State(shared): State<Shared>, Query(params): Query<ListParams>) -> Response {
    if params.is_watch() {
        let wait = params
            .timeout_seconds
            .map_or(DEFAULT_WATCH, Duration::from_secs);
        let silence = stream::once(async move {
            tokio::time::sleep(wait).await;
            Ok::<_, Infallible>(Bytes::new())
        });
        return (
            [("content-type", "application/json")],
            Body::from_stream(silence),
        )
            .into_response();
    }
    let (pods, version) = shared.cluster.lock().await.list();
    let names: BTreeSet<&str> = pods
        .iter()
        .filter_map(|pod| pod["metadata"]["namespace"].as_str())
        .collect();
    let items: Vec<Value> = names
        .iter()
        .map(|name| json!({"metadata": {"name": name, "uid": name, "labels": {}}}))
        .collect();
    Json(json!({"apiVersion": "v1", "kind": "NamespaceList", "metadata": {"resourceVersion": version.to_string()}, "items": items})).into_response()
}

async fn review(Json(mut review): Json<Value>) -> Json<Value> {
    review["status"] = json!({"allowed": true});
    Json(review)
}

async fn pods(shared: Shared, namespace: Option<String>, params: ListParams) -> Response {
    if params.is_watch() {
        return watch_pods(shared, namespace, params);
    }
    let (items, version) = shared.cluster.lock().await.list();
    let items: Vec<Value> = items
        .into_iter()
        .filter(|pod| params.selects(namespace.as_deref(), pod))
        .collect();
    Json(json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": version.to_string()}, "items": items})).into_response()
}

/// How long a watch lasts when the client does not say.
const DEFAULT_WATCH: Duration = Duration::from_secs(300);

fn watch_pods(shared: Shared, namespace: Option<String>, params: ListParams) -> Response {
    let ends_at = tokio::time::Instant::now()
        + params
            .timeout_seconds
            .map_or(DEFAULT_WATCH, Duration::from_secs);
    let seen: u64 = params.resource_version.parse().unwrap_or(0);
    let state = (shared, namespace, params, seen);
    let lines = stream::unfold(Some(state), move |state| async move {
        let (mut shared, namespace, params, mut seen) = state?;
        loop {
            let Some(changes) = shared.cluster.lock().await.changes_since(seen) else {
                let expired = json!({"type": "ERROR", "object": {"apiVersion": "v1", "kind": "Status", "status": "Failure",
                    "code": 410, "reason": "Expired", "message": "too old resource version"}});
                return Some((line(&expired), None));
            };
            let mut text = Vec::new();
            for change in &changes {
                seen = change.resource_version;
                if params.selects(namespace.as_deref(), &change.object) {
                    text.extend(line(&json!({"type": "MODIFIED", "object": change.object})));
                }
            }
            if !text.is_empty() {
                return Some((text, Some((shared, namespace, params, seen))));
            }
            tokio::select! {
                changed = shared.ticks.changed() => changed.ok()?,
                () = tokio::time::sleep_until(ends_at) => return None,
            }
        }
    });
    let body = Body::from_stream(futures::StreamExt::map(lines, |text| {
        Ok::<_, Infallible>(Bytes::from(text))
    }));
    ([("content-type", "application/json")], body).into_response()
}

fn line(event: &Value) -> Vec<u8> {
    let mut text = event.to_string().into_bytes();
    text.push(b'\n');
    text
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response {
    let body = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": message});
    (code, Json(body)).into_response()
}
