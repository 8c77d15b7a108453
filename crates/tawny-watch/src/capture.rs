//! Finds the last lines of a run that died: those collected of exactly this run, else what the kubelet still has, else
//! the termination message (section 4.5, row "Last logs").

use std::{sync::Arc, time::Duration};

use tawny_incident::{Occurrence, report::LogLine};
use tawny_kube::{Cluster, LogRequest};
use tawny_model::{StreamId, Timestamp};
use tokio::time::timeout;

use crate::{
    Archive,
    bundle::{Bundle, LinesFrom, MAX_LINES, MAX_PREVIOUS_LINES, within_bounds},
    vitals::{
        resources::{Analysis, Series},
        ring::{Filter, SharedRing, Source},
    },
};

/// The end of a log is read, sent and stored within this time (section 4.5, row "Crash lines race").
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// Longest the kubelet is waited for.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// A line cannot be written after the death; clocks differ, and the runtime notes the end before the last lines.
const AFTER_DEATH: Duration = Duration::from_secs(60);

/// Lines older than this are not of a run whose start is unknown.
const BEFORE_DEATH: Duration = Duration::from_secs(24 * 60 * 60);

/// Measurements kept of a node, and of a pod: a minute of some fifty each second, compressed to some 40 KiB.
const MAX_TELEMETRY: usize = 4_000;

/// What was found.
#[derive(Debug)]
pub(crate) struct LastWords {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) from: LinesFrom,
    pub(crate) previous: Vec<LogLine>,
}

/// Where to look. `cluster` is asked only when the archive has nothing.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) cluster: Cluster,
    pub(crate) vitals: Option<Vitals>,
}

/// What is measured of a node and its containers.
#[derive(Debug, Clone)]
pub struct Vitals {
    pub ring: SharedRing,
    /// The node's name; empty where there is only one.
    pub node: Arc<str>,
}

impl Places {
    /// Adds what was measured up to the death: of the node, and of the container against its limits.
    pub(crate) async fn measure(&self, bundle: Bundle) -> Bundle {
        let Some(vitals) = self.vitals.clone() else {
            return bundle;
        };
        let kept = bundle.clone();
        let measured = tokio::task::spawn_blocking(move || vitals.measure(bundle));
        measured.await.unwrap_or(kept)
    }

    /// What is stored of the run by now.
    pub(crate) async fn stored(&self, occurrence: &Occurrence) -> Vec<LogLine> {
        match &occurrence.run {
            Some(run) => self.stored_of(occurrence, run.restart, MAX_LINES).await,
            None => Vec::new(),
        }
    }

    /// Everything that can be had.
    pub(crate) async fn settled(&self, occurrence: &Occurrence) -> LastWords {
        let found = |lines, from, previous| LastWords {
            lines,
            from,
            previous,
        };
        let Some(run) = occurrence.run.as_ref() else {
            return found(Vec::new(), LinesFrom::Nowhere, Vec::new());
        };
        let previous = match run.restart.checked_sub(1) {
            Some(before) => self.stored_of(occurrence, before, MAX_PREVIOUS_LINES).await,
            None => Vec::new(),
        };
        let lines = self.stored_of(occurrence, run.restart, MAX_LINES).await;
        if !lines.is_empty() {
            return found(lines, LinesFrom::Store, previous);
        }
        let lines = self.asked(occurrence, run.restarting).await;
        if !lines.is_empty() {
            return found(lines, LinesFrom::Api, previous);
        }
        let lines: Vec<LogLine> = (occurrence.message.lines())
            .map(|line| LogLine {
                timestamp: occurrence.at,
                message: line.to_owned(),
            })
            .collect();
        let from = if lines.is_empty() {
            LinesFrom::Nowhere
        } else {
            LinesFrom::TerminationMessage
        };
        found(lines, from, previous)
    }

    async fn stored_of(&self, occurrence: &Occurrence, restart: u32, limit: usize) -> Vec<LogLine> {
        let subject = &occurrence.subject;
        let stream = StreamId {
            cluster: Arc::clone(&subject.cluster),
            pod_uid: Arc::clone(&subject.pod_uid),
            container: Arc::clone(&subject.container),
            restart,
        };
        let started = occurrence.run.as_ref().and_then(|run| run.started_at);
        let from = occurrence.at.min(started.unwrap_or(Timestamp::MAX));
        let lines = self.archive.last_lines(
            &stream,
            from.saturating_sub(BEFORE_DEATH),
            occurrence.at.saturating_add(AFTER_DEATH),
            limit,
        );
        match lines.await {
            Ok(lines) => within_bounds(lines, limit),
            Err(error) => {
                tracing::warn!(%stream, %error, "cannot look up the last lines of a dead container");
                Vec::new()
            }
        }
    }

    /// What the kubelet has of it. It keeps one dead run of a container, and none of a pod that is gone.
    async fn asked(&self, occurrence: &Occurrence, restarting: bool) -> Vec<LogLine> {
        let subject = &occurrence.subject;
        let request = |previous| LogRequest {
            namespace: subject.namespace.to_string(),
            pod: subject.pod.to_string(),
            container: subject.container.to_string(),
            previous,
            tail_lines: Some(MAX_LINES as u64),
            ..LogRequest::default()
        };
        // Of a container that is started again it may still be the latest run.
        let tries: &[bool] = if restarting { &[true, false] } else { &[false] };
        for previous in tries {
            let request = request(*previous);
            let read = self.cluster.read_log_end(&request);
            match timeout(API_TIMEOUT, read).await {
                Ok(Ok(log)) if !log.is_empty() => {
                    let lines = (log.into_iter())
                        .map(|(timestamp, message)| LogLine { timestamp, message })
                        .filter(|line| is_of_run(line, occurrence))
                        .collect();
                    return within_bounds(lines, MAX_LINES);
                }
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => {
                    tracing::debug!(pod = %subject.pod, %error, "the kubelet has no log of a dead container");
                }
            }
        }
        Vec::new()
    }
}

/// Whether the kubelet's line is of the run that died, and not of the one before or after it. Both times are of the
/// node's clock, and the status cuts them to seconds.
fn is_of_run(line: &LogLine, occurrence: &Occurrence) -> bool {
    let run = occurrence.run.as_ref();
    let started = run.and_then(|run| run.started_at);
    let finished = run.and_then(|run| run.finished_at);
    let end = match finished {
        Some(at) => at.saturating_add(Duration::from_secs(1)),
        None => occurrence.at.saturating_add(AFTER_DEATH),
    };
    started.is_none_or(|at| line.timestamp >= at) && line.timestamp < end
}

impl Vitals {
    fn measure(&self, mut bundle: Bundle) -> Bundle {
        let occurrence = &bundle.occurrence;
        let subject = &occurrence.subject;
        let is_here = self.node.is_empty() || subject.node.is_empty() || self.node == subject.node;
        if !is_here {
            return bundle;
        }
        let ring = self.ring.lock();
        let (from, to) = (
            occurrence.at.saturating_sub(ring.window_size().duration()),
            occurrence.at.saturating_add(SETTLE),
        );
        let system = Filter::Source(Source::System);
        bundle.telemetry = ring.entries(from, to, system, MAX_TELEMETRY);
        if subject.pod_uid.is_empty() {
            return bundle;
        }
        let pod = Filter::Pod {
            uid: &subject.pod_uid,
            namespace: &subject.namespace,
            name: &subject.pod,
        };
        bundle
            .telemetry
            .extend(ring.entries(from, to, pod, MAX_TELEMETRY));
        bundle.telemetry.sort_by_key(|entry| entry.timestamp);
        if let Some(run) = &occurrence.run {
            let id = run.container_id.rsplit('/').next().unwrap_or_default();
            bundle.memory = Some(Series::memory(&ring, id, from, to))
                .filter(|series| !series.samples.is_empty());
            bundle.resources = (bundle.memory.is_some())
                .then(|| Analysis::new(&ring, id, (from, to), run.requests, run.limits));
        }
        bundle
    }
}
