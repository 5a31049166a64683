//! PostgreSQL's errors as Oracle's.

use postgres::{Error, error::SqlState};

/// An error as Oracle's client library has it.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// What the stand-in cannot do: never a wrong answer.
    pub(crate) fn beyond(what: impl Into<String>) -> Self {
        Self::new(
            3001,
            format!(
                "unimplemented feature: the stand-in for Oracle's client cannot do this: {}",
                what.into()
            ),
        )
    }

    /// The session is over.
    pub(crate) fn lost() -> Self {
        Self::new(3113, "end-of-file on communication channel")
    }

    /// Of a statement. `broken`: the caller has broken it off.
    pub(crate) fn of_statement(error: &Error, broken: bool) -> Self {
        let Some(database) = error.as_db_error() else {
            return if error.is_closed() || is_io(error) {
                Self::lost()
            } else {
                Self::new(604, error.to_string())
            };
        };
        let code = match database.code() {
            state if *state == SqlState::UNIQUE_VIOLATION => 1,
            state if *state == SqlState::FOREIGN_KEY_VIOLATION => 2291,
            state if *state == SqlState::NOT_NULL_VIOLATION => 1400,
            state if *state == SqlState::CHECK_VIOLATION => 2290,
            state if *state == SqlState::STRING_DATA_RIGHT_TRUNCATION => 12899,
            state if *state == SqlState::NUMERIC_VALUE_OUT_OF_RANGE => 1438,
            state if *state == SqlState::INVALID_TEXT_REPRESENTATION => 1722,
            state if *state == SqlState::T_R_DEADLOCK_DETECTED => 60,
            state if *state == SqlState::T_R_SERIALIZATION_FAILURE => 8177,
            state if *state == SqlState::UNDEFINED_TABLE => 942,
            state if *state == SqlState::UNDEFINED_OBJECT => 1418,
            state if *state == SqlState::DUPLICATE_TABLE => 955,
            state if *state == SqlState::UNDEFINED_COLUMN => 904,
            state if *state == SqlState::SYNTAX_ERROR => 900,
            state if *state == SqlState::INSUFFICIENT_PRIVILEGE => 1031,
            state if *state == SqlState::LOCK_NOT_AVAILABLE => 54,
            state if *state == SqlState::READ_ONLY_SQL_TRANSACTION => 1456,
            state if *state == SqlState::QUERY_CANCELED && broken => 1013,
            state if *state == SqlState::QUERY_CANCELED => 3156,
            state if *state == SqlState::ADMIN_SHUTDOWN => 28,
            _ => 604,
        };
        match (code, database.constraint()) {
            (1, Some(name)) => {
                let name = name.to_uppercase();
                Self::new(code, format!("unique constraint (APP.{name}) violated"))
            }
            _ => Self::new(code, database.message()),
        }
    }

    /// For a commit: Oracle reports the rollback first, and its reason second.
    pub(crate) fn of_commit(self) -> Self {
        Self::new(
            2091,
            format!("transaction rolled back\nORA-{:05}: {}", self.code, self.message),
        )
    }

    /// Of a session that did not begin.
    pub(crate) fn of_connect(error: &Error) -> Self {
        let code = match error.code() {
            Some(state) if *state == SqlState::INVALID_PASSWORD => 1017,
            Some(state) if *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => 1017,
            Some(state) if *state == SqlState::INVALID_CATALOG_NAME => 12514,
            Some(state) if *state == SqlState::TOO_MANY_CONNECTIONS => 12519,
            Some(state) if *state == SqlState::CANNOT_CONNECT_NOW => 1033,
            Some(_) => 604,
            None if error.to_string().contains("TLS") => 28860,
            None if is_io(error) => 12541,
            None => 12170,
        };
        Self::new(code, error.to_string())
    }
}

fn is_io(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}
