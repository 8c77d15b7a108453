//! The whole engine on a disk that fills up at any step.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tawny_model::{ByteSize, Remedy, Timestamp, WriterId};
use tawny_runtime::{ManualClock, Registry as Metrics};
use tempfile::TempDir;

use super::super::{
    files::FaultPoints,
    storage::LakeFiles,
    wal::{Disk, DiskFile, RealDisk},
    *,
};
use crate::conformance::{Feed, Line, T0, filter, search_all};

/// A disk that has room for so many steps of writing; deleting needs none.
#[derive(Debug, Clone)]
struct SmallDisk(Arc<Mutex<usize>>);

impl SmallDisk {
    fn with_room_for(n_steps: usize) -> Self {
        Self(Arc::new(Mutex::new(n_steps)))
    }

    fn step(&self) -> io::Result<()> {
        let mut n_left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *n_left = n_left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }

    fn set_room(&self, n_steps: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = n_steps;
    }
}

impl FaultPoints for SmallDisk {
    fn reach(&self, step: &'static str, _path: &str) -> io::Result<()> {
        match step {
            "put" | "put_new" | "upload" | "write" | "finish" => self.step(),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
struct SmallFile {
    disk: SmallDisk,
    file: Box<dyn DiskFile>,
}

impl Disk for SmallDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.step()?;
        let file = RealDisk.create(path)?;
        let disk = self.clone();
        Ok(Box::new(SmallFile { disk, file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let disk = self.clone();
        let file = RealDisk.open(path)?;
        Ok(Box::new(SmallFile { disk, file }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.sync_directory(path)
    }
}

impl DiskFile for SmallFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let done = self.disk.step();
        // What there was room for.
        let n = if done.is_ok() {
            bytes.len()
        } else {
            bytes.len() / 2
        };
        self.file.append(&bytes[..n])?;
        done
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.step()?;
        self.file.sync()
    }

    fn truncate(&mut self, len_bytes: u64) -> io::Result<()> {
        self.file.truncate(len_bytes)
    }
}

struct Place {
    dir: TempDir,
    clock: SharedClock,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(Timestamp::from_nanos(T0))),
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("lake")
    }

    /// With so little memory that rows become segments, and these are merged, all the time.
    async fn open(&self, disk: &SmallDisk) -> Result<LakeStore, Error> {
        let config = LakeConfig {
            memory: ByteSize::kib(2),
            flush_age: Duration::ZERO,
            ..LakeConfig::new(self.root())
        };
        let (clock, disk, runtime) = (Arc::clone(&self.clock), disk.clone(), Handle::current());
        let open = move || {
            let mut place = super::super::Place::open(&config, runtime)?;
            place.storage = place.storage.with_faults(Arc::new(disk.clone()));
            let metrics = crate::metrics::Metrics::register(&mut Metrics::default());
            let open_wal =
                |path: &Path, applied| Wal::open_on(path, applied, Box::new(disk.clone()));
            LakeStore::start(config, clock, metrics, place, open_wal)
        };
        task::spawn_blocking(open).await.unwrap()
    }
}

const LINES: i64 = 5;

fn lines(round: i64) -> impl Iterator<Item = Line> {
    (0..LINES).map(move |n| {
        Line::at(
            round * 1_000_000 + n,
            format!("common line {n} of round {round}"),
        )
    })
}

async fn close(store: LakeStore) {
    task::spawn_blocking(move || drop(store)).await.unwrap();
}

/// The disk is full from step `n_steps` on; answers whether a write was refused for it.
async fn fill_at(n_steps: usize) -> bool {
    let place = Place::new();
    let disk = SmallDisk::with_room_for(usize::MAX);
    let store = place.open(&disk).await.unwrap();
    let mut feed = Feed::new("api");
    disk.set_room(n_steps);
    let mut n_rounds = 0;
    let mut refused = None;
    while refused.is_none() && n_rounds < 30 {
        let batch = feed.batch(lines(n_rounds));
        match store.write(vec![batch.clone()]).await {
            Ok(written) => {
                let n_new = LINES.cast_unsigned();
                assert_eq!(
                    written,
                    [Written::New {
                        end: batch.end,
                        n_new
                    }]
                );
                n_rounds += 1;
            }
            Err(error) => {
                assert!(
                    matches!(error, Error::DiskFull { .. }),
                    "{n_steps}: {error:?}"
                );
                assert_eq!(error.remedy(), Remedy::Retry);
                refused = Some(batch);
            }
        }
    }
    let n_lines = (n_rounds * LINES).cast_unsigned();
    // Full, it answers as before, refuses again and again, and knows how far the stream is.
    for _ in 0..2 {
        assert_eq!(
            store.count(&filter("common")).await.unwrap(),
            n_lines,
            "{n_steps}"
        );
        assert_eq!(
            search_all(&store, "").await.len() as u64,
            n_lines,
            "{n_steps}"
        );
        if let Some(batch) = &refused {
            let id = std::slice::from_ref(&feed.stream.id);
            let ends = store.resume(WriterId(1), id).await.unwrap();
            assert_eq!(ends[0].map(|end| end.end).unwrap_or_default(), batch.start);
            let error = store.write(vec![batch.clone()]).await.unwrap_err();
            assert!(
                matches!(error, Error::DiskFull { .. }),
                "{n_steps}: {error:?}"
            );
            let error = store.check_writable().await.unwrap_err();
            assert!(
                matches!(error, Error::DiskFull { .. }),
                "{n_steps}: {error:?}"
            );
        }
    }
    disk.set_room(usize::MAX);
    let was_refused = refused.is_some();
    if let Some(batch) = refused {
        // What the flusher says of its last try may still be on its way.
        let mut tries = 0;
        while let Err(error) = store.write(vec![batch.clone()]).await {
            assert!(
                matches!(error, Error::DiskFull { .. }),
                "{n_steps}: {error:?}"
            );
            tries += 1;
            assert!(tries < 5, "{n_steps}: recovers by itself");
        }
        n_rounds += 1;
    }
    store.check_writable().await.unwrap();
    for round in n_rounds..n_rounds + 3 {
        feed.write(&store, lines(round)).await;
    }
    let n_lines = usize::try_from((n_rounds + 3) * LINES).unwrap();
    assert_eq!(search_all(&store, "").await.len(), n_lines, "{n_steps}");
    close(store).await;

    let store = place.open(&disk).await.unwrap();
    let mut found: Vec<String> = search_all(&store, "common")
        .await
        .into_iter()
        .map(|entry| entry.message)
        .collect();
    let mut expected: Vec<String> = (0..n_rounds + 3)
        .flat_map(|round| lines(round).map(|line| line.message))
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{n_steps}");
    close(store).await;
    let (root, runtime) = (place.root(), Handle::current());
    let verified = task::spawn_blocking(move || LakeFiles::verify(&root, runtime, |_, _| {}));
    let verified = verified.await.unwrap().unwrap();
    assert_eq!(verified.damage().count(), 0, "{n_steps}: {verified:?}");
    was_refused
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disk_refuses_keeps_answering_recovers_by_itself_and_loses_nothing_at_any_write() {
    // A try of the flusher waits a second, so all run at once.
    let runs = (0..90).map(fill_at);
    let refused = futures::future::join_all(runs).await;
    let n_refused = refused
        .into_iter()
        .filter(|was_refused| *was_refused)
        .count();
    assert!(n_refused > 60, "{n_refused}");
}
