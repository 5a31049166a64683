//! SeaORM's entities on sqlx connections in a deadpool: statements are written and rows are read by SeaORM, and nothing else is done.

use anyhow::Result;
use deadpool::managed::Pool;
use sea_orm::{
    DbBackend, FromQueryResult, QueryOrder, QueryResult, QuerySelect, QueryTrait, Statement, entity::prelude::*,
};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, Postgres, postgres::PgConnectOptions, query::Query};

use crate::{
    User,
    deadpool::{Manager, pool, take},
};

mod entity {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "users")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub name: String,
        pub email: String,
        pub created_at: DateTimeUtc,
        pub updated_at: DateTimeUtc,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

use entity::{Column, Entity, Model};

pub(crate) struct Users(Pool<Manager>);

impl Users {
    pub(crate) fn new(options: PgConnectOptions) -> Result<Self> {
        pool(options).map(Self)
    }
}

fn prepared(statement: Statement) -> Query<'static, Postgres, SqlxValues> {
    let values = statement.values.unwrap_or(sea_orm::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

fn read(row: QueryResult) -> Result<User, DbErr> {
    let row = Model::from_query_result(&row, "")?;
    Ok(User {
        id: row.id,
        name: row.name,
        email: row.email,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

impl crate::Users for Users {
    async fn find(&self, id: i64) -> Result<Option<User>> {
        let query = prepared(Entity::find_by_id(id).build(DbBackend::Postgres));
        let mut connection = take(&self.0).await?;
        let row = query.fetch_optional(&mut *connection).await?;
        Ok(row.map(|row| read(row.into())).transpose()?)
    }

    async fn list(&self, after: i64, limit: i64) -> Result<Vec<User>> {
        let select = Entity::find()
            .filter(Column::Id.gt(after))
            .order_by_asc(Column::Id)
            .limit(limit as u64);
        let query = prepared(select.build(DbBackend::Postgres));
        let mut connection = take(&self.0).await?;
        let rows = query.fetch_all(&mut *connection).await?;
        Ok(rows.into_iter().map(|row| read(row.into())).collect::<Result<_, _>>()?)
    }
}
