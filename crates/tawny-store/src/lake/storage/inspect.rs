//! What a lake consists of, and where its bytes go.

use tawny_model::{Stream, Timestamp};

use super::LakeFiles;
use crate::{
    Error, Filter,
    lake::{
        query::{Explained, explain},
        run::Run,
        state::Live,
        table::streams_path,
        wal::survey,
    },
};

/// A whole lake.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Version of the table in its Delta log.
    pub version: u64,
    /// Number of the last record of the write-ahead log that is in segments; `None` before the first flush.
    pub applied: Option<u64>,
    /// By day, then age.
    pub segments: Vec<SegmentSummary>,
    /// Oldest first.
    pub log_files: Vec<LogFileSummary>,
    /// Streams known, those without entries included, as of the last flush.
    pub n_streams: usize,
    /// What the list of them takes.
    pub streams_bytes: u64,
    /// Keys of attributes with columns of their own.
    pub attribute_columns: Vec<String>,
    /// Files that another writer added to the table, with their bytes; searches do not see them.
    pub foreign: Vec<(String, u64)>,
}

/// A segment as the table lists it.
#[derive(Debug, Clone)]
pub struct SegmentSummary {
    /// Its place in the table.
    pub path: String,
    pub n_rows: u32,
    pub n_bytes: u64,
    /// Times of its earliest and latest entry, both inclusive.
    pub first: Timestamp,
    pub last: Timestamp,
    /// 0 as it was flushed, 1 for what merging made.
    pub level: u8,
    /// `None` when its index cannot be read, which `verify` explains.
    pub n_streams: Option<usize>,
}

/// A file of the write-ahead log.
#[derive(Debug, Clone)]
pub struct LogFileSummary {
    pub name: String,
    pub n_bytes: u64,
    /// Whole records, and the numbers of the first and the last.
    pub n_records: u64,
    pub seqs: Option<(u64, u64)>,
    /// Whether a running server appends to it, or would.
    pub is_open: bool,
}

/// What is in one segment.
#[derive(Debug, Clone)]
pub struct SegmentContent {
    pub summary: SegmentSummary,
    /// Blocks of 8,192 rows, the last one shorter.
    pub n_blocks: u32,
    /// In the order of the schema.
    pub columns: Vec<ColumnBytes>,
    /// The embedded index by section: streams with the roll-up, layout, token filters.
    pub index: Vec<ColumnBytes>,
    /// What is left: Parquet's own footer and index, and the root of ours.
    pub footer_bytes: u64,
    /// Most rows first.
    pub streams: Vec<StreamRows>,
}

/// What a part of a segment takes in the file, compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnBytes {
    pub name: String,
    pub n_bytes: u64,
}

/// A stream's share of a segment.
#[derive(Debug, Clone)]
pub struct StreamRows {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub restart: u32,
    pub n_rows: u64,
    pub first: Timestamp,
    pub last: Timestamp,
}

/// Which blocks a query may open.
#[derive(Debug, Clone)]
pub struct QueryPlan {
    pub segments: Vec<PlannedSegment>,
    /// Bytes of the write-ahead log: what it alone holds is in memory while a server runs, and always looked at.
    pub log_bytes: u64,
}

/// What a query makes of one segment.
#[derive(Debug, Clone)]
pub struct PlannedSegment {
    pub path: String,
    pub opened: Opened,
    pub spared: Spared,
}

/// Blocks that may hold matches; a page that is full sooner opens fewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Their numbers, ascending.
    pub blocks: Vec<u32>,
    pub n_of: u32,
}

/// Blocks that are not opened, by what rules them out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spared {
    /// Nothing in them is in the time asked for.
    pub by_time: u32,
    /// What is in time is of streams that do not match.
    pub by_stream: u32,
    /// What is left has another severity.
    pub by_severity: u32,
    /// Their filter lacks a word or value that a match must have.
    pub by_filter: u32,
}

impl Spared {
    /// All of them.
    pub fn n_blocks(&self) -> u32 {
        self.by_time + self.by_stream + self.by_severity + self.by_filter
    }
}

impl LakeFiles {
    /// What the lake consists of; reads the index of every segment, and the write-ahead log.
    ///
    /// # Errors
    /// `Quarantine` when the list of streams is damaged, `Retry` when the storage fails.
    pub fn summary(&self) -> Result<Summary, Error> {
        let streams_bytes = match self.table.applied {
            Some(applied) => {
                let found = self.storage.get(&streams_path(applied))?;
                found.map_or(0, |bytes| bytes.len() as u64)
            }
            None => 0,
        };
        Ok(Summary {
            version: self.table.version,
            applied: self.table.applied,
            segments: self
                .table
                .segments
                .values()
                .zip(&self.segments)
                .map(|(file, live)| summary_of(live, file.tier))
                .collect(),
            log_files: self.log_files()?,
            n_streams: self.registry()?.len(),
            streams_bytes,
            attribute_columns: self.table.attributes.iter().cloned().collect(),
            foreign: self
                .table
                .foreign
                .iter()
                .map(|file| (file.path.clone(), file.len_bytes))
                .collect(),
        })
    }

    pub(super) fn log_files(&self) -> Result<Vec<LogFileSummary>, Error> {
        let files = survey(&self.wal_path())?.into_iter();
        let files = files.map(|file| LogFileSummary {
            name: file.name,
            n_bytes: file.len_bytes,
            n_records: file.n_records,
            seqs: file.seqs,
            is_open: file.is_open,
        });
        Ok(files.collect())
    }

    /// What is in one segment; `name` is its path in the table, or the beginning of its file name.
    ///
    /// # Errors
    /// `Reject` when the table has no such segment or several, `Quarantine` when its index is damaged.
    pub fn segment(&self, name: &str) -> Result<SegmentContent, Error> {
        let live = &self.segments[self.find(name)?];
        let tier = self.table.segments.get(&live.path).map(|file| file.tier);
        let inspected = live.segment.inspect()?;
        let named = |(name, n_bytes)| ColumnBytes { name, n_bytes };
        let columns: Vec<_> = inspected.columns.into_iter().map(named).collect();
        let sections = inspected.sections.into_iter();
        let index: Vec<_> = sections
            .map(|(name, n_bytes)| named((name.to_owned(), n_bytes)))
            .collect();
        let known: u64 = columns.iter().chain(&index).map(|part| part.n_bytes).sum();
        Ok(SegmentContent {
            summary: summary_of(live, tier.unwrap_or_default()),
            n_blocks: inspected.n_blocks,
            footer_bytes: inspected.n_bytes.saturating_sub(known),
            columns,
            index,
            streams: streams_of(live)?,
        })
    }

    /// Which blocks this query may open, and what spares it the others. Reads indexes and filters only.
    ///
    /// # Errors
    /// `Quarantine` when an index is damaged, `Retry` when the storage fails.
    pub fn plan(&self, filter: &Filter) -> Result<QueryPlan, Error> {
        let state = self.segments_only();
        state.describe(
            self.registry()?
                .iter()
                .map(|known| std::sync::Arc::clone(&known.stream)),
        );
        let explained = explain(&state.snapshot(), filter)?;
        let segments = self.segments.iter().zip(explained);
        let log_files = self.log_files()?;
        Ok(QueryPlan {
            segments: segments
                .map(|(live, explained)| planned(live, explained))
                .collect(),
            log_bytes: log_files.iter().map(|file| file.n_bytes).sum(),
        })
    }
}

fn summary_of(live: &Live, level: u8) -> SegmentSummary {
    let extent = live.segment.extent();
    SegmentSummary {
        path: live.path.to_string(),
        n_rows: extent.n_rows,
        n_bytes: live.size_bytes,
        first: extent.first,
        last: extent.last,
        level,
        n_streams: live.segment.index().ok().map(|index| index.streams().len()),
    }
}

fn streams_of(live: &Live) -> Result<Vec<StreamRows>, Error> {
    let index = live.segment.index()?;
    let mut streams: Vec<StreamRows> = index
        .streams()
        .iter()
        .map(|entry| {
            let stream: &Stream = &entry.stream;
            StreamRows {
                namespace: stream.namespace.to_string(),
                pod: stream.pod.to_string(),
                container: stream.id.container.to_string(),
                restart: stream.id.restart,
                n_rows: u64::from(entry.rows.end - entry.rows.start),
                first: entry.first,
                last: entry.last,
            }
        })
        .collect();
    streams.sort_by_key(|stream| std::cmp::Reverse(stream.n_rows));
    Ok(streams)
}

fn planned(live: &Live, explained: Explained) -> PlannedSegment {
    let spared = explained.spared;
    PlannedSegment {
        path: live.path.to_string(),
        opened: Opened {
            blocks: explained.opened,
            n_of: explained.n_blocks,
        },
        spared: Spared {
            by_time: spared.by_time,
            by_stream: spared.by_stream,
            by_severity: spared.by_severity,
            by_filter: spared.by_filter,
        },
    }
}
