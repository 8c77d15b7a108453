//! The SQLite engine: conformance, and what only a file can do wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use async_trait::async_trait;
use tawny_model::Timestamp;
use tawny_runtime::{ManualClock, Registry};
use tawny_store::{
    LogStore, SqliteConfig, SqliteStore,
    conformance::{Place, T0},
};

struct Directory {
    directory: tempfile::TempDir,
}

impl Directory {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn config(&self) -> SqliteConfig {
        SqliteConfig::new(self.directory.path().join("logs.db"))
    }

    async fn open_with(&self, config: SqliteConfig) -> Result<SqliteStore, tawny_store::Error> {
        let clock = Arc::new(ManualClock::new(Timestamp::from_nanos(T0)));
        SqliteStore::open(config, clock, &mut Registry::default()).await
    }
}

#[async_trait]
impl Place for Directory {
    async fn open(&self) -> Arc<dyn LogStore> {
        Arc::new(self.open_with(self.config()).await.unwrap())
    }
}

tawny_store::conformance_suite!(Directory::new());
