//! One session, as the thread that owns it sees it: blocking calls of the client library.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use oracle::{Connection, Statement, sql_type::OracleType};
use sea_orm::{AccessMode, IsolationLevel, TransactionOptions, Value};
use tenantry_core::{DatabaseError, DatabaseErrorKind, ServerVersion, driver_settings::MaxAnswer};

use crate::{
    dialect::{Plan, SourceColumn, Step},
    errors::Failure,
    offsets::Offsets,
    script,
};

/// The savepoint at the beginning of a change of several statements within a transaction.
const UNIT: &str = "tenantry_unit";

/// What correctness rests on in a session, whatever `NLS_LANG` and a logon trigger say: UTC, texts
/// that compare by their bytes, and the ISO form of a date or a number that becomes a text.
const SETTINGS: &str = "ALTER SESSION SET TIME_ZONE = '+00:00' NLS_COMP = 'BINARY' NLS_SORT = 'BINARY' \
    NLS_NUMERIC_CHARACTERS = '.,' NLS_CALENDAR = 'GREGORIAN' NLS_DATE_FORMAT = 'YYYY-MM-DD HH24:MI:SS' \
    NLS_TIMESTAMP_FORMAT = 'YYYY-MM-DD HH24:MI:SS.FF' NLS_TIMESTAMP_TZ_FORMAT = 'YYYY-MM-DD HH24:MI:SS.FF TZH:TZM'";

/// The connection, shared with the code that may interrupt it. Only its own thread changes it, and
/// only between two statements.
pub(crate) type Shared = Arc<RwLock<Connection>>;

/// Names and values of some rows.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

/// The outcome of a statement.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) rows: Rows,
    pub(crate) touched: u64,
}

pub(crate) struct Session {
    pub(crate) connection: Shared,
    statement_timeout: Option<Duration>,
    pub(crate) max_answer: MaxAnswer,
    version: ServerVersion,
    /// Save points count from 2; 0 is no transaction.
    pub(crate) depth: usize,
    /// Whether the transaction was begun to read only.
    read_only: bool,
    /// Why the whole transaction was rolled back before its end.
    gone: Option<DatabaseErrorKind>,
    /// The types of columns, by the query that was described.
    pub(crate) described: HashMap<String, Arc<Vec<OracleType>>>,
    pub(crate) json: HashMap<SourceColumn, bool>,
    pub(crate) offsets: Arc<Offsets>,
}

impl Session {
    /// Begins a session with its [`SETTINGS`].
    pub(crate) fn begin_session(
        connection: Shared,
        statement_timeout: Option<Duration>,
        max_answer: MaxAnswer,
        offsets: Arc<Offsets>,
    ) -> oracle::Result<Self> {
        let version = {
            let open = locked(&connection);
            open.set_call_timeout(statement_timeout)?;
            open.execute(SETTINGS, &[])?;
            let (version, _) = open.server_version()?;
            ServerVersion(format!("{}.{}", version.major(), version.minor()).into())
        };
        Ok(Self {
            connection,
            statement_timeout,
            max_answer,
            version,
            depth: 0,
            read_only: false,
            gone: None,
            described: HashMap::new(),
            json: HashMap::new(),
            offsets,
        })
    }

    pub(crate) fn ping(&mut self) -> Result<ServerVersion, DatabaseError> {
        let pinged = locked(&self.connection).ping();
        pinged.map_err(|error| self.failed(Failure::of(error, false)))?;
        Ok(self.version.clone())
    }

    /// Runs a statement's plan. `one` means that only the first row is wanted.
    pub(crate) fn run(&mut self, plan: &Plan, values: &[Value], one: bool) -> Result<Outcome, DatabaseError> {
        self.refuse_outside()?;
        match plan {
            Plan::Query { sql, columns, locks } => {
                let rows = if *locks && self.depth == 0 {
                    // The locks of a statement outside a transaction end with it.
                    self.unit(|session| session.query(sql, values, columns, one))?
                } else {
                    self.query(sql, values, columns, one)
                        .map_err(|failure| self.failed(failure))?
                };
                Ok(Outcome {
                    touched: rows.rows.len() as u64,
                    rows,
                })
            }
            Plan::Change {
                statements,
                returning,
                skips_taken,
            } => match statements.as_slice() {
                [sql] if returning.is_none() || self.depth > 0 => skip_taken(
                    *skips_taken,
                    self.change(sql, values, returning.as_ref(), self.depth == 0),
                )
                .map_err(|failure| self.failed(failure)),
                // What is returned is read before the commit: a value that cannot be read undoes
                // the change.
                several => self.unit(|session| {
                    let mut outcome = Outcome::default();
                    for sql in several {
                        let one = session.change(sql, values, returning.as_ref(), false);
                        let one = skip_taken(*skips_taken, one)?;
                        if one.touched > 0 {
                            outcome.rows.columns = one.rows.columns;
                        }
                        outcome.touched += one.touched;
                        outcome.rows.rows.extend(one.rows.rows);
                    }
                    Ok(outcome)
                }),
            },
            Plan::Merge { steps, only_if_touched } => match steps.as_slice() {
                [Step { sql, then: None }] => self
                    .change(sql, values, None, self.depth == 0)
                    .map_err(|failure| self.failed(failure)),
                several => self.unit(|session| {
                    let mut outcome = Outcome::default();
                    for Step { sql, then } in several {
                        let touched = session.change(sql, values, None, false)?.touched;
                        outcome.touched += touched;
                        if let Some((query, columns)) = then
                            && (touched > 0 || !only_if_touched)
                        {
                            let read = session.query(query, values, columns, one)?;
                            outcome.rows.columns = read.columns;
                            outcome.rows.rows.extend(read.rows);
                        }
                    }
                    Ok(outcome)
                }),
            },
            Plan::Definition { sql, tolerates } => {
                self.forget();
                self.native(sql, *tolerates)?;
                Ok(Outcome::default())
            }
        }
    }

    /// Runs a script in Oracle's own SQL. It knows no time-out of its own: its caller has one.
    pub(crate) fn script(&mut self, text: &str) -> Result<u64, DatabaseError> {
        self.refuse_outside()?;
        self.forget();
        let steps = script::steps(text);
        if steps.is_empty() {
            return Ok(0);
        }
        self.call_timeout(None)?;
        let mut touched = 0;
        let mut outcome = Ok(());
        for step in steps {
            match self.native(&step.sql, step.tolerates) {
                Ok(rows) => touched += rows,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        // A lost session has no time-out to restore. The statement's own error is the one to
        // report.
        let restored = self.call_timeout(self.statement_timeout);
        outcome?;
        restored?;
        Ok(touched)
    }

    fn call_timeout(&mut self, limit: Option<Duration>) -> Result<(), DatabaseError> {
        let set = locked(&self.connection).set_call_timeout(limit);
        set.map_err(|error| self.failed(Failure::of(error, false)))
    }

    /// Runs one statement of Oracle's own. An error that is tolerated counts as done.
    pub(crate) fn native(&mut self, sql: &str, tolerates: Option<i32>) -> Result<u64, DatabaseError> {
        self.autocommit(self.depth == 0);
        let ran = self.prepared(sql, |_, statement| {
            if statement.is_query() {
                statement.query(&[]).map(drop)?;
            } else {
                statement.execute(&[])?;
            }
            if statement.is_dml() {
                statement.row_count()
            } else {
                Ok(0)
            }
        });
        match ran {
            Ok(rows) => Ok(rows),
            Err(failure) if tolerates == Some(failure.ora) => Ok(0),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    pub(crate) fn begin(&mut self, options: &TransactionOptions) -> Result<(), DatabaseError> {
        self.refuse_outside()?;
        if self.depth > 0 {
            let other_mode = options
                .access_mode
                .is_some_and(|mode| (mode == AccessMode::ReadOnly) != self.read_only);
            if options.isolation_level.is_some() || other_mode {
                let source = "a save point has the isolation and the access mode of its transaction";
                return Err(DatabaseError::new(DatabaseErrorKind::Unsupported).with_source(source));
            }
            self.native(&format!("SAVEPOINT tenantry_{}", self.depth), None)?;
        } else {
            self.autocommit(false);
            let begun = self.prepared(set_transaction(options), |_, statement| statement.execute(&[]));
            // Of a transaction that did not begin nothing is kept, however its connection was lost.
            begun.map_err(|failure| {
                let mut error = self.failed(failure);
                if error.kind == DatabaseErrorKind::ConnectionLost {
                    error.kind = DatabaseErrorKind::ConnectionLostWithoutEffect;
                }
                error
            })?;
            self.read_only = options.access_mode == Some(AccessMode::ReadOnly);
        }
        self.depth += 1;
        Ok(())
    }

    pub(crate) fn commit(&mut self) -> Result<(), DatabaseError> {
        match self.depth {
            0 => Err(no_transaction()),
            1 => {
                self.depth = 0;
                match self.gone.take() {
                    Some(kind) => Err(DatabaseError::new(kind)
                        .with_source("the transaction was rolled back, since an earlier statement of it had failed")),
                    None => self.settle(true),
                }
            }
            // Oracle's save points need no release.
            _ => {
                self.refuse_outside()?;
                self.depth -= 1;
                Ok(())
            }
        }
    }

    pub(crate) fn rollback(&mut self) -> Result<(), DatabaseError> {
        match self.depth {
            0 => Err(no_transaction()),
            1 => {
                self.depth = 0;
                match self.gone.take() {
                    Some(_) => Ok(()),
                    None => self.settle(false),
                }
            }
            depth => {
                if self.gone.is_none() {
                    self.native(&format!("ROLLBACK TO SAVEPOINT tenantry_{}", depth - 1), None)?;
                }
                self.depth -= 1;
                Ok(())
            }
        }
    }

    /// Ends the session. What was not committed is rolled back: Oracle would commit it when a
    /// session takes its leave.
    pub(crate) fn end(self) {
        let open = locked(&self.connection);
        let left = if self.depth > 0 && self.gone.is_none() {
            open.rollback()
        } else {
            Ok(())
        };
        if let Err(error) = left.and_then(|()| open.close()) {
            // The server finds out by itself; there is nothing else to be done.
            let code = error.oci_code().or_else(|| error.dpi_code()).unwrap_or_default();
            tracing::debug!(error = code, "a connection was closed without taking leave");
        }
    }

    /// Fails if the transaction has already been rolled back: the statement would run, and be
    /// committed, by itself.
    fn refuse_outside(&self) -> Result<(), DatabaseError> {
        match self.gone {
            Some(kind) => Err(DatabaseError::new(kind)
                .with_source("the transaction has been rolled back because of an earlier error")),
            None => Ok(()),
        }
    }

    /// The error as the caller sees it, and what it does to the transaction.
    fn failed(&mut self, failure: Failure) -> DatabaseError {
        if failure.ends_transaction && self.depth > 0 && self.gone.is_none() {
            self.gone = Some(failure.error.kind);
            // Oracle undoes only the statement of a deadlock, and the other session still waits for
            // the rest of the transaction.
            if let Err(error) = locked(&self.connection).rollback() {
                return Failure::of(error, false).error;
            }
        }
        failure.error
    }

    /// Commits or rolls back.
    fn settle(&mut self, keep: bool) -> Result<(), DatabaseError> {
        let open = locked(&self.connection);
        let settled = if keep { open.commit() } else { open.rollback() };
        let Err(error) = settled else { return Ok(()) };
        let failure = match keep {
            true => Failure::of_committing(error, false),
            false => Failure::of(error, false),
        };
        if keep && !failure.error.kind.breaks_connection() {
            // A commit that failed, as by a deferred constraint, has rolled back; if it has not,
            // this does.
            if let Err(error) = open.rollback() {
                return Err(Failure::of(error, false).error);
            }
        }
        Err(failure.error)
    }

    /// Runs several statements as one unit.
    pub(crate) fn unit<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, DatabaseError> {
        self.autocommit(false);
        let alone = self.depth == 0;
        if !alone {
            self.native(&format!("SAVEPOINT {UNIT}"), None)?;
        }
        match work(self) {
            Ok(done) if alone => self.settle(true).map(|()| done),
            Ok(done) => Ok(done),
            Err(failure) => {
                let error = self.failed(failure);
                if error.kind.breaks_connection() || self.gone.is_some() {
                    return Err(error);
                }
                if alone {
                    self.settle(false)?;
                } else {
                    self.native(&format!("ROLLBACK TO SAVEPOINT {UNIT}"), None)?;
                }
                Err(error)
            }
        }
    }

    pub(crate) fn autocommit(&self, on: bool) {
        let is_on = locked(&self.connection).autocommit();
        if is_on != on {
            let mut connection = self.connection.write().unwrap_or_else(PoisonError::into_inner);
            connection.set_autocommit(on);
        }
    }

    /// Prepares a statement, or finds it among those of this session, and does something with it.
    pub(crate) fn prepared<T>(
        &self,
        sql: &str,
        work: impl FnOnce(&Connection, &mut Statement) -> oracle::Result<T>,
    ) -> Result<T, Failure> {
        let open = locked(&self.connection);
        let alone = self.depth == 0;
        let mut statement = open.statement(sql).build().map_err(|error| Failure::of(error, alone))?;
        work(&open, &mut statement).map_err(|error| Failure::of(error, alone))
    }

    /// Tables may have changed.
    fn forget(&mut self) {
        self.described.clear();
        self.json.clear();
    }
}

/// Makes nothing of a change that found a unique value taken. Oracle has undone that statement and
/// nothing else.
fn skip_taken(skips: bool, changed: Result<Outcome, Failure>) -> Result<Outcome, Failure> {
    match changed {
        Err(failure) if skips && failure.error.kind == DatabaseErrorKind::UniqueViolation => Ok(Outcome::default()),
        changed => changed,
    }
}

pub(crate) fn locked(connection: &Shared) -> RwLockReadGuard<'_, Connection> {
    connection.read().unwrap_or_else(PoisonError::into_inner)
}

fn no_transaction() -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::Other).with_source("there is no transaction")
}

/// The statement that begins a transaction. Oracle's SERIALIZABLE reads what was there at its
/// beginning, which is what REPEATABLE READ demands, and so does READ ONLY; Oracle takes one of the
/// words only.
fn set_transaction(options: &TransactionOptions) -> &'static str {
    match (options.access_mode, options.isolation_level) {
        (Some(AccessMode::ReadOnly), _) => "SET TRANSACTION READ ONLY",
        (_, Some(IsolationLevel::RepeatableRead | IsolationLevel::Serializable)) => {
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"
        }
        _ => "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_begins_with_one_of_oracle_s_words() {
        let with = |access_mode, isolation_level| TransactionOptions {
            access_mode,
            isolation_level,
            ..Default::default()
        };
        let cases = [
            (with(None, None), "ISOLATION LEVEL READ COMMITTED"),
            (
                with(None, Some(IsolationLevel::ReadUncommitted)),
                "ISOLATION LEVEL READ COMMITTED",
            ),
            (
                with(None, Some(IsolationLevel::RepeatableRead)),
                "ISOLATION LEVEL SERIALIZABLE",
            ),
            (
                with(Some(AccessMode::ReadWrite), Some(IsolationLevel::Serializable)),
                "ISOLATION LEVEL SERIALIZABLE",
            ),
            (
                with(Some(AccessMode::ReadOnly), Some(IsolationLevel::Serializable)),
                "READ ONLY",
            ),
        ];
        for (options, words) in cases {
            assert_eq!(set_transaction(&options), format!("SET TRANSACTION {words}"));
        }
    }
}
