//! How tenants are: from what is known, or by asking their databases.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{budget::LINGERING, measure::usage::TenantUsage, secrets::Secret, tenant::Tenant, tenants::Tenants};
use crate::{
    DatabaseError, Encryption, TenantId,
    acquire_error::AcquireError,
    health::{CheckFailure, HealthPage, HealthQuery, PoolStatus, SecretSnapshot, TenantSnapshot, TenantStatus},
    provider::in_time,
};

/// How long one tenant's check may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// How long a page waits for the provider's list.
const LIST_PATIENCE: Duration = Duration::from_secs(10);
/// How many tenants are checked at once.
const PROBES_AT_ONCE: usize = 10;

/// A known tenant, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTenant {
    /// Its id.
    pub id: TenantId,
    /// What it used.
    pub usage: TenantUsage,
    /// Its connections; `None` while no pool is open.
    pub pool: Option<PoolStatus>,
    /// Whether its provider is left alone for a while after failures.
    pub secret_breaker_open: bool,
    /// How its last connection is protected, if a pool is open.
    pub encryption: Option<Encryption>,
    /// Whether its database is left alone for a while after failures.
    pub connection_breaker_open: bool,
    /// How it is.
    pub status: TenantStatus,
    /// The version that its database was last seen at.
    pub schema_version: Option<String>,
}

/// Every tenant that is known now, and the usage of those that are not any more.
#[derive(Debug, Clone, Default)]
pub struct UsageSnapshot {
    /// In no order.
    pub known: Vec<KnownTenant>,
    /// The sum over all tenants that were forgotten.
    pub forgotten: TenantUsage,
}

pub(super) fn known_tenant(tenant: &Arc<Tenant>) -> KnownTenant {
    let (status, holdings) = (status_of(tenant), tenant.holdings());
    let pool = holdings.pool.as_ref().map(|pool| pool.health());
    let open = pool.as_ref().filter(|pool| pool.is_open);
    let secret = holdings.in_use();
    KnownTenant {
        id: tenant.id,
        usage: *tenant.usage.lock(),
        pool: open.map(|pool| pool.status),
        secret_breaker_open: holdings.secret.pause(Instant::now()).is_some(),
        encryption: open.and_then(|_| *secret.as_ref()?.encryption.lock()),
        connection_breaker_open: pool.as_ref().is_some_and(|pool| pool.is_broken),
        status,
        schema_version: secret.and_then(|secret| secret.schema.get()?.version),
    }
}

impl Tenants {
    /// One page of the known tenants: those that the provider lists, and those with open pools.
    /// While the provider cannot list them, those that have a secret, a pool or a suspension.
    /// Without `probe`, no database is contacted.
    pub async fn health(&self, query: HealthQuery) -> HealthPage {
        let engine = &*self.0;
        let listing = engine.secrets.list_for_page(query.after.is_none());
        let listed = in_time(LIST_PATIENCE, listing).await;
        let list_error = listed.as_ref().err().map(|error| format!("provider_{}", error.kind()));
        let mut ids = match listed {
            Ok(listed) => listed.to_vec(),
            Err(_) => {
                let mut known = engine.tenants.all();
                known.retain(|tenant| tenant.admission.is_suspended() || tenant.holdings().is_known());
                known.iter().map(|tenant| tenant.id).collect()
            }
        };
        ids.extend(engine.pools.budget.pools().iter().map(|pool| pool.tenant()));
        ids.sort_unstable();
        ids.dedup();
        let status_of = |known: Arc<Tenant>| status_of(&known);
        let status = |id| engine.tenants.get(&id).map_or(TenantStatus::Idle, status_of);
        let chosen = query.choose(ids.into_iter().map(|id| (id, status(id))));
        let shown: Vec<TenantId> = chosen.ids().collect();
        let tenants = if query.probe {
            let checks = stream::iter(shown).map(|id| async move {
                let failed = |error: AcquireError| self.passive(&id).checked(Err(error.into()));
                self.probe(&id).await.unwrap_or_else(failed)
            });
            checks.buffered(PROBES_AT_ONCE).collect().await
        } else {
            shown.iter().map(|id| self.passive(id)).collect()
        };
        chosen.into_page(tenants, list_error)
    }

    /// Probes one tenant's database. If no pool is open, it opens one connection and closes it
    /// again, so that no other tenant's pool is closed for it.
    ///
    /// # Errors
    /// [`AcquireError::Unknown`] for an unknown tenant. An unavailable secret or database is not an
    /// error; the snapshot shows it.
    pub async fn probe(&self, tenant: &TenantId) -> Result<TenantSnapshot, AcquireError> {
        let engine = &*self.0;
        let held = engine.hold(tenant)?;
        let started = Instant::now();
        let asked = async {
            let secret = held.secret(&engine.secrets, started).await?;
            let answered = match held.pool().filter(|pool| pool.health().is_open) {
                Some(pool) => pool.check().await.map(|()| true),
                None => self.ask_once(tenant, &secret).await,
            };
            answered.map_err(AcquireError::Database)
        };
        let checked = match tokio::time::timeout(PROBE_DEADLINE, asked).await {
            Ok(Err(AcquireError::Unknown)) => return Err(AcquireError::Unknown),
            Ok(Ok(answered)) => Ok(answered.then(|| started.elapsed())),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(CheckFailure::timed_out()),
        };
        let snapshot = snapshot_of(&held).checked(checked);
        engine.end_look(held);
        Ok(snapshot)
    }

    /// Reads one tenant's secret now; a changed one goes to its pool.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), when the secret cannot be had.
    pub async fn refresh(&self, tenant: &TenantId) -> Result<TenantSnapshot, AcquireError> {
        let engine = &*self.0;
        engine.secrets.forget_unknown(Some(tenant));
        let held = engine.hold(tenant)?;
        held.refresh(&engine.secrets).await?;
        Ok(snapshot_of(&held))
    }

    /// How one tenant is, by what is known already.
    pub fn passive(&self, tenant: &TenantId) -> TenantSnapshot {
        let known = self.0.tenants.get(tenant);
        known.map_or_else(|| TenantSnapshot::idle(*tenant), |known| snapshot_of(&known))
    }

    /// Asks a database over a connection of its own. Returns false if there was no room for one: a
    /// check takes no request's place.
    async fn ask_once(&self, tenant: &TenantId, secret: &Secret) -> Result<bool, DatabaseError> {
        let pools = &self.0.pools;
        let member = pools.budget.member(None);
        let give_up = Instant::now() + PROBE_DEADLINE / 2;
        let mut permit = loop {
            match pools.budget.try_acquire(&member) {
                Some(permit) => break permit,
                None if Instant::now() >= give_up => return Ok(false),
                None => tokio::time::sleep(LINGERING).await,
            }
        };
        permit.lingers = LINGERING;
        let config = secret.config.to_probe();
        let mut connection = self.0.secrets.connect(tenant, secret, &config).await?;
        let examined = pools.examine(secret, &mut *connection).await;
        connection.close().await;
        examined.map(|()| true)
    }
}

fn status_of(tenant: &Tenant) -> TenantStatus {
    let holdings = tenant.holdings();
    let pool = holdings.pool.as_ref().map(|pool| pool.health());
    let failure = holdings.secret.failure(Instant::now());
    TenantStatus::of(tenant.admission.is_suspended(), failure, pool.as_ref())
}

fn snapshot_of(tenant: &Tenant) -> TenantSnapshot {
    let (status, holdings, now) = (status_of(tenant), tenant.holdings(), Instant::now());
    let pool = holdings.pool.as_ref().map(|pool| pool.health());
    let secret = holdings.in_use();
    let kept = holdings.secret.peek(now);
    let database_error = pool.as_ref().and_then(|pool| pool.last_error.as_ref());
    TenantSnapshot {
        status,
        driver: secret.as_ref().map(|secret| secret.driver_type.to_string()),
        secret: kept.map(|(secret, age, stale)| SecretSnapshot {
            version: secret.version.to_string(),
            age,
            stale,
            expires_in: secret.lease.as_ref().map(|lease| lease.left()),
        }),
        encryption: secret.as_ref().and_then(|secret| *secret.encryption.lock()),
        schema: secret.and_then(|secret| secret.schema.get()),
        secret_error: holdings.secret.failure(now).map(|(error, _)| error.summary()),
        error: database_error.map(DatabaseError::summary),
        pool: pool.map(|pool| pool.status).unwrap_or_default(),
        ..TenantSnapshot::idle(tenant.id)
    }
}
