//! The suite of cases that every driver must pass.

mod statements;
mod tables;
mod values;

use std::{
    error::Error,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::FutureExt;
use sea_orm::{DbBackend, QueryResult, Statement, StatementBuilder, TransactionOptions};
use serde_json::Value;

use crate::{
    Connection, DatabaseConfig, DatabaseDriver, DatabaseError, DatabaseErrorKind, DriverError, DriverErrorKind,
    SecretValue,
};

/// A part of every fixture's passwords that no error may repeat.
pub const CANARY: &str = "canary";

/// The statement time-out that the driver under test is built with.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// The `max_answer` that the driver under test is built with, in bytes.
pub const MAX_ANSWER: u64 = 3 << 20;

/// How long anything may take at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A real database for a driver, and the ways in which it can be wrong. What a kind of database
/// does not have, such as a password, is `None`.
#[async_trait]
pub trait DriverFixture: Send + Sync {
    /// A secret for an empty database, with a user that has all rights in it.
    fn secret(&self) -> Value;

    /// The same with a password that is wrong and holds [`CANARY`].
    fn wrong_password(&self) -> Option<Value>;

    /// A secret that names a server that does not answer.
    fn unreachable(&self) -> Option<Value>;

    /// A secret that demands encryption, for a server that does not offer it or has an untrusted
    /// certificate.
    fn tls_refused(&self) -> Option<Value>;

    /// A secret that names a database which is not there.
    fn database_missing(&self) -> Option<Value>;

    /// Ends every session of the secret's user, as an operator does; false if the database has no
    /// sessions.
    async fn end_sessions(&self) -> bool;

    /// A statement that would run much longer than [`STATEMENT_TIMEOUT`].
    fn slow_statement(&self) -> &'static str;
}

/// A case that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The group of the case, such as `transactions`.
    pub group: &'static str,
    /// The promise that the case checks.
    pub name: String,
    /// Whether there was anything to check on this kind of database.
    pub applies: bool,
}

/// Runs every case, each on its own connections. Prints the name and the outcome of each, and
/// returns all of them.
///
/// # Panics
/// When a case failed, with the names of all that did.
pub async fn run(driver: Arc<dyn DatabaseDriver>, fixture: &dyn DriverFixture) -> Vec<Case> {
    let suite = Suite {
        driver,
        fixture,
        applies: AtomicBool::new(true),
    };
    tables::create(&suite).await;
    let (mut held, mut failed) = (Vec::new(), Vec::new());
    macro_rules! cases {
        ($($module:ident :: { $($case:ident),* $(,)? })*) => {
            $($(
                let case = AssertUnwindSafe(tokio::time::timeout(PATIENCE, $module::$case(&suite)));
                let outcome = match case.catch_unwind().await {
                    Ok(Ok(())) if !suite.applies.swap(true, Ordering::Relaxed) => "does not apply",
                    Ok(Ok(())) => "ok",
                    Ok(Err(_)) => "FAILED: took too long",
                    Err(_) => "FAILED",
                };
                let name = stringify!($case).replace('_', " ");
                println!("{}: {name}: {outcome}", suite.driver.migration_dialect());
                if outcome.starts_with("FAILED") {
                    failed.push(name);
                } else {
                    held.push(Case { group: stringify!($module), name, applies: outcome == "ok" });
                }
            )*)*
        };
    }
    cases! {
        connecting::{
            a_good_secret_opens_a_connection_that_answers,
            a_wrong_password_is_an_authentication_error,
            a_server_that_does_not_answer_is_unreachable,
            encryption_that_cannot_be_had_is_a_tls_error,
            a_missing_database_is_not_a_missing_server,
            a_secret_without_a_field_is_refused_by_its_name,
            a_transaction_pooler_is_used_or_refused_by_its_name,
            a_connect_that_is_dropped_leaves_nothing_behind,
            a_session_speaks_utc,
        }
        values::{
            every_type_keeps_its_limits,
            every_type_can_be_null,
            texts_of_every_kind_come_back_as_they_went,
            a_text_of_one_megabyte_comes_back_as_it_went,
            a_value_that_is_too_long_is_not_cut_short,
        }
        statements::{
            a_taken_value_is_a_unique_violation_also_to_sea_orm,
            a_missing_parent_is_a_foreign_key_violation_also_to_sea_orm,
            a_missing_value_is_a_constraint_violation,
            a_syntax_error_leaves_the_connection_usable,
            rows_that_were_touched_are_counted,
            a_script_runs_all_of_its_statements,
            a_script_s_statements_are_run_one_by_one,
            a_statement_that_takes_too_long_is_cancelled,
            a_tenant_s_own_time_out_goes_before_the_driver_s,
            a_future_that_is_dropped_never_gives_its_answer_to_another,
            a_connection_can_be_closed_in_the_middle_of_a_statement,
            a_stream_gives_every_row_and_the_connection_goes_on,
            a_stream_that_is_dropped_never_gives_its_rows_to_another,
            an_answer_that_is_too_large_is_refused_and_costs_its_connection,
            an_ended_session_is_a_lost_connection_without_effect,
            a_transaction_whose_session_ended_is_a_lost_connection,
        }
        transactions::{
            a_commit_keeps_and_a_roll_back_does_not,
            a_renewed_session_keeps_nothing_of_the_old_one,
            a_nested_roll_back_undoes_its_own_part_only,
            an_outer_roll_back_undoes_what_an_inner_commit_kept,
            others_see_nothing_before_the_commit,
            a_commit_after_a_deadlock_keeps_all_or_fails,
            a_commit_after_an_error_keeps_all_or_fails,
            a_dropped_transaction_keeps_nothing,
            a_read_only_transaction_refuses_writes,
            an_isolation_level_is_taken,
            a_commit_without_a_transaction_is_an_error,
            the_loser_of_a_deadlock_gets_an_error_and_keeps_nothing,
        }
    }
    assert!(
        failed.is_empty(),
        "{}: failed: {failed:#?}",
        suite.driver.migration_dialect()
    );
    held
}

mod connecting;
mod transactions;

/// A driver, its database, and what every case does with them.
struct Suite<'a> {
    driver: Arc<dyn DatabaseDriver>,
    fixture: &'a dyn DriverFixture,
    /// Whether the case that runs has anything to check on this kind of database.
    applies: AtomicBool,
}

impl Suite<'_> {
    /// Reports that the running case has nothing to check for this driver. The tables of results
    /// show such a case as "does not apply".
    fn does_not_apply(&self) {
        self.applies.store(false, Ordering::Relaxed);
    }

    fn backend(&self) -> DbBackend {
        self.driver.backend()
    }

    fn dialect(&self) -> &str {
        self.driver.migration_dialect()
    }

    /// Whether SeaORM's own `sql_err` knows the errors of this kind of database: it knows only
    /// those of sqlx. [`DatabaseErrorKind::of`] works for every driver.
    fn is_known_to_sea_orm(&self) -> bool {
        matches!(self.dialect(), "postgresql" | "mysql" | "sqlite")
    }

    /// A connection by the good secret.
    async fn connect(&self) -> Session {
        self.session(self.fixture.secret()).await
    }

    /// A connection by a secret that is in order.
    async fn session(&self, secret: Value) -> Session {
        let connection = self.try_connect(secret).await;
        let connection = connection.expect("the good secret opens a connection");
        Session {
            connection,
            backend: self.backend(),
        }
    }

    async fn try_connect(&self, secret: Value) -> Result<Box<dyn Connection>, DriverError> {
        let config = config(secret);
        self.driver.validate(&config).expect("the secret is valid");
        self.driver.connect(&config).await
    }

    /// That connecting by this secret fails with this kind, and repeats nothing of the password.
    async fn refuses(&self, secret: Value, kind: DriverErrorKind) {
        let Err(error) = self.try_connect(secret).await else {
            panic!("a connection was opened");
        };
        assert_eq!(error.kind, kind, "{error:?}");
        let mut source: Option<&dyn Error> = Some(&error);
        while let Some(error) = source {
            assert!(
                !format!("{error} {error:?}").contains(CANARY),
                "an error repeats the password"
            );
            source = error.source();
        }
    }
}

fn config(secret: Value) -> DatabaseConfig {
    DatabaseConfig::parse(&SecretValue::new(secret)).expect("the secret is well formed")
}

/// A connection, and SeaORM's statements on it.
struct Session {
    connection: Box<dyn Connection>,
    backend: DbBackend,
}

impl Session {
    /// Runs a statement made by SeaORM or sea-query, and counts its rows.
    async fn execute<S: StatementBuilder>(&mut self, statement: &S) -> Result<u64, DatabaseError> {
        let statement = self.backend.build(statement);
        Ok(self.connection.execute(&statement).await?.rows_affected())
    }

    async fn query<S: StatementBuilder>(&mut self, statement: &S) -> Result<Vec<QueryResult>, DatabaseError> {
        let statement = self.backend.build(statement);
        self.connection.query(&statement).await
    }

    async fn query_sql(&mut self, sql: &str) -> Result<Vec<QueryResult>, DatabaseError> {
        self.connection.query(&Statement::from_string(self.backend, sql)).await
    }

    /// That the connection is in order.
    async fn is_usable(&mut self) {
        let rows = self.query(&tables::count(0)).await.expect("the connection is usable");
        assert_eq!(tables::counted(&rows), 0);
    }

    async fn begin(&mut self) {
        self.connection
            .begin(&TransactionOptions::default())
            .await
            .expect("a transaction begins");
    }

    async fn commit(&mut self) {
        self.connection.commit().await.expect("the transaction is committed");
    }

    async fn rollback(&mut self) {
        self.connection
            .rollback()
            .await
            .expect("the transaction is rolled back");
    }

    async fn close(self) {
        self.connection.close().await;
    }
}

fn kind<T>(outcome: Result<T, DatabaseError>) -> DatabaseErrorKind {
    match outcome {
        Ok(_) => panic!("the statement succeeded"),
        Err(error) => error.kind,
    }
}
