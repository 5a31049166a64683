//! Pauses that double, and a limit on how many requests come in a second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// A wait that doubles `times`, up to the longest.
pub(crate) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(20)).min(longest)
}

/// How long to leave something alone that failed: `first`, doubling with each failure up to
/// `longest`.
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

    /// Notes a failure and returns how long to wait now.
    pub(crate) fn fail(&mut self, now: Instant) -> Duration {
        self.fail_for(Duration::ZERO, now)
    }

    /// As [`fail`](Self::fail); the wait is also at least `asked`, but never longer than the
    /// longest.
    pub(crate) fn fail_for(&mut self, asked: Duration, now: Instant) -> Duration {
        let delay = doubled(self.first, self.failures, self.longest).max(asked.min(self.longest));
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

/// The generic cell rate algorithm with one second's worth of burst: one number says when the next
/// request conforms.
#[derive(Default)]
pub(crate) struct RateLimiter {
    /// The theoretical arrival time of the next request, in nanoseconds since the engine started.
    arrival: AtomicU64,
}

impl RateLimiter {
    /// Counts one in; the error is when to come again.
    pub(crate) fn take(&self, per_second: u32, since_start: Duration) -> Result<(), Duration> {
        const SECOND: u64 = 1_000_000_000;
        let now = since_start.as_nanos() as u64;
        let interval = SECOND / u64::from(per_second.max(1));
        let next = |arrival: u64| arrival.max(now) + interval;
        let latest = now + SECOND.max(interval);
        let taken = self
            .arrival
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |arrival| {
                Some(next(arrival)).filter(|next| *next <= latest)
            });
        taken.map_or_else(|arrival| Err(Duration::from_nanos(next(arrival) - latest)), |_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_maximum_and_reset_on_success() {
        let now = Instant::now();
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(128));
        let waits: Vec<u64> = (0..9).map(|_| backoff.fail(now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 128]);
        assert!(backoff.remaining(now).is_some());
        assert!(backoff.remaining(now + Duration::from_secs(128)).is_none());
        backoff.succeed();
        assert_eq!(backoff.fail(now).as_secs(), 1);
        let waits = [5, 1, 3600].map(|asked| backoff.fail_for(Duration::from_secs(asked), now).as_secs());
        assert_eq!(waits, [5, 4, 128]);
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_one_an_interval() {
        let limiter = RateLimiter::default();
        let start = Duration::from_secs(100);
        assert!((0..10).all(|_| limiter.take(10, start).is_ok()));
        let wait = limiter.take(10, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(limiter.take(10, start + wait).is_ok());
        assert!(limiter.take(10, start + wait).is_err());
    }
}
