//! Exact points in time, in nanoseconds since the Unix epoch.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since 1970-01-01T00:00:00Z; covers 1677 to 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const MIN: Self = Self(i64::MIN);
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole microseconds, rounded towards the past.
    pub const fn as_micros(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole milliseconds, rounded towards the past.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole seconds, rounded towards the past.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// The part below a second, 0 to 999,999,999 ns.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rem_euclid of 1e9 fits u32"
    )]
    pub const fn subsec_nanos(self) -> u32 {
        self.0.rem_euclid(1_000_000_000) as u32
    }

    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339 with any number of fraction digits and `Z` or an offset, as CRI and docker write it (KL-60).
    ///
    /// Digits past the ninth are cut. `None` when the text is no such time or lies outside 1677–2262.
    pub fn parse_rfc3339(text: &[u8]) -> Option<Self> {
        // Hand-written: it runs once per line on the collector's hot path, where a general parser costs 5-10 times more.
        let digits = |at: usize, n: usize| -> Option<i64> {
            text.get(at..at + n)?.iter().try_fold(0i64, |sum, byte| {
                byte.is_ascii_digit()
                    .then(|| sum * 10 + i64::from(byte - b'0'))
            })
        };
        if text.len() < 20
            || text[4] != b'-'
            || text[7] != b'-'
            || !matches!(text[10], b'T' | b't' | b' ')
            || text[13] != b':'
            || text[16] != b':'
        {
            return None;
        }
        let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
        let (hour, minute, second) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?);
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in_month(year, month)
            || hour > 23
            || minute > 59
            || second > 60
        {
            return None;
        }
        let mut at = 19;
        let mut fraction_ns = 0i64;
        if text[at] == b'.' || text[at] == b',' {
            at += 1;
            let first = at;
            let mut scale = 100_000_000;
            while let Some(byte) = text.get(at).filter(|byte| byte.is_ascii_digit()) {
                fraction_ns += i64::from(byte - b'0') * scale;
                scale /= 10;
                at += 1;
            }
            if at == first {
                return None;
            }
        }
        let offset_secs = match text.get(at)? {
            b'Z' | b'z' if text.len() == at + 1 => 0,
            sign @ (b'+' | b'-') if text.len() == at + 6 && text[at + 3] == b':' => {
                let secs = digits(at + 1, 2)? * 3_600 + digits(at + 4, 2)? * 60;
                if *sign == b'+' { secs } else { -secs }
            }
            _ => return None,
        };
        let secs = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
            - offset_secs;
        secs.checked_mul(1_000_000_000)?
            .checked_add(fraction_ns)
            .map(Self)
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the civil date, proleptic Gregorian.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The civil date of a day number; inverse of [`days_from_civil`], same source.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// RFC 3339 in UTC with exactly nine fraction digits, so that text order is time order.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.as_secs();
        let (year, month, day) = civil_from_days(secs.div_euclid(86_400));
        let of_day = secs.rem_euclid(86_400);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
            of_day / 3_600,
            of_day / 60 % 60,
            of_day % 60,
            self.subsec_nanos()
        )
    }
}

/// Serialised as nanoseconds, the exact form.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc3339_is_read_to_the_nanosecond() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2016-10-06T00:17:09.669794202Z", 1_475_713_029_669_794_202),
            (
                "2016-10-06T02:17:09.669794202+02:00",
                1_475_713_029_669_794_202,
            ),
            ("2016-10-05T20:17:09.6-04:00", 1_475_713_029_600_000_000),
            ("2024-02-29T23:59:60Z", 1_709_251_200_000_000_000),
            (
                "2016-10-06T00:17:09.6697942029999Z",
                1_475_713_029_669_794_202,
            ),
        ] {
            assert_eq!(
                Timestamp::parse_rfc3339(text.as_bytes()),
                Some(Timestamp::from_nanos(nanos)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2016-10-06",
            "2016-13-06T00:17:09Z",
            "2023-02-29T00:00:00Z",
            "2016-10-06T00:17:09.Z",
            "2016-10-06T00:17:09",
            "2016-10-06T00:17:09Zx",
            "9999-01-01T00:00:00Z",
            "2016-10-06T00:17:09+02",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn printed_time_reads_back(nanos in any::<i64>()) {
            let time = Timestamp::from_nanos(nanos);
            prop_assert_eq!(Timestamp::parse_rfc3339(time.to_string().as_bytes()), Some(time));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _parsed = Timestamp::parse_rfc3339(&bytes);
        }
    }
}
