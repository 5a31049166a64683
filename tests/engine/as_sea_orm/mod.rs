//! A tenant's database where programs expect SeaORM's own connection: its errors, its transactions and
//! its methods. No `TransactionSession` is imported here, since `commit` needs none there.

mod entities;
mod errors;
mod lent;
mod transactions;

use tenantry_core::engine::{EngineSettings, TenantDatabase, Tenants};

use sea_orm::{ConnectionTrait, Statement, Value};

use crate::{
    scripted::{Scripted, World, id},
    servers::Server,
};

/// What must live as long as a database.
pub(crate) enum Keep {
    Files(#[expect(dead_code, reason = "it is only kept")] World),
    Server(#[expect(dead_code, reason = "it is only kept")] Tenants),
}

/// A database with a table `numbers`.
pub(crate) async fn sqlite() -> (Keep, TenantDatabase) {
    let world = World::new(Scripted::with(["t1".to_owned()]), EngineSettings::default()).await;
    let database = world.tenants.acquire(&id("t1")).await.unwrap();
    let create = "CREATE TABLE numbers (n BIGINT PRIMARY KEY)";
    database.execute_unprepared(create).await.unwrap();
    (Keep::Files(world), database)
}

pub(crate) async fn of(server: Server) -> (Keep, TenantDatabase) {
    let (tenants, database) = server.database().await;
    (Keep::Server(tenants), database)
}

/// Runs a test on each kind of database.
macro_rules! on_each {
    ($($test:ident),+) => {
        $(mod $test {
            use crate::{as_sea_orm, servers::Server};

            #[tokio::test]
            async fn sqlite() {
                let (_keep, database) = as_sea_orm::sqlite().await;
                super::$test(database).await;
            }

            #[tokio::test]
            async fn postgresql() {
                let (_keep, database) = as_sea_orm::of(Server::postgresql().await).await;
                super::$test(database).await;
            }

            #[tokio::test]
            async fn mariadb() {
                let (_keep, database) = as_sea_orm::of(Server::mariadb().await).await;
                super::$test(database).await;
            }

            #[tokio::test]
            async fn oracle() {
                let (_keep, database) = as_sea_orm::of(Server::oracle().await).await;
                super::$test(database).await;
            }
        })+
    };
}
use on_each;

pub(crate) fn with_values(connection: &impl ConnectionTrait, sql: &str, values: Vec<Value>) -> Statement {
    let backend = connection.get_database_backend();
    let sql = match backend {
        sea_orm::DbBackend::Postgres => sql.to_owned(),
        _ => (1..=values.len().max(9)).fold(sql.to_owned(), |sql, place| sql.replace(&format!("${place}"), "?")),
    };
    Statement::from_sql_and_values(backend, sql, values)
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, n: i64) {
    let statement = with_values(connection, "INSERT INTO numbers (n) VALUES ($1)", vec![n.into()]);
    connection.execute_raw(statement).await.unwrap();
}

pub(crate) async fn numbers(connection: &impl ConnectionTrait) -> Vec<i64> {
    let statement = Statement::from_string(connection.get_database_backend(), "SELECT n FROM numbers ORDER BY n");
    let rows = connection.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}
