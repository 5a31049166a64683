//! Many tenants whose users come from one role of OpenBao: what that costs OpenBao, and when. An
//! ordinary run takes a few dozen tenants and 20 seconds; `./scripts/faults leases` takes a thousand
//! (`TENANTRY_LEASES=large`).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tenantry_test_support::{OpenBaoServer, PostgresServer};
use tokio::time::sleep;

use crate::{
    is_release, program,
    proxy::Proxy,
    world::{Settings, World, until},
};

/// Requests, each by what only it holds. The last one is in each request.
const STORED: &str = "/v1/secret/data/fleet/";
const USER: &str = "/v1/database/creds/leases";
const RENEWAL: &str = "/v1/sys/leases/renew";
const RELEASE: &str = "/v1/sys/leases/revoke";
const REQUEST: &str = " HTTP/1.1\r\n";

struct Size {
    tenants: usize,
    lease: Duration,
}

fn size() -> Size {
    match std::env::var("TENANTRY_LEASES").as_deref() {
        Ok("large") => Size {
            tenants: 1_000,
            lease: Duration::from_secs(600),
        },
        Ok("middle") => Size {
            tenants: 300,
            lease: Duration::from_secs(60),
        },
        _ => Size {
            tenants: 40,
            lease: Duration::from_secs(20),
        },
    }
}

/// An OpenBao with a KV 2 secret for each tenant, and one role for all of them. Every tenth tenant is on
/// PostgreSQL, where OpenBao makes the users; the others are SQLite files.
async fn fill(bao: &OpenBaoServer, postgres: &PostgresServer, size: &Size) -> Result<Value> {
    let database = postgres.create_tenant("leases").await?;
    bao.add_postgres("postgres", postgres).await?;
    let lease = format!("{}s", size.lease.as_secs());
    bao.add_role("leases", "postgres", &database.user, &lease, "24h")
        .await?;
    let policy = r#"
        path "secret/data/fleet/*" { capabilities = ["read"] }
        path "database/creds/leases" { capabilities = ["read"] }
        path "sys/leases/*" { capabilities = ["update"] }
    "#;
    bao.add_policy("leases", policy).await?;
    bao.post("sys/auth/approle", &json!({"type": "approle"})).await?;
    let role = "auth/approle/role/leases";
    bao.post(role, &json!({"token_policies": ["leases"], "token_ttl": "24h"}))
        .await?;
    let secrets = (0..size.tenants).map(|n| {
        let secret = match n % 10 {
            0 => json!({
                "type": "postgresql", "host": postgres.host(), "port": postgres.port(), "database": database.database,
            }),
            _ => json!({"type": "sqlite", "path": format!("t{n}.db")}),
        };
        async move { bao.put_secret(&format!("fleet/t{n}"), &secret).await }
    });
    let put = futures_util::stream::iter(secrets).buffer_unordered(8);
    put.try_collect::<()>().await?;
    let id = bao.call("GET", &format!("{role}/role-id"), &Value::Null).await?;
    let secret = bao.post(&format!("{role}/secret-id"), &json!({})).await?;
    Ok(json!({"method": "approle", "role_id": id["data"]["role_id"], "secret_id": secret["data"]["secret_id"]}))
}

/// How many of the role's users PostgreSQL has.
async fn users(postgres: &PostgresServer) -> Result<usize> {
    let sql = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-approle-leases-%'";
    postgres
        .psql("postgres", sql)
        .await?
        .trim()
        .parse()
        .context("no number")
}

/// How many there are in each second until there are `wanted` of them.
async fn each_second(door: &Proxy, word: &'static str, wanted: usize, limit: Duration) -> Result<Vec<usize>> {
    let (began, mut seconds, mut before) = (Instant::now(), Vec::new(), door.count(word));
    while before < wanted {
        assert!(began.elapsed() < limit, "{before} of {wanted} in {limit:?}");
        sleep(Duration::from_secs(1)).await;
        let now = door.count(word);
        seconds.push(now - before);
        before = now;
    }
    Ok(seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tenants_of_one_role_renew_once_each_and_spread_out() -> Result<()> {
    let size = size();
    let postgres = PostgresServer::shared().await;
    let bao = OpenBaoServer::start().await?;
    let auth = fill(&bao, postgres, &size).await?;
    let door = Proxy::start(bao.port(), &[STORED, USER, RENEWAL, RELEASE, REQUEST]).await?;
    let settings = Settings {
        provider: json!({
            "type": "vault", "address": format!("http://127.0.0.1:{}", door.port()), "auth": auth,
            "kv": {"path": "fleet/{tenant}"}, "database": {"role": "leases"},
        }),
        secrets: json!({"max_entries": 2_000}),
        pools: json!({
            "max": 2_000, "max_connections": 2_000, "connect_timeout": "30s", "acquire_timeout": "30s",
        }),
        request_timeout: "60s",
        level: if size.tenants > 100 { "info" } else { "trace" },
        ..Settings::default()
    };
    let world = World::start(&program(), "", settings).await?;
    let began = Instant::now();
    let served = (0..size.tenants).map(|n| {
        let client = &world.client;
        async move { client.get(&format!("t{n}"), "/api/v1/tenant/users").await }
    });
    let mut served = futures_util::stream::iter(served).buffer_unordered(32);
    while let Some(answer) = served.next().await {
        assert!(answer.is_success(), "{answer:?}");
    }
    drop(served);
    let opened = began.elapsed();
    let opening = [STORED, USER, RENEWAL, REQUEST].map(|word| door.count(word));
    // One secret and one user each, and one login. A machine that is too slow renews some of them already.
    assert_eq!(opening[..2], [size.tenants; 2], "{opening:?}");
    assert!(users(postgres).await? >= size.tenants);

    // Leases are renewed from 72 % to 80 % of their time on, each at a moment of its own.
    let seconds = each_second(&door, RENEWAL, size.tenants, 2 * size.lease).await?;
    let with_some = seconds.iter().filter(|count| **count > 0).count();
    let most = seconds.iter().max().copied().unwrap_or_default();
    let counts = [STORED, USER, RENEWAL, REQUEST].map(|word| door.count(word));
    println!(
        "{} tenants: opened in {:.1} s; then {} renewals within {with_some} different seconds, at most {most} in one; \
         {} requests in all, {} for users",
        size.tenants,
        opened.as_secs_f64(),
        counts[2],
        counts[3],
        counts[1],
    );
    let jitter = size.lease.mul_f64(0.8 * 0.1).as_secs() as usize;
    assert!(with_some > jitter, "all renewals in {with_some} seconds: {seconds:?}");
    if size.tenants > 100 {
        assert!(most <= size.tenants / 5, "{most} renewals in one second: {seconds:?}");
    }
    // A lease that was not renewed in time costs another user; the login is looked at every ten seconds.
    assert!(counts[1] <= size.tenants + size.tenants / 4, "{counts:?}");
    let looks = 5 + usize::try_from(began.elapsed().as_secs())? / 5;
    let known = counts[0] + counts[1] + counts[2];
    assert!(counts[3] <= known + looks, "{counts:?}");

    // OpenBao takes note of each release at once, and drops the users after the program has ended.
    // What cannot be released in `server.shutdown_grace` is logged, lease by lease, and ends by itself.
    let ending = Instant::now();
    assert!(world.end().await?);
    let logs = world.server.logs().await?;
    let kept = logs.matches("not released before the end").count();
    println!(
        "ended in {:.1} s: {} requests released, {kept} leases were left, and OpenBao had {} users",
        ending.elapsed().as_secs_f64(),
        door.count(RELEASE),
        users(postgres).await?,
    );
    if is_release() {
        assert_eq!(kept, 0, "leases were left");
    }
    let dropped = until(
        "OpenBao has dropped the released users",
        Duration::from_secs(600),
        || async { Ok(users(postgres).await? <= kept) },
    )
    .await?;
    println!(
        "OpenBao dropped the users within another {:.1} s",
        dropped.as_secs_f64()
    );
    let asked = door.count(RELEASE);
    assert!(
        asked + kept >= size.tenants,
        "{asked} of {} leases released, {kept} left",
        size.tenants
    );
    Ok(())
}
