//! Runs that are killed, and runs that are at it at once.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tenantry_test_support::TenantryProcess;
use tokio::time::{Instant, sleep};

use super::{Fleet, size};
use crate::program;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_killed_is_resumed_and_applies_every_file_once() -> Result<()> {
    let kills = size(8, 50);
    let fleet = Fleet::new(30, 4).await?;
    let mut random = fastrand::Rng::with_seed(17);
    for kill in 1..=kills {
        fleet.write_step(kill)?;
        let mut running = fleet.spawn(&["--parallel", "3"])?;
        sleep(Duration::from_millis(random.u64(20..900))).await;
        running.kill().await?;
    }
    // What was killed left no lock for long.
    let began = Instant::now();
    let last = fleet.migrate(&[]).await?;
    assert_eq!(last.code, 0, "{}", last.json);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let expected: Vec<i64> = (1..=i64::try_from(kills)?).collect();
    for tenant in fleet.secrets.keys() {
        assert_eq!(fleet.steps(tenant).await?, expected, "{tenant}");
    }
    let status = fleet.migrate(&["status"]).await?;
    assert_eq!(status.code, 0, "{}", status.json);
    let recorded = "SELECT count(*) FROM tenantry_migrations";
    for row in status.tenants() {
        let tenant = row["tenant"].as_str().unwrap_or_default();
        assert_eq!(row["version"], json!(format!("{kills:04}")), "{tenant}");
        assert_eq!(fleet.sql(tenant, recorded).await?, [i64::try_from(kills)?], "{tenant}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_and_two_servers_at_once_apply_every_file_once() -> Result<()> {
    let fleet = Fleet::new(6, 4).await?;
    fleet.write(1, include_str!("../../../migrations/sqlite/0001_create_users.sql"))?;
    let users = include_str!("../../../migrations/postgresql/0001_create_users.sql");
    std::fs::write(fleet.path().join("migrations/postgresql/0001_step.sql"), users)?;
    fleet.write(2, "CREATE TABLE log (step integer);\nINSERT INTO log VALUES (2);\n")?;
    for version in 3..=6 {
        fleet.write_step(version)?;
    }
    let server = || TenantryProcess::start(program(), fleet.config(", on_connect: true"));
    let (one, other) = tokio::try_join!(server(), server())?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let requests = fleet
        .secrets
        .keys()
        .flat_map(|tenant| [(tenant, one.base_url()), (tenant, other.base_url())]);
    let requests = requests.map(|(tenant, base)| {
        let request = http
            .get(format!("{base}/api/v1/tenant/users"))
            .header("X-Tenant-ID", tenant);
        async move {
            let began = Instant::now();
            let answer = request.send().await?;
            let status = answer.status().as_u16();
            let body = answer.text().await?;
            let is_right = status == 200 || (status == 503 && body.contains("tenant_migrating"));
            assert!(is_right, "{tenant}: {status} {body}");
            assert!(
                began.elapsed() < Duration::from_secs(15),
                "{tenant}: {:?}",
                began.elapsed()
            );
            anyhow::Ok(())
        }
    });
    let (first, second, answered) = tokio::join!(
        fleet.migrate(&[]),
        fleet.migrate(&[]),
        futures_util::future::try_join_all(requests)
    );
    answered?;
    for ran in [first?, second?] {
        assert_eq!(ran.code, 0, "{}", ran.json);
        assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
    }
    for tenant in fleet.secrets.keys() {
        assert_eq!(fleet.steps(tenant).await?, [2, 3, 4, 5, 6], "{tenant}");
    }
    Ok(())
}
