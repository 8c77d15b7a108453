//! One group of one rule: its count and what has been told of it. Nothing here depends on how often it is asked.
//!
//! | state | threshold reached | not reached |
//! |---|---|---|
//! | quiet | pending, or firing where the rule holds for no time | quiet |
//! | pending | firing after `for` | quiet |
//! | firing | firing, told again at ten times the lines | quiet after `resolve_after` |

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tawny_model::Timestamp;

use super::{
    episode::{Alert, AlertChange, AlertChangeKind, AlertLine, Ended, Facts, MAX_LINES},
    rules::Rule,
    threshold::Threshold,
    window::{Frame, Tally},
};

/// The values of a group, in the order of its rule's fields.
pub(super) type Values = Arc<[Arc<str>]>;

/// An alert that fires is told again when it has so many times the lines.
const WORSE: u64 = 10;

/// Lines that make a share come together: it is judged when they had this time, or the first of them alone would be all
/// there is.
const SHARE_IS_JUDGED_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Phase {
    Quiet,
    Pending {
        since: Timestamp,
    },
    Firing {
        /// Since when the threshold is not reached.
        calm_since: Option<Timestamp>,
        /// As it was last told.
        alert: Box<Alert>,
        /// The worst count since it fired.
        worst: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Group {
    tally: Tally,
    phase: Phase,
    /// When the last line was counted; when it was made, if none was.
    last_seen: Timestamp,
    /// Since when no line can have been missed: too few can be told a window later.
    watched_since: Timestamp,
    /// Oldest first.
    lines: Vec<AlertLine>,
    /// When it was last looked at; it never goes back.
    looked_at: Timestamp,
    /// When to judge a share of which lines have come.
    judge_at: Option<Timestamp>,
}

impl Group {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            tally: Tally::default(),
            phase: Phase::Quiet,
            last_seen: now,
            watched_since: now,
            lines: Vec::new(),
            looked_at: now,
            judge_at: None,
        }
    }

    /// Counts a line at `now`, up to which it was advanced; false when the line is too late to count.
    pub(super) fn add(
        &mut self,
        context: &Context<'_>,
        at: Timestamp,
        is_hit: bool,
        line: impl FnOnce() -> AlertLine,
        now: Timestamp,
        changes: &mut Vec<AlertChange>,
    ) -> bool {
        if !self.tally.add(context.frame, at, now, is_hit) {
            return false;
        }
        self.last_seen = now;
        if is_hit {
            let idx = self.lines.partition_point(|known| known.at <= at);
            if idx > 0 || self.lines.len() < MAX_LINES {
                self.lines.insert(idx, line());
                if self.lines.len() > MAX_LINES {
                    self.lines.remove(0);
                }
            }
        }
        if matches!(context.rule.threshold, Threshold::Share(_)) {
            self.judge_at
                .get_or_insert_with(|| now.saturating_add(SHARE_IS_JUDGED_AFTER));
        } else {
            self.look(context, now, changes);
        }
        true
    }

    /// Lives through the time up to `now`, each thing at its own time.
    pub(super) fn advance(
        &mut self,
        context: &Context<'_>,
        now: Timestamp,
        changes: &mut Vec<AlertChange>,
    ) {
        while let Some(due) = self.due(context).filter(|due| *due <= now) {
            self.look(context, due, changes);
        }
    }

    /// When something may happen to it if no line comes.
    pub(super) fn due(&self, context: &Context<'_>) -> Option<Timestamp> {
        let rule = context.rule;
        // What cannot reach its threshold without a line is looked at once more, to be forgotten.
        let counts = match (rule.threshold, &self.phase) {
            (Threshold::AtLeast(_), Phase::Quiet) => self.tally.empties_at(context.frame),
            _ => self.tally.changes_at(context.frame),
        };
        let phase = match &self.phase {
            Phase::Quiet
            | Phase::Firing {
                calm_since: None, ..
            } => None,
            Phase::Pending { since } => Some(since.saturating_add(rule.hold)),
            Phase::Firing {
                calm_since: Some(since),
                ..
            } => Some(since.saturating_add(rule.resolve_after)),
        };
        let whole = self
            .is_short_of(rule)
            .then(|| context.frame.is_whole_at(self.watched_since));
        let forget = self.forgotten_at(context);
        [counts, phase, whole, forget, self.judge_at]
            .into_iter()
            .flatten()
            .filter(|due| *due > self.looked_at)
            .min()
    }

    /// Whether too few lines, not too many, are what its rule looks for.
    fn is_short_of(&self, rule: &Rule) -> bool {
        matches!(rule.threshold, Threshold::Below(_))
    }

    fn forgotten_at(&self, context: &Context<'_>) -> Option<Timestamp> {
        let is_grouped = !context.values.is_empty();
        (is_grouped && self.is_short_of(context.rule))
            .then(|| self.last_seen.saturating_add(context.rule.forget_after))
    }

    /// Whether nothing is lost by forgetting it.
    pub(super) fn is_over(&self, context: &Context<'_>) -> bool {
        let is_awaited = match context.rule.threshold {
            Threshold::Below(_) => self
                .forgotten_at(context)
                .is_none_or(|at| at > self.looked_at),
            Threshold::AtLeast(_) | Threshold::Share(_) => false,
        };
        !is_awaited && self.tally.is_empty() && matches!(self.phase, Phase::Quiet)
    }

    /// What it does at `at`, given its lines.
    fn look(&mut self, context: &Context<'_>, at: Timestamp, changes: &mut Vec<AlertChange>) {
        let rule = context.rule;
        self.looked_at = self.looked_at.max(at);
        self.judge_at = self.judge_at.filter(|judge_at| *judge_at > at);
        self.tally.advance(context.frame, at);
        if self
            .forgotten_at(context)
            .is_some_and(|forgotten| forgotten <= at)
        {
            changes.extend(self.end(Ended::Forgotten, at));
            self.tally = Tally::default();
            return;
        }
        let (count, of) = self.tally.counts();
        let is_reached = rule.threshold.is_reached(count, of)
            && match rule.threshold {
                Threshold::AtLeast(_) => true,
                Threshold::Share(_) => of >= rule.min_lines,
                // A window that was not watched to its end says nothing of what is missing.
                Threshold::Below(_) => {
                    matches!(self.phase, Phase::Firing { .. })
                        || at >= context.frame.is_whole_at(self.watched_since)
                }
            };
        match (&mut self.phase, is_reached) {
            (Phase::Quiet, true) => {
                self.phase = Phase::Pending { since: at };
                self.fire_if_held(context, at, changes);
            }
            (Phase::Quiet, false) => {}
            (Phase::Pending { .. }, true) => self.fire_if_held(context, at, changes),
            (phase @ Phase::Pending { .. }, false) => *phase = Phase::Quiet,
            (
                Phase::Firing {
                    calm_since,
                    alert,
                    worst,
                },
                true,
            ) => {
                *calm_since = None;
                *worst = match rule.threshold {
                    Threshold::Below(_) => count.min(*worst),
                    Threshold::AtLeast(_) | Threshold::Share(_) => count.max(*worst),
                };
                if matches!(rule.threshold, Threshold::AtLeast(_))
                    && count >= alert.count.saturating_mul(WORSE)
                {
                    alert.count = count;
                    alert.lines = self.lines.clone();
                    changes.push(AlertChange {
                        at,
                        kind: AlertChangeKind::Worse,
                        alert: Alert::clone(alert),
                    });
                }
            }
            (Phase::Firing { calm_since, .. }, false) => {
                let since = *calm_since.get_or_insert(at);
                if at >= since.saturating_add(rule.resolve_after) {
                    changes.extend(self.end(Ended::Calm, at));
                }
            }
        }
    }

    fn fire_if_held(
        &mut self,
        context: &Context<'_>,
        at: Timestamp,
        changes: &mut Vec<AlertChange>,
    ) {
        let Phase::Pending { since } = self.phase else {
            return;
        };
        if at < since.saturating_add(context.rule.hold) {
            return;
        }
        let (count, of) = self.tally.counts();
        let facts = Facts {
            values: context.values,
            lines: &self.lines,
            count,
            of,
            since,
        };
        let alert = Alert::fire(context.rule, &facts, at);
        changes.push(AlertChange {
            at,
            kind: AlertChangeKind::Fired,
            alert: alert.clone(),
        });
        self.phase = Phase::Firing {
            calm_since: None,
            alert: Box::new(alert),
            worst: count,
        };
    }

    /// Ends its alert, if it has one.
    pub(super) fn end(&mut self, ended: Ended, at: Timestamp) -> Option<AlertChange> {
        let Phase::Firing { alert, worst, .. } = std::mem::replace(&mut self.phase, Phase::Quiet)
        else {
            return None;
        };
        let mut alert = *alert;
        alert.count = worst;
        alert.lines = std::mem::take(&mut self.lines);
        Some(AlertChange {
            at,
            kind: AlertChangeKind::Resolved(ended),
            alert,
        })
    }

    pub(super) fn alert(&self) -> Option<&Alert> {
        match &self.phase {
            Phase::Firing { alert, .. } => Some(alert),
            Phase::Quiet | Phase::Pending { .. } => None,
        }
    }

    pub(super) fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    /// Goes on after a pause in which lines may have been missed, at a time that may be before what it knows of.
    ///
    /// What was missed may come late: nothing is found missing until a window has passed, and nothing is over until it
    /// was calm from now on.
    pub(super) fn go_on(
        &mut self,
        context: &Context<'_>,
        saved_at: Timestamp,
        now: Timestamp,
        changes: &mut Vec<AlertChange>,
    ) {
        self.lines.sort_by_key(|line| line.at);
        let surplus = self.lines.len().saturating_sub(MAX_LINES);
        self.lines.drain(..surplus);
        self.tally.mend(context.frame, now);
        self.last_seen = self.last_seen.min(now);
        if context.frame.step_of(saved_at) == context.frame.step_of(now) {
            self.looked_at = self.looked_at.min(now);
            return;
        }
        self.looked_at = now;
        self.watched_since = now;
        match &mut self.phase {
            Phase::Quiet => {}
            Phase::Pending { since } => *since = (*since).min(now),
            Phase::Firing { calm_since, .. } => *calm_since = None,
        }
        self.look(context, now, changes);
    }
}

/// What a group is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'r> {
    pub rule: &'r Rule,
    pub frame: Frame,
    pub values: &'r [Arc<str>],
}
