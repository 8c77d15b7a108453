//! A Kubernetes Event, whichever of the two APIs and event styles wrote it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Severity, Timestamp};

/// An Event with one time and one count, by the rules of [`EventTimes`] and [`EventCounts`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KubeEvent {
    pub uid: Arc<str>,
    /// What the event is about (`involvedObject`, `regarding`).
    pub object: ObjectRef,
    pub reason: Arc<str>,
    pub message: Arc<str>,
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// How often it happened, at least 1.
    pub count: u32,
    /// When it last happened.
    pub at: Timestamp,
    /// `kubelet`, `default-scheduler`, …
    pub component: Arc<str>,
    /// The node it was written on, where the writer is a node's.
    pub host: Arc<str>,
}

/// The object an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectRef {
    pub kind: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    /// The container a pod's event is about, from `fieldPath`; empty when it is about the pod.
    pub container: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum EventKind {
    #[default]
    Normal,
    Warning,
}

/// The times an event may carry. `lastTimestamp` is null in events of the new style, `eventTime` in those of the old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventTimes {
    pub series_last_observed: Option<Timestamp>,
    pub last: Option<Timestamp>,
    pub event: Option<Timestamp>,
    pub first: Option<Timestamp>,
    pub created: Option<Timestamp>,
}

/// The counts an event may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCounts {
    pub series: Option<i32>,
    pub count: Option<i32>,
}

impl EventTimes {
    /// The latest time of the four that tell of the event itself, else when it was written down (section 4.4).
    ///
    /// Zero times (year 1, or the epoch) are what some clients write for none.
    pub fn latest(self) -> Option<Timestamp> {
        [self.series_last_observed, self.last, self.event, self.first]
            .into_iter()
            .flatten()
            .filter(|time| *time > Timestamp::default())
            .max()
            .or(self.created)
    }
}

impl EventCounts {
    /// The larger of both, at least 1 (section 4.4).
    pub fn total(self) -> u32 {
        let count = self.series.max(self.count).unwrap_or(1);
        u32::try_from(count).unwrap_or(1).max(1)
    }
}

impl KubeEvent {
    /// Occurrences since the event was last seen with `previous` as its count; all of them when it is new.
    pub fn repeats_since(&self, previous: Option<u32>) -> u32 {
        self.count.saturating_sub(previous.unwrap_or(0))
    }

    /// The event as the message of a log record: `reason: message (xN)`.
    pub fn record_message(&self) -> String {
        match self.count {
            0 | 1 => format!("{}: {}", self.reason, self.message),
            count => format!("{}: {} (x{count})", self.reason, self.message),
        }
    }

    /// The level of that log record.
    pub fn severity(&self) -> Severity {
        match self.kind {
            EventKind::Normal => Severity::Info,
            EventKind::Warning => Severity::Warn,
        }
    }
}

/// The container a `fieldPath` names: `spec.containers{web}` → `web`, also of init and ephemeral containers.
pub fn container_of_field(path: &str) -> Option<&str> {
    let (list, rest) = path.split_once('{')?;
    let name = rest.strip_suffix('}')?;
    matches!(
        list,
        "spec.containers" | "spec.initContainers" | "spec.ephemeralContainers"
    )
    .then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Option<Timestamp> {
        Some(Timestamp::from_secs(secs))
    }

    #[test]
    fn time_of_an_event_is_its_latest_and_never_year_one() {
        // Section 4.4, row "Time".
        let old_style = EventTimes {
            last: at(50),
            first: at(10),
            created: at(90),
            ..EventTimes::default()
        };
        assert_eq!(old_style.latest(), at(50));
        let new_style = EventTimes {
            event: at(10),
            series_last_observed: at(70),
            last: Some(Timestamp::from_secs(-62_135_596_800 / 10)),
            created: at(10),
            ..EventTimes::default()
        };
        assert_eq!(new_style.latest(), at(70));
        let only_created = EventTimes {
            last: at(0),
            created: at(5),
            ..EventTimes::default()
        };
        assert_eq!(only_created.latest(), at(5));
        assert_eq!(EventTimes::default().latest(), None);
    }

    #[test]
    fn count_of_an_event_is_the_larger_one_and_at_least_one() {
        // Section 4.4, row "Count".
        let total = |series, count| EventCounts { series, count }.total();
        assert_eq!(total(None, None), 1);
        assert_eq!(total(None, Some(0)), 1);
        assert_eq!(total(Some(-3), Some(-1)), 1);
        assert_eq!(total(Some(12), Some(3)), 12);
        assert_eq!(total(Some(2), Some(7)), 7);
    }

    #[test]
    fn a_repeated_event_counts_only_what_is_new() {
        let event = KubeEvent {
            count: 7,
            reason: "BackOff".into(),
            message: "again".into(),
            kind: EventKind::Warning,
            ..KubeEvent::default()
        };
        assert_eq!(event.repeats_since(None), 7);
        assert_eq!(event.repeats_since(Some(4)), 3);
        assert_eq!(event.repeats_since(Some(9)), 0);
        assert_eq!(event.record_message(), "BackOff: again (x7)");
        assert_eq!(event.severity(), Severity::Warn);
    }

    #[test]
    fn field_path_names_the_container() {
        assert_eq!(container_of_field("spec.containers{web}"), Some("web"));
        assert_eq!(container_of_field("spec.initContainers{db}"), Some("db"));
        assert_eq!(container_of_field("spec.ephemeralContainers{d}"), Some("d"));
        for none in ["", "spec.containers", "spec.containers{web", "x{web}"] {
            assert_eq!(container_of_field(none), None, "{none}");
        }
    }

    #[test]
    fn an_event_without_any_field_reads_as_the_default() {
        let event: KubeEvent = serde_json::from_str("{}").unwrap();
        assert_eq!(event, KubeEvent::default());
    }
}
