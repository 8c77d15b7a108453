//! The HTTP face.

use std::sync::Arc;

use axum::{Router, routing::get};
use tawny_runtime::Registry;

use crate::shared::Shared;

pub(crate) fn router(shared: &Arc<Shared>, _registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .with_state(Arc::clone(shared))
}
