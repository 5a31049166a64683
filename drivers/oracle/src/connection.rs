//! One connection as the engine's pool wants it: a thread of its own makes the blocking calls, one
//! after the other.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{ExecResult, QueryResult, Statement, TransactionOptions, Value};
use tenantry_core::{
    Connection, DatabaseError, DatabaseErrorKind, DriverError, DriverErrorKind, Encryption, ServerVersion, rows,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    migration_lock,
    plans::Plans,
    session::{Outcome, Rows, Session, Shared, locked},
};

/// How much longer this driver waits for a call than the client library's own limit. If the library
/// keeps its limit, its answer comes first and the connection stays usable.
const GRACE: Duration = Duration::from_secs(1);

/// The stack of a connection's thread, in bytes: a long statement makes a deep tree when it is
/// parsed. What is not used costs nothing.
pub(crate) const STACK: usize = 16 << 20;

/// A break stops the call that runs. One that comes while the statement is still translated, or
/// between two calls, stops nothing, so it is repeated after each of these pauses, in milliseconds.
const BREAKS_AFTER: [u64; 8] = [0, 20, 50, 100, 200, 500, 1000, 2000];

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// One connection.
pub(crate) struct OracleConnection {
    /// The thread's work; it ends when this is dropped. There is one job at a time.
    jobs: Option<SyncSender<Job>>,
    /// Resolves when the thread has ended.
    ended: Option<oneshot::Receiver<()>>,
    shared: Shared,
    /// The thread has done its last job, and takes leave.
    leaves: Arc<AtomicBool>,
    plans: Arc<Plans>,
    statement_timeout: Option<Duration>,
    encryption: Encryption,
    /// A future of this connection runs, or was dropped before its end.
    busy: bool,
}

/// Opens a connection on a thread that is its own from then on. The thread holds `permit` as long
/// as it lives, even if no request waits for it any more, since a call of the client library cannot
/// be abandoned.
pub(crate) async fn open(
    connect: impl FnOnce() -> Result<oracle::Connection, DriverError> + Send + 'static,
    begin: impl FnOnce(Shared) -> Result<Session, DriverError> + Send + 'static,
    plans: Arc<Plans>,
    statement_timeout: Option<Duration>,
    permit: OwnedSemaphorePermit,
) -> Result<OracleConnection, DriverError> {
    let (jobs, work) = sync_channel::<Job>(1);
    let (opened, opening) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let leaves = Arc::<AtomicBool>::default();
    let leaving = Arc::clone(&leaves);
    let run = move || {
        let session = connect().and_then(|connection| {
            let shared = Shared::new(connection.into());
            begin(Arc::clone(&shared)).map(|session| (session, shared))
        });
        match session {
            Ok((session, shared)) => {
                if opened.send(Ok(shared)).is_ok() {
                    serve(session, &work, &leaving);
                } else {
                    session.end();
                }
            }
            Err(error) => {
                // The request may have gone away.
                drop(opened.send(Err(error)));
            }
        }
        drop(permit);
        // Dropping this end wakes the waiting side.
        drop(end);
    };
    let started = thread::Builder::new()
        .name("oracle".to_owned())
        .stack_size(STACK)
        .spawn(run);
    started.map_err(|error| DriverError::new(DriverErrorKind::Other, error))?;
    let shared = match opening.await {
        Ok(opened) => opened?,
        Err(_) => {
            return Err(DriverError::new(
                DriverErrorKind::Other,
                "the thread of a connection ended",
            ));
        }
    };
    Ok(OracleConnection {
        jobs: Some(jobs),
        ended: Some(ended),
        shared,
        leaves,
        plans,
        statement_timeout,
        encryption: Encryption::None,
        busy: false,
    })
}

impl OracleConnection {
    /// Says how it is protected.
    pub(crate) fn protected(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }
}

fn serve(mut session: Session, work: &Receiver<Job>, leaving: &AtomicBool) {
    while let Ok(job) = work.recv() {
        job(&mut session);
    }
    leaving.store(true, Ordering::Release);
    session.end();
}

/// Breaks off what runs until the thread has nothing more to do.
async fn break_until_it_leaves(shared: Shared, leaves: Arc<AtomicBool>) {
    for pause in BREAKS_AFTER {
        sleep(Duration::from_millis(pause)).await;
        if leaves.load(Ordering::Acquire) {
            return;
        }
        let shared = Arc::clone(&shared);
        if spawn_blocking(move || break_once(&shared)).await.is_err() {
            return;
        }
    }
}

fn break_once(shared: &Shared) {
    if let Err(error) = locked(shared).break_execution() {
        let code = error.oci_code().or_else(|| error.dpi_code()).unwrap_or_default();
        tracing::debug!(error = code, "a statement could not be stopped");
    }
}

impl OracleConnection {
    /// Does something on the connection's thread.
    async fn run<T: Send + 'static>(
        &mut self,
        limit: Option<Duration>,
        work: impl FnOnce(&mut Session) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        if self.busy {
            return Err(lost("an earlier statement was left before its end"));
        }
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |session| {
            // The request may have gone away; then the connection is not used again.
            drop(answer.send(work(session)));
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
        if !sent {
            return Err(lost("the thread of the connection has ended"));
        }
        self.busy = true;
        let answered = match limit {
            Some(limit) => timeout(limit + GRACE, answered).await,
            None => Ok(answered.await),
        };
        match answered {
            Ok(Ok(outcome)) => {
                self.busy = false;
                outcome
            }
            Ok(Err(_)) => Err(lost("the thread of the connection ended in the middle of a statement")),
            // It stays busy: its answer is still to come.
            Err(_) => {
                let source = "the server did not answer within the statement time-out";
                Err(DatabaseError::new(DatabaseErrorKind::NoAnswer).with_source(source))
            }
        }
    }

    async fn statement(&mut self, statement: &Statement, one: bool) -> Result<Outcome, DatabaseError> {
        if migration_lock::is_try_lock(&statement.sql) {
            let taken = self.run(self.statement_timeout, migration_lock::try_lock).await?;
            return Ok(Outcome {
                touched: 1,
                rows: Rows {
                    columns: vec!["taken".to_owned()],
                    rows: vec![vec![Value::BigInt(Some(i64::from(taken)))]],
                },
            });
        }
        let (plans, sql) = (Arc::clone(&self.plans), statement.sql.clone());
        let values = statement.values.clone().map(|values| values.0).unwrap_or_default();
        // Here, not before: a statement that is new is translated, which takes its time and its
        // stack.
        self.run(self.statement_timeout, move |session| {
            session.run(&*plans.of(&sql)?, &values, one)
        })
        .await
    }
}

fn lost(reason: &'static str) -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::ConnectionLost).with_source(reason)
}

fn unmade(error: sea_orm::DbErr) -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::Other).with_source(error)
}

fn counted(touched: u64) -> Result<ExecResult, DatabaseError> {
    rows::exec_result(touched).map_err(unmade)
}

fn rows_of(outcome: Outcome) -> Result<Vec<QueryResult>, DatabaseError> {
    rows::query_results(&outcome.rows.columns, outcome.rows.rows).map_err(unmade)
}

#[async_trait]
impl Connection for OracleConnection {
    async fn execute(&mut self, statement: &Statement) -> Result<ExecResult, DatabaseError> {
        counted(self.statement(statement, false).await?.touched)
    }

    /// A script is Oracle's own SQL, as in a migration. It has no time-out here; its caller has
    /// one.
    async fn execute_script(&mut self, sql: &str) -> Result<ExecResult, DatabaseError> {
        let sql = sql.to_owned();
        counted(self.run(None, move |session| session.script(&sql)).await?)
    }

    async fn query(&mut self, statement: &Statement) -> Result<Vec<QueryResult>, DatabaseError> {
        rows_of(self.statement(statement, false).await?)
    }

    async fn query_one(&mut self, statement: &Statement) -> Result<Option<QueryResult>, DatabaseError> {
        Ok(rows_of(self.statement(statement, true).await?)?.into_iter().next())
    }

    async fn begin(&mut self, options: &TransactionOptions) -> Result<(), DatabaseError> {
        let options = *options;
        self.run(self.statement_timeout, move |session| session.begin(&options))
            .await
    }

    async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.run(self.statement_timeout, Session::commit).await
    }

    async fn rollback(&mut self) -> Result<(), DatabaseError> {
        self.run(self.statement_timeout, Session::rollback).await
    }

    fn encryption(&self) -> Encryption {
        self.encryption
    }

    async fn ping(&mut self) -> Result<ServerVersion, DatabaseError> {
        self.run(self.statement_timeout, Session::ping).await
    }

    async fn close(mut self: Box<Self>) {
        self.end().await;
    }

    fn as_any(&mut self) -> Option<&mut dyn Any> {
        Some(self)
    }
}

impl OracleConnection {
    /// Ends the session, and the thread with it.
    pub(crate) async fn end(&mut self) {
        self.jobs = None;
        if let Some(ended) = self.ended.take() {
            self.break_off();
            // An error says that the thread has ended too.
            drop(ended.await);
        }
    }

    /// Stops the statement that still runs, if one does: its thread can then end.
    fn break_off(&mut self) {
        if !self.busy {
            return;
        }
        self.busy = false;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let breaking = break_until_it_leaves(Arc::clone(&self.shared), Arc::clone(&self.leaves));
                drop(runtime.spawn(breaking));
            }
            Err(_) => break_once(&self.shared),
        }
    }
}

impl Drop for OracleConnection {
    fn drop(&mut self) {
        self.jobs = None;
        self.break_off();
    }
}
