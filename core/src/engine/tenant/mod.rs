//! One tenant: its secret, its pool, and what it is doing. Everything a request touches is here, so
//! requests of different tenants share nothing.

mod admission;
mod directory;
mod secret;

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use admission::Admission;
pub(crate) use admission::Refused;
pub(crate) use directory::{Admits, Directory};
use secret::Flight;

use super::{
    measure::{observer::EngineObserver, usage::TenantUsageCounters},
    pace::RateLimiter,
    pool::{Pool, PoolParts},
    secrets::{Secret, SecretSlot},
    settings::LimitsSettings,
};
use crate::{LimitOverrides, TenantId};

pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    holdings: Mutex<Holdings>,
    pub(crate) usage: Arc<TenantUsageCounters>,
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
}

/// A tenant's secret and its pool, under one lock: whenever both are there, the pool has the secret
/// that is kept.
#[derive(Default)]
pub(crate) struct Holdings {
    pub(crate) secret: SecretSlot<Arc<Secret>, Flight>,
    pub(crate) pool: Option<Arc<Pool>>,
}

impl Holdings {
    /// Whether the tenant has a connection, or one is being opened.
    pub(crate) fn is_open(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.is_open())
    }

    /// Whether a secret is kept or a connection open.
    pub(crate) fn is_known(&self) -> bool {
        self.secret.kept().is_some() || self.is_open()
    }

    /// The secret that is in use: the one that is kept, or the pool's if it was cleared.
    fn in_use(&self) -> Option<Arc<Secret>> {
        let of_pool = || self.pool.as_ref().map(|pool| pool.secret());
        self.secret.kept().cloned().or_else(of_pool)
    }
}

impl Tenant {
    /// One that is in use now, in an engine that was started at `start`. Its usage goes to
    /// `forgotten` when it is dropped.
    pub(crate) fn new(
        id: TenantId,
        start: Instant,
        observer: Option<Arc<dyn EngineObserver>>,
        forgotten: Arc<TenantUsageCounters>,
    ) -> Self {
        Self {
            id,
            holdings: Mutex::default(),
            usage: Arc::new(TenantUsageCounters::with_heir(forgotten)),
            observer,
            admission: Admission::default(),
            concurrent_requests: AtomicUsize::new(0),
            requests_per_second: AtomicU32::new(0),
            start,
            last_used: AtomicU64::new(start.elapsed().as_millis() as u64),
            rate: RateLimiter::default(),
        }
    }

    pub(crate) fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock()
    }

    pub(crate) fn pool(&self) -> Option<Arc<Pool>> {
        self.holdings().pool.clone()
    }

    /// Its secret and its pool, if the secret is fresh and the pool was made.
    pub(crate) fn at_hand(&self, now: Instant) -> Option<(Arc<Secret>, Arc<Pool>)> {
        let holdings = self.holdings();
        Some((holdings.secret.fresh(now)?.clone(), holdings.pool.clone()?))
    }

    /// Its pool, made with `secret` if there is none, and the secret that the pool has.
    pub(crate) fn open_pool(&self, secret: Arc<Secret>, parts: &Arc<PoolParts>) -> (Arc<Secret>, Arc<Pool>) {
        let mut holdings = self.holdings();
        let pool = match &holdings.pool {
            Some(pool) => pool.clone(),
            None => {
                // A newer one may have been read meanwhile.
                let secret = holdings.secret.kept().cloned().unwrap_or(secret);
                holdings.pool.insert(Pool::new(self.id, secret, parts.clone())).clone()
            }
        };
        (pool.secret(), pool)
    }

    /// Counts a request against the limit per second, if there is one; the error is when to come
    /// again.
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
    fn set_limits(&self, own: LimitOverrides) {
        let concurrent = own.concurrent_requests.unwrap_or(0);
        self.concurrent_requests.store(concurrent, Ordering::Relaxed);
        let per_second = own.requests_per_second.unwrap_or(0);
        self.requests_per_second.store(per_second, Ordering::Relaxed);
    }

    /// The database is used now, or is about to be.
    pub(crate) fn touch(&self, now: Instant) {
        let now = now.saturating_duration_since(self.start).as_millis() as u64;
        // Most uses come within the same millisecond as another, and what is not written need not
        // be read again by other cores.
        if self.last_used.load(Ordering::Relaxed) != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    /// When it was last used, since the engine started.
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

impl Admits for Tenant {
    fn admission(&self) -> &Admission {
        &self.admission
    }
}

/// A tenant in which one request is counted as running until this is dropped.
pub(crate) struct Admitted(Arc<Tenant>);

impl Admitted {
    /// Counts a request in, unless it may not run now.
    pub(crate) fn enter(tenant: Arc<Tenant>, limits: &LimitsSettings) -> Result<Self, Refused> {
        let limit = match tenant.concurrent_requests.load(Ordering::Relaxed) {
            0 => limits.concurrent_requests,
            own => own,
        };
        tenant.admission.enter(limit)?;
        Ok(Self(tenant))
    }
}

impl Deref for Admitted {
    type Target = Arc<Tenant>;

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
pub(crate) struct Held(Arc<Tenant>);

impl Held {
    /// Holds a tenant, unless it is forgotten already.
    pub(crate) fn new(tenant: Arc<Tenant>) -> Result<Self, Refused> {
        tenant.admission.hold()?;
        Ok(Self(tenant))
    }
}

impl Deref for Held {
    type Target = Arc<Tenant>;

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
    pub(crate) tenant: Admitted,
    pub(crate) secret: Arc<Secret>,
    pub(crate) pool: Arc<Pool>,
}
