//! How bad a line says it is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Severity of a log entry, ordered; the numbers are those of `kubelogs.storage.v1` (KL-11).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Severity {
    #[default]
    Unknown = 0,
    Trace = 1,
    Debug = 2,
    Info = 3,
    Warn = 4,
    Error = 5,
    Fatal = 6,
}

impl Severity {
    /// Every severity, lowest first.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Fatal,
    ];

    /// The severity of that number, `None` above 6.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    pub fn number(self) -> u8 {
        self as u8
    }

    /// Reads a level as programs write it, in any case: `warn`, `WARNING`, `err`, `critical`, `panic`, `E`, …
    pub fn from_text(text: &str) -> Option<Self> {
        Self::from_bytes(text.as_bytes())
    }

    /// [`Self::from_text`] over bytes, without allocation.
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        // Longest known word: "informational" (13); anything longer is no level.
        let mut lower = [0u8; 13];
        let lower = lower.get_mut(..text.len())?;
        for (to, from) in lower.iter_mut().zip(text) {
            *to = from.to_ascii_lowercase();
        }
        Some(match &*lower {
            b"t" | b"trace" | b"trc" | b"finest" | b"finer" | b"verbose" | b"silly" => Self::Trace,
            b"d" | b"debug" | b"dbg" | b"fine" => Self::Debug,
            b"i" | b"info" | b"inf" | b"information" | b"informational" | b"notice" | b"log"
            | b"config" => Self::Info,
            b"w" | b"warn" | b"warning" | b"wrn" => Self::Warn,
            b"e" | b"err" | b"error" | b"eror" | b"severe" => Self::Error,
            b"f" | b"fatal" | b"ftl" | b"panic" | b"pnc" | b"crit" | b"critical" | b"alert"
            | b"emerg" | b"emergency" | b"dpanic" => Self::Fatal,
            b"unknown" | b"unk" => Self::Unknown,
            _ => return None,
        })
    }

    /// Lower-case name, as the query language and JSON write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// Three-letter label for narrow columns (KL-11).
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "UNK",
            Self::Trace => "TRC",
            Self::Debug => "DBG",
            Self::Info => "INF",
            Self::Warn => "WRN",
            Self::Error => "ERR",
            Self::Fatal => "FTL",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_round_trip() {
        for severity in Severity::ALL {
            assert_eq!(Severity::from_number(severity.number()), Some(severity));
            assert_eq!(Severity::from_text(severity.name()), Some(severity));
            assert_eq!(Severity::from_text(severity.label()), Some(severity));
        }
        assert_eq!(Severity::from_number(7), None);
    }

    #[test]
    fn levels_are_read_in_any_case() {
        assert_eq!(Severity::from_text("WARNING"), Some(Severity::Warn));
        assert_eq!(Severity::from_text("Panic"), Some(Severity::Fatal));
        assert_eq!(Severity::from_text(""), None);
        assert_eq!(Severity::from_text("informationally speaking"), None);
    }
}
