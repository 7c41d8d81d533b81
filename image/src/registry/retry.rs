//! Waiting before asking again: twice as long each time, not in step with others, as long as the server wants, and
//! not for ever.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use jiff::Timestamp;

/// How long to wait for a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, with its TLS handshake.
    pub connect: Duration,
    /// For the next byte.
    pub idle: Duration,
    /// Before asking again, the first time.
    pub pause: Duration,
    /// Asking again, at most.
    pub repeats: u32,
    /// For all pauses of a request together. A registry that asks for a longer one is not asked again.
    pub pauses: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            pause: Duration::from_millis(250),
            repeats: 3,
            pauses: Duration::from_secs(60),
        }
    }
}

/// The pauses of one request.
#[derive(Debug)]
pub(super) struct Waits {
    pause: Duration,
    repeats: u32,
    left: Duration,
}

impl Waits {
    pub(super) fn new(patience: &Patience) -> Self {
        Self { pause: patience.pause, repeats: patience.repeats, left: patience.pauses }
    }

    /// For a request that is not repeated here, because its caller does.
    pub(super) fn none() -> Self {
        Self { pause: Duration::ZERO, repeats: 0, left: Duration::ZERO }
    }

    /// How long to wait now, `asked` being what the server said. `None`: it was repeated often enough.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.repeats = self.repeats.checked_sub(1)?;
        let wait = asked.unwrap_or_else(|| jitter(self.pause));
        self.pause = self.pause.saturating_mul(2);
        self.left = self.left.checked_sub(wait)?;
        Some(wait)
    }
}

/// Between half of it and all of it: many nodes that fail together should not come back together.
fn jitter(pause: Duration) -> Duration {
    // The standard library's hash keys are random, which is random enough.
    let share = RandomState::new().hash_one(0) % 512;
    pause / 2 + (pause / 2) * u32::try_from(share).unwrap_or(0) / 512
}

/// `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3).
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_ask_for_seconds_or_until_a_date() {
        let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        let table = [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Wed, 21 Oct 2015 07:28:10 GMT", Some(10)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ];
        for (text, seconds) in table {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        let patience = Patience { repeats: 3, pauses: Duration::from_secs(10), ..Patience::default() };
        let mut waits = Waits::new(&patience);
        for base in [250, 500, 1000] {
            let wait = waits.next(None).unwrap();
            assert!((base / 2..=base).contains(&wait.as_millis()), "{base}: {wait:?}");
        }
        assert_eq!(waits.next(None), None);
        let mut waits = Waits::new(&patience);
        assert_eq!(waits.next(Some(Duration::from_secs(6))), Some(Duration::from_secs(6)));
        assert_eq!(waits.next(Some(Duration::from_secs(6))), None, "12 seconds are more than 10");
        assert_eq!(Waits::none().next(Some(Duration::ZERO)), None);
    }
}
