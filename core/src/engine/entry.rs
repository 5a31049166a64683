//! What the engine keeps of one tenant.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{
    observer::EngineObserver, pool::TenantPool, running::Running, secret_cache::SecretSlot, usage::TenantUsageCounters,
};
use crate::TenantId;

/// One tenant: its secret, its pool, and what it is doing. Everything a request touches is here, so requests of different tenants
/// share nothing.
pub(crate) struct TenantEntry {
    pub(crate) id: TenantId,
    pub(crate) secret: SecretSlot,
    pub(crate) pool: ArcSwapOption<TenantPool>,
    pub(crate) usage: TenantUsageCounters,
    pub(crate) observer: Option<Arc<dyn EngineObserver>>,
    hot: Hot,
    pub(super) running: Running,
    /// When the engine started.
    start: Instant,
    /// Milliseconds since `start`.
    last_used: AtomicU64,
    rate: RateLimiter,
    /// Takes over the usage when the entry is gone.
    forgotten: Arc<TenantUsageCounters>,
}

/// What each request of the tenant looks at, and what is seldom written: on a line of the processors' caches of its own, so that no core has to
/// fetch it because another has counted something.
#[derive(Default)]
#[repr(align(64))]
struct Hot {
    /// Rises whenever the secret or the pool is no longer what a request may have been given.
    epoch: AtomicU64,
    suspended: AtomicBool,
}

impl TenantEntry {
    /// One that is in use now, in an engine that was started at `start`.
    pub(crate) fn new(
        id: TenantId,
        start: Instant,
        observer: Option<Arc<dyn EngineObserver>>,
        forgotten: Arc<TenantUsageCounters>,
    ) -> Self {
        Self {
            id,
            secret: SecretSlot::default(),
            pool: ArcSwapOption::empty(),
            usage: TenantUsageCounters::default(),
            observer,
            hot: Hot::default(),
            running: Running::default(),
            start,
            last_used: AtomicU64::new(start.elapsed().as_millis() as u64),
            rate: RateLimiter::default(),
            forgotten,
        }
    }

    /// Counts a request against the limit per second; the error is when to come again.
    pub(crate) fn take_turn(&self, per_second: u32, now: Instant) -> Result<(), Duration> {
        self.rate.take(per_second, now.saturating_duration_since(self.start))
    }

    /// The database is used now, or is about to be.
    pub(crate) fn touch(&self, now: Instant) {
        let now = now.saturating_duration_since(self.start).as_millis() as u64;
        // Most uses come within the same millisecond as another, and what is not written need not be read again by other cores.
        if self.last_used.load(Ordering::Relaxed) != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    /// Of what is read between two looks at the same epoch, nothing changed.
    pub(crate) fn epoch(&self) -> u64 {
        self.hot.epoch.load(Ordering::Acquire)
    }

    /// What requests were given so far no longer holds. Called after the change, so that whoever sees the new epoch sees the change.
    pub(crate) fn next_epoch(&self) {
        self.hot.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends this epoch, unless it has ended.
    pub(crate) fn end_epoch(&self, epoch: u64) {
        let ended = self
            .hot
            .epoch
            .compare_exchange(epoch, epoch + 1, Ordering::AcqRel, Ordering::Relaxed);
        if ended.is_ok() {
            tracing::trace!(tenant_id = %self.id, "the secret is past its time");
        }
    }

    /// Forgets the secret; tells whether there was one.
    pub(crate) fn clear_secret(&self) -> bool {
        let was_kept = self.secret.clear();
        self.next_epoch();
        was_kept
    }

    pub(crate) fn last_used(&self) -> Duration {
        Duration::from_millis(self.last_used.load(Ordering::Relaxed))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.running.count()
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.hot.suspended.load(Ordering::Relaxed)
    }

    /// Refuses its requests from now on, or no longer.
    pub(crate) fn set_suspended(&self, suspended: bool) {
        self.hot.suspended.store(suspended, Ordering::Relaxed);
    }
}

impl Drop for TenantEntry {
    fn drop(&mut self) {
        self.forgotten.add(self.usage.usage());
    }
}

/// The generic cell rate algorithm with one second's worth of burst: one number says when the next request conforms.
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
        let mut arrival = self.arrival.load(Ordering::Relaxed);
        loop {
            let next = arrival.max(now) + interval;
            if next > now + SECOND.max(interval) {
                return Err(Duration::from_nanos(next - now - SECOND.max(interval)));
            }
            match self
                .arrival
                .compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(current) => arrival = current,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
