//! Connections: how many are open, and what becomes of those that were cut off.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use tenantry_core::{
    BuildContext, Connection, DatabaseConfig, DatabaseDriver, DatabaseErrorKind, DriverError, HumanDuration,
    MigrationLock, Plugin, Registry, SecretInvalid,
    engine::{EngineSettings, TenantDatabase, Tenants, TenantsParts},
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
async fn no_more_connections_are_open_than_the_budget_has_and_every_request_is_answered() {
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
                    .health(false)
                    .await
                    .unwrap()
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
async fn one_tenant_uses_the_whole_budget_again_and_again_without_closing_connections() {
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
async fn a_connection_whose_request_went_away_in_the_middle_is_not_used_again() {
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
    settings.pools.acquire_timeout = HumanDuration::parse("50ms").unwrap();
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
async fn a_pool_that_is_pushed_out_serves_its_request_to_the_end() {
    let mut settings = EngineSettings::default();
    settings.pools.max = 1;
    let world = World::new(Scripted::with(["t1".to_owned(), "t2".to_owned()]), settings).await;
    let first = world.tenants.acquire(&id("t1")).await.unwrap();
    one(&first, "SELECT 1").await.unwrap();
    let second = world.tenants.acquire(&id("t2")).await.unwrap();
    assert_eq!(one(&second, "SELECT 2").await.unwrap(), 2);
    assert_eq!(one(&first, "SELECT 3").await.unwrap(), 3);
    assert_eq!(world.tenants.cache_snapshot().pools.open, 1);
    drop((first, second));
    world.tenants.close_pool(&id("t2")).await.unwrap();
    for _ in 0..200 {
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
    assert!(world.tenants.acquire(&id("t1")).await.is_err());
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

/// Opens connections to SQLite, each when it is told to.
struct Gated {
    sqlite: SqliteDriver,
    asked: Semaphore,
    open: Semaphore,
}

#[async_trait]
impl DatabaseDriver for Gated {
    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        self.sqlite.validate(config)
    }

    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        self.asked.add_permits(1);
        self.open.acquire().await.unwrap().forget();
        self.sqlite.connect(config).await
    }

    fn backend(&self) -> DbBackend {
        self.sqlite.backend()
    }

    fn migration_dialect(&self) -> &str {
        self.sqlite.migration_dialect()
    }

    fn migration_lock(&self) -> MigrationLock {
        self.sqlite.migration_lock()
    }
}

#[tokio::test]
async fn a_connection_whose_request_went_away_while_it_was_opened_is_for_the_next_in_line() {
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
    });
    let tenants = Tenants::new(TenantsParts {
        provider: Scripted::with(["t1".to_owned()]),
        provider_type: "scripted".to_owned(),
        drivers: vec![("sqlite".to_owned(), driver.clone())],
        settings: EngineSettings::default(),
        on_connect: None,
        observer: None,
    });
    let database = Arc::new(tenants.acquire(&id("t1")).await.unwrap());
    let request = || {
        let database = database.clone();
        tokio::spawn(async move { one(&database, "SELECT 1").await })
    };
    let cut_off = request();
    driver.asked.acquire().await.unwrap().forget();
    let patient = request();
    // Tasks take turns on one thread, so by then it stands in line behind the first.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());
    driver.open.add_permits(1);
    assert_eq!(patient.await.unwrap().unwrap(), 1);
    // It was opened once.
    assert_eq!((driver.asked.available_permits(), database.pool_status().open), (0, 1));
}
