//! One tenant: its secret, its pool, and what it is doing. Everything a request touches is here, so
//! requests of different tenants share nothing.

mod admission;
pub(crate) mod directory;
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
use secret::Flight;

use super::{
    measure::{observer::EngineObserver, usage::UsageAccount},
    pace::RateLimiter,
    pool::{Pool, PoolParts},
    secrets::{Secret, SecretSlot},
    settings::LimitsSettings,
};
use crate::{LimitOverrides, TenantId};

pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    holdings: Mutex<Holdings>,
    pub(crate) usage: Arc<UsageAccount>,
    pub(crate) observer: Option<Arc<dyn EngineObserver>>,
    pub(crate) admission: Admission,
    /// The most requests at once, and per second; 0 for no limit per second.
    concurrent_requests: AtomicUsize,
    requests_per_second: AtomicU32,
    /// When the engine started.
    start: Instant,
    /// Milliseconds since `start`, counted from 1; 0 if no request and no operator used it yet.
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
        self.pool.as_ref().is_some_and(|pool| pool.health().is_open)
    }

    /// Whether a secret is kept or a connection open.
    pub(crate) fn is_known(&self) -> bool {
        self.secret.kept().is_some() || self.is_open()
    }

    /// The secret that is in use: the one that is kept, or the pool's if it was cleared.
    pub(crate) fn in_use(&self) -> Option<Arc<Secret>> {
        let of_pool = || self.pool.as_ref().map(|pool| pool.secret());
        self.secret.kept().cloned().or_else(of_pool)
    }

    /// Has the next connection look at the database again.
    pub(crate) fn prepare_again(&self) {
        self.pool.iter().for_each(|pool| pool.prepare_again());
    }

    /// Forgets the secret and closes the pool. Requests that have the pool go on with it and may
    /// open connections in it; the tenant's next pool has a maximum of its own.
    pub(crate) fn let_go(&mut self) {
        self.secret.let_go();
        self.pool.take().iter().for_each(|pool| pool.close());
    }
}

impl Tenant {
    /// One that was not used yet, in an engine that was started at `start`. Its usage goes to
    /// `forgotten` when it is dropped.
    pub(crate) fn new(
        id: TenantId,
        start: Instant,
        limits: &LimitsSettings,
        observer: Option<Arc<dyn EngineObserver>>,
        forgotten: Arc<UsageAccount>,
    ) -> Self {
        let tenant = Self {
            id,
            holdings: Mutex::default(),
            usage: Arc::new(UsageAccount::with_heir(forgotten)),
            observer,
            admission: Admission::default(),
            concurrent_requests: AtomicUsize::default(),
            requests_per_second: AtomicU32::default(),
            start,
            last_used: AtomicU64::new(0),
            rate: RateLimiter::default(),
        };
        tenant.set_limits(limits, LimitOverrides::default());
        tenant
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
    pub(crate) fn take_turn(&self) -> Result<(), Duration> {
        match self.requests_per_second.load(Ordering::Relaxed) {
            0 => Ok(()),
            per_second => self.rate.take(per_second, self.start.elapsed()),
        }
    }

    /// Takes the limits of the configuration, or those that its secret sets.
    fn set_limits(&self, limits: &LimitsSettings, own: LimitOverrides) {
        let concurrent = own.concurrent_requests.unwrap_or(limits.concurrent_requests);
        self.concurrent_requests.store(concurrent, Ordering::Relaxed);
        let per_second = own.requests_per_second.or(limits.requests_per_second);
        self.requests_per_second
            .store(per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// The database is used now, or is about to be.
    pub(crate) fn touch(&self, now: Instant) {
        let now = 1 + now.saturating_duration_since(self.start).as_millis() as u64;
        // Most uses come within the same millisecond as another, and what is not written need not
        // be read again by other cores.
        if self.last_used.load(Ordering::Relaxed) != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
    }

    /// The greater, the later it was last used.
    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    pub(crate) fn was_used(&self) -> bool {
        self.last_used() > 0
    }
}

/// A tenant that is not forgotten until this is dropped.
pub(crate) struct Held {
    tenant: Arc<Tenant>,
    /// Whether it counts as a running request.
    is_request: bool,
}

impl Held {
    /// Counts a request in, unless it may not run now.
    pub(crate) fn enter(tenant: Arc<Tenant>) -> Result<Self, Refused> {
        tenant
            .admission
            .enter(tenant.concurrent_requests.load(Ordering::Relaxed))?;
        Ok(Self {
            tenant,
            is_request: true,
        })
    }

    /// Holds a tenant for something other than a request, unless it is forgotten already.
    pub(crate) fn new(tenant: Arc<Tenant>) -> Result<Self, Refused> {
        tenant.admission.hold()?;
        Ok(Self {
            tenant,
            is_request: false,
        })
    }
}

impl Deref for Held {
    type Target = Arc<Tenant>;

    fn deref(&self) -> &Self::Target {
        &self.tenant
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tenant.admission.leave(self.is_request);
    }
}
