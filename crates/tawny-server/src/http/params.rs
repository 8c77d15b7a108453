//! Query parameters: every name is known, every value is understood, or the request is refused with the reason.

use std::str::FromStr;

use axum::{extract::Query, http::Uri};
use tawny_model::Timestamp;

use crate::Error;

/// The parameters of one request, names checked.
#[derive(Debug)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    /// Reads them. A known name that ends in `.` stands for all that begin so.
    ///
    /// # Errors
    /// A name that is not known, or that is there twice.
    pub(super) fn read(uri: &Uri, known: &'static [&'static str]) -> Result<Self, Error> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Error::parameter("?", error.to_string()))?;
        for (idx, (name, _)) in pairs.iter().enumerate() {
            let is_known = known.iter().any(|known| {
                if known.ends_with('.') {
                    name.len() > known.len() && name.starts_with(known)
                } else {
                    known == name
                }
            });
            if !is_known {
                return Err(Error::UnknownParameter {
                    name: name.clone(),
                    known,
                });
            }
            if pairs[..idx].iter().any(|(earlier, _)| earlier == name) {
                return Err(Error::parameter(name.clone(), "is given twice"));
            }
        }
        Ok(Self { pairs })
    }

    /// A value; empty is the same as absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// All parameters whose name begins so, without the beginning.
    pub(super) fn prefixed<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// A value that reads as `T`, described as `what`.
    pub(super) fn parsed<T: FromStr>(
        &self,
        name: &'static str,
        what: &str,
    ) -> Result<Option<T>, Error> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| Error::parameter(name, format!("`{text}` is not {what}")))
            })
            .transpose()
    }

    /// One of the given words.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, Error> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, choice)| Some(*choice))
            .ok_or_else(|| {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                Error::parameter(name, format!("`{text}` is none of {}", words.join(", ")))
            })
    }

    /// A point in time; see [`moment`].
    pub(super) fn moment(
        &self,
        name: &'static str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        self.text(name)
            .map(|text| {
                moment(text, now).ok_or_else(|| {
                    Error::parameter(
                        name,
                        format!(
                            "`{text}` is no time: write RFC 3339 (2026-01-31T12:00:00Z), a Unix time in s, ms, µs or \
                             ns, or how long ago (15m, 2h, 3d)"
                        ),
                    )
                })
            })
            .transpose()
    }
}

/// Reads RFC 3339, `now`, a Unix time, or how long ago.
///
/// A number is taken for the unit that puts it between 1973 and 5138: seconds below 1e11, then ms, µs and ns.
fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if text == "now" {
        return Some(now);
    }
    if let Some(time) = Timestamp::parse_rfc3339(text.as_bytes()) {
        return Some(time);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Some(match number.unsigned_abs() {
            0..100_000_000_000 => Timestamp::from_secs(number),
            100_000_000_000..100_000_000_000_000 => Timestamp::from_millis(number),
            100_000_000_000_000..100_000_000_000_000_000 => Timestamp::from_micros(number),
            _ => Timestamp::from_nanos(number),
        });
    }
    if let Some((secs, fraction)) = text.split_once('.')
        && let Ok(secs) = secs.parse::<u32>()
        && fraction.len() <= 9
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
        return Some(Timestamp::from_nanos(
            i64::from(secs) * 1_000_000_000 + nanos,
        ));
    }
    let ago = tawny_runtime::duration::parse(text).ok()?;
    Some(now.saturating_sub(ago))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn times_are_read_in_every_form() {
        for (text, wanted) in [
            ("now", NOW),
            ("2023-11-14T22:13:20Z", NOW),
            ("2023-11-14T23:13:20+01:00", NOW),
            ("1700000000", NOW),
            ("1700000000.5", Timestamp::from_millis(1_700_000_000_500)),
            ("1700000000123", Timestamp::from_millis(1_700_000_000_123)),
            (
                "1700000000123456",
                Timestamp::from_micros(1_700_000_000_123_456),
            ),
            (
                "1700000000123456789",
                Timestamp::from_nanos(1_700_000_000_123_456_789),
            ),
            ("0", Timestamp::from_secs(0)),
            ("15m", Timestamp::from_secs(1_700_000_000 - 900)),
            ("3d", Timestamp::from_secs(1_700_000_000 - 3 * 86_400)),
        ] {
            assert_eq!(moment(text, NOW), Some(wanted), "{text}");
        }
        for text in ["", "yesterday", "2023-11-14", "1.2.3", "-1h", "1e9", "."] {
            assert_eq!(moment(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn unknown_and_repeated_names_are_refused() {
        let read = |query: &str| {
            let uri: Uri = format!("/x?{query}").parse().unwrap();
            Params::read(&uri, &["limit", "attr."])
        };
        assert!(read("limit=1&attr.a=b&attr.c=d").is_ok());
        assert!(matches!(
            read("limti=1"),
            Err(Error::UnknownParameter { name, .. }) if name == "limti"
        ));
        assert!(matches!(
            read("attr.=1"),
            Err(Error::UnknownParameter { .. })
        ));
        assert!(matches!(
            read("limit=1&limit=2"),
            Err(Error::Parameter { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,30}", digits in "[0-9.+-]{0,25}[smhd]?") {
            let _moment = moment(&text, NOW);
            let _moment = moment(&digits, NOW);
        }
    }
}
