//! The host of a tenant's database drops packets: nothing is refused, nothing is answered.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::{
    PROGRAM,
    database::Database,
    proxy::Proxy,
    world::{Secrets, Settings, World, names},
};

const CONNECT: Duration = Duration::from_secs(4);
/// What takes longer has waited for a connection to be opened.
const WAITED: Duration = Duration::from_secs(3);
const WINDOW: Duration = Duration::from_secs(16);

async fn one_request_at_a_time_waits(database: Database<'_>) -> Result<()> {
    let secrets = Secrets::start().await?;
    let tenant = database.create_tenant("reachable").await?;
    let healthy = names(5);
    for name in &healthy {
        secrets.put(name, &database.secret(&tenant)).await?;
    }
    let silent = Proxy::start(database.port(), &[]).await?;
    silent.fall_silent();
    let mut secret = database.secret(&tenant);
    secret["port"] = json!(silent.port());
    secrets.put("silent", &secret).await?;
    let sick = ["silent".to_owned()];
    let settings = Settings {
        pools: json!({"connect_timeout": "4s", "acquire_timeout": "4s"}),
        ..Settings::default()
    };
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings).await?;
    let warm = world.load(5, &healthy);
    warm.go_on_for(100, Duration::from_secs(60)).await?;
    assert!(warm.stop().await?.failures.is_empty());
    // The first ones wait, until it is clear that there is nothing to wait for.
    let first = world.load(20, &sick);
    first.go_on_for(60, Duration::from_secs(60)).await?;
    let first = first.stop().await?;
    assert_eq!(first.failed(), first.samples.len() as u64);

    let (well, load) = (world.load(5, &healthy), world.load(20, &sick));
    tokio::time::sleep(WINDOW).await;
    let (well, tally) = (well.stop().await?, load.stop().await?);
    assert!(!silent.spoke());
    assert_eq!(tally.failed(), tally.samples.len() as u64);
    assert!(
        tally
            .failures
            .keys()
            .all(|(status, code)| *status == 503 && code == "database_unavailable"),
        "{:?}",
        tally.failures
    );
    let waited = tally.samples.iter().filter(|sample| sample.took > WAITED).count();
    // One after the other, each for the time that connecting may take; and the one at the end.
    let probes = (WINDOW.as_secs() / CONNECT.as_secs()) as usize + 2;
    assert!(
        waited <= probes && tally.samples.len() > 20 * probes,
        "{waited} of {} requests waited, not {probes} at most",
        tally.samples.len()
    );
    assert!(
        well.failures.is_empty() && well.slowest() < WAITED,
        "of {} requests of other tenants the slowest took {:?}, failed: {:?}",
        well.samples.len(),
        well.slowest(),
        well.failures
    );
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_waits_for_a_silent_host_on_postgresql() -> Result<()> {
    one_request_at_a_time_waits(Database::shared_postgresql().await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_waits_for_a_silent_host_on_mariadb() -> Result<()> {
    one_request_at_a_time_waits(Database::shared_mariadb().await).await
}
