//! A run: rows sorted by stream and time, with an index that says where to look. Segments are runs; queries ask them.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{Arc, Mutex},
};

use arrow_array::StringArray;
use tawny_model::{EntryId, Output, Severity, Stream, StreamId, Timestamp};

use super::{described::Described, probe::Probe};
use crate::{Error, group::lock};

/// Rows of one block: the unit that is filtered, decoded and cached. The last block of a run may be shorter.
pub(crate) const BLOCK_ROWS: u32 = 8_192;

/// Rows by [`Severity`] number.
pub(crate) type SeverityCounts = [u64; Severity::ALL.len()];

/// Rows sorted by (stream identity, microsecond, id): each stream is one range of rows, in the order of time.
///
/// Methods block on I/O and decoding: call them from a blocking thread.
pub(crate) trait Run: fmt::Debug + Send + Sync {
    /// What is known without any I/O.
    fn extent(&self) -> Extent;

    /// Rows of each block but the last.
    fn block_rows(&self) -> u32 {
        BLOCK_ROWS
    }

    /// The index, read once and cached.
    fn index(&self) -> Result<Arc<RunIndex>, Error>;

    /// For each block whether it may hold rows that satisfy the probe.
    fn may_hold(&self, probe: &Probe) -> Result<Vec<bool>, Error>;

    /// The rows of a block; at least the columns asked for are there.
    fn block(&self, block_idx: u32, columns: &Columns) -> Result<Block, Error>;
}

/// How much a run holds, and from when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) n_rows: u32,
    /// Bounds of the rows' times, both inclusive; they may be wider than the rows by less than a microsecond.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// Bounds of the rows' ids, both inclusive.
    pub(crate) min_id: EntryId,
    pub(crate) max_id: EntryId,
}

/// Where a run's rows are: its streams, and its rows by minute and severity.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunIndex {
    streams: Vec<RunStream>,
    cells: Vec<Cell>,
    minutes: Vec<(i32, SeverityCounts)>,
    described: LastDescribed,
}

/// The streams as last described, with the revision of what is known of streams. No part of the index's value.
#[derive(Debug, Default)]
struct LastDescribed(Mutex<Option<(u64, Arc<Described>)>>);

impl Clone for LastDescribed {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for LastDescribed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl RunIndex {
    /// `streams` and `cells` in the order of their rows; each stream's `cells` range points into `cells`.
    pub(crate) fn new(streams: Vec<RunStream>, cells: Vec<Cell>) -> Self {
        let mut by_minute: BTreeMap<i32, SeverityCounts> = BTreeMap::new();
        for cell in &cells {
            let counts = by_minute.entry(cell.minute).or_default();
            for (sum, n) in counts.iter_mut().zip(cell.counts) {
                *sum += u64::from(n);
            }
        }
        Self {
            streams,
            cells,
            minutes: by_minute.into_iter().collect(),
            described: LastDescribed::default(),
        }
    }

    /// The streams as described now, in their order; asked for again only when the revision is another.
    pub(crate) fn described(
        &self,
        revision: u64,
        describe: impl Fn(&Arc<Stream>) -> Arc<Stream>,
    ) -> Arc<Described> {
        let mut known = lock(&self.described.0);
        match &*known {
            Some((of, streams)) if *of == revision => Arc::clone(streams),
            _ => {
                let streams = self.streams.iter().map(|stream| describe(&stream.stream));
                let streams: Arc<Described> = Arc::new(streams.collect());
                *known = Some((revision, Arc::clone(&streams)));
                streams
            }
        }
    }

    /// In the order of their rows, which follow each other without a hole.
    pub(crate) fn streams(&self) -> &[RunStream] {
        &self.streams
    }

    /// The cells of one stream, oldest first.
    pub(crate) fn cells(&self, stream: &RunStream) -> impl DoubleEndedIterator<Item = Cell> {
        self.cells[stream.cells.start as usize..stream.cells.end as usize]
            .iter()
            .copied()
    }

    /// The cells of one stream, oldest first.
    pub(crate) fn cells_of(&self, stream: &RunStream) -> &[Cell] {
        &self.cells[stream.cells.start as usize..stream.cells.end as usize]
    }

    /// The stream of that identity; streams lie in the order of [`StreamId`].
    pub(crate) fn find(&self, id: &StreamId) -> Option<&RunStream> {
        let at = self
            .streams
            .binary_search_by(|known| known.stream.id.cmp(id))
            .ok()?;
        self.streams.get(at)
    }

    /// Rows by minute over all streams, oldest first.
    pub(crate) fn minutes(&self) -> &[(i32, SeverityCounts)] {
        &self.minutes
    }
}

/// One stream of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunStream {
    /// As described when the run was written.
    pub(crate) stream: Arc<Stream>,
    pub(crate) rows: Range<u32>,
    /// Which of the index's cells are its own.
    pub(crate) cells: Range<u32>,
    /// Times of its earliest and latest row, both inclusive.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) counts: SeverityCounts,
}

/// Rows of one stream in one minute, which lie side by side in the order of (microsecond, id).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Minutes since the epoch, rounded down.
    pub(crate) minute: i32,
    /// Row number in the run.
    pub(crate) first_row: u32,
    /// Rows by severity number; their sum is the number of rows.
    pub(crate) counts: [u32; Severity::ALL.len()],
}

impl Cell {
    pub(crate) fn n_rows(&self) -> u32 {
        self.counts.iter().sum()
    }
}

/// Columns of a block to decode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) time: bool,
    /// Ids are made of times, which come with them.
    pub(crate) id: bool,
    pub(crate) severity: bool,
    pub(crate) output: bool,
    pub(crate) message: bool,
    pub(crate) attributes: AttributeColumns,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum AttributeColumns {
    #[default]
    None,
    /// These keys; others may be absent.
    Some(Vec<String>),
    All,
}

impl Columns {
    /// What tells when rows were and in which order they come.
    pub(crate) const ORDER: Self = Self {
        time: true,
        id: true,
        severity: false,
        output: false,
        message: false,
        attributes: AttributeColumns::None,
    };

    /// Times alone.
    pub(crate) const TIME: Self = Self {
        id: false,
        ..Self::ORDER
    };

    pub(crate) const ALL: Self = Self {
        time: true,
        id: true,
        severity: true,
        output: true,
        message: true,
        attributes: AttributeColumns::All,
    };
}

/// Decoded rows. Columns that were not asked for may be absent.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// Row number in the run of the block's first row.
    pub(crate) first_row: u32,
    pub(crate) n_rows: u32,
    pub(crate) times: Option<Arc<[Timestamp]>>,
    pub(crate) ids: Option<Arc<[EntryId]>>,
    pub(crate) severities: Option<Arc<[Severity]>>,
    pub(crate) outputs: Option<Arc<[Output]>>,
    pub(crate) messages: Option<StringArray>,
    pub(crate) attributes: Option<Arc<dyn Attributes>>,
}

/// Why a column is there.
const ASKED: &str = "the column was asked for";

impl Block {
    /// # Panics
    /// When they were not asked for.
    pub(crate) fn times(&self) -> &[Timestamp] {
        self.times.as_deref().expect(ASKED)
    }

    /// # Panics
    /// When they were not asked for.
    pub(crate) fn ids(&self) -> &[EntryId] {
        self.ids.as_deref().expect(ASKED)
    }

    /// # Panics
    /// When they were not asked for.
    pub(crate) fn severities(&self) -> &[Severity] {
        self.severities.as_deref().expect(ASKED)
    }

    /// # Panics
    /// When they were not asked for.
    pub(crate) fn outputs(&self) -> &[Output] {
        self.outputs.as_deref().expect(ASKED)
    }

    /// # Panics
    /// When they were not asked for.
    pub(crate) fn messages(&self) -> &StringArray {
        self.messages.as_ref().expect(ASKED)
    }

    /// # Panics
    /// When they were not asked for.
    pub(crate) fn attributes(&self) -> &dyn Attributes {
        self.attributes.as_deref().expect(ASKED)
    }
}

/// Attributes of a block's rows.
pub(crate) trait Attributes: fmt::Debug + Send + Sync {
    /// The value of an attribute, the first where a key repeats; `row_idx` counts within the block.
    fn get(&self, row_idx: usize, key: &str) -> Option<&str>;

    /// The values of all rows, where the key has a column of its own that was asked for.
    fn column(&self, _key: &str) -> Option<&StringArray> {
        None
    }

    /// All attributes of a row in the order they were written; needs [`AttributeColumns::All`].
    fn row(&self, row_idx: usize) -> Vec<(&str, &str)>;
}
