//! Tenants that do not exist, asked for in great numbers.

use std::{sync::Arc, time::Duration};

use tenantry_core::engine::{AcquireError, EngineSettings};
use tokio::time::sleep;

use crate::scripted::{Scripted, World, id, sqlite};

/// The most fetches in vain before the list is read: 16, and those that were under way.
const IN_VAIN: usize = 16 + 32;

async fn flood(world: &World, from: usize, to: usize) -> (usize, usize) {
    let (mut unknown, mut unavailable) = (0, 0);
    for n in from..to {
        match world.tenants.acquire(&id(&format!("nobody{n}"))).await {
            Err(AcquireError::Unknown) => unknown += 1,
            Err(AcquireError::ProviderUnavailable { retry_after, .. }) => {
                assert!(retry_after > Duration::ZERO);
                unavailable += 1;
            }
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("nobody was found"),
        }
    }
    (unknown, unavailable)
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_different_ones_make_a_few_fetches_and_one_list() {
    let world = World::new(Scripted::with(["cold".to_owned()]), EngineSettings::default()).await;
    assert_eq!(flood(&world, 0, 10_000).await, (10_000, 0));
    assert!(world.provider.fetches() <= IN_VAIN, "{}", world.provider.fetches());
    assert_eq!(world.provider.lists(), 1);
    world.tenants.acquire(&id("cold")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn those_that_come_at_once_make_no_more() {
    let world = World::new(Scripted::with([]), EngineSettings::default()).await;
    *world.provider.delay.lock().unwrap() = Duration::from_millis(20);
    let world = Arc::new(world);
    let requests = (0..10_000).map(|n| {
        let world = world.clone();
        tokio::spawn(async move { flood(&world, n, n + 1).await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap(), (1, 0));
    }
    assert!(world.provider.fetches() <= IN_VAIN, "{}", world.provider.fetches());
    assert_eq!(world.provider.lists(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_created_during_a_flood_is_found_in_time() {
    let world = World::new(Scripted::with([]), EngineSettings::default()).await;
    flood(&world, 0, 1_000).await;
    world.provider.put("new", sqlite("new"));
    assert!(matches!(
        world.tenants.acquire(&id("new")).await,
        Err(AcquireError::Unknown)
    ));
    for second in 0..30 {
        flood(&world, 1_000 * (second + 1), 1_000 * (second + 1) + 50).await;
        sleep(Duration::from_secs(1)).await;
    }
    world.tenants.acquire(&id("new")).await.unwrap();
    let (fetches, lists) = (world.provider.fetches(), world.provider.lists());
    assert!(
        fetches <= 2 * IN_VAIN && lists <= 2,
        "{fetches} fetches and {lists} lists"
    );
}

#[tokio::test(start_paused = true)]
async fn an_operator_s_refresh_finds_a_new_tenant_at_once() {
    let world = World::new(Scripted::with([]), EngineSettings::default()).await;
    flood(&world, 0, 1_000).await;
    world.provider.put("new", sqlite("new"));
    world.tenants.refresh(&id("new")).await.unwrap();
    world.tenants.acquire(&id("new")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_list_the_look_ups_of_new_tenants_are_bounded() {
    let world = World::new(Scripted::with(["cold".to_owned()]), EngineSettings::default()).await;
    world.provider.set_list_down(true);
    let (unknown, unavailable) = flood(&world, 0, 10_000).await;
    assert_eq!(unknown + unavailable, 10_000);
    assert_eq!(
        unknown,
        world.provider.fetches(),
        "who is called unknown was looked for"
    );
    assert!(
        world.provider.fetches() <= IN_VAIN + 100,
        "{}",
        world.provider.fetches()
    );
    assert!(unavailable > 9_000, "{unavailable}");
    // The flood has an end, and so has the doubt.
    sleep(Duration::from_secs(5)).await;
    world.tenants.acquire(&id("cold")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_never_told_as_unknown() {
    let world = World::new(Scripted::with([]), EngineSettings::default()).await;
    world.provider.set_down(true);
    world.provider.set_list_down(true);
    assert_eq!(flood(&world, 0, 1_000).await, (0, 1_000));
}

#[tokio::test(start_paused = true)]
async fn many_tenants_that_exist_are_opened_cold_without_a_list() {
    let names: Vec<String> = (0..500).map(|n| format!("t{n}")).collect();
    let world = World::new(Scripted::with(names.clone()), EngineSettings::default()).await;
    for name in &names {
        world.tenants.acquire(&id(name)).await.unwrap();
    }
    assert_eq!((world.provider.fetches(), world.provider.lists()), (500, 0));
}

/// An attacker without the right to list makes up names all the time; tenants that exist are opened beside it.
#[tokio::test(start_paused = true)]
async fn made_up_names_do_not_lock_out_cold_tenants() {
    made_up_names_beside_cold_tenants(|provider| provider.set_list_down(true)).await;
    // AWS takes so long for 100,000 names.
    made_up_names_beside_cold_tenants(|provider| *provider.list_delay.lock().unwrap() = Duration::from_secs(100)).await;
}

async fn made_up_names_beside_cold_tenants(list: fn(&Scripted)) {
    let cold: Vec<String> = (0..16).map(|n| format!("cold{n}")).collect();
    let world = World::new(Scripted::with(cold.clone()), EngineSettings::default()).await;
    *world.provider.delay.lock().unwrap() = Duration::from_millis(20);
    list(&world.provider);
    let world = Arc::new(world);
    let attacker = tokio::spawn({
        let world = world.clone();
        async move {
            for n in 0.. {
                let world = world.clone();
                tokio::spawn(async move { world.tenants.acquire(&id(&format!("made-up{n}"))).await.map(drop) });
                sleep(Duration::from_millis(30)).await;
            }
        }
    });
    sleep(Duration::from_secs(2)).await;
    for name in &cold {
        world.tenants.acquire(&id(name)).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    }
    attacker.abort();
}

/// A slow provider makes requests wait for their turn; that is no failure of it, so nothing is left alone afterwards.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_turn_at_the_provider_is_no_failure_of_it() {
    let names: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let world = World::new(Scripted::with(names.clone()), EngineSettings::default()).await;
    *world.provider.delay.lock().unwrap() = Duration::from_secs(4);
    let world = Arc::new(world);
    let requests = names.iter().map(|name| {
        let (world, name) = (world.clone(), name.clone());
        tokio::spawn(async move { world.tenants.acquire(&id(&name)).await.is_ok() })
    });
    let mut refused = 0;
    for request in requests.collect::<Vec<_>>() {
        refused += usize::from(!request.await.unwrap());
    }
    assert!(refused > 0, "the provider is too slow for all of them");
    *world.provider.delay.lock().unwrap() = Duration::ZERO;
    sleep(Duration::from_secs(4)).await;
    for name in &names {
        world.tenants.acquire(&id(name)).await.unwrap();
    }
    assert_eq!(world.tenants.cache_snapshot().metrics.refresh_failures, 0);
}

/// A fetch that runs reads "not found" before the tenant is made; the operator's refresh is not answered by it.
#[tokio::test(start_paused = true)]
async fn a_refresh_is_not_answered_by_an_older_not_found() {
    let world = Arc::new(World::new(Scripted::with([]), EngineSettings::default()).await);
    *world.provider.reads_late.lock().unwrap() = Duration::from_secs(1);
    let early = tokio::spawn({
        let world = world.clone();
        async move { world.tenants.acquire(&id("new")).await.is_ok() }
    });
    sleep(Duration::from_millis(100)).await;
    world.provider.put("new", sqlite("new"));
    world.tenants.refresh(&id("new")).await.unwrap();
    assert!(early.await.unwrap(), "it waited for the newer value, too");
    world.tenants.acquire(&id("new")).await.unwrap();
}
