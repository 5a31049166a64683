//! Asks the provider for secrets: so many at once, for tenants that may exist, each within a
//! deadline. [`SecretSlot`] holds the rules for how long a secret is used; a tenant's slot, and the
//! fetch that fills it, are in [`tenant`](super::tenant).

mod secret;
mod slot;
mod unknown;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

pub(crate) use secret::{Drivers, Secret, SecretError};
pub(crate) use slot::{AfterRefusal, Read, SecretSlot, Stored, Times};
use unknown::{UnknownTenants, Verdict};

use self::secret::LEASE_DEADLINE;
use super::settings::{PoolsSettings, SecretsSettings};
use crate::{
    Connection, DriverError, DriverErrorKind, Encryption, ProviderError, SecretDocument, SecretInvalid, SecretProvider,
    TenantId,
};

/// How long one fetch may take, and how long it may wait for its turn.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);
/// How long the provider may take to name every tenant.
pub(crate) const LIST_DEADLINE: Duration = Duration::from_secs(30);
/// The most fetches at once, over all tenants.
const CONCURRENT_FETCHES: usize = 32;
/// Which part of a lease is over when it is renewed.
const RENEW_AT: f64 = 0.8;

/// The counters of `/health/cache`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecretMetrics {
    /// Reads that were answered without a fetch of their own.
    pub hits: u64,
    /// Reads that made a fetch.
    pub misses: u64,
    /// Secrets that are kept now.
    pub entries: usize,
    /// The most that are kept.
    pub capacity: usize,
    /// Secrets that went to make room.
    pub evictions: u64,
    /// Reads that were answered with a secret past its time to live.
    pub stale_served: u64,
    /// Kept secrets that were read anew.
    pub refreshes: u64,
    /// Fetches that failed, an unknown tenant not counted.
    pub refresh_failures: u64,
    /// Requests for unknown tenants that were answered from memory.
    pub not_found_hits: u64,
}

/// Counted here: what [`SecretMetrics`] shows, but for the hits, which each tenant counts itself.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) misses: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) stale_served: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    pub(crate) refresh_failures: AtomicU64,
    pub(crate) not_found_hits: AtomicU64,
    /// Pools that took a changed secret.
    pub(crate) rotations: AtomicU64,
}

/// Adds one to a counter.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) struct Secrets {
    provider: Arc<dyn SecretProvider>,
    provider_type: Arc<str>,
    drivers: Drivers,
    settings: SecretsSettings,
    pools: PoolsSettings,
    pub(crate) unknown: Arc<UnknownTenants>,
    fetches: Semaphore,
    pub(crate) counters: Counters,
    /// Tenants that the provider no longer knows, to be forgotten once nothing uses them.
    pub(crate) gone: Mutex<Vec<TenantId>>,
}

/// The right to ask the provider for one secret.
pub(crate) enum Turn<'a> {
    Ask {
        /// Held until the answer has landed.
        _permit: SemaphorePermit<'a>,
    },
    /// It is known that there is no such tenant.
    Unknown,
}

/// What the provider answered.
pub(crate) enum Fetched {
    Secret(Box<Secret>),
    /// The lease of the secret that is kept was extended by this much.
    Renewed(Duration),
    Invalid(SecretInvalid),
}

impl Secrets {
    pub(crate) fn new(
        provider: Arc<dyn SecretProvider>,
        provider_type: Arc<str>,
        drivers: Drivers,
        settings: SecretsSettings,
        pools: PoolsSettings,
    ) -> Self {
        let unknown = UnknownTenants::new(provider.clone(), settings.not_found_ttl.into(), LIST_DEADLINE);
        Self {
            provider,
            provider_type,
            drivers,
            settings,
            pools,
            unknown: Arc::new(unknown),
            fetches: Semaphore::new(CONCURRENT_FETCHES),
            counters: Counters::default(),
            gone: Mutex::default(),
        }
    }

    pub(crate) fn provider(&self) -> &dyn SecretProvider {
        &*self.provider
    }

    pub(crate) fn provider_type(&self) -> &str {
        &self.provider_type
    }

    pub(crate) fn capacity(&self) -> usize {
        self.settings.max_entries
    }

    /// Whether it is known, without asking, that the provider knows no such tenant.
    pub(crate) fn is_known_to_be_unknown(&self, tenant: &TenantId) -> bool {
        let remembered = self.unknown.contains(tenant);
        if remembered {
            count(&self.counters.not_found_hits);
        }
        remembered
    }

    pub(crate) fn forget_unknown(&self, tenant: Option<&TenantId>) {
        match tenant {
            Some(tenant) => self.unknown.forget(tenant),
            None => self.unknown.forget_all(),
        }
    }

    /// Waits for the turn to ask. Of many tenants that were never seen (`is_new`), those that the
    /// provider's list does not name are not asked for.
    pub(crate) async fn turn(&self, tenant: &TenantId, is_new: bool) -> Result<Turn<'_>, SecretError> {
        // Waiting for a turn is no failure of the provider: the next request tries again.
        let crowded = |_| Err(SecretError::lost("too many secrets are being read at once"));
        timeout(FETCH_DEADLINE, self.take_turn(tenant, is_new))
            .await
            .unwrap_or_else(crowded)
    }

    async fn take_turn(&self, tenant: &TenantId, is_new: bool) -> Result<Turn<'_>, SecretError> {
        loop {
            let permit = self.fetches.acquire().await;
            let permit = permit.map_err(|_| SecretError::lost("the engine is closed"))?;
            let verdict = if is_new {
                self.unknown.verdict(tenant)
            } else {
                Verdict::Ask
            };
            match verdict {
                Verdict::Ask => return Ok(Turn::Ask { _permit: permit }),
                Verdict::Unknown => {
                    count(&self.counters.not_found_hits);
                    return Ok(Turn::Unknown);
                }
                Verdict::Wait(mut list) => {
                    drop(permit);
                    let read = list.wait_for(|read| *read).await;
                    read.map_err(|_| SecretError::lost("the provider's list was abandoned"))?;
                }
                Verdict::TooMany(retry_after) => {
                    let throttled = ProviderError::Throttled {
                        retry_after: Some(retry_after),
                        source: "too many unknown tenants are asked for at once".into(),
                    };
                    return Err(SecretError::of_provider(throttled, retry_after));
                }
            }
        }
    }

    /// Asks for a secret, or for more time for the lease of the one in use.
    pub(crate) async fn ask(&self, tenant: &TenantId, in_use: Option<&Secret>) -> Result<Fetched, ProviderError> {
        if let Some(held) = in_use
            .and_then(|secret| secret.lease.as_ref())
            .filter(|held| held.lease.renewable)
        {
            match timeout(LEASE_DEADLINE, self.provider.renew(&held.lease)).await {
                Ok(Ok(duration)) => return Ok(Fetched::Renewed(duration)),
                Ok(Err(error)) => tracing::info!(tenant_id = %tenant, kind = error.kind(), "a lease is not renewed"),
                Err(_) => tracing::info!(tenant_id = %tenant, kind = "timeout", "a lease is not renewed"),
            }
        }
        let document = timeout(FETCH_DEADLINE, self.provider.fetch(tenant))
            .await
            .unwrap_or_else(|elapsed| Err(ProviderError::Unavailable(elapsed.into())))?;
        Ok(self.read(document, tenant))
    }

    /// Opens one connection with a secret, and the password of this login if the provider makes
    /// one.
    pub(crate) async fn connect(&self, tenant: &TenantId, secret: &Secret) -> Result<Box<dyn Connection>, DriverError> {
        let opened = match self.provider.password(tenant, &secret.config).await {
            Ok(None) => secret.driver.connect(&secret.config).await,
            Ok(password) => {
                let mut config = secret.config.clone();
                config.password = password;
                secret.driver.connect(&config).await
            }
            Err(error) => Err(DriverError::new(DriverErrorKind::Unreachable, error)),
        }?;
        let encryption = opened.encryption();
        let before = secret.encryption.lock().replace(encryption);
        if before != Some(encryption)
            && encryption == Encryption::None
            && secret.driver.wants_encryption(&secret.config)
        {
            tracing::warn!(
                tenant_id = %tenant,
                "the connection to the tenant's database is not encrypted: set `tls.mode` in its secret, best to `verify-full`"
            );
        }
        Ok(opened)
    }

    fn read(&self, document: SecretDocument, tenant: &TenantId) -> Fetched {
        match self.drivers.read(document, &self.pools, *tenant, &self.provider) {
            Ok(secret) => Fetched::Secret(Box::new(secret)),
            Err(invalid) => Fetched::Invalid(invalid),
        }
    }

    /// For how long a secret is used that was read, or whose lease was extended by `lease`, now.
    pub(crate) fn times(&self, now: Instant, lease: Option<Duration>) -> Times {
        let settings = &self.settings;
        let ttl = Duration::from(settings.ttl);
        let jittered = ttl.mul_f64(1.0 - settings.jitter.clamp(0.0, 1.0) * fastrand::f64());
        let fresh = lease.map_or(jittered, |lease| jittered.min(lease.mul_f64(RENEW_AT)));
        let served = fresh + Duration::from(settings.stale_if_error);
        // Beyond its lease a secret is of no use.
        let served = lease.map_or(served, |lease| served.min(lease));
        Times {
            fresh_until: now + fresh,
            old_from: now + fresh + ttl,
            serve_until: now + served,
        }
    }

    /// The lease of a secret that was read.
    pub(crate) fn lease_of(secret: &Secret) -> Option<Duration> {
        secret.lease.as_ref().map(|held| held.lease.duration)
    }

    /// The counters, with the `entries` that are kept now and the `hits` of all tenants.
    pub(crate) fn metrics(&self, entries: usize, hits: u64) -> SecretMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        SecretMetrics {
            hits,
            misses: read(&counters.misses),
            entries,
            capacity: self.settings.max_entries,
            evictions: read(&counters.evictions),
            stale_served: read(&counters.stale_served),
            refreshes: read(&counters.refreshes),
            refresh_failures: read(&counters.refresh_failures),
            not_found_hits: read(&counters.not_found_hits),
        }
    }
}
