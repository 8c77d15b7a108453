//! The rule that makes delivery exactly-once: the store holds the end of each stream and admits a batch against it.

use serde::{Deserialize, Serialize};

use crate::{Batch, Position, Timestamp};

/// One reader's session, random at its start. A stream obeys the writer that last resumed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WriterId(pub u64);

/// Names a place in a stream by content: just behind the `n_lines`-th consecutive line stamped `timestamp`.
///
/// Found again in a file, a compressed file or an API stream alike, so no local checkpoint is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct ResumeMark {
    pub timestamp: Timestamp,
    /// At least 1; or 0 at the very start of a stream, and behind a gap, where the first younger line is next.
    pub n_lines: u32,
}

impl ResumeMark {
    /// The mark behind one more line stamped `timestamp`.
    #[must_use]
    pub fn after_line(self, timestamp: Timestamp) -> Self {
        if self.n_lines > 0 && self.timestamp == timestamp {
            Self {
                timestamp,
                n_lines: self.n_lines.saturating_add(1),
            }
        } else {
            Self {
                timestamp,
                n_lines: 1,
            }
        }
    }
}

/// How far a stream is stored; committed in the same transaction as the lines before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StreamEnd {
    pub end: Position,
    pub mark: ResumeMark,
}

/// What to do with a batch.
///
/// | batch | committed end `c` | answer |
/// |---|---|---|
/// | from a writer that another one replaced | any | `Fenced` |
/// | `[start, end)`, `end <= c` | not before its end | `Duplicate` |
/// | `start <= c < end` | inside or at its start | `New`, the first `skip` entries lie before `c` |
/// | `c < start` | before its start | `Gap` |
///
/// A stream never seen has `c = 0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    New {
        /// Entries at the front that are already stored.
        skip: usize,
    },
    Duplicate,
    /// Bytes between `committed` and the batch's start were never sent: refused, send from `committed`.
    Gap {
        committed: Position,
    },
    Fenced,
}

/// Decides on a batch; `owner` is the writer that last resumed the stream, if any did since start-up.
pub fn admit(batch: &Batch, committed: Option<StreamEnd>, owner: Option<WriterId>) -> Admission {
    if owner.is_some_and(|owner| owner != batch.writer) {
        return Admission::Fenced;
    }
    let committed = committed.unwrap_or_default().end;
    if batch.start > committed {
        Admission::Gap { committed }
    } else if batch.end <= committed {
        Admission::Duplicate
    } else if batch.start == committed {
        Admission::New { skip: 0 }
    } else {
        Admission::New {
            skip: batch
                .entries
                .iter()
                .take_while(|entry| entry.end() <= committed)
                .count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{Entries, Output, Severity, Stream, StreamId};

    /// A batch with one entry of `len` bytes per element.
    fn batch(start: u64, lens: &[u64]) -> Batch {
        let id = StreamId {
            cluster: "".into(),
            pod_uid: "u".into(),
            container: "c".into(),
            restart: 0,
        };
        let mut entries = Entries::default();
        let mut end = Position(start);
        for len in lens {
            end = end.advance(*len);
            entries
                .push(
                    Timestamp::default(),
                    Severity::Info,
                    Output::Stdout,
                    "x",
                    [],
                    end,
                )
                .unwrap();
        }
        Batch {
            stream: Arc::new(Stream::new(id, "ns", "pod")),
            writer: WriterId(1),
            start: Position(start),
            end,
            end_mark: ResumeMark::default(),
            entries,
        }
    }

    fn at(end: u64) -> Option<StreamEnd> {
        Some(StreamEnd {
            end: Position(end),
            mark: ResumeMark::default(),
        })
    }

    #[test]
    fn batch_is_new_trimmed_duplicate_or_refused() {
        let batch = batch(100, &[10, 10, 10]);
        assert_eq!(admit(&batch, at(100), None), Admission::New { skip: 0 });
        assert_eq!(admit(&batch, at(110), None), Admission::New { skip: 1 });
        assert_eq!(admit(&batch, at(130), None), Admission::Duplicate);
        assert_eq!(
            admit(&batch, at(99), None),
            Admission::Gap {
                committed: Position(99)
            }
        );
        assert_eq!(
            admit(&batch, None, None),
            Admission::Gap {
                committed: Position(0)
            }
        );
        assert_eq!(
            admit(&batch, at(100), Some(WriterId(1))),
            Admission::New { skip: 0 }
        );
        assert_eq!(admit(&batch, at(100), Some(WriterId(2))), Admission::Fenced);
    }

    #[test]
    fn mark_counts_lines_of_one_instant() {
        let t = Timestamp::from_nanos(7);
        let mark = ResumeMark::default().after_line(t).after_line(t);
        assert_eq!(
            mark,
            ResumeMark {
                timestamp: t,
                n_lines: 2
            }
        );
        assert_eq!(mark.after_line(Timestamp::from_nanos(8)).n_lines, 1);
    }

    proptest! {
        /// A sender that repeats any earlier batch at any time, cut anywhere, stores each entry once and in order.
        #[test]
        fn any_replay_stores_each_entry_once(lens in proptest::collection::vec(1u64..20, 1..40),
                                             sends in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..8), 0..200)) {
            let starts: Vec<u64> = lens.iter().scan(0, |sum, len| { let start = *sum; *sum += len; Some(start) }).collect();
            let mut committed = None;
            let mut stored = Vec::new();
            let mut send = |from: usize, n: usize| {
                let until = (from + n).min(lens.len());
                let batch = batch(starts[from], &lens[from..until]);
                if let Admission::New { skip } = admit(&batch, committed, None) {
                    stored.extend(from + skip..until);
                    committed = at(batch.end.0);
                }
            };
            for (from, n) in &sends {
                send(from.index(lens.len()), *n);
            }
            for from in 0..lens.len() {
                send(from, 1);
            }
            prop_assert_eq!(stored, (0..lens.len()).collect::<Vec<_>>());
        }
    }
}
