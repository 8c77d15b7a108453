//! What was read and decoded, shared by all segments and bounded in bytes; the least recently used goes first, and
//! indexes after all else. A column takes the place of another only if it is asked for more often: a question that goes
//! through more than fits keeps what it can instead of driving out all before it comes round again.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    hash::BuildHasher as _,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use rustc_hash::FxBuildHasher;
use zstd::bulk::Decompressor;

use crate::group::lock;

/// Names a thing of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    Root,
    Streams,
    Layout,
    /// By row group.
    Tokens(u32),
    Column {
        block_idx: u32,
        column: u32,
    },
}

type Key = (u64, Part);

pub(super) type AnyValue = Arc<dyn Any + Send + Sync>;

/// What an entry costs beside its value: two nodes of trees.
const ENTRY_BYTES: usize = 256;

/// Decoded columns and sections of indexes, of at most `max_bytes` together.
pub(crate) struct BlockCache {
    max_bytes: usize,
    next_segment: AtomicU64,
    inner: Mutex<Inner>,
    /// Used again, since making one takes as long as a small page.
    decompressors: Mutex<Vec<Decompressor<'static>>>,
}

/// How often things were asked for lately, roughly: a count-min sketch that forgets.
///
/// Source: Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", ACM TOS 13 (2017).
#[derive(Debug)]
struct Frequencies {
    counts: Box<[u8]>,
    n_noted: usize,
}

/// Counters, a byte each; far more than columns of a full cache.
const N_COUNTS: usize = 1 << 15;

/// Highest count: what was asked for often is soon as good as what is asked for now.
const MAX_COUNT: u8 = 15;

/// All counts are halved when each thing held has been asked for so often, so that what was of use before makes room.
const FORGET_AFTER: usize = 10;

/// But not before so many questions.
const FORGET_AT_LEAST: usize = 1_024;

impl Default for Frequencies {
    fn default() -> Self {
        Self {
            counts: vec![0; N_COUNTS].into(),
            n_noted: 0,
        }
    }
}

impl Frequencies {
    fn places(key: Key) -> [usize; 2] {
        let hash = FxBuildHasher.hash_one(key);
        [hash, hash.rotate_left(32)].map(|hash| (hash >> 20) as usize % N_COUNTS)
    }

    /// `n_held` is how many things the cache holds.
    fn note(&mut self, key: Key, n_held: usize) {
        for place in Self::places(key) {
            self.counts[place] = (self.counts[place] + 1).min(MAX_COUNT);
        }
        self.n_noted += 1;
        if self.n_noted >= (n_held * FORGET_AFTER).max(FORGET_AT_LEAST) {
            self.n_noted = 0;
            for count in &mut self.counts {
                *count /= 2;
            }
        }
    }

    fn of(&self, key: Key) -> u8 {
        let [a, b] = Self::places(key);
        self.counts[a].min(self.counts[b])
    }
}

#[derive(Debug, Default)]
struct Inner {
    frequencies: Frequencies,
    entries: BTreeMap<Key, Entry>,
    /// By when each was last used, columns and sections of indexes: a question that goes through all there is must not
    /// cost the indexes, which every question needs.
    columns_by_age: BTreeMap<u64, Key>,
    sections_by_age: BTreeMap<u64, Key>,
    now: u64,
    n_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: AnyValue,
    n_bytes: usize,
    used: u64,
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl BlockCache {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            next_segment: AtomicU64::new(0),
            inner: Mutex::default(),
            decompressors: Mutex::default(),
        }
    }

    /// Bytes held now, never more than the maximum.
    #[cfg(test)]
    pub(crate) fn n_bytes(&self) -> usize {
        self.lock().n_bytes
    }

    /// A number for a segment that no other had.
    pub(super) fn number_segment(&self) -> u64 {
        self.next_segment.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get<T: Send + Sync + 'static>(&self, segment: u64, part: Part) -> Option<Arc<T>> {
        self.get_any(segment, part)?.downcast().ok()
    }

    /// [`Self::get`] before the type is of interest.
    pub(super) fn get_any(&self, segment: u64, part: Part) -> Option<AnyValue> {
        self.lock().touch((segment, part))
    }

    /// Keeps a value that takes `n_bytes`, unless it alone is too large.
    pub(super) fn put<T: Send + Sync + 'static>(
        &self,
        segment: u64,
        part: Part,
        n_bytes: usize,
        value: &Arc<T>,
    ) {
        let n_bytes = n_bytes.saturating_add(ENTRY_BYTES);
        if n_bytes > self.max_bytes {
            return;
        }
        let value: AnyValue = Arc::<T>::clone(value);
        let evicted = self
            .lock()
            .put((segment, part), n_bytes, value, self.max_bytes);
        // Freed here, where nobody waits for it.
        drop(evicted);
    }

    /// What was compressed to these bytes, when that is of this length.
    pub(super) fn decompress(&self, bytes: &[u8], raw_bytes: usize) -> Option<Vec<u8>> {
        let idle = lock(&self.decompressors).pop();
        let mut decompressor = idle.map_or_else(|| Decompressor::new().ok(), Some)?;
        let raw = decompressor.decompress(bytes, raw_bytes).ok();
        lock(&self.decompressors).push(decompressor);
        raw.filter(|raw| raw.len() == raw_bytes)
    }

    /// Forgets a segment.
    pub(super) fn remove_segment(&self, segment: u64) {
        let mut inner = self.lock();
        let later = inner.entries.split_off(&(segment, Part::Root));
        let mut removed = later;
        let mut kept = removed.split_off(&(segment + 1, Part::Root));
        inner.entries.append(&mut kept);
        for entry in removed.values() {
            inner.columns_by_age.remove(&entry.used);
            inner.sections_by_age.remove(&entry.used);
            inner.n_bytes -= entry.n_bytes;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn touch(&mut self, key: Key) -> Option<AnyValue> {
        self.frequencies.note(key, self.entries.len());
        let now = self.now + 1;
        let entry = self.entries.get_mut(&key)?;
        let (before, value) = (entry.used, Arc::clone(&entry.value));
        entry.used = now;
        let by_age = self.by_age(key);
        by_age.remove(&before);
        by_age.insert(now, key);
        self.now = now;
        Some(value)
    }

    fn by_age(&mut self, (_, part): Key) -> &mut BTreeMap<u64, Key> {
        match part {
            Part::Column { .. } => &mut self.columns_by_age,
            Part::Root | Part::Streams | Part::Layout | Part::Tokens(_) => {
                &mut self.sections_by_age
            }
        }
    }

    /// What is to go first.
    fn oldest(&self) -> Option<Key> {
        let first = self.columns_by_age.first_key_value();
        let (_, key) = first.or_else(|| self.sections_by_age.first_key_value())?;
        Some(*key)
    }

    /// Whether a column is asked for more often than each of those that would have to go for it.
    fn is_worth_its_place(&self, key: Key, n_bytes: usize, max_bytes: usize) -> bool {
        let mut excess_bytes = (self.n_bytes + n_bytes).saturating_sub(max_bytes);
        let asked = self.frequencies.of(key);
        for oldest in self.columns_by_age.values() {
            if excess_bytes == 0 {
                break;
            }
            if asked <= self.frequencies.of(*oldest) {
                return false;
            }
            let entry = self.entries.get(oldest);
            excess_bytes = excess_bytes.saturating_sub(entry.map_or(0, |entry| entry.n_bytes));
        }
        true
    }

    fn put(&mut self, key: Key, n_bytes: usize, value: AnyValue, max_bytes: usize) -> Vec<Entry> {
        let mut evicted = Vec::new();
        evicted.extend(self.remove(key));
        if matches!(key.1, Part::Column { .. }) && !self.is_worth_its_place(key, n_bytes, max_bytes)
        {
            return evicted;
        }
        while self.n_bytes + n_bytes > max_bytes
            && let Some(oldest) = self.oldest()
        {
            evicted.extend(self.remove(oldest));
        }
        self.now += 1;
        let now = self.now;
        self.by_age(key).insert(now, key);
        self.n_bytes += n_bytes;
        let entry = Entry {
            value,
            n_bytes,
            used: self.now,
        };
        self.entries.insert(key, entry);
        evicted
    }

    fn remove(&mut self, key: Key) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.by_age(key).remove(&entry.used);
        self.n_bytes -= entry.n_bytes;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: usize = 1_000;

    fn put(cache: &BlockCache, segment: u64, block_idx: u32, n_bytes: usize) {
        cache.put(segment, column(block_idx), n_bytes, &Arc::new(block_idx));
    }

    fn column(block_idx: u32) -> Part {
        Part::Column {
            block_idx,
            column: 0,
        }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = BlockCache::new(3 * (SMALL + ENTRY_BYTES));
        for block_idx in 0..3 {
            put(&cache, 0, block_idx, SMALL);
        }
        assert!(cache.get::<u32>(0, column(0)).is_some());
        assert!(cache.get::<u32>(0, column(3)).is_none());
        put(&cache, 0, 3, SMALL);
        let held: Vec<u32> = (0..4)
            .filter(|block_idx| cache.get::<u32>(0, column(*block_idx)).is_some())
            .collect();
        assert_eq!(held, [0, 2, 3]);
    }

    #[test]
    fn going_through_more_than_fits_keeps_what_fits() {
        let cache = BlockCache::new(4 * (SMALL + ENTRY_BYTES));
        let is_there = |block_idx: u32| {
            let found = cache.get::<u32>(0, column(block_idx)).is_some();
            if !found {
                put(&cache, 0, block_idx, SMALL);
            }
            found
        };
        let n_found = (0..10).flat_map(|_| 0..8).filter(|idx| is_there(*idx));
        assert_eq!(n_found.count(), 9 * 4);
        // What is asked for more often gets in.
        let n_asked = (0..).take_while(|_| !is_there(8)).count();
        assert!((2..20).contains(&n_asked), "{n_asked}");
    }

    #[test]
    fn indexes_outlast_columns() {
        let cache = BlockCache::new(3 * (SMALL + ENTRY_BYTES));
        cache.put(0, Part::Streams, SMALL, &Arc::new(7u32));
        for block_idx in 0..9 {
            put(&cache, 0, block_idx, SMALL);
        }
        assert!(cache.get::<u32>(0, Part::Streams).is_some());
        for segment in 1..4 {
            cache.put(segment, Part::Streams, SMALL, &Arc::new(7u32));
        }
        assert!((0..9).all(|block_idx| cache.get::<u32>(0, column(block_idx)).is_none()));
        assert!(cache.get::<u32>(0, Part::Streams).is_none(), "the oldest");
    }

    #[test]
    fn bytes_stay_bounded_whatever_is_put() {
        let cache = BlockCache::new(10_000);
        for n in 0..5_000u32 {
            put(&cache, u64::from(n % 7), n % 13, n as usize * 37 % 12_000);
            assert!(cache.n_bytes() <= 10_000);
        }
        put(&cache, 9, 9, usize::MAX);
        assert!(cache.get::<u32>(9, column(9)).is_none());
    }

    #[test]
    fn a_segment_is_forgotten_alone() {
        let cache = BlockCache::new(100_000);
        for segment in 0..3 {
            for block_idx in 0..4 {
                put(&cache, segment, block_idx, 10);
            }
        }
        cache.remove_segment(1);
        for segment in [0, 2] {
            assert!((0..4).all(|block_idx| cache.get::<u32>(segment, column(block_idx)).is_some()));
        }
        assert!((0..4).all(|block_idx| cache.get::<u32>(1, column(block_idx)).is_none()));
        assert_eq!(cache.n_bytes(), 8 * (10 + ENTRY_BYTES));
    }

    #[test]
    fn replacing_counts_once() {
        let cache = BlockCache::new(100_000);
        put(&cache, 0, 0, 10);
        put(&cache, 0, 0, 20);
        assert_eq!(cache.n_bytes(), 20 + ENTRY_BYTES);
    }
}
