//! The scripted driver: how sessions are opened, and the migrations before a database's first use.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sea_orm::DbBackend;
use tenantry_core::{
    BoxError, Connection, DatabaseConfig, DatabaseDriver, DriverError, DriverErrorKind, MigrationLock, SecretInvalid,
    TenantId,
    engine::{OnConnect, SchemaVersion},
};
use tokio::time::{Instant, sleep};

use super::{
    OPERATOR, Phase, ServerMood, Session, State, UNIT, World, connection::ScriptedConnection, tenant::index_of,
    version_and_lease,
};

/// The driver of a world.
pub(crate) struct ScriptedDriver(pub(crate) Arc<World>);

/// How a login goes, before the server says anything.
struct Login {
    latency: Duration,
    /// The server ends the session just after the login.
    ended: bool,
}

#[async_trait]
impl DatabaseDriver for ScriptedDriver {
    fn validate(&self, _: &DatabaseConfig) -> Result<(), SecretInvalid> {
        Ok(())
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        let tenant = index_of(config.database.as_deref().unwrap_or_default());
        let user = version_and_lease(config.username.as_deref().unwrap_or_default());
        let is_probe = UNIT.try_with(|unit| *unit == OPERATOR).unwrap_or(false);
        let id = begin(&self.0, tenant, user, is_probe);
        // From here on the session ends when this is dropped, also if the engine gives the login
        // up.
        let connection = ScriptedConnection::new(self.0.clone(), id);
        let login = self.0.lock().login(tenant);
        sleep(login.latency).await;
        let mood = self.0.lock().tenants[tenant].mood;
        if mood == ServerMood::DropsPackets {
            self.0.mended().await;
        }
        let mut state = self.0.lock();
        match state.admit(id, mood, login.ended) {
            Ok(()) => {
                let session = state.session(id);
                session.phase = Phase::Open;
                session.opened_at = Instant::now();
                session.idle_since = Some(Instant::now());
                state.note(format_args!("tenant {tenant}: session {id} is open"));
                drop(state);
                Ok(Box::new(connection))
            }
            Err(kind) => {
                state.counts.failed_connects += 1;
                state.note(format_args!(
                    "tenant {tenant}: session {id} is refused: {}",
                    kind.as_str()
                ));
                Err(DriverError::new(kind, "the server was told to refuse"))
            }
        }
    }

    fn backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    fn migration_dialect(&self) -> &str {
        "scripted"
    }

    fn migration_lock(&self, _config: &DatabaseConfig) -> MigrationLock {
        MigrationLock::Transaction
    }
}

/// Counts a session from now on.
pub(crate) fn begin(world: &Arc<World>, tenant: usize, user: (u64, Option<u64>), is_probe: bool) -> u64 {
    let mut state = world.lock();
    let id = state.next();
    let maybe_retired = state.has_older_handles(tenant);
    let (version, lease) = user;
    let session = Session::new(tenant, user, is_probe, maybe_retired);
    state.sessions.insert(id, session);
    state.counts.connects += 1;
    state.note(format_args!(
        "tenant {tenant}: session {id} begins to connect with version {version}, lease {lease:?}"
    ));
    state.check_ceiling();
    let too_many = state.has_too_many(tenant);
    drop(state);
    if too_many {
        // A connection that was given up in this instant is closed by a task that may not have run
        // yet.
        let world = world.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(1)).await;
            world.lock().check_tenant_limit(tenant);
        });
    }
    id
}

impl State {
    fn login(&self, tenant: usize) -> Login {
        let (dice, chance) = (&self.tenants[tenant].dice, self.faults.connects);
        let slow = dice.percent(chance);
        let slowest = if slow { 1_500 } else { 20 };
        Login {
            latency: dice.millis(1..slowest),
            ended: dice.percent(chance / 4),
        }
    }

    fn admit(&mut self, id: u64, mood: ServerMood, ended: bool) -> Result<(), DriverErrorKind> {
        let Session {
            tenant, version, lease, ..
        } = *self.session(id);
        let lease = lease.map(|lease| self.leases[&lease]);
        let open = |session: &&Session| session.tenant == tenant && session.phase != Phase::Opening && !session.lost;
        let open = self.sessions.values().filter(open).count();
        let tenant = &self.tenants[tenant];
        if mood != ServerMood::Well {
            Err(DriverErrorKind::Unreachable)
        } else if tenant.server_limit.is_some_and(|limit| open >= limit) {
            Err(DriverErrorKind::ConnectionLimit)
        } else if !(tenant.accepted.0..=tenant.accepted.1).contains(&version)
            || lease.is_some_and(|lease| lease.over_for().is_some())
        {
            Err(DriverErrorKind::Authentication)
        } else if ended {
            Err(DriverErrorKind::SessionEnded)
        } else {
            Ok(())
        }
    }
}

/// The migrations of a world.
pub(crate) struct ScriptedMigrations(pub(crate) Arc<World>);

#[async_trait]
impl OnConnect for ScriptedMigrations {
    async fn prepare(
        &self,
        tenant: &TenantId,
        _: &dyn DatabaseDriver,
        _: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        let (takes, fails) = {
            let state = self.0.lock();
            let dice = &state.tenants[index_of(tenant.as_str())].dice;
            let slowest = if state.faults.slow_migrations { 12_000 } else { 50 };
            let chance = state.faults.migrations;
            (dice.millis(1..slowest), dice.percent(chance))
        };
        let tenant = tenant.as_str();
        self.0.note(format_args!("{tenant}: migrations begin, for {takes:?}"));
        connection.execute_script("MIGRATE begin").await?;
        sleep(takes).await;
        connection.execute_script("MIGRATE end").await?;
        self.0.note(format_args!("{tenant}: migrations end, failed: {fails}"));
        if fails {
            Err("a migration was told to fail".into())
        } else {
            Ok(None)
        }
    }
}
