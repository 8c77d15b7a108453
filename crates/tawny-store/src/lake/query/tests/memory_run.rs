//! A run in memory whose filters know the truth: what it refutes is not there, and what is not there it refutes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow_array::StringArray;
use rustc_hash::FxHashSet;
use tawny_model::LogEntry;
use tawny_query::{fold, index_text, strip_ansi};

use crate::{
    Error,
    lake::{
        probe::{Probe, key_hash, pair_hash, word_hash},
        run::{
            AttributeColumns, Attributes, Block, Cell, Columns, Extent, Run, RunIndex, RunStream,
        },
    },
};

#[derive(Debug)]
pub(super) struct MemoryRun {
    entries: Vec<LogEntry>,
    block_rows: u32,
    index: Arc<RunIndex>,
    filters: Vec<Truth>,
    /// How many blocks were opened, and how many of them for their messages.
    pub(super) n_opened: AtomicUsize,
    pub(super) n_messages: AtomicUsize,
}

#[derive(Debug, Default)]
struct Truth {
    tokens: FxHashSet<u64>,
    texts: Vec<String>,
}

impl Truth {
    fn of(entries: &[LogEntry]) -> Self {
        let mut truth = Self::default();
        for entry in entries {
            let words = index_text(&entry.message);
            truth.tokens.extend(words.split(' ').map(word_hash));
            truth
                .texts
                .push(fold(&strip_ansi(&entry.message)).into_owned());
            for (key, value) in &entry.attributes {
                truth.tokens.insert(key_hash(key));
                truth.tokens.insert(pair_hash(key, &fold(value)));
            }
        }
        truth
    }

    fn may_hold(&self, probe: &Probe) -> bool {
        match probe {
            Probe::Any => true,
            Probe::Never => false,
            Probe::Token(token) => self.tokens.contains(token),
            Probe::Part(part) => self.texts.iter().any(|text| text.contains(part.as_str())),
            Probe::All(parts) => parts.iter().all(|part| self.may_hold(part)),
            Probe::Either(parts) => parts.iter().any(|part| self.may_hold(part)),
        }
    }
}

impl MemoryRun {
    pub(super) fn new(mut entries: Vec<LogEntry>, block_rows: u32) -> Self {
        entries.sort_by(|a, b| {
            let key = |e: &LogEntry| (e.stream.id.clone(), e.timestamp.as_micros(), e.id);
            key(a).cmp(&key(b))
        });
        let mut streams: Vec<RunStream> = Vec::new();
        let mut cells: Vec<Cell> = Vec::new();
        for (row, entry) in (0u32..).zip(&entries) {
            let is_new = streams
                .last()
                .is_none_or(|last| last.stream.id != entry.stream.id);
            if is_new {
                let n_cells = u32::try_from(cells.len()).unwrap();
                streams.push(RunStream {
                    stream: Arc::clone(&entry.stream),
                    rows: row..row,
                    cells: n_cells..n_cells,
                    first: entry.timestamp,
                    last: entry.timestamp,
                    counts: Default::default(),
                });
            }
            let minute = i32::try_from(entry.timestamp.as_secs().div_euclid(60)).unwrap();
            if is_new || cells.last().unwrap().minute != minute {
                cells.push(Cell {
                    minute,
                    first_row: row,
                    counts: [0; 7],
                });
            }
            let severity = usize::from(entry.severity.number());
            cells.last_mut().unwrap().counts[severity] += 1;
            let stream = streams.last_mut().unwrap();
            stream.rows.end = row + 1;
            stream.cells.end = u32::try_from(cells.len()).unwrap();
            stream.first = stream.first.min(entry.timestamp);
            stream.last = stream.last.max(entry.timestamp);
            stream.counts[severity] += 1;
        }
        Self {
            filters: entries.chunks(block_rows as usize).map(Truth::of).collect(),
            index: Arc::new(RunIndex::new(streams, cells)),
            entries,
            block_rows,
            n_opened: AtomicUsize::new(0),
            n_messages: AtomicUsize::new(0),
        }
    }
}

impl Run for MemoryRun {
    fn extent(&self) -> Extent {
        let times = self.entries.iter().map(|entry| entry.timestamp);
        let ids = self.entries.iter().map(|entry| entry.id);
        Extent {
            n_rows: u32::try_from(self.entries.len()).unwrap(),
            first: times.clone().min().unwrap(),
            last: times.max().unwrap(),
            min_id: ids.clone().min().unwrap(),
            max_id: ids.max().unwrap(),
        }
    }

    fn block_rows(&self) -> u32 {
        self.block_rows
    }

    fn index(&self) -> Result<Arc<RunIndex>, Error> {
        Ok(Arc::clone(&self.index))
    }

    fn may_hold(&self, probe: &Probe) -> Result<Vec<bool>, Error> {
        Ok(self
            .filters
            .iter()
            .map(|truth| truth.may_hold(probe))
            .collect())
    }

    fn block(&self, block_idx: u32, columns: &Columns) -> Result<Block, Error> {
        self.n_opened.fetch_add(1, Ordering::Relaxed);
        if columns.message {
            self.n_messages.fetch_add(1, Ordering::Relaxed);
        }
        let first_row = block_idx * self.block_rows;
        let rows = self.entries.chunks(self.block_rows as usize);
        let rows = rows.clone().nth(block_idx as usize).unwrap();
        let column = |is_asked: bool| is_asked.then_some(rows.iter());
        Ok(Block {
            first_row,
            n_rows: u32::try_from(rows.len()).unwrap(),
            times: column(columns.time || columns.id)
                .map(|rows| rows.map(|e| e.timestamp).collect()),
            ids: column(columns.id).map(|rows| rows.map(|e| e.id).collect()),
            severities: column(columns.severity).map(|rows| rows.map(|e| e.severity).collect()),
            outputs: column(columns.output).map(|rows| rows.map(|e| e.output).collect()),
            messages: column(columns.message)
                .map(|rows| StringArray::from_iter_values(rows.map(|e| &e.message))),
            attributes: (columns.attributes != AttributeColumns::None).then(|| {
                Arc::new(MemoryAttributes {
                    rows: rows.iter().map(|entry| entry.attributes.clone()).collect(),
                    columns: columns.attributes.clone(),
                }) as Arc<dyn Attributes>
            }),
        })
    }
}

#[derive(Debug)]
struct MemoryAttributes {
    rows: Vec<Vec<(String, String)>>,
    columns: AttributeColumns,
}

impl Attributes for MemoryAttributes {
    fn get(&self, row_idx: usize, key: &str) -> Option<&str> {
        if let AttributeColumns::Some(keys) = &self.columns {
            assert!(
                keys.iter().any(|known| known == key),
                "{key} was not asked for"
            );
        }
        let mut attributes = self.rows[row_idx].iter();
        attributes
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_str())
    }

    fn row(&self, row_idx: usize) -> Vec<(&str, &str)> {
        assert_eq!(self.columns, AttributeColumns::All);
        let pairs = self.rows[row_idx].iter();
        pairs
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }
}

/// The minutes of the index, counted by hand.
#[test]
fn minutes_are_counted_over_all_streams() {
    let run = MemoryRun::new(super::lines(40, |n| n * 7_000_000_000), 8);
    let mut expected: BTreeMap<i32, [u64; 7]> = BTreeMap::new();
    for entry in &run.entries {
        let minute = i32::try_from(entry.timestamp.as_secs() / 60).unwrap();
        expected.entry(minute).or_default()[usize::from(entry.severity.number())] += 1;
    }
    assert_eq!(
        run.index.minutes(),
        expected.into_iter().collect::<Vec<_>>()
    );
}
