//! How many lines are too many, or too few.

use std::fmt;

use serde::{Deserialize, Serialize};

/// When the lines in a rule's window are worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// So many lines or more; at least 1.
    AtLeast(u64),
    /// Fewer lines than this; at least 1, which means none at all.
    Below(u64),
    /// Of the lines of the rule's `of`, at least this share matches its query too, in hundredths of a percent, 1 to
    /// 10,000.
    Share(u32),
}

/// Far more than is counted in a day, and small enough that no sum runs over.
const MAX_LINES: u64 = 1_000_000_000;

const FORMS: &str = "write `>= 10`, `< 3` or `absent`, and with `of` a share such as `>= 5%`";

impl Threshold {
    /// Reads `>= 10`, `> 9`, `10`, `< 3`, `<= 2`, `absent` or `>= 5%`.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("absent") {
            return Ok(Self::Below(1));
        }
        let digits_at = text.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let (sign, amount) = text.split_at(digits_at);
        let sign = sign.trim();
        if let Some(percent) = amount.strip_suffix('%') {
            return share(sign, percent.trim()).map_err(|reason| format!("`{text}`: {reason}"));
        }
        let amount: u64 = amount
            .parse()
            .ok()
            .filter(|amount| *amount <= MAX_LINES)
            .ok_or_else(|| format!("`{text}` is no threshold; {FORMS}"))?;
        let threshold = match sign {
            "" | ">=" | "≥" => Self::AtLeast(amount),
            ">" => Self::AtLeast(amount + 1),
            "<" => Self::Below(amount),
            "<=" | "≤" => Self::Below(amount + 1),
            _ => return Err(format!("`{sign}` compares nothing; {FORMS}")),
        };
        match threshold {
            Self::AtLeast(0) => Err(format!("`{text}` is always reached; {FORMS}")),
            Self::Below(0) => Err(format!("`{text}` is never reached; {FORMS}")),
            threshold => Ok(threshold),
        }
    }

    /// Whether `lines` of `of` lines reach it; `of` matters to shares alone.
    pub(super) fn is_reached(self, lines: u64, of: u64) -> bool {
        match self {
            Self::AtLeast(least) => lines >= least,
            Self::Below(bound) => lines < bound,
            Self::Share(hundredths) => {
                u128::from(lines) * 10_000 >= u128::from(of) * u128::from(hundredths) && of > 0
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to lie in 1..=10,000"
)]
fn share(sign: &str, percent: &str) -> Result<Threshold, String> {
    if !matches!(sign, "" | ">=" | "≥") {
        return Err(format!(
            "a share can only be `>=`; to watch for too few, negate the query: {FORMS}"
        ));
    }
    let hundredths = percent
        .parse::<f64>()
        .map_or(0.0, |percent| (percent * 100.0).round());
    if (1.0..=10_000.0).contains(&hundredths) {
        Ok(Threshold::Share(hundredths as u32))
    } else {
        Err("a share lies between 0.01% and 100%".to_owned())
    }
}

/// `≥ 10`, `< 3`, `≥ 2.5%`.
impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::Below(bound) => write!(f, "< {bound}"),
            Self::Share(hundredths) => write!(f, "≥ {}%", f64::from(*hundredths) / 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_people_write_them() {
        for (text, threshold, shown) in [
            (">= 10", Threshold::AtLeast(10), "≥ 10"),
            ("10", Threshold::AtLeast(10), "≥ 10"),
            (">9", Threshold::AtLeast(10), "≥ 10"),
            ("< 3", Threshold::Below(3), "< 3"),
            ("<=2", Threshold::Below(3), "< 3"),
            (" absent ", Threshold::Below(1), "< 1"),
            (">= 2.5%", Threshold::Share(250), "≥ 2.5%"),
            ("100 %", Threshold::Share(10_000), "≥ 100%"),
        ] {
            assert_eq!(Threshold::parse(text), Ok(threshold), "{text}");
            assert_eq!(threshold.to_string(), shown);
        }
    }

    #[test]
    fn thresholds_that_say_nothing_are_refused_with_what_to_write() {
        for (text, said) in [
            ("", "is no threshold"),
            ("many", "is no threshold"),
            (">= 1.5", "is no threshold"),
            (">= 99999999999999999999", "is no threshold"),
            ("== 3", "compares nothing"),
            (">= 0", "always reached"),
            ("< 0", "never reached"),
            ("> 5%", "can only be `>=`"),
            (">= 0%", "between 0.01% and 100%"),
            (">= 101%", "between 0.01% and 100%"),
        ] {
            let error = Threshold::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_share_of_nothing_is_not_reached() {
        assert!(!Threshold::Share(1).is_reached(0, 0));
        assert!(Threshold::Share(500).is_reached(5, 100));
        assert!(!Threshold::Share(500).is_reached(5, 101));
    }
}
