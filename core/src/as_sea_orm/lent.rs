//! A connection of SeaORM's own type that runs on a tenant's database.
//!
//! Some of SeaORM's functions take its `DatabaseConnection` and nothing else, which only SeaORM can
//! implement. Of its kinds of connections one asks code of ours for each answer: that of
//! `MockDatabase`. It asks without awaiting, so it runs on a thread of its own, and what it asks is
//! done here.

use std::{
    fmt,
    sync::{Arc, mpsc as blocking},
    thread::{self, ThreadId},
};

use parking_lot::Mutex;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseConnectionType, DbBackend, DbErr, ExecResult, MockDatabaseConnection,
    MockDatabaseTrait, QueryResult, RuntimeErr, Statement, Transaction, TransactionTrait,
};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

use crate::engine::{TenantConnection, TenantDatabase, TenantTransaction};

/// What is asked of the tenant's database.
#[derive(Debug)]
enum Ask {
    Execute(Statement),
    Query(Statement),
    Begin,
    Commit,
    Rollback,
}

/// What it answered.
enum Answer {
    Executed(ExecResult),
    Rows(Vec<QueryResult>),
    Done,
}

type Reply = blocking::SyncSender<Result<Answer, DbErr>>;

impl TenantDatabase {
    /// Lends `work` a connection of SeaORM's own type, for what takes no other: the migrators of
    /// `sea-orm-migration`, `SchemaBuilder::sync`, SeaORM's access control.
    ///
    /// ```ignore
    /// database.with_sea_orm(async |connection| Migrator::up(&connection, None).await).await?;
    /// ```
    ///
    /// It is one connection of the tenant's pool, kept until `work` has ended and closed then.
    /// `work` runs on a thread for blocking calls, and the connection works on that thread only:
    /// not in a task that `work` spawns. A transaction has no isolation level, and rows are not
    /// streamed but read first. Each statement has the driver's statement time-out.
    ///
    /// # Errors
    /// The error of `work`; or that a transaction did not begin or end, which SeaORM has no answer
    /// for here: `work` then fails whatever it returns, and so does every later statement of it.
    pub async fn with_sea_orm<F, T>(&self, work: F) -> Result<T, DbErr>
    where
        F: AsyncFnOnce(DatabaseConnection) -> Result<T, DbErr> + Send + 'static,
        T: Send + 'static,
    {
        let mut lender = Lender {
            connection: self.connection().await?,
            transactions: Vec::new(),
        };
        let (asks, mut asked) = mpsc::channel(1);
        let mut worker = worker(work, asks, self.get_database_backend());
        loop {
            tokio::select! {
                Some((ask, reply)) = asked.recv() => {
                    let answer = lender.answer(ask).await;
                    // The worker waits for it, unless it panicked.
                    drop(Reply::send(&reply, answer));
                }
                done = &mut worker => return match done {
                    Ok(done) => done,
                    Err(failed) => match failed.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => Err(failure("the work was cancelled")),
                    },
                },
            }
        }
    }
}

/// Runs `work` on a thread of its own.
fn worker<F, T>(work: F, asks: mpsc::Sender<(Ask, Reply)>, backend: DbBackend) -> JoinHandle<Result<T, DbErr>>
where
    F: AsyncFnOnce(DatabaseConnection) -> Result<T, DbErr> + Send + 'static,
    T: Send + 'static,
{
    let runtime = Handle::current();
    spawn_blocking(move || {
        let failed = Arc::default();
        let lent = Lent {
            asks,
            thread: thread::current().id(),
            backend,
            failed: Arc::clone(&failed),
        };
        let connection = Arc::new(MockDatabaseConnection::new(lent));
        let connection = DatabaseConnectionType::MockDatabaseConnection(connection).into();
        let done = runtime.block_on(work(connection));
        let failed = failed.lock().take();
        match failed {
            Some(error) => Err(error),
            None => done,
        }
    })
}

/// Does what is asked.
struct Lender {
    connection: TenantConnection,
    /// From the outermost on.
    transactions: Vec<TenantTransaction>,
}

impl Lender {
    async fn answer(&mut self, ask: Ask) -> Result<Answer, DbErr> {
        match (ask, self.transactions.last()) {
            (Ask::Execute(statement), None) => execute(&self.connection, statement).await,
            (Ask::Execute(statement), Some(transaction)) => execute(transaction, statement).await,
            (Ask::Query(statement), None) => self.connection.query_all_raw(statement).await.map(Answer::Rows),
            (Ask::Query(statement), Some(transaction)) => transaction.query_all_raw(statement).await.map(Answer::Rows),
            (Ask::Begin, outer) => {
                let begun = match outer {
                    Some(outer) => outer.begin().await?,
                    None => self.connection.begin().await?,
                };
                self.transactions.push(begun);
                Ok(Answer::Done)
            }
            (end, _) => {
                let Some(transaction) = self.transactions.pop() else {
                    return Err(failure("there is no transaction"));
                };
                match end {
                    Ask::Commit => transaction.commit().await?,
                    _ => transaction.rollback().await?,
                }
                Ok(Answer::Done)
            }
        }
    }
}

/// A statement without values may be several, as `execute_unprepared` takes them.
async fn execute(connection: &impl ConnectionTrait, statement: Statement) -> Result<Answer, DbErr> {
    let executed = match &statement.values {
        None => connection.execute_unprepared(&statement.sql).await,
        Some(_) => connection.execute_raw(statement).await,
    };
    executed.map(Answer::Executed)
}

fn failure(reason: &str) -> DbErr {
    DbErr::Conn(RuntimeErr::Internal(reason.to_owned()))
}

/// What SeaORM's connection asks.
struct Lent {
    asks: mpsc::Sender<(Ask, Reply)>,
    /// On another one of the runtime's threads, waiting for an answer could stop what makes it.
    thread: ThreadId,
    backend: DbBackend,
    /// Why a transaction did not begin or end: SeaORM has no way to return that.
    failed: Arc<Mutex<Option<DbErr>>>,
}

impl Lent {
    fn ask(&self, ask: Ask) -> Result<Answer, DbErr> {
        if let Some(error) = &*self.failed.lock() {
            return Err(error.clone());
        }
        if thread::current().id() != self.thread {
            return Err(failure("a connection of `with_sea_orm` was used in another task"));
        }
        let (reply, answer) = blocking::sync_channel(1);
        let gone = || failure("the request that lent the connection has ended");
        self.asks.try_send((ask, reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    fn ask_or_fail(&self, ask: Ask) {
        if let Err(error) = self.ask(ask) {
            self.failed.lock().get_or_insert(error);
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

impl MockDatabaseTrait for Lent {
    fn execute(&mut self, _counter: usize, statement: Statement) -> Result<ExecResult, DbErr> {
        match self.ask(Ask::Execute(statement))? {
            Answer::Executed(result) => Ok(result),
            _ => Err(failure("an answer of another kind")),
        }
    }

    fn query(&mut self, _counter: usize, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self.ask(Ask::Query(statement))? {
            Answer::Rows(rows) => Ok(rows),
            _ => Err(failure("an answer of another kind")),
        }
    }

    fn begin(&mut self) {
        self.ask_or_fail(Ask::Begin);
    }

    fn commit(&mut self) {
        self.ask_or_fail(Ask::Commit);
    }

    fn rollback(&mut self) {
        self.ask_or_fail(Ask::Rollback);
    }

    fn drain_transaction_log(&mut self) -> Vec<Transaction> {
        Vec::new()
    }

    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    fn ping(&self) -> Result<(), DbErr> {
        Ok(())
    }
}
