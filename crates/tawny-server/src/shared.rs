//! What every handler has at hand, and the one way to ask the store a question: limited, timed, counted.

use std::{sync::Arc, time::Duration};

use tawny_runtime::{CancellationToken, SharedClock};
use tawny_sql::{Sql, SqlLimits};
use tawny_store::LogStore;
use tawny_watch::{Incidents, WatchHealth};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::{
    Error, Limits, Readiness,
    metrics::{Asked, Metrics},
    tail::Tails,
};

/// How long a query waits for its turn before it is refused.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn LogStore>,
    pub(crate) clock: SharedClock,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Fires when answers that have no end must find one.
    pub(crate) stop: CancellationToken,
    pub(crate) sql: Sql,
    queries: Arc<Semaphore>,
    pub(crate) tails: Tails,
    pub(crate) watched: Option<Watched>,
}

/// What is known of the cluster this process watches.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) incidents: Incidents,
    pub(crate) health: WatchHealth,
}

impl Shared {
    pub(crate) fn new(
        store: Arc<dyn LogStore>,
        clock: SharedClock,
        limits: Limits,
        metrics: Metrics,
    ) -> Self {
        Self {
            sql: Sql::new(
                Arc::clone(&store),
                Arc::clone(&clock),
                SqlLimits {
                    memory: limits.sql_memory,
                    time: limits.query_timeout,
                    n_threads: limits.sql_threads,
                },
            ),
            queries: Arc::new(Semaphore::new(limits.max_queries)),
            tails: Tails::new(limits.max_tails),
            store,
            clock,
            limits,
            metrics,
            readiness: Readiness::default(),
            stop: CancellationToken::new(),
            watched: None,
        }
    }

    /// The incidents of the cluster that is watched.
    pub(crate) fn incidents(&self) -> Result<&Incidents, Error> {
        let watched = self.watched.as_ref();
        watched
            .map(|watched| &watched.incidents)
            .ok_or(Error::NotWatched)
    }

    /// Waits for the store's answer; dropping the future, as when a client leaves, ends the question.
    pub(crate) async fn ask<T>(
        &self,
        asked: Asked,
        question: impl Future<Output = Result<T, tawny_store::Error>>,
    ) -> Result<T, Error> {
        let _turn = self.turn_to_keep().await?;
        let started = Instant::now();
        let answer = timeout(self.limits.query_timeout, question).await;
        self.metrics.query(asked, started.elapsed());
        match answer {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Error::Timeout {
                allowed: self.limits.query_timeout,
            }),
        }
    }

    /// A turn for a question whose answer takes long to send.
    pub(crate) async fn turn_to_keep(&self) -> Result<OwnedSemaphorePermit, Error> {
        let turn = Arc::clone(&self.queries).acquire_owned();
        match timeout(QUEUE_WAIT, turn).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(Error::Busy {
                what: "queries",
                limit: self.limits.max_queries,
            }),
        }
    }

    /// Notes what a write answered, so that readiness follows.
    pub(crate) fn written<T>(&self, answer: Result<T, tawny_store::Error>) -> Result<T, Error> {
        match &answer {
            Ok(_) | Err(tawny_store::Error::Invalid { .. }) => {
                self.readiness.store_answered(Ok(()))
            }
            Err(error) => self.readiness.store_answered(Err(error)),
        }
        Ok(answer?)
    }
}
