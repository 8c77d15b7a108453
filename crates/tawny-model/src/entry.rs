//! One log entry as a reader gets it, and its id.

use std::{fmt, sync::Arc};

use crate::{Output, Severity, Stream, StreamKey, Timestamp, stream::Fnv};

/// A 63-bit id, ordered by time: microseconds since the epoch in the high 51 bits, 12 bits that tell equals apart.
///
/// Positive until the year 2041. An id finds its entry by a scan of one microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub i64);

/// Low bits of an id that do not tell time.
pub const TIE_BITS: u32 = 12;

impl EntryId {
    /// Derives the id of the entry that is number `ordinal` among those of its stream with this exact timestamp.
    pub fn derive(timestamp: Timestamp, stream: StreamKey, ordinal: u32) -> Self {
        let mut hash = Fnv::default();
        hash.write(&stream.0.to_le_bytes());
        hash.write(&timestamp.as_nanos().rem_euclid(1_000).to_le_bytes());
        hash.write(&ordinal.to_le_bytes());
        let folded = hash.finish();
        let tie = (folded ^ (folded >> 12) ^ (folded >> 24) ^ (folded >> 36) ^ (folded >> 48))
            & ((1 << TIE_BITS) - 1);
        Self(Self::first_at(timestamp).0 | i64::try_from(tie).expect("12 bits fit i64"))
    }

    /// The least id an entry of this microsecond can have; for ranges over time.
    pub fn first_at(timestamp: Timestamp) -> Self {
        let micros = timestamp
            .as_micros()
            .clamp(i64::MIN >> TIE_BITS, i64::MAX >> TIE_BITS);
        Self(micros << TIE_BITS)
    }

    /// The microsecond this id lies in.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_micros(self.0 >> TIE_BITS)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One log entry, owned: what a search returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub id: EntryId,
    pub timestamp: Timestamp,
    pub severity: Severity,
    pub output: Output,
    /// The text, raw: colour codes are kept here and ignored by search.
    pub message: String,
    /// Fields lifted from the message, in the order found; at most [`MAX_ATTRIBUTES`].
    pub attributes: Vec<(String, String)>,
    pub stream: Arc<Stream>,
}

/// Most attributes lifted from one message (KL-64).
pub const MAX_ATTRIBUTES: usize = 20;

impl LogEntry {
    /// The value of an attribute, the first where a key repeats.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn id_keeps_the_microsecond_and_the_order(a in 0i64..2_000_000_000_000_000_000, b in 0i64..2_000_000_000_000_000_000, key: u64) {
            let (a, b) = (Timestamp::from_nanos(a), Timestamp::from_nanos(b));
            let (id_a, id_b) = (EntryId::derive(a, StreamKey(key), 0), EntryId::derive(b, StreamKey(key), 0));
            prop_assert_eq!(id_a.timestamp().as_micros(), a.as_micros());
            if a.as_micros() < b.as_micros() {
                prop_assert!(id_a < id_b);
            }
            prop_assert!(EntryId::first_at(a) <= id_a);
        }
    }
}
