//! Durations as people write them: `250ms`, `30s`, `1h30m`, `7d`; also for `#[serde(with = "tawny_runtime::duration")]`.

use std::{fmt, time::Duration};

use serde::{Deserialize as _, Deserializer, Serializer};

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

/// Units from the largest that has a fixed length.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Writes a duration the way [`parse`] reads it: `1h30m`.
pub fn display(duration: Duration) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        let mut left_ns = duration.as_nanos();
        if left_ns == 0 {
            return f.write_str("0s");
        }
        for (unit, unit_ns) in UNITS {
            if left_ns >= unit_ns {
                write!(f, "{}{unit}", left_ns / unit_ns)?;
                left_ns %= unit_ns;
            }
        }
        Ok(())
    })
}

/// Reads a duration from its text.
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Writes a duration as text.
///
/// # Errors
/// Only the serializer's own.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&display(*duration))
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
        assert_eq!(
            display(Duration::from_millis(90_061_500)).to_string(),
            "1d1h1m1s500ms"
        );
        for text in ["", "5", "-1s", "soon", "1 parsec"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
