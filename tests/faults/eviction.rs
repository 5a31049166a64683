//! Many more tenants than pools.

use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt as _;
use serde_json::json;
use tenantry_test_support::PostgresServer;

use crate::{
    PROGRAM,
    load::Route,
    world::{Secrets, Settings, World, names, sessions, until},
};

const TENANTS: usize = 1_000;
const POOLS: usize = 100;
const AT_ONCE: usize = 8;

/// One request of each tenant; all succeed. `first` is the number of the first one's route.
async fn one_of_each(world: &World, tenants: &[String], first: usize) {
    futures_util::stream::iter(tenants.iter().zip(first..))
        .for_each_concurrent(AT_ONCE, |(tenant, number)| async move {
            let answer = world.client.get(tenant, Route::of(number).list()).await;
            assert!(answer.is_success(), "`{tenant}`: {answer:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tenants_share_a_hundred_pools() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let mut databases = Vec::new();
    for n in 0..4 {
        databases.push(postgres.create_tenant(&format!("evicted{n}")).await?);
    }
    let users: Vec<&str> = databases.iter().map(|database| database.user.as_str()).collect();
    let tenants = names(TENANTS);
    for (n, name) in tenants.iter().enumerate() {
        secrets
            .put(name, &postgres.secret(&databases[n % databases.len()]))
            .await?;
    }
    let settings = Settings {
        pools: json!({"max": POOLS, "max_connections": 150, "connect_timeout": "30s", "acquire_timeout": "30s"}),
        request_timeout: "60s",
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    // One tenant is in use all the while: whatever goes, it is served.
    let steady = world.load(2, &["t0".to_owned()]);

    one_of_each(&world, &tenants, 0).await;
    let after_one = world.resident_kib().await?;
    one_of_each(&world, &tenants, 1).await;
    let after_two = world.resident_kib().await?;
    let steady = steady.stop().await?;
    assert!(steady.failures.is_empty(), "{:?}", steady.failures);

    assert_eq!(world.counter("/pools/open").await?, POOLS as u64);
    assert!(world.counter("/pools/evictions").await? >= (2 * TENANTS - POOLS - 1) as u64);
    assert!(
        after_two < after_one + 32 * 1024,
        "memory went from {after_one} to {after_two} KiB"
    );
    until(
        "PostgreSQL has as many sessions as are counted",
        Duration::from_secs(20),
        || async {
            let counted = world.counter("/pools/connections").await?;
            Ok(counted <= 150 && sessions(postgres, &users).await? == counted)
        },
    )
    .await?;
    world.finish().await?;
    assert_eq!(sessions(postgres, &users).await?, 0);
    Ok(())
}
