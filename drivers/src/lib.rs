//! The kinds of database that Tenantry opens, one file or folder each: a
//! [`DatabaseDriver`](tenantry_core::DatabaseDriver) and its `Connection`. Pooling is the engine's.
//!
//! `postgresql`, `mysql` and `sqlite` share the connection in `sqlx_connection`, which runs
//! statements under a deadline, keeps track of the transaction and gives errors their kinds. What
//! they differ in is the trait `Dialect`: each driver implements it in its `dialect` (SQLite in
//! `sqlite`), with the meanings of the server's codes in its `errors`. `oracle` is the crate
//! `tenantry-oracle`, in the folder `oracle`, with a connection of its own.
//!
//! | Module | What drivers have in common |
//! | --- | --- |
//! | `server_address` | the server, the database and the login that a secret names |
//! | `live_address` | which address of the server's name answers |
//! | `tls` | the certificates of a secret |
//! | `rds_iam` | logins by token |
//! | `script` | the statements of a script |
//! | `structure` | the query for a database's structure |
//!
//! The settings that they have in common are in [`tenantry_core::driver_settings`].

#[cfg(any(feature = "mysql", feature = "postgresql"))]
mod live_address;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgresql")]
mod postgresql;
#[cfg(any(feature = "mysql", feature = "postgresql"))]
mod rds_iam;
#[cfg(any(feature = "mysql", feature = "postgresql", feature = "sqlite"))]
mod script;
#[cfg(any(feature = "mysql", feature = "postgresql"))]
mod server_address;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "mysql", feature = "postgresql", feature = "sqlite"))]
mod sqlx_connection;
mod structure;
#[cfg(any(feature = "mysql", feature = "postgresql"))]
mod tls;

#[cfg(feature = "mysql")]
pub use mysql::{MysqlConfig, MysqlDriver};
#[cfg(feature = "postgresql")]
pub use postgresql::{PostgresqlConfig, PostgresqlDriver};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteConfig, SqliteDriver};
#[cfg(feature = "oracle")]
pub use tenantry_oracle::{OracleConfig, OracleDriver};
