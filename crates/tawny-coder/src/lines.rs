//! What a workspace's user reads: each kind of line with its exact text and level (CL-15 to CL-19).
//!
//! Colours and emoji are always there (CL-21): Coder's page is the terminal.

use std::{fmt, time::Duration};

use tawny_model::Timestamp;

use crate::registry::Kind;

const BOLD: &str = "\x1b[1m";
const WHITE: &str = "\x1b[37m";
const PLAIN: &str = "\x1b[0m";

/// Coder's log levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// As the HTTP interface writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// As the RPC numbers it; 0 there means unspecified.
    pub fn number(self) -> i32 {
        match self {
            Self::Trace => 1,
            Self::Debug => 2,
            Self::Info => 3,
            Self::Warn => 4,
            Self::Error => 5,
        }
    }
}

/// One entry of a startup log. Lines that come late are sorted in by `created_at`, so it is when a thing happened and not
/// when it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub created_at: Timestamp,
    pub level: Level,
    pub output: String,
}

impl Line {
    pub(crate) fn new(created_at: Timestamp, level: Level, output: impl Into<String>) -> Self {
        let mut output: String = output.into();
        // Coder keeps lines in PostgreSQL, whose text has no NUL: one would make a batch fail for ever.
        if output.contains('\0') {
            output = output.replace('\0', "\u{fffd}");
        }
        Self {
            created_at,
            level,
            output,
        }
    }

    /// A pod was made (CL-15), or a ReplicaSet that will make one (CL-17).
    pub fn created(kind: Kind, name: &str, at: Timestamp) -> Self {
        let what = match kind {
            Kind::Pod => "Created pod",
            Kind::ReplicaSet => "Queued pod from ReplicaSet",
        };
        Self::new(at, Level::Debug, format!("🐳 {BOLD}{what}{PLAIN}: {name}"))
    }

    /// A pod (CL-16) or ReplicaSet (CL-18) is gone.
    pub fn deleted(kind: Kind, name: &str, at: Timestamp) -> Self {
        let what = match kind {
            Kind::Pod => "Deleted pod",
            Kind::ReplicaSet => "Deleted ReplicaSet",
        };
        Self::new(at, Level::Error, format!("🗑️ {BOLD}{what}{PLAIN}: {name}"))
    }

    /// A Kubernetes event (CL-19). One that came more than once says how often and over how long.
    pub fn event(message: &str, n_times: u32, over: Duration, at: Timestamp) -> Self {
        let output = if n_times > 1 {
            format!("{WHITE}{message} (x{n_times} over {}){PLAIN}", brief(over))
        } else {
            format!("{WHITE}{message}{PLAIN}")
        };
        Self::new(at, Level::Debug, output)
    }

    /// What a container wrote last, `log` holding whole lines; `at` is when it died, so that they follow that line.
    pub fn last_words(container: &str, log: &str, at: Timestamp) -> Vec<Self> {
        log.lines()
            .map(|text| {
                let output = format!("{WHITE}   {container} │{PLAIN} {text}");
                Self::new(at, Level::Error, output)
            })
            .collect()
    }
}

/// A duration as `kubectl get events` writes it: two units at most, one where the second says little.
fn brief(duration: Duration) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let secs = duration.as_secs();
        let (minutes, hours, days) = (secs / 60, secs / 3_600, secs / 86_400);
        match secs {
            0..120 => write!(f, "{secs}s"),
            120..600 if !secs.is_multiple_of(60) => write!(f, "{minutes}m{}s", secs % 60),
            120..10_800 => write!(f, "{minutes}m"),
            10_800..28_800 if !minutes.is_multiple_of(60) => write!(f, "{hours}h{}m", minutes % 60),
            10_800..172_800 => write!(f, "{hours}h"),
            _ => write!(f, "{days}d"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn text(line: Line) -> (Level, String) {
        assert_eq!(line.created_at, AT);
        (line.level, line.output)
    }

    #[test]
    fn lines_of_a_life_read_as_cl_15_to_cl_18_say() {
        for (line, level, output) in [
            (
                Line::created(Kind::Pod, "ws-1", AT),
                Level::Debug,
                "🐳 \x1b[1mCreated pod\x1b[0m: ws-1",
            ),
            (
                Line::deleted(Kind::Pod, "ws-1", AT),
                Level::Error,
                "🗑️ \x1b[1mDeleted pod\x1b[0m: ws-1",
            ),
            (
                Line::created(Kind::ReplicaSet, "ws-77", AT),
                Level::Debug,
                "🐳 \x1b[1mQueued pod from ReplicaSet\x1b[0m: ws-77",
            ),
            (
                Line::deleted(Kind::ReplicaSet, "ws-77", AT),
                Level::Error,
                "🗑️ \x1b[1mDeleted ReplicaSet\x1b[0m: ws-77",
            ),
        ] {
            assert_eq!(text(line), (level, output.to_owned()));
        }
    }

    #[test]
    fn an_event_is_white_and_says_its_repeats_cl_19() {
        let event = |n, secs| text(Line::event("Pulling", n, Duration::from_secs(secs), AT));
        assert_eq!(event(1, 0), (Level::Debug, "\x1b[37mPulling\x1b[0m".into()));
        assert_eq!(event(3, 40).1, "\x1b[37mPulling (x3 over 40s)\x1b[0m");
    }

    #[test]
    fn spans_of_repeats_are_brief() {
        for (secs, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (660, "11m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (90_000, "25h"),
            (400_000, "4d"),
        ] {
            assert_eq!(brief(Duration::from_secs(secs)).to_string(), text, "{secs}");
        }
    }

    #[test]
    fn last_words_are_one_line_each_and_hold_no_nul() {
        let words = Line::last_words("dev", "one\ntw\0o\n", AT);
        let outputs: Vec<_> = words.into_iter().map(|line| text(line).1).collect();
        assert_eq!(
            outputs,
            [
                "\x1b[37m   dev │\x1b[0m one",
                "\x1b[37m   dev │\x1b[0m tw\u{fffd}o"
            ]
        );
    }

    #[test]
    fn levels_have_coders_names_and_numbers() {
        let levels = [
            Level::Trace,
            Level::Debug,
            Level::Info,
            Level::Warn,
            Level::Error,
        ];
        assert_eq!(
            levels.map(Level::name),
            ["trace", "debug", "info", "warn", "error"]
        );
        assert_eq!(levels.map(Level::number), [1, 2, 3, 4, 5]);
    }
}
