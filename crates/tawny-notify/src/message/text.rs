//! A notice as sentences: for stdout, for the headline of a chat message, for an alert's summary.

use tawny_model::Timestamp;

use crate::{Kind, Outgoing, notice::shorten};

/// Longest quote of a last line within a line of text.
const MAX_QUOTE_CHARS: usize = 200;

/// What happened, in one or a few words: `New`, `Still there`, `Over after 25 min`.
pub fn headline(notice: &Outgoing) -> String {
    match notice.kind {
        Kind::Opened => "New".to_owned(),
        Kind::Recurred => "Still there".to_owned(),
        Kind::Escalated => format!("Worse, now {}", notice.severity),
        Kind::Regressed => "Back again".to_owned(),
        Kind::Digest => "Many at once".to_owned(),
        Kind::Resolved => match notice.ended_at {
            Some(ended_at) if ended_at > notice.started_at => {
                let lasted = ended_at.saturating_since(notice.started_at).as_secs();
                format!("Over after {}", lasting(lasted))
            }
            Some(_) | None => "Over".to_owned(),
        },
    }
}

/// `New: Container web of … was killed ….`, without what else is known.
pub fn sentence(notice: &Outgoing) -> String {
    format!("{}: {}", headline(notice), one_line(&notice.sentence))
}

/// All of it on one line: time, severity, what died, where, why, how often, the last line, what to look at.
pub fn line(notice: &Outgoing, now: Timestamp) -> String {
    let at = now.to_string();
    let mut line = format!(
        "{}Z {} {}",
        at.get(..19).unwrap_or_default(),
        notice.severity.name().to_uppercase(),
        sentence(notice)
    );
    if notice.kind == Kind::Resolved {
        return line;
    }
    if let Some(last) = notice.last_lines.last() {
        let last = shorten(&one_line(last), MAX_QUOTE_CHARS);
        line.push_str(&format!(" Its last line: {last:?}."));
    }
    if let Some(hint) = notice.hints.first() {
        line.push_str(&format!(" {}", one_line(hint)));
    }
    if let Some(link) = notice.links.first() {
        line.push_str(&format!(" {}", link.url));
    }
    line
}

/// Control characters and line breaks would let a log line forge others, or colour a terminal.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = (text.split(|c: char| c.is_control() || c.is_whitespace()))
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

fn lasting(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs / 60),
        7_200..172_800 => format!("{} h", secs / 3_600),
        _ => format!("{} days", secs / 86_400),
    }
}
