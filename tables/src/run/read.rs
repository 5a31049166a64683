//! Reads: one statement, and one more for each embedded relation, in one snapshot.

use std::collections::HashSet;

use sea_orm::{AccessMode, ConnectionTrait, DbErr, IsolationLevel, QueryResult, TransactionTrait as _};
use tenantry_core::{DatabaseErrorKind, engine::TenantDatabase};

use crate::{
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
    read: &Read<'_>,
    asked: Asked<'_>,
) -> Result<Answered, Failure> {
    if read.is_flat() {
        // One statement is its own snapshot, and the engine itself repeats it.
        return on(database, dialect, model, read, asked).await;
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
    matches!(
        DatabaseErrorKind::of(error),
        DatabaseErrorKind::ConnectionLost | DatabaseErrorKind::ConnectionLostWithoutEffect
    )
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
    let answered = on(&transaction, dialect, model, read, asked).await?;
    transaction.commit().await.map_err(Failure::Database)?;
    Ok(answered)
}

async fn on<C: ConnectionTrait>(
    connection: &C,
    dialect: Dialect,
    model: &Model,
    read: &Read<'_>,
    asked: Asked<'_>,
) -> Result<Answered, Failure> {
    let limit = read.page.limit;
    // One more row than the page has says whether another page follows.
    let with_one_more = crate::plan::Page {
        limit: limit.map(|limit| limit.saturating_add(1)),
        ..read.page
    };
    let counts = asked.count && limit != Some(0);
    let statement = sql::page(dialect, model, read, with_one_more, asked.after, counts);
    let mut rows = match limit {
        Some(0) => Vec::new(),
        _ => connection.query_all_raw(statement).await.map_err(failure)?,
    };
    let has_more = limit.is_some_and(|limit| rows.len() as u64 > limit);
    if let Some(limit) = limit {
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let total = match (asked.count, rows.first()) {
        (false, _) => None,
        (true, Some(row)) => Some(counted(row, read.columns.len().max(1))?),
        (true, None) if limit != Some(0) && read.page.offset == 0 && asked.after.is_none() => Some(0),
        (true, None) => Some(count(connection, dialect, model, read).await?),
    };
    let children = children(connection, dialect, model, read, &rows, asked.most_embedded).await?;
    Ok(Answered {
        fetched: Fetched { rows, children },
        has_more,
        total,
    })
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
            if child.shown && !keys.is_empty() && child.read.page.limit != Some(0) {
                let joined = Joined {
                    keys: &keys,
                    most: most.saturating_add(1),
                };
                let statement = sql::related(dialect, model, child, &joined);
                found = connection.query_all_raw(statement).await.map_err(failure)?;
            }
            if found.len() as u64 > most {
                let message = format!("more than {most} rows of '{}' would be embedded", child.key);
                let hint = format!("Ask for fewer rows, or bound them with '{}.limit'.", child.key);
                return Err(Refusal::too_much(message).hint(hint).into());
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
