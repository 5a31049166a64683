//! Connections: how many are open, and what becomes of those that were cut off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, TransactionTrait};
use tempfile::TempDir;
use tenantry_core::{
    BuildContext, Connection, DatabaseConfig, DatabaseDriver, DatabaseErrorKind, DriverError, DriverErrorKind,
    HumanDuration, MigrationLock, Plugin, Purpose, Registry, SecretInvalid,
    engine::{AcquireError, EngineSettings, HealthQuery, TenantDatabase, Tenants, TenantsParts},
};
use tenantry_drivers::SqliteDriver;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::scripted::{Scripted, World, id};

async fn one(database: &TenantDatabase, sql: &str) -> Result<i64, DbErr> {
    let statement = Statement::from_string(database.get_database_backend(), sql.to_owned());
    let row = database.query_one_raw(statement).await?.unwrap();
    row.try_get_by_index(0)
}

/// Runs for a second or more on SQLite.
const LONG: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000000) SELECT COUNT(*) FROM n";

#[tokio::test]
async fn the_budget_bounds_connections_and_answers_every_request() {
    let mut settings = EngineSettings::default();
    settings.pools.max_connections = 4;
    settings.pools.acquire_timeout = HumanDuration::from_secs(60);
    let names: Vec<String> = (0..12).map(|n| format!("t{n}")).collect();
    let world = World::new(Scripted::with(names.clone()), settings).await;
    static DONE: AtomicBool = AtomicBool::new(false);
    let watcher = tokio::spawn({
        let tenants = world.tenants.clone();
        async move {
            let mut most = 0;
            while !DONE.load(Ordering::SeqCst) {
                let open: usize = tenants
                    .health(HealthQuery::all(false))
                    .await
                    .tenants
                    .iter()
                    .map(|tenant| tenant.pool.open)
                    .sum();
                most = most.max(open);
                sleep(Duration::from_millis(1)).await;
            }
            most
        }
    });
    let clients = (0..48).map(|client| {
        let (tenants, name) = (world.tenants.clone(), names[client % names.len()].clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                let database = tenants.acquire(&id(&name)).await.unwrap();
                assert_eq!(one(&database, "SELECT 7").await.unwrap(), 7);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    DONE.store(true, Ordering::SeqCst);
    let most = watcher.await.unwrap();
    assert!((1..=4).contains(&most), "{most} connections were open at once");
}

#[tokio::test]
async fn one_tenant_uses_the_whole_budget_without_closing() {
    let mut settings = EngineSettings::default();
    settings.pools.max_connections = 2;
    let world = World::new(Scripted::with(["t1".to_owned()]), settings).await;
    let clients = (0..10).map(|_| {
        let tenants = world.tenants.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                one(&tenants.acquire(&id("t1")).await.unwrap(), "SELECT 1")
                    .await
                    .unwrap();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let status = world.tenants.acquire(&id("t1")).await.unwrap().pool_status();
    assert!((1..=2).contains(&status.open), "{status:?}");
    assert_eq!(status.in_use, 0);
}

#[tokio::test]
async fn a_connection_abandoned_in_a_statement_is_not_used_again() {
    let world = World::new(Scripted::with(["t1".to_owned()]), EngineSettings::default()).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    one(&database, "SELECT 1").await.unwrap();
    assert_eq!(database.pool_status().open, 1);
    assert!(timeout(Duration::from_millis(20), one(&database, LONG)).await.is_err());
    assert_eq!(database.pool_status().open, 0);
    assert_eq!(one(&database, "SELECT 2").await.unwrap(), 2);
}

#[tokio::test]
async fn a_request_that_finds_no_connection_in_time_is_told_so() {
    let mut settings = EngineSettings::default();
    settings.pools.defaults.max_connections = 1;
    settings.pools.acquire_timeout = HumanDuration::from_secs(1);
    let world = World::new(Scripted::with(["t1".to_owned()]), settings).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    let (long, waits) = tokio::join!(timeout(Duration::from_secs(5), one(&database, LONG)), async {
        sleep(Duration::from_millis(20)).await;
        one(&database, "SELECT 1").await
    });
    assert!(matches!(long, Err(_) | Ok(Ok(_))));
    assert_eq!(
        DatabaseErrorKind::of(&waits.unwrap_err()),
        DatabaseErrorKind::PoolTimeout
    );
}

#[tokio::test]
async fn the_least_recently_used_tenant_loses_its_connections() {
    let mut settings = EngineSettings::default();
    settings.pools.max = 2;
    let names = ["t1", "t2", "t3", "t4"].map(str::to_owned);
    let world = World::new(Scripted::with(names), settings).await;
    let first = world.tenants.acquire(&id("t1")).await.unwrap();
    let running = first.begin().await.unwrap();
    for other in ["t2", "t3", "t4"] {
        let other = world.tenants.acquire(&id(other)).await.unwrap();
        assert_eq!(one(&other, "SELECT 2").await.unwrap(), 2);
    }
    // A tenant in the middle of something keeps what it has.
    running.commit().await.unwrap();
    let evicted = async {
        loop {
            let pools = world.tenants.cache_snapshot().pools;
            if (pools.open, pools.evictions) == (2, 2) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), evicted).await.unwrap();
    assert_eq!(first.pool_status().open, 1);
    drop(first);
    for tenant in ["t1", "t4"] {
        world.tenants.close_pool(&id(tenant)).await.unwrap();
    }
    all_are_closed(&world).await;
}

/// Waits until one tenant has connections, and this many have lost theirs.
async fn are_evicted(world: &World, evictions: u64) {
    let evicted = async {
        loop {
            let pools = world.tenants.cache_snapshot().pools;
            if (pools.open, pools.evictions) == (1, evictions) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), evicted).await.unwrap();
}

#[tokio::test]
async fn a_request_whose_pool_was_evicted_is_served_to_its_end() {
    let mut settings = EngineSettings::default();
    settings.pools.max = 1;
    let world = World::new(Scripted::with(["t1", "t2"].map(str::to_owned)), settings).await;
    let first = world.tenants.acquire(&id("t1")).await.unwrap();
    assert_eq!(one(&first, "SELECT 1").await.unwrap(), 1);
    let second = world.tenants.acquire(&id("t2")).await.unwrap();
    assert_eq!(one(&second, "SELECT 2").await.unwrap(), 2);
    are_evicted(&world, 1).await;
    assert_eq!(first.pool_status().open, 0);
    // It still has its tenant's database, and opens another connection to it.
    assert_eq!(one(&first, "SELECT 3").await.unwrap(), 3);
    are_evicted(&world, 2).await;
    let open = [&first, &second].map(|database| database.pool_status().open);
    assert_eq!(open, [1, 0]);
}

#[tokio::test]
async fn a_tenant_that_was_deleted_loses_its_connections() {
    let mut settings = EngineSettings::default();
    settings.secrets.ttl = HumanDuration::from_secs(1);
    let world = World::new(Scripted::with(["t1".to_owned()]), settings).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    one(&database, "SELECT 1").await.unwrap();
    drop(database);
    world.provider.remove("t1");
    all_are_closed(&world).await;
    assert!(world.tenants.acquire(&id("t1")).await.is_err());
}

async fn all_are_closed(world: &World) {
    for _ in 0..1_000 {
        if world.tenants.cache_snapshot().pools.connections == 0 {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("connections were left behind");
}

#[tokio::test]
async fn a_shutdown_closes_every_connection_and_lets_no_request_in() {
    let world = World::new(Scripted::with(["t1".to_owned()]), EngineSettings::default()).await;
    one(&world.tenants.acquire(&id("t1")).await.unwrap(), "SELECT 1")
        .await
        .unwrap();
    assert!(world.tenants.shutdown(Duration::from_secs(5)).await);
    assert_eq!(world.tenants.cache_snapshot().pools.open, 0);
    let closed = |error: AcquireError| matches!(error, AcquireError::ShuttingDown);
    for tenant in ["t1", "t2"] {
        assert!(closed(world.tenants.acquire(&id(tenant)).await.err().unwrap()));
        assert!(closed(
            world
                .tenants
                .open_connection(&id(tenant), Purpose::Change)
                .await
                .err()
                .unwrap()
        ));
        assert!(closed(world.tenants.probe(&id(tenant)).await.err().unwrap()));
        assert!(closed(world.tenants.refresh(&id(tenant)).await.err().unwrap()));
    }
}

#[tokio::test]
async fn statements_are_counted() {
    let world = World::new(Scripted::with(["t1".to_owned()]), EngineSettings::default()).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    one(&database, "SELECT 1").await.unwrap();
    one(&database, "SELECT * FROM nothing").await.unwrap_err();
    let usage = database.usage();
    assert_eq!((usage.statements.count, usage.statements.failed), (2, 1));
    assert_eq!(usage.connection_waits.count, 2);
    assert!(usage.statements.mean() > Duration::ZERO);
}

/// Opens connections to SQLite, each only when the test allows it.
struct Gated {
    sqlite: SqliteDriver,
    asked: Semaphore,
    open: Semaphore,
    /// How many sessions are ended before they can be used.
    to_end: AtomicUsize,
}

impl Gated {
    /// Waits until so many connections were asked for: another one is opened after a moment only.
    async fn has_asked(&self, times: u32) {
        let asked = timeout(Duration::from_secs(10), self.asked.acquire_many(times));
        drop(asked.await.unwrap().unwrap());
    }
}

#[async_trait]
impl DatabaseDriver for Gated {
    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        self.sqlite.validate(config)
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        self.asked.add_permits(1);
        self.open.acquire().await.unwrap().forget();
        let left = |left: usize| left.checked_sub(1);
        if self
            .to_end
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
            .is_ok()
        {
            return Err(DriverError::new(DriverErrorKind::SessionEnded, "told to end it"));
        }
        self.sqlite.connect(config).await
    }

    fn backend(&self) -> DbBackend {
        self.sqlite.backend()
    }

    fn migration_dialect(&self) -> &str {
        self.sqlite.migration_dialect()
    }

    fn migration_lock(&self, config: &DatabaseConfig) -> MigrationLock {
        self.sqlite.migration_lock(config)
    }
}

/// An engine with a driver that opens connections only when the test allows it.
async fn gated(tenants: &[&str], settings: EngineSettings) -> (Tenants, Arc<Gated>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut context = BuildContext::for_tests(Registry::new());
    context.base_dir = folder.path().to_owned();
    let config = serde_json::from_value(serde_json::json!({"root": "data"})).unwrap();
    let driver = Arc::new(Gated {
        sqlite: <SqliteDriver as Plugin<dyn DatabaseDriver>>::build(config, &context)
            .await
            .unwrap(),
        asked: Semaphore::new(0),
        open: Semaphore::new(0),
        to_end: AtomicUsize::new(0),
    });
    let tenants = Tenants::new(TenantsParts {
        provider: Scripted::with(tenants.iter().map(|&id| id.to_owned())),
        provider_type: "scripted".to_owned(),
        drivers: vec![("sqlite".to_owned(), driver.clone())],
        settings,
        on_connect: None,
        observer: None,
    });
    (tenants, driver, folder)
}

/// Tasks take turns on one thread, so by then each has come as far as it can.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_for_a_lost_request_goes_to_the_next() {
    let (tenants, driver, _folder) = gated(&["t1"], EngineSettings::default()).await;
    let database = Arc::new(tenants.acquire(&id("t1")).await.unwrap());
    let request = || {
        let database = database.clone();
        tokio::spawn(async move { one(&database, "SELECT 1").await })
    };
    let cut_off = request();
    driver.asked.acquire().await.unwrap().forget();
    let patient = request();
    settled().await;
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());
    driver.open.add_permits(1);
    assert_eq!(patient.await.unwrap().unwrap(), 1);
    // It was opened once.
    assert_eq!((driver.asked.available_permits(), database.pool_status().open), (0, 1));
}

#[tokio::test]
async fn a_request_takes_a_returned_connection_while_one_is_opened() {
    let mut settings = EngineSettings::default();
    settings.pools.defaults.max_connections = 2;
    let (tenants, driver, _folder) = gated(&["t1"], settings).await;
    let database = Arc::new(tenants.acquire(&id("t1")).await.unwrap());
    let begin = || {
        let database = database.clone();
        tokio::spawn(async move { database.begin().await.unwrap() })
    };
    driver.open.add_permits(1);
    let first = begin().await.unwrap();
    let second = begin();
    driver.has_asked(2).await;
    drop(first);
    let _second = second.await.unwrap();
    let third = begin();
    settled().await;
    assert_eq!(driver.asked.available_permits(), 2, "two is all it may have");
    assert!(!third.is_finished());
    driver.open.add_permits(1);
    let _third = third.await.unwrap();
    assert_eq!(database.pool_status().open, 2);
}

#[tokio::test]
async fn an_unwanted_new_connection_goes_to_the_next_request() {
    let (tenants, driver, _folder) = gated(&["t1"], EngineSettings::default()).await;
    let database = Arc::new(tenants.acquire(&id("t1")).await.unwrap());
    driver.open.add_permits(1);
    let first = database.begin().await.unwrap();
    let second = tokio::spawn({
        let database = database.clone();
        async move { database.begin().await.unwrap() }
    });
    driver.has_asked(2).await;
    drop(first);
    let second = second.await.unwrap();
    driver.open.add_permits(1);
    let opened = async {
        while database.pool_status().open < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), opened).await.unwrap();
    let third = database.begin().await.unwrap();
    let status = database.pool_status();
    assert_eq!((status.open, status.in_use, status.idle), (2, 2, 0));
    assert_eq!(driver.asked.available_permits(), 2, "no third was opened");

    drop((second, third, database));
    assert!(tenants.shutdown(Duration::from_secs(10)).await);
    assert_eq!(tenants.cache_snapshot().pools.connections, 0);
}

#[tokio::test]
async fn a_connection_of_a_cut_off_request_goes_to_the_next() {
    let (tenants, driver, _folder) = gated(&["t1"], EngineSettings::default()).await;
    let database = Arc::new(tenants.acquire(&id("t1")).await.unwrap());
    driver.open.add_permits(1);
    let first = database.begin().await.unwrap();
    let cut_off = tokio::spawn({
        let database = database.clone();
        async move { database.begin().await.unwrap() }
    });
    driver.has_asked(2).await;
    // What it used is handed on when this is over, and the other has no turn before it is cut off.
    first.commit().await.unwrap();
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());
    let third = timeout(Duration::from_secs(10), database.begin()).await.unwrap();
    let _third = third.unwrap();
    assert_eq!((driver.asked.available_permits(), database.pool_status().open), (2, 1));
}

#[tokio::test]
async fn a_transaction_dropped_on_another_thread_serves_the_next() {
    let mut settings = EngineSettings::default();
    settings.pools.max_per_tenant = Some(1);
    let (tenants, driver, _folder) = gated(&["t1"], settings).await;
    driver.open.add_permits(2);
    let database = tenants.acquire(&id("t1")).await.unwrap();
    let transaction = database.begin().await.unwrap();
    let next = tokio::spawn(async move { one(&database, "SELECT 1").await });
    settled().await;
    // A thread of its own has no runtime.
    std::thread::spawn(move || drop(transaction)).join().unwrap();
    let next = timeout(Duration::from_secs(3), next).await;
    assert_eq!(next.expect("nothing came").unwrap().unwrap(), 1);
}

#[tokio::test]
async fn a_cut_off_request_takes_no_other_tenant_s_connection() {
    let mut settings = EngineSettings::default();
    settings.pools.max_connections = 1;
    let (tenants, driver, _folder) = gated(&["t1", "t2"], settings).await;
    driver.open.add_permits(2);
    let database = tenants.acquire(&id("t1")).await.unwrap();
    let used = database.begin().await.unwrap();
    let other = tenants.acquire(&id("t2")).await.unwrap();
    let cut_off = tokio::spawn(async move { other.begin().await.map(drop) });
    settled().await;
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());
    // The opening that it wanted looks ten times a second whether it is still wanted.
    sleep(Duration::from_millis(300)).await;
    used.commit().await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert_eq!((driver.asked.available_permits(), database.pool_status().open), (1, 1));
}

#[tokio::test]
async fn a_session_that_ends_at_once_is_reopened_a_few_times() {
    let (tenants, driver, _folder) = gated(&["t1"], EngineSettings::default()).await;
    let database = tenants.acquire(&id("t1")).await.unwrap();
    driver.open.add_permits(100);
    driver.to_end.store(3, Ordering::SeqCst);
    assert_eq!(one(&database, "SELECT 1").await.unwrap(), 1);
    assert_eq!((driver.asked.available_permits(), database.pool_status().open), (4, 1));

    drop(database);
    tenants.close_pool(&id("t1")).await.unwrap();
    let database = tenants.acquire(&id("t1")).await.unwrap();
    driver.to_end.store(usize::MAX, Ordering::SeqCst);
    let error = one(&database, "SELECT 1").await.unwrap_err();
    assert_eq!(
        DatabaseErrorKind::of(&error),
        DatabaseErrorKind::Connect(DriverErrorKind::SessionEnded)
    );
    assert_eq!(driver.asked.available_permits(), 8);
}

#[tokio::test]
async fn room_is_made_by_the_connection_whose_last_use_is_longest_ago() {
    let mut settings = EngineSettings::default();
    settings.pools.max_connections = 3;
    let names = ["t1", "t2", "t3"];
    let world = World::new(Scripted::with(names.map(str::to_owned)), settings).await;
    let [first, second, third] = futures_util::future::join_all(names.map(|name| {
        let tenants = world.tenants.clone();
        async move { tenants.acquire(&id(name)).await.unwrap() }
    }))
    .await
    .try_into()
    .unwrap();
    // A burst leaves the first with two, of which it uses one again later than the second uses its
    // only one.
    let burst = (first.begin().await.unwrap(), first.begin().await.unwrap());
    drop(burst);
    while first.pool_status().idle < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    one(&second, "SELECT 1").await.unwrap();
    one(&first, "SELECT 1").await.unwrap();
    assert_eq!(world.tenants.cache_snapshot().pools.connections, 3);
    one(&third, "SELECT 1").await.unwrap();
    let open = [&first, &second, &third].map(|database| database.pool_status().open);
    assert_eq!(open, [1, 1, 1]);
}
