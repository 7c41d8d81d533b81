//! Quantities, as Kubernetes writes amounts of CPU and memory: `500m`, `1.5`, `64Mi`, `1e3`.
//!
//! The grammar is that of `k8s.io/apimachinery/pkg/api/resource`: a signed decimal number and one suffix, which is a
//! binary one (`Ki` … `Ei`), a decimal one (`n` `u` `m` `k` … `E`) or an exponent (`e3`, `E-2`).
//! Amounts are kept in billionths, exactly; what is finer than that is rounded up.

use std::str::FromStr;

/// An amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Quantity {
    nano: i128,
}

/// The text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity such as 500m, 2 or 64Mi")]
pub(crate) struct InvalidQuantity(String);

const NANO: i128 = 1_000_000_000;
/// Nobody writes longer ones; it bounds the work.
const LONGEST: usize = 40;

impl Quantity {
    /// The amount in whole units, rounded up: bytes of memory. What is negative is none.
    pub(crate) fn units(self) -> u64 {
        rounded_up(self.nano, NANO)
    }

    /// The amount in thousandths, rounded up: milli-CPUs.
    pub(crate) fn millis(self) -> u64 {
        rounded_up(self.nano, NANO / 1000)
    }

    /// Whether it is less than nothing.
    pub(crate) fn is_negative(self) -> bool {
        self.nano < 0
    }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        parse(text).map(|nano| Self { nano }).ok_or_else(|| InvalidQuantity(text.chars().take(60).collect()))
    }
}

fn rounded_up(nano: i128, unit: i128) -> u64 {
    let whole = nano.max(0).saturating_add(unit - 1) / unit;
    u64::try_from(whole).unwrap_or(u64::MAX)
}

fn parse(text: &str) -> Option<i128> {
    if text.len() > LONGEST {
        return None;
    }
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let scale = Scale::of(suffix)?;
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let mut value = digits.checked_mul(scale.factor)?;
    let tenths = scale.tenths.checked_add(u32::try_from(fraction.len()).ok()?)?;
    let divisor = 10_i128.checked_pow(tenths)?;
    value = value.checked_add(divisor - 1)? / divisor;
    Some(if negative { -value } else { value })
}

/// What a suffix multiplies by: `factor / 10^tenths` billionths.
struct Scale {
    factor: i128,
    tenths: u32,
}

impl Scale {
    fn of(suffix: &str) -> Option<Self> {
        let whole = |factor| Some(Self { factor, tenths: 0 });
        let binary = |power| whole(NANO.checked_mul(1024_i128.checked_pow(power)?)?);
        match suffix {
            "n" => whole(1),
            "u" => whole(1000),
            "m" => whole(1_000_000),
            "" => whole(NANO),
            "k" => whole(NANO * 1000),
            "M" => whole(NANO * 1_000_000),
            "G" => whole(NANO * NANO),
            "T" => whole(NANO * NANO * 1000),
            "P" => whole(NANO * NANO * 1_000_000),
            "E" => whole(NANO * NANO * NANO),
            "Ki" => binary(1),
            "Mi" => binary(2),
            "Gi" => binary(3),
            "Ti" => binary(4),
            "Pi" => binary(5),
            "Ei" => binary(6),
            _ => Self::exponent(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
        }
    }

    fn exponent(power: i32) -> Option<Self> {
        let size = 10_i128.checked_pow(power.unsigned_abs())?;
        match power {
            0.. => Some(Self { factor: NANO.checked_mul(size)?, tenths: 0 }),
            _ => Some(Self { factor: NANO, tenths: power.unsigned_abs() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn amounts() {
        let table = [
            ("0", 0, 0),
            ("1", 1, 1000),
            ("500m", 1, 500),
            ("1.5", 2, 1500),
            (".5", 1, 500),
            ("5.", 5, 5000),
            ("0.1m", 1, 1),
            ("100u", 1, 1),
            ("1n", 1, 1),
            ("64Mi", 64 << 20, (64 << 20) * 1000),
            ("1.5Gi", 3 << 29, (3 << 29) * 1000),
            ("2k", 2000, 2_000_000),
            ("1e3", 1000, 1_000_000),
            ("12E-1", 2, 1200),
            ("1E", 1_000_000_000_000_000_000, u64::MAX),
            ("+3", 3, 3000),
            ("-3", 0, 0),
        ];
        for (text, units, millis) in table {
            assert_eq!((quantity(text).units(), quantity(text).millis()), (units, millis), "{text}");
        }
        assert!(quantity("-1m").is_negative());
        assert_eq!(quantity("1000m"), quantity("1"));
        assert_eq!(quantity("1024Ki"), quantity("1Mi"));
        assert!(quantity("129e6") > quantity("123Mi"));
    }

    #[test]
    fn what_is_no_amount() {
        let long = "1".repeat(50);
        for bad in [
            "", "-", ".", "Mi", "1 Mi", "1mi", "1MI", "1K", "0x10", "1.2.3", "1e", "1e99", "e3", "１", "NaN",
            &long,
        ] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad:?}");
        }
    }
}
