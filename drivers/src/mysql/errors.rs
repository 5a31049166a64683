//! What the server's error numbers mean.

use sqlx::mysql::MySqlDatabaseError;
use tenantry_core::{DatabaseErrorKind, DriverErrorKind};

use crate::sqlx_connection::Aftermath;

/// The server asks for the password itself, and the connection is not encrypted.
///
/// MySQL's clients can encrypt it with a key from the server that no authority certifies, so an
/// attacker in between can get the password. This driver does not do that, and does not need the
/// crate `rsa`.
#[derive(Debug, thiserror::Error)]
#[error(
    "the server asks for the password itself (`caching_sha2_password` or `sha256_password`), which is sent over TLS only: set `tls.mode` \
     to `verify-full` or at least `require`"
)]
pub(super) struct NoPlainPassword;

/// How sqlx's error begins if the server asks for a way to log in that sqlx does not have: there is
/// no kind of error for it.
pub(super) const UNKNOWN_PLUGIN: &str = "unknown authentication plugin";

/// Whether sqlx refused because it was to encrypt the password without TLS: it has no kind of error
/// for that.
pub(super) fn wants_encrypted_password(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.to_string().starts_with("RSA auth backend disabled")
}

pub(super) fn number_of(error: &dyn sqlx::error::DatabaseError) -> u16 {
    error
        .try_downcast_ref::<MySqlDatabaseError>()
        .map_or(0, MySqlDatabaseError::number)
}

/// Reads the number of a refused connection (MySQL's and MariaDB's lists of server errors).
pub(super) fn connect_kind(error: &dyn sqlx::error::DatabaseError) -> DriverErrorKind {
    match number_of(error) {
        // Access denied: by password, to the database, without a password, to a locked account, by
        // an expired password, from here.
        1044 | 1045 | 1698 | 1130 | 1820 | 1862 | 3118 | 3878 | 4151 => DriverErrorKind::Authentication,
        1049 => DriverErrorKind::DatabaseMissing,
        1040 => DriverErrorKind::TooManyConnections,
        1203 | 1226 => DriverErrorKind::ConnectionLimit,
        // Shutting down; this host made too many bad connections; in offline mode.
        1053 | 1129 | 3032 => DriverErrorKind::Unreachable,
        1047 if is_of_galera(error) => DriverErrorKind::Unreachable,
        1927 => DriverErrorKind::SessionEnded,
        // The server takes encrypted connections only, from this user or from anyone.
        3159 => DriverErrorKind::Tls,
        _ => DriverErrorKind::Other,
    }
}

/// Whether an error 1047, which is "unknown command", is one of a node of Galera that is not in its
/// cluster. Galera's message is the same in every language.
fn is_of_galera(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.message().contains("WSREP")
}

/// Whether the error says nothing of the session or of its node, although its number may.
pub(super) fn is_ordinary(error: &dyn sqlx::error::DatabaseError) -> bool {
    names_no_prepared(error) || (number_of(error) == 1047 && !is_of_galera(error))
}

/// Whether a statement's `EXECUTE` or `DEALLOCATE PREPARE` names what the session has not prepared.
/// sqlx's own prepared statements have the same number, and the message of them names
/// `mysqld_stmt_execute` in every language.
fn names_no_prepared(error: &dyn sqlx::error::DatabaseError) -> bool {
    let message = error.message();
    number_of(error) == 1243 && ["EXECUTE", "DEALLOCATE"].iter().any(|word| message.contains(word))
}

/// What became of the transaction in which a statement failed with this number.
pub(super) fn aftermath(number: u16, timeout_rolls_back: bool) -> Aftermath {
    match number {
        // A deadlock, a full lock table, MariaDB's "record has changed since last read", and a
        // conflict with another member of the group.
        1213 | 1206 | 1020 | 3101 => Aftermath::Gone,
        1205 if timeout_rolls_back => Aftermath::Gone,
        _ => Aftermath::GoesOn,
    }
}

/// Reads the number of a failed statement.
pub(super) fn kind(number: u16) -> DatabaseErrorKind {
    use DatabaseErrorKind as Kind;
    match number {
        1022 | 1062 | 1169 | 1586 | 1859 => Kind::UniqueViolation,
        1216 | 1217 | 1451 | 1452 | 1557 | 1761 | 1762 => Kind::ForeignKeyViolation,
        1048 | 1264 | 1364 | 1406 | 3819 | 4025 => Kind::ConstraintViolation,
        // A view's CHECK OPTION, and SIGNAL.
        1369 | 1643 | 1644 => Kind::ConstraintViolation,
        // A value that is none of its type, not in the column's encoding, or JSON that is not valid
        // or nested too deep.
        1265 | 1267 | 1270 | 1271 | 1292 | 1365 | 1366 | 1411 | 1690 | 3140 | 3157 | 3988 => Kind::ConstraintViolation,
        // A date beyond the first or the last, and JSON that does not convert.
        1441 | 3141 | 3144 | 3155 | 3156 | 3158 => Kind::ConstraintViolation,
        // 1412: the table was changed since the transaction began. 1461: the server keeps as many
        // prepared statements as it may.
        1213 | 1206 | 1020 | 3101 | 1412 | 1615 | 1243 | 1461 => Kind::Serialization,
        // Waited too long for a lock; interrupted; ran too long (MySQL, MariaDB); a lock that was
        // not to be waited for.
        1205 | 1317 | 3024 | 1969 | 3572 => Kind::StatementTimeout,
        // 4031: the session had been ended for idling before the statement came. 1047: the node has
        // left its cluster (Galera), and another session may be on a healthy one.
        4031 | 1047 => Kind::ConnectionLostWithoutEffect,
        // 3032: the server went into offline mode, in which it ends its sessions.
        1053 | 1927 | 2006 | 2013 | 3032 | 3169 => Kind::ConnectionLost,
        // 1021, 1114: the disk is full, or the table's file is.
        1290 | 1836 | 1792 | 1021 | 1114 => Kind::ReadOnly,
        1044 | 1142 | 1143 | 1227 | 1370 => Kind::PermissionDenied,
        1235 | 1295 => Kind::Unsupported,
        // The user may send no more statements in this hour.
        1226 => Kind::Connect(DriverErrorKind::ConnectionLimit),
        // The table, or the database that it would be in: dropped while the session lived.
        1146 | 1046 | 1049 => Kind::TableMissing,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_is_not_valid_violates_a_constraint() {
        assert_eq!(kind(3140), DatabaseErrorKind::ConstraintViolation);
    }

    #[test]
    fn numbers_that_only_mysql_sends_are_known() {
        for number in [3141, 3144, 3155, 3156, 3158] {
            assert_eq!(kind(number), DatabaseErrorKind::ConstraintViolation, "{number}");
        }
        for number in [3032, 3169] {
            assert_eq!(kind(number), DatabaseErrorKind::ConnectionLost, "{number}");
        }
    }

    #[test]
    fn what_became_of_a_transaction_is_known_by_the_number() {
        for number in [1213, 1206, 1020, 3101] {
            assert_eq!(kind(number), DatabaseErrorKind::Serialization, "{number}");
            assert_eq!(aftermath(number, false), Aftermath::Gone, "{number}");
        }
        assert_eq!(aftermath(1205, true), Aftermath::Gone);
        assert_eq!(aftermath(1205, false), Aftermath::GoesOn);
        assert_eq!(aftermath(1062, true), Aftermath::GoesOn);
    }
}
