//! The ways to read a statement's answer.

use futures_util::TryStreamExt as _;
use sea_orm::{ExecResult, QueryResult, Statement, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Either, Executor, IntoArguments, Row};
use tenantry_core::{DatabaseError, driver_settings::Room};

use super::Dialect;

pub(super) type Query<'a, DB> = sqlx::query::Query<'a, DB, SqlxValues>;

/// A statement, which the server keeps prepared if it may be `named`.
pub(super) fn prepared<D: Dialect>(statement: &Statement, named: bool) -> Query<'_, D::Database>
where
    SqlxValues: IntoArguments<D::Database>,
{
    let values = statement.values.iter().flat_map(|values| &values.0);
    let values = values.cloned().map(D::bound).collect();
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(Values(values))).persistent(named)
}

/// Why an answer was not read to its end.
pub(super) enum Interrupted {
    /// An error, and how many rows had come before it.
    Failed(sqlx::Error, usize),
    /// There is no room for it. The rest is unread.
    TooLarge(DatabaseError),
}

/// The ways to read a statement's answer.
pub(super) trait Mode<D: Dialect> {
    type Output: Send;

    fn run(
        connection: &mut <D::Database as Database>::Connection,
        query: Query<'_, D::Database>,
        room: Room,
    ) -> impl Future<Output = Result<Self::Output, Interrupted>> + Send;
}

/// The number of rows it touched.
pub(super) struct Execute;
/// Reads all rows.
pub(super) struct All;
/// The first of its rows.
pub(super) struct First;

impl<D: Dialect> Mode<D> for Execute
where
    for<'c> &'c mut <D::Database as Database>::Connection: Executor<'c, Database = D::Database>,
    SqlxValues: IntoArguments<D::Database>,
{
    type Output = ExecResult;

    async fn run(
        connection: &mut <D::Database as Database>::Connection,
        query: Query<'_, D::Database>,
        _room: Room,
    ) -> Result<ExecResult, Interrupted> {
        match connection.execute(query).await {
            Ok(result) => Ok(result.into()),
            Err(error) => Err(Interrupted::Failed(error, 0)),
        }
    }
}

impl<D: Dialect> Mode<D> for All
where
    for<'c> &'c mut <D::Database as Database>::Connection: Executor<'c, Database = D::Database>,
    SqlxValues: IntoArguments<D::Database>,
    usize: ColumnIndex<<D::Database as Database>::Row>,
{
    type Output = Vec<QueryResult>;

    async fn run(
        connection: &mut <D::Database as Database>::Connection,
        query: Query<'_, D::Database>,
        mut room: Room,
    ) -> Result<Vec<QueryResult>, Interrupted> {
        let mut rows = Vec::new();
        let mut stream = connection.fetch_many(query);
        loop {
            match stream.try_next().await {
                Ok(Some(Either::Left(_))) => {}
                Ok(Some(Either::Right(row))) => {
                    take::<D>(&mut room, &row)?;
                    rows.push(row.into());
                }
                Ok(None) => return Ok(rows),
                Err(error) => return Err(Interrupted::Failed(error, rows.len())),
            }
        }
    }
}

impl<D: Dialect> Mode<D> for First
where
    for<'c> &'c mut <D::Database as Database>::Connection: Executor<'c, Database = D::Database>,
    SqlxValues: IntoArguments<D::Database>,
    usize: ColumnIndex<<D::Database as Database>::Row>,
{
    type Output = Option<QueryResult>;

    async fn run(
        connection: &mut <D::Database as Database>::Connection,
        query: Query<'_, D::Database>,
        mut room: Room,
    ) -> Result<Option<QueryResult>, Interrupted> {
        if D::WORKS_ON_DEMAND {
            let row = connection.fetch_optional(query).await;
            let row = row.map_err(|error| Interrupted::Failed(error, 0))?;
            row.iter().try_for_each(|row| take::<D>(&mut room, row))?;
            return Ok(row.map(Into::into));
        }
        // The server sends all rows. Those that are not read here would come before the answer of
        // the next statement.
        let mut first = None;
        let mut stream = connection.fetch_many(query);
        loop {
            match stream.try_next().await {
                Ok(Some(Either::Left(_))) => {}
                Ok(Some(Either::Right(row))) => {
                    take::<D>(&mut room, &row)?;
                    first.get_or_insert(row);
                }
                Ok(None) => return Ok(first.map(Into::into)),
                Err(error) => return Err(Interrupted::Failed(error, usize::from(first.is_some()))),
            }
        }
    }
}

fn take<D: Dialect>(room: &mut Room, row: &<D::Database as Database>::Row) -> Result<(), Interrupted>
where
    usize: ColumnIndex<<D::Database as Database>::Row>,
{
    let lengths = (0..row.len()).map(|column| row.try_get_raw(column).map_or(0, D::length));
    room.take_row(lengths).map_err(Interrupted::TooLarge)
}
