//! The door to the engine: from a tenant's name to its database.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tracing::{Instrument as _, field::Empty};

use super::{
    budget::Budget,
    database::TenantDatabase,
    entry::{Admitted, Held, OpenTenant, TenantEntry},
    observer::EngineObserver,
    opening::{OnConnect, PoolHost},
    pool::{PoolParts, PoolTimes, within},
    pool_cache::{PoolCache, PoolMetrics},
    secret_cache::{Drivers, LIST_DEADLINE, Secret, SecretCache, SecretError, SecretListener, SecretMetrics},
    settings::EngineSettings,
    tally::RequestTally,
    tenant::{Directory, Refused},
    usage::{TenantUsageCounters, UsageSnapshot, known_tenant},
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
    pub(crate) entries: Directory<TenantEntry>,
    /// Tenants that the provider does not know, to be taken from the directory once nothing uses them.
    gone: Mutex<Vec<TenantId>>,
    pub(crate) secrets: Arc<SecretCache>,
    pub(crate) pools: PoolCache,
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
            SecretError::Superseded => SecretError::lost("the secret was refreshed while it was read").into(),
            SecretError::Unavailable { retry_after, source } => Self::ProviderUnavailable { retry_after, source },
            SecretError::Invalid { retry_after, source } => Self::SecretInvalid { retry_after, source },
        }
    }
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
            let listener: Weak<dyn SecretListener> = engine.clone();
            let settings = parts.settings;
            let secrets = SecretCache::new(
                parts.provider,
                parts.provider_type.into(),
                Drivers::new(parts.drivers),
                settings.secrets.clone(),
                settings.pools.defaults.clone(),
                listener,
            );
            let pool_parts = PoolParts {
                budget: Budget::new(settings.pools.max_connections),
                host: Arc::new(Host(engine.clone())),
                on_connect: parts.on_connect,
                observer: parts.observer.clone(),
                times: PoolTimes {
                    connect: settings.pools.connect_timeout.into(),
                    acquire: settings.pools.acquire_timeout.into(),
                    prepare: settings.migrations_timeout.into(),
                },
            };
            Engine {
                entries: Directory::default(),
                gone: Mutex::default(),
                secrets: Arc::new(secrets),
                pools: PoolCache::new(pool_parts, settings.pools.max, settings.pools.idle_timeout.into()),
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
        let entry = engine.admit(tenant, tally.as_ref())?;
        let now = Instant::now();
        // Nearly every request ends here. Nothing was written that requests of other tenants write.
        if let Some(secret) = entry.secret.fresh(now)
            && let Some(pool) = entry.pool.load_full()
            && pool.generation() == secret.generation
        {
            if let Some(tally) = &tally {
                tally.set_entry(&entry);
            }
            engine.secrets.count_hit();
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
            return Ok(TenantDatabase::new(OpenTenant { entry, secret, pool }, tally, traced));
        }
        // Large, and seldom needed: a request whose tenant is at hand does not carry it along.
        Box::pin(engine.open(entry, now, tally)).await
    }

    /// Opens one connection to a tenant's database outside of its pool, for tools that work on one database after another. It is not
    /// prepared, and counts against no limit.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`AcquireError::Database`] when it cannot be opened in `connect_timeout`.
    pub async fn open_connection(&self, tenant: &TenantId) -> Result<OpenedConnection, AcquireError> {
        let engine = &*self.0;
        let entry = engine.entry(tenant)?;
        let secret = engine.secrets.get(&entry, Instant::now()).await?;
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
        let cleared = match tenant {
            Some(tenant) => usize::from(engine.entries.get(tenant).is_some_and(|entry| entry.secret.clear())),
            None => engine.all().iter().filter(|entry| entry.secret.clear()).count(),
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
        let entry = self.known_entry(tenant).await?;
        self.0.pools.close(&entry);
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
        let all = engine.all();
        let kept = all.iter().filter(|entry| entry.secret.is_cached()).count();
        CacheSnapshot {
            metrics: engine.secrets.metrics(kept),
            pools: engine.pools.metrics(),
        }
    }

    /// What every tenant used, and how it is, for metrics. It passes over all that are known.
    pub fn usage_snapshot(&self) -> UsageSnapshot {
        let known = self.0.all().iter().map(known_tenant).collect();
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
        self.0.pools.close_all();
        tokio::time::timeout(grace, self.0.pools.parts().budget.drained())
            .await
            .is_ok()
    }

    async fn set_suspended(&self, tenant: &TenantId, suspended: bool) -> Result<(), AcquireError> {
        // It is held, so it is not forgotten and the answer is always yes.
        let changed = self.known_entry(tenant).await?.set_suspended(suspended);
        changed.map_err(|_| AcquireError::Unknown)
    }

    /// The entry of a tenant that exists: one that is kept, else one whose secret can be read.
    pub(crate) async fn known_entry(&self, tenant: &TenantId) -> Result<Held, AcquireError> {
        let engine = &*self.0;
        let entry = engine.entry(tenant)?;
        if entry.pool.load().is_none() && !entry.secret.is_cached() && !entry.is_suspended() {
            engine.secrets.get(&entry, Instant::now()).await?;
        }
        Ok(entry)
    }
}

impl Engine {
    /// Counts a request in, unless it may not run now.
    fn admit(&self, tenant: &TenantId, tally: Option<&Arc<RequestTally>>) -> Result<Admitted, AcquireError> {
        loop {
            let entry = self.find_or_create(tenant)?;
            let refused = match Admitted::enter(entry.clone(), &self.settings.limits) {
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
                tally.set_entry(&entry);
            }
            return Err(refused);
        }
    }

    /// [`Tenants::acquire`] if the secret or the pool is not at hand.
    async fn open(
        &self,
        entry: Admitted,
        now: Instant,
        tally: Option<Arc<RequestTally>>,
    ) -> Result<TenantDatabase, AcquireError> {
        entry.touch(now);
        let span = trace_span!(
            "secret",
            otel.status_code = Empty,
            tenant.id = entry.id.as_str(),
            secret.cache = Empty,
            secret.version = Empty,
        );
        let read = self.secrets.get(&entry, now).instrument(span.clone()).await;
        match &read {
            Ok(secret) => span.record("secret.version", tracing::field::display(&secret.version)),
            Err(_) => span.record("otel.status_code", "ERROR"),
        };
        // What is asked of a tenant that does not exist is nobody's.
        if let Some(tally) = &tally
            && !matches!(read, Err(SecretError::NotFound))
        {
            tally.set_entry(&entry);
        }
        let secret = match read {
            Ok(secret) => secret,
            Err(error) => {
                let tenant = entry.id;
                drop(entry);
                if matches!(error, SecretError::NotFound) {
                    self.forget_if_gone(&tenant);
                }
                return Err(error.into());
            }
        };
        let pool = self.pools.get(&entry, &secret).map_err(AcquireError::Database)?;
        // A newer secret may have reached the pool meanwhile; an older one is never handed out with it.
        let secret = if pool.generation() > secret.generation {
            pool.secret()
        } else {
            secret
        };
        Ok(TenantDatabase::new(
            OpenTenant { entry, secret, pool },
            tally,
            is_traced(),
        ))
    }

    /// The tenant's entry, which is not forgotten while it is held.
    pub(crate) fn entry(&self, tenant: &TenantId) -> Result<Held, AcquireError> {
        loop {
            if let Ok(held) = Held::new(self.find_or_create(tenant)?) {
                return Ok(held);
            }
        }
    }

    /// The tenant's entry; one is created if there is none, unless it is remembered that there is no such tenant.
    fn find_or_create(&self, tenant: &TenantId) -> Result<Arc<TenantEntry>, AcquireError> {
        if let Some(entry) = self.entries.get(tenant) {
            return Ok(entry);
        }
        if self.secrets.is_known_to_be_unknown(tenant) {
            return Err(AcquireError::Unknown);
        }
        let entry = self.entries.get_or_create(tenant, || self.new_entry(*tenant));
        entry.touch(Instant::now());
        if self.entries.len() > self.secrets.capacity() {
            self.make_room_for_entries(tenant);
        }
        Ok(entry)
    }

    /// Takes a tenant that the provider does not know from the directory, unless something uses it or it is suspended.
    fn forget_if_gone(&self, tenant: &TenantId) {
        let is_known = |entry: &TenantEntry| entry.secret.is_cached() || entry.pool.load().is_some();
        self.entries.forget(tenant, is_known);
    }

    fn new_entry(&self, tenant: TenantId) -> TenantEntry {
        TenantEntry::new(tenant, self.started, self.observer.clone(), self.forgotten.clone())
    }

    /// Forgets the least recently used entries, a hundredth of them at once so that this is seldom; those without a secret first, which a
    /// flood of made-up names leaves behind while the provider is down. One whose pool is open or whose request is running is not
    /// forgotten, so there may be as many more as there are such, nor is the `newest`, for whose sake it is done.
    fn make_room_for_entries(&self, newest: &TenantId) {
        let capacity = self.secrets.capacity();
        let mut idle: Vec<Arc<TenantEntry>> = self.all();
        let excess = (idle.len() + capacity / 100).saturating_sub(capacity);
        idle.retain(|entry| entry.id != *newest && entry.is_idle() && entry.pool.load().is_none());
        // Each key is read once: requests move it meanwhile, and a sort whose order changes under it panics.
        idle.sort_by_cached_key(|entry| (entry.secret.is_cached(), entry.last_used()));
        for entry in idle.into_iter().take(excess) {
            let was_kept = entry.secret.is_cached();
            // A request, an operator or a pool may have come to it meanwhile.
            let forgotten = self.entries.forget(&entry.id, |entry| entry.pool.load().is_some());
            if forgotten && was_kept {
                self.secrets.count_eviction();
            }
        }
    }

    /// Every entry.
    pub(crate) fn all(&self) -> Vec<Arc<TenantEntry>> {
        self.entries.all()
    }

    fn sweep(&self) {
        let now = Instant::now();
        let since_start = now - self.started;
        self.pools.sweep(now, since_start);
        for tenant in std::mem::take(&mut *self.gone.lock()) {
            self.forget_if_gone(&tenant);
        }
        // A tenant that is deleted at its provider loses its pool, and one whose secret changed gets it, though nobody asks.
        for entry in self.pools.open() {
            self.secrets.renew_if_due(&entry, now);
        }
    }
}

impl SecretListener for Engine {
    fn changed(&self, entry: &TenantEntry, secret: &Arc<Secret>) {
        self.pools.rotate(entry, secret);
    }

    fn gone(&self, entry: &TenantEntry) {
        // What still uses it now leaves it for the housekeeping; a client that makes names up is cleared away by its own request.
        if self.pools.close(entry) || entry.in_flight() == 0 {
            self.gone.lock().push(entry.id);
        }
    }
}

/// The engine as its pools see it; weak, since the engine holds them.
struct Host(Weak<Engine>);

#[async_trait]
impl PoolHost for Host {
    async fn refused(&self, tenant: &TenantId, generation: u64) -> bool {
        let Some(engine) = self.0.upgrade() else {
            return false;
        };
        let Some(entry) = engine.entries.get(tenant) else {
            return false;
        };
        engine.secrets.refresh_after_refusal(&entry, generation).await
    }

    fn make_room(&self, unused: Duration, none: bool) -> bool {
        self.0
            .upgrade()
            .is_some_and(|engine| engine.pools.make_room(unused, none))
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
        let all = engine.all();
        for entry in &all {
            engine.secrets.expire(entry, now);
        }
        engine.secrets.forget_unknown(None);
        for entry in &all {
            engine.secrets.renew_if_due(entry, now);
        }
    }
}
