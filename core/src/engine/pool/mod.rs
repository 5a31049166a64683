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

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, error::Elapsed, timeout_at},
};

use connection::Pooled;
pub(crate) use connection::closed;
pub(crate) use lease::{Answer, Call, Lease};
use state::{Next, PoolState};

use super::{
    budget::{Budget, Idle, Member, Neighbour, Returned},
    measure::observer::EngineObserver,
    pace::Backoff,
    secrets::{Secret, Secrets},
};
use crate::{
    Cause, Connection, DatabaseError, DatabaseErrorKind, DriverErrorKind, ServerVersion, TenantId, health::PoolHealth,
    on_connect::OnConnect,
};

/// The server has no connection left, for any user.
const SERVER_FULL: DatabaseErrorKind = DatabaseErrorKind::Connect(DriverErrorKind::TooManyConnections);

/// What all pools of an engine have in common.
pub(crate) struct PoolParts {
    pub(crate) budget: Arc<Budget>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) refused: Refused,
    pub(crate) on_connect: Option<Arc<dyn OnConnect>>,
    pub(crate) observer: Option<Arc<dyn EngineObserver>>,
}

impl PoolParts {
    /// A round trip to the server, and a look at how far the migrations of the database are.
    pub(crate) async fn examine(&self, secret: &Secret, connection: &mut dyn Connection) -> Result<(), DatabaseError> {
        connection.ping().await?;
        match &self.on_connect {
            Some(on_connect) => secret.schema.look(&**on_connect, &*secret.driver, connection).await,
            None => Ok(()),
        }
    }
}

/// Called if the user of a tenant's secret of some generation was refused. It reads the secret
/// anew, if that may be done now, and returns whether another try to log in is worthwhile.
pub(crate) type Refused = Box<dyn Fn(TenantId, u64) -> BoxFuture<'static, bool> + Send + Sync>;

type Delivery = Result<Lease, DatabaseError>;
type State = PoolState<Pooled, oneshot::Sender<Delivery>>;

pub(crate) struct Pool {
    pub(crate) tenant: TenantId,
    member: Member,
    parts: Arc<PoolParts>,
    inner: Mutex<Inner>,
    /// Held by the opening that prepares the database.
    preparing: tokio::sync::Mutex<()>,
}

struct Inner {
    state: State,
    secret: Arc<Secret>,
}

/// What a request found at its pool.
enum Found<'a> {
    /// A connection, and whether it must be checked before use.
    Idle(Lease, bool),
    /// A place in the line.
    QueueTicket(QueueTicket<'a>),
}

impl Pool {
    /// A pool without any connection yet.
    pub(crate) fn new(tenant: TenantId, secret: Arc<Secret>, parts: Arc<PoolParts>) -> Arc<Self> {
        Arc::new_cyclic(|pool: &Weak<Self>| Self {
            tenant,
            member: parts.budget.member(Some(pool.clone())),
            inner: Mutex::new(Inner {
                state: PoolState::new(secret.limits.clone(), Instant::now()),
                secret,
            }),
            parts,
            preparing: tokio::sync::Mutex::default(),
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
            self.begin_openings(openings);
        }
        result
    }

    /// The state, for what wants no opening.
    fn state(&self) -> MappedMutexGuard<'_, State> {
        MutexGuard::map(self.inner.lock(), |inner| &mut inner.state)
    }

    /// The runtime that opens and closes connections.
    fn runtime(&self) -> &Handle {
        &self.parts.budget.runtime
    }

    pub(crate) fn secret(&self) -> Arc<Secret> {
        self.inner.lock().secret.clone()
    }

    /// Takes a new secret: connections are opened with it from now on, idle ones of the old are
    /// closed now, used ones as they come back. Returns whether it is newer than the one it has.
    pub(crate) fn rotate(self: &Arc<Self>, secret: Arc<Secret>) -> bool {
        let closed = self.with(|inner| {
            if secret.generation <= inner.secret.generation {
                return None;
            }
            secret.driver.secret_changed(&inner.secret.config, &secret.config);
            if secret.config.is_same_database(&inner.secret.config) {
                secret.schema.inherit(&inner.secret.schema);
            }
            let limits = secret.limits.clone();
            inner.secret = secret;
            Some(inner.state.begin_era(Some(limits)))
        });
        closed.is_some()
    }

    /// Closes the idle connections now and the used ones as they come back. The pool stays: the
    /// next request opens a connection in it.
    pub(crate) fn close(self: &Arc<Self>) {
        drop(self.with(|inner| inner.state.begin_era(None)));
    }

    /// Has the next opening look at the database again.
    pub(crate) fn prepare_again(&self) {
        self.state().preparation += 1;
    }

    /// How it is now.
    pub(crate) fn health(&self) -> PoolHealth {
        self.state().health()
    }

    /// How long a request waits for connections.
    fn acquire_timeout(&self) -> Duration {
        self.parts.secrets.settings.pools.acquire_timeout.into()
    }

    /// Takes a connection. A request that has `waited` for others already waits for the rest of its
    /// time at most, whatever it waits for.
    pub(crate) async fn lease(self: &Arc<Self>, waited: Duration) -> Result<Lease, DatabaseError> {
        let now = Instant::now();
        match self.find(now)? {
            Found::Idle(lease, false) => Ok(lease),
            found => {
                let deadline = now + self.acquire_timeout().saturating_sub(waited);
                // Large, and seldom needed: a request that finds a connection does not carry it
                // along.
                let settled = Box::pin(timeout_at(deadline, self.settle(found))).await;
                settled.unwrap_or_else(|_| Err(self.gave_up()))
            }
        }
    }

    async fn settle(self: &Arc<Self>, mut found: Found<'_>) -> Result<Lease, DatabaseError> {
        loop {
            match found {
                Found::Idle(lease, false) => return Ok(lease),
                Found::QueueTicket(mut place) => {
                    // The sender is in the line until something is sent, so it is never lost.
                    let lost = |lost| Err(DatabaseError::new(DatabaseErrorKind::Other).with_source(lost));
                    return (&mut place.receiver).await.unwrap_or_else(lost);
                }
                Found::Idle(mut lease, true) => {
                    // The secret may have changed while it was checked.
                    if lease.is_alive().await && lease.era() == Some(self.state().era()) {
                        return Ok(lease);
                    }
                }
            }
            found = self.find(Instant::now())?;
        }
    }

    /// Takes an idle connection, or a place in the line if there is none.
    fn find(self: &Arc<Self>, now: Instant) -> Result<Found<'_>, DatabaseError> {
        let mut worn = Vec::new();
        self.with(|inner| {
            if let Some((connection, check)) = inner.state.take(now, &mut worn) {
                return Ok(Found::Idle(Lease::new(connection, self.clone()), check));
            }
            let (sender, receiver) = oneshot::channel();
            let probe = || self.parts.budget.try_probe();
            let ticket = inner.state.join(now, self.acquire_timeout(), sender, probe)?;
            let pool = self;
            Ok(Found::QueueTicket(QueueTicket { pool, ticket, receiver }))
        })
    }

    /// Why a request got no connection by its deadline.
    fn gave_up(&self) -> DatabaseError {
        let health = self.health();
        if health.is_preparing && health.status.open == 0 {
            return DatabaseError::new(DatabaseErrorKind::Migrating);
        }
        // It has no connection, and either holds a permit, so that the server has not answered, or
        // the database is left alone after failures.
        let is_tried = health.is_broken || self.parts.budget.held_by(&self.member) > 0;
        if health.status.open == 0 && is_tried {
            let unreachable = DatabaseErrorKind::Connect(DriverErrorKind::Unreachable);
            return health.last_error.unwrap_or_else(|| DatabaseError::new(unreachable));
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
        let (next, failures) = self.with(|inner| inner.state.opened(connection, Instant::now()));
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
    fn opening_failed(self: &Arc<Self>, error: &DatabaseError, pauses: &mut Backoff) -> Option<Duration> {
        let (now, source) = (Instant::now(), std::error::Error::source(error));
        // Another try would cost as much.
        let at_once = matches!(
            error.kind,
            DatabaseErrorKind::Migration | DatabaseErrorKind::SchemaBehind
        ) || source.is_some_and(|source| source.is::<Elapsed>());
        let (failed, noteworthy) = self.with(|inner| inner.state.opening_failed(error.clone(), at_once, pauses, now));
        // Once per outage, and again now and then while it lasts.
        if let Some(failures) = noteworthy {
            let cause = source.map(|source| Cause(source).to_string()).unwrap_or_default();
            let kind = error.kind.as_str();
            tracing::warn!(tenant_id = %self.tenant, kind, cause, failures, "cannot connect to the database");
        }
        match failed {
            Ok(pause) => {
                if error.kind == SERVER_FULL && self.health().status.open == 0 {
                    let budget = &self.parts.budget;
                    budget.make_room(Duration::ZERO, true, Some(&self.secret()));
                }
                Some(pause)
            }
            Err(waiting) => {
                for waiter in waiting {
                    // The request may have gone away.
                    drop(waiter.send(Err(error.clone())));
                }
                None
            }
        }
    }

    /// A round trip to the server.
    pub(crate) async fn ping(self: &Arc<Self>) -> Result<ServerVersion, DatabaseError> {
        match self.lease(Duration::ZERO).await?.call(Call::Ping).await? {
            Answer::Version(version) => Ok(version),
            _ => Err(DatabaseError::new(DatabaseErrorKind::Other)),
        }
    }

    /// Examines the database on one of its connections.
    pub(crate) async fn check(self: &Arc<Self>) -> Result<(), DatabaseError> {
        let (mut lease, secret) = (self.lease(Duration::ZERO).await?, self.secret());
        lease.is_check = true;
        let examined = self.parts.examine(&secret, lease.begin_call(Call::Ping)?).await;
        lease.end_call(Call::Ping, examined)
    }
}

impl Neighbour for Pool {
    fn tenant(&self) -> TenantId {
        self.tenant
    }

    fn longest_idle(&self, at: Option<&Secret>) -> Option<Idle> {
        let inner = self.inner.lock();
        let is_there = at.is_none_or(|secret| inner.secret.is_at_server_of(secret));
        inner.state.longest_idle().filter(|_| is_there)
    }

    fn close_idle(&self, since: Instant) -> bool {
        let closed = self.state().take_idle_since(since);
        closed.is_some()
    }

    fn unused_since(&self) -> Option<Instant> {
        self.state().unused_since()
    }

    fn close_unused(&self, since: Instant) -> bool {
        let closed = self.state().close_unused(since);
        closed.is_some()
    }

    fn sweep(&self, now: Instant) {
        let worn = self.state().sweep(now);
        drop(worn);
    }
}

/// A request's place in the line, given up when the waiting ends, however it ends. A connection
/// that was delivered and not taken goes back by being dropped.
struct QueueTicket<'a> {
    pool: &'a Arc<Pool>,
    ticket: u64,
    receiver: oneshot::Receiver<Delivery>,
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        let left = self.pool.state().leave(self.ticket);
        drop(left);
    }
}
