//! What a watch knows, to be saved and gone on with after a restart or with other rules.

use serde::{Deserialize, Serialize};
use tawny_model::Timestamp;

use super::group::{Group, Values};

/// The counts and alerts of a watch. What it was told by a rule that now means something else is of no use, so each
/// rule's part carries a hash of what it meant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(super) saved_at: Timestamp,
    pub(super) rules: Vec<RuleState>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RuleState {
    pub name: String,
    pub meaning: u64,
    pub groups: Vec<(Values, Group)>,
}
