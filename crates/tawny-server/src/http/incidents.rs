//! `/api/v1/incidents`: what went wrong in the cluster, with what was frozen of it. The JSON types live in
//! `tawny_wire::api::incidents`.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, Uri, header},
    response::{IntoResponse as _, Response},
};
use futures::stream;
use tawny_incident::{Change, Incident, IncidentId, Severity, report, sentence::story};
use tawny_model::{Timestamp, observed::ConditionStatus};
use tawny_watch::{Bundle, BundleName, Incidents, Told, Wanted, vitals::Series};
use tawny_wire::api::incidents as api;
use tokio::sync::broadcast::error::RecvError;

use super::{SharedState, json, params::Params, stream as streamed};
use crate::{Error, shared::Shared};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 5_000;

pub(super) async fn list(State(shared): SharedState, uri: Uri) -> Result<Response, Error> {
    let params = Params::read(
        &uri,
        &[
            "state",
            "severity",
            "namespace",
            "name",
            "node",
            "class",
            "since",
            "from",
            "to",
            "quiet",
            "limit",
        ],
    )?;
    let now = shared.clock.now();
    let incidents = shared.incidents()?;
    let text = |name: &str| params.text(name).map(str::to_owned);
    let severities = [
        Severity::Low,
        Severity::Medium,
        Severity::High,
        Severity::Critical,
    ];
    let from = match (params.moment("since", now)?, params.moment("from", now)?) {
        (Some(_), Some(_)) => {
            return Err(Error::parameter(
                "since",
                "cannot stand beside `from`: both say where to begin",
            ));
        }
        (since, from) => since.or(from),
    };
    let shows_quiet = params.choice("quiet", &[("true", true), ("false", false)])?;
    let wanted = Wanted {
        is_open: params
            .choice(
                "state",
                &[
                    ("open", Some(true)),
                    ("resolved", Some(false)),
                    ("all", None),
                ],
            )?
            .flatten(),
        severity: params.choice("severity", &severities.map(|it| (it.name(), it)))?,
        namespace: text("namespace"),
        name: text("name"),
        node: text("node"),
        class: text("class"),
        from,
        to: params.moment("to", now)?,
        skip_quiet: shows_quiet == Some(false),
    };
    let limit = params.parsed("limit", "a number")?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let reason = format!("{limit} is not from 1 to {MAX_LIMIT}");
        return Err(Error::parameter("limit", reason));
    }
    let found = incidents.list(&wanted, limit);
    Ok(json(&api::IncidentsResponse {
        incidents: found.iter().map(|it| face(it, incidents, now)).collect(),
    }))
}

pub(super) async fn detail(
    State(shared): SharedState,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Error> {
    let params = Params::read(&uri, &["occurrence"])?;
    let incidents = shared.incidents()?;
    let incident = incidents.find(&id)?;
    let names = incidents.bundles(incident.id);
    let shown = chosen(&params, &names)?;
    let bundle = match shown {
        Some(name) => match incidents.load_bundle(name).await {
            Ok(bundle) => Some(bundle),
            // What the book knows is still worth telling.
            Err(error) => {
                tracing::warn!(%error, "a bundle cannot be read");
                None
            }
        },
        None => None,
    };
    let mut told = incident.clone();
    if let Some(bundle) = &bundle {
        told.latest = bundle.occurrence.clone();
    }
    let story = story(&told);
    let bundle = bundle.as_ref();
    let lines = |lines: &[report::LogLine]| -> Vec<api::IncidentLine> {
        let line = |line: &report::LogLine| api::IncidentLine {
            timestamp: line.timestamp,
            message: line.message.clone(),
        };
        lines.iter().map(line).collect()
    };
    Ok(json(&api::IncidentDetail {
        facts: story.facts,
        hints: story.hints,
        occurrences: names.iter().map(occurrence).collect(),
        shown: bundle.and(shown).map(|name| name.to_string()),
        lines_from: bundle
            .and_then(|it| it.lines_from)
            .map(|from| name_of(&from)),
        last_lines: bundle.map_or_else(Vec::new, |it| lines(&it.last_lines)),
        previous_lines: bundle.map_or_else(Vec::new, |it| lines(&it.previous_lines)),
        events: bundle.map_or_else(Vec::new, events),
        node_conditions: bundle.map_or_else(Vec::new, conditions),
        memory: bundle.and_then(|it| it.memory.as_ref()).map(memory),
        query: query(&told),
        incident: face(&incident, incidents, shared.clock.now()),
    }))
}

pub(super) async fn report(
    State(shared): SharedState,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Error> {
    let params = Params::read(&uri, &["format", "occurrence"])?;
    let formats = report::Format::ALL.map(|format| (format.name(), format));
    let format = params.choice("format", &formats)?.unwrap_or_default();
    let incidents = shared.incidents()?;
    let incident = incidents.find(&id)?;
    let now = shared.clock.now();
    let report = match chosen(&params, &incidents.bundles(incident.id))? {
        Some(name) => incidents.load_bundle(name).await?.report(&incident, now),
        None => tawny_incident::IncidentReport::new(&incident, None, now),
    };
    let content_type = match format {
        report::Format::Json => "application/json",
        report::Format::Csv => "text/csv; charset=utf-8",
        report::Format::Default => "text/plain; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, format.write(&report)).into_response())
}

pub(super) async fn resolve(
    State(shared): SharedState,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    only_json(&headers)?;
    let incidents = shared.incidents()?;
    let incident = incidents.find(&id)?;
    let now = shared.clock.now();
    incidents.resolve(incident.id, now).await?;
    answer(incidents, incident.id, now)
}

pub(super) async fn mute(
    State(shared): SharedState,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Error> {
    only_json(&headers)?;
    let request: api::MuteRequest = serde_json::from_slice(&body).map_err(|error| Error::Body {
        reason: format!("{error}; send {{\"for\": \"2h\"}}"),
    })?;
    let duration = tawny_runtime::duration::parse(&request.r#for).map_err(|rule| Error::Body {
        reason: format!("`for` is `{}`: {rule}", request.r#for),
    })?;
    let incidents = shared.incidents()?;
    let incident = incidents.find(&id)?;
    let now = shared.clock.now();
    let until = now.saturating_add(duration);
    incidents.mute(incident.id, until, now).await?;
    answer(incidents, incident.id, now)
}

/// A page of another site cannot send this type without being asked for permission first.
fn only_json(headers: &HeaderMap) -> Result<(), Error> {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|value| value.starts_with("application/json")) {
        return Ok(());
    }
    Err(Error::Body {
        reason: "send it with `Content-Type: application/json`".to_owned(),
    })
}

/// Every change as it happens, a line of JSON each; an empty line when it was quiet for long.
pub(super) async fn follow(State(shared): SharedState, uri: Uri) -> Result<Response, Error> {
    Params::read(&uri, &[])?;
    let told = shared.incidents()?.subscribe();
    let lines = stream::unfold((shared, told), |(shared, mut told)| async move {
        let line = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return None,
            told = told.recv() => match told {
                Ok(told) => change_line(&shared, &told),
                Err(RecvError::Lagged(_)) => line(&api::IncidentChange {
                    change: "missed".to_owned(),
                    id: None,
                    incident: None,
                    last_line: None,
                }),
                Err(RecvError::Closed) => return None,
            },
            () = tokio::time::sleep(KEEP_ALIVE_EVERY) => "\n".to_owned(),
        };
        Some((Ok::<_, std::convert::Infallible>(line), (shared, told)))
    });
    Ok(streamed("application/x-ndjson", Body::from_stream(lines)))
}

/// Silence in which proxies would close the connection.
const KEEP_ALIVE_EVERY: std::time::Duration = std::time::Duration::from_secs(15);

fn change_line(shared: &Arc<Shared>, told: &Told) -> String {
    let incidents = shared.incidents().ok();
    let now = shared.clock.now();
    let incident = told.incident.as_ref().zip(incidents);
    line(&api::IncidentChange {
        change: change_name(&told.change),
        id: told.id().map(|id| id.to_string()),
        incident: incident.map(|(incident, incidents)| face(incident, incidents, now)),
        last_line: (told.bundle.as_ref())
            .and_then(|bundle| bundle.last_lines.last())
            .map(|line| line.message.clone()),
    })
}

fn line(change: &api::IncidentChange) -> String {
    let mut line = serde_json::to_string(change).expect("texts and numbers are always JSON");
    line.push('\n');
    line
}

fn answer(incidents: &Incidents, id: IncidentId, now: Timestamp) -> Result<Response, Error> {
    let incident = incidents.find(&id.to_string())?;
    Ok(json(&face(&incident, incidents, now)))
}

/// The occurrence that was asked for, else the newest that is kept.
fn chosen(params: &Params, names: &[BundleName]) -> Result<Option<BundleName>, Error> {
    let Some(wanted) = params.text("occurrence") else {
        return Ok(names.last().copied());
    };
    let found = names.iter().find(|name| name.to_string() == wanted);
    found.copied().map(Some).ok_or_else(|| {
        Error::parameter(
            "occurrence",
            format!("`{wanted}` is not kept of this incident"),
        )
    })
}

/// An incident as clients see it.
fn face(incident: &Incident, incidents: &Incidents, now: Timestamp) -> api::Incident {
    let subject = incident.subject();
    let text = |text: &str| text.to_owned();
    api::Incident {
        id: incident.id.to_string(),
        state: name_of(&incident.state),
        severity: text(incident.severity.name()),
        class: text(incident.cause().class()),
        sentence: story(incident).sentence,
        cluster: text(&subject.cluster),
        namespace: text(&subject.namespace),
        workload: (subject.workload.as_ref()).map_or_else(String::new, ToString::to_string),
        pod: text(&subject.pod),
        pod_uid: text(&subject.pod_uid),
        container: text(&subject.container),
        node: text(&subject.node),
        count: incident.count,
        first_at: incident.first_at,
        last_at: incident.last_at,
        resolved_at: incident.resolved_at,
        regressions: incident.regressions,
        quiet: incident.quiet().as_ref().map(name_of),
        parent: incident.parent.map(|parent| parent.to_string()),
        muted_until: (incidents.muted_until(incident.id)).filter(|until| *until > now),
    }
}

/// The name serde gives a value without content.
fn name_of(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

fn change_name(change: &Change) -> String {
    match serde_json::to_value(change) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(serde_json::Value::Object(fields)) => fields
            .into_iter()
            .next()
            .map_or_else(String::new, |(name, _)| name),
        _ => String::new(),
    }
}

fn occurrence(name: &BundleName) -> api::OccurrenceName {
    api::OccurrenceName {
        name: name.to_string(),
        at: Timestamp::from_millis(name.at_millis),
    }
}

fn events(bundle: &Bundle) -> Vec<api::IncidentEvent> {
    let event = |event: &tawny_model::observed::KubeEvent| api::IncidentEvent {
        timestamp: event.at,
        object: format!("{}/{}", event.object.kind, event.object.name),
        reason: event.reason.to_string(),
        message: event.message.to_string(),
        count: event.count,
    };
    bundle.events.iter().map(event).collect()
}

fn memory(series: &Series) -> api::MemorySeries {
    api::MemorySeries {
        limit: series.limit,
        samples: series.samples.iter().map(|(_, bytes)| *bytes).collect(),
    }
}

/// Those that tell of trouble: a node that is not ready, or a pressure.
fn conditions(bundle: &Bundle) -> Vec<String> {
    let bad = bundle.node_conditions.iter().filter(|condition| {
        let healthy = if &*condition.kind == "Ready" {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        condition.status != healthy
    });
    bad.map(|it| {
        format!(
            "{}={} ({}: {})",
            it.kind,
            it.status.name(),
            it.reason,
            it.message
        )
    })
    .collect()
}

/// A query that finds what the pod, or its workload, wrote.
fn query(incident: &Incident) -> Option<String> {
    let subject = incident.subject();
    if subject.pod_uid.is_empty() {
        return None;
    }
    let mut query = format!("pod_uid:{}", subject.pod_uid);
    if !subject.container.is_empty() {
        query.push_str(&format!(" container:{}", subject.container));
    }
    if let Some(run) = &incident.latest.run {
        query.push_str(&format!(" restart:{}", run.restart));
    }
    Some(query)
}
