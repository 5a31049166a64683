//! The tenants' database server is behind a PgBouncer in transaction mode.

use std::time::Duration;

use anyhow::Result;
use tenantry_test_support::{PgBouncer, PostgresServer};

use crate::{
    PROGRAM,
    world::{Secrets, Settings, World},
};

const CLIENTS: usize = 16;

/// The migrations are applied through the pooler, and a password is rotated in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_behind_a_pooler_with_two_sessions_a_tenant() -> Result<()> {
    let server = PostgresServer::shared().await;
    let pgbouncer = PgBouncer::start(server, "default_pool_size = 2").await?;
    let secrets = Secrets::start().await?;
    let names = ["t0".to_owned(), "t1".to_owned()];
    let mut tenants = Vec::new();
    for name in &names {
        let tenant = server.create_tenant("pooled").await?;
        secrets.put(name, &pgbouncer.secret(&tenant)).await?;
        tenants.push(tenant);
    }
    let settings = Settings {
        // For a slow machine.
        request_timeout: "60s",
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    let load = world.writing_load(CLIENTS, &names);
    load.go_on_for(2_000, Duration::from_secs(120)).await?;

    let rotated = format!("{}-rotated", tenants[0].password);
    let alter = format!("ALTER ROLE \"{}\" PASSWORD '{rotated}'", tenants[0].user);
    server.psql("postgres", &alter).await?;
    let mut secret = pgbouncer.secret(&tenants[0]);
    secret["password"] = rotated.into();
    secrets.put("t0", &secret).await?;
    assert!(world.client.refresh("t0").await.is_success());

    load.go_on_for(3_000, Duration::from_secs(120)).await?;
    let tally = load.stop().await?;
    println!("{} requests, failures: {:?}", tally.samples.len(), tally.failures);
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);

    let made = tally.samples.iter().filter(|sample| sample.status == 201).count();
    let mut found = 0;
    for tenant in &tenants {
        let count = server.psql(&tenant.database, "SELECT count(*) FROM users WHERE name = 'Load'");
        found += count.await?.parse::<usize>()?;
    }
    assert_eq!(found, made, "as many users as were made");
    world.finish().await
}
