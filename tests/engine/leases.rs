//! Secrets that expire: extended in time, replaced at their maximum, given back when nothing uses
//! them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;

use tenantry_core::{
    BoxError, Connection, DatabaseConfig, DatabaseDriver, HumanDuration, Purpose, TenantId,
    engine::{AcquireError, EngineSettings, HealthQuery, OnConnect, SchemaVersion},
};
use tokio::time::{Instant, sleep};

use crate::scripted::{Scripted, World, id};

fn settings() -> EngineSettings {
    let mut settings = EngineSettings::default();
    settings.secrets.ttl = HumanDuration::from_secs(60);
    settings.secrets.jitter = 0.0;
    settings
}

/// Lets started tasks run until they wait.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Tenants of these names; their leases last so many seconds.
async fn world(tenants: usize, seconds: u64, renewable: bool) -> World {
    let names = (1..=tenants).map(|n| format!("t{n}"));
    let world = World::new(Scripted::with(names), settings()).await;
    *world.provider.lease.lock().unwrap() = Some((Duration::from_secs(seconds), renewable));
    world
}

fn released(world: &World) -> Vec<String> {
    world.provider.released.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_in_time_and_released_after_use() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    *world.provider.lease.lock().unwrap() = Some((Duration::from_secs(30), true));
    let ask = async || {
        let answer = world.tenants.acquire(&id("t1")).await;
        settle().await;
        answer
    };
    let database = ask().await.unwrap();
    sleep(Duration::from_secs(23)).await;
    drop(ask().await.unwrap());
    assert_eq!(world.provider.renewals.load(Ordering::SeqCst), 0);
    sleep(Duration::from_secs(1)).await;
    drop(ask().await.unwrap());
    assert_eq!(
        (world.provider.renewals.load(Ordering::SeqCst), world.provider.fetches()),
        (1, 1)
    );
    // A refresh reads the secret, and the lease before goes back once the last request is done with
    // it.
    world.tenants.refresh(&id("t1")).await.unwrap();
    settle().await;
    assert_eq!(world.provider.fetches(), 2);
    assert!(world.provider.released.lock().unwrap().is_empty());
    // The last use may end on a thread without a runtime.
    std::thread::spawn(move || drop(database)).join().unwrap();
    settle().await;
    assert_eq!(*world.provider.released.lock().unwrap(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_suspended_tenant_is_released() {
    let world = world(1, 3_600, true).await;
    drop(world.tenants.acquire(&id("t1")).await.unwrap());
    world.tenants.suspend(&id("t1")).await.unwrap();
    sleep(Duration::from_secs(15)).await;
    assert_eq!(*world.provider.released.lock().unwrap(), ["1"]);
    world.tenants.resume(&id("t1")).await.unwrap();
    drop(world.tenants.acquire(&id("t1")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_not_used_after_its_lease() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    *world.provider.lease.lock().unwrap() = Some((Duration::from_secs(30), false));
    let _database = world.tenants.acquire(&id("t1")).await.unwrap();
    world.provider.set_down(true);
    sleep(Duration::from_secs(29)).await;
    drop(world.tenants.acquire(&id("t1")).await.unwrap());
    sleep(Duration::from_secs(2)).await;
    let refused = world.tenants.acquire(&id("t1")).await;
    assert!(matches!(refused, Err(AcquireError::ProviderUnavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_long_lease_is_not_asked_for_at_each_time_to_live() {
    let world = world(1, 3_600, true).await;
    let _database = world.tenants.acquire(&id("t1")).await.unwrap();
    sleep(Duration::from_secs(2_870)).await;
    assert_eq!(world.provider.renewals.load(Ordering::SeqCst), 0);
    sleep(Duration::from_secs(20)).await;
    let renewals = world.provider.renewals.load(Ordering::SeqCst);
    assert_eq!((renewals, world.provider.fetches()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn at_its_maximum_a_lease_is_replaced_by_another_secret() {
    let world = world(1, 30, true).await;
    *world.provider.longest_lease.lock().unwrap() = Some(Duration::from_secs(60));
    let first = world.tenants.acquire(&id("t1")).await.unwrap();
    // Extended at 24 s; at 48 s only 12 s would be left.
    sleep(Duration::from_secs(47)).await;
    assert_eq!(world.provider.fetches(), 1);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        (world.provider.renewals.load(Ordering::SeqCst), world.provider.fetches()),
        (2, 2)
    );
    assert_eq!(released(&world), [""; 0]);
    drop(first);
    settle().await;
    assert_eq!(released(&world)[0], "1");
}

/// Does nothing.
struct Prepared;

#[async_trait]
impl OnConnect for Prepared {
    async fn prepare(
        &self,
        _: &TenantId,
        _: &dyn DatabaseDriver,
        _: &DatabaseConfig,
        _: &mut dyn Connection,
    ) -> Result<Option<SchemaVersion>, BoxError> {
        Ok(None)
    }
}

#[tokio::test]
async fn the_first_lease_is_released_too_when_it_is_replaced() {
    let provider = Scripted::with(["t1".to_owned()]);
    *provider.lease.lock().unwrap() = Some((Duration::from_secs(3_600), true));
    let world = World::prepared_by(Some(Arc::new(Prepared)), provider, settings()).await;
    let ping = async || {
        world
            .tenants
            .acquire(&id("t1"))
            .await
            .unwrap()
            .ping()
            .await
            .map(drop)
            .unwrap()
    };
    for lease in ["1", "2"] {
        ping().await;
        world.tenants.refresh(&id("t1")).await.unwrap();
        ping().await;
        let is_released = async {
            while !released(&world).contains(&lease.to_owned()) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), is_released)
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_nothing_uses_is_given_back() {
    let world = world(3, 3_600, true).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    drop(world.tenants.acquire(&id("t2")).await.unwrap());
    sleep(Duration::from_secs(9)).await;
    assert_eq!(released(&world), [""; 0]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(released(&world), ["2"]);
    drop(database);
    sleep(Duration::from_secs(12)).await;
    assert_eq!(released(&world), ["2", "1"]);
    drop(world.tenants.acquire(&id("t2")).await.unwrap());
    assert_eq!(world.provider.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_removed_tenant_gives_its_lease_back() {
    let world = world(1, 3_600, true).await;
    drop(world.tenants.acquire(&id("t1")).await.unwrap());
    world.provider.remove("t1");
    assert!(matches!(
        world.tenants.refresh(&id("t1")).await,
        Err(AcquireError::Unknown)
    ));
    settle().await;
    assert_eq!(released(&world), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_a_lease_is_used_to_its_end_and_not_beyond() {
    let world = world(1, 30, true).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    world.provider.set_down(true);
    sleep(Duration::from_secs(29)).await;
    let health = world.tenants.health(HealthQuery::all(false)).await;
    let secret = health.tenants[0].secret.clone().unwrap();
    assert!(
        secret.stale && secret.expires_in == Some(Duration::from_secs(1)),
        "{secret:?}"
    );
    drop(world.tenants.acquire(&id("t1")).await.unwrap());
    sleep(Duration::from_secs(3)).await;
    let refused = world.tenants.acquire(&id("t1")).await;
    assert!(matches!(refused, Err(AcquireError::ProviderUnavailable { .. })));
    assert!(
        world.tenants.health(HealthQuery::all(false)).await.tenants[0]
            .secret
            .is_none()
    );
    world.provider.set_down(false);
    sleep(Duration::from_secs(33)).await;
    drop(world.tenants.acquire(&id("t1")).await.unwrap());
    drop(database);
}

#[tokio::test]
async fn a_connection_of_a_tool_keeps_its_lease() {
    let world = world(1, 30, true).await;
    let opened = world.tenants.open_connection(&id("t1"), Purpose::Change).await.unwrap();
    tokio::time::pause();
    // Longer than a lease, as migrations may take.
    sleep(Duration::from_secs(100)).await;
    let renewals = world.provider.renewals.load(Ordering::SeqCst);
    assert!((3..=5).contains(&renewals) && released(&world).is_empty(), "{renewals}");
    drop(opened);
    sleep(Duration::from_secs(12)).await;
    assert_eq!(released(&world), ["1"]);
}

#[tokio::test]
async fn a_tool_has_no_secret_of_the_tenants_that_it_is_done_with() {
    let world = world(50, 3_600, true).await;
    let used = id("t50");
    drop(world.tenants.acquire(&used).await.unwrap());
    for n in 1..=50 {
        let opened = world
            .tenants
            .open_connection(&id(&format!("t{n}")), Purpose::Change)
            .await
            .unwrap();
        opened.close().await;
        let known = world.tenants.usage_snapshot().known;
        let known: Vec<_> = known.iter().map(|tenant| tenant.id).collect();
        assert_eq!(known, [used], "after t{n}");
    }
    let began = Instant::now();
    while released(&world).len() < 49 {
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", released(&world));
        settle().await;
    }
    assert_eq!(world.provider.fetches(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_every_lease_back() {
    let world = world(20, 3_600, true).await;
    for n in 1..=20 {
        drop(world.tenants.acquire(&id(&format!("t{n}"))).await.unwrap());
    }
    // One that is being read is given back as well.
    *world.provider.delay.lock().unwrap() = Duration::from_secs(2);
    let (tenants, late) = (world.tenants.clone(), id("t1"));
    let late = tokio::spawn(async move { tenants.refresh(&late).await.map(drop) });
    settle().await;
    assert!(world.tenants.shutdown(Duration::from_secs(10)).await);
    assert_eq!(released(&world).len(), 21);
    assert!(late.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_in_time_even_if_no_lease_can_be_released() {
    let world = world(2, 3_600, true).await;
    for name in ["t1", "t2"] {
        drop(world.tenants.acquire(&id(name)).await.unwrap());
    }
    world.provider.release_down.store(true, Ordering::SeqCst);
    let started = Instant::now();
    world.tenants.shutdown(Duration::from_secs(10)).await;
    assert!(
        started.elapsed() < Duration::from_millis(10_100),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(released(&world), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_leases_of_a_thousand_tenants_are_extended_spread_out() {
    let mut settings = settings();
    settings.secrets.jitter = 0.1;
    settings.secrets.max_entries = 2_000;
    let world = World::new(Scripted::with((0..1_000).map(|n| format!("t{n}"))), settings).await;
    *world.provider.lease.lock().unwrap() = Some((Duration::from_secs(3_600), true));
    let mut held = Vec::new();
    for n in 0..1_000 {
        held.push(world.tenants.acquire(&id(&format!("t{n}"))).await.unwrap());
    }
    let (mut before, mut most) = (0, 0);
    for _ in 0..3_600 {
        sleep(Duration::from_secs(1)).await;
        let renewals = world.provider.renewals.load(Ordering::SeqCst);
        most = most.max(renewals - before);
        before = renewals;
    }
    // One call for each in an hour: from 72 % to 80 % of it, four a second on average.
    assert_eq!((before, world.provider.fetches()), (1_000, 1_000));
    assert!(most <= 20, "{most} in one second");
}
