//! Whether this server should be sent work: not while it stops, and not while its store cannot be written.

use std::{sync::Arc, time::Duration};

use tawny_runtime::CancellationToken;
use tawny_store::LogStore;
use tokio::{sync::watch, time::MissedTickBehavior};

/// Why a server is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReady {
    Stopping,
    /// The store's last answer to a write; tried again every few seconds.
    NotWritable(String),
}

/// Shared by every probe; cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<Option<NotReady>>>);

/// How often the store is asked whether it can be written; half of Kubernetes' default probe period.
const PROBE_EVERY: Duration = Duration::from_secs(5);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::channel(None).0))
    }
}

impl Readiness {
    /// Says "not ready" from now on. Call it as soon as the process is asked to stop, before anything else stops.
    pub fn stopping(&self) {
        self.0.send_replace(Some(NotReady::Stopping));
    }

    pub fn is_ready(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Why not ready; `None` when ready.
    pub fn why_not(&self) -> Option<NotReady> {
        self.0.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<NotReady>> {
        self.0.subscribe()
    }

    /// Takes over what a probe of the store or a write found.
    pub(crate) fn store_answered(&self, answer: Result<(), &tawny_store::Error>) {
        let state = answer
            .err()
            .map(|error| NotReady::NotWritable(error.to_string()));
        self.0.send_if_modified(|known| {
            if *known == Some(NotReady::Stopping) || *known == state {
                return false;
            }
            match &state {
                Some(NotReady::NotWritable(reason)) => {
                    tracing::error!(%reason, "store cannot be written; not ready");
                }
                _ => tracing::info!("store can be written; ready"),
            }
            known.clone_from(&state);
            true
        });
    }

    /// Probes the store until told to stop.
    pub(crate) async fn watch_store(self, store: Arc<dyn LogStore>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.store_answered(store.check_writable().await.as_ref().copied()),
            }
        }
    }
}
