//! What one receiver of messages was told of each incident or alert, and what it is to be told next.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tawny_incident::Severity;
use tokio::time::Instant;

use super::{MAX_TOPICS, Manner, digest::Gathering};
use crate::{Kind, Outgoing, settings::Storm};

#[derive(Debug)]
pub(super) struct Conversation {
    topics: BTreeMap<String, Topic>,
    /// Told as soon as asked: digests of others, and what had to make room.
    early: Vec<(Instant, Arc<Outgoing>)>,
    /// `None` where single messages never give way to a digest.
    storm: Option<Storm>,
    /// When the last messages were told, at most as many as a storm has.
    told_at: VecDeque<Instant>,
    gathering: Option<Gathering>,
}

/// One incident or alert, as the receiver knows it.
#[derive(Debug)]
struct Topic {
    manner: Manner,
    latest: Arc<Outgoing>,
    told: Option<Told>,
    pending: Option<Pending>,
    touched_at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    severity: Severity,
    count: u64,
}

/// So many times the occurrences that were told are worth telling again.
const MUCH_WORSE: u64 = 10;

#[derive(Debug, Clone, Copy)]
struct Pending {
    due: Instant,
    kind: Kind,
}

impl Topic {
    /// What the notice makes of what is pending; `None` when there is nothing to tell.
    ///
    /// | notice | not told yet | told |
    /// |---|---|---|
    /// | opened | opened | escalated, when the severity is higher than told, or it says so of ten times the occurrences |
    /// | recurred, escalated | opened when that waits, else as it says | the same |
    /// | regressed | regressed | regressed |
    /// | resolved | resolved | resolved |
    fn news(&self, notice: &Outgoing) -> Option<Kind> {
        let before = self.pending.map(|pending| pending.kind);
        match (notice.kind, self.told) {
            // Whoever wants no ends still wants to know that it happened.
            (Kind::Resolved, None) if !self.manner.tells_resolved => before.or(Some(Kind::Opened)),
            (Kind::Resolved, Some(_)) if !self.manner.tells_resolved => None,
            (Kind::Resolved, _) => Some(Kind::Resolved),
            (Kind::Regressed, _) => Some(Kind::Regressed),
            (kind, None) => Some(match before {
                Some(Kind::Opened) => Kind::Opened,
                // It ended and came back before anybody was told, or was there before we were.
                Some(Kind::Resolved) | None => kind,
                Some(waiting) => waiting.max(kind),
            }),
            (_, Some(_)) if before == Some(Kind::Regressed) => before,
            (kind, Some(told)) => {
                let is_much_worse = kind == Kind::Escalated
                    && notice.count >= told.count.saturating_mul(MUCH_WORSE);
                (notice.severity > told.severity || is_much_worse).then_some(Kind::Escalated)
            }
        }
    }

    fn is_over(&self) -> bool {
        self.latest.kind == Kind::Resolved
    }

    /// When there is something to tell, and what.
    fn due(&self) -> Option<Pending> {
        self.pending.or_else(|| {
            let told = self.told?;
            Some(Pending {
                due: told.at + self.manner.repeat_interval,
                kind: Kind::Recurred,
            })
        })
    }
}

impl Conversation {
    pub(super) fn new(storm: Option<Storm>) -> Self {
        Self {
            topics: BTreeMap::new(),
            early: Vec::new(),
            storm,
            told_at: VecDeque::new(),
            gathering: None,
        }
    }

    #[cfg(test)]
    pub(super) fn n_topics(&self) -> usize {
        self.topics.len()
    }

    /// Whether the notice concerns the receiver: a route leads here, or it was told of the same before.
    pub(super) fn take(
        &mut self,
        notice: &Arc<Outgoing>,
        manner: Option<Manner>,
        now: Instant,
    ) -> bool {
        if notice.kind == Kind::Digest {
            if manner.is_some() {
                self.early.push((now, Arc::clone(notice)));
            }
            return manner.is_some();
        }
        if !self.topics.contains_key(&notice.key) {
            let Some(manner) = manner else {
                return false;
            };
            self.make_room(now);
            let topic = Topic {
                manner,
                latest: Arc::clone(notice),
                told: None,
                pending: None,
                touched_at: now,
            };
            self.topics.insert(notice.key.clone(), topic);
        } else if manner.is_none() && notice.kind != Kind::Resolved {
            return false;
        }
        let Some(topic) = self.topics.get_mut(&notice.key) else {
            return false;
        };
        topic.manner = manner.unwrap_or(topic.manner);
        topic.touched_at = now;
        let news = topic.news(notice);
        let due = topic
            .pending
            .map_or(now + topic.manner.group_wait, |pending| pending.due);
        topic.latest = Arc::clone(notice);
        topic.pending = news.map(|kind| Pending { due, kind });
        if news.is_none() && topic.is_over() {
            self.topics.remove(&notice.key);
        }
        true
    }

    /// Messages to send now, the longest due first; with `is_last` also those that wait for company.
    pub(super) fn due(&mut self, now: Instant, is_last: bool) -> Vec<Arc<Outgoing>> {
        let mut due: Vec<(Instant, String, Kind)> = (self.topics.iter())
            .filter_map(|(key, topic)| {
                let pending = topic.due()?;
                let is_due = pending.due <= now || (is_last && topic.pending.is_some());
                is_due.then(|| (pending.due, key.clone(), pending.kind))
            })
            .collect();
        due.sort();
        let mut messages: Vec<Arc<Outgoing>> = Vec::new();
        for (_, early) in std::mem::take(&mut self.early) {
            self.tell(early, now, &mut messages);
        }
        for (_, key, kind) in due {
            if let Some(message) = self.close(&key, kind, now) {
                self.tell(message, now, &mut messages);
            }
        }
        let is_digest_due = (self.gathering.as_ref())
            .is_some_and(|gathering| is_last || gathering.ends_at() <= now);
        if is_digest_due && let Some(gathering) = self.gathering.take() {
            messages.push(Arc::new(gathering.into_notice()));
        }
        messages
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        (self.topics.values())
            .filter_map(|topic| topic.due().map(|pending| pending.due))
            .chain(self.early.iter().map(|(at, _)| *at))
            .chain(self.gathering.as_ref().map(Gathering::ends_at))
            .min()
    }

    /// Takes a topic as told; what is over is forgotten.
    fn close(&mut self, key: &str, kind: Kind, now: Instant) -> Option<Arc<Outgoing>> {
        let topic = self.topics.get_mut(key)?;
        let message = if topic.latest.kind == kind {
            Arc::clone(&topic.latest)
        } else {
            Arc::new(topic.latest.told_as(kind))
        };
        topic.pending = None;
        topic.told = Some(Told {
            at: now,
            severity: message.severity,
            count: message.count,
        });
        if topic.is_over() {
            self.topics.remove(key);
        }
        Some(message)
    }

    fn tell(&mut self, message: Arc<Outgoing>, now: Instant, messages: &mut Vec<Arc<Outgoing>>) {
        if message.kind == Kind::Digest {
            messages.push(message);
            return;
        }
        if let Some(storm) = self.storm {
            while (self.told_at.front()).is_some_and(|&at| now.duration_since(at) >= storm.within) {
                self.told_at.pop_front();
            }
            if self.gathering.is_some() || self.told_at.len() >= storm.more_than {
                (self.gathering)
                    .get_or_insert_with(|| Gathering::new(now, storm.within))
                    .add(&message);
                return;
            }
            self.told_at.push_back(now);
        }
        messages.push(message);
    }

    /// Forgets what was told and has not moved for longest; if all wait to be told, tells those longest due. Does so for
    /// an eighth of the topics at once, so that a burst does not look through all of them for each.
    fn make_room(&mut self, now: Instant) {
        if self.topics.len() < MAX_TOPICS {
            return;
        }
        let mut by_worth: Vec<(Option<Pending>, Instant, String)> = (self.topics.iter())
            .map(|(key, topic)| (topic.pending, topic.touched_at, key.clone()))
            .collect();
        by_worth.sort_by_key(|(pending, touched_at, _)| {
            (pending.map(|pending| pending.due), *touched_at)
        });
        for (pending, _, key) in by_worth.into_iter().take(MAX_TOPICS / 8) {
            if let Some(pending) = pending
                && let Some(message) = self.close(&key, pending.kind, now)
            {
                self.early.push((now, message));
            }
            self.topics.remove(&key);
        }
    }
}
