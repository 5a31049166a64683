//! Runs at once on one database, one of which takes long.

use std::time::Duration;

use super::*;

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
        tokio::time::sleep(Duration::from_secs(6)).await;
        other.commit().await.unwrap();
        other.close().await;
    };
    let (applied, ()) = tokio::join!(target.apply(&both, false), kept);
    assert_eq!(applied.unwrap(), report(&["2_u"], 1));
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 2);
}
