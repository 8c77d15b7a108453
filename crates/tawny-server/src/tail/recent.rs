//! The ids sent last: what tells an echo from a new entry.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;
use tawny_model::EntryId;

/// Ids remembered (16,384 × about 24 bytes = 400 KiB). A commit is announced right behind the moment searches see it,
/// so its echo comes within a page or two.
const CAPACITY: usize = 16_384;

#[derive(Debug)]
pub(super) struct Recent {
    order: VecDeque<EntryId>,
    ids: FxHashSet<EntryId>,
    floor: EntryId,
}

impl Recent {
    /// `floor`: the id behind which the tail began.
    pub(super) fn new(floor: EntryId) -> Self {
        Self {
            order: VecDeque::new(),
            ids: FxHashSet::default(),
            floor,
        }
    }

    pub(super) fn insert(&mut self, id: EntryId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > CAPACITY
            && let Some(forgotten) = self.order.pop_front()
        {
            self.ids.remove(&forgotten);
            self.floor = self.floor.max(forgotten);
        }
    }

    pub(super) fn contains(&self, id: EntryId) -> bool {
        self.ids.contains(&id)
    }

    /// Every id above this that was sent is remembered.
    pub(super) fn floor(&self) -> EntryId {
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_lies_at_or_below_the_floor() {
        let mut recent = Recent::new(EntryId(10));
        let capacity = i64::try_from(CAPACITY).unwrap();
        for id in 0..capacity + 5 {
            recent.insert(EntryId(1_000 - id));
        }
        assert_eq!(recent.floor(), EntryId(1_000));
        for id in 0..capacity + 5 {
            let id = EntryId(1_000 - id);
            assert!(recent.contains(id) || id <= recent.floor());
        }
        assert!(!recent.contains(EntryId(1_000)));
    }
}
