//! The tenants whose next request finds everything at hand: a secret within its time, and an open pool.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::{entry::TenantEntry, pool::TenantPool, running::Kept, secret_cache::Secret};
use crate::TenantId;

/// What a request needs of its tenant, in one piece, so that it takes one look-up and one count of references. Where it is shared, that is
/// also the count of the requests that run.
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

    /// Whether other requests may have it too.
    pub(crate) fn is_shared(&self) -> bool {
        self._expiry.is_some()
    }

    /// Whether nothing happened since to its secret or its pool.
    pub(crate) fn holds(&self) -> bool {
        self.entry.epoch() == self.epoch
    }
}

/// How many parts the map has.
const PARTS: usize = 64;

type Part = HashMap<TenantId, Arc<Kept>, RandomState>;

/// Read by every request, written when a tenant is opened, and by the housekeeping. A reader writes nothing that another reads: neither a
/// lock nor a count, and no word beside another thread's. A writer copies the part of the map that it changes, which costs less than
/// what was opened.
pub(crate) struct OpenTenants {
    parts: [ArcSwap<Part>; PARTS],
    /// Held by who writes.
    writing: Mutex<()>,
}

impl Default for OpenTenants {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| ArcSwap::default()),
            writing: Mutex::default(),
        }
    }
}

impl OpenTenants {
    /// The part that a tenant is in. They need not be alike, only small: the last characters differ the most.
    fn part(&self, tenant: &TenantId) -> &ArcSwap<Part> {
        let mut last = tenant.as_str().bytes().rev().map(usize::from);
        let (last, before) = (last.next().unwrap_or_default(), last.next().unwrap_or_default());
        &self.parts[last.wrapping_mul(7).wrapping_add(before) % PARTS]
    }

    pub(crate) fn get(&self, tenant: &TenantId) -> Option<Arc<OpenTenant>> {
        self.part(tenant)
            .load()
            .get(tenant)?
            .open()
            .filter(|open| open.holds())
            .cloned()
    }

    pub(crate) fn put(&self, kept: Kept) {
        let _writing = self.writing.lock();
        if let Some(open) = kept.open().filter(|open| open.holds()) {
            let tenant = open.entry.id;
            let part = self.part(&tenant);
            let mut changed = Part::clone(&part.load());
            changed.insert(tenant, Arc::new(kept));
            part.store(Arc::new(changed));
        }
    }

    /// Lets go of those that no longer hold. There are no more of them than pools, plus those closed since the last time.
    pub(crate) fn sweep(&self) {
        self.retain(OpenTenant::holds);
    }

    pub(crate) fn clear(&self) {
        self.retain(|_| false);
    }

    fn retain(&self, keep: impl Fn(&OpenTenant) -> bool) {
        for part in &self.parts {
            let _writing = self.writing.lock();
            let mut changed = Part::clone(&part.load());
            let before = changed.len();
            changed.retain(|_, kept| kept.open().is_some_and(|open| keep(open)));
            if changed.len() < before {
                part.store(Arc::new(changed));
            }
        }
    }
}
