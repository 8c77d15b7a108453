//! Incidents as lines: a table of those there are, and a line for each change.

use tawny_model::Timestamp;
use tawny_wire::api::incidents::{Incident, IncidentChange};

use super::Style;
use crate::render::Sgr;

/// Characters of an id that are shown: enough to tell thousands apart, and to be given back.
const SHORT_ID: usize = 10;

const HEAD: [&str; 5] = ["ID", "SEVERITY", "STATE", "COUNT", "LAST"];

/// The colour of a severity. Source: SGR parameters, ECMA-48 8.3.117.
pub(super) fn color(severity: &str) -> &'static str {
    match severity {
        "critical" => "1;91",
        "high" => "91",
        "medium" => "93",
        _ => "90",
    }
}

impl Style {
    pub(super) fn paint(&self, sgr: &str, text: &str) -> String {
        if self.is_colored {
            Sgr::new(sgr).paint(text).to_string()
        } else {
            text.to_owned()
        }
    }

    /// Date and time of day where the reader is.
    pub(super) fn moment(&self, at: Timestamp) -> String {
        self.strftime(at, "%Y-%m-%d %H:%M:%S")
    }

    /// The time of day to the millisecond.
    pub(super) fn time_of_day(&self, at: Timestamp) -> String {
        self.strftime(at, "%H:%M:%S%.3f")
    }

    fn strftime(&self, at: Timestamp, format: &str) -> String {
        let at = jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos())).unwrap_or_default();
        at.to_zoned(self.zone.clone()).strftime(format).to_string()
    }

    /// How long ago, in one unit.
    fn ago(&self, at: Timestamp) -> String {
        match self.now.saturating_since(at).as_secs() {
            secs @ 0..120 => format!("{secs}s ago"),
            secs @ 120..7_200 => format!("{}m ago", secs / 60),
            secs @ 7_200..172_800 => format!("{}h ago", secs / 3_600),
            secs => format!("{}d ago", secs / 86_400),
        }
    }
}

/// The head, and a line for each; sentences are cut at the edge of a terminal and nowhere else.
pub(super) fn table(incidents: &[Incident], style: &Style) -> String {
    if incidents.is_empty() {
        return String::new();
    }
    let rows: Vec<[String; 5]> = incidents.iter().map(|it| cells(it, style)).collect();
    let widths: Vec<usize> = (HEAD.iter().enumerate())
        .map(|(column, head)| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(head.len())
        })
        .collect();
    let mut text = String::new();
    for (head, width) in HEAD.iter().zip(&widths) {
        text.push_str(&format!("{head:width$}  "));
    }
    text.push_str("WHAT\n");
    let left = widths.iter().sum::<usize>() + 2 * HEAD.len();
    for (row, incident) in rows.iter().zip(incidents) {
        for ((column, cell), width) in row.iter().enumerate().zip(&widths) {
            let padded = format!("{cell:width$}");
            let shown = match HEAD[column] {
                "SEVERITY" => style.paint(color(&incident.severity), &padded),
                _ => padded,
            };
            text.push_str(&shown);
            text.push_str("  ");
        }
        let room = style
            .width
            .map_or(usize::MAX, |width| width.saturating_sub(left).max(20));
        text.push_str(&cut(&incident.sentence, room));
        text.push('\n');
    }
    text
}

fn cells(incident: &Incident, style: &Style) -> [String; 5] {
    let state = match (&incident.quiet, &incident.muted_until) {
        (_, Some(_)) => format!("{} (muted)", incident.state),
        (Some(quiet), None) => format!("{} ({quiet})", incident.state),
        (None, None) => incident.state.clone(),
    };
    [
        incident.id.chars().take(SHORT_ID).collect(),
        incident.severity.clone(),
        state,
        incident.count.to_string(),
        style.ago(incident.last_at),
    ]
}

/// At most so many characters, with an ellipsis where some are left out.
fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// One change as a line.
pub(super) fn change(change: &IncidentChange, style: &Style) -> String {
    let Some(incident) = &change.incident else {
        return match change.change.as_str() {
            "missed" => {
                "some changes were missed; `tawny incidents` shows how things are\n".to_owned()
            }
            other => format!("{}\n", other.replace('_', " ")),
        };
    };
    let mut text = format!(
        "{}  {}  {}  {}",
        style.moment(incident.last_at),
        style.paint(color(&incident.severity), &format!("{:10}", change.change)),
        incident.id.chars().take(SHORT_ID).collect::<String>(),
        incident.sentence,
    );
    if let Some(line) = &change.last_line {
        text.push_str(&format!("\n    last line: {}", line.trim_end()));
    }
    text.push('\n');
    text
}
