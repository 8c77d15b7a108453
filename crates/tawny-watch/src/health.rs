//! How the watches do: what doctor, probes and people ask when nothing seems to happen (BB-18).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tawny_model::Timestamp;

/// Health of the watches of this process. Cheap to clone; clones share the content.
#[derive(Debug, Clone, Default)]
pub struct WatchHealth(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// With when it was last told.
    watches: BTreeMap<String, (WatchState, Timestamp)>,
    last_event: Option<Timestamp>,
    is_standby: bool,
}

/// Where one watch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum WatchState {
    /// The first list has not come yet.
    Starting,
    Watching,
    /// The credentials do not allow it.
    Denied {
        reason: String,
    },
    /// The cluster has no such kind of object.
    Unsupported,
    Failing {
        reason: String,
    },
}

/// One of the health indicators, with a word on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Indicator {
    /// `api_connectivity`, `event_freshness`, `watch_state` or `permission_state`.
    pub name: &'static str,
    pub is_healthy: bool,
    pub detail: String,
}

/// A failure this old is over: a watch that fails tries again after 30 s at most (`tawny_kube::patient`).
pub(crate) const FAILING_FOR: Duration = Duration::from_secs(90);

/// Something is heard at least this often: every node reports each five minutes.
const FRESH_FOR: Duration = Duration::from_secs(10 * 60);

impl WatchHealth {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, watch: &str, state: WatchState, now: Timestamp) {
        self.lock().watches.insert(watch.to_owned(), (state, now));
    }

    pub(crate) fn heard(&self, now: Timestamp) {
        self.lock().last_event = Some(now);
    }

    /// No watch runs in this process: what it knows is what an earlier one left.
    pub fn stand_by(&self) {
        self.set_standby(true);
    }

    /// Whether another process watches for this cluster now.
    pub(crate) fn set_standby(&self, is_standby: bool) {
        self.lock().is_standby = is_standby;
    }

    /// Every watch with its state, by the plural of what it watches.
    pub fn watches(&self, now: Timestamp) -> BTreeMap<String, WatchState> {
        let seen = self.lock();
        let watches = seen.watches.iter().map(|(name, (state, at))| {
            let is_over = now.saturating_since(*at) > FAILING_FOR;
            let state = match state {
                // One that goes on failing says so more often; one that does not may have nothing to tell for hours.
                WatchState::Failing { .. } if is_over => WatchState::Watching,
                state => state.clone(),
            };
            (name.clone(), state)
        });
        watches.collect()
    }

    /// The four indicators.
    pub fn indicators(&self, now: Timestamp) -> [Indicator; 4] {
        let watches = self.watches(now);
        let seen = self.lock();
        if seen.is_standby {
            return [
                "api_connectivity",
                "event_freshness",
                "watch_state",
                "permission_state",
            ]
            .map(|name| Indicator {
                name,
                is_healthy: true,
                detail: "this process does not watch now".to_owned(),
            });
        }
        let of = |wanted: fn(&WatchState) -> bool| -> Vec<&str> {
            let some = watches.iter().filter(|(_, state)| wanted(state));
            some.map(|(name, _)| name.as_str()).collect()
        };
        let is_works = |state: &WatchState| {
            matches!(
                state,
                WatchState::Watching | WatchState::Denied { .. } | WatchState::Unsupported
            )
        };
        let failing = of(|state| matches!(state, WatchState::Failing { .. }));
        let starting = of(|state| matches!(state, WatchState::Starting));
        let denied = of(|state| matches!(state, WatchState::Denied { .. }));
        let reached = of(is_works);
        [
            Indicator {
                name: "api_connectivity",
                is_healthy: !reached.is_empty(),
                detail: match (reached.is_empty(), failing.first()) {
                    (false, _) => "the API server answers".to_owned(),
                    (true, Some(watch)) => match watches.get(*watch) {
                        Some(WatchState::Failing { reason }) => reason.clone(),
                        _ => "the API server does not answer".to_owned(),
                    },
                    (true, None) => "no answer yet".to_owned(),
                },
            },
            Indicator {
                name: "event_freshness",
                is_healthy: (seen.last_event)
                    .is_some_and(|at| now.saturating_since(at) <= FRESH_FOR),
                detail: match seen.last_event {
                    Some(at) => format!("last heard {} s ago", now.saturating_since(at).as_secs()),
                    None => "nothing heard yet".to_owned(),
                },
            },
            Indicator {
                name: "watch_state",
                is_healthy: failing.is_empty() && starting.is_empty() && !watches.is_empty(),
                detail: match (failing.as_slice(), starting.as_slice()) {
                    ([], []) => format!("{} watches", watches.len()),
                    ([], starting) => format!("starting: {}", starting.join(", ")),
                    (failing, _) => format!("failing: {}", failing.join(", ")),
                },
            },
            Indicator {
                name: "permission_state",
                is_healthy: denied.is_empty(),
                detail: match denied.as_slice() {
                    [] => "all that is watched is allowed".to_owned(),
                    denied => format!(
                        "not allowed: {}; `tawny doctor` shows the rules to add",
                        denied.join(", ")
                    ),
                },
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(health: &WatchHealth) -> [bool; 4] {
        let indicators = health.indicators(Timestamp::from_secs(100));
        indicators.map(|indicator| indicator.is_healthy)
    }

    #[test]
    fn indicators_tell_silence_refusal_and_failure_apart_bb_18() {
        let health = WatchHealth::default();
        let at = Timestamp::from_secs(90);
        health.set("pods", WatchState::Starting, at);
        assert_eq!(verdicts(&health), [false, false, false, true]);
        health.set("pods", WatchState::Watching, at);
        health.heard(at);
        assert_eq!(verdicts(&health), [true; 4]);
        health.set(
            "nodes",
            WatchState::Denied {
                reason: String::new(),
            },
            at,
        );
        assert_eq!(verdicts(&health), [true, true, true, false]);
        let reason = "refused".to_owned();
        health.set("pods", WatchState::Failing { reason }, at);
        assert_eq!(verdicts(&health), [true, true, false, false]);
        let later = Timestamp::from_secs(90 + 91);
        assert_eq!(health.watches(later)["pods"], WatchState::Watching);
        let silent = health.indicators(Timestamp::from_secs(90 + 601));
        assert!(!silent[1].is_healthy);
        health.set_standby(true);
        assert_eq!(verdicts(&health), [true; 4]);
    }
}
