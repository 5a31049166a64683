//! Requests use a table while a file changes it.

use std::time::{Duration, Instant};

use super::{stepwise::HEAD, *};

/// How long a transaction keeps the table.
const KEPT: Duration = Duration::from_secs(4);

/// Keeps `t` in a transaction while a file is applied. Returns what was applied, and the rows of
/// `ledger`.
async fn beside_a_kept_table(target: Target, prepare: &str, keep: &str, sql: &str) -> (Result<Summary, String>, usize) {
    let files = [("1_t.sql", prepare), ("2_more.sql", sql)];
    let dialect = target.driver.migration_dialect().to_owned();
    let (_folder, first) = folder(&dialect, &files[..1]).await;
    target.apply(&first, false).await.unwrap();
    let (_folder, both) = folder(&dialect, &files).await;
    let mut connection = target.driver.connect(&target.config).await.unwrap();
    connection.begin(&sea_orm::TransactionOptions::default()).await.unwrap();
    connection.execute_script(keep).await.unwrap();
    let kept = async {
        tokio::time::sleep(KEPT).await;
        connection.commit().await.unwrap();
        connection.close().await;
    };
    let (applied, ()) = tokio::join!(target.apply(&both, false), kept);
    (
        applied.map_err(|error| error.to_string()),
        target.texts("SELECT 'row' FROM ledger").await.len(),
    )
}

#[tokio::test]
async fn a_procedure_that_commits_waits_for_a_row_and_runs_once() {
    let prepare = "CREATE TABLE t (i integer); INSERT INTO t VALUES (1); CREATE TABLE ledger (i integer);";
    let sql = format!(
        "{HEAD}CREATE PROCEDURE backfill() LANGUAGE plpgsql AS $$ BEGIN
         INSERT INTO ledger VALUES (100); COMMIT; UPDATE t SET i = 2; COMMIT; END $$;\nCALL backfill();"
    );
    let target = Target::postgresql().await;
    let (applied, rows) = beside_a_kept_table(target, prepare, "UPDATE t SET i = 5", &sql).await;
    assert_eq!((applied.unwrap(), rows), (report(&["2_more"], 1), 1));
}

#[tokio::test]
async fn what_stands_behind_a_stored_program_is_not_repeated() {
    let prepare = "CREATE TABLE t (i int); CREATE TABLE ledger (i int);";
    let sql = "CREATE OR REPLACE PROCEDURE touch_it() UPDATE ledger SET i = i;\nINSERT INTO ledger VALUES (100);\n\
               ALTER TABLE t ADD COLUMN j int;";
    let target = Target::mysql().await;
    let (applied, rows) = beside_a_kept_table(target, prepare, "SELECT i FROM t", sql).await;
    assert_eq!((applied.unwrap(), rows), (report(&["2_more"], 1), 1));
}

async fn requests_pass_a_definition_that_waits(target: Target, dialect: &str) {
    let files = [
        ("1_t.sql", "CREATE TABLE t (i integer);"),
        (
            "2_j.sql",
            "ALTER TABLE t ADD COLUMN j integer;\nCREATE TABLE u (i integer);",
        ),
    ];
    let (_folder, first) = folder(dialect, &files[..1]).await;
    target.apply(&first, false).await.unwrap();
    let (_folder, both) = folder(dialect, &files).await;

    let keep = async {
        let mut connection = target.driver.connect(&target.config).await.unwrap();
        connection.begin(&sea_orm::TransactionOptions::default()).await.unwrap();
        let select = Statement::from_string(target.driver.backend(), "SELECT i FROM t");
        connection.query(&select).await.unwrap();
        tokio::time::sleep(KEPT).await;
        connection.commit().await.unwrap();
        connection.close().await;
    };
    let change = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        let done = target.apply(&both, false).await;
        (done, began.elapsed())
    };
    let requests = async {
        let mut slowest = Duration::ZERO;
        let began = Instant::now();
        while began.elapsed() < KEPT {
            let asked = Instant::now();
            target.texts("SELECT 'x' FROM t").await;
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        slowest
    };
    let ((), (done, took), slowest) = tokio::join!(keep, change, requests);
    assert_eq!(done.unwrap(), report(&["2_j"], 1));
    assert!(took > KEPT - Duration::from_secs(1), "it did not wait: {took:?}");
    assert!(slowest < Duration::from_secs(2), "a request waited {slowest:?}");
}

#[tokio::test]
async fn requests_pass_a_definition_that_waits_on_postgresql() {
    requests_pass_a_definition_that_waits(Target::postgresql().await, "postgresql").await;
}

#[tokio::test]
async fn requests_pass_a_definition_that_waits_on_mariadb() {
    requests_pass_a_definition_that_waits(Target::mysql().await, "mysql").await;
}
