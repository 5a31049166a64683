//! The users of a tenant: one set of tests, run on every kind of database.

mod life;
mod pages;
mod refusals;
mod texts;

use serde_json::{Value, json};

pub(crate) const USERS: &str = "/api/v1/tenant/users";

/// Each of these on every kind of database.
macro_rules! on_every_database {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case($crate::databases::Database::Sqlite).await;
            })*
        }
        mod postgresql {
            $(#[tokio::test]
            async fn $case() {
                super::$case($crate::databases::Database::Postgresql).await;
            })*
        }
        mod mariadb {
            $(#[tokio::test]
            async fn $case() {
                super::$case($crate::databases::Database::Mariadb).await;
            })*
        }
    };
}
pub(crate) use on_every_database;

pub(crate) fn user(name: &str, email: &str) -> Value {
    json!({"name": name, "email": email})
}

pub(crate) fn path(user: &Value) -> String {
    format!("{USERS}/{}", user["id"])
}
