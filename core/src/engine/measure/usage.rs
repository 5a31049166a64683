//! How much a tenant used: for metrics and `TenantStats`.

use std::{sync::Arc, time::Duration};

use derive_more::AddAssign;
use parking_lot::{Mutex, MutexGuard};

/// A number of events and the time they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, AddAssign)]
pub struct Usage {
    /// How many there were.
    pub count: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The time they took in total.
    pub time: Duration,
}

impl Usage {
    /// The average time of one; zero if there was none.
    pub fn mean(&self) -> Duration {
        let nanoseconds = self.time.as_nanos().checked_div(u128::from(self.count));
        Duration::from_nanos(nanoseconds.unwrap_or(0) as u64)
    }

    pub(crate) fn record(&mut self, took: Duration, failed: bool) {
        self.count += 1;
        self.failed += u64::from(failed);
        self.time += took;
    }
}

/// What one tenant, or several together, used since the engine first saw them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, AddAssign)]
pub struct TenantUsage {
    /// Answered requests; a status of 500 or above counts as failed.
    pub requests: Usage,
    /// Requests that found the secret in the cache.
    pub secret_hits: u64,
    /// Fetches of the secret from its provider.
    pub secret_fetches: Usage,
    /// Waits for a connection, including the time to open it.
    pub connection_waits: Usage,
    /// Statements, without the waits for their connections.
    pub statements: Usage,
    /// Statements that took longer than their tenant's `query.slow.threshold`.
    pub slow_statements: u64,
}

/// The usage of one tenant, or of several. Its lock is held for a few additions, and no other lock
/// is taken under it.
#[derive(Debug, Default)]
pub(crate) struct UsageAccount {
    usage: Mutex<TenantUsage>,
    /// Receives the usage when this account is dropped.
    heir: Option<Arc<UsageAccount>>,
}

impl UsageAccount {
    /// An account that adds its usage to `heir` when it is dropped.
    pub(crate) fn with_heir(heir: Arc<Self>) -> Self {
        Self {
            usage: Mutex::default(),
            heir: Some(heir),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, TenantUsage> {
        self.usage.lock()
    }
}

impl Drop for UsageAccount {
    fn drop(&mut self) {
        if let Some(heir) = &self.heir {
            *heir.lock() += *self.usage.get_mut();
        }
    }
}
