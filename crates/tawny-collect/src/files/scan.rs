//! Directory listings, and the cheap question whether one is worth taking again.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration, time::UNIX_EPOCH};

use tawny_model::Timestamp;

use super::{
    generation::{FileId, Listed},
    layout::LogName,
};

/// File times tick this coarsely at worst, so a directory changed this recently may change again without a trace.
const TICK: Duration = Duration::from_secs(1);

/// When a directory was listed, and how old it was then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    modified: Option<Timestamp>,
    is_settled: bool,
}

impl Seen {
    /// To be taken before the listing.
    pub(super) fn now(directory: &Path, wall: Timestamp) -> Self {
        let modified = modified(directory);
        Self {
            modified,
            is_settled: modified.is_some_and(|modified| wall.saturating_since(modified) > TICK),
        }
    }

    /// Whether a listing may show something new.
    pub(super) fn is_changed(&self, directory: &Path) -> bool {
        !self.is_settled || modified(directory) != self.modified
    }
}

fn modified(directory: &Path) -> Option<Timestamp> {
    let modified = fs::metadata(directory).ok()?.modified().ok()?;
    let since_epoch = modified.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::default().saturating_add(since_epoch))
}

/// Names of the directories in a directory; names that are no UTF-8 are none of the kubelet's.
pub(super) fn list_directories(directory: &Path) -> io::Result<Vec<Box<str>>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Some(name) = entry.file_name().to_str().filter(|_| is_directory) {
            names.push(name.into());
        }
    }
    Ok(names)
}

/// Listings taken at most for one that agrees with the one before; a rotation is over within two.
const MAX_LISTINGS: u32 = 16;

/// Log files in a container's directory by run, each run's oldest first.
///
/// A listing is not of one moment: a file that is renamed or compressed meanwhile may be in it twice or not at all, and
/// a file that is missing would be passed over. So it is taken until two in a row show the same files.
pub(super) fn list_logs(directory: &Path) -> io::Result<BTreeMap<u32, Vec<Listed>>> {
    let mut runs = list_logs_once(directory)?;
    for _ in 0..MAX_LISTINGS {
        let again = list_logs_once(directory)?;
        let is_stable = is_same(&runs, &again);
        runs = again;
        if is_stable {
            break;
        }
    }
    Ok(runs)
}

fn is_same(one: &BTreeMap<u32, Vec<Listed>>, other: &BTreeMap<u32, Vec<Listed>>) -> bool {
    let files = |runs: &BTreeMap<u32, Vec<Listed>>| runs.values().map(Vec::len).sum::<usize>();
    let pairs = one.values().flatten().zip(other.values().flatten());
    files(one) == files(other)
        && pairs
            .into_iter()
            .all(|(one, other)| one.file_name == other.file_name && one.id == other.id)
}

fn list_logs_once(directory: &Path) -> io::Result<BTreeMap<u32, Vec<Listed>>> {
    let mut runs: BTreeMap<u32, Vec<Listed>> = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some((file_name, name)) = file_name
            .to_str()
            .and_then(|text| Some((text, LogName::parse(text)?)))
        else {
            continue;
        };
        // Follows links, as docker's are; a file renamed in this instant is seen by the next listing.
        let Ok(metadata) = fs::metadata(entry.path()) else {
            continue;
        };
        if !metadata.is_file() {
            continue;
        }
        runs.entry(name.restart).or_default().push(Listed {
            id: FileId::of(&metadata),
            len_bytes: metadata.len(),
            is_symlink: entry.file_type().is_ok_and(|kind| kind.is_symlink()),
            file_name: file_name.into(),
            name,
        });
    }
    for files in runs.values_mut() {
        files.sort_by(|a, b| a.name.cmp_age(&b.name));
    }
    Ok(runs)
}
