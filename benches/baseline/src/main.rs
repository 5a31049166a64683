//! The least that a server with the same routes can do: the same HTTP server, database client and
//! answers, for one tenant that is written into it, with the SQL written by hand. No tenancy, no
//! documents, no checks beyond the types, no log, no limits, no time-outs.
//!
//! Three ways to the database: connections in a deadpool, as Tenantry keeps them; sqlx's own pool
//! with its defaults, as most programs do; and the deadpool with SeaORM's entities on it, which
//! shows the cost of SeaORM. Beside them, on the deadpool, users with their notes as one JSON text
//! that the database makes.

mod deadpool;
mod json_agg;
mod orm;
mod own_pool;

use std::{future::Future, sync::Arc};

use anyhow::{Context, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Parser, ValueEnum};
use poem::{
    Endpoint, EndpointExt, IntoResponse, Response, Route, Server, get, handler,
    http::StatusCode,
    listener::TcpListener,
    web::{Data, Json, Path, Query},
};
use serde::{Deserialize, Serialize};
use sqlx::{
    FromRow, Row as _,
    postgres::{PgConnectOptions, PgRow},
};

/// The most connections of the deadpool: a tenant's default in Tenantry.
pub const POOL_SIZE: usize = 20;

/// What a page of users has by default.
const LIMIT: i64 = 50;

#[derive(Parser)]
struct Arguments {
    /// The address to listen on, such as `127.0.0.1:8080`.
    #[arg(long)]
    listen: String,
    /// The tenant's database, such as `postgres://user:password@127.0.0.1:5432/database`.
    #[arg(long, env = "BASELINE_DATABASE")]
    database: String,
    /// The way to it.
    #[arg(long, value_enum)]
    pool: PoolKind,
}

#[derive(Clone, Copy, ValueEnum)]
enum PoolKind {
    /// Connections in a deadpool, without any check.
    Deadpool,
    /// sqlx's own pool with its defaults.
    Sqlx,
    /// As `deadpool`, with statements and rows by SeaORM.
    Orm,
    /// As `deadpool`, with users and their notes in one statement.
    JsonAgg,
}

/// The users, whatever the way to them.
trait Users: Send + Sync + 'static {
    fn find(&self, id: i64) -> impl Future<Output = Result<Option<User>>> + Send;
    fn list(&self, after: i64, limit: i64) -> impl Future<Output = Result<Vec<User>>> + Send;
}

#[derive(Serialize)]
struct User {
    id: i64,
    name: String,
    email: String,
    #[serde(serialize_with = "rfc3339")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "rfc3339")]
    updated_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for User {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            email: row.try_get(2)?,
            created_at: row.try_get(3)?,
            updated_at: row.try_get(4)?,
        })
    }
}

fn rfc3339<S: serde::Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

#[derive(Serialize)]
struct Page {
    items: Vec<User>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

#[derive(Deserialize)]
struct PageQuery {
    limit: Option<i64>,
    after: Option<i64>,
}

#[handler]
fn live() -> Json<Status> {
    Json(Status { status: "up" })
}

async fn user<U: Users>(users: &U, id: i64) -> Response {
    match users.find(id).await {
        Ok(Some(user)) => Json(user).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => failed(&error),
    }
}

async fn page<U: Users>(users: &U, query: PageQuery) -> Response {
    let limit = query.limit.unwrap_or(LIMIT);
    match users.list(query.after.unwrap_or_default(), limit + 1).await {
        Ok(mut items) => {
            let has_more = items.len() as i64 > limit;
            items.truncate(limit as usize);
            let next = items.last().filter(|_| has_more).map(|last| last.id.to_string());
            Json(Page { items, next }).into_response()
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> Response {
    eprintln!("baseline: {error:#}");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// The routes; a macro, since a handler of poem's has no type parameter.
macro_rules! routes {
    ($users:expr, $type:ty) => {{
        #[handler]
        async fn get_user(users: Data<&Arc<$type>>, id: Path<i64>) -> Response {
            user(&***users, id.0).await
        }
        #[handler]
        async fn list_users(users: Data<&Arc<$type>>, query: Query<PageQuery>) -> Response {
            page(&***users, query.0).await
        }
        Route::new()
            .at("/health/live", get(live))
            .at("/api/v1/tenant/users/:id", get(get_user))
            .at("/api/v1/tenant/users", get(list_users))
            .data(Arc::new($users))
    }};
}

async fn serve(listen: String, routes: impl Endpoint + 'static) -> Result<()> {
    Server::new(TcpListener::bind(listen))
        .run(routes)
        .await
        .context("the server failed")
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let options: PgConnectOptions = arguments.database.parse().context("not a database's URL")?;
    let listen = arguments.listen;
    match arguments.pool {
        PoolKind::Deadpool => serve(listen, routes!(deadpool::Users::new(options)?, deadpool::Users)).await,
        PoolKind::Sqlx => serve(listen, routes!(own_pool::Users::new(options), own_pool::Users)).await,
        PoolKind::Orm => serve(listen, routes!(orm::Users::new(options)?, orm::Users)).await,
        PoolKind::JsonAgg => serve(listen, json_agg::routes(options)?).await,
    }
}
