//! Names of segment files. Whatever does not parse here is somebody else's file and left alone.

use std::{borrow::Borrow, fmt, sync::Arc};

use tawny_model::Timestamp;

const SECS_PER_DAY: i64 = 86_400;

/// A date in UTC: the table's partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(i64);

impl Day {
    pub(crate) fn of(time: Timestamp) -> Self {
        Self(time.as_secs().div_euclid(SECS_PER_DAY))
    }

    fn parse(text: &str) -> Option<Self> {
        // Noon, as the first and the last day of what a timestamp can tell are not whole.
        let noon = Timestamp::parse_rfc3339(format!("{text}T12:00:00Z").as_bytes())?;
        Some(Self::of(noon)).filter(|day| day.to_string() == text)
    }
}

/// `2026-11-21`, as Delta writes a date.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noon = Timestamp::from_secs(self.0 * SECS_PER_DAY + SECS_PER_DAY / 2).to_string();
        f.write_str(noon.split('T').next().unwrap_or_default())
    }
}

/// Where a segment lies in the table: `date=2026-11-21/part-<number>-<writer>.parquet`.
///
/// The number, 20 digits, grows with each file; the writer, 16 hex digits, differs with each start of the process, so
/// that no name is ever used twice. Ordered by date, then age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentPath(Arc<str>);

impl SegmentPath {
    pub(super) fn new(day: Day, number: u64, writer: u64) -> Self {
        Self(format!("date={day}/part-{number:020}-{writer:016x}.parquet").into())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (day, number, writer) = split(text)?;
        Some(Self::new(day, number, writer)).filter(|path| path.as_str() == text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn day(&self) -> Day {
        self.parts().0
    }

    pub(super) fn number(&self) -> u64 {
        self.parts().1
    }

    fn parts(&self) -> (Day, u64, u64) {
        split(&self.0).expect("was built from these parts")
    }
}

fn split(text: &str) -> Option<(Day, u64, u64)> {
    let (day, name) = text.strip_prefix("date=")?.split_once("/part-")?;
    let (number, writer) = name.strip_suffix(".parquet")?.split_once('-')?;
    Some((
        Day::parse(day)?,
        number.parse().ok()?,
        u64::from_str_radix(writer, 16).ok()?,
    ))
}

impl fmt::Display for SegmentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for SegmentPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}
