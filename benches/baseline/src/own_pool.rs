//! sqlx's own pool, with its defaults.

use anyhow::Result;
use sqlx::{PgPool, postgres::PgConnectOptions};

use crate::{
    User,
    deadpool::{FIND, LIST},
};

pub(crate) struct Users(PgPool);

impl Users {
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        Self(PgPool::connect_lazy_with(options))
    }
}

impl crate::Users for Users {
    async fn find(&self, id: i64) -> Result<Option<User>> {
        Ok(sqlx::query_as(FIND).bind(id).fetch_optional(&self.0).await?)
    }

    async fn list(&self, after: i64, limit: i64) -> Result<Vec<User>> {
        let query = sqlx::query_as(LIST).bind(after).bind(limit);
        Ok(query.fetch_all(&self.0).await?)
    }
}
