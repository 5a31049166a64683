//! One connection that several handles use: a pinned connection, transactions, and save points
//! within them. They are levels of one stack.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Weak},
};

use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use sea_orm::{DbBackend, DbErr, QueryResult, Statement, TransactionOptions};
use tokio::sync::{Mutex, MutexGuard, RwLock};

use super::call::Request;
use crate::{
    DatabaseError, DatabaseErrorKind,
    engine::pool::{Answer, Call, Lease, closed},
};

/// One level of the stack that is open on a connection. Dropping it without an end rolls it back:
/// the lowest level in the background, another one before the next statement on the connection.
pub(super) struct Level {
    shared: Arc<Shared>,
    /// Lives as long as this. If it is gone before the level has ended, the level was dropped.
    alive: Arc<()>,
}

/// A session, and the request that its statements belong to.
struct Shared {
    session: Mutex<Session>,
    /// Locked while the rows of a statement are being read. A caller that runs another statement
    /// between two rows would wait for itself.
    streaming: RwLock<()>,
    request: Request,
}

/// The connection, until the lowest level has ended, and the open levels from the lowest on.
struct Session {
    lease: Option<Lease>,
    levels: Vec<Weak<()>>,
}

impl Session {
    /// The place of a level in the stack, if it is open.
    fn position(&self, level: &Arc<()>) -> Result<usize, DatabaseError> {
        let is_it = |open: &Weak<()>| open.as_ptr() == Arc::as_ptr(level);
        self.levels.iter().position(is_it).ok_or_else(closed)
    }

    /// The connection, if this level is open on it and nothing was cut off in the middle.
    fn at(&mut self, level: &Arc<()>) -> Result<&mut Lease, DatabaseError> {
        self.position(level)?;
        self.usable()
    }

    fn usable(&mut self) -> Result<&mut Lease, DatabaseError> {
        self.lease.as_mut().filter(|lease| !lease.is_busy()).ok_or_else(closed)
    }

    /// Commits or rolls back one level, after the levels above it that have not ended were rolled
    /// back.
    async fn end(&mut self, level: &Arc<()>, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let level = self.position(level)?;
        self.roll_back_to(level + 1).await?;
        let lease = self.usable()?;
        let answer = lease.call(call).await;
        if answer.is_err() {
            if lease.depth() > 1 {
                // The save point is still there. As it has not ended, it is rolled back before
                // anything else.
                return answer;
            }
            // The state that a failed end leaves the session in is not known.
            lease.discard();
            self.lease = None;
        }
        self.levels.truncate(level);
        if self.levels.is_empty() {
            self.lease = None;
        }
        answer
    }

    /// Rolls back the levels above the first `kept` ones. If that fails the state of the rest is
    /// unknown, so no other request uses the connection, and it is closed with its last handle.
    async fn roll_back_to(&mut self, kept: usize) -> Result<(), DatabaseError> {
        while self.levels.len() > kept {
            let lease = self.usable()?;
            if let Err(error) = lease.call(Call::Rollback).await {
                lease.discard();
                return Err(error);
            }
            self.levels.pop();
        }
        if self.levels.is_empty() {
            self.lease = None;
        }
        Ok(())
    }
}

impl Level {
    /// The lowest level on a connection: a transaction that has begun on it, or the connection
    /// itself.
    pub(super) fn lowest(lease: Lease, request: Request) -> Self {
        let alive = Arc::new(());
        let session = Session {
            lease: Some(lease),
            levels: vec![Arc::downgrade(&alive)],
        };
        let shared = Arc::new(Shared {
            session: Mutex::new(session),
            streaming: RwLock::default(),
            request,
        });
        Self { shared, alive }
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.shared.request.backend()
    }

    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, DbErr> {
        let answer = async { self.shared.lock().await?.at(&self.alive)?.call(call).await };
        self.measured(call, answer).await
    }

    /// Begins a level above this one.
    pub(super) async fn begin_transaction(&self, options: TransactionOptions) -> Result<Self, DbErr> {
        let (call, alive) = (Call::Begin(&options), Arc::new(()));
        let begun = async {
            let mut session = self.shared.lock().await?;
            let answer = session.at(&self.alive)?.call(call).await?;
            session.levels.push(Arc::downgrade(&alive));
            Ok(answer)
        };
        self.measured(call, begun).await?;
        let shared = self.shared.clone();
        Ok(Self { shared, alive })
    }

    /// Commits this level or rolls it back. If that fails, dropping this rolls it back.
    pub(super) async fn end(self, call: Call<'static>) -> Result<(), DbErr> {
        let ended = async { self.shared.lock().await?.end(&self.alive, call).await };
        self.measured(call, ended).await.map(drop)
    }

    async fn measured(
        &self,
        call: Call<'_>,
        answer: impl Future<Output = Result<Answer, DatabaseError>>,
    ) -> Result<Answer, DbErr> {
        let mut watch = self.shared.request.watch(call);
        let answer = watch.run(answer).await;
        watch.stop(answer.as_ref().err());
        answer.map_err(|error| call.db_err(error))
    }

    /// Runs a statement and returns its rows as they arrive. No other statement can run on the
    /// connection before the stream has ended.
    pub(super) fn rows(
        &self,
        statement: Statement,
    ) -> impl Stream<Item = Result<QueryResult, DatabaseError>> + Send + '_ {
        try_stream! {
            let mut session = self.shared.lock().await?;
            let _streaming = self.shared.streaming.write().await;
            let mut watch = self.shared.request.watch(Call::All(&statement));
            let lease = session.at(&self.alive)?;
            let mut ended = Ok(());
            {
                let mut rows = pin!(watch.rows(lease, &statement));
                while let Some(row) = rows.next().await {
                    match row {
                        Ok(row) => yield row,
                        Err(error) => ended = Err(error),
                    }
                }
            }
            watch.stop(ended.as_ref().err());
            ended?;
        }
    }
}

impl Shared {
    /// The session, once the levels that were dropped are rolled back.
    async fn lock(&self) -> Result<MutexGuard<'_, Session>, DatabaseError> {
        if self.streaming.try_read().is_err() {
            let source = "the rows of an earlier statement are still being read on this connection";
            return Err(DatabaseError::new(DatabaseErrorKind::Unsupported).with_source(source));
        }
        let mut session = self.session.lock().await;
        while let Some(first) = session.levels.iter().position(|level| level.strong_count() == 0) {
            session.roll_back_to(first).await?;
        }
        Ok(session)
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Level")
            .field("tenant", &self.shared.request.tenant.id)
            .finish_non_exhaustive()
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        // While a statement is running on another level, that is left to the next statement, or to
        // the last handle that is dropped.
        if let Ok(mut session) = self.shared.session.try_lock()
            && let Ok(0) = session.position(&self.alive)
        {
            session.lease = None;
        }
    }
}
