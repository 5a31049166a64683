//! The statements on `users`, for any of SeaORM's connections. Each is one round trip, but where a database without `RETURNING` needs two.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, TransactionSession,
    TransactionTrait,
    sea_query::Expr,
};

use super::{
    entity::{ActiveModel, Column, Entity, Model},
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
    let mut select = Entity::find().order_by_asc(Column::Id).limit(limit + 1);
    if let Some(after) = after {
        select = select.filter(Column::Id.gt(after));
    }
    let mut rows = select.all(db).await?;
    let has_more = rows.len() as u64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Page { rows, has_more })
}

pub(crate) async fn count<C: ConnectionTrait>(db: &C) -> Result<i64, DbErr> {
    let count = Entity::find()
        .select_only()
        .column_as(Column::Id.count(), "users")
        .into_tuple::<i64>();
    Ok(count.one(db).await?.unwrap_or_default())
}

pub(super) async fn find<C: ConnectionTrait>(db: &C, id: i64) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
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

/// Tells whether there was one.
pub(super) async fn delete<C: ConnectionTrait>(db: &C, id: i64) -> Result<bool, DbErr> {
    Ok(Entity::delete_by_id(id).exec(db).await?.rows_affected > 0)
}

/// Now, as exactly as every one of the databases keeps it: what is answered after a write is what is read later.
fn now() -> DateTime<Utc> {
    let now = Utc::now();
    now.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(now)
}
