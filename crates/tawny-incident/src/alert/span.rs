//! Lengths of time as rules write them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

/// Reads `90s`, `5m`, `1h30m`; a bare number is none, for it does not say of what.
pub fn parse_span(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    humantime::parse_duration(text).ok()
}

/// `1h30m`, `45s`, `1s500ms`: exact to the millisecond.
pub fn short(span: Duration) -> String {
    let mut millis = span.as_millis();
    let mut text = String::new();
    for (unit, name) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ] {
        if millis >= unit {
            text.push_str(&format!("{}{name}", millis / unit));
            millis %= unit;
        }
    }
    if text.is_empty() {
        text.push_str("0s");
    }
    text
}

/// For `#[serde(with = "…")]`: what people read in rules they read in JSON.
pub(super) fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&short(*span))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_span(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no length of time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_people_write_them() {
        for (text, shown) in [
            ("300s", "5m"),
            ("90m", "1h30m"),
            ("0", "0s"),
            ("61500ms", "1m1s500ms"),
            ("1 day 2s", "1d2s"),
        ] {
            assert_eq!(short(parse_span(text).unwrap()), shown, "{text}");
        }
        for text in ["", "5", "m", "-5m", "5 parsecs"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }
}
