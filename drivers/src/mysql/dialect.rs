//! MySQL and MariaDB, as a connection of sqlx sees them.

use sea_orm::{TransactionOptions, Value};
use sqlx::{Decode, mysql::MySqlValueRef};
use tenantry_core::DatabaseErrorKind;

use super::{
    ending::EndsSession,
    errors::{aftermath, is_ordinary, kind, number_of},
};
use crate::sqlx_connection::{Dialect, ErrorMeaning};

/// MySQL and MariaDB, as the connection sees them.
pub(super) struct Mysql;

impl Dialect for Mysql {
    type Database = sqlx::MySql;
    type Watch = EndsSession;

    const COUNTS_VALUES: bool = true;

    const CLOSES_SILENTLY: bool = true;

    const HAS_UNSIGNED: bool = true;

    fn fault(watch: &EndsSession, error: &dyn sqlx::error::DatabaseError, _within: bool) -> ErrorMeaning {
        let number = number_of(error);
        ErrorMeaning {
            kind: if is_ordinary(error) {
                DatabaseErrorKind::Other
            } else {
                kind(number)
            },
            transaction: aftermath(number, watch.timeout_rolls_back),
        }
    }

    /// The server failed to prepare it again several times (1615), or does not know it, as behind a
    /// proxy that switched servers (1243). Or it has no room for another one (1461), and has some
    /// once this connection has closed its own.
    fn is_stale_plan(error: &dyn sqlx::error::DatabaseError) -> bool {
        matches!(number_of(error), 1615 | 1243 | 1461)
    }

    /// sqlx sends a time in UTC as a TIMESTAMP, of which MariaDB makes NULL outside the years 1970
    /// to 2038 whatever the column is. A DATETIME is the same in a session that speaks UTC.
    fn bound(value: Value) -> Value {
        match value {
            Value::ChronoDateTimeUtc(time) => Value::ChronoDateTime(time.map(|time| time.naive_utc())),
            Value::ChronoDateTimeLocal(time) => Value::ChronoDateTime(time.map(|time| time.naive_utc())),
            Value::ChronoDateTimeWithTimeZone(time) => Value::ChronoDateTime(time.map(|time| time.naive_utc())),
            value => value,
        }
    }

    fn length(value: MySqlValueRef<'_>) -> usize {
        <&[u8] as Decode<sqlx::MySql>>::decode(value).map_or(0, <[u8]>::len)
    }

    fn begin(options: &TransactionOptions) -> String {
        let start = match options.access_mode {
            Some(mode) => format!("START TRANSACTION {mode}"),
            None => "START TRANSACTION".to_owned(),
        };
        match options.isolation_level {
            Some(level) => format!("SET TRANSACTION ISOLATION LEVEL {level}; {start}"),
            None => start,
        }
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{AccessMode, IsolationLevel};

    use super::*;

    #[test]
    fn the_isolation_level_comes_before_the_transaction() {
        assert_eq!(Mysql::begin(&TransactionOptions::default()), "START TRANSACTION");
        let options = TransactionOptions {
            isolation_level: Some(IsolationLevel::ReadCommitted),
            access_mode: Some(AccessMode::ReadOnly),
            ..Default::default()
        };
        assert_eq!(
            Mysql::begin(&options),
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION READ ONLY"
        );
    }
}
