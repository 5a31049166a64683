//! How much of everything a tenant used: for metrics and `TenantStats`.

use std::{
    ops::AddAssign,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::pool::PoolStatus;
use crate::TenantId;

/// How often something was done, and for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How often.
    pub count: u64,
    /// How often it failed.
    pub failed: u64,
    /// How long it took, all together.
    pub time: Duration,
}

impl Usage {
    /// How long it took on average; zero before the first time.
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

/// What one tenant, or several together, used since the server began to know them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantUsage {
    /// Requests that were answered; those answered 500 and above failed.
    pub requests: Usage,
    /// Requests that found the secret at hand.
    pub secret_hits: u64,
    /// Reads of the secret at its provider.
    pub secret_fetches: Usage,
    /// Waits for a connection, its opening included.
    pub connection_waits: Usage,
    /// Statements, without the wait for their connection.
    pub statements: Usage,
    /// Statements that were slow for their tenant, the wait included.
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
    pub(crate) requests: UsageCounter,
    pub(crate) secret_hits: AtomicU64,
    pub(crate) secret_fetches: UsageCounter,
    pub(crate) connection_waits: UsageCounter,
    pub(crate) statements: UsageCounter,
    pub(crate) slow_statements: AtomicU64,
}

impl TenantUsageCounters {
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

    /// Takes over what a tenant used that is forgotten.
    pub(crate) fn add(&self, usage: TenantUsage) {
        self.requests.add(usage.requests);
        self.secret_hits.fetch_add(usage.secret_hits, Ordering::Relaxed);
        self.secret_fetches.add(usage.secret_fetches);
        self.connection_waits.add(usage.connection_waits);
        self.statements.add(usage.statements);
        self.slow_statements.fetch_add(usage.slow_statements, Ordering::Relaxed);
    }
}

/// A known tenant, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownTenant {
    /// Which one.
    pub id: TenantId,
    /// What it used.
    pub usage: TenantUsage,
    /// Its connections; `None` while no pool is open.
    pub pool: Option<PoolStatus>,
    /// Whether its provider is left alone for a while after failures.
    pub secret_breaker_open: bool,
    /// Whether its database is left alone for a while after failures.
    pub connection_breaker_open: bool,
}

/// Every tenant that is known now, and what those used that no longer are.
#[derive(Debug, Clone, Default)]
pub struct UsageSnapshot {
    /// In no order.
    pub known: Vec<KnownTenant>,
    /// All of them together.
    pub forgotten: TenantUsage,
}
