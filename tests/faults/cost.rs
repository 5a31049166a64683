//! How often AWS is asked, whatever clients ask for.

use std::time::Duration;

use anyhow::Result;
use futures_util::StreamExt as _;
use serde_json::json;
use tenantry_test_support::PostgresServer;

use crate::{
    PROGRAM,
    proxy::Proxy,
    world::{Secrets, Settings, World, names},
};

const FETCH: &str = "secretsmanager.GetSecretValue";
const LIST: &str = "secretsmanager.ListSecrets";
const REQUESTS: usize = 10_000;
const AT_ONCE: usize = 32;

/// Sends a request of each of these tenants; all are answered 404 `tenant_unknown`.
async fn all_are_unknown(world: &World, tenants: impl Iterator<Item = String>) {
    futures_util::stream::iter(tenants)
        .for_each_concurrent(AT_ONCE, |tenant| async move {
            let answer = world.client.get(&tenant, "/api/v1/tenant/info").await;
            assert_eq!(
                (answer.status, answer.code.as_str()),
                (404, "tenant_unknown"),
                "{answer:?}"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_for_unknown_tenants_make_a_few_fetches() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let tenant = postgres.create_tenant("cost").await?;
    for name in ["t0", "seen-late"] {
        secrets.put(name, &postgres.secret(&tenant)).await?;
    }
    let proxy = Proxy::start(secrets.moto.port(), &[FETCH, LIST]).await?;
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let settings = Settings {
        // Longer than this test, so that what is counted is one time to live's.
        secrets: serde_json::json!({"not_found_ttl": "5m"}),
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &endpoint, settings).await?;

    all_are_unknown(&world, (0..REQUESTS).map(|_| "nobody".to_owned())).await;
    assert_eq!(proxy.count(FETCH), 1, "one and the same unknown tenant");
    // Those that came while it was being fetched waited for that.
    assert!(world.counter("/metrics/not_found_hits").await? >= (REQUESTS - AT_ONCE) as u64);

    all_are_unknown(&world, (0..REQUESTS).map(|n| format!("nobody{n}"))).await;
    let (fetches, lists) = (proxy.count(FETCH), proxy.count(LIST));
    assert!(
        fetches <= 1 + 16 + AT_ONCE && lists == 1,
        "{fetches} fetches and {lists} lists"
    );

    // In the midst of it a tenant that exists is found.
    let late = world.client.get("seen-late", "/api/v1/tenant/info").await;
    assert!(late.is_success(), "{late:?}");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_fetched_once_per_ttl() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let tenant = postgres.create_tenant("hits").await?;
    let known = names(20);
    for name in &known {
        secrets.put(name, &postgres.secret(&tenant)).await?;
    }
    let proxy = Proxy::start(secrets.moto.port(), &[FETCH, LIST]).await?;
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    // What is counted is fetches, and on a machine that is busy a connection may take its time.
    let settings = Settings {
        pools: json!({"connect_timeout": "30s", "acquire_timeout": "30s"}),
        request_timeout: "60s",
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &endpoint, settings).await?;
    let load = world.load(32, &known);
    load.go_on_for(4_000, Duration::from_secs(120)).await?;
    let tally = load.stop().await?;
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert_eq!((proxy.count(FETCH), proxy.count(LIST)), (known.len(), 0));
    let cache = world.cache().await?;
    let rate = cache["metrics"]["hit_rate"].as_f64();
    assert!(rate.is_some_and(|rate| rate > 0.99), "{cache}");
    world.finish().await
}
