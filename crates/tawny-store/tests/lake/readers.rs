//! Tables that other programs read while they are written and compacted, for `tests/readers/run`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use tawny_runtime::SystemClock;
use tawny_store::conformance::{Feed, Line};

use super::{s3::S3, *};

/// Lines of one write; each is a segment of its own until it is merged.
const LINES: i64 = 500;

/// Writes between two compactions.
const ROUNDS: i64 = 7;

/// One table that grows.
struct Growing {
    store: LakeStore,
    feed: Feed,
    n_rows: i64,
    progress: PathBuf,
}

impl Growing {
    async fn open(config: LakeConfig, progress: PathBuf) -> Self {
        let store = LakeStore::open(config, Arc::new(SystemClock), &mut Registry::default()).await;
        let growing = Self {
            store: store.unwrap(),
            feed: Feed::new("api"),
            n_rows: 0,
            progress,
        };
        growing.tell(0);
        growing
    }

    /// Readers must find at least what is committed, and at most what was ever written.
    fn tell(&self, committed: i64) {
        let progress = json!({"committed": committed, "written": self.n_rows});
        let new = self.progress.with_extension("new");
        fs::write(&new, progress.to_string()).unwrap();
        fs::rename(&new, &self.progress).unwrap();
    }

    async fn grow(&mut self) {
        let before = self.n_rows;
        self.n_rows += LINES;
        self.tell(before);
        let lines = (before..self.n_rows).map(|n| Line::at(n, format!("line {n}")));
        self.feed.write(&self.store, lines).await;
        self.store.delete_older_than(Timestamp::MIN).await.unwrap();
        self.tell(self.n_rows);
        if self.n_rows / LINES % ROUNDS == 0 {
            self.store.compact().await.unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "tests/readers/run reads what it makes"]
#[expect(
    clippy::disallowed_methods,
    reason = "the script says where the tables shall be"
)]
async fn live_tables_for_other_readers() {
    let root = std::env::var("TAWNY_READERS_LIVE").expect("names a directory");
    let root = Path::new(&root);
    let s3 = S3::start();
    let bucket = s3.bucket();
    let options: serde_json::Map<_, _> = bucket
        .options
        .iter()
        .map(|(name, value)| (name.to_ascii_uppercase(), json!(value.expose())))
        .collect();
    let tables = json!([
        {"url": root.join("lake/logs"), "options": {}, "progress": root.join("lake.json")},
        {"url": format!("{}/logs", bucket.url), "options": options, "progress": root.join("bucket.json")},
    ]);
    let in_bucket = LakeConfig {
        bucket: Some(bucket),
        ..LakeConfig::new(root.join("wal"))
    };
    let mut growing = [
        Growing::open(LakeConfig::new(root.join("lake")), root.join("lake.json")).await,
        Growing::open(in_bucket, root.join("bucket.json")).await,
    ];
    for growing in &mut growing {
        growing.grow().await;
    }
    fs::write(root.join("tables.new"), tables.to_string()).unwrap();
    fs::rename(root.join("tables.new"), root.join("tables.json")).unwrap();
    // The script says when; should it have died, a table of this size is enough.
    while !root.join("stop").exists() && growing[0].n_rows < 500_000 {
        for growing in &mut growing {
            growing.grow().await;
        }
    }
}
