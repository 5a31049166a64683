//! The migrations on a tenant's first connection take longer than any request waits.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::{
    PROGRAM,
    database::Database,
    proxy::Proxy,
    world::{Secrets, Settings, World, until},
};

const POSTGRESQL_SLEEP: &str = "pg_sleep(14)";
const MARIADB_SLEEP: &str = "SLEEP(14)";

fn migrations() -> Vec<(&'static str, String)> {
    let slow = |sleep: &str| {
        format!("SELECT {sleep};\nINSERT INTO users (name, email) VALUES ('Only Once', 'once@x.example');\n")
    };
    vec![
        (
            "postgresql/0001_create_users.sql",
            include_str!("../../migrations/postgresql/0001_create_users.sql").to_owned(),
        ),
        ("postgresql/0002_slow.sql", slow(POSTGRESQL_SLEEP)),
        (
            "mysql/0001_create_users.sql",
            include_str!("../../migrations/mysql/0001_create_users.sql").to_owned(),
        ),
        ("mysql/0002_slow.sql", slow(MARIADB_SLEEP)),
    ]
}

async fn a_slow_migration_runs_once(database: Database<'_>) -> Result<()> {
    let secrets = Secrets::start().await?;
    let tenant = database.create_tenant("migrating").await?;
    let sleep = match database {
        Database::Postgresql(_) => POSTGRESQL_SLEEP,
        Database::Mariadb(_) => MARIADB_SLEEP,
    };
    let proxy = Proxy::start(database.port(), &[sleep]).await?;
    let mut secret = database.secret(&tenant);
    secret["port"] = json!(proxy.port());
    secrets.put("t0", &secret).await?;
    let settings = Settings {
        pools: json!({"acquire_timeout": "2s", "connect_timeout": "2s"}),
        migrations: migrations(),
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    let load = world.load(6, &["t0".to_owned()]);
    until("the tenant is served", Duration::from_secs(90), || async {
        Ok(world.client.get("t0", "/api/v1/tenant/info").await.is_success())
    })
    .await?;
    load.go_on_for(50, Duration::from_secs(60)).await?;
    let tally = load.stop().await?;

    let told = (503, "tenant_migrating".to_owned());
    assert!(
        tally.failures.keys().eq([&told]),
        "of {} requests failed: {:?}",
        tally.samples.len(),
        tally.failures
    );
    assert!(
        tally.slowest() < Duration::from_secs(10),
        "a request waited {:?}",
        tally.slowest()
    );
    assert_eq!(proxy.count(sleep), 1, "times the migration was begun");
    let rows = database
        .sql(&tenant, "SELECT COUNT(*) FROM users WHERE name = 'Only Once'")
        .await?;
    assert_eq!(rows.trim(), "1", "times the migration took effect");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_migration_runs_once_on_postgresql() -> Result<()> {
    a_slow_migration_runs_once(Database::shared_postgresql().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_migration_runs_once_and_requests_are_told_on_mariadb() -> Result<()> {
    a_slow_migration_runs_once(Database::shared_mariadb().await).await
}
