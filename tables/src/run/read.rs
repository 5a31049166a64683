//! Reads, in one snapshot: one statement, and one more for each embedded relation if the database
//! does not answer all at once.

use std::collections::HashSet;

use sea_orm::{AccessMode, ConnectionTrait, DbErr, IsolationLevel, QueryResult, TransactionTrait as _};
use tenantry_core::{DatabaseErrorKind, engine::TenantDatabase};

use crate::{
    declaration::ColumnType,
    json::{Fetched, Writer},
    model::Model,
    plan::{Child, Read},
    refusal::{Failure, Refusal},
    run::failure,
    sql::{self, Dialect, Joined},
    value::Datum,
};

/// What a read returns.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) fetched: Fetched,
    /// Whether there are rows after the page.
    pub(crate) has_more: bool,
    /// How many rows all pages have, if that was asked.
    pub(crate) total: Option<u64>,
}

/// What is asked besides the read itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) after: Option<&'a [Datum]>,
    pub(crate) count: bool,
    /// The most embedded rows of one relation.
    pub(crate) most_embedded: u64,
}

/// How often a read is sent again after its connection was lost in a transaction.
const AGAIN: usize = 2;

/// Runs a read.
pub(crate) async fn run(
    database: &TenantDatabase,
    dialect: Dialect,
    model: &Model,
    read: &mut Read<'_>,
    asked: Asked<'_>,
) -> Result<Answered, Failure> {
    if dialect == Dialect::Postgresql && !read.is_flat() && read.width() <= sql::MOST_COLUMNS {
        read.lay_out();
    }
    let read = &*read;
    if read.is_flat() || read.is_laid_out() {
        // One statement is its own snapshot, and the engine itself repeats it.
        let answered = on(database, dialect, model, read, asked, false).await?;
        if answered.total.is_some() || !asked.count {
            return Ok(answered);
        }
    }
    let mut repeats = 0;
    loop {
        let answered = in_snapshot(database, dialect, model, read, asked).await;
        match answered {
            Err(Failure::Database(error)) if repeats < AGAIN && was_lost(&error) => repeats += 1,
            answered => return answered,
        }
    }
}

fn was_lost(error: &DbErr) -> bool {
    DatabaseErrorKind::of(error).is_lost()
}

async fn in_snapshot(
    database: &TenantDatabase,
    dialect: Dialect,
    model: &Model,
    read: &Read<'_>,
    asked: Asked<'_>,
) -> Result<Answered, Failure> {
    let begun = database.begin_with_config(Some(IsolationLevel::RepeatableRead), Some(AccessMode::ReadOnly));
    let transaction = begun.await.map_err(Failure::Database)?;
    let answered = on(&transaction, dialect, model, read, asked, true).await?;
    transaction.commit().await.map_err(Failure::Database)?;
    Ok(answered)
}

/// Several statements run only on a `snapshot`. Without one, the rows are not counted if the page
/// begins after the last of them: no row then says how many there are.
async fn on<C: ConnectionTrait>(
    connection: &C,
    dialect: Dialect,
    model: &Model,
    read: &Read<'_>,
    asked: Asked<'_>,
    snapshot: bool,
) -> Result<Answered, Failure> {
    let limit = read.page.limit;
    let counts = asked.count && limit != Some(0);
    let statement = match read.is_laid_out() {
        true => sql::tree(model, read, asked.after, counts, asked.most_embedded),
        false => sql::page(dialect, model, read, asked.after, counts),
    };
    let found = match limit {
        Some(0) => Vec::new(),
        _ => connection.query_all_raw(statement).await.map_err(failure)?,
    };
    let mut tables = by_table(read, found)?;
    let mut rows = std::mem::take(&mut tables[read.number]);
    let has_more = limit.is_some_and(|limit| rows.len() as u64 > limit);
    if let Some(limit) = limit {
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let total = match (asked.count, rows.first()) {
        (false, _) => None,
        (true, Some(row)) => Some(counted(row, read.count_index())?),
        (true, None) if limit != Some(0) && read.page.offset == 0 && asked.after.is_none() => Some(0),
        (true, None) if limit != Some(0) && !snapshot => None,
        (true, None) => Some(count(connection, dialect, model, read).await?),
    };
    let children = match read.is_laid_out() {
        true => sent_along(read, &mut tables, asked.most_embedded)?,
        false => children(connection, dialect, model, read, &rows, asked.most_embedded).await?,
    };
    Ok(Answered {
        fetched: Fetched { rows, children },
        has_more,
        total,
    })
}

/// The rows of a statement. If it returns those of several tables, each table's are at its
/// number.
fn by_table(read: &Read<'_>, found: Vec<QueryResult>) -> Result<Vec<Vec<QueryResult>>, Failure> {
    if !read.is_laid_out() {
        return Ok(vec![found]);
    }
    let mut tables: Vec<Vec<QueryResult>> = Vec::new();
    tables.resize_with(read.last_number() + 1, Vec::new);
    for row in found {
        let number = Dialect::Postgresql.read(&row, 0, &ColumnType::Int8);
        let table = match number.map_err(Failure::Database)? {
            Datum::Int(number) => usize::try_from(number).ok().and_then(|number| tables.get_mut(number)),
            _ => None,
        };
        table.ok_or_else(unknown_table)?.push(row);
    }
    Ok(tables)
}

fn unknown_table() -> Failure {
    Failure::Database(DbErr::Type("a row is of no table of the read".to_owned()))
}

/// The embedded rows that came with the rows themselves.
fn sent_along(read: &Read<'_>, tables: &mut [Vec<QueryResult>], most: u64) -> Result<Vec<Fetched>, Failure> {
    let each = read.children.iter().map(|child| {
        let rows = match child.is_sent() {
            true => std::mem::take(&mut tables[child.read.number]),
            false => Vec::new(),
        };
        refuse_more(child, rows.len(), most)?;
        let children = sent_along(&child.read, tables, most)?;
        Ok(Fetched { rows, children })
    });
    each.collect()
}

fn refuse_more(child: &Child<'_>, rows: usize, most: u64) -> Result<(), Failure> {
    if rows as u64 <= most {
        return Ok(());
    }
    let message = format!("more than {most} rows of '{}' would be embedded", child.key);
    let hint = format!("Ask for fewer rows, or bound them with '{}.limit'.", child.key);
    Err(Refusal::too_much(message).hint(hint).into())
}

async fn count<C: ConnectionTrait>(
    connection: &C,
    dialect: Dialect,
    model: &Model,
    read: &Read<'_>,
) -> Result<u64, Failure> {
    let row = connection
        .query_one_raw(sql::count(dialect, model, read))
        .await
        .map_err(failure)?;
    row.map_or(Ok(0), |row| counted(&row, 0))
}

pub(crate) fn counted(row: &QueryResult, index: usize) -> Result<u64, Failure> {
    let count: i64 = row.try_get_by_index(index).map_err(Failure::Database)?;
    Ok(count.max(0).unsigned_abs())
}

/// The most values of keys in one statement. A text is compared twice on MySQL, and the databases
/// take 32,000 parameters and more.
const KEYS_AT_ONCE: usize = 8192;

/// The embedded rows of these rows.
pub(crate) fn children<'f, C: ConnectionTrait>(
    connection: &'f C,
    dialect: Dialect,
    model: &'f Model,
    read: &'f Read<'_>,
    rows: &'f [QueryResult],
    most: u64,
) -> std::pin::Pin<Box<dyn Future<Output = Result<Vec<Fetched>, Failure>> + Send + 'f>> {
    Box::pin(async move {
        let mut all = Vec::with_capacity(read.children.len());
        for child in &read.children {
            let keys = keys(dialect, read, child, rows)?;
            let mut found = Vec::new();
            let some = keys.chunks((KEYS_AT_ONCE / child.here.len().max(1)).max(1));
            let is_part = some.len() > 1;
            for keys in some.filter(|_| child.is_sent()) {
                let joined = Joined {
                    keys,
                    is_part,
                    most: (most - found.len() as u64).saturating_add(1),
                };
                let statement = sql::related(dialect, model, child, &joined);
                found.extend(connection.query_all_raw(statement).await.map_err(failure)?);
                refuse_more(child, found.len(), most)?;
            }
            let below = children(connection, dialect, model, &child.read, &found, most).await?;
            all.push(Fetched {
                rows: found,
                children: below,
            });
        }
        Ok(all)
    })
}

/// The different values that rows have in the columns of a relation.
fn keys(
    dialect: Dialect,
    read: &Read<'_>,
    child: &Child<'_>,
    rows: &[QueryResult],
) -> Result<Vec<Vec<Datum>>, Failure> {
    let writer = Writer {
        dialect,
        without_nulls: false,
    };
    let mut known = HashSet::new();
    let mut keys = Vec::new();
    for row in rows {
        let key = writer.key(read, row, &child.here).map_err(Failure::Database)?;
        let Some(key) = key else { continue };
        if known.insert(key) {
            let values = child.here.iter().map(|slot| writer.read(read, row, *slot));
            keys.push(values.collect::<Result<_, _>>().map_err(Failure::Database)?);
        }
    }
    Ok(keys)
}
