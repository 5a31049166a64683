//! How much a tenant used: for metrics and `TenantStats`.

use std::{
    ops::AddAssign,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A number of events and the time they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
}

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.count += more.count;
        self.failed += more.failed;
        self.time += more.time;
    }
}

/// Counts a [`Usage`].
#[derive(Default)]
pub(crate) struct UsageCounter {
    count: AtomicU64,
    failed: AtomicU64,
    nanoseconds: AtomicU64,
}

impl UsageCounter {
    pub(crate) fn record(&self, took: Duration, failed: bool) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn add(&self, usage: Usage) {
        self.count.fetch_add(usage.count, Ordering::Relaxed);
        self.failed.fetch_add(usage.failed, Ordering::Relaxed);
        self.nanoseconds
            .fetch_add(usage.time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            count: self.count.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            time: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }
}

/// What one tenant, or several together, used since the engine first saw them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

impl AddAssign for TenantUsage {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.secret_hits += more.secret_hits;
        self.secret_fetches += more.secret_fetches;
        self.connection_waits += more.connection_waits;
        self.statements += more.statements;
        self.slow_statements += more.slow_statements;
    }
}

/// Counts a [`TenantUsage`].
#[derive(Default)]
pub(crate) struct TenantUsageCounters {
    /// Receives the counts when these counters are dropped.
    heir: Option<Arc<TenantUsageCounters>>,
    pub(crate) requests: UsageCounter,
    pub(crate) secret_hits: AtomicU64,
    pub(crate) secret_fetches: UsageCounter,
    pub(crate) connection_waits: UsageCounter,
    pub(crate) statements: UsageCounter,
    pub(crate) slow_statements: AtomicU64,
}

impl TenantUsageCounters {
    /// Counters whose counts are added to `heir` when they are dropped.
    pub(crate) fn with_heir(heir: Arc<Self>) -> Self {
        let mut counters = Self::default();
        counters.heir = Some(heir);
        counters
    }

    pub(crate) fn secret_hits(&self) -> u64 {
        self.secret_hits.load(Ordering::Relaxed)
    }

    pub(crate) fn usage(&self) -> TenantUsage {
        TenantUsage {
            requests: self.requests.usage(),
            secret_hits: self.secret_hits(),
            secret_fetches: self.secret_fetches.usage(),
            connection_waits: self.connection_waits.usage(),
            statements: self.statements.usage(),
            slow_statements: self.slow_statements.load(Ordering::Relaxed),
        }
    }
}

impl Drop for TenantUsageCounters {
    fn drop(&mut self) {
        let Some(heir) = self.heir.take() else { return };
        let usage = self.usage();
        heir.requests.add(usage.requests);
        heir.secret_hits.fetch_add(usage.secret_hits, Ordering::Relaxed);
        heir.secret_fetches.add(usage.secret_fetches);
        heir.connection_waits.add(usage.connection_waits);
        heir.statements.add(usage.statements);
        heir.slow_statements.fetch_add(usage.slow_statements, Ordering::Relaxed);
    }
}
