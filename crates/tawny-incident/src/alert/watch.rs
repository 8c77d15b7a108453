//! Rules over a flow of lines: every line is shown once, when it is admitted, and nothing is ever asked of a store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tawny_model::{Batch, LogEntry, Stream, StreamKey, Timestamp};
use tawny_query::Record;

use super::{
    episode::{
        Alert, AlertChange, AlertLine, Ended, MAX_LINE_CHARS, MAX_LINES, MAX_VALUE_BYTES, value,
    },
    group::{Context, Group, Values},
    rules::{Rule, Rules},
    sieve::{Plan, Set, Sieve},
    state::{RuleState, State},
    threshold::Threshold,
    window::{Frame, MAX_TALLY_BYTES},
};

/// Streams whose plan is kept; a node has some hundreds, a cluster's server asks again now and then.
const MAX_PLANS: usize = 8_192;

/// Bytes one quiet group takes at most: its counts, its last lines in characters of four bytes, and its values. Usually it
/// is a tenth: one or two buckets, lines of a hundred bytes, names of twenty. An alert that fires holds its lines twice.
pub const GROUP_BYTES: usize = size_of::<Slot>()
    + MAX_TALLY_BYTES
    + MAX_LINES * (size_of::<AlertLine>() + 4 * MAX_LINE_CHARS)
    + 8 * (size_of::<Arc<str>>() + MAX_VALUE_BYTES);

/// What a watch has done, for metrics. All only grow but the two that say so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Lines shown.
    pub lines: u64,
    /// Times a rule's whole query was asked of a line, because nothing cheaper ruled it out.
    pub asked: u64,
    /// Times a line counted for a rule.
    pub counted: u64,
    /// Times a line matched but was older than the rule's window.
    pub late: u64,
    /// Groups forgotten because their rule had too many.
    pub crowded_out: u64,
    /// Groups held now.
    pub groups: usize,
    /// Alerts that fire now.
    pub firing: usize,
}

#[derive(Debug)]
struct Slot {
    group: Group,
    /// The time it stands under in [`Watch::due`].
    scheduled: Option<Timestamp>,
}

/// Evaluates rules live.
///
/// Owned by one task: show it every admitted line with [`Watch::admit`], and call [`Watch::tick`] at
/// [`Watch::next_tick`]. What happens, and when, does not depend on how late or often `tick` is called, only the moment
/// it is told. Among lines shown at one time, their order decides neither what fires nor what is over.
#[derive(Debug)]
pub struct Watch {
    rules: Vec<(Arc<Rule>, Frame)>,
    sieve: Sieve,
    /// By the index of their rule.
    groups: Vec<BTreeMap<Values, Slot>>,
    /// When to look at which group of which rule.
    due: BTreeSet<(Timestamp, usize, Values)>,
    plans: HashMap<StreamKey, (Arc<Stream>, Plan)>,
    tallies: Tallies,
    /// The latest time it was told of; time does not go back here.
    now: Timestamp,
    /// Reused from line to line.
    found: Set,
    values: Vec<Arc<str>>,
}

impl Watch {
    /// Begins to watch; rules that are not enabled are left out.
    pub fn new(rules: &Rules, now: Timestamp) -> Self {
        let mut watch = Self::without_groups(rules, now);
        watch.await_lines();
        watch
    }

    fn without_groups(rules: &Rules, now: Timestamp) -> Self {
        let rules: Vec<(Arc<Rule>, Frame)> = rules
            .iter()
            .filter(|rule| rule.enabled)
            .map(|rule| (Arc::clone(rule), Frame::new(rule.window, rule.threshold)))
            .collect();
        let sieve = Sieve::new(rules.iter().map(|(rule, _)| &**rule));
        Self {
            found: sieve.set(),
            sieve,
            groups: rules.iter().map(|_| BTreeMap::new()).collect(),
            rules,
            due: BTreeSet::new(),
            plans: HashMap::new(),
            tallies: Tallies::default(),
            now,
            values: Vec::new(),
        }
    }

    /// Goes on where a watch was saved, with the same rules or others; what is over because its rule is gone or counts
    /// something else now is told.
    ///
    /// Lines of the time between are expected to come late: too few lines are told a whole window later at the
    /// earliest, and an alert is over when it was calm from now on.
    pub fn restore(rules: &Rules, state: State, now: Timestamp) -> (Self, Vec<AlertChange>) {
        let mut watch = Self::without_groups(rules, now);
        let mut changes = Vec::new();
        for saved in state.rules {
            let known = watch
                .rules
                .iter()
                .position(|(rule, _)| *rule.name == *saved.name && rule.meaning() == saved.meaning);
            for (values, mut group) in saved.groups {
                let idx = known.filter(|idx| {
                    watch.rule(*idx).0.group_by.len() == values.len()
                        && watch.groups[*idx].len() < watch.rule(*idx).0.max_groups
                        && !watch.groups[*idx].contains_key(&values)
                });
                let Some(idx) = idx else {
                    changes.extend(group.end(Ended::RuleChanged, now));
                    continue;
                };
                let context = watch.context(idx, &values);
                group.go_on(&context, state.saved_at, now, &mut changes);
                let slot = Slot {
                    group,
                    scheduled: None,
                };
                watch.put(idx, values, slot);
            }
        }
        watch.await_lines();
        (watch, changes)
    }

    /// What it knows, for [`Watch::restore`].
    pub fn state(&self) -> State {
        let rules = self.rules.iter().zip(&self.groups);
        State {
            saved_at: self.now,
            rules: rules
                .map(|((rule, _), groups)| RuleState {
                    name: rule.name.to_string(),
                    meaning: rule.meaning(),
                    groups: groups
                        .iter()
                        .map(|(values, slot)| (Arc::clone(values), slot.group.clone()))
                        .collect(),
                })
                .collect(),
        }
    }

    /// Shows it lines of one stream, in any order; `now` is when they are admitted, and each must be shown once.
    pub fn admit<R: Record>(
        &mut self,
        stream: &Arc<Stream>,
        records: impl IntoIterator<Item = R>,
        now: Timestamp,
    ) -> Vec<AlertChange> {
        self.now = self.now.max(now);
        let mut changes = Vec::new();
        if self.rules.is_empty() {
            return changes;
        }
        let key = stream.id.key();
        let known = self
            .plans
            .remove(&key)
            .filter(|(known, _)| Arc::ptr_eq(known, stream) || known == stream);
        let (known, plan) = known.unwrap_or_else(|| (Arc::clone(stream), self.sieve.plan(stream)));
        if self.sieve.rules_out(&plan) {
            let lines = records.into_iter().count();
            self.tallies.lines += u64::try_from(lines).unwrap_or(u64::MAX);
        } else {
            for record in records {
                self.show(&plan, &record, &mut changes);
            }
        }
        if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
        }
        self.plans.insert(key, (known, plan));
        changes
    }

    /// [`Watch::admit`] of a batch.
    pub fn admit_batch(&mut self, batch: &Batch, now: Timestamp) -> Vec<AlertChange> {
        let stream = &*batch.stream;
        let records = batch.entries.iter().map(|entry| (entry, stream));
        self.admit(&batch.stream, records, now)
    }

    /// [`Watch::admit`] of one line.
    pub fn admit_entry(&mut self, entry: &LogEntry, now: Timestamp) -> Vec<AlertChange> {
        self.admit(&entry.stream, [Borrowed(entry)], now)
    }

    /// Lets time pass: what was held long enough fires, what was calm long enough is over. In order of time.
    pub fn tick(&mut self, now: Timestamp) -> Vec<AlertChange> {
        self.now = self.now.max(now);
        let mut changes = Vec::new();
        while let Some((_, idx, values)) =
            self.due.first().filter(|(at, ..)| *at <= self.now).cloned()
        {
            let Some(mut slot) = self.groups[idx].remove(&values) else {
                self.due.pop_first();
                continue;
            };
            let context = self.context(idx, &values);
            slot.group.advance(&context, self.now, &mut changes);
            self.put(idx, values, slot);
        }
        changes.sort_by_key(|change| change.at);
        changes
    }

    /// When [`Watch::tick`] next has something to do; `None` while only lines can change anything.
    pub fn next_tick(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// The alerts that fire, by rule and group.
    pub fn firing(&self) -> impl Iterator<Item = &Alert> {
        let slots = self.groups.iter().flat_map(BTreeMap::values);
        slots.filter_map(|slot| slot.group.alert())
    }

    pub fn tallies(&self) -> Tallies {
        Tallies {
            groups: self.groups.iter().map(BTreeMap::len).sum(),
            firing: self.firing().count(),
            ..self.tallies
        }
    }

    /// Most bytes its groups and plans take, by the limits of its rules.
    pub fn max_bytes(&self) -> usize {
        let groups: usize = self.rules.iter().map(|(rule, _)| rule.max_groups).sum();
        groups * GROUP_BYTES + MAX_PLANS * Plan::bytes(self.rules.len())
    }

    fn rule(&self, idx: usize) -> &(Arc<Rule>, Frame) {
        self.rules
            .get(idx)
            .expect("groups and plans name rules that are there")
    }

    fn context<'w>(&'w self, idx: usize, values: &'w [Arc<str>]) -> Context<'w> {
        let (rule, frame) = self.rule(idx);
        Context {
            rule,
            frame: *frame,
            values,
        }
    }

    /// A rule that looks for missing lines and tells no groups apart waits for them from the start.
    fn await_lines(&mut self) {
        for idx in 0..self.rules.len() {
            let (rule, _) = self.rule(idx);
            let is_awaited =
                matches!(rule.threshold, Threshold::Below(_)) && rule.group_by.is_empty();
            if is_awaited && self.groups[idx].is_empty() {
                let slot = Slot {
                    group: Group::new(self.now),
                    scheduled: None,
                };
                self.put(idx, Vec::new().into(), slot);
            }
        }
    }

    fn show(&mut self, plan: &Plan, record: &impl Record, changes: &mut Vec<AlertChange>) {
        self.tallies.lines += 1;
        let (severity, message) = (record.severity(), record.message());
        self.sieve.sift(plan, severity, message, &mut self.found);
        let mut next = self.found.next(0);
        while let Some(idx) = next {
            next = self.found.next(idx + 1);
            self.tallies.asked += 1;
            let (rule, _) = self.rule(idx);
            if rule.looked_at().matches(record) {
                let is_hit = rule.of.is_none() || rule.query.matches(record);
                self.count(idx, record, is_hit, changes);
            }
        }
    }

    fn count(
        &mut self,
        idx: usize,
        record: &impl Record,
        is_hit: bool,
        changes: &mut Vec<AlertChange>,
    ) {
        let (now, at) = (self.now, record.timestamp());
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        values.extend(
            self.rule(idx)
                .0
                .group_by
                .iter()
                .map(|field| value(field, record)),
        );
        let known = self.groups[idx].get_key_value(values.as_slice());
        let known = known.map(|(known, _)| Arc::clone(known));
        let mut is_new = known.is_none();
        let key = known.unwrap_or_else(|| Values::from(values.as_slice()));
        self.values = values;

        let mut slot = self.groups[idx].remove(&key).unwrap_or_else(|| Slot {
            group: Group::new(now),
            scheduled: None,
        });
        let context = self.context(idx, &key);
        slot.group.advance(&context, now, changes);
        if slot.group.is_over(&context) {
            slot.group = Group::new(now);
            is_new = true;
        }
        let line = || AlertLine::new(record);
        let is_counted = slot.group.add(&context, at, is_hit, line, now, changes);
        if is_counted {
            self.tallies.counted += 1;
        } else {
            self.tallies.late += 1;
        }
        if is_new {
            if let Some(at) = slot.scheduled.take() {
                self.due.remove(&(at, idx, Arc::clone(&key)));
            }
            // A line that does not count makes no group to wait for.
            if !is_counted {
                return;
            }
            self.make_room(idx, changes);
        }
        self.put(idx, key, slot);
    }

    /// Puts a group back under the time it is next looked at, or forgets it when there is nothing to keep.
    fn put(&mut self, idx: usize, values: Values, mut slot: Slot) {
        let context = self.context(idx, &values);
        let due = slot.group.due(&context);
        let is_over = slot.group.is_over(&context);
        if slot.scheduled != due || is_over {
            if let Some(at) = slot.scheduled.take() {
                self.due.remove(&(at, idx, Arc::clone(&values)));
            }
            if is_over {
                return;
            }
            if let Some(at) = due {
                self.due.insert((at, idx, Arc::clone(&values)));
            }
            slot.scheduled = due;
        }
        self.groups[idx].insert(values, slot);
    }

    /// Where a rule has all the groups it may have, forgets the eighth that was silent longest: those without an alert
    /// first.
    fn make_room(&mut self, idx: usize, changes: &mut Vec<AlertChange>) {
        let most = self.rule(idx).0.max_groups;
        if self.groups[idx].len() < most {
            return;
        }
        let mut by_silence: Vec<(bool, Timestamp, Values)> = self.groups[idx]
            .iter()
            .map(|(values, slot)| {
                let fires = slot.group.alert().is_some();
                (fires, slot.group.last_seen(), Arc::clone(values))
            })
            .collect();
        by_silence.sort_unstable();
        // An eighth at once, so that ever new groups do not sort all the others for each of them; alerts go one by one.
        let n_quiet = by_silence.partition_point(|(fires, ..)| !fires);
        let n_gone = (most / 8).max(1).min(n_quiet.max(1));
        for (.., values) in by_silence.into_iter().take(n_gone) {
            if let Some(mut slot) = self.groups[idx].remove(&values) {
                changes.extend(slot.group.end(Ended::Crowded, self.now));
                if let Some(at) = slot.scheduled {
                    self.due.remove(&(at, idx, values));
                }
                self.tallies.crowded_out += 1;
            }
        }
    }
}

/// A line that somebody else owns.
struct Borrowed<'e>(&'e LogEntry);

impl Record for Borrowed<'_> {
    fn message(&self) -> &str {
        &self.0.message
    }

    fn timestamp(&self) -> Timestamp {
        self.0.timestamp
    }

    fn severity(&self) -> tawny_model::Severity {
        self.0.severity
    }

    fn output(&self) -> tawny_model::Output {
        self.0.output
    }

    fn stream(&self) -> &Stream {
        &self.0.stream
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        self.0.attribute(key)
    }
}

#[cfg(test)]
mod tests;
