//! Spans of time, and how far an id may lie from its time.

use tawny_model::{EntryId, Timestamp};

use crate::Filter;

pub(super) const MINUTE_NS: i64 = 60_000_000_000;

/// Ids lie within this of the first id of their microsecond: what `id_offset` (i32) of a stored row can say.
const ID_REACH: i64 = 1 << 31;

/// From `first` to `last`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

impl Span {
    /// `None` when no time is in it.
    pub(super) fn of(filter: &Filter) -> Option<Self> {
        let last = if filter.to == Timestamp::MAX {
            Timestamp::MAX
        } else {
            Timestamp::from_nanos(filter.to.as_nanos().checked_sub(1)?)
        };
        Self::new(filter.from, last)
    }

    pub(super) fn new(first: Timestamp, last: Timestamp) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    pub(super) fn of_minute(minute: i32) -> Self {
        let first = i64::from(minute).saturating_mul(MINUTE_NS);
        Self {
            first: Timestamp::from_nanos(first),
            last: Timestamp::from_nanos(first.saturating_add(MINUTE_NS - 1)),
        }
    }

    /// The times whose entries may have an id in `low..=high`.
    pub(super) fn of_ids(low: EntryId, high: EntryId) -> Option<Self> {
        // Times later (or earlier) than ids reach share the last (or first) id.
        let is_latest = high.0.saturating_add(ID_REACH) >= EntryId::first_at(Timestamp::MAX).0;
        let is_earliest = low.0.saturating_sub(ID_REACH) <= EntryId::first_at(Timestamp::MIN).0;
        let first = EntryId(low.0.saturating_sub(ID_REACH)).timestamp();
        let last = EntryId(high.0.saturating_add(ID_REACH)).timestamp();
        Self::new(
            if is_earliest { Timestamp::MIN } else { first },
            if is_latest {
                Timestamp::MAX
            } else {
                Timestamp::from_nanos(last.as_nanos().saturating_add(999))
            },
        )
    }

    /// Times whose entries have an id in `low..=high` for sure.
    pub(super) fn surely_of_ids(low: EntryId, high: EntryId) -> Option<Self> {
        // A microsecond of room on either side makes up for rounding.
        let first = if low.0 == i64::MIN {
            Timestamp::MIN
        } else {
            let id = low.0.checked_add(ID_REACH)?;
            if id >= EntryId::first_at(Timestamp::MAX).0 {
                return None;
            }
            Timestamp::from_nanos(EntryId(id).timestamp().as_nanos().saturating_add(1_000))
        };
        let last = if high.0 == i64::MAX {
            Timestamp::MAX
        } else {
            let id = high.0.checked_sub(ID_REACH)?;
            if id <= EntryId::first_at(Timestamp::MIN).0 {
                return None;
            }
            Timestamp::from_nanos(EntryId(id).timestamp().as_nanos().saturating_sub(1))
        };
        Self::new(first, last)
    }

    pub(super) fn contains(&self, time: Timestamp) -> bool {
        self.first <= time && time <= self.last
    }

    pub(super) fn covers(&self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    pub(super) fn and(&self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

/// The highest id an entry of this time can have.
pub(super) fn highest_id(time: Timestamp) -> EntryId {
    EntryId(EntryId::first_at(time).0.saturating_add(ID_REACH - 1))
}

/// The lowest id an entry of this time can have.
pub(super) fn lowest_id(time: Timestamp) -> EntryId {
    EntryId(EntryId::first_at(time).0.saturating_sub(ID_REACH))
}

pub(super) fn minute_of(time: Timestamp) -> i32 {
    i32::try_from(time.as_nanos().div_euclid(MINUTE_NS))
        .expect("64 bits of nanoseconds are less than 31 bits of minutes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_times_of_ids_hold_every_time_that_may_have_them(ns: i64, offset: i32) {
            let time = Timestamp::from_nanos(ns);
            let id = EntryId(EntryId::first_at(time).0.saturating_add(i64::from(offset)));
            prop_assert!(Span::of_ids(id, id).unwrap().contains(time));
            prop_assert!(lowest_id(time) <= id && id <= highest_id(time));
            prop_assert!(Span::of_minute(minute_of(time)).contains(time));
            let others = [id.0.saturating_sub(i64::from(offset)), id.0.saturating_add(1 << 31), i64::MIN, i64::MAX, 0];
            for (low, high) in others.iter().flat_map(|a| others.iter().map(move |b| (EntryId(*a), EntryId(*b)))) {
                if Span::surely_of_ids(low, high).is_some_and(|span| span.contains(time)) {
                    prop_assert!(low <= id && id <= high, "{low}..={high} has not {id}");
                }
            }
        }
    }
}
