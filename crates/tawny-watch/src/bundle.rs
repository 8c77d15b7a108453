//! All that is known of one occurrence, frozen when it happened: it outlives pod, node, events and the store's retention.

use serde::{Deserialize, Serialize};
use tawny_incident::{
    Change, Incident, IncidentId, IncidentReport, Occurrence,
    report::{LogLine, Telemetry},
};
use tawny_model::{
    Timestamp,
    observed::{Condition, KubeEvent, PodState},
    stream::Fnv,
};

use crate::vitals::resources::{Analysis, Series};

/// Lines kept of the run that died, and of the one before it (section 4.5, row "Last logs").
pub const MAX_LINES: usize = 200;
pub const MAX_PREVIOUS_LINES: usize = 50;

/// Text kept of either.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// Version of the stored form; fields may be added within one.
const VERSION: u32 = 1;

/// One occurrence with what was known when it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    pub version: u32,
    pub incident: IncidentId,
    pub occurrence: Occurrence,
    /// The pod as its status was then.
    #[serde(default)]
    pub pod: Option<PodState>,
    #[serde(default)]
    pub node_conditions: Vec<Condition>,
    /// Related events, the oldest first.
    #[serde(default)]
    pub events: Vec<KubeEvent>,
    #[serde(default)]
    pub last_lines: Vec<LogLine>,
    /// Where they are from; `None` while nobody looked.
    #[serde(default)]
    pub lines_from: Option<LinesFrom>,
    /// The end of the run before.
    #[serde(default)]
    pub previous_lines: Vec<LogLine>,
    /// Measurements up to the death, the oldest first.
    #[serde(default)]
    pub telemetry: Vec<Telemetry>,
    /// Memory of the container up to its death, in bytes.
    #[serde(default)]
    pub memory: Option<Series>,
    /// How it used what it was given.
    #[serde(default)]
    pub resources: Option<Analysis>,
    pub frozen_at: Timestamp,
    /// Nothing more is to come.
    #[serde(default)]
    pub is_sealed: bool,
    /// What it changed, as long as nobody was told.
    #[serde(default)]
    pub untold: Vec<Change>,
}

/// Where last lines were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinesFrom {
    /// What was collected of exactly this run.
    Store,
    /// The kubelet, asked afterwards.
    Api,
    /// The container's termination message.
    TerminationMessage,
    /// There are none anywhere.
    Nowhere,
}

impl Bundle {
    pub(crate) fn new(incident: IncidentId, occurrence: Occurrence, frozen_at: Timestamp) -> Self {
        Self {
            version: VERSION,
            incident,
            occurrence,
            pod: None,
            node_conditions: Vec::new(),
            events: Vec::new(),
            last_lines: Vec::new(),
            lines_from: None,
            previous_lines: Vec::new(),
            telemetry: Vec::new(),
            memory: None,
            resources: None,
            frozen_at,
            is_sealed: false,
            untold: Vec::new(),
        }
    }

    /// The name of its file: one for each occurrence, however often it is frozen.
    pub fn name(&self) -> BundleName {
        let mut hash = Fnv::default();
        hash.write(self.occurrence.key.as_bytes());
        BundleName {
            incident: self.incident,
            at_millis: self.occurrence.at.as_millis(),
            key: hash.finish(),
        }
    }

    /// The report of this occurrence; `incident` is what it counts in.
    pub fn report(&self, incident: &Incident, generated_at: Timestamp) -> IncidentReport {
        let mut told = incident.clone();
        told.latest = self.occurrence.clone();
        let mut report = IncidentReport::new(&told, self.pod.as_ref(), generated_at);
        report.telemetry.clone_from(&self.telemetry);
        report.logs.clone_from(&self.last_lines);
        report.events = self.events.iter().map(Into::into).collect();
        report
    }
}

/// `<incident>.<when, ms>.<hash of the occurrence's key>`, in the order of time within an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleName {
    pub incident: IncidentId,
    pub at_millis: i64,
    pub key: u64,
}

const EXTENSION: &str = ".json.zst";

impl BundleName {
    pub(crate) fn file_name(self) -> String {
        format!("{self}{EXTENSION}")
    }

    pub(crate) fn from_file_name(name: &str) -> Option<Self> {
        name.strip_suffix(EXTENSION)?.parse().ok()
    }
}

impl std::fmt::Display for BundleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{:016x}", self.incident, self.at_millis, self.key)
    }
}

impl std::str::FromStr for BundleName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let (incident, at, key) = (parts.next(), parts.next(), parts.next());
        match (incident, at, key, parts.next()) {
            (Some(incident), Some(at), Some(key), None) => Ok(Self {
                incident: incident.parse().map_err(drop)?,
                at_millis: at.parse().map_err(drop)?,
                key: u64::from_str_radix(key, 16).map_err(drop)?,
            }),
            _ => Err(()),
        }
    }
}

/// The last of some lines that are within the bounds, and how they read.
pub(crate) fn within_bounds(mut lines: Vec<LogLine>, max_lines: usize) -> Vec<LogLine> {
    let mut n_bytes = 0;
    let kept = lines
        .iter()
        .rev()
        .take(max_lines)
        .take_while(|line| {
            n_bytes += line.message.len();
            n_bytes <= MAX_LINE_BYTES
        })
        .count();
    if kept == 0
        && let Some(mut last) = lines.pop()
    {
        // One line alone is longer: its end says more than nothing.
        let start = last
            .message
            .ceil_char_boundary(last.message.len().saturating_sub(MAX_LINE_BYTES));
        last.message.drain(..start);
        return vec![last];
    }
    lines.split_off(lines.len() - kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> LogLine {
        LogLine {
            timestamp: Timestamp::from_secs(1),
            message: message.to_owned(),
        }
    }

    #[test]
    fn name_of_a_bundle_is_read_back() {
        let name = BundleName {
            incident: "89abcdef01234567-1763740800".parse().unwrap(),
            at_millis: -5,
            key: 0xfe,
        };
        let file = name.file_name();
        assert_eq!(
            file,
            "89abcdef01234567-1763740800.-5.00000000000000fe.json.zst"
        );
        assert_eq!(BundleName::from_file_name(&file), Some(name));
        for other in [
            "",
            "a.json",
            "book.json",
            "89abcdef01234567-1.1.2.3.json.zst",
            ".new",
        ] {
            assert_eq!(BundleName::from_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn last_lines_are_bounded_in_number_and_bytes() {
        let lines: Vec<LogLine> = (0..300).map(|n| line(&n.to_string())).collect();
        let kept = within_bounds(lines, MAX_LINES);
        assert_eq!((kept.len(), &*kept[0].message), (200, "100"));
        let long = "x".repeat(40 << 10);
        let kept = within_bounds(vec![line(&long), line(&long), line("end")], MAX_LINES);
        assert_eq!(kept.len(), 2);
        let kept = within_bounds(vec![line(&format!("{}é", "x".repeat(MAX_LINE_BYTES)))], 9);
        assert!(kept[0].message.len() <= MAX_LINE_BYTES && kept[0].message.ends_with('é'));
    }
}
