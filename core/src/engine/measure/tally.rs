//! What one request asked of its tenant's database.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{tenant::Tenant, usage::Usage};
use crate::TenantId;

/// Filled by the engine while a request runs, read by whoever tells of the request when it has been answered.
#[derive(Default)]
pub struct RequestTally {
    tenant: OnceLock<TenantId>,
    entry: OnceLock<Arc<Tenant>>,
    statements: AtomicU32,
    failed: AtomicU32,
    nanoseconds: AtomicU64,
}

impl RequestTally {
    /// Whose request it is. A request that resolves its tenant twice resolves the same.
    pub fn set_tenant(&self, tenant: TenantId) {
        self.tenant.get_or_init(|| tenant);
    }

    /// Whose request it is, once that is known.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant.get().copied()
    }

    /// Its statements, and how long they and the waits for their connections took.
    pub fn statements(&self) -> Usage {
        Usage {
            count: self.statements.load(Ordering::Relaxed).into(),
            failed: self.failed.load(Ordering::Relaxed).into(),
            time: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }

    /// The request was answered after `elapsed`: counts it among its tenant's, where it has one that is known.
    pub fn answered(&self, elapsed: Duration, failed: bool) {
        if let Some(entry) = self.entry.get() {
            entry.usage.requests.record(elapsed, failed);
        }
    }

    pub(crate) fn set_entry(&self, entry: &Arc<Tenant>) {
        self.entry.get_or_init(|| entry.clone());
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
