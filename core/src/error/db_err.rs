//! Database errors as SeaORM's, and back.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt, io,
    sync::{Arc, LazyLock},
};

use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr, SqlErr, SqlxError,
    sqlx::error::{DatabaseError as SqlxDatabaseError, ErrorKind as SqlxErrorKind},
};

use super::{DatabaseError, DatabaseErrorKind};
use crate::constraint;

impl DatabaseErrorKind {
    /// The kind of an error that came back through SeaORM.
    pub fn of(error: &DbErr) -> Self {
        if let Some(error) = DatabaseError::find(error) {
            return error.kind;
        }
        match sqlx_error(error) {
            // sqlx knows no others, and not every code of these.
            Some(SqlxError::Database(error)) if error.is_unique_violation() => Self::UniqueViolation,
            Some(SqlxError::Database(error)) if error.is_foreign_key_violation() => Self::ForeignKeyViolation,
            _ => Self::Other,
        }
    }

    /// Whether what failed is the connection, and not the statement.
    fn is_of_connection(self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::ConnectionLost
                | Self::ConnectionLostWithoutEffect
                | Self::NoAnswer
                | Self::OutcomeUnknown
        )
    }
}

impl DatabaseError {
    /// Returns it as SeaORM's error of a query. [`find`](Self::find) finds it there again.
    ///
    /// What it prints is a sentence, its kind and its code. Code that asks gets what the database
    /// said: [`DbErr::sql_err`] on PostgreSQL, MySQL and SQLite, and on all of them
    /// [`sql_err_of`](Self::sql_err_of) and `sqlx::Error::Database`, with `message`, `code` and
    /// `constraint`.
    pub fn into_db_err(self) -> DbErr {
        self.into_db_err_as(DbErr::Query)
    }

    /// As [`into_db_err`](Self::into_db_err), for a statement that was executed.
    pub fn into_exec_err(self) -> DbErr {
        self.into_db_err_as(DbErr::Exec)
    }

    fn into_db_err_as(self, wrap: fn(RuntimeErr) -> DbErr) -> DbErr {
        if let Some(error) = self.source.as_deref().and_then(|source| source.downcast_ref::<DbErr>()) {
            return error.clone();
        }
        let wrap = match self.kind {
            DatabaseErrorKind::PoolTimeout => return DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
            DatabaseErrorKind::Closed => return DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
            DatabaseErrorKind::Connect(_) => DbErr::Conn,
            _ => wrap,
        };
        let error = match self.kind.is_of_connection() {
            true => SqlxError::Io(io::Error::other(self)),
            false => SqlxError::Database(Box::new(Reported::from(self))),
        };
        wrap(RuntimeErr::SqlxError(Arc::new(error)))
    }

    /// Finds it again in an error that came back through SeaORM.
    pub fn find(error: &DbErr) -> Option<&Self> {
        static TIMEOUT: LazyLock<DatabaseError> = LazyLock::new(|| DatabaseError::new(DatabaseErrorKind::PoolTimeout));
        static CLOSED: LazyLock<DatabaseError> = LazyLock::new(|| DatabaseError::new(DatabaseErrorKind::Closed));
        match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => return Some(&TIMEOUT),
            DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => return Some(&CLOSED),
            _ => {}
        }
        match sqlx_error(error)? {
            // Not the source of the box, which has none.
            SqlxError::Database(error) => (**error).source()?.downcast_ref(),
            SqlxError::Io(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }

    /// Returns the name of the constraint that was violated, of an error that came back through
    /// SeaORM.
    pub fn constraint_of(error: &DbErr) -> Option<String> {
        match Self::find(error) {
            Some(error) => error.constraint(),
            None => constraint::of_sqlx(sqlx_error(error)?),
        }
    }

    /// Returns what [`DbErr::sql_err`] does, on every kind of database: SeaORM's own method knows
    /// the errors of sqlx only, and Oracle's are none.
    pub fn sql_err_of(error: &DbErr) -> Option<SqlErr> {
        if let Some(known) = error.sql_err() {
            return Some(known);
        }
        let Some(SqlxError::Database(reported)) = sqlx_error(error) else {
            return None;
        };
        let message = || reported.message().to_owned();
        match DatabaseErrorKind::of(error) {
            DatabaseErrorKind::UniqueViolation => Some(SqlErr::UniqueConstraintViolation(message())),
            DatabaseErrorKind::ForeignKeyViolation => Some(SqlErr::ForeignKeyConstraintViolation(message())),
            _ => None,
        }
    }
}

/// So that `?` makes SeaORM's error of it.
impl From<DatabaseError> for DbErr {
    fn from(error: DatabaseError) -> Self {
        error.into_db_err()
    }
}

fn sqlx_error(error: &DbErr) -> Option<&SqlxError> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

/// A database's error as sqlx has it. It prints no words of the database, which repeat values; code
/// that asks for them gets them.
struct Reported {
    error: DatabaseError,
    /// What the database said, if no error of sqlx holds it.
    message: String,
    constraint: Option<String>,
}

impl Reported {
    fn of_sqlx(&self) -> Option<&dyn SqlxDatabaseError> {
        match self.error.source.as_deref()?.downcast_ref::<Arc<SqlxError>>()?.as_ref() {
            SqlxError::Database(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<DatabaseError> for Reported {
    fn from(error: DatabaseError) -> Self {
        let constraint = error.constraint();
        let mut reported = Self {
            error,
            message: String::new(),
            constraint,
        };
        if reported.of_sqlx().is_none() {
            let source = reported.error.source.as_ref();
            reported.message = source.map_or_else(|| reported.error.to_string(), ToString::to_string);
        }
        reported
    }
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Debug for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Reported {
    /// By this [`DatabaseError::find`] finds it.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

impl SqlxDatabaseError for Reported {
    fn message(&self) -> &str {
        self.of_sqlx().map_or(&self.message, SqlxDatabaseError::message)
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        match self.of_sqlx() {
            Some(error) => error.code(),
            None => self.error.code.as_deref().map(Cow::Borrowed),
        }
    }

    /// SeaORM and programs look for `PgDatabaseError` and its like by this, behind a reference.
    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        match self.of_sqlx() {
            Some(error) => error.as_error(),
            None => self,
        }
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    /// It is shared, so the error of sqlx cannot be taken out of it.
    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn constraint(&self) -> Option<&str> {
        self.constraint.as_deref()
    }

    fn table(&self) -> Option<&str> {
        self.of_sqlx().and_then(SqlxDatabaseError::table)
    }

    fn kind(&self) -> SqlxErrorKind {
        match self.error.kind {
            DatabaseErrorKind::UniqueViolation => SqlxErrorKind::UniqueViolation,
            DatabaseErrorKind::ForeignKeyViolation => SqlxErrorKind::ForeignKeyViolation,
            _ => self.of_sqlx().map_or(SqlxErrorKind::Other, SqlxDatabaseError::kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DriverErrorKind;

    fn canary(kind: DatabaseErrorKind) -> DatabaseError {
        DatabaseError::new(kind).with_code("ORA-00001").with_source("canary")
    }

    #[test]
    fn an_error_keeps_its_kind_through_sea_orm() {
        use DatabaseErrorKind as Kind;
        for kind in [
            Kind::UniqueViolation,
            Kind::ConstraintViolation,
            Kind::Serialization,
            Kind::ConnectionLost,
            Kind::OutcomeUnknown,
            Kind::Connect(DriverErrorKind::Unreachable),
            Kind::PoolTimeout,
            Kind::Closed,
            Kind::Other,
        ] {
            for error in [canary(kind).into_db_err(), canary(kind).into_exec_err()] {
                assert_eq!(DatabaseErrorKind::of(&error), kind, "{error}");
                assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
            }
        }
    }

    #[test]
    fn sea_orm_s_kinds_of_errors_are_kept() {
        use DatabaseErrorKind as Kind;
        assert!(matches!(canary(Kind::Other).into_db_err(), DbErr::Query(_)));
        assert!(matches!(canary(Kind::Other).into_exec_err(), DbErr::Exec(_)));
        let unreachable = Kind::Connect(DriverErrorKind::Unreachable);
        assert!(matches!(canary(unreachable).into_exec_err(), DbErr::Conn(_)));
        assert!(matches!(
            canary(Kind::PoolTimeout).into_exec_err(),
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)
        ));
    }

    #[test]
    fn code_that_asks_gets_what_a_database_without_sqlx_said() {
        let error = canary(DatabaseErrorKind::UniqueViolation)
            .with_constraint("users_email_key")
            .into_exec_err();
        let DbErr::Exec(RuntimeErr::SqlxError(sqlx)) = &error else {
            panic!("{error}")
        };
        let reported = sqlx.as_database_error().unwrap();
        assert_eq!(reported.message(), "canary");
        assert_eq!(reported.code().as_deref(), Some("ORA-00001"));
        assert_eq!(reported.constraint(), Some("users_email_key"));
        assert!(reported.is_unique_violation());
        let expected = SqlErr::UniqueConstraintViolation("canary".to_owned());
        assert_eq!(DatabaseError::sql_err_of(&error), Some(expected));
    }

    #[test]
    fn an_error_is_one_clear_sentence() {
        let text = canary(DatabaseErrorKind::UniqueViolation).into_exec_err().to_string();
        let expected = "Execution Error: error returned from database: a unique value is taken \
                        (unique_violation, ORA-00001)";
        assert_eq!(text, expected);
    }
}
