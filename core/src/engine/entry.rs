//! What the engine keeps of one tenant.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use super::{pool::TenantPool, secret_cache::SecretSlot};
use crate::TenantId;

/// One tenant: its secret, its pool, and what it is doing. Everything a request touches is here, so requests of different tenants
/// share nothing but the shard of the map that this was found in.
pub(crate) struct TenantEntry {
    pub(crate) id: TenantId,
    pub(crate) secret: SecretSlot,
    pub(crate) pool: ArcSwapOption<TenantPool>,
    pub(crate) suspended: AtomicBool,
    pub(crate) queries: QueryCounters,
    in_flight: AtomicUsize,
    /// Milliseconds since the engine started.
    last_used: AtomicU64,
    rate: RateLimiter,
}

impl TenantEntry {
    pub(crate) fn new(id: TenantId) -> Self {
        Self {
            id,
            secret: SecretSlot::default(),
            pool: ArcSwapOption::empty(),
            suspended: AtomicBool::new(false),
            queries: QueryCounters::default(),
            in_flight: AtomicUsize::new(0),
            last_used: AtomicU64::new(0),
            rate: RateLimiter::default(),
        }
    }

    /// Counts a request in; `None` when the tenant has as many running as it may.
    pub(crate) fn enter(self: Arc<Self>, limit: usize) -> Option<InFlight> {
        if self.in_flight.fetch_add(1, Ordering::AcqRel) < limit {
            return Some(InFlight(self));
        }
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        None
    }

    /// Counts a request against the limit per second; the error is when to come again.
    pub(crate) fn take_turn(&self, per_second: u32, since_start: Duration) -> Result<(), Duration> {
        self.rate.take(per_second, since_start)
    }

    pub(crate) fn touch(&self, since_start: Duration) {
        let now = since_start.as_millis() as u64;
        // Most requests come within the same millisecond as another, and what is not written need not be read again by other cores.
        if self.last_used.load(Ordering::Relaxed) != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    pub(crate) fn last_used(&self) -> Duration {
        Duration::from_millis(self.last_used.load(Ordering::Relaxed))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Relaxed)
    }
}

/// A request that is counted in, until it is dropped.
pub(crate) struct InFlight(Arc<TenantEntry>);

impl InFlight {
    pub(crate) fn entry(&self) -> &Arc<TenantEntry> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A tenant's statements since its entry was made.
#[derive(Default)]
pub(crate) struct QueryCounters {
    total: AtomicU64,
    slow: AtomicU64,
    failed: AtomicU64,
    nanoseconds: AtomicU64,
}

/// A tenant's statements since the server began to know it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// All of them.
    pub total: u64,
    /// Those over the tenant's threshold for slow ones.
    pub slow: u64,
    /// Those that failed.
    pub failed: u64,
    /// How long one took on average, waiting for a connection included.
    pub mean: Duration,
}

impl QueryCounters {
    pub(crate) fn record(&self, elapsed: Duration, slow: bool, failed: bool) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(elapsed.as_nanos() as u64, Ordering::Relaxed);
        if slow {
            self.slow.fetch_add(1, Ordering::Relaxed);
        }
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn stats(&self) -> QueryStats {
        let total = self.total.load(Ordering::Relaxed);
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        QueryStats {
            total,
            slow: self.slow.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            mean: Duration::from_nanos(nanoseconds.checked_div(total).unwrap_or(0)),
        }
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

    #[test]
    fn one_request_over_the_limit_is_refused_and_leaves_no_trace() {
        let entry = Arc::new(TenantEntry::new("tenant1".parse().unwrap()));
        let first = entry.clone().enter(1);
        assert!(first.is_some());
        assert!(entry.clone().enter(1).is_none());
        assert_eq!(entry.in_flight(), 1);
        drop(first);
        assert!(entry.clone().enter(1).is_some());
    }
}
