//! A tenant's database for unit tests, on SQLite in memory.

#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use sea_orm::{ConnectionTrait, Database, Statement, TransactionTrait};
use tenantry_core::{DatabaseErrorKind, tenant_database};

#[tokio::test]
async fn sqlite_in_memory_is_a_tenant_s_database() {
    let connection = Database::connect("sqlite::memory:").await.unwrap();
    let database = tenant_database(connection).await;
    let create = "CREATE TABLE t (n INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)";
    database.execute_unprepared(create).await.unwrap();
    let transaction = database.begin().await.unwrap();
    let inner = transaction.begin().await.unwrap();
    inner.execute_unprepared("INSERT INTO t VALUES (2)").await.unwrap();
    inner.rollback().await.unwrap();
    transaction
        .execute_unprepared("INSERT INTO t VALUES (3)")
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let count = Statement::from_string(database.get_database_backend(), "SELECT COUNT(*) FROM t");
    let row = database.query_one_raw(count).await.unwrap().unwrap();
    assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 2);
    let error = database
        .execute_unprepared("INSERT INTO t VALUES (1)")
        .await
        .unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::UniqueViolation);
    assert!(error.sql_err().is_some());
}
