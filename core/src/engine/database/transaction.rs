//! A transaction on a tenant's database.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{DbBackend, DbErr, TransactionOptions, TransactionSession};
use tokio::sync::Mutex;

use super::call;
use crate::{
    DatabaseError, DatabaseErrorKind,
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

/// A transaction, or a save point within one. A failed commit is an error. One that is dropped
/// without an end is rolled back: the outermost in the background, a save point before the next
/// statement of the transaction around it. Ending a transaction rolls back the save points within
/// it that have not ended.
pub struct TenantTransaction {
    shared: Arc<Shared>,
    /// Which of the open levels this is.
    serial: u64,
    ended: bool,
}

struct Shared {
    session: Mutex<Session>,
    /// Levels that were dropped without an end and are still to be rolled back.
    abandoned: parking_lot::Mutex<Vec<u64>>,
    next_serial: AtomicU64,
    // Not the `OpenTenant`, which counts as a running request.
    entry: Arc<Tenant>,
    secret: Arc<Secret>,
    tally: Option<Arc<RequestTally>>,
}

/// The connection, until the outermost transaction has ended, and the levels that are open on it
/// from the outermost on.
struct Session {
    lease: Option<Lease>,
    levels: Vec<u64>,
}

/// The outermost level.
const OUTERMOST: u64 = 0;

fn closed() -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::Closed)
}

impl Session {
    /// The connection, if this level is open on it and nothing was cut off in the middle.
    fn at(&mut self, serial: u64) -> Result<&mut Lease, DatabaseError> {
        if !self.levels.contains(&serial) {
            return Err(closed());
        }
        self.lease.as_mut().filter(|lease| !lease.is_busy()).ok_or_else(closed)
    }

    /// Rolls back the levels above the first `kept` ones. If that fails nothing is known of the
    /// rest, so the connection is closed.
    async fn roll_back_to(&mut self, kept: usize) -> Result<(), DatabaseError> {
        while self.levels.len() > kept {
            let lease = self
                .lease
                .as_mut()
                .filter(|lease| !lease.is_busy())
                .ok_or_else(closed)?;
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

    /// Rolls everything back in the background, or closes the connection if a statement was cut off
    /// on it.
    fn finish(&mut self) {
        let levels = std::mem::take(&mut self.levels);
        let Some(mut lease) = self.lease.take() else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !lease.is_busy() => {
                let mut session = Self {
                    lease: Some(lease),
                    levels,
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

impl TenantTransaction {
    /// On a connection on which it has begun.
    pub(crate) fn new(lease: Lease, entry: Arc<Tenant>, secret: Arc<Secret>, tally: Option<Arc<RequestTally>>) -> Self {
        let session = Session {
            lease: Some(lease),
            levels: vec![OUTERMOST],
        };
        let shared = Shared {
            session: Mutex::new(session),
            abandoned: parking_lot::Mutex::default(),
            next_serial: AtomicU64::new(OUTERMOST + 1),
            entry,
            secret,
            tally,
        };
        Self {
            shared: Arc::new(shared),
            serial: OUTERMOST,
            ended: false,
        }
    }

    pub(crate) fn backend(&self) -> DbBackend {
        self.shared.secret.driver.backend()
    }

    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Answer, DbErr> {
        let answer = self.shared.measured(call, self.shared.call(self.serial, call)).await;
        answer.map_err(DatabaseError::into_db_err)
    }

    pub(crate) async fn begin_transaction(&self, options: TransactionOptions) -> Result<Self, DbErr> {
        let serial = self.shared.next_serial.fetch_add(1, Ordering::Relaxed);
        let call = Call::Begin(&options);
        let begun = self
            .shared
            .measured(call, self.shared.begin(self.serial, serial, call))
            .await;
        begun.map_err(DatabaseError::into_db_err)?;
        Ok(Self {
            shared: self.shared.clone(),
            serial,
            ended: false,
        })
    }

    async fn end(mut self, call: Call<'static>) -> Result<(), DbErr> {
        let outcome = self.shared.measured(call, self.shared.end(self.serial, call)).await;
        // Not before: until the end was tried, dropping this rolls it back.
        self.ended = true;
        outcome.map(drop).map_err(DatabaseError::into_db_err)
    }
}

impl Shared {
    async fn measured(
        &self,
        call: Call<'_>,
        answer: impl Future<Output = Result<Answer, DatabaseError>>,
    ) -> Result<Answer, DatabaseError> {
        let mut watch = Stopwatch::new(call::subject(&self.entry, &self.secret, self.tally.as_deref()));
        self.entry.touch(watch.started);
        let answer = call::run(answer, call, &mut watch, is_traced()).await;
        watch.stop(call::measured(&call), answer.as_ref().err());
        answer
    }

    async fn call(&self, serial: u64, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let mut session = self.session.lock().await;
        self.roll_back_abandoned(&mut session).await?;
        session.at(serial)?.call(call).await
    }

    async fn begin(&self, serial: u64, inner: u64, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let mut session = self.session.lock().await;
        self.roll_back_abandoned(&mut session).await?;
        let answer = session.at(serial)?.call(call).await?;
        session.levels.push(inner);
        Ok(answer)
    }

    /// Commits or rolls back one level, after the levels within it that have not ended were rolled
    /// back.
    async fn end(&self, serial: u64, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let mut session = self.session.lock().await;
        self.roll_back_abandoned(&mut session).await?;
        session.at(serial)?;
        let level = session
            .levels
            .iter()
            .position(|level| *level == serial)
            .unwrap_or_default();
        session.roll_back_to(level + 1).await?;
        let answer = session.at(serial)?.call(call).await;
        if level > 0 {
            match &answer {
                Ok(_) => session.levels.truncate(level),
                // It is still there, and is rolled back before anything else.
                Err(_) => self.abandoned.lock().push(serial),
            }
            return answer;
        }
        session.levels.clear();
        if let (Some(mut lease), Err(_)) = (session.lease.take(), &answer) {
            // The state that a failed end leaves the session in is not known.
            lease.discard();
        }
        answer.map_err(|error| call::unknown_outcome(error, call))
    }

    async fn roll_back_abandoned(&self, session: &mut Session) -> Result<(), DatabaseError> {
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
                None => return Ok(()),
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.session.get_mut().finish();
    }
}

impl Drop for TenantTransaction {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.shared.abandoned.lock().push(self.serial);
        // If a save point's statement is running now, the last handle to go rolls back, or the next
        // call that comes.
        if let Ok(mut session) = self.shared.session.try_lock()
            && session.levels.first() == Some(&self.serial)
        {
            session.finish();
        }
    }
}

impl fmt::Debug for TenantTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantTransaction")
            .field("tenant", &self.shared.entry.id)
            .field("nested", &(self.serial != OUTERMOST))
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TransactionSession for TenantTransaction {
    async fn commit(self) -> Result<(), DbErr> {
        self.end(Call::Commit).await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        self.end(Call::Rollback).await
    }
}
