//! Tenants are served while their tables are changed.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Result, ensure};
use tenantry_test_support::TenantryProcess;
use tokio::time::{Instant, sleep};

use super::Fleet;
use crate::program;

const USERS: &str = "/api/v1/tenant/users";

/// A request of a tenant; returns the answer's status, its body, and how long it took.
async fn get(http: &reqwest::Client, base: &str, tenant: &str) -> Result<(u16, String, Duration)> {
    let began = Instant::now();
    let answer = http
        .get(format!("{base}{USERS}"))
        .header("X-Tenant-ID", tenant)
        .send()
        .await?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await?, began.elapsed()))
}

/// Fills a table that a long statement reads, so that a definition has to wait for it.
const EXPAND: &str = "ALTER TABLE users ADD COLUMN phone text;\nCREATE TABLE phones (id integer);\n";
const CONTRACT: &str = "ALTER TABLE users DROP COLUMN phone;\nDROP TABLE phones;\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_changes_under_load_without_a_failed_request() -> Result<()> {
    let fleet = Fleet::new(3, 4).await?;
    fleet.write(1, include_str!("../../../migrations/sqlite/0001_create_users.sql"))?;
    let users = include_str!("../../../migrations/postgresql/0001_create_users.sql");
    std::fs::write(fleet.path().join("migrations/postgresql/0001_step.sql"), users)?;
    fleet.write(2, EXPAND)?;
    fleet.write(3, CONTRACT)?;
    // Two tenants stay below what is served.
    let (below, served): (Vec<&String>, Vec<&String>) = fleet
        .secrets
        .keys()
        .partition(|tenant| matches!(tenant.as_str(), "s0002" | "p0003"));
    let mut only: Vec<&str> = Vec::new();
    for tenant in &served {
        only.extend(["--tenant", tenant.as_str()]);
    }
    let migrate = async |to: &str| {
        let arguments: Vec<&str> = only.iter().copied().chain(["--to", to]).collect();
        fleet.migrate(&arguments).await
    };
    assert_eq!(migrate("0001").await?.code, 0);
    let server = TenantryProcess::start(program(), fleet.config(", on_connect: false, require: \"0001\"")).await?;
    let base = server.base_url();
    let http = reqwest::Client::builder().no_proxy().build()?;
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let clients = served.iter().chain(&below).map(|tenant| {
        let (http, base, stop, count) = (&http, &base, &stop, &count);
        let is_below = below.contains(tenant);
        async move {
            let mut slowest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                let (status, body, took) = get(http, base, tenant).await?;
                if is_below {
                    ensure!(
                        status == 503 && body.contains("tenant_schema_behind"),
                        "{tenant}: {status} {body}"
                    );
                    sleep(Duration::from_millis(20)).await;
                } else {
                    ensure!(status == 200, "{tenant}: {status} {body}");
                    slowest = slowest.max(took);
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(slowest)
        }
    });
    let changes = async {
        sleep(Duration::from_millis(500)).await;
        let expanded = migrate("0002").await;
        sleep(Duration::from_millis(500)).await;
        let contracted = migrate("0003").await;
        sleep(Duration::from_millis(500)).await;
        stop.store(true, Ordering::Relaxed);
        (expanded, contracted)
    };
    let (slowest, (expanded, contracted)) = tokio::join!(futures_util::future::try_join_all(clients), changes);
    for ran in [expanded?, contracted?] {
        assert_eq!(
            (ran.code, ran.those("outcome", "ok").len()),
            (0, served.len()),
            "{}",
            ran.json
        );
    }
    let slowest = slowest?.into_iter().max().unwrap_or_default();
    println!(
        "{} requests, the slowest took {slowest:?}",
        count.load(Ordering::Relaxed)
    );
    assert!(count.load(Ordering::Relaxed) > 100);
    Ok(())
}

/// A transaction that reads the table for seconds is in the way of a definition, and requests pass both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_do_not_wait_behind_a_definition_that_waits() -> Result<()> {
    let fleet = Fleet::new(0, 1).await?;
    fleet.write(1, include_str!("../../../migrations/postgresql/0001_create_users.sql"))?;
    assert_eq!(fleet.migrate(&[]).await?.code, 0);
    fleet.write(2, EXPAND)?;
    let server = TenantryProcess::start(program(), fleet.config("")).await?;
    let base = server.base_url();
    let http = reqwest::Client::builder().no_proxy().build()?;
    assert_eq!(get(&http, &base, "p0000").await?.0, 200);
    let reading = "SELECT count(*) FROM users, pg_sleep(6)";
    let stop = AtomicBool::new(false);
    let requests = async {
        let mut slowest = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let (status, body, took) = get(&http, &base, "p0000").await?;
            ensure!(status == 200, "{status} {body}");
            slowest = slowest.max(took);
            sleep(Duration::from_millis(10)).await;
        }
        Ok(slowest)
    };
    let change = async {
        let (read, ran) = tokio::join!(fleet.sql("p0000", reading), async {
            sleep(Duration::from_millis(500)).await;
            fleet.migrate(&[]).await
        });
        stop.store(true, Ordering::Relaxed);
        (read, ran)
    };
    let (slowest, (read, ran)) = tokio::join!(requests, change);
    read?;
    let ran = ran?;
    assert_eq!(ran.code, 0, "{}", ran.json);
    assert!(
        ran.took > Duration::from_secs(4),
        "the definition did not wait: {:?}",
        ran.took
    );
    let slowest = slowest?;
    println!("the slowest request took {slowest:?}");
    assert!(slowest < Duration::from_millis(2500), "{slowest:?}");
    Ok(())
}
