//! A client goes away in the middle of a slow statement, after the password of its session changed.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tenantry_test_support::CANARY;

use crate::{
    PROGRAM,
    database::Database,
    world::{Secrets, Settings, World, until},
};

/// Less than the driver's time-out of statements, more than `SOON`.
const SLOW_SECONDS: u64 = 25;
/// When the tenant's one connection must be free again.
const SOON: Duration = Duration::from_secs(10);

async fn its_connection_is_free_soon(database: Database<'_>) -> Result<()> {
    let secrets = Secrets::start().await?;
    let mut tenant = database.create_tenant("abandoned").await?;
    secrets.put("t0", &database.secret(&tenant)).await?;
    let settings = Settings {
        pools: json!({
            "max_connections": 1, "acquire_timeout": "60s", "connect_timeout": "60s",
            "defaults": {"max_connections": 1},
        }),
        request_timeout: "120s",
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    let answer = world.client.get("t0", "/api/v1/tenant/info").await;
    assert!(answer.is_success(), "{answer:?}");
    database.slow_down_insertions(&tenant, SLOW_SECONDS).await?;

    let client = world.client.clone();
    let slow = tokio::spawn(async move {
        let user = json!({"name": "slow", "email": "slow@x.example"});
        client.post("t0", "/api/v1/tenant/users", &user).await
    });
    until("the slow statement runs", Duration::from_secs(20), || async {
        Ok(database.slow_insertions(&tenant).await? == 1)
    })
    .await?;
    let password = format!("{CANARY}-abandoned");
    database.set_password(&tenant, &password).await?;
    tenant.password = password;
    secrets.put("t0", &database.secret(&tenant)).await?;
    assert!(world.client.refresh("t0").await.is_success());
    slow.abort();
    let began = Instant::now();
    let next = world.client.get("t0", "/api/v1/tenant/users?limit=5").await;
    assert!(next.is_success(), "{next:?}");
    assert!(
        began.elapsed() < SOON,
        "the next request had to wait {:?}",
        began.elapsed()
    );
    let sessions = database.sessions(&[&tenant]).await?;
    assert!(sessions <= 1, "{sessions} sessions, of which one is still abandoned");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_session_is_ended_soon_on_postgresql() -> Result<()> {
    its_connection_is_free_soon(Database::shared_postgresql().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_session_is_ended_soon_on_mariadb() -> Result<()> {
    its_connection_is_free_soon(Database::shared_mariadb().await).await
}
