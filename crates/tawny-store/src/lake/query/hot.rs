//! Rows in memory as a question sees them: what streams and texts rule out is not gone through row by row.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tawny_model::Stream;

use super::{
    Snapshot,
    residual::{Class, Residuals},
    span::Span,
};
use crate::lake::rows::HotRows;

/// Rows in memory worth a thread.
pub(super) const BATCHES_PER_THREAD: usize = 256;

/// What a thread has learnt of the streams of rows in memory: batches are small, and there are many of each stream.
pub(super) struct HotClasses<'s> {
    snapshot: &'s Snapshot,
    residuals: &'s Residuals<'s>,
    span: Span,
    /// By the place of the stream's description in memory, which the snapshot keeps there.
    known: FxHashMap<usize, Arc<Class>>,
    /// The class of all, where streams make no difference.
    common: Option<Arc<Class>>,
}

impl<'s> HotClasses<'s> {
    pub(super) fn new(snapshot: &'s Snapshot, residuals: &'s Residuals<'s>, span: Span) -> Self {
        Self {
            snapshot,
            residuals,
            span,
            known: FxHashMap::default(),
            common: (!residuals.asks_about_streams()).then(|| residuals.class(&[])),
        }
    }

    /// The class of a batch's rows; `None` when none of them can match, for their times, their stream or their text.
    pub(super) fn of(&mut self, batch: &HotRows) -> Option<Arc<Class>> {
        if batch.ids.is_empty() || batch.last < self.span.first || self.span.last < batch.first {
            return None;
        }
        let class = match &self.common {
            Some(common) => common,
            None => {
                let place = Arc::as_ptr(&batch.stream).addr();
                self.known
                    .entry(place)
                    .or_insert_with(|| classify(self.snapshot, self.residuals, &batch.stream))
            }
        };
        let may_match = !class.is_never() && class.may_match(batch);
        may_match.then(|| Arc::clone(class))
    }
}

fn classify(snapshot: &Snapshot, residuals: &Residuals<'_>, stream: &Arc<Stream>) -> Arc<Class> {
    residuals.class_of(&snapshot.streams.describe(stream))
}
