//! Attributes: frequent keys in columns of their own, the rest as JSON, and shapes that say how a row orders them.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use arrow_array::{Array, Int32Array, StringArray};
use rustc_hash::FxHashMap;

use super::{columns::SparseTexts, index::Layout};
use crate::{lake::run::Attributes, pairs::pairs};

/// Entries of all shapes together, past which a row has none and its attributes are all in the rest.
const MAX_SHAPE_ENTRIES: usize = 1 << 17;

/// Attributes of the rows of a block on their way into pages.
#[derive(Debug)]
pub(super) struct AttributeRows {
    by_key: FxHashMap<String, u32>,
    /// Keys of the row before, with their places: lines of a stream repeat their keys in order.
    before: Vec<(String, u32)>,
    pub(super) columns: Vec<SparseTexts>,
    pub(super) rest: SparseTexts,
    /// Rows that have a shape, and the shapes.
    pub(super) ordered_rows: Vec<u32>,
    pub(super) orders: Vec<i64>,
    shapes: Shapes,
    shape: Vec<u32>,
    json: Vec<u8>,
}

impl AttributeRows {
    pub(super) fn new(attribute_columns: &[String]) -> Self {
        let numbered = attribute_columns.iter().cloned().zip(1..);
        Self {
            by_key: numbered.collect(),
            before: Vec::new(),
            columns: attribute_columns
                .iter()
                .map(|_| SparseTexts::default())
                .collect(),
            rest: SparseTexts::default(),
            ordered_rows: Vec::new(),
            orders: Vec::new(),
            shapes: Shapes::new(),
            shape: Vec::new(),
            json: Vec::new(),
        }
    }

    /// `row` counts within the block.
    pub(super) fn push<'a>(
        &mut self,
        row: u32,
        attributes: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) {
        self.shape.clear();
        for (idx, (key, value)) in attributes.clone().enumerate() {
            let mut place = self.place(idx, key);
            if let Some(column) = self.columns.get_mut((place as usize).wrapping_sub(1)) {
                if column.last_row() == Some(row) {
                    place = 0;
                } else {
                    column.push(row, value);
                }
            }
            self.shape.push(place);
        }
        let order = self.shapes.number(&self.shape);
        if let Some(order) = order {
            self.ordered_rows.push(row);
            self.orders.push(i64::from(order));
        }
        let rest = attributes
            .zip(&self.shape)
            .filter(|(_, place)| **place == 0 || order.is_none())
            .map(|(attribute, _)| attribute);
        self.json.clear();
        for (key, value) in rest {
            self.json
                .push(if self.json.is_empty() { b'{' } else { b',' });
            put_json(&mut self.json, key);
            self.json.push(b':');
            put_json(&mut self.json, value);
        }
        if !self.json.is_empty() {
            self.json.push(b'}');
            let json = std::str::from_utf8(&self.json).expect("texts, quoted");
            self.rest.push(row, json);
        }
    }

    /// Place of a row's attribute: a column counted from one, or zero for the rest.
    fn place(&mut self, idx: usize, key: &str) -> u32 {
        if let Some((before, place)) = self.before.get(idx)
            && before == key
        {
            return *place;
        }
        let place = self.by_key.get(key).copied().unwrap_or(0);
        let known = (key.to_owned(), place);
        match self.before.get_mut(idx) {
            Some(before) => *before = known,
            None => self.before.push(known),
        }
        place
    }

    pub(super) fn shapes(&self) -> &[Vec<u32>] {
        &self.shapes.in_order
    }
}

/// Orders of attributes, each stored once.
#[derive(Debug)]
struct Shapes {
    in_order: Vec<Vec<u32>>,
    numbers: FxHashMap<Vec<u32>, u32>,
    n_entries: usize,
    last: u32,
}

impl Shapes {
    fn new() -> Self {
        let mut shapes = Self {
            in_order: Vec::new(),
            numbers: FxHashMap::default(),
            n_entries: 0,
            last: 0,
        };
        // No attributes at all is shape 0.
        shapes.number(&[]);
        shapes
    }

    fn number(&mut self, shape: &[u32]) -> Option<u32> {
        if self
            .in_order
            .get(self.last as usize)
            .is_some_and(|last| last == shape)
        {
            return Some(self.last);
        }
        let number = match self.numbers.get(shape) {
            Some(number) => *number,
            None => {
                self.n_entries += shape.len() + 1;
                if self.n_entries > MAX_SHAPE_ENTRIES {
                    self.n_entries -= shape.len() + 1;
                    return None;
                }
                let number = u32::try_from(self.in_order.len()).ok()?;
                self.in_order.push(shape.to_vec());
                self.numbers.insert(shape.to_vec(), number);
                number
            }
        };
        self.last = number;
        Some(number)
    }
}

fn put_json(to: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: &u8| *byte >= 0x20 && *byte != b'"' && *byte != b'\\';
    if text.as_bytes().iter().all(is_plain) {
        to.push(b'"');
        to.extend_from_slice(text.as_bytes());
        to.push(b'"');
    } else {
        serde_json::to_writer(to, text).expect("memory takes it and a text is JSON");
    }
}

/// Attributes of a block's rows.
#[derive(Debug)]
pub(super) struct BlockAttributes {
    /// Columns that were asked for, by key; when `order` is there, all of them, as shapes count them.
    pub(super) columns: Vec<(String, Arc<StringArray>)>,
    pub(super) rest: Option<Arc<Rest>>,
    pub(super) order: Option<Arc<Int32Array>>,
    pub(super) layout: Arc<Layout>,
}

impl Attributes for BlockAttributes {
    fn get(&self, row_idx: usize, key: &str) -> Option<&str> {
        if let Some((_, column)) = self.columns.iter().find(|(name, _)| name == key) {
            return column.is_valid(row_idx).then(|| column.value(row_idx));
        }
        let (_, value) = self
            .rest
            .as_ref()?
            .row(row_idx)
            .iter()
            .find(|(name, _)| name == key)?;
        Some(value)
    }

    fn column(&self, key: &str) -> Option<&StringArray> {
        let (_, column) = self.columns.iter().find(|(name, _)| name == key)?;
        Some(column)
    }

    fn row(&self, row_idx: usize) -> Vec<(&str, &str)> {
        let rest = self
            .rest
            .as_ref()
            .map_or(&[] as &[_], |rest| rest.row(row_idx));
        let order = self.order.as_ref().filter(|order| order.is_valid(row_idx));
        let shape = order.and_then(|order| {
            let number = usize::try_from(order.value(row_idx)).ok()?;
            self.layout.shapes.get(number)
        });
        let Some(shape) = shape else {
            return rest.iter().map(borrowed).collect();
        };
        let mut rest = rest.iter();
        shape
            .iter()
            .filter_map(|place| match place.checked_sub(1) {
                None => rest.next().map(borrowed),
                Some(column) => {
                    let (key, column) = self.columns.get(column as usize)?;
                    Some((key.as_str(), column.value(row_idx)))
                }
            })
            .collect()
    }
}

fn borrowed((key, value): &(String, String)) -> (&str, &str) {
    (key, value)
}

/// Attributes in no column of their own, parsed when first asked for.
pub(super) struct Rest {
    json: StringArray,
    parsed: OnceLock<Vec<Vec<(String, String)>>>,
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

impl Rest {
    pub(super) fn new(json: StringArray) -> Self {
        Self {
            json,
            parsed: OnceLock::new(),
        }
    }

    /// Bytes it holds once it is parsed, or more.
    pub(super) fn memory_bytes(&self) -> usize {
        let per_pair = size_of::<(String, String)>();
        // An attribute takes six bytes of JSON at least: quotes, colon and a separator.
        let json_bytes = self.json.value_data().len();
        self.json.get_buffer_memory_size()
            + json_bytes
            + json_bytes / 6 * per_pair
            + self.json.len() * per_pair
    }

    fn row(&self, row_idx: usize) -> &[(String, String)] {
        let parsed = self.parsed.get_or_init(|| {
            let rows = self.json.iter();
            // The page's checksum was right, so what the writer made does parse.
            rows.map(|json| json.and_then(|json| pairs(json).ok()).unwrap_or_default())
                .collect()
        });
        parsed.get(row_idx).map_or(&[], Vec::as_slice)
    }
}
