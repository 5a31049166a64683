//! Runs that get a signal to stop.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::Fleet;

/// How many tables a file makes: with so many, a tenant takes some time.
const TABLES: usize = 400;
/// A statement of SQLite that runs for minutes.
const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000000000) \
                       SELECT count(*) FROM n";

/// A file that makes so many tables.
fn with_tables(count: usize) -> String {
    let tables: String = (0..count)
        .map(|n| format!("CREATE TABLE big{n} (id integer);\n"))
        .collect();
    format!("CREATE TABLE log (step integer);\n{tables}INSERT INTO log VALUES (1);\n")
}

/// Waits until a run is at its first tenants.
async fn begun(fleet: &Fleet) -> Result<()> {
    let began = Instant::now();
    while std::fs::read_dir(fleet.path())?.count() < 6 {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not begin");
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn send(signal: &str, running: &Child) -> Result<()> {
    let pid = running.id().context("it has ended already")?.to_string();
    let sent = Command::new("kill").args(["-s", signal, &pid]).status().await?;
    assert!(sent.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_run_ends_between_tenants_and_reports_the_rest() -> Result<()> {
    for signal in ["TERM", "INT"] {
        let fleet = Fleet::new(40, 0).await?;
        fleet.write(1, &with_tables(TABLES))?;
        let running = fleet.spawn(&["--parallel", "2", "--json"])?;
        begun(&fleet).await?;
        send(signal, &running).await?;
        let output = running.wait_with_output().await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{signal}: {stderr}");
        assert!(stderr.contains("asked to stop"), "{signal}: {stderr}");
        let report: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
        let rows = report["tenants"].as_array().context("no tenants")?;
        assert_eq!(rows.len(), 40);
        let mut reached = 0;
        for row in rows {
            let tenant = row["tenant"].as_str().unwrap_or_default();
            match row["outcome"].as_str() {
                Some("ok") => {
                    assert_eq!(fleet.steps(tenant).await?, [1], "{tenant}");
                    reached += 1;
                }
                Some("not_reached") => {
                    let file = fleet.path().join(format!("{tenant}.db"));
                    assert!(!file.exists(), "{tenant} was touched");
                }
                outcome => panic!("{tenant}: {outcome:?}"),
            }
        }
        assert!(reached > 0 && reached < 40, "{signal}: {reached} were reached");
        let rest = fleet.migrate(&[]).await?;
        assert_eq!(
            (rest.code, rest.those("applied", json!(["0001_step"])).len()),
            (0, 40 - reached)
        );
    }
    Ok(())
}

/// The file that is being applied takes longer than the test waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_run_at_once_and_leaves_nothing_half_done() -> Result<()> {
    for signal in ["TERM", "INT"] {
        let fleet = Fleet::new(6, 2).await?;
        let last = "INSERT INTO log VALUES (1)";
        fleet.write(1, &with_tables(3).replace(last, &format!("{ENDLESS};\n{last}")))?;
        let postgresql = with_tables(3).replace(last, &format!("SELECT pg_sleep(600);\n{last}"));
        std::fs::write(fleet.path().join("migrations/postgresql/0001_step.sql"), postgresql)?;
        let mut running = fleet.spawn(&["--parallel", "4"])?;
        begun(&fleet).await?;
        let mut stderr = BufReader::new(running.stderr.take().context("no standard error")?);
        send(signal, &running).await?;
        let mut line = String::new();
        timeout(Duration::from_secs(60), stderr.read_line(&mut line)).await??;
        assert!(line.contains("asked to stop"), "{signal}: {line}");
        // Tenants that have begun would go on for minutes.
        assert!(timeout(Duration::from_secs(1), running.wait()).await.is_err());
        send(signal, &running).await?;
        let ended = timeout(Duration::from_secs(20), running.wait()).await;
        let ended = ended.with_context(|| format!("{signal}: it goes on"))??;
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).await?;
        assert_eq!(ended.code(), Some(1), "{signal}: {rest}");
        assert!(rest.contains("ended at once"), "{signal}: {rest}");

        // What was begun is undone, and the same file, mended, is applied from its beginning.
        fleet.write(1, &with_tables(3))?;
        let resumed = fleet.migrate(&[]).await?;
        assert_eq!(resumed.code, 0, "{signal}: {}", resumed.stderr);
        assert_eq!(resumed.those("applied", json!(["0001_step"])).len(), 8, "{signal}");
        for tenant in fleet.secrets.keys() {
            assert_eq!(fleet.steps(tenant).await?, [1], "{signal}: {tenant}");
        }
    }
    Ok(())
}
