//! Reads a segment: root, index and blocks, each when first asked for, through the shared cache.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tawny_model::{EntryId, Timestamp};

use super::{
    BLOCK_ROWS, N_PLAIN, block,
    cache::{BlockCache, Part},
    fuse::Filter,
    index::{
        FOOTER_KEY, Kind, Layout, Root, RootPlace, Section, VERSION, damaged, decode_filters,
        decode_streams,
    },
    thrift::footer_value,
    words::in_tokens,
};
use crate::{
    Error,
    lake::{
        described,
        probe::Probe,
        read_at::ReadAt,
        run::{Block, Columns, Extent, Run, RunIndex, RunStream},
    },
};

/// Read from the end of a file when it is opened: nearly always the footer, the root and the stream table.
const TAIL_BYTES: u64 = 64 << 10;
/// Magic of a Parquet file, at both of its ends.
const MAGIC: &[u8; 4] = b"PAR1";
/// Length of the footer and magic.
const END_BYTES: usize = 8;

/// A segment of a file. It holds little itself; what it reads lies in the cache.
pub(crate) struct Segment {
    pub(super) file: Arc<dyn ReadAt>,
    pub(super) cache: Arc<BlockCache>,
    /// Its name in the cache.
    pub(super) number: u64,
    extent: Extent,
    /// Held while a part of the index is loaded, so that each is read once.
    loading: Mutex<()>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("file", &self.file)
            .field("extent", &self.extent)
            .finish_non_exhaustive()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.cache.remove_segment(self.number);
    }
}

/// Filters of the blocks of a row group.
#[derive(Debug)]
pub(super) struct Filters {
    bytes: Bytes,
    ranges: Vec<Range<usize>>,
}

impl Filters {
    /// The filter of a block; `None` where there is none, which says nothing.
    pub(super) fn get(&self, block_of_group: usize) -> Option<Filter<'_>> {
        let range = self.ranges.get(block_of_group)?.clone();
        Filter::read(self.bytes.get(range)?)
    }
}

impl Segment {
    /// A segment whose extent is known already; reads nothing yet.
    pub(crate) fn new(file: Arc<dyn ReadAt>, extent: Extent, cache: Arc<BlockCache>) -> Self {
        Self {
            file,
            number: cache.number_segment(),
            cache,
            extent,
            loading: Mutex::default(),
        }
    }

    /// Reads how much the segment holds.
    ///
    /// # Errors
    /// `Quarantine` when the file is no segment, `Retry` when the storage fails.
    pub(crate) fn open(file: Arc<dyn ReadAt>, cache: Arc<BlockCache>) -> Result<Self, Error> {
        let nothing = Extent {
            n_rows: 0,
            first: Timestamp::MIN,
            last: Timestamp::MIN,
            min_id: EntryId(0),
            max_id: EntryId(0),
        };
        let mut segment = Self::new(file, nothing, cache);
        let root = segment.load_root()?;
        segment.extent = root.extent;
        Ok(segment)
    }

    pub(super) fn damaged(&self, reason: impl Into<String>) -> Error {
        damaged(&*self.file, reason)
    }

    pub(super) fn root(&self) -> Result<Arc<Root>, Error> {
        if let Some(root) = self.cache.get(self.number, Part::Root) {
            return Ok(root);
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(root) = self.cache.get(self.number, Part::Root) {
            return Ok(root);
        }
        let root = self.load_root()?;
        if root.extent.n_rows != self.extent.n_rows {
            return Err(self.damaged(format!(
                "it has {} rows where {} are expected",
                root.extent.n_rows, self.extent.n_rows
            )));
        }
        Ok(root)
    }

    fn load_root(&self) -> Result<Arc<Root>, Error> {
        let len_bytes = self.file.len_bytes();
        let tail_start = len_bytes.saturating_sub(TAIL_BYTES);
        let tail = self.read_one(tail_start..len_bytes)?;
        let from_tail = |range: Range<u64>| -> Result<Bytes, Error> {
            if range.start >= tail_start {
                let at = |offset: u64| {
                    usize::try_from(offset - tail_start).expect("within 64 KiB of the start")
                };
                Ok(tail.slice(at(range.start)..at(range.end)))
            } else {
                self.read_one(range)
            }
        };
        let end = tail.len().checked_sub(END_BYTES);
        let end = end.and_then(|at| tail.get(at..));
        let Some((footer_bytes, magic)) = end.and_then(<[u8]>::split_first_chunk::<4>) else {
            return Err(self.damaged("it is too short for a Parquet file"));
        };
        if magic != MAGIC {
            return Err(self.damaged("it does not end as a Parquet file"));
        }
        let footer_end = len_bytes - END_BYTES as u64;
        let footer_start = footer_end
            .checked_sub(u64::from(u32::from_le_bytes(*footer_bytes)))
            .ok_or_else(|| self.damaged("its footer is longer than the file"))?;
        let footer = from_tail(footer_start..footer_end)?;
        let place = footer_value(&footer, FOOTER_KEY)
            .ok_or_else(|| self.damaged("its footer does not read"))?
            .ok_or_else(|| self.damaged("it is a Parquet file without a Tawny index"))?;
        let place: RootPlace = serde_json::from_slice(place)
            .map_err(|_| self.damaged(format!("`{FOOTER_KEY}` of its footer does not read")))?;
        if place.version > VERSION {
            return Err(Error::Newer {
                path: self.file.place().into(),
                found: place.version,
                supported: VERSION,
            });
        }
        let root_end = place.offset.checked_add(place.length.into());
        let root_end = root_end.filter(|end| *end <= footer_start);
        let root_end = root_end.ok_or_else(|| self.damaged("its index lies outside the file"))?;
        let bytes = from_tail(place.offset..root_end)?;
        if place.version != VERSION || crc32c::crc32c(&bytes) != place.crc32c {
            return Err(self.damaged("the root of its index has a wrong checksum"));
        }
        let root = Root::decode(&bytes, footer_start)
            .ok_or_else(|| self.damaged("the root of its index does not read"))?;
        let root = Arc::new(root);
        self.cache
            .put(self.number, Part::Root, 4 * bytes.len(), &root);
        // What came along is kept.
        for section in &root.sections {
            if section.offset >= tail_start {
                match section.kind {
                    Kind::Streams => {
                        self.open_streams(&root, section, from_tail(section.range())?)?;
                    }
                    Kind::Layout => {
                        self.open_layout(&root, section, from_tail(section.range())?)?;
                    }
                    Kind::Tokens => {}
                }
            }
        }
        Ok(root)
    }

    fn read_one(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let mut read = self.read(&[range])?;
        Ok(read.remove(0))
    }

    /// As the file reads, but what is too short is an error.
    pub(super) fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let read = self.file.read(ranges)?;
        let is_whole = read.len() == ranges.len()
            && read
                .iter()
                .zip(ranges)
                .all(|(bytes, range)| bytes.len() as u64 == range.end - range.start);
        if is_whole {
            Ok(read)
        } else {
            Err(self.damaged("it is shorter than its index says"))
        }
    }

    fn open_section(&self, section: &Section, stored: Bytes) -> Result<Bytes, Error> {
        section.open(stored).ok_or_else(|| {
            self.damaged(format!(
                "section {:?} of its index at byte {} has a wrong checksum",
                section.kind, section.offset
            ))
        })
    }

    fn unreadable(&self, section: &Section) -> Error {
        self.damaged(format!(
            "section {:?} of its index at byte {} does not read",
            section.kind, section.offset
        ))
    }

    fn open_streams(
        &self,
        root: &Root,
        section: &Section,
        stored: Bytes,
    ) -> Result<Arc<RunIndex>, Error> {
        let raw = self.open_section(section, stored)?;
        let index =
            decode_streams(&raw, root.extent.n_rows).ok_or_else(|| self.unreadable(section))?;
        let index = Arc::new(index);
        self.cache.put(
            self.number,
            Part::Streams,
            index_bytes(&index, raw.len()),
            &index,
        );
        Ok(index)
    }

    fn open_layout(
        &self,
        root: &Root,
        section: &Section,
        stored: Bytes,
    ) -> Result<Arc<Layout>, Error> {
        let raw = self.open_section(section, stored)?;
        let blocks_of_group: Vec<u32> = root
            .row_groups
            .iter()
            .map(|n_rows| n_rows.div_ceil(BLOCK_ROWS))
            .collect();
        let layout = Layout::decode(&raw, &blocks_of_group, N_PLAIN, self.file.len_bytes())
            .ok_or_else(|| self.unreadable(section))?;
        let layout = Arc::new(layout);
        // A page takes five bytes at least there and 16 here.
        self.cache
            .put(self.number, Part::Layout, 4 * raw.len(), &layout);
        Ok(layout)
    }

    /// A section that there is once, from the cache or the file.
    fn load<T: Send + Sync + 'static>(
        &self,
        kind: Kind,
        part: Part,
        open: impl FnOnce(&Self, &Root, &Section, Bytes) -> Result<Arc<T>, Error>,
    ) -> Result<Arc<T>, Error> {
        if let Some(found) = self.cache.get(self.number, part) {
            return Ok(found);
        }
        let root = self.root()?;
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.cache.get(self.number, part) {
            return Ok(found);
        }
        let mut sections = root.sections(kind);
        let section = sections
            .next()
            .ok_or_else(|| self.damaged(format!("its index has no section {kind:?}")))?;
        let stored = self.read_one(section.range())?;
        open(self, &root, section, stored)
    }

    pub(super) fn layout(&self) -> Result<Arc<Layout>, Error> {
        self.load(Kind::Layout, Part::Layout, Self::open_layout)
    }

    /// The token filters by row group.
    pub(super) fn token_filters(&self, root: &Root) -> Result<Vec<Arc<Filters>>, Error> {
        let part = |row_group: usize| Part::Tokens(u32::try_from(row_group).unwrap_or(u32::MAX));
        let cached = |row_group: usize| self.cache.get(self.number, part(row_group));
        let mut found: Vec<Option<Arc<Filters>>> = (0..root.row_groups.len()).map(cached).collect();
        if found.iter().any(Option::is_none) {
            let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
            let missing: Vec<&Section> = root
                .sections(Kind::Tokens)
                .filter(|section| {
                    let found = found.get_mut(section.row_group as usize);
                    found.is_some_and(|found| {
                        *found = found.take().or_else(|| cached(section.row_group as usize));
                        found.is_none()
                    })
                })
                .collect();
            let ranges: Vec<_> = missing.iter().map(|section| section.range()).collect();
            for (section, stored) in missing.into_iter().zip(self.read(&ranges)?) {
                let row_group = section.row_group as usize;
                let bytes = self.open_section(section, stored)?;
                let n_blocks = root.row_groups[row_group].div_ceil(BLOCK_ROWS);
                let ranges =
                    decode_filters(&bytes, n_blocks).ok_or_else(|| self.unreadable(section))?;
                // Bytes of a range are copied out of whatever they were read with.
                let bytes = Bytes::copy_from_slice(&bytes);
                let n_bytes = bytes.len() + ranges.len() * size_of::<Range<usize>>();
                let filters = Arc::new(Filters { bytes, ranges });
                self.cache
                    .put(self.number, part(row_group), n_bytes, &filters);
                found[row_group] = Some(filters);
            }
        }
        let all: Option<Vec<_>> = found.into_iter().collect();
        all.ok_or_else(|| self.damaged("its index lacks filters of a row group"))
    }

    /// Row group of a block, its place there, and its number of rows.
    pub(super) fn locate(
        &self,
        root: &Root,
        block_idx: u32,
    ) -> Result<(usize, usize, usize), Error> {
        let mut before = 0;
        for (row_group, n_rows) in root.row_groups.iter().enumerate() {
            let n_blocks = n_rows.div_ceil(BLOCK_ROWS);
            if block_idx < before + n_blocks {
                let of_group = block_idx - before;
                let n_rows = (n_rows - of_group * BLOCK_ROWS).min(BLOCK_ROWS);
                return Ok((row_group, of_group as usize, n_rows as usize));
            }
            before += n_blocks;
        }
        Err(Error::Invalid {
            reason: format!("block {block_idx} of a segment of {before}"),
        })
    }
}

impl Run for Segment {
    fn extent(&self) -> Extent {
        self.extent
    }

    fn index(&self) -> Result<Arc<RunIndex>, Error> {
        self.load(Kind::Streams, Part::Streams, Self::open_streams)
    }

    fn may_hold(&self, probe: &Probe) -> Result<Vec<bool>, Error> {
        let n_blocks = self.extent.n_rows.div_ceil(BLOCK_ROWS) as usize;
        let probe = &in_tokens(probe);
        match probe {
            Probe::Any => return Ok(vec![true; n_blocks]),
            Probe::Never => return Ok(vec![false; n_blocks]),
            _ => {}
        }
        let root = self.root()?;
        let mut answers = Vec::with_capacity(n_blocks);
        for (filters, n_rows) in self.token_filters(&root)?.iter().zip(&root.row_groups) {
            for of_group in 0..n_rows.div_ceil(BLOCK_ROWS) as usize {
                let filter = filters.get(of_group);
                answers.push(may_hold(probe, filter.as_ref()));
            }
        }
        Ok(answers)
    }

    fn block(&self, block_idx: u32, columns: &Columns) -> Result<Block, Error> {
        block::read(self, block_idx, columns)
    }
}

fn may_hold(probe: &Probe, filter: Option<&Filter<'_>>) -> bool {
    match probe {
        // No part is left once the probe is said in tokens.
        Probe::Any | Probe::Part(_) => true,
        Probe::Never => false,
        Probe::Token(hash) => filter.is_none_or(|filter| filter.may_contain(*hash)),
        Probe::All(parts) => parts.iter().all(|part| may_hold(part, filter)),
        Probe::Either(parts) => parts.iter().any(|part| may_hold(part, filter)),
    }
}

/// About what an index holds, from the size of its section: texts are shared by its streams.
fn index_bytes(index: &RunIndex, raw_bytes: usize) -> usize {
    let per_stream =
        size_of::<RunStream>() + size_of::<tawny_model::Stream>() + described::BYTES_PER_STREAM;
    // A cell takes three bytes at least there.
    2 * raw_bytes
        + index.streams().len() * per_stream
        + raw_bytes / 3 * size_of::<crate::lake::run::Cell>()
}
