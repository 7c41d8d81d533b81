//! Times and durations as rkt writes and reads them: Go's layouts, and ages for people.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `2006-01-02 15:04:05.999 -0700 MST`, in the machine's time zone; milliseconds without trailing zeros.
pub(crate) fn full(time: SystemTime) -> String {
    layout(time, TimeZone::system())
}

fn layout(time: SystemTime, zone: TimeZone) -> String {
    let Ok(time) = Timestamp::try_from(time) else { return String::new() };
    let time = time.to_zoned(zone);
    let milliseconds = format!("{:03}", time.millisecond());
    let fraction = milliseconds.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let (day, zone) = (time.strftime("%Y-%m-%d %H:%M:%S"), time.strftime("%z %Z"));
    format!("{day}{dot}{fraction} {zone}")
}

/// `3 minutes ago`
pub(crate) fn age(time: SystemTime, now: SystemTime) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const WEEK: u64 = 7 * DAY;
    const MONTH: u64 = 30 * DAY;
    const YEAR: u64 = 12 * MONTH;
    let (age, side) = match now.duration_since(time) {
        Ok(age) => (age.as_secs(), "ago"),
        Err(e) => (e.duration().as_secs(), "from now"),
    };
    let count = |unit: u64, name: &str| match age / unit {
        1 => format!("1 {name} {side}"),
        n => format!("{n} {name}s {side}"),
    };
    match age {
        0 => "now".to_owned(),
        1..MINUTE => count(1, "second"),
        MINUTE..HOUR => count(MINUTE, "minute"),
        HOUR..DAY => count(HOUR, "hour"),
        DAY..WEEK => count(DAY, "day"),
        WEEK..MONTH => count(WEEK, "week"),
        MONTH..YEAR => count(MONTH, "month"),
        _ => count(YEAR, "year"),
    }
}

/// Seconds since the epoch.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    Timestamp::try_from(time).map_or(0, Timestamp::as_second)
}

/// Nanoseconds since the epoch.
pub(crate) fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration such as 30m, 1h30m or 24h0m0s")]
pub(crate) struct InvalidDuration(String);

/// Reads a duration as Go writes it: numbers with units, `1h30m`, `1.5s`, `100ms`; `0` needs no unit.
pub(crate) fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.chars().take(64).collect());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (value, after) = rest.split_at(number);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(invalid()),
        };
        let value: f64 = value.parse().map_err(|_| invalid())?;
        let part = Duration::try_from_secs_f64(value * scale).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = next;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total) }
}

/// A duration as Go writes it, in whole seconds: `30m0s`.
pub(crate) fn show(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layouts() {
        let at = |milliseconds| SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
        assert_eq!(layout(at(1_500), TimeZone::UTC), "1970-01-01 00:00:01.5 +0000 UTC");
        assert_eq!(layout(at(2_000), TimeZone::UTC), "1970-01-01 00:00:02 +0000 UTC");
        assert_eq!(layout(at(1_050), TimeZone::UTC), "1970-01-01 00:00:01.05 +0000 UTC");
    }

    #[test]
    fn ages() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for (seconds, text) in [
            (0, "now"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (180, "3 minutes ago"),
            (7200, "2 hours ago"),
            (86_400 * 8, "1 week ago"),
        ] {
            assert_eq!(age(now - Duration::from_secs(seconds), now), text);
        }
        assert_eq!(age(now + Duration::from_secs(61), now), "1 minute from now");
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("30m", 1800.0),
            ("1h30m", 5400.0),
            ("24h0m0s", 86_400.0),
            ("1.5s", 1.5),
            ("0", 0.0),
            ("100ms", 0.1),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for bad in ["", "5", "m", "-1s", "1d", "1s ", "1e400s", "9999999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            (show(Duration::from_secs(1800)), show(Duration::from_secs(86_400))),
            ("30m0s".into(), "24h0m0s".into())
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(seconds in 0_u64..1 << 40) {
            let time = Duration::from_secs(seconds);
            prop_assert_eq!(duration(&show(time)), Ok(time));
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text in "[0-9.hmsuµn]{0,24}") {
            let _ = duration(&text);
        }
    }
}
