//! So many new incidents at once that people are told their digest instead of each (section 4.5, row "Storm").

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tawny_model::Timestamp;

use crate::Subject;

/// More new incidents than this within [`STORM_WINDOW`] are a storm.
pub const STORM_THRESHOLD: usize = 20;
pub const STORM_WINDOW: Duration = Duration::from_secs(60);

/// Namespaces a digest names; the rest are counted together under `…`.
const MAX_NAMESPACES: usize = 20;

/// What opened during a storm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    pub began: Timestamp,
    pub ended: Timestamp,
    /// New incidents beyond those that were told one by one.
    pub opened: u64,
    pub by_class: BTreeMap<String, u64>,
    pub by_namespace: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Storm {
    /// At most [`STORM_THRESHOLD`] + 1, the latest.
    openings: VecDeque<Timestamp>,
    current: Option<Digest>,
}

impl Storm {
    /// Counts a new incident; whether it is part of a storm, and whether that began with it.
    pub(super) fn opened(
        &mut self,
        class: &str,
        subject: &Subject,
        now: Timestamp,
    ) -> (bool, bool) {
        self.openings.push_back(now);
        if self.openings.len() > STORM_THRESHOLD + 1 {
            self.openings.pop_front();
        }
        let begins = self.current.is_none() && self.in_window(now) > STORM_THRESHOLD;
        if begins {
            self.current = Some(Digest {
                began: now,
                ended: now,
                opened: 0,
                by_class: BTreeMap::new(),
                by_namespace: BTreeMap::new(),
            });
        }
        let Some(digest) = &mut self.current else {
            return (false, false);
        };
        digest.opened += 1;
        *digest.by_class.entry(class.to_owned()).or_default() += 1;
        let namespace = &*subject.namespace;
        let is_named = digest.by_namespace.contains_key(namespace)
            || digest.by_namespace.len() < MAX_NAMESPACES;
        let name = if is_named { namespace } else { "…" };
        *digest.by_namespace.entry(name.to_owned()).or_default() += 1;
        (true, begins)
    }

    /// When the storm will be over if nothing else opens.
    pub(super) fn ends_at(&self) -> Option<Timestamp> {
        self.current.as_ref()?;
        // It ends once at most half the threshold opened within the window.
        let decisive = self
            .openings
            .iter()
            .rev()
            .nth(STORM_THRESHOLD / 2)
            .copied()?;
        Some(decisive.saturating_add(STORM_WINDOW))
    }

    pub(super) fn tick(&mut self, now: Timestamp) -> Option<Digest> {
        if self.ends_at()? > now {
            return None;
        }
        let mut digest = self.current.take()?;
        digest.ended = now;
        Some(digest)
    }

    fn in_window(&self, now: Timestamp) -> usize {
        self.openings
            .iter()
            .filter(|at| now.saturating_since(**at) < STORM_WINDOW)
            .count()
    }
}
