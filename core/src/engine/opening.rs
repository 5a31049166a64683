//! How a pool comes by another connection: whose turn it is, whose permit it has, the login, and what is done on a new database first.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tracing::{Instrument as _, field::Empty};

use super::{
    backoff::Backoff,
    breaker::Probe,
    budget::ConnectionPermit,
    connection::{Pooled, PooledConnection},
    pool::PoolShared,
    secret_cache::Secret,
    stopwatch::note_error,
};
use crate::{
    BoxError, Connection, DatabaseDriver, DatabaseError, DatabaseErrorKind, DriverError, DriverErrorKind, TenantId,
    trace::{database_system, trace_span},
};

/// How many connections one tenant opens at once. Many at once are all slow, and the first is needed first.
pub(crate) const OPENINGS_AT_ONCE: usize = 4;
/// How long a request waits at most for a connection of its own tenant before it takes one that another tenant has not used for
/// `SPARE_AFTER`.
const SHORT_PATIENCE: Duration = Duration::from_millis(50);
/// How long before it takes one that another tenant used just now: several times what an opening takes, since both tenants pay for one.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);
const MOST_PATIENCE: Duration = Duration::from_secs(1);
/// A connection that was not used for this long is one that its tenant can do without.
const SPARE_AFTER: Duration = Duration::from_secs(1);
/// How often a request that waits for a permit looks again for a connection that nobody uses.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often a request looks again whose pool has as many connections as it may, some of which may still be opened.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// The waits between tries to connect after the user was refused.
const REFUSED_FIRST: Duration = Duration::from_millis(100);
const REFUSED_LONGEST: Duration = Duration::from_secs(1);
/// How often a request tries again whose session was ended before it could be used.
const ENDED_TRIES: u32 = 3;

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
        connection: &mut dyn Connection,
    ) -> Result<(), BoxError>;
}

/// What a pool asks of the rest of the engine.
#[async_trait]
pub(crate) trait PoolHost: Send + Sync {
    /// The user of the secret of this generation was refused: reads the secret anew, if that may be done now. Tells whether another try
    /// to log in is worth while.
    async fn refused(&self, tenant: &TenantId, generation: u64) -> bool;
    /// Closes the idle connection that is missed least, if it was unused for `unused`, for a tenant that has `none` or some; tells whether one
    /// is closed now or was being closed already.
    fn make_room(&self, unused: Duration, none: bool) -> bool;
}

/// When the preparation of a database began that runs now.
pub(super) struct Preparing<'a>(&'a Mutex<Option<Instant>>);

impl<'a> Preparing<'a> {
    fn begin(since: &'a Mutex<Option<Instant>>) -> Self {
        *since.lock() = Some(Instant::now());
        Self(since)
    }
}

impl Drop for Preparing<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// The right to open one connection now.
pub(crate) struct Opening {
    permit: ConnectionPermit,
    _turn: OwnedSemaphorePermit,
    _first: Option<OwnedMutexGuard<()>>,
    _probe: Option<Probe>,
}

impl PoolShared {
    /// Waits for a permit that another tenant gives up, which costs one of them an opening and mostly both. So a tenant that has
    /// connections in use waits for them first, and takes what others have used lately only when they stay away: otherwise, where there
    /// are as many tenants as permits, each opening makes a neighbour slow, whose requests meet and want another in turn.
    async fn permit_of_another(&self) -> Option<ConnectionPermit> {
        if self.open.load(Ordering::Acquire) > 0 {
            let opening = Duration::from_micros(self.opening_micros.load(Ordering::Relaxed));
            let longest = self.times.acquire / 4;
            let short = opening.min(SHORT_PATIENCE).min(longest);
            tokio::time::sleep(short).await;
            if let Some(permit) = self.budget.try_acquire(&self.holder) {
                return Some(permit);
            }
            let mut place = self.budget.line_up(&self.holder);
            if self.host.make_room(SPARE_AFTER, false) {
                return place.permit().await;
            }
            // Not in the line meanwhile: what others use and give back would be closed for this one.
            drop(place);
            tokio::time::sleep((opening * 4).clamp(LEAST_PATIENCE, MOST_PATIENCE).min(longest) - short).await;
            if let Some(permit) = self.budget.try_acquire(&self.holder) {
                return Some(permit);
            }
        }
        // In the line before the search, so that a connection that comes back during it is seen by one or the other.
        let mut place = self.budget.line_up(&self.holder);
        self.host.make_room(Duration::ZERO, self.holder.count() == 0);
        loop {
            if let Ok(permit) = timeout(LOOK_AGAIN, place.permit()).await {
                return permit;
            }
            // What came back meanwhile may have stayed where it was: only who looks again finds it idle.
            if self.budget.may_look_again() {
                self.host.make_room(Duration::ZERO, self.holder.count() == 0);
            }
        }
    }

    /// Waits for the right to open a connection: its turn, and a permit.
    pub(super) async fn may_open(&self, probe: Option<Probe>) -> Result<Opening, DatabaseError> {
        let closed = || DatabaseError::new(DatabaseErrorKind::Closed);
        // A database that was not reached yet, or no longer, is tried by one request at a time, which holds one permit. The others wait
        // without one, and share its failure.
        let first = if self.breaker.is_proven() {
            None
        } else {
            let first = self.first.clone().lock_owned().await;
            if probe.is_none() {
                self.breaker.check()?;
            }
            Some(first).filter(|_| !self.breaker.is_proven())
        };
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| closed())?;
        loop {
            let permit = match self.budget.try_acquire(&self.holder) {
                Some(permit) => permit,
                None => self.permit_of_another().await.ok_or_else(closed)?,
            };
            // Those count that were begun for requests which have had another connection since: they are in no lease and in no pool yet.
            if self.holder.count() <= self.secret.load().limits.max_connections {
                return Ok(Opening {
                    permit,
                    _turn: turn,
                    _first: first,
                    _probe: probe,
                });
            }
            drop(permit);
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    /// Opens one connection under `permit`, with the secret as it is now.
    async fn connect(self: &Arc<Self>, deadline: Instant, permit: ConnectionPermit) -> Result<Pooled, DatabaseError> {
        let mut refused = Backoff::new(REFUSED_FIRST, REFUSED_LONGEST);
        let mut ended = 0;
        let mut permit = permit.lingering();
        loop {
            let secret = self.secret.load_full();
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
            let opened = timeout(self.times.connect, secret.driver.connect(&secret.config))
                .instrument(span.clone())
                .await
                .unwrap_or_else(|elapsed| Err(DriverError::new(DriverErrorKind::Unreachable, elapsed)));
            let refusal = opened.as_ref().err().map(|error| error.kind);
            if let Some(kind) = refusal {
                note_error(&span, kind.as_str());
            }
            drop(span);
            if let Some(observer) = &self.observer {
                observer.connection_opened(&secret.driver_type, started.elapsed(), refusal);
            }
            let timed_out = started.elapsed() >= self.times.connect;
            let error = match opened {
                Ok(connection) => {
                    let Some(permit) = permit.take() else {
                        return Err(DatabaseError::new(DatabaseErrorKind::Closed));
                    };
                    let mut opened = PooledConnection::new(connection, permit, self.clone(), &secret, started);
                    let micros = opened.opening.as_micros() as u64;
                    self.opening_micros.store(micros, Ordering::Relaxed);
                    let prepared = self.prepare(&secret, &mut opened).await;
                    prepared.inspect_err(|error| self.breaker.not_prepared(error))?;
                    self.breaker.succeeded();
                    return Ok(opened);
                }
                Err(error) => error,
            };
            let give_up = |error: DriverError| {
                self.breaker.failed(&error, timed_out);
                Err(error.into())
            };
            match error.kind {
                // Who ends a user's sessions, as after a rotation, meets those that are just being opened as well.
                DriverErrorKind::SessionEnded if ended < ENDED_TRIES && Instant::now() < deadline => {
                    ended += 1;
                    continue;
                }
                DriverErrorKind::Authentication => {}
                _ => return give_up(error),
            }
            // The password may just be changing: the secret is read anew, and the login tried again for as long as there is hope. Until
            // then it counts as no failure, so that the requests that come meanwhile wait as well and are not turned away.
            self.breaker.doubt();
            let refreshed = timeout_at(deadline, self.host.refused(&self.tenant, secret.generation)).await;
            if !matches!(refreshed, Ok(true)) {
                return give_up(error);
            }
            if self.generation() == secret.generation {
                let pause = refused.fail(Instant::now());
                if Instant::now() + pause >= deadline {
                    return give_up(error);
                }
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// The same in a task of its own: when the request that wanted the connection has had another meanwhile, or has gone away, it is for the
    /// next in line. Otherwise requests that are cut off one after the other would have a connection begun for each and none ever finished.
    pub(super) async fn open(self: &Arc<Self>, opening: Opening, deadline: Instant) -> Result<Pooled, DatabaseError> {
        let (opened, outcome) = oneshot::channel();
        let shared = self.clone();
        let open = async move {
            // Its turn is over when it is open, not before.
            let Opening {
                permit,
                _turn,
                _first,
                _probe,
            } = opening;
            let unwanted = opened.send(shared.connect(deadline, permit).await);
            if let Err(Ok(connection)) = unwanted {
                shared.give(connection);
            }
        };
        tokio::spawn(open.in_current_span());
        outcome
            .await
            .unwrap_or_else(|lost| Err(DatabaseError::new(DatabaseErrorKind::Other).with_source(lost)))
    }

    async fn prepare(&self, secret: &Arc<Secret>, connection: &mut PooledConnection) -> Result<(), DatabaseError> {
        let Some(on_connect) = &self.on_connect else {
            return Ok(());
        };
        let failed = |source: BoxError| DatabaseError::new(DatabaseErrorKind::Migration).with_source(source);
        let preparing = async {
            let mut prepared = self.prepared.lock().await;
            if prepared
                .as_ref()
                .is_some_and(|before| before.config.is_same_database(&secret.config))
            {
                return Ok(());
            }
            let _preparing = Preparing::begin(&self.preparing);
            on_connect
                .prepare(&self.tenant, &*secret.driver, connection.connection()?)
                .await
                .map_err(failed)?;
            *prepared = Some(secret.clone());
            Ok(())
        };
        // Migrations may take longer than a request has, so its deadline is not theirs.
        timeout(self.times.prepare, preparing)
            .await
            .map_err(|elapsed| failed(elapsed.into()))?
    }
}
