//! What readers see: rows in memory and segments, swapped in one step so that no row is missed or seen twice.

use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;
use tawny_model::{Stream, StreamId, Timestamp};

use super::{
    catalog::SegmentPath,
    described::Described,
    query::{Describe, Snapshot},
    rows::HotRows,
    run::{Run, RunIndex},
    segment::Segment,
};

/// A segment of the table, as readers and the keepers of the table know it.
#[derive(Debug)]
pub(super) struct Live {
    /// Its place in the table.
    pub(super) path: SegmentPath,
    pub(super) size_bytes: u64,
    pub(super) segment: Arc<Segment>,
}

#[derive(Debug, Default)]
struct Content {
    /// Admitted since the last freeze, in order.
    active: Vec<Arc<HotRows>>,
    /// On their way into segments.
    frozen: Vec<Arc<HotRows>>,
    live: Arc<Vec<Arc<Live>>>,
}

/// Shared by the writer, the keepers of the table, and readers.
#[derive(Debug, Default)]
pub(super) struct State {
    content: RwLock<Content>,
    descriptions: RwLock<Arc<Descriptions>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Descriptions {
    streams: FxHashMap<StreamId, Arc<Stream>>,
    /// Grows when a stream that was known is described anew; a new one is in no run yet.
    revision: u64,
}

impl Describe for Descriptions {
    fn describe(&self, stream: &Arc<Stream>) -> Arc<Stream> {
        Arc::clone(self.streams.get(&stream.id).unwrap_or(stream))
    }

    fn describe_all(&self, index: &RunIndex) -> Arc<Described> {
        index.described(self.revision, |stream| self.describe(stream))
    }
}

impl State {
    pub(super) fn snapshot(&self) -> Snapshot {
        let (hot, live) = {
            let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
            let hot = content.frozen.iter().chain(&content.active);
            (hot.cloned().collect(), Arc::clone(&content.live))
        };
        // Taken after the rows: every stream of a visible row is described.
        let streams = self.descriptions();
        Snapshot {
            hot,
            runs: live
                .iter()
                .map(|live| Arc::clone(&live.segment) as Arc<dyn Run>)
                .collect(),
            streams,
        }
    }

    /// The segments as of now.
    pub(super) fn live(&self) -> Arc<Vec<Arc<Live>>> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&content.live)
    }

    /// Every stream as described now.
    pub(super) fn descriptions(&self) -> Arc<Descriptions> {
        let descriptions = self
            .descriptions
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&descriptions)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Content> {
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn n_described(&self) -> usize {
        self.descriptions().streams.len()
    }

    pub(super) fn describe(&self, news: impl IntoIterator<Item = Arc<Stream>>) {
        let mut news = news.into_iter().peekable();
        if news.peek().is_some() {
            let mut descriptions = self
                .descriptions
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            // Copied only while a reader holds the old one.
            let descriptions = Arc::make_mut(&mut descriptions);
            for stream in news {
                let before = descriptions.streams.insert(stream.id.clone(), stream);
                descriptions.revision += u64::from(before.is_some());
            }
        }
    }

    pub(super) fn forget(&self, streams: &[StreamId]) {
        if !streams.is_empty() {
            let mut descriptions = self
                .descriptions
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let descriptions = Arc::make_mut(&mut descriptions);
            descriptions.revision += 1;
            for id in streams {
                descriptions.streams.remove(id);
            }
        }
    }

    pub(super) fn admit(&self, rows: impl IntoIterator<Item = Arc<HotRows>>) {
        self.write().active.extend(rows);
    }

    /// Sets the rows in memory aside for a segment; answers them.
    pub(super) fn freeze(&self) -> Vec<Arc<HotRows>> {
        let mut content = self.write();
        let active = std::mem::take(&mut content.active);
        content.frozen.extend(active);
        content.frozen.clone()
    }

    /// The earliest time of a row, to the microsecond.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let hot = content.frozen.iter().chain(&content.active);
        let live = content.live.iter().map(|live| live.segment.extent().first);
        hot.map(|rows| rows.first).chain(live).min()
    }

    /// Segments take the place of the frozen rows; `live` gives them all, knowing those of before.
    pub(super) fn flushed(&self, live: impl FnOnce(&[Arc<Live>]) -> Vec<Arc<Live>>) {
        let mut content = self.write();
        content.live = Arc::new(live(&content.live));
        content.frozen = Vec::new();
    }

    /// Segments take the place of others; `live` gives them all, knowing those of before.
    pub(super) fn replaced(&self, live: impl FnOnce(&[Arc<Live>]) -> Vec<Arc<Live>>) {
        let mut content = self.write();
        content.live = Arc::new(live(&content.live));
    }
}
