//! Telling people of incidents and alerts, as tasks of this process; what is told comes from the receivers' file.

use std::{collections::BTreeMap, convert::Infallible, fs, path::Path, sync::Arc};

use tawny_coder::Roots;
use tawny_incident::{
    Change, Incident, IncidentId, Severity,
    alert::{self, AlertChange, AlertChangeKind},
    book::Digest,
    sentence::story,
};
use tawny_notify::{Handle, Kind, Notice, Notifier, NotifyMetrics, Settings, notice::label};
use tawny_runtime::{CancellationToken, OnExit, Registry, SharedClock, Stage, Supervisor};
use tawny_watch::{Incidents, Told};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    cli::{Exit, Failure, OrExit as _},
    config::keys::Config,
};

/// Reads the file of receivers and routes.
///
/// # Errors
/// `Usage`, with the line of a mistake.
pub(crate) fn settings(path: &Path) -> Result<Settings, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| anyhow::anyhow!("notify.path {}: {error}", path.display()))
        .or_exit(Exit::Usage)?;
    Settings::parse(&text)
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
        .or_exit(Exit::Usage)
}

/// The notifier of these settings; it has told nobody anything yet.
pub(crate) fn notifier(
    settings: &Settings,
    config: &Config,
    clock: &SharedClock,
    metrics: NotifyMetrics,
) -> Notifier {
    let coder = &config.coder;
    let path = |text: &String| (!text.is_empty()).then(|| text.into());
    let roots = Roots {
        file: path(&coder.ca_file),
        dirs: (!coder.ca_dirs.is_empty()).then(|| std::env::split_paths(&coder.ca_dirs).collect()),
    };
    // A receiver on this machine needs no certificates; one that does says what is missing when it is told.
    let roots = roots.load().unwrap_or_else(|error| {
        tracing::warn!(%error, "services behind TLS cannot be told");
        rustls::RootCertStore::empty()
    });
    let stdout = Box::new(tokio::io::stdout());
    Notifier::new(settings, roots, stdout, Arc::clone(clock), metrics)
}

/// Starts to tell people, if there are receivers; the handle is for whoever has something to tell.
///
/// # Errors
/// `Usage` for a file that does not read.
pub(crate) fn spawn(
    supervisor: &mut Supervisor,
    config: &Config,
    registry: &mut Registry,
    clock: &SharedClock,
    incidents: Option<&Incidents>,
) -> Result<Option<Handle>, Failure> {
    let Some(path) = &config.notify.path else {
        return Ok(None);
    };
    let settings = settings(path)?;
    let metrics = NotifyMetrics::default();
    metrics.register(registry);
    let notifier = notifier(&settings, config, clock, metrics);
    let handle = notifier.handle();
    supervisor.spawn("notify", Stage::Deliver, OnExit::StopProcess, |stop| {
        notifier.run(stop)
    });
    if let Some(incidents) = incidents {
        let teller = Teller {
            changes: incidents.subscribe(),
            handle: handle.clone(),
            told: BTreeMap::new(),
        };
        supervisor.spawn(
            "incident_notices",
            Stage::Deliver,
            OnExit::StopProcess,
            |stop| teller.run(stop),
        );
    }
    Ok(Some(handle))
}

/// Hands changes of incidents on, and remembers what was, so that whoever was told that something began is told that it
/// is over.
struct Teller {
    changes: broadcast::Receiver<Arc<Told>>,
    handle: Handle,
    /// Open incidents that were handed on; the book holds no more than these.
    told: BTreeMap<IncidentId, Notice>,
}

impl Teller {
    async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                biased;
                told = self.changes.recv() => match told {
                    Ok(told) => {
                        if let Some(notice) = self.notice(&told) {
                            self.handle.push_or_drop_newest(notice);
                        }
                    }
                    Err(RecvError::Lagged(n_missed)) => {
                        tracing::warn!(n_missed, "more incidents changed than could be told");
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// What people are told of a change; nothing of what is quiet or muted, but its end if they know of it.
    fn notice(&mut self, told: &Told) -> Option<Notice> {
        let (kind, id) = match &told.change {
            Change::StormEnded(digest) => return Some(of_storm(digest)),
            Change::Opened(id) => (Kind::Opened, *id),
            Change::Recurred(id) => (Kind::Recurred, *id),
            Change::Regressed(id) => (Kind::Regressed, *id),
            Change::Escalated { id, .. } => (Kind::Escalated, *id),
            Change::Resolved(id)
            | Change::Adopted { id, .. }
            | Change::Retracted(id)
            | Change::Forgotten(id) => return self.end(*id, told),
            _ => return None,
        };
        let incident = told.incident.as_ref()?;
        if told.is_muted || incident.quiet().is_some() {
            return None;
        }
        let notice = of_incident(kind, incident, told);
        self.told.insert(id, notice.clone());
        Some(notice)
    }

    fn end(&mut self, id: IncidentId, told: &Told) -> Option<Notice> {
        let before = self.told.remove(&id)?;
        let mut notice = match (&told.incident, &told.change) {
            (Some(incident), Change::Resolved(_)) => of_incident(Kind::Resolved, incident, told),
            _ => before,
        };
        notice.kind = Kind::Resolved;
        notice.sentence = match &told.change {
            Change::Adopted { parent, .. } => {
                format!("{} It is part of incident {parent}.", notice.sentence)
            }
            Change::Retracted(_) => {
                format!("{} It was planned, or is told as another.", notice.sentence)
            }
            _ => notice.sentence,
        };
        let last = told.incident.as_ref().map(|incident| incident.updated_at);
        notice.ended_at = notice.ended_at.or(last).or(Some(notice.started_at));
        Some(notice)
    }
}

fn of_incident(kind: Kind, incident: &Incident, told: &Told) -> Notice {
    let story = story(incident);
    let lines = told.bundle.iter().flat_map(|bundle| &bundle.last_lines);
    Notice {
        key: incident.id.to_string(),
        kind,
        severity: incident.severity,
        class: incident.cause().class().to_owned(),
        labels: labels(incident),
        sentence: story.sentence,
        facts: story.facts,
        hints: story.hints,
        last_lines: lines.map(|line| line.message.clone()).collect(),
        count: incident.count,
        started_at: incident.first_at,
        ended_at: incident.resolved_at,
        links: Vec::new(),
    }
}

fn labels(incident: &Incident) -> BTreeMap<String, String> {
    let subject = incident.subject();
    let workload = (subject.workload.as_ref()).map_or_else(String::new, ToString::to_string);
    [
        (label::CLUSTER, subject.cluster.to_string()),
        (label::NAMESPACE, subject.namespace.to_string()),
        (label::WORKLOAD, workload),
        (label::POD, subject.pod.to_string()),
        (label::CONTAINER, subject.container.to_string()),
        (label::NODE, subject.node.to_string()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn of_storm(digest: &Digest) -> Notice {
    let counts = |counts: &BTreeMap<String, u64>| {
        let counts: Vec<String> = counts
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        counts.join(", ")
    };
    let secs = digest.ended.saturating_since(digest.began).as_secs();
    Notice {
        key: format!("storm/{}", digest.began.as_millis()),
        kind: Kind::Digest,
        severity: Severity::High,
        class: "storm".to_owned(),
        labels: BTreeMap::new(),
        sentence: format!("{} more incidents opened within {secs} s.", digest.opened),
        facts: vec![
            ("kinds".to_owned(), counts(&digest.by_class)),
            ("namespaces".to_owned(), counts(&digest.by_namespace)),
        ],
        hints: vec!["Look for what they share: a node, an image, a change.".to_owned()],
        last_lines: Vec::new(),
        count: digest.opened,
        started_at: digest.began,
        ended_at: Some(digest.ended),
        links: Vec::new(),
    }
}

/// What people are told of an alert.
pub(crate) fn of_alert(change: &AlertChange) -> Notice {
    let alert = &change.alert;
    let group = (alert.group.iter())
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.clone(), value.to_string()));
    let annotations = alert.annotations.iter();
    let mut facts: Vec<(String, String)> = vec![("query".to_owned(), alert.query.clone())];
    facts.extend(annotations.map(|(name, value)| (name.clone(), value.clone())));
    Notice {
        key: format!("alert/{}", alert.id),
        kind: match change.kind {
            AlertChangeKind::Fired => Kind::Opened,
            AlertChangeKind::Worse => Kind::Escalated,
            AlertChangeKind::Resolved(_) => Kind::Resolved,
        },
        severity: alert.severity,
        class: "log_alert".to_owned(),
        labels: (alert.labels.clone().into_iter())
            .chain(group)
            .chain([("alert".to_owned(), alert.rule.to_string())])
            .collect(),
        sentence: alert::sentence(change),
        facts,
        hints: alert.summary.iter().cloned().collect(),
        last_lines: alert.lines.iter().map(|line| line.text.clone()).collect(),
        count: alert.count,
        started_at: alert.since,
        ended_at: matches!(change.kind, AlertChangeKind::Resolved(_)).then_some(change.at),
        links: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use tawny_incident::{Book, Cause, Findings, Occurrence, Subject};
    use tawny_model::Timestamp;

    use super::*;

    fn told(change: impl Fn(IncidentId) -> Change, is_muted: bool) -> Told {
        let mut book = Book::new();
        let occurrence = Occurrence {
            key: "death/1".to_owned(),
            at: Timestamp::from_secs(10),
            cause: Cause::Killed,
            subject: Subject {
                namespace: "shop".into(),
                pod: "api-1".into(),
                container: "web".into(),
                ..Subject::default()
            },
            run: None,
            message: "".into(),
            signatures: Vec::new(),
            existing: false,
        };
        let findings = Findings {
            occurrences: vec![occurrence],
            ..Findings::default()
        };
        book.observe(findings, Timestamp::from_secs(11));
        let incident = book.incidents().next().cloned().unwrap();
        Told {
            change: change(incident.id),
            incident: Some(incident),
            bundle: None,
            is_muted,
        }
    }

    fn teller() -> Teller {
        let settings =
            Settings::parse("receivers: [{name: out, stdout: {}}]\nroutes: [{receiver: out}]")
                .unwrap();
        let clock: SharedClock = Arc::new(tawny_runtime::SystemClock);
        let notifier = Notifier::new(
            &settings,
            rustls::RootCertStore::empty(),
            Box::new(tokio::io::sink()),
            clock,
            NotifyMetrics::default(),
        );
        Teller {
            changes: broadcast::Sender::new(1).subscribe(),
            handle: notifier.handle(),
            told: BTreeMap::new(),
        }
    }

    #[test]
    fn people_are_told_what_matters_and_nothing_that_is_muted() {
        let mut teller = teller();
        assert_eq!(teller.notice(&told(Change::Opened, true)), None);
        assert_eq!(teller.notice(&told(Change::Resolved, false)), None);
        let mut baseline = told(Change::Opened, false);
        baseline.incident.as_mut().unwrap().baseline = true;
        assert_eq!(teller.notice(&baseline), None);
        let notice = teller.notice(&told(Change::Opened, false)).unwrap();
        assert_eq!(notice.kind, Kind::Opened);
        assert_eq!(notice.class, "killed");
        assert_eq!(notice.label(label::NAMESPACE), "shop");
        assert!(
            notice
                .sentence
                .starts_with("Container web of pod shop/api-1")
        );
    }

    #[test]
    fn whoever_was_told_of_the_beginning_is_told_of_the_end_whatever_it_is() {
        let ends: [fn(IncidentId) -> Change; 4] = [
            Change::Resolved,
            Change::Retracted,
            Change::Forgotten,
            |id| Change::Adopted { id, parent: id },
        ];
        for end in ends {
            let mut teller = teller();
            teller.notice(&told(Change::Opened, false)).unwrap();
            let mut ended = told(end, true);
            if !matches!(ended.change, Change::Adopted { .. } | Change::Resolved(_)) {
                ended.incident = None;
            }
            let notice = teller.notice(&ended).unwrap();
            assert_eq!(notice.kind, Kind::Resolved);
            assert!(notice.ended_at.is_some());
            assert_eq!(teller.notice(&ended), None);
        }
    }

    #[test]
    fn a_storm_is_one_message() {
        let digest = Digest {
            began: Timestamp::from_secs(10),
            ended: Timestamp::from_secs(70),
            opened: 40,
            by_class: [("crash".to_owned(), 39), ("killed".to_owned(), 1)].into(),
            by_namespace: [("shop".to_owned(), 40)].into(),
        };
        let notice = of_storm(&digest);
        assert_eq!(notice.sentence, "40 more incidents opened within 60 s.");
        assert_eq!(notice.facts[0].1, "crash 39, killed 1");
    }
}
