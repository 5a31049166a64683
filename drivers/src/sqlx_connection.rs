//! The common part of the drivers on sqlx: one connection that runs SeaORM's statements, tracks its
//! transaction, and classifies errors.

mod answer;
mod dialect;
mod errors;
mod pooler;
mod renew;
mod transaction;
mod values;

use std::{
    any::Any,
    pin::{Pin, pin},
    time::Duration,
};

use async_stream::try_stream;
use async_trait::async_trait;
use futures_util::StreamExt as _;
use sea_orm::{ExecResult, QueryResult, Statement, TransactionOptions};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, ColumnIndex, Connection as _, Database, Executor, IntoArguments};
use tenantry_core::{
    Connection, DatabaseError, DatabaseErrorKind, Encryption, RowStream, ServerVersion, Timer,
    driver_settings::MaxAnswer,
};

use answer::{All, Execute, First, Interrupted, Mode, is_read_whole, prepared};
use errors::{ended, is_atomic, without_effect};
use transaction::Level;

pub(crate) use dialect::{Aftermath, Dialect, ErrorMeaning, Watch};
#[cfg(any(feature = "mysql", feature = "postgresql"))]
pub(crate) use errors::begin_error;
pub(crate) use errors::{connect_error, io_kind};
#[cfg(feature = "postgresql")]
pub(crate) use pooler::ELSEWHERE;
pub(crate) use pooler::PerTransaction;
pub(crate) use renew::renew;

/// How many prepared statements one connection keeps.
pub(crate) const STATEMENT_CACHE_CAPACITY: usize = 100;

/// How many more one transaction may prepare, if the server does not answer when it is to close
/// one.
#[cfg(feature = "mysql")]
pub(crate) const MORE_IN_A_TRANSACTION: usize = 50;

/// How much longer this driver waits for a statement than the server's own limit. If the server
/// keeps its limit, its answer comes first and the connection stays usable.
const GRACE: Duration = Duration::from_secs(1);

/// One connection of sqlx.
pub(crate) struct SqlxConnection<D: Dialect> {
    watch: D::Watch,
    /// `None` once the session has ended.
    connection: Option<<D::Database as Database>::Connection>,
    version: ServerVersion,
    statement_timeout: Option<Duration>,
    max_answer: MaxAnswer,
    timer: Timer,
    /// Save points count from 2; 0 is no transaction.
    depth: usize,
    /// What ended the transaction before its time: the first error of those that may have followed.
    broken: Option<(Aftermath, DatabaseError)>,
    /// Whether the outermost transaction is being committed.
    commits: bool,
    /// The transaction and the save points within it, from the outermost on.
    levels: Vec<Level>,
    /// A future of this connection runs, or was dropped before its end.
    busy: bool,
    /// There if each transaction may run in another session of the server.
    per_transaction: Option<PerTransaction>,
    encryption: Encryption,
}

impl<D: Dialect> SqlxConnection<D> {
    /// Takes charge of an open connection.
    pub(crate) fn new(
        connection: <D::Database as Database>::Connection,
        watch: D::Watch,
        version: ServerVersion,
        statement_timeout: Option<Duration>,
        max_answer: MaxAnswer,
    ) -> Self {
        Self {
            watch,
            connection: Some(connection),
            version,
            statement_timeout,
            max_answer,
            timer: Timer::here(),
            depth: 0,
            broken: None,
            commits: false,
            levels: Vec::new(),
            busy: false,
            per_transaction: None,
            encryption: Encryption::None,
        }
    }

    /// Says how it is protected.
    #[cfg(any(feature = "mysql", feature = "postgresql"))]
    pub(crate) fn protected(self, encryption: Encryption) -> Self {
        Self { encryption, ..self }
    }

    /// Leads to a pooler that may run each transaction in another session, if there are settings.
    #[cfg_attr(
        not(feature = "postgresql"),
        allow(dead_code, reason = "no other driver speaks to a pooler")
    )]
    pub(crate) fn setting(self, per_transaction: Option<PerTransaction>) -> Self {
        Self {
            per_transaction,
            ..self
        }
    }

    /// Fails if an earlier future was dropped before its end: the server's next answer belongs to
    /// that one.
    fn enter(&mut self, limit: Option<Duration>) -> Result<(), DatabaseError> {
        if self.busy {
            let source = "an earlier statement was left before its end";
            return Err(DatabaseError::new(DatabaseErrorKind::ConnectionLost).with_source(source));
        }
        if self.connection.is_none() {
            return Err(ended());
        }
        if self.watch.is_gone() {
            let kind = match self.depth {
                0 => DatabaseErrorKind::ConnectionLostWithoutEffect,
                _ => DatabaseErrorKind::ConnectionLost,
            };
            return Err(DatabaseError::new(kind).with_source("the database's file was replaced or removed"));
        }
        self.busy = true;
        self.watch.begins(limit);
        Ok(())
    }

    fn leave(&mut self) {
        self.busy = false;
        self.watch.ends();
    }

    /// Fails if the server has rolled the transaction back by itself: the statement would run, and
    /// be committed, by itself.
    fn refuse_outside(&self) -> Result<(), DatabaseError> {
        match &self.broken {
            Some((Aftermath::Gone, first)) => Err(DatabaseError::new(first.kind)
                .with_source("the database has rolled the transaction back because of an earlier error")),
            _ => Ok(()),
        }
    }
}

impl<D: Dialect> SqlxConnection<D>
where
    for<'c> &'c mut <D::Database as Database>::Connection: Executor<'c, Database = D::Database>,
    SqlxValues: IntoArguments<D::Database>,
    usize: ColumnIndex<<D::Database as Database>::Row>,
{
    /// Runs one prepared statement in the way that `mode` says.
    async fn run<M: Mode<D>>(&mut self, statement: &Statement) -> Result<M::Output, DatabaseError> {
        self.refuse_outside()?;
        if self.is_alone() {
            self.run_alone::<M>(statement).await
        } else {
            self.run_here::<M>(statement).await
        }
    }

    /// Runs it in the transaction that is open, if one is; once more if its plan was stale.
    async fn run_here<M: Mode<D>>(&mut self, statement: &Statement) -> Result<M::Output, DatabaseError> {
        self.refuse_values(statement).await?;
        self.enter(self.statement_timeout)?;
        let limit = self.statement_timeout.map(|limit| limit + GRACE);
        let mut outcome = self.once::<M>(statement, limit).await;
        if let Some(Err(Interrupted::Failed(sqlx::Error::Database(error), 0))) = &outcome
            && !self.is_alone()
            && D::is_stale_plan(&**error)
        {
            let connection = self.connection.as_mut().ok_or_else(ended)?;
            let cleared = within(&mut self.timer, limit, pin!(connection.clear_cached_statements())).await;
            outcome = match cleared {
                None => None,
                Some(Err(error)) => Some(Err(Interrupted::Failed(error, 0))),
                Some(Ok(())) if self.depth > 0 || !is_atomic(&statement.sql) => outcome,
                Some(Ok(())) => self.once::<M>(statement, limit).await,
            };
        }
        let Some(outcome) = outcome else {
            return Err(Self::timed_out());
        };
        match outcome {
            // The connection stays busy: the rest is still to come.
            Err(Interrupted::TooLarge(error)) => Err(error),
            Err(Interrupted::Failed(error, rows)) => {
                self.leave();
                Err(self.fail_statement(error, statement, rows))
            }
            Ok(output) => {
                self.make_room().await;
                self.leave();
                Ok(output)
            }
        }
    }

    /// Closes all prepared statements, outside a transaction, once there are more than the
    /// connection keeps.
    ///
    /// For one more, sqlx would close one of them within the next call. A server that does not
    /// answer to that acknowledges it late, after 40 ms on Linux, and only then sqlx's socket sends
    /// what follows, since it lacks `TCP_NODELAY`
    /// (<https://github.com/transact-rs/sqlx/issues/4335>).
    async fn make_room(&mut self) {
        let limit = self.statement_timeout.map(|limit| limit + GRACE);
        if let Some(connection) = self.connection.as_mut()
            && D::CLOSES_SILENTLY
            && self.depth == 0
            && connection.cached_statements_size() > STATEMENT_CACHE_CAPACITY
        {
            let was_busy = std::mem::replace(&mut self.busy, true);
            // If it fails, so does the next statement, and says why.
            within(&mut self.timer, limit, pin!(connection.clear_cached_statements())).await;
            self.busy = was_busy;
        }
    }

    async fn once<M: Mode<D>>(
        &mut self,
        statement: &Statement,
        limit: Option<Duration>,
    ) -> Option<Result<M::Output, Interrupted>> {
        let connection = match self.connection.as_mut() {
            Some(connection) => connection,
            None => return Some(Err(Interrupted::Failed(sqlx::Error::WorkerCrashed, 0))),
        };
        let run = pin!(M::run(
            connection,
            prepared::<D>(statement, self.per_transaction.is_none()),
            self.max_answer.room(),
            is_read_whole::<D>(statement)
        ));
        within(&mut self.timer, limit, run).await
    }

    async fn script(&mut self, sql: &str, limit: Option<Duration>) -> Result<ExecResult, DatabaseError> {
        self.enter(limit)?;
        let script = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let limit = limit.map(|limit| limit + GRACE);
        let connection = self.connection.as_mut().ok_or_else(ended)?;
        let outcome = within(&mut self.timer, limit, pin!(script.execute(connection))).await;
        let Some(outcome) = outcome else {
            return Err(Self::timed_out());
        };
        self.leave();
        match outcome {
            Ok(result) => Ok(result.into()),
            Err(error) => Err(self.fail(error, None)),
        }
    }

    /// What one of the transaction's own statements needs: `BEGIN`, `COMMIT` and their kin.
    async fn control(&mut self, sql: &str) -> Result<(), DatabaseError> {
        self.script(sql, self.statement_timeout).await.map(drop)
    }
}

#[async_trait]
impl<D: Dialect> Connection for SqlxConnection<D>
where
    for<'c> &'c mut <D::Database as Database>::Connection: Executor<'c, Database = D::Database>,
    SqlxValues: IntoArguments<D::Database>,
    usize: ColumnIndex<<D::Database as Database>::Row>,
{
    async fn execute(&mut self, statement: &Statement) -> Result<ExecResult, DatabaseError> {
        self.run::<Execute>(statement).await
    }

    /// A script knows no time-out of its own: its caller has one.
    async fn execute_script(&mut self, sql: &str) -> Result<ExecResult, DatabaseError> {
        self.refuse_outside()?;
        if self.is_alone() {
            self.script_alone(sql).await
        } else {
            self.script(sql, None).await
        }
    }

    async fn query(&mut self, statement: &Statement) -> Result<Vec<QueryResult>, DatabaseError> {
        self.run::<All>(statement).await
    }

    async fn query_one(&mut self, statement: &Statement) -> Result<Option<QueryResult>, DatabaseError> {
        self.run::<First>(statement).await
    }

    /// The statement time-out counts until the last row, also while the caller works on an earlier
    /// one.
    fn stream<'a>(&'a mut self, statement: &'a Statement) -> RowStream<'a> {
        Box::pin(try_stream! {
            self.refuse_outside()?;
            let alone = self.is_alone();
            self.refuse_values(statement).await?;
            if alone {
                self.open("BEGIN").await?;
            }
            let named = self.per_transaction.is_none();
            self.enter(self.statement_timeout)?;
            let limit = self.statement_timeout.map(|limit| limit + GRACE);
            let may_replan = self.depth == 0 && !alone && is_atomic(&statement.sql);
            let (mut count, mut replanned) = (0, false);
            let connection = self.connection.as_mut().ok_or_else(ended)?;
            let failed = loop {
                let failed = {
                    let mut rows = connection.fetch(prepared::<D>(statement, named));
                    loop {
                        let next = within(&mut self.timer, limit, pin!(rows.next())).await;
                        match next.ok_or_else(Self::timed_out)? {
                            Some(Ok(row)) => {
                                count += 1;
                                yield row.into();
                            }
                            Some(Err(error)) => break Some(error),
                            None => break None,
                        }
                    }
                };
                match &failed {
                    Some(sqlx::Error::Database(error))
                        if may_replan && count == 0 && !replanned && D::is_stale_plan(&**error) =>
                    {
                        replanned = true;
                        let cleared = within(&mut self.timer, limit, pin!(connection.clear_cached_statements())).await;
                        if let Err(error) = cleared.ok_or_else(Self::timed_out)? {
                            break Some(error);
                        }
                    }
                    _ => break failed,
                }
            };
            self.make_room().await;
            self.leave();
            let failed = failed.map(|error| self.fail_statement(error, statement, count));
            if alone {
                self.end_alone(failed.as_ref()).await?;
            }
            if let Some(error) = failed {
                Err(error)?;
            }
        })
    }

    async fn begin(&mut self, options: &TransactionOptions) -> Result<(), DatabaseError> {
        self.begin_level(options).await
    }

    async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.commit_level().await
    }

    async fn rollback(&mut self) -> Result<(), DatabaseError> {
        self.rollback_level().await
    }

    fn encryption(&self) -> Encryption {
        self.encryption
    }

    async fn ping(&mut self) -> Result<ServerVersion, DatabaseError> {
        self.enter(self.statement_timeout)?;
        let limit = self.statement_timeout.map(|limit| limit + GRACE);
        let connection = self.connection.as_mut().ok_or_else(ended)?;
        let outcome = within(&mut self.timer, limit, pin!(connection.ping())).await;
        let Some(outcome) = outcome else {
            return Err(Self::timed_out());
        };
        self.leave();
        match outcome {
            Ok(()) => Ok(self.version.clone()),
            Err(error) => Err(self.fail(error, None)),
        }
    }

    async fn close(self: Box<Self>) {
        let Self {
            watch,
            mut connection,
            busy,
            ..
        } = *self;
        let (noticed_within, outlives_clients) = (watch.noticed_within(), watch.outlives_clients());
        // Letting go of the watch stops a statement that was left; a connection at rest keeps it to
        // the end.
        let mut watch = Some(watch);
        if busy && let Some(watch) = watch.take() {
            watch.end_session().await;
        }
        let mut runs_on = busy.then_some(noticed_within);
        if busy
            && outlives_clients
            && let Some(connection) = connection.as_mut()
        {
            let started = tokio::time::Instant::now();
            // The statement goes on to its end, which is waited for.
            let answered = tokio::time::timeout(noticed_within, connection.ping()).await;
            let has_ended = matches!(answered, Ok(Ok(()) | Err(sqlx::Error::Database(_))));
            runs_on = (!has_ended).then(|| noticed_within.saturating_sub(started.elapsed()));
        }
        if let Some(connection) = connection
            && let Err(error) = connection.close().await
        {
            // The server gets no message then, and notices the closed connection by itself.
            tracing::debug!(error = io_kind(&error), "a connection was closed without taking leave");
        }
        drop(watch);
        if let Some(time) = runs_on {
            // The server still runs the statement, so the session is not yet reported as ended.
            tokio::time::sleep(time).await;
        }
    }

    fn as_any(&mut self) -> Option<&mut dyn Any> {
        Some(self)
    }
}

/// `None` when the limit passed first.
async fn within<F: Future>(timer: &mut Timer, limit: Option<Duration>, future: Pin<&mut F>) -> Option<F::Output> {
    match limit {
        Some(limit) => timer.within(limit, future).await,
        None => Some(future.await),
    }
}
