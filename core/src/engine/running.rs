//! How many of a tenant's requests run.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering, fence},
};

use parking_lot::{Mutex, MutexGuard};

use super::{entry::TenantEntry, open_tenants::OpenTenant};

/// A tenant's running requests. Nearly all of them hold the [`OpenTenant`] that is kept for the next one, and its count of references is theirs:
/// so a request that finds it is counted in and out by nothing that it would not do anyway, which with several requests of one tenant at once
/// is what it costs.
#[derive(Default)]
pub(crate) struct Running {
    /// Not 0 where the references to the one that is kept may not be all: whoever counts then takes the lock.
    elsewhere: AtomicUsize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Those that look for their secret and pool, or have them for themselves alone.
    alone: usize,
    shared: Vec<Shared>,
}

struct Shared {
    open: Weak<OpenTenant>,
    /// Whether it is still to be found, for which it is referred to once.
    kept: bool,
}

impl Shared {
    fn running(&self) -> usize {
        self.open.strong_count() - usize::from(self.kept)
    }
}

impl Counts {
    fn running(&self) -> usize {
        self.alone + self.shared.iter().map(Shared::running).sum::<usize>()
    }
}

/// The counts while nobody else may change them. What comes of it is told to those that take no lock.
struct Counting<'a> {
    running: &'a Running,
    counts: MutexGuard<'a, Counts>,
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.counts.shared.retain(|shared| shared.kept || shared.running() > 0);
        // Two may be kept for a moment, while one takes the place of the other.
        let is_one = matches!(&self.counts.shared[..], [] | [Shared { kept: true, .. }]);
        let elsewhere = self.counts.alone + usize::from(!is_one);
        self.running.elsewhere.store(elsewhere, Ordering::Release);
    }
}

impl Running {
    fn lock(&self) -> Counting<'_> {
        Counting {
            running: self,
            counts: self.counts.lock(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.counts.lock().running()
    }
}

impl TenantEntry {
    /// Counts a request in that has nothing yet; `None` when the tenant has as many running as it may.
    pub(crate) fn enter_alone(&self, limit: usize) -> Option<Alone<'_>> {
        let mut counting = self.running.lock();
        // Who finds its secret and pool meanwhile sees this, or is seen here: one of the two looks after the other's count.
        self.running.elsewhere.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        (counting.counts.running() < limit).then(|| {
            counting.counts.alone += 1;
            Alone(self)
        })
    }

    /// Counts a request out that has what it has for itself alone.
    pub(crate) fn leave_alone(&self) {
        self.running.lock().counts.alone -= 1;
    }
}

/// A request that is counted in and has nothing yet. It is counted out when this is dropped.
pub(crate) struct Alone<'a>(&'a TenantEntry);

impl Alone<'_> {
    /// Whoever takes the request over counts it out.
    pub(crate) fn hand_over(self) {
        std::mem::forget(self);
    }

    /// It has something now that others may have too, and is counted by that.
    pub(crate) fn share(self, open: &Arc<OpenTenant>) -> Kept {
        let mut counting = self.0.running.lock();
        counting.counts.alone -= 1;
        counting.counts.shared.push(Shared {
            open: Arc::downgrade(open),
            kept: true,
        });
        let kept = Kept(Some(open.clone()));
        drop(counting);
        self.hand_over();
        kept
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.leave_alone();
    }
}

/// What the next request finds.
pub(crate) struct Kept(Option<Arc<OpenTenant>>);

impl Kept {
    pub(crate) fn open(&self) -> Option<&Arc<OpenTenant>> {
        self.0.as_ref()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            let entry = open.entry.clone();
            let mut counting = entry.running.lock();
            let is_this = |shared: &&mut Shared| std::ptr::eq(shared.open.as_ptr(), &*open);
            if let Some(shared) = counting.counts.shared.iter_mut().find(is_this) {
                shared.kept = false;
            }
            // Before the reference is gone, so that who finds one less knows that it is elsewhere.
            entry.running.elsewhere.fetch_add(1, Ordering::Release);
            drop(open);
        }
    }
}

/// Counts a request in that has found `open`; `None` when the tenant has as many running as it may.
pub(crate) fn enter(open: Arc<OpenTenant>, limit: usize) -> Option<Arc<OpenTenant>> {
    // This request's own reference, and the one by which it was found.
    let others = Arc::strong_count(&open).saturating_sub(2);
    // After its own reference, for who enters alone; after the count, for who takes the one away by which it was found.
    fence(Ordering::SeqCst);
    if others < limit && open.entry.running.elsewhere.load(Ordering::Acquire) == 0 {
        return Some(open);
    }
    let entry = open.entry.clone();
    let counting = entry.running.lock();
    if counting.counts.running().saturating_sub(1) < limit {
        return Some(open);
    }
    // Still under the lock: of several that come at once and are one too many, the last finds that the others have gone.
    drop(open);
    None
}
