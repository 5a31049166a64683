//! What the kinds of database on sqlx differ in.

use std::time::Duration;

use sea_orm::{ExecResult, QueryResult, TransactionOptions, Value};
use sqlx::{Database, database::HasStatementCache};
use tenantry_core::DatabaseErrorKind;

/// What one kind of database has of its own.
pub(crate) trait Dialect: Send + Sync + 'static {
    /// sqlx's name for it.
    type Database: Database<Row: Into<QueryResult>, QueryResult: Into<ExecResult>> + HasStatementCache;

    /// What watches a running statement on this side.
    type Watch: Watch;

    /// What an error of the server means on the connection that `watch` watches.
    /// `within`: it happened in a transaction.
    fn fault(watch: &Self::Watch, error: &dyn sqlx::error::DatabaseError, within: bool) -> ErrorMeaning;

    /// Whether a statement had no effect and may succeed once the connection has closed its
    /// prepared statements: it no longer fits the tables it was prepared for, or could not be
    /// prepared.
    fn is_stale_plan(_error: &dyn sqlx::error::DatabaseError) -> bool {
        false
    }

    /// The value as it is to be bound.
    fn bound(value: Value) -> Value {
        value
    }

    /// The script that begins a transaction.
    fn begin(options: &TransactionOptions) -> String;

    /// The script that begins a save point in a transaction; `None` if it cannot have these
    /// options.
    fn begin_within(options: &TransactionOptions, save_point: &str) -> Option<String> {
        let plain = options.isolation_level.is_none() && options.access_mode.is_none();
        plain.then(|| save_point.to_owned())
    }

    /// A script to run once a transaction, or a save point, that began with `options` is over.
    fn end(_options: &TransactionOptions) -> Option<&'static str> {
        None
    }

    /// The length of a value in bytes.
    fn length(value: <Self::Database as Database>::ValueRef<'_>) -> usize;

    /// The most values that one statement can bind.
    const MOST_VALUES: usize = usize::MAX;

    /// Whether sqlx cannot use a connection any more once a statement had fewer or more values than
    /// places `?`.
    const COUNTS_VALUES: bool = false;

    /// Whether the server does not answer when it is to close a prepared statement.
    const CLOSES_SILENTLY: bool = false;

    /// Whether there is no server, so that what sqlx calls an error of the protocol is a mistake of
    /// the program.
    const HAS_NO_PROTOCOL: bool = false;

    /// Whether an integer may be larger than the largest `i64`.
    const HAS_UNSIGNED: bool = false;

    /// Whether a prepared statement keeps the types of the values that it was prepared with.
    const FIXES_TYPES: bool = false;

    /// Whether a row is computed only when it is asked for. A change that returns rows is read to
    /// its end: only then is it committed.
    const WORKS_ON_DEMAND: bool = false;

    /// Whether a transaction may still be open after its `COMMIT` failed.
    const OPEN_AFTER_FAILED_COMMIT: bool = false;
}

/// Watches the statements of one connection; dropped before the connection is.
pub(crate) trait Watch: Send + Sync + 'static {
    /// A statement begins, which is to be stopped after `limit`.
    fn begins(&self, _limit: Option<Duration>) {}
    /// It is over.
    fn ends(&self) {}
    /// Whether the database was moved or removed, so that writes would be lost.
    fn is_gone(&self) -> bool {
        false
    }
    /// The most bytes that one message to the server may have, if there is a limit.
    fn largest_message(&self) -> Option<usize> {
        None
    }
    /// Within what time the server ends the session of a client that went away in the middle of a
    /// statement.
    fn noticed_within(&self) -> Duration {
        Duration::ZERO
    }
    /// Whether the server ends it only with the statement itself.
    fn outlives_clients(&self) -> bool {
        false
    }
    /// The server has refused to look whether its clients are still there.
    fn looks_for_no_client(&self) {}
    /// Ends the session of an abandoned statement. Returns once the server has ended it, or after a
    /// bounded time without a confirmation.
    fn end_session(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// What an error of the server means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErrorMeaning {
    /// What a caller acts on.
    /// [`ConnectionLostWithoutEffect`](DatabaseErrorKind::ConnectionLostWithoutEffect) is believed
    /// of a single statement outside a transaction that has given no row yet.
    pub(crate) kind: DatabaseErrorKind,
    /// What became of the transaction it happened in.
    pub(crate) transaction: Aftermath,
}

/// What became of a transaction in which a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "mysql", feature = "postgresql", feature = "sqlite")),
    allow(dead_code, reason = "no single driver knows all of them")
)]
pub(crate) enum Aftermath {
    /// It continues as if the statement had not been sent.
    GoesOn,
    /// The server refuses everything until the next roll back, of a save point or of all.
    Failed,
    /// The server has rolled all of it back; what came now would stand alone.
    Gone,
}
