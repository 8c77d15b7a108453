//! What an Alertmanager should know: every open alert, and for a while those that are over, told again and again.
//!
//! A parcel is the whole state, so one that is lost is made good by the next.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tawny_incident::Severity;
use tokio::time::Instant;

use super::{Alert, MAX_TOPICS, Manner};
use crate::{Kind, Outgoing};

/// Longest wait for other alerts to go in the same request. Alertmanager has a `group_wait` of its own.
const BATCH_WAIT: Duration = Duration::from_secs(5);

/// How long the end of an alert is told. Source: Prometheus, `resolvedRetention` in `rules/alerting.go`.
const KEEP_OVER: Duration = Duration::from_secs(15 * 60);

/// A digest has no end of its own.
const DIGEST_LASTS: Duration = Duration::from_secs(15 * 60);

#[derive(Debug)]
pub(super) struct Board {
    resend_after: Duration,
    /// By key and severity: severity is a label, so one that escalates ends as what it was and begins as what it is.
    entries: BTreeMap<(String, Severity), Entry>,
    next_at: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    notice: Arc<Outgoing>,
    touched_at: Instant,
    /// Since when, or from when on, it is over.
    over_at: Option<Instant>,
}

impl Board {
    pub(super) fn new(resend_after: Duration) -> Self {
        Self {
            resend_after,
            entries: BTreeMap::new(),
            next_at: None,
        }
    }

    /// Whether it is put up here: a route leads here, or it ends something that is up.
    pub(super) fn take(
        &mut self,
        notice: &Arc<Outgoing>,
        manner: Option<Manner>,
        now: Instant,
    ) -> bool {
        let is_end = notice.kind == Kind::Resolved;
        let id = (notice.key.clone(), notice.severity);
        if manner.is_none() && !(is_end && self.is_up(&notice.key)) {
            return false;
        }
        // Whatever other severity it had is over.
        for (_, entry) in self
            .of_key(&notice.key)
            .filter(|((_, it), _)| *it != notice.severity)
        {
            entry.over_at.get_or_insert(now);
        }
        self.make_room(&id);
        let over_at = match notice.kind {
            Kind::Resolved => Some(now),
            Kind::Digest => Some(now + DIGEST_LASTS),
            _ => None,
        };
        let entry = Entry {
            notice: Arc::clone(notice),
            touched_at: now,
            over_at,
        };
        self.entries.insert(id, entry);
        let wait = manner.map_or(BATCH_WAIT, |manner| manner.group_wait.min(BATCH_WAIT));
        self.next_at = Some(self.next_at.map_or(now + wait, |at| at.min(now + wait)));
        true
    }

    pub(super) fn due(&mut self, now: Instant, is_last: bool) -> Option<Arc<[Alert]>> {
        if !(is_last || self.next_at.is_some_and(|at| at <= now)) || self.entries.is_empty() {
            return None;
        }
        let is_over = |entry: &Entry| entry.over_at.is_some_and(|at| at <= now);
        let alerts = (self.entries.values())
            .map(|entry| Alert {
                notice: Arc::clone(&entry.notice),
                is_over: is_over(entry),
            })
            .collect();
        self.entries.retain(|_, entry| {
            (entry.over_at).is_none_or(|at| now.saturating_duration_since(at) < KEEP_OVER)
        });
        self.next_at = (!self.entries.is_empty()).then(|| now + self.resend_after);
        Some(alerts)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_at
    }

    fn is_up(&mut self, key: &str) -> bool {
        self.of_key(key).next().is_some()
    }

    fn of_key(&mut self, key: &str) -> impl Iterator<Item = (&(String, Severity), &mut Entry)> {
        use Severity::{Critical, Low};
        let range = (key.to_owned(), Low)..=(key.to_owned(), Critical);
        self.entries.range_mut(range)
    }

    /// Takes down what is over, else what has not moved for longest; Alertmanager ends it by itself. An eighth at once,
    /// so that a burst does not look through all of them for each.
    fn make_room(&mut self, id: &(String, Severity)) {
        if self.entries.len() < MAX_TOPICS || self.entries.contains_key(id) {
            return;
        }
        let mut by_worth: Vec<(bool, Instant, (String, Severity))> = (self.entries.iter())
            .map(|(id, entry)| (entry.over_at.is_none(), entry.touched_at, id.clone()))
            .collect();
        by_worth.sort();
        for (_, _, id) in by_worth.into_iter().take(MAX_TOPICS / 8) {
            self.entries.remove(&id);
        }
    }
}
