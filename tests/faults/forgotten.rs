//! A NAT, a firewall or a load balancer loses the idle connections of a pool.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;
use serde_json::json;

use crate::{
    PROGRAM,
    database::Database,
    proxy::{Loss, Proxy},
    world::{Secrets, Settings, World, until},
};

const IDLE: usize = 9;
/// Long enough that all connections are open at once, also on a slow machine.
const SLOW_SECONDS: u64 = 4;

async fn one_request_waits_and_the_next_does_not(database: Database<'_>) -> Result<()> {
    let secrets = Secrets::start().await?;
    let tenant = database.create_tenant("forgotten").await?;
    let proxy = Proxy::start(database.port(), &[]).await?;
    let mut secret = database.secret(&tenant);
    secret["port"] = json!(proxy.port());
    secret["pool"] = json!({"max": {"connections": IDLE}, "idle": {"connections": IDLE}});
    secrets.put("t0", &secret).await?;
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), Settings::default()).await?;
    assert!(world.client.get("t0", "/api/v1/tenant/info").await.is_success());
    database.slow_down_insertions(&tenant, SLOW_SECONDS).await?;
    for loss in [Loss::Forgotten, Loss::Reset, Loss::HalfClosed] {
        let users: Vec<_> = (0..IDLE)
            .map(|n| json!({"name": "slow", "email": format!("{loss:?}{n}@x.example")}))
            .collect();
        let writes = users
            .iter()
            .map(|user| world.client.post("t0", "/api/v1/tenant/users", user));
        for answer in join_all(writes).await {
            assert!(answer.is_success(), "{loss:?}: {answer:?}");
        }
        let open = world.counter("/pools/connections").await?;
        assert_eq!(open, IDLE as u64, "{loss:?}: connections are open");
        // Idle for so long that each is checked before it is used.
        tokio::time::sleep(Duration::from_millis(1_500)).await;

        proxy.lose_open_connections(loss);
        for (request, longest) in [("first", 6_000), ("next", 1_500)] {
            let answer = world.client.get("t0", "/api/v1/tenant/users?limit=5").await;
            assert!(answer.is_success(), "{loss:?}, {request}: {answer:?}");
            assert!(
                answer.took < Duration::from_millis(longest),
                "{loss:?}: the {request} request took {:?}",
                answer.took
            );
        }
        until("no lost connection counts", Duration::from_secs(30), || async {
            Ok(world.counter("/pools/connections").await? <= 2)
        })
        .await?;
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_notices_nine_lost_connections_on_postgresql() -> Result<()> {
    one_request_waits_and_the_next_does_not(Database::shared_postgresql().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_notices_nine_lost_connections_on_mariadb() -> Result<()> {
    one_request_waits_and_the_next_does_not(Database::shared_mariadb().await).await
}
