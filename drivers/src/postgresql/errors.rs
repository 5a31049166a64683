//! What the server's error codes mean.

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use tenantry_core::{DatabaseErrorKind, DriverErrorKind};

/// Whether the error ends the session.
pub(super) fn is_fatal(error: &dyn sqlx::error::DatabaseError) -> bool {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// Reads the SQLSTATE (PostgreSQL's documentation, appendix A) of a refused connection.
pub(super) fn connect_kind(error: &dyn sqlx::error::DatabaseError) -> DriverErrorKind {
    match error.code().unwrap_or_default().as_ref() {
        // 42501: this user may not connect to this database.
        "28P01" | "28000" | "42501" => DriverErrorKind::Authentication,
        "3D000" => DriverErrorKind::DatabaseMissing,
        "53300" => match routine(error) {
            // The limits of a role and of a database.
            Some("InitializeSessionUserId" | "CheckMyDatabase") => DriverErrorKind::ConnectionLimit,
            _ => DriverErrorKind::TooManyConnections,
        },
        "57P01" => DriverErrorKind::SessionEnded,
        // Starting up, shutting down, or out of order.
        "57P02" | "57P03" | "58000" => DriverErrorKind::Unreachable,
        "08P01" => refused_by_pooler(error.message()),
        code if code.starts_with("08") => DriverErrorKind::Unreachable,
        _ => DriverErrorKind::Other,
    }
}

/// Whether a pooler does not know a parameter of the start-up packet, which a server ignores or
/// knows. PgBouncer has one code for all of its errors; RDS Proxy calls it an unsupported feature.
pub(super) fn refuses_parameters(error: &dyn sqlx::error::DatabaseError) -> bool {
    match error.code().unwrap_or_default().as_ref() {
        "08P01" => error.message().starts_with("unsupported startup parameter"),
        "0A000" => true,
        _ => false,
    }
}

/// Reads why PgBouncer refused a login. Up to 1.18 and beyond it has one code for all reasons, so
/// only the text distinguishes them. The text is the same in every language.
fn refused_by_pooler(message: &str) -> DriverErrorKind {
    let begins = |known: &[&str]| known.iter().any(|known| message.starts_with(known));
    if begins(&[
        "SASL authentication failed",
        "password authentication failed",
        "no such user",
    ]) {
        DriverErrorKind::Authentication
    } else if begins(&["no such database"]) {
        DriverErrorKind::DatabaseMissing
    } else if begins(&["no more connections allowed"]) {
        DriverErrorKind::TooManyConnections
    } else {
        DriverErrorKind::Unreachable
    }
}

/// The routine of the server that reported the error. Unlike the message it is the same in every
/// language.
pub(super) fn routine(error: &dyn sqlx::error::DatabaseError) -> Option<&str> {
    error.try_downcast_ref::<PgDatabaseError>()?.routine()
}

/// Reads the SQLSTATE of a failed statement. A rule of the database itself, which is a `RAISE` or a
/// policy of row-level security, may have the code of another error.
pub(super) fn kind(code: &str, fatal: bool, routine: Option<&str>) -> DatabaseErrorKind {
    match kind_of_code(code, fatal) {
        DatabaseErrorKind::Other | DatabaseErrorKind::PermissionDenied
            if matches!(routine, Some("exec_stmt_raise" | "ExecWithCheckOptions")) =>
        {
            DatabaseErrorKind::ConstraintViolation
        }
        kind => kind,
    }
}

fn kind_of_code(code: &str, fatal: bool) -> DatabaseErrorKind {
    use DatabaseErrorKind as Kind;
    match code {
        "23505" => Kind::UniqueViolation,
        "23503" | "23001" => Kind::ForeignKeyViolation,
        "23502" | "23514" | "23P01" => Kind::ConstraintViolation,
        // A view's CHECK OPTION; `ON CONFLICT` without such a constraint, or twice for one row.
        "44000" | "42P10" | "21000" => Kind::ConstraintViolation,
        // A value that is none of its type, too long, or not in the database's encoding.
        code if code.starts_with("22") && !fatal => Kind::ConstraintViolation,
        // A value that is too large for an index, or nested too deep.
        "54000" | "54001" if !fatal => Kind::ConstraintViolation,
        "40001" | "40P01" => Kind::Serialization,
        "57014" | "55P03" => Kind::StatementTimeout,
        // The session was ended by an operator, or after idling too long: the statement had not
        // begun, or is undone.
        "57P01" | "57P05" => Kind::ConnectionLostWithoutEffect,
        "25006" | "53100" => Kind::ReadOnly,
        "42501" => Kind::PermissionDenied,
        // The values do not fit the statement. The session goes on.
        "08P01" if !fatal => Kind::Other,
        _ if fatal || code.starts_with("08") => Kind::ConnectionLost,
        "0A000" => Kind::Unsupported,
        // A table, or the schema that it would be in.
        "42P01" | "3F000" => Kind::TableMissing,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_a_pooler_are_told_apart() {
        use DriverErrorKind as Kind;
        let cases = [
            ("SASL authentication failed", Kind::Authentication),
            ("no such user: u", Kind::Authentication),
            ("no such database: d", Kind::DatabaseMissing),
            (
                "no more connections allowed (max_client_conn)",
                Kind::TooManyConnections,
            ),
            (
                "server login has been failing, try again later (server_login_retry)",
                Kind::Unreachable,
            ),
            ("query_wait_timeout", Kind::Unreachable),
        ];
        for (message, expected) in cases {
            assert_eq!(refused_by_pooler(message), expected, "{message}");
        }
    }

    #[test]
    fn a_session_that_was_ended_lost_its_connection() {
        use DatabaseErrorKind as Kind;
        assert_eq!(kind("57P01", true, None), Kind::ConnectionLostWithoutEffect);
        assert_eq!(kind("57P02", true, None), Kind::ConnectionLost);
        assert_eq!(kind("57P03", true, None), Kind::ConnectionLost);
        assert_eq!(kind("25P03", true, None), Kind::ConnectionLost);
        assert_eq!(kind("08006", false, None), Kind::ConnectionLost);
        assert_eq!(kind("08P01", true, None), Kind::ConnectionLost);
        assert_eq!(kind("08P01", false, None), Kind::Other);
        assert_eq!(kind("42P01", false, None), Kind::TableMissing);
        assert_eq!(kind("42601", false, None), Kind::Other);
        assert_eq!(kind("42501", false, None), Kind::PermissionDenied);
        for code in ["54000", "54001"] {
            assert_eq!(kind(code, false, None), Kind::ConstraintViolation, "{code}");
        }
        for (code, routine) in [
            ("42501", "ExecWithCheckOptions"),
            ("PT402", "exec_stmt_raise"),
            ("45000", "exec_stmt_raise"),
        ] {
            assert_eq!(kind(code, false, Some(routine)), Kind::ConstraintViolation, "{code}");
        }
        assert_eq!(kind("40001", false, Some("exec_stmt_raise")), Kind::Serialization);
    }
}
