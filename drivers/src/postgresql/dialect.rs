//! PostgreSQL, as a connection of sqlx sees it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sea_orm::TransactionOptions;
use sqlx::postgres::{PgDatabaseError, PgValueRef};
use tenantry_core::DatabaseErrorKind;

use super::errors::{is_fatal, kind, routine};
use crate::sqlx_connection::{Aftermath, Dialect, ErrorMeaning, Watch};

/// PostgreSQL, as the connection sees it.
pub(super) struct Postgresql;

/// How long a server that notices lost clients takes to end an abandoned statement. See
/// [`NOTICE_LOST_CLIENTS`](super::session::NOTICE_LOST_CLIENTS).
const NOTICED_WITHIN: Duration = Duration::from_millis(700);

/// The longest that an abandoned statement without a time-out is waited for.
const LONGEST_STATEMENT: Duration = Duration::from_secs(60);

/// How soon the server itself ends an abandoned statement: if it does not look whether its client
/// is still there, with the statement's time-out.
pub(super) struct EndsStatements {
    notices_lost_clients: AtomicBool,
    statement_timeout: Duration,
}

impl EndsStatements {
    pub(super) fn new(notices_lost_clients: bool, statement_timeout: Option<Duration>) -> Self {
        Self {
            notices_lost_clients: notices_lost_clients.into(),
            statement_timeout: statement_timeout.unwrap_or(LONGEST_STATEMENT),
        }
    }
}

impl Watch for EndsStatements {
    fn noticed_within(&self) -> Duration {
        match self.outlives_clients() {
            true => self.statement_timeout,
            false => NOTICED_WITHIN.min(self.statement_timeout),
        }
    }

    fn outlives_clients(&self) -> bool {
        !self.notices_lost_clients.load(Ordering::Relaxed)
    }

    fn looks_for_no_client(&self) {
        self.notices_lost_clients.store(false, Ordering::Relaxed);
    }
}

impl Dialect for Postgresql {
    type Database = sqlx::Postgres;
    type Watch = EndsStatements;

    const MOST_VALUES: usize = u16::MAX as usize;

    const FIXES_TYPES: bool = true;

    fn fault(_watch: &EndsStatements, error: &dyn sqlx::error::DatabaseError, _within: bool) -> ErrorMeaning {
        let kind = if Self::is_stale_plan(error) {
            DatabaseErrorKind::Serialization
        } else {
            kind(
                error.code().unwrap_or_default().as_ref(),
                is_fatal(error),
                routine(error),
            )
        };
        ErrorMeaning {
            kind,
            transaction: Aftermath::Failed,
        }
    }

    /// "cached plan must not change result type": a migration changed a table under a prepared
    /// statement. Or the session does not have it any more (26000), as after `DEALLOCATE ALL`.
    fn is_stale_plan(error: &dyn sqlx::error::DatabaseError) -> bool {
        let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else {
            return false;
        };
        match error.code() {
            "0A000" => error.routine() == Some("RevalidateCachedQuery"),
            code => code == "26000",
        }
    }

    fn length(value: PgValueRef<'_>) -> usize {
        value.as_bytes().map_or(0, <[u8]>::len)
    }

    fn begin(options: &TransactionOptions) -> String {
        let mut sql = "BEGIN".to_owned();
        if let Some(level) = options.isolation_level {
            sql.push_str(&format!(" ISOLATION LEVEL {level}"));
        }
        if let Some(mode) = options.access_mode {
            sql.push_str(&format!(" {mode}"));
        }
        sql
    }

    /// A transaction's isolation is that of its save points.
    fn begin_within(options: &TransactionOptions, save_point: &str) -> Option<String> {
        match (options.isolation_level, options.access_mode) {
            (Some(_), _) => None,
            (None, Some(mode)) => Some(format!("{save_point}; SET TRANSACTION {mode}")),
            (None, None) => Some(save_point.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{AccessMode, IsolationLevel};

    use super::*;

    #[test]
    fn an_abandoned_statement_ends_when_its_server_can_know() {
        let within = |notices, timeout| EndsStatements::new(notices, timeout).noticed_within();
        let limit = Some(Duration::from_secs(30));
        assert_eq!(within(true, limit), NOTICED_WITHIN);
        assert_eq!(within(true, None), NOTICED_WITHIN);
        assert_eq!(within(false, limit), Duration::from_secs(30));
        assert_eq!(within(false, None), LONGEST_STATEMENT);
    }

    #[test]
    fn a_transaction_begins_as_its_options_say() {
        assert_eq!(Postgresql::begin(&TransactionOptions::default()), "BEGIN");
        let options = TransactionOptions {
            isolation_level: Some(IsolationLevel::Serializable),
            access_mode: Some(AccessMode::ReadOnly),
            ..Default::default()
        };
        assert_eq!(
            Postgresql::begin(&options),
            "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"
        );
    }
}
