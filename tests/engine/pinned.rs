//! A connection that a handler keeps, for what belongs to its session.

use sea_orm::{ConnectionTrait, Statement, TransactionTrait};
use tenantry_core::{
    DatabaseErrorKind, HumanDuration,
    engine::{EngineSettings, TenantDatabase},
};

use crate::scripted::{Scripted, World, id};

async fn world(connections: usize) -> (World, TenantDatabase) {
    let mut settings = EngineSettings::default();
    settings.pools.defaults.max_connections = connections;
    settings.pools.acquire_timeout = HumanDuration::from_secs(2);
    let world = World::new(Scripted::with(["t1".to_owned()]), settings).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    (world, database)
}

async fn count(connection: &impl ConnectionTrait, table: &str) -> Option<i64> {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await.ok()??;
    row.try_get_by_index(0).ok()
}

#[tokio::test]
async fn a_temporary_table_lives_as_long_as_its_connection() {
    let (_world, database) = world(1).await;
    let connection = database.connection().await.unwrap();
    connection
        .execute_unprepared("CREATE TEMPORARY TABLE kept (n INTEGER)")
        .await
        .unwrap();
    connection
        .execute_unprepared("INSERT INTO kept VALUES (1)")
        .await
        .unwrap();
    assert_eq!(count(&connection, "kept").await, Some(1));
    assert_eq!(database.pool_status().in_use, 1);
    drop(connection);
    assert_eq!(database.pool_status().open, 0, "it is not used again");
    assert_eq!(count(&database, "kept").await, None);
}

#[tokio::test]
async fn a_pinned_connection_is_one_of_its_pool() {
    let (_world, database) = world(1).await;
    let _connection = database.connection().await.unwrap();
    let error = database.connection().await.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::PoolTimeout);
}

#[tokio::test]
async fn transactions_on_a_pinned_connection_end_one_after_the_other() {
    let (_world, database) = world(2).await;
    database.execute_unprepared("CREATE TABLE t (n INTEGER)").await.unwrap();
    let connection = database.connection().await.unwrap();
    let insert = "INSERT INTO t VALUES (1)";
    let committed = connection.begin().await.unwrap();
    committed.execute_unprepared(insert).await.unwrap();
    let save_point = committed.begin().await.unwrap();
    save_point.execute_unprepared(insert).await.unwrap();
    save_point.rollback().await.unwrap();
    committed.commit().await.unwrap();
    assert_eq!(count(&database, "t").await, Some(1));
    let dropped = connection.begin().await.unwrap();
    dropped.execute_unprepared(insert).await.unwrap();
    drop(dropped);
    assert_eq!(count(&connection, "t").await, Some(1), "it was rolled back");
    let rolled_back = connection.begin().await.unwrap();
    rolled_back.execute_unprepared(insert).await.unwrap();
    rolled_back.rollback().await.unwrap();
    connection.execute_unprepared(insert).await.unwrap();
    assert_eq!(count(&database, "t").await, Some(2));
}

#[tokio::test]
async fn a_transaction_cannot_outlive_its_pinned_connection() {
    let (_world, database) = world(2).await;
    database.execute_unprepared("CREATE TABLE t (n INTEGER)").await.unwrap();
    let connection = database.connection().await.unwrap();
    let transaction = connection.begin().await.unwrap();
    transaction
        .execute_unprepared("INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    drop(connection);
    assert!(
        transaction
            .execute_unprepared("INSERT INTO t VALUES (2)")
            .await
            .is_err()
    );
    assert!(transaction.commit().await.is_err());
    assert_eq!(count(&database, "t").await, Some(0));
}
