//! Durations as people write them: `250ms`, `30s`, `1h30m`, `7d`.

use std::{fmt, time::Duration};

/// The text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no duration: write a number with ms, s, m, h or d, such as 30s")]
pub struct DurationError(pub String);

/// Reads a duration; a bare `0` needs no unit.
///
/// # Errors
/// When a unit is missing or unknown.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|_| DurationError(text.to_owned()))
}

/// Writes a duration the way [`parse`] reads it: `1h 30m`.
pub fn display(duration: Duration) -> impl fmt::Display {
    humantime::format_duration(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, duration) in [
            ("250ms", Duration::from_millis(250)),
            ("30s", Duration::from_secs(30)),
            ("1h30m", Duration::from_secs(5_400)),
            ("5m0s", Duration::from_secs(300)),
            ("7d", Duration::from_secs(604_800)),
            ("0", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Ok(duration), "{text}");
            assert_eq!(parse(&display(duration).to_string()), Ok(duration));
        }
        for text in ["", "5", "-1s", "soon", "1 parsec"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
