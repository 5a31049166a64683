//! The tenants whose next request finds everything at hand: a secret within its time, and an open pool.

use std::sync::Arc;

use foldhash::quality::RandomState;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::{entry::TenantEntry, pool::TenantPool, secret_cache::Secret};
use crate::TenantId;

/// What a request needs of its tenant, in one piece, so that it takes one look-up and one count of references.
pub(crate) struct OpenTenant {
    pub(crate) entry: Arc<TenantEntry>,
    pub(crate) pool: Arc<TenantPool>,
    pub(crate) secret: Arc<Secret>,
    /// The entry's when this was put together: another one says that it no longer holds.
    epoch: u64,
    /// Ends the time of the secret, so that a request need not read the clock for it.
    _expiry: Option<AbortOnDropHandle<()>>,
}

impl OpenTenant {
    /// Of an `entry` whose epoch was `epoch` before `pool` and `secret` were read. It holds until `fresh_until`; without one, for the
    /// request alone that it is made for.
    pub(crate) fn new(
        entry: Arc<TenantEntry>,
        epoch: u64,
        pool: Arc<TenantPool>,
        secret: Arc<Secret>,
        fresh_until: Option<Instant>,
    ) -> Self {
        let expiry = fresh_until.map(|fresh_until| {
            let entry = entry.clone();
            AbortOnDropHandle::new(tokio::spawn(async move {
                sleep_until(fresh_until).await;
                entry.end_epoch(epoch);
            }))
        });
        Self {
            entry,
            pool,
            secret,
            epoch,
            _expiry: expiry,
        }
    }

    /// Whether nothing happened since to its secret or its pool.
    pub(crate) fn holds(&self) -> bool {
        self.entry.epoch() == self.epoch
    }
}

/// Read by every request, without a lock; written when a tenant is opened, and by the housekeeping.
#[derive(Default)]
pub(crate) struct OpenTenants(papaya::HashMap<TenantId, Arc<OpenTenant>, RandomState>);

impl OpenTenants {
    pub(crate) fn get(&self, tenant: &TenantId) -> Option<Arc<OpenTenant>> {
        self.0.pin().get(tenant).filter(|open| open.holds()).cloned()
    }

    pub(crate) fn put(&self, open: &Arc<OpenTenant>) {
        if open.holds() {
            self.0.pin().insert(open.entry.id, open.clone());
        }
    }

    /// Lets go of those that no longer hold. There are no more of them than pools, plus those closed since the last time.
    pub(crate) fn sweep(&self) {
        self.0.pin().retain(|_, open| open.holds());
    }

    pub(crate) fn clear(&self) {
        self.0.pin().clear();
    }
}
