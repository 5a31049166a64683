//! The statements of one request.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::usage::{Usage, UsageAccount};
use crate::TenantId;

/// Counts the statements of one request. The engine fills it while the request runs; its owner
/// reads it when the request has been answered.
#[derive(Debug, Default)]
pub struct RequestTally {
    tenant: OnceLock<TenantId>,
    usage: OnceLock<Arc<UsageAccount>>,
    statements: Mutex<Usage>,
    /// The statements that took effect, or may have.
    effects: AtomicU32,
    pub(crate) is_safe: bool,
}

impl RequestTally {
    /// For a request whose method is safe (RFC 9110 §9.2.1): whatever it runs, it has no effect.
    pub fn of_safe_request() -> Self {
        Self {
            is_safe: true,
            ..Self::default()
        }
    }

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
        *self.statements.lock()
    }

    /// Whether a statement of it took effect so far, or may have.
    pub fn may_have_effect(&self) -> bool {
        self.effects.load(Ordering::Relaxed) > 0
    }

    /// Records that a statement may take effect from now on.
    pub(crate) fn may_take_effect(&self) {
        self.effects.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that it had none.
    pub(crate) fn had_no_effect(&self) {
        self.effects.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records that the request was answered after `elapsed`, in the usage of its tenant if it has
    /// one.
    pub fn answered(&self, elapsed: Duration, failed: bool) {
        if let Some(usage) = self.usage.get() {
            usage.lock().requests.record(elapsed, failed);
        }
    }

    /// Sets the account of its tenant.
    pub(crate) fn set_usage(&self, usage: &Arc<UsageAccount>) {
        self.usage.get_or_init(|| usage.clone());
    }

    pub(crate) fn record(&self, elapsed: Duration, failed: bool) {
        self.statements.lock().record(elapsed, failed);
    }
}
