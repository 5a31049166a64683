//! Starts the servers that Tenantry is tested against: PostgreSQL, MariaDB, an AWS Secrets Manager
//! server (moto), OpenBao, and the built `tenantry` program itself.
//!
//! Every server is real, listens on loopback only, and has its own temporary folder. It ends on
//! drop, and also when the test process dies for any reason. If a test panics, the log of its
//! server is kept and its path printed. If a program is missing, the test fails and says what to
//! install; no test is skipped.
//!
//! Oracle is the exception: it is real only if [`ORACLE_URL`] names one. Otherwise a stand-in for
//! its client library runs on PostgreSQL.
//!
//! `./scripts/test` starts one PostgreSQL and one MariaDB for all test programs and names them in
//! [`POSTGRES_URL`] and [`MARIADB_URL`], which the `shared()` servers use. Without it each test
//! process starts its own.
//!
//! The database servers' time zone is not UTC, so that code that depends on it fails. Every
//! password made here contains [`CANARY`], so that a leak is noticed.

mod cases;
mod certificates;
mod clock;
mod drongo;
mod films;
mod http;
mod mariadb;
mod moto;
mod openbao;
mod oracle;
mod pgbouncer;
mod ports;
mod postgres;
mod process;
mod programs;
mod rds;
mod relay;
mod stub;
mod supervisor;
mod tenant_db;
mod tenantry;

pub use cases::record_case;
pub use certificates::Certificates;
pub use clock::Clock;
pub use drongo::DrongoServer;
pub use films::Films;
pub use mariadb::MariadbServer;
pub use moto::MotoServer;
pub use openbao::OpenBaoServer;
pub use oracle::OracleServer;
pub use pgbouncer::PgBouncer;
pub use ports::free_port;
pub use postgres::PostgresServer;
pub use rds::{RdsRules, RdsServer};
pub use relay::Relay;
pub use stub::{HttpStub, StubAnswer};
pub use tenant_db::{CANARY, TenantDb};
pub use tenantry::{Finished, TenantryBuilder, TenantryProcess};

/// The environment variable that names a PostgreSQL server for [`PostgresServer::shared`], as its
/// superuser's URL: `postgres://postgres:password@127.0.0.1:5432/postgres`.
pub const POSTGRES_URL: &str = "TENANTRY_TEST_POSTGRES_URL";

/// The environment variable that names a MariaDB server for [`MariadbServer::shared`], as its
/// superuser's URL: `mysql://root:password@127.0.0.1:3306`.
pub const MARIADB_URL: &str = "TENANTRY_TEST_MARIADB_URL";

/// The environment variable that names a real Oracle for [`OracleServer::shared`], as the URL of a
/// user with the right to create users: `oracle://system:password@127.0.0.1:1521/FREEPDB1`. Without
/// it the tests use the stand-in.
pub const ORACLE_URL: &str = "TENANTRY_TEST_ORACLE_URL";

/// The environment variable that names the file to which the stand-in appends every statement it is
/// given.
pub const ORACLE_SQL: &str = "TENANTRY_TEST_ORACLE_SQL";

/// The environment variable that names the file to which [`record_case`] appends.
pub const CASES: &str = "TENANTRY_TEST_CASES";

/// The environment variable that says how many requests the tests send that look for something
/// rare, such as a connection that is lost: see [`requests`].
pub const REQUESTS: &str = "TENANTRY_TEST_REQUESTS";

/// As many requests as [`REQUESTS`] says, and `few` at least.
///
/// # Panics
/// If it is no number.
pub fn requests(few: usize) -> usize {
    let set = std::env::var(REQUESTS).ok();
    let number = set.map(|number| number.parse().expect("a number in TENANTRY_TEST_REQUESTS"));
    number.unwrap_or(few).max(few)
}

/// The environment variable that holds the path of the `moto_server` program.
pub const MOTO_PROGRAM: &str = "TENANTRY_TEST_MOTO";

/// The environment variable that holds the path of the `bao` program of OpenBao.
pub const BAO_PROGRAM: &str = "TENANTRY_TEST_BAO";

/// The environment variable that holds the path of the `drongo` program.
pub const DRONGO_PROGRAM: &str = "TENANTRY_TEST_DRONGO";

/// The environment variable that names the folder for logs of failed tests. Without it they go to
/// `tenantry-test-logs` in the system's temporary folder.
pub const LOG_FOLDER: &str = "TENANTRY_TEST_LOGS";
