//! One kind of database.

use std::{any::Any, fmt, sync::Arc};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use sea_orm::{DbBackend, ExecResult, QueryResult, Statement, TransactionOptions};
use strum::IntoStaticStr;

use crate::{DatabaseConfig, DatabaseError, DriverError, ScriptFault, ScriptStatement, SecretInvalid, StatementEffect};

/// Finds a driver by its `type`, or else by another word for it.
pub fn driver_named<'a, N: AsRef<str>>(
    drivers: &'a [(N, Arc<dyn DatabaseDriver>)],
    word: &str,
) -> Option<&'a (N, Arc<dyn DatabaseDriver>)> {
    let by_type = drivers.iter().find(|(name, _)| name.as_ref() == word);
    by_type.or_else(|| drivers.iter().find(|(_, driver)| driver.aliases().contains(&word)))
}

/// Speaks to one kind of database. It opens connections; pooling is the engine's.
///
/// What every driver keeps, and `conformance::driver` checks:
/// * a wrong password is
///   [`DriverErrorKind::Authentication`](crate::DriverErrorKind::Authentication), a host that does
///   not answer [`Unreachable`](crate::DriverErrorKind::Unreachable), a failed handshake
///   [`Tls`](crate::DriverErrorKind::Tls);
/// * `validate` refuses what `connect` could never use, and names the field, not its value;
/// * sessions speak UTC and UTF-8;
/// * a statement may run as long as the secret's `query.timeout` says, else the driver's own
///   setting;
/// * a secret with `pooler: transaction` is refused at `pooler`, or nothing relies on a session
///   between two transactions;
/// * the future of `connect` may be dropped at any time and leaves nothing behind.
#[async_trait]
pub trait DatabaseDriver: Send + Sync {
    /// Other words for this driver that a secret's `type` or `engine` may use, such as `postgres`.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks what this driver needs of a secret, without connecting.
    ///
    /// # Errors
    /// The field that is missing or wrong.
    fn validate(&self, config: &DatabaseConfig) -> Result<(), SecretInvalid>;

    /// The port of the server that a secret leads to: its own, or the driver's default.
    fn port(&self, config: &DatabaseConfig) -> Option<u16> {
        config.port
    }

    /// Opens one connection.
    ///
    /// # Errors
    /// See [`DriverErrorKind`](crate::DriverErrorKind).
    async fn connect(&self, config: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError>;

    /// Whether a connection by this secret goes to another machine and should be encrypted, so that
    /// the engine warns if it is not. By default it is not the driver's to say.
    fn wants_encryption(&self, _config: &DatabaseConfig) -> bool {
        false
    }

    /// A tenant's secret has changed. A driver that logs in once more for a connection that it
    /// opened before, as to end its session, does so with the new one. It is called under
    /// locks of the engine, so it must be quick and must not call the engine. By default there is
    /// nothing to do.
    fn secret_changed(&self, _before: &DatabaseConfig, _now: &DatabaseConfig) {}

    /// The SQL that SeaORM writes for it.
    fn backend(&self) -> DbBackend;

    /// The folder below `migrations/` with the files for this driver.
    fn migration_dialect(&self) -> &str;

    /// The lock that keeps migrations from running twice at once on the database of this secret.
    fn migration_lock(&self, config: &DatabaseConfig) -> MigrationLock;

    /// Splits a script into the statements that [`Connection::execute_script`] runs one by one. By
    /// default it is one statement.
    ///
    /// # Errors
    /// The script holds something that only the database's own client program can run.
    fn statements<'a>(&self, script: &'a str) -> Result<Vec<ScriptStatement<'a>>, ScriptFault> {
        Ok(vec![ScriptStatement {
            line: 1,
            sql: script,
            effect: StatementEffect::Undoable,
        }])
    }

    /// Further queries that migrations need. None by default.
    fn migration_queries(&self) -> MigrationQueries {
        MigrationQueries::default()
    }

    /// Ends the session of one of this driver's own connections and begins a new one in its place:
    /// no setting, lock, temporary table or open transaction of the old one is left. By default
    /// this does nothing, which is right for a database without state in its sessions.
    ///
    /// # Errors
    /// See [`DriverErrorKind`](crate::DriverErrorKind). The connection is unusable then.
    async fn renew(&self, _config: &DatabaseConfig, _connection: &mut dyn Connection) -> Result<(), DriverError> {
        Ok(())
    }
}

/// Queries that migrations need. Each returns texts in its first column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MigrationQueries {
    /// Returns three schemas: that of the table `tenantry_migrations` that the session sees, or
    /// `NULL` if it sees none and looks in several; the one in which the tenant's table belongs;
    /// and the one in which the session would create it. They differ if a session looks in several
    /// schemas. `None` if a file cannot change where its session looks.
    pub schema: Option<&'static str>,
    /// Returns the statements that remove the index that a failed `CREATE INDEX`, `REINDEX` or
    /// `DROP INDEX` leaves although nothing can use it. It binds two texts: the table and the new
    /// index's name, or the table or index itself and `NULL`.
    pub left_behind: Option<&'static str>,
    /// Returns a few words on the session that has the lock or runs a marked statement, such as
    /// `session 17 from 10.0.0.5`.
    pub holder: Option<&'static str>,
    /// Returns the names of the tables, among which may be one of another tool for migrations; and
    /// in the second column `NULL`, or the schema of a table that is not in the tenant's own.
    pub tables: Option<&'static str>,
    /// Returns the structure of the database, so that tenants' databases can be compared: a kind in
    /// the first column (`column`), a name in the second (`users.email`), a definition in the
    /// third.
    pub structure: Option<&'static str>,
}

/// How instances that start together keep each other from applying the same migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationLock {
    /// A session lock, tried again until it is there. The end of the session releases it.
    Session {
        /// A query that tries to take the lock without waiting. Its first column is 1 if it has the
        /// lock.
        lock: &'static str,
        /// A script to run once it is there: lifts the session's statement time-out, which is meant
        /// for requests.
        prepare: &'static str,
    },
    /// A lock that each transaction takes for itself and retries until it has it. It is for
    /// connections behind a pooler that may run each transaction in another server session.
    EachTransaction {
        /// A query that tries to take the lock without waiting, in a transaction; its first column
        /// is 1 if it did. The end of the transaction releases it.
        lock: &'static str,
        /// A script that lifts the statement time-out, which is meant for requests, until the end
        /// of the transaction.
        prepare: &'static str,
        /// A script that undoes what a migration's file has set on the server session: other
        /// connections use that session afterwards.
        reset: &'static str,
        /// A comment at the beginning of each statement of a file that runs statement by statement.
        mark: &'static str,
        /// A query with 1 in its first column if another session runs a statement with that mark.
        running: &'static str,
    },
    /// `begin` itself waits for the one writer there may be, so a transaction that reads what was
    /// applied is the lock.
    Transaction,
}

/// The rows of a statement, as they arrive.
pub type RowStream<'a> = BoxStream<'a, Result<QueryResult, DatabaseError>>;

/// One open connection. If one of its futures is dropped before its end, the state of the
/// connection is unknown, and the engine closes it and never uses it again.
#[async_trait]
pub trait Connection: Send {
    /// Runs a statement and counts the rows it touched.
    ///
    /// # Errors
    /// See [`DatabaseErrorKind`](crate::DatabaseErrorKind).
    async fn execute(&mut self, statement: &Statement) -> Result<ExecResult, DatabaseError>;

    /// Runs statements that come as plain text and bind nothing, several being parted by
    /// semicolons.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    async fn execute_script(&mut self, sql: &str) -> Result<ExecResult, DatabaseError>;

    /// Runs a statement and gives its rows.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    async fn query(&mut self, statement: &Statement) -> Result<Vec<QueryResult>, DatabaseError>;

    /// Runs a statement and gives its first row.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    async fn query_one(&mut self, statement: &Statement) -> Result<Option<QueryResult>, DatabaseError> {
        Ok(self.query(statement).await?.into_iter().next())
    }

    /// Runs a statement and returns its rows as they arrive. By default all of them are read first.
    ///
    /// A stream that is dropped before its end leaves the connection in an unknown state, as a
    /// dropped future does.
    fn stream<'a>(&'a mut self, statement: &'a Statement) -> RowStream<'a> {
        let rows = async move {
            self.query(statement)
                .await
                .map(|rows| futures_util::stream::iter(rows).map(Ok))
        };
        futures_util::stream::once(rows).try_flatten().boxed()
    }

    /// Begins a transaction; within one, a save point.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    async fn begin(&mut self, options: &TransactionOptions) -> Result<(), DatabaseError>;

    /// Commits the innermost transaction or releases its save point.
    ///
    /// # Errors
    /// As [`execute`](Self::execute): a commit that failed is never reported as done.
    async fn commit(&mut self) -> Result<(), DatabaseError>;

    /// Rolls the innermost transaction or save point back.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    async fn rollback(&mut self) -> Result<(), DatabaseError>;

    /// A round trip to the server.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    async fn ping(&mut self) -> Result<ServerVersion, DatabaseError>;

    /// How what it sends and receives is protected.
    fn encryption(&self) -> Encryption {
        Encryption::None
    }

    /// Takes leave of the server. The engine gives it a deadline.
    async fn close(self: Box<Self>);

    /// The connection itself, by which its driver knows it again in [`DatabaseDriver::renew`].
    fn as_any(&mut self) -> Option<&mut dyn Any> {
        None
    }
}

/// How a connection is protected on its way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Encryption {
    /// Not at all, or not for certain.
    None,
    /// Encrypted; the server may be another one.
    Encrypted,
    /// Encrypted, and the server's certificate was verified.
    Verified,
}

impl Encryption {
    /// One word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The server's version, such as `15.8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion(pub Arc<str>);

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
