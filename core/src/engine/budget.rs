//! The connections that may be open at once over all tenants: a ceiling by construction.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// How long a request for a connection to another database waits before a connection that comes back is closed for its sake though
/// its own tenant has use for it. Opening a connection costs more than this saves when it is much shorter.
const PATIENCE: Duration = Duration::from_millis(100);

/// The right to have one connection open, from before it is opened until it is closed.
pub(crate) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
}

pub(crate) struct Budget {
    semaphore: Arc<Semaphore>,
    capacity: usize,
    waiting: AtomicUsize,
    /// Who waits, in order of arrival: since when, and for which tenant's pool (its address).
    queue: Mutex<BTreeMap<u64, (Instant, usize)>>,
    next: AtomicU64,
}

impl Budget {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            semaphore: Arc::new(Semaphore::new(capacity)),
            capacity,
            waiting: AtomicUsize::new(0),
            queue: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(0),
        })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Connections that are open, opening or closing.
    pub(crate) fn in_use(&self) -> usize {
        self.capacity - self.semaphore.available_permits()
    }

    /// A permit, where one is free and nobody waits for it.
    pub(crate) fn try_acquire(&self) -> Option<ConnectionPermit> {
        let permit = self.semaphore.clone().try_acquire_owned().ok()?;
        Some(ConnectionPermit { _permit: permit })
    }

    /// Waits for a permit, in order of arrival. `pool` tells whose pool it is for.
    pub(crate) async fn acquire(self: &Arc<Self>, pool: usize) -> Option<ConnectionPermit> {
        let _place = Place::new(self, pool);
        let permit = self.semaphore.clone().acquire_owned().await.ok()?;
        Some(ConnectionPermit { _permit: permit })
    }

    /// Whether a connection of `pool` that comes back must be closed for the sake of another: when its own pool has no use for it
    /// and somebody waits, or when somebody has waited longer than patience allows.
    pub(crate) fn wants_back(&self, pool: usize, wanted_at_home: impl FnOnce() -> bool) -> bool {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return false;
        }
        let queue = self.queue.lock();
        let Some((since, _)) = queue.values().find(|(_, waiting)| *waiting != pool) else {
            return false;
        };
        since.elapsed() > PATIENCE || !wanted_at_home()
    }

    /// Waits until every connection is closed.
    pub(crate) async fn drained(&self) {
        let all = u32::try_from(self.capacity).unwrap_or(u32::MAX);
        if let Err(closed) = self.semaphore.acquire_many(all).await {
            tracing::debug!(error = %closed, "the connection budget was closed already");
        }
    }
}

/// A place in the queue, given up when the waiting ends, however it ends.
struct Place<'a> {
    budget: &'a Budget,
    number: u64,
}

impl<'a> Place<'a> {
    fn new(budget: &'a Budget, pool: usize) -> Self {
        let number = budget.next.fetch_add(1, Ordering::Relaxed);
        budget.queue.lock().insert(number, (Instant::now(), pool));
        budget.waiting.fetch_add(1, Ordering::AcqRel);
        Self { budget, number }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.budget.queue.lock().remove(&self.number);
        self.budget.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_goes_to_another_tenant_when_it_is_not_wanted_at_home_or_patience_ends() {
        let budget = Budget::new(1);
        let held = budget.try_acquire().unwrap();
        assert!(budget.try_acquire().is_none());
        assert!(!budget.wants_back(1, || false), "nobody waits");
        let waiter = tokio::spawn({
            let budget = budget.clone();
            async move { budget.acquire(2).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!budget.wants_back(2, || false), "the only one who waits is at home");
        assert!(budget.wants_back(1, || false));
        assert!(!budget.wants_back(1, || true));
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(budget.wants_back(1, || true));
        drop(held);
        assert!(waiter.await.unwrap());
        assert_eq!(budget.in_use(), 0);
        assert!(!budget.wants_back(1, || true));
    }
}
