//! Which runs of a container the API can still read, and how to ask for them; pure.
//!
//! The kubelet picks the container by its own status, so the answer depends on the state the container is in.

use std::sync::Arc;

use tawny_kube::{ContainerFacts, ContainerState};

/// A run that can be read now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) restart: u32,
    /// Ask with `previous=true`.
    pub(crate) is_previous: bool,
    pub(crate) is_live: bool,
    /// The container the kubelet will read from, where known.
    pub(crate) id: Option<Arc<str>>,
}

/// The runs that can be read, oldest first: at most the latest and the one before.
///
/// Source: `validateContainerLogStatus` in `pkg/kubelet/kubelet_pods.go`.
///
/// | state | asked plainly | asked for the previous |
/// |---|---|---|
/// | running, ended | the latest | the one in `lastState` |
/// | waiting to run again | the one in `lastState`, which is the latest | the same |
pub(crate) fn readable(container: &ContainerFacts) -> Vec<Run> {
    let previous = container.previous.as_ref();
    let latest = match &container.state {
        ContainerState::Running { .. } => Run {
            restart: container.restarts,
            is_previous: false,
            is_live: true,
            id: container.id.clone(),
        },
        ContainerState::Ended(ended) if ended.id.is_some() || previous.is_none() => Run {
            restart: container.restarts,
            is_previous: false,
            is_live: false,
            id: ended.id.clone().or_else(|| container.id.clone()),
        },
        ContainerState::Waiting { .. } | ContainerState::Ended(_) => {
            return previous
                .map(|ended| Run {
                    restart: container.restarts,
                    is_previous: false,
                    is_live: false,
                    id: ended.id.clone(),
                })
                .into_iter()
                .collect();
        }
    };
    let before = previous
        .zip(container.restarts.checked_sub(1))
        .map(|(ended, restart)| Run {
            restart,
            is_previous: true,
            is_live: false,
            id: ended.id.clone(),
        });
    before.into_iter().chain([latest]).collect()
}

/// The oldest readable run younger than `after`.
pub(crate) fn next(container: &ContainerFacts, after: Option<u32>) -> Option<Run> {
    readable(container)
        .into_iter()
        .find(|run| after.is_none_or(|after| run.restart > after))
}

/// Where a run stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    Readable(Run),
    /// Known to the API no more.
    Lost,
    /// What is known of the container is older than the run.
    Unknown,
}

pub(crate) fn standing(container: &ContainerFacts, restart: u32) -> Standing {
    match readable(container)
        .into_iter()
        .find(|run| run.restart == restart)
    {
        Some(run) => Standing::Readable(run),
        None if container.restarts > restart => Standing::Lost,
        None => Standing::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use tawny_kube::{ContainerKind, facts::Ended};

    use super::*;

    fn ended(id: &str) -> Ended {
        Ended {
            id: (!id.is_empty()).then(|| id.into()),
            exit_code: 1,
            reason: "Error".into(),
            at: None,
        }
    }

    fn container(restarts: u32, state: ContainerState, previous: Option<Ended>) -> ContainerFacts {
        ContainerFacts {
            name: "c".into(),
            kind: ContainerKind::Regular,
            image: "i".into(),
            id: Some("latest".into()),
            restarts,
            state,
            previous,
        }
    }

    fn running() -> ContainerState {
        ContainerState::Running { since: None }
    }

    fn waiting() -> ContainerState {
        ContainerState::Waiting {
            reason: "CrashLoopBackOff".into(),
        }
    }

    /// (restart, previous?, live?, id)
    fn brief(container: &ContainerFacts) -> Vec<(u32, bool, bool, Option<String>)> {
        readable(container)
            .into_iter()
            .map(|run| {
                (
                    run.restart,
                    run.is_previous,
                    run.is_live,
                    run.id.map(|id| id.to_string()),
                )
            })
            .collect()
    }

    fn id(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn readable_runs_follow_the_kubelets_choice() {
        let first = container(0, running(), None);
        assert_eq!(brief(&first), [(0, false, true, id("latest"))]);
        let again = container(3, running(), Some(ended("before")));
        assert_eq!(
            brief(&again),
            [
                (2, true, false, id("before")),
                (3, false, true, id("latest"))
            ]
        );
        let over = container(
            3,
            ContainerState::Ended(ended("end")),
            Some(ended("before")),
        );
        assert_eq!(
            brief(&over),
            [(2, true, false, id("before")), (3, false, false, id("end"))]
        );
        let backing_off = container(3, waiting(), Some(ended("last")));
        assert_eq!(brief(&backing_off), [(3, false, false, id("last"))]);
        let never_ran = ContainerFacts {
            id: None,
            ..container(0, waiting(), None)
        };
        assert_eq!(brief(&never_ran), []);
        let not_created = container(1, ContainerState::Ended(ended("")), Some(ended("last")));
        assert_eq!(brief(&not_created), [(1, false, false, id("last"))]);
    }

    #[test]
    fn a_run_is_readable_until_two_others_came_after_it() {
        let running = container(5, running(), Some(ended("before")));
        assert!(matches!(
            standing(&running, 5),
            Standing::Readable(Run { is_live: true, .. })
        ));
        assert!(matches!(
            standing(&running, 4),
            Standing::Readable(Run {
                is_previous: true,
                ..
            })
        ));
        assert_eq!(standing(&running, 3), Standing::Lost);
        assert_eq!(standing(&running, 6), Standing::Unknown);
        assert_eq!(next(&running, None).map(|run| run.restart), Some(4));
        assert_eq!(next(&running, Some(4)).map(|run| run.restart), Some(5));
        assert_eq!(next(&running, Some(5)), None);
    }
}
