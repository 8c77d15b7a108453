//! One commit: whether a change fits the table, and its file. Source: the Delta protocol, "Actions".

use serde_json::{Value, json};
use tawny_model::Timestamp;

use super::{
    Change,
    log::Signature,
    path::SegmentPath,
    schema,
    state::{SegmentFile, State},
};
use crate::{Error, lake::files::Storage};

/// Name of our sequence in the log.
pub(super) const APP_ID: &str = "tawny";

/// Key of our tag on an add action.
pub(super) const TAG: &str = "tawny";

/// What the table asks of readers and writers: nothing that came after the first Delta release of 2020.
const PROTOCOL: (u32, u32) = (1, 2);

/// How a change goes with a state.
#[derive(Debug)]
pub(super) enum Fit {
    /// What is left to do, at least one thing.
    Ready(Change),
    Nothing,
    /// These segments are gone, and the change adds what was made of them.
    Stale(Vec<SegmentPath>),
}

/// Whether a change can follow a state.
pub(super) fn fit(change: &Change, state: &State, storage: &Storage) -> Result<Fit, Error> {
    let (live, gone): (Vec<_>, Vec<_>) = change
        .remove
        .iter()
        .cloned()
        .partition(|path| state.segments.contains_key(path));
    if !gone.is_empty() && !change.add.is_empty() {
        return Ok(Fit::Stale(gone));
    }
    if let Some(segment) = change.add.iter().find(|segment| {
        state.segments.contains_key(&segment.path) || state.removed.contains_key(&segment.path)
    }) {
        return Err(Error::Invalid {
            reason: format!("segment `{}` was in the table before", segment.path),
        });
    }
    // Whoever wrote that record has the same log as we.
    if change.applied.is_some() && change.applied <= state.applied {
        return Err(Error::locked(storage.place("")));
    }
    let mut fitted = Change {
        remove: live,
        new_attributes: Vec::new(),
        ..change.clone()
    };
    for key in &change.new_attributes {
        if state.attributes.contains(key) || fitted.new_attributes.contains(key) {
            continue;
        }
        let twin = |known: &String| known.eq_ignore_ascii_case(key);
        if !state.may_add_attribute(key) || fitted.new_attributes.iter().any(twin) {
            return Err(Error::Invalid {
                reason: format!("attribute `{key}` cannot have a column"),
            });
        }
        fitted.new_attributes.push(key.clone());
    }
    let is_empty = fitted.add.is_empty()
        && fitted.remove.is_empty()
        && fitted.applied.is_none()
        && fitted.new_attributes.is_empty();
    Ok(if is_empty {
        Fit::Nothing
    } else {
        Fit::Ready(fitted)
    })
}

/// Whether a state already has a change: every path is used once, so it tells.
pub(super) fn is_in(change: &Change, state: &State) -> bool {
    let added = |segment: &SegmentFile| {
        let now = state.segments.get(&segment.path);
        now.is_some_and(|now| **now == *segment)
    };
    !change.add.is_empty()
        && change.add.iter().all(added)
        && !change
            .remove
            .iter()
            .any(|path| state.segments.contains_key(path))
        && change
            .applied
            .is_none_or(|applied| state.applied == Some(applied))
}

/// The commit file of a change that led to `after`.
pub(super) fn encode(change: &Change, after: &State, now: Timestamp, writer: u64) -> Vec<u8> {
    let now_ms = now.as_millis();
    let mut actions = Vec::new();
    if !change.new_attributes.is_empty() {
        actions.push(json!({"metaData": *after.metadata}));
    }
    if let Some(applied) = change.applied {
        actions.push(json!({"txn": {"appId": APP_ID, "version": applied, "lastUpdated": now_ms}}));
    }
    for path in &change.remove {
        actions.push(json!({"remove": {
            "path": path.as_str(),
            "deletionTimestamp": now_ms,
            "dataChange": change.data_change,
            "extendedFileMetadata": false,
        }}));
    }
    for segment in &change.add {
        actions.push(json!({"add": {
            "path": segment.path.as_str(),
            "partitionValues": {"date": segment.path.day().to_string()},
            "size": segment.len_bytes,
            "modificationTime": now_ms,
            "dataChange": change.data_change,
            "stats": stats(segment).to_string(),
            "tags": {TAG: segment.tag()},
        }}));
    }
    let operation = match (change.add.is_empty(), change.remove.is_empty()) {
        (false, true) => "WRITE",
        (false, false) => "OPTIMIZE",
        (true, false) => "DELETE",
        (true, true) => "SET TBLPROPERTIES",
    };
    file(operation, &actions, after, now, writer)
}

/// The commit file that makes the table.
pub(super) fn first(now: Timestamp, writer: u64) -> Result<Vec<u8>, Error> {
    let metadata = schema::new_table()?;
    let (reader, writer_version) = PROTOCOL;
    let actions = [
        json!({"protocol": {"minReaderVersion": reader, "minWriterVersion": writer_version}}),
        json!({"metaData": metadata}),
    ];
    let state = State::new(
        0,
        Default::default(),
        Vec::new(),
        None,
        Default::default(),
        (metadata, Vec::new()),
    );
    Ok(file("CREATE TABLE", &actions, &state, now, writer))
}

/// Why this table is not for us to write.
pub(super) fn check_protocol(protocol: &Value) -> Result<(), String> {
    let version = |key| protocol.get(key).and_then(Value::as_u64).unwrap_or(0);
    let found = (version("minReaderVersion"), version("minWriterVersion"));
    if found.0 <= u64::from(PROTOCOL.0) && found.1 <= u64::from(PROTOCOL.1) {
        return Ok(());
    }
    Err(format!(
        "another writer raised the table's Delta protocol to reader {}, writer {}, which Tawny does not write",
        found.0, found.1
    ))
}

fn file(operation: &str, actions: &[Value], after: &State, now: Timestamp, writer: u64) -> Vec<u8> {
    let mut rest = Vec::new();
    for action in actions {
        rest.extend_from_slice(action.to_string().as_bytes());
        rest.push(b'\n');
    }
    let signature = Signature::new(&rest, after.seal(), writer);
    let info = json!({"commitInfo": {
        "timestamp": now.as_millis(),
        "operation": operation,
        "operationParameters": {},
        "engineInfo": concat!("tawny/", env!("CARGO_PKG_VERSION")),
        "tawny": signature,
    }});
    let mut file = info.to_string().into_bytes();
    file.push(b'\n');
    file.append(&mut rest);
    file
}

/// Delta's statistics: what other readers prune by. The column holds whole microseconds, rounded towards the past, and
/// so do these bounds, which makes them exact.
fn stats(segment: &SegmentFile) -> Value {
    let micros = |time: Timestamp| {
        let text = Timestamp::from_micros(time.as_micros()).to_string();
        // Nine digits of a second, of which the last three are 0.
        text.strip_suffix("000Z").map(|text| format!("{text}Z"))
    };
    json!({
        "numRecords": segment.extent.n_rows,
        "minValues": {"timestamp": micros(segment.extent.first)},
        "maxValues": {"timestamp": micros(segment.extent.last)},
        "nullCount": {"timestamp": 0},
    })
}
