//! The keeper of the table: deletes, applies retention and merges small segments, one job at a time on its own thread.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use rustc_hash::FxHashSet;
use tawny_model::{ByteSize, StreamId, Timestamp};
use tokio::time::Instant;

use super::{
    Shared,
    catalog::SegmentPath,
    compact::{self, Merged},
    run::Run,
    state::Live,
    writer::Command,
};
use crate::{
    Error, Retention,
    group::{Reply, answer},
    retention::Cutoffs,
};

/// Jobs that callers wait for; merging happens between them.
pub(super) enum Job {
    Delete {
        before: Timestamp,
        reply: Reply<u64>,
    },
    Retain {
        retention: Retention,
        now: Timestamp,
        reply: Reply<u64>,
    },
    /// Segments came: see whether some want merging.
    Look,
    /// Merge what there is, whatever its size.
    Compact { reply: Reply<u64> },
}

/// Looking for files to delete lists the whole table, so it is not done at every turn.
const CLEAN_EVERY: Duration = Duration::from_secs(60);

/// Share of the size limit that is freed beyond it, so that a store at its limit is not trimmed at every turn: 1/20.
const SIZE_SLACK: u64 = 20;

/// Rows in memory are made into segments before sizes are compared when they may weigh more than this share: 1/16.
const PENDING_SHARE: u64 = 16;

pub(super) struct Maintainer {
    pub(super) shared: Arc<Shared>,
    pub(super) commands_tx: tokio::sync::mpsc::WeakSender<Command>,
    /// When files that are not needed were last looked for.
    pub(super) cleaned: Option<Instant>,
    /// Segments that merging does not help.
    pub(super) left_alone: FxHashSet<SegmentPath>,
}

impl Maintainer {
    /// Works until every sender is gone.
    pub(super) fn run(mut self, jobs_rx: &mpsc::Receiver<Job>) {
        while let Ok(job) = jobs_rx.recv() {
            match job {
                Job::Delete { before, reply } => {
                    let deleted = self.flush().and_then(|()| {
                        let (n_deleted, damage) = self.delete(&Cutoffs::all(before))?;
                        damage.map_or(Ok(n_deleted), Err)
                    });
                    answer(reply, deleted);
                }
                Job::Retain {
                    retention,
                    now,
                    reply,
                } => answer(reply, self.retain(&retention, now)),
                Job::Compact { reply } => answer(reply, compact::everything(&self.shared)),
                Job::Look => {}
            }
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        while let Some(inputs) = compact::choose(&self.shared.state.live(), &self.left_alone) {
            if self.shared.is_stopping() {
                return;
            }
            match compact::merge_segments(&self.shared, &inputs) {
                Ok(Merged::Replaced) => {}
                // As many files would come of it, time after time.
                Ok(Merged::NoFewer) => self.leave_alone(&inputs),
                Err(error) => {
                    tracing::warn!(%error, "segments could not be merged; they stay as they are");
                    match error {
                        // The others need not wait for what will not get better.
                        Error::Damaged { .. } => self.leave_alone(&inputs),
                        _ => break,
                    }
                }
            }
        }
        if let Err(error) = self.clean() {
            tracing::warn!(%error, "files of removed segments could not be deleted; tried again later");
        }
    }

    /// Merges these no more while the process lives.
    fn leave_alone(&mut self, inputs: &[Arc<Live>]) {
        let paths = inputs.iter().map(|live| live.path.clone());
        self.left_alone.extend(paths);
    }

    /// Brings the log of the table up to date, and at times deletes files that no reader needs any more.
    fn clean(&mut self) -> Result<(), Error> {
        let catalog = self.shared.table.catalog();
        // A disk without room for it has the more need of what follows.
        let checkpointed = if catalog.checkpoint_due() {
            catalog.checkpoint()
        } else {
            Ok(())
        };
        let is_fresh = |cleaned: Instant| cleaned.elapsed() < CLEAN_EVERY;
        if self.cleaned.is_some_and(is_fresh) {
            return checkpointed;
        }
        self.cleaned = Some(Instant::now());
        let config = &self.shared.config;
        // A query of ours may still read what was removed when it began.
        let grace = config.grace.max(config.query_time.saturating_mul(2));
        catalog.clean(grace).and(checkpointed)
    }

    /// Makes segments of all rows in memory.
    fn flush(&self) -> Result<(), Error> {
        let (reply, done) = tokio::sync::oneshot::channel();
        let commands_tx = self.commands_tx.upgrade().ok_or(Error::Closed)?;
        commands_tx
            .blocking_send(Command::Flush { reply })
            .map_err(|_| Error::Closed)?;
        drop(commands_tx);
        done.blocking_recv().map_err(|_| Error::Closed)?
    }

    /// Removes rows of segments that are older than they may be; answers how many, and of a segment that could not be
    /// rewritten what is wrong with it. Those of the others need not stay for what will not get better.
    fn delete(&self, cutoffs: &Cutoffs) -> Result<(u64, Option<Error>), Error> {
        let (mut n_deleted, mut damage) = (0, None);
        let live = self.shared.state.live();
        let is_old = |live: &&Arc<Live>| live.segment.extent().first < cutoffs.latest();
        for live in live.iter().filter(is_old) {
            match compact::delete_rows(&self.shared, live, cutoffs) {
                Ok(n) => n_deleted += n,
                Err(error @ Error::Damaged { .. }) => damage = damage.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        self.shared.metrics.deleted(n_deleted);
        Ok((n_deleted, damage))
    }

    /// [`Self::delete`] for limits, which are kept as well as can be.
    fn expire(&self, cutoffs: &Cutoffs) -> Result<u64, Error> {
        let (n_deleted, damage) = self.delete(cutoffs)?;
        if let Some(error) = damage {
            tracing::error!(%error, "old rows of a damaged segment stay until all of it is old");
        }
        Ok(n_deleted)
    }

    fn retain(&self, retention: &Retention, now: Timestamp) -> Result<u64, Error> {
        let mut n_deleted = 0;
        // What cannot become segments now must not keep old segments from going: that may be what makes room.
        let mut flushed = Ok(());
        let cutoffs = retention.cutoffs(now);
        let oldest = self.shared.state.oldest();
        if oldest.is_some_and(|oldest| oldest < cutoffs.latest()) {
            flushed = self.flush();
            n_deleted += self.expire(&cutoffs)?;
        }
        let pending_bytes = self.shared.wal_bytes();
        if *retention == Retention::default()
            || pending_bytes > self.shared.disk_bytes() / PENDING_SHARE
        {
            flushed = flushed.and_then(|()| self.flush());
        }
        if let Some(max_bytes) = retention.max_bytes {
            n_deleted += self.trim(max_bytes)?;
        }
        self.prune(now)?;
        flushed.map(|()| n_deleted)
    }

    /// Deletes the oldest rows until the store is within its limit.
    fn trim(&self, max_bytes: ByteSize) -> Result<u64, Error> {
        let mut n_deleted = 0;
        while self.shared.disk_bytes() > max_bytes.as_bytes() {
            let slack = max_bytes.as_bytes() / SIZE_SLACK;
            let excess = self.shared.disk_bytes() - max_bytes.as_bytes() + slack;
            let live = self.shared.state.live();
            let Some(before) = cutoff(&live, excess) else {
                break;
            };
            let mut n = self.expire(&Cutoffs::all(before))?;
            if n == 0 {
                // The oldest is damaged and cannot be cut: it goes whole.
                let first = live.iter().map(|live| live.segment.extent());
                let oldest = first.min_by_key(|extent| extent.first);
                let behind = oldest.map(|extent| extent.last.as_nanos().saturating_add(1));
                let behind = behind.map_or(Timestamp::MIN, Timestamp::from_nanos);
                n = self.expire(&Cutoffs::all(behind))?;
            }
            if n == 0 {
                break;
            }
            n_deleted += n;
        }
        Ok(n_deleted)
    }

    /// Forgets streams that have had no row and no write for long.
    fn prune(&self, now: Timestamp) -> Result<(), Error> {
        let written_before = now.saturating_sub(self.shared.config.keep_ends);
        let snapshot = self.shared.state.snapshot();
        let mut in_use: FxHashSet<StreamId> = snapshot
            .hot
            .iter()
            .map(|rows| rows.stream.id.clone())
            .collect();
        if self.shared.state.n_described() > in_use.len() {
            for run in &snapshot.runs {
                let index = match run.index() {
                    Ok(index) => index,
                    Err(error @ Error::Damaged { .. }) => {
                        tracing::error!(%error, "no stream is forgotten while one segment does not say which it has");
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                };
                in_use.extend(
                    index
                        .streams()
                        .iter()
                        .map(|stream| stream.stream.id.clone()),
                );
            }
            let commands_tx = self.commands_tx.upgrade().ok_or(Error::Closed)?;
            commands_tx
                .blocking_send(Command::Prune {
                    written_before,
                    in_use,
                })
                .map_err(|_| Error::Closed)?;
        }
        Ok(())
    }
}

/// The time before which about so many bytes lie, rows being spread evenly over the time of their segment; `None` when
/// there are no segments.
fn cutoff(live: &[Arc<Live>], bytes: u64) -> Option<Timestamp> {
    let extents: Vec<(i64, i64, u64)> = live
        .iter()
        .map(|live| {
            let extent = live.segment.extent();
            (
                extent.first.as_nanos(),
                extent.last.as_nanos(),
                live.size_bytes,
            )
        })
        .collect();
    cutoff_of(&extents, bytes).map(Timestamp::from_nanos)
}

fn cutoff_of(extents: &[(i64, i64, u64)], bytes: u64) -> Option<i64> {
    let (mut low, mut high) = (
        extents.iter().map(|(first, _, _)| *first).min()?,
        extents.iter().map(|(_, last, _)| *last).max()?,
    );
    let bytes_before = |at: i64| -> u64 {
        let of = |&(first, last, size): &(i64, i64, u64)| {
            let span = i128::from(last) - i128::from(first) + 1;
            let part = (i128::from(at) - i128::from(first)).clamp(0, span);
            u64::try_from(i128::from(size) * part / span).unwrap_or(size)
        };
        extents.iter().map(of).sum()
    };
    // The least time with enough before it; the row at the end goes too when all of it has to.
    while low < high {
        let middle = low.midpoint(high);
        if bytes_before(middle) >= bytes {
            high = middle;
        } else {
            low = middle.saturating_add(1);
        }
    }
    Some(high.saturating_add(i64::from(bytes_before(high) < bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutoff_takes_the_oldest_bytes() {
        let extents = [(0, 999, 1_000), (1_000, 1_999, 3_000)];
        assert_eq!(cutoff_of(&extents, 500), Some(500));
        assert_eq!(cutoff_of(&extents, 1_000), Some(1_000));
        assert_eq!(cutoff_of(&extents, 1_300), Some(1_100));
        assert_eq!(cutoff_of(&extents, 9_999), Some(2_000));
        assert_eq!(cutoff_of(&[], 1), None);
        assert_eq!(
            cutoff_of(&[(i64::MIN, i64::MAX, 100)], 50).map(|at| at / 1_000),
            Some(0)
        );
    }
}
