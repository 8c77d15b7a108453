//! The files of the Delta log: their names, and the check of each commit against what it says of itself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::Seal;
use crate::lake::files::Listed;

pub(super) const DIRECTORY: &str = "_delta_log";

/// Where readers look for the newest checkpoint before they list the log.
pub(super) const HINT: &str = "_delta_log/_last_checkpoint";

pub(super) fn commit_path(version: u64) -> String {
    format!("{DIRECTORY}/{version:020}.json")
}

/// What a listing of the log says. Source of the names: the Delta protocol, "File Types".
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) commits: BTreeSet<u64>,
    /// The newest complete checkpoint and one of its files.
    pub(super) checkpoint: Option<(u64, String)>,
    pub(super) has_hint: bool,
}

impl Listing {
    pub(super) fn new(files: &[Listed]) -> Self {
        let mut listing = Self::default();
        let mut parts: BTreeMap<(u64, u32), u32> = BTreeMap::new();
        for file in files {
            let Some(name) = file.path.strip_prefix(DIRECTORY) else {
                continue;
            };
            let mut words = name.trim_start_matches('/').split('.');
            let version = words.next().and_then(parse_version);
            let words: Vec<&str> = words.collect();
            let checkpoint = match (version, words.as_slice()) {
                (None, _) => {
                    listing.has_hint |= file.path == HINT;
                    None
                }
                (Some(version), ["json"]) => {
                    listing.commits.insert(version);
                    None
                }
                (Some(version), ["checkpoint", "parquet"]) => Some(version),
                (Some(version), ["checkpoint", part, of, "parquet"]) => {
                    let of: u32 = of.parse().unwrap_or(u32::MAX);
                    let n_parts = parts.entry((version, of)).or_default();
                    *n_parts += u32::from(part.parse::<u32>().is_ok());
                    (*n_parts == of).then_some(version)
                }
                (Some(version), ["checkpoint", _uuid, "json" | "parquet"]) => Some(version),
                _ => None,
            };
            if let Some(version) = checkpoint
                && listing
                    .checkpoint
                    .as_ref()
                    .is_none_or(|(known, _)| *known <= version)
            {
                listing.checkpoint = Some((version, file.path.clone()));
            }
        }
        listing
    }

    /// The newest version and the commits to read for it; or the version that is missing.
    pub(super) fn tail(&self) -> Result<Option<(u64, Vec<u64>)>, u64> {
        let base = self.checkpoint.as_ref().map(|(version, _)| *version);
        let Some(newest) = self.commits.last().copied().max(base) else {
            return Ok(None);
        };
        let first = base.map_or(0, |base| base + 1);
        if let Some(missing) = (first..=newest).find(|version| !self.commits.contains(version)) {
            return Err(missing);
        }
        // The commit of the checkpoint itself says what the checkpoint must hold.
        let with_base = base.filter(|base| self.commits.contains(base));
        Ok(Some((
            newest,
            with_base.into_iter().chain(first..=newest).collect(),
        )))
    }
}

fn parse_version(text: &str) -> Option<u64> {
    let is_version = text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_version)
}

/// What a commit of ours says of itself, in its `commitInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signature {
    /// CRC-32C of all that follows the first line, then of `after`.
    crc32c: u32,
    /// Differs with each start of a process.
    writer: String,
    /// What the table holds after this commit.
    pub(super) after: Seal,
}

impl Signature {
    /// `rest`: what follows the first line.
    pub(super) fn new(rest: &[u8], after: Seal, writer: u64) -> Self {
        Self {
            crc32c: Self::checksum(rest, &after),
            writer: format!("{writer:016x}"),
            after,
        }
    }

    fn checksum(rest: &[u8], after: &Seal) -> u32 {
        let after = serde_json::to_vec(after).expect("plain fields are JSON");
        crc32c::crc32c_append(crc32c::crc32c(rest), &after)
    }
}

/// Checks one commit; gives its signature when it is ours.
pub(super) fn check_commit(bytes: &Bytes) -> Result<Option<Signature>, String> {
    let first_end = bytes.iter().position(|byte| *byte == b'\n');
    let (first, rest) = bytes.split_at(first_end.map_or(bytes.len(), |end| end + 1));
    let info: Value = serde_json::from_slice(first).map_err(|error| format!("line 1: {error}"))?;
    let signature = info.get("commitInfo").and_then(|info| info.get("tawny"));
    if let Some(signature) = signature {
        let signature = Signature::deserialize(signature).map_err(|error| error.to_string())?;
        if Signature::checksum(rest, &signature.after) != signature.crc32c {
            return Err("its checksum does not fit".to_owned());
        }
        return Ok(Some(signature));
    }
    for (line_idx, line) in rest.split(|byte| *byte == b'\n').enumerate() {
        if !line.is_empty() {
            serde_json::from_slice::<serde::de::IgnoredAny>(line)
                .map_err(|error| format!("line {}: {error}", line_idx + 2))?;
        }
    }
    Ok(None)
}

/// The version that the hint names.
pub(super) fn hinted_version(bytes: &[u8]) -> Option<u64> {
    let hint: Value = serde_json::from_slice(bytes).ok()?;
    // Readers refuse a hint without a size.
    hint.get("size")?.as_u64()?;
    hint.get("version")?.as_u64()
}
