//! The door to the engine: from a tenant's name to its database.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};
use tracing::{Instrument as _, field::Empty};

use super::{
    budget::Budget,
    database::TenantDatabase,
    health::{UsageSnapshot, known_tenant, within},
    measure::{observer::EngineObserver, tally::RequestTally, usage::TenantUsageCounters},
    pool::{OnConnect, PoolParts, PoolTimes, SecretSource},
    secrets::{Drivers, LIST_DEADLINE, SecretError, SecretMetrics, Secrets, count},
    settings::EngineSettings,
    tenant::{Admitted, Directory, Held, OpenTenant, Refused, Tenant},
};
use crate::{
    BoxError, Connection, DatabaseDriver, DatabaseError, ProviderError, SecretInvalid, SecretProvider, TenantId,
    trace::{TRACE_TARGET, is_traced, trace_span},
};

/// How often worn-out connections, unused pools and due secrets are looked after.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// What an over-busy tenant is told.
const BUSY: AcquireError = AcquireError::Busy {
    retry_after: Duration::from_secs(1),
};

/// What an engine is made of.
pub struct TenantsParts {
    /// Holds the secrets.
    pub provider: Arc<dyn SecretProvider>,
    /// The provider's `type`, for `TenantInfo`.
    pub provider_type: String,
    /// The drivers that are enabled, each with its `type`.
    pub drivers: Vec<(String, Arc<dyn DatabaseDriver>)>,
    /// The settings.
    pub settings: EngineSettings,
    /// What comes before a tenant's first use.
    pub on_connect: Option<Arc<dyn OnConnect>>,
    /// Who is told what the engine does.
    pub observer: Option<Arc<dyn EngineObserver>>,
}

/// Every tenant's database, opened on demand. Clones share one engine.
#[derive(Clone)]
pub struct Tenants(pub(crate) Arc<Engine>);

pub(crate) struct Engine {
    pub(crate) tenants: Directory<Tenant>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) pools: Arc<PoolParts>,
    pub(crate) settings: EngineSettings,
    observer: Option<Arc<dyn EngineObserver>>,
    /// What those used that are no longer known.
    forgotten: Arc<TenantUsageCounters>,
    started: Instant,
    closed: AtomicBool,
}

/// A connection of its own, and the driver that opened it.
pub struct OpenedConnection {
    /// The driver.
    pub driver: Arc<dyn DatabaseDriver>,
    /// The connection; whoever has it closes it.
    pub connection: Box<dyn Connection>,
}

/// Why a request gets no database.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// The provider knows no such tenant: 404 `tenant_unknown`.
    #[error("no such tenant")]
    Unknown,
    /// An operator suspended it: 403 `tenant_suspended`.
    #[error("the tenant is suspended")]
    Suspended,
    /// It has as many requests running as it may: 429 `tenant_busy`.
    #[error("the tenant has too many requests running")]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// It made more requests this second than it may: 429 `rate_limited`.
    #[error("the tenant makes too many requests")]
    RateLimited {
        /// When to come again.
        retry_after: Duration,
    },
    /// Its secret cannot be read now: 503 `provider_unavailable`.
    #[error("the secret provider is unavailable")]
    ProviderUnavailable {
        /// When to come again.
        retry_after: Duration,
        /// What the provider answered.
        #[source]
        source: Arc<ProviderError>,
    },
    /// Its secret cannot be used: 503 `secret_invalid`.
    #[error("the tenant's secret is not valid")]
    SecretInvalid {
        /// When it is read anew.
        retry_after: Duration,
        /// Which field is wrong.
        #[source]
        source: SecretInvalid,
    },
    /// Its pool could not be made: 503 `database_unavailable`.
    #[error("the tenant's database is unavailable")]
    Database(#[source] DatabaseError),
    /// The server stops: 503 `shutting_down`.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl From<SecretError> for AcquireError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::NotFound => Self::Unknown,
            SecretError::Unavailable { retry_after, source } => Self::ProviderUnavailable { retry_after, source },
            SecretError::Invalid { retry_after, source } => Self::SecretInvalid { retry_after, source },
        }
    }
}

/// The counters of `/health/cache`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolMetrics {
    /// Tenants that have connections.
    pub open: usize,
    /// The most that keep some without using them.
    pub capacity: usize,
    /// Connections that are open, opening or closing, over all tenants.
    pub connections: usize,
    /// The most that may be.
    pub connections_capacity: usize,
    /// Pools that were closed to make room.
    pub evictions: u64,
    /// Pools that took a changed secret while they were open.
    pub rotations: u64,
}

/// The counters of `/health/cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSnapshot {
    /// Of the secrets.
    pub metrics: SecretMetrics,
    /// Of the pools.
    pub pools: PoolMetrics,
}

impl Tenants {
    /// Starts an engine. It opens nothing yet. It must be called within a tokio runtime, which runs its housekeeping until the last
    /// clone is dropped.
    pub fn new(parts: TenantsParts) -> Self {
        let changes = parts.provider.changes();
        let engine = Arc::new_cyclic(|engine: &Weak<Engine>| {
            let settings = parts.settings;
            let secrets = Secrets::new(
                parts.provider,
                parts.provider_type.into(),
                Drivers::new(parts.drivers),
                settings.secrets.clone(),
                settings.pools.defaults.clone(),
            );
            let pools = PoolParts {
                budget: Budget::new(settings.pools.max_connections, settings.pools.max),
                secrets: Arc::new(Host(engine.clone())),
                on_connect: parts.on_connect,
                observer: parts.observer.clone(),
                times: PoolTimes {
                    connect: settings.pools.connect_timeout.into(),
                    acquire: settings.pools.acquire_timeout.into(),
                    prepare: settings.migrations_timeout.into(),
                },
            };
            Engine {
                tenants: Directory::default(),
                secrets: Arc::new(secrets),
                pools: Arc::new(pools),
                settings,
                observer: parts.observer,
                forgotten: Arc::default(),
                started: Instant::now(),
                closed: AtomicBool::new(false),
            }
        });
        tokio::spawn(keep_house(Arc::downgrade(&engine)));
        if let Some(changes) = changes {
            tokio::spawn(follow_changes(Arc::downgrade(&engine), changes));
        }
        Self(engine)
    }

    /// The `type` of the provider.
    pub fn provider_type(&self) -> &str {
        self.0.secrets.provider_type()
    }

    /// A tenant's database, for one request: the request counts as running until it is dropped. Its secret is at hand after the first
    /// time; connections are opened when a statement needs one.
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub async fn acquire(&self, tenant: &TenantId) -> Result<TenantDatabase, AcquireError> {
        self.acquire_for(tenant, None).await
    }

    /// As [`acquire`](Self::acquire), for a request whose `tally` is told what becomes of it.
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub async fn acquire_for(
        &self,
        tenant: &TenantId,
        tally: Option<Arc<RequestTally>>,
    ) -> Result<TenantDatabase, AcquireError> {
        let engine = &*self.0;
        if engine.closed.load(Ordering::Relaxed) {
            return Err(AcquireError::ShuttingDown);
        }
        let admitted = engine.admit(tenant, tally.as_ref())?;
        let now = Instant::now();
        // Nearly every request ends here. Nothing was written that requests of other tenants write.
        if let Some((secret, pool)) = admitted.at_hand(now) {
            if let Some(tally) = &tally {
                tally.set_usage(&admitted.usage);
            }
            count(&admitted.usage.secret_hits);
            let traced = is_traced();
            if traced {
                drop(tracing::info_span!(
                    target: TRACE_TARGET,
                    "secret",
                    tenant.id = tenant.as_str(),
                    secret.cache = "hit",
                    secret.version = secret.version.as_str(),
                ));
            }
            let open = OpenTenant {
                tenant: admitted,
                secret,
                pool,
            };
            return Ok(TenantDatabase::new(open, tally, traced));
        }
        // Large, and seldom needed: a request whose tenant is at hand does not carry it along.
        Box::pin(engine.open(admitted, now, tally)).await
    }

    /// Opens one connection to a tenant's database outside of its pool, for tools that work on one database after another. It is not
    /// prepared, and counts against no limit.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`AcquireError::Database`] when it cannot be opened in `connect_timeout`.
    pub async fn open_connection(&self, tenant: &TenantId) -> Result<OpenedConnection, AcquireError> {
        let engine = &*self.0;
        let held = engine.hold(tenant)?;
        let secret = held.secret(&engine.secrets, Instant::now()).await?;
        let opening = async { Ok(secret.driver.connect(&secret.config).await?) };
        let connection = within(engine.settings.pools.connect_timeout.into(), opening)
            .await
            .map_err(AcquireError::Database)?;
        Ok(OpenedConnection {
            driver: secret.driver.clone(),
            connection,
        })
    }

    /// Every tenant the provider knows.
    ///
    /// # Errors
    /// The provider's; [`ProviderError::Unavailable`] when it takes too long.
    pub async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        tokio::time::timeout(LIST_DEADLINE, self.0.secrets.provider().list())
            .await
            .unwrap_or_else(|elapsed| Err(ProviderError::Unavailable(BoxError::from(elapsed))))
    }

    /// Drops the kept secret of one tenant, or of all; tells how many there were. Pools stay until a changed secret is seen.
    pub fn clear_secrets(&self, tenant: Option<&TenantId>) -> usize {
        let engine = &*self.0;
        let clear = |tenant: &Arc<Tenant>| tenant.holdings().secret.clear();
        let cleared = match tenant {
            Some(tenant) => usize::from(engine.tenants.get(tenant).is_some_and(|found| clear(&found))),
            None => engine.tenants.all().iter().filter(|found| clear(found)).count(),
        };
        // After, so that a fetch that runs does not make it remembered again.
        engine.secrets.forget_unknown(tenant);
        cleared
    }

    /// Closes a tenant's pool once its running requests are done. The next request opens another.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire) when nothing is known of the tenant yet.
    pub async fn close_pool(&self, tenant: &TenantId) -> Result<(), AcquireError> {
        if let Some(pool) = self.known(tenant).await?.pool() {
            pool.close();
        }
        Ok(())
    }

    /// Refuses the tenant's requests from now on; those that run go on to their end.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire) when nothing is known of the tenant yet.
    pub async fn suspend(&self, tenant: &TenantId) -> Result<(), AcquireError> {
        self.set_suspended(tenant, true).await?;
        tracing::warn!(tenant_id = %tenant, "the tenant is suspended");
        Ok(())
    }

    /// Takes the tenant's requests again.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire) when nothing is known of the tenant yet.
    pub async fn resume(&self, tenant: &TenantId) -> Result<(), AcquireError> {
        self.set_suspended(tenant, false).await?;
        tracing::info!(tenant_id = %tenant, "the tenant is resumed");
        Ok(())
    }

    /// The counters of secrets and pools.
    pub fn cache_snapshot(&self) -> CacheSnapshot {
        let engine = &*self.0;
        let all = engine.tenants.all();
        let kept = all
            .iter()
            .filter(|tenant| tenant.holdings().secret.kept().is_some())
            .count();
        let hits = all.iter().map(|tenant| tenant.usage.secret_hits()).sum::<u64>() + engine.forgotten.secret_hits();
        let budget = &engine.pools.budget;
        CacheSnapshot {
            metrics: engine.secrets.metrics(kept, hits),
            pools: PoolMetrics {
                open: budget.holders(),
                capacity: budget.most_holders(),
                connections: budget.in_use(),
                connections_capacity: budget.capacity(),
                evictions: budget.evictions(),
                rotations: engine.secrets.counters.rotations.load(Ordering::Relaxed),
            },
        }
    }

    /// What every tenant used, and how it is, for metrics. It passes over all that are known.
    pub fn usage_snapshot(&self) -> UsageSnapshot {
        let known = self.0.tenants.all().iter().map(known_tenant).collect();
        UsageSnapshot {
            known,
            forgotten: self.0.forgotten.usage(),
        }
    }

    /// Opens a first connection for each of these tenants, a few at a time; failures are logged and stop no other.
    pub async fn warm_up(&self, tenants: Vec<TenantId>) {
        use futures_util::StreamExt as _;
        const AT_ONCE: usize = 8;
        let opened = futures_util::stream::iter(tenants)
            .map(|tenant| async move {
                let database = self.acquire(&tenant).await.map_err(|error| error.to_string())?;
                database.ping().await.map_err(|error| error.to_string())
            })
            .buffer_unordered(AT_ONCE)
            .fold((0usize, 0usize), |(opened, failed), outcome| async move {
                match outcome {
                    Ok(_) => (opened + 1, failed),
                    Err(_) => (opened, failed + 1),
                }
            })
            .await;
        tracing::info!(
            opened = opened.0,
            failed = opened.1,
            "tenants were opened ahead of their first request"
        );
    }

    /// Closes every pool and waits, at most for `grace`, until each connection is closed. Requests from now on get
    /// [`AcquireError::ShuttingDown`]. Tells whether all were closed in time.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.0.closed.store(true, Ordering::Release);
        for tenant in self.0.tenants.all() {
            if let Some(pool) = tenant.pool() {
                pool.close();
            }
        }
        tokio::time::timeout(grace, self.0.pools.budget.drained()).await.is_ok()
    }

    async fn set_suspended(&self, tenant: &TenantId, suspended: bool) -> Result<(), AcquireError> {
        // It is held, so it is not forgotten and the answer is always yes.
        let changed = self.known(tenant).await?.set_suspended(suspended);
        changed.map_err(|_| AcquireError::Unknown)
    }

    /// A tenant that exists: one that is known, else one whose secret can be read.
    async fn known(&self, tenant: &TenantId) -> Result<Held, AcquireError> {
        let engine = &*self.0;
        let held = engine.hold(tenant)?;
        let is_known = held.is_suspended() || held.holdings().is_known();
        if !is_known {
            held.secret(&engine.secrets, Instant::now()).await?;
        }
        Ok(held)
    }
}

impl Engine {
    /// Counts a request in, unless it may not run now.
    fn admit(&self, id: &TenantId, tally: Option<&Arc<RequestTally>>) -> Result<Admitted, AcquireError> {
        loop {
            let tenant = self.find_or_create(id)?;
            let refused = match Admitted::enter(tenant.clone(), &self.settings.limits) {
                Ok(admitted) => match admitted.take_turn(&self.settings.limits) {
                    Ok(()) => return Ok(admitted),
                    Err(retry_after) => AcquireError::RateLimited { retry_after },
                },
                Err(Refused::Suspended) => AcquireError::Suspended,
                Err(Refused::Busy) => BUSY,
                Err(Refused::Forgotten) => continue,
            };
            // A refusal is an answer of its tenant's, too.
            if let Some(tally) = tally {
                tally.set_usage(&tenant.usage);
            }
            return Err(refused);
        }
    }

    /// [`Tenants::acquire`] if the secret or the pool is not at hand.
    async fn open(
        &self,
        tenant: Admitted,
        now: Instant,
        tally: Option<Arc<RequestTally>>,
    ) -> Result<TenantDatabase, AcquireError> {
        tenant.touch(now);
        let span = trace_span!(
            "secret",
            otel.status_code = Empty,
            tenant.id = tenant.id.as_str(),
            secret.cache = Empty,
            secret.version = Empty,
        );
        let read = tenant.secret(&self.secrets, now).instrument(span.clone()).await;
        match &read {
            Ok(secret) => span.record("secret.version", tracing::field::display(&secret.version)),
            Err(_) => span.record("otel.status_code", "ERROR"),
        };
        // What is asked of a tenant that does not exist is nobody's.
        if let Some(tally) = &tally
            && !matches!(read, Err(SecretError::NotFound))
        {
            tally.set_usage(&tenant.usage);
        }
        let secret = match read {
            Ok(secret) => secret,
            Err(error) => {
                let id = tenant.id;
                drop(tenant);
                if matches!(error, SecretError::NotFound) {
                    self.forget_if_gone(&id);
                }
                return Err(error.into());
            }
        };
        let (secret, pool) = tenant.open_pool(secret, &self.pools);
        let open = OpenTenant { tenant, secret, pool };
        Ok(TenantDatabase::new(open, tally, is_traced()))
    }

    /// The tenant, which is not forgotten while it is held.
    pub(crate) fn hold(&self, id: &TenantId) -> Result<Held, AcquireError> {
        loop {
            if let Ok(held) = Held::new(self.find_or_create(id)?) {
                return Ok(held);
            }
        }
    }

    /// The tenant; it is created if it is not known, unless it is remembered that it does not exist.
    fn find_or_create(&self, id: &TenantId) -> Result<Arc<Tenant>, AcquireError> {
        if let Some(tenant) = self.tenants.get(id) {
            return Ok(tenant);
        }
        if self.secrets.is_known_to_be_unknown(id) {
            return Err(AcquireError::Unknown);
        }
        let create = || Tenant::new(*id, self.started, self.observer.clone(), self.forgotten.clone());
        let tenant = self.tenants.get_or_create(id, create);
        tenant.touch(Instant::now());
        if self.tenants.len() > self.secrets.capacity() {
            self.make_room(id);
        }
        Ok(tenant)
    }

    /// Forgets a tenant that the provider does not know, unless something uses it or it is suspended.
    fn forget_if_gone(&self, id: &TenantId) {
        self.tenants.forget(id, |tenant| tenant.holdings().is_known());
    }

    /// Forgets the least recently used tenants, a hundredth of them at once so that this is seldom;
    /// those without a secret first, which a flood of made-up names leaves behind while the provider
    /// is down. One that has connections or a running request is not forgotten, so there may be more
    /// by as many, nor is the `newest`, for whose sake it is done.
    fn make_room(&self, newest: &TenantId) {
        let capacity = self.secrets.capacity();
        let mut idle = self.tenants.all();
        let excess = (idle.len() + capacity / 100).saturating_sub(capacity);
        idle.retain(|tenant| tenant.id != *newest && tenant.is_idle() && !tenant.holdings().is_open());
        let is_kept = |tenant: &Arc<Tenant>| tenant.holdings().secret.kept().is_some();
        // Each key is read once: requests move it meanwhile, and a sort whose order changes under it
        // panics.
        idle.sort_by_cached_key(|tenant| (is_kept(tenant), tenant.last_used()));
        for tenant in idle.into_iter().take(excess) {
            let was_kept = is_kept(&tenant);
            // A request, an operator or a connection may have come to it meanwhile.
            let forgotten = self.tenants.forget(&tenant.id, |tenant| tenant.holdings().is_open());
            if forgotten && was_kept {
                count(&self.secrets.counters.evictions);
            }
        }
    }

    /// Looks after connections and secrets that nobody asks for.
    fn sweep(&self) {
        let now = Instant::now();
        let idle_timeout = Duration::from(self.settings.pools.idle_timeout);
        for pool in self.pools.budget.pools() {
            pool.sweep(now);
            let tenant = self.tenants.get(&pool.tenant());
            let is_current = |tenant: &Arc<Tenant>| {
                let current = tenant.pool();
                current.is_some_and(|current| std::ptr::addr_eq(Arc::as_ptr(&current), Arc::as_ptr(&pool)))
            };
            match tenant.filter(is_current) {
                // A tenant that is deleted at its provider loses its pool, and one whose secret changed
                // gets it, though nobody asks.
                Some(tenant) => {
                    tenant.renew_if_due(&self.secrets, now);
                    if let Some(since) = now.checked_sub(idle_timeout)
                        && tenant.in_flight() == 0
                        && pool.close_unused(since)
                    {
                        tracing::debug!(tenant_id = %tenant.id, "a pool that nobody used is closed");
                    }
                }
                // Another kind of database has taken its place.
                None => {
                    pool.close_unused(now);
                }
            }
        }
        self.pools.budget.trim();
        for id in std::mem::take(&mut *self.secrets.gone.lock()) {
            self.forget_if_gone(&id);
        }
    }
}

/// The engine as its pools see it; weak, since the engine holds them.
struct Host(Weak<Engine>);

#[async_trait]
impl SecretSource for Host {
    async fn refused(&self, id: &TenantId, generation: u64) -> bool {
        let Some(engine) = self.0.upgrade() else {
            return false;
        };
        match engine.tenants.get(id).map(Held::new) {
            Some(Ok(held)) => held.refresh_after_refusal(&engine.secrets, generation).await,
            _ => false,
        }
    }
}

async fn keep_house(engine: Weak<Engine>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        match engine.upgrade() {
            Some(engine) => engine.sweep(),
            None => return,
        }
    }
}

async fn follow_changes(engine: Weak<Engine>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        let Some(engine) = engine.upgrade() else {
            return;
        };
        let now = Instant::now();
        let all = engine.tenants.all();
        for tenant in &all {
            tenant.holdings().secret.expire(now);
        }
        engine.secrets.forget_unknown(None);
        for tenant in &all {
            tenant.renew_if_due(&engine.secrets, now);
        }
    }
}
