//! Points in time as people give them: `2h`, `2025-01-02 10:00`, `10:00`, `yesterday`, RFC 3339.

use jiff::{Zoned, civil, tz::TimeZone};
use tawny_model::Timestamp;
use tawny_runtime::duration;

/// Reads a point in time. What has no zone is meant in `zone`; a duration is that long before `now`.
pub(crate) fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(ago) = duration::parse(text.strip_suffix(" ago").unwrap_or(text)) {
        return Ok(now.saturating_sub(ago));
    }
    if let Some(exact) = Timestamp::parse_rfc3339(text.as_bytes()) {
        return Ok(exact);
    }
    let here = jiff::Timestamp::from_nanosecond(i128::from(now.as_nanos()))
        .map_err(|error| error.to_string())?
        .to_zoned(zone.clone());
    civil_time(text, &here)
        .and_then(|civil| civil.to_zoned(zone.clone()).ok())
        .and_then(|zoned| i64::try_from(zoned.timestamp().as_nanosecond()).ok())
        .map(Timestamp::from_nanos)
        .ok_or_else(|| {
            "is no time: write 2h, 2025-01-02, \"2025-01-02 10:00\", 10:00, today, yesterday or RFC 3339".to_owned()
        })
}

fn civil_time(text: &str, now: &Zoned) -> Option<civil::DateTime> {
    match text {
        "now" => return Some(now.datetime()),
        "today" => return Some(now.date().into()),
        "yesterday" => return Some(now.date().yesterday().ok()?.into()),
        _ => {}
    }
    if let Ok(date) = text.parse::<civil::Date>()
        && !text.contains([':', 'T', ' '])
    {
        return Some(date.into());
    }
    if !text.contains(':') {
        return None;
    }
    match text.parse::<civil::Time>() {
        Ok(time) if !text.contains('-') => Some(now.date().to_datetime(time)),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = Timestamp::parse_rfc3339(b"2025-03-10T12:00:00Z").unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, expected) in [
            ("2h", "2025-03-10T10:00:00.000000000Z"),
            ("90s ago", "2025-03-10T11:58:30.000000000Z"),
            ("now", "2025-03-10T12:00:00.000000000Z"),
            ("today", "2025-03-09T22:00:00.000000000Z"),
            ("yesterday", "2025-03-08T22:00:00.000000000Z"),
            ("2025-01-02", "2025-01-01T22:00:00.000000000Z"),
            ("2025-01-02 10:00", "2025-01-02T08:00:00.000000000Z"),
            ("2025-01-02T10:00:01.5", "2025-01-02T08:00:01.500000000Z"),
            ("10:00", "2025-03-10T08:00:00.000000000Z"),
            (
                "2025-01-02T10:00:00+01:00",
                "2025-01-02T09:00:00.000000000Z",
            ),
        ] {
            assert_eq!(
                parse(text, now, &zone).map(|time| time.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
        for text in ["", "soon", "2025-13-01", "25:00", "10"] {
            assert!(parse(text, now, &zone).is_err(), "{text}");
        }
    }
}
