//! What is made of a statement's answer.

use futures_util::TryStreamExt as _;
use sea_orm::{ExecResult, QueryResult, Statement, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, Database, Executor, IntoArguments};

use super::Dialect;

pub(super) type Query<'a, DB> = sqlx::query::Query<'a, DB, SqlxValues>;

pub(super) fn prepared<D: Dialect>(statement: &Statement) -> Query<'_, D::Database>
where
    SqlxValues: IntoArguments<D::Database>,
{
    let values = statement.values.iter().flat_map(|values| &values.0);
    let values = values.cloned().map(D::bound).collect();
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(Values(values)))
}

/// An error, and how many rows had come before it.
pub(super) type Interrupted = (sqlx::Error, usize);

/// What is made of a statement's answer.
pub(super) trait Mode<DB: Database> {
    type Output: Send;

    fn run(
        connection: &mut DB::Connection,
        query: Query<'_, DB>,
    ) -> impl Future<Output = Result<Self::Output, Interrupted>> + Send;
}

/// The rows it touched.
pub(super) struct Execute;
/// All of its rows.
pub(super) struct All;
/// The first of its rows.
pub(super) struct First;

impl<DB: Database> Mode<DB> for Execute
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    ExecResult: From<DB::QueryResult>,
{
    type Output = ExecResult;

    async fn run(connection: &mut DB::Connection, query: Query<'_, DB>) -> Result<ExecResult, Interrupted> {
        match connection.execute(query).await {
            Ok(result) => Ok(result.into()),
            Err(error) => Err((error, 0)),
        }
    }
}

impl<DB: Database> Mode<DB> for All
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    QueryResult: From<DB::Row>,
{
    type Output = Vec<QueryResult>;

    async fn run(connection: &mut DB::Connection, query: Query<'_, DB>) -> Result<Vec<QueryResult>, Interrupted> {
        let mut rows = Vec::new();
        let mut stream = connection.fetch(query);
        loop {
            match stream.try_next().await {
                Ok(Some(row)) => rows.push(row.into()),
                Ok(None) => return Ok(rows),
                Err(error) => return Err((error, rows.len())),
            }
        }
    }
}

impl<DB: Database> Mode<DB> for First
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
    QueryResult: From<DB::Row>,
{
    type Output = Option<QueryResult>;

    async fn run(connection: &mut DB::Connection, query: Query<'_, DB>) -> Result<Option<QueryResult>, Interrupted> {
        match connection.fetch_optional(query).await {
            Ok(row) => Ok(row.map(Into::into)),
            Err(error) => Err((error, 0)),
        }
    }
}
