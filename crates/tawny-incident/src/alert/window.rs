//! A sliding window of counts: time is cut into steps, and of the steps in the window each that has lines is a bucket.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};
use tawny_model::Timestamp;

use super::threshold::Threshold;

/// Steps a window is counted in: a count is wrong by what lies in one of them at most.
const STEPS: i64 = 60;

/// How a rule cuts time.
///
/// A window never ends within a step, so it is a little shorter or longer than the rule says: shorter where many lines
/// fire and longer where few do. So no alert fires that an exact count would not fire.
///
/// | threshold | steps | they reach back |
/// |---|---|---|
/// | `>=`, shares | 60 of a sixtieth | 59/60 of the window to the whole of it |
/// | `<`, `absent` | 61 of a sixtieth | the whole of it to 61/60 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    step_ns: i64,
    steps: i64,
}

impl Frame {
    pub(super) fn new(window: Duration, threshold: Threshold) -> Self {
        let window_ns = i64::try_from(window.as_nanos()).unwrap_or(i64::MAX);
        let (step_ns, steps) = match threshold {
            Threshold::AtLeast(_) | Threshold::Share(_) => (window_ns / STEPS, STEPS),
            Threshold::Below(_) => (
                window_ns / STEPS + i64::from(window_ns % STEPS > 0),
                STEPS + 1,
            ),
        };
        let step_ns = step_ns.max(1);
        Self { step_ns, steps }
    }

    pub(super) fn step_of(self, at: Timestamp) -> i64 {
        at.as_nanos().div_euclid(self.step_ns)
    }

    /// The oldest step that counts at this time.
    fn oldest(self, now: Timestamp) -> i64 {
        self.step_of(now).saturating_sub(self.steps - 1)
    }

    /// When a step counts no longer.
    fn leaves(self, step: i64) -> Timestamp {
        Timestamp::from_nanos(step.saturating_add(self.steps).saturating_mul(self.step_ns))
    }

    /// When a window that begins at this time is whole.
    pub(super) fn is_whole_at(self, from: Timestamp) -> Timestamp {
        self.leaves(self.step_of(from))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Bucket {
    step: i64,
    /// Lines that match the query.
    lines: u32,
    /// Lines looked at.
    of: u32,
}

/// The lines of one group in its window.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Tally {
    /// Oldest first, none empty.
    buckets: VecDeque<Bucket>,
}

/// Most bytes one tally takes: an upper bound for what a deque of 61 buckets reserves.
pub(super) const MAX_TALLY_BYTES: usize = 128 * size_of::<Bucket>();

impl Tally {
    /// Counts a line of this time at `now`; false when it lies outside the window and is not counted. A line of the
    /// future counts as one of now, for its clock is wrong and it was written.
    pub(super) fn add(
        &mut self,
        frame: Frame,
        at: Timestamp,
        now: Timestamp,
        matches: bool,
    ) -> bool {
        let step = frame.step_of(at.min(now));
        if step < frame.oldest(now) {
            return false;
        }
        let idx = match self.buckets.back() {
            Some(last) if last.step == step => self.buckets.len() - 1,
            _ => {
                let idx = self.buckets.partition_point(|bucket| bucket.step < step);
                if self
                    .buckets
                    .get(idx)
                    .is_none_or(|bucket| bucket.step != step)
                {
                    let bucket = Bucket {
                        step,
                        lines: 0,
                        of: 0,
                    };
                    self.buckets.insert(idx, bucket);
                }
                idx
            }
        };
        let bucket = self
            .buckets
            .get_mut(idx)
            .expect("was there or was put there");
        bucket.of = bucket.of.saturating_add(1);
        bucket.lines = bucket.lines.saturating_add(u32::from(matches));
        true
    }

    /// Forgets what lies before the window.
    pub(super) fn advance(&mut self, frame: Frame, now: Timestamp) {
        let oldest = frame.oldest(now);
        while self
            .buckets
            .front()
            .is_some_and(|bucket| bucket.step < oldest)
        {
            self.buckets.pop_front();
        }
    }

    /// Makes what was read from outside what this type promises: a saved state may be damaged or of another clock.
    pub(super) fn mend(&mut self, frame: Frame, now: Timestamp) {
        let newest = frame.step_of(now);
        let buckets = self.buckets.make_contiguous();
        buckets.sort_by_key(|bucket| bucket.step);
        let mut mended: VecDeque<Bucket> = VecDeque::new();
        for bucket in self
            .buckets
            .iter()
            .filter(|bucket| bucket.step <= newest && bucket.of > 0)
        {
            match mended.back_mut() {
                Some(last) if last.step == bucket.step => {
                    last.lines = last.lines.saturating_add(bucket.lines);
                    last.of = last.of.saturating_add(bucket.of);
                }
                _ => mended.push_back(*bucket),
            }
        }
        self.buckets = mended;
        self.advance(frame, now);
    }

    /// Lines that match, and lines looked at.
    pub(super) fn counts(&self) -> (u64, u64) {
        self.buckets.iter().fold((0, 0), |(lines, of), bucket| {
            (lines + u64::from(bucket.lines), of + u64::from(bucket.of))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// When the counts next change if no line comes.
    pub(super) fn changes_at(&self, frame: Frame) -> Option<Timestamp> {
        self.buckets.front().map(|bucket| frame.leaves(bucket.step))
    }

    /// When it is empty if no line comes.
    pub(super) fn empties_at(&self, frame: Frame) -> Option<Timestamp> {
        self.buckets.back().map(|bucket| frame.leaves(bucket.step))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_767_225_600_000_000_000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn a_count_errs_by_a_step_at_most_and_to_the_side_that_fires_nothing(
            window_ns in 1_000_000_000i64..5_000_000_000,
            is_short in any::<bool>(),
            mut ages in prop::collection::vec(0i64..6_000_000_000, 0..40),
            elapsed_ns in 0i64..10_000_000_000,
        ) {
            let threshold = if is_short { Threshold::Below(1) } else { Threshold::AtLeast(1) };
            let window = Duration::from_nanos(window_ns.unsigned_abs());
            let frame = Frame::new(window, threshold);
            let now = START + elapsed_ns;
            let mut tally = Tally::default();
            // Each as it is written, the oldest first, and then the time until now.
            ages.sort_unstable_by(|a, b| b.cmp(a));
            for age in &ages {
                let at = Timestamp::from_nanos(now - age);
                tally.advance(frame, at);
                prop_assert!(tally.add(frame, at, at, true));
            }
            tally.advance(frame, Timestamp::from_nanos(now));
            prop_assert!(tally.buckets.len() <= 61);
            let within = |window_ns: i64| ages.iter().filter(|age| **age < window_ns).count() as u64;
            let (count, of) = tally.counts();
            prop_assert_eq!(count, of);
            let step_ns = window_ns / STEPS + 2;
            let (least, most) = if is_short {
                (within(window_ns), within(window_ns + 2 * step_ns))
            } else {
                (within(window_ns - 2 * step_ns), within(window_ns))
            };
            prop_assert!((least..=most).contains(&count), "{least} <= {count} <= {most}");
        }
    }

    #[test]
    fn a_damaged_tally_is_mended() {
        let frame = Frame::new(Duration::from_mins(1), Threshold::AtLeast(1));
        let now = Timestamp::from_secs(1_000);
        let saved = r#"[
            {"step": 2000, "lines": 9, "of": 9}, {"step": 999, "lines": 1, "of": 2},
            {"step": 5, "lines": 9, "of": 9}, {"step": 999, "lines": 4294967295, "of": 1},
            {"step": 960, "lines": 3, "of": 3}, {"step": 970, "lines": 0, "of": 0}
        ]"#;
        let mut tally: Tally = serde_json::from_str(saved).unwrap();
        tally.mend(frame, now);
        assert_eq!(
            tally
                .buckets
                .iter()
                .map(|bucket| bucket.step)
                .collect::<Vec<_>>(),
            [960, 999]
        );
        assert_eq!(tally.counts(), (u64::from(u32::MAX) + 3, 6));
    }

    #[test]
    fn the_ends_of_time_are_survived() {
        for threshold in [Threshold::AtLeast(1), Threshold::Below(1)] {
            let frame = Frame::new(Duration::from_secs(1), threshold);
            for now in [Timestamp::MIN, Timestamp::MAX] {
                let mut tally = Tally::default();
                tally.add(frame, Timestamp::MIN, now, true);
                tally.add(frame, Timestamp::MAX, now, true);
                tally.advance(frame, now);
                assert!(!tally.is_empty());
            }
        }
    }
}
