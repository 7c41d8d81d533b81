//! Kubernetes quantities, as appc's resource isolators and `--memory`, `--cpu` use them: `128Mi`, `1.5`, `250m`, `1e3`.

/// The text is not a quantity, or is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity such as 128Mi, 1.5 or 250m")]
pub(crate) struct InvalidQuantity(String);

/// A quantity as whole bytes, rounded up.
pub(crate) fn bytes(text: &str) -> Result<i64, InvalidQuantity> {
    let nano = nano(text)?;
    i64::try_from(nano.div_ceil(NANO)).map_err(|_| InvalidQuantity(text.to_owned()))
}

/// A quantity as thousandths, rounded up: CPU time in thousandths of a core.
pub(crate) fn millicores(text: &str) -> Result<i64, InvalidQuantity> {
    let nano = nano(text)?;
    i64::try_from(nano.div_ceil(NANO / 1000)).map_err(|_| InvalidQuantity(text.to_owned()))
}

const NANO: u128 = 1_000_000_000;

/// The number in billionths, which is as fine as Kubernetes' own numbers get.
fn nano(text: &str) -> Result<u128, InvalidQuantity> {
    let invalid = || InvalidQuantity(text.chars().take(64).collect());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 || whole.len() > 19 {
        return Err(invalid());
    }
    let digits = |d: &str| if d.is_empty() { Ok(0) } else { d.parse::<u128>().map_err(|_| invalid()) };
    let places = 9 - u32::try_from(fraction.len()).map_err(|_| invalid())?;
    let value = digits(whole)? * NANO + digits(fraction)? * 10_u128.pow(places);
    let (numerator, denominator) = scale(suffix).ok_or_else(invalid)?;
    value.checked_mul(numerator).map(|v| v.div_ceil(denominator)).ok_or_else(invalid)
}

/// What a suffix multiplies by, as a fraction.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    if let Some(exponent) = suffix.strip_prefix(['e', 'E'])
        && !exponent.is_empty()
    {
        let exponent: i32 = exponent.parse().ok()?;
        let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
        return (exponent.abs() <= 18).then_some(if exponent < 0 { (1, power) } else { (power, 1) });
    }
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" | "K" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (10_u128.pow(12), 1),
        "P" => (10_u128.pow(15), 1),
        "E" => (10_u128.pow(18), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_they_mean() {
        let table =
            [("128Mi", 128 << 20), ("1.5k", 1500), ("1", 1), ("100m", 1), ("1e3", 1000), (".5Gi", 1 << 29)];
        for (text, n) in table {
            assert_eq!(bytes(text), Ok(n), "{text}");
        }
        for (text, n) in [("250m", 250), ("1.5", 1500), ("2", 2000), ("0", 0), ("1u", 1)] {
            assert_eq!(millicores(text), Ok(n), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for bad in
            ["", "-1", "1 Mi", "Mi", ".", "1.2.3", "1x", "99E", "1e99", "99999999999999999999", "1\n", "é"]
        {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_quantity_or_an_error(text in "[0-9.]{0,24}[a-zA-Zé+-]{0,4}") {
            let _ = (bytes(&text), millicores(&text));
        }

        #[test]
        fn whole_numbers_mean_themselves(n in 0..i64::MAX / 1000) {
            prop_assert_eq!(bytes(&n.to_string()), Ok(n));
            prop_assert_eq!(millicores(&n.to_string()), Ok(n * 1000));
            prop_assert_eq!(millicores(&format!("{n}m")), Ok(n));
        }
    }
}
