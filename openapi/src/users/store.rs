//! The statements on `users`, for any of SeaORM's connections. Each is one round trip, or two on a
//! database without `RETURNING`.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder, QueryResult, QuerySelect,
    Select, Statement, TransactionSession, TransactionTrait,
    sea_query::Expr,
};

use super::{
    entity::{ActiveModel, Column, Entity, Model},
    fixed::Fixed,
    user_input::UserInput,
};

/// Some rows in order.
pub(super) struct Page {
    pub(super) rows: Vec<Model>,
    /// Whether others follow.
    pub(super) has_more: bool,
}

impl Page {
    pub(super) fn last(&self) -> Option<&Model> {
        self.rows.last()
    }
}

pub(super) async fn list<C: ConnectionTrait>(db: &C, after: Option<i64>, limit: u64) -> Result<Page, DbErr> {
    let statement = list_statement(db.get_database_backend(), after, limit + 1);
    let rows = db.query_all_raw(statement).await?;
    let mut rows: Vec<_> = rows.iter().map(read).collect::<Result<_, _>>()?;
    let has_more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Page { rows, has_more })
}

fn list_statement(backend: DbBackend, after: Option<i64>, limit: u64) -> Statement {
    static LIST: Fixed<Entity> = Fixed::new(|| first(0));
    static LIST_AFTER: Fixed<Entity> = Fixed::new(|| first(0).filter(Column::Id.gt(0)));
    match after {
        None => LIST.with(backend, [limit.into()]),
        Some(after) => LIST_AFTER.with(backend, [after.into(), limit.into()]),
    }
}

/// So many, by their numbers.
fn first(limit: u64) -> Select<Entity> {
    Entity::find().order_by_asc(Column::Id).limit(limit)
}

pub(crate) async fn count<C: ConnectionTrait>(db: &C) -> Result<i64, DbErr> {
    let count = Entity::find()
        .select_only()
        .column_as(Column::Id.count(), "users")
        .into_tuple::<i64>();
    Ok(count.one(db).await?.unwrap_or_default())
}

pub(super) async fn find<C: ConnectionTrait>(db: &C, id: i64) -> Result<Option<Model>, DbErr> {
    let statement = find_statement(db.get_database_backend(), id);
    let row = db.query_one_raw(statement).await?;
    row.as_ref().map(read).transpose()
}

/// Reads a row of a [`Fixed`] statement, which returns the entity's columns in their order. It
/// reads by position, since reading by name looks up each column in a map.
fn read(row: &QueryResult) -> Result<Model, DbErr> {
    let (id, name, email, created_at, updated_at) = row.try_get_many_by_index()?;
    Ok(Model {
        id,
        name,
        email,
        created_at,
        updated_at,
    })
}

fn find_statement(backend: DbBackend, id: i64) -> Statement {
    // Without the `LIMIT` that SeaORM's `one` adds: there is one row at most, and PostgreSQL needs
    // a tenth of its time for that node.
    static FIND: Fixed<Entity> = Fixed::new(|| Entity::find_by_id(0));
    FIND.with(backend, [id.into()])
}

pub(super) async fn insert<C: ConnectionTrait>(db: &C, input: UserInput) -> Result<Model, DbErr> {
    let now = now();
    let row = ActiveModel {
        id: NotSet,
        name: Set(input.name.clone()),
        email: Set(input.email.clone()),
        created_at: Set(now),
        updated_at: Set(now),
    };
    // All but the number is known here already, so no database has to be asked again for the row.
    let inserted = Entity::insert(row).exec(db).await?;
    Ok(Model {
        id: inserted.last_insert_id,
        name: input.name,
        email: input.email,
        created_at: now,
        updated_at: now,
    })
}

pub(super) async fn update<C>(db: &C, id: i64, input: UserInput) -> Result<Option<Model>, DbErr>
where
    C: ConnectionTrait + TransactionTrait,
{
    let update = Entity::update_many()
        .col_expr(Column::Name, Expr::value(input.name))
        .col_expr(Column::Email, Expr::value(input.email))
        .col_expr(Column::UpdatedAt, Expr::value(now()))
        .filter(Column::Id.eq(id));
    if db.support_returning() {
        return Ok(update.exec_with_returning(db).await?.pop());
    }
    // In a transaction, so that what is read is what was written.
    let transaction = db.begin().await?;
    update.exec(&transaction).await?;
    let row = find(&transaction, id).await?;
    transaction.commit().await?;
    Ok(row)
}

/// Deletes a user. Returns whether it existed.
pub(super) async fn delete<C: ConnectionTrait>(db: &C, id: i64) -> Result<bool, DbErr> {
    Ok(Entity::delete_by_id(id).exec(db).await?.rows_affected > 0)
}

/// Now, as exactly as every one of the databases keeps it: what is answered after a write is what
/// is read later.
fn now() -> DateTime<Utc> {
    let now = Utc::now();
    now.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use sea_orm::QueryTrait;

    use super::*;

    #[test]
    fn kept_statements_are_those_that_seaorm_writes() {
        for backend in [DbBackend::MySql, DbBackend::Postgres, DbBackend::Sqlite] {
            for n in 1..3 {
                let find = Entity::find_by_id(n).build(backend);
                assert_eq!(find_statement(backend, n), find);
                let list = Entity::find().order_by_asc(Column::Id).limit(n as u64);
                assert_eq!(list_statement(backend, None, n as u64), list.clone().build(backend));
                let after = list.filter(Column::Id.gt(n + 1)).build(backend);
                assert_eq!(list_statement(backend, Some(n + 1), n as u64), after);
            }
        }
    }
}
