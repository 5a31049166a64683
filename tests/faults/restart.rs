//! PostgreSQL restarts under load.

use std::time::{Duration, Instant};

use anyhow::Result;
use tenantry_test_support::PostgresServer;
use tokio::time::sleep;

use crate::{
    PROGRAM,
    world::{Secrets, Settings, World},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_returns_by_itself_when_postgresql_does() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::start().await?, Secrets::start().await?);
    let tenant = postgres.create_tenant("restart").await?;
    secrets.put("t0", &postgres.secret(&tenant)).await?;
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), Settings::default()).await?;
    let load = world.load(30, &["t0".to_owned()]);
    load.go_on_for(300, Duration::from_secs(60)).await?;

    postgres.stop().await?;
    sleep(Duration::from_secs(2)).await;
    postgres.start_again().await?;
    let back = Instant::now();
    sleep(Duration::from_secs(10)).await;
    let seen = load.answered();
    // More than there are connections, so that each was used again.
    load.go_on_for(400, Duration::from_secs(60)).await?;
    let tally = load.stop().await?;

    assert!(seen > 0 && tally.failed() > 0, "it was never away");
    assert!(
        tally
            .failures
            .keys()
            .all(|(status, code)| *status == 503 && code == "database_unavailable"),
        "{:?}",
        tally.failures
    );
    if let Some(last) = tally.last_failure() {
        let after = last.saturating_duration_since(back);
        assert!(
            after < Duration::from_secs(10),
            "a request failed {after:?} after the return"
        );
    }
    world.finish().await
}
