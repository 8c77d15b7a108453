//! One incident on a page: what happened, what to look at, how it came about, and the last words.

use tawny_model::Timestamp;
use tawny_wire::api::incidents::{IncidentDetail, IncidentLine};

use super::{Style, table::color};

const BOLD: &str = "1";
const FAINT: &str = "2";

/// Blocks of one to eight eighths.
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

pub(super) fn page(detail: &IncidentDetail, style: &Style) -> String {
    let incident = &detail.incident;
    let mut page = Page {
        text: String::new(),
        style,
    };
    let severity = incident.severity.to_uppercase();
    let mut state = incident.state.clone();
    if let Some(quiet) = &incident.quiet {
        state.push_str(match quiet.as_str() {
            "baseline" => ", there before watching began",
            "child" => ", part of another incident",
            _ => ", in a storm",
        });
    }
    if let Some(until) = incident.muted_until {
        state.push_str(&format!(", muted until {}", style.moment(until)));
    }
    page.line(&format!(
        "{}  {state}  {}",
        style.paint(color(&incident.severity), &severity),
        style.paint(FAINT, &incident.id),
    ));
    page.line(&style.paint(BOLD, &incident.sentence));
    page.facts(detail);
    page.list("What to look at", &detail.hints);
    page.list("The node", &detail.node_conditions);
    page.memory(detail);
    page.timeline(detail);
    page.last_lines(detail);
    page.more(detail);
    page.text
}

struct Page<'a> {
    text: String,
    style: &'a Style,
}

impl Page<'_> {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn head(&mut self, head: &str) {
        let head = self.style.paint(BOLD, head);
        self.line(&format!("\n{head}"));
    }

    fn facts(&mut self, detail: &IncidentDetail) {
        let incident = &detail.incident;
        let mut facts = detail.facts.clone();
        if incident.count > 1 {
            facts.push(("first".to_owned(), self.style.moment(incident.first_at)));
        }
        facts.push(("last".to_owned(), self.style.moment(incident.last_at)));
        if let Some(at) = incident.resolved_at {
            facts.push(("resolved".to_owned(), self.style.moment(at)));
        }
        if let Some(parent) = &incident.parent {
            facts.push(("part of".to_owned(), parent.clone()));
        }
        let width = facts.iter().map(|(name, _)| name.chars().count()).max();
        let width = width.unwrap_or(0);
        self.line("");
        for (name, value) in &facts {
            let name = self.style.paint(FAINT, &format!("{name:width$}"));
            self.line(&format!("  {name}  {value}"));
        }
    }

    fn list(&mut self, head: &str, items: &[String]) {
        if items.is_empty() {
            return;
        }
        self.head(head);
        for item in items {
            self.line(&format!("  - {item}"));
        }
    }

    /// The memory of its last minute as a line of blocks, of which a full one is the limit, or the peak without one.
    fn memory(&mut self, detail: &IncidentDetail) {
        let Some(memory) = detail.memory.as_ref() else {
            return;
        };
        let peak = memory.samples.iter().copied().max().unwrap_or(0);
        let full = memory.limit.unwrap_or(peak).max(1);
        let blocks: String = (memory.samples.iter())
            .map(|bytes| {
                let eighths = bytes.saturating_mul(8).div_ceil(full).clamp(1, 8);
                BLOCKS[usize::try_from(eighths - 1).unwrap_or(0)]
            })
            .collect();
        let limit = memory.limit.map_or_else(String::new, |limit| {
            format!(" of {}", tawny_model::ByteSize(limit))
        });
        self.head("Memory before it");
        let peak = tawny_model::ByteSize(peak);
        self.line(&format!("  {blocks}  peak {peak}{limit}"));
    }

    /// Events and the occurrence itself, in order of time.
    fn timeline(&mut self, detail: &IncidentDetail) {
        let shown = detail.shown.as_ref();
        let happened = (detail.occurrences.iter()).find(|it| Some(&it.name) == shown);
        let mut points: Vec<(Timestamp, String)> = (detail.events.iter())
            .map(|event| {
                let times = match event.count {
                    0 | 1 => String::new(),
                    count => format!(" (x{count})"),
                };
                let text = format!(
                    "{}  {}: {}{times}",
                    event.object, event.reason, event.message
                );
                (event.timestamp, text)
            })
            .collect();
        if points.is_empty() {
            return;
        }
        points.extend(happened.map(|it| (it.at, self.style.paint("91", "◆ it happened"))));
        points.sort_by_key(|(at, _)| *at);
        self.head("Timeline");
        for (at, text) in points {
            let time = self.style.paint(FAINT, &self.style.time_of_day(at));
            self.line(&format!("  {time}  {text}"));
        }
    }

    fn last_lines(&mut self, detail: &IncidentDetail) {
        let from = match detail.lines_from.as_deref() {
            Some("store") => "collected",
            Some("api") => "asked of the kubelet",
            Some("termination_message") => "its termination message",
            Some(_) => {
                self.head("Last lines: none were found");
                return;
            }
            None => return,
        };
        if !detail.previous_lines.is_empty() {
            self.head("The run before ended with");
            self.lines(&detail.previous_lines);
        }
        self.head(&format!("Last lines ({from})"));
        self.lines(&detail.last_lines);
    }

    fn lines(&mut self, lines: &[IncidentLine]) {
        for line in lines {
            let time = self
                .style
                .paint(FAINT, &self.style.time_of_day(line.timestamp));
            self.line(&format!("  {time}  {}", plain(&line.message)));
        }
    }

    fn more(&mut self, detail: &IncidentDetail) {
        self.head("More");
        let n_kept = detail.occurrences.len();
        if n_kept > 1 {
            let id = detail.incident.id.chars().take(10).collect::<String>();
            let text =
                format!("{n_kept} occurrences are kept: tawny incidents show {id} --occurrence 2");
            self.line(&format!("  {text}"));
        }
        if let Some(query) = &detail.query {
            self.line(&format!("  its lines:  tawny search '{query}'"));
        }
        let incident = &detail.incident;
        if !incident.pod_uid.is_empty() {
            let uid = &incident.pod_uid;
            self.line(&format!("  its events: tawny events pod_uid:{uid}"));
        }
    }
}

/// Without what would move the cursor or change colours behind it.
fn plain(message: &str) -> String {
    tawny_model::strip_ansi(message)
        .chars()
        .filter(|c| !c.is_control() || *c == '\t')
        .collect()
}
