//! How many of a tenant's requests run at once, and that each of them is counted, whatever it was given.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tenantry_core::{
    HumanDuration,
    engine::{AcquireError, EngineSettings, Tenants},
};
use tokio::{runtime::Handle, time::advance};

use crate::scripted::{Scripted, World, id};

async fn world(limit: usize) -> World {
    let mut settings = EngineSettings::default();
    settings.limits.concurrent_requests = limit;
    settings.secrets.ttl = HumanDuration::from_secs(60);
    settings.secrets.jitter = 0.0;
    World::new(Scripted::with(["t1".to_owned()]), settings).await
}

async fn is_busy(tenants: &Tenants) -> bool {
    matches!(tenants.acquire(&id("t1")).await, Err(AcquireError::Busy { .. }))
}

#[tokio::test(start_paused = true)]
async fn requests_with_an_earlier_secret_or_pool_count_too() {
    let world = world(3).await;
    let tenants = &world.tenants;
    let first = tenants.acquire(&id("t1")).await.unwrap();
    tenants.clear_secrets(None);
    let second = tenants.acquire(&id("t1")).await.unwrap();
    tenants.close_pool(&id("t1")).await.unwrap();
    let third = tenants.acquire(&id("t1")).await.unwrap();
    assert!(is_busy(tenants).await);
    drop(first);
    let fourth = tenants.acquire(&id("t1")).await.unwrap();
    assert!(is_busy(tenants).await);
    drop((second, third));
    let fifth = tenants.acquire(&id("t1")).await.unwrap();
    let sixth = tenants.acquire(&id("t1")).await.unwrap();
    assert!(is_busy(tenants).await);
    drop((fourth, fifth, sixth));
}

#[tokio::test(start_paused = true)]
async fn requests_with_a_secret_past_its_time_count_too() {
    let world = world(2).await;
    let tenants = &world.tenants;
    let fresh = tenants.acquire(&id("t1")).await.unwrap();
    world.provider.set_down(true);
    advance(std::time::Duration::from_secs(90)).await;
    let stale = tenants.acquire(&id("t1")).await.unwrap();
    assert!(is_busy(tenants).await);
    drop(stale);
    let stale = tenants.acquire(&id("t1")).await.unwrap();
    drop(fresh);
    let other = tenants.acquire(&id("t1")).await.unwrap();
    assert!(is_busy(tenants).await);
    drop((stale, other));
}

#[tokio::test]
async fn a_transaction_is_no_request_of_its_own() {
    use sea_orm::TransactionTrait as _;
    let world = world(2).await;
    let first = world.tenants.acquire(&id("t1")).await.unwrap();
    let transaction = first.begin().await.unwrap();
    let second = world.tenants.acquire(&id("t1")).await.unwrap();
    assert!(is_busy(&world.tenants).await);
    transaction.commit().await.unwrap();
    drop((first, second));
}

/// Of many that come at the same moment as many run as may: no more, and no fewer, though each of them sees the others.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_as_many_run_as_may() {
    const LIMIT: usize = 3;
    const AT_ONCE: usize = 6;
    const ROUNDS: usize = 5_000;
    let world = world(LIMIT).await;
    drop(world.tenants.acquire(&id("t1")).await.unwrap());
    let barrier = Arc::new(Barrier::new(AT_ONCE));
    let admitted: Arc<Vec<AtomicUsize>> = Arc::new((0..ROUNDS).map(|_| AtomicUsize::new(0)).collect());
    let threads = (0..AT_ONCE).map(|thread| {
        let (tenants, runtime) = (world.tenants.clone(), Handle::current());
        let (barrier, admitted) = (barrier.clone(), admitted.clone());
        thread::spawn(move || {
            for round in 0..ROUNDS {
                barrier.wait();
                // Every other time what is kept for the next request changes while they come.
                if thread == 0 && round % 2 == 0 {
                    tenants.clear_secrets(None);
                }
                let acquired = runtime.block_on(tenants.acquire(&id("t1")));
                if acquired.is_ok() {
                    admitted[round].fetch_add(1, Ordering::Relaxed);
                }
                barrier.wait();
                drop(acquired);
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| thread.join().unwrap()))
        .await
        .unwrap();
    for (round, admitted) in admitted.iter().enumerate() {
        assert_eq!(admitted.load(Ordering::Relaxed), LIMIT, "{round}");
    }
}
