//! Runs at once on one database, one of which takes long.

use std::time::Duration;

use tokio::time::sleep;

use super::{stepwise::HEAD, *};

/// Another session has the lock all the time.
async fn a_run_says_which_one_it_has_waited_for(target: Target, lock: &str, holder: &str) {
    let dialect = target.driver.migration_dialect().to_owned();
    let (_folder, migrations) = folder(&dialect, &[("1_t.sql", "CREATE TABLE t (i int)")]).await;
    let migrations = migrations.waiting_at_most(Duration::from_millis(1200));
    let mut other = target.driver.connect(&target.config).await.unwrap();
    let statement = Statement::from_string(target.driver.backend(), lock);
    let session = other.query_one(&statement).await.unwrap().unwrap();
    let session: String = session.try_get_by_index(0).unwrap();
    let error = target.apply(&migrations, false).await.unwrap_err().to_string();
    let expected =
        format!("this run has waited 1 s for another one that migrates the database, in its session {session}{holder}");
    assert!(error.starts_with(&expected), "{error}");
    other.close().await;
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&["1_t"], 0));
}

#[tokio::test]
async fn a_run_says_which_one_it_has_waited_for_on_postgresql() {
    let lock = "SELECT pg_backend_pid()::text FROM pg_advisory_lock(8387231245791425145)";
    let target = Target::postgresql().await;
    a_run_says_which_one_it_has_waited_for(target, lock, " of `tenantry` from 127.0.0.1, since 20").await;
}

#[tokio::test]
async fn a_run_says_which_one_it_has_waited_for_on_mariadb() {
    let lock = "SELECT CAST(CONNECTION_ID() AS CHAR) FROM (SELECT GET_LOCK(CONCAT('tenantry-', MD5(DATABASE())), 0)) l";
    a_run_says_which_one_it_has_waited_for(Target::mysql().await, lock, " from ").await;
}

/// A statement of SQLite waits for five seconds, and a run waits for longer.
#[tokio::test]
async fn a_run_waits_for_another_one_of_sqlite() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let (_folder, first) = folder("sqlite", &[("1_t.sql", "CREATE TABLE t (i int)")]).await;
    target.apply(&first, false).await.unwrap();
    let (_folder, both) = folder(
        "sqlite",
        &[
            ("1_t.sql", "CREATE TABLE t (i int)"),
            ("2_u.sql", "INSERT INTO t VALUES (2)"),
        ],
    )
    .await;
    let mut other = target.driver.connect(&target.config).await.unwrap();
    other.begin(&sea_orm::TransactionOptions::default()).await.unwrap();
    other.execute_script("INSERT INTO t VALUES (1)").await.unwrap();
    let kept = async {
        sleep(Duration::from_secs(6)).await;
        other.commit().await.unwrap();
        other.close().await;
    };
    let (applied, ()) = tokio::join!(target.apply(&both, false), kept);
    assert_eq!(applied.unwrap(), report(&["2_u"], 1));
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 2);
}

/// The statement takes longer than the silence after which a run counts as killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_statement_behind_a_pooler_runs_once() {
    let (_pgbouncer, target) = pooled().await;
    let rows = format!("{HEAD}INSERT INTO t SELECT 1 FROM pg_sleep(12)");
    let files = [("1_t.sql", "CREATE TABLE t (i int)"), ("2_rows.sql", rows.as_str())];
    let (_folder, migrations) = folder("postgresql", &files).await;
    let (one, two) = tokio::join!(target.apply(&migrations, false), target.apply(&migrations, false));
    assert_eq!(one.unwrap().applied.len() + two.unwrap().applied.len(), 2);
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 1);
}

/// A database with the first of two files, and the statement that records the second as applied.
async fn with_the_first(target: &Target, rows: &str) -> (tempfile::TempDir, Migrations, String) {
    let dialect = target.driver.migration_dialect();
    let first = ("1_t.sql", "CREATE TABLE t (i int)");
    let (_folder, one) = folder(dialect, &[first]).await;
    target.apply(&one, false).await.unwrap();
    let (folder, both) = folder(dialect, &[first, ("2_rows.sql", rows)]).await;
    let second = both.of(dialect).unwrap().last().unwrap();
    let checksum = &second.checksum;
    let record = format!("UPDATE tenantry_migrations SET checksum = '{checksum}' WHERE version = 2");
    (folder, both, record)
}

/// The other run has counted this one as killed, and was faster.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_another_run_has_recorded_is_undone() {
    let (_pgbouncer, target) = pooled().await;
    let rows = format!("{HEAD}INSERT INTO t SELECT 1 FROM pg_sleep(2)");
    let (_folder, both, record) = with_the_first(&target, &rows).await;
    let other = async {
        let begun = "SELECT name FROM tenantry_migrations WHERE version = 2";
        while target.texts(begun).await.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(300)).await;
        target.execute(&record).await.unwrap();
    };
    let (applied, ()) = tokio::join!(target.apply(&both, false), other);
    assert_eq!(applied.unwrap(), report(&[], 2));
    assert!(target.texts("SELECT 'row' FROM t").await.is_empty());
}

/// The other run is at the second file, shows that it is alive, and ends.
async fn a_run_waits_for_one_that_is_alive(shows: impl AsyncFnOnce(&Target)) {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let rows = format!("{HEAD}INSERT INTO t VALUES (1)");
    let (_folder, both, record) = with_the_first(&target, &rows).await;
    let begun = "INSERT INTO tenantry_migrations VALUES (2, '2_rows', 'running:0::1', '2026-01-02 03:04:05')";
    target.execute(begun).await.unwrap();
    let other = async {
        shows(&target).await;
        target.execute(&record).await.unwrap();
    };
    let (applied, ()) = tokio::join!(target.apply(&both, false), other);
    assert_eq!(applied.unwrap(), report(&[], 2));
}

#[tokio::test]
async fn a_run_waits_for_one_that_has_taken_over_a_file() {
    a_run_waits_for_one_that_is_alive(async |target| {
        sleep(Duration::from_secs(6)).await;
        let taken = "UPDATE tenantry_migrations SET checksum = 'running:0::2' WHERE version = 2";
        target.execute(taken).await.unwrap();
        sleep(Duration::from_secs(6)).await;
    })
    .await;
}

/// The file is recorded a moment after the statement has ended.
#[tokio::test]
async fn a_run_waits_for_a_long_statement_of_sqlite() {
    a_run_waits_for_one_that_is_alive(async |target| {
        sleep(Duration::from_millis(500)).await;
        let mut other = target.driver.connect(&target.config).await.unwrap();
        other.begin(&sea_orm::TransactionOptions::default()).await.unwrap();
        other.execute_script("INSERT INTO t VALUES (1)").await.unwrap();
        sleep(Duration::from_secs(11)).await;
        other.commit().await.unwrap();
        other.close().await;
        sleep(Duration::from_secs(1)).await;
    })
    .await;
}
