//! The server: one store behind a gRPC and an HTTP listener.

use std::sync::Arc;

use tawny_runtime::{CancellationToken, Registry, SharedClock};
use tawny_store::LogStore;
use tawny_watch::{Incidents, WatchHealth};
use tokio::net::TcpListener;

use crate::{
    Limits, Readiness, grpc, http, listen,
    metrics::Metrics,
    shared::{Shared, Watched},
};

/// Bound sockets; a face without one is not served.
#[derive(Debug, Default)]
pub struct Listeners {
    pub grpc: Option<TcpListener>,
    pub http: Option<TcpListener>,
}

/// A server that has not begun to listen.
#[derive(Debug)]
pub struct Server {
    shared: Shared,
}

impl Server {
    /// Registers its metrics in `registry`; [`Self::serve`] is given the registry once all others have done so too.
    pub fn new(
        store: Arc<dyn LogStore>,
        clock: SharedClock,
        limits: Limits,
        registry: &mut Registry,
    ) -> Self {
        let metrics = Metrics::register(registry);
        Self {
            shared: Shared::new(store, clock, limits, metrics),
        }
    }

    /// Answers for the incidents of a cluster that this process watches, too.
    #[must_use]
    pub fn with_incidents(mut self, incidents: Incidents, health: WatchHealth) -> Self {
        self.shared.watched = Some(Watched { incidents, health });
        self
    }

    /// The state behind `/readyz` and gRPC health, to be told early that the process stops.
    pub fn readiness(&self) -> Readiness {
        self.shared.readiness.clone()
    }

    /// Answers until `stop` fires; then turns unready, ends live tails and push streams, and lets the requests in
    /// flight finish within [`Limits::stop_grace`].
    pub async fn serve(
        self,
        listeners: Listeners,
        registry: Arc<Registry>,
        stop: CancellationToken,
    ) {
        let shared = Arc::new(self.shared);
        let (grpc_router, follow_readiness) = grpc::router(&shared);
        let http_router = http::router(&shared, registry);
        let face = async |name, listener: Option<TcpListener>, router| {
            if let Some(listener) = listener {
                listen::serve(
                    name,
                    listener,
                    router,
                    shared.limits.clone(),
                    shared.stop.clone(),
                )
                .await;
            }
        };
        let stopping = async {
            stop.cancelled().await;
            shared.readiness.stopping();
            shared.stop.cancel();
        };
        let watch_store = shared
            .readiness
            .clone()
            .watch_store(Arc::clone(&shared.store), shared.stop.clone());
        tokio::join!(
            stopping,
            follow_readiness,
            watch_store,
            face("grpc", listeners.grpc, grpc_router),
            face("http", listeners.http, http_router),
        );
    }
}

/// Answers probes and metrics of a process that stores nothing itself, until `stop` fires.
pub async fn serve_probes(
    listener: TcpListener,
    readiness: Readiness,
    registry: Arc<Registry>,
    limits: Limits,
    stop: CancellationToken,
) {
    let router = http::probes_router(readiness, registry);
    listen::serve("http", listener, router, limits, stop).await;
}
