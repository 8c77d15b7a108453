//! The table of a benchmark: what was measured, what we aim for, and the peer beside it.

use std::{fmt::Write as _, time::Duration};

use super::{
    ingest::Ingested,
    measure::{Freshness, Timed, percentile},
    queries::Question,
};

/// All that was measured of one store.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) name: &'static str,
    pub(super) ingested: Ingested,
    pub(super) disk_bytes_per_line: f64,
    /// In the order of the questions.
    pub(super) warm: Vec<Timed>,
    /// Needle and tail query.
    pub(super) cold: Option<(Duration, Duration)>,
    pub(super) queries_per_sec: f64,
    pub(super) tails_while_ingesting: Vec<Duration>,
    pub(super) freshness: Freshness,
}

/// A row of the table.
struct Row {
    what: &'static str,
    aim: Aim,
    unit: Unit,
    value: fn(&Figures) -> Option<f64>,
}

impl Row {
    fn new(what: &'static str, aim: Aim, unit: Unit, value: fn(&Figures) -> Option<f64>) -> Self {
        Self {
            what,
            aim,
            unit,
            value,
        }
    }
}

/// What a figure should be, in its unit.
#[derive(Clone, Copy)]
enum Aim {
    AtLeast(f64),
    AtMost(f64),
    /// At most so many times the peer's.
    OfPeer(f64),
}

#[derive(Clone, Copy)]
enum Unit {
    Number,
    Bytes,
    Mib,
    Millis,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Number if value >= 1_000.0 => grouped(value),
            Self::Number => format!("{value:.0}"),
            Self::Bytes => format!("{value:.1}"),
            Self::Mib => format!("{value:.0} MiB"),
            Self::Millis if value >= 100.0 => format!("{value:.0} ms"),
            Self::Millis if value >= 10.0 => format!("{value:.1} ms"),
            Self::Millis => format!("{value:.2} ms"),
        }
    }
}

/// With commas between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// `None` when the ingest was over before the question was asked once.
fn tail_millis(times: &[Duration], percent: usize) -> Option<f64> {
    (!times.is_empty()).then(|| millis(percentile(times, percent)))
}

#[expect(clippy::cast_precision_loss, reason = "figures for reading")]
fn number(n: u64) -> f64 {
    n as f64
}

/// The rows that are not questions.
fn ingest_rows() -> Vec<Row> {
    vec![
        Row::new(
            "ingest, lines per CPU-second (to the last ack)",
            Aim::AtLeast(420_000.0),
            Unit::Number,
            |of| Some(number(of.ingested.n_lines) / of.ingested.cpu_secs),
        ),
        Row::new(
            "ingest, lines per CPU-second (background work included)",
            Aim::AtLeast(420_000.0),
            Unit::Number,
            |of| Some(number(of.ingested.n_lines) / of.ingested.settled_cpu_secs),
        ),
        Row::new(
            "ingest, lines/s, client included",
            Aim::AtLeast(450_000.0),
            Unit::Number,
            |of| Some(number(of.ingested.n_lines) / of.ingested.elapsed.as_secs_f64()),
        ),
        Row::new(
            "bytes on disk per line, all indexes",
            Aim::OfPeer(0.78),
            Unit::Bytes,
            |of| Some(of.disk_bytes_per_line),
        ),
        Row::new(
            "peak anonymous memory while ingesting",
            Aim::AtMost(256.0),
            Unit::Mib,
            |of| Some(number(of.ingested.peak_anonymous_bytes) / f64::from(1 << 20)),
        ),
    ]
}

fn last_rows() -> Vec<Row> {
    vec![
        Row::new(
            "4 clients, mixed questions, answers/s",
            Aim::AtLeast(400.0),
            Unit::Number,
            |of| Some(of.queries_per_sec),
        ),
        Row::new(
            "the tail question while ingesting, p50",
            Aim::AtMost(10.0),
            Unit::Millis,
            |of| tail_millis(&of.tails_while_ingesting, 50),
        ),
        Row::new(
            "the tail question while ingesting, p99",
            Aim::AtMost(40.0),
            Unit::Millis,
            |of| tail_millis(&of.tails_while_ingesting, 99),
        ),
        Row::new("ack of 100 lines", Aim::AtMost(10.0), Unit::Millis, |of| {
            Some(millis(of.freshness.acknowledged))
        }),
        Row::new(
            "acknowledged → searchable",
            // The time between two calls of a client.
            Aim::AtMost(0.1),
            Unit::Millis,
            |of| Some(millis(of.freshness.searchable)),
        ),
        Row::new("cold: needle", Aim::AtMost(25.0), Unit::Millis, |of| {
            of.cold.map(|(needle, _)| millis(needle))
        }),
        Row::new("cold: last 15 min", Aim::AtMost(50.0), Unit::Millis, |of| {
            of.cold.map(|(_, tail)| millis(tail))
        }),
    ]
}

/// One line of the table.
fn line(
    what: &str,
    aim: Aim,
    unit: Unit,
    ours: Option<f64>,
    peer: Option<f64>,
    found: Option<u64>,
    out: &mut String,
) {
    let Some(ours) = ours else { return };
    let (aim, is_met, ratio) = match aim {
        Aim::AtLeast(least) => (
            format!("≥ {}", unit.show(least)),
            Some(ours >= least),
            peer.map(|peer| ours / peer),
        ),
        Aim::AtMost(most) => (
            format!("≤ {}", unit.show(most)),
            Some(ours <= most),
            peer.map(|peer| peer / ours),
        ),
        Aim::OfPeer(share) => (
            format!("≤ {share} × peer"),
            peer.map(|peer| ours <= share * peer),
            peer.map(|peer| peer / ours),
        ),
    };
    let is_met = is_met.map_or("", |is_met| if is_met { "yes" } else { "no" });
    let found = found.map_or_else(String::new, |n| grouped(number(n)));
    let peer_cells = match (peer, ratio) {
        (Some(peer), Some(ratio)) => format!(" {} | {} |", unit.show(peer), show_ratio(ratio)),
        _ => " – | – |".to_owned(),
    };
    writeln!(
        out,
        "| {what} | {aim} | {} |{peer_cells} {is_met} | {found} |",
        unit.show(ours)
    )
    .expect("a String takes any text");
}

fn show_ratio(ratio: f64) -> String {
    if ratio >= 10.0 {
        format!("{ratio:.0}")
    } else {
        format!("{ratio:.2}")
    }
}

/// The whole table, in Markdown. A ratio above 1 is to our favour.
pub(super) fn table(questions: &[Question], ours: &Figures, peer: Option<&Figures>) -> String {
    let peer_name = peer.map_or("peer", |peer| peer.name);
    let mut out = format!(
        "| | aim | {} | {peer_name} | better by | aim met | found |\n|---|---|---|---|---|---|---|\n",
        ours.name
    );
    let plain = |row: Row, out: &mut String| {
        line(
            row.what,
            row.aim,
            row.unit,
            (row.value)(ours),
            peer.and_then(row.value),
            None,
            out,
        );
    };
    for row in ingest_rows() {
        plain(row, &mut out);
    }
    for (idx, question) in questions.iter().enumerate() {
        let took = |of: &Figures| of.warm.get(idx).map(|timed| millis(timed.median));
        line(
            question.name,
            Aim::AtMost(millis(question.aim)),
            Unit::Millis,
            took(ours),
            peer.and_then(took),
            ours.warm.get(idx).map(|timed| timed.size),
            &mut out,
        );
    }
    for row in last_rows() {
        plain(row, &mut out);
    }
    out
}
