//! The door to the engine: from a tenant's name to its database.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    database::TenantDatabase,
    health::{UsageSnapshot, known_tenant},
    house::{Engine, TenantsParts},
    measure::{cache::CacheSnapshot, tally::RequestTally},
    secrets::Secret,
    tenant::{Held, Tenant},
};
use crate::{
    Connection, DatabaseConfig, DatabaseDriver, ProviderError, Purpose, TenantId, acquire_error::AcquireError,
    trace::is_traced,
};

/// How often a shutdown closes the pools that are open.
const LET_GO_EVERY: Duration = Duration::from_millis(100);

/// Every tenant's database, opened on demand. Clones share one engine.
#[derive(Clone)]
pub struct Tenants(pub(crate) Arc<Engine>);

/// A connection of its own, and the driver that opened it.
pub struct OpenedConnection {
    /// The driver.
    pub driver: Arc<dyn DatabaseDriver>,
    /// The driver's `type`.
    pub driver_type: Arc<str>,
    /// What the secret says of the database.
    pub config: DatabaseConfig,
    /// The connection; its owner closes it.
    pub connection: Box<dyn Connection>,
    /// The lease of the secret goes on for as long as these are here.
    held: (Held, Arc<Secret>),
    engine: Arc<Engine>,
}

impl OpenedConnection {
    /// Closes the connection, and forgets the tenant unless something else has used it. So a tool
    /// that goes through all tenants has the secrets and leases of those only that it is at.
    pub async fn close(self) {
        self.connection.close().await;
        let (held, secret) = self.held;
        let id = held.id;
        drop((held, secret));
        self.engine.forget_if_unused(&id);
    }
}

impl Tenants {
    /// Starts an engine. It opens nothing yet. It must be called within a tokio runtime, which runs
    /// its housekeeping until the last clone is dropped.
    pub fn new(parts: TenantsParts) -> Self {
        Self(Engine::start(parts))
    }

    /// The `type` of the provider.
    pub fn provider_type(&self) -> &str {
        &self.0.secrets.provider_type
    }

    /// A tenant's database, for one request: the request counts as running until it is dropped. Its
    /// secret is at hand after the first time; connections are opened when a statement needs one.
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub async fn acquire(&self, tenant: &TenantId) -> Result<TenantDatabase, AcquireError> {
        self.acquire_for(tenant, None).await
    }

    /// As [`acquire`](Self::acquire); `tally` counts the request's statements.
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub async fn acquire_for(
        &self,
        tenant: &TenantId,
        tally: Option<Arc<RequestTally>>,
    ) -> Result<TenantDatabase, AcquireError> {
        let engine = &*self.0;
        let admitted = engine.admit(tenant, tally.as_ref())?;
        let now = Instant::now();
        // Nearly every request ends here. Nothing was written that requests of other tenants write.
        if !is_traced()
            && let Some((secret, pool)) = admitted.at_hand(now)
        {
            if let Some(tally) = &tally {
                tally.set_usage(&admitted.usage);
            }
            admitted.usage.lock().secret_hits += 1;
            return Ok(TenantDatabase::new(admitted, secret, pool, tally));
        }
        // Boxed, since this future is large and rarely needed.
        Box::pin(engine.open(admitted, now, tally)).await
    }

    /// Opens one connection to a tenant's database outside of its pool, for tools that work on one
    /// database after another. It is not prepared, and counts against no limit. End it by
    /// [`OpenedConnection::close`].
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`AcquireError::Database`] when it cannot be opened in
    /// `connect_timeout`.
    pub async fn open_connection(&self, tenant: &TenantId, purpose: Purpose) -> Result<OpenedConnection, AcquireError> {
        let engine = &*self.0;
        let held = engine.hold(tenant)?;
        let secret = held.secret(&engine.secrets, Instant::now()).await?;
        let config = match purpose {
            Purpose::Change => secret.config.clone(),
            Purpose::Look => secret.config.to_look(),
        };
        let opened = engine.secrets.connect(tenant, &secret, &config).await;
        let connection = opened.map_err(|error| AcquireError::Database(error.into()))?;
        Ok(OpenedConnection {
            driver: secret.driver.clone(),
            driver_type: secret.driver_type.clone(),
            config,
            connection,
            held: (held, secret),
            engine: self.0.clone(),
        })
    }

    /// Every tenant the provider knows.
    ///
    /// # Errors
    /// The provider's; [`ProviderError::Unavailable`] when it takes too long.
    pub async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        self.0.secrets.list().await
    }

    /// Takes the secret of one tenant, or of all, out of the cache; returns how many there were.
    /// The next request reads it anew, and goes on with the old one if the provider fails. Pools
    /// stay until a changed secret is seen.
    pub fn clear_secrets(&self, tenant: Option<&TenantId>) -> usize {
        let engine = &*self.0;
        let clear = |tenant: &Arc<Tenant>| {
            let mut holdings = tenant.holdings();
            holdings.prepare_again();
            holdings.secret.clear(Instant::now())
        };
        let cleared = match tenant {
            Some(tenant) => usize::from(engine.tenants.get(tenant).is_some_and(|found| clear(&found))),
            None => engine.tenants.all().iter().filter(|found| clear(found)).count(),
        };
        // After, so that a fetch that runs does not make it remembered again.
        engine.secrets.forget_unknown(tenant);
        cleared
    }

    /// Closes a tenant's idle connections now, and the used ones as they come back. The next
    /// request opens another connection.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire) when nothing is known of the tenant yet.
    pub async fn close_pool(&self, tenant: &TenantId) -> Result<(), AcquireError> {
        let held = self.0.hold(tenant)?;
        self.make_known(&held).await?;
        held.pool().iter().for_each(|pool| pool.close());
        Ok(())
    }

    /// Refuses the tenant's requests from now on; those that run go on to their end. That holds
    /// also if its secret cannot be read now.
    ///
    /// # Errors
    /// [`AcquireError::Unknown`] if the provider knows no such tenant.
    pub async fn suspend(&self, tenant: &TenantId) -> Result<(), AcquireError> {
        self.set_suspended(tenant, true).await?;
        tracing::warn!(tenant_id = %tenant, "the tenant is suspended");
        Ok(())
    }

    /// Takes the tenant's requests again.
    ///
    /// # Errors
    /// As [`suspend`](Self::suspend).
    pub async fn resume(&self, tenant: &TenantId) -> Result<(), AcquireError> {
        self.set_suspended(tenant, false).await?;
        tracing::info!(tenant_id = %tenant, "the tenant is resumed");
        Ok(())
    }

    /// The counters of secrets and pools.
    pub fn cache_snapshot(&self) -> CacheSnapshot {
        let engine = &*self.0;
        let mut snapshot = *engine.secrets.counters.lock();
        let metrics = &mut snapshot.metrics;
        metrics.capacity = engine.secrets.settings.secrets.max_entries;
        // One that is forgotten meanwhile gives its hits to `forgotten` only when it is dropped.
        let known = engine.tenants.all();
        metrics.hits = engine.forgotten.lock().secret_hits;
        for tenant in known {
            metrics.hits += tenant.usage.lock().secret_hits;
            metrics.entries += usize::from(tenant.holdings().secret.cached().is_some());
        }
        engine.pools.budget.report(&mut snapshot.pools);
        snapshot
    }

    /// What every tenant used, and how it is, for metrics. It passes over all that are known.
    pub fn usage_snapshot(&self) -> UsageSnapshot {
        UsageSnapshot {
            known: self.0.tenants.all().iter().map(known_tenant).collect(),
            forgotten: *self.0.forgotten.lock(),
        }
    }

    /// Closes every pool and waits, at most for `grace`, until each connection is closed and each
    /// lease of a secret given back; those that are not are logged. Requests from now on get
    /// [`AcquireError::ShuttingDown`]. Returns whether all connections were closed in time.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let (engine, deadline) = (&*self.0, Instant::now() + grace);
        engine.closed.store(true, Ordering::Release);
        let let_go = || {
            for tenant in engine.tenants.all() {
                tenant.holdings().let_go();
            }
        };
        // A request that was admitted before may open another pool meanwhile.
        let draining = async {
            let_go();
            while timeout(LET_GO_EVERY, engine.pools.budget.drained()).await.is_err() {
                let_go();
            }
        };
        let closed = timeout(grace, draining).await.is_ok();
        engine.secrets.leases.end(deadline, let_go).await;
        closed
    }

    async fn set_suspended(&self, tenant: &TenantId, suspended: bool) -> Result<(), AcquireError> {
        let held = self.0.hold(tenant)?;
        // It holds also while the secret cannot be read, as in an outage of the provider.
        if let Err(AcquireError::Unknown) = self.make_known(&held).await {
            return Err(AcquireError::Unknown);
        }
        held.admission.set_suspended(suspended);
        held.holdings().prepare_again();
        Ok(())
    }

    /// Reads the secret of a tenant, unless the tenant is known.
    async fn make_known(&self, tenant: &Held) -> Result<(), AcquireError> {
        let is_known = tenant.admission.is_suspended() || tenant.holdings().is_known();
        if !is_known {
            tenant.secret(&self.0.secrets, Instant::now()).await?;
        }
        Ok(())
    }
}
