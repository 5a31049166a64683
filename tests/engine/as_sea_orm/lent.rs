//! A connection of SeaORM's own type on a tenant's database.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement, TransactionTrait};
use tenantry_core::{DatabaseErrorKind, engine::TenantDatabase};

use super::{insert, numbers, on_each};

on_each!(
    code_that_takes_only_sea_orm_s_connection_runs,
    an_error_of_the_work_is_returned,
    what_a_lent_transaction_leaves_open_is_rolled_back
);

/// As a migrator does: a transaction, a look at what is there, a change, and a save point.
async fn work(connection: &DatabaseConnection) -> Result<usize, DbErr> {
    let transaction = connection.begin().await?;
    insert(&transaction, 1).await;
    let inner = transaction.begin().await?;
    insert(&inner, 2).await;
    inner.rollback().await?;
    let inner = transaction.begin().await?;
    insert(&inner, 3).await;
    inner.commit().await?;
    transaction.commit().await?;
    insert(connection, 4).await;
    let sql = Statement::from_string(connection.get_database_backend(), "SELECT n FROM numbers");
    Ok(connection.query_all_raw(sql).await?.len())
}

async fn code_that_takes_only_sea_orm_s_connection_runs(database: TenantDatabase) {
    let counted = database.with_sea_orm(async |connection| work(&connection).await).await;
    assert_eq!(counted.unwrap(), 3);
    assert_eq!(numbers(&database).await, [1, 3, 4]);
}

async fn an_error_of_the_work_is_returned(database: TenantDatabase) {
    insert(&database, 1).await;
    let work = async |connection: DatabaseConnection| {
        connection
            .execute_unprepared("INSERT INTO numbers (n) VALUES (1)")
            .await?;
        Ok(())
    };
    let error = database.with_sea_orm(work).await.unwrap_err();
    assert_eq!(
        DatabaseErrorKind::of(&error),
        DatabaseErrorKind::UniqueViolation,
        "{error:?}"
    );
    // Another task could keep its thread from answering.
    let elsewhere = async |connection: DatabaseConnection| {
        let task = tokio::spawn(async move { connection.execute_unprepared("DELETE FROM numbers").await });
        task.await.unwrap().map(drop)
    };
    assert!(matches!(database.with_sea_orm(elsewhere).await, Err(DbErr::Conn(_))));
    assert_eq!(numbers(&database).await, [1]);
}

async fn what_a_lent_transaction_leaves_open_is_rolled_back(database: TenantDatabase) {
    let work = async |connection: DatabaseConnection| {
        let transaction = connection.begin().await?;
        insert(&transaction, 1).await;
        Err::<(), _>(DbErr::Custom("stopped".to_owned()))
    };
    assert!(matches!(database.with_sea_orm(work).await, Err(DbErr::Custom(_))));
    assert_eq!(numbers(&database).await, [0i64; 0]);
    insert(&database, 1).await;
}

/// The commit that PostgreSQL answers with a roll back, which SeaORM's connection cannot report.
#[tokio::test]
async fn a_lent_commit_that_fails_is_an_error_of_the_whole_work() {
    let (_keep, database) = super::of(crate::servers::Server::postgresql().await).await;
    insert(&database, 1).await;
    let work = async |connection: DatabaseConnection| {
        let transaction = connection.begin().await?;
        let taken = transaction
            .execute_unprepared("INSERT INTO numbers (n) VALUES (1)")
            .await;
        assert!(taken.is_err());
        transaction.commit().await
    };
    let error = database.with_sea_orm(work).await.unwrap_err();
    assert_eq!(
        DatabaseErrorKind::of(&error),
        DatabaseErrorKind::UniqueViolation,
        "{error:?}"
    );
}
