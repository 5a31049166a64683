//! How a session begins, and what it says of itself.

use std::time::Duration;

use sqlx::{AssertSqlSafe, MySqlConnection, Row as _};

use super::errors::number_of;

/// Identifies the server, since several can be behind one address and each numbers its sessions by
/// itself.
pub(super) const SERVER: &str = "CONCAT_WS(':', @@hostname, @@port, @@server_id)";

/// What correctness rests on in a session, whatever the server's configuration and its
/// `init_connect` say:
///
/// - each statement that stands alone is committed (`autocommit`), and nothing begins a transaction
///   but `begin` (`completion_type`);
/// - keys and checks are enforced, and no row is left out (`sql_select_limit`, `sql_auto_is_null`);
/// - UTF-8, UTC and the server's own clock;
/// - an SQL mode in which no value is cut short, `||` joins texts, `\` escapes, `"` quotes a text,
///   and dates exist.
const SETTINGS: &str = "autocommit = 1, completion_type = 0, foreign_key_checks = 1, unique_checks = 1, \
    sql_select_limit = DEFAULT, sql_auto_is_null = 0, timestamp = DEFAULT, time_zone = '+00:00', \
    sql_mode = CONCAT('STRICT_TRANS_TABLES,PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
    ERROR_FOR_DIVISION_BY_ZERO', IF(FIND_IN_SET('ONLY_FULL_GROUP_BY', @@sql_mode), ',ONLY_FULL_GROUP_BY', ''))";

/// A session that would read what others have not committed reads what they have. A stricter
/// isolation is the server's to choose.
const ISOLATION: &str = "/*M! , SESSION check_constraint_checks = 1, \
    SESSION tx_isolation = IF(@@SESSION.tx_isolation = 'READ-UNCOMMITTED', 'READ-COMMITTED', @@SESSION.tx_isolation) */ \
    /*!80000 , SESSION transaction_isolation = IF(@@SESSION.transaction_isolation = 'READ-UNCOMMITTED', \
    'READ-COMMITTED', @@SESSION.transaction_isolation) */";

/// The cipher of this session, which is empty if it is not encrypted.
const CIPHER: &str = "/*M! , (SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher') \
    AS cipher */ /*!80000 , (SELECT VARIABLE_VALUE FROM performance_schema.session_status \
    WHERE VARIABLE_NAME = 'Ssl_cipher') AS cipher */";

/// The script that begins a session. It sets [`SETTINGS`] and the statement's time-out, and leaves
/// a transaction that `init_connect` began. It ends with a query for the version, the session's
/// number, the server's identity, the largest message and, if `innodb` is set, InnoDB's setting
/// that a wait for a lock that is too long rolls the whole transaction back. MariaDB alone reads
/// `/*M! */`; it passes over `/*!80000 */`, which MySQL reads.
fn session(statement_timeout: Option<Duration>, innodb: bool, asks_tls: bool) -> String {
    let limit = statement_timeout.map_or(String::new(), |limit| {
        let (seconds, milliseconds) = (limit.as_secs_f64().max(0.001), limit.as_millis().max(1));
        format!("/*M! , max_statement_time = {seconds} */ /*!80000 , max_execution_time = {milliseconds} */")
    });
    let rolls_back = if innodb {
        ", @@GLOBAL.innodb_rollback_on_timeout"
    } else {
        ""
    };
    let tls = if asks_tls { CIPHER } else { "" };
    format!(
        "SET {SETTINGS} {ISOLATION} {limit}, NAMES utf8mb4; ROLLBACK; \
         SELECT VERSION(), CONNECTION_ID(), {SERVER}, CAST(@@max_allowed_packet AS UNSIGNED){rolls_back}{tls}"
    )
}

/// The properties of a new session.
pub(super) struct Begun {
    pub(super) version: String,
    pub(super) id: SessionId,
    /// The most bytes of one message. The server closes the connection after a larger one.
    pub(super) largest_message: Option<usize>,
    /// Whether error 1205 rolls the whole transaction back, and not its statement only.
    pub(super) timeout_rolls_back: bool,
    /// Whether the connection is encrypted, if it was asked.
    pub(super) is_encrypted: Option<bool>,
}

pub(super) async fn begin_session(
    connection: &mut MySqlConnection,
    statement_timeout: Option<Duration>,
    asks_tls: bool,
) -> Result<Begun, sqlx::Error> {
    let mut innodb = true;
    let row = loop {
        let script = sqlx::raw_sql(AssertSqlSafe(session(statement_timeout, innodb, asks_tls)));
        match script.fetch_one(&mut *connection).await {
            // An unknown variable: the server has no InnoDB.
            Err(sqlx::Error::Database(error)) if innodb && number_of(&*error) == 1193 => innodb = false,
            outcome => break outcome?,
        }
    };
    Ok(Begun {
        version: row.try_get(0)?,
        id: SessionId {
            number: row.try_get(1)?,
            server: row.try_get(2)?,
        },
        largest_message: usize::try_from(row.try_get::<u64, _>(3)?).ok(),
        // What is not known is not relied upon.
        is_encrypted: match asks_tls {
            // A server that is neither MariaDB nor MySQL 8 does not say.
            true => row
                .try_get::<Option<String>, _>("cipher")
                .ok()
                .flatten()
                .map(|cipher| !cipher.is_empty()),
            false => None,
        },
        timeout_rolls_back: !innodb || row.try_get::<i64, _>(4)? != 0,
    })
}

/// One session of one server.
pub(super) struct SessionId {
    pub(super) number: u64,
    pub(super) server: String,
}

/// `10.11.14-MariaDB-0+deb12u2` and `8.0.36-log` without the packagers' suffixes. The name MariaDB
/// stays, since its version numbers differ from MySQL's.
pub(super) fn short_version(version: &str) -> String {
    let number = version.split(['-', '+']).next().unwrap_or(version);
    if version.contains("MariaDB") {
        format!("{number}-MariaDB")
    } else {
        number.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_loses_its_packager() {
        assert_eq!(short_version("10.11.14-MariaDB-0+deb12u2"), "10.11.14-MariaDB");
        assert_eq!(short_version("5.5.5-10.6.1-MariaDB"), "5.5.5-MariaDB");
        assert_eq!(short_version("8.0.36-log"), "8.0.36");
    }

    #[test]
    fn a_session_without_a_limit_sets_none() {
        let unlimited = session(None, true, true);
        assert!(!unlimited.contains("max_statement_time") && !unlimited.contains("max_execution_time"));
        let limited = session(Some(Duration::from_millis(1500)), true, true);
        assert!(limited.contains("max_statement_time = 1.5 "), "{limited}");
        assert!(limited.contains("max_execution_time = 1500 "), "{limited}");
    }
}
