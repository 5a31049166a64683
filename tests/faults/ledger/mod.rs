//! Clients write and transfer while sessions are killed, servers restart, passwords rotate, clients
//! go away and the secret provider stops. Every acknowledged write is kept exactly once, a refused
//! one is not kept, and a client whose write may have been made gets an error that says so.
//!
//! The built program serves the writes. It has no operation that is a transaction of several
//! statements, so a second server of the same library serves the transfers of the same tenants.

mod books;
mod chaos;
mod clients;
mod transfers;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;
use tenantry_test_support::{MariadbServer, PostgresServer};

use crate::{
    PROGRAM,
    database::Database,
    proxy::Proxy,
    world::{Secrets, Settings, World, names, until},
};
use books::Books;
use chaos::{Chaos, Tenant};
use clients::Clients;

const TENANTS: usize = 20;
const CLIENTS: usize = 32;
/// How long the clients work, without the variable.
const SECONDS: u64 = 15;
/// The environment variable for how many seconds the clients work; `./scripts/faults` sets it.
const SECONDS_VARIABLE: &str = "TENANTRY_LEDGER_SECONDS";
/// How long the servers may take to be well again.
const RECOVERY: Duration = Duration::from_secs(60);

fn duration() -> Result<Duration> {
    let seconds = match std::env::var(SECONDS_VARIABLE) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("`{SECONDS_VARIABLE}` is no number"))?,
        Err(_) => SECONDS,
    };
    Ok(Duration::from_secs(seconds))
}

fn settings() -> Settings {
    Settings {
        secrets: json!({"ttl": "2s", "stale_if_error": "1h"}),
        level: "info",
        ..Settings::default()
    }
}

async fn every_write_is_kept_once(database: Database<'_>) -> Result<()> {
    let length = duration()?;
    let secrets = Secrets::start().await?;
    let mut tenants = Vec::new();
    for name in names(TENANTS) {
        let database_of = database.create_tenant(&format!("ledger_{name}")).await?;
        secrets.put(&name, &database.secret(&database_of)).await?;
        tenants.push(Tenant {
            name,
            database: database_of,
        });
    }
    let door = Proxy::start(secrets.moto.port(), &[]).await?;
    let endpoint = format!("http://127.0.0.1:{}", door.port());
    let program = World::start(PROGRAM, &endpoint, settings()).await?;
    let itself: PathBuf = std::env::current_exe()?;
    let itself = itself.to_str().context("a path that is not UTF-8")?;
    let library_settings = Settings {
        as_test: Some(transfers::SERVER),
        ..settings()
    };
    let library = World::start(itself, &endpoint, library_settings).await?;
    for tenant in &tenants {
        until("the tenant is migrated", RECOVERY, || async {
            let answer = program.client.get(&tenant.name, "/api/v1/tenant/info").await;
            assert!(answer.is_success() || answer.code == "tenant_migrating", "{answer:?}");
            Ok(answer.is_success())
        })
        .await?;
        books::open(database, &tenant.database).await?;
    }

    let seed = fastrand::u64(..);
    println!("{}: seed {seed}, {} s", database.name(), length.as_secs());
    let clients = Clients::start(seed, CLIENTS, TENANTS, &program.client, &library.client);
    let mut chaos = Chaos {
        database,
        tenants: &mut tenants,
        secrets: &secrets,
        door: &door,
        until: Instant::now() + length,
        random: fastrand::Rng::with_seed(seed),
    };
    let happened = chaos.run().await?;
    // Some requests without any fault, so that the last one has its effect on them.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let written = clients.stop().await?;
    for tenant in &tenants {
        for server in [&program, &library] {
            until("every tenant is served again", RECOVERY, || async {
                let answer = server.client.get(&tenant.name, "/api/v1/tenant/info").await;
                Ok(answer.is_success())
            })
            .await?;
        }
    }
    // On MariaDB a session that was abandoned before its password changed cannot be ended, and is
    // waited for in vain: `abandoned` is about that.
    tokio::try_join!(program.end(), library.end())?;
    let databases: Vec<_> = tenants.iter().map(|tenant| &tenant.database).collect();
    until("no session is left", RECOVERY, || async {
        Ok(database.sessions(&databases).await? == 0)
    })
    .await?;

    let books = Books::read(database, &databases).await?;
    let verdict = books.compare(&written);
    println!("{}: {happened}; refused: {}", database.name(), verdict.refusals());
    println!("{}", verdict.table(database.name()));
    for finding in &verdict.findings {
        println!("{}: {finding}", database.name());
    }
    assert!(verdict.findings.is_empty(), "seed {seed}: {:?}", verdict.findings);
    assert!(happened.is_everything(), "{happened}: not every fault happened");
    assert!(
        verdict.acknowledged > 100 && verdict.cut_off > 10,
        "too few requests to show anything"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_is_kept_once_on_postgresql() -> Result<()> {
    let server = PostgresServer::start().await?;
    every_write_is_kept_once(Database::Postgresql(&server)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_is_kept_once_on_mariadb() -> Result<()> {
    let server = MariadbServer::start().await?;
    every_write_is_kept_once(Database::Mariadb(&server)).await
}
