//! Runs in waves over many tenants, some of which fail.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Fleet, size};
use crate::is_release;

/// A debug build of the program with its symbols has more of it in memory than what is shipped.
fn most_memory() -> u64 {
    if is_release() { 100_000 } else { 160_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_waves_reach_every_tenant_in_little_memory() -> Result<()> {
    let (sqlite, postgresql) = (size(60, 4000), size(4, 200));
    let fleet = Fleet::new(sqlite, postgresql).await?;
    fleet.write_step(1)?;
    fleet.write_step(2)?;
    let ran = fleet
        .migrate(&["--wave", "5", "--wave", "10%", "--wave", "100%", "--stop-after", "3"])
        .await?;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.tenants().len(), sqlite + postgresql);
    let applied = json!(["0001_step", "0002_step"]);
    assert_eq!(ran.those("applied", applied).len(), sqlite + postgresql);
    assert_eq!(ran.those("outcome", "ok").len(), sqlite + postgresql);
    let again = fleet
        .migrate(&["--wave", "5", "--wave", "10%", "--wave", "100%"])
        .await?;
    assert_eq!(
        (again.code, again.those("applied", json!([])).len()),
        (0, sqlite + postgresql)
    );
    println!(
        "{sqlite} SQLite and {postgresql} PostgreSQL tenants: {:.1} s and {} kB; with nothing to do {:.1} s and {} kB",
        ran.took.as_secs_f64(),
        ran.peak,
        again.took.as_secs_f64(),
        again.peak
    );
    assert!(
        ran.peak.max(again.peak) < most_memory(),
        "{} kB, {} kB",
        ran.peak,
        again.peak
    );
    assert!(again.took < Duration::from_secs(if is_release() { 10 } else { 60 }));
    let status = fleet.migrate(&["status"]).await?;
    println!("status: {:.1} s and {} kB", status.took.as_secs_f64(), status.peak);
    assert_eq!(
        (status.code, status.those("version", "0002").len()),
        (0, sqlite + postgresql)
    );
    Ok(())
}

/// Shows the versions of so many tenants, and returns how long that took.
async fn status_of(sqlite: usize, postgresql: usize) -> Result<Duration> {
    let fleet = Fleet::new(sqlite, postgresql).await?;
    fleet.write_step(1)?;
    assert_eq!(fleet.migrate(&["--parallel", "8"]).await?.code, 0);
    let status = fleet.migrate(&["status"]).await?;
    println!(
        "status of {sqlite} SQLite and {postgresql} PostgreSQL tenants: {:.1} s and {} kB",
        status.took.as_secs_f64(),
        status.peak
    );
    let those = status.those("version", "0001").len();
    assert_eq!((status.code, those), (0, sqlite + postgresql), "{}", status.stderr);
    assert!(status.peak < most_memory(), "{} kB", status.peak);
    Ok(status.took)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_versions_of_all_tenants_are_shown_in_seconds() -> Result<()> {
    let (of_sqlite, of_postgresql) = (
        status_of(size(60, 10_000), 0).await?,
        status_of(0, size(4, 1_000)).await?,
    );
    if is_release() {
        assert!(of_sqlite < Duration::from_secs(10), "{of_sqlite:?}");
        assert!(of_postgresql < Duration::from_secs(20), "{of_postgresql:?}");
    }
    Ok(())
}

/// The file of the runs' reports.
const REPORT: &str = "runs.jsonl";

/// The tenants that failed in the last run, as its report has them.
fn reported(fleet: &Fleet) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(fleet.path().join(REPORT))?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let run = lines.last().map(|line| line["run"].clone());
    let failed = lines
        .into_iter()
        .filter(|line| Some(&line["run"]) == run.as_ref() && line["outcome"] == "failed");
    Ok(failed.collect())
}

/// Three tenants fail. Returns the fleet, and these.
async fn poisoned(at: [usize; 3]) -> Result<(Fleet, [String; 3])> {
    let fleet = Fleet::new(size(60, 1000), 0).await?;
    let report = format!(", report: {}/{REPORT}", fleet.path().display());
    std::fs::write(fleet.path().join("config.yaml"), fleet.config(&report))?;
    fleet.write_step(1)?;
    assert_eq!(fleet.migrate(&[]).await?.code, 0);
    let tenants = at.map(|n| format!("s{n:04}"));
    for tenant in &tenants {
        fleet.sql(tenant, "CREATE TABLE t2 (other text)").await?;
    }
    fleet.write_step(2)?;
    Ok((fleet, tenants))
}

const WAVES: [&str; 8] = ["--wave", "5", "--wave", "10%", "--wave", "100%", "--stop-after", "1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_in_the_first_wave_ends_the_run_there() -> Result<()> {
    let (fleet, tenants) = poisoned([2, 30, 55]).await?;
    let ran = fleet.migrate(&WAVES).await?;
    assert_eq!(
        (ran.code, ran.those("outcome", "failed")),
        (1, vec![tenants[0].as_str()])
    );
    for untouched in ran.those("outcome", "not_reached") {
        assert_eq!(fleet.steps(untouched).await?, [1], "{untouched}");
    }
    assert!(ran.those("outcome", "not_reached").len() >= ran.tenants().len() - 5);
    for tenant in &tenants {
        fleet.sql(tenant, "DROP TABLE t2").await?;
    }
    assert_eq!(fleet.migrate(&["--only", "failed"]).await?.code, 0);
    assert_eq!(fleet.migrate(&WAVES).await?.code, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_in_the_last_wave_leave_the_rest_untouched() -> Result<()> {
    let (fleet, tenants) = poisoned([20, 30, 40]).await?;
    let waves: Vec<&str> = WAVES.iter().copied().take(7).chain(["3"]).collect();
    let ran = fleet.migrate(&waves).await?;
    let failed = ran.those("outcome", "failed");
    assert_eq!((ran.code, failed.len()), (1, 3), "{failed:?}");
    for row in ran.tenants().iter().filter(|row| row["outcome"] == "failed") {
        let error = &row["error"];
        assert_eq!(
            (&error["file"], &error["line"]),
            (&json!("0002_step"), &json!(1)),
            "{error}"
        );
    }
    let mut reported: Vec<Value> = reported(&fleet)?;
    reported.sort_by_key(|line| line["tenant"].to_string());
    let named: Vec<&Value> = reported.iter().map(|line| &line["tenant"]).collect();
    assert_eq!(named, failed, "{reported:?}");
    for line in &reported {
        let error = &line["error"];
        assert_eq!(
            (&error["file"], &error["line"], &error["statement"]),
            (&json!("0002_step"), &json!(1), &json!(1)),
            "{line}"
        );
    }
    for untouched in ran.those("outcome", "not_reached") {
        assert_eq!(fleet.steps(untouched).await?, [1], "{untouched}");
    }
    let again = fleet.migrate(&["--only", "failed"]).await?;
    assert_eq!(again.those("outcome", "failed"), failed);
    for tenant in &tenants {
        fleet.sql(tenant, "DROP TABLE t2").await?;
    }
    let cured = fleet.migrate(&["--only", "failed"]).await?;
    assert_eq!((cured.code, cured.tenants().len()), (0, 3));
    assert_eq!(fleet.migrate(&["--only", "behind"]).await?.code, 0);
    assert_eq!(fleet.migrate(&["status"]).await?.code, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_altered_by_hand_in_one_tenant_is_found() -> Result<()> {
    let count = size(40, 1000);
    let fleet = Fleet::new(count, size(3, 20)).await?;
    fleet.write_step(1)?;
    assert_eq!(fleet.migrate(&[]).await?.code, 0);
    fleet.sql("s0017", "ALTER TABLE t1 ADD COLUMN nick text").await?;
    fleet.sql("p0001", "ALTER TABLE t1 ALTER COLUMN id TYPE bigint").await?;
    let status = fleet.migrate(&["status"]).await?;
    println!(
        "status of {count} tenants with drift: {:.1} s",
        status.took.as_secs_f64()
    );
    assert_eq!(status.code, 1);
    let drifted: Vec<String> = status
        .tenants()
        .iter()
        .filter(|row| row["drift"] != json!([]))
        .map(|row| format!("{}: {}", row["tenant"], row["drift"]))
        .collect();
    assert_eq!(
        drifted,
        [
            "\"p0001\": [\"column t1.id is `bigint`, and `integer` in the others\"]",
            "\"s0017\": [\"column t1.nick is not in the others\"]"
        ]
    );
    assert!(status.took < Duration::from_secs(60), "{:?}", status.took);
    Ok(())
}
