//! Transactions as SeaORM's own connection has them.

use std::time::Duration;

use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, IsolationLevel, SqlErr, TransactionError, TransactionTrait,
};
use tenantry_core::{DatabaseErrorKind, engine::TenantDatabase};
use tokio::time::timeout;

use super::{insert, numbers, on_each};
use crate::servers::Server;

on_each!(
    an_async_closure_commits_on_ok_and_rolls_back_on_error,
    a_save_point_takes_an_access_mode,
    a_clone_is_of_the_same_request
);

async fn an_async_closure_commits_on_ok_and_rolls_back_on_error(database: TenantDatabase) {
    let kept = database
        .transaction_async(async |transaction| {
            insert(transaction, 1).await;
            Ok::<_, DbErr>(transaction.get_database_backend())
        })
        .await;
    assert_eq!(kept.unwrap(), database.get_database_backend());
    let undone = database
        .transaction_with_config_async(
            async |transaction| {
                insert(transaction, 2).await;
                Err::<(), _>(DbErr::Custom("no".to_owned()))
            },
            Some(IsolationLevel::Serializable),
            None,
        )
        .await;
    assert!(matches!(undone, Err(TransactionError::Transaction(DbErr::Custom(_)))));
    assert_eq!(numbers(&database).await, [1]);
}

/// Read only on SQLite and PostgreSQL until it ends. MariaDB and Oracle have no such save points.
async fn a_save_point_takes_an_access_mode(database: TenantDatabase) {
    let outer = database.begin().await.unwrap();
    insert(&outer, 1).await;
    let write = outer
        .begin_with_config(None, Some(AccessMode::ReadWrite))
        .await
        .unwrap();
    insert(&write, 2).await;
    write.commit().await.unwrap();
    let read = outer.begin_with_config(None, Some(AccessMode::ReadOnly)).await;
    if matches!(database.driver(), "mysql" | "oracle") {
        assert_eq!(
            DatabaseErrorKind::of(&read.unwrap_err()),
            DatabaseErrorKind::Unsupported
        );
    } else {
        let read = read.unwrap();
        assert_eq!(numbers(&read).await, [1, 2]);
        let error = read
            .execute_unprepared("INSERT INTO numbers (n) VALUES (3)")
            .await
            .unwrap_err();
        assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::ReadOnly);
        read.rollback().await.unwrap();
    }
    insert(&outer, 4).await;
    outer.commit().await.unwrap();
    assert_eq!(numbers(&database).await, [1, 2, 4]);
    insert(&database, 5).await;
}

async fn a_clone_is_of_the_same_request(database: TenantDatabase) {
    let tasks = (1..=3i64).map(|n| {
        let database = database.clone();
        tokio::spawn(async move { insert(&database, n).await })
    });
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(numbers(&database).await, [1, 2, 3]);
}

/// SQLite's transactions are serializable, so each level is fulfilled, in a save point too.
#[tokio::test]
async fn a_save_point_of_sqlite_takes_an_isolation_level() {
    let (_keep, database) = super::sqlite().await;
    let outer = database.begin().await.unwrap();
    let inner = outer
        .begin_with_config(Some(IsolationLevel::RepeatableRead), None)
        .await
        .unwrap();
    insert(&inner, 1).await;
    inner.commit().await.unwrap();
    outer.commit().await.unwrap();
    assert_eq!(numbers(&database).await, [1]);
}

/// A transaction that has read cannot begin to write beside another writer: waiting could not help it.
#[tokio::test]
async fn a_sqlite_reader_that_cannot_write_may_be_retried() {
    let (_keep, database) = super::sqlite().await;
    let reader = database.begin().await.unwrap();
    assert_eq!(numbers(&reader).await, [0i64; 0]);
    let writer = database.begin().await.unwrap();
    insert(&writer, 1).await;
    let refused = reader.execute_unprepared("INSERT INTO numbers (n) VALUES (2)");
    let error = timeout(Duration::from_secs(30), refused).await.unwrap().unwrap_err();
    assert_eq!(
        DatabaseErrorKind::of(&error),
        DatabaseErrorKind::Serialization,
        "{error:?}"
    );
    reader.rollback().await.unwrap();
    writer.commit().await.unwrap();
    let again = database.begin().await.unwrap();
    assert_eq!(numbers(&again).await, [1]);
    insert(&again, 2).await;
    again.commit().await.unwrap();
    assert_eq!(numbers(&database).await, [1, 2]);
}

#[tokio::test]
async fn a_failed_transaction_s_commit_reports_the_first_error() {
    let (_keep, database) = super::of(Server::postgresql().await).await;
    insert(&database, 1).await;
    let transaction = database.begin().await.unwrap();
    let first = transaction
        .execute_unprepared("INSERT INTO numbers (n) VALUES (1)")
        .await;
    assert_eq!(
        DatabaseErrorKind::of(&first.unwrap_err()),
        DatabaseErrorKind::UniqueViolation
    );
    let later = transaction
        .execute_unprepared("INSERT INTO numbers (n) VALUES (2)")
        .await;
    assert_eq!(DatabaseErrorKind::of(&later.unwrap_err()), DatabaseErrorKind::Other);
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::UniqueViolation);
    assert!(
        matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))),
        "{error:?}"
    );
    assert_eq!(numbers(&database).await, [1]);
    assert_eq!(database.get_database_backend(), DbBackend::Postgres);
}
