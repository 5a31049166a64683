//! A transaction on a tenant's database.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{DbBackend, DbErr, TransactionOptions, TransactionSession};
use tokio::sync::Mutex;
use tracing::Span;

use super::{
    connection::{Answer, Call, Lease},
    entry::TenantEntry,
    secret_cache::Secret,
    stopwatch::{Stopwatch, note_answer, statement_span},
    tally::RequestTally,
};
use crate::{DatabaseError, trace::is_traced};

/// How long rolling back a transaction that was dropped may take before its connection is closed instead.
const ROLLBACK_DEADLINE: Duration = Duration::from_secs(2);

/// A transaction, or a save point within one. A commit tells when it failed. Dropped without an end it is rolled back, in the background
/// where it is the outermost, else before the next statement of the one around it.
pub struct TenantTransaction {
    shared: Arc<Shared>,
    ended: bool,
    nested: bool,
}

struct Shared {
    lease: Mutex<Option<Lease>>,
    /// Save points that were dropped without an end and are still to be rolled back.
    abandoned: AtomicU32,
    // Not the `OpenTenant`, which counts as a running request.
    entry: Arc<TenantEntry>,
    secret: Arc<Secret>,
    tally: Option<Arc<RequestTally>>,
}

impl TenantTransaction {
    /// On a connection on which it has begun.
    pub(crate) fn new(
        lease: Lease,
        entry: Arc<TenantEntry>,
        secret: Arc<Secret>,
        tally: Option<Arc<RequestTally>>,
    ) -> Self {
        let shared = Shared {
            lease: Mutex::new(Some(lease)),
            abandoned: AtomicU32::new(0),
            entry,
            secret,
            tally,
        };
        Self {
            shared: Arc::new(shared),
            ended: false,
            nested: false,
        }
    }

    pub(crate) fn backend(&self) -> DbBackend {
        self.shared.secret.driver.backend()
    }

    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Answer, DbErr> {
        self.shared.call(call).await.map_err(DatabaseError::into_db_err)
    }

    pub(crate) async fn begin_transaction(&self, options: TransactionOptions) -> Result<Self, DbErr> {
        self.call(Call::Begin(&options)).await?;
        Ok(Self {
            shared: self.shared.clone(),
            ended: false,
            nested: true,
        })
    }

    async fn end(mut self, call: Call<'static>) -> Result<(), DbErr> {
        // From here on the end was tried: whatever comes of it, dropping must not try another.
        self.ended = true;
        let outcome = self.shared.call(call).await;
        let lease = if self.nested {
            None
        } else {
            self.shared.lease.lock().await.take()
        };
        if let (Some(mut lease), Err(_)) = (lease, &outcome) {
            // What state a failed end leaves it in, nobody knows.
            lease.discard();
        }
        outcome.map(drop).map_err(DatabaseError::into_db_err)
    }
}

impl Shared {
    async fn call(&self, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let mut watch = Stopwatch::new(&self.entry, &self.secret, self.tally.as_deref());
        let span = match is_traced() {
            true => statement_span(&self.entry, &self.secret, call),
            false => Span::none(),
        };
        let answer = self.call_in_order(call).await;
        watch.ran();
        note_answer(&span, &answer);
        drop(span);
        watch.stop(call, answer.as_ref().err());
        answer
    }

    async fn call_in_order(&self, call: Call<'_>) -> Result<Answer, DatabaseError> {
        let mut lease = self.lease.lock().await;
        let Some(lease) = lease.as_mut().filter(|lease| !lease.is_busy()) else {
            // The transaction around a save point has ended, or a statement in it was cut off.
            return Err(DatabaseError::new(crate::DatabaseErrorKind::Closed));
        };
        while self.abandoned.load(Ordering::Acquire) > 0 {
            lease.call(Call::Rollback).await?;
            self.abandoned.fetch_sub(1, Ordering::AcqRel);
        }
        lease.call(call).await
    }
}

impl Drop for TenantTransaction {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if self.nested {
            self.shared.abandoned.fetch_add(1, Ordering::AcqRel);
            return;
        }
        // Nobody holds the lock: a call borrows the transaction that is being dropped, or a save point that outlives it, whose next call
        // then finds no lease.
        let Ok(mut place) = self.shared.lease.try_lock() else {
            return;
        };
        let Some(mut lease) = place.take() else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !lease.is_busy() => {
                runtime.spawn(async move {
                    let rolled_back = tokio::time::timeout(ROLLBACK_DEADLINE, lease.call(Call::Rollback)).await;
                    if !matches!(rolled_back, Ok(Ok(_))) {
                        lease.discard();
                    }
                });
            }
            _ => lease.discard(),
        }
    }
}

impl fmt::Debug for TenantTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantTransaction")
            .field("tenant", &self.shared.entry.id)
            .field("nested", &self.nested)
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
