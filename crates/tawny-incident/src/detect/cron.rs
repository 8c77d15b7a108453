//! When a cron schedule fires next, to tell a CronJob that missed its runs (section 4.2 row 18).

use std::time::Duration;

use tawny_model::Timestamp;

/// A schedule as Kubernetes takes it: five fields, a macro, or `@every`
/// (`ParseStandard` of github.com/robfig/cron/v3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Schedule {
    Every(Duration),
    Fields {
        minutes: u64,
        hours: u64,
        days: u64,
        months: u64,
        weekdays: u64,
        /// Days of month and of week both restrict: then either is enough.
        either_day: bool,
    },
}

/// A date such as 29 February on a Monday comes within 28 years, except around a year like 2100.
const SEARCHED_DAYS: i64 = 40 * 366;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const SECS_PER_DAY: i64 = 86_400;

impl Schedule {
    /// `None` when the text is no schedule.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(every) = text.strip_prefix("@every ") {
            return Some(Self::Every(go_duration(every.trim())?));
        }
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            fields => fields,
        };
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return None;
        };
        let is_any = |field: &str| field.starts_with('*') || field.starts_with('?');
        let weekday_bits = field(weekdays, 0, 7, &WEEKDAYS)?;
        Some(Self::Fields {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            // Sunday is 0 and 7.
            weekdays: (weekday_bits | (weekday_bits >> 7)) & 0x7f,
            either_day: !is_any(days) && !is_any(weekdays),
        })
    }

    /// The first firing later than `after`; `None` if there is none in a lifetime.
    pub(super) fn next_after(&self, after: Timestamp, offset_secs: i32) -> Option<Timestamp> {
        let (minutes, hours) = match self {
            Self::Every(every) => return Some(after.saturating_add(*every)),
            Self::Fields { minutes, hours, .. } => (*minutes, *hours),
        };
        let offset = i64::from(offset_secs);
        // The minute behind `after`, on the schedule's wall clock.
        let from = after
            .as_secs()
            .checked_add(offset)?
            .div_euclid(60)
            .checked_add(1)?
            .checked_mul(60)?;
        let first_day = from.div_euclid(SECS_PER_DAY);
        let mut start = from.rem_euclid(SECS_PER_DAY) / 60;
        for day in first_day..first_day.saturating_add(SEARCHED_DAYS) {
            if self.has_day(day) {
                let minute = (start..SECS_PER_DAY / 60)
                    .find(|minute| has(hours, minute / 60) && has(minutes, minute % 60));
                if let Some(minute) = minute {
                    let wall = day.checked_mul(SECS_PER_DAY)?.checked_add(minute * 60)?;
                    return Some(Timestamp::from_secs(wall.checked_sub(offset)?));
                }
            }
            start = 0;
        }
        None
    }

    fn has_day(&self, day: i64) -> bool {
        let Self::Fields {
            days,
            months,
            weekdays,
            either_day,
            ..
        } = self
        else {
            return true;
        };
        let Some((month, of_month)) = month_and_day(day) else {
            return false;
        };
        // 1 January 1970 was a Thursday.
        let weekday = (day + 4).rem_euclid(7);
        let (by_month, by_week) = (has(*days, of_month), has(*weekdays, weekday));
        has(*months, month)
            && if *either_day {
                by_month || by_week
            } else {
                by_month && by_week
            }
    }
}

fn has(bits: u64, idx: i64) -> bool {
    u32::try_from(idx)
        .ok()
        .and_then(|idx| bits.checked_shr(idx))
        .is_some_and(|bits| bits & 1 == 1)
}

fn month_and_day(day: i64) -> Option<(i64, i64)> {
    let text = Timestamp::from_secs(day.checked_mul(SECS_PER_DAY)?).to_string();
    let date = text.get(..10)?;
    let mut parts = date.rsplit('-');
    let of_month = parts.next()?.parse().ok()?;
    let month = parts.next()?.parse().ok()?;
    Some((month, of_month))
}

/// The bits of a field: lists of values, ranges and steps; `names` stand for the values from `low` on.
fn field(text: &str, low: u32, high: u32, names: &[&str]) -> Option<u64> {
    let mut bits = 0u64;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok()?)),
            None => (part, None),
        };
        if step == Some(0) {
            return None;
        }
        let (from, to) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (low, high),
            (_, Some((from, to))) => (value(from, low, names)?, value(to, low, names)?),
            (single, None) => {
                let from = value(single, low, names)?;
                // `5/15` runs on to the end of the field.
                (from, if step.is_some() { high } else { from })
            }
        };
        if from < low || to > high || from > to {
            return None;
        }
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        for idx in (from..=to).step_by(step) {
            bits |= 1 << idx;
        }
    }
    Some(bits)
}

fn value(text: &str, low: u32, names: &[&str]) -> Option<u32> {
    let named = names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text))
        .and_then(|idx| u32::try_from(idx).ok());
    match named {
        Some(idx) => Some(idx + low),
        None => text.parse().ok(),
    }
}

/// `1h30m`, `90s`: whole units only, which is all that makes sense for a schedule.
fn go_duration(text: &str) -> Option<Duration> {
    crate::message::go_duration_secs(text)
        .filter(|secs| *secs > 0)
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text.as_bytes()).unwrap()
    }

    fn next(schedule: &str, after: &str, offset_secs: i32) -> Option<String> {
        Schedule::parse(schedule)
            .unwrap()
            .next_after(time(after), offset_secs)
            .map(|at| at.to_string().get(..16).unwrap().to_owned())
    }

    #[test]
    fn schedules_fire_when_cron_does() {
        for (schedule, after, expected) in [
            ("*/15 * * * *", "2026-11-21T10:00:00Z", "2026-11-21T10:15"),
            ("*/15 * * * *", "2026-11-21T10:59:59Z", "2026-11-21T11:00"),
            ("0 3 * * *", "2026-11-21T03:00:00Z", "2026-11-22T03:00"),
            ("30 9 * * 1-5", "2026-11-20T09:30:00Z", "2026-11-23T09:30"),
            ("0 0 1 */3 *", "2026-11-21T00:00:00Z", "2027-01-01T00:00"),
            ("0 0 13 * fri", "2026-11-21T00:00:00Z", "2026-11-27T00:00"),
            ("0 12 * * 7", "2026-11-21T00:00:00Z", "2026-11-22T12:00"),
            ("0 0 29 2 *", "2026-11-21T00:00:00Z", "2028-02-29T00:00"),
            ("5/20 1,2 * * *", "2026-11-21T01:26:00Z", "2026-11-21T01:45"),
            ("@hourly", "2026-11-21T10:00:01Z", "2026-11-21T11:00"),
            ("@every 1h30m", "2026-11-21T10:00:00Z", "2026-11-21T11:30"),
        ] {
            assert_eq!(
                next(schedule, after, 0).as_deref(),
                Some(expected),
                "{schedule}"
            );
        }
        assert_eq!(
            next("0 9 * * *", "2026-11-21T00:00:00Z", 8 * 3_600).as_deref(),
            Some("2026-11-21T01:00")
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused_and_what_never_comes_is_none() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "a b c d e",
            "5-1 * * * *",
            "@fortnightly",
            "@every ",
            "@every 0s",
            "@every x",
        ] {
            assert_eq!(Schedule::parse(text), None, "{text}");
        }
        assert_eq!(next("0 0 31 2 *", "2026-11-21T00:00:00Z", 0), None);
    }
}
