//! One tenant's pool: connections opened with its secret, within its limit and the budget that all tenants share.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use deadpool::{
    Runtime,
    managed::{
        Manager, Metrics, Object, Pool, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts,
    },
};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    backoff::Backoff,
    breaker::Breaker,
    budget::{Budget, Holder},
    connection::{Answer, Call, Lease, Pooled, PooledConnection},
    line::{InLine, Line, Spares, is_first},
    observer::EngineObserver,
    opening::{OPENINGS_AT_ONCE, OnConnect, PoolHost},
    secret_cache::Secret,
};
use crate::{DatabaseError, DatabaseErrorKind, DriverErrorKind, ServerVersion, TenantId};

/// A connection that was not used for this long is checked before it is used again.
const CHECK_AFTER: Duration = Duration::from_secs(1);
/// Connections beyond `idle_connections` are kept this long, so that a burst does not open them again and again.
const EXCESS_KEPT: Duration = Duration::from_secs(10);

/// The pauses between openings that fail while the tenant has other connections, or while the server has none left.
const OPEN_AGAIN_FIRST: Duration = Duration::from_millis(250);
const OPEN_AGAIN_LONGEST: Duration = Duration::from_secs(1);
/// How often a tenant without a connection tries again while the server has none left.
const FULL_TRIES: u32 = 3;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolTimes {
    pub(crate) connect: Duration,
    pub(crate) acquire: Duration,
    /// Preparing a database, its migrations.
    pub(crate) prepare: Duration,
}

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

/// What a pool, its connections and its leases share.
pub(crate) struct PoolShared {
    pub(crate) tenant: TenantId,
    pub(super) secret: ArcSwap<Secret>,
    generation: AtomicU64,
    pub(crate) open: AtomicUsize,
    pub(crate) in_use: AtomicUsize,
    /// What the last opening took.
    pub(super) opening_micros: AtomicU64,
    /// Requests that wait for a connection to be opened or to come back.
    pub(super) line: Line<Pooled>,
    spares: Weak<Spares<Pooled>>,
    /// No longer in the map: what comes back is closed.
    retired: AtomicBool,
    pub(super) budget: Arc<Budget>,
    pub(super) holder: Holder,
    pub(super) host: Arc<dyn PoolHost>,
    pub(super) on_connect: Option<Arc<dyn OnConnect>>,
    pub(super) observer: Option<Arc<dyn EngineObserver>>,
    pub(super) times: PoolTimes,
    pub(super) breaker: Arc<Breaker>,
    /// Since when the database is being prepared.
    pub(super) preparing: Mutex<Option<Instant>>,
    /// Held by the one that tries a database which is not proven to be reached.
    pub(super) first: Arc<tokio::sync::Mutex<()>>,
    pub(super) turns: Arc<Semaphore>,
    /// The secret whose database was prepared.
    pub(super) prepared: tokio::sync::Mutex<Option<Arc<Secret>>>,
    /// Idle connections last used before this many milliseconds since `created` are checked before use.
    suspect_before: AtomicU64,
    created: Instant,
    version: ArcSwapOption<ServerVersion>,
}

impl PoolShared {
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Refuses a request that would wait for migrations that run for longer than a request waits.
    fn refuse_while_preparing(&self, now: Instant) -> Result<(), DatabaseError> {
        let since = *self.preparing.lock();
        match since {
            Some(since) if now - since >= self.times.acquire => Err(DatabaseError::new(DatabaseErrorKind::Migrating)),
            _ => Ok(()),
        }
    }

    /// Why a request got no connection by its deadline.
    fn gave_up(&self) -> DatabaseError {
        if self.preparing.lock().is_some() {
            return DatabaseError::new(DatabaseErrorKind::Migrating);
        }
        // It holds a permit and has no connection: the server has not answered.
        if self.open.load(Ordering::Acquire) == 0 && self.holder.count() > 0 {
            let error = self.breaker.last_error();
            let unreachable = DatabaseErrorKind::Connect(DriverErrorKind::Unreachable);
            return error.unwrap_or_else(|| DatabaseError::new(unreachable));
        }
        DatabaseError::new(DatabaseErrorKind::PoolTimeout)
    }

    /// After a connection broke, every idle one may be broken too: the server restarted, or sessions were ended.
    pub(crate) fn suspect_idle(&self) {
        let now = self.created.elapsed().as_millis() as u64;
        self.suspect_before.store(now + 1, Ordering::Release);
    }

    fn is_suspect(&self, connection: &PooledConnection, now: Instant) -> bool {
        let used = (connection.used_at - self.created).as_millis() as u64;
        now - connection.used_at >= CHECK_AFTER || used < self.suspect_before.load(Ordering::Acquire)
    }

    /// Whether a healthy connection that comes back stays in the pool.
    pub(crate) fn keeps_returned(&self, connection: &Object<ConnectionManager>, now: Instant) -> bool {
        let wanted_at_home = || {
            let waiting = Object::pool(connection).map_or(0, |pool| pool.status().waiting);
            waiting > 0 || !self.line.is_empty()
        };
        let (open, held_for) = (self.open.load(Ordering::Acquire), now - connection.opened_at);
        !self.retired.load(Ordering::Acquire)
            && !self
                .budget
                .wants_back(&self.holder, open, held_for, connection.opening, wanted_at_home)
    }

    /// Hands a connection that nobody holds to the first in line, or keeps it for the next who comes.
    pub(crate) fn give(&self, connection: Pooled) {
        let Some(spares) = self.spares.upgrade() else {
            return;
        };
        let Some(connection) = self.line.hand_on(connection) else {
            return;
        };
        spares.put(connection);
        // Somebody may have come, or the pool may have ended, between the look and now.
        if !self.line.is_empty()
            && let Some(connection) = spares.take()
            && let Some(connection) = self.line.hand_on(connection)
        {
            spares.put(connection);
        }
        if self.retired.load(Ordering::Acquire) {
            spares.retain(|_| false);
        }
    }
}

/// A request's place in the line. What was handed to it and is not taken goes to the next, however its waiting ends.
struct Place<'a> {
    shared: &'a PoolShared,
    returned: oneshot::Receiver<Pooled>,
    _in_line: InLine<'a>,
}

impl<'a> Place<'a> {
    fn new(shared: &'a PoolShared) -> Self {
        let (in_line, returned) = shared.line.join();
        Self {
            shared,
            returned,
            _in_line: in_line,
        }
    }

    /// Leaves the line, with what was handed to this place.
    fn leave(&mut self) -> Option<Pooled> {
        self.returned.close();
        self.returned.try_recv().ok()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.leave() {
            self.shared.give(connection);
        }
    }
}

/// What deadpool calls to open and check connections.
pub(crate) struct ConnectionManager {
    shared: Arc<PoolShared>,
    /// The pool itself, for a request that waits for room and may as well take what comes back.
    pool: std::sync::OnceLock<deadpool::managed::WeakPool<ConnectionManager>>,
    spares: Arc<Spares<Pooled>>,
}

impl ConnectionManager {
    fn take_idle(&self) -> Option<Pooled> {
        let pool = self.pool.get()?.upgrade()?;
        let mut taken = false;
        let now = Instant::now();
        let removed = pool.retain(|connection, _| !is_first(connection.is_current(now), &mut taken));
        removed.removed.into_iter().next()
    }

    /// Closes the idle connections that were used last at `used_at` or before: what became of one that was idle as long is true of them.
    fn drop_idle_since(&self, used_at: Instant) {
        self.spares.retain(|connection| connection.used_at > used_at);
        if let Some(pool) = self.pool.get().and_then(deadpool::managed::WeakPool::upgrade) {
            drop(pool.retain(|connection, _| connection.used_at > used_at));
        }
    }

    async fn take_spare(&self) -> Option<Pooled> {
        while let Some(mut spare) = self.spares.take() {
            if self.recycle(&mut spare, &Metrics::default()).await.is_ok() {
                return Some(spare);
            }
        }
        None
    }

    /// A connection for who found none idle: a spare one, one that comes back, or a new one, whichever is first.
    async fn find_or_open(&self) -> Result<Pooled, DatabaseError> {
        let shared = &self.shared;
        if let Some(spare) = self.take_spare().await {
            return Ok(spare);
        }
        shared.refuse_while_preparing(Instant::now())?;
        // Whatever comes back while this request waits for its turn, or for the server, is as good as a new one.
        let mut place = Place::new(shared);
        // One may have come back between the look for an idle one and the place in the line.
        if let Some(connection) = self.take_idle() {
            return Ok(connection);
        }
        let mut failures = Backoff::new(OPEN_AGAIN_FIRST, OPEN_AGAIN_LONGEST);
        loop {
            let opened = tokio::select! {
                biased;
                Ok(connection) = &mut place.returned => return Ok(connection),
                opened = self.open() => opened,
            };
            let error = match (place.leave(), opened) {
                (Some(connection), Ok(opened)) => {
                    shared.give(opened);
                    return Ok(connection);
                }
                (Some(connection), Err(_)) => return Ok(connection),
                (None, Ok(opened)) => return Ok(opened),
                (None, Err(error)) => error,
            };
            // While the tenant has a connection, that another one cannot be opened is no reason to fail: one comes back, or an opening
            // succeeds later. A server that has none left may have one again soon.
            let full = error.kind == DatabaseErrorKind::Connect(DriverErrorKind::TooManyConnections);
            let pause = failures.fail(Instant::now());
            if shared.open.load(Ordering::Acquire) == 0 && !(full && failures.failures() <= FULL_TRIES) {
                return Err(error);
            }
            place = Place::new(shared);
            if let Some(connection) = self.take_idle() {
                return Ok(connection);
            }
            tokio::select! {
                biased;
                Ok(connection) = &mut place.returned => return Ok(connection),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Opens a connection once that is allowed. If the tenant has another one, the breaker does not matter.
    async fn open(&self) -> Result<Pooled, DatabaseError> {
        let shared = &self.shared;
        let probe = match shared.breaker.admit(Instant::now(), || shared.budget.try_probe()) {
            Err(error) if shared.open.load(Ordering::Acquire) == 0 => return Err(error),
            admitted => admitted.unwrap_or_default(),
        };
        let opening = shared.may_open(probe).await?;
        let login_until = Instant::now() + shared.times.acquire;
        shared.open(opening, login_until).await
    }
}

impl Manager for ConnectionManager {
    type Type = Pooled;
    type Error = DatabaseError;

    async fn create(&self) -> Result<Pooled, DatabaseError> {
        // Large, and seldom needed: a request that finds an idle connection does not carry it along.
        Box::pin(self.find_or_open()).await
    }

    async fn recycle(&self, connection: &mut Pooled, _: &Metrics) -> RecycleResult<DatabaseError> {
        let now = Instant::now();
        let worn = |reason: &'static str| Err(RecycleError::message(reason));
        if !connection.is_current(now) {
            return worn("the secret changed or its time is over");
        }
        let idle_time = Duration::from(self.shared.secret.load().limits.idle_time);
        if now - connection.used_at >= idle_time {
            return worn("not used for too long");
        }
        if self.shared.is_suspect(connection, now) && !Box::pin(connection.is_alive()).await {
            self.shared.suspect_idle();
            self.drop_idle_since(connection.used_at);
            return worn("found dead");
        }
        Ok(())
    }
}

/// One tenant's pool.
pub(crate) struct TenantPool {
    shared: Arc<PoolShared>,
    pool: Pool<ConnectionManager>,
    spares: Arc<Spares<Pooled>>,
    rotating: Mutex<()>,
}

/// What all pools of an engine have in common.
pub(crate) struct PoolParts {
    pub(crate) budget: Arc<Budget>,
    pub(crate) host: Arc<dyn PoolHost>,
    pub(crate) on_connect: Option<Arc<dyn OnConnect>>,
    pub(crate) observer: Option<Arc<dyn EngineObserver>>,
    pub(crate) times: PoolTimes,
}

impl TenantPool {
    /// A pool without any connection yet.
    pub(crate) fn new(tenant: TenantId, secret: Arc<Secret>, parts: &PoolParts) -> Result<Self, DatabaseError> {
        let max = secret.limits.max_connections;
        let spares = Arc::new(Spares::default());
        let shared = Arc::new(PoolShared {
            tenant,
            spares: Arc::downgrade(&spares),
            generation: AtomicU64::new(secret.generation),
            secret: ArcSwap::new(secret),
            open: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
            opening_micros: AtomicU64::new(0),
            line: Line::default(),
            retired: AtomicBool::new(false),
            budget: parts.budget.clone(),
            holder: Holder::default(),
            host: parts.host.clone(),
            on_connect: parts.on_connect.clone(),
            observer: parts.observer.clone(),
            times: parts.times,
            breaker: Arc::new(Breaker::new(tenant)),
            preparing: Mutex::default(),
            first: Arc::default(),
            turns: Arc::new(Semaphore::new(OPENINGS_AT_ONCE)),
            prepared: tokio::sync::Mutex::new(None),
            suspect_before: AtomicU64::new(0),
            created: Instant::now(),
            version: ArcSwapOption::empty(),
        });
        let manager = ConnectionManager {
            shared: shared.clone(),
            pool: std::sync::OnceLock::new(),
            spares: spares.clone(),
        };
        let mut config = PoolConfig::new(max);
        // The last one used is used next, so that those not needed grow old and go.
        config.queue_mode = QueueMode::Lifo;
        let pool = Pool::builder(manager)
            .config(config)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| DatabaseError::new(DatabaseErrorKind::Other).with_source(error))?;
        pool.manager().pool.get_or_init(|| pool.weak());
        Ok(Self {
            shared,
            pool,
            spares,
            rotating: Mutex::new(()),
        })
    }

    /// How long a request waits for a connection.
    pub(crate) fn acquire_timeout(&self) -> Duration {
        self.shared.times.acquire
    }

    pub(crate) fn secret(&self) -> Arc<Secret> {
        self.shared.secret.load_full()
    }

    /// Takes a connection, opening one if none is idle. It waits until one deadline, whatever it waits for.
    pub(crate) async fn lease(&self) -> Result<Lease, DatabaseError> {
        let deadline = Instant::now() + self.shared.times.acquire;
        let mut getting = pin!(self.get());
        // Most requests need not wait, and of those none needs a timer.
        if let Some(leased) = futures_util::future::poll_immediate(getting.as_mut()).await {
            return leased;
        }
        timeout_at(deadline, getting)
            .await
            .unwrap_or_else(|_| Err(self.shared.gave_up()))
    }

    async fn get(&self) -> Result<Lease, DatabaseError> {
        match self.pool.timeout_get(&Timeouts::new()).await {
            Ok(object) => Ok(Lease::new(object, self.shared.clone())),
            Err(PoolError::Backend(error)) => Err(error),
            Err(PoolError::Closed) => Err(DatabaseError::new(DatabaseErrorKind::Closed)),
            Err(error) => Err(DatabaseError::new(DatabaseErrorKind::Other).with_source(error)),
        }
    }

    /// Takes a new secret: connections are opened with it from now on, idle ones of the old are closed now, used ones as they come back.
    /// Tells whether it is newer than the one it has.
    pub(crate) fn rotate(&self, secret: Arc<Secret>) -> bool {
        let _one_at_a_time = self.rotating.lock();
        let before = self.shared.secret.load_full();
        if secret.generation <= before.generation {
            return false;
        }
        let max = secret.limits.max_connections;
        self.shared.secret.store(secret.clone());
        self.shared.generation.store(secret.generation, Ordering::Release);
        self.shared.version.store(None);
        // What was said of the old secret is not said of the new one.
        self.shared.breaker.forgive();
        if max != before.limits.max_connections {
            self.pool.resize(max);
        }
        let now = Instant::now();
        self.retain_idle(|connection| connection.is_current(now));
        true
    }

    /// The generation of its secret.
    pub(crate) fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// Closes the idle connections now and the used ones as they come back. Whoever holds the pool can use it to the end.
    pub(crate) fn retire(&self) {
        self.shared.retired.store(true, Ordering::Release);
        self.retain_idle(|_| false);
    }

    /// Closes the idle connections that are not to be kept.
    fn retain_idle(&self, mut keep: impl FnMut(&PooledConnection) -> bool) {
        self.spares.retain(|connection| keep(connection));
        drop(self.pool.retain(|connection, _| keep(connection)));
    }

    /// When the idle connection was used last whose last use is longest ago.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let mut longest = None;
        self.retain_idle(|connection| {
            longest = longest.into_iter().chain([connection.used_at]).min();
            true
        });
        longest
    }

    /// Closes an idle connection that was not used after `since`; tells whether there was one.
    pub(crate) fn close_idle_since(&self, since: Instant) -> bool {
        let mut closed = false;
        self.retain_idle(|connection| !is_first(connection.used_at <= since, &mut closed));
        closed
    }

    /// Closes the connections that are worn out or too many.
    pub(crate) fn sweep(&self, now: Instant) {
        let limits = self.shared.secret.load().limits.clone();
        let mut excess = self.status().idle.saturating_sub(limits.idle_connections);
        self.retain_idle(|connection| {
            let idle = now.saturating_duration_since(connection.used_at);
            if !connection.is_current(now) || idle >= Duration::from(limits.idle_time) {
                return false;
            }
            if excess > 0 && idle >= EXCESS_KEPT {
                excess -= 1;
                return false;
            }
            true
        });
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let open = self.shared.open.load(Ordering::Acquire);
        let in_use = self.shared.in_use.load(Ordering::Acquire).min(open);
        PoolStatus {
            max: self.shared.secret.load().limits.max_connections,
            open,
            idle: open - in_use,
            in_use,
        }
    }

    /// Whether its database is left alone for now after failures to connect.
    pub(crate) fn is_broken(&self) -> bool {
        self.shared.breaker.check().is_err()
    }

    /// Whether the last try to connect succeeded.
    pub(crate) fn is_proven(&self) -> bool {
        self.shared.breaker.is_proven()
    }

    /// Why the last try to connect failed, where it did.
    pub(crate) fn last_error(&self) -> Option<DatabaseError> {
        self.shared.breaker.last_error()
    }

    /// The server's version, asked once per secret.
    pub(crate) async fn server_version(&self) -> Result<ServerVersion, DatabaseError> {
        if let Some(version) = self.shared.version.load_full() {
            return Ok((*version).clone());
        }
        let version = self.ping().await?;
        self.shared.version.store(Some(Arc::new(version.clone())));
        Ok(version)
    }

    /// A round trip to the server.
    pub(crate) async fn ping(&self) -> Result<ServerVersion, DatabaseError> {
        match self.lease().await?.call(Call::Ping).await? {
            Answer::Version(version) => Ok(version),
            _ => Err(DatabaseError::new(DatabaseErrorKind::Other)),
        }
    }
}

/// Runs `future` to its end or to `deadline`, whichever is first.
pub(crate) async fn within<T>(
    deadline: Duration,
    future: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    timeout(deadline, future).await.unwrap_or_else(|elapsed| {
        Err(DatabaseError::new(DatabaseErrorKind::Connect(DriverErrorKind::Unreachable)).with_source(elapsed))
    })
}
