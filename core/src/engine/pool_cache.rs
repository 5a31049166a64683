//! The pools that are open: as many as may be, the least recently used closed first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    entry::TenantEntry,
    pool::{PoolParts, TenantPool},
    secret_cache::Secret,
};
use crate::DatabaseError;

/// A tenant's only connection that was not used for this long goes to others that have some, too.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// The counters of `/health/cache`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolMetrics {
    /// Tenants whose pools are open.
    pub open: usize,
    /// The most that may be.
    pub capacity: usize,
    /// Connections that are open, opening or closing, over all tenants.
    pub connections: usize,
    /// The most that may be.
    pub connections_capacity: usize,
    /// Pools that were closed to make room.
    pub evictions: u64,
    /// Pools that took a changed secret while they were open.
    pub rotations: u64,
}

pub(crate) struct PoolCache {
    parts: PoolParts,
    capacity: usize,
    idle_timeout: Duration,
    /// The tenants whose pools are open. Only opening and closing one touches it; a request finds its pool in its tenant's entry.
    open: Mutex<Vec<Arc<TenantEntry>>>,
    evictions: AtomicU64,
    rotations: AtomicU64,
}

impl PoolCache {
    pub(crate) fn new(parts: PoolParts, capacity: usize, idle_timeout: Duration) -> Self {
        Self {
            parts,
            capacity,
            idle_timeout,
            open: Mutex::new(Vec::new()),
            evictions: AtomicU64::new(0),
            rotations: AtomicU64::new(0),
        }
    }

    pub(crate) fn parts(&self) -> &PoolParts {
        &self.parts
    }

    /// The tenant's pool, made where there is none yet: once, however many ask.
    pub(crate) fn get(&self, entry: &Arc<TenantEntry>, secret: &Arc<Secret>) -> Result<Arc<TenantPool>, DatabaseError> {
        if let Some(pool) = entry.pool.load_full() {
            if pool.generation() >= secret.generation {
                return Ok(pool);
            }
            // It was made with a secret that was read just before the change, when there was no pool yet to be told of it.
            self.rotate(entry, secret);
        }
        let mut open = self.open.lock();
        if let Some(pool) = entry.pool.load_full() {
            return Ok(pool);
        }
        while open.len() >= self.capacity {
            let Some(oldest) = least_recently_used(&open) else {
                break;
            };
            let evicted = open.swap_remove(oldest);
            tracing::debug!(tenant_id = %evicted.id, "the least recently used pool is closed to make room");
            self.evictions.fetch_add(1, Ordering::Relaxed);
            close(&evicted);
        }
        let pool = Arc::new(TenantPool::new(entry.id, secret.clone(), &self.parts)?);
        entry.pool.store(Some(pool.clone()));
        open.push(entry.clone());
        Ok(pool)
    }

    /// Gives a changed secret to the tenant's pool, where one is open. Another kind of database gets another pool.
    pub(crate) fn rotate(&self, entry: &TenantEntry, secret: &Arc<Secret>) {
        let Some(pool) = entry.pool.load_full() else {
            return;
        };
        if pool.secret().driver_type != secret.driver_type {
            self.close(entry);
        } else if !pool.rotate(secret.clone()) {
            return;
        }
        self.rotations.fetch_add(1, Ordering::Relaxed);
        tracing::info!(tenant_id = %entry.id, version = %secret.version, "the pool uses the changed secret");
    }

    /// Closes the tenant's pool once its running requests are done; tells whether one was open.
    pub(crate) fn close(&self, entry: &TenantEntry) -> bool {
        let mut open = self.open.lock();
        open.retain(|other| !std::ptr::eq(&**other, entry));
        close(entry)
    }

    /// Closes every pool.
    pub(crate) fn close_all(&self) {
        for entry in std::mem::take(&mut *self.open.lock()) {
            close(&entry);
        }
    }

    /// Closes the idle connection that is missed least, if it was unused for `unused`, unless as many are closing already as requests wait.
    /// Tells whether one is closed.
    ///
    /// That is the one whose last use is longest ago, of tenants that have several first: the next request of a tenant whose only one was
    /// closed would have to take one from somebody else in turn. Unless whoever wants it has `none`, an only one is closed when it seems
    /// forgotten, not before.
    pub(crate) fn make_room(&self, unused: Duration, none: bool) -> bool {
        // What is found may be taken by a request meanwhile, and then the next one is looked for.
        while self.parts.budget.is_short() {
            let now = Instant::now();
            let idle = self.open().into_iter().filter_map(|entry| {
                let pool = entry.pool.load_full()?;
                let since = pool.idle_since()?;
                let idle = now.saturating_duration_since(since);
                let several = pool.status().open > 1;
                let least = if several || none { unused } else { FORGOTTEN_AFTER };
                (idle >= least).then_some((several, idle, since, pool))
            });
            let Some((_, _, since, pool)) = idle.max_by_key(|(several, idle, ..)| (*several, *idle)) else {
                return false;
            };
            if pool.close_idle_since(since) {
                return true;
            }
        }
        true
    }

    /// Closes connections that are worn out and pools that nobody uses.
    pub(crate) fn sweep(&self, now: Instant, since_start: Duration) {
        for entry in self.open() {
            let Some(pool) = entry.pool.load_full() else {
                continue;
            };
            let idle = since_start.saturating_sub(entry.last_used());
            if idle >= self.idle_timeout && entry.in_flight() == 0 {
                tracing::debug!(tenant_id = %entry.id, "a pool that nobody used is closed");
                self.close(&entry);
            } else {
                pool.sweep(now);
            }
        }
    }

    /// The tenants whose pools are open.
    pub(crate) fn open(&self) -> Vec<Arc<TenantEntry>> {
        self.open.lock().clone()
    }

    pub(crate) fn metrics(&self) -> PoolMetrics {
        PoolMetrics {
            open: self.open.lock().len(),
            capacity: self.capacity,
            connections: self.parts.budget.in_use(),
            connections_capacity: self.parts.budget.capacity(),
            evictions: self.evictions.load(Ordering::Relaxed),
            rotations: self.rotations.load(Ordering::Relaxed),
        }
    }
}

fn close(entry: &TenantEntry) -> bool {
    match entry.pool.swap(None) {
        Some(pool) => {
            pool.retire();
            true
        }
        None => false,
    }
}

/// The one to close: one without a running request before one with, then the one whose last use is longest ago.
fn least_recently_used(open: &[Arc<TenantEntry>]) -> Option<usize> {
    (0..open.len()).min_by_key(|&at| (open[at].in_flight() > 0, open[at].last_used()))
}
