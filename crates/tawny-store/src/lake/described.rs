//! The streams of a run as described now, and which of them share the value of a field.

use std::{
    borrow::Cow,
    ops::Deref,
    sync::{Arc, Mutex},
};

use rustc_hash::FxHashMap;
use tawny_model::Stream;
use tawny_query::Field;

use crate::{group::lock, scan::value_of_stream};

/// Fields whose values are kept; who asks for ever new ones pays for each anew.
const MAX_FIELDS: usize = 8;
/// About what the values of those fields take of memory for each stream of a run.
pub(super) const BYTES_PER_STREAM: usize = MAX_FIELDS * 64;

/// In the order of the run's streams.
#[derive(Debug)]
pub(crate) struct Described {
    streams: Box<[Arc<Stream>]>,
    values: Mutex<FxHashMap<Field, Arc<FieldValues>>>,
}

/// The different values that a field of streams has, by stream.
#[derive(Debug)]
pub(crate) struct FieldValues {
    pub(crate) values: Vec<String>,
    /// For each stream the number of its value, [`FieldValues::ABSENT`] where it has none.
    of_streams: Vec<u32>,
}

impl FieldValues {
    const ABSENT: u32 = u32::MAX;

    fn new(field: &Field, streams: &[Arc<Stream>]) -> Self {
        let mut known: FxHashMap<Cow<'_, str>, u32> = FxHashMap::default();
        let mut values = Vec::new();
        let mut of_streams = Vec::with_capacity(streams.len());
        for stream in streams {
            let Some(value) = value_of_stream(field, stream) else {
                of_streams.push(Self::ABSENT);
                continue;
            };
            let next = u32::try_from(values.len()).expect("no more values than streams");
            let number = *known.entry(value).or_insert_with_key(|value| {
                values.push(value.to_string());
                next
            });
            of_streams.push(number);
        }
        Self { values, of_streams }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let texts = self
            .values
            .iter()
            .map(|value| value.len() + size_of::<String>());
        texts.sum::<usize>() + size_of_val(&*self.of_streams)
    }

    /// The number of a stream's value.
    pub(crate) fn of_stream(&self, stream_idx: u32) -> Option<usize> {
        let number = self.of_streams.get(stream_idx as usize)?;
        (*number != Self::ABSENT).then_some(*number as usize)
    }
}

impl FromIterator<Arc<Stream>> for Described {
    fn from_iter<I: IntoIterator<Item = Arc<Stream>>>(streams: I) -> Self {
        Self {
            streams: streams.into_iter().collect(),
            values: Mutex::default(),
        }
    }
}

impl Deref for Described {
    type Target = [Arc<Stream>];

    fn deref(&self) -> &Self::Target {
        &self.streams
    }
}

impl Described {
    /// The values of a field, gathered when first asked for.
    pub(crate) fn values(&self, field: &Field) -> Arc<FieldValues> {
        let mut known = lock(&self.values);
        if let Some(values) = known.get(field) {
            return Arc::clone(values);
        }
        let values = Arc::new(FieldValues::new(field, &self.streams));
        if known.len() == MAX_FIELDS {
            known.clear();
        }
        known.insert(field.clone(), Arc::clone(&values));
        values
    }
}
