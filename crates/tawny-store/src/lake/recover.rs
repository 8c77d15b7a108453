//! After a start: what the log holds that is in no segment yet comes back into memory.

use std::sync::{Arc, mpsc as std_mpsc};

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::{
    Shared,
    ids::HotIds,
    rows::HotRows,
    run::Run as _,
    streams::{Known, Last, Registry},
    wal::{Replay, Replayed},
    writer::{FlushJob, FlushNews, Writer},
};
use crate::Error;

impl Writer {
    /// Takes back into memory what the log says came after the last segment.
    pub(super) fn replay(
        shared: Arc<Shared>,
        registry: Registry,
        mut replay: Replay,
        applied: u64,
        jobs_tx: std_mpsc::SyncSender<FlushJob>,
        news_rx: std_mpsc::Receiver<FlushNews>,
    ) -> Result<Self, Error> {
        let mut replayed = Replaying {
            shared: &shared,
            registry,
            ids: HotIds::default(),
            rows: Vec::new(),
            n_bytes: 0,
        };
        while let Some(group) = replay.next()? {
            tracing::trace!(seq = group.seq, "taking a record back into memory");
            for change in group.changes {
                replayed.take(change);
            }
        }
        let Replaying {
            registry,
            ids,
            rows,
            n_bytes,
            ..
        } = replayed;
        let (wal, report) = replay.finish()?;
        if report.n_damaged > 0 {
            tracing::error!(
                ?report,
                "the log was damaged; what could not be read is set aside beside it"
            );
        }
        let active_since = (!rows.is_empty()).then(Instant::now);
        let in_memory = rows.iter().map(|rows| rows.ids.len() as u64);
        let live = shared.state.live();
        let in_segments = live
            .iter()
            .map(|live| u64::from(live.segment.extent().n_rows));
        let n_entries = in_memory.chain(in_segments).sum();
        shared.state.admit(rows);
        shared.set_wal_bytes(wal.len_bytes());
        shared.metrics.opened(n_entries, registry.len());
        Ok(Self {
            last_seq: wal.committed(),
            shared,
            wal,
            registry,
            owners: FxHashMap::default(),
            ids,
            jobs_tx,
            news_rx,
            applied,
            active_bytes: n_bytes,
            frozen_bytes: 0,
            active_since,
            is_flushing: false,
            flush_waiters: Vec::new(),
        })
    }
}

/// What a replay gathers.
struct Replaying<'s> {
    shared: &'s Shared,
    registry: Registry,
    ids: HotIds,
    rows: Vec<Arc<HotRows>>,
    n_bytes: usize,
}

impl Replaying<'_> {
    fn take(&mut self, change: Replayed) {
        let (stream, rows, end) = match change {
            Replayed::Rows { rows, end } => (Arc::clone(&rows.stream), Some(rows), end),
            Replayed::End { stream, end } => (stream, None, Some(end)),
            Replayed::Forget { streams } => {
                for id in &streams {
                    self.registry.remove(id);
                }
                return self.shared.state.forget(&streams);
            }
        };
        let now = self.shared.clock.now();
        let known = self.registry.get(&stream.id).cloned();
        let mut known = known.unwrap_or_else(|| Known::new(Arc::clone(&stream), now));
        known.learn(&stream);
        known.end = end.or(known.end);
        if let Some(rows) = rows {
            for (entry, id) in rows.iter() {
                self.ids.insert(id);
                let micros = entry.timestamp().as_micros();
                if known.last.is_none_or(|last| last.micros <= micros) {
                    let id = known.last.map_or(id.0, |last| last.id.max(id.0));
                    known.last = Some(Last { micros, id });
                }
            }
            self.n_bytes += rows.memory_bytes();
            self.rows.push(Arc::new(rows));
        }
        self.shared.state.describe([Arc::clone(&known.stream)]);
        self.registry.insert(known);
    }
}
