//! What the engine keeps of one tenant.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::{
    observer::EngineObserver,
    pool::TenantPool,
    secret_cache::{Secret, SecretSlot},
    settings::LimitsSettings,
    tenant::{Admission, Admits, RateLimiter, Refused},
    usage::TenantUsageCounters,
};
use crate::{LimitOverrides, TenantId};

/// One tenant: its secret, its pool, and what it is doing. Everything a request touches is here, so requests of different tenants
/// share nothing.
pub(crate) struct TenantEntry {
    pub(crate) id: TenantId,
    pub(crate) secret: SecretSlot,
    pub(crate) pool: ArcSwapOption<TenantPool>,
    pub(crate) usage: TenantUsageCounters,
    pub(crate) observer: Option<Arc<dyn EngineObserver>>,
    admission: Admission,
    /// The limits of its secret; 0 for those of the configuration.
    concurrent_requests: AtomicUsize,
    requests_per_second: AtomicU32,
    /// When the engine started.
    start: Instant,
    /// Milliseconds since `start`.
    last_used: AtomicU64,
    rate: RateLimiter,
    /// Takes over the usage when the entry is gone.
    forgotten: Arc<TenantUsageCounters>,
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
            admission: Admission::default(),
            concurrent_requests: AtomicUsize::new(0),
            requests_per_second: AtomicU32::new(0),
            start,
            last_used: AtomicU64::new(start.elapsed().as_millis() as u64),
            rate: RateLimiter::default(),
            forgotten,
        }
    }

    /// Counts a request against its tenant's limit per second, if there is one; the error is when to come again.
    pub(crate) fn take_turn(&self, limits: &LimitsSettings) -> Result<(), Duration> {
        let per_second = match self.requests_per_second.load(Ordering::Relaxed) {
            0 => limits.requests_per_second,
            own => Some(own),
        };
        match per_second {
            Some(per_second) => self.rate.take(per_second, self.start.elapsed()),
            None => Ok(()),
        }
    }

    /// Takes the limits that its secret sets.
    pub(crate) fn set_limits(&self, own: LimitOverrides) {
        let concurrent = own.concurrent_requests.unwrap_or(0);
        self.concurrent_requests.store(concurrent, Ordering::Relaxed);
        let per_second = own.requests_per_second.unwrap_or(0);
        self.requests_per_second.store(per_second, Ordering::Relaxed);
    }

    /// The database is used now, or is about to be.
    pub(crate) fn touch(&self, now: Instant) {
        let now = now.saturating_duration_since(self.start).as_millis() as u64;
        // Most uses come within the same millisecond as another, and what is not written need not be read again by other cores.
        if self.last_used.load(Ordering::Relaxed) != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    pub(crate) fn last_used(&self) -> Duration {
        Duration::from_millis(self.last_used.load(Ordering::Relaxed))
    }

    /// How many of its requests are running.
    pub(crate) fn in_flight(&self) -> usize {
        self.admission.running()
    }

    /// Whether nothing uses it and it is not suspended.
    pub(crate) fn is_idle(&self) -> bool {
        self.admission.is_idle()
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.admission.is_suspended()
    }

    /// Refuses its requests from now on, or no longer.
    pub(crate) fn set_suspended(&self, suspended: bool) -> Result<(), Refused> {
        self.admission.set_suspended(suspended)
    }
}

impl Admits for TenantEntry {
    fn admission(&self) -> &Admission {
        &self.admission
    }
}

impl Drop for TenantEntry {
    fn drop(&mut self) {
        self.forgotten.add(self.usage.usage());
    }
}

/// A tenant in which one request is counted as running until this is dropped.
pub(crate) struct Admitted(Arc<TenantEntry>);

impl Admitted {
    /// Counts a request in, unless it may not run now.
    pub(crate) fn enter(entry: Arc<TenantEntry>, limits: &LimitsSettings) -> Result<Self, Refused> {
        let limit = match entry.concurrent_requests.load(Ordering::Relaxed) {
            0 => limits.concurrent_requests,
            own => own,
        };
        entry.admission.enter(limit)?;
        Ok(Self(entry))
    }
}

impl Deref for Admitted {
    type Target = Arc<TenantEntry>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.admission.leave();
    }
}

/// A tenant that is not forgotten until this is dropped.
pub(crate) struct Held(Arc<TenantEntry>);

impl Held {
    /// Holds a tenant, unless it is forgotten already.
    pub(crate) fn new(entry: Arc<TenantEntry>) -> Result<Self, Refused> {
        entry.admission.hold()?;
        Ok(Self(entry))
    }
}

impl Deref for Held {
    type Target = Arc<TenantEntry>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.admission.release();
    }
}

/// What a request needs of its tenant.
pub(crate) struct OpenTenant {
    pub(crate) entry: Admitted,
    pub(crate) secret: Arc<Secret>,
    pub(crate) pool: Arc<TenantPool>,
}
