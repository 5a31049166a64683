//! The ways to read a statement's answer.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use futures_util::TryStreamExt as _;
use sea_orm::{ExecResult, QueryResult, Statement, Value, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Either, Executor, IntoArguments, Row, SqlSafeStr as _};
use tenantry_core::{DatabaseError, driver_settings::Room};

use super::Dialect;

pub(super) type Query<'a, DB> = sqlx::query::Query<'a, DB, SqlxValues>;

/// Whether the answer of a statement has to be read to its end: all rows come anyway, or it changes
/// something, which is committed at the end only.
pub(super) fn is_read_whole<D: Dialect>(statement: &Statement) -> bool {
    let mut words = statement.sql.as_bytes().windows("returning".len());
    !D::WORKS_ON_DEMAND || words.any(|word| word.eq_ignore_ascii_case(b"returning"))
}

/// A statement, which the server keeps prepared if it may be `named`.
///
/// sqlx finds one that it has prepared before by the text alone. If values of other types came with
/// the same text, the server would read their bytes as the types from before.
pub(super) fn prepared<D: Dialect>(statement: &Statement, named: bool) -> Query<'_, D::Database>
where
    SqlxValues: IntoArguments<D::Database>,
{
    let values = statement.values.iter().flat_map(|values| &values.0);
    let values: Vec<Value> = values.cloned().map(D::bound).collect();
    let sql = if D::FIXES_TYPES && named && !values.is_empty() {
        AssertSqlSafe(format!("{}\n-- types {:x}", statement.sql, types_of(&values))).into_sql_str()
    } else {
        AssertSqlSafe(statement.sql.as_str()).into_sql_str()
    };
    sqlx::query_with(sql, SqlxValues(Values(values))).persistent(named)
}

/// A number that differs for values of different types.
fn types_of(values: &[Value]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for value in values {
        std::mem::discriminant(value).hash(&mut hasher);
        #[cfg(feature = "postgresql")]
        if let Value::Array(of, _) = value {
            std::mem::discriminant(of).hash(&mut hasher);
        }
    }
    hasher.finish()
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

    /// `whole` is whether the answer is read to its end, also if one row is wanted.
    fn run(
        connection: &mut <D::Database as Database>::Connection,
        query: Query<'_, D::Database>,
        room: Room,
        whole: bool,
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
        _whole: bool,
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
        _whole: bool,
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
        whole: bool,
    ) -> Result<Option<QueryResult>, Interrupted> {
        if !whole {
            let row = connection.fetch_optional(query).await;
            let row = row.map_err(|error| Interrupted::Failed(error, 0))?;
            row.iter().try_for_each(|row| take::<D>(&mut room, row))?;
            return Ok(row.map(Into::into));
        }
        // Rows of a server that are not read here would come before the answer of the next
        // statement.
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
