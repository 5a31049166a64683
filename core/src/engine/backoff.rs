//! Waits that double.

use std::time::Duration;

use tokio::time::Instant;

/// How long to leave something alone that failed: `first`, doubling with each failure up to `longest`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
            until: None,
        }
    }

    /// Notes a failure and tells how long to wait now.
    pub(crate) fn fail(&mut self, now: Instant) -> Duration {
        let delay = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + delay);
        delay
    }

    /// Notes a success.
    pub(crate) fn succeed(&mut self) {
        self.failures = 0;
        self.until = None;
    }

    /// How many failures there were in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// How long it is still to be left alone; `None` when it may be tried.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.until
            .and_then(|until| until.checked_duration_since(now))
            .filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_success() {
        let now = Instant::now();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(128));
        let waits: Vec<u64> = (0..9).map(|_| backoff.fail(now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 128]);
        assert!(backoff.remaining(now).is_some());
        assert!(backoff.remaining(now + Duration::from_secs(128)).is_none());
        backoff.succeed();
        assert_eq!(backoff.fail(now).as_secs(), 1);
    }
}
