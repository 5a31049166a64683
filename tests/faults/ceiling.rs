//! More connections are wanted than there may be.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tenantry_test_support::{MariadbServer, TenantDb};
use tokio::time::timeout;

use crate::{
    PROGRAM,
    database::Database,
    load::Client,
    world::{Secrets, Settings, World, names},
};

const TENANTS: usize = 60;
const WANTED: usize = 20;
const CEILING: u64 = 50;

/// On MariaDB and MySQL there is one connection more at times: it ends the session of an abandoned
/// statement.
fn allowed(database: Database<'_>) -> u64 {
    match database {
        Database::Postgresql(_) => CEILING,
        Database::Mariadb(_) => CEILING + 1,
    }
}

fn settings() -> Settings {
    Settings {
        pools: json!({
            "max_connections": CEILING,
            // For a slow machine: what is put to the test is how many, not how fast.
            "acquire_timeout": "60s",
            "connect_timeout": "60s",
            "defaults": {"max_connections": WANTED},
        }),
        request_timeout: "120s",
        ..Settings::default()
    }
}

/// Six databases, which all tenants share.
async fn databases(database: Database<'_>, secrets: &Secrets) -> Result<Vec<TenantDb>> {
    let mut databases = Vec::new();
    for n in 0..6 {
        databases.push(database.create_tenant(&format!("ceiling{n}")).await?);
    }
    for (n, name) in names(TENANTS).iter().enumerate() {
        let secret = database.secret(&databases[n % databases.len()]);
        secrets.put(name, &secret).await?;
    }
    Ok(databases)
}

async fn every_request_is_answered_below_the_ceiling(database: Database<'_>) -> Result<()> {
    let secrets = Secrets::start().await?;
    let databases = databases(database, &secrets).await?;
    let tenants = names(TENANTS);
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings()).await?;
    let load = world.load(TENANTS * WANTED, &tenants);
    let databases: Vec<&TenantDb> = databases.iter().collect();
    let sessions = database.most_sessions(&databases, 12).await?;
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
    assert!(
        sessions.most <= allowed(database),
        "{} sessions at once: {}",
        sessions.most,
        sessions.detail
    );
    assert!(
        sessions.most >= CEILING / 4 && sessions.looks > 200,
        "{} sessions in {} looks put nothing to the test",
        sessions.most,
        sessions.looks
    );
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_counts_no_more_sessions_than_allowed() -> Result<()> {
    every_request_is_answered_below_the_ceiling(Database::shared_postgresql().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_counts_no_more_sessions_than_allowed() -> Result<()> {
    let server = MariadbServer::start().await?;
    every_request_is_answered_below_the_ceiling(Database::Mariadb(&server)).await
}

/// How long a slow statement takes if it is not ended.
const SLOW_SECONDS: u64 = 8;
const CLIENTS_THAT_GO: usize = 100;

/// Sends slow requests, and goes away in the middle of each.
async fn go_away_again_and_again(client: Client, tenants: Vec<String>, number: usize) {
    let mut random = fastrand::Rng::with_seed(number as u64);
    for turn in 0.. {
        let name = format!("slow {number}");
        let user = json!({"name": name, "email": format!("slow{number}n{turn}@x.example")});
        let tenant = &tenants[random.usize(..tenants.len())];
        let moment = Duration::from_millis(random.u64(500..4_000));
        let answered = timeout(moment, client.post(tenant, "/api/v1/tenant/users", &user)).await;
        assert!(answered.is_err(), "an answer in the middle: {answered:?}");
    }
}

/// Clients go away in the middle of slow statements: a session counts until the server has ended
/// it.
async fn abandoned_statements_count(database: Database<'_>) -> Result<()> {
    let secrets = Secrets::start().await?;
    let databases = databases(database, &secrets).await?;
    let tenants = names(TENANTS);
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings()).await?;
    for (name, tenant) in tenants.iter().zip(&databases) {
        let answer = world.client.get(name, "/api/v1/tenant/info").await;
        assert!(answer.is_success(), "{answer:?}");
        database.slow_down_insertions(tenant, SLOW_SECONDS).await?;
    }
    let load = world.load(TENANTS, &tenants);
    let going: Vec<_> = (0..CLIENTS_THAT_GO)
        .map(|n| tokio::spawn(go_away_again_and_again(world.client.clone(), tenants.clone(), n)))
        .collect();
    let users: Vec<&TenantDb> = databases.iter().collect();
    let sessions = database.most_sessions(&users, 15).await?;
    for client in going {
        client.abort();
        assert!(client.await.is_err_and(|error| error.is_cancelled()));
    }
    let tally = load.stop().await?;
    let abandoned = database.all_slow_insertions(&users).await?;
    println!(
        "{}: {} sessions at most in {} looks; {abandoned} abandoned statements, {} other requests; {}",
        database.name(),
        sessions.most,
        sessions.looks,
        tally.samples.len(),
        &sessions.detail[..sessions.detail.len().min(25)]
    );

    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert!(
        sessions.most <= allowed(database),
        "{} sessions at once: {}",
        sessions.most,
        sessions.detail
    );
    assert!(
        sessions.most >= CEILING / 4 && sessions.looks > 200 && abandoned >= CEILING,
        "{} sessions in {} looks and {abandoned} abandoned statements put nothing to the test",
        sessions.most,
        sessions.looks
    );
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_keeps_its_bound_while_clients_go_away() -> Result<()> {
    abandoned_statements_count(Database::shared_postgresql().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_keeps_its_bound_while_clients_go_away() -> Result<()> {
    let server = MariadbServer::start().await?;
    abandoned_statements_count(Database::Mariadb(&server)).await
}
