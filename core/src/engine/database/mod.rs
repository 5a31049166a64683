//! A tenant's database as handlers hold it.

pub(super) mod sql;
mod transaction;

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
};

use async_trait::async_trait;
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult, Statement,
    TransactionError, TransactionOptions, TransactionSession, TransactionTrait,
};
use tokio::time::Instant;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    pool::{Answer, Call, Lease, PoolStatus},
    sql,
    stopwatch::{Stopwatch, note_answer, note_error, statement_span},
    tally::RequestTally,
    tenant::OpenTenant,
    transaction::TenantTransaction,
    usage::TenantUsage,
};
pub use transaction::TenantTransaction;

use crate::{DatabaseError, DatabaseErrorKind, ServerVersion, TenantId, trace::TRACE_TARGET};

/// How often a read is sent whose connection broke while it may have been running: it may be what breaks it.
const ATTEMPTS: u32 = 3;

/// One tenant's database, for one request. Whatever runs on SeaORM's [`ConnectionTrait`] runs on it, whatever the driver; a connection is
/// taken for each statement and for each transaction, and given back after.
///
/// It can only be had from [`Tenants::acquire`](super::Tenants::acquire), so there is none without a tenant.
pub struct TenantDatabase {
    open: OpenTenant,
    tally: Option<Arc<RequestTally>>,
    /// Whether it was had within a trace: elsewhere its statements need not ask.
    traced: bool,
}

impl TenantDatabase {
    /// For a request that is counted in; it is counted out when this is dropped.
    pub(crate) fn new(open: OpenTenant, tally: Option<Arc<RequestTally>>, traced: bool) -> Self {
        Self { open, tally, traced }
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.open.tenant.id
    }

    /// The driver's type, such as `postgresql`.
    pub fn driver(&self) -> &str {
        &self.open.secret.driver_type
    }

    /// The database's name; the path, for a database that is a file.
    pub fn database(&self) -> &str {
        let config = &self.open.secret.config;
        config
            .database
            .as_deref()
            .or(config.path.as_deref())
            .unwrap_or_default()
    }

    /// The connections of the tenant's pool.
    pub fn pool_status(&self) -> PoolStatus {
        self.open.pool.status()
    }

    /// What the tenant used since the server began to know it.
    pub fn usage(&self) -> TenantUsage {
        self.open.tenant.usage.usage()
    }

    /// The server's version; asked once and remembered.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn server_version(&self) -> Result<ServerVersion, DatabaseError> {
        self.open.pool.server_version().await
    }

    /// A round trip to the server.
    ///
    /// # Errors
    /// As a statement's.
    pub async fn ping(&self) -> Result<ServerVersion, DatabaseError> {
        self.open.pool.ping().await
    }

    /// Takes a connection and asks it. What failed because the connection was dead is asked again of another, where it certainly had no
    /// effect.
    async fn lease_and_call(&self, call: Call<'_>) -> Result<(Lease, Answer), DatabaseError> {
        let mut watch = Stopwatch::new(&self.open.tenant, &self.open.secret, self.tally.as_deref());
        // What certainly had no effect is repeated for as long as a request waits for a connection, on as many as the pool may have: when
        // all sessions of a pool are ended one after the other, it may meet every one of them.
        let give_up = watch.started + self.open.pool.acquire_timeout();
        let (mut attempt, mut without_effect) = (1, 0);
        let answered = loop {
            let leased = self.lease().await;
            watch.waited(leased.as_ref().err());
            let mut lease = match leased {
                Ok(lease) => lease,
                Err(error) => break Err(error),
            };
            let span = match self.traced {
                true => statement_span(&self.open.tenant, &self.open.secret, call),
                false => Span::none(),
            };
            // The span is held and not entered: a connection makes none within, and each time a span is entered every layer looks it up.
            let answer = lease.call(call).await;
            watch.ran();
            note_answer(&span, &answer);
            drop(span);
            match answer {
                Ok(answer) => break Ok((lease, answer)),
                Err(error)
                    if error.kind == DatabaseErrorKind::ConnectionLostWithoutEffect
                        && without_effect <= self.open.pool.status().max
                        && Instant::now() < give_up =>
                {
                    without_effect += 1;
                }
                Err(error) if attempt < ATTEMPTS && may_repeat(&error, call) => attempt += 1,
                Err(error) => break Err(error),
            }
        };
        let answered = answered.map_err(|error| unknown_outcome(error, call));
        watch.stop(call, answered.as_ref().err());
        answered
    }

    async fn lease(&self) -> Result<Lease, DatabaseError> {
        match self.traced {
            false => self.open.pool.lease(self.open.pool.acquire_timeout()).await,
            true => Box::pin(self.lease_in_span()).await,
        }
    }

    async fn lease_in_span(&self) -> Result<Lease, DatabaseError> {
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "acquire connection",
            otel.status_code = Empty,
            tenant.id = self.open.tenant.id.as_str(),
            error.type = Empty,
        );
        let mut leasing = pin!(self.open.pool.lease(self.open.pool.acquire_timeout()).instrument(span));
        let leased = leasing.as_mut().await;
        if let Err(error) = &leased {
            note_error(leasing.span(), error.kind.as_str());
        }
        leased
    }

    async fn call(&self, call: Call<'_>) -> Result<Answer, DbErr> {
        match self.lease_and_call(call).await {
            Ok((_, answer)) => Ok(answer),
            Err(error) => Err(error.into_db_err()),
        }
    }

    async fn begin_transaction(&self, options: TransactionOptions) -> Result<TenantTransaction, DbErr> {
        match self.lease_and_call(Call::Begin(&options)).await {
            Ok((lease, _)) => Ok(TenantTransaction::new(
                lease,
                self.open.tenant.clone(),
                self.open.secret.clone(),
                self.tally.clone(),
            )),
            Err(error) => Err(error.into_db_err()),
        }
    }

    fn backend(&self) -> DbBackend {
        self.open.secret.driver.backend()
    }
}

impl fmt::Debug for TenantDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantDatabase")
            .field("tenant", self.tenant())
            .field("driver", &self.driver())
            .finish_non_exhaustive()
    }
}

/// Whether the call certainly changes nothing, outside of a transaction.
fn changes_nothing(call: Call<'_>) -> bool {
    match call {
        Call::One(statement) | Call::All(statement) => sql::is_read(&statement.sql),
        Call::Begin(_) | Call::Ping => true,
        Call::Execute(_) | Call::Script(_) | Call::Commit | Call::Rollback => false,
    }
}

/// A time-out is never repeated: the database may be busy with the first one still.
fn may_repeat(error: &DatabaseError, call: Call<'_>) -> bool {
    error.kind == DatabaseErrorKind::ConnectionLost && changes_nothing(call)
}

/// What was lost in the middle of a call that may change something may have happened: that is an answer of its own, since a client
/// that repeats the request could do it twice.
pub(super) fn unknown_outcome(mut error: DatabaseError, call: Call<'_>) -> DatabaseError {
    let lost = matches!(
        error.kind,
        DatabaseErrorKind::ConnectionLost | DatabaseErrorKind::NoAnswer
    );
    if lost && !changes_nothing(call) {
        error.kind = DatabaseErrorKind::OutcomeUnknown;
    }
    error
}

/// SeaORM's traits, for what has a `call`, a `begin_transaction` and a `backend`: a database and a transaction differ in no more.
macro_rules! sea_orm_traits {
    ($type:ty) => {
        #[async_trait]
        impl ConnectionTrait for $type {
            fn get_database_backend(&self) -> DbBackend {
                self.backend()
            }

            async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                executed(self.call(Call::Execute(&statement)).await?)
            }

            async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
                executed(self.call(Call::Script(sql)).await?)
            }

            async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
                match self.call(Call::One(&statement)).await? {
                    Answer::One(row) => Ok(row),
                    _ => Err(unexpected()),
                }
            }

            async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                match self.call(Call::All(&statement)).await? {
                    Answer::All(rows) => Ok(rows),
                    _ => Err(unexpected()),
                }
            }
        }

        #[async_trait]
        impl TransactionTrait for $type {
            type Transaction = TenantTransaction;

            async fn begin(&self) -> Result<TenantTransaction, DbErr> {
                self.begin_transaction(TransactionOptions::default()).await
            }

            async fn begin_with_config(
                &self,
                isolation_level: Option<IsolationLevel>,
                access_mode: Option<AccessMode>,
            ) -> Result<TenantTransaction, DbErr> {
                let options = TransactionOptions {
                    isolation_level,
                    access_mode,
                    ..TransactionOptions::default()
                };
                self.begin_transaction(options).await
            }

            async fn begin_with_options(&self, options: TransactionOptions) -> Result<TenantTransaction, DbErr> {
                self.begin_transaction(options).await
            }

            async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
            where
                F: for<'c> FnOnce(&'c TenantTransaction) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
                    + Send,
                T: Send,
                E: fmt::Display + fmt::Debug + Send,
            {
                let transaction = self.begin().await.map_err(TransactionError::Connection)?;
                run_transaction(transaction, callback).await
            }

            async fn transaction_with_config<F, T, E>(
                &self,
                callback: F,
                isolation_level: Option<IsolationLevel>,
                access_mode: Option<AccessMode>,
            ) -> Result<T, TransactionError<E>>
            where
                F: for<'c> FnOnce(&'c TenantTransaction) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
                    + Send,
                T: Send,
                E: fmt::Display + fmt::Debug + Send,
            {
                let begun = self.begin_with_config(isolation_level, access_mode).await;
                run_transaction(begun.map_err(TransactionError::Connection)?, callback).await
            }
        }
    };
}

sea_orm_traits!(TenantDatabase);
sea_orm_traits!(TenantTransaction);

async fn run_transaction<F, T, E>(transaction: TenantTransaction, callback: F) -> Result<T, TransactionError<E>>
where
    F: for<'c> FnOnce(&'c TenantTransaction) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>> + Send,
    T: Send,
    E: fmt::Display + fmt::Debug + Send,
{
    match callback(&transaction).await {
        Ok(value) => {
            transaction.commit().await.map_err(TransactionError::Connection)?;
            Ok(value)
        }
        Err(error) => {
            transaction.rollback().await.map_err(TransactionError::Connection)?;
            Err(TransactionError::Transaction(error))
        }
    }
}

fn executed(answer: Answer) -> Result<ExecResult, DbErr> {
    match answer {
        Answer::Executed(result) => Ok(result),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> DbErr {
    DatabaseError::new(DatabaseErrorKind::Other).into_db_err()
}
