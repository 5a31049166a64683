//! What errors of sqlx mean, and what is said of them.

use std::{error::Error, fmt, io, sync::Arc};

use sea_orm::Statement;
use tenantry_core::{DatabaseError, DatabaseErrorKind, DriverError, DriverErrorKind};

use super::{Aftermath, Dialect, SqlxConnection};

impl<D: Dialect> SqlxConnection<D> {
    /// What an error did to the transaction. The first one is why it cannot be committed.
    fn note_aftermath(&mut self, transaction: Aftermath, failed: &DatabaseError) {
        if self.depth == 0 || transaction == Aftermath::GoesOn {
            return;
        }
        match &mut self.broken {
            Some((Aftermath::Gone, _)) => {}
            Some((earlier, _)) => *earlier = transaction,
            None => self.broken = Some((transaction, failed.clone())),
        }
    }

    /// The error by its kind, and what it does to the transaction. `rows`: how many had come before
    /// it; `None` if a part may have taken effect, as of a script.
    pub(super) fn fail(&mut self, error: sqlx::Error, rows: Option<usize>) -> DatabaseError {
        // A COMMIT that the server did not begin leaves nothing of its transaction. A pooler in
        // between may report its own end in the same words after it has sent the COMMIT.
        let commit_of_ours = self.commits && self.per_transaction.is_none();
        let alone = (self.depth == 0 && rows == Some(0)) || commit_of_ours;
        let (mut code, mut transaction) = (None, Aftermath::GoesOn);
        let kind = match &error {
            sqlx::Error::Database(error) => {
                let fault = D::fault(&self.watch, &**error, self.depth > 0);
                code = error_code(&**error);
                transaction = fault.transaction;
                fault.kind
            }
            sqlx::Error::Protocol(_) if D::HAS_NO_PROTOCOL => DatabaseErrorKind::Other,
            // Only writing ends so. A statement takes effect when the last of its bytes has
            // arrived, and that one was not sent.
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                DatabaseErrorKind::ConnectionLostWithoutEffect
            }
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                DatabaseErrorKind::ConnectionLost
            }
            _ => DatabaseErrorKind::Other,
        };
        let kind = match kind {
            DatabaseErrorKind::ConnectionLostWithoutEffect if !alone => DatabaseErrorKind::ConnectionLost,
            kind => kind,
        };
        let mut failed = DatabaseError::new(kind).with_source(Arc::new(error));
        failed.code = code;
        self.note_aftermath(transaction, &failed);
        failed
    }

    /// The error of a statement. `rows`: how many of its rows had come before it.
    pub(super) fn fail_statement(&mut self, error: sqlx::Error, statement: &Statement, rows: usize) -> DatabaseError {
        // What was not sent whole had no effect, and what runs in a transaction of its own is
        // undone with it.
        let was_sent = !matches!(&error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe);
        let is_whole = !was_sent || self.per_transaction.is_some() || is_atomic(&statement.sql);
        self.fail(error, is_whole.then_some(rows))
    }

    /// Says that the deadline on this side passed. The connection stays busy: its answer is still
    /// to come.
    pub(super) fn timed_out() -> DatabaseError {
        DatabaseError::new(DatabaseErrorKind::NoAnswer)
            .with_source("the server did not answer within the statement time-out")
    }
}

/// Whether a statement outside a transaction takes effect as a whole or not at all. A procedure or
/// a block may commit within itself, and a definition may take effect in several steps. In doubt it
/// is not atomic.
pub(super) fn is_atomic(sql: &str) -> bool {
    const ATOMIC: [&str; 11] = [
        "select", "with", "insert", "update", "delete", "merge", "replace", "values", "table", "show", "set",
    ];
    let before = |c: char| c.is_whitespace() || c == '(';
    let mut sql = sql.trim_start_matches(before);
    while let Some(rest) = sql.strip_prefix("/*") {
        let Some((comment, after)) = rest.split_once("*/") else {
            return false;
        };
        // MySQL runs some comments, and PostgreSQL's have others within.
        if comment.starts_with(['!', 'M', '+']) || comment.contains("/*") {
            return false;
        }
        sql = after.trim_start_matches(before);
    }
    let end = sql.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(sql.len());
    ATOMIC.iter().any(|word| word.eq_ignore_ascii_case(&sql[..end]))
}

/// Of a transaction that did not begin nothing is kept, however its connection was lost.
pub(super) fn without_effect(mut error: DatabaseError) -> DatabaseError {
    if error.kind == DatabaseErrorKind::ConnectionLost {
        error.kind = DatabaseErrorKind::ConnectionLostWithoutEffect;
    }
    error
}

pub(super) fn ended() -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::ConnectionLost).with_source("the session has ended")
}

/// The program's own mistake: an error of its statement, not of the connection.
pub(super) fn mistake(reason: String) -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::Other).with_source(reason)
}

pub(super) fn no_transaction() -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::Other).with_source("there is no transaction")
}

/// The printable part of an error, since its text may repeat values.
pub(crate) fn io_kind(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.kind().to_string(),
        sqlx::Error::Database(error) => error_code(&**error).unwrap_or_else(|| "database error".to_owned()),
        _ => "protocol error".to_owned(),
    }
}

/// The database's own code: MySQL's number (its SQLSTATE says less), else what sqlx gives.
fn error_code(error: &dyn sqlx::error::DatabaseError) -> Option<String> {
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return Some(error.number().to_string());
    }
    error.code().map(|code| code.into_owned())
}

/// Why a session could not be prepared. If the session was lost without a word, the server had
/// answered until then.
#[cfg(any(feature = "mysql", feature = "postgresql"))]
pub(crate) fn begin_error(
    error: sqlx::Error,
    of_server: fn(&dyn sqlx::error::DatabaseError) -> DriverErrorKind,
) -> DriverError {
    let says_why = matches!(error, sqlx::Error::Database(_));
    let mut error = connect_error(error, of_server);
    if error.kind == DriverErrorKind::Unreachable && !says_why {
        error.kind = DriverErrorKind::SessionEnded;
    }
    error
}

/// Why a connection could not be opened; `of_server` classifies the server's own errors.
pub(crate) fn connect_error(
    error: sqlx::Error,
    of_server: fn(&dyn sqlx::error::DatabaseError) -> DriverErrorKind,
) -> DriverError {
    let kind = match &error {
        sqlx::Error::Database(error) => of_server(&**error),
        sqlx::Error::Tls(_) => DriverErrorKind::Tls,
        // What rustls reports of a handshake comes as invalid data.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => DriverErrorKind::Tls,
        sqlx::Error::Io(_) => DriverErrorKind::Unreachable,
        sqlx::Error::Configuration(_) => DriverErrorKind::Invalid,
        _ => DriverErrorKind::Other,
    };
    match error {
        sqlx::Error::Database(error) => DriverError::new(
            kind,
            ServerRefused {
                code: error_code(&*error),
            },
        ),
        error => DriverError::new(kind, error),
    }
}

/// What is said of a server's own error at the login. Its words are left out, since they end up in
/// the log and repeat names, and the server is not known yet.
#[derive(Debug)]
struct ServerRefused {
    code: Option<String>,
}

impl fmt::Display for ServerRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.as_deref().unwrap_or("without a code");
        write!(f, "the server refused with its error {code}")?;
        let meaning = match code {
            "28P01" | "1045" => "the user name or the password is wrong",
            "28000" => "the server lets no such user log in from here",
            "3D000" | "1049" => "there is no such database",
            "42501" | "1044" => "the user may not use this database",
            "53300" | "1040" => "no connection is left, at the server or for this user or database",
            _ => return Ok(()),
        };
        write!(f, " ({meaning})")
    }
}

impl Error for ServerRefused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_commit_within_itself_is_atomic() {
        for sql in [
            "SELECT 1",
            " insert into t values (1)",
            "(SELECT 1) UNION (SELECT 2)",
            "WITH a AS (SELECT 1)",
            "/* route */ /* two */\n(SELECT 1)",
        ] {
            assert!(is_atomic(sql), "{sql}");
        }
        for sql in [
            "CALL batch()",
            "DO $$ BEGIN COMMIT; END $$",
            "VACUUM",
            "/* one */ CALL batch()",
            "/*! CALL batch() */ SELECT 1",
            "/* one /* two */ SELECT 1 */ CALL batch()",
            "selected",
            "",
        ] {
            assert!(!is_atomic(sql), "{sql}");
        }
    }
}
