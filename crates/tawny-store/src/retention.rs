//! What is kept and for how long: the rule that every engine applies in its own way.

use std::{collections::BTreeMap, time::Duration};

use tawny_model::{ByteSize, Timestamp};

/// What is kept; all limits hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// For entries of namespaces that have no age of their own; `None` keeps them whatever their age.
    pub max_age: Option<Duration>,
    /// Ages of single namespaces, longer or shorter; `None` keeps their entries whatever their age.
    pub namespaces: BTreeMap<String, Option<Duration>>,
    /// For the store as a whole; the oldest entries go, of whatever namespace.
    pub max_bytes: Option<ByteSize>,
}

impl Retention {
    pub(crate) fn cutoffs(&self, now: Timestamp) -> Cutoffs {
        let cutoff =
            |age: Option<Duration>| age.map_or(Timestamp::MIN, |age| now.saturating_sub(age));
        Cutoffs {
            others: cutoff(self.max_age),
            namespaces: self
                .namespaces
                .iter()
                .map(|(namespace, age)| (namespace.clone(), cutoff(*age)))
                .collect(),
        }
    }
}

/// The time before which entries go, by namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cutoffs {
    others: Timestamp,
    namespaces: BTreeMap<String, Timestamp>,
}

impl Cutoffs {
    /// The same for all.
    pub(crate) fn all(before: Timestamp) -> Self {
        Self {
            others: before,
            namespaces: BTreeMap::new(),
        }
    }

    /// [`Timestamp::MIN`] where nothing goes.
    pub(crate) fn of(&self, namespace: &str) -> Timestamp {
        let own = self.namespaces.get(namespace);
        own.copied().unwrap_or(self.others)
    }

    /// The one of all, where namespaces make no difference.
    pub(crate) fn common(&self) -> Option<Timestamp> {
        let is_common = self.namespaces.values().all(|own| *own == self.others);
        is_common.then_some(self.others)
    }

    /// All before it goes.
    pub(crate) fn earliest(&self) -> Timestamp {
        let own = self.namespaces.values().copied();
        own.fold(self.others, Timestamp::min)
    }

    /// Nothing at or after it goes.
    pub(crate) fn latest(&self) -> Timestamp {
        let own = self.namespaces.values().copied();
        own.fold(self.others, Timestamp::max)
    }
}
