//! How a pool comes by another connection. Requests only wait; a task of its own waits for a
//! permit, logs in, prepares a new database, and hands the connection to the request that waited
//! longest. So an opening goes on if the request that wanted it has had another connection or has
//! gone away.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::{
    select,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{Instrument as _, field::Empty};

use super::{
    Pool,
    breaker::Failure,
    connection::{Pooled, PooledConnection},
    state::Facts,
};
use crate::{
    BoxError, Connection, DatabaseConfig, DatabaseDriver, DatabaseError, DatabaseErrorKind, DriverError,
    DriverErrorKind, TenantId,
    engine::{budget::ConnectionPermit, measure::stopwatch::note_error, pace::Backoff, secrets::Secret},
    trace::{database_system, trace_span},
};

/// The pauses between openings that fail while the tenant has other connections, or while its
/// server has none left.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// The pauses between tries to log in after the user was refused.
const REFUSED: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often an opening is tried again at once whose session was ended before it could be used.
const ENDED_TRIES: u32 = 3;
/// How long a session may live on at the server that was let go in the middle of its opening.
const LINGERING: Duration = Duration::from_millis(100);

/// What is done on a tenant's first connection to a database, before anything else: migrations.
#[async_trait]
pub trait OnConnect: Send + Sync {
    /// Prepares the database.
    ///
    /// # Errors
    /// Why it cannot be used; the connection is closed, and the next one tries again.
    async fn prepare(
        &self,
        tenant: &TenantId,
        driver: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        connection: &mut dyn Connection,
    ) -> Result<(), BoxError>;
}

/// What a pool asks of the secrets.
#[async_trait]
pub(crate) trait SecretSource: Send + Sync {
    /// Opens one connection with this secret.
    async fn connect(&self, tenant: &TenantId, secret: &Secret) -> Result<Box<dyn Connection>, DriverError>;
    /// The user of the secret of this generation was refused: reads the secret anew, if that may be
    /// done now. Returns whether another try to log in is worthwhile.
    async fn refused(&self, tenant: &TenantId, generation: u64) -> bool;
}

/// Why there is no connection.
struct NotOpened {
    error: DatabaseError,
    failure: Failure,
}

impl NotOpened {
    fn panicked() -> Self {
        Self {
            error: DatabaseError::new(DatabaseErrorKind::Other).with_source("the driver panicked"),
            failure: Failure::Refused,
        }
    }

    fn not_prepared(source: BoxError) -> Self {
        Self {
            error: DatabaseError::new(DatabaseErrorKind::Migration).with_source(source),
            failure: Failure::NotPrepared,
        }
    }
}

/// One opening, which the pool's state counts until it has ended.
pub(super) struct Opening(Arc<Pool>);

impl Opening {
    /// Begins openings that the pool's state has counted already.
    pub(super) fn begin(pool: &Arc<Pool>, count: usize) {
        // Without a runtime no request waits.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            for _ in 0..count {
                runtime.spawn(Self(pool.clone()).run().in_current_span());
            }
        }
    }

    async fn run(self) {
        let pool = &self.0;
        let mut pauses = Backoff::new(OPEN_AGAIN.0, OPEN_AGAIN.1);
        while let Some(permit) = self.permit().await {
            // A driver that panics is one that fails.
            let connected = AssertUnwindSafe(self.connect(permit)).catch_unwind().await;
            match connected.unwrap_or_else(|_| Err(NotOpened::panicked())) {
                Ok(None) => return,
                Ok(Some(connection)) => {
                    if pool.opened(connection) {
                        return;
                    }
                }
                Err(NotOpened { error, failure }) => {
                    let pause = pauses.fail(Instant::now());
                    let Some(pause) = pool.opening_failed(error, failure, pauses.failures(), pause) else {
                        return;
                    };
                    select! {
                        () = pool.no_longer_wanted() => return,
                        () = sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Waits for a permit for as long as a request waits for this opening.
    async fn permit(&self) -> Option<ConnectionPermit> {
        let pool = &self.0;
        let longest = pool.parts.times.acquire / 4;
        let acquire = pool
            .parts
            .budget
            .acquire(&pool.member, || pool.status().open, pool.opening_time(), longest);
        select! {
            biased;
            () = pool.no_longer_wanted() => None,
            permit = acquire => Some(permit),
        }
    }

    /// Opens one connection under `permit`, with the secret as it is now. Returns nothing if the
    /// opening has ended because another secret has lowered the pool's maximum.
    async fn connect(&self, permit: ConnectionPermit) -> Result<Option<Pooled>, NotOpened> {
        let pool = &self.0;
        let deadline = Instant::now() + pool.parts.times.acquire;
        let mut refused = Backoff::new(REFUSED.0, REFUSED.1);
        let mut ended = 0;
        let not_opened = loop {
            if pool.withdraw_excess() {
                permit.give_back_after(LINGERING);
                return Ok(None);
            }
            let (secret, era) = pool.secret_and_era();
            let started = Instant::now();
            let (opened, failure) = self.log_in(&secret).await;
            let error = match opened {
                Ok(connection) => {
                    let now = Instant::now();
                    // Connections that were opened together are not closed together.
                    let lifetime = Duration::from(secret.limits.max_lifetime).mul_f64(1.0 - 0.1 * fastrand::f64());
                    let facts = Facts {
                        era,
                        opened_at: now,
                        opening: now - started,
                        retire_at: now + lifetime,
                        used_at: now,
                    };
                    let mut opened = PooledConnection::new(connection, permit, pool.tenant, secret.clone(), facts);
                    self.prepare(&secret, &mut opened).await?;
                    return Ok(Some(opened));
                }
                Err(error) => error,
            };
            let not_opened = |error: DriverError| NotOpened {
                error: error.into(),
                failure,
            };
            match error.kind {
                // An operator who ends a user's sessions, as after a rotation, also ends those that are
                // just being opened.
                DriverErrorKind::SessionEnded if ended < ENDED_TRIES && Instant::now() < deadline => {
                    ended += 1;
                    continue;
                }
                DriverErrorKind::Authentication => {}
                DriverErrorKind::DatabaseMissing => {
                    // Another database, such as a restored backup, may take its place.
                    if let Ok(mut prepared) = pool.prepared.try_lock() {
                        *prepared = None;
                    }
                    break not_opened(error);
                }
                _ => break not_opened(error),
            }
            // The password may just be changing: the secret is read anew, and the login tried again
            // for as long as there is hope. Until then it counts as no failure, so that requests
            // wait.
            pool.doubt();
            let refreshed = timeout_at(deadline, pool.parts.secrets.refused(&pool.tenant, secret.generation)).await;
            if !matches!(refreshed, Ok(true)) {
                break not_opened(error);
            }
            if pool.secret().generation == secret.generation {
                let pause = refused.fail(Instant::now());
                if Instant::now() + pause >= deadline {
                    break not_opened(error);
                }
                sleep(pause).await;
            }
        };
        permit.give_back_after(LINGERING);
        Err(not_opened)
    }

    async fn log_in(&self, secret: &Secret) -> (Result<Box<dyn Connection>, DriverError>, Failure) {
        let parts = &self.0.parts;
        let started = Instant::now();
        let span = trace_span!(
            "open connection",
            otel.kind = "client",
            otel.status_code = Empty,
            tenant.id = self.0.tenant.as_str(),
            db.system.name = database_system(&secret.driver_type),
            secret.version = %secret.version,
            error.type = Empty,
        );
        let opened = timeout(parts.times.connect, parts.secrets.connect(&self.0.tenant, secret))
            .instrument(span.clone())
            .await
            .unwrap_or_else(|elapsed| Err(DriverError::new(DriverErrorKind::Unreachable, elapsed)));
        let error = opened.as_ref().err().map(|error| error.kind);
        if let Some(kind) = error {
            note_error(&span, kind.as_str());
        }
        if let Some(observer) = &parts.observer {
            observer.connection_opened(&secret.driver_type, started.elapsed(), error);
        }
        let timed_out = started.elapsed() >= parts.times.connect;
        (opened, if timed_out { Failure::TimedOut } else { Failure::Refused })
    }

    /// Prepares the database on its first connection; other openings wait for that.
    async fn prepare(&self, secret: &Arc<Secret>, opened: &mut PooledConnection) -> Result<(), NotOpened> {
        let pool = &self.0;
        let Some(on_connect) = &pool.parts.on_connect else {
            return Ok(());
        };
        let mut prepared = pool.prepared.lock().await;
        let is_prepared = |before: &Arc<Secret>| before.config.is_same_database(&secret.config);
        // A connection of an earlier secret is closed anyway.
        if prepared.as_ref().is_some_and(is_prepared) || opened.facts.era != pool.secret_and_era().1 {
            return Ok(());
        }
        let preparing = Preparing::begin(pool);
        let connection = opened
            .connection()
            .map_err(|error| NotOpened::not_prepared(error.into()))?;
        let preparation = on_connect.prepare(&pool.tenant, &*secret.driver, &secret.config, connection);
        // Migrations may take longer than a request has, so its deadline is not theirs.
        let outcome = timeout(pool.parts.times.prepare, preparation).await;
        drop(preparing);
        outcome
            .map_err(BoxError::from)
            .flatten()
            .map_err(NotOpened::not_prepared)?;
        *prepared = Some(secret.clone());
        Ok(())
    }
}

/// While it is held, the database is being prepared.
struct Preparing<'a>(&'a Pool);

impl<'a> Preparing<'a> {
    fn begin(pool: &'a Pool) -> Self {
        pool.set_preparing(Some(Instant::now()));
        Self(pool)
    }
}

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        self.0.set_preparing(None);
    }
}
