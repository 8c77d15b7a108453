//! The thread that makes segments of rows in memory. What fails is tried again until it works or the store is closed.

use std::{
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use tawny_model::Remedy;
use tokio::sync::mpsc::WeakSender;

use super::{
    Shared, flush,
    maintain::Job,
    segment::SegmentRow,
    table::{Drafted, FLUSHED_LEVEL},
    writer::{Command, FlushJob, FlushNews},
};
use crate::Error;

/// How often the writer is reminded to look at the age of its rows.
const TICK: Duration = Duration::from_secs(1);

/// Wait before another try after a failure.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Flusher {
    pub(super) shared: Arc<Shared>,
    pub(super) news_tx: mpsc::SyncSender<FlushNews>,
    pub(super) commands_tx: WeakSender<Command>,
    pub(super) maintenance_tx: mpsc::SyncSender<Job>,
}

impl Flusher {
    /// Works until the writer is gone.
    pub(super) fn run(self, jobs_rx: &mpsc::Receiver<FlushJob>) {
        loop {
            match jobs_rx.recv_timeout(TICK) {
                Ok(job) => {
                    let Some(drafted) = self.until_done(jobs_rx, || self.draft(&job)) else {
                        return;
                    };
                    let table = &self.shared.table;
                    let commit = || {
                        table.add_flushed(&self.shared.state, &drafted, job.applied, &job.registry)
                    };
                    if self.until_done(jobs_rx, commit).is_none() {
                        return;
                    }
                    let applied = job.applied;
                    // The writer that is gone needs no news.
                    drop(self.news_tx.send(FlushNews::Done { applied }));
                    self.wake();
                    // A queue that is full has it look anyway.
                    drop(self.maintenance_tx.try_send(Job::Look));
                }
                Err(RecvTimeoutError::Timeout) => self.wake(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Tries until it works; `None` when the store is closed first.
    fn until_done<T>(
        &self,
        jobs_rx: &mpsc::Receiver<FlushJob>,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Option<T> {
        loop {
            match attempt() {
                Ok(done) => return Some(done),
                Err(error) => {
                    if error.remedy() == Remedy::StandDown {
                        tracing::error!(%error, "rows stay in the log; this server stops writing");
                        self.shared.is_deposed.store(true, Relaxed);
                    } else {
                        tracing::warn!(%error, "rows stay in memory and in the log; trying again to write them");
                    }
                    // Older news of the same kind says as much.
                    drop(self.news_tx.try_send(FlushNews::Failed(error)));
                    self.wake();
                }
            }
            // The writer has one job at a time, so nothing comes here but the end.
            if let Err(RecvTimeoutError::Disconnected) = jobs_rx.recv_timeout(RETRY) {
                return None;
            }
        }
    }

    /// Writes the segments of a job, one for each day.
    fn draft(&self, job: &FlushJob) -> Result<Vec<Drafted>, Error> {
        let table = &self.shared.table;
        let columns = table.columns_for(flush::frequent_keys(&job.rows));
        let mut drafted = Vec::new();
        for (day, rows) in flush::by_day(&job.rows) {
            let mut draft = table.draft(day, 0, columns.clone(), FLUSHED_LEVEL);
            for (stream, row) in rows.iter() {
                let entry = row.entry;
                let row = SegmentRow {
                    timestamp: entry.timestamp(),
                    id: row.id,
                    severity: entry.severity(),
                    output: entry.output(),
                    message: entry.message(),
                    attributes: entry.attributes(),
                };
                draft.push(stream, row)?;
            }
            drafted.extend(draft.finish()?);
        }
        Ok(drafted)
    }

    /// A writer that is busy looks by itself.
    fn wake(&self) {
        if let Some(commands_tx) = self.commands_tx.upgrade() {
            drop(commands_tx.try_send(Command::Wake));
        }
    }
}
