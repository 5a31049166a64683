//! Why a statement is not run on Oracle.

use sqlparser::parser::ParserError;

/// Why a statement could not be written for Oracle. It prints no value: the parser's own message,
/// which may, is its source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialectError {
    /// It is not a valid statement of PostgreSQL.
    #[error("the statement cannot be parsed")]
    Syntax(#[source] ParserError),
    /// The text has no statement.
    #[error("the statement is empty")]
    Empty,
    /// Oracle has nothing for this part of it, or it is not known here.
    #[error("{0} is not supported on Oracle")]
    Unsupported(String),
}

pub(super) type Result<T> = std::result::Result<T, DialectError>;

/// Refuses a part of a statement by its name.
pub(super) fn refuse<T>(what: impl Into<String>) -> Result<T> {
    Err(DialectError::Unsupported(what.into()))
}

/// Refuses a clause if it is present.
pub(super) fn refuse_if(there: bool, what: &str) -> Result<()> {
    if there { refuse(what) } else { Ok(()) }
}
