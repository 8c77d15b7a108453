//! The registry's memory between two runs of the process: what has been told, and never a token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tawny_model::Timestamp;

use crate::reasons::Told;

/// The only form so far.
pub(super) const VERSION: u32 = 1;

/// What had been told when it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    #[serde(deserialize_with = "known_version")]
    pub(super) version: u32,
    pub taken_at: Timestamp,
    /// By object UID.
    pub objects: BTreeMap<String, Remembered>,
}

/// What had been told of one object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    pub told: Told,
    pub events: BTreeMap<String, u32>,
}

fn known_version<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        VERSION => Ok(VERSION),
        other => Err(serde::de::Error::custom(format!(
            "version {other} is not known; this build reads version {VERSION}"
        ))),
    }
}
