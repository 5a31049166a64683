//! Requests use a table while a file changes it.

use std::time::{Duration, Instant};

use super::*;

/// How long a transaction keeps the table.
const KEPT: Duration = Duration::from_secs(4);

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
