//! Rows that are read as they arrive.

use futures_util::{StreamExt, TryStreamExt};
use sea_orm::{ConnectionTrait, DbErr, Statement, StreamTrait, TransactionTrait};
use tenantry_core::{
    DatabaseErrorKind,
    engine::{EngineSettings, TenantDatabase},
};

use crate::scripted::{Scripted, World, id};

async fn world() -> (World, TenantDatabase) {
    let world = World::new(Scripted::with(["t1".to_owned()]), EngineSettings::default()).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    (world, database)
}

fn numbers(most: i64) -> Statement {
    let sql =
        format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {most}) SELECT i FROM n");
    Statement::from_string(sea_orm::DbBackend::Sqlite, sql)
}

async fn sum<C: StreamTrait>(connection: &C, most: i64) -> Result<i64, DbErr> {
    let mut rows = std::pin::pin!(connection.stream_raw(numbers(most)).await?);
    let mut sum = 0;
    while let Some(row) = rows.try_next().await? {
        sum += row.try_get_by_index::<i64>(0)?;
    }
    Ok(sum)
}

#[tokio::test]
async fn every_handle_streams_and_goes_on() {
    let (_world, database) = world().await;
    assert_eq!(sum(&database, 1000).await.unwrap(), 500_500);
    assert_eq!(database.pool_status().idle, 1, "its connection is used again");
    let connection = database.connection().await.unwrap();
    assert_eq!(sum(&connection, 1000).await.unwrap(), 500_500);
    assert_eq!(sum(&connection, 10).await.unwrap(), 55);
    let transaction = connection.begin().await.unwrap();
    assert_eq!(sum(&transaction, 1000).await.unwrap(), 500_500);
    transaction.commit().await.unwrap();
    assert_eq!(sum(&database, 0).await.unwrap(), 1);
    // The ping of the pinned connection, its transaction's ends, and the five streams.
    assert_eq!(database.usage().statements.count, 8);
}

#[tokio::test]
async fn a_stream_that_is_dropped_closes_its_connection() {
    let (_world, database) = world().await;
    let mut rows = database.stream_raw(numbers(1_000_000_000)).await.unwrap();
    rows.next().await.unwrap().unwrap();
    assert_eq!(database.pool_status().in_use, 1);
    drop(rows);
    assert_eq!(database.pool_status().open, 0);
    let transaction = database.begin().await.unwrap();
    let mut rows = transaction.stream_raw(numbers(1_000_000_000)).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    let error = transaction.execute_unprepared("SELECT 1").await.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::Closed);
    assert!(transaction.commit().await.is_err());
    assert_eq!(database.pool_status().open, 0);
}

#[tokio::test]
async fn a_statement_during_a_stream_of_its_transaction_is_refused() {
    let (_world, database) = world().await;
    let transaction = database.begin().await.unwrap();
    let mut rows = transaction.stream_raw(numbers(3)).await.unwrap();
    rows.next().await.unwrap().unwrap();
    let error = transaction.execute_unprepared("SELECT 1").await.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::Unsupported);
    assert_eq!(rows.count().await, 2);
    transaction.execute_unprepared("SELECT 1").await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_fails_before_its_first_row_is_an_error() {
    let (_world, database) = world().await;
    let statement = Statement::from_string(sea_orm::DbBackend::Sqlite, "SELECT n FROM nothing");
    assert!(database.stream_raw(statement).await.is_err());
    assert_eq!(database.pool_status().idle, 1);
}
