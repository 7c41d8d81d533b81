//! Back-off of actions that failed: the same series as for containers, 10 s doubling to 5 min by default.
//!
//! (Restarts of containers are not here: systemd and the stage1 do those, also while no kubelet runs.)

use std::time::Duration;

use pod::stage1::Backoff;
use tokio::time::Instant;

/// Counts failures of one kind and says when the next try is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    backoff: Backoff,
    failures: u32,
    last: Option<Instant>,
}

impl Retry {
    /// No failures yet.
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, last: None }
    }

    /// It failed, or has to be done once more.
    pub(crate) fn failed(&mut self, now: Instant) {
        let reset = Duration::from_secs(self.backoff.reset.into());
        if self.last.is_some_and(|last| now.duration_since(last) > self.delay().saturating_add(reset)) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
    }

    /// It worked, or what is to be done is something else now.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.backoff);
    }

    /// How often it failed in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// When it may be tried again. `None`: now.
    pub(crate) fn not_before(&self, now: Instant) -> Option<Instant> {
        let due = self.last?.checked_add(self.delay())?;
        (due > now).then_some(due)
    }

    fn delay(&self) -> Duration {
        Duration::from_secs(self.backoff.delay(self.failures).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn delays_grow_and_a_long_peace_forgets() {
        let mut retry = Retry::new(Backoff::KUBERNETES);
        let wait = |retry: &Retry| {
            retry.not_before(Instant::now()).map(|due| due.duration_since(Instant::now()).as_secs())
        };
        assert_eq!(wait(&retry), None);
        for expected in [10, 20, 40] {
            retry.failed(Instant::now());
            assert_eq!(wait(&retry), Some(expected));
            tokio::time::advance(Duration::from_secs(expected)).await;
            assert_eq!(wait(&retry), None);
        }
        tokio::time::advance(Duration::from_secs(700)).await;
        retry.failed(Instant::now());
        assert_eq!((wait(&retry), retry.failures()), (Some(10), 1));
        retry.reset();
        assert_eq!(wait(&retry), None);
    }
}
