//! Is every byte that the store needs the one that was written? Names what is not, and what that means.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tokio::runtime::Handle;

use super::{LakeFiles, MAX_TRIES, no_lake, open_storage};
use crate::{
    Error,
    lake::{
        catalog::{Catalog, SegmentPath, State as TableState, verify_log},
        files::{Listed, Storage},
        segment::{BlockCache, DamagedPage, Segment},
        state::Live,
        wal::{DamagedPlace, Report, Wal, survey},
    },
};

/// What a look through all of a store found.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    pub n_segments: u64,
    /// Of whole segments.
    pub n_rows: u64,
    pub n_pages: u64,
    pub n_commits: u64,
    /// Records of the write-ahead log.
    pub n_records: u64,
    /// Bytes of segments and of the write-ahead log.
    pub n_bytes: u64,
    /// Files of segments that were merged or deleted, kept a while for readers from outside; with their bytes.
    pub n_waiting: u64,
    pub waiting_bytes: u64,
    /// Damage, and things worth knowing, in the order found.
    pub findings: Vec<Finding>,
}

/// Something that is not as it should be, or of use to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub path: String,
    /// Where in the file; empty when it is about all of it.
    pub place: String,
    pub what: String,
    /// What it means for those who read the store.
    pub means: String,
    /// Whether something that was stored is gone or cannot be read.
    pub is_damage: bool,
}

impl Verified {
    /// What is damaged.
    pub fn damage(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_damage)
    }
}

/// What a store that cannot read its catalog does.
const DOES_NOT_OPEN: &str = "the store does not open; the segments are readable as Parquet files";

impl LakeFiles {
    /// Looks through every file of the lake in `root`: Delta log, segments with their indexes, list of streams,
    /// write-ahead log. `progress` is told the bytes looked through, and how many there are.
    ///
    /// # Errors
    /// `Reject` when no lake is there, or a newer one; `Retry` when the disk fails. Damage is no error here.
    pub fn verify(
        root: &Path,
        runtime: Handle,
        progress: impl FnMut(u64, u64),
    ) -> Result<Verified, Error> {
        let storage = open_storage(root, runtime)?;
        let mut verifier = Verifier {
            root,
            storage: &storage,
            progress,
            done_bytes: 0,
            all_bytes: 0,
            verified: Verified::default(),
        };
        verifier.run()?;
        Ok(verifier.verified)
    }
}

struct Verifier<'s, P> {
    root: &'s Path,
    storage: &'s Storage,
    progress: P,
    done_bytes: u64,
    all_bytes: u64,
    verified: Verified,
}

/// What reading the write-ahead log met.
struct LogRead {
    report: Report,
    /// Damage that costs something that was acknowledged.
    lost: Vec<DamagedPlace>,
    /// Damage to records that are in segments already.
    harmless: Vec<DamagedPlace>,
    n_records: u64,
    n_bytes: u64,
}

impl<P: FnMut(u64, u64)> Verifier<'_, P> {
    fn run(&mut self) -> Result<(), Error> {
        let (table, log) = self.table_and_log()?;
        self.delta_log(table.is_some())?;
        let files: BTreeMap<String, Listed> = self
            .storage
            .list("")?
            .into_iter()
            .map(|file| (file.path.clone(), file))
            .collect();
        let segments = match &table {
            Some(table) => LakeFiles::of(self.root, self.storage.clone(), table.clone()).segments,
            None => Vec::new(),
        };
        let log_bytes = log.as_ref().map_or(0, |log| log.n_bytes);
        self.all_bytes = segments.iter().map(|live| live.size_bytes).sum::<u64>() + log_bytes;
        if let Some(log) = log {
            self.tell_log(log);
            self.pass(log_bytes);
        }
        match &table {
            Some(table) => {
                self.streams(table)?;
                for live in &segments {
                    self.segment(live, &files)?;
                    self.pass(live.size_bytes);
                }
                self.other_files(table, &files);
            }
            None => self.segments_without_table(&files)?,
        }
        Ok(())
    }

    fn pass(&mut self, n_bytes: u64) {
        self.done_bytes += n_bytes;
        (self.progress)(self.done_bytes, self.all_bytes);
    }

    /// All of the Delta log, after what opening needs of it.
    fn delta_log(&mut self, opens: bool) -> Result<(), Error> {
        let mut found = Vec::new();
        let log_files = verify_log(self.storage, |error| found.push(error))?;
        self.verified.n_commits = log_files.n_commits;
        let means = if opens {
            "the store opens all the same, by a later checkpoint; readers of older versions fail"
        } else {
            DOES_NOT_OPEN
        };
        found
            .into_iter()
            .try_for_each(|error| self.damaged(error, means))
    }

    /// The table and the write-ahead log of one moment, as far as they can be read.
    fn table_and_log(&mut self) -> Result<(Option<TableState>, Option<LogRead>), Error> {
        let mut table = None;
        for _ in 0..MAX_TRIES {
            table = match Catalog::look(self.storage) {
                Ok(Some(table)) => Some(table),
                Ok(None) => return Err(no_lake(self.root)),
                Err(error) => {
                    self.damaged(error, DOES_NOT_OPEN)?;
                    None
                }
            };
            let applied = table.as_ref().map(|table| table.applied.unwrap_or(0));
            let log = read_log(&self.root.join("wal"), applied);
            // A server that flushed meanwhile removed what it flushed from the log.
            let has_moved = table.as_ref().is_some_and(|table| {
                Catalog::look(self.storage)
                    .is_ok_and(|now| now.is_none_or(|now| now.applied != table.applied))
            });
            match log {
                _ if has_moved => {}
                Ok(log) => return Ok((table, Some(log))),
                Err(error @ Error::NotAStore { .. }) => {
                    self.damaged(error, "the store does not open")?;
                    return Ok((table, None));
                }
                Err(error) => return Err(error),
            }
        }
        self.note(
            &self.root.join("wal"),
            "a server writes segments faster than its log can be read",
            "the log was not looked through; try again",
        );
        Ok((table, None))
    }

    /// Puts damage down; another kind of error is one of looking.
    fn damaged(&mut self, error: Error, means: &str) -> Result<(), Error> {
        match error {
            Error::Damaged { path, reason } | Error::NotAStore { path, reason } => {
                let path = self.relative(&path);
                let findings = &mut self.verified.findings;
                if !findings
                    .iter()
                    .any(|known| known.path == path && known.is_damage)
                {
                    findings.push(Finding {
                        path,
                        place: String::new(),
                        what: reason,
                        means: means.to_owned(),
                        is_damage: true,
                    });
                }
                Ok(())
            }
            error => Err(error),
        }
    }

    fn note(&mut self, path: &Path, what: &str, means: &str) {
        self.verified.findings.push(Finding {
            path: self.relative(path),
            place: String::new(),
            what: what.to_owned(),
            means: means.to_owned(),
            is_damage: false,
        });
    }

    /// A path as seen from the directory of the store.
    fn relative(&self, path: &Path) -> String {
        let whole = std::fs::canonicalize(self.root).unwrap_or_else(|_| self.root.to_owned());
        let path = path
            .strip_prefix(&whole)
            .or_else(|_| path.strip_prefix(self.root))
            .unwrap_or(path);
        path.display().to_string()
    }

    fn tell_log(&mut self, log: LogRead) {
        self.verified.n_records = log.n_records;
        self.verified.n_bytes += log.n_bytes;
        let n_lost = log.report.n_lost;
        let means = match n_lost {
            0 => "no record is missing".to_owned(),
            n => format!("{n} acknowledged records of the log cannot be read; the rest is"),
        };
        for place in &log.lost {
            self.tell_place(place, "no record that was written", &means, true);
        }
        if log.lost.is_empty() && n_lost > 0 {
            self.verified.findings.push(Finding {
                path: "wal".to_owned(),
                place: String::new(),
                what: "files of the log are missing".to_owned(),
                means,
                is_damage: true,
            });
        }
        for place in &log.harmless {
            let means = "nothing is lost: these records are in segments";
            self.tell_place(place, "no record that was written", means, false);
        }
        if log.report.n_nameless > 0 {
            self.verified.findings.push(Finding {
                path: "wal".to_owned(),
                place: String::new(),
                what: format!(
                    "{} changes have lost the description of their stream",
                    log.report.n_nameless
                ),
                means: "their entries cannot be read".to_owned(),
                is_damage: true,
            });
        }
        if log.report.cut_bytes > 0 {
            let what = format!(
                "the last {} bytes are of a commit that has not finished",
                log.report.cut_bytes
            );
            let means = "nothing is lost: nobody was told that they are stored";
            self.note(&self.root.join("wal"), &what, means);
        }
    }

    fn tell_place(&mut self, place: &DamagedPlace, what: &str, means: &str, is_damage: bool) {
        self.verified.findings.push(Finding {
            path: self.relative(&place.path),
            place: format!("bytes {} to {}", place.from, place.to),
            what: what.to_owned(),
            means: means.to_owned(),
            is_damage,
        });
    }

    fn streams(&mut self, table: &TableState) -> Result<(), Error> {
        let files = LakeFiles::of(self.root, self.storage.clone(), table.clone());
        match files.registry() {
            Ok(_) => Ok(()),
            Err(error) => {
                // A server that has flushed since has written a new one.
                let now = Catalog::look(self.storage)?;
                if now.is_some_and(|now| now.applied != table.applied) {
                    return Ok(());
                }
                let means = "how far each stream is stored is not known: the store does not open";
                self.damaged(error, means)
            }
        }
    }

    fn segment(&mut self, live: &Live, files: &BTreeMap<String, Listed>) -> Result<(), Error> {
        let before = self.verified.findings.len();
        let n_on_disk = files.get(live.path.as_str()).map(|file| file.len_bytes);
        match n_on_disk {
            Some(n) if n != live.size_bytes => {
                let what = format!(
                    "the file has {n} bytes, the Delta log says {}",
                    live.size_bytes
                );
                self.damaged_segment(&live.path, String::new(), what, UNREADABLE);
            }
            None => {
                let what = "the Delta log has it, the disk has not".to_owned();
                self.damaged_segment(&live.path, String::new(), what, UNREADABLE);
            }
            Some(_) => self.content(&live.path, &live.segment)?,
        }
        if self.verified.findings.len() > before {
            // Merged away and deleted since the look at the table, it is no damage.
            let now = Catalog::look(self.storage);
            if now.is_ok_and(|now| now.is_some_and(|now| !now.segments.contains_key(&live.path))) {
                self.verified.findings.truncate(before);
            }
        }
        Ok(())
    }

    /// Reads all of a segment.
    fn content(&mut self, path: &SegmentPath, segment: &Segment) -> Result<(), Error> {
        self.verified.n_segments += 1;
        let pages = match segment.damaged_pages() {
            Ok(pages) => pages,
            Err(Error::Damaged { reason, .. }) => {
                self.damaged_segment(path, String::new(), reason, UNREADABLE);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for page in &pages {
            let means = means_of_page(page);
            let place = format!(
                "column `{}`, rows {} to {}, bytes {} to {}",
                page.column,
                page.rows.start,
                page.rows.end.saturating_sub(1),
                page.bytes.start,
                page.bytes.end
            );
            self.damaged_segment(path, place, "wrong checksum of a page".to_owned(), &means);
        }
        if !pages.is_empty() {
            return Ok(());
        }
        match segment.verify() {
            Ok(report) => {
                self.verified.n_rows += u64::from(report.n_rows);
                self.verified.n_pages += u64::from(report.n_pages);
                self.verified.n_bytes += report.n_bytes;
            }
            Err(Error::Damaged { reason, .. }) => {
                let means = if reason.contains("Tokens") {
                    "questions that look for words or values there answer with an error"
                } else {
                    "Tawny or other readers of Parquet may answer with an error, or wrongly"
                };
                self.damaged_segment(path, String::new(), reason, means);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn damaged_segment(&mut self, path: &SegmentPath, place: String, what: String, means: &str) {
        self.verified.findings.push(Finding {
            path: format!("logs/{path}"),
            place,
            what,
            means: means.to_owned(),
            is_damage: true,
        });
    }

    /// Files that are no part of the table as it is now.
    fn other_files(&mut self, table: &TableState, files: &BTreeMap<String, Listed>) {
        for (path, file) in files {
            if path.starts_with("_delta_log/") || path.starts_with("_tawny/") {
                continue;
            }
            let full = PathBuf::from(self.storage.place(path));
            match SegmentPath::parse(path) {
                Some(segment) if table.segments.contains_key(&segment) => {}
                Some(segment) if table.removed_at(&segment).is_some() => {
                    self.verified.n_waiting += 1;
                    self.verified.waiting_bytes += file.len_bytes;
                }
                Some(_) => self.note(
                    &full,
                    "the Delta log does not have it",
                    "nothing is lost: of a write that has not finished; a server deletes it in its time",
                ),
                None => self.note(
                    &full,
                    "it is no file of Tawny's",
                    "it is left alone and not searched",
                ),
            }
        }
        for file in &*table.foreign {
            let full = PathBuf::from(self.storage.place(&file.path));
            self.note(
                &full,
                "another writer added it to the table",
                "searches of Tawny do not see its rows",
            );
        }
        if let Ok(beside) = std::fs::read_dir(self.root.join("wal")) {
            for path in beside.flatten().map(|entry| entry.path()) {
                if path.extension().is_some_and(|ending| ending == "damaged") {
                    self.note(
                        &path,
                        "damaged bytes of the log that an earlier start set aside",
                        "for people to look at; may be deleted",
                    );
                }
            }
        }
    }

    /// Where the table cannot be read, what its segments say of themselves still can.
    fn segments_without_table(&mut self, files: &BTreeMap<String, Listed>) -> Result<(), Error> {
        let segments = || {
            files
                .values()
                .filter_map(|file| Some((SegmentPath::parse(&file.path)?, file)))
        };
        self.all_bytes += segments().map(|(_, file)| file.len_bytes).sum::<u64>();
        let cache = std::sync::Arc::new(BlockCache::new(super::CACHE_BYTES));
        for (path, file) in segments() {
            let reader = self.storage.reader(path.as_str(), file.len_bytes);
            match Segment::open(reader, std::sync::Arc::clone(&cache)) {
                Ok(segment) => self.content(&path, &segment)?,
                Err(Error::Damaged { reason, .. }) => {
                    self.damaged_segment(&path, String::new(), reason, UNREADABLE);
                }
                Err(error) => return Err(error),
            }
            self.pass(file.len_bytes);
        }
        Ok(())
    }
}

const UNREADABLE: &str =
    "questions about its time answer with an error; others are answered as before";

fn means_of_page(page: &DamagedPage) -> String {
    if page.is_read {
        "questions that need these rows answer with an error; `storage export --skip-damaged` saves the rest".to_owned()
    } else {
        "Tawny does not read it; other readers of Parquet fail on it".to_owned()
    }
}

/// Reads the whole log, what is in segments already included. `applied` is `None` when that is not known.
fn read_log(directory: &Path, applied: Option<u64>) -> Result<LogRead, Error> {
    let files = survey(directory)?;
    let mut read = LogRead {
        report: Report::default(),
        lost: Vec::new(),
        harmless: Vec::new(),
        n_records: files.iter().map(|file| file.n_records).sum(),
        n_bytes: files.iter().map(|file| file.len_bytes).sum(),
    };
    if !directory.is_dir() {
        return Ok(read);
    }
    // From the first record there may be on.
    let before_all = Wal::first_seq(directory)?.map_or(0, |first| first - 1);
    let replay = |applied: u64| {
        let mut replay = Wal::look(directory, applied)?;
        while replay.next()?.is_some() {}
        Ok::<_, Error>((replay.report(), replay.places().to_vec()))
    };
    let applied = applied.unwrap_or(before_all);
    (read.report, read.lost) = replay(applied)?;
    let (_, all) = replay(before_all.min(applied))?;
    read.harmless = all
        .into_iter()
        .filter(|place| !read.lost.contains(place))
        .collect();
    Ok(read)
}
