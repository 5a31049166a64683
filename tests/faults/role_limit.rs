//! The database lets a tenant's user have fewer sessions than the tenant's pool may open.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::{
    PROGRAM,
    database::Database,
    world::{Secrets, Settings, World},
};

const LIMIT: usize = 3;
const WANTED: usize = 20;
const CLIENTS: usize = 12;

async fn no_request_fails(database: Database<'_>) -> Result<()> {
    let secrets = Secrets::start().await?;
    let tenant = database.create_tenant("limited").await?;
    database.limit_sessions(&tenant, LIMIT).await?;
    let mut secret = database.secret(&tenant);
    secret["pool"] = json!({"max": {"connections": WANTED}});
    secrets.put("t0", &secret).await?;
    let settings = Settings {
        // For a slow machine.
        pools: json!({"connect_timeout": "30s", "acquire_timeout": "30s"}),
        request_timeout: "60s",
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    let load = world.writing_load(CLIENTS, &["t0".to_owned()]);
    load.go_on_for(2_000, Duration::from_secs(120)).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let tally = load.stop().await?;
    assert!(
        tally.failures.is_empty(),
        "of {} requests failed: {:?}",
        tally.samples.len(),
        tally.failures
    );
    assert!(database.sessions(&[&tenant]).await? <= LIMIT as u64);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_at_a_postgresql_role_s_connection_limit() -> Result<()> {
    no_request_fails(Database::shared_postgresql().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_at_the_user_connection_limit_of_mariadb() -> Result<()> {
    no_request_fails(Database::shared_mariadb().await).await
}
