//! Kubernetes quantities: `500m`, `1.5Gi`, `1e9`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The quantity in units of 1/`per_unit`, rounded up as the API does; `None` when it is negative, no quantity, or
/// larger than fits.
pub(super) fn quantity(quantity: &Quantity, per_unit: u64) -> Option<u64> {
    let text = quantity.0.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, divisor) = scale(suffix)?;
    let places = u32::try_from(fraction.len()).ok()?;
    let value = digits
        .checked_mul(factor)?
        .checked_mul(u128::from(per_unit))?;
    let divisor = divisor.checked_mul(10u128.checked_pow(places)?)?;
    u64::try_from(value.div_ceil(divisor)).ok()
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10u128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_every_notation() {
        let bytes = |text: &str| quantity(&Quantity(text.to_owned()), 1);
        for (text, expected) in [
            ("128974848", Some(128_974_848)),
            ("512Mi", Some(512 << 20)),
            ("1.5Gi", Some(3 << 29)),
            ("129e6", Some(129_000_000)),
            ("129M", Some(129_000_000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("128974848000m", Some(128_974_848)),
            ("1m", Some(1)),
            ("0", Some(0)),
            (".5Ki", Some(512)),
            ("", None),
            (".", None),
            ("-1", None),
            ("Mi", None),
            ("1Xi", None),
            ("1.2.3", None),
            ("99999999999999999999Ei", None),
            ("1e99", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        let millis = |text: &str| quantity(&Quantity(text.to_owned()), 1_000);
        assert_eq!(millis("500m"), Some(500));
        assert_eq!(millis("2"), Some(2_000));
        assert_eq!(millis("0.1"), Some(100));
        assert_eq!(millis("100u"), Some(1));
    }
}
