//! Which occurrences were counted already, so that none counts twice: bounded, the longest unseen forgotten first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tawny_model::stream::Fnv;

use super::IncidentId;

/// Occurrences remembered. A status shows two deaths of a container for as long as it lives, and each look renews
/// them: 10,000 containers in one book need 20,000. At 64 bytes each this is 4 MiB.
pub const MAX_SEEN: usize = 65_536;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    from = "Vec<(u64, Option<IncidentId>)>",
    into = "Vec<(u64, Option<IncidentId>)>"
)]
pub(super) struct Seen {
    /// By hash of the key.
    entries: BTreeMap<u64, Entry>,
    by_age: BTreeMap<u64, u64>,
    clock: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    age: u64,
    /// Where it is counted; `None` for what was planned.
    incident: Option<IncidentId>,
}

impl Seen {
    /// Where the key is counted, if it is known at all. Knowing it again keeps it.
    pub(super) fn find(&mut self, key: &str) -> Option<Option<IncidentId>> {
        let hash = hash(key);
        let incident = self.entries.get(&hash)?.incident;
        self.put(hash, incident);
        Some(incident)
    }

    pub(super) fn record(&mut self, key: &str, incident: Option<IncidentId>) {
        self.put(hash(key), incident);
    }

    fn put(&mut self, hash: u64, incident: Option<IncidentId>) {
        self.clock += 1;
        let entry = Entry {
            age: self.clock,
            incident,
        };
        if let Some(before) = self.entries.insert(hash, entry) {
            self.by_age.remove(&before.age);
        }
        self.by_age.insert(self.clock, hash);
        if self.entries.len() > MAX_SEEN
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }
}

impl From<Vec<(u64, Option<IncidentId>)>> for Seen {
    fn from(oldest_first: Vec<(u64, Option<IncidentId>)>) -> Self {
        let mut seen = Self::default();
        for (hash, incident) in oldest_first {
            seen.put(hash, incident);
        }
        seen
    }
}

impl From<Seen> for Vec<(u64, Option<IncidentId>)> {
    fn from(seen: Seen) -> Self {
        seen.by_age
            .values()
            .filter_map(|hash| Some((*hash, seen.entries.get(hash)?.incident)))
            .collect()
    }
}

fn hash(key: &str) -> u64 {
    let mut hash = Fnv::default();
    hash.write(key.as_bytes());
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_longest_unseen_are_forgotten() {
        let mut seen = Seen::default();
        for n in 0..MAX_SEEN {
            seen.record(&format!("death/{n}"), None);
        }
        assert_eq!(seen.find("death/0"), Some(None));
        seen.record("death/new", None);
        assert_eq!(seen.find("death/1"), None);
        assert_eq!(seen.find("death/0"), Some(None));
        assert_eq!(seen.entries.len(), MAX_SEEN);
        assert_eq!(seen.by_age.len(), MAX_SEEN);
    }
}
