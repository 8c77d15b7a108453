//! An alert in one sentence.

use tawny_model::Timestamp;

use super::{
    episode::{Alert, AlertChange, AlertChangeKind, Ended},
    span::short,
    threshold::Threshold,
};
use crate::sentence::one_line;

/// Longest query a sentence shows.
const MAX_QUERY_CHARS: usize = 80;

/// Tells a change: ``checkout: 12 lines of `timeout` in 5m (≥ 10) in namespace shop``.
pub fn sentence(change: &AlertChange) -> String {
    let alert = &change.alert;
    let place = place(&alert.group);
    match change.kind {
        AlertChangeKind::Fired => format!("{}: {}{place}", alert.rule, amount(alert)),
        AlertChangeKind::Worse => format!("{}: by now {}{place}", alert.rule, amount(alert)),
        AlertChangeKind::Resolved(ended) => {
            let lasted = lasted(alert, change.at);
            let why = match ended {
                Ended::Calm => match alert.threshold {
                    Threshold::Below(_) => format!("lines of {} come again", query(alert)),
                    Threshold::AtLeast(_) | Threshold::Share(_) => {
                        format!("at most {} in {}", lines(alert), short(alert.window))
                    }
                },
                Ended::Forgotten => {
                    "no line came for so long that nobody waits any more".to_owned()
                }
                Ended::Crowded => "its rule has too many groups to go on with it".to_owned(),
                Ended::RuleChanged => "its rule is gone or was changed".to_owned(),
            };
            format!("{}: over after {lasted}{place}; {why}", alert.rule)
        }
    }
}

/// ``12 lines of `timeout` in 5m (≥ 10)``.
fn amount(alert: &Alert) -> String {
    let window = short(alert.window);
    let threshold = alert.threshold;
    match (threshold, alert.of) {
        (Threshold::Below(bound), _) => {
            let limit = if bound == 1 {
                String::new()
            } else {
                format!(" ({threshold})")
            };
            match alert.count {
                0 => format!("no line of {} in {window}{limit}", query(alert)),
                _ => format!("only {} in {window}{limit}", lines(alert)),
            }
        }
        (_, Some(of)) => {
            let percent = u128::from(alert.count) * 1_000 / u128::from(of.max(1));
            format!(
                "{}.{}% of {of} lines are {} in {window} ({threshold})",
                percent / 10,
                percent % 10,
                query(alert)
            )
        }
        (Threshold::AtLeast(1), _) => format!("{} in {window}", lines(alert)),
        (_, None) => format!("{} in {window} ({threshold})", lines(alert)),
    }
}

fn lines(alert: &Alert) -> String {
    let noun = if alert.count == 1 { "line" } else { "lines" };
    format!("{} {noun} of {}", alert.count, query(alert))
}

/// The query in backticks; what matches everything is a line of any text.
fn query(alert: &Alert) -> String {
    let text = one_line(&alert.query);
    if text.is_empty() {
        return "any text".to_owned();
    }
    let shown: String = text.chars().take(MAX_QUERY_CHARS).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("`{shown}{more}`")
}

/// ` in namespace shop, pod api-1 with status 500`.
fn place(group: &[(String, std::sync::Arc<str>)]) -> String {
    const PLACES: [&str; 6] = [
        "cluster",
        "namespace",
        "workload",
        "pod",
        "container",
        "node",
    ];
    let (places, values): (Vec<_>, Vec<_>) = group
        .iter()
        .partition(|(name, _)| PLACES.contains(&name.as_str()));
    let told = |(name, value): &(String, std::sync::Arc<str>)| match &**value {
        "" => format!("no {name}"),
        value => format!("{name} {}", one_line(value)),
    };
    let mut text = String::new();
    for (word, part) in [("in", places), ("with", values)] {
        if !part.is_empty() {
            let part: Vec<String> = part.into_iter().map(told).collect();
            text.push_str(&format!(" {word} {}", part.join(", ")));
        }
    }
    text
}

/// How long it fired, in whole seconds.
fn lasted(alert: &Alert, until: Timestamp) -> String {
    let secs = until.saturating_since(alert.fired_at).as_secs();
    short(std::time::Duration::from_secs(secs))
}

#[cfg(test)]
mod tests;
