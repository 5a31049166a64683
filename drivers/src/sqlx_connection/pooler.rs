//! Connections to a pooler that may run each transaction in another session of the server.
//!
//! Between two transactions nothing of a session can be relied on: not a setting, a named statement
//! or a lock. sqlx prepares a statement and executes it in two round trips, so that even an unnamed
//! statement could be executed in a session that has not prepared it. Therefore a statement outside
//! a transaction runs in a transaction of its own, and every transaction makes its own settings.

use sea_orm::{ExecResult, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::{ColumnIndex, Database, Executor, IntoArguments};
use tenantry_core::{DatabaseError, DatabaseErrorKind};

use super::{Dialect, Mode, SqlxConnection, Watch as _, without_effect};

/// The settings that each transaction makes for itself.
#[derive(Debug, Clone)]
pub(crate) struct PerTransaction {
    settings: String,
    /// One more that some servers refuse; `None` once this one has.
    if_possible: Option<&'static str>,
    /// A script that fails with [`ELSEWHERE`] if a statement without the settings would look for
    /// its tables elsewhere; `None` if it cannot.
    check: Option<String>,
}

/// PostgreSQL's `invalid_schema_name`.
pub(crate) const ELSEWHERE: &str = "3F000";

impl PerTransaction {
    /// `settings` are statements that are valid until the end of their transaction, parted by
    /// semicolons. `check` fails with [`ELSEWHERE`] if a statement without them would look for its
    /// tables elsewhere.
    #[cfg_attr(
        not(feature = "postgresql"),
        allow(dead_code, reason = "no other driver speaks to a pooler")
    )]
    pub(crate) fn new(settings: String, if_possible: Option<&'static str>, check: Option<String>) -> Self {
        Self {
            settings,
            if_possible,
            check,
        }
    }

    /// The script that begins a transaction and makes the settings.
    fn after(&self, begin: &str) -> String {
        let Self {
            settings, if_possible, ..
        } = self;
        match if_possible {
            Some(more) => format!("{begin}; {settings}; {more}"),
            None => format!("{begin}; {settings}"),
        }
    }

    /// The script behind the settings. A server runs a message with several statements in one
    /// transaction, unless they say otherwise.
    fn before(&self, script: &str) -> String {
        format!("{}; {script}", self.settings)
    }
}

impl<D: Dialect> SqlxConnection<D>
where
    for<'c> &'c mut <D::Database as Database>::Connection: Executor<'c, Database = D::Database>,
    SqlxValues: IntoArguments<D::Database>,
    usize: ColumnIndex<<D::Database as Database>::Row>,
{
    /// Whether a statement needs a transaction of its own now.
    pub(super) fn is_alone(&self) -> bool {
        self.per_transaction.is_some() && self.depth == 0
    }

    /// Begins a transaction on the server. Nothing happens between this and the next statement: a
    /// future can only be dropped while it waits, and then the connection is busy.
    pub(super) async fn open(&mut self, begin: &str) -> Result<(), DatabaseError> {
        loop {
            let Some(per_transaction) = &self.per_transaction else {
                return self.control(begin).await.map_err(without_effect);
            };
            let script = per_transaction.after(begin);
            let Err(error) = self.control(&script).await else {
                return Ok(());
            };
            if error.kind.breaks_connection() {
                return Err(no_session(without_effect(error)));
            }
            // `BEGIN` itself may have been done.
            self.control("ROLLBACK").await.map_err(without_effect)?;
            let refused = self
                .per_transaction
                .as_mut()
                .and_then(|settings| settings.if_possible.take());
            if refused.is_none() {
                return Err(error);
            }
            self.watch.looks_for_no_client();
        }
    }

    /// Runs a statement in a transaction of its own.
    pub(super) async fn run_alone<M: Mode<D>>(&mut self, statement: &Statement) -> Result<M::Output, DatabaseError> {
        self.open("BEGIN").await?;
        let outcome = self.run_here::<M>(statement).await;
        self.end_alone(outcome.as_ref().err()).await?;
        outcome
    }

    /// Ends the transaction of a single statement. A commit that fails is an error of the
    /// statement. If the connection was lost in the middle of it, the statement may have taken
    /// effect.
    pub(super) async fn end_alone(&mut self, failed: Option<&DatabaseError>) -> Result<(), DatabaseError> {
        match failed {
            None => self.control("COMMIT").await,
            // The pooler rolls back.
            Some(error) if error.kind.breaks_connection() => Ok(()),
            Some(_) => self.control("ROLLBACK").await.map_err(without_effect),
        }
    }

    /// Runs a script outside a transaction.
    pub(super) async fn script_alone(&mut self, sql: &str) -> Result<ExecResult, DatabaseError> {
        let Some(per_transaction) = &self.per_transaction else {
            return self.script(sql, None).await;
        };
        let script = per_transaction.before(sql);
        let check = per_transaction.check.clone();
        match self.script(&script, None).await {
            Err(error) if must_stand_alone(&error) && is_one_statement(sql) => {
                if let Some(check) = check {
                    self.script(&check, None).await.map_err(elsewhere)?;
                }
                self.script(sql, None).await
            }
            outcome => outcome,
        }
    }
}

/// Whether the server refused a statement since it cannot run in a transaction: `VACUUM`, or a
/// procedure that commits. Of a script of one statement nothing was done then.
fn must_stand_alone(error: &DatabaseError) -> bool {
    matches!(error.code.as_deref(), Some("25001" | "2D000"))
}

/// Without its settings a statement would look for its tables in another schema.
fn elsewhere(error: DatabaseError) -> DatabaseError {
    if error.code.as_deref() != Some(ELSEWHERE) {
        return error;
    }
    DatabaseError::new(DatabaseErrorKind::Other).with_source(
        "outside a transaction the secret's `schema` is not set behind a pooler in transaction mode; give the user this \
         search path with `ALTER ROLE ... SET search_path`, or use a secret that leads to the server itself",
    )
}

/// In doubt it is not one.
fn is_one_statement(sql: &str) -> bool {
    !sql.trim_end().trim_end_matches(';').contains(';')
}

/// A pooler lets a transaction wait until a session of the server is free. If none was in time,
/// nothing was done.
fn no_session(mut error: DatabaseError) -> DatabaseError {
    if error.kind == DatabaseErrorKind::NoAnswer {
        error.kind = DatabaseErrorKind::PoolTimeout;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_script_of_one_statement_may_be_sent_again() {
        for one in ["VACUUM", " vacuum t ;\n", "CREATE INDEX CONCURRENTLY i ON t (a)"] {
            assert!(is_one_statement(one), "{one}");
        }
        for several in ["VACUUM; INSERT INTO t VALUES (1)", "BEGIN; COMMIT; VACUUM"] {
            assert!(!is_one_statement(several), "{several}");
        }
    }
}
