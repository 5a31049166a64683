//! Pools while servers are full, silent or slow: a scripted server under paused time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement, TransactionOptions, TransactionTrait,
};
use serde_json::json;
use tenantry_core::{
    BoxError, Connection, DatabaseConfig, DatabaseDriver, DatabaseError, DatabaseErrorKind, DriverError,
    DriverErrorKind, MigrationLock, SecretInvalid, ServerVersion, TenantId,
    engine::{
        AcquireError, EngineSettings, HealthQuery, OnConnect, RequestTally, SchemaVersion, TenantDatabase,
        TenantStatus, Tenants, TenantsParts,
    },
};
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::{Scripted, id};

/// The host of a secret that no server answers at.
const SILENT_HOST: &str = "silent";

/// What the server does.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    /// How many sessions it takes.
    sessions: usize,
    /// Whether a login is answered.
    pub(crate) answers_logins: bool,
    /// How long a login takes.
    login: Duration,
    /// How long a statement takes.
    statement: Duration,
    /// Whether every statement ends its session.
    loses_sessions: bool,
    /// Sessions up to this number are not answered any more.
    forgotten: usize,
    /// The database that logins may name; the others are refused like a wrong password.
    only: Option<&'static str>,
}

pub(crate) struct Server {
    script: Mutex<Script>,
    open: AtomicUsize,
    /// How many logins were begun, and how many are under way.
    logins: AtomicUsize,
    logging_in: AtomicUsize,
    most_logging_in: AtomicUsize,
}

impl Server {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Script {
                sessions: usize::MAX,
                answers_logins: true,
                login: Duration::from_millis(5),
                statement: Duration::from_millis(10),
                loses_sessions: false,
                forgotten: 0,
                only: None,
            }),
            open: AtomicUsize::new(0),
            logins: AtomicUsize::new(0),
            logging_in: AtomicUsize::new(0),
            most_logging_in: AtomicUsize::new(0),
        })
    }

    fn now(&self) -> Script {
        *self.script.lock().unwrap()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub(crate) fn logins(&self) -> usize {
        self.logins.load(Ordering::SeqCst)
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Driver(Arc<Server>);

#[async_trait]
impl DatabaseDriver for Driver {
    fn validate(&self, _: &DatabaseConfig) -> Result<(), SecretInvalid> {
        Ok(())
    }

    fn port(&self, config: &DatabaseConfig) -> Option<u16> {
        config.port.or(Some(7))
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        let server = &self.0;
        let number = server.logins.fetch_add(1, Ordering::SeqCst) + 1;
        let logging_in = server.logging_in.fetch_add(1, Ordering::SeqCst) + 1;
        server.most_logging_in.fetch_max(logging_in, Ordering::SeqCst);
        let _counted = Counted(&server.logging_in);
        sleep(server.now().login).await;
        if !server.now().answers_logins || config.host.as_deref() == Some(SILENT_HOST) {
            std::future::pending::<()>().await;
        }
        if server
            .now()
            .only
            .is_some_and(|only| config.database.as_deref() != Some(only))
        {
            return Err(DriverError::new(DriverErrorKind::Authentication, "refused"));
        }
        if server.open.fetch_add(1, Ordering::SeqCst) >= server.now().sessions {
            server.open.fetch_sub(1, Ordering::SeqCst);
            return Err(DriverError::new(DriverErrorKind::TooManyConnections, "full"));
        }
        Ok(Box::new(Session {
            server: server.clone(),
            number,
        }))
    }

    fn backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    fn migration_dialect(&self) -> &str {
        "sqlite"
    }

    fn migration_lock(&self, _config: &DatabaseConfig) -> MigrationLock {
        MigrationLock::Transaction
    }
}

struct Session {
    server: Arc<Server>,
    number: usize,
}

impl Session {
    async fn answer(&self) {
        let script = self.server.now();
        if self.number <= script.forgotten {
            std::future::pending::<()>().await;
        }
        sleep(script.statement).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Connection for Session {
    async fn execute(&mut self, _: &Statement) -> Result<ExecResult, DatabaseError> {
        Err(DatabaseError::new(DatabaseErrorKind::Unsupported))
    }

    async fn execute_script(&mut self, _: &str) -> Result<ExecResult, DatabaseError> {
        self.answer().await;
        Err(DatabaseError::new(DatabaseErrorKind::Other))
    }

    async fn query(&mut self, _: &Statement) -> Result<Vec<QueryResult>, DatabaseError> {
        self.answer().await;
        if self.server.now().loses_sessions {
            return Err(DatabaseError::new(DatabaseErrorKind::ConnectionLost));
        }
        Ok(Vec::new())
    }

    async fn begin(&mut self, _: &TransactionOptions) -> Result<(), DatabaseError> {
        self.answer().await;
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.answer().await;
        Ok(())
    }

    async fn rollback(&mut self) -> Result<(), DatabaseError> {
        self.answer().await;
        Ok(())
    }

    async fn ping(&mut self) -> Result<ServerVersion, DatabaseError> {
        self.answer().await;
        Ok(ServerVersion("1".into()))
    }

    async fn close(self: Box<Self>) {}
}

pub(crate) fn engine(
    server: &Arc<Server>,
    names: impl IntoIterator<Item = String>,
    settings: EngineSettings,
    on_connect: Option<Arc<dyn OnConnect>>,
) -> Tenants {
    let provider = Scripted::with(None);
    for name in names {
        provider.put(&name, json!({"type": "scripted", "host": "h", "database": name}));
    }
    engine_with(provider, server, settings, on_connect)
}

pub(crate) fn engine_with(
    provider: Arc<Scripted>,
    server: &Arc<Server>,
    settings: EngineSettings,
    on_connect: Option<Arc<dyn OnConnect>>,
) -> Tenants {
    Tenants::new(TenantsParts {
        provider,
        provider_type: "scripted".to_owned(),
        drivers: vec![
            ("scripted".to_owned(), Arc::new(Driver(server.clone()))),
            ("other".to_owned(), Arc::new(Driver(server.clone()))),
        ],
        settings,
        on_connect,
        observer: None,
    })
}

pub(crate) async fn read(database: &TenantDatabase) -> Result<(), DbErr> {
    let statement = Statement::from_string(DbBackend::Sqlite, "SELECT 1".to_owned());
    database.query_all_raw(statement).await.map(drop)
}

pub(crate) fn kind(outcome: Result<(), DbErr>) -> Option<DatabaseErrorKind> {
    outcome.err().map(|error| DatabaseErrorKind::of(&error))
}

pub(crate) async fn database(tenants: &Tenants) -> Arc<TenantDatabase> {
    Arc::new(tenants.acquire(&id("t1")).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_full_server_slows_requests_and_fails_none() {
    let server = Server::new();
    server.change(|script| script.sessions = 3);
    let tenants = engine(&server, ["t1".to_owned()], EngineSettings::default(), None);
    let database = database(&tenants).await;
    let status = async || tenants.health(HealthQuery::all(false)).await.tenants[0].status;
    assert_eq!(status().await, TenantStatus::Idle, "it never connected");
    let clients = (0..12).map(|_| {
        let database = database.clone();
        tokio::spawn(async move {
            let mut failures = 0;
            for _ in 0..200 {
                failures += usize::from(read(&database).await.is_err());
            }
            failures
        })
    });
    let mut failures = 0;
    for client in clients.collect::<Vec<_>>() {
        failures += client.await.unwrap();
    }
    assert_eq!((failures, database.pool_status().open), (0, 3));
    assert_eq!(status().await, TenantStatus::Healthy, "it serves");
}

/// Idle connections of other tenants at the same server give way, those at another do not.
#[tokio::test(start_paused = true)]
async fn a_full_server_has_room_for_a_tenant_without_a_connection() {
    let server = Server::new();
    let provider = Scripted::with(None);
    for (name, kind, host, port) in [
        ("t1", "scripted", "h", None),
        ("t2", "scripted", "h", Some(7)),
        ("t3", "scripted", "elsewhere", None),
        ("t4", "other", "h", None),
        ("t5", "scripted", "h", Some(8)),
        ("new", "scripted", "h", None),
    ] {
        provider.put(
            name,
            json!({"type": kind, "host": host, "port": port, "database": name}),
        );
    }
    let tenants = engine_with(provider, &server, EngineSettings::default(), None);
    let open = async |name: &str| tenants.acquire(&id(name)).await.unwrap().pool_status().open;
    for name in ["t3", "t4", "t5", "t1", "t2"] {
        let database = tenants.acquire(&id(name)).await.unwrap();
        read(&database).await.unwrap();
    }
    server.change(|script| script.sessions = 5);
    let held = database(&tenants).await;
    let held = held.begin().await.unwrap();
    let new = tenants.acquire(&id("new")).await.unwrap();
    assert_eq!(kind(read(&new).await), None);
    assert_eq!((open("t1").await, open("t2").await), (1, 0));
    assert_eq!((open("t3").await, open("t4").await, open("t5").await), (1, 1, 1));
    let _also_held = new.begin().await.unwrap();
    let late = tenants.acquire(&id("t2")).await.unwrap();
    let full = DatabaseErrorKind::Connect(DriverErrorKind::TooManyConnections);
    assert_eq!(kind(read(&late).await), Some(full), "no idle connection is left there");
    assert_eq!(open("t3").await, 1);
    drop(held);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(kind(read(&late).await), None);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_fails_no_request_while_a_connection_lives() {
    let server = Server::new();
    let tenants = engine(&server, ["t1".to_owned()], EngineSettings::default(), None);
    let database = database(&tenants).await;
    read(&database).await.unwrap();
    server.change(|script| script.answers_logins = false);
    let start = Instant::now();
    let clients = (0..12).map(|_| {
        let database = database.clone();
        tokio::spawn(async move { read(&database).await })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap().unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

/// A request that waits shortly has the connection that comes back, and no other is opened.
#[tokio::test(start_paused = true)]
async fn a_pool_grows_for_statements_that_are_slower_than_a_login() {
    let server = Server::new();
    let tenants = engine(&server, ["t1".to_owned()], EngineSettings::default(), None);
    let database = database(&tenants).await;
    read(&database).await.unwrap();
    for (milliseconds, logins) in [(2, 1), (20, 2)] {
        server.change(|script| script.statement = Duration::from_millis(milliseconds));
        for _ in 0..20 {
            let both = tokio::join!(read(&database), read(&database));
            assert!(both.0.is_ok() && both.1.is_ok());
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(server.logins(), logins, "statements of {milliseconds} ms");
    }
}

/// Takes its time, then succeeds or fails.
struct Slow {
    takes: Duration,
    fails: bool,
    begun: AtomicUsize,
    done: AtomicUsize,
}

impl Slow {
    fn new(takes: Duration, fails: bool) -> Arc<Self> {
        Arc::new(Self {
            takes,
            fails,
            begun: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        })
    }
}

#[async_trait]
impl OnConnect for Slow {
    async fn prepare(
        &self,
        _: &TenantId,
        _: &dyn DatabaseDriver,
        _: &DatabaseConfig,
        _: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        sleep(self.takes).await;
        self.done.fetch_add(1, Ordering::SeqCst);
        match self.fails {
            true => Err("told to fail".into()),
            false => Ok(None),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_migration_runs_once_and_to_its_end() {
    let server = Server::new();
    let slow = Slow::new(Duration::from_secs(14), false);
    let tenants = engine(
        &server,
        ["t1".to_owned()],
        EngineSettings::default(),
        Some(slow.clone()),
    );
    let database = database(&tenants).await;
    let start = Instant::now();
    for _ in 0..3 {
        let clients = (0..4).map(|_| {
            let database = database.clone();
            tokio::spawn(async move { read(&database).await })
        });
        for client in clients.collect::<Vec<_>>() {
            let kind = kind(client.await.unwrap());
            let expected = (start.elapsed() < Duration::from_secs(14)).then_some(DatabaseErrorKind::Migrating);
            assert_eq!(kind, expected, "after {:?}", start.elapsed());
        }
    }
    sleep(Duration::from_secs(15).saturating_sub(start.elapsed())).await;
    read(&database).await.unwrap();
    assert_eq!(
        (slow.begun.load(Ordering::SeqCst), slow.done.load(Ordering::SeqCst)),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_in_the_first_seconds_of_a_migration_says_so() {
    let server = Server::new();
    let slow = Slow::new(Duration::from_secs(14), false);
    let tenants = engine(&server, ["t1".to_owned()], EngineSettings::default(), Some(slow));
    let database = database(&tenants).await;
    let request = tokio::spawn(async move { read(&database).await });
    sleep(Duration::from_millis(100)).await;
    let snapshot = tenants.probe(&id("t1")).await.unwrap();
    assert_eq!((snapshot.status, snapshot.error), (TenantStatus::Migrating, None));
    assert_eq!(kind(request.await.unwrap()), Some(DatabaseErrorKind::Migrating));
}

/// Loses the connection when a health check looks.
struct LosesLooks;

#[async_trait]
impl OnConnect for LosesLooks {
    async fn prepare(
        &self,
        _: &TenantId,
        _: &dyn DatabaseDriver,
        _: &DatabaseConfig,
        _: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        Ok(Some(SchemaVersion::default()))
    }

    async fn look(&self, _: &dyn DatabaseDriver, _: &mut dyn Connection) -> Result<Option<SchemaVersion>, BoxError> {
        Err(DatabaseError::new(DatabaseErrorKind::ConnectionLost).into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_a_probe_loses_is_closed() {
    let server = Server::new();
    let tenants = engine(
        &server,
        ["t1".to_owned()],
        EngineSettings::default(),
        Some(Arc::new(LosesLooks)),
    );
    let database = database(&tenants).await;
    for open in [0, 1] {
        assert_eq!(database.pool_status().open, open);
        let snapshot = tenants.probe(&id("t1")).await.unwrap();
        assert_eq!(snapshot.status, TenantStatus::Unhealthy);
        assert_eq!(snapshot.error.as_deref(), Some("connection_lost"));
        assert_eq!(database.pool_status().open, 0);
        assert_eq!(snapshot.schema.is_some(), open == 1);
        read(&database).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_migration_is_left_alone_for_a_while() {
    let server = Server::new();
    let slow = Slow::new(Duration::from_millis(100), true);
    let tenants = engine(
        &server,
        ["t1".to_owned()],
        EngineSettings::default(),
        Some(slow.clone()),
    );
    let database = database(&tenants).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        let kind = kind(read(&database).await);
        assert_eq!(kind, Some(DatabaseErrorKind::Migration), "after {:?}", start.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    let begun = slow.begun.load(Ordering::SeqCst);
    assert!((2..=6).contains(&begun), "it ran {begun} times");
}

#[tokio::test(start_paused = true)]
async fn nine_forgotten_connections_cost_one_check() {
    let server = Server::new();
    let tenants = engine(&server, ["t1".to_owned()], EngineSettings::default(), None);
    let database = database(&tenants).await;
    let burst = (0..9).map(|_| database.begin());
    let burst = futures_util::future::try_join_all(burst).await.unwrap();
    for transaction in burst {
        transaction.rollback().await.unwrap();
    }
    assert_eq!(database.pool_status().idle, 9);
    // The sweep would close some of them after ten seconds.
    sleep(Duration::from_secs(5)).await;
    server.change(|script| script.forgotten = 9);
    let start = Instant::now();
    assert_eq!(kind(read(&database).await), None);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_connection_ends_at_its_one_deadline() {
    let server = Server::new();
    let mut settings = EngineSettings::default();
    settings.pools.defaults.max_connections = 2;
    let tenants = engine(&server, ["t1".to_owned()], settings, None);
    let database = database(&tenants).await;
    let (held, idle) = tokio::join!(database.begin(), database.begin());
    let (_held, idle) = (held.unwrap(), idle.unwrap());
    idle.rollback().await.unwrap();
    sleep(Duration::from_secs(5)).await;
    // The idle one is dead, and no other can be opened.
    server.change(|script| {
        script.forgotten = 2;
        script.answers_logins = false;
    });
    let start = Instant::now();
    assert_eq!(kind(read(&database).await), Some(DatabaseErrorKind::PoolTimeout));
    let waited = start.elapsed();
    assert!(waited <= Duration::from_millis(5010), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_read_waits_no_longer_than_a_single_one() {
    let server = Server::new();
    server.change(|script| {
        script.login = Duration::from_secs(2);
        script.loses_sessions = true;
    });
    let tenants = engine(&server, ["t1".to_owned()], EngineSettings::default(), None);
    let database = database(&tenants).await;
    let start = Instant::now();
    assert!(read(&database).await.is_err());
    let waited = start.elapsed();
    assert!(waited <= Duration::from_millis(5030), "{waited:?}");
    assert_eq!(server.logins(), 3);
}

/// MySQL commits a transaction at a definition.
#[tokio::test(start_paused = true)]
async fn a_transaction_lost_after_a_definition_has_an_unknown_outcome() {
    let server = Server::new();
    let provider = Scripted::with(None);
    provider.put("t1", json!({"type": "mysql", "host": "h", "database": "d"}));
    let driver: Arc<dyn DatabaseDriver> = Arc::new(Driver(server.clone()));
    let tenants = Tenants::new(TenantsParts {
        provider,
        provider_type: "scripted".to_owned(),
        drivers: vec![("mysql".to_owned(), driver)],
        settings: EngineSettings::default(),
        on_connect: None,
        observer: None,
    });
    for (definition, expected) in [
        ("UPDATE t SET i = 1", DatabaseErrorKind::ConnectionLost),
        ("UPDATE t SET i = 1; DROP TABLE t", DatabaseErrorKind::OutcomeUnknown),
        ("CREATE TABLE t (i int)", DatabaseErrorKind::OutcomeUnknown),
    ] {
        let tally = Arc::new(RequestTally::default());
        let acquired = tenants.acquire_for(&id("t1"), Some(tally.clone())).await;
        let transaction = acquired.unwrap().begin().await.unwrap();
        let run = async |sql: &str| {
            let statement = Statement::from_string(DbBackend::MySql, sql);
            transaction.query_all_raw(statement).await
        };
        run(definition).await.unwrap();
        let is_unknown = expected == DatabaseErrorKind::OutcomeUnknown;
        assert_eq!(tally.may_have_effect(), is_unknown, "{definition}");
        server.change(|script| script.loses_sessions = true);
        let lost = run("SELECT 1").await.unwrap_err();
        assert_eq!(DatabaseErrorKind::of(&lost), expected, "{definition}");
        server.change(|script| script.loses_sessions = false);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_makes_one_request_wait_at_a_time() {
    let server = Server::new();
    server.change(|script| script.answers_logins = false);
    let tenants = engine(&server, ["t1".to_owned()], EngineSettings::default(), None);
    let database = database(&tenants).await;
    let unreachable = Some(DatabaseErrorKind::Connect(DriverErrorKind::Unreachable));
    assert_eq!(kind(read(&database).await), unreachable);
    let clients: Vec<_> = (0..60)
        .map(|n| {
            let database = database.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(100) * n).await;
                let start = Instant::now();
                (kind(read(&database).await), start.elapsed())
            })
        })
        .collect();
    let mut slow = 0;
    for client in clients {
        let (kind, waited) = client.await.unwrap();
        assert_eq!(kind, unreachable);
        slow += usize::from(waited > Duration::from_millis(100));
    }
    assert!(slow <= 2, "{slow} of 60 requests waited");
    // It comes back, and is used again at once.
    server.change(|script| script.answers_logins = true);
    let back = async {
        while read(&database).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(7), back).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silent_hosts_are_probed_by_a_quarter_of_the_budget() {
    let server = Server::new();
    server.change(|script| script.answers_logins = false);
    let mut settings = EngineSettings::default();
    settings.pools.max_connections = 8;
    settings.pools.acquire_timeout = tenantry_core::HumanDuration::from_secs(60);
    let names: Vec<String> = (0..30).map(|n| format!("t{n}")).collect();
    let tenants = engine(&server, names.clone(), settings, None);
    let once = |measured: bool| {
        let requests = names.iter().map(|name| {
            let (tenants, name) = (tenants.clone(), name.clone());
            tokio::spawn(async move {
                let database = tenants.acquire(&id(&name)).await.unwrap();
                let start = Instant::now();
                assert!(read(&database).await.is_err());
                usize::from(measured && start.elapsed() > Duration::from_millis(100))
            })
        });
        requests.collect::<Vec<_>>()
    };
    for request in once(false) {
        request.await.unwrap();
    }
    sleep(Duration::from_secs(2)).await;
    server.most_logging_in.store(0, Ordering::SeqCst);
    let mut slow = 0;
    for request in once(true) {
        slow += request.await.unwrap();
    }
    assert!(slow <= 2, "{slow} of 30 requests waited");
    assert!(server.most_logging_in.load(Ordering::SeqCst) <= 2);
    assert!(server.logins() >= 30);
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_tried_while_a_login_hangs() {
    let (server, provider) = (Server::new(), Scripted::with(None));
    let put = |host| provider.put("t1", json!({"type": "scripted", "host": host, "database": "d"}));
    put(SILENT_HOST);
    let tenants = engine_with(provider.clone(), &server, EngineSettings::default(), None);
    let database = database(&tenants).await;
    let start = Instant::now();
    let request = tokio::spawn(async move { (kind(read(&database).await), Instant::now()) });
    sleep(Duration::from_secs(1)).await;
    put("h");
    tenants.refresh(&id("t1")).await.unwrap();
    let (kind, answered) = request.await.unwrap();
    assert_eq!(kind, None, "after {:?}", answered - start);
    assert!(answered - start < Duration::from_secs(2), "{:?}", answered - start);
    assert_eq!(
        server.logging_in.load(Ordering::SeqCst),
        0,
        "the old login was given up"
    );
}

/// A rotation with a gap: the old password stops working before the new secret is stored.
#[tokio::test(start_paused = true)]
async fn a_secret_that_comes_late_is_in_use_soon() {
    for gap in [1, 5, 8, 20, 60] {
        let (server, provider) = (Server::new(), Scripted::with(None));
        let put = |database| provider.put("t1", json!({"type": "scripted", "host": "h", "database": database}));
        put("old");
        let tenants = engine_with(provider.clone(), &server, EngineSettings::default(), None);
        read(&*database(&tenants).await).await.unwrap();
        server.change(|script| (script.only, script.loses_sessions) = (Some("new"), true));
        let request = async || read(&*database(&tenants).await).await;
        assert!(request().await.is_err());
        server.change(|script| script.loses_sessions = false);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(gap) {
            assert!(request().await.is_err());
            sleep(Duration::from_millis(100)).await;
        }
        let fetches = provider.fetches();
        assert!(fetches <= 5 + gap as usize / 6, "{fetches} reads in {gap} s");
        put("new");
        let start = Instant::now();
        while request().await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
        let longest = Duration::from_millis(7_500);
        assert!(start.elapsed() < longest, "after {gap} s: {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_tenant_s_pool_closes_within_one_time_to_live() {
    let (server, provider) = (Server::new(), Scripted::with(None));
    provider.put("t1", json!({"type": "scripted", "host": "h", "database": "t1"}));
    let mut settings = EngineSettings::default();
    settings.secrets.ttl = tenantry_core::HumanDuration::from_secs(60);
    settings.secrets.jitter = 0.0;
    let tenants = engine_with(provider.clone(), &server, settings, None);
    read(&*database(&tenants).await).await.unwrap();
    assert_eq!(tenants.cache_snapshot().pools.open, 1);
    provider.remove("t1");
    // No request has used it meanwhile; the housekeeping comes once a second.
    sleep(Duration::from_millis(61_100)).await;
    let pools = tenants.cache_snapshot().pools;
    assert_eq!((pools.open, pools.connections), (0, 0));
    assert!(matches!(tenants.acquire(&id("t1")).await, Err(AcquireError::Unknown)));
}

/// The sweep looks at it again after its last request.
#[tokio::test(start_paused = true)]
async fn a_deleted_tenant_in_use_is_forgotten_afterwards() {
    let (server, provider) = (Server::new(), Scripted::with(None));
    provider.put("t1", json!({"type": "scripted", "host": "h", "database": "t1"}));
    let mut settings = EngineSettings::default();
    settings.secrets.ttl = tenantry_core::HumanDuration::from_secs(60);
    let tenants = engine_with(provider.clone(), &server, settings, None);
    let used = database(&tenants).await;
    read(&used).await.unwrap();
    provider.remove("t1");
    sleep(Duration::from_secs(90)).await;
    let known = || tenants.usage_snapshot().known.len();
    assert_eq!(known(), 1, "a request still runs");
    drop(used);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(known(), 0);
}

/// How long a pool was unused counts from the end of its last statement.
#[tokio::test(start_paused = true)]
async fn a_pool_is_not_closed_right_after_a_long_use() {
    let server = Server::new();
    let mut settings = EngineSettings::default();
    settings.pools.idle_timeout = tenantry_core::HumanDuration::from_secs(60);
    let tenants = engine(&server, ["t1".to_owned()], settings, None);
    let database = database(&tenants).await;
    let transaction = database.begin().await.unwrap();
    sleep(Duration::from_secs(90)).await;
    transaction.commit().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(tenants.cache_snapshot().pools.connections, 1);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(tenants.cache_snapshot().pools.connections, 0);
}

#[tokio::test(start_paused = true)]
async fn clearing_the_cache_leaves_open_connections_in_use() {
    let server = Server::new();
    let tenants = engine(&server, ["t1".to_owned()], EngineSettings::default(), None);
    read(&*database(&tenants).await).await.unwrap();
    assert_eq!(tenants.clear_secrets(None), 1);
    read(&*database(&tenants).await).await.unwrap();
    let pools = tenants.cache_snapshot().pools;
    assert_eq!((pools.open, pools.connections, pools.rotations), (1, 1, 0));
    assert_eq!(server.logins(), 1, "another connection was opened");
}

#[tokio::test(start_paused = true)]
async fn a_burst_leaves_other_tenants_a_first_connection() {
    let server = Server::new();
    let mut settings = EngineSettings::default();
    settings.pools.max_connections = 10;
    let tenants = engine(&server, ["t1", "t2", "t3"].map(str::to_owned), settings, None);
    let burst = database(&tenants).await;
    let held: Vec<_> = (0..20)
        .map(|_| {
            let database = burst.clone();
            tokio::spawn(async move { database.begin().await })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(burst.pool_status().in_use, 9);
    for name in ["t2", "t3"] {
        let other = tenants.acquire(&id(name)).await.unwrap();
        assert_eq!(kind(read(&other).await), None, "of {name}");
    }
    drop(held);
}
