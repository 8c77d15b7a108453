//! The SQLite engine: conformance, and what only a file can do wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod files;
mod formats;
mod full;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use tawny_model::{ByteSize, Timestamp};
use tawny_runtime::{ManualClock, Registry};
use tawny_store::{
    Error, LogStore, SqliteConfig, SqliteStore,
    conformance::{Place, T0},
};

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("logs.db")
    }

    fn config(&self) -> SqliteConfig {
        SqliteConfig {
            reserve: ByteSize(0),
            ..SqliteConfig::new(self.file())
        }
    }
}

async fn open(config: SqliteConfig) -> Result<SqliteStore, Error> {
    let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(T0)));
    SqliteStore::open(config, clock, &mut Registry::default()).await
}

#[async_trait]
impl Place for Directory {
    async fn open(&self) -> Arc<dyn LogStore> {
        Arc::new(open(self.config()).await.unwrap())
    }
}

tawny_store::conformance_suite!(Directory::new());
