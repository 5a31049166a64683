//! The users of a tenant: one set of tests, run on every kind of database.

mod absent_table;
mod life;
mod pages;
mod parameters;
mod refusals;
mod texts;

use serde_json::{Value, json};

pub(crate) const USERS: &str = "/api/v1/tenant/users";

/// Each of these on every kind of database, written down for the table of what holds on which.
macro_rules! on_every_database {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $crate::users::on_database!(Sqlite: $($case),*);
        }
        mod postgresql {
            $crate::users::on_database!(Postgresql: $($case),*);
        }
        mod mariadb {
            $crate::users::on_database!(Mariadb: $($case),*);
        }
        mod oracle {
            $crate::users::on_database!(Oracle: $($case),*);
        }
    };
}
pub(crate) use on_every_database;

macro_rules! on_database {
    ($database:ident: $($case:ident),*) => {
        $(#[tokio::test]
        async fn $case() {
            let database = $crate::databases::Database::$database;
            super::$case(database).await;
            database.passed(module_path!(), stringify!($case));
        })*
    };
}
pub(crate) use on_database;

pub(crate) fn user(name: &str, email: &str) -> Value {
    json!({"name": name, "email": email})
}

pub(crate) fn path(user: &Value) -> String {
    format!("{USERS}/{}", user["id"])
}
