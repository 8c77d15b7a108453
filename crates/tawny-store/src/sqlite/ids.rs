//! Where in the order of ids an entry goes, and which ids a range of time can have.
//!
//! An id is a row's key, so it must be free: it is looked for in the entry's own microsecond and, where that is full,
//! behind it. How far it ever had to move is kept, so that ranges of time find such entries too.

use rusqlite::Connection;
use tawny_model::{EntryId, Timestamp, entry::TIE_BITS};

use super::row::id_micros;

/// How far ids lie from the times of their entries, over the life of the file; zero unless microseconds overflowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Drift {
    after_us: i64,
    before_us: i64,
}

impl Drift {
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        conn.prepare_cached("SELECT after_us, before_us FROM drift")?
            .query_row([], |row| {
                Ok(Self {
                    after_us: row.get(0)?,
                    before_us: row.get(1)?,
                })
            })
    }

    pub(super) fn save(self, conn: &Connection) -> rusqlite::Result<()> {
        conn.prepare_cached("UPDATE drift SET after_us = ?1, before_us = ?2")?
            .execute([self.after_us, self.before_us])?;
        Ok(())
    }

    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    pub(super) fn widen(&mut self, id: i64, timestamp: Timestamp) {
        let off_us = id_micros(id) - id_micros(EntryId::first_at(timestamp).0);
        self.after_us = self.after_us.max(off_us);
        self.before_us = self.before_us.max(-off_us);
    }

    /// The ids that entries of `[from, to)` may have, both ends included; `None` when the range is empty.
    pub(super) fn ids_between(self, from: Timestamp, to: Timestamp) -> Option<(i64, i64)> {
        let last = if to == Timestamp::MAX {
            to
        } else {
            Timestamp::from_nanos(to.as_nanos().checked_sub(1)?)
        };
        let low = EntryId::first_at(from)
            .0
            .saturating_sub(self.before_us.saturating_mul(1 << TIE_BITS));
        let high = (EntryId::first_at(last).0 | TIE_MASK)
            .saturating_add(self.after_us.saturating_mul(1 << TIE_BITS));
        (from <= last && low <= high).then_some((low, high))
    }
}

const TIE_MASK: i64 = (1 << TIE_BITS) - 1;

/// The next id above a taken one that is free; below it when there is none up to the end of time.
pub(super) fn free_id(conn: &Connection, taken: i64) -> rusqlite::Result<i64> {
    let mut above = conn.prepare_cached("SELECT id FROM logs WHERE id > ?1 ORDER BY id")?;
    let mut rows = above.query([taken])?;
    let mut run_end = taken;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? != run_end + 1 {
            break;
        }
        run_end += 1;
    }
    if let Some(free) = run_end.checked_add(1) {
        return Ok(free);
    }
    let mut below = conn.prepare_cached("SELECT id FROM logs WHERE id < ?1 ORDER BY id DESC")?;
    let mut rows = below.query([taken])?;
    let mut run_start = taken;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(0)? != run_start - 1 {
            break;
        }
        run_start -= 1;
    }
    Ok(run_start - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tawny_model::StreamKey;

    use super::*;
    use crate::naming::base_id;

    proptest! {
        /// Whatever the time, and however far its id had to move, the range of ids finds it.
        #[test]
        fn range_of_ids_holds_every_entry_of_its_time(ns: i64, moved in -20_000i64..20_000, before in 0i64..5_000_000, after in 1i64..5_000_000) {
            let time = Timestamp::from_nanos(ns);
            let id = base_id(time, StreamKey(ns.cast_unsigned())).saturating_add(moved);
            let mut drift = Drift::default();
            drift.widen(id, time);
            let (from, to) = (Timestamp::from_nanos(ns.saturating_sub(before)), Timestamp::from_nanos(ns.saturating_add(after)));
            let (low, high) = drift.ids_between(from, to).expect("the range is not empty");
            prop_assert!((low..=high).contains(&id));
            prop_assert!(drift.ids_between(to, from).is_none());
        }
    }

    #[test]
    fn ids_that_did_not_move_need_no_wider_range() {
        let time = Timestamp::from_nanos(1_700_000_000_123_456_789);
        let mut drift = Drift::default();
        drift.widen(base_id(time, StreamKey(9)), time);
        assert!(drift.is_none());
        let to = Timestamp::from_nanos(time.as_nanos() + 1);
        let (low, high) = drift.ids_between(time, to).unwrap();
        assert_eq!(high - low, TIE_MASK);
    }
}
