//! Gives each new row an id that no row in memory has, and lines of one stream ids in the order they came.

use rustc_hash::FxHashSet;
use tawny_model::{EntryId, Timestamp};

use super::streams::Known;
use crate::naming::base_id;

/// Ids of the rows in memory: of those being written to a segment, and of those that came since.
#[derive(Debug, Default)]
pub(super) struct HotIds {
    active: FxHashSet<i64>,
    frozen: FxHashSet<i64>,
}

impl HotIds {
    pub(super) fn contains(&self, id: i64) -> bool {
        self.active.contains(&id) || self.frozen.contains(&id)
    }

    pub(super) fn insert(&mut self, id: EntryId) {
        self.active.insert(id.0);
    }

    pub(super) fn remove(&mut self, id: EntryId) {
        self.active.remove(&id.0);
    }

    /// The rows so far are on their way into a segment.
    pub(super) fn freeze(&mut self) {
        self.frozen = std::mem::take(&mut self.active);
    }

    /// They are in it.
    pub(super) fn forget_frozen(&mut self) {
        self.frozen = FxHashSet::default();
    }

    /// The id of a stream's next row.
    ///
    /// Times of a stream nearly always ascend, and then the stream's own last id is all there is to know. `stored`
    /// answers for a time that steps back: the highest id this stream has in that microsecond outside memory.
    ///
    /// Ids are unique among the rows in memory, and within a stream. Two streams whose hashes meet, with a line in one
    /// microsecond each, of which one came when the other's was no longer in memory, share an id; pages keep such
    /// entries together.
    pub(super) fn assign(
        &mut self,
        known: &mut Known,
        timestamp: Timestamp,
        stored: impl FnOnce() -> Option<EntryId>,
    ) -> EntryId {
        let base = base_id(timestamp, known.key);
        let micros = timestamp.as_micros();
        let is_step_back = known.last.is_some_and(|last| micros < last.micros);
        let mut id = match known.last {
            _ if is_step_back => stored().map_or(base, |id| base.max(id.0.saturating_add(1))),
            Some(last) => base.max(last.id.saturating_add(1)),
            None => base,
        };
        // At the end of time there is no room above: the same search downwards.
        let mut step = 1;
        while self.contains(id) {
            id = id.checked_add(step).unwrap_or_else(|| {
                step = -1;
                base - 1
            });
        }
        self.active.insert(id);
        if !is_step_back {
            known.last = Some(super::streams::Last { micros, id });
        }
        EntryId(id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tawny_model::{Stream, StreamId};

    use super::*;

    fn known(pod: &str) -> Known {
        let id = StreamId {
            cluster: "".into(),
            pod_uid: pod.into(),
            container: "c".into(),
            restart: 0,
        };
        Known::new(Arc::new(Stream::new(id, "ns", pod)), Timestamp::default())
    }

    proptest! {
        #[test]
        fn ids_are_unique_and_keep_the_order_of_one_instant(times in proptest::collection::vec((0..3usize, 0i64..6_000), 0..300)) {
            let mut ids = HotIds::default();
            let mut streams = ["a", "b", "c"].map(known);
            let mut given: Vec<(usize, i64, EntryId)> = Vec::new();
            for (stream, ns) in times {
                let id = ids.assign(&mut streams[stream], Timestamp::from_nanos(ns), || None);
                prop_assert!(given.iter().all(|(_, _, other)| *other != id));
                let before = given.iter().rev().find(|(s, t, _)| *s == stream && t / 1_000 == ns / 1_000);
                prop_assert!(before.is_none_or(|(_, _, before)| *before < id));
                given.push((stream, ns, id));
            }
        }
    }

    #[test]
    fn rows_in_segments_are_not_met_again() {
        let (mut ids, mut stream) = (HotIds::default(), known("a"));
        let at = |micros: i64| Timestamp::from_nanos(micros * 1_000);
        let first = ids.assign(&mut stream, at(5), || None);
        ids.freeze();
        ids.forget_frozen();
        assert!(
            ids.assign(&mut stream, at(5), || None) > first,
            "the stream remembers"
        );
        ids.assign(&mut stream, at(9), || None);
        let back = ids.assign(&mut stream, at(5), || Some(EntryId(first.0 + 1)));
        assert!(back.0 > first.0 + 1, "what is stored is asked for");
    }

    #[test]
    fn there_is_room_at_the_end_of_time() {
        let (mut ids, mut a, mut b) = (HotIds::default(), known("a"), known("b"));
        for _ in 0..5_000 {
            ids.assign(&mut a, Timestamp::MAX, || None);
        }
        ids.assign(&mut b, Timestamp::MAX, || None);
        assert_eq!(ids.active.len(), 5_001);
    }
}
