//! Oracle's errors by their numbers.
//!
//! From the list of messages in Oracle's "Database Error Messages", and of ODPI-C's own, which
//! begin with `DPI-`.

use tenantry_core::{DatabaseError, DatabaseErrorKind, DriverError, DriverErrorKind};

use crate::dialect::DialectError;

/// ODPI-C found no client library, or one that cannot be loaded.
const DPI_NO_CLIENT: i32 = 1047;
/// ODPI-C found one that is too old.
const DPI_OLD_CLIENT: i32 = 1050;
/// The time that was given for a call has passed; the session lives on.
const DPI_CALL_TIMEOUT: i32 = 1067;
/// The session is over. The message names Oracle's own error.
const DPI_CONNECTION_CLOSED: i32 = 1080;
/// The session was over already.
const DPI_NOT_CONNECTED: i32 = 1010;

/// ORA-00001: a unique value is taken.
const UNIQUE: i32 = 1;
/// ORA-00060: the transaction was chosen to lose. Oracle undoes the statement only, and the other
/// side waits until all is undone.
const DEADLOCK: i32 = 60;
/// ORA-02091: a commit found a rule broken, and rolled the transaction back. Which rule, a second
/// number in the message says.
const ROLLED_BACK: i32 = 2091;
/// ORA-08177: what the transaction wants to change was changed since it began.
const CANNOT_SERIALIZE: i32 = 8177;

/// ORA-24761: the transaction was rolled back.
const IS_ROLLED_BACK: i32 = 24761;

/// The facts of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Code {
    /// Oracle's number; 0 for an error of ODPI-C itself.
    ora: i32,
    /// ODPI-C's number; 0 for an error of Oracle.
    dpi: i32,
}

impl Code {
    fn of(error: &oracle::Error) -> Self {
        let dpi = error.dpi_code().unwrap_or_default();
        let ora = match error.oci_code() {
            Some(ROLLED_BACK) => error
                .db_error()
                .and_then(|error| {
                    error
                        .message()
                        .lines()
                        .filter_map(named)
                        .find(|code| *code != ROLLED_BACK)
                })
                .unwrap_or(ROLLED_BACK),
            Some(code) if dpi == 0 => code,
            // "DPI-1080: connection was closed by ORA-03113"
            _ => error
                .db_error()
                .and_then(|error| named(error.message()))
                .unwrap_or_default(),
        };
        Self { ora, dpi }
    }

    fn text(&self) -> Option<String> {
        match (self.ora, self.dpi) {
            (0, 0) => None,
            (0, dpi) => Some(format!("DPI-{dpi:04}")),
            (ora, _) => Some(format!("ORA-{ora:05}")),
        }
    }
}

/// The name that `unique constraint (APP.USERS_EMAIL_KEY) violated` has in parentheses, in every
/// language, without its schema.
fn constraint(message: &str) -> Option<String> {
    let (_, rest) = message.split_once('(')?;
    let (name, _) = rest.split_once(')')?;
    let name = name.rsplit_once('.').map_or(name, |(_, name)| name);
    Some(name.to_owned())
}

/// The number of Oracle's that a message of ODPI-C's names.
fn named(message: &str) -> Option<i32> {
    let (_, rest) = message.split_once("ORA-")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// Why a connection could not be opened.
pub(crate) fn connect_error(error: oracle::Error) -> DriverError {
    let code = Code::of(&error);
    let kind = connect_kind(&code);
    match code.text() {
        // Oracle's own words end up in the log and repeat names. Those of ODPI-C say what to
        // install.
        Some(text) if code.dpi == 0 => DriverError::new(kind, format!("the server refused with its error {text}")),
        _ => DriverError::new(kind, error),
    }
}

fn connect_kind(code: &Code) -> DriverErrorKind {
    use DriverErrorKind as Kind;
    match (code.dpi, code.ora) {
        (DPI_NO_CLIENT | DPI_OLD_CLIENT, _) => Kind::Unsupported,
        // No password, wrong ones, no right to connect, locked, expired.
        (_, 1004 | 1005 | 1017 | 1045 | 1988 | 28000 | 28001 | 28007 | 28040) => Kind::Authentication,
        // The listener knows no such service, SID or instance.
        (_, 12505 | 12514 | 12521) => Kind::DatabaseMissing,
        (_, 28) => Kind::SessionEnded,
        (_, 18 | 20 | 12516 | 12518 | 12519 | 12520) => Kind::TooManyConnections,
        // The user's own limit, of its profile.
        (_, 2391) => Kind::ConnectionLimit,
        (_, 12154 | 12162 | 12533) => Kind::Invalid,
        (_, 28750..=28868 | 29000..=29143) => Kind::Tls,
        // Starting, stopping, restricted, down, and all that the network layer says.
        (_, 1033 | 1034 | 1035 | 1089 | 1090 | 1092 | 3113 | 3114 | 3135 | 3136 | 12150..=12699) => Kind::Unreachable,
        (DPI_CALL_TIMEOUT | DPI_CONNECTION_CLOSED, _) => Kind::Unreachable,
        _ => Kind::Other,
    }
}

/// A failed statement.
pub(crate) struct Failure {
    pub(crate) error: DatabaseError,
    /// Whether the transaction cannot go on and is to be rolled back at once.
    pub(crate) ends_transaction: bool,
    /// Oracle's number.
    pub(crate) ora: i32,
}

impl Failure {
    /// `alone` means that the statement was outside a transaction, and none of its rows was read.
    pub(crate) fn of(error: oracle::Error, alone: bool) -> Self {
        let code = Code::of(&error);
        let kind = match kind(&code) {
            DatabaseErrorKind::ConnectionLostWithoutEffect if !alone => DatabaseErrorKind::ConnectionLost,
            kind => kind,
        };
        let constraint = match code.ora {
            UNIQUE => error.db_error().and_then(|error| constraint(error.message())),
            _ => None,
        };
        let mut failed = DatabaseError::new(kind).with_source(error);
        if let Some(name) = constraint {
            failed = failed.with_constraint(name);
        }
        failed.code = code.text();
        Self {
            error: failed,
            ends_transaction: matches!(code.ora, DEADLOCK | CANNOT_SERIALIZE | IS_ROLLED_BACK),
            ora: code.ora,
        }
    }

    /// Of a call that commits: one that was cut off may have done so.
    pub(crate) fn of_committing(error: oracle::Error, alone: bool) -> Self {
        let is_cut_off = error.dpi_code() == Some(DPI_CALL_TIMEOUT);
        let mut failure = Self::of(error, alone);
        if is_cut_off {
            failure.error.kind = DatabaseErrorKind::NoAnswer;
        }
        failure
    }

    /// Of a LOB that was read or written: the client library's own error is within the other one.
    pub(crate) fn of_lob(error: std::io::Error) -> Self {
        match error.into_inner().map(|inner| inner.downcast::<oracle::Error>()) {
            Some(Ok(error)) => Self::of(*error, false),
            _ => Self::here(DatabaseErrorKind::Other, "a LOB could not be read or written"),
        }
    }

    /// A fault that the database did not report: a value that cannot be bound or read.
    pub(crate) fn here(kind: DatabaseErrorKind, reason: &'static str) -> Self {
        Self {
            error: DatabaseError::new(kind).with_source(reason),
            ends_transaction: false,
            ora: 0,
        }
    }
}

fn kind(code: &Code) -> DatabaseErrorKind {
    use DatabaseErrorKind as Kind;
    match (code.dpi, code.ora) {
        (DPI_CALL_TIMEOUT, _) => Kind::StatementTimeout,
        (_, UNIQUE) => Kind::UniqueViolation,
        (_, 2291 | 2292) => Kind::ForeignKeyViolation,
        // Not null, check, too long, too large a number.
        (_, 1400 | 1407 | 2290 | 12899 | 1401 | 1426 | 1438 | 22835) => Kind::ConstraintViolation,
        // Values that do not convert, a division by zero, a pattern with a wrong escape.
        (_, 1424 | 1425 | 1476 | 1722 | 1830 | 1839..=1854 | 1858 | 1861) => Kind::ConstraintViolation,
        // A view's CHECK OPTION, a policy of rows, and `raise_application_error`.
        (_, 1402 | 28115 | 20_000..=20_999) => Kind::ConstraintViolation,
        (_, DEADLOCK | CANNOT_SERIALIZE | IS_ROLLED_BACK) => Kind::Serialization,
        // A row or a table that is locked, a cancelled call, time that ran out.
        (_, 51 | 54 | 1013 | 3136 | 3156 | 4021 | 30006 | 40) => Kind::StatementTimeout,
        // The session had been ended, or was over, before the statement came.
        (_, 28 | 31 | 1012 | 2396 | 3114) => Kind::ConnectionLostWithoutEffect,
        (
            _,
            22 | 378 | 600 | 602 | 603 | 609 | 1033 | 1034 | 1041 | 1089 | 1090 | 1092 | 3113 | 3135 | 12150..=12699,
        ) => Kind::ConnectionLost,
        // Over the session's limit of CPU time or of connect time, which ends it.
        (_, 2392 | 2399) => Kind::ConnectionLost,
        // The client library has moved to another server by itself: the transaction and the
        // settings of the session are gone.
        (_, 25400..=25409) => Kind::ConnectionLost,
        (DPI_CONNECTION_CLOSED | DPI_NOT_CONNECTED, _) => Kind::ConnectionLost,
        // A read-only transaction, a database that is open for reading, a full disk or quota.
        (_, 1456 | 16000 | 1536 | 1552 | 1652..=1654 | 1691) => Kind::ReadOnly,
        (_, 1031 | 41900) => Kind::PermissionDenied,
        (_, 439 | 3001) => Kind::Unsupported,
        (_, 942) => Kind::TableMissing,
        _ => Kind::Other,
    }
}

impl From<DialectError> for DatabaseError {
    fn from(error: DialectError) -> Self {
        let kind = match error {
            DialectError::Unsupported(_) => DatabaseErrorKind::Unsupported,
            DialectError::Syntax(_) | DialectError::Empty => DatabaseErrorKind::Other,
        };
        Self::new(kind).with_source(error)
    }
}

#[cfg(test)]
#[allow(deprecated, reason = "there is no other way to make an error of the client library")]
mod tests {
    use oracle::{DbError, Error};

    use super::*;

    fn ora(code: i32) -> Error {
        Error::OciError(DbError::new(code, 0, format!("ORA-{code:05}: canary"), "test", "test"))
    }

    fn dpi(message: &str) -> Error {
        Error::DpiError(DbError::new(0, 0, message.to_owned(), "test", "test"))
    }

    fn statement(error: Error, alone: bool) -> DatabaseErrorKind {
        Failure::of(error, alone).error.kind
    }

    #[test]
    fn a_statement_s_error_is_known_by_its_number() {
        use DatabaseErrorKind as Kind;
        let cases = [
            (1, Kind::UniqueViolation),
            (2291, Kind::ForeignKeyViolation),
            (1400, Kind::ConstraintViolation),
            (12899, Kind::ConstraintViolation),
            (1848, Kind::ConstraintViolation),
            (1853, Kind::ConstraintViolation),
            (28115, Kind::ConstraintViolation),
            (60, Kind::Serialization),
            (8177, Kind::Serialization),
            (1013, Kind::StatementTimeout),
            (54, Kind::StatementTimeout),
            (3113, Kind::ConnectionLost),
            (3135, Kind::ConnectionLost),
            (12541, Kind::ConnectionLost),
            (2399, Kind::ConnectionLost),
            (25402, Kind::ConnectionLost),
            (1456, Kind::ReadOnly),
            (1031, Kind::PermissionDenied),
            (942, Kind::TableMissing),
            (904, Kind::Other),
        ];
        for (code, kind) in cases {
            assert_eq!(statement(ora(code), true), kind, "ORA-{code:05}");
        }
        assert_eq!(
            statement(dpi("DPI-1067: call timeout of 2000 ms exceeded with ORA-03156"), true),
            Kind::StatementTimeout
        );
        assert_eq!(statement(dpi("DPI-1010: not connected"), true), Kind::ConnectionLost);
    }

    #[test]
    fn a_commit_that_was_cut_off_may_have_had_its_effect() {
        use DatabaseErrorKind as Kind;
        let commit = |error| Failure::of_committing(error, true).error.kind;
        let cut_off = dpi("DPI-1067: call timeout of 2000 ms exceeded with ORA-03156");
        assert_eq!(commit(cut_off), Kind::NoAnswer);
        // The server itself gave the statement up.
        assert_eq!(commit(ora(54)), Kind::StatementTimeout);
        assert_eq!(commit(ora(1)), Kind::UniqueViolation);
    }

    #[test]
    fn an_ended_session_loses_something_only_in_a_transaction() {
        let closed = || dpi("DPI-1080: connection was closed by ORA-00028");
        assert_eq!(
            statement(closed(), true),
            DatabaseErrorKind::ConnectionLostWithoutEffect
        );
        assert_eq!(statement(closed(), false), DatabaseErrorKind::ConnectionLost);
        let cut = dpi("DPI-1080: connection was closed by ORA-03113");
        assert_eq!(statement(cut, true), DatabaseErrorKind::ConnectionLost);
    }

    #[test]
    fn a_refused_connection_is_known_by_its_number() {
        use DriverErrorKind as Kind;
        let cases = [
            (ora(1017), Kind::Authentication),
            (ora(28000), Kind::Authentication),
            (ora(28001), Kind::Authentication),
            (ora(12514), Kind::DatabaseMissing),
            (ora(12505), Kind::DatabaseMissing),
            (ora(12541), Kind::Unreachable),
            (ora(12170), Kind::Unreachable),
            (ora(1034), Kind::Unreachable),
            (ora(28860), Kind::Tls),
            (ora(29024), Kind::Tls),
            (ora(12519), Kind::TooManyConnections),
            (ora(28), Kind::SessionEnded),
            (ora(12154), Kind::Invalid),
            (
                dpi("DPI-1047: Cannot locate a 64-bit Oracle Client library"),
                Kind::Unsupported,
            ),
            (ora(600), Kind::Other),
        ];
        for (error, kind) in cases {
            let text = error.to_string();
            let error = connect_error(error);
            assert_eq!(error.kind, kind, "{text}");
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(!cause.contains("canary"), "{cause}");
        }
    }

    #[test]
    fn a_commit_that_is_refused_is_told_by_the_rule_it_broke() {
        let refused = |message: &str| {
            let error = DbError::new(2091, 0, message.to_owned(), "test", "test");
            Failure::of(Error::OciError(error), false).error
        };
        let orphan = refused("ORA-02091: transaction rolled back\nORA-02291: integrity constraint (A.B) violated");
        assert_eq!(
            (orphan.kind, orphan.code.as_deref()),
            (DatabaseErrorKind::ForeignKeyViolation, Some("ORA-02291"))
        );
        let alone = refused("ORA-02091: transaction rolled back");
        assert_eq!(
            (alone.kind, alone.code.as_deref()),
            (DatabaseErrorKind::Other, Some("ORA-02091"))
        );
    }

    #[test]
    fn a_taken_value_names_its_constraint() {
        let of = |code, message: &str| {
            let error = DbError::new(code, 0, message.to_owned(), "test", "test");
            Failure::of(Error::OciError(error), true).error.constraint()
        };
        let taken =
            "ORA-00001: unique constraint (APP.USERS_EMAIL_KEY) violated on table APP.USERS columns (EMAIL_KEY)";
        assert_eq!(of(1, taken).as_deref(), Some("USERS_EMAIL_KEY"));
        assert_eq!(of(1, "ORA-00001"), None);
        let refused = format!("ORA-02091: transaction rolled back\n{taken}");
        assert_eq!(of(2091, &refused).as_deref(), Some("USERS_EMAIL_KEY"));
    }

    #[test]
    fn an_error_that_costs_the_transaction_ends_it() {
        for (code, ends) in [(60, true), (8177, true), (24761, true), (54, false), (1, false)] {
            assert_eq!(Failure::of(ora(code), false).ends_transaction, ends, "ORA-{code:05}");
        }
    }

    #[test]
    fn an_error_prints_its_number_and_not_what_oracle_says() {
        let failed = Failure::of(ora(1), true).error;
        assert_eq!(
            failed.to_string(),
            "a unique value is taken (unique_violation, ORA-00001)"
        );
        assert!(!format!("{failed:?}").contains("canary"));
        let timed_out = Failure::of(dpi("DPI-1067: call timeout of 2 ms exceeded with ORA-03156"), true).error;
        assert_eq!(timed_out.code.as_deref(), Some("ORA-03156"));
    }
}
