//! What is done with a pool from outside: another secret, closing, what its neighbours and the
//! housekeeping ask, and how it is.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Pool, PoolStatus};
use crate::{
    DatabaseError, TenantId,
    engine::{
        budget::{Idle, Neighbour},
        secrets::Secret,
    },
};

impl Pool {
    /// Takes a new secret: connections are opened with it from now on, idle ones of the old are
    /// closed now, used ones as they come back. Returns whether it is newer than the one it has.
    pub(crate) fn rotate(self: &Arc<Self>, secret: Arc<Secret>) -> bool {
        let closed = self.with(|inner| {
            if secret.generation <= inner.secret.generation {
                return None;
            }
            secret.driver.secret_changed(&inner.secret.config, &secret.config);
            let limits = secret.limits.clone();
            inner.secret = secret;
            Some(inner.state.begin_era(Some(limits)))
        });
        closed.is_some()
    }

    /// Closes the idle connections now and the used ones as they come back. The next request opens
    /// another one.
    pub(crate) fn close(self: &Arc<Self>) {
        drop(self.with(|inner| inner.state.begin_era(None)));
    }

    pub(crate) fn status(&self) -> PoolStatus {
        self.state().status()
    }

    /// Whether it has a connection, or one is being opened.
    pub(crate) fn is_open(&self) -> bool {
        self.state().is_active()
    }

    /// Whether its database is left alone for now after failures to connect.
    pub(crate) fn is_broken(&self) -> bool {
        self.state().breaker().is_open()
    }

    /// Why the last try to connect failed, if it did.
    pub(crate) fn last_error(&self) -> Option<DatabaseError> {
        self.state().breaker().last_error().cloned()
    }
}

impl Neighbour for Pool {
    fn tenant(&self) -> TenantId {
        self.tenant
    }

    fn longest_idle(&self) -> Option<Idle> {
        self.state().longest_idle()
    }

    fn close_idle(&self, since: Instant) -> bool {
        let closed = self.state().take_idle_since(since);
        closed.is_some()
    }

    fn unused_since(&self) -> Option<Instant> {
        self.state().unused_since()
    }

    fn close_unused(&self, since: Instant) -> bool {
        let closed = self.state().close_unused(since);
        closed.is_some()
    }

    fn sweep(&self, now: Instant) {
        let worn = self.state().sweep(now);
        drop(worn);
    }
}
