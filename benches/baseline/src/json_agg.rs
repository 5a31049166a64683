//! Users with their notes, as a JSON text that the database makes in one statement: what PostgREST's SQL comes down to, written by hand.

use anyhow::Result;
use deadpool::managed::Pool;
use poem::{
    Endpoint, EndpointExt, IntoResponse, Response, Route, get, handler,
    web::{Data, Query},
};
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;

use crate::{
    LIMIT,
    deadpool::{Manager, pool, take},
    failed, live,
};

const LIST: &str = "SELECT coalesce(json_agg(page), '[]')::text FROM (
    SELECT users.id, users.name, users.email, of_user.notes
    FROM users
    LEFT JOIN LATERAL (
        SELECT coalesce(json_agg(note), '[]') AS notes
        FROM (SELECT id, body, created_at FROM notes WHERE notes.user_id = users.id ORDER BY id) AS note
    ) AS of_user ON true
    ORDER BY users.id
    LIMIT $1
) AS page";

#[derive(Deserialize)]
struct PageQuery {
    limit: Option<i64>,
}

async fn list(pool: &Pool<Manager>, limit: i64) -> Result<String> {
    let mut connection = take(pool).await?;
    Ok(sqlx::query_scalar(LIST).bind(limit).fetch_one(&mut *connection).await?)
}

#[handler]
async fn users_with_notes(pool: Data<&Pool<Manager>>, query: Query<PageQuery>) -> Response {
    match list(&pool, query.limit.unwrap_or(LIMIT)).await {
        Ok(text) => text.with_content_type("application/json").into_response(),
        Err(error) => failed(&error),
    }
}

/// The routes.
pub(crate) fn routes(options: PgConnectOptions) -> Result<impl Endpoint> {
    Ok(Route::new()
        .at("/health/live", get(live))
        .at("/users-with-notes", get(users_with_notes))
        .data(pool(options)?))
}
