//! What a program that knows SeaORM finds in an error.

use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, RuntimeErr, SqlErr, Statement, TransactionTrait,
    sqlx::error::{DatabaseError as SqlxDatabaseError, ErrorKind},
};
use tenantry_core::{
    DatabaseError, DatabaseErrorKind, HumanDuration,
    engine::{EngineSettings, TenantDatabase},
};

use super::{insert, numbers, on_each, with_values};
use crate::scripted::{Scripted, World, id};

on_each!(
    a_broken_rule_is_told_to_code_that_asks,
    a_program_s_mistake_costs_its_statement_only
);

/// What the database itself said of a failed execute.
fn of_database(error: &DbErr) -> &dyn SqlxDatabaseError {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error)) => error.as_database_error().expect("the database's own error"),
        other => panic!("{other:?}"),
    }
}

async fn a_broken_rule_is_told_to_code_that_asks(database: TenantDatabase) {
    let create = match (database.driver(), database.get_database_backend()) {
        ("oracle", _) => {
            "CREATE TABLE ruled (n NUMBER(19) NOT NULL, t VARCHAR2(20) CONSTRAINT short CHECK (LENGTH(t) < 7), \
             CONSTRAINT taken UNIQUE (t), CONSTRAINT referred FOREIGN KEY (n) REFERENCES numbers (n))"
        }
        (_, DbBackend::MySql) => {
            "CREATE TABLE ruled (n BIGINT NOT NULL, t VARCHAR(20), CONSTRAINT short CHECK (LENGTH(t) < 7), \
             CONSTRAINT taken UNIQUE (t), CONSTRAINT referred FOREIGN KEY (n) REFERENCES numbers (n))"
        }
        _ => {
            "CREATE TABLE ruled (n BIGINT NOT NULL, t VARCHAR(20) CONSTRAINT short CHECK (LENGTH(t) < 7), \
             CONSTRAINT taken UNIQUE (t), CONSTRAINT referred FOREIGN KEY (n) REFERENCES numbers (n))"
        }
    };
    database.execute_unprepared(create).await.unwrap();
    insert(&database, 1).await;
    let write = async |n: Option<i64>, t: &str| {
        let values = vec![n.into(), t.into()];
        let statement = with_values(&database, "INSERT INTO ruled (n, t) VALUES ($1, $2)", values);
        database.execute_raw(statement).await
    };
    write(Some(1), "canary").await.unwrap();

    let unique = write(Some(1), "canary").await.unwrap_err();
    assert!(of_database(&unique).is_unique_violation());
    let said = of_database(&unique).message().to_lowercase();
    let Some(SqlErr::UniqueConstraintViolation(message)) = DatabaseError::sql_err_of(&unique) else {
        panic!("{unique:?}")
    };
    assert_eq!(message.to_lowercase(), said);
    // SeaORM itself knows no errors but those of sqlx.
    assert_eq!(unique.sql_err().is_some(), database.driver() != "oracle");
    let named = of_database(&unique).constraint().map(str::to_lowercase);
    let column = database.driver() == "sqlite";
    assert_eq!(named.as_deref(), Some(if column { "ruled.t" } else { "taken" }));

    let foreign = write(Some(7), "other").await.unwrap_err();
    assert!(of_database(&foreign).is_foreign_key_violation());
    assert!(matches!(
        DatabaseError::sql_err_of(&foreign),
        Some(SqlErr::ForeignKeyConstraintViolation(_))
    ));
    let missing = write(None, "other").await.unwrap_err();
    let check = write(Some(1), "canaries").await.unwrap_err();
    for (error, kind) in [
        (&missing, ErrorKind::NotNullViolation),
        (&check, ErrorKind::CheckViolation),
    ] {
        let told = of_database(error);
        assert!(told.code().is_some() && !told.message().is_empty(), "{error:?}");
        assert_eq!(DatabaseErrorKind::of(error), DatabaseErrorKind::ConstraintViolation);
        if database.driver() != "oracle" {
            assert_eq!(told.kind(), kind, "{error:?}");
        }
    }
    // The values are for code that asks, not for clients and logs.
    for error in [unique, foreign, missing, check] {
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains("canar"), "{printed}");
        assert!(
            error
                .to_string()
                .starts_with("Execution Error: error returned from database: ")
        );
    }
    let statement = Statement::from_string(database.get_database_backend(), "SELECT nothing FROM numbers");
    let error = database.query_all_raw(statement).await.unwrap_err();
    assert!(matches!(error, DbErr::Query(_)), "{error:?}");
}

#[tokio::test]
async fn a_pool_without_a_connection_is_sea_orm_s_time_out() {
    let mut settings = EngineSettings::default();
    settings.pools.defaults.max_connections = 1;
    settings.pools.acquire_timeout = HumanDuration::from_secs(1);
    let world = World::new(Scripted::with(["t1".to_owned()]), settings).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    let _transaction = database.begin().await.unwrap();
    let error = database.execute_unprepared("SELECT 1").await.unwrap_err();
    assert!(
        matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
        "{error:?}"
    );
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::PoolTimeout);
}

/// Too few values for a statement; on PostgreSQL more than the protocol can count, too.
async fn a_program_s_mistake_costs_its_statement_only(database: TenantDatabase) {
    if database.driver() == "sqlite" {
        // SQLite binds NULL where no value is given.
        return;
    }
    let session = database.begin().await.unwrap();
    insert(&session, 1).await;
    let few = with_values(&session, "INSERT INTO numbers (n) VALUES ($1 + $2)", vec![2i64.into()]);
    let few = Statement {
        sql: few
            .sql
            .replace("$2", if few.db_backend == DbBackend::MySql { "?" } else { "$2" }),
        ..few
    };
    let error = session.execute_raw(few.clone()).await.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::Other, "{error:?}");
    assert!(matches!(error, DbErr::Exec(_)), "{error:?}");
    session.rollback().await.unwrap();
    assert_eq!(numbers(&database).await, [0i64; 0]);

    let error = database.query_all_raw(few).await.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::Other, "{error:?}");
    insert(&database, 3).await;
    assert_eq!(numbers(&database).await, [3]);
    assert_eq!(database.pool_status().open, 1, "the connection is used again");
    // A mark in a text or a comment is no place for a value.
    if database.get_database_backend() == DbBackend::MySql {
        let sql = "SELECT n + ? /* ? */ FROM numbers WHERE '?' <> ''";
        let statement = Statement::from_sql_and_values(DbBackend::MySql, sql, [4i64.into()]);
        let row = database.query_one_raw(statement).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 7);
    }
}

#[tokio::test]
async fn too_many_values_for_postgresql_fail_only_their_statement() {
    let (_keep, database) = super::of(crate::servers::Server::postgresql().await).await;
    let session = database.begin().await.unwrap();
    insert(&session, 1).await;
    let places: Vec<String> = (1..=65_536).map(|place| format!("(${place})")).collect();
    let sql = format!("INSERT INTO numbers (n) VALUES {}", places.join(", "));
    let values = (0..65_536i64).map(Into::into);
    let many = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let error = session.execute_raw(many).await.unwrap_err();
    assert_eq!(DatabaseErrorKind::of(&error), DatabaseErrorKind::Other, "{error:?}");
    insert(&session, 2).await;
    session.commit().await.unwrap();
    assert_eq!(numbers(&database).await, [1, 2]);
}
