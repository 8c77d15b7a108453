//! The lake in a bucket: what it fetches, and what it does when the bucket fails.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use http::Method;
use tawny_model::Remedy;
use tawny_store::{
    Error,
    conformance::{Feed, filter, newest, search_all, stream},
};

use super::{
    s3::{Fault, S3},
    *,
};

/// A bucket, and a directory for the log of the store in it.
pub(crate) struct InBucket {
    pub(crate) s3: S3,
    pub(crate) wal: TempDir,
    memory: ByteSize,
    flush_age: Duration,
    cache: ByteSize,
}

impl InBucket {
    pub(crate) fn patient() -> Self {
        let Directory {
            dir,
            memory,
            flush_age,
        } = Directory::patient();
        Self {
            s3: S3::start(),
            wal: dir,
            memory,
            flush_age,
            cache: ByteSize::mib(16),
        }
    }

    pub(crate) fn hasty() -> Self {
        let Directory {
            memory, flush_age, ..
        } = Directory::hasty();
        Self {
            memory,
            flush_age,
            ..Self::patient()
        }
    }

    fn config(&self) -> LakeConfig {
        LakeConfig {
            memory: self.memory,
            flush_age: self.flush_age,
            cache: self.cache,
            bucket: Some(self.s3.bucket()),
            ..LakeConfig::new(self.wal.path().join("log"))
        }
    }

    async fn try_open(&self) -> Result<LakeStore, Error> {
        open(self.config()).await
    }
}

async fn open(config: LakeConfig) -> Result<LakeStore, Error> {
    LakeStore::open(
        config,
        Arc::new(ManualClock::new(Timestamp::from_nanos(T0))),
        &mut Registry::default(),
    )
    .await
}

#[async_trait]
impl Place for InBucket {
    async fn open(&self) -> Arc<dyn LogStore> {
        Arc::new(self.try_open().await.unwrap())
    }
}
