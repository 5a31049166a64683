//! One tenant's pool: connections opened with its secret, within its limit and the budget that all tenants share.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use deadpool::{
    Runtime,
    managed::{
        Manager, Metrics, Object, Pool, PoolConfig, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType,
        Timeouts,
    },
};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tracing::{Instrument as _, field::Empty};

use super::{
    backoff::Backoff,
    budget::{Budget, ConnectionPermit, Holder},
    connection::{Answer, Call, Lease, PooledConnection},
    observer::EngineObserver,
    secret_cache::Secret,
    stopwatch::note_error,
};
use crate::{
    BoxError, Connection, DatabaseDriver, DatabaseError, DatabaseErrorKind, DriverError, DriverErrorKind,
    ServerVersion, TenantId,
    trace::{database_system, trace_span},
};

/// A connection that was not used for this long is checked before it is used again.
const CHECK_AFTER: Duration = Duration::from_secs(1);
/// How long that check may take.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);
/// Connections beyond `idle_connections` are kept this long, so that a burst does not open them again and again.
const EXCESS_KEPT: Duration = Duration::from_secs(10);
/// After so many failures to connect in a row, the database is left alone for a while.
const FAILURES_TO_BREAK: u32 = 3;
/// For how long: short, since a database that comes back is to be used at once.
const BREAK_FIRST: Duration = Duration::from_millis(250);
const BREAK_LONGEST: Duration = Duration::from_secs(1);
/// How many connections one tenant opens at once. Many at once are all slow, and the first is needed first.
const OPENINGS_AT_ONCE: usize = 4;
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

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolTimes {
    pub(crate) connect: Duration,
    pub(crate) acquire: Duration,
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
    secret: ArcSwap<Secret>,
    generation: AtomicU64,
    pub(crate) open: AtomicUsize,
    pub(crate) in_use: AtomicUsize,
    /// What the last opening took.
    opening_micros: AtomicU64,
    /// Requests that wait for a permit to open a connection, in order of arrival: one that comes back is handed to the first.
    wanting: Mutex<VecDeque<oneshot::Sender<PooledConnection>>>,
    wanting_count: AtomicUsize,
    spares: Weak<Spares>,
    /// No longer in the map: what comes back is closed.
    retired: AtomicBool,
    budget: Arc<Budget>,
    holder: Holder,
    host: Arc<dyn PoolHost>,
    on_connect: Option<Arc<dyn OnConnect>>,
    observer: Option<Arc<dyn EngineObserver>>,
    times: PoolTimes,
    /// Whether the last try to connect succeeded. While it did not, connections are opened one at a time.
    proven: AtomicBool,
    first: Arc<tokio::sync::Mutex<()>>,
    opening: Arc<Semaphore>,
    /// The secret whose database was prepared.
    prepared: tokio::sync::Mutex<Option<Arc<Secret>>>,
    breaker: Mutex<Breaker>,
    /// Idle connections last used before this many milliseconds since `created` are checked before use.
    suspect_before: AtomicU64,
    created: Instant,
    version: ArcSwapOption<ServerVersion>,
}

struct Breaker {
    backoff: Backoff,
    failures: u32,
    last: Option<DriverError>,
}

impl PoolShared {
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
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
            waiting > 0 || self.is_wanted()
        };
        let (open, held_for) = (self.open.load(Ordering::Acquire), now - connection.opened_at);
        !self.retired.load(Ordering::Acquire)
            && !self
                .budget
                .wants_back(&self.holder, open, held_for, connection.opening, wanted_at_home)
    }

    fn check_breaker(&self, now: Instant) -> Result<(), DatabaseError> {
        let breaker = self.breaker.lock();
        match (&breaker.last, breaker.backoff.remaining(now)) {
            (Some(error), Some(_)) if breaker.failures >= FAILURES_TO_BREAK => Err(error.clone().into()),
            _ => Ok(()),
        }
    }

    fn connect_failed(&self, error: &DriverError) {
        self.proven.store(false, Ordering::Release);
        let mut breaker = self.breaker.lock();
        breaker.failures = breaker.failures.saturating_add(1);
        if breaker.failures >= FAILURES_TO_BREAK {
            breaker.backoff.fail(Instant::now());
        }
        // Once per outage, and again now and then while it lasts.
        if breaker.failures.is_power_of_two() {
            let cause = std::error::Error::source(error)
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::warn!(
                tenant_id = %self.tenant, kind = error.kind.as_str(), cause, failures = breaker.failures, "cannot connect to the database"
            );
        }
        breaker.last = Some(error.clone());
    }

    fn connect_succeeded(&self) {
        if !self.proven.swap(true, Ordering::AcqRel) {
            let failures = self.forgive();
            if failures > 0 {
                tracing::info!(tenant_id = %self.tenant, failures, "the database can be reached again");
            }
        }
    }

    /// Closes the breaker; tells how many failures there were.
    fn forgive(&self) -> u32 {
        let mut breaker = self.breaker.lock();
        breaker.backoff.succeed();
        breaker.last = None;
        std::mem::take(&mut breaker.failures)
    }

    /// Opens one connection under `permit`, with the secret as it is now.
    async fn connect(
        self: &Arc<Self>,
        deadline: Instant,
        permit: ConnectionPermit,
    ) -> Result<PooledConnection, DatabaseError> {
        let mut refused = Backoff::new(REFUSED_FIRST, REFUSED_LONGEST);
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
            let error = match opened {
                Ok(connection) => {
                    let Some(permit) = permit.take() else {
                        return Err(DatabaseError::new(DatabaseErrorKind::Closed));
                    };
                    let mut opened = PooledConnection::new(connection, permit, self.clone(), &secret, started);
                    let micros = opened.opening.as_micros() as u64;
                    self.opening_micros.store(micros, Ordering::Relaxed);
                    self.prepare(&secret, &mut opened, deadline).await?;
                    self.connect_succeeded();
                    return Ok(opened);
                }
                Err(error) => error,
            };
            let give_up = |error: DriverError| {
                self.connect_failed(&error);
                Err(error.into())
            };
            if error.kind != DriverErrorKind::Authentication {
                return give_up(error);
            }
            // The password may just be changing: the secret is read anew, and the login tried again for as long as there is hope. Until
            // then it counts as no failure, so that the requests that come meanwhile wait as well and are not turned away.
            self.proven.store(false, Ordering::Release);
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
    async fn open(self: &Arc<Self>, opening: Opening, deadline: Instant) -> Result<PooledConnection, DatabaseError> {
        let (opened, outcome) = oneshot::channel();
        let shared = self.clone();
        let open = async move {
            // Its turn is over when it is open, not before.
            let Opening { permit, _turn, _first } = opening;
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

    async fn prepare(
        &self,
        secret: &Arc<Secret>,
        connection: &mut PooledConnection,
        deadline: Instant,
    ) -> Result<(), DatabaseError> {
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
            on_connect
                .prepare(&self.tenant, &*secret.driver, connection.connection()?)
                .await
                .map_err(failed)?;
            *prepared = Some(secret.clone());
            Ok(())
        };
        // Migrations may take longer than a request has; the next one waits for the lock and finds them done or does them.
        timeout_at(deadline, preparing)
            .await
            .map_err(|elapsed| failed(elapsed.into()))?
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanting_count.load(Ordering::Acquire) > 0
    }

    /// The request that has waited longest for a connection and still does. What comes back is handed to it, so that none that comes later
    /// takes it away.
    pub(crate) fn first_in_line(&self) -> Option<oneshot::Sender<PooledConnection>> {
        if !self.is_wanted() {
            return None;
        }
        let mut wanting = self.wanting.lock();
        while let Some(first) = wanting.pop_front() {
            if !first.is_closed() {
                return Some(first);
            }
        }
        None
    }

    /// Hands a connection that nobody holds to the first in line, or keeps it for the next who comes.
    pub(crate) fn give(&self, connection: PooledConnection) {
        let Some(spares) = self.spares.upgrade() else {
            return;
        };
        let Some(connection) = self.hand_on(connection) else {
            return;
        };
        spares.put(connection);
        // Somebody may have come, or the pool may have ended, between the look and now.
        if self.is_wanted()
            && let Some(connection) = spares.take()
            && let Some(connection) = self.hand_on(connection)
        {
            spares.put(connection);
        }
        if self.retired.load(Ordering::Acquire) {
            spares.retain(|_| false);
        }
    }

    /// Hands a connection to the first in line; it comes back where there is none.
    fn hand_on(&self, mut connection: PooledConnection) -> Option<PooledConnection> {
        while let Some(first) = self.first_in_line() {
            match first.send(connection) {
                Ok(()) => return None,
                Err(unwanted) => connection = unwanted,
            }
        }
        Some(connection)
    }

    /// Takes a place in the line for a connection that comes back.
    fn want(&self) -> (Wanting<'_>, oneshot::Receiver<PooledConnection>) {
        let (sender, returned) = oneshot::channel();
        let mut wanting = self.wanting.lock();
        // Those who went away leave their places behind, and where nothing comes back nobody finds them.
        if wanting.len() > 16 + 2 * self.wanting_count.load(Ordering::Acquire) {
            wanting.retain(|sender| !sender.is_closed());
        }
        wanting.push_back(sender);
        (Wanting::new(&self.wanting_count), returned)
    }

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
    async fn may_open(&self) -> Result<Opening, DatabaseError> {
        let closed = || DatabaseError::new(DatabaseErrorKind::Closed);
        // A database that was not reached yet, or no longer, is tried by one request at a time, which holds one permit. The others wait
        // without one, and share its failure.
        let first = if self.proven.load(Ordering::Acquire) {
            None
        } else {
            let first = self.first.clone().lock_owned().await;
            self.check_breaker(Instant::now())?;
            Some(first).filter(|_| !self.proven.load(Ordering::Acquire))
        };
        let turn = self.opening.clone().acquire_owned().await.map_err(|_| closed())?;
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
                });
            }
            drop(permit);
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }
}

/// The right to open one connection now.
struct Opening {
    permit: ConnectionPermit,
    _turn: OwnedSemaphorePermit,
    _first: Option<OwnedMutexGuard<()>>,
}

/// Connections that were opened for requests which had another one before: idle, as those in the pool, which takes none from outside.
#[derive(Default)]
struct Spares(Mutex<Vec<PooledConnection>>);

impl Spares {
    fn put(&self, connection: PooledConnection) {
        self.0.lock().push(connection);
    }

    fn take(&self) -> Option<PooledConnection> {
        self.0.lock().pop()
    }

    fn retain(&self, keep: impl FnMut(&mut PooledConnection) -> bool) {
        // Closed when the lock is free again.
        let closed: Vec<_> = {
            let mut keep = keep;
            self.0.lock().extract_if(.., |spare| !keep(spare)).collect()
        };
        drop(closed);
    }
}

struct Wanting<'a>(&'a AtomicUsize);

impl<'a> Wanting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether this is the first that fits, of those that are asked about in turn.
fn is_first(fits: bool, found: &mut bool) -> bool {
    fits && !std::mem::replace(found, true)
}

/// What deadpool calls to open and check connections.
pub(crate) struct ConnectionManager {
    shared: Arc<PoolShared>,
    /// The pool itself, for a request that waits for room and may as well take what comes back.
    pool: std::sync::OnceLock<deadpool::managed::WeakPool<ConnectionManager>>,
    spares: Arc<Spares>,
}

impl ConnectionManager {
    fn take_idle(&self) -> Option<PooledConnection> {
        let pool = self.pool.get()?.upgrade()?;
        let mut taken = false;
        let now = Instant::now();
        let removed = pool.retain(|connection, _| !is_first(connection.is_current(now), &mut taken));
        removed.removed.into_iter().next()
    }

    async fn take_spare(&self) -> Option<PooledConnection> {
        while let Some(mut spare) = self.spares.take() {
            if self.recycle(&mut spare, &Metrics::default()).await.is_ok() {
                return Some(spare);
            }
        }
        None
    }

    /// Opens a connection once that is allowed.
    async fn open(&self, deadline: Instant) -> Result<PooledConnection, DatabaseError> {
        let opening = timeout_at(deadline, self.shared.may_open())
            .await
            .map_err(|_| DatabaseError::new(DatabaseErrorKind::PoolTimeout))??;
        self.shared.open(opening, deadline + self.shared.times.connect).await
    }
}

impl Manager for ConnectionManager {
    type Type = PooledConnection;
    type Error = DatabaseError;

    async fn create(&self) -> Result<PooledConnection, DatabaseError> {
        let shared = &self.shared;
        let deadline = Instant::now() + shared.times.acquire;
        shared.check_breaker(Instant::now())?;
        if let Some(spare) = self.take_spare().await {
            return Ok(spare);
        }
        // Whatever comes back while this request waits for its turn, or for the server, is as good as a new one.
        let (wanting, mut returned) = shared.want();
        // One may have come back between the look for an idle one and the place in the line.
        if let Some(connection) = self.take_idle() {
            return Ok(connection);
        }
        let opened = tokio::select! {
            biased;
            Ok(connection) = &mut returned => return Ok(connection),
            opened = self.open(deadline) => opened,
        };
        drop(wanting);
        returned.close();
        match (returned.try_recv(), opened) {
            (Ok(connection), Ok(opened)) => {
                shared.give(opened);
                Ok(connection)
            }
            (Ok(connection), Err(_)) => Ok(connection),
            (Err(_), opened) => opened,
        }
    }

    async fn recycle(&self, connection: &mut PooledConnection, _: &Metrics) -> RecycleResult<DatabaseError> {
        let now = Instant::now();
        let worn = |reason: &'static str| Err(RecycleError::message(reason));
        if !connection.is_current(now) {
            return worn("the secret changed or its time is over");
        }
        let idle_time = Duration::from(self.shared.secret.load().limits.idle_time);
        if now - connection.used_at >= idle_time {
            return worn("not used for too long");
        }
        if self.shared.is_suspect(connection, now) {
            let checked = timeout(CHECK_DEADLINE, connection.connection()?.ping()).await;
            if !matches!(checked, Ok(Ok(_))) {
                self.shared.suspect_idle();
                return worn("found dead");
            }
            connection.used_at = Instant::now();
        }
        Ok(())
    }
}

/// One tenant's pool.
pub(crate) struct TenantPool {
    shared: Arc<PoolShared>,
    pool: Pool<ConnectionManager>,
    spares: Arc<Spares>,
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
            wanting: Mutex::new(VecDeque::new()),
            wanting_count: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            budget: parts.budget.clone(),
            holder: Holder::default(),
            host: parts.host.clone(),
            on_connect: parts.on_connect.clone(),
            observer: parts.observer.clone(),
            times: parts.times,
            proven: AtomicBool::new(false),
            first: Arc::default(),
            opening: Arc::new(Semaphore::new(OPENINGS_AT_ONCE)),
            prepared: tokio::sync::Mutex::new(None),
            breaker: Mutex::new(Breaker {
                backoff: Backoff::new(BREAK_FIRST, BREAK_LONGEST),
                failures: 0,
                last: None,
            }),
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

    /// Takes a connection, opening one where none is idle.
    pub(crate) async fn lease(&self) -> Result<Lease, DatabaseError> {
        // Most requests need not wait, and of those none needs a timer.
        let mut wait = Duration::ZERO;
        loop {
            let timeouts = Timeouts {
                wait: Some(wait),
                create: None,
                recycle: None,
            };
            return match self.pool.timeout_get(&timeouts).await {
                Ok(object) => Ok(Lease::new(object, self.shared.clone())),
                Err(PoolError::Timeout(TimeoutType::Wait)) if wait < self.shared.times.acquire => {
                    wait = self.shared.times.acquire;
                    continue;
                }
                Err(PoolError::Timeout(TimeoutType::Wait)) => Err(DatabaseError::new(DatabaseErrorKind::PoolTimeout)),
                Err(PoolError::Backend(error)) => Err(error),
                Err(PoolError::Closed) => Err(DatabaseError::new(DatabaseErrorKind::Closed)),
                Err(error) => Err(DatabaseError::new(DatabaseErrorKind::Other).with_source(error)),
            };
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
        self.shared.forgive();
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
        self.shared.check_breaker(Instant::now()).is_err()
    }

    /// Why the last try to connect failed, where it did.
    pub(crate) fn last_error(&self) -> Option<DriverError> {
        self.shared.breaker.lock().last.clone()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_that_fit_one_is_taken_and_the_others_stay() {
        let mut found = false;
        let mut idle = vec![1, 2, 3, 2];
        let taken: Vec<_> = idle.extract_if(.., |n| is_first(*n == 2, &mut found)).collect();
        assert_eq!((taken, idle, found), (vec![2], vec![1, 3, 2], true));
    }
}
