//! Transactions, ended well, badly and not at all.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use sea_orm::{ConnectionTrait, Statement, StreamTrait as _, TransactionTrait};
use tenantry_core::{
    Purpose,
    engine::{EngineSettings, RequestTally, TenantDatabase},
};
use tokio::time::{sleep, timeout};

use crate::scripted::{Scripted, World, id};

async fn database() -> (World, TenantDatabase) {
    let mut settings = EngineSettings::default();
    settings.pools.defaults.max_connections = 1;
    let world = World::new(Scripted::with(["t1".to_owned()]), settings).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    database.execute_unprepared("CREATE TABLE t (n INTEGER)").await.unwrap();
    (world, database)
}

async fn insert(connection: &impl ConnectionTrait, n: i64) {
    let statement = Statement::from_sql_and_values(
        connection.get_database_backend(),
        "INSERT INTO t VALUES (?)",
        [n.into()],
    );
    connection.execute_raw(statement).await.unwrap();
}

async fn rows(connection: &impl ConnectionTrait) -> Vec<i64> {
    let statement = Statement::from_string(connection.get_database_backend(), "SELECT n FROM t ORDER BY n");
    let rows = connection.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

#[tokio::test]
async fn a_commit_keeps_and_a_rollback_undoes() {
    let (_world, database) = database().await;
    let transaction = database.begin().await.unwrap();
    insert(&transaction, 1).await;
    transaction.commit().await.unwrap();
    let transaction = database.begin().await.unwrap();
    insert(&transaction, 2).await;
    transaction.rollback().await.unwrap();
    assert_eq!(rows(&database).await, [1]);
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_on_a_usable_connection() {
    let (_world, database) = database().await;
    let transaction = database.begin().await.unwrap();
    insert(&transaction, 1).await;
    drop(transaction);
    assert_eq!(rows(&database).await, [0i64; 0]);
    assert_eq!(database.pool_status().open, 1);
}

#[tokio::test]
async fn save_points_end_by_themselves() {
    let (_world, database) = database().await;
    let outer = database.begin().await.unwrap();
    insert(&outer, 1).await;
    let kept = outer.begin().await.unwrap();
    insert(&kept, 2).await;
    kept.commit().await.unwrap();
    let undone = outer.begin().await.unwrap();
    insert(&undone, 3).await;
    undone.rollback().await.unwrap();
    let dropped = outer.begin().await.unwrap();
    insert(&dropped, 4).await;
    drop(dropped);
    assert_eq!(rows(&outer).await, [1, 2]);
    outer.commit().await.unwrap();
    assert_eq!(rows(&database).await, [1, 2]);
}

#[tokio::test]
async fn a_save_point_that_outlives_its_transaction_can_do_nothing() {
    let (_world, database) = database().await;
    let outer = database.begin().await.unwrap();
    let inner = outer.begin().await.unwrap();
    drop(outer);
    assert!(inner.execute_unprepared("INSERT INTO t VALUES (1)").await.is_err());
    drop(inner);
    assert_eq!(rows(&database).await, [0i64; 0]);
}

#[tokio::test]
async fn a_commit_that_fails_is_an_error() {
    let (_world, database) = database().await;
    let script = "CREATE TABLE p (id INTEGER PRIMARY KEY); \
                  CREATE TABLE c (p INTEGER REFERENCES p (id) DEFERRABLE INITIALLY DEFERRED)";
    database.execute_unprepared(script).await.unwrap();
    let transaction = database.begin().await.unwrap();
    transaction
        .execute_unprepared("INSERT INTO c VALUES (42)")
        .await
        .unwrap();
    assert!(transaction.commit().await.is_err());
    let orphans = Statement::from_string(database.get_database_backend(), "SELECT p FROM c");
    assert!(database.query_all_raw(orphans).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_closure_commits_on_ok_and_rolls_back_on_error() {
    let (_world, database) = database().await;
    let done = database.transaction::<_, _, sea_orm::DbErr>(|transaction| {
        Box::pin(async move {
            insert(transaction, 1).await;
            Ok(())
        })
    });
    done.await.unwrap();
    let failed = database.transaction::<_, (), _>(|transaction| {
        Box::pin(async move {
            insert(transaction, 2).await;
            Err(sea_orm::DbErr::Custom("no".to_owned()))
        })
    });
    assert!(failed.await.is_err());
    assert_eq!(rows(&database).await, [1]);
}

#[tokio::test]
async fn a_transaction_cut_off_in_the_middle_leaves_nothing() {
    let (_world, database) = database().await;
    let transaction = database.begin().await.unwrap();
    insert(&transaction, 1).await;
    let long =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000000) SELECT COUNT(*) FROM n";
    let statement = Statement::from_string(transaction.get_database_backend(), long);
    assert!(
        tokio::time::timeout(Duration::from_millis(20), transaction.query_one_raw(statement))
            .await
            .is_err()
    );
    drop(transaction);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(rows(&database).await, [0i64; 0]);
}

const LONG: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT COUNT(*) FROM n";

/// What another session sees of the table.
async fn committed(world: &World) -> Vec<i64> {
    let mut opened = world.tenants.open_connection(&id("t1"), Purpose::Change).await.unwrap();
    let statement = Statement::from_string(opened.driver.backend(), "SELECT n FROM t ORDER BY n");
    let rows = opened.connection.query(&statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// A later transaction on the same pool, of one connection, is a transaction of its own.
async fn a_later_commit_is_kept(world: &World, database: &TenantDatabase) {
    let transaction = timeout(Duration::from_secs(10), database.begin())
        .await
        .unwrap()
        .unwrap();
    insert(&transaction, 7).await;
    transaction.commit().await.unwrap();
    assert_eq!(committed(world).await, [7]);
}

#[tokio::test]
async fn a_failed_script_leaves_no_transaction_behind() {
    let (world, database) = database().await;
    let script = "BEGIN; INSERT INTO t VALUES (1); INSERT INTO nothing VALUES (1); COMMIT";
    assert!(database.execute_unprepared(script).await.is_err());
    a_later_commit_is_kept(&world, &database).await;
}

#[tokio::test]
async fn a_script_that_only_begins_leaves_no_transaction_behind() {
    let (world, database) = database().await;
    database.execute_unprepared("BEGIN").await.unwrap();
    insert(&database, 1).await;
    assert_eq!(committed(&world).await, [1]);
    database.execute_unprepared("DELETE FROM t").await.unwrap();
    a_later_commit_is_kept(&world, &database).await;
}

async fn run(connection: &impl ConnectionTrait, sql: &str) -> Result<(), sea_orm::DbErr> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.execute_raw(statement).await.map(drop)
}

#[tokio::test]
async fn a_statement_that_begins_loses_no_later_write() {
    let (world, database) = database().await;
    run(&database, "BEGIN").await.unwrap();
    insert(&database, 1).await;
    assert_eq!(committed(&world).await, [1]);
    run(&database, "DELETE FROM t").await.unwrap();
    let begin = Statement::from_string(database.get_database_backend(), "SAVEPOINT s");
    database.query_all_raw(begin).await.unwrap();
    insert(&database, 1).await;
    assert_eq!(committed(&world).await, [1]);
}

#[tokio::test]
async fn a_transaction_leaves_nothing_of_its_session() {
    let (_world, database) = database().await;
    let transaction = database.begin().await.unwrap();
    run(&transaction, "CREATE TEMP TABLE left_behind (n INTEGER)")
        .await
        .unwrap();
    insert(&transaction, 1).await;
    transaction.commit().await.unwrap();
    assert_eq!(rows(&database).await, [1]);
    assert!(run(&database, "INSERT INTO left_behind VALUES (1)").await.is_err());
    // Nor does a call that failed.
    let script = "CREATE TEMP TABLE left_behind (n INTEGER); INSERT INTO nothing VALUES (1)";
    assert!(run(&database, script).await.is_err());
    assert!(run(&database, "INSERT INTO left_behind VALUES (1)").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_cut_off_while_it_waits_leaves_no_transaction_behind() {
    let (world, database) = database().await;
    let outer = database.begin().await.unwrap();
    insert(&outer, 1).await;
    let inner = Arc::new(outer.begin().await.unwrap());
    let running = tokio::spawn({
        let inner = inner.clone();
        async move {
            let statement = Statement::from_string(inner.get_database_backend(), LONG);
            inner.query_one_raw(statement).await.map(drop)
        }
    });
    sleep(Duration::from_millis(30)).await;
    assert!(timeout(Duration::from_millis(10), outer.commit()).await.is_err());
    running.await.unwrap().unwrap();
    assert!(inner.execute_unprepared("INSERT INTO t VALUES (2)").await.is_err());
    drop(inner);
    a_later_commit_is_kept(&world, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_dropped_during_a_save_point_is_rolled_back() {
    let (world, database) = database().await;
    let outer = database.begin().await.unwrap();
    insert(&outer, 1).await;
    let inner = outer.begin().await.unwrap();
    let running = tokio::spawn(async move {
        let statement = Statement::from_string(inner.get_database_backend(), LONG);
        inner.query_one_raw(statement).await.map(drop)
    });
    sleep(Duration::from_millis(30)).await;
    drop(outer);
    running.await.unwrap().unwrap();
    a_later_commit_is_kept(&world, &database).await;
}

#[tokio::test]
async fn a_commit_rolls_back_save_points_that_have_not_ended() {
    let (world, database) = database().await;
    let outer = database.begin().await.unwrap();
    insert(&outer, 7).await;
    let inner = outer.begin().await.unwrap();
    insert(&inner, 8).await;
    let innermost = inner.begin().await.unwrap();
    insert(&innermost, 9).await;
    outer.commit().await.unwrap();
    assert!(inner.execute_unprepared("INSERT INTO t VALUES (10)").await.is_err());
    assert!(innermost.commit().await.is_err());
    drop(inner);
    assert_eq!(committed(&world).await, [7]);
    assert_eq!(database.pool_status().open, 1);
}

/// What a request may have changed when it is cut off, by how it reached its connection.
#[tokio::test]
async fn a_request_knows_whether_its_statements_may_have_had_an_effect() {
    let (world, _database) = database().await;
    let tally_of = async || {
        let tally = Arc::new(RequestTally::default());
        let acquired = world.tenants.acquire_for(&id("t1"), Some(tally.clone())).await;
        (acquired.unwrap(), tally)
    };

    let (database, tally) = tally_of().await;
    let backend = database.get_database_backend();
    let statement = |sql| Statement::from_string(backend, sql);
    rows(&database).await;
    database
        .execute_raw(statement("INSERT INTO missing VALUES (1)"))
        .await
        .unwrap_err();
    assert!(!tally.may_have_effect(), "a read, and a write that failed");
    insert(&database, 1).await;
    database
        .execute_raw(statement("INSERT INTO missing VALUES (1)"))
        .await
        .unwrap_err();
    assert!(tally.may_have_effect(), "a write, whatever failed after it");

    let (database, tally) = tally_of().await;
    let transaction = database.begin().await.unwrap();
    insert(&transaction, 2).await;
    transaction.rollback().await.unwrap();
    assert!(!tally.may_have_effect(), "a rollback");
    let transaction = database.begin().await.unwrap();
    insert(&transaction, 2).await;
    assert!(!tally.may_have_effect(), "before the commit");
    transaction.commit().await.unwrap();
    assert!(tally.may_have_effect(), "a commit");

    let (database, tally) = tally_of().await;
    let connection = database.connection().await.unwrap();
    rows(&connection).await;
    let transaction = connection.begin().await.unwrap();
    insert(&transaction, 3).await;
    transaction.rollback().await.unwrap();
    assert!(!tally.may_have_effect(), "a read and a rollback on a pinned connection");
    insert(&connection, 3).await;
    assert!(tally.may_have_effect(), "a write on a pinned connection");
    drop(connection);

    let (database, tally) = tally_of().await;
    let script = "INSERT INTO t VALUES (3); INSERT INTO missing VALUES (1)";
    database.execute_unprepared(script).await.unwrap_err();
    assert!(tally.may_have_effect(), "a script of which a part ran");

    let (database, tally) = tally_of().await;
    let mut stream = database.stream_raw(statement("SELECT n FROM t")).await.unwrap();
    while stream.try_next().await.unwrap().is_some() {}
    drop(stream);
    assert!(!tally.may_have_effect(), "a stream of a read");
    let insert = statement("INSERT INTO t VALUES (4), (5) RETURNING n");
    let mut stream = database.stream_raw(insert).await.unwrap();
    assert!(stream.try_next().await.unwrap().is_some());
    assert!(tally.may_have_effect(), "a stream of a write");
}
