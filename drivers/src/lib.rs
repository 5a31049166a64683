//! The kinds of database that Tenantry opens, one file each: a
//! [`DatabaseDriver`](tenantry_core::DatabaseDriver) over one connection of sqlx. Pooling is the
//! engine's.

#[cfg(any(feature = "mysql", feature = "oracle", feature = "postgresql"))]
mod allowed_hosts;
#[cfg(any(feature = "mysql", feature = "postgresql"))]
mod live_address;
#[cfg(any(feature = "mysql", feature = "oracle", feature = "postgresql", feature = "sqlite"))]
mod max_answer;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "oracle")]
mod oracle;
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
#[cfg(any(feature = "mysql", feature = "oracle", feature = "postgresql", feature = "sqlite"))]
mod statement_timeout;
mod structure;
#[cfg(any(feature = "mysql", feature = "postgresql"))]
mod tls;

#[cfg(feature = "oracle")]
pub use crate::oracle::{OracleConfig, OracleDriver};
#[cfg(feature = "mysql")]
pub use mysql::{MysqlConfig, MysqlDriver};
#[cfg(feature = "postgresql")]
pub use postgresql::{PostgresqlConfig, PostgresqlDriver};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteConfig, SqliteDriver};
