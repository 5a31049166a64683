//! How a pool comes by another connection. Requests only wait; a task of its own waits for a
//! permit, logs in, prepares a new database, and hands the connection to the request that waited
//! longest. So a login goes on if the request that wanted it has had another connection or has gone
//! away. Between two logins, an opening that no request waits for ends.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _,
    future::{Either, select},
};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{Instrument as _, field::Empty};

use super::{
    Pool,
    connection::{Facts, Pooled, PooledConnection},
};
use crate::{
    BoxError, Connection, DatabaseError, DatabaseErrorKind, DriverErrorKind,
    engine::{
        budget::{ConnectionPermit, LINGERING},
        measure::note_error,
        pace::Backoff,
        secrets::Secret,
    },
    trace::{database_system, trace_span},
};

/// The pauses between openings that fail while the tenant has other connections, or while its
/// server has none left.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// The pauses between tries to log in after the user was refused or the new session was ended.
const LOG_IN_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How often it is looked whether the secret has changed meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often a session may be ended before it could be used.
const ENDED_TRIES: u32 = 3;

impl Pool {
    /// Begins openings that the pool's state has counted already.
    pub(super) fn begin_openings(self: &Arc<Self>, count: usize) {
        for _ in 0..count {
            self.runtime().spawn(self.clone().open().in_current_span());
        }
    }

    /// One opening, which the pool's state counts until it has ended.
    async fn open(self: Arc<Self>) {
        let mut pauses = Backoff::new(OPEN_AGAIN.0, OPEN_AGAIN.1);
        while let Some(permit) = self.permit().await {
            // A driver that panics is one that fails.
            let panicked = |_| {
                Err(DatabaseError::new(DatabaseErrorKind::Other).with_source("the driver or the observer panicked"))
            };
            let connected = AssertUnwindSafe(self.connect(permit)).catch_unwind().await;
            match connected.unwrap_or_else(panicked) {
                Ok(None) => return,
                Ok(Some(connection)) => {
                    if self.opened(connection) {
                        return;
                    }
                    // It is of an earlier era, and begins to close before another one is opened.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    let Some(pause) = self.opening_failed(&error, &mut pauses) else {
                        return;
                    };
                    // A new secret is tried at once.
                    let era = self.state().era();
                    drop(timeout(pause, self.superseded(era)).await);
                    if self.state().withdraw() {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for a permit for as long as a request waits for this opening.
    async fn permit(&self) -> Option<ConnectionPermit> {
        let longest = self.acquire_timeout() / 4;
        let (has_others, opening_time) = {
            let state = self.state();
            (state.open() > 0, state.opening_time)
        };
        let (budget, wanted) = (&self.parts.budget, || !self.state().withdraw());
        budget
            .acquire(&self.member, wanted, has_others, opening_time, longest)
            .await
    }

    /// Opens one connection under `permit`, with the secret as it is now. Returns nothing if the
    /// opening has ended because it is not wanted any more.
    async fn connect(&self, mut permit: ConnectionPermit) -> Result<Option<Pooled>, DatabaseError> {
        let deadline = Instant::now() + self.acquire_timeout();
        let mut pauses = Backoff::new(LOG_IN_AGAIN.0, LOG_IN_AGAIN.1);
        loop {
            if self.state().withdraw() {
                return Ok(None);
            }
            permit.lingers = LINGERING;
            let (secret, era) = {
                let inner = self.inner.lock();
                (inner.secret.clone(), inner.state.era())
            };
            let started = Instant::now();
            let (login, superseded) = (pin!(self.log_in(&secret)), pin!(self.superseded(era)));
            match select(login, superseded).await {
                Either::Left((Ok(connection), _)) => {
                    permit.lingers = Duration::ZERO;
                    let mut opened = Box::new(PooledConnection {
                        open: Some((connection, permit)),
                        tenant: self.tenant,
                        secret: secret.clone(),
                        facts: Facts::now(era, started, secret.limits.max_lifetime.into()),
                    });
                    let Err(error) = self.prepare(&secret, &mut opened).await else {
                        return Ok(Some(opened));
                    };
                    // It says nothing of the secret that is in use now. As one of an earlier era it
                    // is closed, and its opening tried again.
                    if self.state().era() != era {
                        return Ok(Some(opened));
                    }
                    // As if it had been ended while it logged in.
                    let ended = error.kind == DatabaseErrorKind::Connect(DriverErrorKind::SessionEnded);
                    match opened.open.take_if(|_| ended) {
                        Some((_, kept)) => permit = kept,
                        None => return Err(error),
                    }
                    self.before_next_login(&secret, error, deadline, &mut pauses).await?;
                }
                // A failure with an earlier secret says nothing of the one that is in use now.
                Either::Left((Err(_), _)) if self.state().era() != era => {}
                Either::Left((Err(error), _)) => self.before_next_login(&secret, error, deadline, &mut pauses).await?,
                // The server may count the session that was given up for a moment longer.
                Either::Right(_) => sleep(LINGERING).await,
            }
        }
    }

    /// Waits until another try to log in is worthwhile after this error, which is returned if none
    /// is.
    async fn before_next_login(
        &self,
        secret: &Secret,
        error: DatabaseError,
        deadline: Instant,
        pauses: &mut Backoff,
    ) -> Result<(), DatabaseError> {
        match error.kind {
            // If an operator ends a user's sessions, as after a rotation, that also ends sessions
            // that are just being opened.
            DatabaseErrorKind::Connect(DriverErrorKind::SessionEnded) if pauses.failures() < ENDED_TRIES => {}
            // The password may just be changing: the secret is read anew, and the login tried again
            // for as long as there is hope. Until then it counts as no failure, so that requests
            // wait.
            DatabaseErrorKind::Connect(DriverErrorKind::Authentication) => {
                self.state().doubt();
                let refused = (self.parts.refused)(self.tenant, secret.generation);
                if !matches!(timeout_at(deadline, refused).await, Ok(true)) {
                    return Err(error);
                }
            }
            DatabaseErrorKind::Connect(DriverErrorKind::DatabaseMissing) => {
                // Another database, such as a restored backup, may take its place.
                self.prepare_again();
                return Err(error);
            }
            _ => return Err(error),
        }
        if self.secret().generation == secret.generation {
            let again_at = Instant::now() + pauses.fail(Instant::now());
            if again_at >= deadline {
                return Err(error);
            }
            sleep_until(again_at).await;
        }
        Ok(())
    }

    /// Waits until the pool is closed or has another secret than in `era`: a server that is silent
    /// to the old one keeps no request from the new one.
    async fn superseded(&self, era: u64) {
        while self.state().era() == era {
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn log_in(&self, secret: &Secret) -> Result<Box<dyn Connection>, DatabaseError> {
        let started = Instant::now();
        let span = trace_span!(
            "open connection",
            otel.kind = "client",
            otel.status_code = Empty,
            tenant.id = self.tenant.as_str(),
            db.system.name = database_system(&secret.driver_type),
            secret.version = %secret.version,
            error.type = Empty,
        );
        let login = self.parts.secrets.connect(&self.tenant, secret, &secret.config);
        let opened = login.instrument(span.clone()).await;
        let (took, error) = (started.elapsed(), opened.as_ref().err().map(|error| error.kind));
        if let Some(kind) = error {
            note_error(&span, kind.as_str());
        }
        if let Some(observer) = &self.parts.observer {
            observer.connection_opened(&secret.driver_type, took, error);
        }
        opened.map_err(DatabaseError::from)
    }

    /// Prepares the database on the pool's first connection, and looks at it again later; other
    /// openings wait for that.
    async fn prepare(&self, secret: &Arc<Secret>, opened: &mut PooledConnection) -> Result<(), DatabaseError> {
        let Some(on_connect) = &self.parts.on_connect else {
            return Ok(());
        };
        let _turn = self.preparing.lock().await;
        let begun = {
            let mut state = self.state();
            // A connection of an earlier secret is closed anyway.
            match opened.facts.era == state.era() {
                true => state.begin_preparation(Instant::now()),
                false => None,
            }
        };
        if begun.is_none() {
            return Ok(());
        }
        let preparation = async {
            let connection = opened.connection()?;
            on_connect
                .prepare(&self.tenant, &*secret.driver, &secret.config, connection)
                .await
        };
        // Migrations may take longer than a request has, so its deadline is not theirs.
        let longest = Duration::from(self.parts.secrets.settings.migrations_timeout);
        let outcome = timeout(longest, AssertUnwindSafe(preparation).catch_unwind()).await;
        self.state().preparing_since = None;
        let outcome = outcome.map_err(|_| BoxError::from("the preparation took longer than `migrations.timeout`"));
        let outcome = outcome.and_then(|ended| ended.unwrap_or_else(|_| Err("the preparation panicked".into())));
        secret.schema.prepared(outcome)?;
        self.state().prepared = begun;
        Ok(())
    }
}
