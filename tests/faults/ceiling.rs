//! More connections are wanted than there may be.

use anyhow::Result;
use serde_json::json;
use tenantry_test_support::PostgresServer;

use crate::{
    PROGRAM,
    world::{Secrets, Settings, World, most_sessions, names},
};

const TENANTS: usize = 60;
const WANTED: usize = 20;
const CEILING: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_never_counts_more_sessions_than_allowed_and_every_request_is_answered() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let mut databases = Vec::new();
    for n in 0..6 {
        databases.push(postgres.create_tenant(&format!("ceiling{n}")).await?);
    }
    let tenants = names(TENANTS);
    for (n, name) in tenants.iter().enumerate() {
        secrets
            .put(name, &postgres.secret(&databases[n % databases.len()]))
            .await?;
    }
    let settings = Settings {
        pools: json!({
            "max_connections": CEILING,
            // For a slow machine: what is put to the test is how many, not how fast.
            "acquire_timeout": "60s",
            "connect_timeout": "60s",
            "defaults": {"max_connections": WANTED},
        }),
        request_timeout: "120s",
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    let users: Vec<&str> = databases.iter().map(|database| database.user.as_str()).collect();
    let load = world.load(TENANTS * WANTED, &tenants);
    let (most, looks) = most_sessions(postgres, &users, 12).await?;
    let tally = load.stop().await?;

    assert!(
        tally.failures.is_empty(),
        "of {} failed: {:?}",
        tally.samples.len(),
        tally.failures
    );
    assert!(
        tally.samples.len() > TENANTS * WANTED,
        "{} requests",
        tally.samples.len()
    );
    assert!(most <= CEILING, "{most} sessions at once");
    assert!(
        most >= CEILING / 2 && looks > 200,
        "{most} sessions in {looks} looks put nothing to the test"
    );
    world.finish().await
}
