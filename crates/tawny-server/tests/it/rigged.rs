//! A store that fails, hangs or panics on demand, and passes everything else on to a real one.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use async_trait::async_trait;
use tawny_model::{Batch, EntryId, LogEntry, StreamEnd, StreamId, Timestamp, WriterId};
use tawny_store::{
    Committed, Error, Facet, FacetsRequest, Filter, Histogram, HistogramRequest, LogStore,
    Retention, SearchPage, SearchRequest, StoreStats, Written,
};
use tokio::sync::{Semaphore, broadcast};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    DiskFull,
    Damaged,
    Panic,
    /// Searches and writes wait until a permit of [`Rigged::gate`] is there.
    Gated,
}

#[derive(Debug)]
pub(crate) struct Rigged {
    inner: Arc<dyn LogStore>,
    trouble: Mutex<Trouble>,
    pub(crate) gate: Semaphore,
    /// Announces commits in place of the store once set.
    pub(crate) announcer: OnceLock<broadcast::Sender<Arc<Committed>>>,
    /// One permit for each search or write that began to wait.
    pub(crate) waiting: Semaphore,
    /// One permit for each search or write that was given up while it waited.
    pub(crate) given_up: Semaphore,
}

impl Rigged {
    pub(crate) fn new(inner: Arc<dyn LogStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            trouble: Mutex::new(Trouble::None),
            gate: Semaphore::new(0),
            announcer: OnceLock::new(),
            waiting: Semaphore::new(0),
            given_up: Semaphore::new(0),
        })
    }

    pub(crate) fn set(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }

    /// Waits until a search or write waits at the gate.
    pub(crate) async fn someone_waits(&self) {
        self.waiting.acquire().await.unwrap().forget();
    }

    async fn pass(&self) -> Result<(), Error> {
        let path = || PathBuf::from("/data/logs.db");
        let trouble = *self.trouble.lock().unwrap();
        match trouble {
            Trouble::None => Ok(()),
            Trouble::DiskFull => Err(Error::DiskFull { path: path() }),
            Trouble::Damaged => Err(Error::Damaged {
                path: path(),
                reason: "page 7".to_owned(),
            }),
            Trouble::Panic => panic!("rigged"),
            Trouble::Gated => {
                let mut waits = Waits {
                    given_up: Some(&self.given_up),
                };
                self.waiting.add_permits(1);
                self.gate.acquire().await.unwrap().forget();
                waits.given_up = None;
                Ok(())
            }
        }
    }
}

struct Waits<'a> {
    given_up: Option<&'a Semaphore>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(given_up) = self.given_up {
            given_up.add_permits(1);
        }
    }
}

#[async_trait]
impl LogStore for Rigged {
    async fn resume(
        &self,
        writer: WriterId,
        streams: &[StreamId],
    ) -> Result<Vec<Option<StreamEnd>>, Error> {
        self.inner.resume(writer, streams).await
    }

    async fn write(&self, batches: Vec<Batch>) -> Result<Vec<Written>, Error> {
        self.pass().await?;
        self.inner.write(batches).await
    }

    async fn append(&self, entries: Vec<LogEntry>) -> Result<u64, Error> {
        self.pass().await?;
        self.inner.append(entries).await
    }

    async fn search(&self, request: &SearchRequest) -> Result<SearchPage, Error> {
        self.pass().await?;
        self.inner.search(request).await
    }

    async fn histogram(&self, request: &HistogramRequest) -> Result<Histogram, Error> {
        self.inner.histogram(request).await
    }

    async fn facets(&self, request: &FacetsRequest) -> Result<Vec<Facet>, Error> {
        self.inner.facets(request).await
    }

    async fn count(&self, filter: &Filter) -> Result<u64, Error> {
        self.inner.count(filter).await
    }

    async fn get(&self, id: EntryId) -> Result<Option<LogEntry>, Error> {
        self.inner.get(id).await
    }

    async fn delete_older_than(&self, before: Timestamp) -> Result<u64, Error> {
        self.inner.delete_older_than(before).await
    }

    async fn apply_retention(&self, retention: &Retention, now: Timestamp) -> Result<u64, Error> {
        self.inner.apply_retention(retention, now).await
    }

    async fn stats(&self) -> Result<StoreStats, Error> {
        self.inner.stats().await
    }

    async fn check_writable(&self) -> Result<(), Error> {
        match *self.trouble.lock().unwrap() {
            Trouble::DiskFull => Err(Error::DiskFull {
                path: PathBuf::from("/data/logs.db"),
            }),
            _ => Ok(()),
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.announcer
            .get()
            .map_or_else(|| self.inner.subscribe(), broadcast::Sender::subscribe)
    }
}
