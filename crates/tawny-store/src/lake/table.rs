//! The table as the engine uses it: segments are drafted, committed and opened; streams are written down beside them.

use std::{
    io::BufWriter,
    sync::{Arc, Mutex},
};

use rustc_hash::FxHashMap;
use tawny_model::Stream;

use super::{
    catalog::{Catalog, Change, Day, Outcome, SegmentFile, SegmentPath, State as TableState},
    files::{Storage, Upload, io_error},
    segment::{BlockCache, Segment, SegmentOptions, SegmentRow, SegmentWriter},
    state::{Live, State},
    streams::Registry,
};
use crate::{Error, group::lock};

/// zstd levels: quick while rows wait in memory, thorough where there is time. Level 9 saves a tenth of the messages
/// for five times the work.
pub(super) const FLUSHED_LEVEL: i32 = 1;
pub(super) const COMPACTED_LEVEL: i32 = 6;

/// Most columns for attributes in one table: a column is in its schema for ever.
const MAX_ATTRIBUTE_COLUMNS: usize = 512;

/// Where the streams are written down; readers of the table skip what begins with `_`.
const STREAMS_DIRECTORY: &str = "_tawny";

#[derive(Debug)]
pub(super) struct Table {
    catalog: Catalog,
    cache: Arc<BlockCache>,
    /// Held from a commit until readers see it: two commits are seen in their order.
    publishing: Mutex<()>,
}

/// Segments that take the place of others.
pub(super) struct Replacement {
    pub(super) removed: Vec<Arc<Live>>,
    pub(super) added: Vec<Drafted>,
    /// The rows stay as they are, and only lie in other files.
    pub(super) is_same_data: bool,
}

/// A segment that is written and in no commit yet.
pub(super) struct Drafted {
    file: SegmentFile,
    attribute_columns: Vec<String>,
}

/// Rows of one day on their way into a segment, or several where one cannot hold them. Dropped unfinished it leaves
/// nothing that stays.
pub(super) struct Draft<'t> {
    table: &'t Table,
    day: Day,
    tier: u8,
    attribute_columns: Vec<String>,
    zstd_level: i32,
    open: Option<(SegmentPath, SegmentWriter<BufWriter<Upload>>)>,
    drafted: Vec<Drafted>,
}

impl Table {
    /// The table, whose segments become what readers see.
    pub(super) fn open(catalog: Catalog, cache: Arc<BlockCache>, state: &State) -> Self {
        let table = Self::new(catalog, cache);
        let now = table.catalog.state();
        state.replaced(|live| table.live(live, &now));
        table
    }

    fn new(catalog: Catalog, cache: Arc<BlockCache>) -> Self {
        Self {
            catalog,
            cache,
            publishing: Mutex::default(),
        }
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn storage(&self) -> &Storage {
        self.catalog.storage()
    }

    /// Does no I/O: a segment is read when it is first asked.
    fn open_segment(&self, file: &SegmentFile) -> Arc<Live> {
        let reader = self.storage().reader(file.path.as_str(), file.len_bytes);
        let segment = Segment::new(reader, file.extent, Arc::clone(&self.cache));
        Arc::new(Live {
            path: file.path.clone(),
            size_bytes: file.len_bytes,
            segment: Arc::new(segment),
        })
    }

    /// Those of the keys that may have a column of their own.
    pub(super) fn columns_for(&self, keys: Vec<String>) -> Vec<String> {
        let state = self.catalog.state();
        let mut room = MAX_ATTRIBUTE_COLUMNS.saturating_sub(state.attributes.len());
        keys.into_iter()
            .filter(|key| {
                if state.attributes.contains(key) {
                    return true;
                }
                let is_new = room > 0 && state.may_add_attribute(key);
                room -= usize::from(is_new);
                is_new
            })
            .collect()
    }

    /// All keys that have a column of their own in some segment.
    pub(super) fn all_columns(&self) -> Vec<String> {
        self.catalog.state().attributes.iter().cloned().collect()
    }

    /// Begins a segment of one day; rows are pushed in the order of a run.
    pub(super) fn draft(
        &self,
        day: Day,
        tier: u8,
        attribute_columns: Vec<String>,
        zstd_level: i32,
    ) -> Draft<'_> {
        Draft {
            table: self,
            day,
            tier,
            attribute_columns,
            zstd_level,
            open: None,
            drafted: Vec::new(),
        }
    }

    fn begin(
        &self,
        day: Day,
        attribute_columns: &[String],
        zstd_level: i32,
    ) -> Result<(SegmentPath, SegmentWriter<BufWriter<Upload>>), Error> {
        let path = self.catalog.new_path(day);
        let upload = self.storage().upload(path.as_str())?;
        let options = SegmentOptions {
            path: self.storage().place(path.as_str()).into(),
            zstd_level,
            attribute_columns: attribute_columns.to_vec(),
        };
        let writer = SegmentWriter::new(BufWriter::new(upload), options)?;
        Ok((path, writer))
    }

    /// Commits what was made of the rows up to the record `applied`, and lets readers see it in their place.
    ///
    /// After an error only the same may be tried again: the commit may have happened.
    pub(super) fn add_flushed(
        &self,
        state: &State,
        added: &[Drafted],
        applied: u64,
        registry: &Registry,
    ) -> Result<(), Error> {
        let _turn = lock(&self.publishing);
        // Before the commit that names it: a table without its streams would take lines twice.
        self.storage()
            .put(&streams_path(applied), registry.encode())?;
        let before = self.catalog.state().applied;
        let change = change(added, &[], Some(applied), true);
        let now = match self.catalog.commit(&change)? {
            Outcome::Committed(now) | Outcome::Stale { state: now, .. } => now,
        };
        state.flushed(|live| self.live(live, &now));
        if let Some(before) = before.filter(|before| *before < applied)
            && let Err(error) = self.storage().delete(&streams_path(before))
        {
            tracing::debug!(%error, "an old list of streams stays");
        }
        Ok(())
    }

    /// The streams as of the last commit.
    pub(super) fn load_registry(&self, applied: u64) -> Result<Registry, Error> {
        let path = streams_path(applied);
        let place = self.storage().place(&path);
        let bytes = self.storage().get(&path)?.ok_or_else(|| Error::Damaged {
            path: place.clone().into(),
            reason: "the list of streams is missing".to_owned(),
        })?;
        Registry::decode(&bytes, &place)
    }

    /// Gives up segments that are in no commit.
    pub(super) fn discard(&self, drafted: Vec<Drafted>) {
        for drafted in drafted {
            if let Err(error) = self.catalog.discard(&drafted.file.path) {
                tracing::debug!(%error, "a segment that is not needed stays until the next cleaning");
            }
        }
    }

    /// Commits segments in the place of others, and lets readers see them.
    pub(super) fn replace(&self, state: &State, replacement: Replacement) -> Result<(), Error> {
        let Replacement {
            removed,
            added,
            is_same_data,
        } = replacement;
        let change = change(&added, &removed, None, !is_same_data);
        let _turn = lock(&self.publishing);
        let outcome = self.catalog.commit(&change).inspect_err(|_| {
            for drafted in &added {
                self.catalog.abandon(&drafted.file.path);
            }
        })?;
        let now = match outcome {
            Outcome::Committed(now) => now,
            Outcome::Stale { state, gone } => {
                tracing::debug!(
                    ?gone,
                    "segments went while they were replaced, the new ones are dropped"
                );
                for drafted in &added {
                    self.catalog.discard(&drafted.file.path)?;
                }
                state
            }
        };
        state.replaced(|live| self.live(live, &now));
        Ok(())
    }

    /// The segments of the table as it is now, those known before as they are.
    fn live(&self, known: &[Arc<Live>], now: &TableState) -> Vec<Arc<Live>> {
        let known: FxHashMap<&SegmentPath, &Arc<Live>> =
            known.iter().map(|live| (&live.path, live)).collect();
        now.segments
            .iter()
            .map(|(path, file)| match known.get(path) {
                Some(live) => Arc::clone(live),
                None => self.open_segment(file),
            })
            .collect()
    }
}

fn change(
    added: &[Drafted],
    removed: &[Arc<Live>],
    applied: Option<u64>,
    data_change: bool,
) -> Change {
    let mut new_attributes: Vec<String> = added
        .iter()
        .flat_map(|drafted| drafted.attribute_columns.iter().cloned())
        .collect();
    new_attributes.sort_unstable();
    new_attributes.dedup();
    Change {
        add: added.iter().map(|drafted| drafted.file.clone()).collect(),
        remove: removed.iter().map(|live| live.path.clone()).collect(),
        applied,
        new_attributes,
        data_change,
    }
}

pub(super) fn streams_path(applied: u64) -> String {
    format!("{STREAMS_DIRECTORY}/streams-{applied:020}.json.zst")
}

impl Draft<'_> {
    pub(super) fn push<'a, A>(
        &mut self,
        stream: &Arc<Stream>,
        row: SegmentRow<'a, A>,
    ) -> Result<(), Error>
    where
        A: Iterator<Item = (&'a str, &'a str)> + Clone,
    {
        let text_bytes = row.text_bytes();
        let is_full = |(_, writer): &(_, SegmentWriter<_>)| !writer.has_room_for(text_bytes);
        if self.open.as_ref().is_some_and(is_full) {
            self.close()?;
        }
        let (_, writer) = match &mut self.open {
            Some(open) => open,
            none => none.insert(self.table.begin(
                self.day,
                &self.attribute_columns,
                self.zstd_level,
            )?),
        };
        writer.push(stream, row)
    }

    fn close(&mut self) -> Result<(), Error> {
        let Some((path, writer)) = self.open.take() else {
            return Ok(());
        };
        let finished = writer.finish()?;
        let place = self.table.storage().place(path.as_str());
        let upload = finished
            .out
            .into_inner()
            .map_err(|error| io_error(&place, "write segment", error.into_error()))?;
        let len_bytes = upload.finish()?;
        self.drafted.push(Drafted {
            file: SegmentFile {
                path,
                len_bytes,
                extent: finished.extent,
                tier: self.tier,
            },
            attribute_columns: self.attribute_columns.clone(),
        });
        Ok(())
    }

    /// Makes the files durable; none when no row came.
    pub(super) fn finish(mut self) -> Result<Vec<Drafted>, Error> {
        self.close()?;
        Ok(std::mem::take(&mut self.drafted))
    }
}

/// What was written and not handed on is of no use.
impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let open = self.open.take().map(|(path, _)| path);
        let drafted = self.drafted.drain(..).map(|drafted| drafted.file.path);
        for path in open.into_iter().chain(drafted) {
            if let Err(error) = self.table.catalog.discard(&path) {
                tracing::debug!(%error, "an unfinished segment stays until the next cleaning");
            }
        }
    }
}
