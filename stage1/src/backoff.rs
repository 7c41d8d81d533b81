//! How long to wait before an app that keeps ending is started again, `docs/decisions/restart-back-off.md`.
//!
//! Computed from the records of the attempts, so that it needs no process that remembers.

use jiff::{SignedDuration, Timestamp};
use pod::attempt::Attempt;
use pod::stage1::Backoff;

/// The time to wait from `now` on; zero when the app may be started. `attempts`: oldest first, without the new one.
pub fn due(backoff: Backoff, attempts: &[Attempt], now: Timestamp) -> SignedDuration {
    let ends = attempts.iter().rev().filter_map(|a| a.ended.as_ref().map(|e| (a, e.at)));
    let mut last_end = None;
    let mut failures: u32 = 0;
    for (attempt, end) in ends {
        let _ = last_end.get_or_insert(end);
        failures = failures.saturating_add(1);
        // A long run starts the series again: its end is the first of the new one.
        if ran_for(attempt, end) >= SignedDuration::from_secs(backoff.reset.into()) {
            break;
        }
    }
    let Some(last_end) = last_end else { return SignedDuration::ZERO };
    let delay = SignedDuration::from_secs(backoff.delay(failures).into());
    let passed = now.duration_since(last_end);
    // A clock that was set back must not make anybody wait longer than the delay.
    (delay - passed).clamp(SignedDuration::ZERO, delay)
}

/// An attempt that never started ran for no time.
fn ran_for(attempt: &Attempt, end: Timestamp) -> SignedDuration {
    attempt.started.as_ref().map_or(SignedDuration::ZERO, |s| end.duration_since(s.at))
}

#[cfg(test)]
mod tests {
    use pod::ProcessRef;
    use pod::attempt::{Ended, Exit, Started};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ran(from: i64, to: i64) -> Attempt {
        Attempt {
            number: 1,
            started: Some(Started {
                at: at(from),
                process: ProcessRef { pid: 1, start: 1 },
                invocation_id: None,
            }),
            error: None,
            ended: Some(Ended { at: at(to), exit: Exit::Exited(1), result: "exit-code".to_owned() }),
        }
    }

    fn wait(attempts: &[Attempt], now: i64) -> i64 {
        due(Backoff::KUBERNETES, attempts, at(now)).as_secs()
    }

    #[test]
    fn the_first_start_waits_for_nothing() {
        assert_eq!(wait(&[], 0), 0);
        let unfinished = Attempt { ended: None, ..ran(0, 1) };
        assert_eq!(wait(&[unfinished], 2), 0);
    }

    #[test]
    fn delays_double_and_count_from_the_last_end() {
        assert_eq!(wait(&[ran(0, 1)], 1), 10);
        assert_eq!(wait(&[ran(0, 1)], 5), 6);
        assert_eq!(wait(&[ran(0, 1)], 60), 0);
        assert_eq!(wait(&[ran(0, 1), ran(11, 12)], 12), 20);
        let many: Vec<_> = (0..16).map(|i| ran(i * 400, i * 400 + 1)).collect();
        assert_eq!(wait(&many, 15 * 400 + 1), 300);
    }

    #[test]
    fn a_long_run_starts_the_series_again() {
        let attempts = [ran(0, 1), ran(11, 12), ran(32, 700)];
        assert_eq!(wait(&attempts, 700), 10);
        assert_eq!(wait(&[ran(0, 700), ran(710, 711)], 711), 20);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_stop_anybody() {
        assert_eq!(wait(&[ran(1_000_000, 1_000_001)], 0), 10);
    }
}
