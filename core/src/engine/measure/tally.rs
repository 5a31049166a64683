//! The statements of one request.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::usage::{TenantUsageCounters, Usage};
use crate::TenantId;

/// Counts the statements of one request. The engine fills it while the request runs; its owner
/// reads it when the request has been answered.
#[derive(Default)]
pub struct RequestTally {
    tenant: OnceLock<TenantId>,
    usage: OnceLock<Arc<TenantUsageCounters>>,
    statements: AtomicU32,
    failed: AtomicU32,
    nanoseconds: AtomicU64,
}

impl RequestTally {
    /// Sets the request's tenant. A request that resolves its tenant twice resolves the same one.
    pub fn set_tenant(&self, tenant: TenantId) {
        self.tenant.get_or_init(|| tenant);
    }

    /// The request's tenant, once it is known.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant.get().copied()
    }

    /// Its statements. Their time includes the waits for their connections.
    pub fn statements(&self) -> Usage {
        Usage {
            count: self.statements.load(Ordering::Relaxed).into(),
            failed: self.failed.load(Ordering::Relaxed).into(),
            time: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }

    /// Records that the request was answered after `elapsed`, in the usage of its tenant if it has
    /// one.
    pub fn answered(&self, elapsed: Duration, failed: bool) {
        if let Some(usage) = self.usage.get() {
            usage.requests.record(elapsed, failed);
        }
    }

    /// Sets the counters of its tenant.
    pub(crate) fn set_usage(&self, usage: &Arc<TenantUsageCounters>) {
        self.usage.get_or_init(|| usage.clone());
    }

    pub(crate) fn record(&self, elapsed: Duration, failed: bool) {
        self.statements.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(elapsed.as_nanos() as u64, Ordering::Relaxed);
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for RequestTally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RequestTally")
            .field("tenant", &self.tenant())
            .field("statements", &self.statements())
            .finish_non_exhaustive()
    }
}
