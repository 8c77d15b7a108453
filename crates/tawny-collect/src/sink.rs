//! Where batches go. A sink answers once what it took is durable.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tawny_model::{Batch, Remedy, StreamEnd, StreamId, WriterId};
use tawny_store::{LogStore, Written};

/// Takes batches and says what became of each. Called by one deliverer at a time per stream, by several overall.
#[async_trait]
pub trait Sink: fmt::Debug + Send + Sync + 'static {
    /// See [`LogStore::resume`]. A sink that keeps nothing answers `None` for every stream.
    async fn resume(
        &self,
        writer: WriterId,
        streams: &[StreamId],
    ) -> Result<Vec<Option<StreamEnd>>, SinkError>;

    /// See [`LogStore::write`]: on success there is one answer per batch, in order.
    ///
    /// The deliverer keeps the batches until they are answered, and offers them again after an error.
    async fn deliver(&self, batches: &[Batch]) -> Result<Vec<Written>, SinkError>;
}

/// The sink could not answer; nothing is known to be stored.
#[derive(Debug, thiserror::Error)]
#[error("deliver to {sink}: {source}")]
pub struct SinkError {
    pub sink: String,
    pub remedy: Remedy,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Writes straight into a store of this process.
#[derive(Debug, Clone)]
pub struct StoreSink(pub Arc<dyn LogStore>);

impl StoreSink {
    fn error(error: tawny_store::Error) -> SinkError {
        SinkError {
            sink: "store".to_owned(),
            remedy: error.remedy(),
            source: Box::new(error),
        }
    }
}

#[async_trait]
impl Sink for StoreSink {
    async fn resume(
        &self,
        writer: WriterId,
        streams: &[StreamId],
    ) -> Result<Vec<Option<StreamEnd>>, SinkError> {
        self.0.resume(writer, streams).await.map_err(Self::error)
    }

    async fn deliver(&self, batches: &[Batch]) -> Result<Vec<Written>, SinkError> {
        self.0.write(batches.to_vec()).await.map_err(Self::error)
    }
}

/// Takes everything and keeps nothing; counts the lines. For measuring what is in front of a sink.
#[derive(Debug, Default)]
pub struct NullSink {
    n_lines: tokio::sync::watch::Sender<u64>,
}

impl NullSink {
    /// Lines taken so far.
    pub fn n_lines(&self) -> tokio::sync::watch::Receiver<u64> {
        self.n_lines.subscribe()
    }
}

#[async_trait]
impl Sink for NullSink {
    async fn resume(
        &self,
        _writer: WriterId,
        streams: &[StreamId],
    ) -> Result<Vec<Option<StreamEnd>>, SinkError> {
        Ok(vec![None; streams.len()])
    }

    async fn deliver(&self, batches: &[Batch]) -> Result<Vec<Written>, SinkError> {
        let n_lines: u64 = batches.iter().map(|batch| batch.entries.len() as u64).sum();
        self.n_lines.send_modify(|total| *total += n_lines);
        Ok(batches
            .iter()
            .map(|batch| Written::New {
                end: batch.end,
                n_new: batch.entries.len() as u64,
            })
            .collect())
    }
}
