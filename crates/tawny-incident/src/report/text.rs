//! BlackBox's text format (BB-40), with the last lines and the events behind it where there are any.

use tawny_model::Timestamp;

use super::{IncidentReport, Summary, plain};
use crate::sentence::one_line;

pub(super) fn write(report: &IncidentReport) -> String {
    let incident = &report.incident;
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    line("=== INCIDENT REPORT ===");
    line(&format!("ID: {}", incident.id));
    line(&format!("TIMESTAMP: {}", moment(incident.timestamp, " ")));
    line(&format!("SEVERITY: {}", incident.severity));
    line(&format!("TYPE: {}", incident.kind));
    line(&format!("MESSAGE: {}", one_line(&incident.message)));
    line(&place(incident));
    line("");
    line("=== TELEMETRY DATA ===");
    for entry in &report.telemetry {
        line(&format!(
            "{} | {} | {}",
            moment(entry.timestamp, " : "),
            one_line(&entry.name),
            one_line(&plain(&entry.value))
        ));
    }
    if !report.logs.is_empty() {
        line("");
        line("=== LAST LINES ===");
        for entry in &report.logs {
            let at = moment(entry.timestamp, " : ");
            line(&format!("{at} | {}", entry.message.replace('\n', "\n    ")));
        }
    }
    if !report.events.is_empty() {
        line("");
        line("=== EVENTS ===");
        for event in &report.events {
            line(&format!(
                "{} | {} | {}: {} (x{})",
                moment(event.timestamp, " : "),
                event.object,
                event.reason,
                one_line(&event.message),
                event.count
            ));
        }
    }
    out
}

/// The pod, as BlackBox has it; what it does not know has a line of its own name.
fn place(incident: &Summary) -> String {
    let namespace = &incident.namespace;
    match &incident.workload {
        _ if !incident.pod_name.is_empty() => format!("POD: {namespace}/{}", incident.pod_name),
        Some(workload) => format!("WORKLOAD: {namespace}/{workload}"),
        None if !incident.node_name.is_empty() => format!("NODE: {}", incident.node_name),
        None => format!("NAMESPACE: {namespace}"),
    }
}

/// Date and time to the millisecond with `between` between them, in UTC.
fn moment(at: Timestamp, between: &str) -> String {
    let text = at.to_string();
    format!(
        "{}{between}{}",
        text.get(..10).unwrap_or_default(),
        text.get(11..23).unwrap_or_default()
    )
}
