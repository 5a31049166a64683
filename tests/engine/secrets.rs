//! How long a secret is used, when it is read, and what happens when it cannot be read.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tenantry_core::{
    HumanDuration,
    engine::{AcquireError, EngineSettings, HealthQuery, TenantStatus},
};
use tokio::time::{advance, sleep, timeout};

use crate::scripted::{Scripted, World, id, sqlite};

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

#[tokio::test(start_paused = true)]
async fn a_hundred_first_requests_of_a_cold_tenant_make_one_fetch() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    *world.provider.delay.lock().unwrap() = Duration::from_millis(50);
    let requests = (0..100).map(|_| {
        let tenants = world.tenants.clone();
        tokio::spawn(async move { tenants.acquire(&id("t1")).await.map(drop) })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap().unwrap();
    }
    assert_eq!(world.provider.fetches(), 1);
    let metrics = world.tenants.cache_snapshot().metrics;
    assert_eq!((metrics.misses, metrics.hits), (1, 99));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_goes_away_takes_no_one_else_s_answer_with_it() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    *world.provider.delay.lock().unwrap() = Duration::from_millis(50);
    let tenant = id("t1");
    let leaves = tokio::time::timeout(Duration::from_millis(10), world.tenants.acquire(&tenant));
    let (left, stays) = tokio::join!(leaves, world.tenants.acquire(&tenant));
    assert!(left.is_err());
    assert!(stays.is_ok());
    assert_eq!(world.provider.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn past_its_time_a_secret_is_served_while_one_fetch_renews_it() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    world.tenants.acquire(&id("t1")).await.unwrap();
    *world.provider.delay.lock().unwrap() = Duration::from_secs(3);
    sleep(Duration::from_millis(61_500)).await;
    for _ in 0..20 {
        world.tenants.acquire(&id("t1")).await.unwrap();
    }
    settle().await;
    assert_eq!(world.provider.fetches(), 2);
    let metrics = world.tenants.cache_snapshot().metrics;
    assert_eq!(metrics.stale_served, 20);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(world.tenants.cache_snapshot().metrics.refreshes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stale_secret_is_served_while_the_provider_fails() {
    let mut settings = settings();
    settings.secrets.stale_if_error = HumanDuration::from_secs(600);
    let world = World::new(Scripted::with(["t1".to_owned()]), settings).await;
    world.tenants.acquire(&id("t1")).await.unwrap();
    world.provider.set_down(true);
    for _ in 0..650 {
        sleep(Duration::from_secs(1)).await;
        world.tenants.acquire(&id("t1")).await.unwrap();
    }
    // 590 s of failing at 1 + 2 + 4 + ... + 128 + 128 s: some eleven tries, the first fetch and the
    // housekeeping's second of slack.
    assert!(
        (8..=14).contains(&world.provider.fetches()),
        "{}",
        world.provider.fetches()
    );
    advance(Duration::from_secs(60)).await;
    let refused = world.tenants.acquire(&id("t1")).await.unwrap_err();
    assert!(matches!(refused, AcquireError::ProviderUnavailable { retry_after, .. } if retry_after > Duration::ZERO));
    world.provider.set_down(false);
    sleep(Duration::from_secs(129)).await;
    world.tenants.acquire(&id("t1")).await.unwrap();
    settle().await;
    assert!(!world.tenants.probe(&id("t1")).await.unwrap().secret.unwrap().stale);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_throttles_is_left_alone_for_as_long_as_it_asks() {
    for (asked, expected) in [(20, 20), (3600, 128)] {
        let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
        *world.provider.throttled.lock().unwrap() = Some(Duration::from_secs(asked));
        for passed in [0, expected - 1] {
            advance(Duration::from_secs(passed)).await;
            let refused = world.tenants.acquire(&id("t1")).await.unwrap_err();
            let left = Duration::from_secs(expected - passed);
            assert!(
                matches!(refused, AcquireError::ProviderUnavailable { retry_after, .. } if retry_after == left),
                "{asked}: {refused:?}"
            );
        }
        assert_eq!(world.provider.fetches(), 1, "{asked}");
        *world.provider.throttled.lock().unwrap() = None;
        advance(Duration::from_secs(1)).await;
        world.tenants.acquire(&id("t1")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_tenant_is_refused_at_once_while_the_provider_is_down() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    world.provider.set_down(true);
    for _ in 0..100 {
        let refused = world.tenants.acquire(&id("t1")).await.unwrap_err();
        assert!(matches!(refused, AcquireError::ProviderUnavailable { .. }));
    }
    assert_eq!(world.provider.fetches(), 1);
    world.provider.set_down(false);
    sleep(Duration::from_secs(1)).await;
    world.tenants.acquire(&id("t1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_is_given_up_after_five_seconds() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    *world.provider.delay.lock().unwrap() = Duration::from_secs(3600);
    let started = tokio::time::Instant::now();
    let refused = world.tenants.acquire(&id("t1")).await.unwrap_err();
    assert!(matches!(refused, AcquireError::ProviderUnavailable { .. }));
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tenant_is_remembered_briefly() {
    let world = World::new(Scripted::with([]), settings()).await;
    for _ in 0..10_000 {
        assert!(matches!(
            world.tenants.acquire(&id("nobody")).await,
            Err(AcquireError::Unknown)
        ));
    }
    assert_eq!(world.provider.fetches(), 1);
    assert_eq!(world.tenants.cache_snapshot().metrics.not_found_hits, 9_999);
    world.provider.put("nobody", sqlite("nobody"));
    sleep(Duration::from_secs(31)).await;
    world.tenants.acquire(&id("nobody")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_was_deleted_is_gone_within_one_time_to_live() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    world.tenants.acquire(&id("t1")).await.unwrap();
    world.provider.remove("t1");
    sleep(Duration::from_millis(60_100)).await;
    // No request has used it meanwhile; this one starts a new read.
    world.tenants.acquire(&id("t1")).await.unwrap();
    settle().await;
    assert!(matches!(
        world.tenants.acquire(&id("t1")).await,
        Err(AcquireError::Unknown)
    ));
}

#[tokio::test(start_paused = true)]
async fn an_unusable_secret_names_its_field_and_is_not_cached() {
    let world = World::new(Scripted::with([]), settings()).await;
    world
        .provider
        .put("t1", json!({"type": "sqlite", "path": "t1.db", "port": "canary"}));
    let Err(AcquireError::SecretInvalid { source, .. }) = world.tenants.acquire(&id("t1")).await else {
        panic!("it was taken");
    };
    assert_eq!(source.field, "port");
    assert!(!source.to_string().contains("canary"));
    assert_eq!(world.tenants.cache_snapshot().metrics.entries, 0);
    world.provider.put("t1", sqlite("t1"));
    sleep(Duration::from_secs(1)).await;
    world.tenants.acquire(&id("t1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unknown_driver_makes_the_secret_invalid() {
    let world = World::new(Scripted::with([]), settings()).await;
    world.provider.put("t1", json!({"type": "canarydb"}));
    let refused = world.tenants.acquire(&id("t1")).await.unwrap_err();
    let AcquireError::SecretInvalid { source, .. } = refused else {
        panic!("it was taken");
    };
    assert!(
        source.field == "type" && !source.to_string().contains("canarydb"),
        "{source}"
    );
}

#[tokio::test(start_paused = true)]
async fn clearing_the_cache_reads_anew_and_leaves_the_pool() {
    let world = World::new(Scripted::with(["t1".to_owned(), "t2".to_owned()]), settings()).await;
    world.tenants.acquire(&id("t1")).await.unwrap();
    world.tenants.acquire(&id("t2")).await.unwrap();
    assert_eq!(world.tenants.clear_secrets(Some(&id("t1"))), 1);
    assert_eq!(world.tenants.clear_secrets(None), 1);
    world.tenants.acquire(&id("t1")).await.unwrap();
    let snapshot = world.tenants.cache_snapshot();
    assert_eq!((world.provider.fetches(), snapshot.pools.rotations), (3, 0));
}

/// An operator who clears the cache in an outage of the provider takes no tenant down.
#[tokio::test(start_paused = true)]
async fn a_cleared_secret_is_used_while_the_provider_fails() {
    let mut settings = settings();
    settings.secrets.stale_if_error = HumanDuration::from_secs(600);
    let world = World::new(Scripted::with(["t1".to_owned()]), settings).await;
    world.tenants.acquire(&id("t1")).await.unwrap();
    world.provider.set_down(true);
    for _ in 0..3 {
        world.tenants.clear_secrets(None);
        assert_eq!(world.tenants.cache_snapshot().metrics.entries, 0);
        let fetches = world.provider.fetches();
        for _ in 0..10 {
            world.tenants.acquire(&id("t1")).await.unwrap();
        }
        assert_eq!(
            world.provider.fetches(),
            fetches + 1,
            "the next request asks, and no other"
        );
    }
    sleep(Duration::from_secs(661)).await;
    let refused = world.tenants.acquire(&id("t1")).await.unwrap_err();
    assert!(
        matches!(refused, AcquireError::ProviderUnavailable { .. }),
        "{refused:?}"
    );
    world.provider.put("t1", json!({"type": "sqlite", "path": "other.db"}));
    world.provider.set_down(false);
    world.tenants.clear_secrets(None);
    world.tenants.acquire(&id("t1")).await.unwrap();
    let snapshot = world.tenants.cache_snapshot();
    assert_eq!((snapshot.metrics.entries, snapshot.pools.rotations), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn checking_every_tenant_pushes_no_secret_out() {
    let mut settings = settings();
    settings.secrets.max_entries = 50;
    // The checks wait for real files while the time is paused, and so it leaps.
    settings.secrets.ttl = HumanDuration::from_secs(100_000);
    let names: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let world = World::new(Scripted::with(names.clone()), settings).await;
    for name in &names[..40] {
        drop(world.tenants.acquire(&id(name)).await.unwrap());
    }
    assert_eq!(world.tenants.health(HealthQuery::all(true)).await.tenants.len(), 200);
    let metrics = world.tenants.cache_snapshot().metrics;
    assert!(metrics.entries <= 50 && metrics.evictions == 0, "{metrics:?}");
    let fetches = world.provider.fetches();
    for name in &names[..40] {
        drop(world.tenants.acquire(&id(name)).await.unwrap());
    }
    assert_eq!(world.provider.fetches(), fetches, "one in use was read anew");
}

#[tokio::test(start_paused = true)]
async fn the_pages_of_a_walk_share_one_list() {
    let names = ["t1", "t2", "t3"].map(str::to_owned);
    let world = World::new(Scripted::with(names), settings()).await;
    let page = async |after: Option<&str>| {
        let query = HealthQuery {
            after: after.map(|id| id.as_bytes().to_vec()),
            limit: 1,
            ..HealthQuery::all(false)
        };
        world.tenants.health(query).await.tenants[0].id.to_string()
    };
    for lists in 1..3 {
        assert_eq!(page(None).await, "t1");
        assert_eq!(page(Some("t1")).await, "t2");
        assert_eq!(page(Some("t2")).await, "t3");
        assert_eq!(world.provider.lists(), lists);
    }
    // A walk that takes longer reads another one.
    advance(Duration::from_secs(61)).await;
    assert_eq!(page(Some("t1")).await, "t2");
    assert_eq!(world.provider.lists(), 3);
}

/// AWS names 100,000 secrets in some 100 seconds.
#[tokio::test(start_paused = true)]
async fn a_long_list_is_read_to_its_end_though_no_request_waits_for_it() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    *world.provider.list_delay.lock().unwrap() = Duration::from_secs(120);
    assert_eq!(world.tenants.list().await.unwrap().len(), 1);
    let page = || world.tenants.health(HealthQuery::all(false));
    let early = timeout(Duration::from_secs(15), page()).await.unwrap();
    let is_incomplete = early.list_error.as_deref() == Some("provider_unavailable");
    assert!(is_incomplete && early.tenants.is_empty(), "{early:?}");
    sleep(Duration::from_secs(105)).await;
    let found = timeout(Duration::from_secs(15), page()).await.unwrap();
    assert_eq!((found.tenants.len(), found.list_error), (1, None));
    assert_eq!(world.provider.lists(), 2);
    *world.provider.list_delay.lock().unwrap() = Duration::from_secs(160);
    assert!(world.tenants.list().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_sees_a_changed_secret_at_once() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    world.tenants.acquire(&id("t1")).await.unwrap();
    let before = world.tenants.refresh(&id("t1")).await.unwrap().secret.unwrap();
    world.provider.put("t1", json!({"type": "sqlite", "path": "other.db"}));
    let after = world.tenants.refresh(&id("t1")).await.unwrap().secret.unwrap();
    assert_ne!(before.version, after.version);
    assert_eq!(world.tenants.cache_snapshot().pools.rotations, 1);
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_secret_is_evicted() {
    let mut settings = settings();
    settings.secrets.max_entries = 50;
    let names: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let world = World::new(Scripted::with(names.clone()), settings).await;
    for name in &names {
        world.tenants.acquire(&id(name)).await.unwrap();
        advance(Duration::from_millis(1)).await;
    }
    let snapshot = world.tenants.cache_snapshot();
    assert!(snapshot.metrics.entries <= 50, "{}", snapshot.metrics.entries);
    world.tenants.acquire(&id("t199")).await.unwrap();
    assert_eq!(world.provider.fetches(), 200, "the last one was still kept");
    world.tenants.acquire(&id("t0")).await.unwrap();
    assert_eq!(world.provider.fetches(), 201);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_tenant_is_refused_until_it_is_resumed() {
    let world = World::new(Scripted::with(["t1".to_owned()]), settings()).await;
    world.tenants.suspend(&id("t1")).await.unwrap();
    assert!(matches!(
        world.tenants.acquire(&id("t1")).await,
        Err(AcquireError::Suspended)
    ));
    assert_eq!(
        world.tenants.health(HealthQuery::all(false)).await.tenants[0].status,
        TenantStatus::Suspended
    );
    world.tenants.resume(&id("t1")).await.unwrap();
    world.tenants.acquire(&id("t1")).await.unwrap();
    assert!(matches!(
        world.tenants.suspend(&id("nobody")).await,
        Err(AcquireError::Unknown)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_no_more_requests_running_than_it_may() {
    let mut settings = settings();
    settings.limits.concurrent_requests = 2;
    settings.limits.requests_per_second = Some(4);
    let world = World::new(Scripted::with(["t1".to_owned()]), settings).await;
    let first = world.tenants.acquire(&id("t1")).await.unwrap();
    let _second = world.tenants.acquire(&id("t1")).await.unwrap();
    assert!(matches!(
        world.tenants.acquire(&id("t1")).await,
        Err(AcquireError::Busy { .. })
    ));
    drop(first);
    drop(world.tenants.acquire(&id("t1")).await.unwrap());
    drop(world.tenants.acquire(&id("t1")).await.unwrap());
    assert!(matches!(
        world.tenants.acquire(&id("t1")).await,
        Err(AcquireError::RateLimited { .. })
    ));
}

#[tokio::test]
async fn a_million_reads_of_a_hundred_secrets_fetch_a_hundred() {
    let names: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
    let world = World::new(Scripted::with(names.clone()), EngineSettings::default()).await;
    let ids = Arc::new(names.iter().map(|name| id(name)).collect::<Vec<_>>());
    let readers = (0..10).map(|reader| {
        let (tenants, ids) = (world.tenants.clone(), ids.clone());
        tokio::spawn(async move {
            for n in 0..100_000 {
                tenants.acquire(&ids[(n + reader) % ids.len()]).await.unwrap();
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    assert_eq!(world.provider.fetches(), 100);
    let metrics = world.tenants.cache_snapshot().metrics;
    assert_eq!(metrics.hits + metrics.misses, 1_000_000);
    assert!(metrics.hits as f64 / 1_000_000.0 > 0.99);
}

/// What a fetch that began before the refresh reads is the old value, so the refresh waits for
/// another one.
#[tokio::test(start_paused = true)]
async fn a_refresh_stores_no_value_read_before_it() {
    let world = Arc::new(World::new(Scripted::with(["t1".to_owned()]), settings()).await);
    world.tenants.acquire(&id("t1")).await.unwrap();
    let kept = async || {
        world.tenants.health(HealthQuery::all(false)).await.tenants[0]
            .secret
            .clone()
            .unwrap()
    };
    let before = kept().await;
    *world.provider.reads_late.lock().unwrap() = Duration::from_secs(1);
    // The housekeeping's fetch has read the old value and is on its way back.
    sleep(Duration::from_millis(60_200)).await;
    world.provider.put("t1", json!({"type": "sqlite", "path": "other.db"}));
    let after = world.tenants.refresh(&id("t1")).await.unwrap().secret.unwrap();
    assert_ne!(before.version, after.version);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(kept().await.version, after.version);
}

#[tokio::test(start_paused = true)]
async fn a_clear_is_not_undone_by_a_fetch_that_ran() {
    let world = Arc::new(World::new(Scripted::with(["t1".to_owned()]), settings()).await);
    world.tenants.acquire(&id("t1")).await.unwrap();
    *world.provider.reads_late.lock().unwrap() = Duration::from_secs(1);
    sleep(Duration::from_millis(60_200)).await;
    let fetches = world.provider.fetches();
    assert_eq!(world.tenants.clear_secrets(Some(&id("t1"))), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(world.tenants.cache_snapshot().metrics.entries, 0);
    world.tenants.acquire(&id("t1")).await.unwrap();
    assert_eq!(world.provider.fetches(), fetches + 1);
}

/// Each new tenant is used for the first time by two threads at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_first_requests_at_once_find_one_tenant() {
    const TENANTS: usize = 5_000;
    let names: Vec<String> = (0..TENANTS).map(|n| format!("t{n}")).collect();
    let mut settings = settings();
    settings.secrets.max_entries = 2 * TENANTS;
    settings.pools.max = 2 * TENANTS;
    let world = World::new(Scripted::with(names.clone()), settings).await;
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let names = Arc::new(names);
    let threads = (0..2).map(|_| {
        let (tenants, barrier, names) = (world.tenants.clone(), barrier.clone(), names.clone());
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            for name in &*names {
                barrier.wait();
                runtime.block_on(tenants.acquire(&id(name))).unwrap();
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| thread.join().unwrap()))
        .await
        .unwrap();
    assert_eq!(world.provider.fetches(), TENANTS);
}

#[tokio::test(start_paused = true)]
async fn a_suspension_survives_the_eviction_of_other_tenants() {
    let mut settings = settings();
    settings.secrets.max_entries = 10;
    settings.pools.max = 2;
    let names: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
    let world = World::new(Scripted::with(names.clone()), settings).await;
    world.tenants.suspend(&id("t0")).await.unwrap();
    for name in &names[1..] {
        world.tenants.acquire(&id(name)).await.unwrap();
        advance(Duration::from_millis(1)).await;
    }
    assert!(matches!(
        world.tenants.acquire(&id("t0")).await,
        Err(AcquireError::Suspended)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_secret_sets_its_tenant_s_own_limits() {
    let world = World::new(Scripted::with(["t2".to_owned()]), settings()).await;
    let own = json!({"concurrent_requests": 1, "requests_per_second": 3});
    world
        .provider
        .put("t1", json!({"type": "sqlite", "path": "t1.db", "limits": own}));
    let first = world.tenants.acquire(&id("t1")).await.unwrap();
    assert!(matches!(
        world.tenants.acquire(&id("t1")).await,
        Err(AcquireError::Busy { .. })
    ));
    drop(first);
    let mut limited = 0;
    for _ in 0..10 {
        limited += usize::from(matches!(
            world.tenants.acquire(&id("t1")).await,
            Err(AcquireError::RateLimited { .. })
        ));
        world.tenants.acquire(&id("t2")).await.unwrap();
    }
    assert!(limited >= 7, "{limited}");
}
