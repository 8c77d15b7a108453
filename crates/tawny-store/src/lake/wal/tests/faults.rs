//! A disk that fails or dies at any step, and what must hold then.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::*;
use crate::lake::wal::disk::{Disk, DiskFile};

/// Passes everything on to the real disk but for the steps that are to fail.
#[derive(Debug, Clone, Default)]
struct FaultDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    n_steps: usize,
    /// The steps that fail, by number.
    failing: BTreeSet<usize>,
    /// From this step on nothing is done any more.
    dies_at: Option<usize>,
    error: Option<io::ErrorKind>,
    /// What each file would hold after a loss of power; nothing for one that was never synced.
    synced: BTreeMap<PathBuf, Vec<u8>>,
    /// Files whose creation or removal is not yet durable; true for created.
    unsynced_names: BTreeMap<PathBuf, bool>,
}

impl FaultDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self) -> io::Result<()> {
        let mut state = self.state();
        let step = state.n_steps;
        state.n_steps += 1;
        let is_dead = state.dies_at.is_some_and(|at| step >= at);
        if is_dead || state.failing.contains(&step) {
            return Err(state.error.unwrap_or(io::ErrorKind::StorageFull).into());
        }
        Ok(())
    }

    /// Leaves on the disk what a loss of power could; `choice` says which of it.
    fn lose_power(&self, mut choice: u64) {
        let mut pick = |n: u64| {
            choice = choice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (choice >> 33) % n
        };
        let state = self.state();
        for (path, synced) in &state.synced {
            let named = state.unsynced_names.get(path);
            let is_there = path.exists();
            let comes_back = named == Some(&false) && !is_there && pick(2) == 0;
            let goes = named == Some(&true) && is_there && pick(2) == 0;
            if goes {
                fs::remove_file(path).unwrap();
            } else if comes_back {
                fs::write(path, synced).unwrap();
            } else if is_there {
                let written = fs::read(path).unwrap();
                let same = synced
                    .iter()
                    .zip(&written)
                    .take_while(|(a, b)| a == b)
                    .count();
                let n_unsynced = (written.len() - same) as u64;
                let middle = same + usize::try_from(pick(n_unsynced + 1)).unwrap();
                let mut left = match pick(4) {
                    0 => synced.clone(),
                    1 => written,
                    2 => written[..middle].to_vec(),
                    _ => {
                        let mut holed = written;
                        holed[same..middle].fill(0);
                        holed
                    }
                };
                if left.len() < synced.len() && left.len() >= same {
                    left = synced.clone();
                }
                fs::write(path, left).unwrap();
            }
        }
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: FaultDisk,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

impl FaultFile {
    fn boxed(disk: &FaultDisk, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(Self {
            disk: disk.clone(),
            path: path.to_owned(),
            file,
        })
    }
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.step()?;
        let file = RealDisk.create(path)?;
        let mut state = self.state();
        state.synced.insert(path.to_owned(), Vec::new());
        state.unsynced_names.insert(path.to_owned(), true);
        Ok(FaultFile::boxed(self, path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.step()?;
        let file = RealDisk.open(path)?;
        self.state().synced.insert(path.to_owned(), fs::read(path)?);
        Ok(FaultFile::boxed(self, path, file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let mut state = self.state();
        state.unsynced_names.insert(path.to_owned(), false);
        RealDisk.remove(path)
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        self.step()?;
        self.state().unsynced_names.clear();
        Ok(())
    }
}

impl DiskFile for FaultFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let done = self.disk.step();
        // A failed write leaves a part.
        let n = if done.is_ok() {
            bytes.len()
        } else {
            bytes.len() * 2 / 3
        };
        self.file.append(&bytes[..n])?;
        done
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.step()?;
        let written = fs::read(&self.path)?;
        self.disk.state().synced.insert(self.path.clone(), written);
        Ok(())
    }

    fn truncate(&mut self, len_bytes: u64) -> io::Result<()> {
        self.disk.step()?;
        self.file.truncate(len_bytes)
    }
}

/// What the caller knows of a run.
#[derive(Debug, Default)]
struct Known {
    acknowledged: Groups,
    /// The commits that failed.
    failed: Vec<Groups>,
    applied: u64,
}

impl Known {
    fn commit(&mut self, wal: &mut Wal, groups: &[Group]) {
        let appended: Groups = groups
            .iter()
            .map(|group| (append(wal, group).unwrap(), group.clone()))
            .collect();
        match wal.commit() {
            Ok(()) => self.acknowledged.extend(appended),
            Err(error) => {
                assert!(
                    matches!(error, Error::DiskFull { .. } | Error::Io { .. }),
                    "{error:?}"
                );
                self.failed.push(appended);
            }
        }
    }

    fn expected(&self) -> Groups {
        let is_left = |(seq, _): &&(u64, Group)| *seq > self.applied;
        self.acknowledged.iter().filter(is_left).cloned().collect()
    }
}

/// A few commits, rotations and removals over a disk with faults; a start that fails ends it.
fn run(directory: &Path, disk: &FaultDisk, n_commits: u64) -> Known {
    let mut known = Known::default();
    let replay = Replay::open(directory, 0, Box::new(disk.clone()));
    let Ok((_, mut wal, _)) = replay.and_then(read_all) else {
        return known;
    };
    for tag in 0..n_commits {
        let tag = tag * 10;
        known.commit(
            &mut wal,
            &[line(1, tag), line(2, tag + 1), line(1, tag + 2)],
        );
        if tag % 40 == 20 && wal.rotate().is_ok() && tag % 80 == 60 {
            known.applied = wal.committed();
            // What cannot be removed now is removed later.
            let _result = wal.remove_through(known.applied);
        }
    }
    known
}

fn n_steps(n_commits: u64) -> usize {
    let (directory, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
    let known = run(directory.path(), &disk, n_commits);
    assert!(known.failed.is_empty());
    disk.state().n_steps
}

#[test]
fn failed_commit_leaves_nothing_and_later_ones_work() {
    let n_steps = n_steps(9);
    assert!(n_steps > 20);
    for at in 0..n_steps {
        // One to four steps in a row fail: the clean-up too, and the next attempts.
        for n_failing in 1..=4 {
            for error in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
                let directory = tempfile::tempdir().unwrap();
                let disk = FaultDisk::default();
                disk.state().failing = (at..at + n_failing).collect();
                disk.state().error = Some(error);
                let known = run(directory.path(), &disk, 12);
                let case = format!("step {at}, {n_failing} failing, {error}");
                assert!(known.failed.len() <= n_failing, "{case}");
                let (read, mut wal, report) = reopen(directory.path(), known.applied);
                assert_eq!(read, known.expected(), "{case}");
                assert_eq!(report, n_records(read.len() as u64), "{case}");
                let used = known.failed.iter().flatten().map(|(seq, _)| *seq).max();
                let mut all = read;
                all.extend(write(&mut wal, &[vec![line(1, 999)]]));
                assert!(all.last().map(|(seq, _)| *seq) > used, "{case}");
                assert_eq!(reopen(directory.path(), known.applied).0, all, "{case}");
            }
        }
    }
}

#[test]
fn full_disk_gathers_no_files() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
    let replay = Replay::open(directory.path(), 0, Box::new(disk.clone())).unwrap();
    let mut wal = read_all(replay).unwrap().1;
    let mut known = Known::default();
    known.commit(&mut wal, &[line(1, 1)]);
    for tag in 0..50 {
        // Creating, appending and syncing in turn; what takes no room works.
        let next = disk.state().n_steps;
        disk.state().failing = BTreeSet::from([next + tag % 3]);
        known.commit(&mut wal, &[line(1, 2)]);
        assert!(log_files(directory.path()).len() <= 2);
    }
    assert!(known.failed.len() > 30);
    disk.state().failing.clear();
    known.commit(&mut wal, &[line(1, 3)]);
    drop(wal);
    let (read, _, report) = reopen(directory.path(), 0);
    assert_eq!(read, known.acknowledged);
    assert_eq!(report, n_records(read.len() as u64));
}

#[test]
fn failed_sync_is_not_asked_again() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
    let replay = Replay::open(directory.path(), 0, Box::new(disk.clone())).unwrap();
    let mut wal = read_all(replay).unwrap().1;
    let mut known = Known::default();
    known.commit(&mut wal, &[line(1, 1)]);
    let next = disk.state().n_steps;
    // The append works; its sync fails, and so does cutting: all of the commit stays in the file.
    disk.state().failing = (next + 1..next + 3).collect();
    known.commit(&mut wal, &[line(1, 2)]);
    let first = log_files(directory.path()).remove(0);
    let left = fs::read(&first).unwrap();
    known.commit(&mut wal, &[line(1, 3)]);
    assert_eq!((known.acknowledged.len(), known.failed.len()), (2, 1));
    assert_eq!(fs::read(&first).unwrap(), left, "left for good");
    assert_eq!(log_files(directory.path()).len(), 2);
    let (read, _, report) = reopen(directory.path(), 0);
    assert_eq!((read, report), (known.acknowledged, n_records(2)));
}

#[test]
fn loss_of_power_at_any_step_keeps_what_was_acknowledged() {
    let mut n_in_flight = 0;
    for dies_at in 0..=n_steps(9) {
        for choice in 0..12 {
            let (directory, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
            disk.state().dies_at = Some(dies_at);
            let known = run(directory.path(), &disk, 9);
            disk.lose_power(choice * 1_000 + dies_at as u64);
            let case = format!("step {dies_at}, choice {choice}");
            let (read, mut wal, report) = reopen(directory.path(), known.applied);
            let expected = known.expected();
            assert!(read.starts_with(&expected), "{case}");
            // The first commit that failed was under way: of its transactions the first ones may have reached the disk.
            let more = &read[expected.len()..];
            if !more.is_empty() {
                assert!(known.failed[0].starts_with(more), "{case}");
                n_in_flight += 1;
            }
            assert_eq!((report.n_lost, report.n_damaged), (0, 0), "{case}");
            let mut all = read;
            all.extend(write(&mut wal, &[vec![line(1, 999)]]));
            assert!(all.is_sorted_by_key(|(seq, _)| *seq), "{case}");
            drop(wal);
            let (read, _, report) = reopen(directory.path(), known.applied);
            assert_eq!((read, report.cut_bytes), (all, 0), "{case}");
        }
    }
    assert!(n_in_flight > 0, "the test reaches that case");
}
