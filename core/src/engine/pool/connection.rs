//! One pooled connection: it holds its permit until its session has ended.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    Connection, DatabaseError, DatabaseErrorKind, TenantId,
    engine::{budget::ConnectionPermit, secrets::Secret},
};

/// How long a connection may take to close before it is just dropped. A driver returns at once for
/// a connection at rest; if a statement was left in the middle, it returns once the server has
/// ended the session. After it the permit is free, though the server may still have the session.
const CLOSE_DEADLINE: Duration = Duration::from_secs(60);
/// The longest that a server is given to end a session it was asked to end.
const LONGEST_LINGERING: Duration = Duration::from_millis(500);

/// What a pool knows of one connection.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The era of the pool in which it was opened.
    pub(super) era: u64,
    pub(super) opened_at: Instant,
    /// How long opening it took.
    pub(super) opening: Duration,
    pub(super) retire_at: Instant,
    pub(super) used_at: Instant,
}

impl Facts {
    /// The facts of a connection that is open now and began to open at `started`.
    pub(super) fn now(era: u64, started: Instant, max_lifetime: Duration) -> Self {
        let now = Instant::now();
        // Connections that were opened together are not closed together.
        let lifetime = max_lifetime.mul_f64(1.0 - 0.1 * fastrand::f64());
        Self {
            era,
            opened_at: now,
            opening: now - started,
            retire_at: now + lifetime,
            used_at: now,
        }
    }
}

pub(super) trait HasFacts {
    fn facts(&self) -> &Facts;
}

/// A connection with its permit. Dropping it closes it in the background, and gives the permit back
/// once it is closed: none can be lost, and no more can be open than there are permits.
pub(super) struct PooledConnection {
    /// Both are there until this is dropped.
    pub(super) open: Option<(Box<dyn Connection>, ConnectionPermit)>,
    pub(super) tenant: TenantId,
    /// The secret that opened it: its lease is not released before the session has ended.
    pub(super) secret: Arc<Secret>,
    pub(super) facts: Facts,
}

/// As a pointer, since it changes hands several times for each request.
pub(super) type Pooled = Box<PooledConnection>;

impl HasFacts for Pooled {
    fn facts(&self) -> &Facts {
        &self.facts
    }
}

pub(crate) fn closed() -> DatabaseError {
    DatabaseError::new(DatabaseErrorKind::Closed)
}

impl PooledConnection {
    pub(super) fn connection(&mut self) -> Result<&mut dyn Connection, DatabaseError> {
        match &mut self.open {
            Some((connection, _)) => Ok(&mut **connection),
            None => Err(closed()),
        }
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let Some((connection, mut permit)) = self.open.take() else {
            return;
        };
        permit.begin_closing();
        let runtime = permit.runtime().clone();
        let (tenant, secret) = (self.tenant, self.secret.clone());
        // A session ends with less work and fewer round trips than it began.
        let lingering = self.facts.opening.min(LONGEST_LINGERING);
        runtime.spawn(async move {
            if timeout(CLOSE_DEADLINE, connection.close()).await.is_err() {
                tracing::debug!(tenant_id = %tenant, "a connection did not close in time and was dropped");
            }
            // The goodbye has no answer, and until the server has read it the session counts there.
            sleep(lingering).await;
            drop((permit, secret));
        });
    }
}
