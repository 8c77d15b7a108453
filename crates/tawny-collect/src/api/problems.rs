//! Failures that hit many streams at once, told once: one missing right must not fill the log with a line per container.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustc_hash::FxHashMap;
use tawny_kube::PodFacts;
use tokio::time::Instant;

/// A failure of one kind is told again after this long.
const QUIET: Duration = Duration::from_secs(60);

/// When each kind of failure was last told.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    told: Mutex<FxHashMap<&'static str, Instant>>,
}

impl Problems {
    pub(crate) fn report(&self, error: &tawny_kube::Error, pod: &PodFacts, container: &str) {
        let PodFacts {
            namespace, name, ..
        } = pod;
        if self.is_news(error.kind()) {
            tracing::warn!(%namespace, pod = %name, %container, %error, "cannot read a container's log; trying again");
        } else {
            tracing::debug!(%namespace, pod = %name, %container, %error, "cannot read a container's log; trying again");
        }
    }

    fn is_news(&self, kind: &'static str) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told
            .get(kind)
            .is_none_or(|last| now.duration_since(*last) >= QUIET);
        if is_news {
            told.insert(kind, now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kind_of_failure_is_news_once_a_minute() {
        let problems = Problems::default();
        assert!(problems.is_news("forbidden"));
        assert!(!problems.is_news("forbidden"));
        assert!(problems.is_news("unreachable"));
        tokio::time::advance(QUIET).await;
        assert!(problems.is_news("forbidden"));
    }
}
