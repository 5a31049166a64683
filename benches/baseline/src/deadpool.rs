//! sqlx connections in a deadpool.

use anyhow::{Result, anyhow};
use deadpool::managed::{self, Metrics, Object, Pool, RecycleResult};
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use crate::{POOL_SIZE, User};

pub(crate) const FIND: &str = "SELECT id, name, email, created_at, updated_at FROM users WHERE id = $1";
pub(crate) const LIST: &str =
    "SELECT id, name, email, created_at, updated_at FROM users WHERE id > $1 ORDER BY id LIMIT $2";

pub(crate) struct Manager(PgConnectOptions);

impl managed::Manager for Manager {
    type Type = PgConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<PgConnection, sqlx::Error> {
        self.0.connect().await
    }

    async fn recycle(&self, _: &mut PgConnection, _: &Metrics) -> RecycleResult<sqlx::Error> {
        Ok(())
    }
}

/// A pool of at most [`POOL_SIZE`].
pub(crate) fn pool(options: PgConnectOptions) -> Result<Pool<Manager>> {
    Ok(Pool::builder(Manager(options)).max_size(POOL_SIZE).build()?)
}

/// A connection of it.
pub(crate) async fn take(pool: &Pool<Manager>) -> Result<Object<Manager>> {
    pool.get().await.map_err(|error| anyhow!("no connection: {error}"))
}

pub(crate) struct Users(Pool<Manager>);

impl Users {
    pub(crate) fn new(options: PgConnectOptions) -> Result<Self> {
        pool(options).map(Self)
    }
}

impl crate::Users for Users {
    async fn find(&self, id: i64) -> Result<Option<User>> {
        let mut connection = take(&self.0).await?;
        Ok(sqlx::query_as(FIND).bind(id).fetch_optional(&mut *connection).await?)
    }

    async fn list(&self, after: i64, limit: i64) -> Result<Vec<User>> {
        let mut connection = take(&self.0).await?;
        let query = sqlx::query_as(LIST).bind(after).bind(limit);
        Ok(query.fetch_all(&mut *connection).await?)
    }
}
