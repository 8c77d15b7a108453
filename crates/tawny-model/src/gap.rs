//! Gap records: what is known to be lost is an entry in the stream, never silence.

use std::fmt;

use crate::{Position, Severity};

/// Why bytes of a stream are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The kubelet or engine deleted them before they were read.
    Rotated,
    /// A line was longer than the limit; its head is kept.
    TooLong,
    /// The stored bytes could not be read: damaged compressed file, I/O error.
    Unreadable,
    /// The store can never take them, as when a limit of its own is passed.
    Refused,
}

impl GapReason {
    pub const ALL: [Self; 4] = [
        Self::Rotated,
        Self::TooLong,
        Self::Unreadable,
        Self::Refused,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Rotated => "rotated",
            Self::TooLong => "too_long",
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for GapReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes `[from, to)` of a stream that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub from: Position,
    /// Equal to `from` where the number of bytes is unknown.
    pub to: Position,
    pub reason: GapReason,
}

/// Attribute that marks an entry as a gap record; its value is the reason.
pub const GAP_ATTRIBUTE: &str = "tawny.gap";

impl Gap {
    /// Severity of a gap record.
    pub const SEVERITY: Severity = Severity::Warn;

    /// The record's message, for people.
    pub fn message(&self) -> String {
        let bytes = self.to.bytes_since(self.from);
        let why = match self.reason {
            GapReason::Rotated => "deleted by rotation before they were read",
            GapReason::TooLong => "cut from a line over the length limit",
            GapReason::Unreadable => "could not be read back",
            GapReason::Refused => "refused by the store",
        };
        if bytes == 0 {
            format!("gap: lines {why}")
        } else {
            format!("gap: {bytes} bytes {why}")
        }
    }

    /// The record's attributes, for machines.
    pub fn attributes(&self) -> [(&'static str, String); 4] {
        [
            (GAP_ATTRIBUTE, self.reason.name().to_owned()),
            ("tawny.gap.from", self.from.to_string()),
            ("tawny.gap.to", self.to.to_string()),
            (
                "tawny.gap.bytes",
                self.to.bytes_since(self.from).to_string(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_says_how_much_and_why() {
        let gap = Gap {
            from: Position(10),
            to: Position(52),
            reason: GapReason::Rotated,
        };
        assert_eq!(
            gap.message(),
            "gap: 42 bytes deleted by rotation before they were read"
        );
        assert_eq!(gap.attributes()[3], ("tawny.gap.bytes", "42".to_owned()));
    }
}
