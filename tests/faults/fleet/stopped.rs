//! Runs that get a signal to stop.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::Fleet;

/// How many tables a file makes: with so many, a tenant takes some time.
const TABLES: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_run_ends_between_tenants_and_reports_the_rest() -> Result<()> {
    for signal in ["TERM", "INT"] {
        let fleet = Fleet::new(40, 0).await?;
        let mut sql = "CREATE TABLE log (step integer);\n".to_owned();
        for n in 0..TABLES {
            sql.push_str(&format!("CREATE TABLE big{n} (id integer);\n"));
        }
        fleet.write(1, &format!("{sql}INSERT INTO log VALUES (1);\n"))?;
        let running = fleet.spawn(&["--parallel", "2", "--json"])?;
        let began = Instant::now();
        while std::fs::read_dir(fleet.path())?.count() < 6 {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not begin");
            sleep(Duration::from_millis(2)).await;
        }
        let pid = running.id().context("it has ended already")?.to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().await?;
        assert!(sent.success());
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
