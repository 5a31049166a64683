//! SeaORM's traits on a tenant's database, its pinned connections and its transactions.

use std::{fmt, future::Future, pin::Pin};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream::BoxStream};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult, Statement, StreamTrait,
    TransactionError, TransactionOptions, TransactionSession, TransactionTrait,
};

use super::{TenantDatabase, session::Level};
use crate::{
    DatabaseError, DatabaseErrorKind,
    engine::pool::{Answer, Call},
};

/// One connection to a tenant's database, for as long as this value lives: for temporary tables,
/// session settings, advisory locks and whatever else is the session's own. It runs everything that
/// runs on SeaORM's traits.
///
/// Dropping it closes the connection, which no other request uses; a transaction that has not ended
/// on it is rolled back. Until then it occupies one of the connections of the tenant's pool. After
/// an error that ends the session every statement fails: no statement is repeated on another
/// connection.
#[derive(Debug)]
pub struct TenantConnection(pub(super) Level);

/// A transaction, or a save point within one. A failed commit is an error. A transaction that is
/// dropped without an end is rolled back: the outermost in the background, a save point before the
/// next statement of the transaction around it. Ending a transaction rolls back the save points
/// within it that have not ended.
#[derive(Debug)]
pub struct TenantTransaction(Level);

#[async_trait]
impl TransactionSession for TenantTransaction {
    async fn commit(self) -> Result<(), DbErr> {
        self.0.end(Call::Commit).await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        self.0.end(Call::Rollback).await
    }
}

/// Implements SeaORM's traits for a type that has the methods `call`, `rows`, `begin_transaction`
/// and `backend`, or a field that has them.
macro_rules! sea_orm_traits {
    ($type:ty $(, $field:tt)?) => {
        #[async_trait]
        impl ConnectionTrait for $type {
            fn get_database_backend(&self) -> DbBackend {
                self$(.$field)?.backend()
            }

            async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                executed(self$(.$field)?.call(Call::Execute(&statement)).await?)
            }

            async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
                executed(self$(.$field)?.call(Call::Script(sql)).await?)
            }

            async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
                match self$(.$field)?.call(Call::One(&statement)).await? {
                    Answer::One(row) => Ok(row),
                    _ => Err(unexpected()),
                }
            }

            async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                match self$(.$field)?.call(Call::All(&statement)).await? {
                    Answer::All(rows) => Ok(rows),
                    _ => Err(unexpected()),
                }
            }
        }

        #[async_trait]
        impl TransactionTrait for $type {
            type Transaction = TenantTransaction;

            async fn begin(&self) -> Result<TenantTransaction, DbErr> {
                self.begin_with_options(TransactionOptions::default()).await
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
                self.begin_with_options(options).await
            }

            async fn begin_with_options(&self, options: TransactionOptions) -> Result<TenantTransaction, DbErr> {
                let level = self$(.$field)?.begin_transaction(options).await;
                level.map(TenantTransaction)
            }

            async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
            where
                F: for<'c> FnOnce(&'c TenantTransaction) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
                    + Send,
                T: Send,
                E: fmt::Display + fmt::Debug + Send,
            {
                self.transaction_with_config(callback, None, None).await
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

        impl StreamTrait for $type {
            type Stream<'a> = BoxStream<'a, Result<QueryResult, DbErr>>;

            fn get_database_backend(&self) -> DbBackend {
                self$(.$field)?.backend()
            }

            fn stream_raw<'a>(
                &'a self,
                statement: Statement,
            ) -> BoxFuture<'a, Result<Self::Stream<'a>, DbErr>> {
                Box::pin(started(self$(.$field)?.rows(statement)))
            }
        }
    };
}

sea_orm_traits!(TenantDatabase);
sea_orm_traits!(TenantConnection, 0);
sea_orm_traits!(TenantTransaction, 0);

/// Waits for the first row, so that a statement that fails before it is an error of the call.
async fn started<'a>(
    rows: impl Stream<Item = Result<QueryResult, DatabaseError>> + Send + 'a,
) -> Result<BoxStream<'a, Result<QueryResult, DbErr>>, DbErr> {
    let mut rows = Box::pin(rows.map_err(DatabaseError::into_db_err).peekable());
    match rows.as_mut().next_if(Result::is_err).await {
        Some(Err(error)) => Err(error),
        _ => Ok(rows),
    }
}

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
            // If that fails the connection is closed, which undoes the transaction too, and what
            // the callback found out says more.
            drop(transaction.rollback().await);
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
