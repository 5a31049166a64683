//! Asks the provider for secrets: so many at once, for tenants that may exist, each within a
//! deadline. [`SecretSlot`] holds the rules for how long a secret is used; a tenant's slot, and the
//! fetch that fills it, are in [`tenant`](super::tenant).

mod secret;
mod slot;
mod unknown;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::Shared};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::{Instant, timeout},
};

use secret::Drivers;
pub(crate) use secret::Secret;
pub(crate) use slot::{AfterRefusal, Read, SecretSlot, Times};
use unknown::{LIST_PATIENCE, UnknownTenants, Verdict};

use super::{measure::cache::CacheSnapshot, settings::EngineSettings};
use crate::{
    Cause, Connection, DatabaseConfig, DatabaseDriver, DriverError, Encryption, ProviderError, SecretProvider,
    TenantId,
    acquire_error::AcquireError,
    leases::{Leases, renew_after},
    provider::in_time,
};

/// How long a fetch may wait for its turn.
const TURN_DEADLINE: Duration = Duration::from_secs(5);
/// How long the provider may take to name every tenant. AWS takes some 100 seconds for 100,000, and
/// the providers give up by themselves after 120.
const LIST_DEADLINE: Duration = Duration::from_secs(150);
/// How long a list is used for the further pages of a walk.
const LIST_KEPT: Duration = Duration::from_secs(60);
/// The most fetches at once, over all tenants.
const CONCURRENT_FETCHES: usize = 32;
/// The warning about a connection that others on the network can read.
const NOT_ENCRYPTED: &str = "the connection to the tenant's database is not encrypted: set `tls.mode` in its secret, \
     best to `verify-full`";

/// A list that was read, and when.
type Listed = (Instant, Arc<[TenantId]>);

pub(crate) struct Secrets {
    provider: Arc<dyn SecretProvider>,
    pub(crate) provider_type: String,
    pub(crate) leases: Arc<Leases>,
    drivers: Drivers,
    pub(crate) settings: EngineSettings,
    pub(crate) unknown: Mutex<UnknownTenants<Shared<oneshot::Receiver<()>>>>,
    /// The last list that was read for a page. Locked while one is being read.
    listed: Arc<tokio::sync::Mutex<Option<Listed>>>,
    fetches: Semaphore,
    /// What is counted of secrets and pools. The hits are counted by each tenant for itself.
    pub(crate) counters: Mutex<CacheSnapshot>,
    /// Fetches run on it, whichever runtime a handler waits on.
    pub(crate) runtime: Handle,
    /// Tenants that the provider no longer knows. The sweep forgets each once nothing uses it.
    pub(crate) gone: Mutex<HashSet<TenantId>>,
}

/// What the provider answered: a secret, or nothing if the one in use stays; and for how long it is
/// used.
pub(crate) type Fetched = (Option<Secret>, Times);

impl Secrets {
    /// Fetches run on the runtime that this is called in.
    pub(crate) fn new(
        provider: Arc<dyn SecretProvider>,
        provider_type: String,
        drivers: Vec<(String, Arc<dyn DatabaseDriver>)>,
        settings: EngineSettings,
    ) -> Self {
        let unknown = UnknownTenants::new(settings.secrets.not_found_ttl.into(), Instant::now());
        Self {
            leases: Leases::new(provider.clone()),
            drivers: Drivers::new(drivers, &provider, settings.pools.connect_timeout.into()),
            provider,
            provider_type,
            settings,
            unknown: Mutex::new(unknown),
            listed: Arc::default(),
            fetches: Semaphore::new(CONCURRENT_FETCHES),
            counters: Mutex::default(),
            runtime: Handle::current(),
            gone: Mutex::default(),
        }
    }

    /// Names every tenant.
    pub(crate) async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        in_time(LIST_DEADLINE, self.provider.list()).await
    }

    /// Names every tenant, for one page of them. The first page of a walk has a list that was read
    /// after it was asked for, and the others share it. A task of its own reads the list: that may
    /// take longer than a request has.
    pub(crate) async fn list_for_page(self: &Arc<Self>, is_first: bool) -> Result<Arc<[TenantId]>, ProviderError> {
        let asked_at = Instant::now();
        let mut listed = self.listed.clone().lock_owned().await;
        if let Some((read_at, names)) = &*listed
            && (*read_at > asked_at || !is_first && read_at.elapsed() < LIST_KEPT)
        {
            return Ok(names.clone());
        }
        let secrets = self.clone();
        let reading = self.runtime.spawn(async move {
            let names: Arc<[TenantId]> = secrets.list().await?.into();
            *listed = Some((Instant::now(), names.clone()));
            Ok(names)
        });
        let lost = |error| Err(ProviderError::Unavailable(Box::new(error)));
        reading.await.unwrap_or_else(lost)
    }

    /// Whether it is known, without asking, that the provider knows no such tenant.
    pub(crate) fn is_known_to_be_unknown(&self, tenant: &TenantId) -> bool {
        let known = self.unknown.lock().contains(tenant, Instant::now());
        if known {
            self.counters.lock().metrics.not_found_hits += 1;
        }
        known
    }

    /// The tenant exists, or is to be asked for whatever is known; without a tenant, all are.
    pub(crate) fn forget_unknown(&self, tenant: Option<&TenantId>) {
        self.unknown.lock().forget(tenant);
    }

    /// Waits for the turn to ask, which ends with the permit. Of many tenants that were never seen
    /// (`is_new`), those that the provider's list does not name are not asked for.
    pub(crate) async fn turn(
        self: &Arc<Self>,
        tenant: &TenantId,
        is_new: bool,
    ) -> Result<SemaphorePermit<'_>, AcquireError> {
        let turn = async {
            loop {
                let permit = self.fetches.acquire().await;
                let permit = permit.map_err(|_| AcquireError::lost("the engine is closed"))?;
                if !is_new {
                    return Ok(permit);
                }
                match self.verdict(tenant) {
                    Verdict::Ask => return Ok(permit),
                    Verdict::Unknown => {
                        self.counters.lock().metrics.not_found_hits += 1;
                        return Err(AcquireError::Unknown);
                    }
                    Verdict::TooMany(retry_after) => {
                        return Err(AcquireError::from(ProviderError::Throttled {
                            retry_after: Some(retry_after),
                            source: "too many unknown tenants are asked for at once".into(),
                        }));
                    }
                    Verdict::Wait(list) => {
                        drop(permit);
                        if let Ok(read) = timeout(LIST_PATIENCE, list).await {
                            read.map_err(|_| AcquireError::lost("the provider's list was abandoned"))?;
                        }
                    }
                }
            }
        };
        // Waiting for a turn is no failure of the provider: the next request tries again.
        let crowded = |_| {
            Err(AcquireError::lost(
                "other secrets, or the list of tenants, took too long to read",
            ))
        };
        timeout(TURN_DEADLINE, turn).await.unwrap_or_else(crowded)
    }

    /// Whether to ask for a tenant. If the provider's list is to be read first, a task of its own
    /// does that: it may take longer than a request has.
    fn verdict(self: &Arc<Self>, tenant: &TenantId) -> Verdict<Shared<oneshot::Receiver<()>>> {
        let (sender, receiver) = oneshot::channel();
        let (asked_at, receiver) = (Instant::now(), receiver.shared());
        let (verdict, read_list) = self.unknown.lock().verdict(tenant, asked_at, receiver);
        if read_list {
            tracing::warn!("many tenants that do not exist are asked for: the provider's list tells who does");
            let secrets = self.clone();
            self.runtime.spawn(async move {
                let names = secrets.list().await.inspect_err(|error| {
                    tracing::warn!(error = %Cause(error), "the provider's list cannot be read");
                });
                let names = names.ok().map(|names| names.into_iter().collect());
                secrets.unknown.lock().listed(names, asked_at, Instant::now());
                // The waiting requests may have gone away.
                sender.send(()).unwrap_or_default();
            });
        }
        verdict
    }

    /// Asks for a secret, or for more time for the lease of the one in use.
    pub(crate) async fn ask(&self, tenant: &TenantId, in_use: Option<&Secret>) -> Result<Fetched, AcquireError> {
        if let Some(lease) = in_use.and_then(|secret| secret.lease.as_ref())
            && let Some(left) = lease.extend().await?
        {
            return Ok((None, self.times(Some(left), None)));
        }
        let (document, lease) = self.leases.fetch(*tenant).await?;
        let times = self.times(lease.as_ref().map(|lease| lease.left()), document.changes_in);
        let secret = self.drivers.read(document, lease, &self.settings.pools, *tenant)?;
        Ok((Some(secret), times))
    }

    /// Opens one connection with a secret. `LoginDriver` ends it after `connect_timeout`. `config`
    /// is the secret's, or the same for a look.
    pub(crate) async fn connect(
        &self,
        tenant: &TenantId,
        secret: &Secret,
        config: &DatabaseConfig,
    ) -> Result<Box<dyn Connection>, DriverError> {
        let opened = secret.driver.connect(config).await?;
        let encryption = opened.encryption();
        let changed = secret.encryption.lock().replace(encryption) != Some(encryption);
        if changed && encryption == Encryption::None && secret.driver.wants_encryption(&secret.config) {
            tracing::warn!(tenant_id = %tenant, "{NOT_ENCRYPTED}");
        }
        Ok(opened)
    }

    /// For how long a secret is used from now on: until its time to live is over or, if it has a
    /// lease, until that is extended; and no longer than it `changes_in`.
    fn times(&self, lease: Option<Duration>, changes_in: Option<Duration>) -> Times {
        let (now, settings) = (Instant::now(), &self.settings.secrets);
        let ttl = Duration::from(settings.ttl);
        let jitter = settings.jitter.clamp(0.0, 1.0) * fastrand::f64();
        let jittered = lease.map_or(ttl, renew_after).mul_f64(1.0 - jitter);
        let fresh = jittered.min(changes_in.unwrap_or(Duration::MAX));
        // Beyond its lease a secret is of no use.
        let served = (fresh + Duration::from(settings.stale_if_error)).min(lease.unwrap_or(Duration::MAX));
        Times {
            fresh_until: now + fresh,
            old_from: now + fresh + ttl,
            serve_until: now + served,
        }
    }
}
