//! Databases of some tenants hang or refuse, others run.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tenantry_test_support::{PostgresServer, TenantDb, free_port};
use tokio::time::sleep;

use crate::{
    PROGRAM,
    proxy::Proxy,
    world::{Secrets, Settings, World, names},
};

async fn put_behind(
    secrets: &Secrets,
    name: &str,
    postgres: &PostgresServer,
    tenant: &TenantDb,
    port: u16,
) -> Result<()> {
    let mut secret = postgres.secret(tenant);
    secret["port"] = json!(port);
    secrets.put(name, &secret).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_tenant_neither_fails_nor_waits_for_a_sick_one() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let tenant = postgres.create_tenant("healthy").await?;
    let healthy = names(10);
    for name in &healthy {
        secrets.put(name, &postgres.secret(&tenant)).await?;
    }
    let (silent, stalling) = (
        Proxy::start(postgres.port(), &[]).await?,
        Proxy::start(postgres.port(), &[]).await?,
    );
    silent.fall_silent();
    put_behind(&secrets, "silent", postgres, &tenant, silent.port()).await?;
    put_behind(&secrets, "stalling", postgres, &tenant, stalling.port()).await?;
    put_behind(&secrets, "refusing", postgres, &tenant, free_port()?).await?;
    let sick = ["silent", "stalling", "refusing"].map(str::to_owned);

    let settings = Settings {
        pools: json!({"connect_timeout": "8s", "acquire_timeout": "8s"}),
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    let stalls = world.load(10, &sick[1..2]);
    stalls.go_on_for(20, Duration::from_secs(60)).await?;
    assert!(stalls.stop().await?.failures.is_empty());
    let well = world.load(10, &healthy);
    well.go_on_for(100, Duration::from_secs(60)).await?;

    stalling.fall_silent();
    let sick_loads = sick.each_ref().map(|name| world.load(20, std::slice::from_ref(name)));
    sleep(Duration::from_secs(12)).await;
    well.go_on_for(100, Duration::from_secs(60)).await?;
    let well = well.stop().await?;
    assert!(
        well.failures.is_empty(),
        "of {} failed: {:?}",
        well.samples.len(),
        well.failures
    );
    // A request for the sick tenant waits 8 s for a connection.
    assert!(
        well.slowest() < Duration::from_secs(7),
        "a healthy tenant waited {:?}",
        well.slowest()
    );

    assert!(!silent.spoke() && stalling.spoke());
    for (name, load) in sick.iter().zip(sick_loads) {
        let tally = load.stop().await?;
        assert_eq!(tally.failed(), tally.samples.len() as u64, "`{name}` cannot answer");
        assert!(
            tally.failures.keys().all(|(status, _)| [503, 504].contains(status)),
            "`{name}`: {:?}",
            tally.failures
        );
        // `request_timeout` is 15 s.
        assert!(
            tally.slowest() < Duration::from_secs(19),
            "`{name}` took {:?}",
            tally.slowest()
        );
    }
    world.finish().await
}
