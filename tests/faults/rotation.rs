//! A secret changes under load: no request fails.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tenantry_test_support::{CANARY, PostgresServer, TenantDb};
use tokio::time::sleep;

use crate::{
    PROGRAM,
    load::Tally,
    world::{Secrets, Settings, World, end_sessions, sessions, until},
};

const CLIENTS: usize = 50;
const ROTATIONS: usize = 5;
/// Between two of them, and before the first and after the last.
const PAUSE: Duration = Duration::from_millis(2_500);

/// Deadlines that a slow machine keeps.
fn patient() -> Settings {
    Settings {
        pools: json!({"connect_timeout": "30s", "acquire_timeout": "30s"}),
        request_timeout: "60s",
        ..Settings::default()
    }
}

fn assert_none_failed(tally: &Tally) {
    assert!(
        tally.failures.is_empty(),
        "of {} requests failed: {:?}",
        tally.samples.len(),
        tally.failures
    );
    assert!(
        tally.samples.len() > 500,
        "{} requests are no load",
        tally.samples.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_s_password_changes_and_its_sessions_end() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let mut tenant = postgres.create_tenant("single").await?;
    secrets.put("t0", &postgres.secret(&tenant)).await?;
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), patient()).await?;
    let load = world.writing_load(CLIENTS, &["t0".to_owned()]);
    load.go_on_for(200, Duration::from_secs(60)).await?;

    for rotation in 0..ROTATIONS {
        sleep(PAUSE).await;
        tenant.password = format!("{CANARY}-single-{rotation}");
        let sql = format!("ALTER ROLE \"{}\" PASSWORD '{}'", tenant.user, tenant.password);
        postgres.psql("postgres", &sql).await?;
        if rotation % 2 == 0 {
            end_sessions(postgres, &tenant.user).await?;
        }
        sleep(Duration::from_secs(1)).await;
        secrets.put("t0", &postgres.secret(&tenant)).await?;
        end_sessions(postgres, &tenant.user).await?;
    }
    sleep(PAUSE).await;
    load.go_on_for(200, Duration::from_secs(60)).await?;

    assert_none_failed(&load.stop().await?);
    assert_eq!(world.counter("/pools/rotations").await?, ROTATIONS as u64);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_alternate_and_no_old_connection_remains() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let first = postgres.create_tenant("turns").await?;
    let second = TenantDb {
        user: format!("{}_b", first.user),
        ..first.clone()
    };
    let sql = format!(
        "CREATE ROLE \"{second}\" LOGIN PASSWORD '{password}' IN ROLE \"{first}\"",
        second = second.user,
        password = second.password,
        first = first.user,
    );
    postgres.psql("postgres", &sql).await?;
    let mut users = [first, second];
    secrets.put("t0", &postgres.secret(&users[0])).await?;
    let settings = Settings {
        secrets: json!({"ttl": "1s", "jitter": 0.0}),
        ..patient()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    let load = world.writing_load(CLIENTS, &["t0".to_owned()]);
    load.go_on_for(200, Duration::from_secs(60)).await?;

    for rotation in 0..ROTATIONS {
        sleep(PAUSE).await;
        let [old, new] = &mut users;
        new.password = format!("{CANARY}-turns-{rotation}");
        let sql = format!("ALTER ROLE \"{}\" PASSWORD '{}'", new.user, new.password);
        postgres.psql("postgres", &sql).await?;
        secrets.put("t0", &postgres.secret(new)).await?;
        // No signal is sent; the change is noticed after the secret's TTL.
        until("the old user has no session", Duration::from_secs(20), || async {
            Ok(sessions(postgres, &[&old.user]).await? == 0)
        })
        .await?;
        until("the new user has sessions", Duration::from_secs(20), || async {
            Ok(sessions(postgres, &[&new.user]).await? > 0)
        })
        .await?;
        users.swap(0, 1);
    }
    sleep(PAUSE).await;
    load.go_on_for(200, Duration::from_secs(60)).await?;

    assert_none_failed(&load.stop().await?);
    assert_eq!(sessions(postgres, &[&users[1].user]).await?, 0);
    assert_eq!(world.counter("/pools/rotations").await?, ROTATIONS as u64);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_moves_to_another_host() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let other = PostgresServer::start().await?;
    let (before, after) = (
        postgres.create_tenant("before").await?,
        other.create_tenant("after").await?,
    );
    secrets.put("t0", &postgres.secret(&before)).await?;
    let settings = Settings {
        secrets: json!({"ttl": "1s", "jitter": 0.0}),
        ..patient()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    let load = world.load(CLIENTS, &["t0".to_owned()]);
    load.go_on_for(200, Duration::from_secs(60)).await?;

    secrets.put("t0", &other.secret(&after)).await?;
    until("the old host has no session", Duration::from_secs(20), || async {
        Ok(sessions(postgres, &[&before.user]).await? == 0)
    })
    .await?;
    load.go_on_for(500, Duration::from_secs(60)).await?;
    let info = world.client.get("t0", "/api/v1/tenant/info").await;
    assert_eq!(info.body["database"], after.database);

    assert_none_failed(&load.stop().await?);
    assert_eq!(sessions(postgres, &[&before.user]).await?, 0);
    assert!(sessions(&other, &[&after.user]).await? > 0);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_reported_soon_and_mended_by_a_new_secret() -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let tenant = postgres.create_tenant("wrong").await?;
    let mut secret = postgres.secret(&tenant);
    secret["password"] = json!(format!("{CANARY}-wrong"));
    secrets.put("t0", &secret).await?;
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), Settings::default()).await?;

    let refused = world.client.get("t0", "/api/v1/tenant/info").await;
    assert_eq!((refused.status, refused.code.as_str()), (503, "database_unavailable"));
    assert!(refused.took < Duration::from_secs(12), "{refused:?}");
    // No retry is pending any more, so the next requests fail at once.
    for _ in 0..20 {
        let refused = world.client.get("t0", "/api/v1/tenant/info").await;
        assert_eq!((refused.status, refused.code.as_str()), (503, "database_unavailable"));
        assert!(refused.retry_after.is_some());
        assert!(refused.took < Duration::from_secs(3), "{refused:?}");
    }
    let fetches = world.counter("/metrics/refreshes").await? + world.counter("/metrics/misses").await?;
    assert!(fetches <= 4, "the secret was read {fetches} times");

    secrets.put("t0", &postgres.secret(&tenant)).await?;
    let refreshed = world.client.refresh("t0").await;
    assert!(refreshed.is_success(), "{refreshed:?}");
    let info = world.client.get("t0", "/api/v1/tenant/info").await;
    assert!(info.is_success(), "{info:?}");
    world.finish().await
}
