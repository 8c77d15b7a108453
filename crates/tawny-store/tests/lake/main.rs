//! The columnar engine through its public face: the conformance suite with rows mostly in memory, and mostly in segments.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod agreement;
mod damage;
mod large;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tawny_model::{ByteSize, Timestamp};
use tawny_runtime::{ManualClock, Registry};
use tawny_store::{
    LakeConfig, LakeStore, LogStore,
    conformance::{Place, T0},
};
use tempfile::TempDir;

mod bucket;
mod readers;
mod s3;

/// A directory, and how the store in it is opened.
struct Directory {
    dir: TempDir,
    memory: ByteSize,
    flush_age: Duration,
}

impl Directory {
    /// Rows stay in memory and in the log.
    fn patient() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            memory: ByteSize::mib(64),
            flush_age: Duration::from_secs(3_600),
        }
    }

    /// Rows become segments all the time, and segments are merged.
    fn hasty() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            memory: ByteSize::kib(48),
            flush_age: Duration::ZERO,
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("lake")
    }
}

#[async_trait]
impl Place for Directory {
    async fn open(&self) -> Arc<dyn LogStore> {
        let config = LakeConfig {
            memory: self.memory,
            flush_age: self.flush_age,
            ..LakeConfig::new(self.root())
        };
        let store = LakeStore::open(
            config,
            Arc::new(ManualClock::new(Timestamp::from_nanos(T0))),
            &mut Registry::default(),
        )
        .await;
        Arc::new(store.unwrap())
    }
}

mod in_memory {
    use super::*;
    tawny_store::conformance_suite!(Directory::patient());
}

mod in_segments {
    use super::*;
    tawny_store::conformance_suite!(Directory::hasty());
}

mod in_bucket_mostly_in_memory {
    use super::*;
    tawny_store::conformance_suite!(bucket::InBucket::patient());
}

mod in_bucket_mostly_in_segments {
    use super::*;
    tawny_store::conformance_suite!(bucket::InBucket::hasty());
}
