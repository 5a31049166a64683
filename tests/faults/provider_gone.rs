//! AWS is down, hangs, and comes back.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tenantry_test_support::{CANARY, PostgresServer};
use tokio::time::sleep;

use crate::{
    PROGRAM,
    proxy::Proxy,
    world::{Secrets, Settings, World, names, until},
};

/// The engine's deadline for one fetch is 5 s; the rest is for a busy machine.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_are_served_while_aws_is_gone() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let tenant = postgres.create_tenant("gone").await?;
    let known = names(4);
    for name in &known {
        secrets.put(name, &postgres.secret(&tenant)).await?;
    }
    let settings = Settings {
        secrets: json!({"ttl": "1s", "stale_if_error": "1h"}),
        ..Settings::default()
    };
    let door = Proxy::start(secrets.moto.port(), &[]).await?;
    let endpoint = format!("http://127.0.0.1:{}", door.port());
    let world = World::start(PROGRAM, &endpoint, settings).await?;
    let load = world.load(8, &known);
    load.go_on_for(200, Duration::from_secs(60)).await?;

    // It hangs first, then it is gone.
    secrets.moto.signal("STOP").await?;
    sleep(Duration::from_secs(3)).await;
    let hung = world.client.get("never-seen", "/api/v1/tenant/info").await;
    assert_eq!((hung.status, hung.code.as_str()), (503, "provider_unavailable"));
    assert!(hung.took < FETCH_DEADLINE && hung.retry_after.is_some(), "{hung:?}");
    secrets.kill().await?;
    sleep(Duration::from_secs(4)).await;
    let gone = world.client.get("never-seen-either", "/api/v1/tenant/info").await;
    assert_eq!((gone.status, gone.code.as_str()), (503, "provider_unavailable"));
    assert!(gone.took < FETCH_DEADLINE && gone.retry_after.is_some(), "{gone:?}");
    load.go_on_for(200, Duration::from_secs(60)).await?;
    let stale = world.counter("/metrics/stale_served").await?;
    assert!(stale > 100, "{stale} were served past their time");

    // Another password, so that it shows which version is used.
    let sql = format!("ALTER ROLE \"{}\" PASSWORD '{CANARY}-back'", tenant.user);
    postgres.psql("postgres", &sql).await?;
    let mut secret = postgres.secret(&tenant);
    secret["password"] = json!(format!("{CANARY}-back"));
    // It comes back empty, as AWS never does, so requests are turned away until its secrets are
    // there again.
    door.turn_away(true);
    secrets.moto.start_again().await?;
    for name in &known {
        secrets.put(name, &secret).await?;
    }
    door.turn_away(false);
    // Away for long enough to have come to a back-off of 16 s on a slow machine; and one fetch.
    until(
        "every new secret is used",
        Duration::from_secs(16) + FETCH_DEADLINE,
        || async { Ok(world.counter("/pools/rotations").await? == known.len() as u64) },
    )
    .await?;
    load.go_on_for(200, Duration::from_secs(60)).await?;

    let tally = load.stop().await?;
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    let health = world.client.get_json("/health/tenants").await?;
    let all_well = |tenants: &Vec<Value>| {
        tenants.len() == known.len() && tenants.iter().all(|tenant| tenant["status"] == "healthy")
    };
    assert!(health["tenants"].as_array().is_some_and(all_well), "{health}");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_what_is_allowed_a_stale_secret_is_not_served() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let tenant = postgres.create_tenant("stale").await?;
    secrets.put("t0", &postgres.secret(&tenant)).await?;
    let settings = Settings {
        secrets: json!({"ttl": "1s", "stale_if_error": "2s"}),
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    assert!(world.client.get("t0", "/api/v1/tenant/info").await.is_success());
    secrets.kill().await?;
    until("it is no longer served", Duration::from_secs(20), || async {
        let answer = world.client.get("t0", "/api/v1/tenant/info").await;
        assert!(
            answer.is_success() || answer.code == "provider_unavailable",
            "{answer:?}"
        );
        Ok(!answer.is_success())
    })
    .await?;
    world.finish().await
}
