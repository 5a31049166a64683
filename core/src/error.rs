//! What can go wrong with a database, as kinds that a caller acts on.

use std::{error::Error as StdError, fmt, sync::Arc};

use sea_orm::SqlxError;
use strum::IntoStaticStr;

use crate::{constraint, database_config::is_tls};

mod cause;
mod db_err;

pub use cause::Cause;

/// Any error, to be kept as a source.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A secret that cannot be used: which field of it, and why. It never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct SecretInvalid {
    /// The field, such as `port` or `tls.mode`.
    pub field: String,
    /// What is wrong with it: "is missing".
    pub reason: String,
}

impl SecretInvalid {
    /// What is wrong with `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The field, as an answer to a tenant's client may name it: `tls` for any key about encryption
    /// that is none of the documented ones, since such a key may be any text of the secret.
    #[must_use]
    pub fn public_field(&self) -> &str {
        let is_documented = ["tls.mode", "tls.ca", "tls.cert", "tls.key"].contains(&self.field.as_str());
        let first = self.field.split('.').next().unwrap_or_default();
        match is_tls(first) && !is_documented {
            true => "tls",
            false => &self.field,
        }
    }
}

/// Why a connection could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum DriverErrorKind {
    /// The user or the password was refused: the secret may have been rotated, so the engine reads
    /// it anew.
    Authentication,
    /// There is no answer at that host and port, or not in time.
    Unreachable,
    /// The handshake failed, or the server does not offer what `tls.mode` demands.
    Tls,
    /// The server was there and ended the session before it could be used, as when an operator ends
    /// all of a user's: the engine tries again.
    SessionEnded,
    /// The server has no connection left: the engine closes idle ones of other tenants.
    TooManyConnections,
    /// The server has connections left, but none for this user or this database.
    ConnectionLimit,
    /// The server is there, but the database is not.
    DatabaseMissing,
    /// The secret says something that this driver cannot use.
    Invalid,
    /// What the driver needs on this machine is absent (a client library).
    Unsupported,
    /// Anything else.
    Other,
}

impl DriverErrorKind {
    /// One word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the server is well, and its connections are used up.
    pub fn is_full(self) -> bool {
        matches!(self, Self::TooManyConnections | Self::ConnectionLimit)
    }
}

/// Returns what a database said, of an error of sqlx's. `Display` of that adds the line of
/// PostgreSQL's own source code.
pub fn database_words<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a str> {
    let shared = error.downcast_ref::<Arc<SqlxError>>().map(|error| &**error);
    match shared.or_else(|| error.downcast_ref())? {
        SqlxError::Database(database) => Some(database.message()),
        _ => None,
    }
}

/// A connection that could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot connect: {}", .kind.as_str())]
pub struct DriverError {
    /// What a caller acts on.
    pub kind: DriverErrorKind,
    #[source]
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl DriverError {
    /// Of this kind, caused by `source`.
    pub fn new(kind: DriverErrorKind, source: impl Into<BoxError>) -> Self {
        Self {
            kind,
            source: Some(Arc::from(source.into())),
        }
    }
}

/// Why a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum DatabaseErrorKind {
    /// A unique value is taken.
    UniqueViolation,
    /// A row that is referred to is missing, or is still referred to.
    ForeignKeyViolation,
    /// Another rule about values: a constraint such as not null or check, a view's check option, a
    /// trigger or a policy that refuses them, or a value that its column cannot hold.
    ConstraintViolation,
    /// The transaction was chosen to lose, by deadlock or serialization: running it again may work.
    Serialization,
    /// The statement took too long and was cancelled by the database, or waited too long for a
    /// lock.
    StatementTimeout,
    /// The connection broke; it is unknown whether the statement took effect.
    ConnectionLost,
    /// The connection broke, and the statement certainly had no effect.
    ConnectionLostWithoutEffect,
    /// The server did not answer within the statement's time. The connection is unusable; the
    /// statement may have taken effect.
    NoAnswer,
    /// The connection was lost, or did not answer, while a write or a commit was under way: it may
    /// have taken effect.
    OutcomeUnknown,
    /// The answer is larger than the driver's `max_answer`. The connection is closed, since the
    /// rest of the answer is unread.
    AnswerTooLarge,
    /// No connection could be opened.
    Connect(DriverErrorKind),
    /// No connection became free in time, of the tenant's pool or of a pooler before the server.
    PoolTimeout,
    /// The transaction or the pinned connection that the statement is for has ended: it was
    /// committed or rolled back, an error ended its session, or a statement on it was cut off. A
    /// pool that was closed opens another connection instead.
    Closed,
    /// The database refuses writes: a replica, or a full disk.
    ReadOnly,
    /// The user may not do this.
    PermissionDenied,
    /// The migrations that come before a tenant's first use failed.
    Migration,
    /// The tenant's database is below the version that is served.
    SchemaBehind,
    /// The migrations that come before a tenant's first use are still running.
    Migrating,
    /// This kind of database cannot do it.
    Unsupported,
    /// A table that the statement names does not exist.
    TableMissing,
    /// Anything else, such as a syntax error.
    Other,
}

impl DatabaseErrorKind {
    /// One word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect(kind) => kind.as_str(),
            kind => kind.into(),
        }
    }

    /// What happened, for an error that is printed.
    fn sentence(self) -> &'static str {
        match self {
            Self::UniqueViolation => "a unique value is taken",
            Self::ForeignKeyViolation => "a row that is referred to is missing, or is still referred to",
            Self::ConstraintViolation => "a value breaks a constraint of its table",
            Self::Serialization => "the transaction collided with another one; running it again may work",
            Self::StatementTimeout => "the statement took too long, or waited too long for a lock",
            Self::ConnectionLost => "the connection was lost during the statement",
            Self::ConnectionLostWithoutEffect => "the connection was lost before the statement had an effect",
            Self::NoAnswer => "the server did not answer in time",
            Self::OutcomeUnknown => "the connection was lost during a write, which may have been done",
            Self::AnswerTooLarge => "the answer is larger than the driver's `max_answer`",
            Self::Connect(_) => "no connection could be opened",
            Self::PoolTimeout => "no connection became free in time",
            Self::Closed => "the connection is closed",
            Self::ReadOnly => "the database refuses writes",
            Self::PermissionDenied => "the database's user may not do this",
            Self::Migration => "the migrations of the database failed",
            Self::SchemaBehind => "the database is below the version that is served",
            Self::Migrating => "the migrations of the database are still running",
            Self::Unsupported => "this kind of database cannot do it",
            Self::TableMissing => "a table of the statement does not exist",
            Self::Other => "the database refused the statement",
        }
    }

    /// Whether the statement is wrong, or its effect is unknown. Other kinds are for the caller to
    /// handle, or mean that the database is unavailable.
    pub fn is_defect(self) -> bool {
        matches!(
            self,
            Self::OutcomeUnknown | Self::AnswerTooLarge | Self::PermissionDenied | Self::Unsupported | Self::Other
        )
    }

    /// Whether the connection was lost under a statement.
    pub fn is_lost(self) -> bool {
        matches!(self, Self::ConnectionLost | Self::ConnectionLostWithoutEffect)
    }

    /// Whether a statement that failed so has certainly changed nothing.
    pub(crate) fn had_no_effect(self) -> bool {
        !matches!(self, Self::OutcomeUnknown | Self::AnswerTooLarge)
    }

    /// Whether the connection it happened on must not be used again. A connection reports
    /// `PoolTimeout` if the pooler that it leads to had no server session for it in time.
    pub fn breaks_connection(self) -> bool {
        matches!(
            self,
            Self::ConnectionLost
                | Self::ConnectionLostWithoutEffect
                | Self::NoAnswer
                | Self::AnswerTooLarge
                | Self::PoolTimeout
        )
    }
}

/// A statement, or what had to come before it, that failed.
///
/// It prints its kind and the database's own code. The database's message is its source and is not
/// printed with it, since messages repeat values: `Duplicate entry 'john@example.com' for key
/// 'email'`.
#[derive(Clone)]
pub struct DatabaseError {
    /// What a caller acts on.
    pub kind: DatabaseErrorKind,
    /// The database's own code, such as the SQLSTATE `23505`.
    pub code: Option<String>,
    constraint: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl DatabaseError {
    /// Of this kind.
    pub fn new(kind: DatabaseErrorKind) -> Self {
        Self {
            kind,
            code: None,
            constraint: None,
            source: None,
        }
    }

    /// Returns the kind in one word, and the field if the driver could not use the secret:
    /// ``secret_invalid: `password` ...``.
    pub fn summary(&self) -> String {
        let mut source = self.source();
        while let Some(error) = source {
            if let Some(invalid) = error.downcast_ref::<SecretInvalid>() {
                return format!("secret_invalid: {invalid}");
            }
            source = error.source();
        }
        self.kind.as_str().to_owned()
    }

    /// With the name of the constraint that was violated. A driver on sqlx need not give it: it is
    /// read from the source.
    #[must_use]
    pub fn with_constraint(mut self, name: impl Into<String>) -> Self {
        self.constraint = Some(name.into());
        self
    }

    /// Returns the name of the constraint that was violated, as the database has it:
    /// `users_email_key`, `PRIMARY` on MySQL, and `users.id`, the table and its columns, on SQLite
    /// if no index was named. It is `None` if the error is of another kind, or if the database does
    /// not say.
    pub fn constraint(&self) -> Option<String> {
        let of_source = || {
            let source = self.source.as_deref()?.downcast_ref::<Arc<SqlxError>>()?;
            constraint::of_sqlx(source)
        };
        self.constraint.clone().or_else(of_source)
    }

    /// With the database's own code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// With what caused it. A driver on sqlx gives an `Arc<sqlx::Error>`, which
    /// [`into_db_err`](Self::into_db_err) shows to code that asks for the database's own error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }
}

impl From<DriverError> for DatabaseError {
    fn from(error: DriverError) -> Self {
        // The kind is already shown, so the source is the cause of the driver's error.
        Self {
            source: error.source,
            ..Self::new(DatabaseErrorKind::Connect(error.kind))
        }
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.kind.sentence(), self.kind.as_str())?;
        match &self.code {
            Some(code) => write!(f, ", {code})"),
            None => f.write_str(")"),
        }
    }
}

impl fmt::Debug for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseError")
            .field("kind", &self.kind)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

impl StdError for DatabaseError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_no_key_that_only_the_secret_has() {
        for (field, public) in [
            ("port", "port"),
            ("pool.max.connections", "pool.max.connections"),
            ("tls.mode", "tls.mode"),
            ("tls.canary", "tls"),
            ("internal_ssl_canary.example", "tls"),
            ("sslcanary", "tls"),
        ] {
            assert_eq!(SecretInvalid::new(field, "is wrong").public_field(), public);
        }
    }

    #[test]
    fn the_database_s_own_words_are_not_printed() {
        let error = DatabaseError::new(DatabaseErrorKind::UniqueViolation)
            .with_code("1062")
            .with_source("Duplicate entry 'canary'");
        assert_eq!(error.to_string(), "a unique value is taken (unique_violation, 1062)");
        assert!(!format!("{error:?}").contains("canary"));
        assert!(!error.into_db_err().to_string().contains("canary"));
    }
}
