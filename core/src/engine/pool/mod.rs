//! One tenant's pool: connections opened with its secret, within its limit and the budget that all
//! tenants share.
//!
//! [`PoolState`] decides, under one lock; this shell does what it says. A request takes an idle
//! connection or waits in line until its one deadline. [`opening`] opens what the line needs.

mod breaker;
mod connection;
mod lease;
mod opening;
mod state;
mod upkeep;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use breaker::Failure;
use connection::Pooled;
pub(crate) use lease::{Answer, Call, Lease};
pub use opening::OnConnect;
use opening::Opening;
pub(crate) use opening::SecretSource;
use state::{Failed, Next, PoolState};

use super::{
    budget::{Budget, Member, Returned},
    measure::observer::EngineObserver,
    secrets::Secret,
};
use crate::{DatabaseError, DatabaseErrorKind, DriverErrorKind, ServerVersion, TenantId};

/// How many connections a pool has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// The most it may have.
    pub max: usize,
    /// Those that are open.
    pub open: usize,
    /// Those of them that wait for use.
    pub idle: usize,
    /// Those of them that are used.
    pub in_use: usize,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolTimes {
    pub(crate) connect: Duration,
    pub(crate) acquire: Duration,
    /// Preparing a database, its migrations.
    pub(crate) prepare: Duration,
}

/// What all pools of an engine have in common.
pub(crate) struct PoolParts {
    pub(crate) budget: Arc<Budget>,
    pub(crate) secrets: Arc<dyn SecretSource>,
    pub(crate) on_connect: Option<Arc<dyn OnConnect>>,
    pub(crate) observer: Option<Arc<dyn EngineObserver>>,
    pub(crate) times: PoolTimes,
}

type Delivery = Result<Lease, DatabaseError>;
type State = PoolState<Pooled, oneshot::Sender<Delivery>>;

pub(crate) struct Pool {
    pub(crate) tenant: TenantId,
    member: Member,
    parts: Arc<PoolParts>,
    inner: Mutex<Inner>,
    /// Notifies waiting openings when fewer requests wait than openings run.
    fewer_wait: Notify,
    /// The secret whose database was prepared.
    prepared: tokio::sync::Mutex<Option<Arc<Secret>>>,
}

struct Inner {
    state: State,
    secret: Arc<Secret>,
    version: Option<ServerVersion>,
    /// How long the last opening took.
    opening_time: Duration,
}

/// What a request found at its pool.
enum Found<'a> {
    /// A connection, and whether it must be checked before use.
    Idle(Lease, bool),
    /// A place in the line.
    Place(Place<'a>),
}

impl Pool {
    /// A pool without any connection yet.
    pub(crate) fn new(tenant: TenantId, secret: Arc<Secret>, parts: Arc<PoolParts>) -> Arc<Self> {
        Arc::new_cyclic(|pool: &Weak<Self>| Self {
            tenant,
            member: parts.budget.member(pool.clone()),
            inner: Mutex::new(Inner {
                state: PoolState::new(secret.limits.clone(), Instant::now()),
                secret,
                version: None,
                opening_time: Duration::ZERO,
            }),
            parts,
            fewer_wait: Notify::new(),
            prepared: tokio::sync::Mutex::new(None),
        })
    }

    /// Changes the state, and begins the openings that are wanted then.
    fn with<T>(self: &Arc<Self>, change: impl FnOnce(&mut Inner) -> T) -> T {
        let (result, openings) = {
            let mut inner = self.inner.lock();
            let result = change(&mut inner);
            (result, inner.state.begin_openings())
        };
        if openings > 0 {
            Opening::begin(self, openings);
        }
        result
    }

    pub(crate) fn secret(&self) -> Arc<Secret> {
        self.inner.lock().secret.clone()
    }

    fn secret_and_era(&self) -> (Arc<Secret>, u64) {
        let inner = self.inner.lock();
        (inner.secret.clone(), inner.state.era())
    }

    /// How long a request waits for connections.
    pub(crate) fn acquire_timeout(&self) -> Duration {
        self.parts.times.acquire
    }

    /// Takes a connection; waits for one for `longest` at most, whatever it waits for.
    pub(crate) async fn lease(self: &Arc<Self>, longest: Duration) -> Result<Lease, DatabaseError> {
        let now = Instant::now();
        match self.find(now)? {
            Found::Idle(lease, false) => Ok(lease),
            // Large, and seldom needed: a request that finds a connection does not carry it along.
            found => Box::pin(self.wait(found, now + longest)).await,
        }
    }

    async fn wait(self: &Arc<Self>, found: Found<'_>, deadline: Instant) -> Result<Lease, DatabaseError> {
        timeout_at(deadline, self.settle(found))
            .await
            .unwrap_or_else(|_| Err(self.gave_up()))
    }

    async fn settle(self: &Arc<Self>, mut found: Found<'_>) -> Result<Lease, DatabaseError> {
        loop {
            match found {
                Found::Idle(lease, false) => return Ok(lease),
                Found::Place(place) => return place.delivery().await,
                Found::Idle(mut lease, true) => {
                    if lease.is_alive().await {
                        // The secret may have changed meanwhile.
                        if self.is_current(&lease) {
                            return Ok(lease);
                        }
                        found = self.find(Instant::now())?;
                        continue;
                    }
                    let dead = lease.idle_since();
                    let dead = dead.map(|used_at| self.with(|inner| inner.state.found_dead(used_at, Instant::now())));
                    drop(dead);
                }
            }
            found = self.find(Instant::now())?;
        }
    }

    fn is_current(&self, lease: &Lease) -> bool {
        let era = self.inner.lock().state.era();
        lease.era() == Some(era)
    }

    /// Takes an idle connection, or a place in the line if there is none.
    fn find(self: &Arc<Self>, now: Instant) -> Result<Found<'_>, DatabaseError> {
        let mut worn = Vec::new();
        let found = self.with(|inner| {
            if let Some(taken) = inner.state.take(now, &mut worn) {
                return Ok(Ok(taken));
            }
            let (sender, receiver) = oneshot::channel();
            let probe = || self.parts.budget.try_probe();
            let ticket = inner.state.join(now, self.parts.times.acquire, sender, probe)?;
            Ok::<_, DatabaseError>(Err((ticket, receiver)))
        });
        drop(worn);
        Ok(match found? {
            Ok((connection, check)) => Found::Idle(Lease::new(connection, self.clone()), check),
            Err((ticket, receiver)) => Found::Place(Place {
                pool: self,
                ticket,
                receiver,
            }),
        })
    }

    /// Why a request got no connection by its deadline.
    fn gave_up(&self) -> DatabaseError {
        let inner = self.inner.lock();
        let state = &inner.state;
        if state.is_preparing() {
            return DatabaseError::new(DatabaseErrorKind::Migrating);
        }
        // It holds a permit and has no connection: the server has not answered.
        if state.open() == 0 && self.parts.budget.held_by(&self.member) > 0 {
            let unreachable = DatabaseErrorKind::Connect(DriverErrorKind::Unreachable);
            let error = state.breaker().last_error().cloned();
            return error.unwrap_or_else(|| DatabaseError::new(unreachable));
        }
        DatabaseError::new(DatabaseErrorKind::PoolTimeout)
    }

    /// A connection comes back from a lease.
    fn give_back(self: &Arc<Self>, connection: Pooled, now: Instant, fit: bool) {
        let short = self.parts.budget.is_short();
        let next = self.with(|inner| {
            let state = &mut inner.state;
            let returned = Returned {
                open: state.open(),
                held_for: now - connection.facts.opened_at,
                opening: connection.facts.opening,
                wanted_at_home: state.has_waiting(),
            };
            let give_up = short && self.parts.budget.wants_back(&self.member, returned, now);
            state.give_back(connection, now, fit && !give_up)
        });
        self.follow(next);
    }

    fn follow(self: &Arc<Self>, next: Next<Pooled, oneshot::Sender<Delivery>>) {
        match next {
            // If it went away just now, the lease comes back by being dropped.
            Next::Deliver(waiter, connection) => drop(waiter.send(Ok(Lease::new(connection, self.clone())))),
            Next::Close(connection) => drop(connection),
            Next::Kept => {}
        }
    }

    /// An opening has ended well; returns whether its connection is of use, else it tries again.
    fn opened(self: &Arc<Self>, connection: Pooled) -> bool {
        let opening_time = connection.facts.opening;
        let (next, failures) = self.with(|inner| {
            inner.opening_time = opening_time;
            inner.state.opened(connection, Instant::now())
        });
        if failures > 0 {
            tracing::info!(tenant_id = %self.tenant, failures, "the database can be reached again");
        }
        let of_use = !matches!(next, Next::Close(_));
        self.follow(next);
        if of_use {
            self.parts.budget.trim();
        }
        of_use
    }

    /// An opening has failed; returns after which pause it tries again, if it does.
    fn opening_failed(
        self: &Arc<Self>,
        error: DatabaseError,
        failure: Failure,
        tries: u32,
        pause: Duration,
    ) -> Option<Duration> {
        let state_error = error.clone();
        let (failed, noteworthy) = self.with(|inner| {
            let state = &mut inner.state;
            state.opening_failed(state_error, failure, tries, pause, Instant::now())
        });
        // Once per outage, and again now and then while it lasts.
        if let Some(failures) = noteworthy {
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            let kind = error.kind.as_str();
            tracing::warn!(tenant_id = %self.tenant, kind, cause, failures, "cannot connect to the database");
        }
        match failed {
            Failed::Retry(pause) => Some(pause),
            Failed::GiveUp(waiting) => {
                for waiter in waiting {
                    // The request may have gone away.
                    drop(waiter.send(Err(error.clone())));
                }
                None
            }
        }
    }

    /// Waits until an opening that has no permit yet is no longer wanted; it then counts as ended.
    async fn no_longer_wanted(&self) {
        loop {
            let mut fewer_wait = std::pin::pin!(self.fewer_wait.notified());
            fewer_wait.as_mut().enable();
            if self.inner.lock().state.withdraw() {
                return;
            }
            fewer_wait.await;
        }
    }

    fn withdraw_excess(&self) -> bool {
        self.inner.lock().state.withdraw_excess()
    }

    fn opening_time(&self) -> Duration {
        self.inner.lock().opening_time
    }

    fn doubt(&self) {
        self.inner.lock().state.doubt();
    }

    fn set_preparing(&self, since: Option<Instant>) {
        self.inner.lock().state.set_preparing(since);
    }

    fn suspect_idle(&self) {
        self.inner.lock().state.suspect_idle(Instant::now());
    }

    fn found_read_only(&self) {
        self.inner.lock().state.found_read_only(Instant::now());
    }

    /// The server's version, asked once per secret.
    pub(crate) async fn server_version(self: &Arc<Self>) -> Result<ServerVersion, DatabaseError> {
        let known = self.inner.lock().version.clone();
        match known {
            Some(version) => Ok(version),
            None => {
                let version = self.ping().await?;
                self.inner.lock().version = Some(version.clone());
                Ok(version)
            }
        }
    }

    /// A round trip to the server.
    pub(crate) async fn ping(self: &Arc<Self>) -> Result<ServerVersion, DatabaseError> {
        match self.lease(self.acquire_timeout()).await?.call(Call::Ping).await? {
            Answer::Version(version) => Ok(version),
            _ => Err(DatabaseError::new(DatabaseErrorKind::Other)),
        }
    }
}

/// A request's place in the line, given up when the waiting ends, however it ends. A connection
/// that was delivered and not taken goes back by being dropped.
struct Place<'a> {
    pool: &'a Arc<Pool>,
    ticket: u64,
    receiver: oneshot::Receiver<Delivery>,
}

impl Place<'_> {
    async fn delivery(mut self) -> Result<Lease, DatabaseError> {
        match (&mut self.receiver).await {
            Ok(delivery) => delivery,
            // The sender is in the line until something is sent, so this does not happen.
            Err(lost) => Err(DatabaseError::new(DatabaseErrorKind::Other).with_source(lost)),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let (left, surplus) = self.pool.inner.lock().state.leave(self.ticket);
        drop(left);
        if surplus {
            self.pool.fewer_wait.notify_waiters();
        }
    }
}
