//! How tenants are: from what is known, or by asking their databases.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    budget::LINGERING,
    error::AcquireError,
    measure::usage::TenantUsage,
    pool::{Pool, PoolStatus, SchemaVersion},
    secrets::Secret,
    tenant::Tenant,
    tenants::Tenants,
};
use crate::{DatabaseError, DatabaseErrorKind, Encryption, TenantId};

/// How long one tenant's check may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// How many tenants are checked at once.
const PROBES_AT_ONCE: usize = 10;

/// A known tenant, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// Every tenant that is known now, and the usage of those that are not any more.
#[derive(Debug, Clone, Default)]
pub struct UsageSnapshot {
    /// In no order.
    pub known: Vec<KnownTenant>,
    /// The sum over all tenants that were forgotten.
    pub forgotten: TenantUsage,
    /// How many known tenants' databases were last seen at each version.
    pub schema_versions: BTreeMap<String, usize>,
}

pub(super) fn schema_versions(tenants: &[Arc<Tenant>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for tenant in tenants {
        let secret = tenant.holdings().in_use();
        let schema = secret.and_then(|secret| secret.schema.lock().clone());
        if let Some(version) = schema.and_then(|schema| schema.version) {
            *counts.entry(version).or_default() += 1;
        }
    }
    counts
}

pub(super) fn known_tenant(tenant: &Arc<Tenant>) -> KnownTenant {
    let holdings = tenant.holdings();
    let open = holdings.pool.as_ref().filter(|pool| pool.is_open());
    KnownTenant {
        status: status(tenant.admission.is_suspended(), holdings.pool.as_deref()),
        id: tenant.id,
        usage: *tenant.usage.lock(),
        pool: open.map(|pool| pool.status()),
        encryption: open.and_then(|pool| *pool.secret().encryption.lock()),
        secret_breaker_open: holdings.secret.pause(Instant::now()).is_some(),
        connection_breaker_open: holdings.pool.as_ref().is_some_and(|pool| pool.is_broken()),
    }
}

/// How a tenant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantStatus {
    /// Its database answers, or did when it was last needed.
    Healthy,
    /// Its secret or its database cannot be had.
    Unhealthy,
    /// It is known, and no pool is open or none has connected yet.
    Idle,
    /// An operator suspended it.
    Suspended,
    /// Its migrations run on its first connection.
    Migrating,
    /// Its migrations are below the version that is served.
    Behind,
}

/// A tenant's secret as it is kept, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSnapshot {
    /// The provider's version id.
    pub version: String,
    /// How long ago it was read.
    pub age: Duration,
    /// Whether it is past its time, or could not be renewed.
    pub stale: bool,
    /// For how long it may still be used unless its lease is extended; `None` if it has no lease.
    pub expires_in: Option<Duration>,
}

/// How a tenant is now.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantSnapshot {
    /// Which one.
    pub id: TenantId,
    /// In one word.
    pub status: TenantStatus,
    /// The driver's type, where the secret is known.
    pub driver: Option<String>,
    /// How long the database took to answer, where it was asked.
    pub latency: Option<Duration>,
    /// When it was asked.
    pub checked_at: Option<DateTime<Utc>>,
    /// Its connections.
    pub pool: PoolStatus,
    /// Its secret, where one is kept.
    pub secret: Option<SecretSnapshot>,
    /// How the last connection is protected, if one was opened.
    pub encryption: Option<Encryption>,
    /// How far its migrations were when they were looked at last.
    pub schema: Option<SchemaVersion>,
    /// What is wrong, as a kind that says nothing secret.
    pub error: Option<String>,
}

/// Which tenants are shown.
#[derive(Debug, Clone)]
pub struct HealthQuery {
    /// Whether their databases are asked.
    pub probe: bool,
    /// Only those that are so, before they are asked.
    pub status: Option<TenantStatus>,
    /// Only those whose id comes after these bytes.
    pub after: Option<Vec<u8>>,
    /// How many at most.
    pub limit: usize,
}

impl HealthQuery {
    /// All tenants.
    pub fn all(probe: bool) -> Self {
        Self {
            probe,
            status: None,
            after: None,
            limit: usize::MAX,
        }
    }
}

/// How many tenants are how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusCounts([usize; 6]);

impl StatusCounts {
    /// How many are so.
    pub fn of(&self, status: TenantStatus) -> usize {
        self.0[status as usize]
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

/// Some tenants, by id.
#[derive(Debug, Clone)]
pub struct HealthPage {
    /// All tenants, also those that are not shown.
    pub counts: StatusCounts,
    /// Those that are shown.
    pub tenants: Vec<TenantSnapshot>,
    /// Whether more of them come after the last one.
    pub has_more: bool,
}

impl Tenants {
    /// One page of the known tenants: those the provider lists and those whose pools are open. Without
    /// `probe`, nothing is opened or asked.
    ///
    /// # Errors
    /// [`AcquireError::ProviderUnavailable`] when the provider cannot list them.
    pub async fn health(&self, query: HealthQuery) -> Result<HealthPage, AcquireError> {
        let mut ids = self.list().await?;
        ids.extend(self.0.pools.budget.pools().iter().map(|pool| pool.tenant()));
        ids.sort_unstable();
        ids.dedup();
        let mut counts = StatusCounts::default();
        let mut shown = Vec::new();
        for id in ids {
            let known = self.0.tenants.get(&id);
            let status = known.map_or(TenantStatus::Idle, |known| status_of(&known));
            counts.0[status as usize] += 1;
            let is_meant = query.status.is_none_or(|meant| meant == status)
                && query.after.as_deref().is_none_or(|last| id.as_str().as_bytes() > last);
            // One more than are shown tells whether there are more.
            if is_meant && shown.len() <= query.limit {
                shown.push((id, status));
            }
        }
        let has_more = shown.len() > query.limit;
        shown.truncate(query.limit);
        if !query.probe {
            let tenants = shown.iter().map(|(id, _)| self.passive(id)).collect();
            return Ok(HealthPage {
                counts,
                tenants,
                has_more,
            });
        }
        let (ids, before): (Vec<TenantId>, Vec<TenantStatus>) = shown.into_iter().unzip();
        let checks = stream::iter(ids)
            .map(|id| async move {
                self.probe(&id).await.unwrap_or_else(|error| TenantSnapshot {
                    status: TenantStatus::Unhealthy,
                    checked_at: Some(Utc::now()),
                    error: Some(kind_of(&error)),
                    ..self.passive(&id)
                })
            })
            .buffered(PROBES_AT_ONCE);
        let tenants: Vec<TenantSnapshot> = checks.collect().await;
        for (before, tenant) in before.into_iter().zip(&tenants) {
            counts.0[before as usize] -= 1;
            counts.0[tenant.status as usize] += 1;
        }
        Ok(HealthPage {
            counts,
            tenants,
            has_more,
        })
    }

    /// Asks one tenant's database. Where no pool is open, over one connection that is opened for it
    /// and closed after, so that no other tenant's pool has to go.
    ///
    /// # Errors
    /// [`AcquireError::Unknown`] for no such tenant; one whose secret or database cannot be had is
    /// a snapshot that says so.
    pub async fn probe(&self, tenant: &TenantId) -> Result<TenantSnapshot, AcquireError> {
        let engine = &*self.0;
        let held = engine.hold(tenant, false)?;
        let started = Instant::now();
        let asked = async {
            let secret = held.secret(&engine.secrets, started).await?;
            let answered = match held.pool().filter(|pool| pool.is_open()) {
                Some(pool) => pool.check().await.map(|()| true),
                None => self.ask_once(tenant, &secret).await,
            };
            answered.map_err(AcquireError::Database)
        };
        let outcome = match tokio::time::timeout(PROBE_DEADLINE, asked).await {
            Ok(Err(AcquireError::Unknown)) => return Err(AcquireError::Unknown),
            Ok(answered) => answered.map_err(|error| kind_of(&error)),
            Err(_) => Err("timeout".to_owned()),
        };
        let mut snapshot = snapshot_of(&held);
        engine.end_look(held);
        snapshot.checked_at = Some(Utc::now());
        snapshot.latency = (outcome == Ok(true)).then(|| started.elapsed());
        // A database whose migrations failed answers, and its tenant's requests fail.
        let unprepared = [DatabaseErrorKind::Migration, DatabaseErrorKind::SchemaBehind].map(DatabaseErrorKind::as_str);
        let is_prepared = snapshot
            .error
            .as_deref()
            .is_none_or(|error| !unprepared.contains(&error))
            && snapshot.status != TenantStatus::Migrating;
        let (status, error) = match outcome {
            Ok(true) if is_prepared => (TenantStatus::Healthy, None),
            Ok(_) => (snapshot.status, snapshot.error),
            Err(error) if error == DatabaseErrorKind::SchemaBehind.as_str() => (TenantStatus::Behind, Some(error)),
            Err(error) => (TenantStatus::Unhealthy, Some(error)),
        };
        snapshot.error = error;
        if snapshot.status != TenantStatus::Suspended {
            snapshot.status = status;
        }
        Ok(snapshot)
    }

    /// Reads one tenant's secret now; a changed one goes to its pool.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), when the secret cannot be had.
    pub async fn refresh(&self, tenant: &TenantId) -> Result<TenantSnapshot, AcquireError> {
        let engine = &*self.0;
        engine.secrets.forget_unknown(Some(tenant));
        let held = engine.hold(tenant, true)?;
        held.refresh(&engine.secrets).await?;
        Ok(snapshot_of(&held))
    }

    /// How one tenant is, by what is known already.
    pub fn passive(&self, tenant: &TenantId) -> TenantSnapshot {
        match self.0.tenants.get(tenant) {
            Some(known) => snapshot_of(&known),
            None => snapshot(*tenant, false, None, None),
        }
    }

    /// Asks a database over a connection of its own. Returns false if there was no room for one: a
    /// check takes no request's place.
    async fn ask_once(&self, tenant: &TenantId, secret: &Secret) -> Result<bool, DatabaseError> {
        let budget = &self.0.pools.budget;
        let member = budget.member(None);
        let give_up = Instant::now() + PROBE_DEADLINE / 2;
        let mut permit = loop {
            match budget.try_acquire(&member) {
                Some(permit) => break permit,
                None if Instant::now() >= give_up => return Ok(false),
                None => tokio::time::sleep(LINGERING).await,
            }
        };
        permit.lingers = LINGERING;
        let mut connection = self.0.secrets.connect(tenant, secret).await?;
        let answered = connection.ping().await.map(|_| true);
        let mut looked = Ok(());
        if let (Ok(_), Some(on_connect)) = (&answered, &self.0.pools.on_connect) {
            looked = secret.note_schema(on_connect.look(&*secret.driver, &mut *connection).await);
        }
        connection.close().await;
        looked.and(answered)
    }
}

fn status_of(tenant: &Tenant) -> TenantStatus {
    status(tenant.admission.is_suspended(), tenant.pool().as_deref())
}

fn status(is_suspended: bool, pool: Option<&Pool>) -> TenantStatus {
    match pool {
        _ if is_suspended => TenantStatus::Suspended,
        None => TenantStatus::Idle,
        // With a connection the tenant is served, though the server may refuse another one.
        Some(pool) if pool.status().open > 0 => TenantStatus::Healthy,
        Some(pool) if pool.is_preparing() => TenantStatus::Migrating,
        Some(pool) => match pool.last_error() {
            Some(error) if error.kind == DatabaseErrorKind::SchemaBehind => TenantStatus::Behind,
            Some(_) => TenantStatus::Unhealthy,
            None => TenantStatus::Idle,
        },
    }
}

fn snapshot_of(tenant: &Tenant) -> TenantSnapshot {
    let holdings = tenant.holdings();
    let kept = holdings.secret.peek(Instant::now());
    let kept = kept.map(|(secret, age, stale)| (secret.clone(), age, stale));
    let is_suspended = tenant.admission.is_suspended();
    snapshot(tenant.id, is_suspended, holdings.pool.as_deref(), kept)
}

fn snapshot(
    id: TenantId,
    is_suspended: bool,
    pool: Option<&Pool>,
    kept: Option<(Arc<Secret>, Duration, bool)>,
) -> TenantSnapshot {
    let failure = pool.and_then(Pool::last_error);
    let status = status(is_suspended, pool);
    let secret = kept.as_ref().map(|(secret, ..)| secret.clone());
    let secret = secret.or_else(|| pool.map(Pool::secret));
    TenantSnapshot {
        id,
        status,
        driver: secret.as_ref().map(|secret| secret.driver_type.to_string()),
        latency: None,
        checked_at: None,
        pool: pool.map(Pool::status).unwrap_or_default(),
        secret: kept.map(|(secret, age, stale)| SecretSnapshot {
            version: secret.version.to_string(),
            age,
            stale,
            expires_in: secret.lease.as_ref().map(|lease| lease.left()),
        }),
        encryption: secret.as_ref().and_then(|secret| *secret.encryption.lock()),
        schema: secret.as_ref().and_then(|secret| secret.schema.lock().clone()),
        error: failure.map(|failure| failure.summary()),
    }
}

/// One word for what went wrong, and for a secret the field.
fn kind_of(error: &AcquireError) -> String {
    match error {
        AcquireError::SecretInvalid { source, .. } => format!("secret_invalid: {source}"),
        AcquireError::ProviderUnavailable { source, .. } => format!("provider_{}", source.kind()),
        AcquireError::Database(error) => error.summary(),
        other => other.to_string(),
    }
}
