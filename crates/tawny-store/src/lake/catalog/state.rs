//! What the table holds at one version, and how a commit changes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tawny_model::{EntryId, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Change,
    path::SegmentPath,
    schema::{attribute_column, with_attributes},
};
use crate::lake::run::Extent;

/// A segment as the catalog knows it, without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    pub(crate) path: SegmentPath,
    pub(crate) len_bytes: u64,
    pub(crate) extent: Extent,
    /// 0 as flushed; higher for what compaction made.
    pub(crate) tier: u8,
}

/// What our tag on an add action says, as JSON; Delta's own statistics are too coarse for it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    rows: u32,
    first_ns: i64,
    last_ns: i64,
    min_id: i64,
    max_id: i64,
    tier: u8,
}

impl SegmentFile {
    pub(super) fn tag(&self) -> String {
        let extent = &self.extent;
        let tag = Tag {
            rows: extent.n_rows,
            first_ns: extent.first.as_nanos(),
            last_ns: extent.last.as_nanos(),
            min_id: extent.min_id.0,
            max_id: extent.max_id.0,
            tier: self.tier,
        };
        serde_json::to_string(&tag).expect("plain numbers are JSON")
    }

    pub(super) fn from_tag(
        path: SegmentPath,
        len_bytes: u64,
        tag: &str,
    ) -> Result<Self, serde_json::Error> {
        let tag: Tag = serde_json::from_str(tag)?;
        Ok(Self {
            path,
            len_bytes,
            extent: Extent {
                n_rows: tag.rows,
                first: Timestamp::from_nanos(tag.first_ns),
                last: Timestamp::from_nanos(tag.last_ns),
                min_id: EntryId(tag.min_id),
                max_id: EntryId(tag.max_id),
            },
            tier: tag.tier,
        })
    }

    fn fingerprint(&self) -> u64 {
        xxh3_64(format!("{} {} {}", self.path, self.len_bytes, self.tag()).as_bytes())
    }
}

/// A data file that some other writer added. Readers of the table see its rows, Tawny's own queries don't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignFile {
    pub(crate) path: String,
    pub(crate) len_bytes: u64,
}

impl ForeignFile {
    fn fingerprint(&self) -> u64 {
        xxh3_64(format!("foreign {} {}", self.path, self.len_bytes).as_bytes())
    }
}

/// What the table holds at one version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) segments: BTreeMap<SegmentPath, Arc<SegmentFile>>,
    pub(crate) foreign: Arc<[ForeignFile]>,
    /// The last WAL record that lies in a segment, `None` before the first.
    pub(crate) applied: Option<u64>,
    /// Keys of attributes with columns of their own.
    pub(crate) attributes: Arc<BTreeSet<String>>,
    /// When segments were removed, as far back as the log tells; their files may be there still.
    pub(super) removed: BTreeMap<SegmentPath, Timestamp>,
    /// As the log writes it.
    pub(super) metadata: Arc<Value>,
    /// Sum of the fingerprints of all files, wrapping.
    fingerprint: u64,
}

/// What a commit of ours says about the table after it: opening must find the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seal {
    files: usize,
    /// Of all files; hex, as JSON numbers end at 53 bits.
    fingerprint: String,
    metadata: String,
    applied: Option<u64>,
}

impl State {
    pub(super) fn new(
        version: u64,
        segments: BTreeMap<SegmentPath, Arc<SegmentFile>>,
        foreign: Vec<ForeignFile>,
        applied: Option<u64>,
        removed: BTreeMap<SegmentPath, Timestamp>,
        (metadata, attributes): (Value, Vec<String>),
    ) -> Self {
        let prints = segments.values().map(|segment| segment.fingerprint());
        let fingerprint = prints
            .chain(foreign.iter().map(ForeignFile::fingerprint))
            .fold(0u64, u64::wrapping_add);
        Self {
            version,
            segments,
            foreign: foreign.into(),
            applied,
            attributes: Arc::new(attributes.into_iter().collect()),
            removed,
            metadata: Arc::new(metadata),
            fingerprint,
        }
    }

    /// Whether an attribute can get a column of its own: see [`attribute_column`].
    pub(crate) fn may_add_attribute(&self, key: &str) -> bool {
        attribute_column(key).is_some()
            && !self
                .attributes
                .iter()
                .any(|known| known.eq_ignore_ascii_case(key))
    }

    /// When a segment was removed, if it was in the table before and the log still tells.
    pub(crate) fn removed_at(&self, path: &SegmentPath) -> Option<Timestamp> {
        self.removed.get(path).copied()
    }

    /// The highest number in a segment's path so far.
    pub(super) fn last_path_number(&self) -> u64 {
        let live = self.segments.keys().map(SegmentPath::number);
        let removed = self.removed.keys().map(SegmentPath::number);
        live.chain(removed).max().unwrap_or(0)
    }

    /// The state after a change that fits it.
    pub(super) fn after(&self, change: &Change, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.version += 1;
        for path in &change.remove {
            if let Some(segment) = next.segments.remove(path) {
                next.fingerprint = next.fingerprint.wrapping_sub(segment.fingerprint());
                next.removed.insert(path.clone(), now);
            }
        }
        for segment in &change.add {
            next.fingerprint = next.fingerprint.wrapping_add(segment.fingerprint());
            next.segments
                .insert(segment.path.clone(), Arc::new(segment.clone()));
        }
        next.applied = change.applied.or(self.applied);
        if !change.new_attributes.is_empty() {
            next.metadata = Arc::new(with_attributes(&self.metadata, &change.new_attributes));
            Arc::make_mut(&mut next.attributes).extend(change.new_attributes.iter().cloned());
        }
        next
    }

    pub(super) fn seal(&self) -> Seal {
        Seal {
            files: self.segments.len() + self.foreign.len(),
            fingerprint: format!("{:016x}", self.fingerprint),
            metadata: format!("{:016x}", metadata_fingerprint(&self.metadata)),
            applied: self.applied,
        }
    }
}

/// Independent of the order in which a library writes fields and properties.
fn metadata_fingerprint(metadata: &Value) -> u64 {
    let sorted = |value: &Value| -> BTreeMap<String, Value> {
        let fields = value.as_object().into_iter().flatten();
        fields
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let mut fields = sorted(metadata);
    let properties = fields.remove("configuration").map(|value| sorted(&value));
    xxh3_64(&serde_json::to_vec(&(fields, properties)).expect("JSON values are JSON"))
}
