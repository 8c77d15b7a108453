//! One incident and its life: open, recurring, resolved, regressed (section 4.5).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tawny_model::Timestamp;

use super::IncidentId;
use crate::{Cause, Health, Occurrence, Scope, Severity, Subject};

/// Healthy for this long, and the incident is over: the time after which the kubelet resets its back-off.
pub const RESOLVE_AFTER: Duration = Duration::from_secs(10 * 60);

/// A thing whose health nobody tells counts as well when nothing more happened to it for this long.
pub const STALE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Pods whose health one incident follows; of a workload with more, those heard of last.
const MAX_WATCHED: usize = 64;

/// Occurrences since it opened at which an incident gets at least this severity.
const TIERS: [(u64, Severity); 3] = [
    (3, Severity::Medium),
    (10, Severity::High),
    (50, Severity::Critical),
];

/// All occurrences of one cause in one place.
///
/// | state | next occurrence | healthy for 10 min, or gone |
/// |---|---|---|
/// | open | recurring | resolved |
/// | recurring | recurring | resolved |
/// | resolved | regressed; after 7 days a new incident | – |
/// | regressed | recurring | resolved |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub state: State,
    pub severity: Severity,
    /// The occurrence that happened last; its cause and subject are the incident's.
    pub latest: Occurrence,
    /// Occurrences over its whole life.
    pub count: u64,
    /// Occurrences since it was last opened.
    pub streak: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// By the book's clock, as are all times below.
    pub opened_at: Timestamp,
    pub updated_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
    pub regressions: u32,
    /// Everything in it was there when watching began.
    pub baseline: bool,
    /// Of which it is a part: the incident of its node, or the trouble it follows from.
    pub parent: Option<IncidentId>,
    /// Opened while so many were that only their digest is told.
    pub in_storm: bool,
    pub(super) watched: Vec<(Scope, Watched)>,
    /// When the last of the watched that is gone went.
    pub(super) gone_at: Option<Timestamp>,
    /// Since when its workload as a whole is healthy.
    pub(super) workload_healthy_since: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Open,
    Recurring,
    Resolved,
    Regressed,
}

/// Why nobody needs to be told of an incident by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quiet {
    Baseline,
    Child,
    Storm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Watched {
    Unheard,
    Unhealthy,
    HealthySince(Timestamp),
}

impl Incident {
    pub(super) fn open(id: IncidentId, occurrence: Occurrence, now: Timestamp) -> Self {
        let mut incident = Self {
            id,
            state: State::Open,
            severity: occurrence.severity(),
            count: 1,
            streak: 1,
            first_at: occurrence.at,
            last_at: occurrence.at,
            opened_at: now,
            updated_at: now,
            resolved_at: None,
            regressions: 0,
            baseline: occurrence.existing,
            parent: None,
            in_storm: false,
            watched: Vec::new(),
            gone_at: None,
            workload_healthy_since: None,
            latest: occurrence.clone(),
        };
        incident.watch(&occurrence);
        incident
    }

    pub fn cause(&self) -> &Cause {
        &self.latest.cause
    }

    pub fn subject(&self) -> &Subject {
        &self.latest.subject
    }

    pub fn is_open(&self) -> bool {
        self.state != State::Resolved
    }

    /// Why it is not told by itself; `None` when it is.
    pub fn quiet(&self) -> Option<Quiet> {
        if self.baseline {
            Some(Quiet::Baseline)
        } else if self.parent.is_some() {
            Some(Quiet::Child)
        } else {
            self.in_storm.then_some(Quiet::Storm)
        }
    }

    /// Adds an occurrence; the severity it has come to, if that is a step.
    pub(super) fn add(&mut self, occurrence: Occurrence, now: Timestamp) -> Option<Severity> {
        if self.is_open() {
            self.state = State::Recurring;
            self.streak += 1;
        } else {
            self.state = State::Regressed;
            self.regressions += 1;
            self.streak = 1;
            self.opened_at = now;
            self.resolved_at = None;
            self.in_storm = false;
            self.severity = occurrence.severity();
        }
        self.count += 1;
        self.first_at = self.first_at.min(occurrence.at);
        self.last_at = self.last_at.max(occurrence.at);
        self.updated_at = now;
        self.baseline &= occurrence.existing;
        self.workload_healthy_since = None;
        self.severity = self.severity.max(occurrence.severity());
        self.watch(&occurrence);
        if occurrence.at >= self.latest.at {
            self.latest = occurrence;
        }
        let (_, floor) = TIERS.iter().find(|(count, _)| *count == self.streak)?;
        self.severity = self.severity.max((*floor).min(self.latest.cause.ceiling()));
        Some(self.severity)
    }

    /// Takes one occurrence back; whether any is left.
    pub(super) fn take_back(&mut self, now: Timestamp) -> bool {
        self.count = self.count.saturating_sub(1);
        self.streak = self.streak.saturating_sub(1);
        self.updated_at = now;
        self.count > 0
    }

    /// Refreshes what is known of the latest occurrence, which was seen again.
    pub(super) fn refresh(&mut self, again: &Occurrence) {
        if self.latest.key != again.key {
            return;
        }
        if self.latest.signatures.is_empty() && !again.signatures.is_empty() {
            self.latest.signatures.clone_from(&again.signatures);
            self.severity = self.severity.max(self.latest.severity());
        }
        if let (Some(run), Some(again)) = (&mut self.latest.run, &again.run) {
            run.back_off_secs = again.back_off_secs;
        }
        if let Cause::ImagePull { failure, .. } = &mut self.latest.cause
            && *failure == crate::message::PullFailure::Unknown
            && let Cause::ImagePull { failure: known, .. } = &again.cause
        {
            *failure = *known;
            self.latest.message.clone_from(&again.message);
        }
    }

    fn watch(&mut self, occurrence: &Occurrence) {
        let Some(scope) = occurrence.subject.scope() else {
            return;
        };
        self.watched.retain(|(watched, _)| *watched != scope);
        if self.watched.len() >= MAX_WATCHED {
            self.watched.remove(0);
        }
        self.watched.push((scope, Watched::Unheard));
    }

    /// Whether it is about this thing, or its workload is this.
    pub(super) fn is_about(&self, scope: &Scope) -> bool {
        self.watched.iter().any(|(watched, _)| watched == scope)
            || self.subject().workload_scope().as_ref() == Some(scope)
    }

    /// Takes in how one of the things it is about does.
    pub(super) fn hear(&mut self, scope: &Scope, health: Health, now: Timestamp) {
        if Some(scope) == self.subject().workload_scope().as_ref() {
            self.workload_healthy_since = match health {
                Health::Healthy => self.workload_healthy_since.or(Some(now)),
                Health::Unhealthy => None,
                // Nothing of the workload comes back: over as soon as it can be.
                Health::Gone => Some(Timestamp::MIN),
            };
        }
        let Some(idx) = self.watched.iter().position(|(it, _)| it == scope) else {
            return;
        };
        match health {
            Health::Gone => {
                self.watched.remove(idx);
                self.gone_at = Some(now);
            }
            Health::Unhealthy => self.watched[idx].1 = Watched::Unhealthy,
            Health::Healthy => {
                let watched = &mut self.watched[idx].1;
                if !matches!(watched, Watched::HealthySince(_)) {
                    *watched = Watched::HealthySince(now);
                }
            }
        }
    }

    /// When it will be over if nothing else is heard; `None` while something is known to be wrong.
    pub(super) fn resolves_at(&self) -> Option<Timestamp> {
        let by_workload = self
            .workload_healthy_since
            .map(|since| since.saturating_add(RESOLVE_AFTER));
        by_workload.into_iter().chain(self.parts_resolve_at()).min()
    }

    fn parts_resolve_at(&self) -> Option<Timestamp> {
        if self.watched.is_empty() {
            let Some(gone) = self.gone_at else {
                return Some(self.updated_at.saturating_add(STALE_AFTER));
            };
            // A pod without workload does not come back; that of a workload is replaced, perhaps by one as bad.
            let wait = match self.subject().workload {
                Some(_) => RESOLVE_AFTER,
                None => Duration::ZERO,
            };
            return Some(gone.saturating_add(wait));
        }
        let mut over_at = self
            .gone_at
            .map_or(Timestamp::MIN, |gone| gone.saturating_add(RESOLVE_AFTER));
        for (_, watched) in &self.watched {
            over_at = over_at.max(match watched {
                Watched::HealthySince(since) => since.saturating_add(RESOLVE_AFTER),
                Watched::Unheard => self.updated_at.saturating_add(STALE_AFTER),
                Watched::Unhealthy => return None,
            });
        }
        Some(over_at)
    }

    pub(super) fn resolve(&mut self, now: Timestamp) {
        self.state = State::Resolved;
        self.resolved_at = Some(now);
        self.updated_at = now;
        self.watched.clear();
    }
}
