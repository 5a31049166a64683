//! One connection that several handles use: a pinned connection, transactions, and save points
//! within them. They are levels of one stack.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_stream::try_stream;
use futures_util::{Stream, StreamExt as _};
use sea_orm::{DbBackend, DbErr, QueryResult, Statement, TransactionOptions};
use tokio::sync::{Mutex, MutexGuard};

use super::call;
use crate::{
    DatabaseError, DatabaseErrorKind, TenantId,
    engine::{
        measure::{stopwatch::Stopwatch, tally::RequestTally},
        pool::{Answer, Call, Lease},
        secrets::Secret,
        tenant::Tenant,
    },
    trace::is_traced,
};

/// How long rolling back a transaction that was dropped may take before its connection is closed
/// instead.
const ROLLBACK_DEADLINE: Duration = Duration::from_secs(2);

/// One level of the stack that is open on a connection. Dropping it without an end rolls it back:
/// the lowest level in the background, another one before the next statement on the connection.
pub(super) struct Level {
    shared: Arc<Shared>,
    serial: u64,
    ended: bool,
}

struct Shared {
    session: Mutex<Session>,
    /// Levels that were dropped without an end and are still to be rolled back.
    abandoned: parking_lot::Mutex<Vec<u64>>,
    next_serial: AtomicU64,
    /// Whether the rows of a statement are being read. A caller that runs another statement between
    /// two rows would wait for itself.
    streaming: AtomicBool,
    origin: Origin,
}

/// The tenant and the request that the statements belong to. It does not count as a running
/// request.
pub(super) struct Origin {
    pub(super) tenant: Arc<Tenant>,
    pub(super) secret: Arc<Secret>,
    pub(super) tally: Option<Arc<RequestTally>>,
}

impl Origin {
    fn watch(&self) -> Stopwatch<'_> {
        call::watch(&self.tenant, &self.secret, self.tally.as_deref())
    }
}

/// The connection, until the lowest level has ended, and the open levels from the lowest on.
struct Session {
    lease: Option<Lease>,
    levels: Vec<u64>,
    /// Whether the lowest level is the connection itself, and not a transaction.
    pinned: bool,
}

/// The serial of the lowest level.
const LOWEST: u64 = 0;

fn closed() -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::Closed)
}

impl Session {
    /// The connection, if this level is open on it and nothing was cut off in the middle.
    fn at(&mut self, serial: u64) -> Result<&mut Lease, DatabaseError> {
        match self.levels.contains(&serial) {
            true => self.usable(),
            false => Err(closed()),
        }
    }

    fn usable(&mut self) -> Result<&mut Lease, DatabaseError> {
        self.lease.as_mut().filter(|lease| !lease.is_busy()).ok_or_else(closed)
    }

    /// Whether a transaction is open.
    fn in_transaction(&self) -> bool {
        self.levels.len() > usize::from(self.pinned)
    }

    /// Rolls back the levels above the first `kept` ones. If that fails the state of the rest is
    /// unknown, so the connection is closed.
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

    /// Rolls the transaction back in the background. A connection that is pinned, or on which a
    /// statement was cut off, is closed.
    fn finish(&mut self) {
        let levels = std::mem::take(&mut self.levels);
        let Some(mut lease) = self.lease.take() else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !lease.is_busy() && !self.pinned => {
                let mut session = Self {
                    lease: Some(lease),
                    levels,
                    pinned: false,
                };
                runtime.spawn(async move {
                    let rolled_back = tokio::time::timeout(ROLLBACK_DEADLINE, session.roll_back_to(0)).await;
                    if let (Some(lease), Err(_)) = (&mut session.lease, rolled_back) {
                        lease.discard();
                    }
                });
            }
            _ => lease.discard(),
        }
    }
}

impl Level {
    /// The lowest level on a connection: the connection itself if it is `pinned`, else a
    /// transaction that has begun on it.
    pub(super) fn lowest(lease: Lease, origin: Origin, pinned: bool) -> Self {
        let session = Session {
            lease: Some(lease),
            levels: vec![LOWEST],
            pinned,
        };
        Self::new(
            Arc::new(Shared {
                session: Mutex::new(session),
                abandoned: parking_lot::Mutex::default(),
                next_serial: AtomicU64::new(LOWEST + 1),
                streaming: AtomicBool::new(false),
                origin,
            }),
            LOWEST,
        )
    }

    fn new(shared: Arc<Shared>, serial: u64) -> Self {
        Self {
            shared,
            serial,
            ended: false,
        }
    }

    pub(super) fn tenant(&self) -> &TenantId {
        &self.shared.origin.tenant.id
    }

    pub(super) fn is_lowest(&self) -> bool {
        self.serial == LOWEST
    }

    pub(super) fn backend(&self) -> DbBackend {
        self.shared.origin.secret.driver.backend()
    }

    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, DbErr> {
        self.shared.measured(call, self.shared.call(self.serial, call)).await
    }

    /// Begins a level above this one.
    pub(super) async fn begin_transaction(&self, options: TransactionOptions) -> Result<Self, DbErr> {
        let serial = self.shared.next_serial.fetch_add(1, Ordering::Relaxed);
        let call = Call::Begin(&options);
        let begun = self.shared.begin(self.serial, serial, call);
        self.shared.measured(call, begun).await?;
        Ok(Self::new(self.shared.clone(), serial))
    }

    pub(super) async fn end(mut self, call: Call<'static>) -> Result<(), DbErr> {
        let outcome = self.shared.measured(call, self.shared.end(self.serial, call)).await;
        // If it did not end, dropping this rolls it back.
        self.ended = outcome.is_ok();
        outcome.map(drop)
    }

    /// Runs a statement and returns its rows as they arrive. No other statement can run on the
    /// connection before the stream has ended.
    pub(super) fn rows(
        &self,
        statement: Statement,
    ) -> impl Stream<Item = Result<QueryResult, DatabaseError>> + Send + '_ {
        try_stream! {
            let shared = &*self.shared;
            let mut session = shared.lock().await?;
            let _streaming = Streaming::begin(&shared.streaming);
            let call = Call::All(&statement);
            let mut watch = shared.origin.watch();
            let alone = !session.in_transaction();
            let lease = session.at(self.serial)?;
            let ended = {
                let mut rows = pin!(call::rows(lease, &statement, &mut watch, is_traced()));
                loop {
                    match rows.next().await {
                        Some(Ok(row)) => yield row,
                        Some(Err(error)) if alone => break Err(call::unknown_outcome(error, call)),
                        Some(Err(error)) => break Err(error),
                        None => break Ok(()),
                    }
                }
            };
            watch.stop(call::measured(&call), ended.as_ref().err());
            ended?;
        }
    }
}

impl Shared {
    async fn measured(
        &self,
        call: Call<'_>,
        answer: impl Future<Output = Result<Answer, DatabaseError>>,
    ) -> Result<Answer, DbErr> {
        let mut watch = self.origin.watch();
        let answer = call::run(answer, call, &mut watch, is_traced()).await;
        watch.stop(call::measured(&call), answer.as_ref().err());
        answer.map_err(DatabaseError::into_db_err)
    }

    /// The session, once the abandoned levels are rolled back.
    async fn lock(&self) -> Result<MutexGuard<'_, Session>, DatabaseError> {
        if self.streaming.load(Ordering::Relaxed) {
            let source = "the rows of an earlier statement are still being read on this connection";
            return Err(DatabaseError::new(DatabaseErrorKind::Unsupported).with_source(source));
        }
        let mut session = self.session.lock().await;
        loop {
            let first = {
                let mut abandoned = self.abandoned.lock();
                let first = session.levels.iter().position(|level| abandoned.contains(level));
                if first.is_none() {
                    abandoned.clear();
                }
                first
            };
            match first {
                Some(first) => session.roll_back_to(first).await?,
                None => return Ok(session),
            }
        }
    }

    async fn call(&self, serial: u64, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let mut session = self.lock().await?;
        let answer = session.at(serial)?.call(call).await;
        match session.in_transaction() {
            // What a lost transaction did is undone.
            true => answer,
            false => answer.map_err(|error| call::unknown_outcome(error, call)),
        }
    }

    async fn begin(&self, serial: u64, inner: u64, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let mut session = self.lock().await?;
        let answer = session.at(serial)?.call(call).await?;
        session.levels.push(inner);
        Ok(answer)
    }

    /// Commits or rolls back one level, after the levels above it that have not ended were rolled
    /// back.
    async fn end(&self, serial: u64, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let mut session = self.lock().await?;
        session.at(serial)?;
        let level = session.levels.iter().position(|level| *level == serial);
        let level = level.unwrap_or_default();
        session.roll_back_to(level + 1).await?;
        let answer = session.at(serial)?.call(call).await;
        let is_save_point = level > usize::from(session.pinned);
        if is_save_point && answer.is_err() {
            // It is still there. As it has not ended, it is rolled back before anything else.
            return answer;
        }
        session.levels.truncate(level);
        if is_save_point {
            return answer;
        }
        if session.levels.is_empty() || answer.is_err() {
            let lease = session.lease.take();
            if let (Some(mut lease), Err(_)) = (lease, &answer) {
                // The state that a failed end leaves the session in is not known.
                lease.discard();
            }
        }
        answer.map_err(|error| call::unknown_outcome(error, call))
    }
}

/// Says that rows are being read, until it is dropped.
struct Streaming<'a>(&'a AtomicBool);

impl<'a> Streaming<'a> {
    fn begin(streaming: &'a AtomicBool) -> Self {
        streaming.store(true, Ordering::Relaxed);
        Self(streaming)
    }
}

impl Drop for Streaming<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.session.get_mut().finish();
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.shared.abandoned.lock().push(self.serial);
        // If a statement is running on another level now, the next statement rolls this one back,
        // or the last handle that is dropped.
        if let Ok(mut session) = self.shared.session.try_lock()
            && session.levels.first() == Some(&self.serial)
        {
            session.finish();
        }
    }
}
