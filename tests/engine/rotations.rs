//! Preparations and openings while the secret changes or the engine stops: the scripted server of
//! [`pools`](crate::pools) under paused time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::TransactionTrait;
use serde_json::json;
use tenantry_core::{
    BoxError, Connection, DatabaseConfig, DatabaseDriver, HumanDuration, TenantId,
    engine::{EngineSettings, OnConnect, SchemaVersion, Tenants},
};
use tokio::time::{Instant, sleep};

use crate::{
    pools::{Server, database, engine, engine_with, kind, read},
    scripted::{Scripted, id},
};

/// What the preparation of a database does, by its name and by how many were begun: how long it
/// takes, and whether it succeeds.
type Plan = fn(&str, usize) -> (Duration, bool);

struct Planned(Plan, AtomicUsize);

#[async_trait]
impl OnConnect for Planned {
    async fn prepare(
        &self,
        _: &TenantId,
        _: &dyn DatabaseDriver,
        config: &DatabaseConfig,
        _: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        let number = self.1.fetch_add(1, Ordering::SeqCst) + 1;
        let (takes, succeeds) = self.0(config.database.as_deref().unwrap_or_default(), number);
        sleep(takes).await;
        match succeeds {
            true => Ok(None),
            false => Err("told to fail".into()),
        }
    }
}

/// An engine with the tenant `t1`, whose database is `old` at first.
fn planned(plan: Plan) -> (Arc<Scripted>, Tenants) {
    let (server, provider) = (Server::new(), Scripted::with(None));
    put(&provider, "old");
    let plan = Arc::new(Planned(plan, AtomicUsize::new(0)));
    let tenants = engine_with(provider.clone(), &server, EngineSettings::default(), Some(plan));
    (provider, tenants)
}

fn put(provider: &Scripted, database: &str) {
    provider.put("t1", json!({"type": "scripted", "host": "h", "database": database}));
}

#[tokio::test(start_paused = true)]
async fn a_slow_preparation_fails_no_request_beside_a_connection() {
    let (_, tenants) = planned(|_, number| (Duration::from_secs(if number == 1 { 0 } else { 20 }), true));
    let database = database(&tenants).await;
    let reading = || {
        let database = database.clone();
        tokio::spawn(async move { kind(read(&database).await) })
    };
    let transaction = database.begin().await.unwrap();
    // The preparation was not a moment ago, so another connection begins with one.
    sleep(Duration::from_secs(11)).await;
    let first = reading();
    sleep(Duration::from_millis(100)).await;
    transaction.rollback().await.unwrap();
    assert_eq!(first.await.unwrap(), None);
    // It lasts for longer than a request waits by now.
    sleep(Duration::from_secs(6)).await;
    let transaction = database.begin().await.unwrap();
    let second = reading();
    sleep(Duration::from_millis(100)).await;
    transaction.rollback().await.unwrap();
    assert_eq!(second.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_preparation_with_an_old_secret_fails_no_request() {
    let (provider, tenants) = planned(|database, _| match database {
        "old" => (Duration::from_secs(1), false),
        _ => (Duration::ZERO, true),
    });
    let database = database(&tenants).await;
    let request = tokio::spawn(async move { kind(read(&database).await) });
    sleep(Duration::from_millis(500)).await;
    put(&provider, "new");
    tenants.refresh(&id("t1")).await.unwrap();
    assert_eq!(request.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_new_secret_is_tried_in_the_pause_after_a_failure() {
    let (provider, tenants) = planned(|database, number| (Duration::ZERO, database == "new" || number == 1));
    let database = database(&tenants).await;
    let _transaction = database.begin().await.unwrap();
    sleep(Duration::from_secs(11)).await;
    // Requests that wait keep the opening going, whose pauses grow to 16 s.
    let waiting = (0..2).map(|n| {
        let database = database.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(2_500 * n)).await;
            loop {
                assert!(read(&database).await.is_err());
            }
        })
    });
    let waiting: Vec<_> = waiting.collect();
    sleep(Duration::from_secs(20)).await;
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    put(&provider, "new");
    tenants.refresh(&id("t1")).await.unwrap();
    let start = Instant::now();
    assert_eq!(kind(read(&database).await), None);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_no_login_that_nobody_wants() {
    let server = Server::new();
    server.change(|script| script.answers_logins = false);
    let tenants = engine(&server, ["t1".to_owned()], EngineSettings::default(), None);
    let database = database(&tenants).await;
    let request = tokio::spawn(async move { read(&database).await });
    sleep(Duration::from_millis(10)).await;
    request.abort();
    assert!(tenants.shutdown(Duration::from_secs(3)).await);
    assert_eq!(server.logins(), 1, "a login began anew");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_closes_what_a_late_request_opens() {
    let (server, provider) = (Server::new(), Scripted::with(None));
    put(&provider, "d");
    provider.put("t2", json!({"type": "scripted", "host": "h", "database": "d2"}));
    let tenants = engine_with(provider.clone(), &server, EngineSettings::default(), None);
    // It keeps the shutdown waiting until the other request is through.
    let transaction = tenants.acquire(&id("t2")).await.unwrap().begin().await.unwrap();
    *provider.delay.lock().unwrap() = Duration::from_secs(1);
    let request = tokio::spawn({
        let tenants = tenants.clone();
        async move { read(&*database(&tenants).await).await }
    });
    sleep(Duration::from_millis(100)).await;
    let start = Instant::now();
    tokio::spawn(async move {
        sleep(Duration::from_secs(2)).await;
        transaction.rollback().await
    });
    assert!(tenants.shutdown(Duration::from_secs(10)).await);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(request.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn health_checks_keep_no_unused_pool_open() {
    let server = Server::new();
    let mut settings = EngineSettings::default();
    settings.pools.idle_timeout = HumanDuration::from_secs(60);
    let tenants = engine(&server, ["t1".to_owned()], settings, None);
    read(&*database(&tenants).await).await.unwrap();
    for _ in 0..6 {
        assert_eq!(tenants.cache_snapshot().pools.connections, 1);
        tenants.probe(&id("t1")).await.unwrap();
        sleep(Duration::from_secs(10)).await;
    }
    sleep(Duration::from_secs(5)).await;
    assert_eq!(tenants.cache_snapshot().pools.connections, 0);
}
